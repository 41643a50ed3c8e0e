//! A small repository in memory for tests of packs: contents are written by our own writer, read
//! back with other code.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::active_index::ActiveIndex;
use super::content_table::ContentTable;
use super::contents::each_content;
use super::pack_writer::{NewContent, PackWriter, PackWriterStats, Sealed};
use super::{Repository, RepositoryError, Workspace};
use crate::blob::{BlobStore, MemoryStore, PutOptions, Storage};
use crate::clock::{Clock, ManualClock, SeededRandomness, Timestamp};
use crate::kopia::blob_id::{BlobId, REPOSITORY, session_id};
use crate::kopia::content_id::ContentId;
use crate::kopia::ecc::Ecc;
use crate::kopia::encryption::Encryption;
use crate::kopia::format_blob::{BlobConfig, FormatBlob, NewRepository, RANDOM_BYTES};
use crate::kopia::index_blob::ContentFormat;
use crate::kopia::index_builder::{EntryFields, IndexBuilder, NewEntry};
use crate::memory::{MIB, MemoryPlan};
use crate::progress::Silent;
use crate::spill::{Scratch, ScratchOptions};

const FORMAT_KEY: [u8; 32] = [7; 32];

/// Where the worlds' clocks start.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_788_220_800);

/// The owner that writes.
pub(crate) const OWNER: &str = "user@host";

/// What a repository looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) index_version: u8,
    pub(crate) epochs: bool,
    pub(crate) ecc_percent: i64,
    pub(crate) chacha: bool,
    pub(crate) legacy: bool,
    pub(crate) pack_bytes_max: u64,
    /// Buffers of packs, in bytes.
    pub(crate) read_bytes: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            index_version: 2,
            epochs: true,
            ecc_percent: 0,
            chacha: false,
            legacy: false,
            pack_bytes_max: 20_000,
            read_bytes: 16_384,
        }
    }
}

/// A repository, and everything around it.
pub(crate) struct World {
    pub(crate) repository: Repository,
    pub(crate) workspace: Workspace,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Arc<MemoryStore>,
    _directory: tempfile::TempDir,
}

/// A content as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) deleted: bool,
    pub(crate) seconds: i64,
    pub(crate) pack: String,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    pub(crate) original_length: u32,
    pub(crate) compression: u32,
}

impl World {
    pub(crate) fn new(shape: Shape) -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        Self::on(shape, clock, store, None)
    }

    /// A world over `store`, through `layer` if there is one.
    pub(crate) fn on(
        shape: Shape,
        clock: Arc<ManualClock>,
        store: Arc<MemoryStore>,
        layer: Option<Arc<dyn BlobStore>>,
    ) -> Self {
        let parts = NewRepository::new(&[9; RANDOM_BYTES]);
        let blob = parts.format_blob_with_key(&FORMAT_KEY).unwrap();
        let mut format = FormatBlob::parse(&blob)
            .unwrap()
            .unlock_with_key(&FORMAT_KEY)
            .unwrap();
        let mut crypto = format.blob_crypto().unwrap();
        format.index_version = shape.index_version;
        format.epochs.enabled = shape.epochs;
        format.max_pack_size = shape.pack_bytes_max;
        format.enable_password_change = !shape.legacy;
        crypto.ecc = Ecc::new("REED-SOLOMON-CRC32", shape.ecc_percent).unwrap();
        if shape.chacha {
            let name = "CHACHA20-POLY1305-HMAC-SHA256";
            crypto.encryption = Encryption::new(name, &[3; 32]).unwrap();
        }
        let directory = tempfile::tempdir().unwrap();
        let options = ScratchOptions {
            parent: directory.path().to_owned(),
            quota_bytes: None,
            tmpfs_allowed: true,
            direct: true,
        };
        let mut memory = MemoryPlan::new(32 * MIB).unwrap();
        memory.pack_read_bytes = shape.read_bytes;
        if store.bytes(&BlobId::new(REPOSITORY)).is_none() {
            store.insert(BlobId::new(REPOSITORY), blob, NOW);
        }
        Self {
            repository: Repository {
                storage: Storage::new(layer.unwrap_or_else(|| store.clone())),
                crypto,
                format: Arc::new(format),
                blob_config: Arc::new(BlobConfig::default()),
                clock: clock.clone(),
                randomness: Arc::new(SeededRandomness::new(1)),
                last_write_epoch: Default::default(),
            },
            workspace: Workspace {
                scratch: Scratch::create(&options, [1; 8]).unwrap(),
                memory,
                progress: Arc::new(Silent),
            },
            clock,
            store,
            _directory: directory,
        }
    }

    /// Seals a content as a writer would; returns its ID and its stored bytes.
    pub(crate) fn seal(&self, prefix: Option<u8>, plain: &[u8]) -> (ContentId, Vec<u8>) {
        let crypto = &self.repository.crypto;
        let id = ContentId::from_hash(prefix, &crypto.hash.hash(plain)).unwrap();
        let (mut sealed, mut stored) = (Vec::new(), Vec::new());
        crypto
            .encryption
            .seal(id.iv(), self.repository.random(), plain, &mut sealed);
        match &crypto.ecc {
            None => stored = sealed,
            Some(ecc) => ecc.encode(&sealed, &mut stored),
        }
        (id, stored)
    }

    /// Writes contents in one flush; `seconds` is the time of their entries.
    pub(crate) fn write(
        &self,
        contents: &[(Option<u8>, Vec<u8>)],
        seconds: i64,
        deleted: bool,
    ) -> PackWriterStats {
        self.try_write(contents, seconds, deleted).unwrap()
    }

    pub(crate) fn try_write(
        &self,
        contents: &[(Option<u8>, Vec<u8>)],
        seconds: i64,
        deleted: bool,
    ) -> Result<PackWriterStats, RepositoryError> {
        let mut writer = PackWriter::new(&self.repository, &self.workspace, OWNER)?;
        for (prefix, plain) in contents {
            let (id, stored) = self.seal(*prefix, plain);
            let content = NewContent {
                key: id.key(),
                timestamp_seconds: seconds,
                deleted,
                original_length: plain.len() as u32,
                format: FORMAT,
            };
            writer.append(&content, Sealed::Bytes(&stored))?;
        }
        writer.finish()
    }

    /// Writes an index blob with tombstones of contents, where they are.
    pub(crate) fn tombstones(&self, ids: &[String], seconds: i64) {
        let rows = self.contents();
        let version = self.repository.format.index_version;
        let mut builder = IndexBuilder::new(version, self.repository.key_bytes());
        for id in ids {
            let row = &rows[id];
            let entry = NewEntry {
                fields: EntryFields {
                    timestamp_seconds: seconds.max(row.seconds + 1),
                    deleted: true,
                    pack_offset: row.offset,
                    packed_length: row.length,
                    original_length: row.original_length,
                },
                pack_name: row.pack.as_bytes(),
                format: FORMAT,
            };
            let key = ContentId::parse(id).unwrap();
            builder.add(key.key(), entry).unwrap();
        }
        if builder.is_empty() {
            return;
        }
        let (plain, nonce) = (builder.build(None).unwrap(), self.repository.random());
        let prefix = if self.repository.format.epochs.enabled {
            "xn0_"
        } else {
            "n"
        };
        let (crypto, mut sealed) = (&self.repository.crypto, Vec::new());
        let session = session_id(self.repository.random(), NOW);
        let name = crypto.seal(prefix, Some(&session), &plain, nonce, &mut sealed);
        self.put(&name, &sealed);
    }

    /// Reads the whole index.
    pub(crate) fn table(&self) -> Result<(ActiveIndex, ContentTable), RepositoryError> {
        let active = ActiveIndex::find(&self.repository, &self.workspace)?;
        let table = ContentTable::load(&self.repository, &self.workspace, &active)?;
        Ok((active, table))
    }

    /// Changes one byte of a content where it is stored.
    pub(crate) fn damage(&self, row: &Row) {
        let pack = BlobId::new(row.pack.clone());
        let mut bytes = self.store.bytes(&pack).unwrap().to_vec();
        bytes[(row.offset + row.length / 2) as usize] ^= 1;
        self.store.insert(pack, bytes, self.clock.now());
    }

    /// Returns all contents as readers see them.
    pub(crate) fn contents(&self) -> BTreeMap<String, Row> {
        let mut rows = BTreeMap::new();
        each_content(&self.repository, &self.workspace, &mut |row| {
            let seen = Row {
                deleted: row.deleted,
                seconds: row.timestamp.seconds(),
                pack: row.pack.to_string(),
                offset: row.pack_offset,
                length: row.packed_length,
                original_length: row.original_length,
                compression: row.compression_header_id,
            };
            rows.insert(row.content.to_string(), seen);
            true
        })
        .unwrap();
        rows
    }

    /// Reads a content with code of its own: the whole pack, then its place.
    pub(crate) fn read(&self, id: &str, row: &Row) -> Result<Vec<u8>, String> {
        let pack = self.store.bytes(&BlobId::new(row.pack.clone()));
        let pack = pack.ok_or_else(|| format!("{id}: pack {} is gone", row.pack))?;
        let place = row.offset as usize..(row.offset + row.length) as usize;
        let mut bytes = pack.get(place).ok_or("short")?.to_vec();
        if let Some(ecc) = &self.repository.crypto.ecc {
            let mut decoded = Vec::new();
            ecc.decode(&bytes, &mut decoded)
                .map_err(|error| error.to_string())?;
            bytes = decoded;
        }
        let iv = ContentId::parse(id).unwrap();
        let plain = self.repository.crypto.encryption.open(iv.iv(), &mut bytes);
        Ok(plain.map_err(|error| format!("{id}: {error}"))?.to_vec())
    }

    /// Returns the names of all blobs with a prefix.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let storage = Storage::new(self.store.clone());
        let mut names = Vec::new();
        let listed: Result<(), crate::blob::BlobError> = storage.for_each(prefix, |blob| {
            names.push(blob.id.to_string());
            Ok(())
        });
        listed.unwrap();
        names
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let storage = Storage::new(self.store.clone());
        storage
            .put_bytes(&name.into(), bytes, &PutOptions::default())
            .unwrap();
    }
}

/// How the worlds' contents are stored.
pub(crate) const FORMAT: ContentFormat = ContentFormat {
    compression_header_id: 0,
    format_version: 3,
    encryption_key_id: 0,
};

/// Bytes that differ for every number.
pub(crate) fn plain(number: u32, length: usize) -> Vec<u8> {
    let seed = number.to_le_bytes();
    (0..length)
        .map(|at| seed[at % 4] ^ (at / 4) as u8 ^ (at >> 9) as u8)
        .collect()
}
