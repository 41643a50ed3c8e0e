//! How fast contents of short packs are rewritten, and their packs deleted.
//!
//! ```text
//! cargo run --release --example pack_speed make DIRECTORY [thousands of contents [bytes of each]]
//! cargo run --release --example pack_speed run DIRECTORY SCRATCH [MiB of memory]
//! ```
//!
//! `make` writes a repository whose packs are all short (8 MB); `run` reads the index, rewrites,
//! reads the index again and deletes, in the memory that it is told, and shows wall time, requests
//! and bytes of each step. Run it in a cgroup of that size. 2,200 thousand contents of 545 bytes
//! are 1.2 GB.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use careen::blob::{Counters, LocalOptions, LocalStore, Storage};
use careen::clock::{Clock, Stopwatch, SystemClock, SystemRandomness, Timestamp};
use careen::kopia::content_id::ContentId;
use careen::kopia::index_blob::ContentFormat;
use careen::maintenance::delete_unreferenced_packs::{DeletePacksOptions, DeletePacksPlan};
use careen::maintenance::orphan_packs::Scope;
use careen::maintenance::pack_choice::ShortPacks;
use careen::maintenance::rewrite_contents::{RewriteOptions, RewritePlan};
use careen::maintenance::safety::Safety;
use careen::memory::{MIB, MemoryPlan};
use careen::progress::Silent;
use careen::repository::active_index::ActiveIndex;
use careen::repository::content_table::ContentTable;
use careen::repository::new_repository::{NewRepositoryOptions, create};
use careen::repository::pack_writer::{NewContent, PackWriter, Sealed};
use careen::repository::sessions::SessionIds;
use careen::repository::{OpenOptions, Repository, Workspace};
use careen::spill::{Scratch, ScratchOptions};

const OWNER: &str = "default@default";
const PASSWORD: &[u8] = b"static-passw0rd";
const SHORT_PACK_BYTES: u64 = 8_000_000;
const THREE_DAYS_SECONDS: i64 = 3 * 86_400;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, usual: u64| {
        let text = arguments.get(at);
        text.and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    match arguments.first().map(String::as_str) {
        Some("make") => {
            let directory = Path::new(arguments.get(1).ok_or("a directory is missing")?);
            make(directory, number(2, 2_200) * 1_000, number(3, 545) as usize)
        }
        Some("run") => {
            let directory = Path::new(arguments.get(1).ok_or("a directory is missing")?);
            let scratch = PathBuf::from(arguments.get(2).ok_or("scratch is missing")?);
            run(directory, scratch, number(3, 64) as usize)
        }
        _ => Err("make or run?".into()),
    }
}

fn storage(directory: &Path) -> Result<Storage, Box<dyn Error>> {
    let store = LocalStore::open(directory, LocalOptions::default())?;
    Ok(Storage::new(Arc::new(store)))
}

fn open(directory: &Path) -> Result<Repository, Box<dyn Error>> {
    let options = OpenOptions {
        password: PASSWORD.to_vec(),
        unlock_memory_bytes: 16 * MIB,
        clock: Arc::new(SystemClock),
        randomness: Arc::new(SystemRandomness),
    };
    Ok(Repository::open(storage(directory)?, &options)?)
}

fn workspace(parent: PathBuf, memory_mib: usize) -> Result<Workspace, Box<dyn Error>> {
    let options = ScratchOptions {
        parent,
        quota_bytes: None,
        tmpfs_allowed: false,
        direct: false,
    };
    let name = u64::from(std::process::id()).to_be_bytes();
    Ok(Workspace {
        scratch: Scratch::create(&options, name)?,
        memory: MemoryPlan::new(memory_mib * MIB)?,
        progress: Arc::new(Silent),
    })
}

fn make(directory: &Path, contents: u64, bytes: usize) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(directory)?;
    let layout = br#"{"default":[1,3],"maxNonShardedLength":20}"#;
    std::fs::write(directory.join(".shards"), layout)?;
    let now = SystemClock.now();
    let options = NewRepositoryOptions {
        password: PASSWORD.to_vec(),
        owner: OWNER.to_owned(),
        now,
        unlock_memory_bytes: 64 * MIB,
        randomness: Arc::new(SystemRandomness),
    };
    create(&storage(directory)?, &options)?;
    let mut repository = open(directory)?;
    let mut format = (*repository.format).clone();
    format.max_pack_size = SHORT_PACK_BYTES;
    repository.format = Arc::new(format);
    let workspace = workspace(directory.with_extension("scratch"), 256)?;
    let mut writer = PackWriter::new(&repository, &workspace, OWNER)?;
    let (mut plain, mut sealed) = (vec![0; bytes], Vec::new());
    for number in 0..contents {
        plain[..8].copy_from_slice(&number.to_le_bytes());
        let prefix = (number % 100 == 0).then_some(b'k');
        let crypto = &repository.crypto;
        let id = ContentId::from_hash(prefix, &crypto.hash.hash(&plain))?;
        sealed.clear();
        crypto
            .encryption
            .seal(id.iv(), repository.random(), &plain, &mut sealed);
        let content = NewContent {
            key: id.key(),
            timestamp_seconds: now.seconds() - THREE_DAYS_SECONDS,
            deleted: false,
            original_length: bytes as u32,
            format: ContentFormat {
                format_version: 3,
                ..ContentFormat::default()
            },
        };
        writer.append(&content, Sealed::Bytes(&sealed))?;
    }
    println!("{:?}", writer.finish()?);
    Ok(())
}

/// Shows what a step took.
struct Steps {
    watch: Stopwatch,
    before: Counters,
    storage: Storage,
}

impl Steps {
    fn new(storage: Storage) -> Self {
        Self {
            watch: Stopwatch::start(),
            before: storage.counters(),
            storage,
        }
    }

    fn end(&mut self, step: &str, what: String) {
        let (now, was) = (self.storage.counters(), self.before);
        println!(
            "{step:<20} {:6.2} s  {:>5} GETs {:>4} LISTs {:>4} PUTs {:>5} DELETEs  \
             {:>6} MB read {:>6} MB written  {what}",
            self.watch.elapsed().as_secs_f64(),
            now.gets - was.gets,
            now.lists - was.lists,
            now.puts - was.puts,
            now.deletes - was.deletes,
            (now.bytes_read - was.bytes_read) / 1_000_000,
            (now.bytes_written - was.bytes_written) / 1_000_000,
        );
        self.before = now;
        self.watch = Stopwatch::start();
    }
}

fn run(directory: &Path, scratch: PathBuf, memory_mib: usize) -> Result<(), Box<dyn Error>> {
    let start = Stopwatch::start();
    let (repository, workspace) = (open(directory)?, workspace(scratch, memory_mib)?);
    let mut steps = Steps::new(repository.storage.clone());
    let (safety, now) = (Safety::none(), SystemClock.now());
    let active = ActiveIndex::find(&repository, &workspace)?;
    let table = ContentTable::load(&repository, &workspace, &active)?;
    steps.end("read the index", format!("{} contents", table.contents()));
    let mut short = ShortPacks;
    let mut options = RewriteOptions {
        kind: None,
        packs: Some(&mut short),
        pack_bytes_max: repository.format.max_pack_size,
        format_version: None,
        wrong_kind: false,
        safety: &safety,
        now,
        owner: OWNER,
        end_early: &|| false,
    };
    let plan = RewritePlan::make(&workspace, &table, &mut options)?;
    steps.end("choose", format!("{} packs", plan.packs));
    let report = plan.execute(&repository, &workspace, &table, &options)?;
    steps.end(
        "rewrite",
        format!("{} contents", report.stats.rewritten_content_count),
    );
    drop((table, active));
    let sessions = SessionIds::list(&repository)?;
    let active = ActiveIndex::find(&repository, &workspace)?;
    let table = ContentTable::load(&repository, &workspace, &active)?;
    steps.end("read the index", format!("{} contents", table.contents()));
    let options = DeletePacksOptions {
        scope: Scope::Full,
        sessions: &sessions,
        safety: &safety,
        maintenance_start: Timestamp::from_seconds(SystemClock.now().seconds() + 2),
        accept_unexplained: false,
        still_ours: &|| Ok(()),
    };
    let plan = DeletePacksPlan::make(&repository, &workspace, &active, &table, &options)?;
    steps.end(
        "explain",
        format!("{} packs", plan.stats().unreferenced_pack_count),
    );
    let report = plan.execute(&repository, &workspace, &options)?;
    steps.end(
        "delete",
        format!("{} packs", report.stats.deleted_pack_count),
    );
    println!(
        "all                  {:6.2} s",
        start.elapsed().as_secs_f64()
    );
    println!(
        "scratch peak {} MB",
        workspace.scratch.peak_bytes() / 1_000_000
    );
    Ok(())
}
