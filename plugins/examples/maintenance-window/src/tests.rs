//! The window on every side, midnight and changes of local time included; and how the budget is
//! divided among the tasks.

use careen_guest_sdk::kit;
use careen_guest_sdk::scheduling::{Budget, TaskCost, TaskRow, Verdict, ZoneChange};

use super::*;

fn strategy(json: &str) -> MaintenanceWindow {
    MaintenanceWindow::configure(json).unwrap()
}

/// A question on a day of November 2026; the 24th is a Tuesday.
fn at(day: i64, hour: i64, minute: i64) -> Question {
    let mut question = kit::cycles();
    question.now_seconds = kit::at(2026, 11, day, hour, minute);
    question.offset_seconds = 0;
    question.zone = Vec::new();
    question
}

/// When it runs: now, or at a time of November.
fn opens(json: &str, question: &Question) -> Option<i64> {
    match kit::schedule(&strategy(json), question).unwrap() {
        Decision::Wait(pause) => Some(pause.not_before_seconds),
        Decision::Run(_) | Decision::CountCosts => None,
    }
}

#[test]
fn it_opens_in_the_evening_and_closes_in_the_morning() {
    let tonight = Some(kit::at(2026, 11, 24, 22, 0));
    for (question, wanted) in [
        (at(24, 5, 59), None),
        (at(24, 6, 0), tonight),
        (at(24, 21, 59), tonight),
        (at(24, 22, 0), None),
        (at(25, 0, 30), None),
    ] {
        assert_eq!(opens("{}", &question), wanted, "{}", question.now_seconds);
    }
}

#[test]
fn a_window_past_midnight_belongs_to_the_day_on_which_it_opens() {
    let weekend = r#"{ "days": ["sat"], "from": "20:00", "to": "04:00" }"#;
    let saturday = Some(kit::at(2026, 11, 28, 20, 0));
    assert_eq!(opens(weekend, &at(24, 21, 0)), saturday);
    assert_eq!(opens(weekend, &at(28, 3, 0)), saturday, "Friday's night");
    assert_eq!(opens(weekend, &at(29, 3, 59)), None, "Saturday's night");
    let next = Some(kit::at(2026, 12, 5, 20, 0));
    assert_eq!(opens(weekend, &at(29, 4, 0)), next);
}

#[test]
fn from_and_to_that_are_the_same_are_a_whole_day() {
    let sunday = r#"{ "days": ["sun"], "from": "00:00", "to": "00:00" }"#;
    assert_eq!(opens(sunday, &at(29, 0, 0)), None);
    assert_eq!(opens(sunday, &at(29, 23, 59)), None);
    let next = Some(kit::at(2026, 12, 6, 0, 0));
    assert_eq!(opens(sunday, &at(30, 0, 0)), next);
}

#[test]
fn local_time_counts_and_its_changes_too() {
    let mut question = at(24, 21, 30);
    question.offset_seconds = 3_600;
    assert_eq!(opens("{}", &question), None);
    // An hour back at 19:00 UTC: 22:00 on the wall is then an hour later.
    let mut question = at(24, 18, 0);
    question.offset_seconds = 7_200;
    question.zone = vec![ZoneChange {
        at_seconds: kit::at(2026, 11, 24, 19, 0),
        offset_seconds: 3_600,
    }];
    assert_eq!(opens("{}", &question), Some(kit::at(2026, 11, 24, 21, 0)));
}

#[test]
fn what_is_asked_for_runs_at_any_time() {
    let mut question = at(24, 12, 0);
    question.asked_for = true;
    assert_eq!(opens("{}", &question), None);
}

fn task(name: &str, keeps_budget: bool, bytes: u64, requests: u64) -> TaskRow {
    TaskRow {
        name: name.into(),
        verdict: Verdict::Runs,
        because: String::new(),
        until_seconds: None,
        last: None,
        keeps_budget,
        cost: Some(TaskCost {
            read_bytes: bytes / 2,
            written_bytes: bytes - bytes / 2,
            requests,
            scratch_bytes: 0,
            memory_bytes: 0,
        }),
    }
}

#[test]
fn each_task_gets_what_those_before_it_leave() {
    let mut tasks = [
        task("compact-single-epoch", false, 100, 10),
        task("snapshot-gc", true, 300, 20),
        task("full-rewrite-contents", true, 900, 50),
        task("full-delete-blobs", true, 0, 40),
    ];
    let left = Left {
        bytes: Some(1_000),
        requests: Some(60),
    };
    let budgets = |tasks: &[TaskRow]| {
        let choices = left.divide(tasks).into_iter();
        choices
            .map(|choice| (choice.budget.bytes, choice.budget.requests))
            .collect::<Vec<_>>()
    };
    let given = [
        (None, None),
        (Some(900), Some(50)),
        (Some(600), Some(30)),
        (Some(0), Some(0)),
    ];
    assert_eq!(budgets(&tasks), given);
    // What does not run takes nothing.
    tasks[1].verdict = Verdict::Waits;
    assert_eq!(budgets(&tasks)[2], (Some(900), Some(50)));
}

#[test]
fn costs_are_counted_only_for_a_budget() {
    let night = at(24, 23, 0);
    let answer = strategy("{}").schedule(&night).unwrap();
    let Decision::Run(plan) = answer else {
        panic!("{answer:?}")
    };
    assert!(plan.tasks.iter().all(|task| task.budget == Budget::NONE));
    let budget = strategy(r#"{ "bytes-per-run": 1000000000 }"#);
    let answer = budget.schedule(&night).unwrap();
    assert_eq!(answer, Decision::CountCosts);
    let mut unknown = night;
    unknown.costs = CostKnowledge::Unknown("a pack is gone".into());
    assert!(matches!(budget.schedule(&unknown), Ok(Decision::Run(_))));
}

#[test]
fn what_is_no_time_is_refused() {
    for json in [r#"{"from":"24:00"}"#, r#"{"to":"7"}"#, r#"{"at":"07:00"}"#] {
        assert!(MaintenanceWindow::configure(json).is_err(), "{json}");
    }
}
