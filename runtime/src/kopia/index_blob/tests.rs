//! Tests of the decoder: the reference vectors, real index blobs, and hostile bytes.
//! `testdata/` has the decrypted index blobs of real Kopia that are read here.

use proptest::prelude::*;

use super::*;

/// The golden vectors of the reference, with spaces and bars for reading.
pub(crate) const P: &str = "p00112233445566778899aabbccddeeff-s0123456789abcdef144";
pub(crate) const Q: &str = "qffeeddccbbaa99887766554433221100-s0123456789abcdef144";

pub(crate) fn bytes_of(hex_text: &str, names: &[&str]) -> Vec<u8> {
    let digits: String = hex_text.chars().filter(char::is_ascii_hexdigit).collect();
    let mut bytes = hex::decode(digits).unwrap();
    bytes.extend(names.concat().bytes());
    bytes
}

pub(crate) fn vector_v1() -> Vec<u8> {
    bytes_of(
        "0111001400000002
         0000112233445566778899aabbccddeeff 00006553f100 01 36 00000052 00000020 00000404
         6b0f0e0d0c0b0a09080706050403020100 00006553f101 01 36 00000088 80000020 00000210",
        &[P, Q],
    )
}

pub(crate) fn vector_v2() -> Vec<u8> {
    bytes_of(
        "0211001100000002000000020200000000
         0000112233445566778899aabbccddeeff 6553f100 00000020 0003e8 000404 0000 00
         6b0f0e0d0c0b0a09080706050403020100 6553f101 80000020 0001f4 00012c 0001 01
         36 0000006b   36 000000a1
         00000000 03 00   00001101 03 00",
        &[P, Q],
    )
}

pub(crate) fn vector_long() -> Vec<u8> {
    bytes_of(
        "02110013 00000001 00000001 01 00000000 | 0000112233445566778899aabbccddeeff
         6553f100 3fffffff 234567 345678 0000 00 00 12 | 36 00000040 | 00000000 03 00",
        &[P],
    )
}

#[test]
fn the_vector_of_version_1() {
    let bytes = vector_v1();
    assert_eq!(bytes.len(), 190);
    let blob = IndexBlob::parse(&bytes, "n1").unwrap();
    assert_eq!((blob.len(), blob.layout().row_bytes()), (2, 37));
    blob.keys_ascending().unwrap();
    let a = blob.entry(0, 28).unwrap();
    assert_eq!(
        (a.timestamp_seconds, a.deleted, a.pack_offset),
        (1_700_000_000, false, 32)
    );
    assert_eq!((a.packed_length, a.original_length), (1028, 1000));
    assert_eq!((a.format, a.format_version), (0, 1));
    assert_eq!(blob.pack_name(a.pack).unwrap(), P.as_bytes());
    let b = blob.entry(1, 28).unwrap();
    assert_eq!(
        (b.timestamp_seconds, b.deleted, b.pack_offset),
        (1_700_000_001, true, 32)
    );
    assert_eq!((b.packed_length, b.original_length), (528, 500));
    assert_eq!(blob.pack_name(b.pack).unwrap(), Q.as_bytes());
    assert_eq!(blob.format(&b).unwrap().format_version, 1);
    assert_eq!(blob.formats().count(), 0);
    assert_eq!(blob.key(1)[0], b'k');
    assert!(blob.row(2).is_empty() && blob.entry(2, 28).is_err());
}

#[test]
fn the_vector_of_version_2() {
    let bytes = vector_v2();
    assert_eq!(bytes.len(), 215);
    let blob = IndexBlob::parse(&bytes, "xn0_1").unwrap();
    let a = blob.entry(0, 0).unwrap();
    assert_eq!(
        (a.packed_length, a.original_length, a.format),
        (1028, 1000, 0)
    );
    assert_eq!(a.pack, PackRef::Number(0));
    let b = blob.entry(1, 0).unwrap();
    assert_eq!(
        (b.packed_length, b.original_length, b.format),
        (300, 500, 1)
    );
    assert_eq!(
        (b.timestamp_seconds, b.deleted, b.pack_offset),
        (1_700_000_001, true, 32)
    );
    assert_eq!(blob.pack_name(b.pack).unwrap(), Q.as_bytes());
    let compressed = ContentFormat {
        compression_header_id: 0x1101,
        format_version: 3,
        encryption_key_id: 0,
    };
    assert_eq!(blob.format(&b).unwrap(), compressed);
    assert_eq!(blob.formats().count(), 2);
    assert!(blob.pack_name(PackRef::Number(2)).is_err());
}

#[test]
fn the_vector_with_long_lengths() {
    let bytes = vector_long();
    let blob = IndexBlob::parse(&bytes, "xn0_1").unwrap();
    let entry = blob.entry(0, 0).unwrap();
    assert_eq!(entry.pack_offset, 0x3fff_ffff);
    assert_eq!(entry.packed_length, 0x0234_5678);
    assert_eq!(entry.original_length, 0x0123_4567);
}

#[test]
fn what_trails_is_ignored_and_what_lacks_is_an_error() {
    for full in [vector_v1(), vector_v2(), vector_long()] {
        let mut longer = full.clone();
        longer.extend([0xEE; 32]);
        let layout = *IndexBlob::parse(&longer, "x").unwrap().layout();
        assert_eq!(layout.total_bytes, longer.len() as u64);
        assert!(IndexLayout::parse(&longer[..17], longer.len() as u64, "x").is_ok());
        for cut in 0..layout.names_at as usize {
            assert!(IndexBlob::parse(&full[..cut], "x").is_err(), "cut at {cut}");
        }
    }
}

#[test]
fn impossible_headers_are_refused() {
    let bad = |at: usize, byte: u8| {
        let mut bytes = vector_v2();
        bytes[at] = byte;
        IndexBlob::parse(&bytes, "x").unwrap_err().to_string()
    };
    assert_eq!(bad(0, 3), "x: index version 3 is not known");
    assert_eq!(bad(1, 1), "x: key size 1 is not possible");
    assert_eq!(bad(1, 34), "x: key size 34 is not possible");
    assert_eq!(bad(1, 255), "x: key size 255 is not possible");
    assert_eq!(bad(3, 15), "x: entry size 15 is not possible");
    assert_eq!(bad(3, 20), "x: entry size 20 is not possible");
    assert_eq!(bad(8, 2), "x: 33554434 packs are more than possible");
    assert!(bad(4, 0xFF).contains("the tables need"));
    assert!(bad(93, 0xFF).contains("is not in the blob"));
    let empty = [1, 0xFF, 0, 20, 0, 0, 0, 0];
    assert!(IndexBlob::parse(&empty, "n").unwrap().is_empty());
    assert!(IndexBlob::parse(&[1, 0xFF, 0, 20, 0, 0, 0, 1], "n").is_err());
}

#[test]
fn numbers_past_their_table_stop_us() {
    let mut bytes = vector_v2();
    let second_row = 17 + 34;
    bytes[second_row + 17 + 15] = 2; // pack number
    let error = IndexBlob::parse(&bytes, "xn0_1").unwrap().entry(1, 0);
    let text = error.unwrap_err().to_string();
    assert_eq!(
        text,
        "xn0_1: row 1: pack number 2 or format number 1 is not in the table"
    );
    let mut bytes = vector_v2();
    bytes[second_row + 17 + 16] = 2; // format number
    assert!(IndexBlob::parse(&bytes, "x").unwrap().entry(1, 0).is_err());
    let bytes = vector_v1();
    let blob = IndexBlob::parse(&bytes, "n").unwrap();
    assert!(blob.entry(1, 529).is_err());
    let mut bytes = vector_v1();
    bytes[8 + 17 + 8] = 0xFF; // name offset
    assert!(IndexBlob::parse(&bytes, "n").unwrap().entry(0, 28).is_err());
}

#[test]
fn the_base_timestamp_is_added() {
    let mut bytes = vector_v2();
    bytes[13..17].copy_from_slice(&u32::MAX.to_be_bytes());
    let entry = IndexBlob::parse(&bytes, "x").unwrap().entry(0, 0).unwrap();
    assert_eq!(entry.timestamp_seconds, 1_700_000_000 + i64::from(u32::MAX));
}

#[test]
fn keys_must_ascend() {
    let mut order = KeyOrder::default();
    order.check(&[0, 1], "x").unwrap();
    order.check(&[0, 2], "x").unwrap();
    assert!(order.clone().check(&[0, 2], "x").is_err());
    assert!(order.clone().check(&[0, 1], "x").is_err());
    assert!(order.clone().check(&[b'a', 1], "x").is_err());
    assert!(order.clone().check(&[], "x").is_err());
    assert!(order.clone().check(&[b'k'; 34], "x").is_err());
    order.check(&[b'k', 0], "x").unwrap();
    let mut bytes = vector_v2();
    bytes.copy_within(17..34, 17 + 34);
    assert!(
        IndexBlob::parse(&bytes, "x")
            .unwrap()
            .keys_ascending()
            .is_err()
    );
}

/// Real blobs of Kopia: every row decodes, keys ascend, names have a pack's form.
#[test]
fn real_blobs_decode() {
    for (name, version, key_bytes, entries) in [
        ("index-v1-flush", 1, 17, 17),
        ("index-v1-compacted", 1, 17, 94),
        ("index-v2", 2, 17, 42),
        ("index-v2-formats", 2, 17, 36),
        ("index-v2-local", 2, 17, 22),
        ("index-v2-long-keys", 2, 33, 23),
    ] {
        let bytes = crate::kopia::index_builder::test_file(name);
        let blob = IndexBlob::parse(&bytes, name).unwrap();
        let layout = blob.layout();
        assert_eq!((layout.version, layout.key_bytes), (version, key_bytes));
        assert_eq!(blob.len(), entries);
        blob.keys_ascending().unwrap();
        for i in 0..blob.len() {
            let entry = blob.entry(i, 28).unwrap();
            let pack = blob.pack_name(entry.pack).unwrap();
            assert!(matches!(pack[0], b'p' | b'q') && pack.len() == 54);
            let format = blob.format(&entry).unwrap();
            assert_eq!(refusal(&entry, format, pack.len(), version as u8), None);
        }
    }
}

proptest! {
    /// No bytes make the decoder panic or read outside.
    #[test]
    fn hostile_bytes(
        at in 0_usize..215, value in any::<u8>(), cut in 0_usize..300, which in 0..3,
    ) {
        let mut bytes = [vector_v1(), vector_v2(), vector_long()][which as usize].clone();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        bytes.truncate(cut);
        if let Ok(blob) = IndexBlob::parse(&bytes, "x") {
            let _ = blob.keys_ascending();
            for i in 0..blob.len() {
                if let Ok(entry) = blob.entry(i, 28) {
                    prop_assert!(blob.pack_name(entry.pack).is_ok());
                    prop_assert!(blob.format(&entry).is_ok());
                }
            }
        }
    }
}
