//! The sorted runs that a sort leaves, and the merges over them.
//!
//! Runs may be merged several times, or by key range in several threads at once; each merge has its
//! own buffers. `into_merge` and `into_merges` read them for the last time and give the disk space
//! back as they go, which costs some 20 ns a record; where scratch is plentiful, merge and drop the
//! runs afterwards. Memory: 48 bytes a run, at most `runs_max` of them, and the samples; kept runs
//! hold their records.

use super::SpillError;
use super::cursor::Behind;
use super::merge::{Merge, MergeOptions};
use super::run::Run;
use super::samples::Samples;
use super::shape::{SortMemory, SortShape};

/// Sorted runs, ready to be merged.
#[derive(Debug)]
pub struct Runs {
    pub(super) shape: SortShape,
    pub(super) memory: SortMemory,
    pub(super) runs: Vec<Run>,
    pub(super) samples: Samples,
}

impl Runs {
    /// Returns the width of a record.
    pub fn record_bytes(&self) -> usize {
        self.shape.record_bytes
    }

    /// Returns the number of records, losers that meet only in the merge included: an upper bound.
    pub fn records(&self) -> u64 {
        self.runs.iter().map(Run::records).sum()
    }

    /// Returns whether nothing was written to the disk.
    pub fn is_in_memory(&self) -> bool {
        self.runs.iter().all(|run| run.memory_bytes() > 0)
    }

    /// Merges everything. Memory: see `SortMemory::merge_bytes`.
    pub fn merge(&self) -> Result<Merge, SpillError> {
        self.merge_with(&MergeOptions::default())
    }

    /// Merges the records from `lower` on, up to and without `upper`; both are leading bytes of
    /// records.
    ///
    /// A bound that is longer than the group would separate records that compete: `Plan` error.
    pub fn merge_range(
        &self,
        lower: Option<&[u8]>,
        upper: Option<&[u8]>,
    ) -> Result<Merge, SpillError> {
        self.merge_with(&MergeOptions {
            lower,
            upper,
            ..MergeOptions::default()
        })
    }

    /// Merges as `options` says. Errors as those of `merge_range`.
    pub fn merge_with(&self, options: &MergeOptions<'_>) -> Result<Merge, SpillError> {
        let longest = self.shape.distinct_bytes();
        for bound in [options.lower, options.upper].into_iter().flatten() {
            if bound.len() > longest {
                let reason = format!("bound of {} bytes in groups of {longest}", bound.len());
                return Err(SpillError::Plan { reason });
            }
        }
        let behind = if options.drop_behind {
            Behind::Drop
        } else {
            Behind::Keep
        };
        self.open(options, behind)
    }

    /// Merges everything for the last time: disk space is given back behind it.
    pub fn into_merge(self) -> Result<Merge, SpillError> {
        self.open(&MergeOptions::default(), Behind::Punch)
    }

    /// Merges everything for the last time, as `parts` streams of about equal length, one after the
    /// other in key order, for as many threads. They share the `merge_bytes` of one.
    pub fn into_merges(self, parts: usize) -> Result<Vec<Merge>, SpillError> {
        let bounds = (0..=parts)
            .map(|i| self.split_key(parts, i))
            .collect::<Result<Vec<_>, _>>()?;
        let range = |pair: &[Option<Vec<u8>>]| {
            let (lower, upper) = (pair[0].as_deref(), pair[1].as_deref());
            self.open(
                &MergeOptions {
                    lower,
                    upper,
                    ..MergeOptions::default()
                },
                Behind::Punch,
            )
        };
        bounds.windows(2).map(range).collect()
    }

    /// Returns boundary `i` of `parts` parts of about equal length: part `i` is `[key(i), key(i +
    /// 1))`.
    ///
    /// `None` for the first and the last boundary, where there is no bound. With few different keys
    /// boundaries repeat and parts are empty; together they always cover everything once.
    pub fn split_key(&self, parts: usize, i: usize) -> Result<Option<Vec<u8>>, SpillError> {
        Ok((i > 0 && i < parts).then(|| self.samples.split_key(parts, i)))
    }

    fn open(&self, options: &MergeOptions<'_>, behind: Behind) -> Result<Merge, SpillError> {
        Merge::open(&self.runs, self.shape, &self.memory, options, behind)
    }
}
