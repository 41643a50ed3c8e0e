//! The mark of snapshot GC: which contents the snapshots use.
//!
//! From the roots down, level by level: the directories of a level are looked up in the table of
//! contents, sorted by where they lie, and read once in pack order by two threads. What they refer
//! to goes to the contents in use, directories among it to the next level, unless an earlier level
//! had them. No set of anything is held: keys are sorted on disk, and a table there has four bits
//! for each content. Where somebody asks whose the contents are, a number of one byte goes down
//! with each reference.
//!
//! ```text
//! keys of a level -> sort -> join with the content table -> sort by pack -> read, parse
//!        ^------------------------ directories below ------------------------------'
//! ```
//!
//! Memory: the plan's phase "mark". Invariant: whatever cannot be read, and every content that is
//! not in the index, is an error; nothing is deleted on the word of a part of a tree. Mirrors
//! Kopia's `snapshot/snapshotgc/gc.go` and `snapshot_tree_walker.go`.

use crate::kopia::content_id::ContentId;
use crate::kopia::directory::{Below, EntryKind};
use crate::memory::{NEXT_LEVEL_BYTES, WORKERS};
use crate::spill::{Merge, Runs, SortMemory, SortShape, Sorter};

use super::content_requests::{
    ContentRequests, ContentSource, SortedRequests, TakeContents, small_sort,
};
use super::content_seek::ContentSeeker;
use super::content_table::ContentTable;
use super::faults::{Faults, noted_or};
use super::mark_worker::{MarkWorker, NEXT_BYTES, Next, no_content, tag};
use super::object_streams::ObjectStreams;
use super::read_ahead::ReadAhead;
use super::read_marks::ReadMarks;
use super::snapshots::Snapshots;
use super::tenants::SnapshotTenants;
use super::{Repository, RepositoryError, Workspace};

/// Deepest tree: paths of most systems have 4,096 bytes, so at most half as many directories. Index
/// objects of index objects count too.
pub const LEVELS_MAX: u64 = 10_000;

/// Sort buffer of what is read as a stream, in bytes: rare.
const STREAMS_BYTES: usize = 64 * 1024;

/// What the mark has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MarkStats {
    /// Snapshots, each of them a root.
    pub snapshots: u64,
    /// Levels of directories below the roots.
    pub levels: u64,
    /// Different directories.
    pub directories: u64,
    /// Different index objects of large files.
    pub index_objects: u64,
    /// Bytes of them as stored that were asked for.
    pub asked_bytes: u64,
    /// Bytes that were read between them and of no use.
    pub useless_bytes: u64,
}

/// The contents in use.
pub struct UsedContents {
    keys: Runs,
    /// What the mark has seen.
    pub stats: MarkStats,
}

impl UsedContents {
    /// Returns their keys, ascending, each once; of [`mark_tenants`] each with the number of a
    /// tenant, once for each that was found.
    pub fn merge(&self) -> Result<Merge, RepositoryError> {
        Ok(self.keys.merge()?)
    }
}

/// Finds the contents that `snapshots` use.
///
/// # Errors
/// A snapshot, directory or index object that cannot be read or has another form; a directory that
/// is not in the index. Other contents are only named: who joins them with the table finds those
/// that are not there.
pub fn mark(
    repository: &Repository,
    workspace: &Workspace,
    table: &ContentTable,
    snapshots: &Snapshots,
) -> Result<UsedContents, RepositoryError> {
    Mark::new(repository, workspace, table, None, None)?.run_told(snapshots)
}

/// Does the same, and says of every content whose it is. A directory of several tenants is read
/// twice at most: for the first, and for all others together.
pub(super) fn mark_tenants(
    repository: &Repository,
    workspace: &Workspace,
    table: &ContentTable,
    snapshots: &Snapshots,
    tenants: &SnapshotTenants,
) -> Result<UsedContents, RepositoryError> {
    Mark::new(repository, workspace, table, None, Some(tenants))?.run_told(snapshots)
}

/// Does the same, and goes on behind whatever cannot be read; `faults` take note of it.
pub(super) fn mark_noting(
    repository: &Repository,
    workspace: &Workspace,
    table: &ContentTable,
    snapshots: &Snapshots,
    faults: &Faults,
) -> Result<UsedContents, RepositoryError> {
    Mark::new(repository, workspace, table, Some(faults), None)?.run_told(snapshots)
}

/// A mark in progress.
struct Mark<'a> {
    repository: &'a Repository,
    workspace: &'a Workspace,
    table: &'a ContentTable,
    used: Sorter,
    workers: Vec<MarkWorker>,
    /// As what each content was read.
    read: ReadMarks,
    ahead: ReadAhead,
    streams: ObjectStreams<'a>,
    /// Who takes note of damage; without it damage is an error.
    faults: Option<&'a Faults>,
    /// Whose the snapshots are, where somebody asks.
    tenants: Option<&'a SnapshotTenants>,
    stats: MarkStats,
}

/// What is to be read of one level.
struct Level {
    contents: SortedRequests,
    /// Objects that are streams of several contents.
    streams: Runs,
}

impl<'a> Mark<'a> {
    fn new(
        repository: &'a Repository,
        workspace: &'a Workspace,
        table: &'a ContentTable,
        faults: Option<&'a Faults>,
        tenants: Option<&'a SnapshotTenants>,
    ) -> Result<Self, RepositoryError> {
        let key_bytes = table.layout.key_bytes;
        let shape = SortShape {
            record_bytes: key_bytes + usize::from(tenants.is_some()),
            group: None,
        };
        let memory = workspace.sort_memory(WORKERS);
        let memory = SortMemory {
            buffer_bytes: memory.buffer_bytes.min(workspace.memory.mark_buffer_bytes),
            ..memory
        };
        let used = Sorter::new(workspace.scratch.clone(), shape, memory);
        let workers = (0..WORKERS).map(|_| MarkWorker::new(key_bytes, used.buffer()));
        Ok(Self {
            workers: workers.collect(),
            read: ReadMarks::create(&workspace.scratch, table.contents(), tenants.is_some())?,
            ahead: ReadAhead::create(workspace, repository.storage.waits())?,
            streams: ObjectStreams::new(repository, workspace, table),
            repository,
            workspace,
            table,
            used,
            faults,
            tenants,
            stats: MarkStats::default(),
        })
    }

    fn run_told(self, snapshots: &Snapshots) -> Result<UsedContents, RepositoryError> {
        let progress = &self.workspace.progress;
        progress.begin("read directories", "directories", None);
        let marked = self.run(snapshots);
        progress.end();
        marked
    }

    fn run(mut self, snapshots: &Snapshots) -> Result<UsedContents, RepositoryError> {
        let mut next = self.begin_level();
        let faults = self.faults;
        let mut tenants = self.tenants.map(SnapshotTenants::stream);
        snapshots.each_noting(faults, |snapshot| {
            self.stats.snapshots += 1;
            let directory = snapshot.root.kind == EntryKind::Directory;
            let references = &mut self.workers[0].references;
            if let Some(tenants) = &mut tenants {
                references.tenant = tenants.next_tenant()?;
            }
            // How much lies below a root is not known yet.
            let below = directory.then(Below::default);
            let taken = references.object(&snapshot.root.object, below);
            taken.or_else(|error| noted_or(faults, error))
        })?;
        loop {
            let runs = self.end_level(next)?;
            if runs.records() == 0 {
                break;
            }
            if self.stats.levels == LEVELS_MAX {
                return Err(RepositoryError::TooMany {
                    what: "levels of directories",
                    maximum: LEVELS_MAX as usize,
                });
            }
            self.stats.levels += 1;
            let level = self.find(&runs)?;
            drop(runs);
            next = self.begin_level();
            self.read(&level)?;
        }
        for worker in self.workers {
            self.stats.directories += worker.directories;
            self.stats.index_objects += worker.indexes;
            worker.references.used.finish()?;
        }
        (self.stats.asked_bytes, self.stats.useless_bytes) = self.ahead.totals();
        Ok(UsedContents {
            keys: self.used.finish()?,
            stats: self.stats,
        })
    }

    /// Opens the collection of what the next level reads.
    fn begin_level(&mut self) -> Sorter {
        let shape = SortShape {
            record_bytes: self.table.layout.key_bytes + NEXT_BYTES,
            group: None,
        };
        let memory = small_sort(self.workspace, NEXT_LEVEL_BYTES, WORKERS);
        let sorter = Sorter::new(self.workspace.scratch.clone(), shape, memory);
        for worker in &mut self.workers {
            worker.references.next = Some(sorter.buffer());
        }
        sorter
    }

    fn end_level(&mut self, next: Sorter) -> Result<Runs, RepositoryError> {
        for worker in &mut self.workers {
            if let Some(buffer) = worker.references.next.take() {
                buffer.finish()?;
            }
        }
        Ok(next.finish()?)
    }

    /// Looks up what is to be read and was not read by an earlier level.
    fn find(&self, runs: &Runs) -> Result<Level, RepositoryError> {
        let key_bytes = self.table.layout.key_bytes;
        let mut requests = ContentRequests::new(self.workspace, key_bytes);
        let shape = SortShape {
            record_bytes: key_bytes + NEXT_BYTES,
            group: None,
        };
        let memory = small_sort(self.workspace, STREAMS_BYTES, 1);
        let sorter = Sorter::new(self.workspace.scratch.clone(), shape, memory);
        let mut streams = sorter.buffer();
        let mut seeker = ContentSeeker::new(self.table);
        let mut merge = runs.merge()?;
        merge.advance()?;
        let mut key = vec![0; key_bytes];
        while let Some(first) = merge.current() {
            key.copy_from_slice(&first[..key_bytes]);
            let found = seeker.seek(&key)?;
            let Some((row, record)) = found else {
                noted_or(self.faults, no_content(&ContentId::from_key(&key)?))?;
                while merge
                    .current()
                    .is_some_and(|next| next[..key_bytes] == key[..])
                {
                    merge.advance()?;
                }
                continue;
            };
            let (mut tags, mut reach, mut tenant) = (0, 0, 0);
            // Everything that this content is to be read as; mostly one thing.
            while let Some(record) = merge.current().filter(|next| next[..key_bytes] == key[..]) {
                let next = next_of(record)?.1;
                reach = next.reach.max(reach);
                let Some(tag) = tag_of(next) else {
                    streams.push(record)?;
                    merge.advance()?;
                    continue;
                };
                match (self.read.note(row, tag, next.tenant), tag) {
                    (None, _) => {}
                    (Some(whose), tag::DIRECTORY_INDEX) => {
                        let next = Next {
                            tenant: whose,
                            ..next
                        };
                        streams.push(&[&key[..], &next.encode()].concat())?;
                    }
                    // The marks only rise: the last is all of them.
                    (Some(whose), _) => (tags, tenant) = (tags | tag, whose),
                }
                merge.advance()?;
            }
            if tags != 0 {
                requests.push_for(&key, &self.table.fields(record), (tags, reach), tenant)?;
            }
        }
        streams.finish()?;
        Ok(Level {
            contents: requests.finish()?,
            streams: sorter.finish()?,
        })
    }

    fn read(&mut self, level: &Level) -> Result<(), RepositoryError> {
        let source = ContentSource {
            packs: &self.table.packs,
            formats: &self.table.formats,
        };
        let (repository, workspace) = (self.repository, self.workspace);
        let (ahead, faults, workers) = (Some(&self.ahead), self.faults, &mut self.workers);
        level
            .contents
            .read(repository, workspace, source, ahead, faults, workers)?;
        self.ahead.end_level();
        let mut streams = level.streams.merge()?;
        while let Some(record) = streams.next()? {
            let (key, next) = next_of(record)?;
            let read = self.stream(ContentId::from_key(key)?, next);
            if let Err(error) = read {
                self.workers[0].forget();
                noted_or(self.faults, error)?;
            }
        }
        Ok(())
    }

    /// Reads an object that is made of several contents.
    fn stream(&mut self, content: ContentId, next: Next) -> Result<(), RepositoryError> {
        let object = next.object(content);
        let worker = &mut self.workers[0];
        if next.directory {
            let mut sink = worker.directory_sink(next.tenant);
            self.streams.read(&object, &mut sink)?;
            sink.reader.finish(&format!("directory {object}"))?;
            return Ok(());
        }
        let Some(index) = object.index_object() else {
            return Err(RepositoryError::Interrupted);
        };
        let mut sink = worker.index_sink(next.tenant);
        self.streams.read(&index, &mut sink)?;
        sink.reader.finish(&format!("object {object}"))?;
        Ok(())
    }
}

/// Takes a record of what is read next apart.
fn next_of(record: &[u8]) -> Result<(&[u8], Next), RepositoryError> {
    let parts = record.split_last_chunk::<NEXT_BYTES>();
    let (key, next) = parts.ok_or(RepositoryError::Interrupted)?;
    Ok((key, Next::decode(*next)))
}

/// Returns as what the content of an object is read; `None` for index objects that are indirect
/// themselves.
fn tag_of(next: Next) -> Option<u8> {
    match (next.indirections, next.directory, next.compressed) {
        (0, _, false) => Some(tag::DIRECTORY),
        (0, _, true) => Some(tag::COMPRESSED_DIRECTORY),
        (1, false, _) => Some(tag::INDEX),
        (1, true, _) => Some(tag::DIRECTORY_INDEX),
        _ => None,
    }
}
