//! One scratch file: positional reads and writes, hints for the page cache, an account of its
//! bytes.
//!
//! The file has no name any more, so it is ours alone and goes with its last descriptor, `kill -9`
//! included. Growth is accounted before it is written. Hints are hints: their errors are ignored.
//! Memory: the struct; the page cache is the kernel's and reclaimable.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};

use super::SpillError;
use super::disk::Disk;
use super::scratch::Scratch;

/// A file of the run directory. Shared between threads in an `Arc`; every method takes its own
/// position.
#[derive(Debug)]
pub struct ScratchFile {
    scratch: Scratch,
    file: File,
    /// The same file without the page cache, for large streams.
    direct: Option<File>,
    purpose: Box<str>,
    len: AtomicU64,
    punched: AtomicU64,
}

impl ScratchFile {
    pub(super) fn new(
        scratch: Scratch,
        (file, direct): (File, Option<File>),
        purpose: &str,
    ) -> Self {
        let (len, punched) = (AtomicU64::new(0), AtomicU64::new(0));
        Self {
            scratch,
            file,
            direct,
            purpose: purpose.into(),
            len,
            punched,
        }
    }

    /// Returns what the file is for, as given when it was made.
    pub fn purpose(&self) -> &str {
        &self.purpose
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Tells whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes all of `bytes` at `offset`; the file grows when they end behind it. Errors: `Full`,
    /// `Io`.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<(), SpillError> {
        self.grow_to(offset.saturating_add(bytes.len() as u64))?;
        self.write_at(bytes, offset)
    }

    /// Writes `bytes` behind everything written so far and returns where; several threads may do
    /// so.
    pub fn append(&self, bytes: &[u8]) -> Result<u64, SpillError> {
        let len = bytes.len() as u64;
        self.scratch.reserve(&self.purpose, len)?;
        let offset = self.len.fetch_add(len, Ordering::AcqRel);
        self.write_at(bytes, offset)?;
        Ok(offset)
    }

    /// Returns whether streams of this file go past the page cache.
    pub(super) fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// Returns the threads that read and write large files.
    pub(super) fn disk(&self) -> &Disk {
        self.scratch.disk()
    }

    /// Writes whole disk blocks past the page cache. Their growth was accounted before.
    pub(super) fn write_blocks(&self, blocks: &[u8], offset: u64) -> Result<(), SpillError> {
        self.scratch.check_halt()?;
        let direct = self.direct.as_ref();
        let write = |direct: &File| self.making_room(|| direct.write_all_at(blocks, offset));
        match direct.map(write) {
            Some(Err(error)) if error.kind() != io::ErrorKind::InvalidInput => {
                let bytes = blocks.len() as u64;
                let purpose = &self.purpose;
                Err(self.scratch.disk_error("write", purpose, bytes, error))
            }
            Some(Ok(())) => Ok(()),
            // Not with this alignment: the ordinary way.
            _ => self.write_at(blocks, offset),
        }
    }

    /// Reads whole disk blocks past the page cache, or as much of them as the file has; returns how
    /// many bytes.
    pub(super) fn read_blocks(&self, into: &mut [u8], offset: u64) -> Result<usize, SpillError> {
        self.scratch.check_halt()?;
        let direct = self.direct.as_ref().unwrap_or(&self.file);
        let mut got = 0;
        while got < into.len() {
            let read = direct.read_at(&mut into[got..], offset + got as u64);
            let read = match read {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.file.read_at(&mut into[got..], offset + got as u64)
                }
                other => other,
            };
            match read {
                Ok(0) => break,
                Ok(bytes) => got += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let operation = format!("read {} bytes at {offset}", into.len());
                    let operation = format!("{operation} of scratch file for {}", self.purpose);
                    return Err(SpillError::io(operation, error));
                }
            }
        }
        Ok(got)
    }

    /// Fills `buf` from `offset`; a file that ends before is an `Io` error.
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), SpillError> {
        self.scratch.check_halt()?;
        self.file.read_exact_at(buf, offset).map_err(|error| {
            let place = format!("read {} bytes at {offset}", buf.len());
            SpillError::io(
                format!("{place} of scratch file for {}", self.purpose),
                error,
            )
        })
    }

    /// Cuts or extends the file to `len` bytes (holes read as zeros) and accounts the difference.
    ///
    /// Not to be called while other threads write, nor on a file that was punched.
    pub fn truncate(&self, len: u64) -> Result<(), SpillError> {
        debug_assert_eq!(
            self.punched.load(Ordering::Relaxed),
            0,
            "punched files do not shrink"
        );
        self.grow_to(len)?;
        let set = self.file.set_len(len);
        set.map_err(|error| {
            self.scratch
                .disk_error("truncate", &self.purpose, len, error)
        })?;
        let before = self.len.swap(len, Ordering::AcqRel);
        self.scratch.give_back(before - len);
        Ok(())
    }

    /// Gives the file `len` bytes of disk now, so that a later write to a mapping cannot find it
    /// full.
    pub(super) fn allocate(&self, len: u64) -> Result<(), SpillError> {
        self.grow_to(len)?;
        let flags = FallocateFlags::empty();
        match self.making_room(|| Ok(fallocate(&self.file, flags, 0, len)?)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.write_zeros(len),
            Err(error) => Err(self
                .scratch
                .disk_error("allocate", &self.purpose, len, error)),
        }
    }

    /// Asks the kernel to start writing these bytes out, without waiting for it.
    ///
    /// `POSIX_FADV_DONTNEED` does exactly that on Linux: it starts writeback of dirty pages in the
    /// range and drops only those that are clean already. (`sync_file_range` would need `unsafe`.)
    pub fn start_writeback(&self, offset: u64, len: u64) {
        self.advise(offset, len, Advice::DontNeed);
    }

    /// Asks the kernel to read these bytes ahead.
    pub fn will_need(&self, offset: u64, len: u64) {
        self.advise(offset, len, Advice::WillNeed);
    }

    /// Lets the kernel forget these bytes, so that the page cache keeps more useful ones.
    pub fn drop_cache(&self, offset: u64, len: u64) {
        self.advise(offset, len, Advice::DontNeed);
    }

    /// Gives the disk space of these bytes back; they read as zeros. Each byte is punched once at
    /// most.
    ///
    /// A file system that cannot do it keeps the space until the file is dropped.
    pub(super) fn punch(&self, offset: u64, len: u64) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if len > 0 && fallocate(&self.file, flags, offset, len).is_ok() {
            self.punched.fetch_add(len, Ordering::AcqRel);
            self.scratch.give_back(len);
        }
    }

    /// Turns the kernel's own guesses about reading ahead off; `will_need` does that here.
    ///
    /// Many runs in one file, read in turn, look sequential to it now and then: it then reads up to
    /// the device's whole read-ahead and evicts what others need. Under 64 MiB that doubled the
    /// bytes read.
    pub(super) fn expect_scattered_reads(&self) {
        let _ = fadvise(&self.file, 0, None, Advice::Random);
    }

    /// Returns the descriptor, for mapping.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    fn advise(&self, offset: u64, len: u64, advice: Advice) {
        if let Some(len) = NonZeroU64::new(len) {
            let _ = fadvise(&self.file, offset, Some(len), advice);
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), SpillError> {
        self.scratch.check_halt()?;
        let written = self.making_room(|| self.file.write_all_at(bytes, offset));
        written.map_err(|error| {
            self.scratch
                .disk_error("write", &self.purpose, bytes.len() as u64, error)
        })
    }

    /// Does `work`, once more where the disk was full and the shelf has given way.
    fn making_room(&self, work: impl Fn() -> io::Result<()>) -> io::Result<()> {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        match work() {
            Err(error) if matches!(error.kind(), StorageFull | QuotaExceeded) => {
                match self.scratch.shelf_gives_way() {
                    true => work(),
                    false => Err(error),
                }
            }
            done => done,
        }
    }

    /// Accounts the growth to `end`; the length never shrinks here.
    pub(super) fn grow_to(&self, end: u64) -> Result<(), SpillError> {
        let mut len = self.len();
        while len < end {
            self.scratch.reserve(&self.purpose, end - len)?;
            match self
                .len
                .compare_exchange(len, end, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Ok(()),
                Err(now) => {
                    self.scratch.give_back(end - len);
                    len = now;
                }
            }
        }
        Ok(())
    }

    fn write_zeros(&self, len: u64) -> Result<(), SpillError> {
        const ZEROS: [u8; 16 << 10] = [0; 16 << 10];
        let mut offset = 0;
        while offset < len {
            let piece = (len - offset).min(ZEROS.len() as u64);
            self.write_at(&ZEROS[..piece as usize], offset)?;
            offset += piece;
        }
        Ok(())
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        let len = *self.len.get_mut();
        self.scratch
            .give_back(len - (*self.punched.get_mut()).min(len));
    }
}

#[cfg(test)]
mod tests {
    use super::super::scratch::test_scratch;
    use super::*;

    /// Every way to grow, shrink and drop a file is accounted.
    #[test]
    fn bytes_are_accounted() {
        let (_parent, scratch) = test_scratch(None);
        let file = scratch.create_file("test").unwrap();
        assert!(file.is_empty());
        file.write_all_at(b"hello", 10).unwrap();
        assert_eq!((file.len(), scratch.used_bytes()), (15, 15));
        file.write_all_at(b"hello", 2).unwrap();
        assert_eq!(file.append(b"world").unwrap(), 15);
        let mut read = [0; 20];
        file.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(&read, b"\0\0hello\0\0\0helloworld");
        file.truncate(4).unwrap();
        assert_eq!(
            (file.len(), scratch.used_bytes(), scratch.peak_bytes()),
            (4, 4, 20)
        );
        file.truncate(100_000).unwrap();
        file.punch(0, 65_536);
        assert!(scratch.used_bytes() == 100_000 - 65_536 || scratch.used_bytes() == 100_000);
        let error = file.read_exact_at(&mut read, 99_990).unwrap_err();
        assert_eq!(error.code(), "scratch-io");
        drop(file);
        assert_eq!((scratch.used_bytes(), scratch.peak_bytes()), (0, 100_000));
    }

    /// A write that would pass the quota is refused before it happens, with the numbers.
    #[test]
    fn the_quota_holds() {
        let (_parent, scratch) = test_scratch(Some(100));
        let (one, two) = (
            scratch.create_file("one").unwrap(),
            scratch.create_file("two").unwrap(),
        );
        one.append(&[1; 60]).unwrap();
        let error = two.write_all_at(&[2; 41], 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "two: needs 41 B of scratch, 40 B free of a quota of 100 B"
        );
        assert_eq!(two.append(&[2; 41]).unwrap_err().code(), "scratch-full");
        assert_eq!(two.truncate(41).unwrap_err().code(), "scratch-full");
        assert_eq!(two.allocate(41).unwrap_err().code(), "scratch-full");
        assert_eq!((two.len(), scratch.used_bytes()), (0, 60));
        two.append(&[2; 40]).unwrap();
        drop(one);
        two.append(&[2; 60]).unwrap();
    }

    /// A run that is to end gets no further than its next read or write.
    #[test]
    fn a_halt_ends_reads_and_writes() {
        use std::sync::Arc;
        use std::sync::atomic::AtomicBool;
        let (_parent, scratch) = test_scratch(None);
        let file = scratch.create_file("test").unwrap();
        file.append(b"before").unwrap();
        let (halt, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (flag, count) = (Arc::clone(&halt), Arc::clone(&asked));
        scratch.halt_when(move || {
            count.fetch_add(1, Ordering::Relaxed);
            flag.load(Ordering::Relaxed)
        });
        file.append(b"more").unwrap();
        halt.store(true, Ordering::Relaxed);
        assert_eq!(file.append(b"x").unwrap_err().code(), "scratch-halted");
        let error = file.read_exact_at(&mut [0; 1], 0).unwrap_err();
        assert_eq!(error.code(), "scratch-halted");
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    /// The device that is always full stands in for a full disk.
    #[test]
    fn a_full_disk_says_so() {
        let (_parent, scratch) = test_scratch(None);
        let Ok(device) = File::options().write(true).open("/dev/full") else {
            return;
        };
        let file = ScratchFile::new(scratch.clone(), (device, None), "test");
        let error = file.append(b"x").unwrap_err();
        let SpillError::Full {
            needed: 1,
            free,
            quota: None,
            ..
        } = error
        else {
            panic!("{error}")
        };
        assert!(free > 0);
        drop(file);
        assert_eq!(scratch.used_bytes(), 0);
    }

    /// Appends from several threads do not overlap.
    #[test]
    fn appends_do_not_overlap() {
        let (_parent, scratch) = test_scratch(None);
        let file = scratch.create_file("test").unwrap();
        std::thread::scope(|scope| {
            for thread in 1..=4_u8 {
                let file = &file;
                scope.spawn(move || {
                    (0..100).for_each(|_| {
                        file.append(&[thread; 7]).unwrap();
                    })
                });
            }
        });
        let mut all = vec![0; 2_800];
        file.read_exact_at(&mut all, 0).unwrap();
        assert!(
            all.chunks(7)
                .all(|piece| piece[0] > 0 && piece.iter().all(|b| *b == piece[0]))
        );
    }
}
