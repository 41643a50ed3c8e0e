//! Object locks: does the repository want them, and does the storage have them.
//!
//! Whether a store has locks it tells only when one is set, so `--write-probe` puts a small blob
//! that is locked for a minute, extends that by another, and deletes it. Looked at after the format
//! blobs, which say whether the repository wants locks. No memory cost.

use std::time::Duration;

use super::Walk;
use crate::blob::{BlobError, PutOptions, Retention};
use crate::cli::error::CliError;
use crate::clock::Timestamp;
use crate::kopia::blob_id::BlobId;
use crate::maintenance::diagnosis::Finding;
use crate::repository::Repository;

/// How long the probe is locked at first; then twice as long.
const LOCK_TIME: Duration = Duration::from_secs(60);

/// A mode that whoever has the rights may end early.
const PROBE_MODE: &str = "GOVERNANCE";

/// Looks at what the repository wants, and tries what the storage has.
pub(super) fn look(walk: &mut Walk<'_>, repository: &Repository, write_probe: bool) {
    let config = &repository.blob_config;
    let mode = config.retention_mode.as_deref();
    let mode = mode.filter(|_| config.retention_on());
    if let Some(mode) = mode {
        let days = config.retention_period.as_secs() / 86_400;
        let what =
            format!("object lock {mode} for {days} days: new blobs cannot be deleted before");
        walk.tell(&Finding::ok("lock", what));
    }
    // A folder has none.
    if walk.target.folder().is_some() && mode.is_none() {
        return;
    }
    if !write_probe {
        let what = "locks are not tried; --write-probe does";
        walk.tell(&Finding::skipped("lock", what));
        return;
    }
    let mut random = [0; 8];
    walk.console.surroundings.randomness.fill(&mut random);
    let id = BlobId::new(format!("_careen_probe_{}", hex::encode(random)));
    match probe(repository, &id) {
        Ok(stays) => {
            let mut what = "allowed: the storage locks blobs, and extends locks".to_owned();
            if stays {
                what += &format!("; {id} can be deleted in two minutes");
            }
            walk.tell(&Finding::ok("lock", what));
        }
        Err(error) => told(walk, error, mode),
    }
}

/// Puts a locked blob, extends its lock, deletes it; tells whether it is still there.
fn probe(repository: &Repository, id: &BlobId) -> Result<bool, BlobError> {
    let storage = &repository.storage;
    let until = |time: Duration| -> Timestamp { repository.clock.now().plus(time) };
    let lock = |time: Duration| Retention {
        mode: PROBE_MODE.to_owned(),
        until: until(time),
    };
    let options = PutOptions {
        retention: Some(lock(LOCK_TIME)),
        ..PutOptions::default()
    };
    let locked = storage
        .put_bytes(id, b"locked", &options)
        .and_then(|_| storage.extend_retention(id, &lock(2 * LOCK_TIME)));
    // A store with versions hides the locked one, any other keeps the blob until the lock ends.
    let deleted = storage.delete(id);
    locked.map(|()| deleted.is_err())
}

/// Tells why a lock could not be set, by what the repository wants.
fn told(walk: &mut Walk<'_>, error: BlobError, mode: Option<&str>) {
    let what = error.to_string();
    match (error, mode) {
        (BlobError::Unsupported { .. }, None) => walk.tell(&Finding::skipped(
            "lock",
            "the storage has no object locks, and the repository wants none",
        )),
        (BlobError::Unsupported { .. }, Some(mode)) => {
            let what =
                format!("the repository wants {mode} locks, which the storage does not have");
            let next = "make a bucket with object locks (S3: ObjectLockEnabled; Azure: version-level \
                        immutability) and copy the repository there with `kopia repository \
                        sync-to`, or switch them off: `kopia repository set-parameters \
                        --retention-mode none`";
            walk.tell(&Finding::error("lock", "no-object-locks", what, next));
        }
        (BlobError::Permission { .. }, mode) => {
            let next = "let these credentials lock: s3:PutObjectRetention and \
                        s3:GetObjectRetention, or Storage Blob Data Owner";
            walk.tell(&match mode {
                Some(_) => Finding::error("lock", "storage-permission", what, next),
                None => {
                    let what = format!("{what}; the repository wants no locks");
                    Finding::skipped("lock", what)
                }
            });
        }
        (error, Some(_)) => {
            let error = CliError::from(error);
            walk.tell(&Finding::error("lock", error.code(), what, error.hint()));
        }
        (_, None) => {
            let what = format!("not to be tried here: {what}; the repository wants no locks");
            walk.tell(&Finding::skipped("lock", what));
        }
    }
}
