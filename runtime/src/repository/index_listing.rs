//! One look at the index of a repository with epochs: what is committed, and the uncompacted blobs.
//!
//! The order is what makes it safe. Of an epoch that the state calls settled no writer adds blobs
//! any more, so names listed after it are all that the epoch will ever have; the other way round a
//! blob could come between the two. Needs no key, so it can be taken while the password key is
//! derived. Memory: the committed state, and one sort of names.

use super::epochs::EpochState;
use super::index_names::UncompactedNames;
use super::{RepositoryError, Workspace};
use crate::blob::Storage;

/// What the index consists of.
pub struct IndexListing {
    /// Committed state.
    pub state: EpochState,
    /// Uncompacted blobs, listed after it.
    pub uncompacted: UncompactedNames,
}

impl IndexListing {
    /// Looks now.
    pub fn take(storage: &Storage, workspace: &Workspace) -> Result<Self, RepositoryError> {
        let state = EpochState::load(storage)?;
        let uncompacted = UncompactedNames::scan(storage, workspace)?;
        Ok(Self { state, uncompacted })
    }
}
