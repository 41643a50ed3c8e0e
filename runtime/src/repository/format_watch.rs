//! Looks at the format blob again while a task runs: may we still use the repository?
//!
//! Kopia's clients read it again every 15 minutes at the latest; that is what makes the upgrade
//! lock safe. Any other change of the format (new parameters, a new password) ends the task too:
//! the next run opens the repository afresh. Memory: the format blob, about 1 KiB. Mirrors Kopia's
//! `repo/format/format_manager.go`.

use std::sync::Arc;
use std::time::Duration;

use super::open::{OpenOptions, read_format_bytes};
use super::{Repository, RepositoryError};

/// Longest time between two looks.
pub const FORMAT_LOOK_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// What the format blob was when the run began.
#[derive(Debug)]
pub struct FormatWatch {
    bytes: Vec<u8>,
}

impl FormatWatch {
    /// Reads the format blob.
    ///
    /// # Errors
    /// Those of [`FormatWatch::look`].
    pub fn start(repository: &Repository) -> Result<Self, RepositoryError> {
        let bytes = read_format_bytes(&repository.storage)?;
        let watch = Self { bytes };
        watch.check(repository, &watch.bytes)?;
        Ok(watch)
    }

    /// Reads it again.
    ///
    /// # Errors
    /// [`RepositoryError::UpgradeLock`] where somebody upgrades the repository,
    /// [`RepositoryError::FormatChanged`] where it is not what it was.
    pub fn look(&self, repository: &Repository) -> Result<(), RepositoryError> {
        self.check(repository, &read_format_bytes(&repository.storage)?)
    }

    fn check(&self, repository: &Repository, bytes: &[u8]) -> Result<(), RepositoryError> {
        let same = bytes == self.bytes;
        let options = OpenOptions {
            password: Vec::new(),
            unlock_memory_bytes: 0,
            clock: Arc::clone(&repository.clock),
            randomness: Arc::clone(&repository.randomness),
        };
        // An announced lock takes effect without a change: so it is opened again in any case.
        let storage = repository.storage.clone();
        let key = &repository.format.format_encryption_key;
        match Repository::open_bytes(storage, bytes, key, &options) {
            Err(error @ (RepositoryError::UpgradeLock { .. } | RepositoryError::Blob(_))) => {
                Err(error)
            }
            Ok(_) if same => Ok(()),
            _ => Err(RepositoryError::FormatChanged),
        }
    }
}
