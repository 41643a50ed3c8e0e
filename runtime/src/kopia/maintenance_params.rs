//! Maintenance parameters: who owns maintenance, and how often it runs.
//!
//! They are a manifest of type `maintenance`. Without one the defaults hold with an empty owner, so
//! that nobody owns maintenance. A field that is missing in the manifest is zero, not its default:
//! so Kopia reads it. Invariant: unknown fields survive a rewrite. Memory: one small struct.
//! Mirrors Kopia's `maintenance_params.go` and `cleanup_logs.go`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::kopia::FormatError;

/// The `type` label of the manifest.
pub const MANIFEST_TYPE: &str = "maintenance";

const HOUR_NANOS: i64 = 3_600_000_000_000;
const NAME: &str = "maintenance parameters";

/// The parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceParams {
    /// `user@host` of the client that may run maintenance.
    #[serde(default)]
    pub owner: String,
    /// Quick maintenance.
    #[serde(default)]
    pub quick: CycleParams,
    /// Full maintenance.
    #[serde(default)]
    pub full: CycleParams,
    /// What diagnostic logs are kept.
    #[serde(default)]
    pub log_retention: LogRetention,
    /// Whether full maintenance extends the retention of blobs.
    #[serde(default)]
    pub extend_object_locks: bool,
    /// Parallel listings when packs are deleted; zero for Kopia's default.
    #[serde(default)]
    pub list_parallelism: i64,
    /// Fields that only newer versions know; kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

/// How often one kind of maintenance runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CycleParams {
    /// Whether it runs by itself at all.
    #[serde(default)]
    pub enabled: bool,
    /// Time between runs in nanoseconds, as in the manifest.
    #[serde(default, rename = "interval")]
    pub interval_nanos: i64,
    /// Fields that only newer versions know; kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

impl CycleParams {
    /// Makes an enabled cycle.
    pub fn every(interval: Duration) -> Self {
        Self {
            enabled: true,
            interval_nanos: i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX),
            unknown: serde_json::Map::new(),
        }
    }

    /// Returns the time between runs; zero when the manifest has a negative one.
    pub fn interval(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.interval_nanos).unwrap_or(0))
    }
}

/// What diagnostic logs are kept; the first limit that is exceeded deletes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogRetention {
    /// Most bytes of all logs.
    #[serde(default)]
    pub max_total_size: i64,
    /// Most log blobs.
    #[serde(default)]
    pub max_count: i64,
    /// Greatest age in nanoseconds.
    #[serde(default, rename = "maxAge")]
    pub max_age_nanos: i64,
    /// Fields that only newer versions know; kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

impl LogRetention {
    /// Returns Kopia's defaults: 1 GiB, 10,000 blobs, 30 days.
    pub fn kopia_default() -> Self {
        Self {
            max_total_size: 1 << 30,
            max_count: 10_000,
            max_age_nanos: 30 * 24 * HOUR_NANOS,
            unknown: serde_json::Map::new(),
        }
    }

    /// Returns the limits that hold: the defaults when all three are zero.
    pub fn or_default(&self) -> Self {
        if (self.max_total_size, self.max_count, self.max_age_nanos) == (0, 0, 0) {
            Self::kopia_default()
        } else {
            self.clone()
        }
    }
}

impl Default for MaintenanceParams {
    /// What holds without a manifest: quick hourly, full daily, no owner.
    fn default() -> Self {
        Self {
            owner: String::new(),
            quick: CycleParams::every(Duration::from_secs(60 * 60)),
            full: CycleParams::every(Duration::from_secs(24 * 60 * 60)),
            log_retention: LogRetention::kopia_default(),
            extend_object_locks: false,
            list_parallelism: 0,
            unknown: serde_json::Map::new(),
        }
    }
}

impl MaintenanceParams {
    /// Parses the payload of the manifest.
    ///
    /// # Errors
    /// JSON of another form.
    pub fn parse(payload: &[u8]) -> Result<Self, FormatError> {
        serde_json::from_slice(payload).map_err(|e| FormatError::malformed(NAME, e.to_string()))
    }

    /// Returns the payload for a manifest.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and JSON values always serialise")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY_KOPIA: &str = concat!(
        r#"{"owner":"default@default","quick":{"enabled":true,"interval":3600000000000},"#,
        r#""full":{"enabled":true,"interval":86400000000000},"logRetention":{"#,
        r#""maxTotalSize":1073741824,"maxCount":10000,"maxAge":2592000000000000},"#,
        r#""extendObjectLocks":false,"listParallelism":0}"#
    );

    #[test]
    fn kopias_bytes_come_out_the_same() {
        let params = MaintenanceParams::parse(BY_KOPIA.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(params.to_json()).unwrap(), BY_KOPIA);
        let defaults = MaintenanceParams {
            owner: "default@default".to_owned(),
            ..MaintenanceParams::default()
        };
        assert_eq!(params, defaults);
        assert_eq!(params.quick.interval(), Duration::from_secs(3600));
    }

    #[test]
    fn missing_fields_are_zero_and_unknown_ones_survive() {
        let text = r#"{"full":{"enabled":true,"interval":-5,"jitter":[1]},"future":{"a":null}}"#;
        let params = MaintenanceParams::parse(text.as_bytes()).unwrap();
        assert!(!params.quick.enabled && params.full.enabled);
        assert_eq!(params.full.interval(), Duration::ZERO);
        assert_eq!(
            params.log_retention.or_default(),
            LogRetention::kopia_default()
        );
        let out = String::from_utf8(params.to_json()).unwrap();
        assert!(out.contains(r#""interval":-5,"jitter":[1]"#), "{out}");
        assert!(out.ends_with(r#""future":{"a":null}}"#), "{out}");
        let one = LogRetention {
            max_count: 5,
            ..LogRetention::default()
        };
        assert_eq!(one.or_default(), one);
        assert!(MaintenanceParams::parse(b"[]").is_err());
        assert!(MaintenanceParams::parse(br#"{"full":{"interval":1.5}}"#).is_err());
    }
}
