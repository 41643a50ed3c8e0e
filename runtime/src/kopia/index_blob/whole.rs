//! An index blob that lies in memory as a whole, and the check of the order of keys.
//!
//! For writers' small blobs and for pack-local indexes; large ones are read from scratch with the
//! layout alone. Memory: the slice that is given, and the blob's name for errors.

use super::{
    ContentFormat, FORMAT_SLOT_BYTES, IndexEntry, IndexLayout, PACK_SLOT_BYTES, PackRef, in_blob,
};
use crate::kopia::FormatError;
use crate::kopia::content_id::{KEY_BYTES_MAX, is_prefix_byte};

/// A whole index blob.
#[derive(Clone, Debug)]
pub struct IndexBlob<'a> {
    bytes: &'a [u8],
    layout: IndexLayout,
    what: String,
}

impl<'a> IndexBlob<'a> {
    /// Reads the header and checks both tables; rows are checked when they are read. `what` names
    /// the blob.
    ///
    /// # Errors
    /// As [`IndexLayout::parse`], and a pack name that does not lie in the blob.
    pub fn parse(bytes: &'a [u8], what: &str) -> Result<Self, FormatError> {
        let layout = IndexLayout::parse(bytes, bytes.len() as u64, what)?;
        let blob = Self {
            bytes,
            layout,
            what: what.to_owned(),
        };
        for number in 0..layout.pack_count {
            let (offset, len) = blob.pack_slot(number)?;
            layout
                .check_name(offset, len)
                .map_err(|e| blob.named(e, "pack", u64::from(number)))?;
        }
        Ok(blob)
    }

    /// Returns the header as places.
    #[inline]
    pub fn layout(&self) -> &IndexLayout {
        &self.layout
    }

    /// Returns the number of entries.
    #[inline]
    pub fn len(&self) -> u32 {
        self.layout.entry_count
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns row `i`, key and entry; empty when there is no such row.
    #[inline]
    pub fn row(&self, i: u32) -> &'a [u8] {
        if i >= self.layout.entry_count {
            return &[];
        }
        // The rows end inside the blob (checked at the start), so this cannot overflow.
        let row_bytes = self.layout.row_bytes();
        let at = self.layout.entries_at as usize + i as usize * row_bytes;
        self.bytes.get(at..at + row_bytes).unwrap_or(&[])
    }

    /// Returns the key of row `i`; empty when there is no such row.
    #[inline]
    pub fn key(&self, i: u32) -> &'a [u8] {
        self.row(i).get(..self.layout.key_bytes).unwrap_or(&[])
    }

    /// Decodes row `i`. `overhead` is what encryption adds to a content; only version 1 needs it.
    ///
    /// # Errors
    /// As [`IndexLayout::decode_entry`], naming the blob and the row.
    #[inline]
    pub fn entry(&self, i: u32, overhead: u32) -> Result<IndexEntry, FormatError> {
        let after_key = self.row(i).get(self.layout.key_bytes..).unwrap_or(&[]);
        self.layout
            .decode_entry(after_key, overhead)
            .map_err(|e| in_blob(e, &self.what, u64::from(i)))
    }

    /// Returns the name of a pack.
    ///
    /// # Errors
    /// A number past the table or a name outside the blob.
    pub fn pack_name(&self, pack: PackRef) -> Result<&'a [u8], FormatError> {
        let (offset, len) = match pack {
            PackRef::Name { offset, len } => (offset, len),
            PackRef::Number(number) => self.pack_slot(number)?,
        };
        let at = offset as usize;
        self.bytes
            .get(at..at.saturating_add(usize::from(len)))
            .ok_or_else(|| {
                FormatError::malformed(&self.what, format!("the pack name at {offset} is outside"))
            })
    }

    /// Returns the format of an entry of this blob.
    ///
    /// # Errors
    /// A format number past the table; not for an entry that this blob decoded.
    pub fn format(&self, entry: &IndexEntry) -> Result<ContentFormat, FormatError> {
        if self.layout.version == 1 {
            return Ok(ContentFormat {
                format_version: entry.format_version,
                ..ContentFormat::default()
            });
        }
        self.formats()
            .nth(usize::from(entry.format))
            .ok_or_else(|| {
                FormatError::malformed(&self.what, format!("there is no format {}", entry.format))
            })
    }

    /// Returns the format table in order; empty in version 1.
    pub fn formats(&self) -> impl Iterator<Item = ContentFormat> + 'a {
        let layout = self.layout;
        let table = self
            .bytes
            .get(layout.formats_at as usize..layout.names_at as usize)
            .unwrap_or(&[]);
        let (slots, _) = table.as_chunks::<FORMAT_SLOT_BYTES>();
        slots.iter().map(move |slot| layout.decode_format(slot))
    }

    /// Checks that keys ascend strictly: two entries for one ID in one blob are an error.
    ///
    /// # Errors
    /// The first row that does not follow its predecessor, or whose key is none.
    pub fn keys_ascending(&self) -> Result<(), FormatError> {
        let mut previous: &[u8] = &[];
        for i in 0..self.len() {
            let key = self.key(i);
            if !ascends(previous, key) || !is_prefix_byte(key[0]) {
                return Err(out_of_order(&self.what, u64::from(i)));
            }
            previous = key;
        }
        Ok(())
    }

    fn pack_slot(&self, number: u32) -> Result<(u32, u8), FormatError> {
        let table = self
            .bytes
            .get(self.layout.packs_at as usize..self.layout.formats_at as usize)
            .unwrap_or(&[]);
        let (slots, _) = table.as_chunks::<PACK_SLOT_BYTES>();
        let slot = slots.get(number as usize).ok_or_else(|| {
            FormatError::malformed(&self.what, format!("there is no pack number {number}"))
        })?;
        Ok(self.layout.decode_pack_slot(slot))
    }

    #[cold]
    fn named(&self, error: FormatError, unit: &str, number: u64) -> FormatError {
        match error {
            FormatError::Malformed { reason, .. } => {
                FormatError::malformed(&self.what, format!("{unit} {number}: {reason}"))
            }
            other => other,
        }
    }
}

/// Checks strictly ascending keys over a blob that is read piece by piece. 40 bytes.
#[derive(Clone, Debug)]
pub struct KeyOrder {
    previous: [u8; KEY_BYTES_MAX],
    previous_bytes: u8,
    rows: u64,
}

impl Default for KeyOrder {
    fn default() -> Self {
        Self {
            previous: [0; KEY_BYTES_MAX],
            previous_bytes: 0,
            rows: 0,
        }
    }
}

impl KeyOrder {
    /// Takes the next key; `what` names the blob.
    ///
    /// # Errors
    /// A key that does not follow its predecessor, is longer than a key can be, or has an
    /// impossible prefix.
    #[inline]
    pub fn check(&mut self, key: &[u8], what: &str) -> Result<(), FormatError> {
        let previous = &self.previous[..usize::from(self.previous_bytes)];
        let prefix_is_good = key.first().is_some_and(|&byte| is_prefix_byte(byte));
        if !prefix_is_good || key.len() > KEY_BYTES_MAX || !ascends(previous, key) {
            return Err(out_of_order(what, self.rows));
        }
        match (key.first_chunk::<16>(), key.get(16..)) {
            (Some(first), Some(rest)) => {
                let (to_first, to_rest) = self.previous.split_at_mut(16);
                to_first.copy_from_slice(first);
                to_rest
                    .iter_mut()
                    .zip(rest)
                    .for_each(|(to, from)| *to = *from);
            }
            _ => self.previous[..key.len()].copy_from_slice(key),
        }
        self.previous_bytes = key.len() as u8;
        self.rows += 1;
        Ok(())
    }
}

/// Returns whether `key` is larger than `previous`. Hashes are random: the first 16 bytes decide
/// nearly always, without a call.
#[inline]
fn ascends(previous: &[u8], key: &[u8]) -> bool {
    match (previous.first_chunk::<16>(), key.first_chunk::<16>()) {
        (Some(a), Some(b)) if a != b => u128::from_be_bytes(*a) < u128::from_be_bytes(*b),
        _ => previous < key,
    }
}

#[cold]
fn out_of_order(what: &str, row: u64) -> FormatError {
    FormatError::malformed(
        what,
        format!("row {row}: the key does not follow its predecessor, or is none"),
    )
}
