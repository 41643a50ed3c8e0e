//! The index builder for small blobs: entries in any order, bytes as Kopia writes them.
//!
//! Memory: about 60 bytes and a key per entry, the distinct pack names, and the result. The caller
//! bounds the number of entries. Invariant: packs and formats are numbered by first appearance in
//! key order, of winners only, so that the same entries always give the same bytes. Mirrors Kopia's
//! `index_builder.go`.

use std::collections::HashMap;

use super::{
    EntryFields, FORMAT_COUNT_MAX, IndexShape, RANDOM_TAIL_BYTES, beats, encode_entry,
    encode_entry_v1, encode_format, encode_pack_slot,
};
use crate::kopia::FormatError;
use crate::kopia::content_id::{ContentId, KEY_BYTES_MAX};
use crate::kopia::index_blob::{
    ContentFormat, ENTRY_V1_BYTES, IndexEntry, KEY_BYTES_UNKNOWN, PackRef, refusal,
};

/// Most entries of one blob: Kopia's own limit of a shard.
pub const ENTRY_COUNT_MAX: usize = 16_000_000;

/// An entry to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewEntry<'a> {
    /// Its numbers.
    pub fields: EntryFields,
    /// The pack's name.
    pub pack_name: &'a [u8],
    /// How the content is stored.
    pub format: ContentFormat,
}

/// Collects entries and builds one index blob.
#[derive(Debug)]
pub struct IndexBuilder {
    version: u8,
    key_bytes: usize,
    keys: Vec<u8>,
    rows: Vec<Row>,
    packs: Vec<Vec<u8>>,
    pack_numbers: HashMap<Vec<u8>, u32>,
    longest_length: u32,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    fields: EntryFields,
    pack: u32,
    format: ContentFormat,
}

impl IndexBuilder {
    /// Starts a blob of `version` (1 or 2) whose keys have `key_bytes` bytes.
    pub fn new(version: u8, key_bytes: usize) -> Self {
        Self {
            version,
            key_bytes,
            keys: Vec::new(),
            rows: Vec::new(),
            packs: Vec::new(),
            pack_numbers: HashMap::new(),
            longest_length: 0,
        }
    }

    /// Adds an entry; of several with one key the winner stays.
    ///
    /// # Errors
    /// A key of another size or form, an entry that Kopia's clients would refuse, more than
    /// [`ENTRY_COUNT_MAX`].
    pub fn add(&mut self, key: &[u8], entry: NewEntry<'_>) -> Result<(), FormatError> {
        let id = ContentId::from_key(key)?;
        let refuse = |reason: &str| Err(FormatError::malformed(format!("content {id}"), reason));
        if key.len() != self.key_bytes || key.len() > KEY_BYTES_MAX {
            return refuse("the key has another size than the index");
        }
        if self.rows.len() >= ENTRY_COUNT_MAX {
            return refuse("the index has no room for more entries");
        }
        let fields = entry.fields;
        let as_read = IndexEntry {
            timestamp_seconds: fields.timestamp_seconds,
            deleted: fields.deleted,
            pack_offset: fields.pack_offset,
            packed_length: fields.packed_length,
            original_length: fields.original_length,
            pack: PackRef::Number(0),
            format: 0,
            format_version: entry.format.format_version,
        };
        if let Some(reason) = refusal(&as_read, entry.format, entry.pack_name.len(), self.version) {
            return refuse(reason);
        }
        let pack = self.number_of(entry.pack_name);
        self.keys.extend_from_slice(key);
        self.rows.push(Row {
            fields,
            pack,
            format: entry.format,
        });
        Ok(())
    }

    /// Returns the number of entries added, losers included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Builds the blob. `random_tail` makes it unique: pack-local indexes and V0 compactions have
    /// one, writers' flushes and epoch compactions do not.
    ///
    /// # Errors
    /// Version 2 without entries; more formats or packs than a blob can hold.
    pub fn build(
        mut self,
        random_tail: Option<[u8; RANDOM_TAIL_BYTES]>,
    ) -> Result<Vec<u8>, FormatError> {
        let winners = self.winners();
        let numbering = Numbering::of(&self, &winners)?;
        for &i in &winners {
            let fields = &self.rows[i].fields;
            let longest = fields.packed_length.max(fields.original_length);
            self.longest_length = self.longest_length.max(longest);
        }
        let shape = self.shape(winners.len(), &numbering);
        shape.check(numbering.names.len() as u64)?;
        let mut out = shape.header();
        let bytes = shape.names_at() as usize + numbering.names.len() + RANDOM_TAIL_BYTES;
        out.reserve_exact(bytes.saturating_sub(out.len()));
        self.write_rows(&shape, &winners, &numbering, &mut out)?;
        if self.version != 1 {
            for &(offset, len) in &numbering.packs {
                out.extend(encode_pack_slot(shape.names_at() as u32 + offset, len));
            }
            for &format in &numbering.formats {
                out.extend(encode_format(format));
            }
        }
        out.extend(&numbering.names);
        out.extend(random_tail.into_iter().flatten());
        Ok(out)
    }

    fn number_of(&mut self, name: &[u8]) -> u32 {
        if let Some(&number) = self.pack_numbers.get(name) {
            return number;
        }
        let number = self.packs.len() as u32; // not above the number of entries
        self.packs.push(name.to_vec());
        self.pack_numbers.insert(name.to_vec(), number);
        number
    }

    fn key(&self, i: usize) -> &[u8] {
        &self.keys[i * self.key_bytes..(i + 1) * self.key_bytes]
    }

    /// Returns the row numbers of the winners in key order.
    fn winners(&self) -> Vec<usize> {
        let rank = |i: usize| {
            let row = &self.rows[i];
            let pack = self.packs[row.pack as usize].as_slice();
            (row.fields.timestamp_seconds, row.fields.deleted, pack)
        };
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by(|&a, &b| self.key(a).cmp(self.key(b))); // stable: the first seen stays first
        let mut winners: Vec<usize> = Vec::with_capacity(order.len());
        for i in order {
            match winners.last_mut() {
                Some(last) if self.key(*last) == self.key(i) => {
                    if beats(rank(i), rank(*last)) {
                        *last = i;
                    }
                }
                _ => winners.push(i),
            }
        }
        winners
    }

    fn shape(&self, entries: usize, numbering: &Numbering) -> IndexShape {
        let tables = self.version != 1;
        let pack_count = if tables {
            numbering.packs.len() as u32
        } else {
            0
        };
        let format_count = if tables {
            numbering.formats.len() as u16
        } else {
            0
        };
        IndexShape {
            version: self.version,
            key_bytes: if self.version == 1 && entries == 0 {
                KEY_BYTES_UNKNOWN
            } else {
                self.key_bytes
            },
            entry_count: entries as u32,
            pack_count,
            format_count,
            entry_bytes: if tables {
                IndexShape::entry_bytes_needed(format_count, pack_count, self.longest_length)
            } else {
                ENTRY_V1_BYTES
            },
        }
    }

    fn write_rows(
        &self,
        shape: &IndexShape,
        winners: &[usize],
        numbering: &Numbering,
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        let mut entry = [0; ENTRY_V1_BYTES];
        let entry = &mut entry[..shape.entry_bytes];
        for &i in winners {
            let row = &self.rows[i];
            let number = numbering.pack_of[row.pack as usize];
            out.extend_from_slice(self.key(i));
            if self.version == 1 {
                let (offset, len) = numbering.packs[number as usize];
                let offset = shape.names_at() as u32 + offset;
                encode_entry_v1(&row.fields, row.format.format_version, offset, len, entry)?;
            } else {
                let format = numbering.format_of(row.format);
                encode_entry(shape, &row.fields, number, format, entry)?;
            }
            out.extend_from_slice(entry);
        }
        Ok(())
    }
}

/// Packs and formats in the order in which the winners first name them.
struct Numbering {
    /// The final number of each pack of the builder.
    pack_of: Vec<u32>,
    /// Where each name begins among the names, and its bytes.
    packs: Vec<(u32, u8)>,
    formats: Vec<ContentFormat>,
    names: Vec<u8>,
}

impl Numbering {
    fn of(builder: &IndexBuilder, winners: &[usize]) -> Result<Self, FormatError> {
        let mut numbering = Self {
            pack_of: vec![u32::MAX; builder.packs.len()],
            packs: Vec::new(),
            formats: Vec::new(),
            names: Vec::new(),
        };
        for &i in winners {
            let row = &builder.rows[i];
            let number = &mut numbering.pack_of[row.pack as usize];
            if *number == u32::MAX {
                let name = &builder.packs[row.pack as usize];
                *number = numbering.packs.len() as u32;
                let place = (numbering.names.len() as u32, name.len() as u8);
                numbering.packs.push(place);
                numbering.names.extend_from_slice(name);
            }
            if builder.version != 1 && !numbering.formats.contains(&row.format) {
                if numbering.formats.len() >= usize::from(FORMAT_COUNT_MAX) {
                    return Err(FormatError::malformed(
                        "index blob to write",
                        "too many formats",
                    ));
                }
                numbering.formats.push(row.format);
            }
        }
        Ok(numbering)
    }

    fn format_of(&self, format: ContentFormat) -> u8 {
        let at = self.formats.iter().position(|known| *known == format);
        at.expect("every winner's format was numbered") as u8
    }
}
