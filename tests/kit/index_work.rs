//! Index maintenance in process: a workspace, the shape that Kopia gives its index sets, runs.
//!
//! What a command line would put together, without one: suites choose stores, clocks and memory.
//! Scratch lies in a temporary directory that goes away with the value. Memory: the plan's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use careen::blob::{LocalOptions, LocalStore, Storage};
use careen::clock::{
    Clock, ManualClock, Randomness, SharedClock, SystemClock, SystemRandomness, Timestamp,
};
use careen::kopia::blob_id::{BlobId, REPOSITORY};
use careen::kopia::format_blob::{FORMAT_BLOB_BYTES_MAX, FormatBlob};
use careen::maintenance::MaintenanceError;
use careen::maintenance::index_maintenance;
use careen::maintenance::index_plan::{Options, Report, Task};
use careen::maintenance::owner::Identity;
use careen::maintenance::pack_choice::{ChoosePacks, ShortPacks};
use careen::maintenance::strategy::{
    EpochRange, RepackAnswer, RepackQuestion, SHARD_ENTRIES_MAX, Splitting, SplittingAnswer,
    SplittingQuestion, StrategyError,
};
use careen::memory::{FLOOR_BYTES, MemoryPlan};
use careen::progress::Silent;
use careen::repository::{OpenOptions, Repository, RepositoryError, Workspace};
use careen::spill::{Scratch, ScratchOptions};
use tempfile::TempDir;

/// Scratch and memory of one run after the other.
#[derive(Debug)]
pub struct Bench {
    dir: TempDir,
    /// The memory that every run gets.
    pub memory: MemoryPlan,
    /// Most scratch of a run, in bytes.
    quota_bytes: Option<u64>,
}

impl Bench {
    /// Makes one with the smallest memory that Careen accepts.
    pub fn new() -> Self {
        Self::new_in(&std::env::temp_dir())
    }

    /// The same with scratch below `parent`, for what must be a disk.
    pub fn new_in(parent: &Path) -> Self {
        let memory = MemoryPlan::new(FLOOR_BYTES).expect("the floor is accepted");
        let dir = tempfile::Builder::new()
            .prefix("scratch-")
            .tempdir_in(parent);
        Self {
            dir: dir.expect("a suite needs a directory for temporary files"),
            memory,
            quota_bytes: None,
        }
    }

    /// Limits the scratch of every run.
    #[must_use]
    pub fn scratch_below(mut self, bytes: u64) -> Self {
        self.quota_bytes = Some(bytes);
        self
    }

    /// Shrinks every buffer so that a few hundred records spill and merges cascade.
    #[must_use]
    pub fn tiny(mut self) -> Self {
        self.memory.sort_buffer_bytes = 4 << 10;
        self.memory.merge_runs = 3;
        self.memory.merge_read_bytes = 4 << 10;
        self.memory.pipeline_bytes = 4 << 10;
        self
    }

    /// Shrinks what is allocated whatever there is to do, so that thousands of runs take little
    /// time.
    #[must_use]
    pub fn quick(mut self) -> Self {
        self.memory.sort_buffer_bytes = 64 << 10;
        self.memory.pipeline_bytes = 64 << 10;
        self.memory.blob_bytes = 64 << 10;
        self
    }

    /// Lets only blobs below `bytes` be opened in memory.
    #[must_use]
    pub fn blobs_below(mut self, bytes: usize) -> Self {
        self.memory.blob_bytes = bytes;
        self
    }

    /// Makes a workspace with a scratch directory of its own.
    pub fn workspace(&self) -> Workspace {
        let options = ScratchOptions {
            parent: self.dir.path().to_owned(),
            quota_bytes: self.quota_bytes,
            tmpfs_allowed: true,
            direct: true,
        };
        let mut name = [0; 8];
        SystemRandomness.fill(&mut name);
        Workspace {
            scratch: Scratch::create(&options, name).expect("the directory is there"),
            memory: self.memory,
            progress: Arc::new(Silent),
        }
    }

    /// Runs index maintenance.
    pub fn run(
        &self,
        repository: &Repository,
        options: &Options,
    ) -> Result<Report, MaintenanceError> {
        let workspace = self.workspace();
        let strategy = &mut KopiasShape;
        index_maintenance::run(repository, &workspace, None, strategy, options, &mut |_| {})
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

/// Opens the repository in a folder, with a clock that stands at `now` and stamps what is written.
pub fn open(folder: &Path, password: &str, now: Timestamp) -> Result<Repository, RepositoryError> {
    open_within(folder, password, now, 64 << 20)
}

/// Opens the repository in a folder with the clock of the operating system: for work beside real
/// Kopia.
pub fn open_live(folder: &Path, password: &str) -> Result<Repository, RepositoryError> {
    let opened = open(folder, password, SystemClock.now())?;
    let options = LocalOptions {
        clock_stamp: None,
        durable: false,
        ..LocalOptions::default()
    };
    let store = LocalStore::open(folder, options)?;
    Ok(Repository {
        storage: Storage::new(Arc::new(store)),
        clock: Arc::new(SystemClock),
        ..opened
    })
}

/// As [`open`], with at most `unlock_memory_bytes` for deriving the key.
pub fn open_within(
    folder: &Path,
    password: &str,
    now: Timestamp,
    unlock_memory_bytes: usize,
) -> Result<Repository, RepositoryError> {
    let clock = Arc::new(ManualClock::new(now));
    let options = LocalOptions {
        clock_stamp: Some(clock.clone()),
        durable: false,
        ..LocalOptions::default()
    };
    let store = LocalStore::open(folder, options)?;
    open_storage(
        Storage::new(Arc::new(store)),
        password,
        clock,
        unlock_memory_bytes,
    )
}

/// As [`open_within`], in any storage.
pub fn open_storage(
    storage: Storage,
    password: &str,
    clock: SharedClock,
    unlock_memory_bytes: usize,
) -> Result<Repository, RepositoryError> {
    let options = OpenOptions {
        password: password.as_bytes().to_vec(),
        unlock_memory_bytes,
        clock,
        randomness: Arc::new(SystemRandomness),
    };
    let unique_id = storage
        .get_all(&BlobId::new(REPOSITORY), FORMAT_BLOB_BYTES_MAX)
        .ok()
        .and_then(|bytes| Some(FormatBlob::parse(&bytes).ok()?.unique_id));
    let Some(unique_id) = unique_id else {
        return Repository::open(storage, &options);
    };
    let name = (unique_id, password.to_owned());
    let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(key) = keys.get(&name) {
        return Repository::open_with_key(storage, key, &options);
    }
    let opened = Repository::open(storage, &options)?;
    keys.insert(name, opened.format.format_encryption_key);
    Ok(opened)
}

/// Keys that were derived already, by unique ID and password: a suite opens the same repositories
/// again and again, and deriving a key takes a second in a debug build.
static KEYS: Mutex<BTreeMap<KeyName, [u8; 32]>> = Mutex::new(BTreeMap::new());

/// Unique ID of a repository, and password.
type KeyName = (Vec<u8>, String);

/// Returns the options of a run by Velero's owner; no tasks mean all.
pub fn options(tasks: &[Task], unsettled: bool) -> Options {
    Options {
        tasks: tasks.to_vec(),
        unsettled,
        owner: Identity::Default {
            user: "root".to_owned(),
            host: "suite".to_owned(),
        },
    }
}

/// The shape that Kopia gives: its largest shards, and a range whenever its frequency says so.
#[derive(Clone, Copy, Debug)]
pub struct KopiasShape;

impl Splitting for KopiasShape {
    fn split(&mut self, question: &SplittingQuestion) -> Result<SplittingAnswer, StrategyError> {
        let (min, frequency) = (question.chain_end, question.full_checkpoint_frequency);
        let last = question.last_settled;
        let due = last.filter(|last| *last >= min && last - min >= frequency);
        Ok(SplittingAnswer {
            shard_entries: SHARD_ENTRIES_MAX,
            joins: due.map(|max| EpochRange { min, max }).into_iter().collect(),
            reason: "as Kopia".to_owned(),
        })
    }

    fn repack(&mut self, question: &RepackQuestion) -> Result<RepackAnswer, StrategyError> {
        ShortPacks.choose(question)
    }

    fn describe(&self) -> String {
        "kit: as Kopia".to_owned()
    }
}
