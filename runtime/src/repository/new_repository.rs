//! Makes a new Kopia repository: format blobs, and the manifest that names its maintenance owner.
//!
//! With Kopia's defaults, which are Velero's: format version 3, BLAKE2B-256-128,
//! AES256-GCM-HMAC-SHA256, scrypt, index version 2, epochs. For the demo, the benchmark and the
//! suites. `kopia.repository` comes last and never replaces one, so a repository is there whole or
//! not at all. Memory: the table of the key derivation, then some 20 KiB. Mirrors Kopia's
//! `repo/initialize.go`, `repo/content/content_manager.go` and
//! `repo/maintenance/maintenance_params.go`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::blob::{PutOptions, Storage};
use crate::clock::{SharedRandomness, Timestamp};
use crate::kopia::blob_id::{BLOB_CONFIG, BlobId, REPOSITORY};
use crate::kopia::encryption::Encryption;
use crate::kopia::format_blob::{BlobConfig, NewRepository as FormatParts};
use crate::kopia::hashing::HashFunction;
use crate::kopia::maintenance_params::{MANIFEST_TYPE, MaintenanceParams};
use crate::kopia::manifest::{CONTENT_PREFIX, ManifestEntry, TYPE_LABEL, to_gzip_json};
use crate::kopia::sealed_blob::BlobCrypto;

use super::RepositoryError;
use super::index_generator::GeneratorTarget;
use super::session_writer::SessionWriter;

/// The owner that Velero gives its repositories.
pub const VELERO_OWNER: &str = "default@default";

/// The password that Velero gives its repositories by default.
pub const VELERO_PASSWORD: &str = "static-passw0rd";

/// What a new repository is made of.
#[derive(Clone)]
pub struct NewRepositoryOptions {
    /// Its password.
    pub password: Vec<u8>,
    /// Its maintenance owner, `user@host`.
    pub owner: String,
    /// The present, for the manifest.
    pub now: Timestamp,
    /// Memory for the key derivation, in bytes.
    pub unlock_memory_bytes: usize,
    /// Where keys come from.
    pub randomness: SharedRandomness,
}

/// Makes a repository in `storage`; returns what seals its blobs, for those who fill it.
///
/// # Errors
/// `BlobError::AlreadyExists` when there is one, too little memory for the key derivation, what the
/// store answers.
pub fn create(
    storage: &Storage,
    options: &NewRepositoryOptions,
) -> Result<BlobCrypto, RepositoryError> {
    let new = NewRepository {
        storage,
        options,
        randomness: &options.randomness,
    };
    match storage.metadata(&BlobId::new(REPOSITORY)) {
        Ok(blob) => {
            let exists = crate::blob::BlobError::AlreadyExists { id: blob.id };
            return Err(exists.into());
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    let parts = FormatParts::new(&new.random());
    let crypto = BlobCrypto {
        hash: HashFunction::new(&parts.hash, &parts.secret)?,
        encryption: Encryption::new(&parts.encryption, &parts.master_key)?,
        ecc: None,
    };
    new.write_manifest(&crypto)?;
    new.write_format(&parts)?;
    Ok(crypto)
}

struct NewRepository<'a> {
    storage: &'a Storage,
    options: &'a NewRepositoryOptions,
    randomness: &'a SharedRandomness,
}

impl NewRepository<'_> {
    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.randomness.fill(&mut bytes);
        bytes
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RepositoryError> {
        let put = PutOptions {
            create_only: true,
            ..PutOptions::default()
        };
        self.storage.put_bytes(&BlobId::new(name), bytes, &put)?;
        Ok(())
    }

    /// Writes `kopia.blobcfg`, without retention, then `kopia.repository`.
    fn write_format(&self, parts: &FormatParts) -> Result<(), RepositoryError> {
        let (password, memory) = (&self.options.password, self.options.unlock_memory_bytes);
        let key = Zeroizing::new(parts.format_encryption_key(password, memory)?);
        let config = parts.blob_config_blob(&key, &BlobConfig::default())?;
        self.put(BLOB_CONFIG, &config)?;
        self.put(REPOSITORY, &parts.format_blob_with_key(&key)?)
    }

    /// Writes the maintenance manifest: one content in one pack, and the index blob that shows it.
    fn write_manifest(&self, crypto: &BlobCrypto) -> Result<(), RepositoryError> {
        let content = self.manifest_content()?;
        let target = GeneratorTarget {
            storage: self.storage,
            crypto,
            randomness: self.randomness,
        };
        let mut session = SessionWriter::start(target, self.options.now);
        let id = SessionWriter::id_of(&target, Some(CONTENT_PREFIX), &content)?;
        session.write(id, &content)?;
        session.finish()?;
        Ok(())
    }

    fn manifest_content(&self) -> Result<Vec<u8>, RepositoryError> {
        let params = MaintenanceParams {
            owner: self.options.owner.clone(),
            ..MaintenanceParams::default()
        };
        let json = String::from_utf8(params.to_json()).expect("JSON is UTF-8");
        let payload = RawValue::from_string(json).expect("it was just written as JSON");
        let labels = BTreeMap::from([(TYPE_LABEL.to_owned(), MANIFEST_TYPE.to_owned())]);
        let id = hex::encode(self.random::<16>());
        let entry = ManifestEntry::new(id, labels, self.options.now, payload);
        Ok(to_gzip_json(&[entry]))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::blob::MemoryStore;
    use crate::clock::{ManualClock, SeededRandomness};
    use crate::kopia::content_id::ContentId;

    fn options() -> NewRepositoryOptions {
        NewRepositoryOptions {
            password: VELERO_PASSWORD.into(),
            owner: VELERO_OWNER.into(),
            now: Timestamp::parse("2026-01-02T03:04:05Z").unwrap(),
            unlock_memory_bytes: 64 << 20,
            randomness: Arc::new(SeededRandomness::new(1)),
        }
    }

    fn storage() -> Storage {
        let clock = ManualClock::new(options().now);
        Storage::new(Arc::new(MemoryStore::new(Arc::new(clock))))
    }

    fn read(storage: &Storage, prefix: &str) -> (String, Vec<u8>) {
        let id = storage.list(prefix, None, 2).unwrap().remove(0).id;
        (id.to_string(), storage.get_all(&id, 1 << 20).unwrap())
    }

    /// Goal: the index shows the manifest, and its place holds it; method: read back with other
    /// code.
    #[test]
    fn the_manifest_is_where_the_index_says() {
        use crate::kopia::index_blob::IndexBlob;
        let storage = storage();
        let crypto = create(&storage, &options()).unwrap();
        let (name, mut sealed) = read(&storage, "xn0_");
        let index = IndexBlob::parse(crypto.open_slice(&name, &mut sealed).unwrap(), &name);
        let index = index.unwrap();
        assert_eq!(index.len(), 1);
        let id = ContentId::from_key(index.key(0)).unwrap();
        let entry = index.entry(0, 28).unwrap();
        let (pack_name, mut pack) = read(&storage, "q");
        assert_eq!(index.pack_name(entry.pack).unwrap(), pack_name.as_bytes());
        let place = entry.pack_offset as usize..(entry.pack_offset + entry.packed_length) as usize;
        let content = crypto.encryption.open(id.iv(), &mut pack[place]).unwrap();
        assert_eq!(crypto.hash.hash(content).as_ref(), id.hash());
        let mut text = String::new();
        let mut decoder = flate2::read::GzDecoder::new(&*content);
        std::io::Read::read_to_string(&mut decoder, &mut text).unwrap();
        assert!(text.contains(r#""owner":"default@default""#), "{text}");
        assert!(
            text.contains(r#""modified":"2026-01-02T03:04:05Z""#),
            "{text}"
        );
    }

    #[test]
    fn a_repository_is_never_replaced() {
        let storage = storage();
        create(&storage, &options()).unwrap();
        let error = create(&storage, &options()).unwrap_err();
        assert_eq!(error.code(), "blob-already-exists");
        assert_eq!(storage.list("", None, 10).unwrap().len(), 4);
    }
}
