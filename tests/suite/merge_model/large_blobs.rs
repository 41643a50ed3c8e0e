//! An index blob that does not fit into memory gives the same result as one that does, and a
//! damaged one gives nothing: its error comes before the first blob is written.
//!
//! "Large" is set to 4 KiB. Both ciphers, with ECC and without, several hash lengths; every blob is
//! cut and flipped at many places.

use careen::kopia::blob_id::BlobId;
use kit::index_work::Bench;
use kit::world::model::{self, Choice};
use kit::world::{START, World, WorldOptions};

use super::{check_set, merge};

const AES: &str = "AES256-GCM-HMAC-SHA256";
const CHACHA: &str = "CHACHA20-POLY1305-HMAC-SHA256";

/// Every shape of repository: hash, encryption, overhead of the ECC.
const SHAPES: [(&str, &str, i64); 7] = [
    ("BLAKE2B-256-128", AES, 0),
    ("BLAKE3-256", CHACHA, 0),
    ("BLAKE2B-256-128", AES, 2),
    ("BLAKE3-256-128", CHACHA, 10),
    ("HMAC-SHA224", CHACHA, 1),
    ("HMAC-SHA3-256", AES, 50),
    ("BLAKE2S-256", AES, 100),
];

/// Makes a world with a large blob in epoch 1; returns its name.
fn world((hash, encryption, ecc_percent): (&'static str, &'static str, i64)) -> (World, String) {
    let world = World::new(WorldOptions {
        hash,
        encryption,
        ecc_percent,
        ..WorldOptions::default()
    });
    world.put_markers(3, START);
    let entries: Vec<_> = (0..900).map(|n| world.data(n, n / 20, 100)).collect();
    let large = world.put_uncompacted(1, &entries, START);
    let newer: Vec<_> = (0..300)
        .map(|n| world.data(n * 3, 7, 101).tombstone(102))
        .collect();
    world.put_uncompacted(1, &newer, START);
    world.put_uncompacted(1, &newer[..3], START);
    (world, large)
}

#[test]
fn large_blobs_give_what_small_ones_give() {
    for shape in SHAPES {
        let (world, large) = world(shape);
        let stored = world
            .store
            .bytes(&BlobId::new(large.as_str()))
            .unwrap()
            .len();
        let all: Vec<String> = world.all().into_keys().collect();
        let own = all.into_iter().filter(|name| name.starts_with("xn1_"));
        let entries = own.flat_map(|name| {
            let sealed = world.store.bytes(&BlobId::new(name.as_str())).unwrap();
            model::entries_of(&world.crypto, &name, &sealed).unwrap()
        });
        let expected = model::winners(entries.collect::<Vec<_>>());
        let mut plains = Vec::new();
        // In memory; in pieces; and where the blob ends exactly at the buffer's end.
        for below in [1 << 20, 4096, 1000, stored, stored + 1, stored - 1] {
            let bench = Bench::new().tiny().blobs_below(below);
            let snapshot = world.store.snapshot();
            let sets = merge(&world, &bench, &[1], 16_000_000).unwrap();
            plains.extend(check_set(&world, &sets[0], &expected, 16_000_000));
            world.store.restore(&snapshot);
        }
        assert!(
            plains.iter().all(|plain| *plain == plains[0]),
            "{shape:?}: always the same bytes"
        );
    }
}

#[test]
fn a_damaged_large_blob_stops_everything() {
    for shape in [SHAPES[0], SHAPES[1]] {
        let (world, large) = world(shape);
        let id = BlobId::new(large.as_str());
        let whole = world.store.bytes(&id).unwrap().to_vec();
        for below in [4096, 1 << 20] {
            let bench = Bench::new().blobs_below(below);
            for at in [0, 11, 12, 40, 5000, whole.len() - 17, whole.len() - 1] {
                let mut flipped = whole.clone();
                flipped[at] ^= 4;
                stopped(&world, &bench, &id, flipped, &["tag-mismatch"]);
            }
            for length in [
                0,
                1,
                27,
                28,
                4095,
                4096,
                4097,
                whole.len() - 16,
                whole.len() - 1,
            ] {
                let cut = whole[..length].to_vec();
                stopped(&world, &bench, &id, cut, &["tag-mismatch", "malformed"]);
            }
        }
    }
}

#[test]
fn ecc_repairs_or_stops() {
    for shape in &SHAPES[2..] {
        let (world, large) = world(*shape);
        let id = BlobId::new(large.as_str());
        let whole = world.store.bytes(&id).unwrap().to_vec();
        let before = model::view(&world.storage(), &world.crypto, Choice::First).unwrap();
        for at in [0, 3, 4, 700, whole.len() / 2, whole.len() - 1] {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x80;
            let snapshot = world.store.snapshot();
            world.store.insert(id.clone(), flipped, START);
            merge(&world, &Bench::new().blobs_below(4096), &[1], 16_000_000).unwrap();
            let after = model::view(&world.storage(), &world.crypto, Choice::First).unwrap();
            assert_eq!(
                model::difference(&before, &after),
                None,
                "{shape:?}, byte {at}"
            );
            world.store.restore(&snapshot);
        }
        let bench = Bench::new().blobs_below(4096);
        let ruined = whole.iter().map(|byte| byte ^ 1).collect();
        let codes = ["tag-mismatch", "malformed"];
        stopped(&world, &bench, &id, ruined, &codes);
        for length in [0, 5, 900, whole.len() / 2, whole.len() / 8 * 7] {
            stopped(&world, &bench, &id, whole[..length].to_vec(), &codes);
        }
    }
}

/// Merges with `bytes` in place of the blob: an error of one of `codes`, and nothing written.
fn stopped(world: &World, bench: &Bench, id: &BlobId, bytes: Vec<u8>, codes: &[&str]) {
    let snapshot = world.store.snapshot();
    let length = bytes.len();
    world.store.insert(id.clone(), bytes, START);
    let before = world.all();
    let error = merge(world, bench, &[1], 16_000_000).err();
    let error = error.unwrap_or_else(|| panic!("{id} with {length} damaged bytes was merged"));
    assert!(codes.contains(&error.code()), "{}: {error}", error.code());
    assert!(
        error.to_string().contains(id.as_str()),
        "the error names the blob: {error}"
    );
    assert!(world.all() == before, "nothing is written");
    world.store.restore(&snapshot);
}
