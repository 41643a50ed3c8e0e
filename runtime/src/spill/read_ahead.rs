//! Reads a range of a large scratch file once, from start to end, always one piece ahead.
//!
//! Memory: two pieces, given when it is made. Ranges may begin and end anywhere; whole disk blocks
//! are read.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::SpillError;
use super::disk::{BLOCK_BYTES, Block, Pending};
use super::scratch_file::ScratchFile;

/// A stream of bytes, and the next piece of it on its way.
#[derive(Debug)]
pub(super) struct ReadAhead {
    file: Arc<ScratchFile>,
    /// What was not asked for yet; begins at a disk block.
    ahead: Range<u64>,
    piece_bytes: usize,
    pending: Option<Pending>,
    /// Where the pending piece begins, and the first byte of it that is wanted.
    asked: (u64, u64),
    current: Option<Block>,
    /// Bytes of the current piece that were not given out.
    ready: Range<usize>,
}

impl ReadAhead {
    /// Starts to read `range` of `file` in pieces of `piece_bytes`, rounded down to disk blocks.
    pub(super) fn new(file: Arc<ScratchFile>, range: Range<u64>, piece_bytes: usize) -> Self {
        let block = BLOCK_BYTES as u64;
        let mut reader = Self {
            file,
            ahead: range.start / block * block..range.end,
            piece_bytes: (piece_bytes / BLOCK_BYTES).max(1) * BLOCK_BYTES,
            pending: None,
            asked: (0, range.start),
            current: None,
            ready: 0..0,
        };
        if !range.is_empty() {
            reader.ask(None);
        }
        reader
    }

    /// Fills `into` with the next bytes. Errors: `Io`, also when the range or the file ends before.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<(), SpillError> {
        let mut filled = 0;
        while filled < into.len() {
            if self.ready.is_empty() {
                self.next_piece()?;
            }
            let bytes = self.ready.len().min(into.len() - filled);
            let from = self.ready.start..self.ready.start + bytes;
            if let Some(block) = &self.current {
                into[filled..filled + bytes].copy_from_slice(&block.bytes()[from]);
            }
            self.ready.start += bytes;
            filled += bytes;
        }
        Ok(())
    }

    fn next_piece(&mut self) -> Result<(), SpillError> {
        let end = || {
            let operation = format!("read the end of {}", self.file.purpose());
            SpillError::io(operation, io::Error::from(io::ErrorKind::UnexpectedEof))
        };
        let pending = self.pending.take().ok_or_else(end)?;
        let (start, wanted) = self.asked;
        let used = self.current.take();
        let (block, got) = pending.wait()?;
        let until = (start + got as u64).min(self.ahead.end);
        let complete = until == self.ahead.start.min(self.ahead.end);
        if !complete || until <= wanted {
            return Err(end());
        }
        self.current = Some(block);
        self.ready = (wanted - start) as usize..(until - start) as usize;
        self.asked = (self.ahead.start, self.ahead.start);
        if self.ahead.start < self.ahead.end {
            self.ask(used);
        }
        Ok(())
    }

    /// Asks for the next piece, into a block that was used or a new one.
    fn ask(&mut self, used: Option<Block>) {
        let block = used.unwrap_or_else(|| Block::new(self.piece_bytes));
        let start = self.ahead.start;
        self.asked.0 = start;
        self.ahead.start += self.piece_bytes as u64;
        self.pending = Some(Pending::read(&self.file, block, start, self.piece_bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::super::scratch::test_scratch;
    use super::super::sequential::SequentialWriter;
    use super::*;

    /// Any range comes back in pieces of any size; a file that was cut is an error.
    #[test]
    fn ranges_are_read_whole() {
        let (_parent, scratch) = test_scratch(None);
        let all: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
        let file = Arc::new(scratch.create_large_file("test").unwrap());
        let mut writer = SequentialWriter::new(file.clone(), 10_000);
        all.chunks(777)
            .for_each(|piece| writer.write(piece).unwrap());
        assert_eq!(writer.finish().unwrap(), 200_000);
        for range in [
            0..1,
            0..200_000,
            4_095..4_097,
            8_192..12_288,
            199_999..200_000,
            5..150_001,
        ] {
            for piece_bytes in [1, 4_096, 100_000, 1 << 20] {
                let mut reader = ReadAhead::new(file.clone(), range.clone(), piece_bytes);
                let mut read = vec![0; (range.end - range.start) as usize];
                for part in read.chunks_mut(3_001) {
                    reader.read(part).unwrap();
                }
                assert!(
                    read == all[range.start as usize..range.end as usize],
                    "{range:?}"
                );
                assert_eq!(reader.read(&mut [0]).unwrap_err().code(), "scratch-io");
            }
        }
        file.truncate(100_000).unwrap();
        let mut reader = ReadAhead::new(file, 0..150_000, 8_192);
        let error = reader.read(&mut vec![0; 150_000]).unwrap_err();
        assert_eq!(error.code(), "scratch-io");
    }
}
