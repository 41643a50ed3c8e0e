//! Loads index blobs: read, opened, checked, decoded, and sorted as records. The first half of every merge.
//!
//! [`WORKERS`] threads take blob names from one feed. A blob of up to 2 MiB is opened in memory, its tag
//! verified before a byte is used; a larger one goes through scratch ([`super::open_large`]). Every entry of a
//! target becomes a record; entries of system contents (`m`) of every blob are kept beside, so that the
//! owner's manifest is found without reading the index twice.
//!
//! Memory: a sort buffer and a blob for each worker. Invariant: a blob is used whole or the load fails; an
//! entry that a client would refuse fails the load where it would be written again.

use std::sync::Mutex;

use crate::kopia::FormatError;
use crate::kopia::blob_id::BlobId;
use crate::kopia::content_id::ContentId;
use crate::kopia::encryption::OVERHEAD_BYTES;
use crate::kopia::index_blob::{ContentFormat, IndexBlob, IndexEntry, KeyOrder, PackRef, refusal};
use crate::memory::WORKERS;
use crate::spill::{RunWriter, Runs, SortBuffer, SortMemory, Sorter};

use super::epochs::IndexSet;
use super::index_names::{Names, UncompactedNames};
use super::pack_names::{PackNameWriter, PackNames, PackTable};
use super::record::{RECORD_BYTES_MAX, RecordFields, RecordLayout, TIMESTAMP_SECONDS_MAX};
use super::{Repository, RepositoryError, Workspace};

/// Prefix of system contents (manifests) in a content key.
const SYSTEM_PREFIX: u8 = b'm';

/// Names that a worker takes from the feed at a time.
const FEED_BATCH: usize = 16;

/// Different content formats in one load; an index blob cannot have more either.
pub const FORMATS_MAX: usize = 255;

/// Names of packs of a version 1 blob, or of system entries, that are remembered at a time; what is forgotten
/// is spooled again, and found equal later.
const REMEMBERED_NAMES: usize = 4096;

/// Blobs to load and what for.
pub struct Input<'a> {
    /// Which set under construction their entries go to; `None`: only system entries are wanted.
    pub target: Option<u8>,
    /// Which of the compared sets they belong to.
    pub source: u8,
    /// The blobs.
    pub blobs: InputBlobs<'a>,
}

/// Which blobs.
pub enum InputBlobs<'a> {
    /// All uncompacted blobs of an epoch.
    Uncompacted(u64),
    /// All uncompacted blobs of an epoch but those that the function picks.
    UncompactedBut(u64, &'a (dyn Fn(&str) -> bool + Send + Sync)),
    /// A compacted set.
    Set(&'a IndexSet),
    /// These.
    Named(&'a [BlobId]),
}

impl Input<'_> {
    fn leaves_out(&self, name: &str) -> bool {
        matches!(self.blobs, InputBlobs::UncompactedBut(_, leave_out) if leave_out(name))
    }
}

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
        buffer_bytes: 512 * 1024,
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
        feed: Mutex::new(Feed {
            inputs,
            uncompacted,
            at: 0,
            open: None,
        }),
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
    let (records, system) = (records.finish()?, system.finish()?);
    let packs = names.finish(workspace)?;
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
    feed: Mutex<Feed<'a>>,
    formats: Mutex<Vec<ContentFormat>>,
}

impl Shared<'_> {
    fn into_formats(self) -> Result<Vec<ContentFormat>, RepositoryError> {
        self.formats
            .into_inner()
            .map_err(|_| RepositoryError::Interrupted)
    }
}

/// Gives out names, input after input.
struct Feed<'a> {
    inputs: &'a [Input<'a>],
    uncompacted: &'a UncompactedNames,
    at: usize,
    open: Option<Open<'a>>,
}

enum Open<'a> {
    Stream(Names),
    List(Box<dyn Iterator<Item = &'a BlobId> + Send + 'a>),
}

/// A blob to read.
struct Task {
    blob: BlobId,
    target: Option<u8>,
    source: u8,
}

impl Feed<'_> {
    fn take(&mut self, tasks: &mut Vec<Task>) -> Result<(), RepositoryError> {
        while tasks.len() < FEED_BATCH {
            let Some(input) = self.inputs.get(self.at) else {
                return Ok(());
            };
            let open = match &mut self.open {
                Some(open) => open,
                empty => empty.insert(match input.blobs {
                    InputBlobs::Uncompacted(epoch) | InputBlobs::UncompactedBut(epoch, _) => {
                        Open::Stream(self.uncompacted.of_epoch(epoch)?)
                    }
                    InputBlobs::Set(set) => Open::List(Box::new(set.blobs.iter().map(|b| &b.id))),
                    InputBlobs::Named(names) => Open::List(Box::new(names.iter())),
                }),
            };
            let next = match open {
                Open::Stream(names) => names.next()?,
                Open::List(list) => list.next().cloned(),
            };
            match next {
                Some(blob) if input.leaves_out(blob.as_str()) => {}
                Some(blob) => {
                    tasks.push(Task {
                        blob,
                        target: input.target,
                        source: input.source,
                    });
                }
                None => {
                    self.open = None;
                    self.at += 1;
                }
            }
        }
        Ok(())
    }
}

/// One thread of a load.
pub(super) struct Worker<'s, 'i> {
    pub(super) shared: &'s Shared<'i>,
    records: SortBuffer,
    /// Takes the records instead while a large blob is read: it is a sorted run as it is.
    pub(super) run: Option<RunWriter>,
    system: SortBuffer,
    names: PackNameWriter<'s>,
    remembered: Vec<(u64, u32)>,
    formats: Vec<(ContentFormat, u8)>,
    pub(super) stats: LoadStats,
}

/// Where entries of the blob at hand go, and what its numbers mean.
pub(super) struct BlobContext<'n> {
    pub(super) name: &'n str,
    /// Counts the blobs of this worker, so that remembered names are not mixed up.
    pub(super) serial: u64,
    pub(super) target: Option<u8>,
    pub(super) source: u8,
    /// Number of the blob's first pack name, where all of them were spooled.
    pub(super) first_pack: Option<u32>,
    /// The blob's format numbers (in version 1: format versions) as formats and numbers of this load.
    pub(super) formats: [Option<(ContentFormat, u8)>; 256],
}

impl<'s, 'i> Worker<'s, 'i> {
    fn new(
        shared: &'s Shared<'i>,
        records: SortBuffer,
        system: SortBuffer,
        names: PackNameWriter<'s>,
    ) -> Self {
        let remembered = vec![(u64::MAX, 0); REMEMBERED_NAMES];
        let stats = LoadStats::default();
        Self {
            shared,
            records,
            run: None,
            system,
            names,
            remembered,
            formats: Vec::new(),
            stats,
        }
    }

    fn run(mut self) -> Result<LoadStats, RepositoryError> {
        let mut stored = vec![0; self.shared.workspace.memory.blob_bytes];
        let mut decoded = Vec::new();
        let mut tasks = Vec::with_capacity(FEED_BATCH);
        loop {
            self.shared
                .feed
                .lock()
                .map_err(|_| RepositoryError::Interrupted)?
                .take(&mut tasks)?;
            if tasks.is_empty() {
                break;
            }
            for task in tasks.drain(..) {
                self.blob(&task, &mut stored, &mut decoded)?;
                self.shared.workspace.progress.advance(1);
            }
        }
        self.names.flush()?;
        self.records.finish()?;
        self.system.finish()?;
        Ok(self.stats)
    }

    fn blob(
        &mut self,
        task: &Task,
        stored: &mut Vec<u8>,
        decoded: &mut Vec<u8>,
    ) -> Result<(), RepositoryError> {
        let repository = self.shared.repository;
        stored.resize(self.shared.workspace.memory.blob_bytes, 0);
        let length = repository
            .storage
            .get(&task.blob, 0, stored)
            .map_err(|error| {
                let vanished = error.is_not_found();
                let blob = task.blob.to_string();
                if vanished {
                    RepositoryError::Vanished { blob, attempts: 1 }
                } else {
                    error.into()
                }
            })?;
        self.stats.blobs += 1;
        let name = task.blob.as_str();
        let mut context = BlobContext {
            name,
            serial: self.stats.blobs,
            target: task.target,
            source: task.source,
            first_pack: None,
            formats: [None; 256],
        };
        if length == stored.len() {
            return self.large_blob(&task.blob, &mut context);
        }
        self.stats.stored_bytes += length as u64;
        stored.truncate(length);
        let plain = if repository.crypto.ecc.is_some() {
            let range = repository.crypto.open(name, stored, decoded)?;
            stored.get(range).unwrap_or_default()
        } else {
            &*repository.crypto.open_slice(name, stored)?
        };
        self.decode(&IndexBlob::parse(plain, name)?, &mut context)
    }

    /// Takes in a whole blob that lies in memory.
    fn decode(
        &mut self,
        blob: &IndexBlob<'_>,
        context: &mut BlobContext<'_>,
    ) -> Result<(), RepositoryError> {
        let layout = blob.layout();
        if layout.entry_count == 0 {
            return Ok(());
        }
        self.check_key_bytes(layout.key_bytes, context.name)?;
        for (number, format) in blob.formats().enumerate() {
            self.take_format(context, number, format)?;
        }
        if let Some(target) = context.target.filter(|_| layout.pack_count > 0) {
            context.first_pack = Some(self.names.reserve(layout.pack_count)?);
            for number in 0..layout.pack_count {
                let name = blob.pack_name(PackRef::Number(number))?;
                self.names.push(target, name, context.name)?;
            }
        }
        let mut order = KeyOrder::default();
        for row in 0..layout.entry_count {
            let key = blob.key(row);
            order.check(key, context.name)?;
            let entry = blob.entry(row, OVERHEAD_BYTES as u32)?;
            let name_of = |pack| Ok(blob.pack_name(pack)?.to_vec());
            self.entry(context, key, &entry, layout.version == 1, name_of)?;
        }
        self.count_entries(context, layout.entry_count);
        Ok(())
    }

    pub(super) fn count_entries(&mut self, context: &BlobContext<'_>, entries: u32) {
        self.stats.entries += u64::from(entries);
        if let Some(target) = context.target {
            self.stats.target_entries[usize::from(target)] += u64::from(entries);
        }
    }

    /// Takes in one entry. `name_of` finds a pack's name where the spool does not have it yet.
    #[inline]
    pub(super) fn entry(
        &mut self,
        context: &mut BlobContext<'_>,
        key: &[u8],
        entry: &IndexEntry,
        version_1: bool,
        name_of: impl Fn(PackRef) -> Result<Vec<u8>, RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let system = key.first() == Some(&SYSTEM_PREFIX);
        if context.target.is_none() && !system {
            return Ok(());
        }
        let number = usize::from(if version_1 {
            entry.format_version
        } else {
            entry.format
        });
        let (format, number) = match context.formats[number] {
            Some(known) => known,
            None => self.take_format(
                context,
                number,
                ContentFormat {
                    format_version: entry.format_version,
                    ..ContentFormat::default()
                },
            )?,
        };
        if self.shared.strictness == Strictness::ForWriting && context.target.is_some() {
            let version = self.shared.repository.format.index_version;
            // The length of the pack's name was checked when it was spooled.
            if let Some(reason) = refusal(entry, format, 1, version) {
                return Err(refused(context.name, key, reason));
            }
        }
        let pack = match (context.first_pack, entry.pack) {
            (Some(first), PackRef::Number(number)) => first + number,
            (_, pack) => self.remembered_name(context, pack, name_of)?,
        };
        let fields = RecordFields {
            timestamp_seconds: entry.timestamp_seconds.min(TIMESTAMP_SECONDS_MAX),
            deleted: entry.deleted,
            pack,
            pack_offset: entry.pack_offset,
            packed_length: entry.packed_length,
            original_length: entry.original_length,
            format: number,
        };
        let layout = self.shared.layout;
        if let Some(target) = context.target {
            let longest = entry.packed_length.max(entry.original_length);
            self.stats.longest_length = self.stats.longest_length.max(longest);
            let source = context.source;
            let encode = |out: &mut [u8]| layout.encode(out, target, source, key, &fields);
            match &mut self.run {
                None => self.records.push_with(encode)?,
                Some(run) => {
                    let mut record = [0; RECORD_BYTES_MAX];
                    let record = &mut record[..layout.record_bytes()];
                    encode(record);
                    run.push(record)?;
                }
            }
        }
        if system {
            self.system
                .push_with(|out| layout.encode(out, 0, 0, key, &fields))?;
        }
        Ok(())
    }

    pub(super) fn check_key_bytes(
        &self,
        key_bytes: usize,
        blob: &str,
    ) -> Result<(), RepositoryError> {
        let expected = self.shared.layout.key_bytes;
        if key_bytes == expected {
            return Ok(());
        }
        let reason = format!("keys of {key_bytes} bytes in a repository of {expected}");
        Err(FormatError::malformed(blob, reason).into())
    }

    /// Notes which number of this load a format of the blob has.
    pub(super) fn take_format(
        &mut self,
        context: &mut BlobContext<'_>,
        number: usize,
        format: ContentFormat,
    ) -> Result<(ContentFormat, u8), RepositoryError> {
        let known = self
            .formats
            .iter()
            .find(|(known, _)| *known == format)
            .map(|(_, n)| *n);
        let shared = match known {
            Some(known) => known,
            None => {
                let mut all = self
                    .shared
                    .formats
                    .lock()
                    .map_err(|_| RepositoryError::Interrupted)?;
                let at = match all.iter().position(|other| *other == format) {
                    Some(at) => at,
                    None if all.len() == FORMATS_MAX => {
                        let what = "content formats";
                        return Err(RepositoryError::TooMany {
                            what,
                            maximum: FORMATS_MAX,
                        });
                    }
                    None => {
                        all.push(format);
                        all.len() - 1
                    }
                };
                self.formats.push((format, at as u8));
                at as u8
            }
        };
        if let Some(slot) = context.formats.get_mut(number) {
            *slot = Some((format, shared));
        }
        Ok((format, shared))
    }

    pub(super) fn push_name(
        &mut self,
        context: &BlobContext<'_>,
        name: &[u8],
    ) -> Result<u32, RepositoryError> {
        self.names
            .push(context.target.unwrap_or(0), name, context.name)
    }

    pub(super) fn reserve_names(&mut self, count: u32) -> Result<u32, RepositoryError> {
        self.names.reserve(count)
    }

    /// Returns the number of a name that is spooled only when an entry needs it.
    fn remembered_name(
        &mut self,
        context: &BlobContext<'_>,
        pack: PackRef,
        name_of: impl Fn(PackRef) -> Result<Vec<u8>, RepositoryError>,
    ) -> Result<u32, RepositoryError> {
        let place = match pack {
            PackRef::Number(number) => number,
            PackRef::Name { offset, .. } => offset,
        };
        let mark = (context.serial << 32) | u64::from(place);
        let slot = place as usize % REMEMBERED_NAMES;
        if self.remembered[slot].0 == mark {
            return Ok(self.remembered[slot].1);
        }
        let number = self.push_name(context, &name_of(pack)?)?;
        self.remembered[slot] = (mark, number);
        Ok(number)
    }
}

#[cold]
fn refused(blob: &str, key: &[u8], reason: &str) -> RepositoryError {
    let content = ContentId::from_key(key).map_or_else(|_| hex::encode(key), |id| id.to_string());
    RepositoryError::RefusedEntry {
        blob: blob.to_owned(),
        content,
        reason: reason.to_owned(),
    }
}
