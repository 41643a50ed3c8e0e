//! Task `cleanup-epoch-markers`: deletes markers of old epochs and watermarks that a later one
//! replaced.
//!
//! Which those are is decided with all that is due ([`super::index_due`]). No memory cost. Mirrors
//! `CleanupMarkers` of Kopia's `internal/epoch/epoch_manager.go`.

use crate::repository::Repository;

use super::MaintenanceError;
use super::delete::{Deletable, delete};
use super::index_plan::Plan;

/// Deletes what the plan says. Returns how many markers and watermarks.
pub fn cleanup_epoch_markers(
    repository: &Repository,
    plan: &Plan,
) -> Result<(usize, usize), MaintenanceError> {
    let stale = [
        (&plan.markers, "a later epoch marker exists"),
        (&plan.watermarks, "a later watermark is old enough"),
    ];
    for (blobs, because) in stale {
        for blob in blobs {
            delete(
                &repository.storage,
                Deletable::checked(blob.clone(), because),
            )?;
        }
    }
    Ok((plan.markers.len(), plan.watermarks.len()))
}
