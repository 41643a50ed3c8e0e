//! Task `cleanup-epoch-markers`: deletes markers of old epochs and watermarks that a later one
//! replaced.
//!
//! Markers up to the write epoch minus two say nothing that a later one does not say. An old
//! watermark is kept for the safety margin, by the storage's clock: a client may not have seen the
//! new one yet. Mirrors `CleanupMarkers` of Kopia's `internal/epoch/epoch_manager.go`.

use crate::clock::Timestamp;
use crate::kopia::blob_id::{BlobId, epoch_marker, watermark_seconds};
use crate::repository::Repository;
use crate::repository::epochs::EpochState;

use super::MaintenanceError;
use super::delete::{Deletable, delete};

/// Returns markers and watermarks that nobody needs any more. `cut` is the newest storage time
/// minus the safety margin; `None` where nothing tells the storage's time, and then nothing is
/// cleaned.
pub fn stale_markers(state: &EpochState, cut: Option<Timestamp>) -> (Vec<BlobId>, Vec<BlobId>) {
    let Some(cut) = cut else {
        return (Vec::new(), Vec::new());
    };
    let stale_marker =
        |name: &str| epoch_marker(name).is_some_and(|epoch| epoch + 1 < state.write_epoch);
    let markers = state.markers.iter().map(|blob| &blob.id);
    let markers = markers
        .filter(|id| stale_marker(id.as_str()))
        .cloned()
        .collect();
    let replaced = |name: &str| {
        watermark_seconds(name).is_some_and(|seconds| Some(seconds) != state.watermark_seconds)
    };
    let watermarks = state.watermarks.iter();
    let watermarks = watermarks
        .filter(|blob| replaced(blob.id.as_str()) && blob.timestamp < cut)
        .map(|blob| blob.id.clone())
        .collect();
    (markers, watermarks)
}

/// Deletes what [`stale_markers`] finds in `state`. Returns how many markers and watermarks.
pub fn cleanup_epoch_markers(
    repository: &Repository,
    state: &EpochState,
    cut: Option<Timestamp>,
) -> Result<(usize, usize), MaintenanceError> {
    let (markers, watermarks) = stale_markers(state, cut);
    let counts = (markers.len(), watermarks.len());
    for blob in markers {
        delete(
            &repository.storage,
            Deletable::checked(blob, "a later epoch marker exists"),
        )?;
    }
    for blob in watermarks {
        delete(
            &repository.storage,
            Deletable::checked(blob, "a later watermark is old enough"),
        )?;
    }
    Ok(counts)
}
