//! What a run has done, for people and programs.
//!
//! The same facts as in the schedule, with what does not fit there: tasks that did not run, and the
//! times that are due next. Memory: one row a task.

use std::fmt;

use crate::blob::Counters;
use crate::clock::Timestamp;
use crate::kopia::schedule::{Extra, UNSET};

use super::MaintenanceError;
use super::compact_manifests::ManifestsCompacted;
use super::cycle_plan::{CyclePlan, PlannedTask, Verdict};
use super::cycle_task::{Cycle, CycleTask};
use super::expire_snapshots::ExpireReport;
use super::index_tasks::Done;
use super::task_stats;

/// One task that ran.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TaskRun {
    /// Kopia's name.
    pub task: CycleTask,
    /// Whether it succeeded.
    pub success: bool,
    /// What it did, or why it failed.
    pub what: String,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// What it left in the schedule.
    pub stats: Option<Extra>,
    /// What it asked of the storage, its record in the schedule included.
    pub requests: Counters,
    /// Whether its budget left a part of it for a later run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

impl TaskRun {
    pub(super) fn new(
        task: CycleTask,
        start: Timestamp,
        end: Timestamp,
        outcome: &Result<Done, MaintenanceError>,
        requests: Counters,
    ) -> Self {
        let (what, stats) = match outcome {
            Ok(done) => (done.what.clone(), done.extra.clone()),
            Err(error) => (error.to_string(), None),
        };
        Self {
            task,
            success: outcome.is_ok(),
            what,
            start,
            end,
            stats,
            requests,
            cut: outcome.as_ref().is_ok_and(|done| done.cut),
        }
    }

    /// Returns the bytes of blobs that it deleted, as its statistics say.
    pub fn reclaimed_bytes(&self) -> u64 {
        self.stats.as_ref().map_or(0, task_stats::deleted_bytes)
    }
}

/// A run that ended well.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct RunReport {
    /// The cycle; none when nothing was due.
    pub cycle: Option<Cycle>,
    /// Why nothing was due.
    pub because: Option<String>,
    /// Until when the scheduling strategy wants nothing to be done, where it said so.
    pub not_before: Option<Timestamp>,
    /// The owner that we acted as.
    pub owner: Option<String>,
    /// Snapshots that were expired, where that was asked for.
    pub expired: Option<ExpireReport>,
    /// What became of the manifests, where they lay in many contents.
    pub manifests: Option<ManifestsCompacted>,
    /// Tasks that ran, in their order.
    pub tasks: Vec<TaskRun>,
    /// Tasks that did not, with the reasons.
    pub skipped: Vec<PlannedTask>,
    /// When a full cycle is due.
    pub next_full: Option<Timestamp>,
    /// When a quick cycle is due.
    pub next_quick: Option<Timestamp>,
    /// When the storage took the first index blob of the epoch that writers write to; none where it
    /// has none, and where the run has not looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_epoch_since: Option<Timestamp>,
    /// Most scratch that was used, in bytes.
    pub scratch_peak_bytes: u64,
    /// What was asked of the storage since it was opened, the tasks included.
    pub requests: Counters,
}

impl RunReport {
    pub(super) fn nothing(plan: CyclePlan) -> Self {
        Self {
            cycle: None,
            because: Some(plan.because),
            not_before: plan.scheduling.and_then(|said| said.not_before),
            owner: None,
            expired: None,
            manifests: None,
            tasks: Vec::new(),
            skipped: Vec::new(),
            next_full: plan.next_full,
            next_quick: plan.next_quick,
            write_epoch_since: None,
            scratch_peak_bytes: 0,
            requests: Counters::default(),
        }
    }

    pub(super) fn of(cycle: Cycle, owner: String) -> Self {
        Self {
            cycle: Some(cycle),
            because: None,
            not_before: None,
            owner: Some(owner),
            expired: None,
            manifests: None,
            tasks: Vec::new(),
            skipped: Vec::new(),
            next_full: None,
            next_quick: None,
            write_epoch_since: None,
            scratch_peak_bytes: 0,
            requests: Counters::default(),
        }
    }

    /// Returns whether a task, or a part of one, was left for a later run, so that the cycle stays
    /// due.
    pub(super) fn has_left(&self) -> bool {
        let left = |row: &PlannedTask| row.verdict == Verdict::Left;
        self.skipped.iter().any(left) || self.tasks.iter().any(|run| run.cut)
    }

    /// Adds what is known at the end.
    pub(super) fn ended(
        &mut self,
        next: (Timestamp, Timestamp),
        scratch_peak_bytes: u64,
        requests: Counters,
    ) {
        let known = |time: Timestamp| Some(time).filter(|time| *time != UNSET);
        (self.next_full, self.next_quick) = (known(next.0), known(next.1));
        self.scratch_peak_bytes = scratch_peak_bytes;
        self.requests = requests;
    }
}

impl fmt::Display for TaskRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.end.since(self.start).as_secs_f64();
        let mark = if self.success { "" } else { "FAILED: " };
        write!(
            f,
            "  {:<32} {mark}{} ({seconds:.1} s; {})",
            self.task, self.what, self.requests
        )
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(cycle) = self.cycle else {
            return f.write_str(self.because.as_deref().unwrap_or_default());
        };
        if let Some(done) = &self.manifests {
            let ManifestsCompacted {
                manifests, deleted, ..
            } = done;
            writeln!(
                f,
                "first: {manifests} manifests of {deleted} contents are in one now"
            )?;
        }
        if let Some(expired) = &self.expired {
            writeln!(f, "first: {expired}")?;
        }
        let count = self.tasks.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{cycle} maintenance is done: {count} task{plural}")?;
        let left = |row: &&PlannedTask| row.verdict == Verdict::Left;
        let left = self.skipped.iter().filter(left).count();
        let cut = self.tasks.iter().filter(|run| run.cut).count();
        match (left, cut) {
            (0, 0) => {}
            (left, 0) => write!(f, ", {left} left for a later run; the cycle stays due")?,
            (0, cut) => write!(f, ", {cut} in part; the cycle stays due")?,
            (left, cut) => write!(
                f,
                ", {cut} in part, {left} left for a later run; the cycle stays due"
            )?,
        }
        for (name, next) in [("quick", self.next_quick), ("full", self.next_full)] {
            if let Some(next) = next {
                write!(f, "; {name} again at {next}")?;
            }
        }
        write!(f, "\nrequests: {}", self.requests)
    }
}
