//! Writes new index entries while other clients are at work: the protocol for `xn` blobs.
//!
//! The race: a writer that takes long may put blobs into an epoch that others have settled and
//! compacted meanwhile, and nobody would ever read them. So the write epoch is read no longer ago
//! than the refresh frequency allows when a blob is put, by whomever of us, and once more after the
//! last: if the epoch is settled by then, the blobs are taken back and the write has failed.
//! Mirrors `WriteIndex` of Kopia's `epoch_manager.go`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::kopia::blob_id::{BlobId, session_id, xn_prefix};

use super::epochs::{EpochState, UNSETTLED_EPOCHS};
use super::index_writer::FinishedIndex;
use super::sealing::put_index;
use super::{Repository, RepositoryError, Workspace};

/// The write epoch as it was seen last, shared by all copies of an opened repository.
#[derive(Clone, Debug, Default)]
pub struct LastWriteEpoch(Arc<Mutex<Option<Seen>>>);

/// An epoch, and a moment before it was looked at.
#[derive(Clone, Copy, Debug)]
struct Seen {
    epoch: u64,
    at: Timestamp,
}

impl LastWriteEpoch {
    /// Notes what was seen by a look that began at this moment.
    pub fn note(&self, epoch: u64, at: Timestamp) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Seen { epoch, at });
    }

    /// Returns the last look, if it is younger than `age` now.
    fn younger_than(&self, age: Duration, now: Timestamp) -> Option<Seen> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|seen| seen.at <= now && now.since(seen.at) < age)
    }
}

/// Writes `indexes` as one set of the write epoch. Returns its blobs.
pub fn write_uncompacted(
    repository: &Repository,
    workspace: &Workspace,
    indexes: Vec<FinishedIndex>,
) -> Result<Vec<BlobId>, RepositoryError> {
    let session = session_id(repository.random(), repository.clock.now());
    write_uncompacted_in(repository, workspace, indexes, &session)
}

/// Writes `indexes` as one set of the write epoch that belongs to a session. Returns its blobs.
pub fn write_uncompacted_in(
    repository: &Repository,
    workspace: &Workspace,
    indexes: Vec<FinishedIndex>,
    session: &str,
) -> Result<Vec<BlobId>, RepositoryError> {
    let (parameters, now) = (&repository.format.epochs, repository.clock.now());
    let valid_for = parameters.refresh_frequency * 3 / 4;
    let last = &repository.last_write_epoch;
    let mut seen = match last.younger_than(parameters.look_age_max(), now) {
        Some(seen) => seen,
        None => look(repository)?,
    };
    let suffix = format!("{session}-c{}", indexes.len());
    let mut written = Vec::new();
    for index in indexes {
        if repository.clock.now() >= seen.at.plus(valid_for) {
            let before = std::mem::replace(&mut seen, look(repository)?);
            if seen.epoch != before.epoch && !written.is_empty() {
                return take_back(repository, written, before.epoch);
            }
        }
        let prefix = xn_prefix(seen.epoch);
        written.push(put_index(repository, workspace, index, &prefix, &suffix)?.0);
    }
    if look(repository)?.epoch >= seen.epoch + UNSETTLED_EPOCHS {
        return take_back(repository, written, seen.epoch);
    }
    Ok(written)
}

/// Looks now, and notes it.
fn look(repository: &Repository) -> Result<Seen, RepositoryError> {
    let at = repository.clock.now();
    let epoch = EpochState::load_write_epoch(&repository.storage)?;
    repository.last_write_epoch.note(epoch, at);
    Ok(Seen { epoch, at })
}

/// Deletes what this write has put: nobody can depend on it, since the write never succeeded.
fn take_back(
    repository: &Repository,
    written: Vec<BlobId>,
    epoch: u64,
) -> Result<Vec<BlobId>, RepositoryError> {
    for blob in written {
        repository.storage.delete(&blob)?;
    }
    Err(RepositoryError::TooSlow { epoch })
}
