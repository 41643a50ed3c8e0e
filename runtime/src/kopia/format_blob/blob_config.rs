//! `kopia.blobcfg`: the retention that storage must put on new blobs.
//!
//! Sealed like the inside of the format blob. A repository without retention has this blob with
//! `{}`, or not at all.
//!
//! Memory: the blob. Invariant: retention is on only when mode and period are both set. Mirrors
//! Kopia's `repo/format/blobcfg_blob.go`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::encoding::{is_zero, nanos};
use super::{FormatBlob, envelope};
use crate::kopia::FormatError;

const NAME: &str = "kopia.blobcfg";

/// The largest blob that is read. Kopia's has under 200 bytes.
pub const BLOB_CONFIG_BYTES_MAX: usize = 65_000;

/// An envelope that is none: the blob is plain JSON.
const NO_ENVELOPE: &str = "NONE";

/// Kopia's shortest retention period.
const RETENTION_PERIOD_MIN: Duration = Duration::from_secs(24 * 3600);

/// How storage must keep new blobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlobConfig {
    /// `GOVERNANCE`, `COMPLIANCE` or `Locked`, as the storage calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_mode: Option<String>,
    /// How long from its writing a blob cannot be deleted.
    #[serde(default, with = "nanos", skip_serializing_if = "is_zero")]
    pub retention_period: Duration,
}

impl BlobConfig {
    /// Opens the blob with the key that opened the format blob.
    pub fn parse(
        blob: &[u8],
        format_blob: &FormatBlob,
        format_encryption_key: &[u8; 32],
    ) -> Result<Self, FormatError> {
        if blob.len() > BLOB_CONFIG_BYTES_MAX {
            let reason = format!("{} bytes, at most {BLOB_CONFIG_BYTES_MAX}", blob.len());
            return Err(FormatError::malformed(NAME, reason));
        }
        let json = if format_blob.encryption == NO_ENVELOPE {
            blob.to_vec()
        } else {
            envelope::check_algorithm(&format_blob.encryption)?;
            envelope::open(format_encryption_key, &format_blob.unique_id, blob).ok_or_else(
                || FormatError::Tag {
                    what: NAME.to_owned(),
                },
            )?
        };
        let mut config: Self = serde_json::from_slice(&json)
            .map_err(|error| FormatError::malformed(NAME, error.to_string()))?;
        config.retention_mode = config.retention_mode.filter(|mode| !mode.is_empty());
        Ok(config)
    }

    /// Returns whether new blobs must be put with retention.
    pub fn retention_on(&self) -> bool {
        self.retention_mode.is_some() && !self.retention_period.is_zero()
    }

    /// Checks Kopia's rules for setting retention: both or none, and not under a day.
    pub fn validate(&self) -> Result<(), FormatError> {
        let period_set = !self.retention_period.is_zero();
        if self.retention_mode.is_some() != period_set {
            let reason = "retention needs both a mode and a period";
            return Err(FormatError::malformed(NAME, reason));
        }
        if period_set && self.retention_period < RETENTION_PERIOD_MIN {
            let reason = "the retention period is under 24 hours";
            return Err(FormatError::malformed(NAME, reason));
        }
        Ok(())
    }

    /// Returns the JSON inside the blob.
    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text and a number are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outer(encryption: &str) -> FormatBlob {
        let json =
            format!(r#"{{"uniqueID":"MDEyMzQ1Njc4OWFiY2RlZg==","encryption":"{encryption}"}}"#);
        FormatBlob::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn plain_and_sealed() {
        let governed = BlobConfig {
            retention_mode: Some("GOVERNANCE".into()),
            retention_period: Duration::from_secs(86_400),
        };
        let json = br#"{"retentionMode":"GOVERNANCE","retentionPeriod":86400000000000}"#;
        assert_eq!(governed.to_json(), json);
        let plain = BlobConfig::parse(json, &outer("NONE"), &[0; 32]).unwrap();
        assert_eq!(plain, governed);
        assert!(plain.retention_on());
        assert!(plain.validate().is_ok());

        let sealed = envelope::seal(&[9; 32], b"0123456789abcdef", [1; 12], json);
        let outer = outer("AES256_GCM");
        assert_eq!(
            BlobConfig::parse(&sealed, &outer, &[9; 32]).unwrap(),
            governed
        );
        let error = BlobConfig::parse(&sealed, &outer, &[8; 32]).unwrap_err();
        assert_eq!(error.code(), "tag-mismatch");
        assert!(BlobConfig::parse(json, &outer, &[9; 32]).is_err());
    }

    #[test]
    fn retention_needs_both() {
        for (json, on, valid) in [
            ("{}", false, true),
            (r#"{"retentionMode":"","retentionPeriod":0}"#, false, true),
            (r#"{"retentionMode":"COMPLIANCE"}"#, false, false),
            (r#"{"retentionPeriod":86400000000000}"#, false, false),
            (
                r#"{"retentionMode":"Locked","retentionPeriod":1000}"#,
                true,
                false,
            ),
        ] {
            let config = BlobConfig::parse(json.as_bytes(), &outer("NONE"), &[0; 32]).unwrap();
            assert_eq!(config.retention_on(), on, "{json}");
            assert_eq!(config.validate().is_ok(), valid, "{json}");
        }
        let error = BlobConfig::parse(b"{}", &outer("AES512"), &[0; 32]).unwrap_err();
        assert_eq!(error.code(), "unsupported-algorithm");
        assert!(BlobConfig::parse(b"7", &outer("NONE"), &[0; 32]).is_err());
    }
}
