//! A scheduling strategy chooses among what is due, and can do no harm.
//!
//! On golden repositories: orders that are safe leave what Kopia's order leaves, answers that are
//! not are refused before anything is written, what is left for later stays due, budgets hold, and
//! snapshots are expired first where a run is asked to. Strategies are values of the suite here;
//! tests of the plugin floor do the same to components.

use std::collections::BTreeSet;

use careen::clock::Timestamp;
use careen::kopia::source_filter::SourceFilter;
use careen::maintenance::MaintenanceError;
use careen::maintenance::budget::Budget;
use careen::maintenance::cycle_plan::{Mode, PlannedTask, Verdict};
use careen::maintenance::cycle_task::{Cycle, CycleTask};
use careen::maintenance::expire_snapshots::ExpireOptions;
use careen::maintenance::lease::Lease;
use careen::maintenance::retention::Zone;
use careen::maintenance::run::Strategies;
use careen::maintenance::run_plan;
use careen::maintenance::run_report::RunReport;
use careen::maintenance::safety::Safety;
use careen::maintenance::scheduling::{
    Costs, NamedTask, Scheduling, SchedulingAnswer, SchedulingQuestion,
};
use careen::maintenance::strategy::StrategyError;
use careen::repository::Repository;
use careen::repository::contents::each_content;
use careen::repository::snapshot_history::HistoryRow;
use kit::cycle::{Expires, KopiasOrder, cycle, new_runs, schedule, strategies};
use kit::golden::Golden;
use kit::index_work::{Bench, open};

/// A strategy that answers what a function says.
struct Says<F>(F);

impl<F> Scheduling for Says<F>
where
    F: Fn(&SchedulingQuestion) -> Result<SchedulingAnswer, StrategyError> + Send,
{
    fn schedule(
        &mut self,
        question: &SchedulingQuestion,
    ) -> Result<SchedulingAnswer, StrategyError> {
        (self.0)(question)
    }

    fn describe(&self) -> String {
        "says".to_owned()
    }
}

/// A strategy that answers the same to everything; an error once.
struct Always(Result<SchedulingAnswer, StrategyError>);

impl Scheduling for Always {
    fn schedule(&mut self, _: &SchedulingQuestion) -> Result<SchedulingAnswer, StrategyError> {
        match &self.0 {
            Ok(answer) => Ok(answer.clone()),
            Err(_) => std::mem::replace(&mut self.0, Ok(wait(Timestamp::default()))),
        }
    }

    fn describe(&self) -> String {
        "always".to_owned()
    }
}

fn within(budget: Budget) -> impl Fn(&CycleTask) -> NamedTask {
    move |task| NamedTask {
        name: task.name().to_owned(),
        budget: match task.keeps_budget() {
            true => budget,
            false => Budget::default(),
        },
    }
}

fn run_of(tasks: &[CycleTask], budget: Budget) -> SchedulingAnswer {
    SchedulingAnswer::Run {
        cycle: Cycle::Full,
        tasks: tasks.iter().map(within(budget)).collect(),
        reason: "a test".to_owned(),
    }
}

/// Runs a full cycle on a golden repository.
fn run(
    golden: &Golden,
    safety: Safety,
    scheduling: impl Scheduling,
) -> (Repository, Result<RunReport, MaintenanceError>) {
    let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
    let options = cycle(Mode::Full, safety, golden.maintenance_owner());
    let strategies = strategies(scheduling, None);
    let report = Bench::new().cycle_by(&repository, &options, strategies, &mut |_| {});
    (repository, report)
}

/// Returns all contents that are not system contents, and whether each is deleted.
fn contents(repository: &Repository) -> BTreeSet<(String, bool)> {
    let mut contents = BTreeSet::new();
    each_content(repository, &Bench::new().workspace(), &mut |row| {
        let id = row.content.to_string();
        if !id.starts_with('m') {
            contents.insert((id, row.deleted));
        }
        true
    })
    .unwrap();
    contents
}

/// Orders in which all tasks of a full cycle may run: the index first or last, logs anywhere.
fn safe_orders() -> Vec<Vec<CycleTask>> {
    let all = Cycle::Full.tasks(true);
    let (data, rest) = all.split_at(5);
    let index = &rest[..5];
    let mut orders = Vec::new();
    for order in [[data, index].concat(), [index, data].concat()] {
        for at in [0, 7] {
            let mut order = order.clone();
            order.insert(at, CycleTask::CleanupLogs);
            orders.push(order);
        }
    }
    orders
}

#[test]
fn safe_orders_leave_what_kopias_order_leaves() {
    for (name, safety) in [
        ("default-0.23.1", Safety::full()),
        ("default-0.23.1", Safety::none()),
        ("old-epochs", Safety::none()),
    ] {
        let golden = Golden::open(name);
        let (repository, report) = run(&golden, safety, KopiasOrder);
        report.unwrap();
        let expected = contents(&repository);
        for order in safe_orders() {
            let golden = Golden::open(name);
            let answer = run_of(&order, Budget::default());
            let (repository, report) = run(&golden, safety, Always(Ok(answer.clone())));
            let report = report.unwrap();
            assert!(contents(&repository) == expected, "{name}: {order:?}");
            let ran = report.tasks.iter().map(|run| run.task);
            let ran: Vec<_> = ran.collect();
            let may = order.iter().filter(|task| ran.contains(task));
            assert!(may.eq(&ran), "{order:?}: {ran:?}");
            let next = schedule(&repository).next_full;
            assert!(next > golden.now(), "the cycle is whole");
        }
    }
}

#[test]
fn what_fails_or_is_refused_writes_nothing() {
    let golden = Golden::open("default-0.23.1");
    let before = golden.data().fingerprint().unwrap();
    let trap = || StrategyError::Failed {
        strategy: "says".to_owned(),
        reason: "unreachable".to_owned(),
        code: "plugin-trap",
    };
    let gc_last = [CycleTask::FullDropDeletedContent, CycleTask::SnapshotGc];
    let delete_first = [CycleTask::FullDeleteBlobs, CycleTask::FullRewriteContents];
    let refused = "plugin-answer-refused";
    let answers: [(Result<SchedulingAnswer, StrategyError>, &str); 6] = [
        (Err(trap()), "plugin-trap"),
        (Ok(run_of(&[], Budget::default())), refused),
        (Ok(run_of(&gc_last, Budget::default())), refused),
        (Ok(run_of(&delete_first, Budget::default())), refused),
        (
            Ok(run_of(&[CycleTask::QuickDeleteBlobs], Budget::default())),
            refused,
        ),
        (Ok(wait(golden.now())), refused),
    ];
    for (answer, code) in answers {
        let (_, report) = run(&golden, Safety::none(), Always(answer));
        assert_eq!(report.unwrap_err().code(), code);
        assert_eq!(golden.data().fingerprint().unwrap(), before, "{code}");
    }
}

fn wait(not_before: Timestamp) -> SchedulingAnswer {
    SchedulingAnswer::Wait {
        not_before,
        reason: "backups run".to_owned(),
    }
}

#[test]
fn not_before_is_a_report_and_nothing_else() {
    let golden = Golden::open("default-0.23.1");
    let before = golden.data().fingerprint().unwrap();
    let until = golden.now().plus(std::time::Duration::from_secs(7_200));
    let (_, report) = run(&golden, Safety::full(), Always(Ok(wait(until))));
    let report = report.unwrap();
    assert_eq!((report.cycle, report.not_before), (None, Some(until)));
    let text = format!("not before {until}: backups run");
    assert_eq!(report.to_string(), text);
    assert_eq!(golden.data().fingerprint().unwrap(), before);
}

#[test]
fn a_strategy_is_told_what_the_repository_is_like() {
    let golden = Golden::open("default-0.23.1");
    let known = schedule(&open(golden.path(), golden.password(), golden.now()).unwrap());
    let last = known.runs_of("snapshot-gc").first().map(|run| run.end);
    let now = golden.now();
    let says = Says(move |question: &SchedulingQuestion| {
        assert!(question.asked_for && question.cycles.len() == 1);
        assert_eq!(question.now, now);
        let row = &question.cycles[0].tasks[0];
        assert_eq!(row.task, CycleTask::SnapshotGc);
        assert_eq!(row.last.map(|run| run.end), last);
        assert!(question.index_blobs > 0 && question.index_bytes > 0);
        assert!(question.memory_bytes > 0 && question.scratch_bytes > 0);
        KopiasOrder.schedule(question)
    });
    run(&golden, Safety::full(), says).1.unwrap();
}

/// Counts costs, hands what it is told then to a function, and runs what Kopia runs.
fn counting(
    then: impl Fn(&SchedulingQuestion) + Send,
) -> Says<impl Fn(&SchedulingQuestion) -> Result<SchedulingAnswer, StrategyError>> {
    Says(move |question: &SchedulingQuestion| {
        if question.costs == Costs::NotCounted {
            let costs = question.cycles.iter().flat_map(|row| &row.tasks);
            assert!(costs.map(|row| row.cost).all(|cost| cost.is_none()));
            return Ok(SchedulingAnswer::CountCosts);
        }
        then(question);
        KopiasOrder.schedule(question)
    })
}

/// Goal: who asks is told the costs that a plan shows, and nothing is asked of the storage twice
/// for it; the run does what it would have done.
#[test]
fn costs_are_counted_for_who_asks_for_them() {
    let golden = Golden::open("default-0.23.1");
    let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
    let options = cycle(Mode::Full, Safety::none(), golden.maintenance_owner());
    let asked_by = |scheduling: Box<dyn Scheduling>| {
        let strategies = Strategies {
            scheduling,
            ..strategies(KopiasOrder, None)
        };
        let before = repository.storage.counters();
        let bench = Bench::new();
        let plan = run_plan::plan(&repository, &bench.workspace(), strategies, &options);
        let plan = plan.unwrap();
        (plan, repository.storage.counters().since(&before).gets)
    };
    let (plan, gets) = asked_by(Box::new(KopiasOrder));
    let costs = plan.outlook.unwrap().costs;
    assert!(costs.iter().any(|cost| cost.read_bytes > 0));
    let expected = costs.clone();
    let (plan, more_gets) = asked_by(Box::new(counting(move |question| {
        assert_eq!(question.costs, Costs::Counted);
        let rows = question.cycles[0].tasks.iter();
        let told: Vec<_> = rows.filter_map(|row| row.cost).collect();
        assert_eq!(told, expected);
    })));
    assert_eq!(plan.outlook.unwrap().costs, costs);
    assert_eq!(more_gets, gets, "what was read is not asked for again");
    let (repository, report) = run(&golden, Safety::none(), counting(|_| ()));
    report.unwrap();
    let other = Golden::open("default-0.23.1");
    let (expected, report) = run(&other, Safety::none(), KopiasOrder);
    report.unwrap();
    assert!(contents(&repository) == contents(&expected));
}

/// Goal: costs that cannot be counted end no run; method: a pack in use is gone, which stops those
/// who need it, but not the compaction of the index.
#[test]
fn a_run_goes_on_where_costs_are_not_known() {
    let golden = Golden::open("default-0.23.1");
    for pack in golden.data().list_prefix("p").unwrap() {
        golden.data().remove(&pack.id).unwrap();
    }
    let index = [CycleTask::CompactSingleEpoch, CycleTask::AdvanceEpoch];
    let says = Says(move |question: &SchedulingQuestion| match &question.costs {
        Costs::NotCounted => Ok(SchedulingAnswer::CountCosts),
        Costs::Counted => panic!("a pack is gone"),
        Costs::Unknown(why) => {
            assert!(why.starts_with("pack p"), "{why}");
            Ok(run_of(&index, Budget::default()))
        }
    });
    assert_eq!(run(&golden, Safety::full(), says).1.unwrap().tasks.len(), 2);
}

#[test]
fn what_is_left_out_stays_due() {
    let golden = Golden::open("default-0.23.1");
    let before = schedule(&open(golden.path(), golden.password(), golden.now()).unwrap());
    let tasks = [CycleTask::CompactSingleEpoch, CycleTask::AdvanceEpoch];
    let answer = run_of(&tasks, Budget::default());
    let (repository, report) = run(&golden, Safety::full(), Always(Ok(answer.clone())));
    let report = report.unwrap();
    let after = schedule(&repository);
    assert_eq!(
        (after.next_full, after.next_quick),
        (before.next_full, before.next_quick)
    );
    let new = new_runs(&before, &after);
    let ran: Vec<_> = new.as_object().unwrap().keys().collect();
    assert_eq!(ran.len(), 2, "{ran:?}");
    let left = report
        .skipped
        .iter()
        .filter(|row| row.verdict == Verdict::Left);
    assert_eq!(left.count(), 9);
    assert!(
        report.to_string().contains("9 left for a later run"),
        "{report}"
    );
    assert_eq!(Lease::of(&after), None);
}

#[test]
fn a_task_over_its_budget_is_left_and_leaves_no_trace() {
    let golden = Golden::open("default-0.23.1");
    let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
    let (before, known) = (contents(&repository), schedule(&repository));
    let nothing = Budget {
        bytes: Some(0),
        requests: Some(0),
    };
    let tasks = Cycle::Full.tasks(true).iter();
    let tasks: Vec<_> = tasks.copied().filter(|task| task.keeps_budget()).collect();
    let answer = run_of(&tasks, nothing);
    let (repository, report) = run(&golden, Safety::none(), Always(Ok(answer.clone())));
    let report = report.unwrap();
    assert!(contents(&repository) == before);
    let after = schedule(&repository);
    let over = |task: CycleTask| {
        let row = report.skipped.iter().find(|row| row.task == task);
        row.filter(|row| row.because.contains("budget"))
    };
    for task in [CycleTask::SnapshotGc, CycleTask::FullRewriteContents] {
        let row = over(task).unwrap_or_else(|| panic!("{task} ran: {report:?}"));
        assert_eq!(row.verdict, Verdict::Left);
        assert!(new_runs(&known, &after).get(task.name()).is_none());
    }
    assert_eq!(after.next_full, known.next_full, "it stays due");
    assert_eq!(Lease::of(&after), None, "no copying task is at work");
}

#[test]
fn a_budget_cuts_the_rewrite() {
    let rewritten = |budget: Budget| {
        let golden = Golden::open("default-0.23.1");
        let tasks = [CycleTask::FullRewriteContents];
        let answer = run_of(&tasks, budget);
        let (repository, report) = run(&golden, Safety::none(), Always(Ok(answer.clone())));
        let cut = report.unwrap().tasks[0].cut;
        assert_eq!(cut, !budget.is_none() && budget.bytes != Some(u64::MAX));
        let runs = schedule(&repository);
        let run = runs.runs_of("full-rewrite-contents").first().cloned();
        let stats = run.unwrap().extra[0].data.clone().unwrap();
        stats["rewrittenContentSize"].as_u64().unwrap()
    };
    let bytes = |bytes| Budget {
        bytes: Some(bytes),
        requests: None,
    };
    let all = rewritten(Budget::default());
    assert_eq!(rewritten(bytes(u64::MAX)), all);
    let most = rewritten(bytes(2 * all - 1));
    assert!(0 < most && most < all, "{most} of {all}");
    let requests = Budget {
        bytes: None,
        requests: Some(4),
    };
    let two = rewritten(requests);
    assert!(0 < two && two <= most, "{two} of {all}");
}

/// Goal: a budget cuts the deletion of packs: so many go as there are requests, nothing is lost,
/// the cycle stays due, and a later run takes the rest; a budget of nothing leaves it whole.
#[test]
fn a_budget_cuts_the_deletion_of_packs() {
    let golden = Golden::open("default-0.23.1");
    let requests = |requests| Budget {
        bytes: None,
        requests: Some(requests),
    };
    let delete = |budget: Budget| {
        // Every task, so that only the cut keeps the cycle from being whole.
        let named = |task: &CycleTask| match task {
            CycleTask::FullDeleteBlobs => within(budget)(task),
            _ => within(Budget::default())(task),
        };
        let answer = SchedulingAnswer::Run {
            cycle: Cycle::Full,
            tasks: Cycle::Full.tasks(true).iter().map(named).collect(),
            reason: "a test".to_owned(),
        };
        run(&golden, Safety::none(), Always(Ok(answer)))
    };
    let known = schedule(&open(golden.path(), golden.password(), golden.now()).unwrap());
    let deletion = |repository: &Repository| {
        let runs = schedule(repository);
        let run = runs.runs_of("full-delete-blobs").first().cloned();
        let stats = run.unwrap().extra[0].data.clone().unwrap();
        let number = |name: &str| stats[name].as_u64().unwrap();
        (number("deletedPackCount"), number("unreferencedPackCount"))
    };
    let (_, report) = delete(requests(0));
    let report = report.unwrap();
    let row = |row: &&PlannedTask| row.task == CycleTask::FullDeleteBlobs;
    let left = report.skipped.iter().find(row).unwrap();
    assert!(left.because.starts_with("none of "), "{}", left.because);
    let (repository, report) = delete(requests(2));
    let report = report.unwrap();
    let (deleted, found) = deletion(&repository);
    assert!(deleted == 2 && found > 2, "{deleted} of {found}");
    let cut: Vec<_> = report.tasks.iter().filter(|run| run.cut).collect();
    assert_eq!(cut.len(), 1, "{report:?}");
    assert!(cut[0].what.contains("are left: its budget is 2 requests"));
    let text = report.to_string();
    assert!(text.contains("1 in part; the cycle stays due"), "{text}");
    assert_eq!(schedule(&repository).next_full, known.next_full);
    let live = contents(&repository);
    let (repository, report) = delete(Budget::default());
    assert!(report.unwrap().tasks.iter().all(|run| !run.cut));
    assert_eq!(deletion(&repository), (found - 2, found - 2));
    assert!(schedule(&repository).next_full > golden.now());
    assert!(contents(&repository) == live);
}

/// Goal: a full run expires snapshots before its first task, so that its GC finds what they alone
/// kept; a quick one does not; and what is refused ends the run before anything is written but the
/// lease, which is given back.
#[test]
fn snapshots_are_expired_first_where_that_is_asked_for() {
    let older: fn(usize, &HistoryRow) -> bool = |place, row| place > 0 && row.pins.is_empty();
    let run = |mode, rule, percent_max| {
        let golden = Golden::open("default-0.23.1");
        let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
        let mut options = cycle(mode, Safety::none(), golden.maintenance_owner());
        options.expire = Some(ExpireOptions {
            source: SourceFilter::default(),
            zone: Zone::default(),
            percent_max,
        });
        let before = (contents(&repository), schedule(&repository));
        let strategies = strategies(KopiasOrder, Some(Box::new(Expires(rule))));
        let report = Bench::new().cycle_by(&repository, &options, strategies, &mut |_| {});
        (golden, repository, before, report)
    };
    let live = |repository: &Repository| {
        let live = contents(repository).into_iter().filter(|row| !row.1);
        live.count()
    };
    let (_golden, kept, _, report) = run(Mode::Full, |_, _| false, 100);
    assert_eq!(report.unwrap().expired.unwrap().counts.expired, 0);
    let (_golden, fewer, _, report) = run(Mode::Full, older, 100);
    let report = report.unwrap();
    assert!(report.expired.as_ref().unwrap().counts.expired > 0);
    assert!(report.to_string().starts_with("first: "), "{report}");
    assert!(live(&fewer) < live(&kept));
    let (_golden, _, _, report) = run(Mode::Quick, older, 100);
    assert_eq!(report.unwrap().expired, None);
    let all: fn(usize, &HistoryRow) -> bool = |_, _| true;
    for (rule, percent, code) in [
        (older, 1, "too-many-expired"),
        (all, 100, "plugin-answer-refused"),
    ] {
        let (_golden, repository, (known, schedule_before), report) =
            run(Mode::Full, rule, percent);
        assert_eq!(report.unwrap_err().code(), code);
        assert!(contents(&repository) == known);
        let after = schedule(&repository);
        assert_eq!(after.runs, schedule_before.runs);
        assert_eq!(after.next_full, schedule_before.next_full);
        assert_eq!(Lease::of(&after), None);
    }
}
