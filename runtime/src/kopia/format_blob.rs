//! `kopia.repository`, the blob that a repository is opened by, and `kopia.blobcfg` beside it.
//!
//! Outside it is plain JSON: the repository's ID, and how the password becomes a key. That key
//! opens the inside, [`RepositoryFormat`]: algorithms, keys, parameters. Any client may change it
//! at any time, so a long run reads it again at least every 15 minutes;
//! [`FormatBlob::unlock_with_key`] then saves the key derivation.
//!
//! Memory: three copies of at most 65 kB, and the key derivation's while it runs. Invariant: fields
//! that we do not know survive a rewrite. Mirrors Kopia's `repo/format/format_blob.go` and
//! `repository_config.go`.

mod blob_config;
pub(crate) mod encoding;
mod envelope;
mod epoch_parameters;
mod new_repository;
mod replica;
mod repository_format;
mod required_features;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use self::encoding::base64_bytes;
use super::FormatError;
use super::key_derivation::derive_password_key;

pub use self::blob_config::{BLOB_CONFIG_BYTES_MAX, BlobConfig};
pub use self::epoch_parameters::EpochParameters;
pub use self::new_repository::{NewRepository, RANDOM_BYTES};
pub use self::replica::{REPLICA_WINDOW_BYTES, find_replica, replica_of};
pub use self::repository_format::{MAX_PACK_SIZE_DEFAULT, RepositoryFormat, VERSION_MAX};
pub use self::required_features::{IfNotUnderstood, RequiredFeature};

const NAME: &str = "kopia.repository";

/// The largest format blob: Kopia must be able to make a replica of 65,000 bytes with its checksum.
pub const FORMAT_BLOB_BYTES_MAX: usize = 65_000 - 32;

/// The outside of `kopia.repository`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FormatBlob {
    /// The program that made the repository.
    #[serde(default)]
    pub tool: String,
    /// Its version.
    #[serde(default)]
    pub build_version: String,
    /// More about its version.
    #[serde(default)]
    pub build_info: String,
    /// The repository's ID; salt of every key.
    #[serde(rename = "uniqueID", with = "base64_bytes")]
    pub unique_id: Vec<u8>,
    /// How the password becomes the key.
    #[serde(rename = "keyAlgo", default)]
    pub key_algorithm: String,
    /// How the inside is sealed.
    #[serde(default)]
    pub encryption: String,
    /// The sealed inside.
    #[serde(
        rename = "encryptedBlockFormat",
        with = "base64_bytes",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub encrypted_format: Vec<u8>,
    /// Fields that we do not know.
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl FormatBlob {
    /// Reads the outside. Fails for more than [`FORMAT_BLOB_BYTES_MAX`] and for other bytes than
    /// this JSON.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > FORMAT_BLOB_BYTES_MAX {
            let reason = format!("{} bytes, at most {FORMAT_BLOB_BYTES_MAX}", bytes.len());
            return Err(FormatError::malformed(NAME, reason));
        }
        serde_json::from_slice(bytes)
            .map_err(|error| FormatError::malformed(NAME, error.to_string()))
    }

    /// Opens the inside with the password.
    ///
    /// Memory: at most `memory_bytes` for the key derivation. Fails with
    /// [`FormatError::WrongPassword`] when the envelope does not open,
    /// [`FormatError::NewerVersion`] and [`FormatError::Feature`] for repositories that we must not
    /// touch, [`FormatError::Memory`] when the key cannot be derived in `memory_bytes`.
    pub fn unlock(
        &self,
        password: &[u8],
        memory_bytes: usize,
    ) -> Result<RepositoryFormat, FormatError> {
        envelope::check_algorithm(&self.encryption)?;
        let algorithm = &self.key_algorithm;
        let key = derive_password_key(algorithm, password, &self.unique_id, memory_bytes)?;
        self.unlock_with_key(&Zeroizing::new(key))
    }

    /// Opens the inside with the key of an earlier [`FormatBlob::unlock`]; fails like it.
    pub fn unlock_with_key(
        &self,
        format_encryption_key: &[u8; 32],
    ) -> Result<RepositoryFormat, FormatError> {
        envelope::check_algorithm(&self.encryption)?;
        let sealed = &self.encrypted_format;
        let json = envelope::open(format_encryption_key, &self.unique_id, sealed)
            .ok_or(FormatError::WrongPassword)?;
        let json = Zeroizing::new(json);
        RepositoryFormat::parse(&json, &self.unique_id, *format_encryption_key)
    }

    /// Returns this blob with `format` inside: its mutable fields as they are now, all others as
    /// they were read.
    ///
    /// Mutable are version, maximum pack size, index version, epoch parameters and the upgrade
    /// lock, as in Kopia. The nonce must be random.
    pub fn with_format(&self, format: &RepositoryFormat, nonce: [u8; 12]) -> Self {
        let json = Zeroizing::new(format.to_json());
        let key = &format.format_encryption_key;
        Self {
            encrypted_format: envelope::seal(key, &self.unique_id, nonce, &json),
            ..self.clone()
        }
    }

    /// Returns the blob's bytes in Kopia's layout: two spaces of indent and a line feed at the end.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("text is always JSON");
        json.push(b'\n');
        json
    }
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
