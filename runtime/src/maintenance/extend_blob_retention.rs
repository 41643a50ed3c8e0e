//! Task `extend-blob-retention-time`: moves the object locks of everything that backups need.
//!
//! Where the repository has retention, packs, index blobs and the format blobs are put with a lock;
//! without this task the lock of an old blob would end while backups still need it. A store that
//! has no locks says so, and the task fails: Kopia's does too. Any other failure is counted, the
//! rest is extended, and the task fails at its end. Memory: a page of the listing for each thread's
//! turn. Mirrors Kopia's `repo/maintenance/blob_retain.go`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::blob::{BlobError, LIST_PAGE_MAX, Retention, Storage};
use crate::kopia::blob_id::BlobId;
use crate::repository::{Repository, RepositoryError, Workspace};

use super::MaintenanceError;

/// What Kopia locks, in its order.
const PREFIXES: [&str; 6] = ["n", "x", "kopia.repository", "kopia.blobcfg", "p", "q"];

/// Extensions on their way at the same time, where the store has to be waited for.
const EXTENSIONS_AT_ONCE: usize = 8;

/// What was extended.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtendBlobRetentionStats {
    /// Blobs that have a lock.
    pub to_extend_blob_count: u64,
    /// Blobs whose lock was extended.
    pub extended_blob_count: u64,
    /// The period, as Go writes a duration.
    pub retention_period: String,
}

/// Extends all locks to now plus the repository's period; `None` where it has no retention.
pub fn extend_blob_retention(
    repository: &Repository,
    workspace: &Workspace,
) -> Result<Option<ExtendBlobRetentionStats>, MaintenanceError> {
    let config = &repository.blob_config;
    if !config.retention_on() {
        return Ok(None);
    }
    let retention = Retention {
        mode: config.retention_mode.clone().unwrap_or_default(),
        until: repository.clock.now().plus(config.retention_period),
    };
    let mut stats = ExtendBlobRetentionStats {
        retention_period: go_duration(config.retention_period),
        ..ExtendBlobRetentionStats::default()
    };
    let mut failed = (0, None);
    workspace
        .progress
        .begin("extend object locks", "blobs", None);
    for prefix in PREFIXES {
        let mut after: Option<BlobId> = None;
        loop {
            let page = repository
                .storage
                .list(prefix, after.as_ref(), LIST_PAGE_MAX)?;
            let is_last = page.len() < LIST_PAGE_MAX;
            let blobs: Vec<BlobId> = page.into_iter().map(|blob| blob.id).collect();
            after = blobs.last().cloned();
            stats.to_extend_blob_count += blobs.len() as u64;
            workspace.progress.advance(blobs.len() as u64);
            let done = extend_page(&repository.storage, &retention, blobs, &mut failed)?;
            stats.extended_blob_count += done;
            if is_last {
                break;
            }
        }
    }
    workspace.progress.end();
    match failed {
        (_, None) => Ok(Some(stats)),
        (count, Some(first)) => Err(MaintenanceError::RetentionNotExtended { count, first }),
    }
}

/// Extends the locks of some blobs; returns how many. Counts failures, but for a store that cannot
/// do it at all or that was halted.
fn extend_page(
    storage: &Storage,
    retention: &Retention,
    blobs: Vec<BlobId>,
    failed: &mut (u64, Option<BlobError>),
) -> Result<u64, MaintenanceError> {
    let threads = if storage.waits() {
        EXTENSIONS_AT_ONCE
    } else {
        1
    };
    let (queue, extended) = (Mutex::new(blobs.into_iter()), AtomicU64::new(0));
    let failures = Mutex::new(failed);
    let work = || -> Result<(), RepositoryError> {
        loop {
            let next = queue
                .lock()
                .map_err(|_| RepositoryError::Interrupted)?
                .next();
            let Some(blob) = next else { return Ok(()) };
            match storage.extend_retention(&blob, retention) {
                Ok(()) => {
                    extended.fetch_add(1, Ordering::Relaxed);
                }
                // Deleted since it was listed.
                Err(error) if error.is_not_found() => {}
                Err(error @ (BlobError::Unsupported { .. } | BlobError::Halted)) => {
                    return Err(error.into());
                }
                Err(error) => {
                    tracing::warn!(%blob, %error, "its lock is not extended");
                    let mut failed = failures.lock().map_err(|_| RepositoryError::Interrupted)?;
                    failed.0 += 1;
                    failed.1.get_or_insert(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut outcome = work();
        for worker in workers {
            outcome = outcome.and(worker.join().unwrap_or(Err(RepositoryError::Interrupted)));
        }
        outcome
    })?;
    Ok(extended.into_inner())
}

/// Writes a duration as Go does: `720h0m0s`.
fn go_duration(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = match nanos {
        0 => String::new(),
        nanos => format!(".{nanos:09}").trim_end_matches('0').to_owned(),
    };
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::blob::{LocalOptions, LocalStore};
    use crate::kopia::format_blob::BlobConfig;
    use crate::repository::pack_world::{NOW, Shape, World};

    fn with_retention(world: &mut World, days: u64) {
        world.repository.blob_config = Arc::new(BlobConfig {
            retention_mode: Some("GOVERNANCE".to_owned()),
            retention_period: Duration::from_secs(days * 86_400),
        });
    }

    /// Goal: all blobs that are put with a lock get a later one, and nothing else does.
    #[test]
    fn locks_are_extended() {
        let mut world = World::new(Shape::default());
        let none = extend_blob_retention(&world.repository, &world.workspace).unwrap();
        assert_eq!(none, None);
        with_retention(&mut world, 30);
        world.write(
            &[(None, vec![1]), (Some(b'k'), vec![2])],
            NOW.seconds(),
            false,
        );
        world.put("_log_1", b"");
        let until = |world: &World, name: &str| {
            let retention = world.store.retention(&name.into());
            retention.map(|retention| retention.until)
        };
        let month = NOW.plus(Duration::from_secs(30 * 86_400));
        for kind in ["p", "q", "xn"] {
            let name = world.names(kind).remove(0);
            assert_eq!(
                until(&world, &name),
                Some(month),
                "{name} is put with a lock"
            );
        }
        world.clock.advance(Duration::from_secs(86_400));
        let stats = extend_blob_retention(&world.repository, &world.workspace)
            .unwrap()
            .unwrap();
        assert_eq!(
            (stats.to_extend_blob_count, stats.extended_blob_count),
            (4, 4)
        );
        assert_eq!(stats.retention_period, "720h0m0s");
        let later = month.plus(Duration::from_secs(86_400));
        for kind in ["p", "q", "xn", "kopia.repository"] {
            let name = world.names(kind).remove(0);
            assert_eq!(until(&world, &name), Some(later), "{name}");
        }
        assert_eq!(until(&world, "_log_1"), None);
    }

    /// Goal: a store without locks says so.
    #[test]
    fn a_folder_cannot() {
        let mut world = World::new(Shape::default());
        with_retention(&mut world, 30);
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join(".shards"),
            br#"{"default":[1,3],"maxNonShardedLength":20}"#,
        )
        .unwrap();
        std::fs::write(directory.path().join("kopia.repository.f"), b"").unwrap();
        let store = LocalStore::open(directory.path(), LocalOptions::default()).unwrap();
        world.repository.storage = Storage::new(Arc::new(store));
        let error = extend_blob_retention(&world.repository, &world.workspace).unwrap_err();
        assert_eq!(error.code(), "storage-unsupported");
    }

    #[test]
    fn durations_are_written_as_in_go() {
        for (nanos, text) in [
            (0, "0s"),
            (1_500_000_000, "1.5s"),
            (61_000_000_000, "1m1s"),
            (86_400_000_000_000, "24h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
    }
}
