//! Writes new index entries while other clients are at work: the protocol for `xn` blobs.
//!
//! The race: a writer that takes long may put blobs into an epoch that others have settled and
//! compacted meanwhile, and nobody would ever read them. So the write epoch is read no longer ago
//! than the refresh frequency allows when a blob is put, and once more after the last: if the epoch
//! is settled by then, the blobs are taken back and the write has failed. Mirrors `WriteIndex` of
//! Kopia's `epoch_manager.go`.

use crate::kopia::blob_id::{BlobId, session_id, xn_prefix};

use super::epochs::{EpochState, UNSETTLED_EPOCHS};
use super::index_writer::FinishedIndex;
use super::sealing::put_index;
use super::{Repository, RepositoryError, Workspace};

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
    let valid_for = repository.format.epochs.refresh_frequency * 3 / 4;
    let mut valid_until = repository.clock.now().plus(valid_for);
    let mut epoch = write_epoch(repository)?;
    let suffix = format!("{session}-c{}", indexes.len());
    let mut written = Vec::new();
    for index in indexes {
        if repository.clock.now() >= valid_until {
            valid_until = repository.clock.now().plus(valid_for);
            let now = write_epoch(repository)?;
            if now != epoch && !written.is_empty() {
                return take_back(repository, written, epoch);
            }
            epoch = now;
        }
        written.push(put_index(repository, workspace, index, &xn_prefix(epoch), &suffix)?.0);
    }
    if write_epoch(repository)? >= epoch + UNSETTLED_EPOCHS {
        return take_back(repository, written, epoch);
    }
    Ok(written)
}

fn write_epoch(repository: &Repository) -> Result<u64, RepositoryError> {
    EpochState::load_write_epoch(&repository.storage)
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
