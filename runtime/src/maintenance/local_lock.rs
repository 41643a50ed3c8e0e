//! Kopia's lock against a second maintenance on the same host: a lock on `<config file>.mlock`.
//!
//! It keeps apart only processes that use the same config file; everything else is the owner's and
//! the lease's work. The lock ends with the process, however it ends. No memory cost. Mirrors
//! `RunExclusive` of Kopia's `repo/maintenance/maintenance_run.go`.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::MaintenanceError;

/// What Kopia appends to the path of its config file.
const SUFFIX: &str = ".mlock";

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct LocalLock {
    _file: File,
}

impl LocalLock {
    /// Takes the lock that belongs to `config`.
    ///
    /// # Errors
    /// [`MaintenanceError::Locked`] where another process has it.
    pub fn take(config: &Path) -> Result<Self, MaintenanceError> {
        let mut path = config.as_os_str().to_owned();
        path.push(SUFFIX);
        let path = PathBuf::from(path);
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(source) => return Err(MaintenanceError::LockFile { path, source }),
        };
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(MaintenanceError::Locked { path }),
            Err(TryLockError::Error(source)) => Err(MaintenanceError::LockFile { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_again_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("repository.config");
        let lock = LocalLock::take(&config).unwrap();
        assert_eq!(LocalLock::take(&config).unwrap_err().code(), "locked");
        drop(lock);
        LocalLock::take(&config).unwrap();
        assert!(folder.path().join("repository.config.mlock").exists());
        let nowhere = folder.path().join("no/where");
        assert_eq!(LocalLock::take(&nowhere).unwrap_err().code(), "lock-file");
    }
}
