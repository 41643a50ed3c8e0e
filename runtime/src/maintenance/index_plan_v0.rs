//! What index maintenance without epochs will do, decided before anything is done.
//!
//! One task of Kopia's, `index-compaction`: it merges the small index blobs, or all of them, and
//! deletes what earlier compactions have replaced for long enough. Memory: some numbers, and a note
//! for each damaged log, at most [`NOTES_MAX`].

use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::memory::MemoryPlan;
use crate::repository::index_set_v0::{Candidates, IndexSetV0};
use crate::repository::{RepositoryError, Workspace};

use super::index_plan::Task;
use super::index_survey::SCRATCH_FACTOR;

/// Notes of a plan; more tell nothing new.
const NOTES_MAX: usize = 20;

/// Scratch for each name of an index blob: listed, named by logs, and sorted for the load.
const NAME_SCRATCH_BYTES: u64 = 512;

/// What will be done.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PlanV0 {
    /// Kopia's name of the task.
    pub task: &'static str,
    /// Index blobs to merge.
    pub compact: Candidates,
    /// Tombstones from before this moment are dropped.
    pub drop_deleted_before: Option<Timestamp>,
    /// Replaced index blobs to delete, besides those that this compaction replaces.
    pub replaced: u64,
    /// Compaction logs to schedule for deletion.
    pub schedule: u64,
    /// Cleanup entries to be carried out.
    pub cleanups: u64,
    /// How long a replaced blob stays.
    pub settle_seconds: u64,
    /// Scratch that is needed, in bytes.
    pub scratch_bytes: u64,
    /// Things that a person should know.
    pub notes: Vec<String>,
    /// Memory of every phase.
    pub memory: MemoryPlan,
}

impl PlanV0 {
    /// Plans for `set`.
    pub(super) fn make(
        set: &IndexSetV0,
        workspace: &Workspace,
        compact: Candidates,
        drop_deleted_before: Option<Timestamp>,
        settle: Duration,
    ) -> Result<Self, RepositoryError> {
        let (mut replaced, mut schedule) = (0, 0);
        if let Some(newest) = set.newest_log() {
            let found = set.replaced(workspace, newest.minus(settle))?;
            replaced = found.blobs;
            let unscheduled = |log: &&u32| !set.logs[**log as usize].scheduled;
            schedule = found.logs.iter().filter(unscheduled).count() as u64;
        }
        let broken = set.logs.iter().filter(|log| !log.whole);
        let notes = broken.filter_map(|log| {
            let (log, output) = (&log.id, log.missing_output.as_ref()?);
            Some(format!(
                "compaction log {log}: its output {output} is gone; its inputs are used and kept"
            ))
        });
        let names = set.active.blobs + set.superseded.blobs;
        let scratch_bytes = compact.chosen.bytes * SCRATCH_FACTOR + names * NAME_SCRATCH_BYTES;
        Ok(Self {
            task: TASK,
            compact,
            drop_deleted_before,
            replaced,
            schedule,
            cleanups: set.due_cleanups(settle).len() as u64,
            settle_seconds: settle.as_secs(),
            scratch_bytes,
            notes: notes.take(NOTES_MAX).collect(),
            memory: workspace.memory,
        })
    }

    /// Returns whether index blobs are merged.
    pub fn compacts(&self) -> bool {
        match self.drop_deleted_before {
            None => self.compact.chosen.blobs > 1,
            Some(_) => self.compact.chosen.blobs > 0,
        }
    }

    /// Returns whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        !self.compacts() && self.replaced + self.schedule + self.cleanups == 0
    }
}

/// Kopia's name of the task.
pub(super) const TASK: &str = Task::IndexCompaction.name();

impl fmt::Display for PlanV0 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Candidates {
            chosen,
            others,
            because,
            ..
        } = &self.compact;
        writeln!(f, "index manager V0: no epochs")?;
        match self.compacts() {
            true => {
                let (blobs, bytes) = (chosen.blobs, chosen.bytes);
                writeln!(
                    f,
                    "{TASK}: {blobs} index blobs, {bytes} bytes, since {because}"
                )?;
            }
            false => writeln!(f, "{TASK}: nothing to merge, since {because}")?,
        }
        if let Some(before) = self.drop_deleted_before {
            writeln!(f, "{TASK}: drop contents that were deleted before {before}")?;
        }
        if others.blobs > 0 {
            writeln!(f, "{TASK}: {} other index blobs stay", others.blobs)?;
        }
        if self.replaced > 0 {
            let seconds = self.settle_seconds;
            let replaced = self.replaced;
            writeln!(
                f,
                "{TASK}: delete {replaced} index blobs, replaced {seconds} s ago or more"
            )?;
        }
        if self.schedule > 0 {
            writeln!(
                f,
                "{TASK}: schedule {} compaction logs for deletion",
                self.schedule
            )?;
        }
        if self.cleanups > 0 {
            writeln!(f, "{TASK}: carry out {} cleanup entries", self.cleanups)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        if self.is_empty() {
            writeln!(f, "nothing is due")?;
        }
        writeln!(f, "scratch: about {} bytes", self.scratch_bytes)?;
        self.memory.fmt(f)
    }
}
