//! Reads the local index of a pack: what was in it when it was written, without any other index.
//!
//! The end of a pack tells where its local index lies; one or two small GETs find and read it. The
//! postamble's checksum proves nothing, only the tag of the local index does. A pack without one
//! that can be read is not an error here: who wants to delete it has to know that it is not
//! explained.
//!
//! Memory: the tail, and an index blob as [`super::index_blob_reader`] holds it; a larger one goes
//! through scratch. Mirrors `readPackFileLocalIndex` of Kopia's
//! `repo/content/committed_read_manager.go`.

use crate::kopia::FormatError;
use crate::kopia::blob_id::BlobId;
use crate::kopia::pack::{Postamble, TAIL_BYTES};

use super::index_blob_reader::IndexBlobReader;
use super::sealed_pieces::SealedItem;
use super::{Repository, RepositoryError, Workspace};

/// Share of a pack that is read first: the local index of a pack full of 500-byte contents is a
/// seventeenth of it, and one long GET costs less than two.
const TAIL_SHARE: u64 = 16;

/// Most that is read first, in bytes.
const TAIL_BYTES_MAX: u64 = 512 * 1024;

/// What reading a local index came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalIndexFound {
    /// All entries were shown.
    Read,
    /// There is none that can be read; why.
    Unreadable(String),
    /// The pack is not there any more.
    Gone,
}

/// Reads local indexes one after the other.
pub struct LocalIndexReader<'a> {
    repository: &'a Repository,
    blobs: IndexBlobReader<'a>,
    tail: Vec<u8>,
}

impl<'a> LocalIndexReader<'a> {
    /// Makes a reader.
    pub fn new(repository: &'a Repository, workspace: &'a Workspace) -> Self {
        Self {
            repository,
            blobs: IndexBlobReader::new(repository, workspace),
            tail: Vec::new(),
        }
    }

    /// Shows the key of every entry of the local index of `pack`, which has `pack_bytes`. What was
    /// shown counts only when the index was read to its end.
    ///
    /// # Errors
    /// What the store answers, and what `visit` returns.
    pub fn each_key(
        &mut self,
        pack: &BlobId,
        pack_bytes: u64,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), RepositoryError>,
    ) -> Result<LocalIndexFound, RepositoryError> {
        let tail_bytes = (pack_bytes / TAIL_SHARE).clamp(TAIL_BYTES, TAIL_BYTES_MAX);
        let tail_bytes = tail_bytes.min(pack_bytes);
        self.tail.resize(tail_bytes as usize, 0);
        let tail = self.tail.as_mut_slice();
        let got = match self
            .repository
            .storage
            .get(pack, pack_bytes - tail_bytes, tail)
        {
            Ok(got) => got,
            Err(error) if error.is_not_found() => return Ok(LocalIndexFound::Gone),
            Err(error) => return Err(error.into()),
        };
        let postamble = (got == tail.len()).then(|| Postamble::find(tail)).flatten();
        let place = postamble.and_then(|postamble| {
            let range = postamble.local_index(pack_bytes)?;
            Some((postamble.local_index_iv, range))
        });
        let Some((iv, range)) = place else {
            return Ok(LocalIndexFound::Unreadable(
                "it has no postamble".to_owned(),
            ));
        };
        // A small one lies in the tail.
        let known = range
            .start
            .checked_sub(pack_bytes - tail_bytes)
            .and_then(|start| {
                let start = usize::try_from(start).ok()?;
                tail.get(start..start + usize::try_from(range.end - range.start).ok()?)
            });
        let name = format!("local index of pack {pack}");
        let item = SealedItem {
            name: &name,
            blob: pack,
            content: None,
            range,
        };
        let mut stopped = None;
        let read = self
            .blobs
            .each_entry_of_part(&item, known, &iv, &mut |entry| {
                if let Err(error) = visit(entry.key) {
                    stopped = Some(error);
                }
                Ok(stopped.is_none())
            });
        match (stopped, read) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(LocalIndexFound::Read),
            (None, Err(RepositoryError::Format(error))) => Ok(unreadable(&error)),
            (None, Err(RepositoryError::Blob(error))) if error.is_not_found() => {
                Ok(LocalIndexFound::Gone)
            }
            (None, Err(error)) => Err(error),
        }
    }
}

fn unreadable(error: &FormatError) -> LocalIndexFound {
    LocalIndexFound::Unreadable(error.to_string())
}
