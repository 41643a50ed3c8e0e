//! Index blobs: where each content lies, in which pack, since when, and whether it is deleted.
//!
//! [`IndexLayout`] is the header turned into places: enough to read a blob of 500 MB piece by piece
//! from scratch. [`IndexBlob`] (in `index_blob/whole.rs`) is the same over a blob in memory.
//! Decoding a row touches nothing but the row: no heap, no look-up, one pass over 16 to 20 bytes.
//! Invariant: every place is checked against the size of the blob before it is used, and a number
//! that points past a table is an error. Kopia reads such an entry as pack `---invalid---`; Careen
//! stops instead. Mirrors Kopia's `index_v1.go` and `index_v2.go`.

mod refusal;
mod whole;

pub use refusal::{
    LENGTH_LIMIT, OFFSET_LIMIT, PACK_NAME_BYTES_MAX, TIMESTAMP_V1_LIMIT, TIMESTAMP_V2_LIMIT,
    refusal,
};
pub use whole::{IndexBlob, KeyOrder};

use crate::kopia::FormatError;
use crate::kopia::content_id::KEY_BYTES_MAX;

/// Bytes of the header that [`IndexLayout::parse`] wants to see.
pub const HEADER_BYTES_MAX: usize = HEADER_V2_BYTES;
/// Bytes of the header of version 1.
pub(crate) const HEADER_V1_BYTES: usize = 8;
/// Bytes of the header of version 2.
pub(crate) const HEADER_V2_BYTES: usize = 17;
/// Bytes of an entry of version 1, after its key.
pub const ENTRY_V1_BYTES: usize = 20;
/// Least bytes of an entry of version 2, after its key.
pub const ENTRY_V2_BYTES_MIN: usize = 16;
/// Most bytes of an entry of version 2, after its key.
pub const ENTRY_V2_BYTES_MAX: usize = 19;
/// Longest row: key and entry.
pub const ROW_BYTES_MAX: usize = KEY_BYTES_MAX + ENTRY_V1_BYTES;
/// Bytes of a slot of the pack table (version 2).
pub const PACK_SLOT_BYTES: usize = 5;
/// Bytes of a slot of the format table (version 2).
pub const FORMAT_SLOT_BYTES: usize = 6;
/// Most packs of one blob of version 2: entries have 24 bits for the number.
pub const PACK_COUNT_MAX: u32 = 1 << 24;
/// The key size in a blob of version 1 without entries.
pub(crate) const KEY_BYTES_UNKNOWN: usize = 0xFF;

/// The deleted bit beside the pack offset.
const DELETED: u32 = 1 << 31;

/// How a content is stored: one row of the format table of a blob of version 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentFormat {
    /// Compression of the content, zero for none.
    pub compression_header_id: u32,
    /// Format version of the repository when the content was written.
    pub format_version: u8,
    /// Always zero in what Kopia writes.
    pub encryption_key_id: u8,
}

/// How an entry names its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackRef {
    /// Version 1: where the name lies in the blob.
    Name {
        /// Absolute offset of the name.
        offset: u32,
        /// Bytes of the name.
        len: u8,
    },
    /// Version 2: the number of the pack in the blob's table, known to be inside it.
    Number(u32),
}

/// One entry, without its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// When the entry was made, in seconds since 1970.
    pub timestamp_seconds: i64,
    /// Whether this is a tombstone.
    pub deleted: bool,
    /// Where the content begins in its pack; below 2^31.
    pub pack_offset: u32,
    /// Bytes in the pack.
    pub packed_length: u32,
    /// Bytes of the content, decrypted and decompressed.
    pub original_length: u32,
    /// The pack.
    pub pack: PackRef,
    /// Version 2: number in the blob's format table, known to be inside it. Version 1: zero.
    pub format: u8,
    /// Version 1: the format version. Version 2: zero, the format table has it.
    pub format_version: u8,
}

/// The header of an index blob, checked, as places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexLayout {
    /// 1 or 2.
    pub version: u32,
    /// Bytes of a key; zero in a blob of version 1 without entries, which does not know them.
    pub key_bytes: usize,
    /// Bytes of an entry, after its key.
    pub entry_bytes: usize,
    /// Entries.
    pub entry_count: u32,
    /// Packs in the table; zero in version 1, which has none.
    pub pack_count: u32,
    /// Formats in the table; zero in version 1, which has none.
    pub format_count: u16,
    /// Added to the timestamps of version 2.
    pub base_timestamp: u32,
    /// Where the rows begin.
    pub entries_at: u64,
    /// Where the pack table begins.
    pub packs_at: u64,
    /// Where the format table begins.
    pub formats_at: u64,
    /// Where the pack names begin, as writers lay them out; readers follow the absolute offsets.
    pub names_at: u64,
    /// Bytes of the whole blob, with whatever trails.
    pub total_bytes: u64,
}

impl IndexLayout {
    /// Reads the header of a blob of `total_bytes`; `what` names it in errors.
    ///
    /// `header` is the beginning of the blob: [`HEADER_BYTES_MAX`] bytes, or all of a shorter blob.
    ///
    /// # Errors
    /// Another version than 1 and 2, impossible sizes, a table that does not fit in the blob.
    pub fn parse(header: &[u8], total_bytes: u64, what: &str) -> Result<Self, FormatError> {
        let layout = match header.first() {
            Some(1) => Self::parse_v1(header, total_bytes),
            Some(2) => Self::parse_v2(header, total_bytes),
            Some(other) => Err(format!("index version {other} is not known")),
            None => Err("the index blob is empty".to_owned()),
        };
        layout.map_err(|reason| FormatError::malformed(what, reason))
    }

    fn parse_v1(header: &[u8], total_bytes: u64) -> Result<Self, String> {
        let header: &[u8; HEADER_V1_BYTES] = header
            .first_chunk()
            .filter(|_| total_bytes >= HEADER_V1_BYTES as u64)
            .ok_or("the header is cut short")?;
        Self {
            version: 1,
            key_bytes: usize::from(header[1]),
            entry_bytes: usize::from(u16_at(header, 2)),
            entry_count: u32_at(header, 4),
            pack_count: 0,
            format_count: 0,
            base_timestamp: 0,
            entries_at: HEADER_V1_BYTES as u64,
            packs_at: 0,
            formats_at: 0,
            names_at: 0,
            total_bytes,
        }
        .placed()
    }

    fn parse_v2(header: &[u8], total_bytes: u64) -> Result<Self, String> {
        let header: &[u8; HEADER_V2_BYTES] = header
            .first_chunk()
            .filter(|_| total_bytes >= HEADER_V2_BYTES as u64)
            .ok_or("the header is cut short")?;
        Self {
            version: 2,
            key_bytes: usize::from(header[1]),
            entry_bytes: usize::from(u16_at(header, 2)),
            entry_count: u32_at(header, 4),
            pack_count: u32_at(header, 8),
            format_count: u16::from(header[12]),
            base_timestamp: u32_at(header, 13),
            entries_at: HEADER_V2_BYTES as u64,
            packs_at: 0,
            formats_at: 0,
            names_at: 0,
            total_bytes,
        }
        .placed()
    }

    /// Checks the sizes and computes where the tables lie.
    fn placed(mut self) -> Result<Self, String> {
        let entry_sizes = if self.version == 1 {
            ENTRY_V1_BYTES..=ENTRY_V1_BYTES
        } else {
            ENTRY_V2_BYTES_MIN..=ENTRY_V2_BYTES_MAX
        };
        if !entry_sizes.contains(&self.entry_bytes) {
            return Err(format!("entry size {} is not possible", self.entry_bytes));
        }
        let empty_v1 =
            self.version == 1 && self.entry_count == 0 && self.key_bytes == KEY_BYTES_UNKNOWN;
        if empty_v1 {
            self.key_bytes = 0;
        } else if !(2..=KEY_BYTES_MAX).contains(&self.key_bytes) {
            return Err(format!("key size {} is not possible", self.key_bytes));
        }
        if self.pack_count > PACK_COUNT_MAX {
            return Err(format!("{} packs are more than possible", self.pack_count));
        }
        // None of these can overflow: 2^32 rows of at most 2^9 bytes, 2^24 packs, 2^8 formats.
        self.packs_at = self.entries_at + u64::from(self.entry_count) * self.row_bytes() as u64;
        self.formats_at = self.packs_at + u64::from(self.pack_count) * PACK_SLOT_BYTES as u64;
        self.names_at = self.formats_at + u64::from(self.format_count) * FORMAT_SLOT_BYTES as u64;
        if self.names_at > self.total_bytes {
            return Err(format!(
                "the tables need {} bytes, the blob has {}",
                self.names_at, self.total_bytes
            ));
        }
        Ok(self)
    }

    /// Returns the bytes of a row: key and entry.
    #[inline]
    pub fn row_bytes(&self) -> usize {
        self.key_bytes + self.entry_bytes
    }

    /// Decodes the part of a row that follows the key. `overhead` is what encryption adds to a
    /// content; only version 1 needs it, which does not store the original length.
    ///
    /// # Errors
    /// A row of another size than [`IndexLayout::entry_bytes`], a pack or format number past its
    /// table, a packed length below `overhead`. Errors do not know the blob; see [`in_blob`].
    #[inline]
    pub fn decode_entry(
        &self,
        row_after_key: &[u8],
        overhead: u32,
    ) -> Result<IndexEntry, FormatError> {
        if self.version == 1 {
            self.decode_v1(row_after_key, overhead)
        } else {
            self.decode_v2(row_after_key)
        }
    }

    #[inline]
    fn decode_v1(&self, row: &[u8], overhead: u32) -> Result<IndexEntry, FormatError> {
        let Ok(row) = <&[u8; ENTRY_V1_BYTES]>::try_from(row) else {
            return Err(wrong_row_size(row.len()));
        };
        let head = u64_at(row, 0);
        let (offset, len) = (u32_at(row, 8), head as u8);
        let place = u32_at(row, 12);
        let packed_length = u32_at(row, 16);
        let Some(original_length) = packed_length.checked_sub(overhead) else {
            return Err(shorter_than_overhead(packed_length, overhead));
        };
        if u64::from(offset) + u64::from(len) > self.total_bytes {
            return Err(name_outside(offset, len));
        }
        Ok(IndexEntry {
            timestamp_seconds: (head >> 16) as i64,
            deleted: place & DELETED != 0,
            pack_offset: place & !DELETED,
            packed_length,
            original_length,
            pack: PackRef::Name { offset, len },
            format: 0,
            format_version: (head >> 8) as u8,
        })
    }

    #[inline]
    fn decode_v2(&self, row: &[u8]) -> Result<IndexEntry, FormatError> {
        let (Some(head), true) = (
            row.first_chunk::<ENTRY_V2_BYTES_MIN>(),
            row.len() == self.entry_bytes,
        ) else {
            return Err(wrong_row_size(row.len()));
        };
        let format = row.get(16).copied().unwrap_or(0);
        let pack_high = u32::from(row.get(17).copied().unwrap_or(0));
        let lengths_high = u32::from(row.get(18).copied().unwrap_or(0));
        let place = u32_at(head, 4);
        // Bytes 8 to 15: 24 bits of original length, 24 of packed length, 16 of the pack number.
        let tail = u64_at(head, 8);
        let pack = (tail as u32 & 0xFFFF) | pack_high << 16;
        if pack >= self.pack_count || u16::from(format) >= self.format_count {
            return Err(number_outside(pack, format));
        }
        Ok(IndexEntry {
            timestamp_seconds: i64::from(u32_at(head, 0)) + i64::from(self.base_timestamp),
            deleted: place & DELETED != 0,
            pack_offset: place & !DELETED,
            packed_length: (tail >> 16) as u32 & 0x00FF_FFFF | (lengths_high & 0x0F) << 24,
            original_length: (tail >> 40) as u32 | (lengths_high >> 4) << 24,
            pack: PackRef::Number(pack),
            format,
            format_version: 0,
        })
    }

    /// Decodes a slot of the pack table: where the pack's name lies, and its bytes.
    #[inline]
    pub fn decode_pack_slot(&self, slot: &[u8; PACK_SLOT_BYTES]) -> (u32, u8) {
        (u32_at(slot, 1), slot[0])
    }

    /// Decodes a slot of the format table.
    #[inline]
    pub fn decode_format(&self, slot: &[u8; FORMAT_SLOT_BYTES]) -> ContentFormat {
        ContentFormat {
            compression_header_id: u32_at(slot, 0),
            format_version: slot[4],
            encryption_key_id: slot[5],
        }
    }

    /// Checks that a pack name lies inside the blob.
    ///
    /// # Errors
    /// A name that does not.
    #[inline]
    pub fn check_name(&self, offset: u32, len: u8) -> Result<(), FormatError> {
        if u64::from(offset) + u64::from(len) > self.total_bytes {
            return Err(name_outside(offset, len));
        }
        Ok(())
    }
}

/// Names the blob and the row in an error of [`IndexLayout::decode_entry`].
#[cold]
pub fn in_blob(error: FormatError, what: &str, row: u64) -> FormatError {
    match error {
        FormatError::Malformed { reason, .. } => {
            FormatError::malformed(what, format!("row {row}: {reason}"))
        }
        other => other,
    }
}

#[cold]
fn wrong_row_size(bytes: usize) -> FormatError {
    FormatError::malformed("index entry", format!("{bytes} bytes are no entry"))
}

#[cold]
fn shorter_than_overhead(packed: u32, overhead: u32) -> FormatError {
    FormatError::malformed(
        "index entry",
        format!("packed length {packed} is below the encryption overhead {overhead}"),
    )
}

#[cold]
fn number_outside(pack: u32, format: u8) -> FormatError {
    FormatError::malformed(
        "index entry",
        format!("pack number {pack} or format number {format} is not in the table"),
    )
}

#[cold]
fn name_outside(offset: u32, len: u8) -> FormatError {
    FormatError::malformed(
        "index blob",
        format!("the pack name at {offset} with {len} bytes is not in the blob"),
    )
}

#[inline]
fn u16_at<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline]
fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}

#[cfg(test)]
pub(crate) mod tests;
