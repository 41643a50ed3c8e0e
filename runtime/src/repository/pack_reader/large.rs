//! Contents that do not fit into the buffer of a batch: neighbours of one pack, read one after the
//! other, in pieces.
//!
//! They are announced together, with the end of their pack if that is wanted, so that a store
//! behind a network sees one request. Memory: the buffer of the batch. Scratch, if a worker reads
//! them into files: [`LARGE_BYTES_MAX`] for each batch, or one content.

use std::sync::Arc;

use crate::blob::Storage;
use crate::kopia::blob_id::BlobId;
use crate::repository::RepositoryError;
use crate::repository::pack_local_index::keep_tail;
use crate::repository::pack_order::Place;
use crate::spill::{Scratch, ScratchFile};

use super::PackBatch;
use super::stretch::{Stretch, place_end};

/// Most bytes of one batch, unless it is a single content: a pack of Kopia's usual size.
pub const LARGE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Most contents of one batch: each may be an open file.
const LARGE_CONTENTS_MAX: usize = 16;

impl PackBatch {
    /// Takes in a content that does not fit into the buffer: the first of a batch, or one that
    /// begins where the last one ends. False where it is neither.
    pub(super) fn add_large(&mut self, record: &[u8], place: &Place, pack: &BlobId) -> bool {
        let fits = self.len() < LARGE_CONTENTS_MAX;
        match self.stretches.last_mut() {
            None => {
                self.large = true;
                self.stretches.push(Stretch::new(place, pack, 0));
            }
            Some(all)
                if self.large
                    && fits
                    && all.is_followed_by(place)
                    && place_end(place) - all.offset <= LARGE_BYTES_MAX =>
            {
                all.end = place_end(place);
            }
            Some(_) => return false,
        }
        self.push(record, self.bytes.len()); // no bytes
        true
    }

    /// Says that large contents will be read, one after the other: that is one request.
    pub fn announce_large(&self, storage: &Storage) {
        if let (true, Some(all)) = (self.large, self.stretches.first()) {
            let end = all.end + all.tail_bytes as u64;
            storage.will_read(&all.pack, all.offset..end);
        }
    }

    /// Reads large contents, one after the other, and keeps the end of their pack if that follows
    /// and is wanted: `read` gets the record of each, its pack and a buffer to work with, and makes
    /// a file of it, which [`PackBatch::next_file`] returns. When it makes none, no more is read.
    ///
    /// # Errors
    /// Those of `read`, and what the store answers.
    pub fn read_large(
        &mut self,
        storage: &Storage,
        scratch: &Scratch,
        mut read: impl FnMut(
            &[u8],
            &BlobId,
            &mut [u8],
        ) -> Result<Option<Arc<ScratchFile>>, RepositoryError>,
    ) -> Result<(), RepositoryError> {
        self.announce_large(storage);
        let Some(all) = self.stretches.first().filter(|_| self.large) else {
            return Ok(());
        };
        for record in self.records.chunks_exact(self.layout.record_bytes()) {
            let Some(file) = read(record, &all.pack, &mut self.bytes)? else {
                return Ok(());
            };
            self.files.push_back(file);
        }
        match self.bytes.get_mut(..all.tail_bytes) {
            Some(into) if !into.is_empty() => {
                let got = storage.get(&all.pack, all.end, into)?;
                if got < into.len() {
                    keep_tail(scratch, &all.pack, &into[..got]);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the file of the first content that was read, and of the next one when called again.
    pub fn next_file(&mut self) -> Option<Arc<ScratchFile>> {
        self.files.pop_front()
    }
}
