//! Blobs under a prefix in the order of their IDs, with lengths and times, also from a store that
//! has to be asked for each of them.
//!
//! A sorted listing of a local folder asks for its files in the order of their names, which is all
//! over the disk; 200,000 index blobs took 25 s with a cold cache. Here they are asked for in the
//! order in which they lie there, and then sorted. Memory: two sort buffers, as a load has.
//! Invariant: every blob comes once; one that is gone when it is asked for is passed over.

use std::ops::ControlFlow;

use crate::blob::{BlobMetadata, ScannedBlob};
use crate::clock::Timestamp;
use crate::kopia::blob_id::BlobId;
use crate::spill::{Merge, SortBuffer};

use super::index_names::{NAME_BYTES_MAX, check_name_length};
use super::{Repository, RepositoryError, Workspace};

/// Locality 8, name.
const SCANNED_BYTES: usize = 8 + NAME_BYTES_MAX;

/// Name, length 8, time 8.
const ROW_BYTES: usize = NAME_BYTES_MAX + 16;

/// A stream of blobs, ascending.
pub(super) struct SortedListing {
    rows: Merge,
}

impl SortedListing {
    /// Scans the store and asks for every blob of which that tells no more than the name. Errors: a
    /// name that is too long for an index blob.
    pub(super) fn new(
        repository: &Repository,
        workspace: &Workspace,
        prefix: &str,
    ) -> Result<Self, RepositoryError> {
        let sorter = workspace.sorter(ROW_BYTES);
        let mut rows = sorter.buffer();
        let mut scanned = scan(repository, workspace, prefix, &mut rows)?;
        while let Some(record) = scanned.next()? {
            let id = id_of(&record[8..]);
            match repository.storage.metadata(&id) {
                Ok(blob) => push(&mut rows, id.as_str(), blob.length, blob.timestamp)?,
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        drop(scanned);
        rows.finish()?;
        let rows = sorter.finish()?.into_merge(false)?;
        Ok(Self { rows })
    }

    /// Returns the next blob.
    pub(super) fn next_blob(&mut self) -> Result<Option<BlobMetadata>, RepositoryError> {
        let number = |bytes: &[u8]| bytes.try_into().expect("eight bytes");
        Ok(self.rows.next()?.map(|record| {
            let (name, rest) = record.split_at(NAME_BYTES_MAX);
            BlobMetadata {
                id: id_of(name),
                length: u64::from_be_bytes(number(&rest[..8])),
                timestamp: Timestamp::from_nanos(i64::from_be_bytes(number(&rest[8..]))),
            }
        }))
    }
}

/// Adds what is known of a blob.
fn push(
    rows: &mut SortBuffer,
    id: &str,
    length: u64,
    timestamp: Timestamp,
) -> Result<(), RepositoryError> {
    Ok(rows.push_with(|out| {
        out[..id.len()].copy_from_slice(id.as_bytes());
        let rest = &mut out[NAME_BYTES_MAX..];
        rest[..8].copy_from_slice(&length.to_be_bytes());
        rest[8..].copy_from_slice(&timestamp.nanos().to_be_bytes());
    })?)
}

/// Adds to `rows` the blobs that the scan knows, and sorts the names of all others by where they
/// lie.
fn scan(
    repository: &Repository,
    workspace: &Workspace,
    prefix: &str,
    rows: &mut SortBuffer,
) -> Result<Merge, RepositoryError> {
    let sorter = workspace.sorter(SCANNED_BYTES);
    let mut names = sorter.buffer();
    let mut outcome = Ok(());
    repository.storage.scan(prefix, |blob: ScannedBlob<'_>| {
        outcome = check_name_length(blob.id).and_then(|()| match blob.stored {
            Some((length, timestamp)) => push(rows, blob.id, length, timestamp),
            None => Ok(names.push_with(|out| {
                out[..8].copy_from_slice(&blob.locality.to_be_bytes());
                out[8..8 + blob.id.len()].copy_from_slice(blob.id.as_bytes());
            })?),
        });
        match outcome {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    outcome?;
    names.finish()?;
    Ok(sorter.finish()?.into_merge(false)?)
}

/// Reads a name that zeros follow.
fn id_of(name: &[u8]) -> BlobId {
    let length = name.iter().position(|byte| *byte == 0);
    let name = &name[..length.unwrap_or(name.len())];
    BlobId::new(String::from_utf8_lossy(name).into_owned())
}
