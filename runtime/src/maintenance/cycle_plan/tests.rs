//! What is due, what runs and what waits, and how a plan is told: as text and as JSON.
//!
//! Schedules are made up; no repository is read.

use std::time::Duration;

use super::*;
use crate::kopia::schedule::RunInfo;

const HOUR: Duration = Duration::from_secs(3_600);

const NOW: Timestamp = Timestamp::from_seconds(1_788_220_800);

/// A schedule of daily full cycles until yesterday, the last of which has rewritten.
fn daily() -> Schedule {
    let mut schedule = Schedule {
        next_full: NOW.minus(HOUR),
        next_quick: NOW.minus(HOUR * 23),
        ..Schedule::default()
    };
    for days in [3, 2, 1] {
        let at = NOW.minus(HOUR * 24 * days + HOUR);
        let run = || RunInfo::succeeded(at, at, vec![]);
        schedule.report_run("snapshot-gc", run());
        if days == 2 {
            schedule.report_run("full-delete-blobs", run());
        } else {
            schedule.report_run("full-rewrite-contents", run());
        }
    }
    schedule
}

fn plan(mode: Mode, tasks: &[CycleTask], schedule: &Schedule, has_epochs: bool) -> CyclePlan {
    let wanted = Wanted {
        mode,
        tasks: tasks.to_vec(),
        safety: Safety::full(),
    };
    let facts = Circumstances {
        has_epochs,
        params: &MaintenanceParams::default(),
        schedule,
        now: NOW,
    };
    CyclePlan::make(&wanted, &facts)
}

#[test]
fn a_full_cycle_tells_what_runs_and_what_waits() {
    let text = plan(Mode::Auto, &[], &daily(), true).to_string();
    let expected = "\
full maintenance: it was due at 2026-08-31T23:00:00Z
  snapshot-gc                      runs   every full cycle has it
  full-rewrite-contents            waits  the packs that the rewrite of 2026-08-30T23:00:00Z left \
over are to be deleted first
  full-drop-deleted-content        runs   what was deleted before 2026-08-30T22:00:00Z is forgotten
  full-delete-blobs                runs   contents were last rewritten at 2026-08-30T23:00:00Z
  extend-blob-retention-time       off    the maintenance parameters do not ask for it
  compact-single-epoch             runs   every full cycle has it
  advance-epoch                    runs   every full cycle has it
  generate-epoch-range-index       runs   every full cycle has it
  cleanup-epoch-markers            runs   every full cycle has it
  delete-superseded-epoch-indexes  runs   every full cycle has it
  cleanup-logs                     runs   every full cycle has it
";
    assert_eq!(text, expected);
}

#[test]
fn a_rewrite_of_this_run_holds_back_its_deletion() {
    let mut plan = plan(Mode::Full, &[], &Schedule::default(), false);
    assert_eq!(plan.because, "it was asked for");
    let row = plan.tasks.remove(3);
    assert_eq!(row.task, CycleTask::FullDeleteBlobs);
    assert_eq!(
        (row.verdict, row.until),
        (Verdict::Waits, Some(NOW.plus(HOUR)))
    );
    assert!(row.because.starts_with("this run rewrites"), "{row:?}");
    let drop = plan.tasks.remove(2);
    assert_eq!(
        (drop.verdict, drop.until),
        (Verdict::Waits, None),
        "{drop:?}"
    );
}

#[test]
fn quick_cycles_without_epochs_choose_one_deletion() {
    let verdicts = |schedule: &Schedule| -> Vec<(CycleTask, Verdict)> {
        let plan = plan(Mode::Quick, &[], schedule, false);
        let rows = plan.tasks.iter();
        rows.map(|row| (row.task, row.verdict)).collect()
    };
    use Verdict::{Off, Runs, Waits};
    let after_full: Vec<Verdict> = verdicts(&daily()).iter().map(|row| row.1).collect();
    assert_eq!(after_full, [Waits, Runs, Off, Runs, Runs]);
    let mut schedule = daily();
    let at = NOW.minus(HOUR * 2);
    schedule.report_run("quick-rewrite-contents", RunInfo::succeeded(at, at, vec![]));
    let after_quick: Vec<Verdict> = verdicts(&schedule).iter().map(|row| row.1).collect();
    assert_eq!(after_quick, [Waits, Off, Runs, Runs, Runs]);
}

#[test]
fn nothing_is_due_before_its_time_and_named_tasks_always_are() {
    let schedule = Schedule {
        next_full: NOW.plus(HOUR * 20),
        next_quick: NOW.plus(HOUR),
        ..Schedule::default()
    };
    let nothing = plan(Mode::Auto, &[], &schedule, true);
    assert_eq!((nothing.cycle, nothing.tasks.len()), (None, 0));
    let text = "nothing is due: quick not before 2026-09-01T01:00:00Z, full not before \
                2026-09-01T20:00:00Z";
    assert_eq!(nothing.because, text);
    let named = plan(Mode::Auto, &[CycleTask::CleanupLogs], &schedule, true);
    assert_eq!(named.cycle, Some(Cycle::Full));
    assert_eq!(
        named.running().collect::<Vec<_>>(),
        [CycleTask::CleanupLogs]
    );
    let quick = plan(Mode::Auto, &[CycleTask::AdvanceEpoch], &schedule, true);
    assert_eq!(quick.cycle, Some(Cycle::Quick));
    let due = Schedule {
        next_quick: NOW,
        ..schedule
    };
    assert_eq!(plan(Mode::Auto, &[], &due, true).cycle, Some(Cycle::Quick));
}

#[test]
fn a_plan_is_json_with_its_reasons() {
    let plan = plan(Mode::Quick, &[], &daily(), true);
    let json = serde_json::to_value(&plan).unwrap();
    let expected = serde_json::json!({
        "cycle": "quick", "because": "it was asked for", "lease": null, "drop_before": null,
        "scheduling": null,
        "next_full": "2026-08-31T23:00:00Z", "next_quick": "2026-08-31T01:00:00Z",
        "tasks": [
            {"task": "compact-single-epoch", "verdict": "runs", "until": null,
             "because": "every quick cycle has it"},
            {"task": "advance-epoch", "verdict": "runs", "until": null,
             "because": "every quick cycle has it"},
        ],
    });
    assert_eq!(json, expected);
}

/// Goal: without margins, what is deleted is forgotten only behind snapshot GC of the same run,
/// unless the user names the task alone; method: orders that a strategy may choose.
#[test]
fn without_margins_forgetting_waits_for_gc_of_the_same_run() {
    let judge = |order: &[CycleTask], tasks: &[CycleTask], safety: Safety| {
        let wanted = Wanted {
            mode: Mode::Full,
            tasks: tasks.to_vec(),
            safety,
        };
        let facts = Circumstances {
            has_epochs: true,
            params: &MaintenanceParams::default(),
            schedule: &daily(),
            now: NOW,
        };
        let plan = CyclePlan::of_cycle(Cycle::Full, String::new(), order, &wanted, &facts);
        let drop = |row: &&PlannedTask| row.task == CycleTask::FullDropDeletedContent;
        plan.tasks.iter().find(drop).unwrap().verdict
    };
    let (gc, drop) = (CycleTask::SnapshotGc, CycleTask::FullDropDeletedContent);
    assert_eq!(judge(&[drop], &[], Safety::none()), Verdict::Waits);
    assert_eq!(judge(&[gc, drop], &[], Safety::none()), Verdict::Runs);
    assert_eq!(judge(&[drop], &[drop], Safety::none()), Verdict::Runs);
    assert_eq!(judge(&[drop], &[], Safety::full()), Verdict::Runs);
}
