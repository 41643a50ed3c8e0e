//! Reads the local index of a pack: what was in it when it was written, without any other index.
//!
//! The end of a pack tells where its local index lies; one or two small GETs find and read it, or
//! none where another task of the run has read that end along ([`keep_tail`], [`PackHeads`]). The
//! postamble's checksum proves nothing, only the tag of the local index does. A pack without one
//! that can be read is not an error here: who wants to delete it has to know that it is not
//! explained.
//!
//! Memory: the tail, and an index blob as [`super::index_blob_reader`] holds it; a larger one goes
//! through scratch. Mirrors `readPackFileLocalIndex` of Kopia's
//! `repo/content/committed_read_manager.go`.

use std::ops::Range;

use crate::blob::BlobError;
use crate::kopia::FormatError;
use crate::kopia::blob_id::BlobId;
use crate::kopia::pack::{Postamble, TAIL_BYTES};
use crate::spill::Scratch;

use super::index_blob_reader::IndexBlobReader;
use super::pack_heads::PackHeads;
use super::sealed_pieces::SealedItem;
use super::{Repository, RepositoryError, Workspace};

/// Share of a pack that is read along: the local index of a pack full of 500-byte contents is a
/// sixteenth of it.
const TAIL_SHARE: u64 = 12;

/// Most that is read first, in bytes. Several readers work at once: what the largest packs have
/// more goes through scratch.
const TAIL_BYTES_MAX: u64 = 1024 * 1024;

/// Most that is read of the end of the first pack: as long as a local index of some 300 contents.
/// Those of the packs after it will be like its own, and one long GET costs less than two.
const FIRST_TAIL_BYTES_MAX: u64 = 16 * 1024;

/// Returns how much is read along of the end of a pack that has about `pack_bytes`.
pub(super) fn tail_bytes(pack_bytes: u64) -> u64 {
    (pack_bytes / TAIL_SHARE).clamp(TAIL_BYTES, TAIL_BYTES_MAX)
}

/// Keeps the last bytes of a pack in scratch, for the [`LocalIndexReader`] of this run.
pub(super) fn keep_tail(scratch: &Scratch, pack: &BlobId, tail: &[u8]) {
    scratch.keep(&tail_name(pack), tail);
}

/// Returns the name that the end of a pack is kept under; no blob has a space in its name.
fn tail_name(pack: &BlobId) -> String {
    format!("tail of {pack}")
}

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
    workspace: &'a Workspace,
    blobs: IndexBlobReader<'a>,
    tail: Vec<u8>,
    /// Of the last pack: bytes from the start of its local index on, all its bytes.
    last: Option<(u64, u64)>,
}

impl<'a> LocalIndexReader<'a> {
    /// Makes a reader.
    pub fn new(repository: &'a Repository, workspace: &'a Workspace) -> Self {
        Self {
            repository,
            workspace,
            blobs: IndexBlobReader::new(repository, workspace),
            tail: Vec::new(),
            last: None,
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
        match self.read_tail(pack, pack_bytes) {
            Ok(()) => {}
            Err(error) if error.is_not_found() => return Ok(LocalIndexFound::Gone),
            Err(error) => return Err(error.into()),
        }
        let Some((iv, range)) = self.place(pack_bytes) else {
            return Ok(LocalIndexFound::Unreadable(
                "it has no postamble".to_owned(),
            ));
        };
        self.last = Some((pack_bytes - range.start, pack_bytes));
        // A small one lies in the tail.
        let known = self.in_tail(&range, pack_bytes);
        let known = known.and_then(|known| self.tail.get(known));
        let name = format!("local index of pack {pack}");
        let item = SealedItem {
            start: &[],
            name: &name,
            blob: pack,
            content: None,
            range,
            kept: false,
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

    /// Returns how much is read of the end of a pack, judging by the last one.
    fn tail_bytes(&self, pack_bytes: u64) -> u64 {
        let Some((last, all)) = self.last else {
            return tail_bytes(pack_bytes).min(FIRST_TAIL_BYTES_MAX);
        };
        // Some more, since the packs differ; a pack has less than 4 GiB.
        let alike = last.saturating_mul(pack_bytes) / all.max(1);
        (alike + alike / 8).clamp(TAIL_BYTES, TAIL_BYTES_MAX)
    }

    /// Brings the last bytes of a pack into the tail: those that were kept, if the local index is
    /// in them, else from the store. What is cut short is as if it had none.
    fn read_tail(&mut self, pack: &BlobId, pack_bytes: u64) -> Result<(), BlobError> {
        let (scratch, name) = (&self.workspace.scratch, tail_name(pack));
        let heads = PackHeads::of(scratch);
        if pack_bytes <= TAIL_BYTES_MAX && heads.kept_bytes(pack) == Some(pack_bytes) {
            self.tail.resize(pack_bytes as usize, 0);
            if heads.read(pack, 0, &mut self.tail) {
                return Ok(());
            }
        }
        let kept = scratch.kept_bytes(&name);
        if let Some(kept) = kept.filter(|kept| *kept <= TAIL_BYTES_MAX.min(pack_bytes)) {
            self.tail.resize(kept as usize, 0);
            let read = scratch.read_kept(&name, 0, &mut self.tail);
            let place = read.and_then(|_| self.place(pack_bytes));
            if place.is_some_and(|(_, range)| self.in_tail(&range, pack_bytes).is_some()) {
                return Ok(());
            }
        }
        let bytes = self.tail_bytes(pack_bytes).min(pack_bytes);
        self.tail.resize(bytes as usize, 0);
        let storage = &self.repository.storage;
        let got = storage.get(pack, pack_bytes - bytes, &mut self.tail)?;
        if got < self.tail.len() {
            self.tail.clear();
        }
        Ok(())
    }

    /// Returns IV and place of the local index, as the tail tells them.
    fn place(&self, pack_bytes: u64) -> Option<(Vec<u8>, Range<u64>)> {
        let postamble = Postamble::find(&self.tail)?;
        let range = postamble.local_index(pack_bytes)?;
        Some((postamble.local_index_iv, range))
    }

    /// Returns where a part of the pack lies in the tail, if it does.
    fn in_tail(&self, range: &Range<u64>, pack_bytes: u64) -> Option<Range<usize>> {
        let tail_start = pack_bytes.checked_sub(self.tail.len() as u64)?;
        let start = usize::try_from(range.start.checked_sub(tail_start)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(tail_start)?).ok()?;
        (end <= self.tail.len()).then_some(start..end)
    }
}

fn unreadable(error: &FormatError) -> LocalIndexFound {
    LocalIndexFound::Unreadable(error.to_string())
}
