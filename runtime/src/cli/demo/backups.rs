//! The second part: backups with garbage and short packs, and a whole maintenance cycle on them.
//!
//! The cycle is run without safety margins: nobody else uses the repository, and what was written
//! two days ago by its own time was written a moment ago by the disk's. Memory: the generator's.

use std::path::Path;
use std::sync::Arc;

use super::Demo;
use super::backups_report::{BackupsMade, BackupsReport, State};
use super::comparison;
use crate::cli::arguments::BackupShape;
use crate::cli::error::CliError;
use crate::cli::output::Kind;
use crate::cli::wording::{bytes, count};
use crate::clock::ManualClock;
use crate::kopia::blob_id::{PACK_DATA_PREFIX, PACK_METADATA_PREFIX};
use crate::repository::index_generator::GeneratorTarget;
use crate::repository::snapshot_generator::{
    GeneratedSnapshots, SnapshotOptions, generate_snapshots,
};

/// The cycle, and what Kopia is asked to do on its copy.
const RUN: [&str; 4] = ["--mode", "full", "--safety", "none"];
const KOPIA: [&str; 4] = ["maintenance", "run", "--full", "--safety=none"];

/// What is checked after it: the index and its packs, every snapshot, every content.
const VERIFY: [&str; 4] = ["--index", "--packs", "--snapshots", "--contents"];

/// Makes the repository, and maintains it unless told not to.
pub(super) fn run(demo: &Demo<'_>, shape: &BackupShape, repository: &Path) -> Result<(), CliError> {
    let output = &demo.console.output;
    let made = make(demo, shape, repository)?;
    if demo.arguments.no_run {
        let next = demo.next_command("run", "--mode full --safety none --memory 64MiB");
        let report = BackupsMade::new(&made, repository, next);
        output.both(Kind::Report, "report", &report);
        return Ok(());
    }
    let work = demo.home.work.join("backups-work");
    let steps = demo.steps(repository, &work);
    let mut notes = Vec::new();
    let needed = comparison::estimated_bytes_full(made.written.contents);
    let prepared = steps.prepare_kopia(needed, demo.arguments.no_kopia, &mut notes)?;
    let packs = [PACK_DATA_PREFIX, PACK_METADATA_PREFIX];
    let before = State {
        // The maintenance manifest is one more.
        live_contents: made.written.contents - made.written.tombstones + 1,
        packs: steps.blobs(&packs)?,
        index: steps.index_blobs()?,
    };
    let run = steps.careen(&["run"], &RUN)?.0;
    let (verify, seen) = steps.verify(&VERIFY)?;
    let number = |field: &str| seen[field].as_u64().unwrap_or(0);
    let after = State {
        live_contents: number("live_contents"),
        packs: steps.blobs(&packs)?,
        index: steps.index_blobs()?,
    };
    let kopia = match prepared {
        Some(prepared) => Some(steps.measure_kopia(&prepared, &KOPIA)?),
        None => comparison::quote_full(shape),
    };
    let report = BackupsReport {
        made,
        before,
        after,
        memory_limit_bytes: demo.limit.bytes as u64,
        limited_by: demo.limit.describe(),
        run,
        verify,
        kopia,
        notes,
        kept: demo.kept(),
    };
    output.text("");
    output.both(Kind::Report, "report", &report);
    Ok(())
}

/// Makes the repository with its backups.
fn make(
    demo: &Demo<'_>,
    shape: &BackupShape,
    directory: &Path,
) -> Result<GeneratedSnapshots, CliError> {
    let console = demo.console;
    let files = u64::from(shape.directories) * u64::from(shape.files);
    console.output.text(format_args!(
        "Making a Kopia repository with {} snapshots of {} files, {} of them deleted since ...",
        count(shape.snapshots.into()),
        count(files),
        count(shape.deleted.into()),
    ));
    let now = console.surroundings.clock.now();
    let clock = Arc::new(ManualClock::new(now));
    let (storage, crypto) = demo.new_repository(directory, Some(Arc::clone(&clock) as _))?;
    let options = SnapshotOptions {
        snapshots: shape.snapshots,
        deleted: shape.deleted,
        directories: shape.directories,
        files: shape.files,
        changed_percent: shape.changed_percent,
        file_bytes: shape.file_bytes,
        sessions: shape.sessions,
        with_data: shape.with_data,
        seed: demo.arguments.seed,
        now,
        settled: true,
    };
    let target = GeneratorTarget {
        storage: &storage,
        crypto: &crypto,
        randomness: &console.surroundings.randomness,
    };
    let made = generate_snapshots(&target, &options, &clock, &*console.progress)?;
    console.output.text(format_args!(
        "  {} contents in {} packs, {} in {}",
        count(made.written.contents),
        count(made.written.packs),
        bytes(made.written.pack_bytes + made.written.index_bytes),
        directory.display()
    ));
    Ok(made)
}
