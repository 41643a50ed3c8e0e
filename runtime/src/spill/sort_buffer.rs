//! A sort buffer: takes records of one thread, and leaves sorted runs.
//!
//! Memory: records, 8 bytes of handle for each, 32 KiB of counts, and the write buffer once the
//! first run is written; all as `SortMemory::sort_bytes` has it, allocated with the first record,
//! never grown. Invariant: every record pushed is in exactly one run after `finish`, unless it lost
//! or was a duplicate.

use std::sync::Arc;

use super::SpillError;
use super::books::Books;
use super::handles::{Records, may_lose, position};
use super::run::{Run, RunOutput};
use super::samples::RunSamples;
use super::shape::{BUCKET_BITS_MAX, HANDLE_BYTES, PADDING_BYTES};

/// Takes records in any order. For one thread; several may be open at the same time.
///
/// A buffer that is dropped without [`finish`](Self::finish) fails its sort: records would be
/// missing.
#[derive(Debug)]
pub struct SortBuffer {
    books: Arc<Books>,
    /// Records that fit, 0 until the memory is allocated.
    capacity: usize,
    count: usize,
    width: usize,
    records: Vec<u8>,
    handles: Vec<u64>,
    counts: Vec<u32>,
    output: Option<RunOutput>,
}

impl SortBuffer {
    pub(super) fn new(books: Arc<Books>) -> Self {
        books.open_buffer();
        let width = books.shape.record_bytes;
        let (records, handles, counts) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            books,
            capacity: 0,
            count: 0,
            width,
            records,
            handles,
            counts,
            output: None,
        }
    }

    /// Adds a record; panics when its width is not that of the sort.
    ///
    /// Writes a run when the buffer is full. Errors: `Full`, `Io`, `Runs`; the sort is then lost.
    #[inline]
    pub fn push(&mut self, record: &[u8]) -> Result<(), SpillError> {
        self.room()?.copy_from_slice(record);
        self.count += 1;
        Ok(())
    }

    /// Adds a record that `fill` writes in place, into zeros. Otherwise like [`push`](Self::push).
    #[inline]
    pub fn push_with(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<(), SpillError> {
        let room = self.room()?;
        room.fill(0);
        fill(room);
        self.count += 1;
        Ok(())
    }

    /// Adds a record that `fill` writes in place, all of it: the room holds what was there before.
    /// Otherwise like [`push`](Self::push).
    #[inline]
    pub fn push_whole(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<(), SpillError> {
        fill(self.room()?);
        self.count += 1;
        Ok(())
    }

    /// Ends the buffer: what it holds becomes a run, in memory when the merge has room for it.
    pub fn finish(mut self) -> Result<(), SpillError> {
        let used = self.count * (self.width + HANDLE_BYTES) + PADDING_BYTES;
        let books = self.books.clone();
        let keep = self.count > 0 && books.may_keep(used);
        if self.count > 0 && !keep {
            self.spill()?;
        }
        if let Some(output) = self.output.take() {
            books.hand_back(output.into_file()?);
        }
        if keep {
            self.keep();
        }
        books.close_buffer();
        Ok(())
    }

    /// Returns the place of the next record.
    #[inline]
    fn room(&mut self) -> Result<&mut [u8], SpillError> {
        if self.count == self.capacity {
            self.make_room()?;
        }
        let start = self.count * self.width;
        Ok(&mut self.records[start..start + self.width])
    }

    #[cold]
    fn make_room(&mut self) -> Result<(), SpillError> {
        if self.capacity > 0 {
            return self.spill();
        }
        self.books.make_room()?;
        self.capacity = self.books.memory.buffer_records(&self.books.shape);
        // Zeroed memory of this size comes from the kernel page by page, as it is used.
        self.records = vec![0; self.capacity * self.width + PADDING_BYTES];
        self.handles = vec![0; self.capacity];
        self.counts = vec![0; 1 << BUCKET_BITS_MAX];
        Ok(())
    }

    /// Writes what the buffer holds as a run.
    fn spill(&mut self) -> Result<(), SpillError> {
        let mut output = match self.output.take() {
            Some(output) => output,
            None => self.books.output()?,
        };
        self.each_sorted(|record| output.push(record))?;
        self.books.end_run(&mut output)?;
        self.output = Some(output);
        self.count = 0;
        Ok(())
    }

    /// Leaves what the buffer holds as a run in memory.
    fn keep(mut self) {
        let shape = self.books.shape;
        let records = Records {
            bytes: &self.records,
            shape: &shape,
            count: self.count,
        };
        records.order(&mut self.handles, &mut self.counts);
        let mut samples = RunSamples::new(&shape);
        let mut last: Option<&[u8]> = None;
        let mut kept = 0;
        for number in 0..self.count {
            let handle = self.handles[number];
            let record = records.record(position(handle));
            if may_lose(handle) && last.is_some_and(|last| !shape.keeps(last, record)) {
                continue;
            }
            samples.see(record);
            self.handles[kept] = handle;
            kept += 1;
            last = Some(record);
        }
        self.handles.truncate(kept);
        self.records.truncate(self.count * self.width);
        self.books.add_kept(
            Run::keep(self.records, self.handles, self.width),
            &mut samples,
        );
    }

    /// Sorts, then gives every record that stays to `sink`.
    fn each_sorted(
        &mut self,
        mut sink: impl FnMut(&[u8]) -> Result<(), SpillError>,
    ) -> Result<(), SpillError> {
        let shape = self.books.shape;
        let records = Records {
            bytes: &self.records,
            shape: &shape,
            count: self.count,
        };
        records.order(&mut self.handles, &mut self.counts);
        let mut last: Option<&[u8]> = None;
        for handle in &self.handles[..self.count] {
            let record = records.record(position(*handle));
            if may_lose(*handle) && last.is_some_and(|last| !shape.keeps(last, record)) {
                continue;
            }
            sink(record)?;
            last = Some(record);
        }
        Ok(())
    }
}
