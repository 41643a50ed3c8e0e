//! Why a Kopia client would refuse to re-encode an entry.
//!
//! Clients merge small index blobs in memory and write the result in the repository's index
//! version. An entry that their builder refuses makes every client fail to open the repository. So
//! Careen never writes such an entry, wherever it came from. Mirrors the checks of Kopia's
//! `newIndexBuilderV2` and `buildV1`.

use super::{ContentFormat, IndexEntry};

/// Pack offsets are below this.
pub const OFFSET_LIMIT: u32 = 1 << 30;
/// Lengths are below this.
pub const LENGTH_LIMIT: u32 = 1 << 28;
/// Longest pack name: its length has one byte.
pub const PACK_NAME_BYTES_MAX: usize = 255;
/// Timestamps of version 1 are below this: 48 bits.
pub const TIMESTAMP_V1_LIMIT: i64 = 1 << 48;
/// Timestamps of version 2 are below this: 32 bits.
pub const TIMESTAMP_V2_LIMIT: i64 = 1 << 32;

/// Returns why a client whose repository has `index_version` would refuse, or spoil, this entry;
/// `None` when it would not. The stricter of the two versions' limits holds for both.
#[inline]
pub fn refusal(
    entry: &IndexEntry,
    format: ContentFormat,
    pack_name_bytes: usize,
    index_version: u8,
) -> Option<&'static str> {
    let timestamp_limit = if index_version == 1 {
        TIMESTAMP_V1_LIMIT
    } else {
        TIMESTAMP_V2_LIMIT
    };
    if entry.pack_offset >= OFFSET_LIMIT {
        Some("the pack offset is 2^30 or more")
    } else if entry.packed_length >= LENGTH_LIMIT {
        Some("the packed length is 2^28 or more")
    } else if entry.original_length >= LENGTH_LIMIT {
        Some("the original length is 2^28 or more")
    } else if pack_name_bytes == 0 {
        Some("the pack name is empty")
    } else if pack_name_bytes > PACK_NAME_BYTES_MAX {
        Some("the pack name is longer than 255 bytes")
    } else if !(0..timestamp_limit).contains(&entry.timestamp_seconds) {
        Some("the timestamp is out of range")
    } else if index_version == 1 && format.compression_header_id != 0 {
        Some("index version 1 cannot hold compressed contents")
    } else if index_version == 1 && format.encryption_key_id != 0 {
        Some("index version 1 cannot hold encryption key IDs")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kopia::index_blob::PackRef;

    #[test]
    fn each_limit_refuses_at_its_edge() {
        let good = IndexEntry {
            timestamp_seconds: TIMESTAMP_V2_LIMIT - 1,
            deleted: false,
            pack_offset: OFFSET_LIMIT - 1,
            packed_length: LENGTH_LIMIT - 1,
            original_length: LENGTH_LIMIT - 1,
            pack: PackRef::Number(0),
            format: 0,
            format_version: 0,
        };
        let plain = ContentFormat::default();
        let compressed = ContentFormat {
            compression_header_id: 0x1101,
            ..plain
        };
        let keyed = ContentFormat {
            encryption_key_id: 1,
            ..plain
        };
        let edit = |change: fn(&mut IndexEntry)| {
            let mut entry = good;
            change(&mut entry);
            entry
        };
        for version in [1, 2] {
            assert_eq!(refusal(&good, plain, 255, version), None);
            assert!(refusal(&good, plain, 0, version).is_some());
            assert!(refusal(&good, plain, 256, version).is_some());
            for entry in [
                edit(|e| e.pack_offset += 1),
                edit(|e| e.packed_length += 1),
                edit(|e| e.original_length += 1),
                edit(|e| e.timestamp_seconds = -1),
                edit(|e| e.timestamp_seconds = TIMESTAMP_V1_LIMIT),
            ] {
                assert!(refusal(&entry, plain, 54, version).is_some());
            }
        }
        let later = edit(|e| e.timestamp_seconds += 1);
        assert_eq!(refusal(&later, plain, 54, 1), None);
        assert!(refusal(&later, plain, 54, 2).is_some());
        for format in [compressed, keyed] {
            assert!(refusal(&good, format, 54, 1).is_some());
            assert_eq!(refusal(&good, format, 54, 2), None);
        }
    }
}
