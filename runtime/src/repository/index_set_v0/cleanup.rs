//! When what a compaction has replaced may go: Kopia's two waits, by the storage's clock.
//!
//! Index blobs go when their log is an hour older than the newest log; then a cleanup entry is
//! written, and the logs that it names go when it is an hour older than the newest entry. So a
//! client with an old listing finds what it needs for an hour at least. Mirrors `deleteOldBlobs`
//! and `cleanup` of Kopia's `index_blob_manager_v0.go`.

use std::time::Duration;

use crate::clock::Timestamp;

use super::{CleanupRow, IndexSetV0};

/// Kopia's time after which every client is held to see what was written.
pub const SETTLE_TIME: Duration = Duration::from_secs(3600);

impl IndexSetV0 {
    /// Returns the storage time of the newest compaction log: the clock of the first wait.
    pub fn newest_log(&self) -> Option<Timestamp> {
        self.logs.iter().map(|log| log.timestamp).max()
    }

    /// Returns the cleanup entries that are old enough, the oldest first.
    pub fn due_cleanups(&self, settle: Duration) -> Vec<&CleanupRow> {
        let newest = self.cleanups.iter().map(|entry| entry.timestamp).max();
        let is_due = |entry: &&CleanupRow| Some(entry.schedule_time.plus(settle)) <= newest;
        let mut due: Vec<&CleanupRow> = self.cleanups.iter().filter(is_due).collect();
        due.sort_by_key(|entry| (entry.schedule_time, entry.timestamp));
        due
    }
}
