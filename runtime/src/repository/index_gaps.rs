//! Epochs of which a reader would silently go on with fewer entries, since index blobs are gone.
//!
//! Kopia does not look: without a complete set it takes the uncompacted blobs that are listed,
//! whatever there are. But the names tell how many blobs a set has, and nobody writes to a settled
//! epoch any more, so there a set with gaps is a loss. Maintenance stops on it, verification
//! reports it. Memory: one gap.

use super::RepositoryError;
use super::epochs::EpochState;
use super::index_names::UncompactedNames;

/// What is missing of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexGap {
    /// The epoch.
    pub epoch: u64,
    /// What is missing.
    pub reason: String,
}

/// Returns the gaps in the order of epochs.
pub fn index_gaps<'a>(
    state: &'a EpochState,
    uncompacted: &'a UncompactedNames,
) -> impl Iterator<Item = IndexGap> + 'a {
    let epochs = state.chain_end()..=state.write_epoch + 1;
    epochs.filter_map(|epoch| gap(state, uncompacted, epoch))
}

/// Stops where a reader would silently go on with fewer entries.
pub fn check_nothing_vanished(
    state: &EpochState,
    uncompacted: &UncompactedNames,
) -> Result<(), RepositoryError> {
    match index_gaps(state, uncompacted).next() {
        Some(IndexGap { epoch, reason }) => Err(RepositoryError::IncompleteIndex { epoch, reason }),
        None => Ok(()),
    }
}

fn gap(state: &EpochState, uncompacted: &UncompactedNames, epoch: u64) -> Option<IndexGap> {
    if !state.is_settled(epoch) || state.single(epoch).is_some() {
        return None;
    }
    let row = uncompacted.epochs.get(&epoch);
    if let Some(set) = row.and_then(|row| row.incomplete_sets.first()) {
        let reason = format!("a set of uncompacted index blobs has gaps: {set}");
        return Some(IndexGap { epoch, reason });
    }
    let broken = state.singles.get(&epoch)?.incomplete.first()?;
    if row.is_some() {
        return None; // a compaction that died: its inputs are still there
    }
    let (found, count) = (broken.blobs.len(), broken.count);
    let reason = format!("only {found} of {count} compacted index blobs are there");
    Some(IndexGap { epoch, reason })
}
