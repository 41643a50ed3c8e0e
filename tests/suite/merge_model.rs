//! Merging index blobs gives, for every content, the entry that Kopia's rule picks; nothing else is
//! lost and nothing is added.
//!
//! Random entries (equal seconds, tombstones, ties that only the pack's name decides, the same
//! entry in several blobs, several formats, long lengths) go into random index blobs of several
//! epochs. All epochs are merged in one round with buffers so small that sorts spill and merges
//! cascade; what was written is decoded and compared with a map. Where one shard is written its
//! bytes must be those of the plain index builder.

use std::collections::BTreeMap;

use careen::clock::Timestamp;
use careen::kopia::blob_id::BlobId;
use careen::maintenance::MaintenanceError;
use careen::maintenance::compact_epochs::{Output, WrittenSet, load_round, write_round};
use careen::repository::epochs::EpochState;
use careen::repository::index_names::UncompactedNames;
use kit::index_work::Bench;
use kit::world::model::{self, View};
use kit::world::{Entry, START, World, WorldOptions};
use proptest::prelude::*;

mod large_blobs;

/// Merges the uncompacted blobs of `epochs` into single-epoch sets.
fn merge(
    world: &World,
    bench: &Bench,
    epochs: &[u64],
    shard_entries: u64,
) -> Result<Vec<WrittenSet>, MaintenanceError> {
    let (repository, workspace) = (world.repository(), bench.workspace());
    let outputs: Vec<Output> = epochs.iter().map(|epoch| Output::Single(*epoch)).collect();
    let state = EpochState::load(&repository.storage)?;
    let names = UncompactedNames::scan(&repository.storage, &workspace)?;
    let loaded = load_round(&repository, &workspace, &state, &names, &outputs, true)?;
    write_round(&repository, &workspace, loaded, &outputs, shard_entries)
}

/// Compares a written set with the model; returns its blobs' plaintexts.
fn check_set(world: &World, set: &WrittenSet, expected: &View, shard_entries: u64) -> Vec<Vec<u8>> {
    let count = expected.len().div_ceil(shard_entries as usize);
    assert_eq!(set.blobs.len(), count, "shards");
    let mut found = View::new();
    let (mut plains, mut last) = (Vec::new(), Vec::new());
    for blob in &set.blobs {
        let name = blob.as_str();
        assert!(name.ends_with(&format!("-c{count}")), "{name} of {count}");
        let sealed = world.store.bytes(blob).unwrap();
        let entries = model::entries_of(&world.crypto, name, &sealed).unwrap();
        assert!(
            !entries.is_empty() && entries.len() as u64 <= shard_entries,
            "{name}"
        );
        for entry in entries {
            assert!(entry.key > last, "{name}: keys ascend, across shards too");
            last.clone_from(&entry.key);
            found.insert(entry.key.clone(), entry);
        }
        plains.push(model::plaintext(&world.crypto, name, &sealed).unwrap());
    }
    assert_eq!(model::difference(expected, &found), None);
    plains
}

/// What a random index blob holds.
#[derive(Clone, Debug)]
struct Blob {
    epoch: u64,
    entries: Vec<Entry>,
}

/// One of few contents, seconds and packs, so that everything collides.
fn entry(version: u8) -> impl Strategy<Value = Entry> {
    let lengths = prop_oneof![
        8 => 28_u32..2000,
        1 => Just((1 << 24) - 1),
        1 => (1_u32 << 24)..(1 << 28),
    ];
    let time = prop_oneof![4 => 100_i64..104, 1 => 0..=i64::from(u32::MAX)];
    let prefix = prop::sample::select(vec![0_u8, b'k', b'm', b'x']);
    (
        0_u64..40,
        prefix,
        time,
        any::<bool>(),
        0_u64..6,
        0_u32..3,
        lengths.clone(),
        lengths,
    )
        .prop_map(
            move |(number, prefix, time, deleted, pack, place, packed, original)| {
                let mut entry = Entry::data(number, pack, time);
                entry.key[0] = prefix;
                entry.deleted = deleted;
                entry.pack.truncate(20 + pack as usize * 7); // names of many lengths
                entry.offset = [32, 4000, (1 << 30) - 1][place as usize];
                entry.packed_length = packed;
                entry.original_length = if version == 1 { packed - 28 } else { original };
                // The format follows from what the order looks at: otherwise equal entries have no
                // order.
                let kind = (u64::from(place) + pack) % 4;
                entry.format_version = [3, 3, 2, 1][kind as usize];
                entry.compression = if version == 1 {
                    0
                } else {
                    [0, 0x1101, 0, 0x1200][kind as usize]
                };
                entry
            },
        )
}

fn blobs(version: u8) -> impl Strategy<Value = Vec<Blob>> {
    let blob = (0_u64..4, prop::collection::vec(entry(version), 1..60));
    let blob = blob.prop_map(|(epoch, entries)| Blob { epoch, entries });
    prop::collection::vec(blob, 1..12)
}

fn world(version: u8, write_epoch: u64) -> World {
    let world = World::new(WorldOptions {
        index_version: version,
        ..WorldOptions::default()
    });
    world.put_markers(write_epoch, START);
    world
}

/// Puts the blobs; what each epoch then holds, the manifest of the world included.
fn fill(world: &World, blobs: &[Blob]) -> BTreeMap<u64, View> {
    let mut views = BTreeMap::new();
    let manifest = model::view(&world.storage(), &world.crypto, model::Choice::First);
    views.insert(0, manifest.unwrap());
    for (number, blob) in blobs.iter().enumerate() {
        let time = START.plus(std::time::Duration::from_secs(number as u64));
        // A client's flush has one entry of each content.
        let own = model::winners(blob.entries.iter().cloned());
        let own: Vec<Entry> = own.into_values().collect();
        world.put_uncompacted(blob.epoch, &own, time);
        let view: &mut View = views.entry(blob.epoch).or_default();
        own.into_iter().for_each(|entry| model::add(view, entry));
    }
    views
}

fn check_merge(version: u8, blobs: &[Blob], bench: &Bench, shard_entries: u64) {
    let world = world(version, 6);
    let views = fill(&world, blobs);
    let epochs: Vec<u64> = views.keys().copied().collect();
    let before = world.all();
    let sets = merge(&world, bench, &epochs, shard_entries).unwrap();
    assert_eq!(
        sets.len(),
        epochs.len(),
        "a set for every epoch that has entries"
    );
    for (set, (epoch, view)) in sets.iter().zip(&views) {
        assert_eq!(set.output, Output::Single(*epoch));
        let plains = check_set(&world, set, view, shard_entries);
        if let [plain] = &plains[..] {
            let expected = world.index_bytes(view.values());
            assert!(
                *plain == expected,
                "epoch {epoch}: the bytes of the index builder"
            );
        }
    }
    let after = world.all();
    assert!(
        before
            .iter()
            .all(|(name, blob)| after.get(name) == Some(blob)),
        "append only"
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn version_2(blobs in blobs(2)) {
        check_merge(2, &blobs, &Bench::new(), 16_000_000);
        check_merge(2, &blobs, &Bench::new().tiny(), 16_000_000);
    }

    #[test]
    fn version_1(blobs in blobs(1)) {
        check_merge(1, &blobs, &Bench::new(), 16_000_000);
        check_merge(1, &blobs, &Bench::new().tiny(), 16_000_000);
    }

    #[test]
    fn small_shards(blobs in blobs(2), shard_entries in 1_u64..40) {
        check_merge(2, &blobs, &Bench::new().tiny(), shard_entries);
    }

    #[test]
    fn small_shards_of_version_1(blobs in blobs(1), shard_entries in 1_u64..40) {
        check_merge(1, &blobs, &Bench::new().tiny(), shard_entries);
    }

    #[test]
    fn opened_through_scratch(blobs in blobs(2)) {
        check_merge(2, &blobs, &Bench::new().tiny().blobs_below(512), 25);
    }

    #[test]
    fn opened_through_scratch_in_version_1(blobs in blobs(1)) {
        check_merge(1, &blobs, &Bench::new().tiny().blobs_below(512), 16_000_000);
    }
}

/// Goal: enough records for several runs and several cascades; method: 6,000 entries in 60 blobs,
/// buffers of 4 KiB, three runs open at once.
#[test]
fn many_runs_cascade() {
    let world = world(2, 3);
    let mut blobs = Vec::new();
    for number in 0..60 {
        let contents = (0..100).map(|row| (number * 37 + row * 61) % 4000);
        let entries = contents.map(|content| {
            let live = Entry::data(
                content,
                content % 300 + number % 3,
                100 + (number % 7) as i64,
            );
            if content % 11 == 0 {
                live.tombstone(103)
            } else {
                live
            }
        });
        let entries = entries.collect();
        blobs.push(Blob {
            epoch: number % 2,
            entries,
        });
    }
    let views = fill(&world, &blobs);
    let sets = merge(&world, &Bench::new().tiny(), &[0, 1], 100).unwrap();
    for (set, view) in sets.iter().zip(views.values()) {
        check_set(&world, set, view, 100);
    }
    assert!(
        sets.iter().all(|set| set.blobs.len() > 10),
        "several shards"
    );
}

/// Goal: more packs than 16 bits can number; method: 70,000 entries, each in a pack of its own.
#[test]
fn more_packs_than_two_bytes_can_number() {
    let world = world(2, 3);
    let entries: Vec<Entry> = (0..70_000).map(|n| Entry::data(n, n, 100)).collect();
    let blobs: Vec<Blob> = entries
        .chunks(20_000)
        .map(|chunk| Blob {
            epoch: 1,
            entries: chunk.to_vec(),
        })
        .collect();
    let views = fill(&world, &blobs);
    let snapshot = world.store.snapshot();
    let sets = merge(&world, &Bench::new(), &[1], 16_000_000).unwrap();
    let plains = check_set(&world, &sets[0], &views[&1], 16_000_000);
    assert_eq!(plains[0][3], 18, "entries of 18 bytes");
    assert!(
        plains[0] == world.index_bytes(views[&1].values()),
        "the index builder's bytes"
    );
    world.store.restore(&snapshot);
    let sets = merge(&world, &Bench::new(), &[1], 30_000).unwrap();
    check_set(&world, &sets[0], &views[&1], 30_000);
}

/// Goal: an entry that every client would refuse to re-encode stops the merge before anything is
/// written; method: an index blob of version 2 with compression in a repository of version 1.
#[test]
fn what_a_client_would_refuse_is_never_written_again() {
    let modern = world(2, 3);
    let mut compressed = Entry::data(5, 1, 100);
    compressed.compression = 0x1101;
    let plain = modern.index_bytes([&compressed]);
    let old = world(1, 3);
    old.put_sealed(
        "xn1_",
        "s0123456789abcdef144-c1",
        &plain,
        Timestamp::from_seconds(1),
    );
    let before = old.all();
    let error = merge(&old, &Bench::new(), &[1], 100_000).err().unwrap();
    assert_eq!(error.code(), "refused-entry", "{error}");
    assert!(old.all() == before);
    assert!(old.store.bytes(&BlobId::new("kopia.maintenance")).is_none());
}
