//! `careen demo`: makes a real Kopia repository, careens it under a small limit, checks it, and
//! compares.
//!
//! The work is done by a child, this same program as a user would call it, in a memory cgroup of
//! its own where that is possible; so what the table says of time and memory was measured from
//! outside. Also the generator of the benchmark and the suites (`--keep DIR --no-run`). Memory: the
//! generator's, one index blob a worker.

mod child;
mod comparison;
mod home;
mod memory_group;
mod report;
mod steps;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;

use super::Console;
use super::arguments::DemoArguments;
use super::error::{CliError, Exit};
use super::output::Kind;
use super::password::PasswordSources;
use super::wording::{bytes, count};
use crate::blob::{LocalOptions, LocalStore, Storage};
use crate::kopia::index_builder::ENTRY_COUNT_MAX;
use crate::memory::{MIB, MemoryPlan};
use crate::repository::index_generator::{Generated, GeneratorOptions, GeneratorTarget, generate};
use crate::repository::new_repository::{
    NewRepositoryOptions, VELERO_OWNER, VELERO_PASSWORD, create,
};
use comparison::Size;
use home::Home;
use report::{Blobs, DemoReport, MadeReport};
use steps::{Limit, Steps};

/// The limit where none is given: the smallest that the promise is about.
const LIMIT_BYTES: usize = 64 * MIB;

/// Makes the repository, and careens it unless told not to.
pub(super) fn run(console: &Console, arguments: &DemoArguments) -> Result<Exit, CliError> {
    check(arguments)?;
    let limit_bytes = console.global.memory.unwrap_or(LIMIT_BYTES);
    let memory = MemoryPlan::new(limit_bytes)?;
    let home = Home::new(console, arguments)?;
    console.started("demo", &home.repository.display().to_string());
    let password = password(console)?;
    let made = make(console, arguments, &home.repository, &password, &memory)?;
    if arguments.no_run {
        let report = MadeReport::new(&made, &home.repository, arguments.epoch_open);
        console.output.both(Kind::Report, "report", &report);
        return Ok(Exit::Done);
    }
    let size = Size {
        entries: arguments.entries,
        index_blobs: arguments.index_blobs,
    };
    let steps = Steps {
        console,
        repository: &home.repository,
        work: &home.work,
        password: &OsString::from_vec(password),
        limit: Limit::new(limit_bytes),
        unsettled: arguments.epoch_open,
    };
    let mut notes = Vec::new();
    let kopia = steps.prepare_kopia(size, arguments.no_kopia, &mut notes)?;
    let compact = steps.compact(&mut notes)?;
    let verify = steps.verify()?;
    let after = steps.index_blobs()?;
    let kopia = match kopia {
        Some(prepared) => Some(steps.measure_kopia(&prepared)?),
        None if arguments.epoch_open => None, // Kopia does nothing there
        None => comparison::quote(size),
    };
    if kopia.is_none() && !arguments.no_kopia && !arguments.epoch_open {
        notes.extend(comparison::nearest(size));
    }
    let report = DemoReport {
        entries: made.entries + 1,
        before: Blobs {
            count: made.index_blobs + 1,
            bytes: made.index_bytes,
        },
        after,
        memory_limit_bytes: limit_bytes as u64,
        limited_by: steps.limit.describe(),
        compact,
        verify,
        kopia,
        notes,
        kept: home.kept.then(|| home.repository.clone()),
    };
    console.output.text("");
    console.output.both(Kind::Report, "report", &report);
    Ok(Exit::Done)
}

/// Refuses shapes that no repository has.
fn check(arguments: &DemoArguments) -> Result<(), CliError> {
    let usage = |text: String| Err(CliError::Usage(text));
    if arguments.index_blobs > arguments.entries {
        return usage("--index-blobs may not be more than --entries".into());
    }
    if arguments.entries.div_ceil(arguments.index_blobs) > ENTRY_COUNT_MAX as u64 {
        let most = count(ENTRY_COUNT_MAX as u64);
        return usage(format!(
            "an index blob has at most {most} entries: give more --index-blobs"
        ));
    }
    Ok(())
}

/// Returns the password of the new repository: the given one, else Velero's default.
fn password(console: &Console) -> Result<Vec<u8>, CliError> {
    let sources = PasswordSources {
        file: console.global.password_file.clone(),
        environment: console.surroundings.password.clone(),
        config: None,
    };
    match sources.password() {
        Err(CliError::NoPassword) => Ok(VELERO_PASSWORD.into()),
        result => result,
    }
}

/// Makes the repository and fills its index.
fn make(
    console: &Console,
    arguments: &DemoArguments,
    directory: &Path,
    password: &[u8],
    memory: &MemoryPlan,
) -> Result<Generated, CliError> {
    let (entries, blobs) = (count(arguments.entries), count(arguments.index_blobs));
    console.output.text(format_args!(
        "Making a Kopia repository whose index has {entries} entries in {blobs} blobs ..."
    ));
    let surroundings = &console.surroundings;
    let options = LocalOptions {
        durable: false,
        ..surroundings.local_options()
    };
    let storage = Storage::new(Arc::new(LocalStore::create(directory, options)?));
    let now = surroundings.clock.now();
    let randomness = &surroundings.randomness;
    let new = NewRepositoryOptions {
        password: password.to_vec(),
        owner: VELERO_OWNER.into(),
        now,
        unlock_memory_bytes: memory.unlock_bytes,
        randomness: Arc::clone(randomness),
    };
    let crypto = create(&storage, &new)?;
    let options = GeneratorOptions {
        entries: arguments.entries,
        index_blobs: arguments.index_blobs,
        tombstone_percent: arguments.tombstones,
        seed: arguments.seed,
        now,
        settled: !arguments.epoch_open,
    };
    let target = GeneratorTarget {
        storage: &storage,
        crypto: &crypto,
        randomness,
    };
    let made = generate(&target, &options, &*console.progress)?;
    console.output.text(format_args!(
        "  {} in {}",
        bytes(made.index_bytes),
        directory.display()
    ));
    Ok(made)
}
