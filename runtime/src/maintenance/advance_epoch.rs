//! Task `advance-epoch`: lets writers go on to the next epoch when the current one has become
//! large.
//!
//! All times are storage timestamps, so no client's clock matters. One step at a time, and never
//! past an empty epoch: Kopia would then compact nothing above it, ever. Mirrors
//! `internal/epoch/epoch_advance.go`.

use crate::kopia::blob_id::epoch_marker_name;
use crate::repository::Repository;
use crate::repository::sealing::put_options;

use super::MaintenanceError;

pub use crate::repository::epoch_blobs::EpochBlobs;

/// Body of a marker; readers look at the name only.
const MARKER_BODY: &[u8] = b"epoch-marker";

/// Writes the marker of the epoch after `write_epoch`.
pub fn advance_epoch(repository: &Repository, write_epoch: u64) -> Result<(), MaintenanceError> {
    let marker = epoch_marker_name(write_epoch + 1);
    let options = put_options(repository, &marker);
    repository
        .storage
        .put_bytes(&marker, MARKER_BODY, &options)?;
    Ok(())
}
