//! The storage's clock: the only one by which ages of blobs may be judged.
//!
//! Kopia anchors a maintenance run by writing the schedule blob and reading its timestamp back. The
//! same is done here: the schedule is written as it is, byte for byte, and a clock that is more
//! than 5 minutes off ours stops the run. Mirrors `runExclusive` of Kopia's
//! `repo/maintenance/maintenance_run.go`.

use std::time::Duration;

use crate::blob::PutOptions;
use crate::clock::Timestamp;
use crate::kopia::blob_id::{BlobId, MAINTENANCE};
use crate::kopia::encryption::aes_gcm_seal;

use super::{Repository, RepositoryError};

/// Largest schedule blob, in bytes; with 50 runs of each task it has some 100 KiB.
pub const SCHEDULE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most that the two clocks may differ.
pub const SKEW_MAX: Duration = Duration::from_secs(5 * 60);

/// An empty schedule, for a repository that was never maintained.
const EMPTY_SCHEDULE: &[u8] = b"{\"nextFullMaintenance\":\"0001-01-01T00:00:00Z\",\
\"nextQuickMaintenance\":\"0001-01-01T00:00:00Z\",\"runs\":{}}";

/// Writes the schedule blob anew and returns the storage's time of it.
pub fn storage_time(repository: &Repository) -> Result<Timestamp, RepositoryError> {
    let blob = BlobId::new(MAINTENANCE);
    let bytes = match repository.storage.get_all(&blob, SCHEDULE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => {
            let key = repository.format.schedule_key();
            let mut sealed = Vec::new();
            aes_gcm_seal(
                &key,
                b"maintenance",
                repository.random(),
                EMPTY_SCHEDULE,
                &mut sealed,
            );
            sealed
        }
        Err(error) => return Err(error.into()),
    };
    repository
        .storage
        .put_bytes(&blob, &bytes, &PutOptions::default())?;
    let storage = repository.storage.metadata(&blob)?.timestamp;
    let local = repository.clock.now();
    if storage.since(local) > SKEW_MAX || local.since(storage) > SKEW_MAX {
        return Err(RepositoryError::ClockSkew { storage, local });
    }
    Ok(storage)
}
