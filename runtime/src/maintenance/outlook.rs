//! What is ahead of a repository: which bytes wait for which task before they become free, and what
//! each task of a cycle would cost.
//!
//! What a mark would find to be garbage is in none of it: nobody knows before. Writes nothing.
//! Memory: that of [`Holdings::find`], then one row a task.

use std::fmt;

use bytesize::ByteSize;

use crate::clock::Timestamp;
use crate::repository::{Repository, Workspace};

use super::MaintenanceError;
use super::cycle_plan::{PlannedTask, Verdict};
use super::cycle_task::CycleTask::{
    self, DeleteSupersededEpochIndexes, FullDeleteBlobs, FullDropDeletedContent,
    FullRewriteContents, IndexCompaction,
};
use super::holdings::Holdings;
use super::orphan_packs::BlobCount;
use super::safety::Safety;
use super::task_costs::TaskCost;

/// Bytes that will become free.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Waiting {
    /// What they are.
    pub what: &'static str,
    /// How many of it there are, and the bytes.
    #[serde(flatten)]
    pub amount: BlobCount,
    /// The task that comes next for them.
    pub task: CycleTask,
    /// What that waits for.
    pub because: String,
    /// Until when, where time alone decides.
    pub until: Option<Timestamp>,
}

/// What is ahead.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Outlook {
    /// What the repository holds.
    pub holdings: Holdings,
    /// What waits, in the order of tasks.
    pub waiting: Vec<Waiting>,
    /// What each task that is not off would cost.
    pub costs: Vec<TaskCost>,
}

impl Outlook {
    /// Counts and estimates, for the tasks of a cycle. `replaced`: index blobs that nobody reads
    /// any more.
    ///
    /// # Errors
    /// As [`Holdings::find`].
    pub fn make(
        repository: &Repository,
        workspace: &Workspace,
        safety: &Safety,
        tasks: &[PlannedTask],
        replaced: BlobCount,
    ) -> Result<Self, MaintenanceError> {
        let holdings = Holdings::find(repository, workspace, safety)?;
        let pack_bytes_max = repository.format.max_pack_size;
        let on = tasks.iter().filter(|row| row.verdict != Verdict::Off);
        let cost = |row: &PlannedTask| {
            TaskCost::of(row.task, &holdings, &workspace.memory, pack_bytes_max)
        };
        Ok(Self {
            waiting: waiting(&holdings, tasks, replaced),
            costs: on.map(cost).collect(),
            holdings,
        })
    }
}

/// Returns what waits for the tasks that there are.
fn waiting(found: &Holdings, tasks: &[PlannedTask], replaced: BlobCount) -> Vec<Waiting> {
    let young = "they are too young, or of a session that may be alive";
    let unowned = "short packs are rewritten, others keep it";
    let rows = [
        (
            "deleted contents",
            found.deleted,
            FullDropDeletedContent,
            None,
        ),
        (
            "packs in use is no content of theirs",
            found.unowned(),
            FullRewriteContents,
            Some(unowned),
        ),
        (
            "unused packs and markers",
            found.unused,
            FullDeleteBlobs,
            None,
        ),
        (
            "unused packs and markers",
            found.young,
            FullDeleteBlobs,
            Some(young),
        ),
        (
            "replaced index blobs",
            replaced,
            DeleteSupersededEpochIndexes,
            None,
        ),
        // Without epochs.
        ("replaced index blobs", replaced, IndexCompaction, None),
    ];
    let there = rows.into_iter().filter(|(_, amount, ..)| amount.bytes > 0);
    there
        .filter_map(|(what, amount, task, because)| {
            let planned = tasks.iter().find(|row| row.task == task)?;
            let because = match (because, planned.verdict) {
                (Some(because), _) => because.to_owned(),
                (None, Verdict::Runs) => "the next cycle has it".to_owned(),
                (None, _) => planned.because.clone(),
            };
            Some(Waiting {
                what,
                amount,
                task,
                because,
                until: planned.until,
            })
        })
        .collect()
}

impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (live, packs) = (self.holdings.live, self.holdings.packs);
        write!(
            f,
            "space        {} live contents, {}; {} packs, {}",
            live.count,
            ByteSize(live.bytes),
            packs.count,
            ByteSize(packs.bytes)
        )?;
        let mut label = "waiting";
        for row in &self.waiting {
            let (BlobCount { count, bytes }, task) = (row.amount, row.task);
            let (what, because, bytes) = (row.what, &row.because, ByteSize(bytes));
            write!(
                f,
                "\n{label:<12} {bytes} of {count} {what}: {task}, {because}",
                task = task.name()
            )?;
            if let Some(until) = row.until {
                write!(f, "; not before {until}")?;
            }
            label = "";
        }
        let mut label = "cost, about";
        for cost in &self.costs {
            write!(f, "\n{label:<12} {cost}")?;
            label = "";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what waits is told with what it waits for and until when; what is not there, not at
    /// all.
    #[test]
    fn bytes_wait_for_tasks() {
        let count = |count, bytes| BlobCount { count, bytes };
        let found = Holdings {
            live: count(1_000, 700 << 10),
            deleted: count(10, 100 << 10),
            packs: count(9, 1_000 << 10),
            unused: count(2, 100 << 10),
            ..Holdings::default()
        };
        let planned = |task, verdict, because: &str, until| PlannedTask {
            task,
            verdict,
            because: because.to_owned(),
            until,
        };
        let later = Some(Timestamp::from_seconds(1_788_220_800));
        let tasks = [
            planned(CycleTask::FullRewriteContents, Verdict::Runs, "every", None),
            planned(
                CycleTask::FullDropDeletedContent,
                Verdict::Waits,
                "two cycles",
                None,
            ),
            planned(
                CycleTask::FullDeleteBlobs,
                Verdict::Waits,
                "a rewrite",
                later,
            ),
        ];
        let outlook = Outlook {
            waiting: waiting(&found, &tasks, count(3, 7)),
            costs: Vec::new(),
            holdings: found,
        };
        let told = "\
space        1000 live contents, 700.0 KiB; 9 packs, 1000.0 KiB
waiting      100.0 KiB of 10 deleted contents: full-drop-deleted-content, two cycles
             100.0 KiB of 7 packs in use is no content of theirs: full-rewrite-contents, \
short packs are rewritten, others keep it
             100.0 KiB of 2 unused packs and markers: full-delete-blobs, a rewrite; not before \
2026-09-01T00:00:00Z";
        assert_eq!(outlook.to_string(), told);
    }
}
