//! The sorted runs that a sort leaves, and the merges over them.
//!
//! Runs may be merged several times, or by key range in several threads at once; each merge has its
//! own buffers. `into_merge` and `into_merges` read them for the last time and can give disk space
//! back on the way. Memory: 48 bytes a run, at most `runs_max` of them, and the samples; kept runs
//! hold their records.

use super::SpillError;
use super::cursor::Behind;
use super::merge::{Merge, MergeOptions};
use super::run::Run;
use super::samples::Samples;
use super::shape::{SortMemory, SortShape};

/// Step of giving disk space back: less than half of a usual run, so that the peak really shrinks.
const PUNCH_BYTES: u64 = 2 << 20;

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

    /// Merges everything for the last time; see [`into_merges`](Self::into_merges) for `consume`.
    pub fn into_merge(self, consume: bool) -> Result<Merge, SpillError> {
        self.open(&MergeOptions::default(), last_time(consume))
    }

    /// Merges everything for the last time, as `parts` streams of about equal length, one after the
    /// other in key order, for as many threads. They share the `merge_bytes` of one.
    ///
    /// With `consume` disk space is given back every 2 MiB of each run, which may double the time;
    /// without, all of it at the end.
    pub fn into_merges(self, parts: usize, consume: bool) -> Result<Vec<Merge>, SpillError> {
        let keys = (0..=parts).map(|i| self.split_key(parts, i));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let range = |pair: &[Option<Vec<u8>>]| {
            let (lower, upper) = (pair[0].as_deref(), pair[1].as_deref());
            let options = MergeOptions {
                lower,
                upper,
                share: parts,
                drop_behind: true,
            };
            self.open(&options, last_time(consume))
        };
        keys.windows(2).map(range).collect()
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

/// What a merge does with bytes that nobody reads after it.
fn last_time(consume: bool) -> Behind {
    if consume {
        Behind::Punch(PUNCH_BYTES)
    } else {
        Behind::Drop
    }
}
