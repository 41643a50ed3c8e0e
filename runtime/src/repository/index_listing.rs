//! One look at the index of a repository with epochs: what is committed, and the uncompacted blobs.
//!
//! The order is what makes it safe. Of an epoch that the state calls settled no writer adds blobs
//! any more, so names listed after its markers are all that the epoch will ever have; the other way
//! round a blob could come between the two. Where each request has to be waited for, one listing
//! in the order of names serves all (`xe`, `xn`, `xr`, `xs`, `xw`). Needs no key, so it can be
//! taken while the password key is derived. Memory: the committed state, and one sort of names.

use super::epochs::{EpochBlobLists, EpochState};
use super::index_names::{NamesBuilder, UncompactedNames};
use super::{RepositoryError, Workspace};
use crate::blob::{ScannedBlob, Storage};
use crate::kopia::blob_id::UNCOMPACTED_PREFIX;
use crate::progress::Part;

use super::working_time::WorkingTime;

/// What the names of all index blobs of a repository with epochs begin with.
const EPOCH_INDEX_PREFIX: &str = "x";

/// What the index consists of.
pub struct IndexListing {
    /// Committed state.
    pub state: EpochState,
    /// Uncompacted blobs, listed after its markers.
    pub uncompacted: UncompactedNames,
}

impl IndexListing {
    /// Looks now.
    pub fn take(storage: &Storage, workspace: &Workspace) -> Result<Self, RepositoryError> {
        if storage.waits() {
            return Self::take_at_once(storage, workspace);
        }
        let state = EpochState::load(storage)?;
        let uncompacted = UncompactedNames::scan(storage, workspace)?;
        Ok(Self { state, uncompacted })
    }

    /// Looks with a single listing.
    fn take_at_once(storage: &Storage, workspace: &Workspace) -> Result<Self, RepositoryError> {
        let time = WorkingTime::start(&*workspace.progress);
        let mut names = NamesBuilder::new(workspace);
        let mut lists = EpochBlobLists::default();
        storage.for_each(EPOCH_INDEX_PREFIX, |blob| {
            if !blob.id.as_str().starts_with(UNCOMPACTED_PREFIX) {
                return lists.add(blob);
            }
            names.add_uncompacted(&ScannedBlob {
                id: blob.id.as_str(),
                stored: Some((blob.length, blob.timestamp)),
                locality: 0,
            })
        })?;
        let state = lists.state()?;
        let uncompacted = names.finish()?;
        time.lap(Part::List);
        Ok(Self { state, uncompacted })
    }
}
