//! Loads index blobs: read, opened, checked, decoded, and sorted as records. The first half of
//! every merge.
//!
//! [`WORKERS`] threads take blob names from one feed. A blob of up to 2 MiB is opened in memory
//! ([`super::load_worker`]); a larger one goes through scratch ([`super::open_large`]). Every entry
//! of a target becomes a record; entries of system contents (`m`) of every blob are kept beside, so
//! that the owner's manifest is found without reading the index twice.
//!
//! Memory: two sort buffers and a blob for each worker. Invariant: a blob is used whole or the load
//! fails; an entry that a client would refuse fails the load where it would be written again.

use std::sync::Mutex;

use crate::kopia::index_blob::ContentFormat;
use crate::memory::WORKERS;
use crate::progress::Part;
use crate::spill::{Runs, SortMemory, Sorter};

use super::index_feed::Feed;
use super::index_names::UncompactedNames;
use super::load_worker::Worker;
use super::pack_names::{PackNames, PackTable};
use super::record::RecordLayout;
use super::working_time::WorkingTime;
use super::{Repository, RepositoryError, Workspace};

pub use super::index_feed::{Input, InputBlobs};

/// Different content formats in one load; an index blob cannot have more either.
pub const FORMATS_MAX: usize = 255;

/// How strict a load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Entries will be written again: what a client would refuse fails the load.
    ForWriting,
    /// Entries are only looked at.
    ForReading,
}

/// What a load has made.
pub struct Loaded {
    /// Records of all targets.
    pub records: Runs,
    /// Records of system contents, of all blobs, under target 0.
    pub system: Runs,
    /// Names of their packs.
    pub packs: PackTable,
    /// Content formats by number.
    pub formats: Vec<ContentFormat>,
    /// Form of the records.
    pub layout: RecordLayout,
    /// Counts.
    pub stats: LoadStats,
}

/// Counts of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadStats {
    /// Index blobs read.
    pub blobs: u64,
    /// Their bytes as stored.
    pub stored_bytes: u64,
    /// Entries in them.
    pub entries: u64,
    /// Entries of each target.
    pub target_entries: [u64; 256],
    /// Longest length of an entry, packed or original, in bytes.
    pub longest_length: u32,
}

/// Loads `inputs`.
pub fn load(
    repository: &Repository,
    workspace: &Workspace,
    uncompacted: &UncompactedNames,
    inputs: &[Input<'_>],
    strictness: Strictness,
) -> Result<Loaded, RepositoryError> {
    let layout = RecordLayout {
        key_bytes: repository.key_bytes(),
    };
    let memory = workspace.sort_memory(WORKERS);
    let records = Sorter::new(workspace.scratch.clone(), layout.shape(), memory);
    let small = SortMemory {
        buffer_bytes: workspace.memory.system_buffer_bytes,
        ..memory
    };
    let system = Sorter::new(workspace.scratch.clone(), layout.shape(), small);
    let names = PackNames::create(workspace)?;
    let shared = Shared {
        repository,
        workspace,
        layout,
        strictness,
        records: &records,
        feed: Mutex::new(Feed::new(inputs, uncompacted)),
        formats: Mutex::new(Vec::new()),
    };
    let stats = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                let (records, system) = (records.buffer(), system.buffer());
                let worker = Worker::new(&shared, records, system, names.writer());
                scope.spawn(move || worker.run())
            })
            .collect();
        let mut total = LoadStats::default();
        let mut outcome = Ok(());
        for worker in workers {
            match worker.join().unwrap_or(Err(RepositoryError::Interrupted)) {
                Ok(stats) => total.add(&stats),
                Err(error) if outcome.is_ok() => outcome = Err(error),
                Err(_) => {}
            }
        }
        outcome.map(|()| total)
    })?;
    let formats = shared.into_formats()?;
    let time = WorkingTime::start(&*workspace.progress);
    let (records, system) = (records.finish()?, system.finish()?);
    let packs = names.finish(workspace)?;
    time.lap(Part::Decode);
    Ok(Loaded {
        records,
        system,
        packs,
        formats,
        layout,
        stats,
    })
}

impl Default for LoadStats {
    fn default() -> Self {
        Self {
            blobs: 0,
            stored_bytes: 0,
            entries: 0,
            target_entries: [0; 256],
            longest_length: 0,
        }
    }
}

impl LoadStats {
    fn add(&mut self, other: &Self) {
        self.blobs += other.blobs;
        self.stored_bytes += other.stored_bytes;
        self.entries += other.entries;
        for (sum, more) in self.target_entries.iter_mut().zip(&other.target_entries) {
            *sum += more;
        }
        self.longest_length = self.longest_length.max(other.longest_length);
    }
}

/// What all workers share.
pub(super) struct Shared<'a> {
    pub(super) repository: &'a Repository,
    pub(super) workspace: &'a Workspace,
    pub(super) layout: RecordLayout,
    pub(super) strictness: Strictness,
    pub(super) records: &'a Sorter,
    pub(super) feed: Mutex<Feed<'a>>,
    pub(super) formats: Mutex<Vec<ContentFormat>>,
}

impl Shared<'_> {
    fn into_formats(self) -> Result<Vec<ContentFormat>, RepositoryError> {
        self.formats
            .into_inner()
            .map_err(|_| RepositoryError::Interrupted)
    }
}
