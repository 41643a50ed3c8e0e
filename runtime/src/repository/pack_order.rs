//! A content as a record that sorts in pack order: the order in which packs are read once, in large
//! pieces, whatever the number of contents.
//!
//! ```text
//! group 2 | pack 4 | offset 4 | length 4 | key H+1 | extra
//! ```
//!
//! * `group`: what is to be read before what; 0 where that does not matter.
//! * `pack`: canonical number of a name in [`super::pack_names`], so that names are looked up in
//!   one sweep of their spool. Their order is not that of the names, which matters to nobody.
//! * `extra`: whatever the caller wants back with the bytes, of fixed width.
//!
//! Memory: none. [`PackOrder::sort_memory`] is what a sort of such records may take while contents
//! are read.

use crate::spill::{SortMemory, SortShape};

use super::Workspace;

/// Bytes before the key.
const FIXED_BYTES: usize = 14;

/// What is read of each open run while contents are read, at least. With 32 KiB a merge of 50 runs
/// past the page cache read 4 KiB at a time, and everybody waited for it.
const RUN_READ_BYTES: usize = 64 * 1024;

/// Where the parts of a record lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackOrder {
    /// Bytes of a key: prefix and hash.
    pub key_bytes: usize,
    /// Bytes that travel along.
    pub extra_bytes: usize,
}

/// Where a content lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What is read before what.
    pub group: u16,
    /// Canonical number of the pack's name.
    pub pack: u32,
    /// Offset in the pack, in bytes.
    pub offset: u32,
    /// Length in the pack, in bytes.
    pub length: u32,
}

impl PackOrder {
    /// Returns the width of a record, in bytes.
    pub const fn record_bytes(self) -> usize {
        FIXED_BYTES + self.key_bytes + self.extra_bytes
    }

    /// Returns how such records sort: exact duplicates are dropped.
    pub const fn shape(self) -> SortShape {
        SortShape {
            record_bytes: self.record_bytes(),
            group: None,
        }
    }

    /// Returns the memory of a sort that `buffers` threads fill and whose merge is open while
    /// contents are read.
    pub fn sort_memory(workspace: &Workspace, buffers: usize) -> SortMemory {
        let memory = workspace.sort_memory(buffers);
        let run_read_bytes = memory.run_read_bytes.min(RUN_READ_BYTES);
        let runs_max = workspace.memory.copy_buffer_bytes / run_read_bytes;
        SortMemory {
            run_read_bytes,
            runs_max: runs_max.clamp(2, memory.runs_max),
            ..memory
        }
    }

    /// Writes a record into `out`, which is exactly as wide. Panics when key or extra have another
    /// width than the layout.
    #[inline]
    pub fn encode(self, out: &mut [u8], place: &Place, key: &[u8], extra: &[u8]) {
        let key_end = FIXED_BYTES + self.key_bytes;
        out[..2].copy_from_slice(&place.group.to_be_bytes());
        out[2..6].copy_from_slice(&place.pack.to_be_bytes());
        out[6..10].copy_from_slice(&place.offset.to_be_bytes());
        out[10..14].copy_from_slice(&place.length.to_be_bytes());
        out[FIXED_BYTES..key_end].copy_from_slice(key);
        out[key_end..key_end + self.extra_bytes].copy_from_slice(extra);
    }

    /// Returns where the content of a record lies.
    #[inline]
    pub fn place(self, record: &[u8]) -> Place {
        let fixed: &[u8; FIXED_BYTES] = record.first_chunk().expect("a record has its width");
        let word = |at: usize| {
            u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        Place {
            group: u16::from_be_bytes([fixed[0], fixed[1]]),
            pack: word(2),
            offset: word(6),
            length: word(10),
        }
    }

    /// Returns the key of a record.
    #[inline]
    pub fn key(self, record: &[u8]) -> &[u8] {
        &record[FIXED_BYTES..FIXED_BYTES + self.key_bytes]
    }

    /// Returns what travels along.
    #[inline]
    pub fn extra(self, record: &[u8]) -> &[u8] {
        &record[FIXED_BYTES + self.key_bytes..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_sort_by_group_pack_and_offset_and_give_back_their_parts() {
        let layout = PackOrder {
            key_bytes: 17,
            extra_bytes: 3,
        };
        let record = |group, pack, offset| {
            let place = Place {
                group,
                pack,
                offset,
                length: 7,
            };
            let mut out = vec![0; layout.record_bytes()];
            layout.encode(&mut out, &place, &[9; 17], &[1, 2, 3]);
            assert_eq!(layout.place(&out), place);
            assert_eq!(layout.key(&out), [9; 17]);
            assert_eq!(layout.extra(&out), [1, 2, 3]);
            out
        };
        let sorted = [
            record(0, 1, 300),
            record(0, 2, 32),
            record(0, 2, 256),
            record(1, 0, 0),
        ];
        assert!(sorted.is_sorted());
    }
}
