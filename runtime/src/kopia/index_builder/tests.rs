//! Tests of the encoder: the reference vectors, and bytes equal to those of real Kopia.
//! Whatever is built here is also read back by the decoder.

use proptest::prelude::*;

use super::*;
use crate::kopia::content_id::ContentId;
use crate::kopia::index_blob::IndexBlob;
use crate::kopia::index_blob::tests::{P, Q, vector_long, vector_v1, vector_v2};

/// Reads a file of `testdata`: plaintexts of blobs that Kopia wrote.
pub(crate) fn test_file(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/kopia/testdata");
    std::fs::read(format!("{folder}/{name}.bin")).unwrap()
}

fn fields(timestamp: i64, deleted: bool, offset: u32, packed: u32, original: u32) -> EntryFields {
    EntryFields {
        timestamp_seconds: timestamp,
        deleted,
        pack_offset: offset,
        packed_length: packed,
        original_length: original,
    }
}

fn entry(fields: EntryFields, pack: &str, version: u8, compression: u32) -> NewEntry<'_> {
    NewEntry {
        fields,
        pack_name: pack.as_bytes(),
        format: ContentFormat {
            compression_header_id: compression,
            format_version: version,
            encryption_key_id: 0,
        },
    }
}

const A: &str = "00112233445566778899aabbccddeeff";
const B: &str = "k0f0e0d0c0b0a09080706050403020100";

fn built(version: u8, entries: &[(&str, NewEntry<'_>)]) -> Vec<u8> {
    let mut builder = IndexBuilder::new(version, 17);
    for (id, entry) in entries {
        let id = ContentId::parse(id).unwrap();
        builder.add(id.key(), *entry).unwrap();
    }
    builder.build(None).unwrap()
}

#[test]
fn the_vectors_of_the_reference() {
    let a = entry(fields(1_700_000_000, false, 32, 1028, 1000), P, 1, 0);
    let b = entry(fields(1_700_000_001, true, 32, 528, 500), Q, 1, 0);
    assert_eq!(built(1, &[(B, b), (A, a)]), vector_v1());
    let a = entry(fields(1_700_000_000, false, 32, 1028, 1000), P, 3, 0);
    let b = entry(fields(1_700_000_001, true, 32, 300, 500), Q, 3, 0x1101);
    assert_eq!(built(2, &[(A, a), (B, b)]), vector_v2());
    let long = fields(1_700_000_000, false, 0x3fff_ffff, 0x0234_5678, 0x0123_4567);
    assert_eq!(built(2, &[(A, entry(long, P, 3, 0))]), vector_long());
    assert_eq!(fnv1a_32(B.as_bytes()), 1_063_242_912);
}

fn rebuild(bytes: &[u8], reverse: bool) -> Vec<u8> {
    let blob = IndexBlob::parse(bytes, "blob").unwrap();
    let layout = *blob.layout();
    let mut builder = IndexBuilder::new(layout.version as u8, layout.key_bytes);
    for i in 0..blob.len() {
        let i = if reverse { blob.len() - 1 - i } else { i };
        let read = blob.entry(i, 28).unwrap();
        let fields = EntryFields {
            timestamp_seconds: read.timestamp_seconds,
            deleted: read.deleted,
            pack_offset: read.pack_offset,
            packed_length: read.packed_length,
            original_length: read.original_length,
        };
        let entry = NewEntry {
            fields,
            pack_name: blob.pack_name(read.pack).unwrap(),
            format: blob.format(&read).unwrap(),
        };
        builder.add(blob.key(i), entry).unwrap();
    }
    builder.build(None).unwrap()
}

/// Blobs that Kopia wrote come out again byte for byte, in whatever order the entries are added.
#[test]
fn real_blobs_come_out_the_same() {
    for (name, tail) in [
        ("index-v1-flush", 0),
        ("index-v1-compacted", RANDOM_TAIL_BYTES),
        ("index-v2", 0),
        ("index-v2-formats", 0),
        ("index-v2-local", RANDOM_TAIL_BYTES),
        ("index-v2-long-keys", 0),
    ] {
        let bytes = test_file(name);
        let stable = &bytes[..bytes.len() - tail];
        assert_eq!(rebuild(&bytes, false), stable, "{name}");
        assert_eq!(rebuild(&bytes, true), stable, "{name}");
    }
}

#[test]
fn the_winner_rule() {
    let (old, new) = (&b"p1"[..], &b"p2"[..]);
    assert!(beats((2, true, old), (1, false, new)));
    assert!(beats((1, false, old), (1, true, new)));
    assert!(!beats((1, true, new), (1, false, old)));
    assert!(beats((1, true, new), (1, true, old)));
    assert!(!beats((1, true, new), (1, true, new)));
    let e = |t, deleted, offset, pack| entry(fields(t, deleted, offset, 99, 9), pack, 3, 0);
    let winner = [(A, e(5, false, 7, Q))];
    let all = [
        (A, e(5, false, 3, P)),
        (A, winner[0].1),
        (A, e(5, false, 8, Q)), // equal in all that counts: the first seen stays
        (A, e(5, true, 4, Q)),
        (A, e(4, false, 1, Q)),
    ];
    assert_eq!(built(2, &all), built(2, &winner));
}

#[test]
fn the_entry_size_is_what_kopia_takes() {
    assert_eq!(IndexShape::entry_bytes_needed(1, 65_536, 0x00ff_ffff), 16);
    assert_eq!(IndexShape::entry_bytes_needed(2, 1, 0), 17);
    assert_eq!(IndexShape::entry_bytes_needed(1, 65_537, 0), 18);
    assert_eq!(IndexShape::entry_bytes_needed(1, 1, 0x0100_0000), 19);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let shape = IndexShape {
        version: 2,
        key_bytes: 17,
        entry_count: 1,
        pack_count: 70_000,
        format_count: 2,
        entry_bytes: 16,
    };
    let good = fields(1, false, 1, 30, 2);
    let encode = |fields: &EntryFields, pack, format, bytes: usize| {
        let shape = IndexShape {
            entry_bytes: bytes,
            ..shape
        };
        encode_entry(&shape, fields, pack, format, &mut vec![0; bytes])
    };
    encode(&good, 65_535, 0, 16).unwrap();
    assert!(encode(&good, 0, 1, 16).is_err());
    assert!(encode(&good, 0, 2, 17).is_err());
    assert!(encode(&good, 65_536, 1, 17).is_err());
    assert!(encode(&good, 70_000, 1, 18).is_err());
    assert!(encode(&good, 0, 0, 15).is_err());
    let long = fields(1, false, 1, 1 << 24, 2);
    assert!(encode(&long, 0, 0, 18).is_err());
    encode(&long, 0, 0, 19).unwrap();
    for bad in [
        fields(-1, false, 1, 30, 2),
        fields(1 << 32, false, 1, 30, 2),
        fields(1, false, 1 << 30, 30, 2),
        fields(1, false, 1, 1 << 28, 2),
        fields(1, false, 1, 30, 1 << 28),
    ] {
        assert!(encode(&bad, 0, 0, 19).is_err());
    }
    assert!(encode_entry_v1(&good, 1, 8, 0, &mut [0; 20]).is_err());
    assert!(encode_entry_v1(&fields(1 << 48, false, 1, 30, 2), 1, 8, 5, &mut [0; 20]).is_err());
    assert!(encode_entry_v1(&good, 1, 8, 5, &mut [0; 19]).is_err());
}

#[test]
fn the_builder_refuses_what_clients_refuse() {
    let key = ContentId::parse(A).unwrap();
    let good = entry(fields(1, false, 1, 30, 2), P, 3, 0);
    let mut builder = IndexBuilder::new(2, 17);
    assert!(
        builder
            .add(key.key(), entry(good.fields, "", 3, 0))
            .is_err()
    );
    assert!(builder.add(&key.key()[..16], good).is_err());
    let far = entry(fields(1, false, 1 << 30, 30, 2), P, 3, 0);
    assert!(builder.add(key.key(), far).is_err());
    assert!(builder.is_empty());
    assert!(builder.build(None).is_err());
    let mut builder = IndexBuilder::new(1, 17);
    let compressed = entry(good.fields, P, 1, 0x1101);
    assert!(builder.add(key.key(), compressed).is_err());
    let empty = builder.build(Some([7; 32])).unwrap();
    assert_eq!(empty[..8], [1, 0xFF, 0, 20, 0, 0, 0, 0]);
    assert_eq!(empty[8..], [7; 32]);
    assert!(IndexBlob::parse(&empty, "n").unwrap().is_empty());
}

#[test]
fn shapes_have_limits() {
    let shape = IndexShape {
        version: 2,
        key_bytes: 17,
        entry_count: 100_000_000,
        pack_count: 5,
        format_count: 1,
        entry_bytes: 16,
    };
    shape.check(5 * 54).unwrap();
    assert!(shape.check(1 << 32).is_err());
    for bad in [
        IndexShape {
            version: 3,
            ..shape
        },
        IndexShape {
            key_bytes: 34,
            ..shape
        },
        IndexShape {
            entry_bytes: 20,
            ..shape
        },
        IndexShape {
            entry_count: 0,
            ..shape
        },
        IndexShape {
            entry_count: 200_000_000,
            ..shape
        },
        IndexShape {
            pack_count: (1 << 24) + 1,
            ..shape
        },
        IndexShape {
            format_count: 256,
            ..shape
        },
        IndexShape {
            version: 1,
            entry_bytes: 20,
            ..shape
        },
    ] {
        assert!(bad.check(0).is_err(), "{bad:?}");
    }
}

prop_compose! {
    fn any_fields()(
        timestamp_seconds in 0..1_i64 << 32,
        deleted in any::<bool>(),
        pack_offset in 0..1_u32 << 30,
        packed_length in 28..1_u32 << 28,
        original_length in 0..1_u32 << 28,
    ) -> EntryFields {
        fields(timestamp_seconds, deleted, pack_offset, packed_length, original_length)
    }
}

proptest! {
    /// What is written is read back, in both versions and all entry sizes.
    #[test]
    fn entries_round(rows in proptest::collection::btree_map(
        any::<[u8; 16]>(), (any_fields(), 0..4_u8, 0..3_u32), 1..40), version in 1..3_u8,
        small in any::<bool>()) {
        let mut builder = IndexBuilder::new(version, 17);
        let mut wanted = Vec::new();
        for (hash, (mut fields, pack, format)) in rows {
            if small {
                fields.packed_length = 28 + fields.packed_length % 1000;
                fields.original_length %= 1000;
            }
            if version == 1 {
                fields.original_length = fields.packed_length - 28;
            }
            let pack = format!("p{pack:032x}");
            let format = ContentFormat {
                compression_header_id: if version == 1 { 0 } else { format * 0x1100 },
                format_version: 3,
                encryption_key_id: 0,
            };
            let key = ContentId::from_hash(None, &hash).unwrap();
            let entry = NewEntry { fields, pack_name: pack.as_bytes(), format };
            builder.add(key.key(), entry).unwrap();
            wanted.push((key, fields, pack, format));
        }
        let bytes = builder.build(None).unwrap();
        let blob = IndexBlob::parse(&bytes, "x").unwrap();
        blob.keys_ascending().unwrap();
        prop_assert_eq!(blob.len() as usize, wanted.len());
        for (i, (key, fields, pack, format)) in wanted.iter().enumerate() {
            let read = blob.entry(i as u32, 28).unwrap();
            prop_assert_eq!(blob.key(i as u32), key.key());
            prop_assert_eq!(blob.pack_name(read.pack).unwrap(), pack.as_bytes());
            prop_assert_eq!(blob.format(&read).unwrap(), *format);
            prop_assert_eq!(read.timestamp_seconds, fields.timestamp_seconds);
            prop_assert_eq!(read.deleted, fields.deleted);
            prop_assert_eq!(read.pack_offset, fields.pack_offset);
            prop_assert_eq!(read.packed_length, fields.packed_length);
            prop_assert_eq!(read.original_length, fields.original_length);
        }
    }
}
