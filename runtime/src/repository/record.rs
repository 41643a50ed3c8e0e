//! One index entry as a sortable record: its bytes in ascending order are Kopia's order, the winner
//! first.
//!
//! ```text
//! target 1 | key H+1 | source 1 | rank 6 | pack 4 | offset 4
//!     | packed length 4 | original length 4 | format 1
//! ```
//!
//! * `target`: which of the sets that are made in one pass the entry belongs to.
//! * `source`: which of the sets that are compared it comes from; 0 where nothing is compared.
//! * `rank`: inverted time, then the deleted flag: later first, at the same second live before
//!   deleted.
//! * `pack`: number of a name in [`super::pack_names`]. The last rule of the winner (the larger
//!   pack blob ID) needs the name and is applied where records are merged; until then entries of
//!   equal rank are all kept.
//! * what follows the pack makes the order total, so that equal inputs give equal outputs.
//!
//! Mirrors `contentInfoGreaterThanStruct` of Kopia's `repo/content/index/merged.go`.

use crate::spill::{Group, SortShape, copy_record};

/// Bytes of a record besides the key.
const FIXED_BYTES: usize = 25;

/// Widest record: keys of 33 bytes.
pub const RECORD_BYTES_MAX: usize = 33 + FIXED_BYTES;

/// Times from this one on do not fit: 47 bits of seconds, some four million years.
pub const TIMESTAMP_SECONDS_MAX: i64 = (1 << 47) - 1;

/// Where the parts of a record lie, for keys of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLayout {
    /// Bytes of a key: prefix and hash.
    pub key_bytes: usize,
}

/// The parts of a record besides its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFields {
    /// Seconds since 1970.
    pub timestamp_seconds: i64,
    /// Whether the entry is a tombstone.
    pub deleted: bool,
    /// Number of the pack's name.
    pub pack: u32,
    /// Offset in the pack, in bytes.
    pub pack_offset: u32,
    /// Length in the pack, in bytes.
    pub packed_length: u32,
    /// Length before compression and encryption, in bytes.
    pub original_length: u32,
    /// Number of the content format.
    pub format: u8,
}

impl RecordLayout {
    /// Returns the width of a record, in bytes.
    pub const fn record_bytes(self) -> usize {
        self.key_bytes + FIXED_BYTES
    }

    /// Returns how such records sort: losers of a content within one target and source fall away.
    pub const fn shape(self) -> SortShape {
        let group_bytes = self.key_bytes + 2;
        SortShape {
            record_bytes: self.record_bytes(),
            group: Some(Group {
                group_bytes,
                rank_end: group_bytes + 6,
            }),
        }
    }

    /// Writes a record into `out`, which is exactly as wide.
    #[inline]
    pub fn encode(self, out: &mut [u8], target: u8, source: u8, key: &[u8], fields: &RecordFields) {
        let rest = self.key_bytes + 1;
        out[0] = target;
        copy_record(&mut out[1..rest], key);
        let tail: &mut [u8; FIXED_BYTES - 1] = (&mut out[rest..rest + FIXED_BYTES - 1])
            .try_into()
            .expect("a record has its width");
        let rank = rank_of(fields.timestamp_seconds, fields.deleted).to_be_bytes();
        tail[0] = source;
        tail[1..7].copy_from_slice(&rank[2..8]);
        tail[7..11].copy_from_slice(&fields.pack.to_be_bytes());
        tail[11..15].copy_from_slice(&fields.pack_offset.to_be_bytes());
        tail[15..19].copy_from_slice(&fields.packed_length.to_be_bytes());
        tail[19..23].copy_from_slice(&fields.original_length.to_be_bytes());
        tail[23] = fields.format;
    }

    /// Returns the target of a record.
    #[inline]
    pub fn target(self, record: &[u8]) -> u8 {
        record[0]
    }

    /// Returns target and key of a record: what makes a group.
    #[inline]
    pub fn group(self, record: &[u8]) -> &[u8] {
        &record[..self.key_bytes + 1]
    }

    /// Returns whether two records are of one group.
    #[inline]
    pub fn same_group(self, a: &[u8], b: &[u8]) -> bool {
        // Hashes are random: the first 16 bytes decide nearly always, without a call.
        a.first_chunk::<16>() == b.first_chunk::<16>() && self.group(a) == self.group(b)
    }

    /// Returns the key of a record.
    #[inline]
    pub fn key(self, record: &[u8]) -> &[u8] {
        &record[1..self.key_bytes + 1]
    }

    /// Returns the source of a record.
    #[inline]
    pub fn source(self, record: &[u8]) -> u8 {
        record[self.key_bytes + 1]
    }

    /// Returns the rank of a record: the smaller wins.
    #[inline]
    pub fn rank(self, record: &[u8]) -> &[u8] {
        &record[self.key_bytes + 2..self.key_bytes + 8]
    }

    /// Returns the pack of a record.
    #[inline]
    pub fn pack(self, record: &[u8]) -> u32 {
        let at = self.key_bytes + 8;
        record[at..]
            .first_chunk()
            .map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    /// Returns the fields of a record.
    #[inline]
    pub fn fields(self, record: &[u8]) -> RecordFields {
        let tail: &[u8; FIXED_BYTES - 2] = record[self.key_bytes + 2..]
            .try_into()
            .expect("a record has its width");
        let word =
            |at: usize| u32::from_be_bytes([tail[at], tail[at + 1], tail[at + 2], tail[at + 3]]);
        let rank = (u64::from(tail[0]) << 40) | (u64::from(tail[1]) << 32) | u64::from(word(2));
        RecordFields {
            timestamp_seconds: TIMESTAMP_SECONDS_MAX - (rank >> 1) as i64,
            deleted: rank & 1 == 1,
            pack: word(6),
            pack_offset: word(10),
            packed_length: word(14),
            original_length: word(18),
            format: tail[22],
        }
    }
}

/// Returns the number whose order is: later first, then live before deleted.
fn rank_of(timestamp_seconds: i64, deleted: bool) -> u64 {
    let bounded = timestamp_seconds.clamp(0, TIMESTAMP_SECONDS_MAX);
    (((TIMESTAMP_SECONDS_MAX - bounded) as u64) << 1) | u64::from(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields() -> impl Strategy<Value = RecordFields> {
        (
            prop_oneof![
                0..4i64,
                0..=i64::from(u32::MAX),
                Just(TIMESTAMP_SECONDS_MAX)
            ],
            any::<bool>(),
            any::<[u32; 4]>(),
            any::<u8>(),
        )
            .prop_map(|(timestamp_seconds, deleted, words, format)| RecordFields {
                timestamp_seconds,
                deleted,
                pack: words[0],
                pack_offset: words[1],
                packed_length: words[2],
                original_length: words[3],
                format,
            })
    }

    proptest! {
        /// Goal: what goes in comes out.
        #[test]
        fn round_trip(fields in fields(), key in any::<[u8; 17]>(), target: u8, source: u8) {
            let layout = RecordLayout { key_bytes: 17 };
            let mut record = vec![0; layout.record_bytes()];
            layout.encode(&mut record, target, source, &key, &fields);
            prop_assert_eq!(layout.fields(&record), fields);
            prop_assert_eq!(layout.key(&record), &key[..]);
            prop_assert_eq!((layout.target(&record), layout.source(&record)), (target, source));
        }

        /// Goal: bytewise order of records of one content is Kopia's order, as far as it needs no
        /// pack name.
        #[test]
        fn winner_first(a in fields(), b in fields()) {
            let layout = RecordLayout { key_bytes: 17 };
            let encode = |fields: &RecordFields| {
                let mut record = vec![0; layout.record_bytes()];
                layout.encode(&mut record, 0, 0, &[7; 17], fields);
                record
            };
            let order = |fields: &RecordFields| (-fields.timestamp_seconds, fields.deleted);
            let (left, right) = (encode(&a), encode(&b));
            prop_assert_eq!(layout.rank(&left).cmp(layout.rank(&right)), order(&a).cmp(&order(&b)));
            if order(&a) != order(&b) {
                prop_assert_eq!(left.cmp(&right), order(&a).cmp(&order(&b)));
            }
        }
    }
}
