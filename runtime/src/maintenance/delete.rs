//! The one place that deletes blobs.
//!
//! A blob can be deleted only as [`Deletable`], and that is made only by a check that names its
//! reason, just before the deletion. A crash between two deletions leaves blobs that the next run
//! finds again.

use std::sync::Mutex;

use crate::blob::Storage;
use crate::kopia::blob_id::BlobId;
use crate::repository::RepositoryError;

use super::MaintenanceError;

/// Deletions on their way at the same time, as many as Kopia has.
const DELETES_AT_ONCE: usize = 16;

/// A blob that a check in this run found to be of no use to any reader.
#[derive(Debug)]
pub struct Deletable {
    blob: BlobId,
    because: &'static str,
}

impl Deletable {
    /// Made by the tasks of this floor alone, after their check.
    pub(super) fn checked(blob: BlobId, because: &'static str) -> Self {
        Self { blob, because }
    }
}

/// Deletes a blob; that it is gone already is fine.
pub fn delete(storage: &Storage, deletable: Deletable) -> Result<(), MaintenanceError> {
    tracing::debug!(blob = %deletable.blob, because = deletable.because, "delete");
    Ok(storage.delete(&deletable.blob)?)
}

/// Deletes many blobs, [`DELETES_AT_ONCE`] at a time where the store has to be waited for. In which
/// order is not said.
///
/// # Errors
/// The first one; what was not deleted by then is left.
pub fn delete_all(storage: &Storage, deletables: Vec<Deletable>) -> Result<(), MaintenanceError> {
    let threads = if storage.waits() { DELETES_AT_ONCE } else { 1 };
    let queue = Mutex::new(deletables.into_iter());
    let work = || -> Result<(), MaintenanceError> {
        loop {
            let next = queue
                .lock()
                .map_err(|_| RepositoryError::Interrupted)?
                .next();
            match next {
                Some(deletable) => delete(storage, deletable)?,
                None => return Ok(()),
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut outcome = work();
        for worker in workers {
            let ended = worker
                .join()
                .unwrap_or(Err(RepositoryError::Interrupted.into()));
            outcome = outcome.and(ended);
        }
        outcome
    })
}
