//! The first part: a large index, compacted.
//!
//! Memory: the generator's, one index blob a worker.

use std::path::Path;

use super::Demo;
use super::comparison::{self, KopiaCost, Size};
use super::report::{Blobs, DemoReport, MadeReport};
use crate::cli::arguments::IndexShape;
use crate::cli::error::CliError;
use crate::cli::output::Kind;
use crate::cli::wording::{bytes, count};
use crate::repository::index_generator::{Generated, GeneratorOptions, GeneratorTarget, generate};

/// What Kopia is asked to do on its copy.
const KOPIA: [&str; 3] = ["maintenance", "run", "--no-full"];

/// Makes the repository, and compacts its index unless told not to.
pub(super) fn run(demo: &Demo<'_>, shape: &IndexShape) -> Result<(), CliError> {
    let (output, repository) = (&demo.console.output, &demo.home.repository);
    let made = make(demo, shape, repository)?;
    if demo.arguments.no_run {
        let unsettled = if shape.epoch_open { " --unsettled" } else { "" };
        let next = demo.next_command("index compact", &format!("--memory 64MiB{unsettled}"));
        let report = MadeReport::new(&made, repository, shape.epoch_open, next);
        output.both(Kind::Report, "report", &report);
        return Ok(());
    }
    let size = Size {
        entries: shape.entries,
        index_blobs: shape.index_blobs,
    };
    let steps = demo.steps(repository, &demo.home.work);
    let mut notes = Vec::new();
    let prepared = if shape.epoch_open && !demo.arguments.no_kopia {
        notes.push("Kopia is not compared: it leaves an open epoch as it is.".into());
        None
    } else {
        let needed = comparison::estimated_bytes(size);
        steps.prepare_kopia(needed, demo.arguments.no_kopia, &mut notes)?
    };
    let compact = steps.compact(shape.epoch_open, &mut notes)?;
    let verify = steps.verify(&["--index"])?.0;
    let after = steps.index_blobs()?;
    let kopia: Option<KopiaCost> = match prepared {
        Some(prepared) => Some(steps.measure_kopia(&prepared, &KOPIA)?),
        None if shape.epoch_open => None, // Kopia does nothing there
        None => comparison::quote(size),
    };
    if kopia.is_none() && !demo.arguments.no_kopia && !shape.epoch_open {
        notes.extend(comparison::nearest(size));
    }
    let report = DemoReport {
        entries: made.entries + 1,
        before: Blobs {
            count: made.index_blobs + 1,
            bytes: made.index_bytes,
        },
        after,
        memory_limit_bytes: demo.limit.bytes as u64,
        limited_by: demo.limit.describe(),
        compact,
        verify,
        kopia,
        notes,
        kept: demo.kept(),
    };
    output.text("");
    output.both(Kind::Report, "report", &report);
    Ok(())
}

/// Makes the repository and fills its index.
fn make(demo: &Demo<'_>, shape: &IndexShape, directory: &Path) -> Result<Generated, CliError> {
    let console = demo.console;
    let (entries, blobs) = (count(shape.entries), count(shape.index_blobs));
    console.output.text(format_args!(
        "Making a Kopia repository whose index has {entries} entries in {blobs} blobs ..."
    ));
    let (storage, crypto) = demo.new_repository(directory, None)?;
    let (entries, index_blobs) = beside_manifest(shape);
    let options = GeneratorOptions {
        entries,
        index_blobs,
        tombstone_percent: shape.tombstone_percent,
        seed: demo.arguments.seed,
        now: console.surroundings.clock.now(),
        settled: !shape.epoch_open,
    };
    let target = GeneratorTarget {
        storage: &storage,
        crypto: &crypto,
        randomness: &console.surroundings.randomness,
    };
    let made = generate(&target, &options, &*console.progress)?;
    console.output.text(format_args!(
        "  {} in {}",
        bytes(made.index_bytes),
        directory.display()
    ));
    Ok(made)
}

/// Returns the entries and blobs to make up: the maintenance manifest has an entry and a blob of
/// its own, so that all are as many as were asked for (two at least).
fn beside_manifest(shape: &IndexShape) -> (u64, u64) {
    let entries = shape.entries.saturating_sub(1).max(1);
    (
        entries,
        shape.index_blobs.saturating_sub(1).clamp(1, entries),
    )
}
