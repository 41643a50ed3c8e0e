//! What can be wrong with a repository as a whole.
//!
//! Errors of storage, bytes and scratch pass through as they are, with their own codes.

use thiserror::Error;

use crate::blob::BlobError;
use crate::clock::Timestamp;
use crate::kopia::FormatError;
use crate::spill::SpillError;

/// Why a repository cannot be read or written. Everything above storage, bytes and scratch.
#[derive(Debug, Error)]
pub enum RepositoryError {
    /// The store answered with an error.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// Bytes of the repository are not what the format asks for.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Scratch failed.
    #[error(transparent)]
    Spill(#[from] SpillError),
    /// There is no `kopia.repository` in the store.
    #[error("no repository at {location}")]
    NoRepository {
        /// Where it was looked for.
        location: String,
    },
    /// The format blob or the blob configuration is not the JSON that it must be.
    #[error("the repository's format cannot be read: {reason}")]
    CorruptFormat {
        /// The blob and what is wrong with it.
        reason: String,
    },
    /// Somebody upgrades the repository: no storage operation is allowed.
    #[error("the repository is locked for an upgrade by {owner} since {since}")]
    UpgradeLock {
        /// Who holds the lock.
        owner: String,
        /// When it was taken.
        since: Timestamp,
    },
    /// The format blob is not the one that the repository was opened with.
    #[error("the repository's format was changed while the task ran")]
    FormatChanged,
    /// More of something than its named maximum.
    #[error("more than {maximum} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The named maximum.
        maximum: usize,
    },
    /// An index blob has an entry that a client would refuse.
    #[error("index blob {blob}: content {content}: {reason}")]
    RefusedEntry {
        /// The blob.
        blob: String,
        /// The content ID.
        content: String,
        /// Why it would be refused.
        reason: String,
    },
    /// Index blobs are missing, so that entries would vanish in silence.
    #[error("epoch {epoch}: {reason}")]
    IncompleteIndex {
        /// The epoch.
        epoch: u64,
        /// What is missing.
        reason: String,
    },
    /// The result of a compaction is gone, and so are inputs of it.
    #[error("compaction log {log}: its output {output} is gone and so are {inputs} of its inputs")]
    LostCompaction {
        /// The compaction log.
        log: String,
        /// The output.
        output: String,
        /// How many inputs.
        inputs: u64,
    },
    /// A listed blob is gone again and again: somebody deletes faster than we read.
    #[error("index blob {blob} was listed and is gone after {attempts} listings")]
    Vanished {
        /// The blob.
        blob: String,
        /// Listings tried.
        attempts: u32,
    },
    /// A content that is needed is not in the index.
    #[error("content {content} is not in the index")]
    NoContent {
        /// The content ID.
        content: String,
    },
    /// A pack that the index names is not there.
    #[error("pack {pack} is not there; content {content} lies in it")]
    MissingPack {
        /// The pack blob.
        pack: String,
        /// A content that lies in it.
        content: String,
    },
    /// A pack ends before a content that lies in it does.
    #[error("pack {pack} has {pack_bytes} bytes; content {content} ends behind them")]
    ShortPack {
        /// The pack blob.
        pack: String,
        /// The content.
        content: String,
        /// Bytes of the pack.
        pack_bytes: u64,
    },
    /// The storage's clock and ours are too far apart to judge ages.
    #[error("the storage's clock says {storage}, ours {local}: more than 5 minutes apart")]
    ClockSkew {
        /// The storage's time.
        storage: Timestamp,
        /// Our time.
        local: Timestamp,
    },
    /// An index write took so long that its epoch was settled meanwhile.
    #[error("writing to epoch {epoch} took too long: it is settled now")]
    TooSlow {
        /// The epoch written to.
        epoch: u64,
    },
    /// A worker thread ended early; another error tells why.
    #[error("a worker ended before its work was done")]
    Interrupted,
}

impl RepositoryError {
    /// Returns the stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Blob(source) => source.code(),
            Self::Format(source) => source.code(),
            Self::Spill(source) => source.code(),
            Self::NoRepository { .. } => "no-repository",
            Self::CorruptFormat { .. } => "corrupt-format",
            Self::UpgradeLock { .. } => "upgrade-lock",
            Self::FormatChanged => "format-changed",
            Self::TooMany { .. } => "too-many",
            Self::RefusedEntry { .. } => "refused-entry",
            Self::IncompleteIndex { .. } => "incomplete-index",
            Self::LostCompaction { .. } => "lost-compaction",
            Self::Vanished { .. } => "index-blob-vanished",
            Self::NoContent { .. } => "content-not-found",
            Self::MissingPack { .. } => "missing-pack",
            Self::ShortPack { .. } => "short-pack",
            Self::ClockSkew { .. } => "clock-skew",
            Self::TooSlow { .. } => "index-write-too-slow",
            Self::Interrupted => "interrupted",
        }
    }
}
