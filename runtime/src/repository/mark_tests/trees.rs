//! Trees as a client stores them: children first, nothing twice, a summary for each directory.
//!
//! Each object knows the contents that it and everything below it are made of. Memory: all of it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::value::RawValue;

use super::super::pack_world::{FORMAT, NOW, OWNER, World};
use super::super::pack_writer::{NewContent, PackWriter, Sealed};
use crate::kopia::content_id::ContentId;
use crate::kopia::index_blob::ContentFormat;
use crate::kopia::manifest::{ManifestEntry, TYPE_LABEL, to_gzip_json};

/// Header ID of zstd-fastest.
const ZSTD: u32 = 0x1101;

/// An object and everything below it.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) id: String,
    pub(crate) directory: bool,
    pub(crate) contents: BTreeSet<ContentId>,
    /// Directories below it, itself included, and files.
    pub(crate) below: (u64, u64),
}

impl Object {
    /// A file that is one content, or stands for one.
    pub(crate) fn file(id: ContentId) -> Self {
        Self {
            id: id.to_string(),
            directory: false,
            contents: BTreeSet::from([id]),
            below: (0, 1),
        }
    }
}

/// Builds trees as a client does, children first.
pub(crate) struct Builder<'w> {
    world: &'w World,
    writer: PackWriter<'w>,
    seconds: i64,
    /// What was written; a client writes nothing twice.
    written: BTreeSet<ContentId>,
}

impl<'w> Builder<'w> {
    pub(crate) fn new(world: &'w World) -> Self {
        let writer = PackWriter::new(&world.repository, &world.workspace, OWNER).unwrap();
        Self {
            world,
            writer,
            seconds: NOW.seconds() - 100_000,
            written: BTreeSet::new(),
        }
    }

    /// Appends a content that is new; with `compressed` as zstd.
    pub(crate) fn content(
        &mut self,
        prefix: Option<u8>,
        plain: &[u8],
        compressed: bool,
    ) -> ContentId {
        let crypto = &self.world.repository.crypto;
        let id = ContentId::from_hash(prefix, &crypto.hash.hash(plain)).unwrap();
        if !self.written.insert(id) {
            return id;
        }
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
    pub(crate) fn object(
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

    pub(crate) fn node(&mut self, node: &Node) -> Object {
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
                    below: (0, 1),
                }
            }
            Node::Directory { children, form } => {
                let children: Vec<Object> = children.iter().map(|child| self.node(child)).collect();
                self.directory(&children, *form)
            }
        }
    }

    pub(crate) fn directory(&mut self, children: &[Object], form: Form) -> Object {
        let (mut all, mut below) = (BTreeSet::new(), (1, 0));
        let entries: Vec<String> = children
            .iter()
            .enumerate()
            .map(|(number, child)| {
                all.extend(child.contents.iter().copied());
                below = (below.0 + child.below.0, below.1 + child.below.1);
                let kind = if child.directory { "d" } else { "f" };
                let (dirs, files) = child.below;
                let summary = match child.directory {
                    true => format!(",\"summ\":{{\"files\":{files},\"dirs\":{dirs}}}"),
                    false => String::new(),
                };
                format!(
                    "{{\"name\":\"n{number}\",\"type\":\"{kind}\",\"obj\":\"{}\"{summary}}}",
                    child.id
                )
            })
            .collect();
        let json = format!(
            "{{\"stream\":\"kopia:directory\",\"entries\":[{}],\"summary\":{{\"size\":1}}}}\n",
            entries.join(",")
        );
        let (id, contents) = self.object(Some(b'k'), json.as_bytes(), form);
        all.extend(contents);
        Object {
            id,
            directory: true,
            contents: all,
            below,
        }
    }

    /// Appends the manifest of a snapshot.
    pub(crate) fn snapshot(&mut self, number: u32, root: &Object) {
        self.snapshot_of(number, "h", root);
    }

    /// Appends the manifest of a snapshot that a host has saved.
    pub(crate) fn snapshot_of(&mut self, number: u32, host: &str, root: &Object) {
        let kind = if root.directory { "d" } else { "f" };
        let data = format!(
            "{{\"source\":{{\"host\":\"{host}\",\"userName\":\"u\",\"path\":\"/p\"}},\
             \"rootEntry\":{{\"type\":\"{kind}\",\"obj\":\"{}\"}}}}",
            root.id
        );
        self.manifest(number, "snapshot", &data);
    }

    pub(crate) fn manifest(&mut self, number: u32, kind: &str, data: &str) {
        let labels = [(TYPE_LABEL.to_owned(), kind.to_owned())].into();
        let data = RawValue::from_string(data.to_owned()).unwrap();
        let entry = ManifestEntry::new(format!("{number:032x}"), labels, NOW, data);
        self.content(Some(b'm'), &to_gzip_json(&[entry]), false);
    }

    pub(crate) fn finish(self) {
        self.writer.finish().unwrap();
    }
}

/// How an object is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) chunk: usize,
    /// zstd in each content.
    pub(crate) compressed: bool,
    /// zstd around the object: `Z`.
    pub(crate) object: bool,
}

pub(crate) const DIRECT: Form = Form {
    chunk: usize::MAX,
    compressed: false,
    object: false,
};

#[derive(Clone, Debug)]
pub(crate) enum Node {
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

pub(crate) fn tree() -> impl Strategy<Value = Node> {
    let file = (any::<u8>(), 0..600_u16, form());
    let file = file.prop_map(|(seed, bytes, form)| Node::File { seed, bytes, form });
    file.prop_recursive(5, 60, 6, |inner| {
        let children = prop::collection::vec(inner, 0..6);
        (children, form()).prop_map(|(children, form)| Node::Directory { children, form })
    })
}
