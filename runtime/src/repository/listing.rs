//! Lists the index blobs of a repository, used and unused, with what each of them is.
//!
//! The rows come in the order of blob IDs, from a sort ([`super::sorted_listing`]): however many
//! there are, its buffers are held, besides the state of the epochs ([`super::epochs`]) or of the
//! compaction logs. Mirrors `kopia index list --superseded`, which leaves out incomplete sets and
//! what nobody reads.

use std::fmt;

use serde::Serialize;

use crate::blob::BlobMetadata;
use crate::clock::Timestamp;
use crate::kopia::blob_id::{
    BlobId, COMPACTED_EPOCH_PREFIX, INDEX_V0_PREFIX, RANGE_PREFIX, UNCOMPACTED_PREFIX,
    compacted_epoch, range_epochs, set_member, uncompacted_epoch,
};

use super::epochs::{EpochState, IndexSet, IndexSets};
use super::index_set_v0::{BlobUse, IndexSetV0};
use super::sorted_listing::SortedListing;
use super::{Repository, RepositoryError, Workspace};

/// What an index blob is to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IndexBlobState {
    /// Readers use it.
    Active,
    /// Others replace it.
    Superseded,
    /// Its set has missing blobs, so readers do not use it: a writer at work, a crashed one, or
    /// damage.
    Incomplete,
    /// Readers do not look for it: of the other index manager, or of an epoch that has not begun.
    Ignored,
}

impl fmt::Display for IndexBlobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Superseded => "superseded",
            Self::Incomplete => "incomplete",
            Self::Ignored => "ignored",
        })
    }
}

/// One index blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IndexBlobRow {
    /// Its name.
    pub blob: BlobId,
    /// First and last epoch; the same but for ranges. None without epochs.
    pub epochs: Option<(u64, u64)>,
    /// Its length as stored, in bytes.
    pub length_bytes: u64,
    /// Its storage time.
    pub timestamp: Timestamp,
    /// What it is to a reader.
    pub state: IndexBlobState,
}

impl fmt::Display for IndexBlobRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epochs = match self.epochs {
            Some((first, last)) if first == last => format!("epoch {first}"),
            Some((first, last)) => format!("epochs {first} to {last}"),
            None => "-".to_owned(),
        };
        let Self {
            blob,
            length_bytes,
            timestamp,
            state,
            ..
        } = self;
        let time = timestamp.to_string();
        write!(
            f,
            "{blob:<62} {length_bytes:>10} {time:<30} {state:<10} {epochs}"
        )
    }
}

/// Shows every index blob to `visit` in the order of blob IDs, until it returns false.
pub fn list_index_blobs(
    repository: &Repository,
    workspace: &Workspace,
    visit: &mut dyn FnMut(&IndexBlobRow) -> bool,
) -> Result<(), RepositoryError> {
    each_index_blob(repository, workspace, &mut |row| Ok(visit(&row)))
}

/// Shows every index blob to `visit`, until it returns false or an error.
pub(super) fn each_index_blob(
    repository: &Repository,
    workspace: &Workspace,
    visit: &mut dyn FnMut(IndexBlobRow) -> Result<bool, RepositoryError>,
) -> Result<(), RepositoryError> {
    let used = if repository.format.epochs.enabled {
        Used::epochs(EpochState::load(&repository.storage)?)
    } else {
        if !each_v0_blob(repository, workspace, visit)? {
            return Ok(());
        }
        Used::V0
    };
    let prefixes = [
        INDEX_V0_PREFIX,
        UNCOMPACTED_PREFIX,
        RANGE_PREFIX,
        COMPACTED_EPOCH_PREFIX,
    ];
    for prefix in &prefixes[used.prefixes_from()..] {
        let mut blobs = SortedListing::new(repository, workspace, prefix)?;
        while let Some(blob) = blobs.next_blob()? {
            if !visit(used.row(blob))? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Shows the blobs of a repository without epochs. Returns whether more are wanted.
fn each_v0_blob(
    repository: &Repository,
    workspace: &Workspace,
    visit: &mut dyn FnMut(IndexBlobRow) -> Result<bool, RepositoryError>,
) -> Result<bool, RepositoryError> {
    let mut wanted = true;
    let set = IndexSetV0::load(repository, workspace)?;
    set.each_blob(&mut |blob, used| {
        wanted = visit(IndexBlobRow {
            blob: blob.id,
            epochs: None,
            length_bytes: blob.length,
            timestamp: blob.timestamp,
            state: match used {
                BlobUse::Active => IndexBlobState::Active,
                BlobUse::Superseded => IndexBlobState::Superseded,
                BlobUse::Poison => IndexBlobState::Ignored,
            },
        })?;
        Ok(wanted)
    })?;
    Ok(wanted)
}

/// What readers use.
enum Used {
    Epochs {
        state: Box<EpochState>,
        /// Epochs of which the uncompacted blobs are read, ascending.
        epochs: Vec<u64>,
    },
    /// Nothing of what is called as if there were epochs.
    V0,
}

impl Used {
    /// Returns how many kinds of names were shown already.
    fn prefixes_from(&self) -> usize {
        usize::from(matches!(self, Self::V0))
    }

    fn epochs(state: EpochState) -> Self {
        let (_, epochs) = state.selection();
        Self::Epochs {
            state: Box::new(state),
            epochs,
        }
    }

    fn row(&self, blob: BlobMetadata) -> IndexBlobRow {
        let (epochs, state) = self.look_up(&blob.id);
        IndexBlobRow {
            blob: blob.id,
            epochs,
            length_bytes: blob.length,
            timestamp: blob.timestamp,
            state,
        }
    }

    fn look_up(&self, blob: &BlobId) -> (Option<(u64, u64)>, IndexBlobState) {
        let name = blob.as_str();
        let single = |epoch| (epoch, epoch);
        let range = if name.starts_with(UNCOMPACTED_PREFIX) {
            uncompacted_epoch(name).map(single)
        } else if name.starts_with(RANGE_PREFIX) {
            range_epochs(name)
        } else {
            compacted_epoch(name).map(single)
        };
        let state = match (self, range) {
            (Self::Epochs { state, epochs }, Some(range)) => {
                if name.starts_with(UNCOMPACTED_PREFIX) {
                    uncompacted_state(state, epochs, range.0)
                } else if name.starts_with(RANGE_PREFIX) {
                    let chosen = is_read(state, range);
                    set_state(state.ranges.get(&range), chosen, blob)
                } else {
                    let chosen = range.0 >= state.chain_end() && state.is_settled(range.0);
                    set_state(state.singles.get(&range.0), chosen, blob)
                }
            }
            _ => IndexBlobState::Ignored,
        };
        (range, state)
    }
}

fn uncompacted_state(state: &EpochState, epochs: &[u64], epoch: u64) -> IndexBlobState {
    if epochs.binary_search(&epoch).is_ok() {
        IndexBlobState::Active
    } else if epoch > state.write_epoch {
        IndexBlobState::Ignored
    } else {
        IndexBlobState::Superseded
    }
}

/// Returns whether readers use a range of the chain; not one of a single epoch
/// ([`EpochState::selection`]).
fn is_read(state: &EpochState, range: (u64, u64)) -> bool {
    state.chain.contains(&range) && range.1 > range.0
}

/// Finds the set of `blob`. `chosen` tells whether readers use a set for these epochs at all.
fn set_state(sets: Option<&IndexSets>, chosen: bool, blob: &BlobId) -> IndexBlobState {
    let Some(sets) = sets else {
        return IndexBlobState::Ignored; // written since the epochs were looked at
    };
    // Sets have names of their own, so one blob of a set tells; one without a set is a set alone.
    let own = |set: &&IndexSet| match set_member(blob.as_str()) {
        Some(member) => set.blobs.iter().any(|other| {
            set_member(other.id.as_str()).is_some_and(|other| other.set == member.set)
        }),
        None => set.blobs.iter().any(|other| other.id == *blob),
    };
    if sets.incomplete.iter().any(|set| own(&set)) {
        return IndexBlobState::Incomplete;
    }
    match sets.complete.first().filter(own) {
        Some(_) if chosen => IndexBlobState::Active,
        _ => IndexBlobState::Superseded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str], count: u32) -> IndexSet {
        let blob = |name: &&str| BlobMetadata {
            id: BlobId::from(*name),
            length: 1,
            timestamp: Timestamp::from_seconds(1),
        };
        IndexSet {
            blobs: names.iter().map(blob).collect(),
            count,
        }
    }

    fn state() -> EpochState {
        let sets = |complete: Vec<IndexSet>, incomplete| IndexSets {
            complete,
            incomplete,
        };
        let first = set(&["xs2_a-s1-c1"], 1);
        let second = set(&["xs2_b-s2-c2", "xs2_c-s2-c2"], 2);
        let open = set(&["xs4_d-s3-c2"], 2);
        let covered = set(&["xs1_e"], 1);
        let early = set(&["xs5_f"], 1);
        EpochState {
            write_epoch: 6,
            markers: vec![],
            watermark_seconds: None,
            watermarks: vec![],
            singles: [
                (1, sets(vec![covered], vec![])),
                (2, sets(vec![first, second], vec![])),
                (4, sets(vec![], vec![open])),
                (5, sets(vec![early], vec![])),
            ]
            .into(),
            ranges: [
                ((0, 1), sets(vec![set(&["xr0_1_a"], 1)], vec![])),
                ((8, 9), sets(vec![set(&["xr8_9_a"], 1)], vec![])),
            ]
            .into(),
            chain: vec![(0, 1)],
        }
    }

    #[test]
    fn every_blob_has_the_state_that_readers_give_it() {
        use IndexBlobState::{Active, Ignored, Incomplete, Superseded};
        let used = Used::epochs(state());
        for (name, expected) in [
            ("n00", Ignored),
            ("xn1_a", Superseded),
            ("xn2_a", Superseded),
            ("xn3_a", Active),
            ("xn4_a", Active),
            ("xn5_a", Active),
            ("xn7_a", Active),
            ("xn8_a", Ignored),
            ("xn_", Ignored),
            ("xr0_1_a", Active),
            ("xr8_9_a", Superseded),
            ("xs1_e", Superseded),
            ("xs2_a-s1-c1", Active),
            ("xs2_b-s2-c2", Superseded),
            ("xs4_d-s3-c2", Incomplete),
            ("xs5_f", Superseded),
            ("xs9_new", Ignored),
        ] {
            assert_eq!(used.look_up(&name.into()).1, expected, "{name}");
        }
        assert_eq!(used.look_up(&"xr0_1_a".into()).0, Some((0, 1)));
    }

    #[test]
    fn without_epochs_nothing_of_them_counts() {
        let state = |name: &str| Used::V0.look_up(&name.into()).1;
        assert_eq!(state("xn0_a"), IndexBlobState::Ignored);
        assert_eq!(state("xs0_a"), IndexBlobState::Ignored);
    }
}
