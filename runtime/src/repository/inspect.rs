//! Shows the entries of index blobs as they are, losers and winners alike.
//!
//! For people who look into a repository, and for comparing what two clients wrote. Blobs come in
//! the order of their IDs, entries in the order of theirs. Memory: one blob, and the listing.
//! Mirrors `kopia index inspect`.

use std::fmt;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::kopia::blob_id::BlobId;
use crate::kopia::content_id::ContentId;
use crate::kopia::content_id::TEXT_BYTES_MAX;

use super::contents::ContentRow;
use super::index_blob_reader::IndexBlobReader;
use super::listing::{IndexBlobState, each_index_blob};
use super::{Repository, RepositoryError, Workspace};

/// Which index blobs are looked into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum InspectBlobs {
    /// Those that readers use.
    #[default]
    Active,
    /// Also those that others replace, and those of incomplete sets.
    All,
    /// These, in this order.
    Named(Vec<BlobId>),
}

/// What is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InspectOptions {
    /// Which index blobs.
    pub blobs: InspectBlobs,
    /// Only contents whose ID starts with this.
    pub content_prefix: Option<String>,
}

/// One entry of one index blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InspectRow<'a> {
    /// The index blob.
    pub blob: &'a BlobId,
    /// The entry.
    #[serde(flatten)]
    pub entry: ContentRow<'a>,
    /// Always 0 in what Kopia writes.
    pub encryption_key_id: u8,
}

impl fmt::Display for InspectRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = &self.entry;
        let state = if entry.deleted { "deleted" } else { "created" };
        write!(
            f,
            "{} {} {state} {} {} {} {}",
            self.blob,
            entry.content,
            entry.timestamp,
            entry.pack,
            entry.pack_offset,
            entry.packed_length
        )
    }
}

/// Shows the entries to `visit`, until it returns false.
///
/// Errors: a blob that cannot be read; the entries before it were shown.
pub fn inspect(
    repository: &Repository,
    workspace: &Workspace,
    options: &InspectOptions,
    visit: &mut dyn FnMut(&InspectRow<'_>) -> bool,
) -> Result<(), RepositoryError> {
    let mut reader = IndexBlobReader::new(repository, workspace);
    let prefix = options.content_prefix.as_deref().unwrap_or("");
    let mut wanted = true;
    let mut show = |blob: &BlobId| -> Result<bool, RepositoryError> {
        reader.each_entry(blob, &mut |raw| {
            let content = ContentId::from_key(raw.key)?;
            if !content.text(&mut [0; TEXT_BYTES_MAX]).starts_with(prefix) {
                return Ok(true);
            }
            let entry = ContentRow {
                content,
                deleted: raw.entry.deleted,
                timestamp: Timestamp::from_seconds(raw.entry.timestamp_seconds),
                pack: String::from_utf8_lossy(raw.pack),
                pack_offset: raw.entry.pack_offset,
                packed_length: raw.entry.packed_length,
                original_length: raw.entry.original_length,
                compression_header_id: raw.format.compression_header_id,
                format_version: raw.format.format_version,
            };
            wanted = visit(&InspectRow {
                blob,
                entry,
                encryption_key_id: raw.format.encryption_key_id,
            });
            Ok(wanted)
        })?;
        Ok(wanted)
    };
    let all = match &options.blobs {
        InspectBlobs::Named(blobs) => {
            for blob in blobs {
                if !show(blob)? {
                    break;
                }
            }
            return Ok(());
        }
        InspectBlobs::All => true,
        InspectBlobs::Active => false,
    };
    each_index_blob(repository, workspace, &mut |row| {
        let shown = match row.state {
            IndexBlobState::Active => true,
            IndexBlobState::Ignored => false,
            IndexBlobState::Superseded | IndexBlobState::Incomplete => all,
        };
        if shown { show(&row.blob) } else { Ok(true) }
    })
}
