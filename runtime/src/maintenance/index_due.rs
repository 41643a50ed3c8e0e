//! What index work Kopia's rules make due, and what has to wait: decided here once, for the plan of
//! a run and for the status.
//!
//! Looks at names and times only. Storage times: whatever a client's clock says, the newest index
//! blob of the open epochs tells the time. Which ranges are joined is not here, the strategy of a
//! run decides it. Mirrors Kopia's `internal/epoch/epoch_manager.go`. Memory: one number an epoch,
//! and the names of old markers.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::clock::Timestamp;
use crate::kopia::blob_id::{BlobId, epoch_marker, watermark_seconds};
use crate::kopia::format_blob::EpochParameters;
use crate::repository::epoch_blobs::EpochBlobs;
use crate::repository::epochs::EpochState;
use crate::repository::index_names::UncompactedRow;

use super::index_plan::Advance;

/// Work that is due, and what stands in the way of more.
pub(super) struct IndexDue {
    /// Newest storage time of the open epochs less the safety margin: what replaced blobs must be
    /// older than. `None` where no index blob tells the storage's time, and then nothing is
    /// cleaned.
    pub(super) cut: Option<Timestamp>,
    /// Settled epochs that have no set yet, up to the first empty one.
    pub(super) compact: Vec<u64>,
    /// That empty one, if there is any.
    pub(super) jam: Option<u64>,
    /// Whether writers go on to the next epoch.
    pub(super) advance: Advance,
    /// Markers that say nothing a later one does not say.
    pub(super) markers: Vec<BlobId>,
    /// Watermarks that a later one replaced.
    pub(super) watermarks: Vec<BlobId>,
    /// Epochs whose set has replaced their uncompacted blobs for long enough.
    pub(super) superseded: Vec<u64>,
    /// Epochs whose set is younger than that.
    pub(super) waiting: Vec<u64>,
}

impl IndexDue {
    /// Decides. `rows` are the epochs with uncompacted blobs, `blobs` tells more of the open ones
    /// at least.
    pub(super) fn find(
        state: &EpochState,
        rows: &BTreeMap<u64, UncompactedRow>,
        blobs: &BTreeMap<u64, EpochBlobs>,
        parameters: &EpochParameters,
    ) -> Self {
        let newest = blobs.range(open_epochs(state));
        let newest = newest.filter(|(_, blobs)| blobs.count > 0);
        let newest = newest.map(|(_, blobs)| blobs.newest).max();
        let cut = newest.map(|newest| newest.minus(parameters.cleanup_safety_margin));
        let (compact, jam) = to_compact(state, rows);
        let current = blobs.get(&state.write_epoch).copied().unwrap_or_default();
        let (advance, because) = current.should_advance(parameters);
        let (markers, watermarks) = cut.map_or_else(Default::default, |cut| stale(state, cut));
        let replaced = rows.keys().copied().filter(|epoch| {
            let set = state.single(*epoch);
            set.is_some() && state.is_settled(*epoch)
        });
        let is_old = |epoch: &u64| {
            let set = state.single(*epoch);
            cut.is_some_and(|cut| set.is_some_and(|set| set.newest() < cut))
        };
        let (superseded, waiting) = replaced.partition(is_old);
        Self {
            cut,
            compact,
            jam,
            advance: Advance {
                advance,
                because,
                since: (current.count > 0).then_some(current.oldest),
            },
            markers,
            watermarks,
            superseded,
            waiting,
        }
    }
}

/// Returns the epochs that may still be written; another client may have advanced the write epoch.
pub(super) fn open_epochs(state: &EpochState) -> RangeInclusive<u64> {
    state.write_epoch.saturating_sub(1)..=state.write_epoch + 1
}

/// Returns the settled epochs that have no set yet, up to the first empty one, and that.
fn to_compact(state: &EpochState, rows: &BTreeMap<u64, UncompactedRow>) -> (Vec<u64>, Option<u64>) {
    let mut epochs = Vec::new();
    let Some(last) = state.last_settled() else {
        return (epochs, None);
    };
    for epoch in state.chain_end()..=last {
        if state.single(epoch).is_some() {
            continue;
        }
        if !rows.contains_key(&epoch) {
            return (epochs, Some(epoch));
        }
        epochs.push(epoch);
    }
    (epochs, None)
}

/// Returns markers and watermarks that nobody needs any more. Markers up to the write epoch minus
/// two say nothing that a later one does not say. An old watermark is kept for the safety margin: a
/// client may not have seen the new one yet.
fn stale(state: &EpochState, cut: Timestamp) -> (Vec<BlobId>, Vec<BlobId>) {
    let stale_marker =
        |name: &str| epoch_marker(name).is_some_and(|epoch| epoch + 1 < state.write_epoch);
    let markers = state.markers.iter().map(|blob| &blob.id);
    let markers = markers.filter(|id| stale_marker(id.as_str()));
    let replaced = |name: &str| {
        watermark_seconds(name).is_some_and(|seconds| Some(seconds) != state.watermark_seconds)
    };
    let watermarks = state.watermarks.iter();
    let watermarks = watermarks.filter(|blob| replaced(blob.id.as_str()) && blob.timestamp < cut);
    let watermarks = watermarks.map(|blob| blob.id.clone());
    (markers.cloned().collect(), watermarks.collect())
}
