//! Writing index blobs, byte by byte as Kopia writes them.
//!
//! [`IndexShape`] and the `encode_…` functions are for the streaming writer, which knows the counts
//! beforehand and numbers packs itself. [`IndexBuilder`] (in `index_builder/builder.rs`) is for
//! small blobs: writers' flushes, pack-local indexes, tests. Invariant: a value that does not fit
//! is an error, never cut; Kopia's readers would take the wrong bytes. Memory: none here. Mirrors
//! Kopia's `index_v1.go`, `index_v2.go` and `merged.go`.

mod builder;

pub use builder::{ENTRY_COUNT_MAX, IndexBuilder, NewEntry};

use crate::kopia::FormatError;
use crate::kopia::content_id::KEY_BYTES_MAX;
use crate::kopia::index_blob::{
    ContentFormat, ENTRY_V1_BYTES, ENTRY_V2_BYTES_MAX, ENTRY_V2_BYTES_MIN, FORMAT_SLOT_BYTES,
    HEADER_BYTES_MAX, HEADER_V1_BYTES, HEADER_V2_BYTES, KEY_BYTES_UNKNOWN, LENGTH_LIMIT,
    OFFSET_LIMIT, PACK_COUNT_MAX, PACK_SLOT_BYTES, TIMESTAMP_V1_LIMIT,
};

/// Bytes of the random tail that makes some index blobs unique.
pub const RANDOM_TAIL_BYTES: usize = 32;
/// Most formats of a blob of version 2: the count has one byte, and Kopia keeps 255 as "invalid".
pub const FORMAT_COUNT_MAX: u16 = 255;
/// Lengths from here on need the 19th byte.
const SHORT_LENGTH_LIMIT: u32 = 1 << 24;
/// More packs than this need the 18th byte.
const SHORT_PACK_COUNT: u32 = 1 << 16;
/// The deleted bit beside the pack offset.
const DELETED: u32 = 1 << 31;

/// The numbers of an entry, without key, pack and format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryFields {
    /// When the entry was made, in seconds since 1970.
    pub timestamp_seconds: i64,
    /// Whether this is a tombstone.
    pub deleted: bool,
    /// Where the content begins in its pack.
    pub pack_offset: u32,
    /// Bytes in the pack.
    pub packed_length: u32,
    /// Bytes of the content, decrypted and decompressed; version 1 does not store it.
    pub original_length: u32,
}

/// The counts and sizes of a blob to be written: they decide where everything lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexShape {
    /// 1 or 2.
    pub version: u8,
    /// Bytes of a key.
    pub key_bytes: usize,
    /// Entries.
    pub entry_count: u32,
    /// Packs in the table; zero in version 1.
    pub pack_count: u32,
    /// Formats in the table; zero in version 1.
    pub format_count: u16,
    /// Bytes of an entry, after its key.
    pub entry_bytes: usize,
}

impl IndexShape {
    /// Returns the bytes that an entry of version 2 needs, after its key; `longest_length` is the
    /// largest of all packed and original lengths.
    pub fn entry_bytes_needed(format_count: u16, pack_count: u32, longest_length: u32) -> usize {
        if longest_length >= SHORT_LENGTH_LIMIT {
            ENTRY_V2_BYTES_MAX
        } else if pack_count > SHORT_PACK_COUNT {
            ENTRY_V2_BYTES_MIN + 2
        } else if format_count > 1 {
            ENTRY_V2_BYTES_MIN + 1
        } else {
            ENTRY_V2_BYTES_MIN
        }
    }

    /// Checks that a blob of this shape with `names_bytes` bytes of pack names can be written.
    ///
    /// # Errors
    /// Sizes outside the format's limits; a blob whose pack names lie beyond 4 GiB, where no offset
    /// reaches.
    pub fn check(&self, names_bytes: u64) -> Result<(), FormatError> {
        let refuse = |reason: &str| Err(FormatError::malformed("index blob to write", reason));
        let empty_v1 =
            self.version == 1 && self.entry_count == 0 && self.key_bytes == KEY_BYTES_UNKNOWN;
        if !(1..=2).contains(&self.version) {
            return refuse("the index version is neither 1 nor 2");
        }
        if !empty_v1 && !(2..=KEY_BYTES_MAX).contains(&self.key_bytes) {
            return refuse("the key size is not possible");
        }
        let entry_sizes = match self.version {
            1 => ENTRY_V1_BYTES..=ENTRY_V1_BYTES,
            _ => ENTRY_V2_BYTES_MIN..=ENTRY_V2_BYTES_MAX,
        };
        if !entry_sizes.contains(&self.entry_bytes) {
            return refuse("the entry size is not possible");
        }
        if self.version == 1 && (self.pack_count, self.format_count) != (0, 0) {
            return refuse("version 1 has no tables");
        }
        if self.version == 2 && self.entry_count == 0 {
            return refuse("version 2 cannot be written without entries");
        }
        if self.pack_count > PACK_COUNT_MAX {
            return refuse("too many packs");
        }
        if self.format_count > FORMAT_COUNT_MAX {
            return refuse("too many formats");
        }
        if self.names_at().saturating_add(names_bytes) > u64::from(u32::MAX) {
            return refuse("the pack names lie beyond 4 GiB");
        }
        Ok(())
    }

    /// Returns the header: 8 bytes in version 1, 17 in version 2.
    pub fn header(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_BYTES_MAX);
        header.extend([self.version, self.key_bytes as u8]);
        header.extend((self.entry_bytes as u16).to_be_bytes());
        header.extend(self.entry_count.to_be_bytes());
        if self.version != 1 {
            header.extend(self.pack_count.to_be_bytes());
            header.push(self.format_count as u8);
            header.extend(0_u32.to_be_bytes()); // base timestamp: Kopia always leaves it zero
        }
        header
    }

    /// Returns the bytes of a row: key and entry.
    pub fn row_bytes(&self) -> usize {
        self.key_bytes + self.entry_bytes
    }

    /// Returns where the rows begin.
    pub fn entries_at(&self) -> u64 {
        match self.version {
            1 => HEADER_V1_BYTES as u64,
            _ => HEADER_V2_BYTES as u64,
        }
    }

    /// Returns where the pack table begins.
    pub fn packs_at(&self) -> u64 {
        self.entries_at() + u64::from(self.entry_count) * self.row_bytes() as u64
    }

    /// Returns where the format table begins.
    pub fn formats_at(&self) -> u64 {
        self.packs_at() + u64::from(self.pack_count) * PACK_SLOT_BYTES as u64
    }

    /// Returns where the pack names begin.
    pub fn names_at(&self) -> u64 {
        self.formats_at() + u64::from(self.format_count) * FORMAT_SLOT_BYTES as u64
    }
}

/// Encodes an entry of version 2, without its key, into `out`, which has `shape.entry_bytes` bytes.
///
/// # Errors
/// A value that does not fit in an entry of this shape, or a number past its table.
#[inline]
pub fn encode_entry(
    shape: &IndexShape,
    fields: &EntryFields,
    pack_number: u32,
    format_number: u8,
    out: &mut [u8],
) -> Result<(), FormatError> {
    let longest = fields.packed_length.max(fields.original_length);
    let fits = u32::try_from(fields.timestamp_seconds).is_ok()
        && fields.pack_offset < OFFSET_LIMIT
        && longest < LENGTH_LIMIT
        && pack_number < shape.pack_count
        && u16::from(format_number) < shape.format_count
        && out.len() == shape.entry_bytes;
    let high = (fields.original_length >> 24) << 4 | fields.packed_length >> 24;
    let optional = [format_number, (pack_number >> 16) as u8, high as u8];
    let [a, b, c] = optional.map(u32::from);
    let Some((head, rest)) = out.split_first_chunk_mut::<ENTRY_V2_BYTES_MIN>() else {
        return Err(does_not_fit(fields));
    };
    let kept = rest.len().min(optional.len());
    if !fits || (a << 16 | b << 8 | c) & (0x00FF_FFFF >> (8 * kept)) != 0 {
        return Err(does_not_fit(fields));
    }
    let place = fields.pack_offset | if fields.deleted { DELETED } else { 0 };
    let word = u128::from(fields.timestamp_seconds as u32) << 96
        | u128::from(place) << 64
        | u128::from(fields.original_length & 0x00FF_FFFF) << 40
        | u128::from(fields.packed_length & 0x00FF_FFFF) << 16
        | u128::from(pack_number & 0xFFFF);
    *head = word.to_be_bytes();
    for (to, from) in rest.iter_mut().zip(optional) {
        *to = from;
    }
    Ok(())
}

/// Encodes an entry of version 1, without its key, into `out`, which has 20 bytes.
///
/// # Errors
/// A value that does not fit, and an empty pack name.
#[inline]
pub fn encode_entry_v1(
    fields: &EntryFields,
    format_version: u8,
    name_offset: u32,
    name_len: u8,
    out: &mut [u8],
) -> Result<(), FormatError> {
    let fits = (0..TIMESTAMP_V1_LIMIT).contains(&fields.timestamp_seconds)
        && fields.pack_offset < OFFSET_LIMIT
        && name_len > 0;
    let Ok(out) = <&mut [u8; ENTRY_V1_BYTES]>::try_from(out) else {
        return Err(does_not_fit(fields));
    };
    if !fits {
        return Err(does_not_fit(fields));
    }
    let head = (fields.timestamp_seconds as u64) << 16
        | u64::from(format_version) << 8
        | u64::from(name_len);
    let place = fields.pack_offset | if fields.deleted { DELETED } else { 0 };
    out[..8].copy_from_slice(&head.to_be_bytes());
    out[8..12].copy_from_slice(&name_offset.to_be_bytes());
    out[12..16].copy_from_slice(&place.to_be_bytes());
    out[16..].copy_from_slice(&fields.packed_length.to_be_bytes());
    Ok(())
}

/// Encodes a slot of the pack table.
pub fn encode_pack_slot(name_offset: u32, name_len: u8) -> [u8; PACK_SLOT_BYTES] {
    let [a, b, c, d] = name_offset.to_be_bytes();
    [name_len, a, b, c, d]
}

/// Encodes a slot of the format table.
pub fn encode_format(format: ContentFormat) -> [u8; FORMAT_SLOT_BYTES] {
    let [a, b, c, d] = format.compression_header_id.to_be_bytes();
    [a, b, c, d, format.format_version, format.encryption_key_id]
}

/// Returns whether entry `a` wins over entry `b` of the same content ID. Fields: timestamp,
/// deleted, pack name.
///
/// The later timestamp wins; at the same second a live entry wins over a tombstone; then the larger
/// pack name. Neither wins when all three are equal: the one that was seen first stays.
#[inline]
pub fn beats(a: (i64, bool, &[u8]), b: (i64, bool, &[u8])) -> bool {
    if a.0 != b.0 {
        a.0 > b.0
    } else if a.1 != b.1 {
        b.1
    } else {
        a.2 > b.2
    }
}

/// Returns the FNV-1a hash by which Kopia spreads content IDs (as text) over index shards.
pub fn fnv1a_32(bytes: &[u8]) -> u32 {
    const BASIS: u32 = 0x811C_9DC5;
    const PRIME: u32 = 0x0100_0193;
    bytes.iter().fold(BASIS, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(PRIME)
    })
}

#[cold]
fn does_not_fit(fields: &EntryFields) -> FormatError {
    FormatError::malformed(
        "index entry to write",
        format!("{fields:?} does not fit in an entry of this shape"),
    )
}

#[cfg(test)]
pub(crate) use tests::test_file;

#[cfg(test)]
mod tests;
