//! Where a merge stands in one run: a window of records in memory, the next one announced to the kernel.
//!
//! While the window is worked through, the kernel reads the next (`POSIX_FADV_WILLNEED`); behind it, page cache
//! or disk space is given back every MiB if the merge says so. Memory: the window, which belongs to the merge.

use std::ops::Range;

use super::SpillError;
use super::run::Run;
use super::sequential::RELEASE_BYTES;

/// What happens to bytes that the merge has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// They stay: the runs will be read again.
    Keep,
    /// Their page cache is dropped.
    Drop,
    /// Their disk space is given back: nobody reads them again.
    Punch,
}

/// A position in a run, and its window.
#[derive(Debug)]
pub(super) struct Cursor {
    run: Run,
    /// Records not read into the window yet.
    ahead: Range<u64>,
    /// The window, in the buffer of the merge.
    window: Range<usize>,
    /// Where the present record starts in that buffer.
    pub(super) position: usize,
    /// Where the records of the window end.
    filled: usize,
    behind: Behind,
    /// End of what was given back, in bytes of the file.
    released: u64,
}

impl Cursor {
    /// Stands before record `records.start`; `window` is a multiple of the record width.
    pub(super) fn new(run: Run, records: Range<u64>, window: Range<usize>, behind: Behind) -> Self {
        run.will_need(records.start, window.len());
        let released = run.release_start(records.start);
        let (position, filled) = (window.start, window.start);
        Self {
            run,
            ahead: records,
            window,
            position,
            filled,
            behind,
            released,
        }
    }

    /// Returns whether there is no present record.
    #[inline]
    pub(super) fn is_done(&self) -> bool {
        self.position == self.filled
    }

    /// Goes on by one record of `width` bytes; [`refill`](Self::refill) must follow at the window's end.
    #[inline]
    pub(super) fn step(&mut self, width: usize) {
        self.position += width;
    }

    /// Reads the next window into `buffer`, if there are records left.
    #[cold]
    pub(super) fn refill(&mut self, buffer: &mut [u8], width: usize) -> Result<(), SpillError> {
        self.release();
        let records = self.ahead.end - self.ahead.start;
        let records = records.min((self.window.len() / width) as u64);
        self.position = self.window.start;
        self.filled = self.window.start;
        let end = self.window.start + records as usize * width;
        self.run
            .read(self.ahead.start, &mut buffer[self.window.start..end])?;
        self.filled = end;
        self.ahead.start += records;
        if !self.ahead.is_empty() {
            self.run.will_need(self.ahead.start, self.window.len());
        }
        Ok(())
    }

    /// Gives back what was read, when it is enough to be worth it or the last.
    fn release(&mut self) {
        if self.behind == Behind::Keep {
            return;
        }
        let read = self.run.release_start(self.ahead.start);
        if self.ahead.is_empty() || read.saturating_sub(self.released) >= RELEASE_BYTES {
            self.run.release(
                &mut self.released,
                self.ahead.start,
                self.behind == Behind::Punch,
            );
        }
    }
}
