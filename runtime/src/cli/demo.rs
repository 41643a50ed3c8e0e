//! `careen demo`: makes real Kopia repositories, careens them under a small limit, checks them, and
//! compares.
//!
//! Two parts: an index that is compacted, and backups that get a whole maintenance cycle. The work
//! is done by a child, this same program as a user would call it, in a memory cgroup of its own
//! where that is possible; so what the tables say of time and memory was measured from outside.
//! Also the generator of the benchmarks and the suites (`--keep DIR --no-run`). Memory: the
//! generators', below 200 MB.

mod backups;
mod backups_report;
pub(super) mod child;
mod comparison;
mod home;
mod index;
mod memory_group;
mod report;
mod steps;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Console;
use super::arguments::DemoArguments;
use super::error::{CliError, Exit};
use super::password::PasswordSources;
use super::surroundings::PASSWORD_VARIABLE;
use super::wording::shell_word;
use crate::blob::{LocalOptions, LocalStore, Storage};
use crate::clock::SharedClock;
use crate::kopia::sealed_blob::BlobCrypto;
use crate::memory::{MIB, MemoryPlan};
use crate::repository::new_repository::{
    NewRepositoryOptions, VELERO_OWNER, VELERO_PASSWORD, create,
};
use home::Home;
use steps::{Limit, Steps};

/// The limit where none is given: the smallest that the promise is about.
const LIMIT_BYTES: usize = 64 * MIB;

/// Makes the repositories, and careens them unless told not to.
pub(super) fn run(console: &Console, arguments: &DemoArguments) -> Result<Exit, CliError> {
    let (index, backups) = arguments.parts()?;
    let limit_bytes = console.global.memory.unwrap_or(LIMIT_BYTES);
    let memory = MemoryPlan::new(limit_bytes)?;
    let home = Home::new(console, arguments)?;
    console.started("demo", &home.repository.display().to_string());
    let demo = Demo {
        console,
        arguments,
        home: &home,
        password: password(console)?,
        unlock_bytes: memory.unlock_bytes,
        limit: Limit::new(limit_bytes),
    };
    if let Some(shape) = &index {
        index::run(&demo, shape)?;
    }
    if let Some(shape) = &backups {
        let repository = match &index {
            None => home.repository.clone(),
            Some(_) => home.work.join("backups"),
        };
        backups::run(&demo, shape, &repository)?;
    }
    Ok(Exit::Done)
}

/// What both parts work with.
struct Demo<'a> {
    console: &'a Console,
    arguments: &'a DemoArguments,
    home: &'a Home,
    password: OsString,
    /// Memory for the key derivation of a new repository.
    unlock_bytes: usize,
    limit: Limit,
}

impl Demo<'_> {
    /// Returns the steps of a part, which works in a directory of its own.
    fn steps<'a>(&'a self, repository: &'a Path, work: &'a Path) -> Steps<'a> {
        Steps {
            console: self.console,
            repository,
            work,
            password: self.password.as_os_str(),
            limit: &self.limit,
        }
    }

    /// Returns where the repository stays.
    fn kept(&self) -> Option<PathBuf> {
        self.home.kept.then(|| self.home.repository.clone())
    }

    /// Returns a command to try with the repository, ready for a shell.
    fn next_command(&self, words: &str, more: &str) -> String {
        let root = shell_word(&self.home.repository);
        let (mut before, mut after) = (String::new(), String::new());
        if let Some(file) = &self.console.global.password_file {
            after = format!(" --password-file {}", shell_word(file));
        } else if self.password == VELERO_PASSWORD {
            before = format!("{PASSWORD_VARIABLE}={VELERO_PASSWORD} ");
        }
        format!("{before}careen {words} {root} {more}{after}")
    }

    /// Makes an empty repository, whose files get the time of `stamp` where there is one.
    fn new_repository(
        &self,
        directory: &Path,
        stamp: Option<SharedClock>,
    ) -> Result<(Storage, BlobCrypto), CliError> {
        let surroundings = &self.console.surroundings;
        let own = surroundings.local_options();
        let options = LocalOptions {
            durable: false,
            clock_stamp: stamp.or(own.clock_stamp),
            ..own
        };
        let storage = Storage::new(Arc::new(LocalStore::create(directory, options)?));
        let new = NewRepositoryOptions {
            password: OsStr::as_bytes(&self.password).to_vec(),
            owner: VELERO_OWNER.into(),
            now: surroundings.clock.now(),
            unlock_memory_bytes: self.unlock_bytes,
            randomness: Arc::clone(&surroundings.randomness),
        };
        let crypto = create(&storage, &new)?;
        Ok((storage, crypto))
    }
}

/// Returns the password of the new repositories: the given one, else Velero's default.
fn password(console: &Console) -> Result<OsString, CliError> {
    let sources = PasswordSources {
        file: console.global.password_file.clone(),
        environment: console.surroundings.password.clone(),
        config: None,
    };
    match sources.password() {
        Err(CliError::NoPassword) => Ok(VELERO_PASSWORD.into()),
        result => Ok(OsString::from_vec(result?)),
    }
}
