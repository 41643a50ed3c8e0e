//! The epochs of a repository: which sets of index blobs there are, and which of them a reader
//! uses.
//!
//! Memory: the compacted sets (`xs`, `xr`) and markers are held, at most [`SETS_MAX`] blobs of
//! about 150 bytes; one row an epoch for the uncompacted blobs (`xn`), of which there may be any
//! number and whose names are only ever streamed. Epochs last a day by default, so the maxima stand
//! for decades.
//!
//! Invariant: what is a complete set, which of several a reader takes, and where the range chain
//! ends are decided exactly as Kopia does. Mirrors `internal/epoch/epoch_manager.go` and
//! `epoch_range.go`.

use std::collections::{BTreeMap, HashMap};

use crate::blob::BlobMetadata;
use crate::blob::Storage;
use crate::clock::Timestamp;
use crate::kopia::blob_id::{
    BlobId, compacted_epoch, epoch_marker, range_epochs, watermark_seconds,
};
use crate::kopia::complete_set::group_sets;

use super::RepositoryError;

/// Most blobs of compacted sets, and most markers: 10 MB of names.
pub const SETS_MAX: usize = 50_000;

/// Highest write epoch; readers go through all epochs up to it. At ten minutes an epoch, the least
/// that Kopia allows, it stands for 19 years.
pub const WRITE_EPOCH_MAX: u64 = 1_000_000;

/// Epochs that are never compacted: the newest two.
pub const UNSETTLED_EPOCHS: u64 = 2;

/// A set of index blobs that make sense only together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexSet {
    /// The blobs, in listing order.
    pub blobs: Vec<BlobMetadata>,
    /// Blobs that the set must have.
    pub count: u32,
}

impl IndexSet {
    /// Returns the storage time of the newest blob.
    pub fn newest(&self) -> Timestamp {
        self.blobs
            .iter()
            .map(|blob| blob.timestamp)
            .max()
            .unwrap_or_default()
    }
}

/// Sets for the same epochs; equivalent, if whoever wrote them was right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexSets {
    /// Complete sets, the one that a reader takes first.
    pub complete: Vec<IndexSet>,
    /// Sets with missing blobs: a writer at work or a crashed one, or damage. Readers ignore them.
    pub incomplete: Vec<IndexSet>,
}

/// The committed state: everything but the names of the uncompacted blobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochState {
    /// Epoch that writers write to.
    pub write_epoch: u64,
    /// Markers `xe`.
    pub markers: Vec<BlobMetadata>,
    /// Tombstones of this second and before are as if absent; `None` without a watermark.
    pub watermark_seconds: Option<i64>,
    /// Blobs `xw`.
    pub watermarks: Vec<BlobMetadata>,
    /// Sets `xs` by epoch.
    pub singles: BTreeMap<u64, IndexSets>,
    /// Sets `xr` by first and last epoch.
    pub ranges: BTreeMap<(u64, u64), IndexSets>,
    /// The chain of ranges that a reader uses, from epoch 0 on.
    pub chain: Vec<(u64, u64)>,
}

impl EpochState {
    /// Lists markers, watermarks and compacted sets.
    pub fn load(storage: &Storage) -> Result<Self, RepositoryError> {
        let mut lists = EpochBlobLists::default();
        for prefix in ["xe", "xw", "xs", "xr"] {
            storage.for_each(prefix, |blob| lists.add(blob))?;
        }
        lists.state()
    }

    /// Lists the markers, and returns the epoch that writers write to.
    pub fn load_write_epoch(storage: &Storage) -> Result<u64, RepositoryError> {
        let mut lists = EpochBlobLists::default();
        storage.for_each("xe", |blob| lists.add(blob))?;
        Ok(lists.state()?.write_epoch)
    }

    /// Lists the deletion watermarks, and returns the second up to which tombstones are as if
    /// absent.
    pub fn load_watermark_seconds(storage: &Storage) -> Result<Option<i64>, RepositoryError> {
        let mut lists = EpochBlobLists::default();
        storage.for_each("xw", |blob| lists.add(blob))?;
        Ok(lists.state()?.watermark_seconds)
    }

    /// Returns the newest settled epoch: no writer may still write to it.
    pub fn last_settled(&self) -> Option<u64> {
        self.write_epoch.checked_sub(UNSETTLED_EPOCHS)
    }

    /// Returns whether `epoch` is settled.
    pub fn is_settled(&self, epoch: u64) -> bool {
        self.last_settled().is_some_and(|last| epoch <= last)
    }

    /// Returns the first epoch after the range chain.
    pub fn chain_end(&self) -> u64 {
        self.chain.last().map_or(0, |(_, max)| max + 1)
    }

    /// Returns the complete `xs` set that a reader takes for `epoch`, settled or not.
    pub fn single(&self, epoch: u64) -> Option<&IndexSet> {
        self.singles.get(&epoch)?.complete.first()
    }

    /// Returns the compacted sets that a reader uses, and the epochs whose `xn` blobs it reads as
    /// they are.
    ///
    /// The second range reaches one above the write epoch, since another client may have advanced
    /// it.
    pub fn selection(&self) -> (Vec<&IndexSet>, Vec<u64>) {
        let (mut sets, mut epochs, mut start) = (Vec::new(), Vec::new(), 0);
        for range in &self.chain {
            // A range of one epoch makes readers lose that epoch; the same condition as Kopia's.
            if range.1 > start {
                sets.extend(
                    self.ranges
                        .get(range)
                        .and_then(|sets| sets.complete.first()),
                );
                start = range.1 + 1;
            }
        }
        for epoch in start..=self.write_epoch + 1 {
            match self.single(epoch) {
                Some(set) if self.is_settled(epoch) => sets.push(set),
                _ => epochs.push(epoch),
            }
        }
        (sets, epochs)
    }

    /// Returns the oldest epoch that Kopia would compact next, settled or not: after the chain and
    /// after the unbroken row of compacted epochs that begins there.
    pub fn oldest_uncompacted(&self) -> u64 {
        let mut epoch = self.chain_end();
        while self.single(epoch).is_some() {
            epoch += 1;
        }
        epoch
    }
}

/// The blobs that say what is committed, by kind, as they are listed: at most [`SETS_MAX`] of each.
#[derive(Default)]
pub(super) struct EpochBlobLists {
    markers: Vec<BlobMetadata>,
    watermarks: Vec<BlobMetadata>,
    singles: Vec<BlobMetadata>,
    ranges: Vec<BlobMetadata>,
}

impl EpochBlobLists {
    /// Takes in a blob, each kind in listing order; names of no kind are not ours.
    ///
    /// # Errors
    /// More of a kind than their number, bounded by the age of the repository, can be.
    pub(super) fn add(&mut self, blob: BlobMetadata) -> Result<(), RepositoryError> {
        let (list, what) = match blob.id.as_str().get(..2) {
            Some("xe") => (&mut self.markers, "epoch markers"),
            Some("xw") => (&mut self.watermarks, "deletion watermarks"),
            Some("xs") => (&mut self.singles, "single-epoch compaction blobs"),
            Some("xr") => (&mut self.ranges, "range checkpoint blobs"),
            _ => return Ok(()),
        };
        if list.len() == SETS_MAX {
            return Err(RepositoryError::TooMany {
                what,
                maximum: SETS_MAX,
            });
        }
        list.push(blob);
        Ok(())
    }

    /// Returns what they mean together.
    pub(super) fn state(self) -> Result<EpochState, RepositoryError> {
        let markers = self.markers.iter();
        let write_epoch = markers
            .filter_map(|blob| epoch_marker(blob.id.as_str()))
            .max()
            .unwrap_or(0);
        if write_epoch > WRITE_EPOCH_MAX {
            return Err(RepositoryError::TooMany {
                what: "epochs",
                maximum: WRITE_EPOCH_MAX as usize,
            });
        }
        let watermarks = self.watermarks.iter();
        let watermark_seconds = watermarks
            .filter_map(|blob| watermark_seconds(blob.id.as_str()))
            .max();
        let singles = group(self.singles, compacted_epoch);
        let ranges = group(self.ranges, range_epochs);
        let complete = ranges
            .iter()
            .filter(|(_, sets)| !sets.complete.is_empty())
            .map(|(range, _)| *range);
        let chain = longest_chain(complete);
        Ok(EpochState {
            write_epoch,
            markers: self.markers,
            watermark_seconds,
            watermarks: self.watermarks,
            singles,
            ranges,
            chain,
        })
    }
}

/// Groups blobs by the epochs in their names and then into sets; names that do not parse are not
/// ours.
fn group<K: Ord>(
    blobs: Vec<BlobMetadata>,
    epochs_of: fn(&str) -> Option<K>,
) -> BTreeMap<K, IndexSets> {
    let mut by_epoch: BTreeMap<K, Vec<BlobMetadata>> = BTreeMap::new();
    for blob in blobs {
        if let Some(epochs) = epochs_of(blob.id.as_str()) {
            by_epoch.entry(epochs).or_default().push(blob);
        }
    }
    by_epoch
        .into_iter()
        .map(|(epochs, blobs)| (epochs, index_sets(blobs)))
        .collect()
}

/// Divides the blobs of the same epochs into sets, complete ones in the order in which they become
/// complete.
fn index_sets(blobs: Vec<BlobMetadata>) -> IndexSets {
    let names: Vec<BlobId> = blobs.iter().map(|blob| blob.id.clone()).collect();
    let mut by_name: HashMap<BlobId, BlobMetadata> = blobs
        .into_iter()
        .map(|blob| (blob.id.clone(), blob))
        .collect();
    let mut sets = IndexSets::default();
    for group in group_sets(&names) {
        let members = group.members.iter();
        let blobs = members.filter_map(|name| by_name.remove(name)).collect();
        let set = IndexSet {
            blobs,
            count: group.count,
        };
        if group.complete {
            sets.complete.push(set);
        } else {
            sets.incomplete.push(set);
        }
    }
    sets
}

/// Returns the chain of ranges from epoch 0 that reaches furthest, among equal ones the one of
/// fewest ranges.
fn longest_chain(ranges: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut by_min: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (min, max) in ranges.filter(|(min, max)| min <= max) {
        by_min.entry(min).or_default().push(max);
    }
    // From the highest start down, so that what a range continues with is known: end, ranges, first
    // range's end.
    let mut best: BTreeMap<u64, (u64, usize, u64)> = BTreeMap::new();
    for (min, ends) in by_min.iter().rev() {
        for max in ends {
            let next = max.checked_add(1).and_then(|start| best.get(&start));
            let (end, length) = next.map_or((*max, 1), |(end, length, _)| (*end, length + 1));
            let better = best.get(min).is_none_or(|(best_end, best_length, _)| {
                end > *best_end || (end == *best_end && length < *best_length)
            });
            // Kopia never chooses a chain that ends at epoch 0.
            if better && end > 0 {
                best.insert(*min, (end, length, *max));
            }
        }
    }
    let (mut chain, mut start) = (Vec::new(), 0);
    while let Some((_, _, max)) = best.get(&start) {
        chain.push((start, *max));
        start = max + 1;
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(name: &str) -> BlobMetadata {
        BlobMetadata {
            id: BlobId::new(name),
            length: 1,
            timestamp: Timestamp::from_seconds(1),
        }
    }

    #[test]
    fn chain_reaches_furthest_with_fewest_ranges() {
        let chain = |ranges: &[(u64, u64)]| longest_chain(ranges.iter().copied());
        assert_eq!(chain(&[]), []);
        assert_eq!(chain(&[(1, 5)]), [], "a chain starts at epoch 0");
        assert_eq!(chain(&[(0, 0)]), [], "epoch 0 alone is never chosen");
        assert_eq!(
            chain(&[(0, 7), (8, 15), (17, 30)]),
            [(0, 7), (8, 15)],
            "a gap ends it"
        );
        assert_eq!(chain(&[(0, 3), (4, 7), (0, 7)]), [(0, 7)], "fewest ranges");
        assert_eq!(
            chain(&[(0, 7), (0, 3), (4, 9)]),
            [(0, 3), (4, 9)],
            "furthest end"
        );
    }

    #[test]
    fn sets_become_complete_in_listing_order() {
        let names = [
            "xs0_b-s01-c2",
            "xs0_c-s02-c1",
            "xs0_d-s01-c2",
            "xs0_e-s03-c3",
            "xs0_plain",
        ];
        let sets = index_sets(names.map(blob).to_vec());
        let complete: Vec<usize> = sets.complete.iter().map(|set| set.blobs.len()).collect();
        assert_eq!(complete, [1, 2, 1]);
        assert_eq!(sets.complete[0].blobs[0].id.as_str(), "xs0_c-s02-c1");
        assert_eq!(sets.incomplete.len(), 1);
        assert_eq!(sets.incomplete[0].count, 3);
    }

    fn state(write_epoch: u64, singles: &[u64], chain: &[(u64, u64)]) -> EpochState {
        let set = |name: String| IndexSets {
            complete: vec![IndexSet {
                blobs: vec![blob(&name)],
                count: 1,
            }],
            incomplete: vec![],
        };
        EpochState {
            write_epoch,
            markers: vec![],
            watermark_seconds: None,
            watermarks: vec![],
            singles: singles
                .iter()
                .map(|epoch| (*epoch, set(format!("xs{epoch}_"))))
                .collect(),
            ranges: chain
                .iter()
                .map(|r| (*r, set(format!("xr{}_{}_", r.0, r.1))))
                .collect(),
            chain: chain.to_vec(),
        }
    }

    #[test]
    fn readers_use_chain_then_singles_then_uncompacted() {
        let state = state(12, &[9, 11], &[(0, 7)]);
        let (sets, epochs) = state.selection();
        let names: Vec<&str> = sets.iter().map(|set| set.blobs[0].id.as_str()).collect();
        assert_eq!(
            names,
            ["xr0_7_", "xs9_"],
            "xs of an unsettled epoch is not used"
        );
        assert_eq!(epochs, [8, 10, 11, 12, 13]);
        assert_eq!(state.oldest_uncompacted(), 8);
        assert_eq!(state.last_settled(), Some(10));
    }

    #[test]
    fn oldest_uncompacted_skips_the_unbroken_row_only() {
        assert_eq!(state(12, &[0, 1, 3], &[]).oldest_uncompacted(), 2);
        assert_eq!(state(12, &[], &[(0, 7)]).oldest_uncompacted(), 8);
        assert_eq!(state(12, &[8, 9], &[(0, 7)]).oldest_uncompacted(), 10);
    }
}
