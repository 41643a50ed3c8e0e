//! Where the demo lives: a directory of its own that goes with it.
//!
//! A demo that was interrupted leaves its directory behind, and its cgroup. The next demo in the
//! same place removes both: the kernel drops the lock on the directory with the process, however
//! that ended. Only directories of this user, with a name and a lock as only a demo makes them, are
//! looked at, and one whose child still works is left for later. No memory cost.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::memory_group::remove_left_group;
use crate::cli::Console;
use crate::cli::arguments::DemoArguments;
use crate::cli::error::CliError;

/// What the names of demos' directories and cgroups begin with; the process's number follows.
const NAME_START: &str = "careen-demo-";

/// Returns the name of the demo that process `id` runs.
pub(super) fn name_of(id: u32) -> String {
    format!("{NAME_START}{id}")
}

/// The directory of this demo. What was made in it is removed on drop.
pub(super) struct Home {
    /// The repository's root.
    pub(super) repository: PathBuf,
    /// For everything else: Kopia's copy, config and cache.
    pub(super) work: PathBuf,
    /// Whether the repository is somewhere else and stays.
    pub(super) kept: bool,
    _lock: File,
}

impl Home {
    /// Removes what dead demos left, then makes and locks a directory in the one for scratch or in
    /// the system's temporary one.
    pub(super) fn new(console: &Console, arguments: &DemoArguments) -> Result<Self, CliError> {
        let wrong = |path: &Path, reason: &dyn ToString| CliError::DemoDirectory {
            path: path.to_owned(),
            reason: reason.to_string(),
        };
        let base = console
            .global
            .scratch
            .as_ref()
            .unwrap_or(&console.surroundings.temporary);
        let work = base.join(name_of(std::process::id()));
        fs::create_dir_all(base)
            .and_then(|()| remove_left(base))
            .map_err(|error| wrong(base, &error))?;
        let repository = match &arguments.keep {
            None => work.join("repository"),
            Some(directory) => {
                match fs::read_dir(directory) {
                    Ok(mut entries) => {
                        if entries.next().is_some() {
                            return Err(wrong(directory, &"is not empty"));
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(wrong(directory, &error)),
                }
                directory.clone()
            }
        };
        let lock = create(&work).map_err(|error| wrong(&work, &error))?;
        Ok(Self {
            repository,
            work,
            kept: arguments.keep.is_some(),
            _lock: lock,
        })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.work);
    }
}

fn create(path: &Path) -> io::Result<File> {
    DirBuilder::new().mode(0o700).create(path)?;
    let lock = lock(path)?;
    // Another demo may have taken it for a leftover before it was locked.
    let (own, named) = (lock.metadata()?, fs::symlink_metadata(path)?);
    match (own.dev(), own.ino()) == (named.dev(), named.ino()) {
        true => Ok(lock),
        false => Err(io::Error::other("another demo removed it")),
    }
}

/// Opens and locks a directory. Errors: it is none, or somebody holds the lock.
fn lock(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let mut options = OpenOptions::new();
    let directory = options
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path)?;
    directory.try_lock()?;
    Ok(directory)
}

/// Removes the directories in `base` that no demo holds any more, with their cgroups.
fn remove_left(base: &Path) -> io::Result<()> {
    for entry in fs::read_dir(base)? {
        let entry = entry?;
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(NAME_START));
        if let Some(id) = id.and_then(|id| id.parse().ok()) {
            // What goes away, is held or is not ours is nothing to complain about.
            let _ = remove_one(&entry.path(), id);
        }
    }
    Ok(())
}

fn remove_one(path: &Path, id: u32) -> io::Result<()> {
    let held = lock(path)?;
    if held.metadata()?.uid() == rustix::process::geteuid().as_raw() {
        // First: it cannot go while a child of the demo still works in the directory.
        remove_left_group(id)?;
        fs::remove_dir_all(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_that_no_demo_holds_are_removed() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        let held = create(&at("careen-demo-4000000001")).unwrap();
        fs::create_dir_all(at("careen-demo-4000000002/repository/q")).unwrap();
        fs::write(at("careen-demo-4000000002/repository/q/a.f"), "").unwrap();
        fs::create_dir(at("careen-demo-mine")).unwrap();
        fs::create_dir(at("other")).unwrap();
        fs::write(at("careen-demo-4000000003"), "").unwrap();
        std::os::unix::fs::symlink(at("other"), at("careen-demo-4000000004")).unwrap();
        let left = || {
            remove_left(base.path()).unwrap();
            let entries = fs::read_dir(base.path()).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.collect();
            names.sort();
            names
        };
        let foreign = [
            "careen-demo-4000000003",
            "careen-demo-4000000004",
            "careen-demo-mine",
            "other",
        ];
        assert_eq!(left(), [&["careen-demo-4000000001"], &foreign[..]].concat());
        assert!(create(&at("careen-demo-4000000001")).is_err());
        drop(held);
        assert_eq!(left(), foreign);
    }
}
