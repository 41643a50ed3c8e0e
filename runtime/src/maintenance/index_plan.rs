//! What index maintenance will do, decided before anything is done: a value that prints itself.
//!
//! Tasks have Kopia's names and run in Kopia's order. Every settled epoch that is not compacted is
//! taken in one run (Kopia takes one a run); an epoch that has a set already is never compacted
//! again, and nothing above an empty epoch: older clients stumble over such gaps. Memory: one row
//! an epoch, at most [`crate::repository::epochs::SETS_MAX`].

use std::fmt;

use crate::clock::Timestamp;
use crate::kopia::blob_id::BlobId;
use crate::memory::MemoryPlan;

use super::owner::Identity;
use super::strategy::EpochRange;

/// Tasks of index maintenance, with the names that they have in Kopia's schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Merges the uncompacted blobs of each settled epoch into a set `xs`.
    CompactSingleEpoch,
    /// Lets writers go on to the next epoch.
    AdvanceEpoch,
    /// Joins settled epochs into a set `xr`.
    GenerateEpochRangeIndex,
    /// Deletes old markers and watermarks.
    CleanupEpochMarkers,
    /// Deletes uncompacted blobs that a compacted set replaced.
    DeleteSupersededEpochIndexes,
    /// Without epochs: merges index blobs, and deletes what earlier compactions replaced.
    IndexCompaction,
}

impl Task {
    /// All tasks with epochs, in their order.
    pub const ALL: [Self; 5] = [
        Self::CompactSingleEpoch,
        Self::AdvanceEpoch,
        Self::GenerateEpochRangeIndex,
        Self::CleanupEpochMarkers,
        Self::DeleteSupersededEpochIndexes,
    ];

    /// Returns Kopia's name of the task.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CompactSingleEpoch => "compact-single-epoch",
            Self::AdvanceEpoch => "advance-epoch",
            Self::GenerateEpochRangeIndex => "generate-epoch-range-index",
            Self::CleanupEpochMarkers => "cleanup-epoch-markers",
            Self::DeleteSupersededEpochIndexes => "delete-superseded-epoch-indexes",
            Self::IndexCompaction => "index-compaction",
        }
    }

    /// Returns the task of a name.
    pub fn parse(name: &str) -> Option<Self> {
        let mut known = Self::ALL.into_iter().chain([Self::IndexCompaction]);
        known.find(|task| task.name() == name)
    }

    /// Returns whether the task is one of repositories with epochs.
    pub fn needs_epochs(self) -> bool {
        self != Self::IndexCompaction
    }
}

/// What the user wants.
#[derive(Clone, Debug)]
pub struct Options {
    /// Tasks to run; none given means all.
    pub tasks: Vec<Task>,
    /// Whether to merge the open epochs' blobs as well, where no compaction may reach.
    pub unsettled: bool,
    /// Who we act as.
    pub owner: Identity,
}

impl Options {
    /// Returns whether a task is wanted.
    pub fn wants(&self, task: Task) -> bool {
        self.tasks.is_empty() || self.tasks.contains(&task)
    }
}

/// Blobs of an epoch that a task works on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct EpochWork {
    /// The epoch.
    pub epoch: u64,
    /// Its uncompacted blobs.
    pub blobs: u64,
    /// Their bytes, estimated from a sample of them.
    pub bytes: u64,
}

/// An open epoch whose blobs are merged into fewer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Rescue {
    /// The epoch and its blobs, those of earlier rescues included.
    pub work: EpochWork,
    /// Complete merged blobs that an earlier rescue left in it.
    pub merged: Vec<BlobId>,
    /// Names of sets with missing blobs: a writer at work or a crashed one. Kept, whatever happens.
    pub incomplete: Vec<String>,
}

/// The next epoch of the writers.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Advance {
    /// Whether it advances.
    pub advance: bool,
    /// Why, or why not.
    pub because: String,
    /// When the storage took the first index blob of the present one; none where it has none.
    pub since: Option<Timestamp>,
}

/// What will be done.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Plan {
    /// Tasks in their order.
    pub tasks: Vec<Task>,
    /// The epoch that writers write to.
    pub write_epoch: u64,
    /// Newest settled epoch.
    pub last_settled: Option<u64>,
    /// First epoch after the range chain.
    pub chain_end: u64,
    /// Epochs to compact.
    pub compact: Vec<EpochWork>,
    /// Whether writers go on to the next epoch.
    pub advance: Option<Advance>,
    /// Ranges to join.
    pub join: Vec<EpochRange>,
    /// Open epochs to rescue.
    pub rescue: Vec<Rescue>,
    /// Epoch markers to delete.
    pub markers: Vec<BlobId>,
    /// Watermarks to delete.
    pub watermarks: Vec<BlobId>,
    /// Epochs whose uncompacted blobs will be deleted, once it is proved that nothing is lost.
    pub superseded: Vec<EpochWork>,
    /// Newest storage time less the safety margin: what replaced blobs must be older than.
    pub cut: Option<Timestamp>,
    /// The strategy that decided the shape.
    pub strategy: String,
    /// Its reason.
    pub strategy_reason: String,
    /// Entries after which a shard ends.
    pub shard_entries: u64,
    /// Scratch that the largest step needs, in bytes.
    pub scratch_bytes: u64,
    /// Things that a person should know: what was left out and why.
    pub notes: Vec<String>,
    /// Memory of every phase.
    pub memory: MemoryPlan,
}

impl Plan {
    /// Returns whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.compact.is_empty()
            && !self.advance.as_ref().is_some_and(|advance| advance.advance)
            && self.join.is_empty()
            && self.rescue.is_empty()
            && self.markers.is_empty()
            && self.watermarks.is_empty()
            && self.superseded.is_empty()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settled = self
            .last_settled
            .map_or("none".to_owned(), |last| format!("up to {last}"));
        let (write, end) = (self.write_epoch, self.chain_end);
        writeln!(
            f,
            "epochs: write epoch {write}, settled {settled}, ranges end before {end}"
        )?;
        let rows = |f: &mut fmt::Formatter<'_>, task: &str, rows: &[EpochWork]| {
            rows.iter().try_for_each(|row| {
                let EpochWork {
                    epoch,
                    blobs,
                    bytes,
                } = row;
                writeln!(
                    f,
                    "{task}: epoch {epoch}, {blobs} index blobs, about {bytes} bytes"
                )
            })
        };
        rows(f, "compact-single-epoch", &self.compact)?;
        for rescue in &self.rescue {
            rows(
                f,
                "rescue of an open epoch",
                std::slice::from_ref(&rescue.work),
            )?;
        }
        if let Some(Advance {
            advance, because, ..
        }) = &self.advance
        {
            let verb = if *advance { "to" } else { "not to" };
            writeln!(
                f,
                "advance-epoch: {verb} epoch {}, since {because}",
                write + 1
            )?;
        }
        for range in &self.join {
            writeln!(f, "generate-epoch-range-index: epochs {range}")?;
        }
        for blob in self.markers.iter().chain(&self.watermarks) {
            writeln!(f, "cleanup-epoch-markers: {blob}")?;
        }
        rows(
            f,
            "delete-superseded-epoch-indexes (after proof)",
            &self.superseded,
        )?;
        writeln!(
            f,
            "splitting by {}: {}",
            self.strategy, self.strategy_reason
        )?;
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

/// What a task has done.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TaskReport {
    /// Kopia's name of the task, or `rescue-open-epoch`.
    pub task: &'static str,
    /// What it did, for people.
    pub what: String,
    /// Index blobs read.
    pub blobs_read: u64,
    /// Entries read.
    pub entries_read: u64,
    /// Blobs written.
    pub written: Vec<BlobId>,
    /// Number of blobs deleted.
    pub deleted: u64,
    /// Milliseconds.
    pub milliseconds: u64,
}

/// What a run has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// The owner that we acted as.
    pub owner: String,
    /// Tasks that did something, in their order.
    pub tasks: Vec<TaskReport>,
    /// When to run again, where a part has to wait for a safety time.
    pub unfinished_until: Option<Timestamp>,
    /// Most scratch that was used, in bytes.
    pub scratch_peak_bytes: u64,
    /// Where the time went: milliseconds of each phase.
    pub phases: Vec<(&'static str, u64)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for task in &self.tasks {
            writeln!(f, "{}: {} ({} ms)", task.task, task.what, task.milliseconds)?;
        }
        if self.tasks.is_empty() {
            writeln!(f, "nothing was due")?;
        }
        if let Some(until) = self.unfinished_until {
            writeln!(f, "not finished: run again after {until}")?;
        }
        Ok(())
    }
}
