//! What can be wrong with the bytes of a repository, or with the key to them.
//!
//! Every error says which blob, content or field; none of them carries a secret or copied bytes.

use thiserror::Error;

/// Why bytes of a repository cannot be used. Never carries secrets.
#[derive(Debug, Error)]
pub enum FormatError {
    /// The bytes do not have the form that the format asks for.
    #[error("{what}: {reason}")]
    Malformed {
        /// The blob, content or field.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The password does not decrypt the format blob.
    #[error("the password is wrong, or the format blob is damaged")]
    WrongPassword,
    /// An authentication tag does not fit: the bytes were changed, cut, or belong to another name.
    #[error("{what}: authentication tag does not match")]
    Tag {
        /// The blob or content.
        what: String,
    },
    /// An algorithm that neither we nor a current Kopia knows.
    #[error("{kind} {name:?} is not supported")]
    Algorithm {
        /// hash, encryption, ecc, key derivation or compression.
        kind: &'static str,
        /// Its name in the repository.
        name: String,
    },
    /// The repository was written by a newer Kopia.
    #[error("{what} {version} is newer than {supported}, the newest supported")]
    NewerVersion {
        /// Format version or index version.
        what: &'static str,
        /// The repository's version.
        version: i64,
        /// The newest version that we know.
        supported: i64,
    },
    /// The repository requires a feature that we do not know.
    #[error("the repository requires feature {feature:?}: {message}")]
    Feature {
        /// The feature's name.
        feature: String,
        /// What the repository says to those who do not understand it.
        message: String,
    },
    /// Too little memory for the key derivation.
    #[error("the key derivation needs {needed_bytes} bytes of memory, {given_bytes} are given")]
    Memory {
        /// Least number of bytes.
        needed_bytes: usize,
        /// Bytes given.
        given_bytes: usize,
    },
}

impl FormatError {
    /// Makes a [`FormatError::Malformed`].
    pub fn malformed(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Malformed {
            what: what.into(),
            reason: reason.into(),
        }
    }

    /// Returns the stable code of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::WrongPassword => "wrong-password",
            Self::Tag { .. } => "tag-mismatch",
            Self::Algorithm { .. } => "unsupported-algorithm",
            Self::NewerVersion { .. } => "newer-format",
            Self::Feature { .. } => "unknown-required-feature",
            Self::Memory { .. } => "memory-too-small",
        }
    }
}
