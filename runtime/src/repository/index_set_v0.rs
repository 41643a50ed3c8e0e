//! The index blobs (`n`) of a repository without epochs, and which of them a reader uses.
//!
//! A compaction writes new blobs and then a log (`m`) of what went in and came out; a log counts
//! when all its outputs are listed, and then its inputs do not. The blob by which an upgrade stops
//! old clients is none.
//!
//! Memory: every name, at most [`BLOBS_MAX`], and while the logs are read their IDs, at most
//! [`LOG_IDS_MAX`]: 15 MB together. Kopia merges such blobs as soon as there are eight small ones,
//! so real repositories have some hundred. Mirrors Kopia's
//! `repo/content/indexblob/index_blob_manager_v0.go`.

use std::collections::HashSet;

use crate::blob::{BlobMetadata, Storage};
use crate::kopia::blob_id::{BlobId, COMPACTION_LOG_V0_PREFIX, INDEX_V0_POISON, INDEX_V0_PREFIX};
use crate::kopia::compaction_log::{CompactionLog, active_index_blobs};

use super::{Repository, RepositoryError};

/// Most `n` blobs.
pub const BLOBS_MAX: usize = 50_000;

/// Most compaction logs; Kopia deletes them some hours after the next compaction.
pub const LOGS_MAX: usize = 2_000;

/// Most IDs in all compaction logs together.
pub const LOG_IDS_MAX: usize = 50_000;

/// Largest compaction log, in bytes as stored: some 60,000 IDs.
const LOG_BYTES_MAX: usize = 8 * 1024 * 1024;

/// All `n` blobs, and which of them count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexSetV0 {
    /// All blobs in the order of their names, without the one that stops old clients.
    pub blobs: Vec<BlobMetadata>,
    /// Names of those that a reader uses, in the same order.
    pub active: Vec<BlobId>,
    /// Compaction logs.
    pub logs: usize,
    /// Compactions of which inputs and outputs are gone, so that a reader misses entries.
    pub lost: Vec<LostCompaction>,
}

/// A compaction whose result is gone, and not all its inputs are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostCompaction {
    /// The compaction log.
    pub log: BlobId,
    /// The first output that is missing.
    pub output: BlobId,
    /// Inputs that are missing.
    pub inputs: usize,
}

impl IndexSetV0 {
    /// Lists the blobs and reads the logs. A log that is gone when it is read is no log.
    pub fn load(repository: &Repository) -> Result<Self, RepositoryError> {
        let blobs = list_blobs(&repository.storage)?;
        let names: Vec<BlobId> = blobs.iter().map(|blob| blob.id.clone()).collect();
        let (log_names, logs) = read_logs(repository)?;
        Ok(Self {
            active: active_index_blobs(&names, &logs),
            lost: lost_compactions(&names, &log_names, &logs),
            logs: logs.len(),
            blobs,
        })
    }

    /// Returns whether a reader uses the blob.
    pub fn is_active(&self, blob: &BlobId) -> bool {
        self.active.binary_search(blob).is_ok()
    }
}

fn list_blobs(storage: &Storage) -> Result<Vec<BlobMetadata>, RepositoryError> {
    let mut blobs = Vec::new();
    storage.for_each(INDEX_V0_PREFIX, |blob| {
        if blobs.len() == BLOBS_MAX {
            let what = "index blobs without epochs";
            return Err(too_many(what, BLOBS_MAX));
        }
        if blob.id.as_str() != INDEX_V0_POISON {
            blobs.push(blob);
        }
        Ok::<(), RepositoryError>(())
    })?;
    Ok(blobs)
}

fn read_logs(
    repository: &Repository,
) -> Result<(Vec<BlobId>, Vec<CompactionLog>), RepositoryError> {
    let storage = &repository.storage;
    let (mut names, mut logs, mut ids) = (Vec::new(), Vec::new(), 0);
    storage.for_each(COMPACTION_LOG_V0_PREFIX, |blob| {
        let mut bytes = match storage.get_all(&blob.id, LOG_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let name = blob.id.as_str();
        let range = repository.crypto.open(name, &mut bytes, &mut Vec::new())?;
        let log = CompactionLog::parse(bytes.get(range).unwrap_or_default(), name)?;
        ids += log.inputs.len() + log.outputs.len();
        if ids > LOG_IDS_MAX {
            return Err(too_many("index blobs in compaction logs", LOG_IDS_MAX));
        }
        if logs.len() == LOGS_MAX {
            return Err(too_many("compaction logs", LOGS_MAX));
        }
        names.push(blob.id);
        logs.push(log);
        Ok::<(), RepositoryError>(())
    })?;
    Ok((names, logs))
}

fn too_many(what: &'static str, maximum: usize) -> RepositoryError {
    RepositoryError::TooMany { what, maximum }
}

/// Finds the compactions whose entries are gone. An output that a later compaction took in is not
/// missing, nor is an input that another one replaced.
fn lost_compactions(
    names: &[BlobId],
    log_names: &[BlobId],
    logs: &[CompactionLog],
) -> Vec<LostCompaction> {
    let mut there: HashSet<&BlobId> = names.iter().collect();
    let mut open: Vec<(&BlobId, &CompactionLog)> = log_names.iter().zip(logs).collect();
    // Each round settles at least one log, or is the last; later compactions lead to earlier ones.
    loop {
        let before = open.len();
        open.retain(|(_, log)| {
            let whole = log.outputs.iter().all(|output| there.contains(output));
            if whole {
                there.extend(&log.inputs);
            }
            !whole
        });
        if open.len() == before {
            break;
        }
    }
    let lost = |(name, log): (&BlobId, &CompactionLog)| {
        let is_gone = |blob: &&BlobId| !there.contains(*blob);
        let inputs = log.inputs.iter().filter(is_gone).count();
        let output = log.outputs.iter().find(is_gone)?.clone();
        (inputs > 0).then(|| LostCompaction {
            log: name.clone(),
            output,
            inputs,
        })
    };
    open.into_iter().filter_map(lost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Vec<BlobId> {
        names.iter().copied().map(BlobId::from).collect()
    }

    fn lost(names: &[&str], logs: &[(&[&str], &[&str])]) -> Vec<String> {
        let log_names: Vec<BlobId> = (0..logs.len()).map(|n| format!("m{n}").into()).collect();
        let logs: Vec<CompactionLog> = logs
            .iter()
            .map(|(inputs, outputs)| CompactionLog {
                inputs: ids(inputs),
                outputs: ids(outputs),
            })
            .collect();
        let lost = lost_compactions(&ids(names), &log_names, &logs);
        let text = |lost: LostCompaction| format!("{} {} {}", lost.log, lost.output, lost.inputs);
        lost.into_iter().map(text).collect()
    }

    #[test]
    fn a_compaction_is_lost_when_neither_side_is_there() {
        let log: (&[&str], &[&str]) = (&["n1", "n2"], &["n3"]);
        assert_eq!(lost(&["n3"], &[log]), [""; 0], "the usual end");
        assert_eq!(lost(&["n1", "n2"], &[log]), [""; 0], "the usual beginning");
        assert_eq!(lost(&["n1"], &[log]), ["m0 n3 1"]);
        assert_eq!(lost(&[], &[log]), ["m0 n3 2"]);
        assert_eq!(
            lost(&[], &[(&["n1"], &[])]),
            [""; 0],
            "everything was dropped"
        );
    }

    #[test]
    fn what_another_compaction_took_over_is_not_lost() {
        let first: (&[&str], &[&str]) = (&["n1", "n2"], &["n3"]);
        let then: (&[&str], &[&str]) = (&["n3", "n4"], &["n5"]);
        assert_eq!(lost(&["n5"], &[first, then]), [""; 0]);
        assert_eq!(lost(&["n4"], &[first, then]), ["m0 n3 2", "m1 n5 1"]);
        let again: (&[&str], &[&str]) = (&["n1", "n2"], &["n6"]);
        assert_eq!(lost(&["n6"], &[first, again]), [""; 0], "done twice");
    }
}
