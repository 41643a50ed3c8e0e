//! Writes the index of a made-up backup history: as many entries in as many index blobs as wanted.
//!
//! For the demo, the benchmark and the suites. Every entry is one that Kopia accepts; the packs
//! that they name do not exist. All of it is a function of the seed: content IDs are distinct (the
//! first half of the hash is a bijection of the entry's number), a flush has its own session and
//! packs of 20 contents, every eighth pack holds directories, times go from 400 to 30 days ago.
//! Tombstones delete contents of an older blob, each another one. Memory: one index blob for each
//! of [`WORKERS`], about 100 bytes an entry, whatever the size of the whole.

mod history;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::blob::{PutOptions, Storage};
use crate::clock::{SharedRandomness, Timestamp};
use crate::kopia::blob_id::{BlobId, epoch_marker_name, xn_prefix};
use crate::kopia::encryption::NONCE_BYTES;
use crate::kopia::index_builder::ENTRY_COUNT_MAX;
use crate::kopia::sealed_blob::BlobCrypto;
use crate::memory::WORKERS;
use crate::progress::Progress;

use super::RepositoryError;
use history::History;
pub(super) use history::mixed;

/// Most tombstones in percent: the entries of a blob are deleted by at most two later ones.
pub const TOMBSTONE_PERCENT_MAX: u8 = 30;

/// Body of Kopia's epoch markers.
const EPOCH_MARKER: &[u8] = b"epoch-marker";

/// What is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneratorOptions {
    /// Entries in all.
    pub entries: u64,
    /// Index blobs that hold them, as evenly as can be; at most one for each entry.
    pub index_blobs: u64,
    /// Share of the entries that are tombstones; at most [`TOMBSTONE_PERCENT_MAX`].
    pub tombstone_percent: u8,
    /// Everything follows from it.
    pub seed: u64,
    /// The present; the history ends 30 days before.
    pub now: Timestamp,
    /// Whether epoch 0 gets settled, by the markers of epochs 1 and 2.
    pub settled: bool,
}

/// Where it is written to.
#[derive(Clone, Copy, Debug)]
pub struct GeneratorTarget<'a> {
    /// The store of a repository with the default hash.
    pub storage: &'a Storage,
    /// Its keys.
    pub crypto: &'a BlobCrypto,
    /// Where nonces come from.
    pub randomness: &'a SharedRandomness,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Generated {
    /// Entries, tombstones included.
    pub entries: u64,
    /// Tombstones among them.
    pub tombstones: u64,
    /// Index blobs.
    pub index_blobs: u64,
    /// Their size as stored.
    pub index_bytes: u64,
}

/// Writes the index blobs of `options` to epoch 0 of `target`.
///
/// # Errors
/// More entries for a blob than Kopia's format allows; what the store answers.
pub fn generate(
    target: &GeneratorTarget<'_>,
    options: &GeneratorOptions,
    progress: &dyn Progress,
) -> Result<Generated, RepositoryError> {
    let history = History::new(options);
    if history.longest_blob() > ENTRY_COUNT_MAX as u64 {
        return Err(RepositoryError::TooMany {
            what: "entries in one index blob",
            maximum: ENTRY_COUNT_MAX,
        });
    }
    progress.begin("write index blobs", "blobs", Some(history.blobs));
    let written = write_blobs(target, &history, progress);
    progress.end();
    let index_bytes = written?;
    if options.settled {
        settle(target.storage)?;
    }
    Ok(Generated {
        entries: history.entries,
        tombstones: (0..history.blobs)
            .map(|blob| history.tombstones(blob))
            .sum(),
        index_blobs: history.blobs,
        index_bytes,
    })
}

/// Settles epoch 0 by the markers of the two that follow.
pub(super) fn settle(storage: &Storage) -> Result<(), RepositoryError> {
    for epoch in 1..=2 {
        let put = PutOptions::default();
        storage.put_bytes(&epoch_marker_name(epoch), EPOCH_MARKER, &put)?;
    }
    Ok(())
}

/// Writes all blobs in [`WORKERS`] threads; returns the bytes stored.
fn write_blobs(
    target: &GeneratorTarget<'_>,
    history: &History,
    progress: &dyn Progress,
) -> Result<u64, RepositoryError> {
    let (next, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= history.blobs {
                return Ok(());
            }
            match write_blob(target, history, number) {
                Ok(count) => bytes.fetch_add(count, Ordering::Relaxed),
                Err(error) => {
                    next.store(history.blobs, Ordering::Relaxed);
                    return Err(error);
                }
            };
            progress.advance(1);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or(Err(RepositoryError::Interrupted)))
    })?;
    Ok(bytes.into_inner())
}

fn write_blob(
    target: &GeneratorTarget<'_>,
    history: &History,
    number: u64,
) -> Result<u64, RepositoryError> {
    let plain = history.encode(number)?;
    let suffix = format!("{}-c1", history.session(number));
    let mut sealed = Vec::with_capacity(target.crypto.sealed_len(plain.len() as u64) as usize);
    let mut nonce = [0; NONCE_BYTES];
    target.randomness.fill(&mut nonce);
    let name = target
        .crypto
        .seal(&xn_prefix(0), Some(&suffix), &plain, nonce, &mut sealed);
    target
        .storage
        .put_bytes(&BlobId::new(name), &sealed, &PutOptions::default())?;
    Ok(sealed.len() as u64)
}
