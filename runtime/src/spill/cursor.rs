//! Where a merge stands in one run: a window of records in memory, the next one announced to the
//! kernel.
//!
//! The window is small, so that the windows of all runs stay in the processor's cache. Larger
//! pieces are read ahead of it, which is all the disk sees: of a large file past the page cache
//! (`read_ahead.rs`), of others by the kernel (`POSIX_FADV_WILLNEED`). Behind it, page cache or
//! disk space is given back if the merge says so. Memory: the window, which belongs to the merge;
//! two pieces, or page cache of one.

use std::ops::Range;

use super::SpillError;
use super::read_ahead::ReadAhead;
use super::run::Run;

/// What happens to bytes that the merge has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// They stay: the runs will be read again.
    Keep,
    /// Their page cache is dropped.
    Drop,
    /// Their disk space is given back in steps of so many bytes, or at the end of the run: nobody
    /// reads them again. A step takes ext4 0.1 ms, and several when it has to wait for the journal.
    Punch(u64),
}

/// How a merge reads its runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reads {
    /// Bytes of a run that the kernel is asked for at a time.
    pub(super) piece_bytes: usize,
    /// Bytes of a run in a large file that are read at a time, past the page cache.
    pub(super) direct_bytes: usize,
    /// What happens to them afterwards.
    pub(super) behind: Behind,
}

/// A position in a run, and its window.
#[derive(Debug)]
pub(super) struct Cursor {
    run: Run,
    /// What reads a run in a large file.
    direct: Option<ReadAhead>,
    width: usize,
    /// Records not read into the window yet.
    ahead: Range<u64>,
    /// The window, in the buffer of the merge.
    window: Range<usize>,
    /// Where the present record starts in that buffer.
    pub(super) position: usize,
    /// Where the records of the window end.
    filled: usize,
    /// Records up to here the kernel was asked to read.
    announced: u64,
    /// Records that it is asked for at a time.
    piece: u64,
    behind: Behind,
    /// End of the page cache that was given back, in bytes of the file.
    dropped: u64,
    /// End of the disk space that was given back, in bytes of the file.
    punched: u64,
}

impl Cursor {
    /// Stands before record `records.start` of `run`, with a window in the buffer of the merge.
    pub(super) fn new(run: Run, records: Range<u64>, window: Range<usize>, reads: Reads) -> Self {
        let width = run.record_bytes();
        let direct = run.read_ahead(&records, reads.direct_bytes);
        let mut cursor = Self {
            direct,
            dropped: run.release_start(records.start),
            punched: run.release_start(records.start),
            announced: records.start,
            run,
            width,
            ahead: records,
            position: window.start,
            filled: window.start,
            window,
            piece: (reads.piece_bytes / width).max(1) as u64,
            behind: reads.behind,
        };
        if cursor.direct.is_none() {
            cursor.run.expect_scattered_reads();
            cursor.announce();
        }
        cursor
    }

    /// Returns whether there is no present record.
    #[inline]
    pub(super) fn is_done(&self) -> bool {
        self.position == self.filled
    }

    /// Goes on by one record; [`refill`](Self::refill) must follow at the window's end.
    #[inline]
    pub(super) fn step(&mut self) {
        self.position += self.width;
    }

    /// Reads the next window into `buffer`, if there are records left.
    #[cold]
    pub(super) fn refill(&mut self, buffer: &mut [u8]) -> Result<(), SpillError> {
        self.release();
        let records = self.ahead.end - self.ahead.start;
        let records = records.min((self.window.len() / self.width) as u64);
        self.position = self.window.start;
        self.filled = self.window.start;
        let end = self.window.start + records as usize * self.width;
        let window = &mut buffer[self.window.start..end];
        match &mut self.direct {
            Some(direct) => direct.read(window)?,
            None => self.run.read(self.ahead.start, window)?,
        }
        self.filled = end;
        self.ahead.start += records;
        if self.direct.is_none() {
            self.announce();
        }
        Ok(())
    }

    /// Asks the kernel for the next piece, unless all of the next window was asked for before.
    fn announce(&mut self) {
        let window = (self.window.len() / self.width) as u64;
        if self.announced < self.ahead.end.min(self.ahead.start + window) {
            self.run
                .will_need(self.announced, self.announced + self.piece);
            self.announced += self.piece;
        }
    }

    /// Gives back what was read, when it is enough to be worth it or the last.
    fn release(&mut self) {
        if self.behind == Behind::Keep {
            return;
        }
        let (read, done) = (self.ahead.start, self.ahead.is_empty());
        let bytes = self.run.release_start(read);
        let dropped = bytes.saturating_sub(self.dropped);
        if self.direct.is_none() && (done || dropped >= self.piece * self.width as u64) {
            self.run.release(&mut self.dropped, read, false);
        }
        if let Behind::Punch(step) = self.behind
            && (done || bytes.saturating_sub(self.punched) >= step)
        {
            self.run.release(&mut self.punched, read, true);
        }
    }
}
