//! What a record looks like, and how much memory each phase of a sort holds.
//!
//! Both are values that the memory plan makes. `check` says whether they fit together; `sort_bytes`
//! and `merge_bytes` are what the plan must have free in the phase. No memory cost.

use super::SpillError;
use super::disk::BLOCK_BYTES;

/// Bytes that a thread gathers before it writes them to its run: few system calls, and still in the
/// L2 cache.
pub(super) const RUN_WRITE_BYTES: usize = 128 << 10;
/// Largest number of buckets of the first pass over a buffer is 2^13: its counts stay in the L1
/// cache.
pub(super) const BUCKET_BITS_MAX: u32 = 13;
/// Longer reads than this gain nothing.
const DIRECT_BYTES_MAX: usize = 512 << 10;
/// Sort buffers from this size on make runs that go past the page cache.
const LARGE_BUFFER_BYTES: usize = 1 << 20;
/// Counts of the buckets, for each sort buffer.
const COUNTS_BYTES: usize = 4 << BUCKET_BITS_MAX;
/// Books of the sorter (samples, list of runs) at their largest for the usual number of runs.
const BOOKS_BYTES: usize = 256 << 10;
/// Tree node, cursor and list entry of one open run.
const OPEN_RUN_BYTES: usize = 256;
/// A handle is 8 bytes: see `handles.rs`.
pub(super) const HANDLE_BYTES: usize = 8;
/// Windows of 16 bytes are loaded from record starts; the last ones reach this far behind the last
/// record.
pub(super) const PADDING_BYTES: usize = 16;
/// Positions take at most half of a handle, so that 32 bits of key remain.
const BUFFER_RECORDS_MAX: usize = 1 << 32;
/// Wider records than any index entry, pack row or snapshot row; keeps arithmetic far from
/// overflow.
const RECORD_BYTES_MAX: usize = 64 << 10;

/// Smallest window of a run: below, system calls cost more than the processor's cache gains.
const WINDOW_BYTES_MIN: usize = 16 << 10;

/// Returns the size of the window over a run that is read in pieces of `piece_bytes`.
pub(super) fn window_bytes(piece_bytes: usize) -> usize {
    (piece_bytes / 4).max(WINDOW_BYTES_MIN).min(piece_bytes)
}

/// The form of the records of one sort.
#[derive(Clone, Copy, Debug)]
pub struct SortShape {
    /// The width of every record.
    pub record_bytes: usize,
    /// Which records lose against others; without it only exact duplicates are dropped.
    pub group: Option<Group>,
}

/// Records that are equal in their first `group_bytes` compete: those with the smallest rank stay.
///
/// The rank is `[group_bytes..rank_end]`. Records that tie in it all stay, exact duplicates once.
/// The dropping happens wherever two of a group meet: in buffers, in runs, in merges.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Bytes that make the group.
    pub group_bytes: usize,
    /// End of the rank, which starts where the group ends.
    pub rank_end: usize,
}

impl SortShape {
    /// Returns whether `record` stays behind `last`, the record kept before it, which must not be
    /// larger.
    #[inline]
    pub(super) fn keeps(&self, last: &[u8], record: &[u8]) -> bool {
        let Some(Group {
            group_bytes,
            rank_end,
        }) = self.group
        else {
            return last != record;
        };
        last[..group_bytes] != record[..group_bytes]
            || (last[group_bytes..rank_end] == record[group_bytes..rank_end]
                && last[rank_end..] != record[rank_end..])
    }

    /// Returns how many leading bytes tell surely that two records are of different groups.
    pub(super) fn distinct_bytes(&self) -> usize {
        self.group
            .map_or(self.record_bytes, |group| group.group_bytes)
    }

    fn check(&self) -> Result<(), SpillError> {
        if self.record_bytes == 0 || self.record_bytes > RECORD_BYTES_MAX {
            return plan(format!("records of {} bytes", self.record_bytes));
        }
        match self.group {
            Some(Group {
                group_bytes,
                rank_end,
            }) if group_bytes == 0 || rank_end < group_bytes || self.record_bytes < rank_end => {
                let width = self.record_bytes;
                plan(format!(
                    "group of {group_bytes}, rank to {rank_end} of {width} bytes"
                ))
            }
            _ => Ok(()),
        }
    }
}

/// The memory of one sort. Fixed when the sorter is made; `buffer_bytes` beyond 10 MiB gain little.
#[derive(Clone, Copy, Debug)]
pub struct SortMemory {
    /// One sort buffer: records and 8 bytes for each of them.
    pub buffer_bytes: usize,
    /// Sort buffers that are open at the same time, one for each thread.
    pub buffers: usize,
    /// What a merge holds of each run, the kernel's read-ahead included: 64 KiB, 32 KiB with many
    /// runs.
    ///
    /// The disk is read in pieces of this size. Only a quarter (16 KiB at least) is a buffer of
    /// ours, the window: small ones stay in the processor's cache.
    pub run_read_bytes: usize,
    /// Runs that one merge has open; more are merged in cascades first.
    pub runs_max: usize,
}

impl SortMemory {
    /// Returns how large pieces a merge of `runs` reads past the page cache, two of them for each
    /// run besides its window: few runs share what is there for many, less what `kept` runs hold in
    /// memory.
    pub(super) fn direct_bytes(
        &self,
        runs: usize,
        kept: usize,
        piece_bytes: usize,
        share: usize,
    ) -> usize {
        let all = self.run_read_bytes.saturating_mul(self.runs_max);
        let all = all.saturating_sub(kept) / share.max(1);
        let own = (all / runs.max(1)).max(piece_bytes);
        let pieces = own.saturating_sub(window_bytes(piece_bytes) + 2 * BLOCK_BYTES);
        (pieces / 2).min(DIRECT_BYTES_MAX)
    }

    /// Returns whether a run of a full buffer is large enough to go past the page cache.
    pub(super) fn makes_large_runs(&self) -> bool {
        self.buffer_bytes >= LARGE_BUFFER_BYTES
    }

    /// Returns the bytes held while records are pushed.
    pub fn sort_bytes(&self) -> usize {
        let buffer = self
            .buffer_bytes
            .saturating_add(RUN_WRITE_BYTES + COUNTS_BYTES);
        self.buffers
            .saturating_mul(buffer)
            .saturating_add(BOOKS_BYTES)
    }

    /// Returns the bytes held by a cascade or by one open merge, what the kernel reads ahead
    /// included.
    ///
    /// Merges open at the same time add up, unless they share (see `MergeOptions::share`).
    pub fn merge_bytes(&self) -> usize {
        let run = self.run_read_bytes.saturating_add(OPEN_RUN_BYTES);
        self.runs_max
            .saturating_mul(run)
            .saturating_add(RUN_WRITE_BYTES + BOOKS_BYTES)
    }

    /// Returns whether these numbers can sort records of `shape`; the error names the floor that is
    /// missed.
    pub fn check(&self, shape: &SortShape) -> Result<(), SpillError> {
        shape.check()?;
        if self.buffers == 0 || self.runs_max < 2 || u32::try_from(self.runs_max).is_err() {
            return plan(format!(
                "{} buffers, {} open runs",
                self.buffers, self.runs_max
            ));
        }
        if self.run_read_bytes < shape.record_bytes {
            let (read, width) = (self.run_read_bytes, shape.record_bytes);
            return plan(format!(
                "read buffers of {read} bytes for records of {width}"
            ));
        }
        if self.buffer_records(shape) < 2 {
            return plan(format!(
                "sort buffer of {} bytes holds no two records",
                self.buffer_bytes
            ));
        }
        Ok(())
    }

    /// Returns how many records one sort buffer holds.
    pub(super) fn buffer_records(&self, shape: &SortShape) -> usize {
        let bytes = self.buffer_bytes.saturating_sub(PADDING_BYTES);
        (bytes / (shape.record_bytes + HANDLE_BYTES)).min(BUFFER_RECORDS_MAX)
    }
}

fn plan<T>(reason: String) -> Result<T, SpillError> {
    Err(SpillError::Plan { reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Floors are errors with a reason, never a panic later.
    #[test]
    fn impossible_plans_are_refused() {
        let shape = SortShape {
            record_bytes: 43,
            group: None,
        };
        let memory = SortMemory {
            buffer_bytes: 6 << 20,
            buffers: 2,
            run_read_bytes: 64 << 10,
            runs_max: 128,
        };
        memory.check(&shape).unwrap();
        assert_eq!(memory.buffer_records(&shape), 123_361);
        assert!(memory.sort_bytes() < 13 << 20 && memory.merge_bytes() < 9 << 20);
        for bad in [
            SortMemory {
                buffers: 0,
                ..memory
            },
            SortMemory {
                runs_max: 1,
                ..memory
            },
            SortMemory {
                run_read_bytes: 42,
                ..memory
            },
            SortMemory {
                buffer_bytes: 117,
                ..memory
            },
            SortMemory {
                buffer_bytes: 0,
                ..memory
            },
        ] {
            assert_eq!(bad.check(&shape).unwrap_err().code(), "sort-plan");
        }
        SortMemory {
            buffer_bytes: 118,
            ..memory
        }
        .check(&shape)
        .unwrap();
        for (record_bytes, group) in [
            (0, None),
            (1 << 20, None),
            (43, Some((0, 3))),
            (43, Some((4, 3))),
            (43, Some((4, 44))),
        ] {
            let group = group.map(|(group_bytes, rank_end)| Group {
                group_bytes,
                rank_end,
            });
            let shape = SortShape {
                record_bytes,
                group,
            };
            assert_eq!(memory.check(&shape).unwrap_err().code(), "sort-plan");
        }
    }

    /// The rule of who stays, case by case.
    #[test]
    fn losers_and_duplicates_go() {
        let plain = SortShape {
            record_bytes: 4,
            group: None,
        };
        assert!(plain.keeps(b"aaaa", b"aaab") && !plain.keeps(b"aaaa", b"aaaa"));
        let group = Some(Group {
            group_bytes: 1,
            rank_end: 3,
        });
        let grouped = SortShape {
            record_bytes: 4,
            group,
        };
        assert!(grouped.keeps(b"a11x", b"b99x"), "another group");
        assert!(!grouped.keeps(b"a11x", b"a12x"), "a larger rank");
        assert!(grouped.keeps(b"a11x", b"a11y"), "a tie");
        assert!(!grouped.keeps(b"a11x", b"a11x"), "a duplicate");
    }
}
