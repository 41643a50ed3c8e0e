//! Reads and writes large scratch files past the page cache, in threads of their own.
//!
//! In a container whose memory is small, every page that goes through the page cache costs the
//! eviction of another one, and what was read ahead is evicted before it is used: a merge of 20
//! million entries in 64 MiB read everything twice. So the buffers here are ours, planned like all
//! others, and the disk moves each byte once. A disk that takes its time stops nobody: a stream has
//! blocks on their way while it works on another one.
//!
//! Memory: [`THREADS`] small stacks; blocks belong to the streams. At most one job for each reader
//! and three for each writer wait.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, mpsc};

use super::SpillError;
use super::scratch_file::ScratchFile;

/// Reads and writes that the disk works on at a time: with pieces of some 100 KiB that is all it
/// can do.
const THREADS: usize = 3;

/// They call the kernel and nothing else.
const STACK_BYTES: usize = 64 << 10;

/// Alignment of memory, offset and length that all common disks accept.
pub const BLOCK_BYTES: usize = 4096;

/// A buffer that begins at a multiple of [`BLOCK_BYTES`] in memory.
#[derive(Debug, Default)]
pub struct Block {
    bytes: Vec<u8>,
    start: usize,
    capacity: usize,
}

impl Block {
    /// Allocates `capacity` bytes, rounded up to whole disk blocks, and one disk block more.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1).next_multiple_of(BLOCK_BYTES);
        let bytes = vec![0; capacity + BLOCK_BYTES];
        let start = bytes.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        Self {
            bytes,
            start,
            capacity,
        }
    }

    /// Returns the buffer.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.capacity]
    }

    /// Returns the buffer.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.capacity]
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// The threads of one scratch; started with the first job, ended with the scratch.
#[derive(Debug, Default)]
pub(super) struct Disk {
    jobs: OnceLock<mpsc::Sender<Job>>,
}

impl Disk {
    /// Runs `job` in a thread, or here when there can be none.
    fn submit(&self, job: Job) {
        if let Err(mpsc::SendError(job)) = self.jobs.get_or_init(start_threads).send(job) {
            job();
        }
    }
}

fn start_threads() -> mpsc::Sender<Job> {
    let (jobs, incoming) = channel::<Job>();
    let incoming = Arc::new(Mutex::new(incoming));
    for _ in 0..THREADS {
        let incoming = Arc::clone(&incoming);
        let thread = std::thread::Builder::new()
            .name("scratch-disk".to_owned())
            .stack_size(STACK_BYTES);
        // Without threads the channel has no receiver any more, and jobs are done where they arise.
        let _ = thread.spawn(move || {
            loop {
                let next = incoming.lock().map(|jobs| jobs.recv());
                match next {
                    Ok(Ok(job)) => job(),
                    _ => break,
                }
            }
        });
    }
    jobs
}

/// What a job gives back. The file comes too, so that its last owner is never the disk's thread.
struct Done {
    _file: Arc<ScratchFile>,
    block: Block,
    result: Result<usize, SpillError>,
}

/// A read or write under way; waits for its end when it is dropped.
#[derive(Debug)]
pub(super) struct Pending(Receiver<Done>);

impl Pending {
    /// Starts to read `bytes` at `offset`, both whole disk blocks, or as much of them as the file
    /// has.
    pub(super) fn read(
        file: &Arc<ScratchFile>,
        mut block: Block,
        offset: u64,
        bytes: usize,
    ) -> Self {
        Self::start(file, move |file| {
            let result = file.read_blocks(&mut block.bytes_mut()[..bytes], offset);
            (block, result)
        })
    }

    /// Starts to write the first `bytes` of the block at `offset`, both whole disk blocks.
    pub(super) fn write(file: &Arc<ScratchFile>, block: Block, offset: u64, bytes: usize) -> Self {
        Self::start(file, move |file| {
            let written = file.write_blocks(&block.bytes()[..bytes], offset);
            (block, written.map(|()| bytes))
        })
    }

    fn start(
        file: &Arc<ScratchFile>,
        work: impl FnOnce(&ScratchFile) -> (Block, Result<usize, SpillError>) + Send + 'static,
    ) -> Self {
        let (done, result): (SyncSender<Done>, _) = sync_channel(1);
        let moved = Arc::clone(file);
        file.disk().submit(Box::new(move || {
            let (block, result) = work(&moved);
            let _ = done.send(Done {
                _file: moved,
                block,
                result,
            });
        }));
        Self(result)
    }

    /// Waits; returns the block and how many bytes were read or written.
    pub(super) fn wait(self) -> Result<(Block, usize), SpillError> {
        let gone = |_| SpillError::io("use the disk".to_owned(), io::Error::other("thread gone"));
        let done = self.0.recv().map_err(gone)?;
        Ok((done.block, done.result?))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let _ = self.0.recv();
    }
}
