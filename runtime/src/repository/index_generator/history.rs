//! The made-up history behind the generator: sessions, packs, contents, tombstones, and their
//! blobs.
//!
//! A pure function of the options, computed where it is needed: the contents of blob 70,000 are
//! known without those before it. That is how tombstones can name contents that another thread has
//! written. Memory: one index blob, about 100 bytes an entry.

use crate::clock::Timestamp;
use crate::kopia::FormatError;
use crate::kopia::blob_id::{PACK_DATA_PREFIX, PACK_METADATA_PREFIX, pack_name, session_id};
use crate::kopia::compression::ZSTD_FASTEST;
use crate::kopia::encryption::OVERHEAD_BYTES;
use crate::kopia::index_blob::ContentFormat;
use crate::kopia::index_builder::{
    EntryFields, IndexShape, encode_entry, encode_format, encode_pack_slot,
};

use super::{GeneratorOptions, TOMBSTONE_PERCENT_MAX};

/// Contents of a pack: 20 of about 1 MiB fill Kopia's 20 MiB.
const PACK_CONTENTS: u64 = 20;

/// Every so many packs of a flush, one holds directories.
const DIRECTORY_PACK_INTERVAL: u64 = 8;

/// Bytes of a key: the prefix and the default hash.
const KEY_BYTES: usize = 17;

/// Where the contents of a pack begin: after its random preamble.
const PREAMBLE_BYTES: u32 = 32;

/// Format version of new repositories.
const FORMAT_VERSION: u8 = 3;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// The made-up history: every part of it is computed from its numbers when it is needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct History {
    pub(super) entries: u64,
    pub(super) blobs: u64,
    tombstone_percent: u64,
    seed: u64,
    now_seconds: i64,
}

/// One entry, ready to be sorted.
#[derive(Clone, Copy)]
struct Row {
    key: [u8; KEY_BYTES],
    fields: EntryFields,
    pack: u32,
    format: u8,
}

/// A content as its blob wrote it.
struct Content {
    key: [u8; KEY_BYTES],
    original_length: u32,
    packed_length: u32,
    format: u8,
}

impl History {
    pub(super) fn new(options: &GeneratorOptions) -> Self {
        Self {
            entries: options.entries.max(1),
            blobs: options.index_blobs.clamp(1, options.entries.max(1)),
            tombstone_percent: u64::from(options.tombstone_percent.min(TOMBSTONE_PERCENT_MAX)),
            seed: mixed(options.seed),
            now_seconds: options.now.seconds(),
        }
    }

    /// Returns the number of the first entry of blob `number`.
    pub(super) fn start(&self, number: u64) -> u64 {
        let start = u128::from(number) * u128::from(self.entries) / u128::from(self.blobs);
        start as u64 // not above `entries`
    }

    pub(super) fn length(&self, number: u64) -> u64 {
        self.start(number + 1) - self.start(number)
    }

    pub(super) fn longest_blob(&self) -> u64 {
        self.entries.div_ceil(self.blobs)
    }

    pub(super) fn tombstones(&self, number: u64) -> u64 {
        match number {
            0 => 0, // nothing is older
            _ => self.length(number) * self.tombstone_percent / 100,
        }
    }

    /// Returns the blob and the first content in it that blob `number` deletes. Blobs 2n and 2n+1
    /// delete contents of blob n, the second of them those that follow.
    fn deleted_by(&self, number: u64) -> (u64, u64) {
        let older = number / 2;
        let after_sibling = if number % 2 == 1 {
            self.tombstones(number - 1)
        } else {
            0
        };
        (older, after_sibling)
    }

    /// Returns when blob `number` was written: from 400 to 30 days ago.
    fn written_seconds(&self, number: u64) -> i64 {
        let span = i128::from(370 * DAY_SECONDS) * i128::from(number) / i128::from(self.blobs);
        self.now_seconds - 400 * DAY_SECONDS + span as i64
    }

    pub(super) fn session(&self, number: u64) -> String {
        let random = self.random(&[1, number]).to_be_bytes();
        session_id(
            random,
            Timestamp::from_seconds(self.written_seconds(number)),
        )
    }

    fn pack_name(&self, blob: u64, pack: u64, session: &str) -> String {
        let prefix = if holds_directories(pack) {
            PACK_METADATA_PREFIX
        } else {
            PACK_DATA_PREFIX
        };
        let mut random = [0; 16];
        random[..8].copy_from_slice(&self.random(&[2, blob, pack]).to_be_bytes());
        random[8..].copy_from_slice(&self.random(&[3, blob, pack]).to_be_bytes());
        pack_name(prefix, random, session).to_string()
    }

    /// Returns content `place` of blob `number`.
    fn content(&self, number: u64, place: u64) -> Content {
        let unique = self.start(number) + place;
        let random = self.random(&[4, unique]);
        let is_directory = holds_directories(place / PACK_CONTENTS);
        let mut key = [0; KEY_BYTES];
        key[0] = if is_directory { b'k' } else { 0 };
        key[1..9].copy_from_slice(&mixed(unique.wrapping_add(self.seed)).to_be_bytes());
        key[9..].copy_from_slice(&random.to_be_bytes());
        let (least, span) = if is_directory {
            (1 << 10, 16 << 10)
        } else {
            (64 << 10, 2 << 20)
        };
        let original_length = least + (random >> 32) as u32 % span;
        let stored = if is_directory {
            original_length / 3
        } else {
            original_length
        };
        Content {
            key,
            original_length,
            packed_length: stored + OVERHEAD_BYTES as u32,
            format: u8::from(is_directory),
        }
    }

    /// Encodes index blob `number`, as a writer's flush would.
    pub(super) fn encode(&self, number: u64) -> Result<Vec<u8>, FormatError> {
        let mut rows = Vec::with_capacity(self.length(number) as usize);
        let mut names = Names::default();
        let live = self.length(number) - self.tombstones(number);
        let written = self.written_seconds(number);
        self.add_rows(number, 0..live, written, false, &mut rows, &mut names);
        let (older, first) = self.deleted_by(number);
        let deleted = first..first + self.tombstones(number);
        self.add_rows(older, deleted, written, true, &mut rows, &mut names);
        rows.sort_unstable_by_key(|row| row.key);
        encode_rows(&rows, &names)
    }

    /// Adds contents `places` of blob `number`: new ones, or tombstones of old ones.
    fn add_rows(
        &self,
        number: u64,
        places: std::ops::Range<u64>,
        written: i64,
        deleted: bool,
        rows: &mut Vec<Row>,
        names: &mut Names,
    ) {
        let session = self.session(number);
        let mut pack = u64::MAX;
        let mut offset = 0;
        // A pack's contents lie one after the other: begin where the first pack begins.
        for place in places.start - places.start % PACK_CONTENTS..places.end {
            if place / PACK_CONTENTS != pack {
                pack = place / PACK_CONTENTS;
                offset = PREAMBLE_BYTES;
                names.add(&self.pack_name(number, pack, &session));
            }
            let content = self.content(number, place);
            if places.contains(&place) {
                // A flush takes up to ten minutes; tombstones come at its end, so they are the
                // later ones.
                let moment = if deleted { 600 } else { place as i64 % 600 };
                let fields = EntryFields {
                    timestamp_seconds: written + moment,
                    deleted,
                    pack_offset: offset,
                    packed_length: content.packed_length,
                    original_length: content.original_length,
                };
                let (key, pack, format) = (content.key, names.count() - 1, content.format);
                rows.push(Row {
                    key,
                    fields,
                    pack,
                    format,
                });
            }
            offset += content.packed_length;
        }
    }

    /// Returns 64 bits that follow from the seed and `numbers`.
    fn random(&self, numbers: &[u64]) -> u64 {
        numbers
            .iter()
            .fold(self.seed, |state, number| mixed(state ^ mixed(*number)))
    }
}

fn holds_directories(pack: u64) -> bool {
    pack % DIRECTORY_PACK_INTERVAL == DIRECTORY_PACK_INTERVAL - 1
}

/// SplitMix64's output function: a bijection that looks random.
pub(in crate::repository) fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// Pack names, one after the other, with the end of each.
#[derive(Default)]
struct Names {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Names {
    fn add(&mut self, name: &str) {
        self.bytes.extend_from_slice(name.as_bytes());
        self.ends.push(self.bytes.len() as u32);
    }

    fn count(&self) -> u32 {
        self.ends.len() as u32
    }
}

/// Encodes sorted rows as one index blob of version 2.
fn encode_rows(rows: &[Row], names: &Names) -> Result<Vec<u8>, FormatError> {
    let formats = [0, ZSTD_FASTEST].map(|compression_header_id| ContentFormat {
        compression_header_id,
        format_version: FORMAT_VERSION,
        encryption_key_id: 0,
    });
    let format_count = if rows.iter().any(|row| row.format == 1) {
        2
    } else {
        1
    };
    let longest = rows
        .iter()
        .map(|row| row.fields.packed_length)
        .max()
        .unwrap_or(0);
    let shape = IndexShape {
        version: 2,
        key_bytes: KEY_BYTES,
        entry_count: rows.len() as u32,
        pack_count: names.count(),
        format_count,
        entry_bytes: IndexShape::entry_bytes_needed(format_count, names.count(), longest),
    };
    shape.check(names.bytes.len() as u64)?;
    let mut out = shape.header();
    out.reserve_exact(shape.names_at() as usize + names.bytes.len());
    for row in rows {
        out.extend_from_slice(&row.key);
        let at = out.len();
        out.resize(at + shape.entry_bytes, 0);
        encode_entry(&shape, &row.fields, row.pack, row.format, &mut out[at..])?;
    }
    let mut start = 0;
    for end in &names.ends {
        out.extend(encode_pack_slot(
            shape.names_at() as u32 + start,
            (end - start) as u8,
        ));
        start = *end;
    }
    for format in &formats[..usize::from(format_count)] {
        out.extend(encode_format(*format));
    }
    out.extend_from_slice(&names.bytes);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::kopia::index_blob::IndexBlob;

    fn history(entries: u64, index_blobs: u64, tombstone_percent: u8, seed: u64) -> History {
        History::new(&GeneratorOptions {
            entries,
            index_blobs,
            tombstone_percent,
            seed,
            now: Timestamp::parse("2026-01-02T03:04:05Z").unwrap(),
            settled: true,
        })
    }

    /// Goal: the entries are as promised; method: decode every blob and count.
    #[test]
    fn entries_are_distinct_and_tombstones_delete_older_ones() {
        let history = history(10_007, 13, 20, 7);
        let mut live = BTreeMap::new();
        let mut deleted = BTreeSet::new();
        for number in 0..history.blobs {
            let bytes = history.encode(number).unwrap();
            let blob = IndexBlob::parse(&bytes, "generated").unwrap();
            blob.keys_ascending().unwrap();
            assert_eq!(u64::from(blob.len()), history.length(number));
            for row in 0..blob.len() {
                let key = blob.key(row).to_vec();
                let entry = blob.entry(row, OVERHEAD_BYTES as u32).unwrap();
                let pack = blob.pack_name(entry.pack).unwrap().to_vec();
                assert_eq!(pack[0], if key[0] == b'k' { b'q' } else { b'p' });
                let place = (pack, entry.pack_offset, entry.packed_length);
                if entry.deleted {
                    let (time, original) = live.get(&key).unwrap();
                    assert!(entry.timestamp_seconds > *time);
                    assert_eq!(*original, place);
                    assert!(deleted.insert(key), "deleted once");
                } else {
                    assert!(live.insert(key, (entry.timestamp_seconds, place)).is_none());
                }
            }
        }
        assert_eq!((live.len() + deleted.len()) as u64, 10_007);
        assert!((1_700..2_001).contains(&deleted.len()), "{}", deleted.len());
        assert!(live.keys().any(|key| key[0] == b'k'));
    }

    /// Goal: contents of a pack do not overlap; method: all places of one pack, in order.
    #[test]
    fn contents_lie_one_after_the_other() {
        let history = history(5_000, 1, 0, 1);
        let mut packs: BTreeMap<Vec<u8>, Vec<(u32, u32)>> = BTreeMap::new();
        let bytes = history.encode(0).unwrap();
        let blob = IndexBlob::parse(&bytes, "generated").unwrap();
        for row in 0..blob.len() {
            let entry = blob.entry(row, 0).unwrap();
            let pack = blob.pack_name(entry.pack).unwrap().to_vec();
            packs
                .entry(pack)
                .or_default()
                .push((entry.pack_offset, entry.packed_length));
        }
        assert_eq!(packs.len(), 250);
        for places in packs.values_mut() {
            places.sort_unstable();
            assert_eq!((places.len(), places[0].0), (20, PREAMBLE_BYTES));
            assert!(
                places
                    .windows(2)
                    .all(|pair| pair[0].0 + pair[0].1 == pair[1].0)
            );
        }
    }

    #[test]
    fn the_seed_decides_everything() {
        let encode = |seed| history(1_000, 3, 10, seed).encode(2).unwrap();
        assert_eq!(encode(1), encode(1));
        assert_ne!(encode(1), encode(2));
    }

    #[test]
    fn blobs_share_the_entries_evenly() {
        for (entries, blobs) in [(1, 1), (1, 5), (10, 3), (1_000_000_007, 70_000)] {
            let history = history(entries, blobs, 30, 1);
            let lengths: Vec<u64> = (0..history.blobs).map(|n| history.length(n)).collect();
            assert_eq!(lengths.iter().sum::<u64>(), entries);
            assert!(lengths.iter().max().unwrap() - lengths.iter().min().unwrap() <= 1);
            assert!(lengths.iter().all(|length| *length > 0));
        }
    }
}
