//! Measures snapshot GC's mark and sweep on a repository, phase by phase; writes nothing to it.
//!
//!     KOPIA_PASSWORD=… cargo run --release -p careen --example gc_speed -- /backup [MEMORY_MIB]
//!     [SCRATCH]

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use careen::blob::{LocalOptions, LocalStore, Storage};
use careen::clock::{Clock, Stopwatch, SystemClock, SystemRandomness};
use careen::maintenance::safety::Safety;
use careen::maintenance::snapshot_gc::{GcOptions, GcPlan};
use careen::memory::{MIB, MemoryPlan};
use careen::progress::Silent;
use careen::repository::active_index::ActiveIndex;
use careen::repository::content_table::ContentTable;
use careen::repository::snapshots::Snapshots;
use careen::repository::used_contents::mark;
use careen::repository::{OpenOptions, Repository, Workspace};
use careen::spill::{Scratch, ScratchOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("which repository?")?;
    let memory_mib: usize = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let parent = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let store = LocalStore::open(folder.as_ref(), LocalOptions::default())?;
    let storage = Storage::new(Arc::new(store));
    let memory = MemoryPlan::new(memory_mib * MIB)?;
    let options = OpenOptions {
        password: std::env::var("KOPIA_PASSWORD")?.into_bytes(),
        unlock_memory_bytes: memory.unlock_bytes,
        clock: Arc::new(SystemClock),
        randomness: Arc::new(SystemRandomness),
    };
    let repository = Repository::open(storage.clone(), &options)?;
    let scratch = ScratchOptions {
        parent,
        quota_bytes: None,
        tmpfs_allowed: true,
        direct: false,
    };
    let workspace = Workspace {
        scratch: Scratch::create(&scratch, repository.random())?,
        memory,
        progress: Arc::new(Silent),
    };
    let watch = Stopwatch::start();
    let mut before = (watch.elapsed(), storage.counters());
    let mut say = |phase: &str| {
        let now = (watch.elapsed(), storage.counters());
        println!(
            "{phase:<12} {:>7.3} s {:>7} GETs {:>12} bytes",
            (now.0 - before.0).as_secs_f64(),
            now.1.gets - before.1.gets,
            now.1.bytes_read - before.1.bytes_read,
        );
        before = now;
    };
    let active = ActiveIndex::find(&repository, &workspace)?;
    let table = ContentTable::load(&repository, &workspace, &active)?;
    say("table");
    let snapshots = Snapshots::load(&repository, &workspace, &table)?;
    say("snapshots");
    let used = mark(&repository, &workspace, &table, &snapshots)?;
    say("mark");
    let now = SystemClock.now();
    let options = GcOptions {
        start: now,
        now,
        safety: &Safety::none(),
        owner: "nobody@nowhere",
        end_early: &|| false,
    };
    let plan = GcPlan::sweep(&workspace, &table, &used, &options)?;
    say("sweep");
    println!("{} contents, {:?}", table.contents(), used.stats);
    println!("{}", serde_json::to_string(&plan.stats)?);
    println!(
        "scratch {} MiB at most",
        workspace.scratch.peak_bytes() / MIB as u64
    );
    Ok(())
}
