//! Why a task stops.
//!
//! Every stop leaves the repository as complete as it was. Hints for people are in the command line
//! floor; here are facts and stable codes.

use std::path::PathBuf;

use thiserror::Error;

use super::strategy::StrategyError;
use crate::blob::BlobError;
use crate::clock::Timestamp;
use crate::repository::RepositoryError;
use crate::spill::SpillError;

/// Why maintenance cannot go on.
#[derive(Debug, Error)]
pub enum MaintenanceError {
    /// The repository cannot be read or written.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The strategy failed or answered what the host refuses.
    #[error(transparent)]
    Strategy(#[from] StrategyError),
    /// Somebody else maintains this repository.
    #[error("maintenance belongs to {recorded}, not to {ours}")]
    NotOwner {
        /// Owner in the repository.
        recorded: String,
        /// Who we act as.
        ours: String,
    },
    /// Nobody maintains this repository.
    #[error("the repository records no maintenance owner")]
    EmptyOwner,
    /// The repository has the old index manager.
    #[error("the repository has index manager V0 (no epochs)")]
    IndexManagerV0,
    /// Complete sets for the same epochs differ: a reader may see fewer entries than there are.
    #[error("{hidden} entries are hidden from readers: index sets differ ({sets})")]
    UnequalSets {
        /// Entries that a reader may miss.
        hidden: u64,
        /// The epochs and sets.
        sets: String,
    },
    /// What was planned is not possible any more: somebody else changed the epochs meanwhile.
    #[error("the epochs changed while the task ran: {what}")]
    Changed {
        /// What is different.
        what: String,
    },
    /// The run was told to end, by a signal.
    #[error("the run was told to end; what is done is done, the rest is left for the next run")]
    Stopped,
    /// Somebody else has written the schedule since this run wrote it.
    #[error("another maintainer has written the schedule while this run was at work")]
    TakenOver,
    /// Another run holds the lease.
    #[error("run {run} maintains the repository, or has crashed, until {until}")]
    Leased {
        /// Its random digits.
        run: String,
        /// When its lease ends unless it is renewed.
        until: Timestamp,
    },
    /// Another process of this host holds Kopia's lock file.
    #[error("{}: another process maintains the repository", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Kopia's lock file cannot be used.
    #[error("{}: {source}", path.display())]
    LockFile {
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Tasks that the cycle does not have.
    #[error("{tasks}: not in {cycle} maintenance of this repository, which has {known}")]
    NotInCycle {
        /// Their names.
        tasks: String,
        /// The cycle.
        cycle: &'static str,
        /// The tasks that it has.
        known: String,
    },
    /// Packs that nobody uses hold contents that no index knows: an index blob may be lost.
    #[error("{unexplained} of {listed} packs are in no index and not explained ({examples})")]
    UnexplainedPacks {
        /// How many.
        unexplained: u64,
        /// Of how many packs.
        listed: u64,
        /// The first of them, with reasons.
        examples: String,
    },
    /// A strategy expires more than the user allows.
    #[error(
        "{expired} of {snapshots} snapshots of {source_name} would be expired; allowed are \
         {percent_max} percent and at most {maximum}"
    )]
    TooManyExpired {
        /// The source.
        source_name: String,
        /// How many would be expired.
        expired: u64,
        /// How many it has.
        snapshots: u64,
        /// The share that is allowed.
        percent_max: u8,
        /// The number that is allowed.
        maximum: u64,
    },
    /// Object locks that could not be extended.
    #[error("{count} object locks are not extended, the first for this reason: {first}")]
    RetentionNotExtended {
        /// How many.
        count: u64,
        /// Why the first was not.
        first: BlobError,
    },
    /// The watermark may only move forward.
    #[error("the deletion watermark is at second {current} and cannot move back to {wanted}")]
    WatermarkBackwards {
        /// Where it is.
        current: i64,
        /// Where it should go.
        wanted: i64,
    },
}

impl MaintenanceError {
    /// Returns whether somebody told the work to end, rather than that it could not go on.
    pub(super) fn is_halt(&self) -> bool {
        matches!(
            self,
            Self::Stopped
                | Self::Repository(
                    RepositoryError::Blob(BlobError::Halted)
                        | RepositoryError::Spill(SpillError::Halted)
                )
        )
    }

    /// Returns the stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Repository(source) => source.code(),
            Self::Strategy(source) => source.code(),
            Self::NotOwner { .. } => "not-owner",
            Self::EmptyOwner => "empty-owner",
            Self::IndexManagerV0 => "index-manager-v0",
            Self::UnequalSets { .. } => "unequal-index-sets",
            Self::Changed { .. } => "epochs-changed",
            Self::Stopped => "stopped",
            Self::TakenOver => "taken-over",
            Self::Leased { .. } => "leased",
            Self::Locked { .. } => "locked",
            Self::LockFile { .. } => "lock-file",
            Self::NotInCycle { .. } => "not-in-cycle",
            Self::UnexplainedPacks { .. } => "unexplained-packs",
            Self::TooManyExpired { .. } => "too-many-expired",
            Self::RetentionNotExtended { .. } => "retention-not-extended",
            Self::WatermarkBackwards { .. } => "watermark-backwards",
        }
    }
}

impl From<BlobError> for MaintenanceError {
    fn from(error: BlobError) -> Self {
        Self::Repository(error.into())
    }
}

impl From<SpillError> for MaintenanceError {
    fn from(error: SpillError) -> Self {
        Self::Repository(error.into())
    }
}
