//! Writes and reads large files past the page cache.
//!
//! In a container whose limit the page cache has filled, every buffered page first costs the
//! eviction of another one, and what was read ahead is evicted before it is used: measured in 64
//! MiB, a large file is written and read twice as fast directly. Only whole blocks can be moved so;
//! the rest at the end, and everything where the file system refuses, goes the ordinary way.
//! Memory: [`BLOCKS`] buffers of [`BUFFER_BYTES`] and a thread for each file that is written,
//! [`READ_BYTES`] for a read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::spill::{BLOCK_BYTES, Block};

/// Files from this size on are written directly.
pub(super) const DIRECT_BYTES_MIN: u64 = 8 << 20;

/// Reads from this size on are direct: packs in long pieces, not the small things around them.
pub(super) const DIRECT_READ_MIN: usize = 256 << 10;

/// Bytes of one write: large enough that the disk, not the system call, is the limit.
const BUFFER_BYTES: usize = 512 << 10;

/// Blocks of a writer: one is filled while the other is written.
const BLOCKS: usize = 2;

/// Bytes of one read.
const READ_BYTES: usize = 512 << 10;

/// Buffers of reads that are kept: one for each worker.
const READS_KEPT: usize = 2;

/// Gathers bytes into aligned blocks, which a thread writes into a file meanwhile.
#[derive(Debug)]
pub(super) struct DirectWriter {
    block: Block,
    filled: usize,
    /// Blocks that there are: two at most.
    blocks: usize,
    /// Full blocks on their way to the thread; `None` once it was told to end.
    full: Option<SyncSender<(Block, usize)>>,
    /// Blocks that it has written.
    written: Receiver<Block>,
    thread: Option<JoinHandle<io::Result<File>>>,
}

impl DirectWriter {
    /// Writes into `file`, which is empty.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let (full, incoming) = sync_channel::<(Block, usize)>(1);
        let (done, written) = sync_channel(BLOCKS);
        let thread = std::thread::Builder::new().name("blob-writer".to_owned());
        let thread = thread.spawn(move || {
            let mut target = Target::new(file);
            for (block, bytes) in incoming {
                target.write(&block.bytes()[..bytes])?;
                let _ = done.send(block); // nobody waits for it any more at the end
            }
            Ok(target.file)
        })?;
        Ok(Self {
            block: Block::new(BUFFER_BYTES),
            filled: 0,
            blocks: 1,
            full: Some(full),
            written,
            thread: Some(thread),
        })
    }

    /// Appends `piece`.
    pub(super) fn write(&mut self, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() {
            let taken = piece.len().min(BUFFER_BYTES - self.filled);
            let room = self.filled..self.filled + taken;
            self.block.bytes_mut()[room].copy_from_slice(&piece[..taken]);
            self.filled += taken;
            piece = &piece[taken..];
            if self.filled == BUFFER_BYTES {
                let next = self.next_block()?;
                self.send(next)?;
            }
        }
        Ok(())
    }

    /// Writes what is left and gives the file back, as an ordinary one.
    pub(super) fn finish(mut self) -> io::Result<File> {
        if self.filled > 0 {
            self.send(Block::default())?;
        }
        self.join()
    }

    fn next_block(&mut self) -> io::Result<Block> {
        if self.blocks < BLOCKS {
            self.blocks += 1;
            return Ok(Block::new(BUFFER_BYTES));
        }
        match self.written.recv() {
            Ok(block) => Ok(block),
            Err(_) => Err(self.cause()),
        }
    }

    fn send(&mut self, next: Block) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, next);
        let bytes = std::mem::take(&mut self.filled);
        let sent = self.full.as_ref().map(|full| full.send((block, bytes)));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(self.cause()),
        }
    }

    /// Returns why the thread has ended.
    fn cause(&mut self) -> io::Error {
        let gone = || io::Error::other("the writing thread is gone");
        self.join().err().unwrap_or_else(gone)
    }

    fn join(&mut self) -> io::Result<File> {
        self.full = None;
        let ended = self.thread.take().map(JoinHandle::join);
        let gone = || Err(io::Error::other("the writing thread is gone"));
        ended.and_then(Result::ok).unwrap_or_else(gone)
    }
}

impl Drop for DirectWriter {
    /// Nothing is written any more when a put has failed.
    fn drop(&mut self) {
        let _ = self.join();
    }
}

/// A file that blocks are appended to.
struct Target {
    file: File,
    /// Whether the file goes past the page cache now.
    direct: bool,
    written: u64,
}

impl Target {
    fn new(file: File) -> Self {
        Self {
            direct: set_direct(&file, true),
            file,
            written: 0,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let whole = bytes.len() / BLOCK_BYTES * BLOCK_BYTES;
        let mut done = 0;
        if self.direct && whole > 0 {
            match self.file.write_all_at(&bytes[..whole], self.written) {
                Ok(()) => done = whole,
                // Not here, or not with this alignment: the ordinary way, from the same place on.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                Err(error) => return Err(error),
            }
        }
        if done < bytes.len() {
            self.direct = self.direct && !set_direct(&self.file, false);
            self.file
                .write_all_at(&bytes[done..], self.written + done as u64)?;
        }
        self.written += bytes.len() as u64;
        Ok(())
    }
}

/// Buffers of direct reads, used again and again: fresh memory costs a fault a page.
#[derive(Debug, Default)]
pub(super) struct DirectReads(Mutex<Vec<Block>>);

impl DirectReads {
    /// Fills `into` from `offset` as far as `file` reaches, past the page cache; returns how many
    /// bytes.
    ///
    /// `None` where the file system or the alignment does not allow it. Memory: [`READ_BYTES`] for
    /// each read at the same time.
    pub(super) fn read(
        &self,
        file: &File,
        offset: u64,
        into: &mut [u8],
    ) -> io::Result<Option<usize>> {
        if !set_direct(file, true) {
            return Ok(None);
        }
        let kept = || self.0.lock().ok()?.pop();
        let mut blocks = kept().unwrap_or_else(|| Block::new(READ_BYTES));
        let read = read_blocks(file, offset, into, &mut blocks);
        set_direct(file, false);
        if let Ok(mut kept) = self.0.lock()
            && kept.len() < READS_KEPT
        {
            kept.push(blocks);
        }
        match read {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
            read => read.map(Some),
        }
    }
}

fn read_blocks(file: &File, offset: u64, into: &mut [u8], blocks: &mut Block) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        let position = offset + filled as u64;
        let skipped = (position % BLOCK_BYTES as u64) as usize;
        let wanted = (skipped + into.len() - filled).next_multiple_of(BLOCK_BYTES);
        let wanted = wanted.min(READ_BYTES);
        let got = loop {
            let buffer = &mut blocks.bytes_mut()[..wanted];
            match file.read_at(buffer, position - skipped as u64) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        let got = blocks.bytes().get(skipped..got).unwrap_or_default();
        let taken = got.len().min(into.len() - filled);
        into[filled..filled + taken].copy_from_slice(&got[..taken]);
        filled += taken;
        if taken == 0 {
            break;
        }
    }
    Ok(filled)
}

/// Sends what goes to the file past the page cache, or through it; returns whether that is so now.
fn set_direct(file: &File, direct: bool) -> bool {
    let set = |flags: OFlags| {
        let mut wanted = flags;
        wanted.set(OFlags::DIRECT, direct);
        fcntl_setfl(file, wanted)
    };
    fcntl_getfl(file).and_then(set).is_ok()
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
            let mut writer = DirectWriter::new(file).unwrap();
            for piece in bytes.chunks(100_003) {
                writer.write(piece).unwrap();
            }
            let file = writer.finish().unwrap();
            file.sync_all().unwrap();
            assert!(std::fs::read(&path).unwrap() == bytes, "{length}");
        }
    }

    /// Goal: what went wrong is told, and by the call that comes next.
    #[test]
    fn a_failed_write_is_told() {
        let file = File::options().write(true).open("/dev/full").unwrap();
        let mut writer = DirectWriter::new(file).unwrap();
        let wrote = (0..4).try_for_each(|_| writer.write(&[1; BUFFER_BYTES]));
        assert_eq!(wrote.unwrap_err().kind(), io::ErrorKind::StorageFull);
        let file = File::options().write(true).open("/dev/full").unwrap();
        let mut writer = DirectWriter::new(file).unwrap();
        writer.write(b"little").unwrap();
        let error = writer.finish().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    /// Goal: a read gives what is there, wherever it begins and the file ends.
    #[test]
    fn any_range_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..1_300_007).map(|at| (at * 7 % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        let reads = DirectReads::default();
        for offset in [
            0, 1, 4095, 4096, 500_000, 1_299_999, 1_300_006, 1_300_007, 9_000_000,
        ] {
            for length in [0, 1, 4096, 300_000, 2_000_000] {
                let mut into = vec![0; length];
                let Some(got) = reads.read(&file, offset, &mut into).unwrap() else {
                    continue; // this file system cannot
                };
                let from = (offset as usize).min(bytes.len());
                let end = (from + length).min(bytes.len());
                assert!(into[..got] == bytes[from..end], "{length} at {offset}");
            }
        }
        let mut all = vec![0; bytes.len()];
        file.read_exact_at(&mut all, 0).unwrap();
        assert!(all == bytes, "and the ordinary way after it");
    }
}
