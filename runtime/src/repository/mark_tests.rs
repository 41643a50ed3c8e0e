//! The mark on trees made to order, against a model that knows what it has built.
//!
//! Random trees of directories, files and large objects in every form of object ID: direct,
//! indirect once and more often, compressed as an object or content; shared between snapshots and
//! levels. Buffers so small that contents go through scratch.

use std::collections::BTreeSet;

use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::value::RawValue;

use super::pack_world::{FORMAT, NOW, OWNER, Shape, World};
use super::pack_writer::{NewContent, PackWriter, Sealed};
use super::snapshots::Snapshots;
use super::used_contents::{MarkStats, mark};
use super::{Repository, RepositoryError};
use crate::kopia::content_id::ContentId;
use crate::kopia::index_blob::ContentFormat;
use crate::kopia::manifest::{ManifestEntry, TYPE_LABEL, to_gzip_json};
use crate::{blob::Storage, clock::Timestamp};

/// Header ID of zstd-fastest.
const ZSTD: u32 = 0x1101;

/// An object and everything below it.
#[derive(Clone, Debug)]
struct Object {
    id: String,
    directory: bool,
    contents: BTreeSet<ContentId>,
}

/// Builds trees as a client does, children first.
struct Builder<'w> {
    world: &'w World,
    writer: PackWriter<'w>,
    seconds: i64,
}

impl<'w> Builder<'w> {
    fn new(world: &'w World) -> Self {
        let writer = PackWriter::new(&world.repository, &world.workspace, OWNER).unwrap();
        Self {
            world,
            writer,
            seconds: NOW.seconds() - 100_000,
        }
    }

    /// Appends a content; with `compressed` as zstd.
    fn content(&mut self, prefix: Option<u8>, plain: &[u8], compressed: bool) -> ContentId {
        let crypto = &self.world.repository.crypto;
        let id = ContentId::from_hash(prefix, &crypto.hash.hash(plain)).unwrap();
        let mut body = plain.to_vec();
        if compressed {
            body = ZSTD.to_be_bytes().to_vec();
            body.extend(compress_to_vec(plain, CompressionLevel::Fastest));
        }
        let (mut sealed, mut stored) = (Vec::new(), Vec::new());
        let nonce = self.world.repository.random();
        crypto.encryption.seal(id.iv(), nonce, &body, &mut sealed);
        match &crypto.ecc {
            None => stored = sealed,
            Some(ecc) => ecc.encode(&sealed, &mut stored),
        }
        let content = NewContent {
            key: id.key(),
            timestamp_seconds: self.seconds,
            deleted: false,
            original_length: plain.len() as u32,
            format: ContentFormat {
                compression_header_id: if compressed { ZSTD } else { 0 },
                ..FORMAT
            },
        };
        self.writer
            .append(&content, Sealed::Bytes(&stored))
            .unwrap();
        id
    }

    /// Writes an object in chunks; returns its ID and its contents.
    fn object(
        &mut self,
        prefix: Option<u8>,
        plain: &[u8],
        form: Form,
    ) -> (String, BTreeSet<ContentId>) {
        if form.object {
            let mut body = ZSTD.to_be_bytes().to_vec();
            body.extend(compress_to_vec(plain, CompressionLevel::Fastest));
            let id = self.content(prefix, &body, false);
            return (format!("Z{id}"), BTreeSet::from([id]));
        }
        if plain.len() <= form.chunk {
            let id = self.content(prefix, plain, form.compressed);
            return (id.to_string(), BTreeSet::from([id]));
        }
        let (mut entries, mut contents, mut start) = (Vec::new(), BTreeSet::new(), 0);
        for chunk in plain.chunks(form.chunk) {
            let id = self.content(prefix, chunk, form.compressed);
            contents.insert(id);
            let start_field = match start {
                0 => String::new(),
                start => format!("\"s\":{start},"),
            };
            entries.push(format!(
                "{{{start_field}\"l\":{},\"o\":\"{id}\"}}",
                chunk.len()
            ));
            start += chunk.len();
        }
        let index = format!(
            "{{\"stream\":\"kopia:indirect\",\"entries\":[{}]}}\n",
            entries.join(",\n")
        );
        // As long as an entry, so that the index has fewer chunks than the object.
        let form = Form {
            chunk: form.chunk.max(200),
            ..form
        };
        let (id, own) = self.object(prefix.or(Some(b'x')), index.as_bytes(), form);
        contents.extend(own);
        (format!("I{id}"), contents)
    }

    fn node(&mut self, node: &Node) -> Object {
        match node {
            Node::File { seed, bytes, form } => {
                let plain: Vec<u8> = (0..*bytes)
                    .map(|at| seed.wrapping_mul(31).wrapping_add((at / 7) as u8))
                    .collect();
                let (id, contents) = self.object(None, &plain, *form);
                Object {
                    id,
                    directory: false,
                    contents,
                }
            }
            Node::Directory { children, form } => {
                let children: Vec<Object> = children.iter().map(|child| self.node(child)).collect();
                self.directory(&children, *form)
            }
        }
    }

    fn directory(&mut self, children: &[Object], form: Form) -> Object {
        let mut below = BTreeSet::new();
        let entries: Vec<String> = children
            .iter()
            .enumerate()
            .map(|(number, child)| {
                below.extend(child.contents.iter().copied());
                let kind = if child.directory { "d" } else { "f" };
                format!(
                    "{{\"name\":\"n{number}\",\"type\":\"{kind}\",\"obj\":\"{}\"}}",
                    child.id
                )
            })
            .collect();
        let json = format!(
            "{{\"stream\":\"kopia:directory\",\"entries\":[{}],\"summary\":{{\"size\":1}}}}\n",
            entries.join(",")
        );
        let (id, contents) = self.object(Some(b'k'), json.as_bytes(), form);
        below.extend(contents);
        Object {
            id,
            directory: true,
            contents: below,
        }
    }

    /// Appends the manifest of a snapshot.
    fn snapshot(&mut self, number: u32, root: &Object) {
        let kind = if root.directory { "d" } else { "f" };
        let data = format!(
            "{{\"source\":{{\"host\":\"h\",\"userName\":\"u\",\"path\":\"/p\"}},\
             \"rootEntry\":{{\"type\":\"{kind}\",\"obj\":\"{}\"}}}}",
            root.id
        );
        self.manifest(number, "snapshot", &data);
    }

    fn manifest(&mut self, number: u32, kind: &str, data: &str) {
        let labels = [(TYPE_LABEL.to_owned(), kind.to_owned())].into();
        let data = RawValue::from_string(data.to_owned()).unwrap();
        let entry = ManifestEntry::new(format!("{number:032x}"), labels, NOW, data);
        self.content(Some(b'm'), &to_gzip_json(&[entry]), false);
    }

    fn finish(self) {
        self.writer.finish().unwrap();
    }
}

/// How an object is stored.
#[derive(Clone, Copy, Debug)]
struct Form {
    chunk: usize,
    /// zstd in each content.
    compressed: bool,
    /// zstd around the object: `Z`.
    object: bool,
}

const DIRECT: Form = Form {
    chunk: usize::MAX,
    compressed: false,
    object: false,
};

#[derive(Clone, Debug)]
enum Node {
    File { seed: u8, bytes: u16, form: Form },
    Directory { children: Vec<Node>, form: Form },
}

fn form() -> impl Strategy<Value = Form> {
    let chunk = prop_oneof![4 => Just(usize::MAX), 1 => 30_usize..400];
    (chunk, any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(chunk, compressed, object)| Form {
        chunk,
        compressed,
        object,
    })
}

fn tree() -> impl Strategy<Value = Node> {
    let file = (any::<u8>(), 0..600_u16, form());
    let file = file.prop_map(|(seed, bytes, form)| Node::File { seed, bytes, form });
    file.prop_recursive(5, 60, 6, |inner| {
        let children = prop::collection::vec(inner, 0..6);
        (children, form()).prop_map(|(children, form)| Node::Directory { children, form })
    })
}

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

/// A tree with `width` directories in each directory, `levels` deep, two files in each.
fn regular(builder: &mut Builder<'_>, width: usize, levels: usize, number: &mut u32) -> Object {
    let mut children = Vec::new();
    for _ in 0..if levels == 0 { 0 } else { width } {
        children.push(regular(builder, width, levels - 1, number));
    }
    for _ in 0..2 {
        *number += 1;
        let id = builder.content(None, &number.to_be_bytes(), false);
        children.push(Object {
            id: id.to_string(),
            directory: false,
            contents: BTreeSet::from([id]),
        });
    }
    builder.directory(&children, DIRECT)
}

fn bytes_of_metadata(world: &World) -> u64 {
    let rows = world.contents();
    let metadata = rows.iter().filter(|(id, _)| id.starts_with('k'));
    metadata.map(|(_, row)| u64::from(row.length)).sum()
}

/// Goal: live metadata is read about once, in few requests, although its levels lie mixed in the
/// packs; dead metadata of other sessions is not read.
#[test]
fn deep_trees_are_read_once_in_few_requests() {
    let shape = Shape {
        pack_bytes_max: 4 << 20,
        ..Shape::default()
    };
    let world = world(shape, 1 << 20);
    let mut number = 0;
    let mut builder = Builder::new(&world);
    let root = regular(&mut builder, 3, 7, &mut number);
    builder.snapshot(1, &root);
    builder.finish();
    let live = bytes_of_metadata(&world);
    let mut builder = Builder::new(&world);
    regular(&mut builder, 3, 7, &mut number); // a snapshot that was deleted
    builder.finish();
    let storage: &Storage = &world.repository.storage;
    let (_, table) = world.table().unwrap();
    let (repository, workspace): (&Repository, _) = (&world.repository, &world.workspace);
    let snapshots = Snapshots::load(repository, workspace, &table).unwrap();
    let before = storage.counters();
    let used = mark(repository, workspace, &table, &snapshots).unwrap();
    let after = storage.counters();
    let gets = after.gets - before.gets;
    let bytes = after.bytes_read - before.bytes_read;
    assert_eq!(used.stats.directories, (3_u64.pow(8) - 1) / 2);
    // A tree of one MB: a tenth more is a matter of some gaps.
    assert!(bytes * 20 <= live * 23, "{bytes} bytes read, {live} live");
    // The first few hundred requests are exact: 3,280 directories are still read in one of ten.
    assert!(gets <= 300, "{gets} GETs for {live} bytes");
    assert_eq!(used.stats.asked_bytes, live);
    assert_eq!(bytes - live, used.stats.useless_bytes);
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
            let id = ContentId::from_hash(None, &hash).unwrap();
            Object {
                id: id.to_string(),
                directory: false,
                contents: BTreeSet::from([id]),
            }
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
    let later = Timestamp::from_seconds(NOW.seconds() + 1);
    builder.snapshot(1, &root);
    builder.snapshot(2, &root);
    let tombstone = ManifestEntry::tombstone(format!("{:032x}", 1), later);
    builder.content(Some(b'm'), &to_gzip_json(&[tombstone]), false);
    // An older deletion of the other one does not count.
    let older = ManifestEntry::tombstone(format!("{:032x}", 2), Timestamp::from_seconds(5));
    builder.content(Some(b'm'), &to_gzip_json(&[older]), false);
    builder.finish();
    let (found, stats) = marked(&deleted).unwrap();
    assert_eq!((found, stats.snapshots), (root.contents, 1));
}
