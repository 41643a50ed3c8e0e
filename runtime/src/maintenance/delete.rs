//! The one place that deletes blobs.
//!
//! A blob can be deleted only as [`Deletable`], and that is made only by a check that names its
//! reason, just before the deletion. A crash between two deletions leaves blobs that the next run
//! finds again.

use crate::blob::Storage;
use crate::kopia::blob_id::BlobId;

use super::MaintenanceError;

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
