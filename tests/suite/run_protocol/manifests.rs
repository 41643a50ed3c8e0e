//! A run writes manifests that lie in many contents into one, as Kopia does on its own, and Kopia
//! finds all of them there.
//!
//! Policies and snapshots made by each Kopia of this machine, until they lie in 16 contents; what
//! they are is read with our own code before and after, and by Kopia after. And a world in memory,
//! for kills.

use std::collections::BTreeMap;
use std::time::SystemTime;

use careen::clock::Timestamp;
use careen::maintenance::compact_manifests::CONTENTS_MIN;
use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::lease::LEASE;
use careen::maintenance::safety::Safety;
use careen::repository::Repository;
use careen::repository::active_index::ActiveIndex;
use careen::repository::content_table::ContentTable;
use careen::repository::system_contents::{SystemContents, read_manifests};
use kit::cycle::cycle;
use kit::index_work::{Bench, open};
use kit::kopia::{self, CreateOptions};
use kit::world::{OWNER, World, WorldOptions};
use serde_json::value::RawValue;

const PASSWORD: &str = "a password";

fn now() -> Timestamp {
    SystemTime::now().into()
}

/// Returns every manifest as JSON by its ID, and how many contents hold them.
fn manifests(repository: &Repository) -> (BTreeMap<String, String>, u64) {
    let bench = Bench::new();
    let workspace = bench.workspace();
    let active = ActiveIndex::find(repository, &workspace).unwrap();
    let table = ContentTable::load(repository, &workspace, &active).unwrap();
    let system = SystemContents::of_table(&table).unwrap();
    let read = read_manifests(repository, &workspace, system, &[]).unwrap();
    let mut all = BTreeMap::new();
    let each = read.each(|entry| {
        all.insert(entry.id.clone(), serde_json::to_string(&entry).unwrap());
        Ok::<(), careen::repository::RepositoryError>(())
    });
    each.unwrap();
    (all, read.contents)
}

#[test]
fn many_contents_become_one_and_kopia_finds_every_manifest() {
    for kopia in kopia::binaries() {
        let dir = tempfile::tempdir().unwrap();
        let options = CreateOptions::default();
        let client = kopia.create(dir.path(), PASSWORD, &options).unwrap();
        let source = tempfile::tempdir().unwrap();
        std::fs::write(source.path().join("file"), "text").unwrap();
        client.snapshot_create(source.path(), &[]).unwrap();
        let mut number = 0;
        let (before, contents) = loop {
            // A client compacts what it finds, and then adds some.
            let path = format!("/somewhere/{number}");
            let fresh = client.fresh().unwrap();
            fresh
                .run(&["policy", "set", &path, "--keep-latest", "3"])
                .unwrap();
            number += 1;
            let repository = open(dir.path(), PASSWORD, now()).unwrap();
            let found = manifests(&repository);
            if found.1 >= CONTENTS_MIN {
                break found;
            }
            assert!(number < 50, "{kopia}: {} contents", found.1);
        };
        assert!(before.len() > 10, "{kopia}");
        let quick = cycle(Mode::Quick, Safety::full(), kopia::IDENTITY);
        let repository = open(dir.path(), PASSWORD, now()).unwrap();
        let report = Bench::new().cycle(&repository, &quick).unwrap();
        let done = report.manifests.unwrap();
        assert_eq!((done.written, done.deleted), (1, contents), "{kopia}");
        assert_eq!(manifests(&repository), (before.clone(), 1), "{kopia}");

        let fresh = client.fresh().unwrap();
        let listed = fresh.manifest_list().unwrap();
        let ids = listed
            .iter()
            .map(|row| row["id"].as_str().unwrap().to_owned());
        let told: std::collections::BTreeSet<String> = ids.collect();
        assert!(told.iter().eq(before.keys()), "{kopia}");
        fresh.snapshot_verify().unwrap();
        fresh.content_verify(true).unwrap();
        // Again: nothing is left to do.
        let repository = open(dir.path(), PASSWORD, now()).unwrap();
        let report = Bench::new().cycle(&repository, &quick).unwrap();
        assert_eq!(report.manifests, None, "{kopia}");
    }
}

/// Goal: a kill anywhere in between loses no manifest; method: one after every storage operation.
#[test]
fn a_kill_at_any_operation_loses_no_manifest() {
    let world = World::new(WorldOptions::default());
    for number in 0..CONTENTS_MIN {
        let payload = RawValue::from_string(format!("{{\"n\":{number}}}")).unwrap();
        let entries = [
            world.manifest("policy", payload.clone()),
            world.manifest("snapshot", payload),
        ];
        world.put_manifest_content(&entries);
    }
    let bench = Bench::new().quick();
    let (start, snapshot) = (world.now(), world.store.snapshot());
    let quick = cycle(Mode::Quick, Safety::full(), OWNER);
    let (before, contents) = manifests(&world.repository());
    assert_eq!(
        (before.len() as u64, contents),
        (2 * CONTENTS_MIN + 1, CONTENTS_MIN + 1)
    );
    let mut operations = 0;
    loop {
        world.store.restore(&snapshot);
        world.clock.set(start);
        let store = super::dying(&world, operations);
        let killed = bench.cycle(&world.repository_on(store), &quick);
        let (found, _) = manifests(&world.repository());
        assert_eq!(found, before, "killed after {operations}");
        if killed.is_ok() {
            break;
        }
        world.clock.set(start.plus(LEASE));
        bench.cycle(&world.repository(), &quick).unwrap();
        assert_eq!(
            manifests(&world.repository()),
            (before.clone(), 1),
            "after {operations}"
        );
        operations += 1;
    }
    assert!(operations > 50, "{operations}");
}
