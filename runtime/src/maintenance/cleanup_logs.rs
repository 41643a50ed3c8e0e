//! Task `cleanup-logs`: deletes diagnostic logs beyond a total size, a number, or an age.
//!
//! Every client leaves some; the newest are kept. The listing is sorted by time on the way, newest
//! first; the first log that exceeds a limit, and all behind it, are deleted. Memory: one sort
//! buffer, later one merge, however many logs there are. Invariant: only blobs that begin with
//! `_log_` are looked at; one with a longer name than any client writes is left alone. Mirrors
//! Kopia's `repo/maintenance/cleanup_logs.go`.

use std::time::Duration;

use crate::blob::BlobMetadata;
use crate::clock::Timestamp;
use crate::kopia::blob_id::BlobId;
use crate::kopia::maintenance_params::LogRetention;
use crate::repository::{Repository, Workspace};
use crate::spill::{Runs, SortBuffer, SortShape, Sorter, SpillError};

use super::MaintenanceError;
use super::delete::{Deletable, delete};

/// What the names of logs begin with; clients up to 0.23 take every blob under `_` for one.
const PREFIX: &str = "_log_";

/// Longest name of a log; Kopia's have some 90 bytes.
const NAME_BYTES_MAX: usize = 160;

const TIME_BYTES: usize = 8;

/// Time, newest first; name, filled with zeros; length.
const RECORD_BYTES: usize = TIME_BYTES + NAME_BYTES_MAX + 8;

/// What was found and done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogsCleaned {
    /// Logs that stay.
    pub retained: u64,
    /// Their bytes.
    pub retained_bytes: u64,
    /// Logs that were deleted.
    pub deleted: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
}

/// Deletes what exceeds `retention`; a limit of zero is none.
pub fn cleanup_logs(
    repository: &Repository,
    workspace: &Workspace,
    retention: &LogRetention,
) -> Result<LogsCleaned, MaintenanceError> {
    let logs = newest_first(repository, workspace)?;
    let now = repository.clock.now();
    let (mut cleaned, mut exceeded) = (LogsCleaned::default(), false);
    let mut merge = logs.merge()?;
    workspace
        .progress
        .begin("clean up logs", "logs", Some(logs.records()));
    while let Some(record) = merge.next()? {
        let log = Log::read(record);
        exceeded = exceeded || log.exceeds(retention, &cleaned, now);
        if exceeded {
            let because = "newer logs take what is kept of them";
            delete(&repository.storage, Deletable::checked(log.id, because))?;
            cleaned.deleted += 1;
            cleaned.deleted_bytes += log.length;
        } else {
            cleaned.retained += 1;
            cleaned.retained_bytes += log.length;
        }
        workspace.progress.advance(1);
    }
    workspace.progress.end();
    Ok(cleaned)
}

/// Lists all logs and sorts them by time, newest first.
fn newest_first(repository: &Repository, workspace: &Workspace) -> Result<Runs, MaintenanceError> {
    let shape = SortShape {
        record_bytes: RECORD_BYTES,
        group: None,
    };
    let memory = workspace.sort_memory(1);
    let sorter = Sorter::new(workspace.scratch.clone(), shape, memory);
    let mut buffer = sorter.buffer();
    repository.storage.for_each(PREFIX, |blob| {
        if blob.id.as_str().len() > NAME_BYTES_MAX {
            tracing::warn!(blob = %blob.id, "not a name that a client writes: left alone");
            return Ok::<(), MaintenanceError>(());
        }
        Ok(push(&mut buffer, &blob)?)
    })?;
    buffer.finish()?;
    Ok(sorter.finish()?)
}

fn push(buffer: &mut SortBuffer, blob: &BlobMetadata) -> Result<(), SpillError> {
    buffer.push_with(|record| {
        let name = blob.id.as_str().as_bytes();
        record[..TIME_BYTES].copy_from_slice(&descending(blob.timestamp).to_be_bytes());
        record[TIME_BYTES..TIME_BYTES + name.len()].copy_from_slice(name);
        record[TIME_BYTES + NAME_BYTES_MAX..].copy_from_slice(&blob.length.to_be_bytes());
    })
}

/// Returns a number that is smaller for later times.
fn descending(time: Timestamp) -> u64 {
    !((time.nanos() as u64) ^ (1 << 63))
}

struct Log {
    id: BlobId,
    time: Timestamp,
    length: u64,
}

impl Log {
    fn read(record: &[u8]) -> Self {
        let word = |at: usize| {
            let bytes = record[at..].first_chunk().expect("a record has its width");
            u64::from_be_bytes(*bytes)
        };
        let name = &record[TIME_BYTES..TIME_BYTES + NAME_BYTES_MAX];
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Self {
            id: BlobId::new(String::from_utf8_lossy(name).into_owned()),
            time: Timestamp::from_nanos((!word(0) ^ (1 << 63)) as i64),
            length: word(TIME_BYTES + NAME_BYTES_MAX),
        }
    }

    /// Tells whether this log is one too many behind those that stay.
    fn exceeds(&self, retention: &LogRetention, kept: &LogsCleaned, now: Timestamp) -> bool {
        let limit = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
        let size = limit(retention.max_total_size);
        let age = limit(retention.max_age_nanos).map(Duration::from_nanos);
        size.is_some_and(|most| kept.retained_bytes.saturating_add(self.length) > most)
            || limit(retention.max_count).is_some_and(|most| kept.retained >= most)
            || age.is_some_and(|most| now.since(self.time) > most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    const NOW: Timestamp = Timestamp::from_seconds(1_788_220_800);

    fn limits(size: i64, count: i64, days: i64) -> LogRetention {
        LogRetention {
            max_total_size: size,
            max_count: count,
            max_age_nanos: days * DAY.as_nanos() as i64,
            ..LogRetention::default()
        }
    }

    /// Returns how many of logs with these days and bytes, newest first, stay.
    fn stay(retention: &LogRetention, logs: &[(u32, u64)]) -> u64 {
        let mut kept = LogsCleaned::default();
        for (days, length) in logs {
            let log = Log {
                id: "_log_x".into(),
                time: NOW.minus(DAY * *days),
                length: *length,
            };
            if log.exceeds(retention, &kept, NOW) {
                break;
            }
            kept.retained += 1;
            kept.retained_bytes += length;
        }
        kept.retained
    }

    #[test]
    fn the_first_limit_that_is_exceeded_ends_what_stays() {
        let logs = [(0, 100), (1, 100), (2, 100), (30, 100), (31, 1)];
        assert_eq!(stay(&limits(0, 0, 0), &logs), 5, "no limits");
        assert_eq!(stay(&limits(300, 0, 0), &logs), 3);
        assert_eq!(stay(&limits(299, 0, 0), &logs), 2);
        assert_eq!(stay(&limits(0, 4, 0), &logs), 4);
        assert_eq!(
            stay(&limits(0, 0, 30), &logs),
            4,
            "exactly as old as the limit stays"
        );
        assert_eq!(stay(&limits(1_000, 2, 1), &logs), 2);
        // A log of the future, by a storage whose clock is ahead, has no age.
        assert_eq!(stay(&limits(0, 0, 1), &[(0, 1)]), 1);
    }

    #[test]
    fn records_sort_newest_first_and_come_back() {
        let times = [
            NOW,
            NOW.minus(DAY),
            Timestamp::from_nanos(-5),
            Timestamp::default(),
        ];
        let mut numbers: Vec<u64> = times.iter().map(|time| descending(*time)).collect();
        numbers.sort_unstable();
        let back = |number: &u64| Timestamp::from_nanos((!number ^ (1 << 63)) as i64);
        let sorted: Vec<Timestamp> = numbers.iter().map(back).collect();
        assert_eq!(sorted, [times[0], times[1], times[3], times[2]]);
    }
}
