//! Opens a repository: format blob, password, features, upgrade lock, retention.
//!
//! Nothing is written. A repository that was written by a newer Kopia, requires a feature that we
//! do not know, or is being upgraded is refused here, before anything else is read. Memory: the
//! table of the key derivation, freed before anything else is allocated, and a format blob of at
//! most 1 MiB. Mirrors Kopia's `repo/open.go`.

use std::sync::Arc;

use crate::blob::Storage;
use crate::clock::{SharedClock, SharedRandomness};
use crate::kopia::FormatError;
use crate::kopia::blob_id::{BLOB_CONFIG, BlobId, REPOSITORY};
use crate::kopia::format_blob::{BlobConfig, FormatBlob, RepositoryFormat};
use crate::kopia::sealed_blob::BlobCrypto;

use super::RepositoryError;
use super::uncompacted_writer::LastWriteEpoch;

/// Largest `kopia.repository` and `kopia.blobcfg`, in bytes; real ones have about 1 KiB.
const FORMAT_BLOB_BYTES_MAX: usize = 1024 * 1024;

/// What opening needs besides the store.
pub struct OpenOptions {
    /// The repository's password.
    pub password: Vec<u8>,
    /// Memory for the key derivation, in bytes.
    pub unlock_memory_bytes: usize,
    /// The client's clock.
    pub clock: SharedClock,
    /// Where nonces and set names come from.
    pub randomness: SharedRandomness,
}

/// An opened repository. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    /// The store.
    pub storage: Storage,
    /// Parameters and keys.
    pub format: Arc<RepositoryFormat>,
    /// Retention on put.
    pub blob_config: Arc<BlobConfig>,
    /// Opens and seals index, session and log blobs.
    pub crypto: BlobCrypto,
    /// The client's clock.
    pub clock: SharedClock,
    /// Where nonces and set names come from.
    pub randomness: SharedRandomness,
    /// The epoch that writers write to, as one of us saw it last.
    pub last_write_epoch: LastWriteEpoch,
}

impl Repository {
    /// Opens the repository in `storage`.
    pub fn open(storage: Storage, options: &OpenOptions) -> Result<Self, RepositoryError> {
        Self::open_while(storage, options, |_| ()).map(|(repository, ())| repository)
    }

    /// Opens the repository and calls `meanwhile` beside the derivation of the password key, which
    /// is a tenth of a second that needs one core and no store.
    ///
    /// Memory: what `meanwhile` holds comes on top of the key table.
    pub fn open_while<R: Send>(
        storage: Storage,
        options: &OpenOptions,
        meanwhile: impl FnOnce(&Storage) -> R + Send,
    ) -> Result<(Self, R), RepositoryError> {
        let format_blob = read_format_blob(&storage)?;
        let (format, done) = std::thread::scope(|scope| {
            let other = scope.spawn(|| meanwhile(&storage));
            let format = format_blob.unlock(&options.password, options.unlock_memory_bytes);
            (format, other.join())
        });
        let format = format.map_err(corrupt_format)?;
        let done = done.map_err(|_| RepositoryError::Interrupted)?;
        let repository = Self::open_format(storage, &format_blob, format, options)?;
        Ok((repository, done))
    }

    /// Opens it with the password key of an earlier [`Repository::open`] (in its format); the
    /// password is not looked at.
    pub fn open_with_key(
        storage: Storage,
        format_encryption_key: &[u8; 32],
        options: &OpenOptions,
    ) -> Result<Self, RepositoryError> {
        let bytes = read_format_bytes(&storage)?;
        Self::open_bytes(storage, &bytes, format_encryption_key, options)
    }

    /// The same with a format blob that was just read.
    pub(super) fn open_bytes(
        storage: Storage,
        format_blob: &[u8],
        format_encryption_key: &[u8; 32],
        options: &OpenOptions,
    ) -> Result<Self, RepositoryError> {
        let format_blob = FormatBlob::parse(format_blob).map_err(corrupt_format)?;
        let format = format_blob
            .unlock_with_key(format_encryption_key)
            .map_err(corrupt_format)?;
        Self::open_format(storage, &format_blob, format, options)
    }

    fn open_format(
        storage: Storage,
        format_blob: &FormatBlob,
        format: RepositoryFormat,
        options: &OpenOptions,
    ) -> Result<Self, RepositoryError> {
        check_upgrade_lock(&format, &options.clock)?;
        let blob_config = match storage.get_all(&BlobId::new(BLOB_CONFIG), FORMAT_BLOB_BYTES_MAX) {
            Ok(bytes) => BlobConfig::parse(&bytes, format_blob, &format.format_encryption_key)
                .map_err(corrupt_format)?,
            Err(error) if error.is_not_found() => BlobConfig::default(),
            Err(error) => return Err(error.into()),
        };
        let crypto = format.blob_crypto()?;
        Ok(Self {
            storage,
            format: Arc::new(format),
            blob_config: Arc::new(blob_config),
            crypto,
            clock: Arc::clone(&options.clock),
            randomness: Arc::clone(&options.randomness),
            last_write_epoch: LastWriteEpoch::default(),
        })
    }

    /// Returns the bytes of a content key in this repository's index: prefix and hash.
    pub fn key_bytes(&self) -> usize {
        self.crypto.hash.digest_bytes() + 1
    }

    /// Returns `N` unpredictable bytes.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.randomness.fill(&mut bytes);
        bytes
    }
}

/// Gives damage of the format itself a code of its own: nothing else of the repository can be read.
fn corrupt_format(error: FormatError) -> RepositoryError {
    match error {
        FormatError::Malformed { .. } | FormatError::Tag { .. } => RepositoryError::CorruptFormat {
            reason: error.to_string(),
        },
        other => other.into(),
    }
}

fn read_format_blob(storage: &Storage) -> Result<FormatBlob, RepositoryError> {
    FormatBlob::parse(&read_format_bytes(storage)?).map_err(corrupt_format)
}

/// Reads `kopia.repository` as it is stored.
pub(super) fn read_format_bytes(storage: &Storage) -> Result<Vec<u8>, RepositoryError> {
    match storage.get_all(&BlobId::new(REPOSITORY), FORMAT_BLOB_BYTES_MAX) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.is_not_found() => Err(RepositoryError::NoRepository {
            location: storage.location(),
        }),
        Err(error) => Err(error.into()),
    }
}

/// Refuses a repository that somebody upgrades; who waits for the lock is the caller's user.
fn check_upgrade_lock(
    format: &RepositoryFormat,
    clock: &SharedClock,
) -> Result<(), RepositoryError> {
    match &format.upgrade_lock {
        Some(lock) if lock.locked(clock.now()) => Err(RepositoryError::UpgradeLock {
            owner: lock.owner_id.clone(),
            since: lock.creation_time,
        }),
        _ => Ok(()),
    }
}
