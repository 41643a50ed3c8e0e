//! What a retention strategy is asked and what it answers. Plain values; knows no wasmtime.
//!
//! The plugin proposes, the host disposes: each decision is checked by [`RetentionGuard`], whoever
//! gave it. A strategy that fails, in whatever way, ends the task and expires nothing. Memory: one
//! batch, at most [`BATCH_ROWS_MAX`] rows and [`BATCH_BYTES_MAX`] bytes of their texts.

use crate::clock::Timestamp;
use crate::kopia::policy::RetentionPolicy;
use crate::kopia::snapshot_manifest::SnapshotSource;
use crate::repository::snapshot_history::HistoryRow;

use super::strategy::{REASON_BYTES_MAX, StrategyError};

/// Snapshots of one batch.
pub const BATCH_ROWS_MAX: usize = 1_000;

/// Bytes of the texts of one batch, unless a single snapshot has more.
pub const BATCH_BYTES_MAX: usize = 512 * 1024;

/// Changes of local time that a strategy is told of: those of five centuries.
pub const ZONE_CHANGES_MAX: usize = 1_000;

/// The pin of Velero's snapshots.
pub const VELERO_PIN: &str = "velero-pin";

/// Tags of Velero's snapshots, which it had before it pinned them.
const VELERO_TAGS: [&str; 2] = ["snapshot-requester", "snapshot-uploader"];

/// Prefix of tags that were given on Kopia's command line.
const TAG_PREFIX: &str = "tag:";

/// Local time. Kopia's weeks, and where its periods end, are those of the clock on the wall.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Zone {
    /// Local time minus UTC before the first change, in seconds.
    pub offset_seconds: i32,
    /// From a second since 1970 on, another offset; ascending, at most [`ZONE_CHANGES_MAX`].
    pub changes: Vec<(i64, i32)>,
}

/// What the host tells about a source before its snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionQuestion {
    /// The source.
    pub source: SnapshotSource,
    /// Its policy, merged.
    pub policy: RetentionPolicy,
    /// Now.
    pub now: Timestamp,
    /// Local time.
    pub zone: Zone,
}

/// What becomes of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is expired.
    pub expire: bool,
    /// Why; at most [`REASON_BYTES_MAX`] bytes.
    pub reason: String,
}

/// Decides which snapshots are kept.
pub trait Retention: Send {
    /// Begins a source; what was known of another one is forgotten.
    fn begin(&mut self, question: &RetentionQuestion) -> Result<(), StrategyError>;

    /// Decides about the next snapshots of the source, the newest first: one decision for each.
    fn decide(&mut self, rows: &[HistoryRow]) -> Result<Vec<Decision>, StrategyError>;

    /// Names the strategy for plans and errors: file, digest, limits.
    fn describe(&self) -> String;

    /// Says what its calls have used at most, for errors; empty where nobody counts.
    fn used(&self) -> String {
        String::new()
    }
}

/// Checks the decisions about one source, in the order of its snapshots.
#[derive(Debug, Default)]
pub struct RetentionGuard {
    complete_seen: bool,
}

impl RetentionGuard {
    /// Checks that a batch has one decision for each row, with reasons that can be shown.
    pub fn check_batch(rows: &[HistoryRow], decisions: &[Decision]) -> Result<(), String> {
        if rows.len() != decisions.len() {
            return Err(format!(
                "{} decisions about {} snapshots",
                decisions.len(),
                rows.len()
            ));
        }
        match decisions
            .iter()
            .any(|decision| decision.reason.len() > REASON_BYTES_MAX)
        {
            true => Err(format!("a reason of more than {REASON_BYTES_MAX} bytes")),
            false => Ok(()),
        }
    }

    /// Checks the decision about the next snapshot; the error says why it may not be expired.
    pub fn check(&mut self, row: &HistoryRow, expire: bool) -> Result<(), String> {
        let newest = row.is_complete() && !self.complete_seen;
        self.complete_seen |= row.is_complete();
        if !expire {
            return Ok(());
        }
        let why = if !row.pins.is_empty() {
            format!("is pinned ({})", row.pins.join(", "))
        } else if is_veleros(row) {
            "is Velero's, which deletes its snapshots itself".to_owned()
        } else if newest {
            "is the newest complete one of its source".to_owned()
        } else {
            return Ok(());
        };
        Err(format!(
            "it expires snapshot {} of {}, which {why}",
            row.id, row.source
        ))
    }
}

/// Returns whether Velero made the snapshot.
pub fn is_veleros(row: &HistoryRow) -> bool {
    let is_tag = |key: &String| VELERO_TAGS.contains(&key.strip_prefix(TAG_PREFIX).unwrap_or(key));
    row.pins.iter().any(|pin| pin == VELERO_PIN) || row.tags.keys().any(is_tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(incomplete: &str, pins: &[&str], tags: &[&str]) -> HistoryRow {
        let tags = tags.iter().map(|key| ((*key).to_owned(), "x".to_owned()));
        HistoryRow {
            id: "id1".into(),
            source: SnapshotSource::default(),
            start: Timestamp::default(),
            end: Timestamp::default(),
            modified: Timestamp::default(),
            incomplete_reason: incomplete.into(),
            pins: pins.iter().map(|pin| (*pin).to_owned()).collect(),
            tags: tags.collect(),
            size_bytes: None,
        }
    }

    #[test]
    fn what_may_not_be_expired() {
        let mut guard = RetentionGuard::default();
        let mut expires = |row: &HistoryRow| guard.check(row, true).err().unwrap_or_default();
        assert_eq!(expires(&row("checkpoint", &[], &[])), "");
        assert!(expires(&row("", &[], &[])).contains("newest complete"));
        assert_eq!(expires(&row("", &[], &["tag:mine"])), "");
        assert!(expires(&row("", &["mine"], &[])).contains("is pinned (mine)"));
        assert!(expires(&row("", &["velero-pin"], &[])).contains("is pinned"));
        assert!(expires(&row("", &[], &["snapshot-requester"])).contains("Velero"));
        assert!(expires(&row("", &[], &["tag:snapshot-uploader"])).contains("Velero"));
        let mut guard = RetentionGuard::default();
        guard.check(&row("", &["p"], &[]), false).unwrap();
        guard.check(&row("", &[], &[]), true).unwrap();
    }

    #[test]
    fn one_decision_for_each_snapshot() {
        let rows = [row("", &[], &[])];
        let decision = |bytes| Decision {
            expire: false,
            reason: "x".repeat(bytes),
        };
        assert!(RetentionGuard::check_batch(&rows, &[decision(1_000)]).is_ok());
        assert!(RetentionGuard::check_batch(&rows, &[decision(1_001)]).is_err());
        assert!(RetentionGuard::check_batch(&rows, &[]).is_err());
        assert!(RetentionGuard::check_batch(&rows, &[decision(0), decision(0)]).is_err());
    }
}
