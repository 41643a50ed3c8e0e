//! Writes index blobs of a repository without epochs, and the notes that make them count.
//!
//! A client's flush (`n`, hash, session) counts at once. A compaction's blobs (`n`, hash) are put
//! first, then the log that names inputs and outputs: until it is there readers find both, and
//! nothing is lost. Memory: pieces on their way to the store; a log goes through scratch. Mirrors
//! `WriteIndexBlobs`, `registerCompaction` and `delayCleanupBlobs` of Kopia's
//! `index_blob_manager_v0.go`.

use std::sync::Arc;

use crate::blob::BlobMetadata;
use crate::clock::Timestamp;
use crate::kopia::blob_id::{BlobId, CLEANUP_V0_PREFIX, COMPACTION_LOG_V0_PREFIX, INDEX_V0_PREFIX};
use crate::kopia::compaction_log::{self, CleanupEntry, LogWriter, Side};
use crate::spill::SequentialWriter;

use super::index_set_v0::{BlobUse, Candidates, IndexSetV0};
use super::index_writer::FinishedIndex;
use super::sealing::{put_file, put_index, put_index_without_suffix, put_options};
use super::{Repository, RepositoryError, Workspace};

/// Buffer of a log on its way to scratch, in bytes.
const WINDOW_BYTES: usize = 64 * 1024;

/// Writes `indexes` as a client of `session` does. Returns the blobs.
pub fn write_index_v0(
    repository: &Repository,
    workspace: &Workspace,
    indexes: Vec<FinishedIndex>,
    session: &str,
) -> Result<Vec<BlobId>, RepositoryError> {
    let put = |index| put_index(repository, workspace, index, INDEX_V0_PREFIX, session);
    indexes.into_iter().map(|index| Ok(put(index)?.0)).collect()
}

/// Writes `indexes` as results of a compaction, and looks whether they are there.
pub fn write_compacted_v0(
    repository: &Repository,
    workspace: &Workspace,
    indexes: Vec<FinishedIndex>,
) -> Result<Vec<BlobMetadata>, RepositoryError> {
    let progress = &workspace.progress;
    let bytes = indexes.iter().map(|index| index.image.plain_bytes()).sum();
    progress.begin("write index blobs", "bytes", Some(bytes));
    let mut written = Vec::with_capacity(indexes.len());
    for index in indexes {
        let bytes = index.image.plain_bytes();
        let put = put_index_without_suffix(repository, workspace, index, INDEX_V0_PREFIX)?;
        written.push(repository.storage.metadata(&put.0)?);
        progress.advance(bytes);
    }
    progress.end();
    Ok(written)
}

/// Writes the log of a compaction of `candidates` among the blobs of `set`. Returns it with its
/// storage time, which is the clock of all that follows.
pub fn write_compaction_log(
    repository: &Repository,
    workspace: &Workspace,
    set: &IndexSetV0,
    candidates: &Candidates,
    outputs: &[BlobMetadata],
) -> Result<(BlobId, Timestamp), RepositoryError> {
    let file = Arc::new(workspace.scratch.create_file("compaction-log")?);
    let mut out = SequentialWriter::new(Arc::clone(&file), WINDOW_BYTES);
    let mut log = LogWriter::new(|bytes: &[u8]| out.write(bytes))?;
    set.each_blob(&mut |blob, used| {
        if used == BlobUse::Active && candidates.takes(&blob) {
            log.add(Side::Input, &described(blob))?;
        }
        Ok(true)
    })?;
    for blob in outputs {
        log.add(Side::Output, &described(blob.clone()))?;
    }
    log.finish()?;
    out.finish()?;
    put_file(repository, workspace, file, COMPACTION_LOG_V0_PREFIX)
}

/// Writes the entry by which `logs` go when it is old enough. Returns it with its storage time.
pub fn write_cleanup_entry(
    repository: &Repository,
    logs: Vec<BlobId>,
    schedule_time: Timestamp,
) -> Result<(BlobId, Timestamp), RepositoryError> {
    let entry = CleanupEntry {
        blob_ids: logs,
        cleanup_schedule_time: schedule_time,
    };
    let mut sealed = Vec::new();
    let nonce = repository.random();
    let crypto = &repository.crypto;
    let name = crypto.seal(
        CLEANUP_V0_PREFIX,
        None,
        &entry.to_json(),
        nonce,
        &mut sealed,
    );
    let name = BlobId::new(name);
    let options = put_options(repository, &name);
    let stored = repository.storage.put_bytes(&name, &sealed, &options)?;
    Ok((name, stored))
}

fn described(blob: BlobMetadata) -> compaction_log::BlobMetadata {
    compaction_log::BlobMetadata {
        id: blob.id,
        length: blob.length,
        timestamp: blob.timestamp,
    }
}
