//! Sequential writing and reading of scratch files through one fixed buffer each.
//!
//! The writer starts writeback every 2 MiB without waiting for it, so that dirty pages never pile
//! up in a small cgroup and nobody stalls on a large flush. The reader hints the window after the
//! one that it reads, so that the kernel is its second buffer; it can let go of the page cache
//! behind it. Large files pass by the page cache, through the disk's threads (`disk.rs`). Memory:
//! the buffer given, allocated at creation, never grown; for a large file three more of them.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::SpillError;
use super::disk::{BLOCK_BYTES, Block, Pending};
use super::read_ahead::ReadAhead;
use super::scratch_file::ScratchFile;

/// Bytes between two starts of writeback: large enough to be cheap, small against any cgroup.
pub(super) const WRITEBACK_BYTES: u64 = 2 << 20;
/// Bytes between two releases of page cache behind a reader: each release is a system call.
pub(super) const RELEASE_BYTES: u64 = 1 << 20;

/// Full buffers of a large file that the disk may have before the writer waits: it always has the
/// next one when it is done with one, and makes up for a slow one.
const BLOCKS_AHEAD: usize = 3;

/// Writes a file from its present end on, in pieces of the buffer.
///
/// A large file is written past the page cache, by the disk's threads, while another buffer fills.
#[derive(Debug)]
pub struct SequentialWriter {
    file: Arc<ScratchFile>,
    buffer: Block,
    buffer_bytes: usize,
    filled: usize,
    /// Where the buffer begins in the file; in a large file the start of a disk block.
    written: u64,
    /// Writeback was started up to here.
    started: u64,
    /// Whether it writes past the page cache.
    direct: bool,
    /// Full buffers on their way past the page cache, the oldest first: [`BLOCKS_AHEAD`] at most.
    pending: VecDeque<Pending>,
}

impl SequentialWriter {
    /// Starts behind what `file` holds. Nobody else may write the file meanwhile.
    ///
    /// Memory: `buffer_bytes`, rounded up to disk blocks; four times that for a large file.
    pub fn new(file: Arc<ScratchFile>, buffer_bytes: usize) -> Self {
        let mut writer = Self::cached(file, buffer_bytes);
        if writer.file.is_direct() {
            writer.direct = true;
            writer.buffer_bytes = writer.buffer.bytes().len();
            writer.take_up_a_block();
        }
        writer
    }

    /// The same, through the page cache in any case: for bursts that are faster than the disk.
    pub(super) fn cached(file: Arc<ScratchFile>, buffer_bytes: usize) -> Self {
        let written = file.len();
        Self {
            buffer: Block::new(buffer_bytes),
            buffer_bytes: buffer_bytes.max(1),
            filled: 0,
            written,
            started: written,
            direct: false,
            pending: VecDeque::new(),
            file,
        }
    }

    /// Takes the disk block that the file ends in into the buffer, so that it is written whole.
    fn take_up_a_block(&mut self) {
        let tail = (self.written % BLOCK_BYTES as u64) as usize;
        let start = self.written - tail as u64;
        let into = &mut self.buffer.bytes_mut()[..tail];
        // Where it cannot be read, what follows is not aligned and goes the ordinary way.
        if tail > 0 && self.file.read_exact_at(into, start).is_ok() {
            (self.written, self.filled) = (start, tail);
        }
    }

    /// Returns where the next byte will be in the file.
    pub fn position(&self) -> u64 {
        self.written + self.filled as u64
    }

    /// Returns the file. What is still in the buffer is not in it.
    pub fn file(&self) -> &Arc<ScratchFile> {
        &self.file
    }

    /// Writes all of `bytes`; pieces as large as the buffer go to the file directly.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), SpillError> {
        if self.direct {
            while self.buffer_bytes - self.filled < bytes.len() {
                let (now, later) = bytes.split_at(self.buffer_bytes - self.filled);
                self.room(now.len())?.copy_from_slice(now);
                self.send_blocks()?;
                bytes = later;
            }
        } else if bytes.len() >= self.buffer_bytes {
            self.flush()?;
            return self.write_through(bytes);
        }
        self.room(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Lends the next `bytes` of the file to be written in place; they hold what was there before.
    ///
    /// `bytes` must not be larger than the buffer, less a disk block where the file is large.
    #[inline]
    pub fn room(&mut self, bytes: usize) -> Result<&mut [u8], SpillError> {
        if self.buffer_bytes - self.filled < bytes {
            self.make_room()?;
        }
        let start = self.filled;
        self.filled += bytes;
        Ok(&mut self.buffer.bytes_mut()[start..start + bytes])
    }

    #[cold]
    fn make_room(&mut self) -> Result<(), SpillError> {
        match self.direct {
            true => self.send_blocks(),
            false => self.flush(),
        }
    }

    /// Hands the whole disk blocks of the buffer to the disk; the rest goes on in the other buffer.
    fn send_blocks(&mut self) -> Result<(), SpillError> {
        let whole = self.filled / BLOCK_BYTES * BLOCK_BYTES;
        if whole == 0 {
            return Ok(());
        }
        let mut other = match self.pending.len() < BLOCKS_AHEAD {
            true => None,
            false => self.settle_one()?,
        }
        .unwrap_or_else(|| Block::new(self.buffer_bytes));
        self.file.grow_to(self.written + whole as u64)?;
        let rest = whole..self.filled;
        other.bytes_mut()[..rest.len()].copy_from_slice(&self.buffer.bytes()[rest.clone()]);
        let full = std::mem::replace(&mut self.buffer, other);
        let write = Pending::write(&self.file, full, self.written, whole);
        self.pending.push_back(write);
        self.written += whole as u64;
        self.filled = rest.len();
        Ok(())
    }

    /// Waits for the oldest buffer that is on its way; returns it.
    fn settle_one(&mut self) -> Result<Option<Block>, SpillError> {
        let oldest = self.pending.pop_front().map(Pending::wait).transpose()?;
        Ok(oldest.map(|(block, _)| block))
    }

    /// Waits for everything that is on its way.
    fn settle(&mut self) -> Result<(), SpillError> {
        while self.settle_one()?.is_some() {}
        Ok(())
    }

    /// Hands everything so far to the file, where it can be read from now on.
    pub fn flush(&mut self) -> Result<(), SpillError> {
        if self.direct {
            self.send_blocks()?;
            self.settle()?;
            // A block that is not whole stays here too, and will be written again with its rest.
            let rest = &self.buffer.bytes()[..self.filled];
            return self.file.write_all_at(rest, self.written);
        }
        let filled = std::mem::take(&mut self.filled);
        let bytes = &self.buffer.bytes()[..filled];
        let result = self.file.write_all_at(bytes, self.written);
        result.map(|()| self.wrote(filled))
    }

    /// Writes what is left and returns the length of the file.
    pub fn finish(mut self) -> Result<u64, SpillError> {
        self.flush()?;
        let end = self.position();
        if !self.direct {
            self.file.start_writeback(self.started, end - self.started);
        }
        Ok(end)
    }

    fn write_through(&mut self, bytes: &[u8]) -> Result<(), SpillError> {
        self.file.write_all_at(bytes, self.written)?;
        self.wrote(bytes.len());
        Ok(())
    }

    fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
        if self.written - self.started >= WRITEBACK_BYTES {
            self.file
                .start_writeback(self.started, self.written - self.started);
            self.started = self.written;
        }
    }
}

impl io::Write for SequentialWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::write(self, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(Self::flush(self)?)
    }
}

/// Reads a range of a file once, from its start to its end.
#[derive(Debug)]
pub struct SequentialReader {
    file: Arc<ScratchFile>,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are read and not yet given out.
    ready: Range<usize>,
    /// Bytes of the file that are not read yet.
    ahead: Range<u64>,
    /// Everything of the range before this was let go; `None` when the page cache is left alone.
    released: Option<u64>,
    /// Large files: what reads instead, past the page cache.
    direct: Option<ReadAhead>,
}

impl SequentialReader {
    /// Reads `range` of `file` in windows of `buffer_bytes`. Memory: three of them for a large
    /// file, two otherwise, one of which is page cache.
    pub fn new(file: Arc<ScratchFile>, range: Range<u64>, buffer_bytes: usize) -> Self {
        let buffer = vec![0; buffer_bytes.max(1)];
        let large = file.is_direct();
        let direct = large.then(|| ReadAhead::new(file.clone(), range.clone(), buffer_bytes));
        if !large {
            let bytes = range.end.saturating_sub(range.start);
            file.will_need(range.start, (buffer.len() as u64).min(bytes));
        }
        Self {
            direct,
            file,
            buffer,
            ready: 0..0,
            ahead: range,
            released: None,
        }
    }

    /// Lets the page cache behind the reader go, every MiB.
    #[must_use]
    pub fn drop_behind(mut self) -> Self {
        self.released = Some(self.ahead.start);
        self
    }

    /// Returns the bytes that were not given out yet.
    pub fn remaining(&self) -> u64 {
        self.ready.len() as u64 + self.ahead.end.saturating_sub(self.ahead.start)
    }

    /// Returns exactly `n` bytes, or `None` at the end of the range.
    ///
    /// Errors: `Io` when fewer than `n` are left, `Plan` when the buffer is smaller than `n`.
    #[allow(clippy::should_implement_trait)] // it lends, which an iterator cannot
    pub fn next(&mut self, n: usize) -> Result<Option<&[u8]>, SpillError> {
        if self.ready.len() < n {
            if self.remaining() == 0 {
                return Ok(None);
            }
            self.fill(n)?;
        }
        let start = self.ready.start;
        self.ready.start += n;
        Ok(Some(&self.buffer[start..start + n]))
    }

    /// Moves what is left to the front of the buffer and fills it up, to `n` bytes at least.
    fn fill(&mut self, n: usize) -> Result<(), SpillError> {
        if n > self.buffer.len() {
            let reason = format!("{n} bytes at once from a buffer of {}", self.buffer.len());
            return Err(SpillError::Plan { reason });
        }
        if n as u64 > self.remaining() {
            let operation = format!("read {n} bytes of {}", self.file.purpose());
            return Err(SpillError::io(
                operation,
                io::Error::from(io::ErrorKind::UnexpectedEof),
            ));
        }
        self.buffer.copy_within(self.ready.clone(), 0);
        self.ready = 0..self.ready.len();
        let left = self.ahead.end - self.ahead.start;
        let bytes = ((self.buffer.len() - self.ready.end) as u64).min(left);
        let place = self.ready.end..self.ready.end + bytes as usize;
        self.ready.end = place.end;
        if let Some(direct) = &mut self.direct {
            self.ahead.start += bytes;
            return direct.read(&mut self.buffer[place]);
        }
        self.file
            .read_exact_at(&mut self.buffer[place], self.ahead.start)?;
        self.ahead.start += bytes;
        let next = (self.buffer.len() as u64).min(self.ahead.end - self.ahead.start);
        self.file.will_need(self.ahead.start, next);
        self.release();
        Ok(())
    }

    fn release(&mut self) {
        let at_end = self.ahead.start == self.ahead.end;
        if let Some(released) = &mut self.released
            && (at_end || self.ahead.start - *released >= RELEASE_BYTES)
        {
            self.file
                .drop_cache(*released, self.ahead.start - *released);
            *released = self.ahead.start;
        }
    }
}

impl io::Read for SequentialReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() && self.remaining() > 0 {
            self.fill(1)?;
        }
        let bytes = into.len().min(self.ready.len());
        if bytes > 0
            && let Some(from) = self.next(bytes)?
        {
            into[..bytes].copy_from_slice(from);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::scratch::test_scratch;
    use super::*;

    fn numbers(n: u32) -> Vec<u8> {
        (0..n).flat_map(u32::to_be_bytes).collect()
    }

    /// Whatever the buffer, and however pieces and buffer fit: the same bytes come back.
    #[test]
    fn what_is_written_is_read() {
        let (_parent, scratch) = test_scratch(None);
        let all = numbers(15_000);
        let shapes = [
            (1, 4),
            (4, 4),
            (7, 12),
            (64, 4),
            (100, 60),
            (1 << 16, 4),
            (9_000, 5_000),
        ];
        for ((buffer_bytes, piece), large) in
            shapes.into_iter().flat_map(|s| [(s, false), (s, true)])
        {
            let file = match large {
                false => scratch.create_file("test"),
                true => scratch.create_large_file("test"),
            };
            let file = Arc::new(file.unwrap());
            file.append(b"before").unwrap();
            let mut writer = SequentialWriter::new(file.clone(), buffer_bytes);
            for (number, bytes) in all.chunks(piece).enumerate() {
                writer.write(bytes).unwrap();
                if number % 1_000 == 999 {
                    writer.flush().unwrap();
                    assert_eq!(writer.position(), file.len());
                }
            }
            assert_eq!(writer.position(), 6 + all.len() as u64);
            assert_eq!(writer.finish().unwrap(), file.len());
            let range = 6..file.len();
            let mut reader =
                SequentialReader::new(file.clone(), range.clone(), buffer_bytes.max(piece));
            let mut read = Vec::new();
            while let Some(bytes) = reader.next(piece).unwrap() {
                read.extend_from_slice(bytes);
            }
            assert!(read == all && reader.remaining() == 0);
            let mut reader = SequentialReader::new(file, range, buffer_bytes).drop_behind();
            read.clear();
            reader.read_to_end(&mut read).unwrap();
            assert!(read == all);
        }
    }

    /// A part of a piece at the end is an error, not an end; so is a piece larger than the buffer.
    #[test]
    fn a_short_end_is_an_error() {
        let (_parent, scratch) = test_scratch(None);
        let file = Arc::new(scratch.create_file("test").unwrap());
        file.append(&[1; 10]).unwrap();
        let mut reader = SequentialReader::new(file.clone(), 0..10, 4);
        assert_eq!(reader.next(5).unwrap_err().code(), "sort-plan");
        assert!(reader.next(4).unwrap().is_some() && reader.next(4).unwrap().is_some());
        assert_eq!(reader.next(4).unwrap_err().code(), "scratch-io");
        assert_eq!(reader.remaining(), 2);
        let mut reader = SequentialReader::new(file, 0..11, 16);
        assert_eq!(reader.next(11).unwrap_err().code(), "scratch-io");
    }

    /// More than one start of writeback and one release of the page cache, on a file of some MiB.
    #[test]
    fn hints_do_not_change_bytes() {
        let (_parent, scratch) = test_scratch(None);
        let file = Arc::new(scratch.create_file("test").unwrap());
        let mut writer = SequentialWriter::new(file.clone(), 64 << 10);
        for piece in 0..80_u8 {
            writer.write(&vec![piece; 65_000]).unwrap();
        }
        let len = writer.finish().unwrap();
        let mut reader = SequentialReader::new(file, 0..len, 65_000).drop_behind();
        for piece in 0..80_u8 {
            assert!(
                reader
                    .next(65_000)
                    .unwrap()
                    .unwrap()
                    .iter()
                    .all(|b| *b == piece)
            );
        }
        assert!(reader.next(65_000).unwrap().is_none());
    }
}
