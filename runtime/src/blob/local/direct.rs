//! Writes large files past the page cache.
//!
//! In a container whose limit the page cache has filled, every buffered page first costs the
//! eviction of another one: measured in 64 MiB, a large file is written twice as fast directly.
//! Only whole blocks can be written so; the rest at the end, and everything where the file system
//! refuses, goes the ordinary way. Memory: one buffer of [`BUFFER_BYTES`].

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::spill::{BLOCK_BYTES, Block};

/// Files from this size on are written directly.
pub(super) const DIRECT_BYTES_MIN: u64 = 8 << 20;

/// Bytes of one write: large enough that the disk, not the system call, is the limit.
const BUFFER_BYTES: usize = 1 << 20;

/// Gathers bytes into aligned blocks and writes them.
pub(super) struct DirectWriter<'a> {
    /// The file, opened in the ordinary way: for what cannot be written directly.
    file: &'a File,
    /// The same file without the page cache; `None` once the file system has refused.
    direct: Option<File>,
    buffer: Block,
    filled: usize,
    written: u64,
}

impl<'a> DirectWriter<'a> {
    /// Writes into `file`, which is empty and lies at `path`.
    pub(super) fn new(path: &Path, file: &'a File) -> Self {
        let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        let direct = OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(path)
            .ok();
        Self {
            file,
            direct,
            buffer: Block::new(BUFFER_BYTES),
            filled: 0,
            written: 0,
        }
    }

    /// Appends `piece`.
    pub(super) fn write(&mut self, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() {
            let taken = piece.len().min(BUFFER_BYTES - self.filled);
            let room = self.filled..self.filled + taken;
            self.buffer.bytes_mut()[room].copy_from_slice(&piece[..taken]);
            self.filled += taken;
            piece = &piece[taken..];
            if self.filled == BUFFER_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = &self.buffer.bytes()[..self.filled];
        let whole = bytes.len() / BLOCK_BYTES * BLOCK_BYTES;
        let mut done = 0;
        if let Some(direct) = self.direct.as_ref().filter(|_| whole > 0) {
            match direct.write_all_at(&bytes[..whole], self.written) {
                Ok(()) => done = whole,
                // Not here, or not with this alignment: the ordinary way, from the same place on.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.direct = None,
                Err(error) => return Err(error),
            }
        }
        self.file
            .write_all_at(&bytes[done..], self.written + done as u64)?;
        self.written += self.filled as u64;
        self.filled = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the bytes are the same, whatever the lengths of pieces and of the file.
    #[test]
    fn any_length_is_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        for length in [
            0,
            1,
            4095,
            4096,
            4097,
            BUFFER_BYTES,
            2 * BUFFER_BYTES + 5000,
        ] {
            let bytes: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
            let path = folder.path().join(format!("{length}"));
            let file = File::create(&path).unwrap();
            let mut writer = DirectWriter::new(&path, &file);
            for piece in bytes.chunks(100_003) {
                writer.write(piece).unwrap();
            }
            writer.finish().unwrap();
            file.sync_all().unwrap();
            assert!(std::fs::read(&path).unwrap() == bytes, "{length}");
        }
    }
}
