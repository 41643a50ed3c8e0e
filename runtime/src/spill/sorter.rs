//! The external sorter: records in from several threads, sorted runs out.
//!
//! Two levels: buffers are sorted in memory and written as runs; all runs are then merged at once,
//! with one small buffer each. Only when there are more runs than the plan has buffers for are the
//! smallest merged first. Data that is sorted already becomes a run as it is. What fits into memory
//! never touches the disk.
//!
//! Memory: `SortMemory::sort_bytes` while records are pushed, `merge_bytes` afterwards, never both.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::SpillError;
use super::books::{Books, Closed};
use super::cursor::Behind;
use super::merge::{Merge, MergeOptions};
use super::run::{Run, RunOutput};
use super::scratch::Scratch;

pub use super::runs::Runs;
pub use super::shape::{Group, SortMemory, SortShape};
pub use super::sort_buffer::SortBuffer;

/// A sort in progress. Shared between threads by reference; each takes its own buffer.
#[derive(Debug)]
pub struct Sorter {
    books: Arc<Books>,
    scratch: Scratch,
}

impl Sorter {
    /// Starts a sort. Panics when `memory.check(&shape)` fails: the plan must have checked it.
    pub fn new(scratch: Scratch, shape: SortShape, memory: SortMemory) -> Self {
        if let Err(error) = memory.check(&shape) {
            panic!("{error}");
        }
        let books = Arc::new(Books::new(scratch.clone(), shape, memory));
        Self { books, scratch }
    }

    /// Opens a sort buffer. Panics when more are open than `SortMemory::buffers`.
    pub fn buffer(&self) -> SortBuffer {
        SortBuffer::new(self.books.clone())
    }

    /// Opens a run for records that come in ascending order. Memory: 128 KiB while it is open.
    pub fn sorted_run(&self) -> RunWriter {
        RunWriter::new(self.books.clone())
    }

    /// Ends the sort. All buffers and run writers must be finished; the error `Unfinished` says
    /// they are not.
    ///
    /// Merges the smallest runs first while there are more than `runs_max`; that holds
    /// `merge_bytes`.
    pub fn finish(self) -> Result<Runs, SpillError> {
        let memory = self.books.memory;
        self.finish_in(memory)
    }

    /// Ends the sort as [`Sorter::finish`] does; what follows has another `memory`, since whoever
    /// was there while it was filled has gone.
    pub fn finish_in(self, memory: SortMemory) -> Result<Runs, SpillError> {
        let Closed {
            mut runs,
            kept,
            samples,
        } = self.books.close()?;
        runs.extend(kept);
        if runs.len() > memory.runs_max {
            runs = self.cascade(runs, &memory)?;
        }
        Ok(Runs {
            shape: self.books.shape,
            memory,
            runs,
            samples,
        })
    }

    /// Merges runs until no more than `runs_max` are left, each time the smallest: least bytes
    /// moved.
    fn cascade(&self, runs: Vec<Run>, memory: &SortMemory) -> Result<Vec<Run>, SpillError> {
        let most = memory.runs_max;
        let mut heap: BinaryHeap<_> = runs.into_iter().map(BySize).map(Reverse).collect();
        // The first merge takes as many as leave only full merges, and a full last one.
        let mut take = (heap.len() - 2) % (most - 1) + 2;
        while heap.len() > most {
            let smallest: Vec<Run> = (0..take)
                .filter_map(|_| heap.pop())
                .map(|Reverse(BySize(run))| run)
                .collect();
            heap.extend(
                self.merge_smallest(&smallest, memory)?
                    .map(BySize)
                    .map(Reverse),
            );
            take = most;
        }
        Ok(heap.into_iter().map(|Reverse(BySize(run))| run).collect())
    }

    /// Merges runs into one in a file of its own; the disk space of each is given back at its end.
    /// So a cascade needs disk for its own output on top of what is there.
    fn merge_smallest(&self, runs: &[Run], memory: &SortMemory) -> Result<Option<Run>, SpillError> {
        let shape = &self.books.shape;
        let mut merge = Merge::open(
            runs,
            *shape,
            memory,
            &MergeOptions::default(),
            Behind::Punch(u64::MAX),
        )?;
        let file = Arc::new(self.scratch.create_large_file("merged runs")?);
        let mut output = RunOutput::new(file, shape);
        while let Some(record) = merge.next()? {
            output.push(record)?;
        }
        let run = output.end_run();
        output.into_file()?;
        Ok(run)
    }
}

/// A run in order of its length, for the cascade.
struct BySize(Run);

impl Ord for BySize {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.records().cmp(&other.0.records())
    }
}

impl PartialOrd for BySize {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for BySize {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for BySize {}

/// Writes one run of records that are sorted already, such as those of a large index blob.
///
/// A writer that is dropped without `finish` or `abandon` fails its sort: records would be missing.
#[derive(Debug)]
pub struct RunWriter {
    books: Arc<Books>,
    output: Option<RunOutput>,
    /// The last record that stayed; empty before the first.
    last: Vec<u8>,
    pushed: u64,
}

impl RunWriter {
    fn new(books: Arc<Books>) -> Self {
        books.open_writer();
        let last = Vec::with_capacity(books.shape.record_bytes);
        Self {
            books,
            output: None,
            last,
            pushed: 0,
        }
    }

    /// Adds a record, which must not be smaller than the last one that stayed; panics on another
    /// width.
    ///
    /// Errors: `Unsorted`, `Full`, `Io`.
    pub fn push(&mut self, record: &[u8]) -> Result<(), SpillError> {
        let shape = &self.books.shape;
        assert_eq!(record.len(), shape.record_bytes, "width of a record");
        if record < self.last.as_slice() {
            return Err(SpillError::Unsorted {
                record: self.pushed,
            });
        }
        self.pushed += 1;
        if !self.last.is_empty() && !shape.keeps(&self.last, record) {
            return Ok(());
        }
        self.last.clear();
        self.last.extend_from_slice(record);
        let output = match &mut self.output {
            Some(output) => output,
            None => self.output.insert(self.books.output()?),
        };
        output.push(record)
    }

    /// Ends the run and enters it into the sort.
    pub fn finish(mut self) -> Result<(), SpillError> {
        if let Some(mut output) = self.output.take() {
            self.books.end_run(&mut output)?;
            self.books.hand_back(output.into_file()?);
        }
        self.books.close_writer();
        Ok(())
    }

    /// Throws the run away: its records were not to be trusted after all.
    pub fn abandon(mut self) -> Result<(), SpillError> {
        if let Some(output) = self.output.take() {
            self.books.hand_back(output.abandon_run()?);
        }
        self.books.close_writer();
        Ok(())
    }
}
