//! The tasks of a maintenance run, with the names that they have in Kopia's schedule, and in which
//! order a quick and a full cycle have them.
//!
//! Plain values, no memory. Mirrors `runQuickMaintenance` and `runFullMaintenance` of Kopia's
//! `repo/maintenance/maintenance_run.go`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A task of maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CycleTask {
    /// Marks contents deleted that no snapshot uses, and brings back deleted ones that some uses.
    SnapshotGc,
    /// Copies contents of all short packs into new ones.
    FullRewriteContents,
    /// The same with system contents only.
    QuickRewriteContents,
    /// Lets readers forget contents that have been deleted for long enough.
    FullDropDeletedContent,
    /// Deletes packs that no index entry names.
    FullDeleteBlobs,
    /// The same with packs of system contents only.
    QuickDeleteBlobs,
    /// Extends the object locks of blobs that are in use.
    ExtendBlobRetentionTime,
    /// Merges the index blobs of each settled epoch into one set.
    CompactSingleEpoch,
    /// Lets writers go on to the next epoch.
    AdvanceEpoch,
    /// Joins settled epochs into a range.
    GenerateEpochRangeIndex,
    /// Deletes old markers and watermarks.
    CleanupEpochMarkers,
    /// Deletes index blobs that a compacted set has replaced.
    DeleteSupersededEpochIndexes,
    /// Merges the index blobs of a repository without epochs.
    IndexCompaction,
    /// Deletes old logs.
    CleanupLogs,
}

use CycleTask::{
    AdvanceEpoch, CleanupEpochMarkers, CleanupLogs, CompactSingleEpoch,
    DeleteSupersededEpochIndexes, ExtendBlobRetentionTime, FullDeleteBlobs, FullDropDeletedContent,
    FullRewriteContents, GenerateEpochRangeIndex, IndexCompaction, QuickDeleteBlobs,
    QuickRewriteContents, SnapshotGc,
};

impl CycleTask {
    /// All tasks.
    pub const ALL: [Self; 14] = [
        SnapshotGc,
        FullRewriteContents,
        QuickRewriteContents,
        FullDropDeletedContent,
        FullDeleteBlobs,
        QuickDeleteBlobs,
        ExtendBlobRetentionTime,
        CompactSingleEpoch,
        AdvanceEpoch,
        GenerateEpochRangeIndex,
        CleanupEpochMarkers,
        DeleteSupersededEpochIndexes,
        IndexCompaction,
        CleanupLogs,
    ];

    /// Returns Kopia's name of the task.
    pub fn name(self) -> &'static str {
        match self {
            SnapshotGc => "snapshot-gc",
            FullRewriteContents => "full-rewrite-contents",
            QuickRewriteContents => "quick-rewrite-contents",
            FullDropDeletedContent => "full-drop-deleted-content",
            FullDeleteBlobs => "full-delete-blobs",
            QuickDeleteBlobs => "quick-delete-blobs",
            ExtendBlobRetentionTime => "extend-blob-retention-time",
            CompactSingleEpoch => "compact-single-epoch",
            AdvanceEpoch => "advance-epoch",
            GenerateEpochRangeIndex => "generate-epoch-range-index",
            CleanupEpochMarkers => "cleanup-epoch-markers",
            DeleteSupersededEpochIndexes => "delete-superseded-epoch-indexes",
            IndexCompaction => "index-compaction",
            CleanupLogs => "cleanup-logs",
        }
    }

    /// Returns the task of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|task| task.name() == name)
    }

    /// Returns whether the task deletes blobs, or lets readers forget contents for good: before
    /// such a task it is checked once more that nobody else maintains the repository.
    pub fn deletes(self) -> bool {
        matches!(
            self,
            FullDropDeletedContent
                | FullDeleteBlobs
                | QuickDeleteBlobs
                | CleanupEpochMarkers
                | DeleteSupersededEpochIndexes
                | IndexCompaction
                | CleanupLogs
        )
    }

    /// Returns whether the task copies contents, which takes long, and ends early when it is told
    /// to: with an index of what it has copied.
    pub fn copies(self) -> bool {
        self.rewrites() || self == SnapshotGc
    }

    /// Returns whether the task can keep a budget: its cost is known, at least about, before it
    /// writes anything.
    pub fn keeps_budget(self) -> bool {
        matches!(
            self,
            SnapshotGc
                | FullRewriteContents
                | QuickRewriteContents
                | FullDeleteBlobs
                | QuickDeleteBlobs
                | CompactSingleEpoch
                | GenerateEpochRangeIndex
                | DeleteSupersededEpochIndexes
        )
    }

    /// Returns whether the task copies contents into new packs, so that old ones are left over.
    pub fn rewrites(self) -> bool {
        matches!(self, FullRewriteContents | QuickRewriteContents)
    }
}

impl fmt::Display for CycleTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which tasks a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cycle {
    /// Hourly: what keeps the index small.
    Quick,
    /// Daily: everything.
    Full,
}

impl Cycle {
    /// Returns the tasks of this cycle in Kopia's order. Without epochs the quick cycle deletes
    /// packs by one of two tasks; both are listed, the larger one first.
    pub fn tasks(self, has_epochs: bool) -> &'static [CycleTask] {
        match (self, has_epochs) {
            (Self::Quick, true) => &[CompactSingleEpoch, AdvanceEpoch],
            (Self::Quick, false) => &[
                QuickRewriteContents,
                FullDeleteBlobs,
                QuickDeleteBlobs,
                IndexCompaction,
                CleanupLogs,
            ],
            (Self::Full, true) => &[
                SnapshotGc,
                FullRewriteContents,
                FullDropDeletedContent,
                FullDeleteBlobs,
                ExtendBlobRetentionTime,
                CompactSingleEpoch,
                AdvanceEpoch,
                GenerateEpochRangeIndex,
                CleanupEpochMarkers,
                DeleteSupersededEpochIndexes,
                CleanupLogs,
            ],
            (Self::Full, false) => &[
                SnapshotGc,
                FullRewriteContents,
                FullDropDeletedContent,
                FullDeleteBlobs,
                ExtendBlobRetentionTime,
                CleanupLogs,
            ],
        }
    }
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Quick => "quick",
            Self::Full => "full",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kopias_and_come_back() {
        for task in CycleTask::ALL {
            assert_eq!(CycleTask::parse(task.name()), Some(task));
            let json = serde_json::to_value(task).unwrap();
            assert_eq!(json, task.name());
        }
        assert_eq!(CycleTask::parse("cleanup-epoch-manager"), None);
    }

    #[test]
    fn index_tasks_are_the_last_but_the_logs() {
        for tasks in [Cycle::Full.tasks(true), Cycle::Full.tasks(false)] {
            assert_eq!(tasks.first(), Some(&SnapshotGc));
            assert_eq!(tasks.last(), Some(&CleanupLogs));
        }
        assert!(!Cycle::Quick.tasks(true).iter().any(|task| task.deletes()));
    }
}
