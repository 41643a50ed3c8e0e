//! A finished index blob before it is sealed: rows and pack names in scratch, everything else
//! known.
//!
//! The plaintext is never stored as one file. It is read as a stream, as often as needed (once to
//! seal it, and once more to hash it where the hash could not be made on the way), from two files:
//! the rows, which may be wider than the finished entries by the bytes that turned out not to be
//! needed, and the pack names in the order of their numbers, 64 bytes each.
//!
//! Memory: windows of 512 (three of them for large rows) and 64 KiB a reader. Mirrors the layout of
//! Kopia's `index_v1.go` and `index_v2.go`.

use std::sync::Arc;

use crate::kopia::hashing::{Digest, HashFunction, Hasher};
use crate::kopia::index_blob::ContentFormat;
use crate::kopia::index_builder::{IndexShape, RANDOM_TAIL_BYTES, encode_format, encode_pack_slot};
use crate::spill::{ScratchFile, SequentialReader};

use super::RepositoryError;
use super::pack_names::{SLOT_BYTES, name_of};

/// Read buffer of names, in bytes.
const WINDOW_BYTES: usize = 64 * 1024;

/// Read buffer of rows, in bytes: twice as much is read ahead, so that the disk has long reads.
const ROWS_WINDOW_BYTES: usize = 512 * 1024;

/// Rows that are written to a stream at a time.
const ROWS_AT_A_TIME: usize = 1024;

/// The rows of an index blob, and the header that belongs before them.
pub struct FinishedRows {
    /// Header of the finished blob.
    pub shape: IndexShape,
    /// Keys and entries, each `row_bytes` wide.
    pub rows: Arc<ScratchFile>,
    /// Width of a row in `rows`; at least that of the finished rows.
    pub row_bytes: usize,
}

/// An index blob, ready to be hashed and sealed.
pub struct IndexImage {
    /// Header, keys and entries.
    pub rows: FinishedRows,
    /// Slots of pack names in the order of their numbers.
    pub names: Arc<ScratchFile>,
    /// Length of all names together, in bytes.
    pub name_bytes: u64,
    /// Content formats by number.
    pub formats: Vec<ContentFormat>,
    /// Random bytes behind everything that readers look at: they make the blob's name unique.
    pub tail: Option<[u8; RANDOM_TAIL_BYTES]>,
}

impl FinishedRows {
    /// Returns a hash that has taken in header and rows: one read of the rows.
    pub fn hash(&self, hash: &HashFunction) -> Result<Hasher, RepositoryError> {
        let mut hasher = hash.hasher();
        self.stream(&mut |piece| {
            hasher.update(piece);
            Ok(())
        })?;
        Ok(hasher)
    }

    /// Calls `take` with header and rows, piece after piece.
    fn stream(
        &self,
        take: &mut dyn FnMut(&[u8]) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        take(&self.shape.header())?;
        let (stored, finished) = (self.row_bytes, self.shape.row_bytes());
        let end = u64::from(self.shape.entry_count) * stored as u64;
        let mut rows =
            SequentialReader::new(Arc::clone(&self.rows), 0..end, ROWS_WINDOW_BYTES).drop_behind();
        let mut piece = Vec::with_capacity(ROWS_AT_A_TIME * finished);
        while rows.remaining() > 0 {
            let most = (ROWS_AT_A_TIME * stored) as u64;
            let next = rows.next(rows.remaining().min(most) as usize)?;
            let next = next.unwrap_or_default();
            if stored == finished && self.shape.version != 1 {
                take(next)?;
                continue;
            }
            piece.clear();
            for row in next.chunks_exact(stored) {
                piece.extend_from_slice(&row[..finished]);
                if self.shape.version == 1 {
                    self.move_name_offset(&mut piece);
                }
            }
            take(&piece)?;
        }
        Ok(())
    }

    /// Version 1 entries say where their pack's name lies in the blob: known only now.
    fn move_name_offset(&self, piece: &mut [u8]) {
        let at = piece.len() - self.shape.entry_bytes + 8;
        if let Some(field) = piece[at..].first_chunk_mut::<4>() {
            let offset = u32::from_be_bytes(*field) + self.shape.names_at() as u32;
            *field = offset.to_be_bytes();
        }
    }
}

impl IndexImage {
    /// Returns the length of the plaintext, in bytes.
    pub fn plain_bytes(&self) -> u64 {
        let tail_bytes = self.tail.map_or(0, |tail| tail.len() as u64);
        self.rows.shape.names_at() + self.name_bytes + tail_bytes
    }

    /// Finishes a hash that has taken in header and rows already.
    pub fn digest_tail(&self, mut hasher: Hasher) -> Result<Digest, RepositoryError> {
        self.stream_tail(&mut |piece| {
            hasher.update(piece);
            Ok(())
        })?;
        Ok(hasher.finish())
    }

    /// Calls `take` with the plaintext, piece after piece.
    pub fn stream(
        &self,
        take: &mut dyn FnMut(&[u8]) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        self.rows.stream(take)?;
        self.stream_tail(take)
    }

    /// Pack table, formats, names and tail.
    fn stream_tail(
        &self,
        take: &mut dyn FnMut(&[u8]) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let shape = &self.rows.shape;
        if shape.version != 1 {
            let mut offset = shape.names_at();
            self.each_name(&mut |name| {
                let slot = encode_pack_slot(offset as u32, name.len() as u8);
                offset += name.len() as u64;
                take(&slot)
            })?;
            for format in &self.formats {
                take(&encode_format(*format))?;
            }
        }
        self.each_name(take)?;
        match &self.tail {
            Some(tail) => take(tail),
            None => Ok(()),
        }
    }

    fn each_name(
        &self,
        take: &mut dyn FnMut(&[u8]) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let end = self.names.len();
        let mut slots = SequentialReader::new(Arc::clone(&self.names), 0..end, WINDOW_BYTES);
        while let Some(slot) = slots.next(SLOT_BYTES)? {
            take(name_of(slot))?;
        }
        Ok(())
    }
}
