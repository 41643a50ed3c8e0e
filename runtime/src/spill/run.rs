//! One sorted run: a piece of a scratch file, or a sort buffer that never had to be written.
//!
//! A merge sees no difference: it reads consecutive records into its own window. Several runs
//! follow each other in one file, so that files and descriptors do not grow with the number of
//! runs. Memory: 48 bytes a run on disk; a kept run holds its buffer, cut to what it needs.

use std::ops::Range;
use std::sync::Arc;

use super::SpillError;
use super::copy::copy_record;
use super::handles;
use super::read_ahead::ReadAhead;
use super::samples::RunSamples;
use super::scratch_file::ScratchFile;
use super::sequential::SequentialWriter;
use super::shape::{HANDLE_BYTES, RUN_WRITE_BYTES, SortShape};

/// Page of the page cache; what is let go is cut to whole pages, so that neighbours keep theirs.
const PAGE_BYTES: u64 = 4 << 10;
/// Where a binary search stops jumping and reads everything that is left.
const SEARCH_BYTES: usize = 4 << 10;

/// A sorted run of records of one width. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Run {
    place: Place,
    width: usize,
    records: u64,
}

#[derive(Clone, Debug)]
enum Place {
    File { file: Arc<ScratchFile>, offset: u64 },
    Kept(Arc<Kept>),
}

/// The records of a sort buffer, and their positions in order.
#[derive(Debug)]
struct Kept {
    bytes: Vec<u8>,
    handles: Vec<u64>,
}

impl Run {
    /// Makes a run of a buffer: `handles` are those of its records that stay, in order.
    pub(super) fn keep(mut bytes: Vec<u8>, mut handles: Vec<u64>, width: usize) -> Self {
        bytes.shrink_to_fit();
        handles.shrink_to_fit();
        let records = handles.len() as u64;
        Self {
            place: Place::Kept(Arc::new(Kept { bytes, handles })),
            width,
            records,
        }
    }

    /// Returns how many records it has.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Returns the width of a record.
    pub(super) fn record_bytes(&self) -> usize {
        self.width
    }

    /// Returns the bytes of memory that it holds.
    pub(super) fn memory_bytes(&self) -> usize {
        match &self.place {
            Place::File { .. } => 0,
            Place::Kept(kept) => kept.bytes.len() + kept.handles.len() * HANDLE_BYTES,
        }
    }

    /// Fills `into` with the records from number `first` on; `into` is a multiple of their width.
    pub(super) fn read(&self, first: u64, into: &mut [u8]) -> Result<(), SpillError> {
        match &self.place {
            Place::File { file, .. } => file.read_exact_at(into, self.offset_of(first)),
            Place::Kept(kept) => {
                let handles = &kept.handles[first as usize..];
                for (record, handle) in into.chunks_exact_mut(self.width).zip(handles) {
                    let start = handles::position(*handle) * self.width;
                    record.copy_from_slice(&kept.bytes[start..start + self.width]);
                }
                Ok(())
            }
        }
    }

    /// Starts to read `records` in pieces of `piece_bytes`, where they are in a large file.
    pub(super) fn read_ahead(&self, records: &Range<u64>, piece_bytes: usize) -> Option<ReadAhead> {
        let Place::File { file, .. } = &self.place else {
            return None;
        };
        let bytes = self.offset_of(records.start)..self.offset_of(records.end);
        file.is_direct()
            .then(|| ReadAhead::new(Arc::clone(file), bytes, piece_bytes))
    }

    /// Asks the kernel to read records `first` to `end`, or to the end of the run, ahead.
    pub(super) fn will_need(&self, first: u64, end: u64) {
        if let Place::File { file, .. } = &self.place {
            let records = end.min(self.records).saturating_sub(first);
            file.will_need(self.offset_of(first), records * self.width as u64);
        }
    }

    /// Tells the kernel to read what it is asked for and nothing else.
    pub(super) fn expect_scattered_reads(&self) {
        if let Place::File { file, .. } = &self.place {
            file.expect_scattered_reads();
        }
    }

    /// Returns where in the file releasing starts when records before `first` are not ours to
    /// release.
    pub(super) fn release_start(&self, first: u64) -> u64 {
        self.offset_of(first).next_multiple_of(PAGE_BYTES)
    }

    /// Lets go of everything from `released` to record `end`: its disk space, or only its page
    /// cache.
    pub(super) fn release(&self, released: &mut u64, end: u64, punch: bool) {
        let end = self.offset_of(end) & !(PAGE_BYTES - 1);
        if let Place::File { file, .. } = &self.place
            && end > *released
        {
            match punch {
                true => file.punch(*released, end - *released),
                false => file.drop_cache(*released, end - *released),
            }
            *released = end;
        }
    }

    /// Returns the number of records that are smaller than `bound`, which may be shorter than a
    /// record.
    pub(super) fn lower_bound(&self, bound: &[u8]) -> Result<u64, SpillError> {
        let block = (SEARCH_BYTES / self.width).max(1) as u64;
        let mut record = vec![0; self.width * block as usize];
        let (mut low, mut high) = (0, self.records);
        while high - low > block {
            let middle = low + (high - low) / 2;
            self.read(middle, &mut record[..self.width])?;
            match &record[..self.width] < bound {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let rest = &mut record[..(high - low) as usize * self.width];
        self.read(low, rest)?;
        Ok(low
            + rest
                .chunks_exact(self.width)
                .take_while(|record| *record < bound)
                .count() as u64)
    }

    fn offset_of(&self, record: u64) -> u64 {
        match &self.place {
            Place::File { offset, .. } => offset + record * self.width as u64,
            Place::Kept(_) => 0,
        }
    }
}

/// Writes runs, one after the other, to the end of a file that nobody else writes meanwhile.
#[derive(Debug)]
pub(super) struct RunOutput {
    writer: SequentialWriter,
    width: usize,
    start: u64,
    records: u64,
    samples: RunSamples,
}

impl RunOutput {
    /// Starts behind what `file` holds. Memory: `RUN_WRITE_BYTES`, or one record if that is more.
    pub(super) fn new(file: Arc<ScratchFile>, shape: &SortShape) -> Self {
        let start = file.len();
        let writer = SequentialWriter::cached(file, RUN_WRITE_BYTES.max(shape.record_bytes));
        let samples = RunSamples::new(shape);
        Self {
            writer,
            width: shape.record_bytes,
            start,
            records: 0,
            samples,
        }
    }

    /// Adds a record to the run; the caller knows that it is not smaller than the one before.
    #[inline]
    pub(super) fn push(&mut self, record: &[u8]) -> Result<(), SpillError> {
        self.samples.see(record);
        copy_record(self.writer.room(self.width)?, record);
        self.records += 1;
        Ok(())
    }

    /// Ends the run and starts the next; `None` when it had no records.
    ///
    /// What it wrote last may still be on its way until [`into_file`](Self::into_file).
    pub(super) fn end_run(&mut self) -> Option<Run> {
        let place = Place::File {
            file: self.writer.file().clone(),
            offset: self.start,
        };
        let run = Run {
            place,
            width: self.width,
            records: self.records,
        };
        self.start = self.writer.position();
        self.records = 0;
        (run.records > 0).then_some(run)
    }

    /// Returns the samples of the run that was just ended.
    pub(super) fn samples(&mut self) -> &mut RunSamples {
        &mut self.samples
    }

    /// Cuts the run that is being written off the file again, and returns the file.
    pub(super) fn abandon_run(mut self) -> Result<Arc<ScratchFile>, SpillError> {
        self.writer.flush()?;
        let file = self.writer.file().clone();
        file.truncate(self.start)?;
        Ok(file)
    }

    /// Waits until everything is written and returns the file; the run must have been ended.
    pub(super) fn into_file(self) -> Result<Arc<ScratchFile>, SpillError> {
        let file = self.writer.file().clone();
        self.writer.finish()?;
        Ok(file)
    }
}

#[cfg(test)]
impl Run {
    /// Damages the file below it.
    pub(super) fn cut_file(&self, len: u64) {
        let Place::File { file, .. } = &self.place else {
            panic!("a run in memory")
        };
        file.truncate(len).unwrap();
    }
}
