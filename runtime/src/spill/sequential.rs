//! Sequential writing and reading of scratch files through one fixed buffer each.
//!
//! The writer starts writeback every 2 MiB without waiting for it, so that dirty pages never pile
//! up in a small cgroup and nobody stalls on a large flush. The reader hints the window after the
//! one that it reads, so that the kernel is its second buffer; it can let go of the page cache
//! behind it. Memory: the buffer given, allocated at creation, never grown.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::SpillError;
use super::scratch_file::ScratchFile;

/// Bytes between two starts of writeback: large enough to be cheap, small against any cgroup.
pub(super) const WRITEBACK_BYTES: u64 = 2 << 20;
/// Bytes between two releases of page cache behind a reader: each release is a system call.
pub(super) const RELEASE_BYTES: u64 = 1 << 20;

/// Writes a file from its present end on, in pieces of the buffer.
#[derive(Debug)]
pub struct SequentialWriter {
    file: Arc<ScratchFile>,
    buffer: Vec<u8>,
    filled: usize,
    written: u64,
    started: u64,
}

impl SequentialWriter {
    /// Starts behind what `file` holds. Nobody else may write the file meanwhile.
    pub fn new(file: Arc<ScratchFile>, buffer_bytes: usize) -> Self {
        let written = file.len();
        let buffer = vec![0; buffer_bytes.max(1)];
        Self {
            file,
            buffer,
            filled: 0,
            written,
            started: written,
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
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SpillError> {
        if bytes.len() >= self.buffer.len() {
            self.flush()?;
            return self.write_through(bytes);
        }
        self.room(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Lends the next `bytes` of the file to be written in place; they hold what was there before.
    ///
    /// `bytes` must not be larger than the buffer.
    #[inline]
    pub fn room(&mut self, bytes: usize) -> Result<&mut [u8], SpillError> {
        if self.buffer.len() - self.filled < bytes {
            self.flush()?;
        }
        let start = self.filled;
        self.filled += bytes;
        Ok(&mut self.buffer[start..start + bytes])
    }

    /// Hands the buffer to the file.
    pub fn flush(&mut self) -> Result<(), SpillError> {
        let filled = std::mem::take(&mut self.filled);
        let result = self.file.write_all_at(&self.buffer[..filled], self.written);
        result.map(|()| self.wrote(filled))
    }

    /// Writes what is left and returns the length of the file.
    pub fn finish(mut self) -> Result<u64, SpillError> {
        self.flush()?;
        self.file
            .start_writeback(self.started, self.written - self.started);
        Ok(self.written)
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
}

impl SequentialReader {
    /// Reads `range` of `file` in windows of `buffer_bytes`.
    pub fn new(file: Arc<ScratchFile>, range: Range<u64>, buffer_bytes: usize) -> Self {
        let buffer = vec![0; buffer_bytes.max(1)];
        file.will_need(
            range.start,
            (buffer.len() as u64).min(range.end.saturating_sub(range.start)),
        );
        Self {
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
        self.file
            .read_exact_at(&mut self.buffer[place.clone()], self.ahead.start)?;
        self.ready.end = place.end;
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
        let all = numbers(1_500);
        for (buffer_bytes, piece) in [(1, 4), (4, 4), (7, 12), (64, 4), (100, 60), (1 << 16, 4)] {
            let file = Arc::new(scratch.create_file("test").unwrap());
            file.append(b"before").unwrap();
            let mut writer = SequentialWriter::new(file.clone(), buffer_bytes);
            for bytes in all.chunks(piece) {
                writer.write(bytes).unwrap();
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
