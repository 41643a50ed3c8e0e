//! What can go wrong between us and the storage.
//!
//! One enum for all stores, so that upper floors need not know which store they have. Every variant
//! names the blob or folder. Never carries secrets.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::kopia::blob_id::BlobId;

/// Why an operation of the storage did not succeed.
#[derive(Debug, Error)]
pub enum BlobError {
    /// There is no such blob.
    #[error("blob {id} is not there")]
    NotFound {
        /// The blob.
        id: BlobId,
    },
    /// A put was to create the blob, and it is there already.
    #[error("blob {id} is there already")]
    AlreadyExists {
        /// The blob.
        id: BlobId,
    },
    /// The storage does not let us.
    #[error("{operation} {id}: permission denied")]
    Permission {
        /// What was tried: get, put, list, ...
        operation: &'static str,
        /// The blob, prefix or folder.
        id: String,
    },
    /// The operating system says no.
    #[error("{operation} {id}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The blob, prefix or folder.
        id: String,
        /// Its reason.
        source: io::Error,
    },
    /// The folder has no `.shards` file, so the places of its blobs are unknown. Kopia would guess
    /// `[3,3]`.
    #[error("{}", missing_shards(folder, *has_format_blob, observed_shards))]
    MissingShards {
        /// The folder.
        folder: PathBuf,
        /// Whether `kopia.repository.f` is in it, so that it is, or was, a repository.
        has_format_blob: bool,
        /// Lengths of the folder names on the way to a sharded blob, as a hint; empty when there is
        /// none.
        observed_shards: Vec<usize>,
    },
    /// The `.shards` file does not say where blobs are.
    #[error("{}: {reason}", folder.join(".shards").display())]
    CorruptShards {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder is not there.
    #[error("{} does not exist", folder.display())]
    NoFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// The path is there but is not a folder.
    #[error("{} is not a folder", folder.display())]
    NotAFolder {
        /// The path.
        folder: PathBuf,
    },
    /// A blob ID that no store takes: empty, or with a slash.
    #[error("blob ID {id:?}: {reason}")]
    InvalidName {
        /// The name.
        id: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// This store cannot do that.
    #[error("{operation} {id}: the storage does not support {what}")]
    Unsupported {
        /// What was tried.
        operation: &'static str,
        /// The blob, prefix or folder.
        id: String,
        /// What is missing.
        what: &'static str,
    },
    /// The storage is not well at the moment; the same call may succeed later.
    #[error("{operation} {id}: {reason}")]
    Transient {
        /// What was tried.
        operation: &'static str,
        /// The blob or prefix.
        id: String,
        /// What the storage said.
        reason: String,
    },
    /// The storage says no, and would say it again.
    #[error("{operation} {id}: the storage refused: {reason}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// The blob or prefix.
        id: String,
        /// What the storage said.
        reason: String,
    },
    /// The storage does not know who we are, or does not believe it.
    #[error("{operation} {id}: the credentials were not accepted: {reason}")]
    Unauthenticated {
        /// What was tried.
        operation: &'static str,
        /// The blob or prefix.
        id: String,
        /// What the storage said.
        reason: String,
    },
    /// The keys have ended, or others are there by now: with new ones the same call may succeed.
    #[error("{operation} {id}: the keys have ended: {reason}")]
    KeysEnded {
        /// What was tried.
        operation: &'static str,
        /// The blob or prefix.
        id: String,
        /// What the storage said.
        reason: String,
        /// Whether there are others now.
        has_new_keys: bool,
    },
    /// As many bytes as the run may transfer have been transferred.
    #[error("{operation} {id}: the run may {direction} {max_bytes} bytes, and has")]
    TransferBudget {
        /// What was tried.
        operation: &'static str,
        /// The blob or prefix.
        id: String,
        /// `download` or `upload`.
        direction: &'static str,
        /// The budget.
        max_bytes: u64,
    },
    /// The place cannot be used as it is described; nothing was asked of the storage yet.
    #[error("{location}: {reason}")]
    Setup {
        /// The place.
        location: String,
        /// What is wrong with its description.
        reason: String,
    },
    /// No credentials, or none that can be used.
    #[error("credentials for {location}: {reason}")]
    Credentials {
        /// The place.
        location: String,
        /// What was looked for, and what is wrong with it.
        reason: String,
    },
    /// The simulated process has died; nothing works until it is started again.
    #[error("{operation} {id}: the simulated process has crashed")]
    Crashed {
        /// What was tried.
        operation: &'static str,
        /// The blob or prefix.
        id: String,
    },
    /// The run was told to end; who told it knows why.
    #[error("the run was told to end")]
    Halted,
    /// The blob is longer than the caller wants to hold.
    #[error("blob {id} is longer than {max_bytes} bytes")]
    TooLarge {
        /// The blob.
        id: BlobId,
        /// The caller's limit.
        max_bytes: usize,
    },
}

impl BlobError {
    /// Returns a stable name of the kind of error, in kebab case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "blob-not-found",
            Self::AlreadyExists { .. } => "blob-already-exists",
            Self::Permission { .. } => "storage-permission",
            Self::Io { .. } => "storage-io",
            Self::MissingShards {
                has_format_blob: false,
                ..
            } => "no-repository",
            Self::MissingShards { .. } => "missing-shards",
            Self::CorruptShards { .. } => "corrupt-shards",
            Self::NoFolder { .. } => "no-folder",
            Self::NotAFolder { .. } => "not-a-folder",
            Self::InvalidName { .. } => "invalid-blob-name",
            Self::Unsupported { .. } => "storage-unsupported",
            Self::Transient { .. } => "storage-transient",
            Self::Refused { .. } => "storage-refused",
            Self::Unauthenticated { .. } => "storage-credentials",
            Self::KeysEnded { .. } => "keys-ended",
            Self::TransferBudget { .. } => "transfer-budget",
            Self::Setup { .. } => "storage-setup",
            Self::Credentials { .. } => "storage-credentials",
            Self::Crashed { .. } => "storage-crashed",
            Self::Halted => "halted",
            Self::TooLarge { .. } => "blob-too-large",
        }
    }

    /// Tells whether the blob is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Tells whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        use io::ErrorKind as Kind;
        match self {
            Self::Transient { .. } | Self::KeysEnded { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                Kind::Interrupted
                    | Kind::TimedOut
                    | Kind::ConnectionReset
                    | Kind::ConnectionAborted
                    | Kind::ConnectionRefused
                    | Kind::BrokenPipe
            ),
            _ => false,
        }
    }

    /// Tells whether the same call may succeed at once, as there are new keys.
    pub(super) fn has_new_keys(&self) -> bool {
        match self {
            Self::KeysEnded { has_new_keys, .. } => *has_new_keys,
            _ => false,
        }
    }

    /// Makes an error of the operating system's; a missing permission becomes
    /// [`BlobError::Permission`].
    pub(super) fn io(operation: &'static str, id: impl ToString, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::PermissionDenied {
            return Self::Permission {
                operation,
                id: id.to_string(),
            };
        }
        Self::Io {
            operation,
            id: id.to_string(),
            source,
        }
    }

    /// Makes a [`BlobError::NotFound`].
    pub(super) fn not_found(id: &BlobId) -> Self {
        Self::NotFound { id: id.clone() }
    }
}

/// Says what a folder without `.shards` looks like: a repository that lost it, or none.
fn missing_shards(folder: &Path, has_format_blob: bool, observed_shards: &[usize]) -> String {
    let folder = folder.display();
    if !has_format_blob {
        return format!("no repository at {folder}: neither kopia.repository.f nor .shards");
    }
    let mut text = format!("{folder} has no .shards file");
    if !observed_shards.is_empty() {
        text += &format!("; the lengths of its folder names are {observed_shards:?}");
    }
    text
}
