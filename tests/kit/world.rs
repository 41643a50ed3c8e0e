//! Repositories in memory, made to order: any entries in any index blob, at any storage time.
//!
//! For suites that need shapes which no client makes in reasonable time: equal timestamps, ties,
//! half-written sets, jammed epochs. Everything follows from a seed. The repository is a real one:
//! format blob, and the manifest of its maintenance owner in a real pack. What a reader sees of it
//! tells [`model`], by other rules than Careen's own code. Memory: the whole repository.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use careen::blob::{BlobStore, MemoryStore, Storage};
use careen::clock::{Clock, ManualClock, Randomness, SeededRandomness, Timestamp};
use careen::kopia::blob_id::{BLOB_CONFIG, BlobId, REPOSITORY, session_id};
use careen::kopia::format_blob::{BlobConfig, EpochParameters, FormatBlob, NewRepository};
use careen::kopia::index_blob::ContentFormat;
use careen::kopia::index_builder::{EntryFields, IndexBuilder, NewEntry};
use careen::kopia::maintenance_params::{MANIFEST_TYPE, MaintenanceParams};
use careen::kopia::manifest::{ManifestEntry, TYPE_LABEL, to_gzip_json};
use careen::kopia::sealed_blob::BlobCrypto;
use careen::repository::Repository;
use serde_json::value::RawValue;

use crate::data_dir::DataDir;

pub mod model;
mod packs;

pub use packs::Content;

/// The moment at which every world begins; blobs without a time of their own are put then.
pub const START: Timestamp = Timestamp::from_seconds(1_788_220_800);

/// The owner of every world's maintenance: Velero's.
pub const OWNER: &str = "default@default";

/// Bytes that encryption adds to a content.
const OVERHEAD: u32 = 28;

/// The key that unlocks a world's format blob: deriving one from a password takes too long here.
const FORMAT_KEY: [u8; 32] = [7; 32];

/// The faster of Kopia's ways from a password to a key: 0.1 s.
const KEY_ALGORITHM: &str = "pbkdf2-sha256-600000";

/// One index entry, with the names in full.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Prefix byte (zero for none) and hash.
    pub key: Vec<u8>,
    /// Seconds since 1970.
    pub timestamp_seconds: i64,
    /// Whether it is a tombstone.
    pub deleted: bool,
    /// Pack blob ID.
    pub pack: String,
    /// Offset in the pack, in bytes.
    pub offset: u32,
    /// Length in the pack, in bytes.
    pub packed_length: u32,
    /// Length before compression and encryption, in bytes.
    pub original_length: u32,
    /// Header ID of the compression, 0 for none.
    pub compression: u32,
    /// Format version.
    pub format_version: u8,
}

impl Entry {
    /// Makes a live entry of content `number` without a prefix, in a pack of `pack`'s number.
    pub fn data(number: u64, pack: u64, timestamp_seconds: i64) -> Self {
        let mut key = vec![0];
        key.extend(number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        key.extend(number.to_be_bytes());
        Self {
            key,
            timestamp_seconds,
            deleted: false,
            pack: format!("p{pack:032x}-s{pack:016x}144"),
            offset: 32 + number as u32 % 1000,
            packed_length: 128,
            original_length: 128 - OVERHEAD,
            compression: 0,
            format_version: 3,
        }
    }

    /// Returns this entry as a tombstone of a later second.
    pub fn tombstone(&self, timestamp_seconds: i64) -> Self {
        Self {
            timestamp_seconds,
            deleted: true,
            ..self.clone()
        }
    }

    pub(crate) fn as_new(&self) -> NewEntry<'_> {
        NewEntry {
            fields: EntryFields {
                timestamp_seconds: self.timestamp_seconds,
                deleted: self.deleted,
                pack_offset: self.offset,
                packed_length: self.packed_length,
                original_length: self.original_length,
            },
            pack_name: self.pack.as_bytes(),
            format: ContentFormat {
                compression_header_id: self.compression,
                format_version: self.format_version,
                encryption_key_id: 0,
            },
        }
    }
}

/// What a world is made of; `Default` is what Velero makes.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// Everything random follows from it.
    pub seed: u64,
    /// Hash function.
    pub hash: &'static str,
    /// Encryption.
    pub encryption: &'static str,
    /// Overhead of the ECC in percent, 0 for none.
    pub ecc_percent: i64,
    /// Version of index blobs.
    pub index_version: u8,
    /// Parameters of the epochs.
    pub epochs: EpochParameters,
    /// Password for other programs; without one nobody but the world can open it, and at once.
    pub password: Option<&'static str>,
    /// Size at which a pack is closed, in bytes; 0 for Kopia's default.
    pub pack_bytes_max: u64,
    /// What `kopia.blobcfg` says; only other programs look at it.
    pub blob_config: BlobConfig,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            hash: "BLAKE2B-256-128",
            encryption: "AES256-GCM-HMAC-SHA256",
            ecc_percent: 0,
            index_version: 2,
            epochs: EpochParameters::default(),
            password: None,
            pack_bytes_max: 0,
            blob_config: BlobConfig::default(),
        }
    }
}

/// A repository in memory.
#[derive(Debug)]
pub struct World {
    /// The clock of clients and storage.
    pub clock: Arc<ManualClock>,
    /// The blobs.
    pub store: Arc<MemoryStore>,
    /// Opens and seals them.
    pub crypto: BlobCrypto,
    options: WorldOptions,
    key: [u8; 32],
    randomness: Arc<SeededRandomness>,
}

impl World {
    /// Makes a repository without any contents but its owner's manifest.
    pub fn new(options: WorldOptions) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let randomness = Arc::new(SeededRandomness::new(options.seed));
        let mut random = [0; careen::kopia::format_blob::RANDOM_BYTES];
        randomness.fill(&mut random);
        let mut parts = NewRepository::new(&random);
        parts.hash = options.hash.to_owned();
        parts.encryption = options.encryption.to_owned();
        if options.ecc_percent > 0 {
            parts.ecc = "REED-SOLOMON-CRC32".to_owned();
            parts.ecc_overhead_percent = options.ecc_percent;
        }
        parts.index_version = options.index_version;
        parts.epochs = options.epochs.clone();
        if options.pack_bytes_max > 0 {
            parts.max_pack_size = options.pack_bytes_max;
        }
        let key = options.password.map_or(FORMAT_KEY, |password| {
            parts.key_algorithm = KEY_ALGORITHM.to_owned();
            let key = parts.format_encryption_key(password.as_bytes(), 1 << 20);
            key.expect("PBKDF2 needs no memory")
        });
        let format = parts.format_blob_with_key(&key);
        let format = format.expect("a world is made of parameters that Kopia accepts");
        let config = parts.blob_config_blob(&key, &options.blob_config);
        let unlocked = unlock(&format, &key);
        let crypto = unlocked
            .blob_crypto()
            .expect("its algorithms are known to Kopia");
        store.insert(BlobId::new(REPOSITORY), format, START);
        store.insert(
            BlobId::new(BLOB_CONFIG),
            config.expect("its retention is valid"),
            START,
        );
        let world = Self {
            clock,
            store,
            crypto,
            options,
            key,
            randomness,
        };
        world.put_manifest();
        world
    }

    /// Makes a live entry as [`Entry::data`] does, with a key as long as this world's hashes.
    pub fn data(&self, number: u64, pack: u64, timestamp_seconds: i64) -> Entry {
        let mut entry = Entry::data(number, pack, timestamp_seconds);
        entry.key.resize(self.crypto.hash.digest_bytes() + 1, 0);
        if self.options.index_version == 2 {
            entry.original_length += number as u32 % 7;
        }
        entry
    }

    /// Opens the repository on the world's own store.
    pub fn repository(&self) -> Repository {
        self.repository_on(self.store.clone())
    }

    /// Opens the repository on another store over the same blobs.
    pub fn repository_on(&self, store: Arc<dyn BlobStore>) -> Repository {
        let format = self.store.bytes(&BlobId::new(REPOSITORY));
        let format = unlock(
            &format.expect("the format blob is never deleted"),
            &self.key,
        );
        Repository {
            storage: Storage::new(store),
            format: Arc::new(format),
            blob_config: Arc::new(BlobConfig::default()),
            crypto: self.crypto.clone(),
            clock: self.clock.clone(),
            randomness: self.randomness.clone(),
            last_write_epoch: Default::default(),
        }
    }

    /// Returns the world's store, blocking.
    pub fn storage(&self) -> Storage {
        Storage::new(self.store.clone())
    }

    /// Returns `N` bytes that follow from the seed.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.randomness.fill(&mut bytes);
        bytes
    }

    /// Builds an index blob's plaintext as a client does: winners only, in Kopia's bytes.
    pub fn index_bytes<'e>(&self, entries: impl IntoIterator<Item = &'e Entry>) -> Vec<u8> {
        let key_bytes = self.crypto.hash.digest_bytes() + 1;
        let mut builder = IndexBuilder::new(self.options.index_version, key_bytes);
        for entry in entries {
            let added = builder.add(&entry.key, entry.as_new());
            added.expect("a world has only entries that a client writes");
        }
        builder.build(None).expect("they fit into one blob")
    }

    /// Seals `plain` as a blob named by `prefix`, its hash and `suffix`; returns the name.
    pub fn put_sealed(&self, prefix: &str, suffix: &str, plain: &[u8], time: Timestamp) -> String {
        let mut sealed = Vec::new();
        let crypto = &self.crypto;
        let name = crypto.seal(prefix, Some(suffix), plain, self.random(), &mut sealed);
        self.store.insert(BlobId::new(name.as_str()), sealed, time);
        name
    }

    /// Puts a blob `xn` as a client's flush does; returns its name.
    pub fn put_uncompacted(&self, epoch: u64, entries: &[Entry], time: Timestamp) -> String {
        let suffix = format!("{}-c1", session_id(self.random(), time));
        let plain = self.index_bytes(entries);
        self.put_sealed(&format!("xn{epoch}_"), &suffix, &plain, time)
    }

    /// Puts a set (`xs3_`, `xr0_7_`, `xn2_`) with a blob for each of `shards`; returns the names.
    ///
    /// `count` above the number of shards leaves the set incomplete.
    pub fn put_set(
        &self,
        prefix: &str,
        shards: &[Vec<Entry>],
        count: usize,
        time: Timestamp,
    ) -> Vec<String> {
        let suffix = format!("s{:016x}-c{count}", u64::from_be_bytes(self.random()));
        let put = |entries: &Vec<Entry>| {
            self.put_sealed(prefix, &suffix, &self.index_bytes(entries), time)
        };
        shards.iter().map(put).collect()
    }

    /// Puts a blob `n` as a client's flush does without epochs; returns its name.
    pub fn put_flush_v0(&self, entries: &[Entry], time: Timestamp) -> String {
        let session = session_id(self.random(), time);
        self.put_sealed("n", &session, &self.index_bytes(entries), time)
    }

    /// Puts the markers of epochs 1 to `epoch`, so that writers write to `epoch`.
    pub fn put_markers(&self, epoch: u64, time: Timestamp) {
        for number in 1..=epoch {
            let id = BlobId::new(format!("xe{number}"));
            self.store.insert(id, b"epoch-marker".to_vec(), time);
        }
    }

    /// Puts a deletion watermark.
    pub fn put_watermark(&self, seconds: i64, time: Timestamp) {
        let id = BlobId::new(format!("xw{seconds}"));
        self.store.insert(id, b"deletion-watermark".to_vec(), time);
    }

    /// Removes a blob, as if it had never been.
    pub fn remove(&self, name: &str) {
        let removed = self.storage().delete(&BlobId::new(name));
        removed.expect("memory does not fail");
    }

    /// Returns every blob with its bytes and its time.
    pub fn all(&self) -> BTreeMap<String, (Vec<u8>, Timestamp)> {
        everything(&self.storage())
    }

    /// Writes every blob into an empty folder, in Kopia's layout, with its time.
    pub fn write_to(&self, folder: &Path) -> io::Result<DataDir> {
        let layout = r#"{"default":[1,3],"maxNonShardedLength":20}"#;
        std::fs::write(folder.join(".shards"), layout)?;
        let data = DataDir::open(folder)?;
        for (name, (bytes, time)) in self.all() {
            data.write(&name, &bytes, time)?;
        }
        Ok(data)
    }

    /// Writes the maintenance manifest: one content in one pack, and the index blob that shows it.
    fn put_manifest(&self) {
        let params = MaintenanceParams {
            owner: OWNER.to_owned(),
            ..MaintenanceParams::default()
        };
        let json = String::from_utf8(params.to_json()).expect("JSON is UTF-8");
        let payload = RawValue::from_string(json).expect("it was just written as JSON");
        self.put_manifest_content(&[self.manifest(MANIFEST_TYPE, payload)]);
    }

    /// Makes a manifest of a type, with a random ID.
    pub fn manifest(&self, kind: &str, payload: Box<RawValue>) -> ManifestEntry {
        let labels = BTreeMap::from([(TYPE_LABEL.to_owned(), kind.to_owned())]);
        let id = hex::encode(self.random::<16>());
        ManifestEntry::new(id, labels, START, payload)
    }

    /// Puts manifests as a client's flush does: one content in one pack, and the index blob that
    /// shows it.
    pub fn put_manifest_content(&self, manifests: &[ManifestEntry]) {
        let content = self.content(Some(b'm'), to_gzip_json(manifests));
        let session = session_id(self.random(), START);
        let entries = self.put_pack(&[content], &session, START);
        self.put_flush(0, &session, &entries, START);
    }

    /// Returns the present moment.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Returns every blob of a store with its bytes and its time.
pub fn everything(storage: &Storage) -> BTreeMap<String, (Vec<u8>, Timestamp)> {
    let mut all = BTreeMap::new();
    storage
        .for_each("", |blob| {
            let bytes = storage.get_all(&blob.id, usize::MAX - 1)?;
            all.insert(blob.id.to_string(), (bytes, blob.timestamp));
            Ok::<(), careen::blob::BlobError>(())
        })
        .expect("a suite's store can be read");
    all
}

fn unlock(format: &[u8], key: &[u8; 32]) -> careen::kopia::format_blob::RepositoryFormat {
    let blob = FormatBlob::parse(format).expect("a world's format blob is whole");
    blob.unlock_with_key(key).expect("it was sealed with it")
}
