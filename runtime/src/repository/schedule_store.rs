//! The schedule blob `kopia.maintenance`: read, written, and recognised again.
//!
//! Kopia's clients replace it whatever is there: the last one wins, and the other's runs are
//! forgotten. So whoever reads it gets a mark of what was there, and whoever writes it gets one of
//! what is there now; as long as the mark is the same, nobody else has written. The mark is the
//! blob's nonce and tag. Where the store knows conditions, it is replaced only as it was read.
//! Memory: the blob, at most [`SCHEDULE_BYTES_MAX`], and as much again decoded. Mirrors Kopia's
//! `repo/maintenance/maintenance_schedule.go`.

use crate::blob::{BlobVersion, PutOptions, Replaced};
use crate::clock::Timestamp;
use crate::kopia::FormatError;
use crate::kopia::blob_id::{BlobId, MAINTENANCE};
use crate::kopia::encryption::{NONCE_BYTES, TAG_BYTES, aes_gcm_open, aes_gcm_seal};
use crate::kopia::schedule::{SCHEDULE_BYTES_MAX, Schedule};

use super::storage_time::SKEW_MAX;
use super::{Repository, RepositoryError};

/// What the schedule is sealed with besides its key.
const AAD: &[u8] = b"maintenance";

/// Largest blob, in bytes.
const BLOB_BYTES_MAX: usize = SCHEDULE_BYTES_MAX + NONCE_BYTES + TAG_BYTES;

/// Tells one version of the schedule blob from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleMark(Option<[u8; NONCE_BYTES + TAG_BYTES]>);

impl ScheduleMark {
    /// The mark of a repository without the blob.
    pub const ABSENT: Self = Self(None);

    fn of(sealed: &[u8]) -> Self {
        let (nonce, tag) = (sealed.first_chunk(), sealed.last_chunk::<TAG_BYTES>());
        let mark = nonce.zip(tag).map(|(nonce, tag): (&[u8; NONCE_BYTES], _)| {
            let mut mark = [0; NONCE_BYTES + TAG_BYTES];
            mark[..NONCE_BYTES].copy_from_slice(nonce);
            mark[NONCE_BYTES..].copy_from_slice(tag);
            mark
        });
        Self(mark)
    }
}

/// A schedule as it was read.
#[derive(Clone, Debug)]
pub struct StoredSchedule {
    /// What it says.
    pub schedule: Schedule,
    /// What the blob was.
    pub mark: ScheduleMark,
    /// The same in the store's word, where it has any.
    pub version: Option<BlobVersion>,
}

/// Reads the schedule; without the blob nothing ever ran.
///
/// # Errors
/// A blob that our key does not open, or other JSON: who cannot read the history must not maintain.
pub fn read_schedule(repository: &Repository) -> Result<(Schedule, ScheduleMark), RepositoryError> {
    let stored = read_stored_schedule(repository)?;
    Ok((stored.schedule, stored.mark))
}

/// The same, to be replaced later.
pub fn read_stored_schedule(repository: &Repository) -> Result<StoredSchedule, RepositoryError> {
    let Some((mut bytes, version)) = read_blob(repository)? else {
        return Ok(StoredSchedule {
            schedule: Schedule::default(),
            mark: ScheduleMark::ABSENT,
            version: Some(BlobVersion::ABSENT),
        });
    };
    let mark = ScheduleMark::of(&bytes);
    aes_gcm_open(&repository.format.schedule_key(), AAD, &mut bytes).map_err(|_| {
        FormatError::Tag {
            what: MAINTENANCE.to_owned(),
        }
    })?;
    Ok(StoredSchedule {
        schedule: Schedule::parse(&bytes)?,
        mark,
        version,
    })
}

/// Reads the mark alone.
pub fn read_mark(repository: &Repository) -> Result<ScheduleMark, RepositoryError> {
    let bytes = read_blob(repository)?;
    Ok(bytes.map_or(ScheduleMark::ABSENT, |(bytes, _)| ScheduleMark::of(&bytes)))
}

/// A schedule as it is to be stored. Its mark is known before it is written: a write that failed
/// may have happened all the same, and is recognised by it.
pub struct SealedSchedule(Vec<u8>);

impl SealedSchedule {
    /// Returns the mark that the blob has when this is written.
    pub fn mark(&self) -> ScheduleMark {
        ScheduleMark::of(&self.0)
    }

    /// Writes it. Kopia locks this blob never, so it has no retention.
    pub fn write(&self, repository: &Repository) -> Result<(), RepositoryError> {
        write_blob(repository, &self.0)
    }

    /// Writes it in the place of `version`; without one, or where the store knows no conditions,
    /// whatever is there.
    pub fn replace(
        &self,
        repository: &Repository,
        version: Option<&BlobVersion>,
    ) -> Result<Replaced, RepositoryError> {
        let Some(version) = version else {
            self.write(repository)?;
            return Ok(Replaced::Blindly);
        };
        let storage = &repository.storage;
        Ok(storage.replace(&BlobId::new(MAINTENANCE), &self.0, version)?)
    }
}

/// Seals a schedule.
///
/// # Errors
/// More than [`SCHEDULE_BYTES_MAX`].
pub fn seal_schedule(
    repository: &Repository,
    schedule: &Schedule,
) -> Result<SealedSchedule, RepositoryError> {
    let json = schedule.to_json();
    if json.len() > SCHEDULE_BYTES_MAX {
        let reason = format!("{} bytes are more than {SCHEDULE_BYTES_MAX}", json.len());
        return Err(FormatError::malformed(MAINTENANCE, reason).into());
    }
    let mut sealed = Vec::with_capacity(json.len() + NONCE_BYTES + TAG_BYTES);
    let key = repository.format.schedule_key();
    aes_gcm_seal(&key, AAD, repository.random(), &json, &mut sealed);
    Ok(SealedSchedule(sealed))
}

/// Seals and writes the schedule, and returns its new mark.
pub fn write_schedule(
    repository: &Repository,
    schedule: &Schedule,
) -> Result<ScheduleMark, RepositoryError> {
    let sealed = seal_schedule(repository, schedule)?;
    sealed.write(repository)?;
    Ok(sealed.mark())
}

/// Returns the storage's time of the blob: the anchor of a maintenance run.
///
/// # Errors
/// [`RepositoryError::ClockSkew`] where it is more than [`SKEW_MAX`] from our own time.
pub fn schedule_time(repository: &Repository) -> Result<Timestamp, RepositoryError> {
    let storage = repository
        .storage
        .metadata(&BlobId::new(MAINTENANCE))?
        .timestamp;
    let local = repository.clock.now();
    if storage.since(local) > SKEW_MAX || local.since(storage) > SKEW_MAX {
        return Err(RepositoryError::ClockSkew { storage, local });
    }
    Ok(storage)
}

/// The blob as it is stored, with its version.
type StoredBlob = (Vec<u8>, Option<BlobVersion>);

/// Reads the blob as it is stored.
pub(super) fn read_blob(repository: &Repository) -> Result<Option<StoredBlob>, RepositoryError> {
    match repository
        .storage
        .get_version(&BlobId::new(MAINTENANCE), BLOB_BYTES_MAX)
    {
        Ok(stored) => Ok(Some(stored)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes the blob as it is to be stored.
pub(super) fn write_blob(repository: &Repository, sealed: &[u8]) -> Result<(), RepositoryError> {
    let options = PutOptions::default();
    repository
        .storage
        .put_bytes(&BlobId::new(MAINTENANCE), sealed, &options)?;
    Ok(())
}
