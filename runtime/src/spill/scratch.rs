//! Scratch: disk that stands in for memory, with a quota and an account of what is used.
//!
//! Everything is inside one run directory (see `run_directory.rs`) that is locked while it is used
//! and removed afterwards. A scratch directory in memory (tmpfs) is refused: it would fill the
//! cgroup that it is there to spare. A task asks [`Scratch::require`] before it starts, so that a
//! full disk is found before the work.
//!
//! Invariant: `used_bytes` is the sum of the lengths of the living scratch files, less what was
//! punched out of them, and never above the quota; what is kept on the shelf (see `shelf.rs`) gives
//! way to it. Memory: one small allocation, and one for each open file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use cap_std::fs::Dir;

use super::SpillError;
use super::disk::Disk;
use super::run_directory::{self, RunDirectory};
pub use super::scratch_file::ScratchFile;
pub use super::sequential::{SequentialReader, SequentialWriter};
use super::shelf::Shelf;

/// `f_type` of tmpfs in `statfs(2)`.
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// `f_type` of ramfs in `statfs(2)`.
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// Where scratch lives and how large it may become.
#[derive(Clone, Debug)]
pub struct ScratchOptions {
    /// The directory that run directories are made in; created (0700) when it is not there.
    pub parent: PathBuf,
    /// Most bytes that scratch files may have together; without it the disk is the limit.
    pub quota_bytes: Option<u64>,
    /// Accepts a directory in memory. For suites.
    pub tmpfs_allowed: bool,
    /// Whether large streams go past the page cache: right where it is small, as in a container.
    pub direct: bool,
}

/// The scratch disk of one run. Clones share it; the last one, files included, removes the run
/// directory.
#[derive(Clone, Debug)]
pub struct Scratch {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: RunDirectory,
    quota_bytes: Option<u64>,
    direct: bool,
    used_bytes: AtomicU64,
    peak_bytes: AtomicU64,
    files_created: AtomicU64,
    halt: OnceLock<HaltCheck>,
    disk: Disk,
    shelf: OnceLock<Shelf>,
}

/// Asked before scratch is read or written.
struct HaltCheck(Box<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for HaltCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HaltCheck")
    }
}

impl Scratch {
    /// Removes what dead runs left in the parent, then makes and locks a fresh run directory there.
    ///
    /// `random` names the directory. Errors: `Tmpfs`, `Locked` when the name is taken, `Io`.
    pub fn create(options: &ScratchOptions, random: [u8; 8]) -> Result<Self, SpillError> {
        let path = options.parent.as_path();
        let fail = |error| SpillError::io(format!("scratch directory {}", path.display()), error);
        let parent = run_directory::open_parent(path).map_err(fail)?;
        refuse_memory(&parent, path, options.tmpfs_allowed)?;
        run_directory::remove_abandoned(&parent).map_err(fail)?;
        let directory = RunDirectory::create(parent, path, random)?;
        Ok(Self {
            inner: Arc::new(Inner {
                directory,
                quota_bytes: options.quota_bytes,
                direct: options.direct,
                used_bytes: AtomicU64::new(0),
                peak_bytes: AtomicU64::new(0),
                files_created: AtomicU64::new(0),
                halt: OnceLock::new(),
                disk: Disk::default(),
                shelf: OnceLock::new(),
            }),
        })
    }

    /// Lets `halt` end the run: when it says yes, every read and write of scratch fails. Long sorts
    /// and merges touch nothing else. Only the first of a run directory counts.
    pub fn halt_when(&self, halt: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.inner.halt.set(HaltCheck(Box::new(halt)));
    }

    /// Fails when the run is to end.
    #[inline]
    pub(super) fn check_halt(&self) -> Result<(), SpillError> {
        match self.inner.halt.get() {
            Some(HaltCheck(halt)) if halt() => Err(SpillError::Halted),
            _ => Ok(()),
        }
    }

    /// Lets bytes be kept by name from now on ([`Scratch::keep`]): worth it where the same is read
    /// by several tasks. Without it nothing is.
    pub fn open_shelf(&self) {
        let number = self.inner.files_created.fetch_add(1, Ordering::Relaxed);
        match self.inner.directory.create_unlinked(number, false) {
            Ok((file, _)) => {
                let shelf = Shelf::new(file, self.inner.direct);
                let _ = self.inner.shelf.set(shelf);
            }
            Err(error) => tracing::debug!(%error, "nothing is kept in scratch"),
        }
    }

    /// Refuses a task that needs `needed_bytes` when the disk or the quota has less left.
    pub fn require(&self, needed_bytes: u64) -> Result<(), SpillError> {
        let directory = &self.inner.directory;
        let disk = directory.free_bytes().map_err(|error| {
            SpillError::io(
                format!("free space of {}", directory.path().display()),
                error,
            )
        })?;
        let (kept, quota) = (self.shelf_bytes(), self.quota_left());
        let free = disk.saturating_add(kept).min(quota);
        if needed_bytes > free {
            return Err(self.full("this task", needed_bytes, free));
        }
        if needed_bytes > disk.min(quota.saturating_sub(kept)) {
            self.shelf_gives_way();
        }
        Ok(())
    }

    /// Returns the shelf, where one was opened.
    pub(super) fn shelf(&self) -> Option<&Shelf> {
        self.inner.shelf.get()
    }

    /// Empties the shelf for good, and returns whether that made room: whoever needs it does so.
    pub fn shelf_gives_way(&self) -> bool {
        self.shelf().is_some_and(Shelf::give_way)
    }

    fn shelf_bytes(&self) -> u64 {
        self.shelf().map_or(0, Shelf::bytes)
    }

    /// Notes what is there now, the shelf included.
    pub(super) fn note_peak(&self) {
        let bytes = self.used_bytes() + self.shelf_bytes();
        self.inner.peak_bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Returns the bytes that scratch files hold now, without the shelf, which gives way.
    pub fn used_bytes(&self) -> u64 {
        self.inner.used_bytes.load(Ordering::Relaxed)
    }

    /// Returns the most bytes that scratch files and the shelf held at one time.
    pub fn peak_bytes(&self) -> u64 {
        self.inner.peak_bytes.load(Ordering::Relaxed)
    }

    /// Returns the bytes that the disk and the quota still have; 0 when the disk does not tell.
    pub fn free_bytes(&self) -> u64 {
        let disk = self.inner.directory.free_bytes().unwrap_or(0);
        disk.saturating_add(self.shelf_bytes())
            .min(self.quota_left())
    }

    /// Returns where the run directory is, for messages.
    pub fn path(&self) -> &Path {
        self.inner.directory.path()
    }

    /// Makes an empty file without a name; `purpose` is for messages.
    pub fn create_file(&self, purpose: &str) -> Result<ScratchFile, SpillError> {
        self.create_file_of(purpose, false)
    }

    /// Makes an empty file without a name that will have some MiB: its streams go past the page
    /// cache where this scratch is [`direct`](ScratchOptions::direct).
    pub fn create_large_file(&self, purpose: &str) -> Result<ScratchFile, SpillError> {
        self.create_file_of(purpose, self.inner.direct)
    }

    /// Returns the threads that read and write large files.
    pub(super) fn disk(&self) -> &Disk {
        &self.inner.disk
    }

    fn create_file_of(&self, purpose: &str, large: bool) -> Result<ScratchFile, SpillError> {
        let number = self.inner.files_created.fetch_add(1, Ordering::Relaxed);
        let files = self.inner.directory.create_unlinked(number, large);
        let files = files.map_err(|error| self.disk_error("create", purpose, 0, error))?;
        Ok(ScratchFile::new(self.clone(), files, purpose))
    }

    /// Accounts `bytes` more; refuses what would pass the quota.
    pub(super) fn reserve(&self, purpose: &str, bytes: u64) -> Result<(), SpillError> {
        let limit = self.inner.quota_bytes.unwrap_or(u64::MAX);
        let add = |used: u64| used.checked_add(bytes).filter(|after| *after <= limit);
        let used = &self.inner.used_bytes;
        match used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(before) => {
                if (before + bytes).saturating_add(self.shelf_bytes()) > limit {
                    self.shelf_gives_way();
                }
                self.note_peak();
                Ok(())
            }
            Err(before) => Err(self.full(purpose, bytes, limit.saturating_sub(before))),
        }
    }

    /// Takes `bytes` out of the account again.
    pub(super) fn give_back(&self, bytes: u64) {
        let before = self.inner.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "more scratch given back than was taken");
    }

    /// Turns the operating system's answer to a write of `needed` bytes into an error.
    pub(super) fn disk_error(
        &self,
        operation: &str,
        purpose: &str,
        needed: u64,
        error: std::io::Error,
    ) -> SpillError {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(error.kind(), StorageFull | QuotaExceeded) {
            return self.full(purpose, needed, self.free_bytes());
        }
        SpillError::io(format!("{operation} scratch file for {purpose}"), error)
    }

    fn full(&self, operation: &str, needed: u64, free: u64) -> SpillError {
        let quota = self.inner.quota_bytes;
        SpillError::Full {
            operation: operation.to_owned(),
            needed,
            free,
            quota,
        }
    }

    fn quota_left(&self) -> u64 {
        self.inner
            .quota_bytes
            .map_or(u64::MAX, |quota| quota.saturating_sub(self.used_bytes()))
    }
}

/// Refuses a directory whose file system keeps everything in memory.
fn refuse_memory(parent: &Dir, path: &Path, allowed: bool) -> Result<(), SpillError> {
    let stat = rustix::fs::fstatfs(parent)
        .map_err(|error| SpillError::io(format!("file system of {}", path.display()), error))?;
    // The type has a different width and sign on every architecture; the magic numbers have 32
    // bits.
    let kind = stat.f_type as u64 & 0xffff_ffff;
    if !allowed && (kind == TMPFS_MAGIC || kind == RAMFS_MAGIC) {
        return Err(SpillError::Tmpfs {
            path: path.to_owned(),
        });
    }
    Ok(())
}

/// A scratch in a temporary directory, for the unit tests of this floor.
#[cfg(test)]
pub(super) fn test_scratch(quota_bytes: Option<u64>) -> (tempfile::TempDir, Scratch) {
    let parent = tempfile::tempdir().unwrap();
    let options = ScratchOptions {
        parent: parent.path().to_owned(),
        quota_bytes,
        tmpfs_allowed: true,
        direct: true,
    };
    let scratch = Scratch::create(&options, [7; 8]).unwrap();
    (parent, scratch)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is asked for and what is there are both told, for the quota as for the disk.
    #[test]
    fn require_compares_with_quota_and_disk() {
        let (_parent, scratch) = test_scratch(Some(1_000));
        scratch.require(1_000).unwrap();
        let error = scratch.require(1_001).unwrap_err();
        let SpillError::Full {
            needed: 1_001,
            free: 1_000,
            quota: Some(1_000),
            ..
        } = error
        else {
            panic!("{error}")
        };
        let (_parent, scratch) = test_scratch(None);
        scratch.require(1).unwrap();
        let SpillError::Full {
            needed,
            free,
            quota: None,
            ..
        } = scratch.require(u64::MAX).unwrap_err()
        else {
            panic!("a disk of 2^64 bytes")
        };
        assert!(needed == u64::MAX && free < needed && free > 0);
    }

    /// The parent is made when it is not there, and only the run directory goes again.
    #[test]
    fn the_parent_is_created_and_kept() {
        let outer = tempfile::tempdir().unwrap();
        let parent = outer.path().join("a/b");
        let options = ScratchOptions {
            parent: parent.clone(),
            quota_bytes: None,
            tmpfs_allowed: true,
            direct: true,
        };
        let scratch = Scratch::create(&options, [1; 8]).unwrap();
        let file = scratch.create_file("test").unwrap();
        drop(scratch);
        assert_eq!(
            std::fs::read_dir(&parent).unwrap().count(),
            1,
            "the file keeps the directory"
        );
        drop(file);
        assert_eq!(std::fs::read_dir(&parent).unwrap().count(), 0);
    }

    /// A directory in memory is refused, unless it is allowed.
    #[test]
    fn memory_is_not_scratch() {
        let shm = Path::new("/dev/shm");
        let Ok(stat) = rustix::fs::statfs(shm) else {
            return;
        };
        if stat.f_type as u64 != TMPFS_MAGIC {
            return;
        }
        let Ok(parent) = tempfile::tempdir_in(shm) else {
            return;
        };
        let mut options = ScratchOptions {
            parent: parent.path().to_owned(),
            quota_bytes: None,
            tmpfs_allowed: false,
            direct: true,
        };
        assert_eq!(
            Scratch::create(&options, [1; 8]).unwrap_err().code(),
            "scratch-tmpfs"
        );
        options.tmpfs_allowed = true;
        Scratch::create(&options, [1; 8]).unwrap();
    }
}
