//! The uncompacted blobs of one epoch, as far as ages and sizes go; and whether writers should go
//! on.
//!
//! All times are storage timestamps, so no client's clock matters. Memory: four numbers.
//! Mirrors Kopia's `internal/epoch/epoch_advance.go`.

use std::time::Duration;

use bytesize::ByteSize;

use crate::blob::Storage;
use crate::clock::Timestamp;
use crate::kopia::format_blob::EpochParameters;

use super::RepositoryError;
use super::index_names::UncompactedNames;

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
    /// Returns what the listing of `names` has told of an epoch's uncompacted blobs, else asks for
    /// each of them; what is gone since is passed over.
    ///
    /// In the order in which they lie on the disk, which is several times faster than a sorted
    /// listing where the kernel knows nothing of them yet.
    pub fn look_up(
        storage: &Storage,
        names: &UncompactedNames,
        epoch: u64,
    ) -> Result<Self, RepositoryError> {
        if let Some(stored) = names.epochs.get(&epoch).and_then(|row| row.stored) {
            return Ok(stored);
        }
        let mut blobs = Self::default();
        let mut names = names.of_epoch(epoch)?;
        while let Some(name) = names.next_name()? {
            match storage.metadata(&name) {
                Ok(blob) => blobs.add(blob.length, blob.timestamp),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(blobs)
    }

    /// Takes in one more blob of `length` bytes that the storage took at `timestamp`.
    pub fn add(&mut self, length: u64, timestamp: Timestamp) {
        if self.count == 0 || timestamp < self.oldest {
            self.oldest = timestamp;
        }
        if self.count == 0 || timestamp > self.newest {
            self.newest = timestamp;
        }
        self.count += 1;
        self.bytes = self.bytes.saturating_add(length);
    }

    /// Returns whether writers should go on to the next epoch, with the reason.
    pub fn should_advance(&self, parameters: &EpochParameters) -> (bool, String) {
        let age = self.newest.since(self.oldest);
        let (count, bytes) = (
            parameters.advance_on_count,
            parameters.advance_on_total_bytes,
        );
        let size = ByteSize(bytes);
        if self.count == 0 {
            (false, "it is empty".to_owned())
        } else if age < parameters.min_epoch_duration {
            let (age, least) = (in_words(age), in_words(parameters.min_epoch_duration));
            (
                false,
                format!("its index blobs span {age}, less than {least}"),
            )
        } else if self.count >= count || self.bytes >= bytes {
            let own = ByteSize(self.bytes);
            (true, format!("it has {} index blobs, {own}", self.count))
        } else {
            let text = format!("it has fewer than {count} index blobs and less than {size}");
            (false, text)
        }
    }
}

/// Writes a duration in its largest whole unit, rounded down: `3 h`, `2 days`.
pub fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    // Two days and more in days: `25 h` tells more than `1 days`.
    for (unit, length, least) in [
        ("days", 86_400, 172_800),
        ("h", 3_600, 3_600),
        ("min", 60, 60),
    ] {
        if seconds >= least {
            return format!("{} {unit}", seconds / length);
        }
    }
    format!("{seconds} s")
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn durations_are_told_in_whole_units() {
        let words = |seconds| in_words(Duration::from_secs(seconds));
        assert_eq!(words(59), "59 s");
        assert_eq!(words(600), "10 min");
        assert_eq!(words(25 * 3600), "25 h");
        assert_eq!(words(50 * 3600), "2 days");
    }
}
