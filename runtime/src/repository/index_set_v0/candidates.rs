//! Which index blobs a compaction without epochs merges, by Kopia's rule.
//!
//! Large blobs are left alone, and as long as there are few others nothing is done: readers open
//! some blobs as fast as one. Memory: four numbers. Mirrors `getBlobsToCompact` of Kopia's
//! `index_blob_manager_v0.go`.

use serde::Serialize;

use crate::blob::BlobMetadata;
use crate::repository::RepositoryError;

use super::{BlobTotals, BlobUse, IndexSetV0};

/// Quick compactions leave fewer blobs than this alone.
pub const QUICK_SMALL_BLOBS: u64 = 8;

/// A blob below this part of a pack's size is very small.
const VERY_SMALL_PART: u64 = 20;

/// When to compact, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionRule {
    /// Fewer blobs than this are left alone.
    pub small_blobs_max: u64,
    /// Whether blobs larger than a pack are merged, too.
    pub all_indexes: bool,
    /// The repository's size of a pack, in bytes.
    pub max_pack_size: u64,
}

/// The blobs that a compaction merges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidates {
    /// Those that are merged.
    pub chosen: BlobTotals,
    /// Others that readers use.
    pub others: BlobTotals,
    /// Why these, for people.
    pub because: String,
    /// Blobs up to this length are merged, in bytes; `None`: no blob.
    pub length_max: Option<u64>,
}

impl Candidates {
    /// Returns whether an active blob is merged.
    pub fn takes(&self, blob: &BlobMetadata) -> bool {
        self.length_max.is_some_and(|most| blob.length <= most)
    }
}

impl CompactionRule {
    /// Returns the rule of quick maintenance.
    pub fn quick(max_pack_size: u64) -> Self {
        Self {
            small_blobs_max: QUICK_SMALL_BLOBS,
            all_indexes: false,
            max_pack_size,
        }
    }

    /// Returns the rule that takes everything.
    pub fn everything(max_pack_size: u64) -> Self {
        Self {
            small_blobs_max: 0,
            all_indexes: true,
            max_pack_size,
        }
    }

    /// Chooses among the blobs that readers use.
    pub fn choose(&self, set: &IndexSetV0) -> Result<Candidates, RepositoryError> {
        let (mut small, mut very_small) = (BlobTotals::default(), BlobTotals::default());
        set.each_blob(&mut |blob, used| {
            if used == BlobUse::Active && (self.all_indexes || blob.length <= self.max_pack_size) {
                small.add(blob.length);
                if blob.length < self.max_pack_size / VERY_SMALL_PART {
                    very_small.add(blob.length);
                }
            }
            Ok(true)
        })?;
        Ok(self.decide(set.active, small, very_small))
    }

    fn decide(&self, all: BlobTotals, small: BlobTotals, very_small: BlobTotals) -> Candidates {
        let medium = small.blobs - very_small.blobs;
        let (chosen, length_max, because) = if small.blobs < self.small_blobs_max {
            let because = format!(
                "{} index blobs are not larger than a pack, fewer than {}",
                small.blobs, self.small_blobs_max
            );
            (BlobTotals::default(), None, because)
        } else if very_small.blobs > small.blobs / 2 && medium + 1 < self.small_blobs_max {
            let because = format!(
                "{} of {} index blobs are very small",
                very_small.blobs, all.blobs
            );
            // One byte less than the limit: very small is what is below it.
            let most = (self.max_pack_size / VERY_SMALL_PART).saturating_sub(1);
            (very_small, Some(most), because)
        } else if self.all_indexes {
            let because = format!("all {} index blobs", small.blobs);
            (small, Some(u64::MAX), because)
        } else {
            let because = format!(
                "{} of {} index blobs are not larger than a pack",
                small.blobs, all.blobs
            );
            (small, Some(self.max_pack_size), because)
        };
        let others = BlobTotals {
            blobs: all.blobs - chosen.blobs,
            bytes: all.bytes - chosen.bytes,
        };
        Candidates {
            chosen,
            others,
            because,
            length_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(blobs: u64) -> BlobTotals {
        BlobTotals {
            blobs,
            bytes: blobs * 10,
        }
    }

    /// Goal: Kopia's choice at every edge; method: counts of all, small and very small blobs.
    #[test]
    fn the_choice_is_kopias() {
        let quick = CompactionRule::quick(2_000);
        let chosen = |all, small, very_small| {
            let candidates = quick.decide(totals(all), totals(small), totals(very_small));
            assert_eq!(candidates.others.blobs, all - candidates.chosen.blobs);
            (candidates.chosen.blobs, candidates.length_max)
        };
        assert_eq!(chosen(7, 7, 7), (0, None));
        assert_eq!(chosen(8, 8, 8), (8, Some(99)), "all very small");
        assert_eq!(chosen(20, 7, 7), (0, None), "the others are large");
        assert_eq!(chosen(12, 8, 2), (8, Some(2_000)), "few very small ones");
        assert_eq!(chosen(12, 8, 4), (8, Some(2_000)), "half is not most");
        assert_eq!(chosen(12, 8, 5), (5, Some(99)));
        assert_eq!(chosen(30, 21, 14), (21, Some(2_000)), "7 medium ones");
        assert_eq!(chosen(30, 21, 15), (15, Some(99)), "6 medium ones");
    }

    #[test]
    fn everything_is_everything() {
        let all = CompactionRule::everything(2_000);
        let candidates = all.decide(totals(3), totals(3), totals(3));
        assert_eq!(
            (candidates.chosen, candidates.length_max),
            (totals(3), Some(u64::MAX))
        );
        let none = all.decide(totals(0), totals(0), totals(0));
        assert_eq!(none.chosen, totals(0));
    }
}
