//! The scheduling plugin: the built-in component answers as its native code, hostile ones are ended
//! by the limit that they attack, and what the limits let through is refused by the host's check.

use careen::clock::Timestamp;
use careen::maintenance::cycle_plan::Verdict;
use careen::maintenance::cycle_task::{Cycle, CycleTask};
use careen::maintenance::retention::Zone;
use careen::maintenance::scheduling::{
    Choice, Costs, CycleRow, LastRun, Scheduling, SchedulingAnswer, SchedulingQuestion, TaskRow,
};
use careen::maintenance::strategy::StrategyError;
use careen::maintenance::task_costs::TaskCost;
use careen::plugin::{PluginError, PluginOptions, PluginSource, SchedulingPlugin, load_scheduling};
use careen_guest_sdk::scheduling as sdk;

use super::component::splitting;
use super::world::scheduling;
use guests::PACKAGE_VERSION;
use guests::answers::{AT, EMPTY, TASKS, runs, stores, waits};

const NOW: i64 = 1_800_000_000;

/// A question about these cycles.
fn question(cycles: &[Cycle], has_epochs: bool) -> SchedulingQuestion {
    let task = |(number, task): (usize, &CycleTask)| TaskRow {
        task: *task,
        verdict: [Verdict::Runs, Verdict::Waits, Verdict::Off][number % 3],
        because: format!("reason {number}"),
        until: (number % 3 == 1).then(|| Timestamp::from_nanos(NOW * 1_000_000_000 + 1)),
        last: (number % 2 == 0).then(|| LastRun {
            start: Timestamp::from_seconds(NOW - 90_000),
            end: Timestamp::from_seconds(NOW - 89_000),
            success: number % 4 == 0,
        }),
        cost: None,
    };
    let row = |cycle: &Cycle| CycleRow {
        cycle: *cycle,
        because: "it was due".to_owned(),
        tasks: cycle
            .tasks(has_epochs)
            .iter()
            .enumerate()
            .map(task)
            .collect(),
    };
    SchedulingQuestion {
        now: Timestamp::from_seconds(NOW),
        zone: Zone {
            offset_seconds: 3_600,
            changes: (0..3_000).map(|year| (year * 31_536_000, 7_200)).collect(),
        },
        asked_for: false,
        cycles: cycles.iter().map(row).collect(),
        writers: 2,
        newest_writer: Some(Timestamp::from_seconds(NOW - 60)),
        index_blobs: 70_000,
        index_bytes: 1 << 40,
        memory_bytes: 64 << 20,
        scratch_bytes: 1 << 36,
        costs: Costs::NotCounted,
    }
}

/// A question about full maintenance.
pub(crate) fn question_of_full() -> SchedulingQuestion {
    question(&[Cycle::Full], true)
}

/// The same question with costs: those of task `n` are `n * 10` and the four numbers after it.
fn with_costs(mut question: SchedulingQuestion) -> SchedulingQuestion {
    question.costs = Costs::Counted;
    for row in &mut question.cycles {
        for (number, row) in row.tasks.iter_mut().enumerate() {
            let first = number as u64 * 10;
            row.cost = Some(TaskCost {
                task: row.task,
                read_bytes: first,
                written_bytes: first + 1,
                requests: first + 2,
                scratch_bytes: first + 3,
                memory_bytes: first as usize + 4,
            });
        }
    }
    question
}

fn builtin(change: impl FnOnce(&mut PluginOptions)) -> SchedulingPlugin {
    let mut options = super::options(PluginSource::BuiltinScheduling);
    change(&mut options);
    load_scheduling(options).unwrap()
}

/// Loads a guest.
pub(crate) fn load(
    wasm: &[u8],
    change: impl FnOnce(&mut PluginOptions),
) -> Result<SchedulingPlugin, PluginError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("guest.wasm");
    std::fs::write(&path, wasm).unwrap();
    let mut options = super::options(PluginSource::File { path, blake3: None });
    change(&mut options);
    load_scheduling(options)
}

/// Names and reason of the native strategy's answer.
fn native(question: &SchedulingQuestion) -> (Vec<String>, String) {
    let task = |row: &TaskRow| sdk::TaskRow {
        name: row.task.name().to_owned(),
        verdict: sdk::Verdict::Waits,
        because: String::new(),
        until_seconds: None,
        last: None,
        keeps_budget: row.task.keeps_budget(),
        cost: None,
    };
    let row = |row: &CycleRow| sdk::CycleRow {
        cycle: match row.cycle {
            Cycle::Quick => sdk::Cycle::Quick,
            Cycle::Full => sdk::Cycle::Full,
        },
        because: String::new(),
        tasks: row.tasks.iter().map(task).collect(),
    };
    let decision = sdk::Scheduling::schedule(
        &scheduling_kopia::Kopia,
        &sdk::Question {
            now_seconds: question.now.seconds(),
            offset_seconds: 0,
            zone: Vec::new(),
            asked_for: question.asked_for,
            cycles: question.cycles.iter().map(row).collect(),
            writers: 0,
            newest_writer_seconds: None,
            index_blobs: 0,
            index_bytes: 0,
            memory_bytes: 0,
            scratch_bytes: 0,
            costs: sdk::CostKnowledge::NotCounted,
        },
    );
    let Ok(sdk::Decision::Run(plan)) = decision else {
        panic!("{decision:?}")
    };
    let names = plan.tasks.into_iter().map(|task| task.name).collect();
    (names, plan.reason)
}

/// Goal: the built-in strategy is Kopia's order, as component and as native code, in a fraction of
/// its limits; method: every set of cycles that can be due.
#[test]
fn the_built_in_strategy_runs_what_kopia_runs() {
    let mut plugin = builtin(|options| {
        options.limits.memory_bytes = 1 << 20;
        options.limits.fuel = 1_000_000;
    });
    for has_epochs in [true, false] {
        for (cycles, first) in [
            (&[Cycle::Full, Cycle::Quick][..], Cycle::Full),
            (&[Cycle::Full], Cycle::Full),
            (&[Cycle::Quick], Cycle::Quick),
        ] {
            let question = question(cycles, has_epochs);
            let answer = plugin.schedule(&question).unwrap();
            let costs = with_costs(question.clone());
            assert_eq!(plugin.schedule(&costs).unwrap(), answer);
            let Ok(Choice::Run(cycle, choices)) = answer.check(&question) else {
                panic!("{answer:?}")
            };
            assert_eq!(cycle, first);
            let tasks: Vec<_> = choices.iter().map(|choice| choice.task).collect();
            assert_eq!(tasks, first.tasks(has_epochs));
            assert!(choices.iter().all(|choice| choice.budget.is_none()));
            let (names, reason) = native(&question);
            let ours: Vec<_> = tasks.iter().map(|task| task.name().to_owned()).collect();
            assert_eq!((ours, answer.reason()), (names, &*reason));
        }
    }
    let text = plugin.describe();
    assert!(text.starts_with("scheduling-kopia (blake3 "), "{text}");
    assert!(text.contains(&hex::encode(plugin.digest())), "{text}");
}

#[test]
fn honest_guests_are_answered() {
    let wasm = scheduling(TASKS, &runs((2_048, 2), (3_072, 36)));
    let mut plugin = load(&wasm, |_| ()).unwrap();
    let question = question(&[Cycle::Full], true);
    for _ in 0..2 {
        let answer = plugin.schedule(&question).unwrap();
        assert!(answer.reason().ends_with("contents [2J"), "{answer:?}");
        let Ok(Choice::Run(Cycle::Full, choices)) = answer.check(&question) else {
            panic!("{answer:?}")
        };
        let tasks: Vec<_> = choices.iter().map(|choice| choice.task).collect();
        assert_eq!(
            tasks,
            [CycleTask::SnapshotGc, CycleTask::FullRewriteContents]
        );
        assert_eq!(choices[1].budget.bytes, Some(7_000));
        assert_eq!(choices[1].budget.requests, None);
    }
    let mut plugin = load(&scheduling(TASKS, &waits(NOW + 60, (3_072, 8))), |_| ()).unwrap();
    let answer = plugin.schedule(&question).unwrap();
    assert_eq!(answer.reason(), "snapshot");
    let until = Timestamp::from_seconds(NOW + 60);
    assert_eq!(answer.check(&question), Ok(Choice::Wait(until)));
}

/// Where a question has what is known of costs, and its cycles; where a cycle has its tasks; how
/// far tasks are apart, and where a task has its costs: by the canonical ABI.
const COSTS: u32 = 88;
const CYCLES: u32 = 24;
const TASKS_OF_CYCLE: u32 = 12;
const TASK_BYTES: u32 = 128;
const COST: u32 = 80;

/// Goal: a guest gets the costs when it asks for them, each in its place; method: one that answers
/// "not before" a moment which is one of the numbers that it was told.
#[test]
fn costs_are_told_on_demand() {
    let count = stores(&[(AT, 0), (AT + 8, 2)]);
    let guest = |task: u32, field: u32| {
        let at = task * TASK_BYTES + COST + 8 + 8 * field;
        let number = format!(
            "(i64.load offset={at} (i32.load offset={TASKS_OF_CYCLE}
               (i32.load offset={CYCLES} (local.get 0))))"
        );
        let zero = "(i64.const 0)";
        let moment = format!("(i64.add (i64.const {NOW}) {number})");
        let wait = waits(0, (3_072, 8)).replace(zero, &moment);
        let body = format!(
            "(if (i32.eqz (i32.load8_u offset={COSTS} (local.get 0)))
               (then {count} (return (i32.const {AT})))) {wait}"
        );
        load(&scheduling(TASKS, &body), |_| ()).unwrap()
    };
    let question = question(&[Cycle::Full], true);
    let counted = with_costs(question.clone());
    for (task, field, number) in [
        (0, 1, 1),
        (1, 0, 10),
        (3, 2, 32),
        (10, 3, 103),
        (10, 4, 104),
    ] {
        let mut plugin = guest(task, field);
        let first = plugin.schedule(&question).unwrap();
        assert!(first.asks_for_costs(&question), "{first:?}");
        let second = plugin.schedule(&counted).unwrap();
        let moment = Timestamp::from_seconds(NOW + number);
        assert_eq!(second.check(&counted), Ok(Choice::Wait(moment)));
    }
    // Why they are not known comes back as the reason.
    let copy = |to: u32, from: u32| {
        format!("(i32.store (i32.const {to}) (i32.load offset={from} (local.get 0)))")
    };
    let wait = waits(NOW + 60, (0, 0));
    let (text, length) = (copy(AT + 24, COSTS + 4), copy(AT + 28, COSTS + 8));
    let body = format!("(drop (block (result i32) {wait})) {text} {length} (i32.const {AT})");
    let mut plugin = load(&scheduling(TASKS, &body), |_| ()).unwrap();
    let mut unknown = question;
    unknown.costs = Costs::Unknown("x".repeat(5_000));
    let answer = plugin.schedule(&unknown).unwrap();
    assert_eq!(answer.reason(), "x".repeat(1_000));
}

/// Asks a guest twice; both askings must end the same way.
fn attack(wasm: &[u8]) -> StrategyError {
    let mut plugin = load(wasm, |options| options.limits.fuel = 20_000_000).unwrap();
    let question = question(&[Cycle::Full, Cycle::Quick], true);
    let first = plugin.schedule(&question).unwrap_err();
    let second = plugin.schedule(&question).unwrap_err();
    assert_eq!(first.code(), second.code());
    assert!(first.to_string().contains("guest (blake3 "), "{first}");
    first
}

#[test]
fn hostile_guests_are_ended_by_the_limit_that_they_attack() {
    let grow = "(drop (memory.grow (i32.const 100)))";
    let far = u32::MAX - 7;
    for (body, code) in [
        ("(loop (br 0)) (i32.const 0)".to_owned(), "plugin-fuel"),
        ("unreachable".to_owned(), "plugin-trap"),
        (
            "(drop (i32.div_u (i32.const 1) (i32.const 0))) (i32.const 0)".into(),
            "plugin-trap",
        ),
        (
            format!("(loop {grow} (br 0)) (i32.const 0)"),
            "plugin-memory",
        ),
        ("(i32.const -8)".to_owned(), "plugin-data"),
        ("(i32.const 1)".to_owned(), "plugin-data"),
        (runs((2_048, 500_000_000), (0, 0)), "plugin-data"),
        (runs((2_049, 1), (0, 0)), "plugin-data"),
        (runs((far, 1), (0, 0)), "plugin-data"),
        (runs((2_048, 1), (0, u32::MAX)), "plugin-data"),
        (runs((2_048, 1), (3_200, 2)), "plugin-data"),
        // A cycle, a decision and an answer that there are not.
        (
            runs((2_048, 1), (0, 0)).replace("1040) (i32.const 1)", "1040) (i32.const 9)"),
            "plugin-data",
        ),
        (
            stores(&[(AT, 0), (AT + 8, 7)]) + " (i32.const 1024)",
            "plugin-data",
        ),
        (stores(&[(AT, 5)]) + " (i32.const 1024)", "plugin-data"),
        (
            "(loop (call $log (i32.const 1) (i32.const 0) (i32.const 9)) (br 0)) (i32.const 0)"
                .into(),
            "plugin-data",
        ),
        // Its own error.
        (
            stores(&[(AT, 1), (AT + 8, 3_072), (AT + 12, 8)]) + " (i32.const 1024)",
            "plugin-error",
        ),
    ] {
        let fields = format!("{TASKS} (data (i32.const 3200) \"\\ff\\fe\")");
        let error = attack(&scheduling(&fields, &body));
        assert_eq!(error.code(), code, "{body}: {error}");
    }
}

#[test]
fn strings_that_share_their_bytes_count_each_time() {
    // 1,000 tasks whose names are the same 100,000 bytes.
    let fill = "(local $at i32) (local.set $at (i32.const 1048576)) (loop \
        (i32.store (local.get $at) (i32.const 1200000)) \
        (i32.store offset=4 (local.get $at) (i32.const 100000)) \
        (local.set $at (i32.add (local.get $at) (i32.const 40))) \
        (br_if 0 (i32.lt_u (local.get $at) (i32.const 1088576))))";
    let body = format!("{fill} {}", runs((EMPTY, 1_000), (0, 0)));
    let error = attack(&scheduling("", &body));
    assert_eq!(error.code(), "plugin-data", "{error}");
    assert!(error.to_string().contains("too much data"), "{error}");
}

/// Goal: nonsense that has the right form ends at the host's check.
#[test]
fn nonsense_is_refused_by_the_check() {
    let question = with_costs(question(&[Cycle::Full], true));
    let wait = |seconds| waits(seconds, (3_072, 8));
    for (body, words) in [
        (runs((2_048, 0), (0, 0)), "no task at all"),
        (runs((4_096, 1), (0, 0)), "is not one of those"),
        (runs((2_048, 1), (4_096, 1_001)), "a reason of more than"),
        (runs((EMPTY, 15), (0, 0)), "15 tasks"),
        (runs((EMPTY, 26_000), (0, 0)), "26000 tasks"),
        (
            runs((2_048, 1), (0, 0)).replace("1040) (i32.const 1)", "1040) (i32.const 0)"),
            "quick maintenance is not due",
        ),
        (
            stores(&[(AT, 0), (AT + 8, 2)]) + " (i32.const 1024)",
            "counted already",
        ),
        (wait(NOW), "nothing before"),
        (wait(i64::MIN), "nothing before"),
        (wait(i64::MAX), "nothing before"),
    ] {
        let mut plugin = load(&scheduling(TASKS, &body), |_| ()).unwrap();
        let answer: SchedulingAnswer = plugin.schedule(&question).unwrap();
        let refused = answer.check(&question).unwrap_err();
        assert!(refused.contains(words), "{words}: {refused}");
    }
}

#[test]
fn a_plugin_of_another_strategy_is_refused() {
    let error = load(&splitting("unreachable"), |_| ()).err().unwrap();
    assert_eq!(error.code(), "plugin-world", "{error}");
    let exports = format!("it exports careen:strategy/split@{PACKAGE_VERSION}");
    assert!(error.to_string().contains(&exports), "{error}");
}

/// Goal: nothing of a guest is remembered; method: one that answers only the first call.
#[test]
fn every_question_meets_a_fresh_instance() {
    let once = "(if (i32.load (i32.const 8)) (then unreachable)) \
                (i32.store (i32.const 8) (i32.const 1))";
    let body = format!("{once} {}", waits(NOW + 60, (3_072, 8)));
    let mut plugin = load(&scheduling(TASKS, &body), |_| ()).unwrap();
    for _ in 0..3 {
        plugin.schedule(&question(&[Cycle::Quick], true)).unwrap();
    }
}
