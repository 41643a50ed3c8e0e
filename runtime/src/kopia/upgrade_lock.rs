//! The upgrade lock: a mark in the format blob that keeps everyone but its owner out while a
//! repository is upgraded.
//!
//! Clients poll the format blob, so the lock takes effect only after a drain time that covers the
//! slowest reader of it and the worst clock. While we are locked out, no storage operation may be
//! performed.
//!
//! Memory: the owner's message, inside the format blob's limit. Invariant: drained implies locked.
//! Mirrors Kopia's `repo/format/upgrade_lock_intent.go`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::format_blob::encoding::{is_zero, nanos};
use crate::clock::Timestamp;

/// An upgrade that someone announced or began.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeLock {
    /// Who upgrades; the only one who may go on.
    #[serde(rename = "ownerID", default, skip_serializing_if = "String::is_empty")]
    pub owner_id: String,
    /// When the lock was written, by the owner's clock.
    pub creation_time: Timestamp,
    /// How long after its writing the upgrade is to begin; zero means at once.
    #[serde(default, with = "nanos", skip_serializing_if = "is_zero")]
    pub advance_notice_duration: Duration,
    /// How long a client may go on after the lock shows.
    #[serde(
        rename = "ioDrainTimeout",
        default,
        with = "nanos",
        skip_serializing_if = "is_zero"
    )]
    pub io_drain_timeout: Duration,
    /// How often a waiting client looks again.
    #[serde(default, with = "nanos", skip_serializing_if = "is_zero")]
    pub status_poll_interval: Duration,
    /// What users are told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// By how much clocks may differ.
    #[serde(default, with = "nanos", skip_serializing_if = "is_zero")]
    pub max_permitted_clock_drift: Duration,
}

impl UpgradeLock {
    /// Returns whether everyone but the owner is locked out at `now`.
    pub fn locked(&self, now: Timestamp) -> bool {
        let drain = self.drain_duration();
        match self.advance_notice_duration.checked_sub(drain) {
            None => true,
            Some(before_drain) => now >= self.creation_time.plus(before_drain),
        }
    }

    /// Returns whether at `now` no client but the owner can still be at work.
    pub fn drained(&self, now: Timestamp) -> bool {
        let wait = self.advance_notice_duration.max(self.drain_duration());
        now >= self.creation_time.plus(wait)
    }

    /// How long the last client may need to see the lock and to end what it does.
    fn drain_duration(&self) -> Duration {
        self.max_permitted_clock_drift
            .saturating_add(self.io_drain_timeout.saturating_mul(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn lock(advance_notice_minutes: u32) -> UpgradeLock {
        UpgradeLock {
            owner_id: "owner".into(),
            creation_time: Timestamp::from_seconds(1_000_000),
            advance_notice_duration: MINUTE * advance_notice_minutes,
            io_drain_timeout: MINUTE * 15,
            status_poll_interval: MINUTE,
            message: "upgrading".into(),
            max_permitted_clock_drift: MINUTE * 5,
        }
    }

    // The drain takes 5 + 2 * 15 = 35 minutes.
    #[test]
    fn without_notice_it_locks_at_once() {
        for notice in [0, 34] {
            let lock = lock(notice);
            let start = lock.creation_time;
            assert!(lock.locked(start.minus(MINUTE * 999)));
            assert!(!lock.drained(start.plus(MINUTE * 35 - Duration::from_nanos(1))));
            assert!(lock.drained(start.plus(MINUTE * 35)));
        }
    }

    #[test]
    fn with_notice_it_locks_a_drain_before() {
        let lock = lock(60);
        let start = lock.creation_time;
        assert!(!lock.locked(start.plus(MINUTE * 25 - Duration::from_nanos(1))));
        assert!(lock.locked(start.plus(MINUTE * 25)));
        assert!(!lock.drained(start.plus(MINUTE * 60 - Duration::from_nanos(1))));
        assert!(lock.drained(start.plus(MINUTE * 60)));
    }

    #[test]
    fn json_is_kopias() {
        let json = concat!(
            r#"{"ownerID":"owner","creationTime":"1970-01-12T13:46:40Z","#,
            r#""ioDrainTimeout":900000000000,"statusPollInterval":60000000000,"#,
            r#""message":"upgrading","maxPermittedClockDrift":300000000000}"#
        );
        assert_eq!(serde_json::to_string(&lock(0)).unwrap(), json);
        assert_eq!(serde_json::from_str::<UpgradeLock>(json).unwrap(), lock(0));
        let bare: UpgradeLock =
            serde_json::from_str(r#"{"creationTime":"2024-01-02T03:04:05.6+02:00","new":1}"#)
                .unwrap();
        assert_eq!(bare.creation_time.to_string(), "2024-01-02T01:04:05.6Z");
        assert!(serde_json::from_str::<UpgradeLock>(r#"{"ownerID":"x"}"#).is_err());
    }
}
