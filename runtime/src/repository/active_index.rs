//! The complete index as a reader uses it, with epochs or without: what all views load.
//!
//! Kopia's clients find the blobs in two ways, by epochs (`xn`, `xs`, `xr`) or by compaction logs
//! (`n`, `m`). Here both become a list of inputs for [`load`]; left-overs of the other way are
//! never among them. Memory: what both ways hold, bounded there; names are in scratch. Mirrors
//! `ListActiveIndexBlobs` of Kopia's two managers in `repo/content/indexblob`.

use super::epochs::EpochState;
use super::index_gaps::check_nothing_vanished;
use super::index_listing::IndexListing;
use super::index_load::{Input, InputBlobs, Loaded, Strictness, load};
use super::index_names::UncompactedNames;
use super::index_set_v0::{CHOSEN_GROUP, IndexSetV0};
use super::{Repository, RepositoryError, Workspace};

/// Fresh listings after which a vanished blob is an error.
const ATTEMPTS_MAX: u32 = 10;

/// What decides which index blobs a reader uses.
#[derive(Debug)]
pub enum IndexSource {
    /// The epochs.
    Epochs(EpochState),
    /// Compaction logs: a repository without epochs.
    V0(Box<IndexSetV0>),
}

/// The index blobs that a reader uses.
pub struct ActiveIndex {
    /// How they are found.
    pub source: IndexSource,
    /// All `xn` blobs; without epochs those `n` blobs that a reader uses, as epoch 0.
    pub uncompacted: UncompactedNames,
}

impl ActiveIndex {
    /// Lists the repository's index blobs.
    pub fn find(repository: &Repository, workspace: &Workspace) -> Result<Self, RepositoryError> {
        if repository.format.epochs.enabled {
            let start = repository.clock.now();
            let IndexListing { state, uncompacted } =
                IndexListing::take(&repository.storage, workspace)?;
            repository.last_write_epoch.note(state.write_epoch, start);
            return Ok(Self {
                source: IndexSource::Epochs(state),
                uncompacted,
            });
        }
        Self::of_v0(IndexSetV0::load(repository, workspace)?, workspace)
    }

    /// The same for those who only look: notes of the V0 manager that cannot be read are among what
    /// is found ([`IndexSetV0::load_damaged`]).
    pub fn find_damaged(
        repository: &Repository,
        workspace: &Workspace,
    ) -> Result<Self, RepositoryError> {
        if repository.format.epochs.enabled {
            return Self::find(repository, workspace);
        }
        Self::of_v0(IndexSetV0::load_damaged(repository, workspace)?, workspace)
    }

    fn of_v0(set: IndexSetV0, workspace: &Workspace) -> Result<Self, RepositoryError> {
        Ok(Self {
            uncompacted: set.active_names(workspace, &|_| true)?,
            source: IndexSource::V0(Box::new(set)),
        })
    }

    /// Stops where a reader would silently go on with fewer entries.
    pub fn check_nothing_vanished(&self) -> Result<(), RepositoryError> {
        match &self.source {
            IndexSource::Epochs(state) => check_nothing_vanished(state, &self.uncompacted),
            IndexSource::V0(set) => set.check_nothing_lost(),
        }
    }

    /// Returns all of them as inputs of a load; without `target` only for their system contents.
    pub fn inputs(&self, target: Option<u8>) -> Vec<Input<'_>> {
        let input = |blobs| Input {
            target,
            source: 0,
            blobs,
        };
        match &self.source {
            IndexSource::V0(_) => vec![input(InputBlobs::Uncompacted(CHOSEN_GROUP))],
            IndexSource::Epochs(state) => {
                let (sets, epochs) = state.selection();
                let sets = sets.into_iter().map(InputBlobs::Set);
                let epochs = epochs
                    .into_iter()
                    .filter(|epoch| self.uncompacted.blobs(*epoch) > 0)
                    .map(InputBlobs::Uncompacted);
                sets.chain(epochs).map(input).collect()
            }
        }
    }

    /// Loads all of them. A blob that is gone is [`RepositoryError::Vanished`]: time for a fresh
    /// listing.
    pub fn load(
        &self,
        repository: &Repository,
        workspace: &Workspace,
        target: Option<u8>,
        strictness: Strictness,
    ) -> Result<Loaded, RepositoryError> {
        let (names, inputs) = (&self.uncompacted, self.inputs(target));
        workspace.step("read the index", "index blobs", None, || {
            load(repository, workspace, names, &inputs, strictness)
        })
    }

    /// Returns up to which second tombstones are as if absent; never without epochs.
    pub fn watermark_seconds(&self) -> Option<i64> {
        match &self.source {
            IndexSource::Epochs(state) => state.watermark_seconds,
            IndexSource::V0(_) => None,
        }
    }

    /// Returns the state of the epochs, if there are any.
    pub fn epochs(&self) -> Option<&EpochState> {
        match &self.source {
            IndexSource::Epochs(state) => Some(state),
            IndexSource::V0(_) => None,
        }
    }
}

/// Finds and loads the complete index. A blob that vanishes meanwhile (another client at work) is
/// a fresh start, at most [`ATTEMPTS_MAX`] times.
pub fn load_active(
    repository: &Repository,
    workspace: &Workspace,
    target: Option<u8>,
    strictness: Strictness,
) -> Result<(ActiveIndex, Loaded), RepositoryError> {
    with_fresh_listings(|| {
        let active = ActiveIndex::find(repository, workspace)?;
        let loaded = active.load(repository, workspace, target, strictness)?;
        Ok((active, loaded))
    })
}

/// Repeats `attempt`, which lists afresh, while a listed index blob is gone when it is read.
pub fn with_fresh_listings<T>(
    mut attempt: impl FnMut() -> Result<T, RepositoryError>,
) -> Result<T, RepositoryError> {
    let mut attempts = 1;
    loop {
        match attempt() {
            Err(RepositoryError::Vanished { blob, .. }) if attempts == ATTEMPTS_MAX => {
                return Err(RepositoryError::Vanished { blob, attempts });
            }
            Err(RepositoryError::Vanished { blob, .. }) => {
                tracing::warn!(blob, attempts, "index blob vanished: listing again");
                attempts += 1;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vanished_blob_is_a_fresh_start_ten_times() {
        let vanished = || RepositoryError::Vanished {
            blob: "xn0_".into(),
            attempts: 1,
        };
        let mut calls = 0;
        let found = with_fresh_listings(|| {
            calls += 1;
            if calls < 10 {
                Err(vanished())
            } else {
                Ok(calls)
            }
        });
        assert_eq!(found.unwrap(), 10);
        let never: Result<(), _> = with_fresh_listings(|| Err(vanished()));
        let Err(RepositoryError::Vanished { attempts: 10, .. }) = never else {
            panic!("{never:?}")
        };
        let other: Result<(), _> = with_fresh_listings(|| Err(RepositoryError::Interrupted));
        assert_eq!(other.unwrap_err().code(), "interrupted");
    }
}
