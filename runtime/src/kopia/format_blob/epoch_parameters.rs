//! The parameters of the epoch manager, as the format blob has them.
//!
//! Users can change them, so they are always read from the repository.
//!
//! Memory: none. Invariant: values from a repository are never negative. Mirrors `Parameters` of
//! Kopia's `internal/epoch/epoch_manager.go`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::encoding::as_nanos;
use crate::kopia::FormatError;

/// When epochs advance, when they are compacted and when replaced index blobs are deleted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct EpochParameters {
    /// Whether there is an epoch manager at all; if not, index blobs are of the V0 kind.
    pub enabled: bool,
    /// How often clients look for new epochs.
    pub refresh_frequency: Duration,
    /// Epochs between two range checkpoints.
    pub full_checkpoint_frequency: u32,
    /// How much older than its replacement an index blob must be before it is deleted.
    pub cleanup_safety_margin: Duration,
    /// The shortest epoch.
    pub min_epoch_duration: Duration,
    /// Index blobs in an epoch that make it end.
    pub advance_on_count: u64,
    /// Bytes of index blobs in an epoch that make it end.
    pub advance_on_total_bytes: u64,
    /// Index blobs that Kopia deletes at the same time.
    pub delete_parallelism: u32,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Default for EpochParameters {
    /// Returns Kopia's defaults for new repositories.
    fn default() -> Self {
        Self {
            enabled: true,
            refresh_frequency: MINUTE * 20,
            full_checkpoint_frequency: 7,
            cleanup_safety_margin: MINUTE * 60 * 4,
            min_epoch_duration: MINUTE * 60 * 24,
            advance_on_count: 20,
            advance_on_total_bytes: 10 << 20,
            delete_parallelism: 4,
        }
    }
}

impl EpochParameters {
    /// Returns how old a look at the epochs may be for work to begin with it: Kopia's writers want
    /// three quarters of the refresh frequency to be left.
    pub fn look_age_max(&self) -> Duration {
        self.refresh_frequency / 4
    }

    /// Returns what a repository without epoch manager stores.
    pub fn disabled() -> Self {
        Self {
            enabled: false,
            refresh_frequency: Duration::ZERO,
            full_checkpoint_frequency: 0,
            cleanup_safety_margin: Duration::ZERO,
            min_epoch_duration: Duration::ZERO,
            advance_on_count: 0,
            advance_on_total_bytes: 0,
            delete_parallelism: 0,
        }
    }

    /// Checks Kopia's rules; it applies them when parameters are set, not when a repository is
    /// opened.
    pub fn validate(&self) -> Result<(), FormatError> {
        let refreshes = self.refresh_frequency.saturating_mul(3);
        let reason = if !self.enabled {
            return Ok(());
        } else if self.min_epoch_duration < MINUTE * 10 {
            "the minimum epoch duration is under 10 minutes"
        } else if refreshes > self.min_epoch_duration {
            "the refresh frequency is over a third of the minimum epoch duration"
        } else if self.full_checkpoint_frequency == 0 {
            "the full checkpoint frequency is zero"
        } else if self.cleanup_safety_margin < refreshes {
            "the cleanup safety margin is under three times the refresh frequency"
        } else if self.advance_on_count < 10 {
            "the epoch advances on fewer than 10 index blobs"
        } else if self.advance_on_total_bytes < 1 << 20 {
            "the epoch advances on fewer than 1048576 bytes"
        } else {
            return Ok(());
        };
        Err(FormatError::malformed("epochParameters", reason))
    }
}

/// The same as it is in JSON.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
struct Stored {
    enabled: bool,
    epoch_refresh_frequency: i64,
    full_checkpoint_frequency: i64,
    cleanup_safety_margin: i64,
    min_epoch_duration: i64,
    epoch_advance_on_count_threshold: i64,
    epoch_advance_on_total_size_bytes_threshold: i64,
    delete_parallelism: i64,
}

impl TryFrom<Stored> for EpochParameters {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let duration = |name, nanos| unsigned(name, nanos).map(Duration::from_nanos);
        Ok(Self {
            enabled: stored.enabled,
            refresh_frequency: duration("EpochRefreshFrequency", stored.epoch_refresh_frequency)?,
            full_checkpoint_frequency: unsigned(
                "FullCheckpointFrequency",
                stored.full_checkpoint_frequency,
            )?,
            cleanup_safety_margin: duration("CleanupSafetyMargin", stored.cleanup_safety_margin)?,
            min_epoch_duration: duration("MinEpochDuration", stored.min_epoch_duration)?,
            advance_on_count: unsigned(
                "EpochAdvanceOnCountThreshold",
                stored.epoch_advance_on_count_threshold,
            )?,
            advance_on_total_bytes: unsigned(
                "EpochAdvanceOnTotalSizeBytesThreshold",
                stored.epoch_advance_on_total_size_bytes_threshold,
            )?,
            delete_parallelism: unsigned("DeleteParallelism", stored.delete_parallelism)?,
        })
    }
}

impl From<EpochParameters> for Stored {
    fn from(parameters: EpochParameters) -> Self {
        let signed = |value| i64::try_from(value).unwrap_or(i64::MAX);
        Self {
            enabled: parameters.enabled,
            epoch_refresh_frequency: as_nanos(parameters.refresh_frequency),
            full_checkpoint_frequency: parameters.full_checkpoint_frequency.into(),
            cleanup_safety_margin: as_nanos(parameters.cleanup_safety_margin),
            min_epoch_duration: as_nanos(parameters.min_epoch_duration),
            epoch_advance_on_count_threshold: signed(parameters.advance_on_count),
            epoch_advance_on_total_size_bytes_threshold: signed(parameters.advance_on_total_bytes),
            delete_parallelism: parameters.delete_parallelism.into(),
        }
    }
}

fn unsigned<T: TryFrom<i64>>(name: &str, value: i64) -> Result<T, String> {
    T::try_from(value).map_err(|_| format!("{name} is {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_kopias() {
        let json = concat!(
            r#"{"Enabled":true,"EpochRefreshFrequency":1200000000000,"FullCheckpointFrequency":7,"#,
            r#""CleanupSafetyMargin":14400000000000,"MinEpochDuration":86400000000000,"#,
            r#""EpochAdvanceOnCountThreshold":20,"#,
            r#""EpochAdvanceOnTotalSizeBytesThreshold":10485760,"DeleteParallelism":4}"#
        );
        let defaults = EpochParameters::default();
        assert_eq!(serde_json::to_string(&defaults).unwrap(), json);
        assert_eq!(
            serde_json::from_str::<EpochParameters>(json).unwrap(),
            defaults
        );
        let empty: EpochParameters = serde_json::from_str("{}").unwrap();
        assert_eq!(empty, EpochParameters::disabled());
        for bad in [
            r#"{"MinEpochDuration":-1}"#,
            r#"{"FullCheckpointFrequency":-7}"#,
            r#"{"DeleteParallelism":4294967296}"#,
        ] {
            assert!(
                serde_json::from_str::<EpochParameters>(bad).is_err(),
                "{bad}"
            );
        }
    }

    // Each rule at its limit, and just beyond.
    #[test]
    fn rules() {
        let check = |change: fn(&mut EpochParameters)| {
            let mut parameters = EpochParameters::default();
            change(&mut parameters);
            parameters.validate().is_ok()
        };
        const NANO: Duration = Duration::from_nanos(1);
        assert!(check(|_| ()));
        assert!(check(|p| *p = EpochParameters::disabled()));
        assert!(check(|p| {
            p.min_epoch_duration = MINUTE * 10;
            p.refresh_frequency = MINUTE * 10 / 3;
        }));
        assert!(!check(|p| {
            p.min_epoch_duration = MINUTE * 10 - NANO;
            p.refresh_frequency = MINUTE;
        }));
        assert!(check(|p| p.min_epoch_duration = MINUTE * 60));
        assert!(!check(|p| p.min_epoch_duration = MINUTE * 60 - NANO));
        assert!(!check(|p| p.full_checkpoint_frequency = 0));
        assert!(check(|p| p.cleanup_safety_margin = MINUTE * 60));
        assert!(!check(|p| p.cleanup_safety_margin = MINUTE * 60 - NANO));
        assert!(check(|p| p.advance_on_count = 10));
        assert!(!check(|p| p.advance_on_count = 9));
        assert!(check(|p| p.advance_on_total_bytes = 1 << 20));
        assert!(!check(|p| p.advance_on_total_bytes = (1 << 20) - 1));
    }
}
