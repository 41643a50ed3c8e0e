//! Tasks `compact-single-epoch` and `generate-epoch-range-index`, and the rescue of open epochs:
//! all of them merge index blobs and write the result as one complete set.
//!
//! All targets of a round are loaded in one pass and merged in one pass; every set becomes visible
//! with its last blob and is ignored by readers until then, so a crash leaves nothing that matters.
//! Nothing is dropped but losers: tombstones stay. Mirrors `CompactEpoch` of Kopia's
//! `index_blob_manager_v1.go`.

use crate::kopia::blob_id::{BlobId, compaction_suffix, xn_prefix, xr_prefix, xs_prefix};
use crate::repository::epochs::EpochState;
use crate::repository::index_load::{Input, InputBlobs, Loaded, Strictness, load};
use crate::repository::index_names::UncompactedNames;
use crate::repository::index_writer::{FinishedIndex, write_indexes};
use crate::repository::sealing::put_index;
use crate::repository::{Repository, RepositoryError, Workspace};

use super::MaintenanceError;

/// Targets of one round; the number of a target is a byte.
pub const TARGETS_MAX: usize = 200;

/// What a target's set is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// `xs` of a settled epoch.
    Single(u64),
    /// `xr` of settled epochs, both ends included.
    Range(u64, u64),
    /// `xn` of an open epoch.
    Uncompacted(u64),
}

impl Output {
    fn prefix(self) -> String {
        match self {
            Self::Single(epoch) => xs_prefix(epoch),
            Self::Range(first, last) => xr_prefix(first, last),
            Self::Uncompacted(epoch) => xn_prefix(epoch),
        }
    }

    /// Returns whether the blobs of `epoch` are merged into this set.
    pub fn takes(self, epoch: u64) -> bool {
        match self {
            Self::Single(own) | Self::Uncompacted(own) => own == epoch,
            Self::Range(first, last) => (first..=last).contains(&epoch),
        }
    }
}

/// A set that was written.
pub struct WrittenSet {
    /// What it is.
    pub output: Output,
    /// Its blobs.
    pub blobs: Vec<BlobId>,
}

/// Loads the inputs of `outputs` and, for their system contents, all other blobs that a reader uses
/// where `everything` is set.
pub fn load_round(
    repository: &Repository,
    workspace: &Workspace,
    state: &EpochState,
    uncompacted: &UncompactedNames,
    outputs: &[Output],
    everything: bool,
) -> Result<Loaded, RepositoryError> {
    assert!(
        outputs.len() <= TARGETS_MAX,
        "a round has at most {TARGETS_MAX} targets"
    );
    let (sets, epochs) = state.selection();
    let target_of = |epoch: u64| {
        outputs
            .iter()
            .position(|output| output.takes(epoch))
            .map(|target| target as u8)
    };
    let mut inputs = Vec::new();
    let mut total = 0;
    for set in sets {
        let epoch = set
            .blobs
            .first()
            .and_then(|blob| single_epoch(blob.id.as_str()));
        let target = epoch.and_then(target_of);
        if target.is_some() || everything {
            total += set.blobs.len() as u64;
            inputs.push(Input {
                target,
                source: 0,
                blobs: InputBlobs::Set(set),
            });
        }
    }
    for epoch in epochs {
        let target = target_of(epoch);
        if target.is_some() || everything {
            total += uncompacted.blobs(epoch);
            inputs.push(Input {
                target,
                source: 0,
                blobs: InputBlobs::Uncompacted(epoch),
            });
        }
    }
    workspace.step("read index blobs", "blobs", Some(total), || {
        let strictness = Strictness::ForWriting;
        load(repository, workspace, uncompacted, &inputs, strictness)
    })
}

/// Merges what was loaded and writes a set for every target that has any entry.
pub fn write_round(
    repository: &Repository,
    workspace: &Workspace,
    loaded: Loaded,
    outputs: &[Output],
    shard_entries: u64,
) -> Result<Vec<WrittenSet>, MaintenanceError> {
    let records = Some(loaded.records.records());
    let finished = workspace.step("merge", "entries", records, || {
        write_indexes(repository, workspace, &loaded, shard_entries)
    })?;
    drop(loaded);
    let mut written = Vec::new();
    let mut finished = finished.into_iter().peekable();
    while let Some(target) = finished.peek().map(|index| index.target) {
        let mut set = Vec::new();
        while let Some(index) = finished.next_if(|index| index.target == target) {
            set.push(index);
        }
        let output = outputs.get(usize::from(target)).copied();
        let output = output.ok_or(RepositoryError::Interrupted)?;
        let blobs = write_set(repository, workspace, set, &output.prefix())?;
        written.push(WrittenSet { output, blobs });
    }
    Ok(written)
}

/// Writes all blobs of a set under one fresh suffix.
fn write_set(
    repository: &Repository,
    workspace: &Workspace,
    set: Vec<FinishedIndex>,
    prefix: &str,
) -> Result<Vec<BlobId>, MaintenanceError> {
    let suffix = compaction_suffix(repository.random(), set.len() as u32);
    let bytes = set.iter().map(|index| index.image.plain_bytes()).sum();
    let mut put = |index: FinishedIndex| {
        let bytes = index.image.plain_bytes();
        let blob = put_index(repository, workspace, index, prefix, &suffix)?.0;
        workspace.progress.advance(bytes);
        Ok(blob)
    };
    workspace.step("write index blobs", "bytes", Some(bytes), || {
        set.into_iter().map(&mut put).collect()
    })
}

/// Returns the epoch of a single-epoch set; a range belongs to no single epoch.
fn single_epoch(name: &str) -> Option<u64> {
    name.starts_with("xs")
        .then(|| crate::kopia::blob_id::compacted_epoch(name))
        .flatten()
}
