//! The mark on trees made to order, against a model that knows what it has built.
//!
//! Random trees of directories, files and large objects in every form of object ID: direct,
//! indirect once and more often, compressed as an object or content; shared between snapshots and
//! levels. Buffers so small that contents go through scratch.

pub(crate) mod trees;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use self::trees::{Builder, DIRECT, Form, Object, tree};
use super::pack_world::{NOW, Shape, World};
use super::snapshots::Snapshots;
use super::tenants::{ContentTenants, NOBODY, SnapshotTenantsWriter, joined};
use super::used_contents::{MarkStats, mark};
use super::{Repository, RepositoryError};
use crate::blob::Storage;
use crate::kopia::content_id::ContentId;
use crate::kopia::manifest::{ManifestEntry, to_gzip_json};

/// Marks; returns the contents in use.
fn marked(world: &World) -> Result<(BTreeSet<ContentId>, MarkStats), RepositoryError> {
    let (_, table) = world.table()?;
    let (repository, workspace) = (&world.repository, &world.workspace);
    let snapshots = Snapshots::load(repository, workspace, &table)?;
    let used = mark(repository, workspace, &table, &snapshots)?;
    let (mut merge, mut ids) = (used.merge()?, BTreeSet::new());
    while let Some(key) = merge.next()? {
        assert!(ids.insert(ContentId::from_key(key)?), "every key once");
    }
    Ok((ids, used.stats))
}

/// A world whose buffers hold `window_bytes`.
fn world(shape: Shape, window_bytes: usize) -> World {
    let mut world = World::new(shape);
    world.workspace.memory.read_window_bytes = window_bytes;
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Goal: what the snapshots use is found, all of it and nothing else.
    #[test]
    fn all_that_is_in_use_and_nothing_else(
        trees in prop::collection::vec((tree(), any::<bool>()), 1..5),
        ecc: bool, chacha: bool,
        window_bytes in prop_oneof![Just(1 << 20), 200_usize..2000],
        pack_bytes_max in 2_000_u64..40_000,
    ) {
        let shape = Shape {
            ecc_percent: if ecc { 10 } else { 0 },
            chacha,
            pack_bytes_max,
            ..Shape::default()
        };
        let world = world(shape, window_bytes);
        let mut expected = BTreeSet::new();
        let mut snapshots = 0;
        let mut builder = Builder::new(&world);
        for (tree, kept) in &trees {
            let root = builder.node(tree);
            if *kept {
                builder.snapshot(snapshots, &root);
                snapshots += 1;
                expected.extend(root.contents);
            }
        }
        builder.manifest(1_000, "policy", "{}");
        builder.finish();
        let (found, stats) = marked(&world).unwrap();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(stats.snapshots, u64::from(snapshots));
    }
}

/// Marks for the tenants of the snapshots, by the number of each; returns whose every content is.
fn owners(
    world: &World,
    tenant_of: &dyn Fn(u32) -> u8,
) -> Result<BTreeMap<ContentId, u8>, RepositoryError> {
    let (_, table) = world.table()?;
    let (repository, workspace) = (&world.repository, &world.workspace);
    let snapshots = Snapshots::load(repository, workspace, &table)?;
    let mut tenants = SnapshotTenantsWriter::create(workspace)?;
    snapshots.each(|snapshot| {
        let number = u32::from_str_radix(&snapshot.id, 16).unwrap();
        tenants.push(&[tenant_of(number)])
    })?;
    let tenants = tenants.finish()?;
    let found = ContentTenants::find(repository, workspace, &table, &snapshots, &tenants)?;
    let (mut whose, mut records) = (found.stream(), table.stream()?);
    let mut owners = BTreeMap::new();
    while let Some(record) = records.next()? {
        let id = ContentId::from_key(table.key(record))?;
        owners.insert(id, whose.next_tenant()?);
    }
    assert!(whose.next_tenant().is_err(), "one for each content");
    Ok(owners)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Goal: each content is its tenant's, or that of several, or nobody's, also where trees share
    /// parts in different depths; method: a model that knows what each tree is made of.
    #[test]
    fn every_content_has_its_owner(
        trees in prop::collection::vec((tree(), 0..4_u8), 1..6),
        chacha: bool,
        window_bytes in prop_oneof![Just(1 << 20), 200_usize..2000],
        pack_bytes_max in 2_000_u64..40_000,
    ) {
        let shape = Shape { chacha, pack_bytes_max, ..Shape::default() };
        let world = world(shape, window_bytes);
        let mut expected: BTreeMap<ContentId, u8> = BTreeMap::new();
        let mut builder = Builder::new(&world);
        for (number, (tree, tenant)) in trees.iter().enumerate() {
            let root = builder.node(tree);
            if *tenant > 0 {
                builder.snapshot(number as u32, &root);
            }
            for content in root.contents {
                let owner = expected.entry(content).or_insert(NOBODY);
                *owner = joined(*owner, *tenant);
            }
        }
        builder.finish();
        let found = owners(&world, &|number| trees[number as usize].1).unwrap();
        for (content, owner) in &found {
            let expected = expected.get(content).copied().unwrap_or(NOBODY);
            prop_assert_eq!(*owner, expected, "{}", content);
        }
        prop_assert!(expected.keys().all(|content| found.contains_key(content)));
    }
}

/// A tree with three directories in each directory, `levels` deep, two files in each. `file` gives
/// what is in a file, by its number.
fn regular(
    builder: &mut Builder<'_>,
    levels: usize,
    number: &mut u32,
    file: &dyn Fn(u32) -> u64,
) -> Object {
    let mut children = Vec::new();
    for _ in 0..if levels == 0 { 0 } else { 3 } {
        children.push(regular(builder, levels - 1, number, file));
    }
    for _ in 0..2 {
        *number += 1;
        let id = builder.content(None, &file(*number).to_be_bytes(), false);
        children.push(Object::file(id));
    }
    builder.directory(&children, DIRECT)
}

/// What a mark has cost.
#[derive(Debug)]
struct Cost {
    gets: u64,
    bytes: u64,
    stats: MarkStats,
}

/// Writes trees of 3,280 directories into large packs, one for each of `files`, keeps the snapshot
/// of the last, and marks.
fn cost_of_last(files: &[&dyn Fn(u32) -> u64]) -> Cost {
    let shape = Shape {
        pack_bytes_max: 4 << 20,
        ..Shape::default()
    };
    let world = world(shape, 1 << 20);
    let mut builder = Builder::new(&world);
    for (version, file) in files.iter().enumerate() {
        let root = regular(&mut builder, 7, &mut 0, file);
        if version + 1 == files.len() {
            builder.snapshot(1, &root);
        }
    }
    builder.finish();
    let storage: &Storage = &world.repository.storage;
    let (_, table) = world.table().unwrap();
    let (repository, workspace): (&Repository, _) = (&world.repository, &world.workspace);
    let snapshots = Snapshots::load(repository, workspace, &table).unwrap();
    let before = storage.counters();
    let stats = mark(repository, workspace, &table, &snapshots)
        .unwrap()
        .stats;
    let after = storage.counters();
    let (gets, bytes) = (
        after.gets - before.gets,
        after.bytes_read - before.bytes_read,
    );
    assert_eq!(stats.directories, (3_u64.pow(8) - 1) / 2);
    assert_eq!(bytes - stats.asked_bytes, stats.useless_bytes);
    Cost { gets, bytes, stats }
}

/// Goal: live metadata is read about once, in few requests, although its levels lie mixed in the
/// packs; dead metadata is not read.
#[test]
fn deep_trees_are_read_once_in_few_requests() {
    let file = |number| u64::from(number);
    let other = |number| u64::from(number) << 32;
    let changed = |of: u32| {
        move |number: u32| match number / of % 2 {
            0 => other(number),
            _ => file(number),
        }
    };
    let check = |files: &[&dyn Fn(u32) -> u64], gets: u64, percent: u64| {
        let cost = cost_of_last(files);
        let live = cost.stats.asked_bytes;
        assert!(live > 1_000_000, "{live}");
        assert!(cost.bytes * 100 <= live * percent, "{cost:?}");
        assert!(cost.gets <= gets, "{cost:?}");
    };
    check(&[&file], 12, 101);
    check(&[&other, &file], 12, 101);
    // Half of what the first snapshot wrote is dead, in parts of so many files.
    check(&[&file, &changed(700)], 60, 102);
    check(&[&file, &changed(80)], 240, 108);
    check(&[&file, &changed(20)], 500, 109);
    check(&[&file, &changed(4)], 520, 109);
}

fn bytes_of_metadata(world: &World) -> u64 {
    let rows = world.contents();
    let metadata = rows.iter().filter(|(id, _)| id.starts_with('k'));
    metadata.map(|(_, row)| u64::from(row.length)).sum()
}

/// Goal: a directory of many thousands of entries in many chunks, in buffers of some KB; its chunks
/// are read once although several snapshots have most of them in common.
#[test]
fn a_large_directory_comes_in_chunks() {
    let shape = Shape {
        pack_bytes_max: 1 << 20,
        ..Shape::default()
    };
    let world = world(shape, 4_000);
    let mut builder = Builder::new(&world);
    let mut expected = BTreeSet::new();
    let children: Vec<Object> = (0..20_000_u32)
        .map(|number| {
            let mut hash = [0; 16];
            hash[..4].copy_from_slice(&number.to_be_bytes());
            Object::file(ContentId::from_hash(None, &hash).unwrap())
        })
        .collect();
    let form = Form {
        chunk: 50_000,
        compressed: true,
        ..DIRECT
    };
    for (number, entries) in [20_000, 19_999, 15_000].into_iter().enumerate() {
        let root = builder.directory(&children[..entries], form);
        assert!(root.id.starts_with("Ik"));
        builder.snapshot(number as u32, &root);
        expected.extend(root.contents);
    }
    builder.finish();
    let live = bytes_of_metadata(&world);
    let before = world.repository.storage.counters();
    let (found, stats) = marked(&world).unwrap();
    let bytes = world.repository.storage.counters().bytes_read - before.bytes_read;
    assert_eq!(found, expected);
    assert_eq!(stats.directories, 3);
    let index: usize = world
        .names("xn")
        .iter()
        .map(|name| world.store.bytes(&name.as_str().into()).unwrap().len())
        .sum();
    assert!(
        bytes <= live + 2 * index as u64 + 4_000,
        "{bytes} read, {live} live"
    );
}

/// Goal: whatever is missing or unreadable below a snapshot is an error that names it.
#[test]
fn what_cannot_be_read_ends_the_mark() {
    let root_of = |build: &dyn Fn(&mut Builder<'_>) -> Object| {
        let world = world(Shape::default(), 1 << 20);
        let mut builder = Builder::new(&world);
        let root = build(&mut builder);
        builder.snapshot(1, &root);
        builder.finish();
        world
    };
    let refused = |world: &World| {
        let error = marked(world).unwrap_err();
        (error.code(), error.to_string())
    };
    let absent = ContentId::from_hash(Some(b'k'), &[7; 16])
        .unwrap()
        .to_string();
    let entry = |id: &str, directory| Object {
        id: id.to_owned(),
        directory,
        contents: BTreeSet::new(),
        below: (0, 0),
    };
    let missing = root_of(&|builder| builder.directory(&[entry(&absent, true)], DIRECT));
    let (code, text) = refused(&missing);
    assert!(
        code == "content-not-found" && text.contains(&absent),
        "{text}"
    );
    let other_hash = root_of(&|builder| builder.directory(&[entry("k00", false)], DIRECT));
    assert_eq!(refused(&other_hash).0, "content-not-found");
    let no_id = root_of(&|builder| builder.directory(&[entry("", false)], DIRECT));
    let (code, text) = refused(&no_id);
    assert!(
        code == "malformed" && text.contains("entry \"n0\""),
        "{text}"
    );
    let no_directory = root_of(&|builder| {
        let id = builder.content(Some(b'k'), b"{\"stream\":\"other\"}", false);
        entry(&id.to_string(), true)
    });
    let (code, text) = refused(&no_directory);
    assert!(code == "malformed" && text.contains("content k"), "{text}");
    let both = root_of(&|builder| {
        let id = builder.directory(&[], DIRECT).id;
        let twice = [entry(&id, true), entry(&format!("I{id}"), false)];
        builder.directory(&twice, DIRECT)
    });
    assert_eq!(refused(&both).0, "malformed");

    let whole = root_of(&|builder| builder.directory(&[], DIRECT));
    let rows = whole.contents();
    let (_, row) = rows.iter().find(|(id, _)| id.starts_with('k')).unwrap();
    whole.damage(row);
    assert_eq!(refused(&whole).0, "tag-mismatch");
    let storage = Storage::new(whole.store.clone());
    storage.delete(&row.pack.as_str().into()).unwrap();
    assert_eq!(refused(&whole).0, "missing-pack");
}

/// Goal: a manifest that cannot be read is an error, whatever it is of; a deleted one is no root.
#[test]
fn every_manifest_counts() {
    let snapshot_without_root = world(Shape::default(), 1 << 20);
    let mut builder = Builder::new(&snapshot_without_root);
    builder.manifest(1, "snapshot", "{\"rootEntry\":{\"obj\":\"\"}}");
    builder.finish();
    let error = marked(&snapshot_without_root).unwrap_err();
    assert!(
        error.to_string().starts_with("snapshot manifest 0"),
        "{error}"
    );

    let damaged = world(Shape::default(), 1 << 20);
    let mut builder = Builder::new(&damaged);
    builder.content(Some(b'm'), b"no gzip", false);
    builder.finish();
    assert_eq!(marked(&damaged).unwrap_err().code(), "malformed");

    let deleted = world(Shape::default(), 1 << 20);
    let mut builder = Builder::new(&deleted);
    let root = builder.directory(&[], DIRECT);
    let later = crate::clock::Timestamp::from_seconds(NOW.seconds() + 1);
    builder.snapshot(1, &root);
    builder.snapshot(2, &root);
    let tombstone = ManifestEntry::tombstone(format!("{:032x}", 1), later);
    builder.content(Some(b'm'), &to_gzip_json(&[tombstone]), false);
    // An older deletion of the other one does not count.
    let older = ManifestEntry::tombstone(
        format!("{:032x}", 2),
        crate::clock::Timestamp::from_seconds(5),
    );
    builder.content(Some(b'm'), &to_gzip_json(&[older]), false);
    builder.finish();
    let (found, stats) = marked(&deleted).unwrap();
    assert_eq!((found, stats.snapshots), (root.contents, 1));
}
