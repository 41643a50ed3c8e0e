//! What the password opens inside `kopia.repository`: algorithms, keys and parameters of a
//! repository.
//!
//! Behaviour follows from the single fields, never from `version`: an upgraded repository can have
//! version 2, epochs and no password change; during an upgrade the version is ahead of everything
//! else.
//!
//! Memory: the document, at most 65 kB, twice. Invariant: fields that we do not know survive a
//! rewrite; keys are not shown by `Debug`, and wiped on drop. Mirrors Kopia's
//! `repo/format/content_format.go` and `format_provider.go`.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroize;

use super::encoding::base64_bytes;
use super::{EpochParameters, NAME, RequiredFeature};
use crate::kopia::FormatError;
use crate::kopia::ecc::Ecc;
use crate::kopia::encryption::{Encryption, hkdf_sha256};
use crate::kopia::hashing::HashFunction;
use crate::kopia::sealed_blob::BlobCrypto;
use crate::kopia::upgrade_lock::UpgradeLock;

/// The newest format version that we read and write.
pub const VERSION_MAX: i64 = 3;

/// Newest version of index blobs that a repository may ask for.
const INDEX_VERSION_MAX: i64 = 2;

/// What a missing `maxPackSize` means, and what new repositories have, in bytes.
pub const MAX_PACK_SIZE_DEFAULT: u64 = 20 << 20;

/// Purpose of the key that seals `kopia.maintenance`.
const SCHEDULE_PURPOSE: &[u8] = b"maintenance schedule";

/// An unlocked repository's format.
#[derive(Clone)]
pub struct RepositoryFormat {
    /// Name of the hash function.
    pub hash: String,
    /// Name of the encryption algorithm.
    pub encryption: String,
    /// Name of the error correction; empty when off.
    pub ecc: String,
    /// Overhead of the error correction; 0 when off.
    pub ecc_overhead_percent: i64,
    /// Key of the hash function.
    pub secret: Vec<u8>,
    /// Key that all item keys come from.
    pub master_key: Vec<u8>,
    /// 1 to 3; says nothing about the other fields.
    pub version: i64,
    /// Size in bytes at which a pack is closed.
    pub max_pack_size: u64,
    /// Version of index blobs to write: 1 or 2.
    pub index_version: u8,
    /// Parameters of the epoch manager.
    pub epochs: EpochParameters,
    /// Keys come from the master key, and packs carry no replica of the format blob.
    pub enable_password_change: bool,
    /// How files are split; maintenance does not use it.
    pub splitter: String,
    /// An upgrade under way.
    pub upgrade_lock: Option<UpgradeLock>,
    /// Features that clients must know.
    pub required_features: Vec<RequiredFeature>,
    /// The repository's ID, from outside.
    pub unique_id: Vec<u8>,
    /// The password key, from outside.
    pub format_encryption_key: [u8; 32],
    /// The whole document, for rewriting.
    pub(super) document: Document,
}

impl RepositoryFormat {
    /// Reads the opened document.
    pub(super) fn parse(
        json: &[u8],
        unique_id: &[u8],
        format_encryption_key: [u8; 32],
    ) -> Result<Self, FormatError> {
        let document = Document(serde_json::from_slice(json).map_err(no_document)?);
        let format = document.0.get("format").unwrap_or(&Value::Null);
        check_version(format)?;
        if let Some(features) = format.get("requiredFeatures") {
            let features = Vec::<RequiredFeature>::deserialize(features).map_err(no_document)?;
            features.iter().try_for_each(RequiredFeature::check)?;
        }
        let stored = Stored::deserialize(format).map_err(no_document)?;
        Ok(Self {
            max_pack_size: max_pack_size(stored.max_pack_size)?,
            index_version: index_version(stored.index_version)?,
            hash: stored.hash,
            encryption: stored.encryption,
            ecc: stored.ecc,
            ecc_overhead_percent: stored.ecc_overhead_percent,
            secret: stored.secret,
            master_key: stored.master_key,
            version: stored.version,
            epochs: stored.epoch_parameters,
            enable_password_change: stored.enable_password_change,
            splitter: stored.splitter,
            upgrade_lock: stored.upgrade_lock,
            required_features: stored.required_features,
            unique_id: unique_id.to_vec(),
            format_encryption_key,
            document,
        })
    }

    /// Returns the hash function, encryption and error correction of contents and sealed blobs.
    pub fn blob_crypto(&self) -> Result<BlobCrypto, FormatError> {
        Ok(BlobCrypto {
            hash: HashFunction::new(&self.hash, &self.secret)?,
            encryption: Encryption::new(&self.encryption, &self.master_key)?,
            ecc: Ecc::new(&self.ecc, self.ecc_overhead_percent)?,
        })
    }

    /// Returns the key of `kopia.maintenance`.
    ///
    /// Its root is the password key in repositories born before Kopia 0.9, which made a mistake
    /// that stays.
    pub fn schedule_key(&self) -> [u8; 32] {
        let root = if self.enable_password_change {
            &self.master_key[..]
        } else {
            &self.format_encryption_key[..]
        };
        hkdf_sha256(root, &self.unique_id, SCHEDULE_PURPOSE)
    }

    /// Returns the required features that we do not know but may ignore, to warn of them.
    pub fn ignored_features(&self) -> impl Iterator<Item = &RequiredFeature> {
        let features = self.required_features.iter();
        features.filter(|feature| !feature.is_known())
    }

    /// Returns the document with the fields that can change over a repository's life as they are
    /// now.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut document = self.document.clone();
        let format = document
            .0
            .entry("format")
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(format) = format {
            self.write_mutable(format);
        }
        serde_json::to_vec(&document.0).expect("a document that was JSON is JSON")
    }

    fn write_mutable(&self, format: &mut Map<String, Value>) {
        let json = "numbers and text are always JSON";
        let epochs = serde_json::to_value(&self.epochs).expect(json);
        merge(format, "version", self.version.into());
        merge(format, "maxPackSize", self.max_pack_size.into());
        merge(format, "indexVersion", self.index_version.into());
        merge(format, "epochParameters", epochs);
        match &self.upgrade_lock {
            Some(lock) => {
                let lock = serde_json::to_value(lock).expect(json);
                merge(format, "upgradeLock", lock);
            }
            None => {
                format.shift_remove("upgradeLock");
            }
        }
    }
}

impl Drop for RepositoryFormat {
    /// Wipes the keys.
    fn drop(&mut self) {
        self.secret.zeroize();
        self.master_key.zeroize();
        self.format_encryption_key.zeroize();
    }
}

/// A document with keys in it, which are wiped when it goes.
#[derive(Clone)]
pub(super) struct Document(pub(super) Map<String, Value>);

impl Document {
    fn wipe(&mut self) {
        let Some(format) = self.0.get_mut("format") else {
            return;
        };
        for name in ["secret", "masterKey"] {
            if let Some(Value::String(key)) = format.get_mut(name) {
                key.zeroize();
            }
        }
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl fmt::Debug for RepositoryFormat {
    /// Shows everything but keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepositoryFormat")
            .field("hash", &self.hash)
            .field("encryption", &self.encryption)
            .field("ecc", &self.ecc)
            .field("ecc_overhead_percent", &self.ecc_overhead_percent)
            .field("version", &self.version)
            .field("max_pack_size", &self.max_pack_size)
            .field("index_version", &self.index_version)
            .field("epochs", &self.epochs)
            .field("enable_password_change", &self.enable_password_change)
            .field("splitter", &self.splitter)
            .field("upgrade_lock", &self.upgrade_lock)
            .field("required_features", &self.required_features)
            .finish_non_exhaustive()
    }
}

/// Writes `value` at `key`; fields of an object that `value` does not have stay.
fn merge(object: &mut Map<String, Value>, key: &str, value: Value) {
    match (object.get_mut(key), value) {
        (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
        (_, value) => {
            object.insert(key.to_owned(), value);
        }
    }
}

/// The format as it is in JSON; also how a new one is written.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Stored {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) hash: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) encryption: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) ecc: String,
    #[serde(skip_serializing_if = "is_0")]
    pub(super) ecc_overhead_percent: i64,
    #[serde(with = "base64_bytes", skip_serializing_if = "Vec::is_empty")]
    pub(super) secret: Vec<u8>,
    #[serde(with = "base64_bytes", skip_serializing_if = "Vec::is_empty")]
    pub(super) master_key: Vec<u8>,
    pub(super) version: i64,
    #[serde(skip_serializing_if = "is_0")]
    pub(super) max_pack_size: i64,
    #[serde(skip_serializing_if = "is_0")]
    pub(super) index_version: i64,
    #[serde(default = "EpochParameters::disabled")]
    pub(super) epoch_parameters: EpochParameters,
    pub(super) enable_password_change: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) splitter: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upgrade_lock: Option<UpgradeLock>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) required_features: Vec<RequiredFeature>,
}

fn is_0(value: &i64) -> bool {
    *value == 0
}

/// Comes first: a newer version may have other fields.
fn check_version(format: &Value) -> Result<(), FormatError> {
    let version = format.get("version").and_then(Value::as_i64).unwrap_or(0);
    if version > VERSION_MAX {
        return Err(FormatError::NewerVersion {
            what: "format version",
            version,
            supported: VERSION_MAX,
        });
    }
    if version < 1 {
        let reason = format!("format version {version}");
        return Err(FormatError::malformed(NAME, reason));
    }
    Ok(())
}

fn max_pack_size(stored: i64) -> Result<u64, FormatError> {
    match u64::try_from(stored) {
        Ok(0) => Ok(MAX_PACK_SIZE_DEFAULT),
        Ok(bytes) => Ok(bytes),
        Err(_) => {
            let reason = format!("maxPackSize is {stored}");
            Err(FormatError::malformed(NAME, reason))
        }
    }
}

fn index_version(stored: i64) -> Result<u8, FormatError> {
    match stored {
        0 | 1 => Ok(1),
        2 => Ok(2),
        newer if newer > INDEX_VERSION_MAX => Err(FormatError::NewerVersion {
            what: "index version",
            version: newer,
            supported: INDEX_VERSION_MAX,
        }),
        _ => {
            let reason = format!("index version {stored}");
            Err(FormatError::malformed(NAME, reason))
        }
    }
}

/// The error's text could quote the document, which holds keys; its place is enough.
fn no_document(error: serde_json::Error) -> FormatError {
    let reason = format!(
        "the inner format is not understood (line {}, column {})",
        error.line(),
        error.column()
    );
    FormatError::malformed(NAME, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_loses_its_keys_and_nothing_else() {
        let json = r#"{"format":{"secret":"c2VjcmV0","masterKey":"a2V5","version":3},"beside":2}"#;
        let mut document = Document(serde_json::from_str(json).unwrap());
        document.wipe();
        let rest = r#"{"format":{"secret":"","masterKey":"","version":3},"beside":2}"#;
        assert_eq!(serde_json::to_string(&document.0).unwrap(), rest);
        Document(Map::new()).wipe();
    }
}
