//! Reads the sealed bytes of an index blob: from the store, or from scratch if a task of this run
//! has read them before.
//!
//! Every task of a run reads the whole index, and a blob never changes under its name. So what one
//! has read is kept on the shelf of the scratch, sealed as it is, where a run has opened one. Which
//! blobs are read is of a fresh listing every time, and their tags are verified every time. Memory:
//! none.

use crate::blob::BlobError;
use crate::kopia::blob_id::BlobId;

use super::{Repository, Workspace};

/// Fills `into` with the bytes of an index blob from its start on, as far as it reaches; returns
/// how many. One that fills it may go on: [`super::sealed_pieces`] keeps those.
pub(super) fn read_index_blob(
    repository: &Repository,
    workspace: &Workspace,
    blob: &BlobId,
    into: &mut [u8],
) -> Result<usize, BlobError> {
    let scratch = &workspace.scratch;
    if let Some(count) = scratch.read_kept(blob.as_str(), 0, into) {
        return Ok(count);
    }
    repository.storage.will_read(blob, 0..u64::MAX);
    let count = repository.storage.get(blob, 0, into)?;
    if count < into.len() {
        scratch.keep(blob.as_str(), &into[..count]);
    }
    Ok(count)
}
