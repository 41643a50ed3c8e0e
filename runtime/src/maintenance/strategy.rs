//! What a splitting strategy is asked and what it answers. Plain values; knows no wasmtime.
//!
//! The plugin proposes, the host disposes: an answer is checked by `SplittingAnswer::check` before
//! anything is done with it, whoever gave it. A strategy that fails, in whatever way, ends the
//! task; it is never replaced by a default. Memory: at most [`EPOCH_ROWS_MAX`] rows of 32 bytes.

use std::fmt;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kopia::snapshot_manifest::SnapshotSource;
use crate::repository::tenants::{NOBODY, SHARED};

pub use crate::repository::tenants::TENANTS_MAX;

/// Rows in one question. A chain of ranges ends at most a few epochs back; only a jammed repository
/// has more, and then the oldest rows are what the next run needs.
pub const EPOCH_ROWS_MAX: usize = 1_000;

/// Joined ranges in one answer: a range spans two epochs at least.
pub const JOINS_MAX: usize = EPOCH_ROWS_MAX / 2;

/// Kopia's largest index blob, in entries.
pub const SHARD_ENTRIES_MAX: u64 = 16_000_000;

/// Least entries in a shard that is not the last: below it an index falls apart into tiny blobs.
pub const SHARD_ENTRIES_MIN: u64 = 100_000;

/// One settled epoch after the end of the range chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Epoch number.
    pub epoch: u32,
    /// Index blobs that a reader uses for it.
    pub blobs: u32,
    /// Their size in bytes as stored, 0 where the listing did not tell.
    pub bytes: u64,
    /// Whether it has a complete single-epoch compaction, or will have one in this run.
    pub compacted: bool,
}

/// What the host tells about the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplittingQuestion {
    /// The epoch that writers write to.
    pub write_epoch: u32,
    /// First epoch after the range chain, 0 without a chain: the only place where a range may
    /// start.
    pub chain_end: u32,
    /// Newest settled epoch, `None` while no epoch is settled.
    pub last_settled: Option<u32>,
    /// Kopia's `FullCheckpointFrequency`.
    pub full_checkpoint_frequency: u32,
    /// Most entries that the memory plan lets a shard have; at most [`SHARD_ENTRIES_MAX`].
    pub shard_entries_max: u64,
    /// Settled epochs from `chain_end` on, ascending, at most [`EPOCH_ROWS_MAX`].
    pub epochs: Vec<EpochRow>,
}

/// Epochs to join into one range checkpoint, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EpochRange {
    /// First epoch.
    pub min: u32,
    /// Last epoch.
    pub max: u32,
}

/// What a strategy wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplittingAnswer {
    /// Entries after which an index shard ends.
    pub shard_entries: u64,
    /// Range checkpoints to write, in order; at most [`JOINS_MAX`].
    pub joins: Vec<EpochRange>,
    /// Why, for the plan that people read; at most [`REASON_BYTES_MAX`] bytes.
    pub reason: String,
}

/// Longest reason, in bytes.
pub const REASON_BYTES_MAX: usize = 1_000;

/// Packs in one question.
pub const PACK_ROWS_MAX: usize = 1_000;

/// Highest number of packs that are rewritten together: with the kind of a pack it is a byte.
pub const PACK_GROUP_MAX: u8 = 127;

/// Least size of new packs, as a share of the maximum in percent: smaller ones would be short.
pub const PACK_BYTES_PERCENT_MIN: u64 = 60;

/// Whose the contents of a pack are, as far as snapshots use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// No snapshot uses any of them.
    Nobody,
    /// Snapshots of one tenant, 1 to [`TENANTS_MAX`].
    One(u8),
    /// Snapshots of several tenants use each of them.
    Shared,
    /// Contents of different owners.
    Mixed,
}

impl Owner {
    /// Returns the owner that a number of a content stands for, as [`crate::repository::tenants`]
    /// has them, or that of [`Owner::number`].
    pub fn of(number: u8) -> Self {
        match number {
            NOBODY => Self::Nobody,
            one if one <= TENANTS_MAX => Self::One(one),
            SHARED => Self::Shared,
            _ => Self::Mixed,
        }
    }

    /// Returns its number: that of a content, or one more for what is mixed.
    pub fn number(self) -> u8 {
        match self {
            Self::Nobody => NOBODY,
            Self::One(tenant) => tenant,
            Self::Shared => SHARED,
            Self::Mixed => SHARED + 1,
        }
    }

    /// Returns whose a pack is in which a content of `other` lies too. What is nobody's does not
    /// count.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nobody, whose) | (whose, Self::Nobody) => whose,
            (one, other) if one == other => one,
            _ => Self::Mixed,
        }
    }
}

/// What a snapshot says of its tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaggedSource {
    /// Who saved what.
    #[serde(flatten)]
    pub source: SnapshotSource,
    /// Its tags, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl TaggedSource {
    /// Returns the bytes of its texts.
    pub fn text_bytes(&self) -> usize {
        let SnapshotSource { host, user, path } = &self.source;
        let tags = self.tags.iter().map(|(key, value)| key.len() + value.len());
        host.len() + user.len() + path.len() + tags.sum::<usize>()
    }
}

/// Checks the tenants of snapshots; the error says which rule they break.
pub fn check_tenants(snapshots: &[TaggedSource], tenants: &[u8]) -> Result<(), String> {
    if tenants.len() != snapshots.len() {
        let (snapshots, tenants) = (snapshots.len(), tenants.len());
        return Err(format!("{tenants} tenants of {snapshots} snapshots"));
    }
    let is_none = |tenant: &&u8| !(1..=TENANTS_MAX).contains(*tenant);
    match tenants.iter().find(is_none) {
        Some(tenant) => Err(format!(
            "a snapshot of tenant {tenant}; allowed are 1 to {TENANTS_MAX}"
        )),
        None => Ok(()),
    }
}

/// One pack that contents lie in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackRow {
    /// Whether it holds metadata rather than file data.
    pub metadata: bool,
    /// Bytes of the contents that lie in it, tombstones included.
    pub used_bytes: u64,
    /// Whose they are; nothing where that was not found out, and then of no pack of a rewrite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

/// Some packs of the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepackQuestion {
    /// Size at which clients close a pack, in bytes.
    pub pack_bytes_max: u64,
    /// At most [`PACK_ROWS_MAX`].
    pub packs: Vec<PackRow>,
}

/// Which of them are rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepackAnswer {
    /// Size at which new packs are closed, in bytes.
    pub pack_bytes: u64,
    /// For each pack 0, or the number of those that are rewritten together, up to
    /// [`PACK_GROUP_MAX`].
    pub groups: Vec<u8>,
    /// Why; at most [`REASON_BYTES_MAX`] bytes.
    pub reason: String,
}

impl RepackAnswer {
    /// Checks the answer against `question`; the error says which rule it breaks.
    pub fn check(&self, question: &RepackQuestion) -> Result<(), String> {
        if self.reason.len() > REASON_BYTES_MAX {
            return Err(format!("a reason of more than {REASON_BYTES_MAX} bytes"));
        }
        let most = question.pack_bytes_max;
        let least = most * PACK_BYTES_PERCENT_MIN / 100;
        if !(least..=most).contains(&self.pack_bytes) {
            let bytes = self.pack_bytes;
            return Err(format!(
                "packs of {bytes} bytes; allowed are {least} to {most}"
            ));
        }
        if self.groups.len() != question.packs.len() {
            let (packs, groups) = (question.packs.len(), self.groups.len());
            return Err(format!("{groups} answers about {packs} packs"));
        }
        match self.groups.iter().find(|group| **group > PACK_GROUP_MAX) {
            Some(group) => Err(format!(
                "packs of number {group}; allowed are 0 to {PACK_GROUP_MAX}"
            )),
            None => Ok(()),
        }
    }
}

/// Decides the shape of index sets, and which packs are rewritten together.
pub trait Splitting: Send {
    /// Answers `question`.
    fn split(&mut self, question: &SplittingQuestion) -> Result<SplittingAnswer, StrategyError>;

    /// Answers `question`, one of those about a rewrite. A strategy may remember what it was asked
    /// before, until `end_repack`.
    fn repack(&mut self, question: &RepackQuestion) -> Result<RepackAnswer, StrategyError>;

    /// Ends the questions about one rewrite: what was remembered of them is forgotten.
    fn end_repack(&mut self) {}

    /// Returns whether the strategy gives snapshots tenants, and so wants to be told whose the
    /// contents of packs are.
    fn gives_tenants(&self) -> bool {
        false
    }

    /// Gives each snapshot its tenant, a number from 1 to [`TENANTS_MAX`]. A strategy may remember
    /// what it was asked before, until `end_tenants`.
    fn tenants(&mut self, snapshots: &[TaggedSource]) -> Result<Vec<u8>, StrategyError> {
        Ok(vec![1; snapshots.len()])
    }

    /// Ends the questions about snapshots: what was remembered of them is forgotten.
    fn end_tenants(&mut self) {}

    /// Names the strategy for plans and errors: file, digest, limits.
    fn describe(&self) -> String;

    /// Says what its calls have used at most, for errors; empty where nobody counts.
    fn used(&self) -> String {
        String::new()
    }
}

/// Why a strategy's answer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StrategyError {
    /// The strategy itself ended: trap, limit, or its own error.
    #[error("strategy {strategy}: {reason}")]
    Failed {
        /// Name, digest, limits.
        strategy: String,
        /// What ended it, and how much it had used.
        reason: String,
        /// Stable code: `plugin-trap`, `plugin-fuel`, `plugin-memory`, `plugin-deadline`,
        /// `plugin-error`, …
        code: &'static str,
    },
    /// The answer asks for something that the host refuses.
    #[error("strategy {strategy}: answer refused: {reason}")]
    Refused {
        /// Name, digest, limits.
        strategy: String,
        /// The rule that it breaks, and how much the strategy had used.
        reason: String,
    },
}

impl StrategyError {
    /// Refuses an answer of a strategy, by its description and what it has used.
    pub(super) fn refused(strategy: String, used: &str, reason: String) -> Self {
        let reason = match used {
            "" => reason,
            used => format!("{reason} (used: {used})"),
        };
        Self::Refused { strategy, reason }
    }

    /// Returns the stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Failed { code, .. } => code,
            Self::Refused { .. } => "plugin-answer-refused",
        }
    }
}

impl SplittingAnswer {
    /// Checks the answer against Kopia's rules and `question`; the error says which rule it breaks.
    pub fn check(&self, question: &SplittingQuestion) -> Result<(), String> {
        if self.reason.len() > REASON_BYTES_MAX {
            return Err(format!("a reason of more than {REASON_BYTES_MAX} bytes"));
        }
        let most = question.shard_entries_max.min(SHARD_ENTRIES_MAX);
        if !(SHARD_ENTRIES_MIN..=most).contains(&self.shard_entries) {
            return Err(format!(
                "shards of {} entries; allowed are {SHARD_ENTRIES_MIN} to {most}",
                self.shard_entries
            ));
        }
        if self.joins.len() > JOINS_MAX {
            return Err(format!(
                "{} ranges; allowed are {JOINS_MAX}",
                self.joins.len()
            ));
        }
        let mut start = question.chain_end;
        for join in &self.joins {
            if join.min != start {
                return Err(format!(
                    "range {join} must start at epoch {start}, the chain's end"
                ));
            }
            if join.max <= join.min {
                return Err(format!(
                    "range {join} spans less than two epochs: readers would lose it"
                ));
            }
            if question.last_settled.is_none_or(|last| join.max > last) {
                return Err(format!("range {join} reaches above the last settled epoch"));
            }
            start = join.max + 1;
        }
        Ok(())
    }
}

impl fmt::Display for EpochRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.min, self.max)
    }
}
