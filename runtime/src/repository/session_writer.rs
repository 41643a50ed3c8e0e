//! Writes the contents of one session from memory: packs, then the index blob that shows them.
//!
//! For those who make repositories, where nobody else is at work yet: no session marker, always
//! epoch 0, no error correction, Kopia's default formats. Maintenance writes through
//! [`super::pack_writer`] instead. Contents may be absent: then the index shows them in a pack that
//! is never written.
//!
//! Memory: one pack of each [`Kind`] and its copy when it is closed, each some 20 MiB; about 150
//! bytes for each entry, of which a session should not have more than [`SESSION_ENTRIES`]. Mirrors
//! `repo/content/content_manager.go`.

use std::sync::Arc;

use crate::blob::PutOptions;
use crate::clock::Timestamp;
use crate::kopia::blob_id::{BlobId, pack_name, session_id, xn_prefix};
use crate::kopia::compression::{NONE, ZSTD_FASTEST, to_zstd_fastest};
use crate::kopia::content_id::ContentId;
use crate::kopia::encryption::OVERHEAD_BYTES;
use crate::kopia::format_blob::MAX_PACK_SIZE_DEFAULT;
use crate::kopia::index_blob::ContentFormat;
use crate::kopia::index_builder::{EntryFields, IndexBuilder, NewEntry, RANDOM_TAIL_BYTES};
use crate::kopia::pack::{PackLayout, PackPieces, assemble};

use super::RepositoryError;
use super::index_generator::GeneratorTarget;

/// Entries after which a session should end, so that its index takes some 40 MB at most.
pub(super) const SESSION_ENTRIES: usize = 250_000;

/// Version of the format, in every entry.
const FORMAT_VERSION: u8 = 3;

const INDEX_VERSION: u8 = 2;

/// Bytes of a key with the default hash.
const KEY_BYTES: usize = 17;

/// What is packed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Data, and metadata that no pack file will hold.
    Absent,
    /// File data.
    Data,
    /// Directories and manifests.
    Metadata,
}

/// How many bytes and blobs were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// Contents.
    pub contents: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Pack blobs.
    pub packs: u64,
    /// Their size.
    pub pack_bytes: u64,
    /// Index blobs.
    pub index_blobs: u64,
    /// Their size as stored.
    pub index_bytes: u64,
}

impl Written {
    /// Adds what another session has written.
    pub(super) fn add(&mut self, other: &Self) {
        self.contents += other.contents;
        self.tombstones += other.tombstones;
        self.packs += other.packs;
        self.pack_bytes += other.pack_bytes;
        self.index_blobs += other.index_blobs;
        self.index_bytes += other.index_bytes;
    }
}

/// Where a content lies, for a tombstone.
#[derive(Clone, Debug)]
pub(super) struct Place {
    id: ContentId,
    fields: EntryFields,
    pack: Arc<BlobId>,
    format: ContentFormat,
}

/// A session that writes.
pub(super) struct SessionWriter<'a> {
    target: GeneratorTarget<'a>,
    session: String,
    seconds: i64,
    packs: [Option<Pack>; 3],
    index: IndexBuilder,
    written: Written,
}

/// A pack that takes contents.
struct Pack {
    name: Arc<BlobId>,
    layout: PackLayout,
    /// Sealed contents; none where they are absent.
    bytes: Vec<u8>,
    local: IndexBuilder,
}

/// The bytes of a content.
enum Body<'a> {
    Plain(&'a [u8]),
    Compressed(&'a [u8]),
    Absent,
}

impl<'a> SessionWriter<'a> {
    /// Begins a session at `now`, the time of all its entries.
    pub(super) fn start(target: GeneratorTarget<'a>, now: Timestamp) -> Self {
        Self {
            session: session_id(random(&target), now),
            target,
            seconds: now.seconds(),
            packs: [None, None, None],
            index: IndexBuilder::new(INDEX_VERSION, KEY_BYTES),
            written: Written::default(),
        }
    }

    /// Returns the ID that a content has.
    pub(super) fn id_of(
        target: &GeneratorTarget<'_>,
        prefix: Option<u8>,
        plain: &[u8],
    ) -> Result<ContentId, RepositoryError> {
        let hash = target.crypto.hash.hash(plain);
        Ok(ContentId::from_hash(prefix, hash.as_ref())?)
    }

    /// Returns the entries so far.
    pub(super) fn entries(&self) -> usize {
        self.index.len()
    }

    /// Writes content `id`, which is that of `plain`, as it is.
    pub(super) fn write(&mut self, id: ContentId, plain: &[u8]) -> Result<Place, RepositoryError> {
        self.append(id, plain.len(), Body::Plain(plain))
    }

    /// Writes content `id`, which is that of `plain`, compressed where that makes it smaller, as
    /// Kopia does with directories.
    pub(super) fn write_compressed(
        &mut self,
        id: ContentId,
        plain: &[u8],
    ) -> Result<Place, RepositoryError> {
        let compressed = to_zstd_fastest(plain);
        let body = match compressed.len() < plain.len() {
            true => Body::Compressed(&compressed),
            false => Body::Plain(plain),
        };
        self.append(id, plain.len(), body)
    }

    /// Writes the entry of a content of `length` bytes that lies nowhere.
    pub(super) fn write_absent(
        &mut self,
        id: ContentId,
        length: usize,
    ) -> Result<Place, RepositoryError> {
        self.append(id, length, Body::Absent)
    }

    /// Writes the tombstone of a content.
    pub(super) fn delete(&mut self, place: &Place) -> Result<(), RepositoryError> {
        let fields = EntryFields {
            timestamp_seconds: self.seconds.max(place.fields.timestamp_seconds + 1),
            deleted: true,
            ..place.fields
        };
        let entry = NewEntry {
            fields,
            pack_name: place.pack.as_str().as_bytes(),
            format: place.format,
        };
        self.index.add(place.id.key(), entry)?;
        self.written.tombstones += 1;
        Ok(())
    }

    /// Ends the session: closes its packs and writes its index blob.
    pub(super) fn finish(mut self) -> Result<Written, RepositoryError> {
        for slot in 0..self.packs.len() {
            self.close(slot)?;
        }
        if !self.index.is_empty() {
            let plain = self.index.build(None)?;
            let (mut sealed, suffix) = (Vec::new(), format!("{}-c1", self.session));
            let (crypto, nonce) = (self.target.crypto, random(&self.target));
            let name = crypto.seal(&xn_prefix(0), Some(&suffix), &plain, nonce, &mut sealed);
            put(&self.target, &BlobId::new(name), &sealed)?;
            self.written.index_blobs += 1;
            self.written.index_bytes += sealed.len() as u64;
        }
        Ok(self.written)
    }

    fn append(
        &mut self,
        id: ContentId,
        original_bytes: usize,
        body: Body<'_>,
    ) -> Result<Place, RepositoryError> {
        let (kind, compression_header_id, stored) = match (&body, id.prefix()) {
            (Body::Absent, _) => (Kind::Absent, NONE, original_bytes),
            (Body::Plain(bytes), None) => (Kind::Data, NONE, bytes.len()),
            (Body::Plain(bytes), Some(_)) => (Kind::Metadata, NONE, bytes.len()),
            (Body::Compressed(bytes), _) => (Kind::Metadata, ZSTD_FASTEST, bytes.len()),
        };
        let packed_length = (stored + OVERHEAD_BYTES) as u32; // the index refuses what is longer
        let (target, slot) = (self.target, kind as usize);
        let pack = match &mut self.packs[slot] {
            Some(pack) => pack,
            none => none.insert(Pack::new(&target, id.pack_prefix(), &self.session)),
        };
        let place = Place {
            id,
            fields: EntryFields {
                timestamp_seconds: self.seconds,
                deleted: false,
                pack_offset: pack.layout.append(packed_length)?,
                packed_length,
                original_length: original_bytes as u32,
            },
            pack: Arc::clone(&pack.name),
            format: ContentFormat {
                compression_header_id,
                format_version: FORMAT_VERSION,
                encryption_key_id: 0,
            },
        };
        let entry = NewEntry {
            fields: place.fields,
            pack_name: pack.name.as_str().as_bytes(),
            format: place.format,
        };
        self.index.add(id.key(), entry)?;
        if let Body::Plain(bytes) | Body::Compressed(bytes) = body {
            let encryption = &target.crypto.encryption;
            encryption.seal(id.iv(), random(&target), bytes, &mut pack.bytes);
            pack.local.add(id.key(), entry)?;
        }
        self.written.contents += 1;
        if pack.layout.is_full(MAX_PACK_SIZE_DEFAULT) {
            self.close(slot)?;
        }
        Ok(place)
    }

    /// Writes a pack, unless its contents are absent.
    fn close(&mut self, slot: usize) -> Result<(), RepositoryError> {
        let Some(pack) = self.packs[slot]
            .take()
            .filter(|pack| !pack.local.is_empty())
        else {
            return Ok(());
        };
        let (target, crypto) = (&self.target, self.target.crypto);
        let local_index = pack
            .local
            .build(Some(random::<RANDOM_TAIL_BYTES>(target)))?;
        let iv = crypto.hash.hash(&local_index);
        let mut sealed_index = Vec::new();
        crypto
            .encryption
            .seal(&iv, random(target), &local_index, &mut sealed_index);
        let bytes = assemble(&PackPieces {
            replica: &[],
            preamble: &random(target),
            contents: &[&pack.bytes],
            padding: &random(target),
            local_index: &sealed_index,
            local_index_iv: &iv,
        })?;
        put(target, &pack.name, &bytes)?;
        self.written.packs += 1;
        self.written.pack_bytes += bytes.len() as u64;
        Ok(())
    }
}

impl Pack {
    fn new(target: &GeneratorTarget<'_>, prefix: &str, session: &str) -> Self {
        Self {
            name: Arc::new(pack_name(prefix, random(target), session)),
            layout: PackLayout::new(0),
            bytes: Vec::new(),
            local: IndexBuilder::new(INDEX_VERSION, KEY_BYTES),
        }
    }
}

fn random<const N: usize>(target: &GeneratorTarget<'_>) -> [u8; N] {
    let mut bytes = [0; N];
    target.randomness.fill(&mut bytes);
    bytes
}

/// Puts a blob that is not there yet.
fn put(target: &GeneratorTarget<'_>, name: &BlobId, bytes: &[u8]) -> Result<(), RepositoryError> {
    let options = PutOptions {
        create_only: true,
        ..PutOptions::default()
    };
    target.storage.put_bytes(name, bytes, &options)?;
    Ok(())
}
