//! Cycles that are due, for scheduling strategies: costs are counted on demand, and answers are
//! held against the host's rules.

use crate::scheduling::{
    CostKnowledge, Cycle, CycleRow, Decision, PastRun, Question, RunPlan, Scheduling, TaskCost,
    TaskRow, Verdict, ZoneChange,
};

use super::{NOW, at, check_reason};

/// How far away "not before" may be, in seconds.
const PAUSE_MAX: i64 = 31 * 86_400;

/// The full cycle with epochs, in Kopia's order. With each task: whether it can keep a budget, and
/// what it costs of bytes read, bytes written and requests.
const FULL: [(&str, bool, [u64; 3]); 11] = [
    ("snapshot-gc", true, [3 << 30, 40 << 20, 9_000]),
    ("full-rewrite-contents", true, [9 << 30, 9 << 30, 2_400]),
    (
        "full-drop-deleted-content",
        false,
        [600 << 20, 500 << 20, 90],
    ),
    ("full-delete-blobs", true, [0, 0, 3_100]),
    ("extend-blob-retention-time", false, [0, 0, 40_000]),
    ("compact-single-epoch", true, [400 << 20, 300 << 20, 500]),
    ("advance-epoch", false, [0, 1, 1]),
    ("generate-epoch-range-index", true, [2 << 30, 2 << 30, 60]),
    ("cleanup-epoch-markers", false, [0, 0, 12]),
    ("delete-superseded-epoch-indexes", true, [0, 0, 700]),
    ("cleanup-logs", false, [0, 0, 300]),
];

/// The quick cycle: its place in [`FULL`].
const QUICK: std::ops::Range<usize> = 5..7;

/// A Tuesday at noon in Berlin: the full cycle is due, and the quick one. One client is writing;
/// packs may not be deleted for two hours yet, and object locks are off. Costs are not counted.
pub fn cycles() -> Question {
    let cycle = |cycle, because: &str, tasks: &[_]| CycleRow {
        cycle,
        because: because.into(),
        tasks: tasks.iter().map(row).collect(),
    };
    let change = |year, month, day, offset_seconds| ZoneChange {
        at_seconds: at(year, month, day, 1, 0),
        offset_seconds,
    };
    Question {
        now_seconds: NOW,
        offset_seconds: 3_600,
        zone: vec![
            change(2026, 3, 29, 7_200),
            change(2026, 10, 25, 3_600),
            change(2027, 3, 28, 7_200),
        ],
        asked_for: false,
        cycles: vec![
            cycle(Cycle::Full, "due since 2026-11-24T10:00:00Z", &FULL),
            cycle(Cycle::Quick, "due since 2026-11-24T11:30:00Z", &FULL[QUICK]),
        ],
        writers: 1,
        newest_writer_seconds: Some(NOW - 900),
        index_blobs: 240,
        index_bytes: 1_100 << 20,
        memory_bytes: 64 << 20,
        scratch_bytes: 20 << 30,
        costs: CostKnowledge::NotCounted,
    }
}

fn row((name, keeps_budget, _): &(&str, bool, [u64; 3])) -> TaskRow {
    let (verdict, because, until_seconds) = match *name {
        "full-delete-blobs" => (
            Verdict::Waits,
            "the last snapshot-gc is too young",
            Some(NOW + 7_200),
        ),
        "extend-blob-retention-time" => (Verdict::Off, "object locks are not extended", None),
        _ => (Verdict::Runs, "its time has come", None),
    };
    TaskRow {
        name: (*name).into(),
        verdict,
        because: because.into(),
        until_seconds,
        last: Some(PastRun {
            start_seconds: NOW - 26 * 3_600,
            end_seconds: NOW - 26 * 3_600 + 300,
            success: true,
        }),
        keeps_budget: *keeps_budget,
        cost: None,
    }
}

/// Adds what each task costs, as the host does for a strategy that answers
/// [`Decision::CountCosts`].
pub fn count_costs(question: &mut Question) {
    for task in question.cycles.iter_mut().flat_map(|row| &mut row.tasks) {
        let known = FULL.iter().find(|(name, ..)| *name == task.name);
        let Some((_, _, [read_bytes, written_bytes, requests])) = known else {
            continue;
        };
        task.cost = (task.verdict != Verdict::Off).then_some(TaskCost {
            read_bytes: *read_bytes,
            written_bytes: *written_bytes,
            requests: *requests,
            scratch_bytes: 2 << 30,
            memory_bytes: 60 << 20,
        });
    }
    question.costs = CostKnowledge::Counted;
}

/// Asks once, or once more where the strategy wants costs counted, and checks the answer.
///
/// # Errors
/// The strategy's own, or which rule of the host the answer breaks.
pub fn schedule(strategy: &impl Scheduling, question: &Question) -> Result<Decision, String> {
    let mut answer = strategy.schedule(question)?;
    let mut asked = question.clone();
    if answer == Decision::CountCosts && asked.costs == CostKnowledge::NotCounted {
        count_costs(&mut asked);
        answer = strategy.schedule(&asked)?;
    }
    match &answer {
        Decision::CountCosts => {
            return Err("costs were counted already, as far as they can be".into());
        }
        Decision::Wait(pause) => {
            check_reason(&pause.reason)?;
            let seconds = pause.not_before_seconds.saturating_sub(asked.now_seconds);
            if !(1..=PAUSE_MAX).contains(&seconds) {
                return Err(format!(
                    "nothing for {seconds} seconds; allowed are 1 to {PAUSE_MAX}"
                ));
            }
        }
        Decision::Run(plan) => check_plan(plan, &asked)?,
    }
    Ok(answer)
}

fn check_plan(plan: &RunPlan, question: &Question) -> Result<(), String> {
    check_reason(&plan.reason)?;
    let mut cycles = question.cycles.iter();
    let row = cycles.find(|row| row.cycle == plan.cycle);
    let row = row.ok_or_else(|| format!("{:?} maintenance is not due", plan.cycle))?;
    if plan.tasks.is_empty() {
        return Err("no task at all; that is to be said by waiting".into());
    }
    for (at, choice) in plan.tasks.iter().enumerate() {
        let name = &choice.name;
        let task = row.tasks.iter().find(|task| task.name == *name);
        let task =
            task.ok_or_else(|| format!("task {name:?} is not one of those to choose from"))?;
        if plan.tasks[..at].iter().any(|earlier| earlier.name == *name) {
            return Err(format!("task {name} twice"));
        }
        let budget = choice.budget.bytes.is_some() || choice.budget.requests.is_some();
        if budget && !task.keeps_budget {
            return Err(format!("a budget for task {name}, which cannot keep one"));
        }
    }
    check_order(plan)
}

/// Where a task stands among those whose order matters.
enum Place {
    Contents(usize),
    Index(usize),
    Free,
}

fn place(name: &str) -> Place {
    const CONTENTS: [&[&str]; 6] = [
        &["snapshot-gc"],
        &["full-rewrite-contents", "quick-rewrite-contents"],
        &["full-drop-deleted-content"],
        &["full-delete-blobs"],
        &["quick-delete-blobs"],
        &["extend-blob-retention-time"],
    ];
    const INDEX: [&str; 6] = [
        "index-compaction",
        "compact-single-epoch",
        "advance-epoch",
        "generate-epoch-range-index",
        "cleanup-epoch-markers",
        "delete-superseded-epoch-indexes",
    ];
    if let Some(rank) = CONTENTS.iter().position(|names| names.contains(&name)) {
        return Place::Contents(rank);
    }
    match INDEX.iter().position(|known| *known == name) {
        Some(rank) => Place::Index(rank),
        None => Place::Free,
    }
}

fn check_order(plan: &RunPlan) -> Result<(), String> {
    let (mut contents, mut index) = (None, None);
    // Whether tasks of contents came before the index, and after it.
    let (mut before, mut after) = (false, false);
    for choice in &plan.tasks {
        let name = &*choice.name;
        let (last, rank) = match place(name) {
            Place::Free => continue,
            Place::Contents(rank) => {
                before |= index.is_none();
                after |= index.is_some();
                (&mut contents, rank)
            }
            Place::Index(rank) => {
                if after {
                    return Err(format!("task {name} apart from others of the index"));
                }
                (&mut index, rank)
            }
        };
        if before && after {
            return Err(format!(
                "task {name} after those of the index, and others before"
            ));
        }
        if let Some((earlier, other)) = last.replace((rank, name))
            && earlier > rank
        {
            return Err(format!("task {name} after {other}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::scheduling::{Budget, Pause};

    use super::*;

    struct Told(fn(&Question) -> Decision);

    impl Scheduling for Told {
        fn schedule(&self, question: &Question) -> Result<Decision, String> {
            Ok(self.0(question))
        }
    }

    fn run(question: &Question, names: &[&str]) -> Decision {
        let row = |name: &&str| {
            let tasks = question.cycles.iter().flat_map(|row| &row.tasks);
            tasks
                .into_iter()
                .find(|task| task.name == *name)
                .unwrap()
                .choose()
        };
        Decision::Run(RunPlan {
            cycle: Cycle::Full,
            tasks: names.iter().map(row).collect(),
            reason: String::new(),
        })
    }

    fn refused(told: fn(&Question) -> Decision) -> String {
        schedule(&Told(told), &cycles()).err().unwrap_or_default()
    }

    #[test]
    fn kopias_order_is_accepted_and_costs_are_told_on_demand() {
        let all = |question: &Question| {
            let names: Vec<_> = FULL.iter().map(|(name, ..)| *name).collect();
            run(question, &names)
        };
        assert_eq!(refused(all), "");
        let dear = |question: &Question| match question.costs {
            CostKnowledge::NotCounted => Decision::CountCosts,
            _ => {
                let off = |task: &&TaskRow| task.cost.is_none();
                let off = question.cycles[0].tasks.iter().filter(off);
                assert_eq!(off.count(), 1);
                run(question, &["snapshot-gc"])
            }
        };
        assert_eq!(refused(dear), "");
        assert!(refused(|_| Decision::CountCosts).contains("counted already"));
    }

    #[test]
    fn what_the_host_refuses_is_refused() {
        let told = refused(|asked| run(asked, &["full-delete-blobs", "snapshot-gc"]));
        assert_eq!(told, "task snapshot-gc after full-delete-blobs");
        let told = refused(|asked| {
            run(
                asked,
                &["snapshot-gc", "advance-epoch", "full-delete-blobs"],
            )
        });
        assert!(told.contains("and others before"), "{told}");
        assert!(refused(|asked| run(asked, &[])).contains("no task"));
        assert!(refused(|asked| run(asked, &["cleanup-logs"; 2])).contains("twice"));
        let told = refused(|asked| {
            let mut answer = run(asked, &["cleanup-logs"]);
            if let Decision::Run(plan) = &mut answer {
                plan.tasks[0].budget = Budget {
                    bytes: Some(1),
                    requests: None,
                };
            }
            answer
        });
        assert!(told.contains("cannot keep one"), "{told}");
        for seconds in [0, -1, PAUSE_MAX + 1] {
            let wait = Decision::Wait(Pause {
                not_before_seconds: NOW + seconds,
                reason: String::new(),
            });
            struct Waits(Decision);
            impl Scheduling for Waits {
                fn schedule(&self, _: &Question) -> Result<Decision, String> {
                    Ok(self.0.clone())
                }
            }
            assert!(schedule(&Waits(wait), &cycles()).is_err());
        }
    }
}
