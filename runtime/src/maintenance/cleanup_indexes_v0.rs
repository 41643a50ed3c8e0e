//! The end of Kopia's `index-compaction` without epochs: deletes what compactions have replaced.
//!
//! In three steps, each with its wait by the storage's clock: index blobs, when their log is old
//! enough; then an entry that names those logs; then the logs of entries that are old enough, and
//! the entries. An index blob goes only when what was made of it is there
//! ([`crate::repository::index_set_v0::Replaced`]), a log only when it hides nothing any more. A
//! crash anywhere leaves work that the next run finds. Memory: that of the set. Mirrors
//! `deleteOldBlobs` and `cleanup` of Kopia's `index_blob_manager_v0.go`.

use std::collections::HashSet;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::kopia::blob_id::BlobId;
use crate::repository::index_set_v0::{CleanupRow, IndexSetV0, Replaced};
use crate::repository::index_writer_v0::write_cleanup_entry;
use crate::repository::{Repository, Workspace};

use super::MaintenanceError;
use super::delete::{Deletable, delete};

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CleanupStats {
    /// Index blobs.
    pub index_blobs: u64,
    /// Compaction logs that an entry names now.
    pub scheduled: u64,
    /// Compaction logs.
    pub logs: u64,
    /// Cleanup entries.
    pub entries: u64,
    /// Compaction logs that are old enough and stay, since readers use some of their inputs.
    pub kept_logs: u64,
}

impl CleanupStats {
    /// Returns how many blobs were deleted.
    pub fn deleted(&self) -> u64 {
        self.index_blobs + self.logs + self.entries
    }
}

/// Deletes what is old enough. `compacted` is the time of the log that this run has written; a run
/// without one finishes only what an earlier run has begun.
pub fn cleanup_indexes_v0(
    repository: &Repository,
    workspace: &Workspace,
    compacted: Option<Timestamp>,
    settle: Duration,
) -> Result<CleanupStats, MaintenanceError> {
    let mut set = IndexSetV0::load(repository, workspace)?;
    set.check_nothing_lost()?;
    let mut stats = CleanupStats::default();
    let mut free = HashSet::new();
    if let Some(newest) = set.newest_log().max(compacted) {
        let replaced = set.replaced(workspace, newest.minus(settle))?;
        stats.kept_logs = replaced.kept_logs;
        delete_replaced(repository, workspace, &replaced, &mut stats)?;
        let row = |log: &u32| set.logs.get(*log as usize);
        let unscheduled = replaced
            .logs
            .iter()
            .filter_map(row)
            .any(|log| !log.scheduled);
        if unscheduled || (compacted.is_some() && !replaced.logs.is_empty()) {
            let logs = replaced.logs.iter().filter_map(row);
            let logs: Vec<BlobId> = logs.map(|log| log.id.clone()).collect();
            stats.scheduled = logs.len() as u64;
            let (id, timestamp) = write_cleanup_entry(repository, logs, newest)?;
            set.cleanups.push(CleanupRow {
                id,
                timestamp,
                schedule_time: newest,
                logs: replaced.logs.clone(),
                gone: 0,
            });
        }
        free.extend(replaced.logs.iter().copied());
        carry_out(repository, &set, &replaced.logs, &free, settle, &mut stats)?;
    } else {
        carry_out(repository, &set, &[], &free, settle, &mut stats)?;
    }
    Ok(stats)
}

/// Deletes index blobs, each before those that were made of it.
fn delete_replaced(
    repository: &Repository,
    workspace: &Workspace,
    replaced: &Replaced,
    stats: &mut CleanupStats,
) -> Result<(), MaintenanceError> {
    if replaced.blobs == 0 {
        return Ok(());
    }
    let progress = &workspace.progress;
    progress.begin("delete replaced index blobs", "blobs", Some(replaced.blobs));
    let mut names = replaced.names()?;
    while let Some(blob) = names.next_name()? {
        let because = "a compaction that is old enough has replaced it, and its result is there";
        delete(&repository.storage, Deletable::checked(blob, because))?;
        stats.index_blobs += 1;
        progress.advance(1);
    }
    progress.end();
    Ok(())
}

/// Deletes the logs of entries that are old enough, in the order of their compactions, then the
/// entries. `free` are the logs that hide nothing any more; an entry with another one stays.
fn carry_out(
    repository: &Repository,
    set: &IndexSetV0,
    in_order: &[u32],
    free: &HashSet<u32>,
    settle: Duration,
    stats: &mut CleanupStats,
) -> Result<(), MaintenanceError> {
    let mut due = set.due_cleanups(settle);
    due.retain(|entry| entry.logs.iter().all(|log| free.contains(log)));
    let named: HashSet<u32> = due
        .iter()
        .flat_map(|entry| entry.logs.iter().copied())
        .collect();
    for log in in_order.iter().filter(|log| named.contains(log)) {
        if let Some(log) = set.logs.get(*log as usize) {
            let because = "a cleanup entry that is old enough names it, and its inputs are gone";
            delete(
                &repository.storage,
                Deletable::checked(log.id.clone(), because),
            )?;
            stats.logs += 1;
        }
    }
    for entry in due {
        let because = "the compaction logs that it names are gone";
        delete(
            &repository.storage,
            Deletable::checked(entry.id.clone(), because),
        )?;
        stats.entries += 1;
    }
    Ok(())
}
