//! Kopia's interlocks: whether a task may run now, judged by what the schedule records of the past.
//!
//! A rewrite orphans packs that clients with an older index still read, so packs are deleted only
//! some time after it, and rewritten again only after that deletion. Deleted contents are forgotten
//! only after two GC runs that lie far enough apart. Pure rules over the history; only runs that
//! succeeded count, but for one rule that is stricter than Kopia's: a rewrite that failed may have
//! orphaned packs as well, so it holds back their deletion too. Memory: two times for each run, at
//! most 50 runs a task. Mirrors
//! `shouldFullRewriteContents`, `nextPackDeleteTime` and `findSafeDropTime` of Kopia's
//! `repo/maintenance/maintenance_run.go`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::kopia::schedule::Schedule;
use crate::repository::epoch_blobs::in_words;

use super::cycle_task::CycleTask;
use super::safety::Safety;

const REWRITES: [CycleTask; 2] = [
    CycleTask::FullRewriteContents,
    CycleTask::QuickRewriteContents,
];

const DELETIONS: [CycleTask; 2] = [CycleTask::FullDeleteBlobs, CycleTask::QuickDeleteBlobs];

/// A run that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastRun {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
}

/// The successful runs of the past, by task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    runs: BTreeMap<CycleTask, Vec<PastRun>>,
    /// End of the last rewrite that failed.
    failed_rewrite: Option<Timestamp>,
}

impl History {
    /// Takes the successful runs from a schedule; tasks that we do not know decide nothing.
    pub fn of(schedule: &Schedule) -> Self {
        let mut history = Self::default();
        for task in CycleTask::ALL {
            for run in schedule
                .runs_of(task.name())
                .iter()
                .filter(|run| run.success)
            {
                history.add(task, run.start, run.end);
            }
        }
        history
    }

    /// Adds a successful run.
    pub fn add(&mut self, task: CycleTask, start: Timestamp, end: Timestamp) {
        self.runs
            .entry(task)
            .or_default()
            .push(PastRun { start, end });
    }

    /// Returns when the last run of any of `tasks` ended.
    pub fn last_end(&self, tasks: &[CycleTask]) -> Option<Timestamp> {
        let runs = tasks.iter().filter_map(|task| self.runs.get(task));
        runs.flatten().map(|run| run.end).max()
    }

    /// Returns the runs of a task, the one that began last first.
    fn newest_first(&self, task: CycleTask) -> Vec<PastRun> {
        let mut runs = self.runs.get(&task).cloned().unwrap_or_default();
        runs.sort_by_key(|run| std::cmp::Reverse(run.start));
        runs
    }
}

/// Whether a task may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Open {
        /// Why.
        because: String,
    },
    /// Not now.
    Closed {
        /// Why not.
        because: String,
        /// When it may, where time alone opens the gate.
        until: Option<Timestamp>,
    },
    /// Nobody asks for it.
    Off {
        /// Why not.
        because: String,
    },
}

impl Gate {
    /// Returns whether the task may run.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    pub(super) fn open(because: impl Into<String>) -> Self {
        Self::Open {
            because: because.into(),
        }
    }

    pub(super) fn off(because: impl Into<String>) -> Self {
        Self::Off {
            because: because.into(),
        }
    }
}

/// Tells whether the full rewrite may run. It does not look at quick rewrites, so that it is not
/// starved by them.
pub fn full_rewrite(history: &History, safety: &Safety) -> Gate {
    rewrite(history, safety, &[CycleTask::FullRewriteContents])
}

/// Tells whether the quick rewrite may run.
pub fn quick_rewrite(history: &History, safety: &Safety) -> Gate {
    rewrite(history, safety, &REWRITES)
}

fn rewrite(history: &History, safety: &Safety, rewrites: &[CycleTask]) -> Gate {
    let Some(rewritten) = history.last_end(rewrites) else {
        return Gate::open("contents were never rewritten");
    };
    if safety.min_rewrite_to_orphan_deletion_delay == Duration::ZERO {
        return Gate::open("the safety margins are off");
    }
    let deleted = history.last_end(&DELETIONS);
    if deleted.is_some_and(|deleted| deleted >= rewritten) {
        return Gate::open(format!(
            "the packs that the rewrite of {rewritten} left over were deleted"
        ));
    }
    Gate::Closed {
        because: format!(
            "the packs that the rewrite of {rewritten} left over are to be deleted first"
        ),
        until: None,
    }
}

/// Tells whether packs may be deleted.
pub fn pack_deletion(history: &History, safety: &Safety, now: Timestamp) -> Gate {
    let Some(rewritten) = history.last_end(&REWRITES).max(history.failed_rewrite) else {
        return Gate::open("contents were never rewritten");
    };
    let delay = safety.min_rewrite_to_orphan_deletion_delay;
    let from = rewritten.plus(delay);
    if now >= from {
        return Gate::open(format!("contents were last rewritten at {rewritten}"));
    }
    Gate::Closed {
        because: format!(
            "contents were rewritten at {rewritten}, and for {} clients may still read the old \
             packs",
            in_words(delay)
        ),
        until: Some(from),
    }
}

/// Tells whether a quick cycle has to delete packs of every kind: the last rewrite was a full one.
pub fn had_recent_full_rewrite(history: &History) -> bool {
    history.last_end(&[CycleTask::FullRewriteContents])
        >= history.last_end(&[CycleTask::QuickRewriteContents])
}

/// Returns the moment before which deleted contents may be forgotten, or why there is none yet.
pub fn safe_drop_time(
    history: &History,
    safety: &Safety,
    now: Timestamp,
) -> Result<Timestamp, Gate> {
    if !safety.require_two_gc_cycles {
        return Ok(now);
    }
    let margin = safety.margin_between_snapshot_gc;
    let runs = history.newest_first(CycleTask::SnapshotGc);
    let Some((newest, older)) = runs.split_first().filter(|(_, older)| !older.is_empty()) else {
        return Err(Gate::Closed {
            because: "two runs of snapshot GC must have succeeded first".to_owned(),
            until: None,
        });
    };
    let far_enough =
        |run: &&PastRun| run.end < newest.start && newest.start.since(run.end) > margin;
    match older.iter().find(far_enough) {
        Some(run) => Ok(run.start.minus(safety.drop_content_from_index_extra_margin)),
        None => {
            let first = older.iter().map(|run| run.end).min();
            Err(Gate::Closed {
                because: format!(
                    "the last two runs of snapshot GC must lie more than {} apart",
                    in_words(margin)
                ),
                until: first.map(|end| end.plus(margin)),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CycleTask::{
        FullDeleteBlobs, FullRewriteContents, QuickDeleteBlobs, QuickRewriteContents, SnapshotGc,
    };

    const HOUR: i64 = 3_600;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_seconds(1_788_220_800 + hours * HOUR)
    }

    fn history(runs: &[(CycleTask, i64)]) -> History {
        let mut history = History::default();
        for (task, hours) in runs {
            history.add(*task, at(*hours), at(*hours).plus(Duration::from_secs(60)));
        }
        history
    }

    #[test]
    fn failed_runs_do_not_count() {
        use crate::kopia::schedule::RunInfo;
        let mut schedule = Schedule::default();
        schedule.report_run("snapshot-gc", RunInfo::failed(at(0), at(1), "no".into()));
        schedule.report_run(
            "cleanup-epoch-manager",
            RunInfo::succeeded(at(0), at(1), vec![]),
        );
        assert_eq!(History::of(&schedule), History::default());
        schedule.report_run("snapshot-gc", RunInfo::succeeded(at(2), at(3), vec![]));
        let mut expected = History::default();
        expected.add(SnapshotGc, at(2), at(3));
        assert_eq!(History::of(&schedule), expected);
    }

    #[test]
    fn a_rewrite_waits_for_the_deletion_after_the_last_one() {
        let full = Safety::full();
        let open = |runs: &[(CycleTask, i64)]| full_rewrite(&history(runs), &full).is_open();
        assert!(open(&[]));
        assert!(!open(&[(FullRewriteContents, 1)]));
        assert!(!open(&[(FullDeleteBlobs, 0), (FullRewriteContents, 1)]));
        assert!(open(&[(FullRewriteContents, 1), (QuickDeleteBlobs, 2)]));
        // Full rewrites do not look at quick ones; quick ones look at both.
        let quick = history(&[(FullDeleteBlobs, 1), (QuickRewriteContents, 2)]);
        assert!(full_rewrite(&quick, &full).is_open());
        assert!(!quick_rewrite(&quick, &full).is_open());
        assert!(quick_rewrite(&quick, &Safety::none()).is_open());
    }

    #[test]
    fn packs_are_deleted_an_hour_after_a_rewrite() {
        let runs = history(&[(FullRewriteContents, 1), (QuickRewriteContents, 2)]);
        let due = at(3).plus(Duration::from_secs(60));
        let gate = pack_deletion(&runs, &Safety::full(), due.minus(Duration::from_nanos(1)));
        let Gate::Closed { until, because } = gate else {
            panic!("open")
        };
        assert_eq!(until, Some(due));
        assert!(because.contains("for 1 h clients"), "{because}");
        assert!(pack_deletion(&runs, &Safety::full(), due).is_open());
        assert!(pack_deletion(&History::default(), &Safety::full(), at(0)).is_open());
        let failed = History {
            failed_rewrite: Some(at(5)),
            ..runs.clone()
        };
        assert!(!pack_deletion(&failed, &Safety::full(), due).is_open());
        assert!(
            full_rewrite(&failed, &Safety::full()).is_open()
                == full_rewrite(&runs, &Safety::full()).is_open()
        );
        assert!(!had_recent_full_rewrite(&runs));
        assert!(had_recent_full_rewrite(&History::default()));
    }

    #[test]
    fn the_drop_time_is_an_hour_before_the_run_that_a_later_one_confirms() {
        let drop = |hours: &[i64]| {
            let runs: Vec<_> = hours.iter().map(|hours| (SnapshotGc, *hours)).collect();
            safe_drop_time(&history(&runs), &Safety::full(), at(100))
        };
        assert!(matches!(drop(&[]), Err(Gate::Closed { until: None, .. })));
        assert!(matches!(drop(&[5]), Err(Gate::Closed { until: None, .. })));
        assert_eq!(drop(&[0, 24]), Ok(at(-1)));
        assert_eq!(
            drop(&[48, 0, 24]),
            Ok(at(23)),
            "in whatever order they are recorded"
        );
        assert_eq!(
            drop(&[0, 46, 48]),
            Ok(at(-1)),
            "the one just before is too near"
        );
        let minute = Duration::from_secs(60);
        let Err(Gate::Closed { until, .. }) = drop(&[44, 48]) else {
            panic!("4 hours less a minute are not more than 4 hours")
        };
        assert_eq!(until, Some(at(48).plus(minute)));
        let now = safe_drop_time(&History::default(), &Safety::none(), at(7));
        assert_eq!(now, Ok(at(7)));
    }
}
