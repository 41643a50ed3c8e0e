//! The deletion watermark: tombstones of its second and before are as if absent for every reader.
//!
//! It only moves forward, and only to a time that two recorded GC runs justify; who calls this has
//! to know that time. Mirrors `AdvanceDeletionWatermark` of Kopia's
//! `internal/epoch/epoch_manager.go`.

use crate::kopia::blob_id::watermark_name;
use crate::repository::Repository;
use crate::repository::sealing::put_options;

use super::MaintenanceError;

/// Body of a watermark; readers look at the name only.
const WATERMARK_BODY: &[u8] = b"deletion-watermark";

/// Moves the watermark from `current` to `seconds` since 1970. Returns whether it moved; the same
/// second is not a move.
pub fn advance_deletion_watermark(
    repository: &Repository,
    current: Option<i64>,
    seconds: i64,
) -> Result<bool, MaintenanceError> {
    match current {
        Some(current) if seconds == current => return Ok(false),
        Some(current) if seconds < current => {
            return Err(MaintenanceError::WatermarkBackwards {
                current,
                wanted: seconds,
            });
        }
        _ => {}
    }
    let watermark = watermark_name(seconds);
    let options = put_options(repository, &watermark);
    repository
        .storage
        .put_bytes(&watermark, WATERMARK_BODY, &options)?;
    Ok(true)
}
