//! Kopia's blob `.storageconfig`: which storage class blobs have, by the first letters of their
//! names. S3 only.
//!
//! Whoever puts metadata (`q`, `x`) where it is read often and data (`p`) where it is cheap has
//! written this blob by hand; Kopia reads it when it connects, so do we, once, before the first put.
//! The first prefix that fits decides. An option or a missing blob leaves it to the bucket. Memory:
//! the blob, at most [`CONFIG_BYTES_MAX`]. Mirrors Kopia's `repo/blob/s3/s3_storage_config.go`.

use reqwest::Method;
use serde::Deserialize;

use super::ObjectStore;
use super::answer::Call;
use super::bucket::{Ask, Provider};
use super::wire::Kind;
use crate::blob::BlobError;

/// The blob's name; it is hidden from listings.
pub(super) const STORAGE_CONFIG: &str = ".storageconfig";

/// Longest such blob: some hundred rules.
const CONFIG_BYTES_MAX: usize = 64 << 10;

/// What the blob says.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct StorageConfig {
    blob_options: Vec<ClassOfPrefix>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClassOfPrefix {
    prefix: String,
    storage_class: String,
}

impl StorageConfig {
    /// Returns the class for a blob; `None` for the bucket's.
    fn class_of(&self, id: &str) -> Option<&str> {
        let mut options = self.blob_options.iter();
        let found = options.find(|option| id.starts_with(&option.prefix))?;
        Some(found.storage_class.as_str()).filter(|class| !class.is_empty())
    }
}

impl ObjectStore {
    /// Returns the storage class that a put of `call` has to name.
    ///
    /// Errors: those of reading the blob; `Refused` where it is none of Kopia's.
    pub(super) async fn class_of(&self, call: Call<'_>) -> Result<Option<&str>, BlobError> {
        let bucket = &self.asker.bucket;
        let by_prefix = matches!(bucket.provider, Provider::S3 { .. });
        if bucket.storage_class.is_some() || !by_prefix {
            return Ok(bucket.storage_class.as_deref());
        }
        let config = self.storage_config.get_or_try_init(|| self.read_config());
        Ok(config.await?.class_of(call.id))
    }

    async fn read_config(&self) -> Result<StorageConfig, BlobError> {
        let call = Call {
            operation: "get",
            id: STORAGE_CONFIG,
            is_blob: true,
        };
        let ask = Ask::new(Method::GET, Some(self.asker.bucket.key(STORAGE_CONFIG)));
        let answer = match self.asker.ask(Kind::Get, call, ask).await? {
            Ok(answer) => answer,
            Err(refusal) => match refusal.into_error(call) {
                BlobError::NotFound { .. } => return Ok(StorageConfig::default()),
                error => return Err(error),
            },
        };
        let text = answer.text(CONFIG_BYTES_MAX).await?;
        serde_json::from_str(&text).map_err(|error| BlobError::Refused {
            operation: call.operation,
            id: call.id.to_owned(),
            reason: format!("it is no storage configuration of Kopia's: {error}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_prefix_that_fits_decides() {
        let config: StorageConfig = serde_json::from_str(
            r#"{"blobOptions": [{"prefix": "pa", "storageClass": ""},
                {"prefix": "p", "storageClass": "STANDARD_IA"},
                {"prefix": "", "storageClass": "STANDARD"}], "later": 1}"#,
        )
        .unwrap();
        assert_eq!(config.class_of("p1"), Some("STANDARD_IA"));
        assert_eq!(config.class_of("pa1"), None);
        assert_eq!(config.class_of("xn0"), Some("STANDARD"));
        let nothing: StorageConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(nothing.class_of("p1"), None);
    }
}
