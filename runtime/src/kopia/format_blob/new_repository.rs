//! The format blobs of a new repository, as real Kopia of any version opens them.
//!
//! For the demonstration and for suites, which need repositories where there is no Kopia.
//!
//! Memory: a few kB, and the key derivation's while it runs. Invariant: the random parts are used
//! once; a second repository needs new ones. Mirrors Kopia's `repo/initialize.go`.

use std::fmt;

use zeroize::Zeroizing;

use super::repository_format::{MAX_PACK_SIZE_DEFAULT, RepositoryFormat, Stored, VERSION_MAX};
use super::{BlobConfig, EpochParameters, FormatBlob, envelope};
use crate::kopia::FormatError;
use crate::kopia::encryption::NONCE_BYTES;
use crate::kopia::key_derivation::{SCRYPT, derive_password_key};

/// Random bytes that a new repository needs.
pub const RANDOM_BYTES: usize = 3 * 32 + 2 * NONCE_BYTES;

/// What a new repository is made of. Fields left as [`NewRepository::new`] sets them are Kopia's
/// defaults.
#[derive(Clone)]
pub struct NewRepository {
    /// Name of the hash function.
    pub hash: String,
    /// Name of the encryption algorithm.
    pub encryption: String,
    /// Name of the error correction; empty when off.
    pub ecc: String,
    /// Overhead of the error correction; 0 when off.
    pub ecc_overhead_percent: i64,
    /// Format version, 1 to 3.
    pub version: i64,
    /// Version of index blobs, 1 or 2.
    pub index_version: u8,
    /// Parameters of the epoch manager.
    pub epochs: EpochParameters,
    /// False in repositories as they were before Kopia 0.9.
    pub enable_password_change: bool,
    /// Size in bytes at which a pack is closed; 0 leaves it out. Kopia allows 10 to 120 MiB when it
    /// is set.
    pub max_pack_size: u64,
    /// How files are split.
    pub splitter: String,
    /// How the password becomes a key.
    pub key_algorithm: String,
    /// The repository's random ID.
    pub unique_id: [u8; 32],
    /// The random key of all items.
    pub master_key: [u8; 32],
    /// The random key of the hash function.
    pub secret: [u8; 32],
    /// Random nonce of the format blob.
    pub format_nonce: [u8; NONCE_BYTES],
    /// Random nonce of `kopia.blobcfg`.
    pub blob_config_nonce: [u8; NONCE_BYTES],
}

impl NewRepository {
    /// Makes a repository of Kopia's defaults: format version 3, index version 2, epochs.
    pub fn new(random: &[u8; RANDOM_BYTES]) -> Self {
        let mut rest = &random[..];
        Self {
            hash: "BLAKE2B-256-128".into(),
            encryption: "AES256-GCM-HMAC-SHA256".into(),
            ecc: String::new(),
            ecc_overhead_percent: 0,
            version: VERSION_MAX,
            index_version: 2,
            epochs: EpochParameters::default(),
            enable_password_change: true,
            max_pack_size: MAX_PACK_SIZE_DEFAULT,
            splitter: "DYNAMIC-4M-BUZHASH".into(),
            key_algorithm: SCRYPT.into(),
            unique_id: take(&mut rest),
            master_key: take(&mut rest),
            secret: take(&mut rest),
            format_nonce: take(&mut rest),
            blob_config_nonce: take(&mut rest),
        }
    }

    /// Sets the format version and what Kopia derives from it: version 1 has neither epochs, index
    /// version 2, password change nor error correction.
    pub fn with_version(mut self, version: i64) -> Self {
        self.version = version;
        let modern = version > 1;
        self.enable_password_change = modern;
        self.index_version = if modern { 2 } else { 1 };
        if modern {
            self.epochs = EpochParameters::default();
        } else {
            self.epochs = EpochParameters::disabled();
            self.ecc.clear();
            self.ecc_overhead_percent = 0;
        }
        self
    }

    /// Derives the password key. Memory: at most `memory_bytes`.
    pub fn format_encryption_key(
        &self,
        password: &[u8],
        memory_bytes: usize,
    ) -> Result<[u8; 32], FormatError> {
        derive_password_key(&self.key_algorithm, password, &self.unique_id, memory_bytes)
    }

    /// Returns the bytes of `kopia.repository`. Memory: at most `memory_bytes` for the password
    /// key.
    ///
    /// Fails for algorithms that Kopia does not know and parameters that it refuses.
    pub fn format_blob(
        &self,
        password: &[u8],
        memory_bytes: usize,
    ) -> Result<Vec<u8>, FormatError> {
        let key = Zeroizing::new(self.format_encryption_key(password, memory_bytes)?);
        self.format_blob_with_key(&key)
    }

    /// The same for a password key that is already derived.
    pub fn format_blob_with_key(
        &self,
        format_encryption_key: &[u8; 32],
    ) -> Result<Vec<u8>, FormatError> {
        self.epochs.validate()?;
        let format = serde_json::json!({ "format": self.stored() });
        let json = Zeroizing::new(serde_json::to_vec(&format).expect("plain values are JSON"));
        // Reading it back checks version, index version and algorithms.
        RepositoryFormat::parse(&json, &self.unique_id, *format_encryption_key)?.blob_crypto()?;
        let nonce = self.format_nonce;
        let sealed = envelope::seal(format_encryption_key, &self.unique_id, nonce, &json);
        let blob = FormatBlob {
            tool: env!("CARGO_PKG_REPOSITORY").into(),
            build_version: env!("CARGO_PKG_VERSION").into(),
            build_info: String::new(),
            unique_id: self.unique_id.to_vec(),
            key_algorithm: self.key_algorithm.clone(),
            encryption: envelope::AES256_GCM.into(),
            encrypted_format: sealed,
            other: serde_json::Map::new(),
        };
        Ok(blob.to_json())
    }

    /// Returns the bytes of `kopia.blobcfg`, sealed with the password key.
    pub fn blob_config_blob(
        &self,
        format_encryption_key: &[u8; 32],
        config: &BlobConfig,
    ) -> Result<Vec<u8>, FormatError> {
        config.validate()?;
        let nonce = self.blob_config_nonce;
        let json = config.to_json();
        Ok(envelope::seal(
            format_encryption_key,
            &self.unique_id,
            nonce,
            &json,
        ))
    }

    fn stored(&self) -> Stored {
        Stored {
            hash: self.hash.clone(),
            encryption: self.encryption.clone(),
            ecc: self.ecc.clone(),
            ecc_overhead_percent: self.ecc_overhead_percent,
            secret: self.secret.to_vec(),
            master_key: self.master_key.to_vec(),
            version: self.version,
            max_pack_size: i64::try_from(self.max_pack_size).unwrap_or(i64::MAX),
            index_version: self.index_version.into(),
            epoch_parameters: self.epochs.clone(),
            enable_password_change: self.enable_password_change,
            splitter: self.splitter.clone(),
            upgrade_lock: None,
            required_features: Vec::new(),
        }
    }
}

impl fmt::Debug for NewRepository {
    /// Shows the algorithms only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewRepository")
            .field("hash", &self.hash)
            .field("encryption", &self.encryption)
            .field("ecc", &self.ecc)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Takes the next bytes off the random ones.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (taken, after) = rest
        .split_first_chunk::<N>()
        .expect("RANDOM_BYTES is the sum of all parts");
    *rest = after;
    *taken
}
