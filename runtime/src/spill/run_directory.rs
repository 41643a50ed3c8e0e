//! The run directory: one fresh, locked directory for each run, inside the scratch directory given.
//!
//! Scratch files are unlinked as soon as they are created, so a run that is killed leaves its
//! directory with nothing but `lock` in it, and the kernel has given the disk space back. The next
//! run removes such leftovers.
//!
//! Why the lock cannot be mistaken, step by step: the owner creates `lock-new`, locks it, then
//! renames it to `lock`. A sweeper looks only at directories with a `lock`, so it never sees one
//! that is not locked yet; it takes the lock itself, checks that the name still belongs to the file
//! it locked, and only then removes. Two sweepers exclude each other by the same lock. The kernel
//! drops the lock with the last descriptor, so `kill -9` frees it.
//!
//! Never touched: other names, symbolic links, directories of another user, without a `lock`, or
//! with anything in them that a run did not make. No memory cost.

use std::io;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt, File, MetadataExt, OpenOptions, OpenOptionsExt};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;

use super::SpillError;

const NAME_START: &str = "careen-run-";
const LOCK: &str = "lock";
const LOCK_NEW: &str = "lock-new";
const FILE_START: &str = "scratch-";
/// Files that a killed run can leave: one for each thread that was between creating and unlinking.
const LEFTOVER_FILES_MAX: usize = 1_024;

/// A run directory, held by its lock until it is dropped, which removes it.
#[derive(Debug)]
pub(super) struct RunDirectory {
    parent: Dir,
    name: String,
    dir: Dir,
    path: PathBuf,
    _lock: File,
}

impl RunDirectory {
    /// Makes `careen-run-<16 hex>` in `parent`, which must be an open directory at `path`, and
    /// locks it.
    pub(super) fn create(parent: Dir, path: &Path, random: [u8; 8]) -> Result<Self, SpillError> {
        let name = format!("{NAME_START}{}", hex::encode(random));
        let path = path.join(&name);
        let fail = |error| SpillError::io(format!("create {}", path.display()), error);
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        match parent.create_dir_with(&name, &builder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(SpillError::Locked { path });
            }
            Err(error) => return Err(fail(error)),
        }
        let dir = open_dir(&parent, &name).map_err(fail)?;
        let lock = dir.open_with(LOCK_NEW, &new_file_options()).map_err(fail)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(SpillError::Locked { path }),
            Err(error) => return Err(fail(error.into())),
        }
        dir.rename(LOCK_NEW, &dir, LOCK).map_err(fail)?;
        Ok(Self {
            parent,
            name,
            dir,
            path,
            _lock: lock,
        })
    }

    /// Returns where it is, for messages only.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the bytes that the file system still has for us.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Creates file number `number`, readable by nobody else, and unlinks it at once.
    ///
    /// With `direct` it is opened once more, without the page cache, where the file system can do
    /// that.
    pub(super) fn create_unlinked(
        &self,
        number: u64,
        direct: bool,
    ) -> io::Result<(std::fs::File, Option<std::fs::File>)> {
        let name = format!("{FILE_START}{number}");
        let file = self.dir.open_with(&name, &new_file_options())?;
        let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
        let opened = direct.then(|| openat(&self.dir, &name, flags, Mode::empty()).ok());
        self.dir.remove_file(&name)?;
        Ok((file.into_std(), opened.flatten().map(std::fs::File::from)))
    }
}

impl Drop for RunDirectory {
    /// Removes the directory. What cannot be removed is left for the next run; nothing can be
    /// reported here.
    fn drop(&mut self) {
        let _ = self.dir.remove_file(LOCK);
        let _ = self.parent.remove_dir(&self.name);
    }
}

/// Opens the scratch directory, which is created (0700, with its parents) when it is not there.
pub(super) fn open_parent(path: &Path) -> io::Result<Dir> {
    std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
        .create(path)?;
    Dir::open_ambient_dir(path, ambient_authority())
}

/// Removes the run directories in `parent` that no run holds any more; returns how many.
pub(super) fn remove_abandoned(parent: &Dir) -> io::Result<usize> {
    let mut removed = 0;
    for entry in parent.entries()? {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|name| is_run_name(name)) else {
            continue;
        };
        // A directory that goes away, is held or is not ours is nothing to complain about.
        removed += usize::from(remove_one(parent, name).unwrap_or(false));
    }
    Ok(removed)
}

fn is_run_name(name: &str) -> bool {
    name.strip_prefix(NAME_START).is_some_and(|hex| {
        hex.len() == 16 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Removes one run directory if it is ours and free; `false` when it is left alone.
fn remove_one(parent: &Dir, name: &str) -> io::Result<bool> {
    let dir = open_dir(parent, name)?;
    let user = rustix::process::geteuid().as_raw();
    if dir.dir_metadata()?.uid() != user {
        return Ok(false);
    }
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let lock = File::from_std(openat(&dir, LOCK, flags, Mode::empty())?.into());
    let locked = lock.metadata()?;
    if !locked.is_file() || flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    let named = dir.symlink_metadata(LOCK)?;
    if (named.dev(), named.ino()) != (locked.dev(), locked.ino()) {
        return Ok(false);
    }
    let Some(files) = leftover_files(&dir)? else {
        return Ok(false);
    };
    for file in &files {
        dir.remove_file(file)?;
    }
    dir.remove_file(LOCK)?;
    parent.remove_dir(name)?;
    Ok(true)
}

/// Lists the scratch files that a killed run left; `None` when there is anything else.
fn leftover_files(dir: &Dir) -> io::Result<Option<Vec<String>>> {
    let mut files = Vec::new();
    for entry in dir.entries()? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Ok(None);
        };
        if name == LOCK {
            continue;
        }
        let ours = name
            .strip_prefix(FILE_START)
            .is_some_and(|number| number.parse::<u64>().is_ok());
        if !ours || !entry.file_type()?.is_file() || files.len() >= LEFTOVER_FILES_MAX {
            return Ok(None);
        }
        files.push(name.to_owned());
    }
    Ok(Some(files))
}

/// Opens a directory by name without following a symbolic link.
fn open_dir(parent: &Dir, name: &str) -> io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(Dir::from(openat(parent, name, flags, Mode::empty())?))
}

fn new_file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Command, Stdio};

    use super::*;

    const HOLDER: &str = "spill::run_directory::tests::holds_a_directory_until_killed";
    const HOLDER_PARENT: &str = "CAREEN_TEST_RUN_DIRECTORY_PARENT";

    fn create(parent: &Path, random: u8) -> RunDirectory {
        RunDirectory::create(open_parent(parent).unwrap(), parent, [random; 8]).unwrap()
    }

    fn sweep(parent: &Path) -> usize {
        remove_abandoned(&open_parent(parent).unwrap()).unwrap()
    }

    fn names(parent: &Path) -> Vec<String> {
        let entries = fs::read_dir(parent).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A held directory survives the sweep of another run; dropping it removes it.
    #[test]
    fn a_held_directory_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let held = create(parent.path(), 0xAB);
        assert_eq!(names(parent.path()), ["careen-run-abababababababab"]);
        assert_eq!(sweep(parent.path()), 0);
        let again = RunDirectory::create(
            open_parent(parent.path()).unwrap(),
            parent.path(),
            [0xAB; 8],
        );
        assert_eq!(again.unwrap_err().code(), "scratch-locked");
        assert_eq!(names(held.path()), ["lock"]);
        drop(held);
        assert!(names(parent.path()).is_empty());
    }

    /// Everything that a run did not make stays, however much it looks like a run directory.
    #[test]
    fn foreign_things_survive() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("lock"), b"").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), at("careen-run-0000000000000000")).unwrap();
        for (name, files) in [
            ("careen-run-1111111111111111", &["lock", "notes.txt"][..]),
            ("careen-run-2222222222222222", &[]),
            ("careen-run-333333333333333", &["lock"]),
            ("careen-run-444444444444444G", &["lock"]),
            ("careen-run-AAAAAAAAAAAAAAAA", &["lock"]),
            ("other", &["lock"]),
            ("careen-run-5555555555555555", &["lock-new"]),
        ] {
            fs::create_dir(at(name)).unwrap();
            for file in files {
                fs::write(at(name).join(file), b"x").unwrap();
            }
        }
        let with_dir = at("careen-run-6666666666666666");
        fs::create_dir_all(with_dir.join("scratch-1")).unwrap();
        fs::write(with_dir.join("lock"), b"").unwrap();
        let linked_lock = at("careen-run-7777777777777777");
        fs::create_dir(&linked_lock).unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("lock"), linked_lock.join("lock"))
            .unwrap();
        fs::write(at("careen-run-8888888888888888"), b"a file").unwrap();
        let before = names(parent.path());
        assert_eq!(sweep(parent.path()), 0);
        assert_eq!(names(parent.path()), before);
        assert_eq!(names(elsewhere.path()), ["lock"]);
    }

    /// A directory of a dead run goes, with the file that it could not unlink any more.
    #[test]
    fn an_abandoned_directory_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let dead = parent.path().join("careen-run-0123456789abcdef");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("lock"), b"").unwrap();
        fs::write(dead.join("scratch-17"), b"left").unwrap();
        assert_eq!(sweep(parent.path()), 1);
        assert!(names(parent.path()).is_empty());
    }

    /// Helper process of the next test: holds a directory, says so, and waits to be killed.
    #[test]
    fn holds_a_directory_until_killed() {
        let Some(parent) = std::env::var_os(HOLDER_PARENT) else {
            return;
        };
        let held = create(Path::new(&parent), 1);
        let file = held.create_unlinked(1, false).unwrap().0;
        file.set_len(1 << 20).unwrap();
        fs::write(Path::new(&parent).join("ready"), b"").unwrap();
        std::thread::sleep(std::time::Duration::from_secs(60));
    }

    /// `kill -9` of a run: while it lives its directory is safe, afterwards the next sweep removes
    /// it.
    #[test]
    fn a_killed_run_leaves_nothing_for_long() {
        let parent = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", HOLDER])
            .env(HOLDER_PARENT, parent.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let ready = parent.path().join("ready");
        while !ready.exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let run = "careen-run-0101010101010101";
        assert_eq!(names(parent.path()), [run, "ready"]);
        assert_eq!(sweep(parent.path()), 0);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(names(&parent.path().join(run)), ["lock"]);
        assert_eq!(sweep(parent.path()), 1);
        assert_eq!(names(parent.path()), ["ready"]);
    }
}
