//! Task `advance-epoch`: lets writers go on to the next epoch when the current one has become large.
//!
//! All times are storage timestamps, so no client's clock matters. One step at a time, and never past an
//! empty epoch: Kopia would then compact nothing above it, ever. Mirrors `internal/epoch/epoch_advance.go`.

use crate::clock::Timestamp;
use crate::kopia::blob_id::{epoch_marker_name, xn_prefix};
use crate::kopia::format_blob::EpochParameters;
use crate::repository::sealing::put_options;
use crate::repository::{Repository, RepositoryError};

use super::MaintenanceError;

/// Body of a marker; readers look at the name only.
const MARKER_BODY: &[u8] = b"epoch-marker";

/// Uncompacted blobs of an epoch, as far as ages and sizes go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct EpochBlobs {
    /// Number of blobs.
    pub count: u64,
    /// Bytes as stored.
    pub bytes: u64,
    /// Storage time of the oldest.
    pub oldest: Timestamp,
    /// Storage time of the newest.
    pub newest: Timestamp,
}

impl EpochBlobs {
    /// Lists an epoch's uncompacted blobs.
    pub fn list(repository: &Repository, epoch: u64) -> Result<Self, RepositoryError> {
        let mut blobs = Self::default();
        repository.storage.for_each(&xn_prefix(epoch), |blob| {
            if blobs.count == 0 || blob.timestamp < blobs.oldest {
                blobs.oldest = blob.timestamp;
            }
            blobs.newest = blobs.newest.max(blob.timestamp);
            blobs.count += 1;
            blobs.bytes += blob.length;
            Ok::<(), RepositoryError>(())
        })?;
        Ok(blobs)
    }

    /// Returns whether writers should go on to the next epoch, with the reason.
    pub fn should_advance(&self, parameters: &EpochParameters) -> (bool, String) {
        let age = self.newest.since(self.oldest);
        let (count, bytes) = (
            parameters.advance_on_count,
            parameters.advance_on_total_bytes,
        );
        if self.count == 0 {
            (false, "it is empty".to_owned())
        } else if age < parameters.min_epoch_duration {
            (
                false,
                format!(
                    "its blobs span {age:?}, less than {:?}",
                    parameters.min_epoch_duration
                ),
            )
        } else if self.count >= count || self.bytes >= bytes {
            (
                true,
                format!("it has {} blobs of {} bytes", self.count, self.bytes),
            )
        } else {
            (
                false,
                format!("it has fewer than {count} blobs and less than {bytes} bytes"),
            )
        }
    }
}

/// Writes the marker of the epoch after `write_epoch`.
pub fn advance_epoch(repository: &Repository, write_epoch: u64) -> Result<(), MaintenanceError> {
    let marker = epoch_marker_name(write_epoch + 1);
    let options = put_options(repository, &marker);
    repository
        .storage
        .put_bytes(&marker, MARKER_BODY, &options)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn advances_only_when_old_and_large() {
        let parameters = EpochParameters::default();
        let day = Duration::from_secs(24 * 3600);
        let blobs = |count, bytes, age: Duration| EpochBlobs {
            count,
            bytes,
            oldest: Timestamp::from_seconds(1_000_000),
            newest: Timestamp::from_seconds(1_000_000).plus(age),
        };
        let advances = |blobs: EpochBlobs| blobs.should_advance(&parameters).0;
        assert!(advances(blobs(20, 1, day)));
        assert!(advances(blobs(2, 10 << 20, day)));
        assert!(!advances(blobs(19, (10 << 20) - 1, day)));
        assert!(!advances(blobs(
            1000,
            1 << 30,
            day - Duration::from_nanos(1)
        )));
        assert!(
            !advances(EpochBlobs::default()),
            "never past an empty epoch"
        );
    }
}
