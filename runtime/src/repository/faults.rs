//! What is wrong with contents, noted instead of ending the work at the first.
//!
//! Tasks that delete stop at the first content that cannot be read; a verification goes on and
//! tells all of them. Whoever reads contents hands errors in here: damage of the repository's bytes
//! is noted, anything else (the store, scratch) stays an error. Threads share one.
//!
//! Memory: at most [`FINDINGS_MAX`](super::verify::FINDINGS_MAX) findings of either sort; all are
//! counted.

use std::sync::{Mutex, PoisonError};

use crate::kopia::blob_id::BlobId;
use crate::kopia::content_id::ContentId;

use super::RepositoryError;
use super::verify::Findings;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Faults {
    noted: Mutex<Noted>,
}

/// Findings of two sorts.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// Contents that are damaged.
    pub(super) damaged: Findings,
    /// Contents whose pack is gone or too short.
    pub(super) packs: Findings,
    /// Contents that the index does not have, each as often as it was met.
    pub(super) not_found: u64,
}

impl Faults {
    /// Notes an error that tells of the repository's bytes, and hands back any other. `of` names
    /// the content that was read, by its key, and its pack.
    ///
    /// A content that the index does not have is only counted: who compares the contents in use
    /// with the index names it once.
    pub(super) fn note(
        &self,
        error: RepositoryError,
        of: Option<(&[u8], &BlobId)>,
    ) -> Result<(), RepositoryError> {
        let content = of.and_then(|(key, _)| ContentId::from_key(key).ok());
        let pack = of.map(|(_, pack)| pack.to_string());
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = &mut *noted;
        let (findings, text) = match &error {
            RepositoryError::NoContent { .. } => {
                noted.not_found += 1;
                return Ok(());
            }
            RepositoryError::MissingPack { .. } => {
                (&mut noted.packs, "the pack blob is not there".to_owned())
            }
            RepositoryError::ShortPack { pack_bytes, .. } => {
                let text = format!("it ends behind the pack blob, which has {pack_bytes} bytes");
                (&mut noted.packs, text)
            }
            RepositoryError::Format(_) | RepositoryError::TooMany { .. } => {
                (&mut noted.damaged, error.to_string())
            }
            _ => return Err(error),
        };
        // The finding has the names already.
        let named = content.zip(pack.as_ref());
        let named = named.map(|(content, pack)| format!("content {content} in pack {pack}: "));
        let text = named
            .and_then(|names| text.strip_prefix(&names).map(str::to_owned))
            .unwrap_or(text);
        findings.add(error.code(), pack, content, text);
        Ok(())
    }

    /// Returns what was noted.
    pub(super) fn into_noted(self) -> Noted {
        self.noted
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes an error where faults are noted, and hands it back where they are not.
pub(super) fn noted_or(
    faults: Option<&Faults>,
    error: RepositoryError,
) -> Result<(), RepositoryError> {
    match faults {
        Some(faults) => faults.note(error, None),
        None => Err(error),
    }
}
