//! Every rule that the host refuses answers about tasks by.
//!
//! No memory cost.

use super::*;

fn question(has_epochs: bool) -> SchedulingQuestion {
    let row = |cycle: Cycle| {
        let task = |task: &CycleTask| TaskRow {
            task: *task,
            verdict: Verdict::Runs,
            because: String::new(),
            until: None,
            last: None,
            cost: None,
        };
        CycleRow {
            cycle,
            because: String::new(),
            tasks: cycle.tasks(has_epochs).iter().map(task).collect(),
        }
    };
    SchedulingQuestion {
        now: Timestamp::from_seconds(1_000),
        zone: Zone::default(),
        asked_for: false,
        cycles: vec![row(Cycle::Full), row(Cycle::Quick)],
        writers: 0,
        newest_writer: None,
        index_blobs: 0,
        index_bytes: 0,
        memory_bytes: 0,
        scratch_bytes: 0,
        costs: Costs::NotCounted,
    }
}

fn run(cycle: Cycle, names: &[&str]) -> SchedulingAnswer {
    let named = |name: &&str| NamedTask {
        name: (*name).to_owned(),
        budget: Budget::default(),
    };
    SchedulingAnswer::Run {
        cycle,
        tasks: names.iter().map(named).collect(),
        reason: String::new(),
    }
}

fn refused(cycle: Cycle, names: &[&str]) -> String {
    let checked = run(cycle, names).check(&question(true));
    checked.err().unwrap_or_default()
}

#[test]
fn kopias_orders_are_safe() {
    for has_epochs in [true, false] {
        for cycle in [Cycle::Full, Cycle::Quick] {
            let names: Vec<_> = cycle.tasks(has_epochs).iter().map(|t| t.name()).collect();
            let checked = run(cycle, &names).check(&question(has_epochs)).unwrap();
            let Choice::Run(chosen, choices) = checked else {
                panic!("it runs")
            };
            assert_eq!(chosen, cycle);
            let tasks: Vec<_> = choices.iter().map(|choice| choice.task).collect();
            assert_eq!(tasks, cycle.tasks(has_epochs));
        }
    }
}

#[test]
fn the_index_may_come_first_and_logs_anywhere() {
    for names in [
        &["compact-single-epoch", "advance-epoch", "snapshot-gc"][..],
        &[
            "advance-epoch",
            "cleanup-logs",
            "cleanup-epoch-markers",
            "snapshot-gc",
        ],
        &["cleanup-logs", "full-delete-blobs"],
        &["full-drop-deleted-content"],
    ] {
        assert_eq!(refused(Cycle::Full, names), "", "{names:?}");
    }
}

#[test]
fn unsafe_orders_are_refused() {
    for (names, words) in [
        (
            &["full-drop-deleted-content", "snapshot-gc"][..],
            "task snapshot-gc after full-drop",
        ),
        (
            &["full-delete-blobs", "full-rewrite-contents"],
            "task full-rewrite-contents after full-delete-blobs",
        ),
        (
            &["full-delete-blobs", "full-drop-deleted-content"],
            "after full-delete-blobs",
        ),
        (
            &["generate-epoch-range-index", "compact-single-epoch"],
            "after generate-epoch-range-index",
        ),
        (
            &["compact-single-epoch", "snapshot-gc", "advance-epoch"],
            "apart from others of the index",
        ),
        (
            &["snapshot-gc", "compact-single-epoch", "full-delete-blobs"],
            "after those of the index, and others before",
        ),
    ] {
        let refused = refused(Cycle::Full, names);
        assert!(refused.contains(words), "{names:?}: {refused}");
    }
}

#[test]
fn only_tasks_of_a_due_cycle_each_once() {
    for (cycle, names, words) in [
        (Cycle::Full, &[][..], "no task at all"),
        (Cycle::Full, &["snapshot-gc", "snapshot-gc"], "twice"),
        (
            Cycle::Quick,
            &["snapshot-gc"],
            "\"snapshot-gc\" is not one of",
        ),
        (Cycle::Full, &["quick-delete-blobs"], "is not one of"),
        (Cycle::Full, &["rm -rf /"], "is not one of"),
        (Cycle::Full, &["advance-epoch"; 15], "15 tasks"),
    ] {
        let refused = refused(cycle, names);
        assert!(refused.contains(words), "{names:?}: {refused}");
    }
    let mut quick = question(true);
    quick.cycles.remove(0);
    let refused = run(Cycle::Full, &["snapshot-gc"]).check(&quick);
    assert_eq!(refused, Err("full maintenance is not due".to_owned()));
}

#[test]
fn budgets_only_where_they_are_kept() {
    let with = |name: &str, budget| SchedulingAnswer::Run {
        cycle: Cycle::Full,
        tasks: vec![NamedTask {
            name: name.to_owned(),
            budget,
        }],
        reason: String::new(),
    };
    let budget = Budget {
        bytes: Some(5),
        requests: None,
    };
    let asked = question(true);
    let kept = with("full-rewrite-contents", budget).check(&asked);
    let Ok(Choice::Run(_, choices)) = kept else {
        panic!("{kept:?}")
    };
    assert_eq!(choices[0].budget, budget);
    assert!(
        with("cleanup-logs", Budget::default())
            .check(&asked)
            .is_ok()
    );
    let refused = with("cleanup-logs", budget).check(&asked).unwrap_err();
    assert!(refused.contains("cannot keep one"), "{refused}");
}

#[test]
fn waiting_ends_and_reasons_are_short() {
    let asked = question(true);
    let wait = |seconds: i64, reason: &str| {
        let not_before = Timestamp::from_seconds(asked.now.seconds() + seconds);
        let reason = reason.to_owned();
        SchedulingAnswer::Wait { not_before, reason }.check(&asked)
    };
    let day = 86_400;
    assert!(matches!(wait(1, "x"), Ok(Choice::Wait(_))));
    assert!(matches!(wait(31 * day, "x"), Ok(Choice::Wait(_))));
    for seconds in [0, -5, 31 * day + 1] {
        assert!(wait(seconds, "x").unwrap_err().contains("nothing before"));
    }
    assert!(wait(1, &"x".repeat(1_001)).unwrap_err().contains("reason"));
}

#[test]
fn costs_are_asked_for_once() {
    let mut asked = question(true);
    let answer = SchedulingAnswer::CountCosts;
    assert!(answer.asks_for_costs(&asked));
    for costs in [Costs::Counted, Costs::Unknown("a pack is gone".to_owned())] {
        asked.costs = costs;
        assert!(!answer.asks_for_costs(&asked));
        let refused = answer.check(&asked).unwrap_err();
        assert!(refused.contains("counted already"), "{refused}");
    }
}
