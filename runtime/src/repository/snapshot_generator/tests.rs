//! Made-up backups, looked at with other code: the index as readers see it, the mark of snapshot
//! GC, the verification.

use std::collections::BTreeSet;

use super::*;
use crate::kopia::content_id::ContentId;
use crate::progress::Silent;
use crate::repository::pack_world::{NOW, Shape, World};
use crate::repository::snapshots::Snapshots;
use crate::repository::used_contents::mark;
use crate::repository::verify::{VerifyOptions, verify_index_with};

const OPTIONS: SnapshotOptions = SnapshotOptions {
    snapshots: 3,
    deleted: 1,
    directories: 5,
    files: 40,
    changed_percent: 30,
    file_bytes: 100,
    sessions: 7,
    with_data: true,
    seed: 1,
    now: NOW,
    settled: true,
};

fn make(options: &SnapshotOptions) -> (World, GeneratedSnapshots) {
    let world = World::new(Shape::default());
    let target = GeneratorTarget {
        storage: &world.repository.storage,
        crypto: &world.repository.crypto,
        randomness: &world.repository.randomness,
    };
    let made = generate_snapshots(&target, options, &world.clock, &Silent).unwrap();
    world.clock.set(NOW);
    (world, made)
}

/// Returns the contents that GC would find in use.
fn used(world: &World) -> BTreeSet<String> {
    let (_, table) = world.table().unwrap();
    let snapshots = Snapshots::load(&world.repository, &world.workspace, &table).unwrap();
    let used = mark(&world.repository, &world.workspace, &table, &snapshots).unwrap();
    let (mut keys, mut merge) = (BTreeSet::new(), used.merge().unwrap());
    while let Some(key) = merge.next().unwrap() {
        keys.insert(ContentId::from_key(key).unwrap().to_string());
    }
    keys
}

/// Goal: the backups are what was asked for, and every byte is there; method: index, mark and all
/// contents, read with other code.
#[test]
fn backups_are_whole_and_have_garbage() {
    let (world, made) = make(&OPTIONS);
    let (rows, used) = (world.contents(), used(&world));
    assert_eq!(rows.len() as u64, made.written.contents);
    let deleted = rows.values().filter(|row| row.deleted).count();
    assert_eq!(deleted as u64, made.written.tombstones);
    assert!(deleted > 0);
    assert!(used.iter().all(|id| !rows[id].deleted));
    let files = used.iter().filter(|id| !id.starts_with('k')).count();
    assert!((200..400).contains(&files), "two snapshots of 200: {files}");
    let manifests = rows.keys().filter(|id| id.starts_with('m')).count();
    assert_eq!(manifests, 4, "three snapshots, one with a tombstone");
    let garbage = rows.len() - used.len() - manifests;
    assert!((30..100).contains(&garbage), "some 60 files: {garbage}");
    for (id, row) in &rows {
        world.read(id, row).unwrap();
        assert!(row.seconds <= OPTIONS.now.seconds() - 24 * 3600, "{id}");
    }
    // One of each kind for a session, and the one with the deletions.
    assert_eq!(made.written.index_blobs, 8);
    assert_eq!(made.written.packs, 15);
    assert_eq!(world.names("xn0_").len(), 8);
    let bytes: u64 = world
        .names("p")
        .iter()
        .chain(&world.names("q"))
        .map(|name| world.store.bytes(&name.as_str().into()).unwrap().len() as u64)
        .sum();
    assert_eq!(made.written.pack_bytes, bytes);
    let options = VerifyOptions {
        packs: true,
        ..VerifyOptions::default()
    };
    let report = verify_index_with(&world.repository, &world.workspace, &options).unwrap();
    assert!(report.ok(), "{report}");
}

#[test]
fn the_seed_decides_which_contents_there_are() {
    let ids = |seed| {
        let (world, _) = make(&SnapshotOptions { seed, ..OPTIONS });
        world.contents().into_keys().collect::<Vec<_>>()
    };
    assert_eq!(ids(1), ids(1));
    assert_ne!(ids(1), ids(2));
}

/// Goal: without data the mark finds the same numbers; method: both, and the packs that are there.
#[test]
fn without_data_the_directories_that_stay_are_there() {
    let bare = SnapshotOptions {
        with_data: false,
        ..OPTIONS
    };
    let ((full, made), (world, made_bare)) = (make(&OPTIONS), make(&bare));
    assert_eq!(used(&full).len(), used(&world).len());
    let twice = made_bare.written.contents - made.written.contents;
    assert!(twice <= 6, "directories that came back: {twice}");
    assert_eq!(made_bare.written.tombstones, made.written.tombstones);
    assert!(world.names("p").is_empty());
}

#[test]
fn many_directories_have_a_level_of_their_own() {
    let (world, made) = make(&SnapshotOptions {
        snapshots: 2,
        deleted: 0,
        directories: 1_001,
        files: 1,
        changed_percent: 0,
        sessions: 1,
        ..OPTIONS
    });
    // Nothing has changed: the second snapshot is one more manifest.
    assert_eq!(made.written.contents, 1_001 + 1_001 + 2 + 1 + 2);
    assert_eq!(used(&world).len(), 1_001 + 1_001 + 2 + 1);
}

/// Goal: all snapshots may go; method: nothing is in use then.
#[test]
fn all_snapshots_deleted() {
    let (world, _) = make(&SnapshotOptions {
        deleted: 3,
        ..OPTIONS
    });
    assert!(used(&world).is_empty());
}
