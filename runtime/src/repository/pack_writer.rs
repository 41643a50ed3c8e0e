//! Writes sealed contents into new packs, and then the index that shows them: what rewriting and
//! undeleting need.
//!
//! The order is Kopia's and makes a crash harmless at every step: session marker, packs, index,
//! then the marker goes. Packs are put while the next one is filled; the index is written only
//! after the last of them is durable. A flush that takes longer than [`FLUSH_AFTER`] is ended and
//! the next begun, so that a crash costs minutes.
//!
//! The entries of a closed pack are sorted already, for its local index: each pack is one run of
//! the flush's index, which needs no sort of its own.
//!
//! Memory: two open packs ([`super::pack_file`]), the names of at most [`FLUSH_PACKS_MAX`] packs;
//! at the end of a flush the merge of its index. Mirrors
//! `repo/content/content_manager.go`.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::kopia::FormatError;
use crate::kopia::blob_id::{BlobId, INDEX_V0_PREFIX, REPOSITORY, pack_name};
use crate::kopia::content_id::ContentId;
use crate::kopia::format_blob::{FORMAT_BLOB_BYTES_MAX, replica_of};
use crate::kopia::index_blob::{ContentFormat, IndexEntry, PackRef, refusal};
use crate::spill::Sorter;

use super::index_load::{FORMATS_MAX, LoadStats, Loaded};
use super::index_writer::write_indexes;
use super::pack_file::OpenPack;
use super::pack_names::PackNames;
use super::pack_puts::PackPuts;
use super::record::{RecordFields, RecordLayout};
use super::sealing::put_index;
use super::sessions::Session;
use super::uncompacted_writer::write_uncompacted_in;
use super::{Repository, RepositoryError, Workspace};

pub use super::pack_file::Sealed;

/// Kopia's own limit for packs that are in no index yet.
pub const FLUSH_AFTER: Duration = Duration::from_secs(10 * 60);

/// Packs of one flush; their names take 80 bytes each.
pub const FLUSH_PACKS_MAX: usize = 10_000;

/// What is read of each run of entries in a merge.
const ENTRY_READ_BYTES: usize = 32 * 1024;

/// Entries of an index blob of a flush: Kopia's own.
const SHARD_ENTRIES: u64 = 16_000_000;

/// An entry of a content in a new pack.
#[derive(Clone, Copy, Debug)]
pub struct NewContent<'a> {
    /// Key of the content: prefix and hash.
    pub key: &'a [u8],
    /// Timestamp of the new entry, larger than that of the one that it replaces.
    pub timestamp_seconds: i64,
    /// Whether it is a tombstone.
    pub deleted: bool,
    /// Length before compression and encryption, in bytes.
    pub original_length: u32,
    /// How the bytes are stored.
    pub format: ContentFormat,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PackWriterStats {
    /// Contents.
    pub contents: u64,
    /// Packs, whose names are in no list: the index has them.
    pub packs: u64,
    /// Bytes of the packs.
    pub pack_bytes: u64,
    /// Index blobs.
    pub index_blobs: Vec<BlobId>,
}

/// A writer of packs.
pub struct PackWriter<'a> {
    repository: &'a Repository,
    workspace: &'a Workspace,
    owner: &'a str,
    replica: Vec<u8>,
    pack_bytes: u64,
    formats: Vec<ContentFormat>,
    flush: Option<Flush>,
    stats: PackWriterStats,
}

/// A session and what it has written so far.
struct Flush {
    session: Session,
    puts: PackPuts,
    /// Names of the packs by number.
    packs: Vec<BlobId>,
    /// Packs that take contents: of data, and of metadata.
    open: [Option<OpenPack>; 2],
    /// Entries, a run of each closed pack.
    entries: Sorter,
    longest: u32,
    contents: u64,
}

impl<'a> PackWriter<'a> {
    /// Makes a writer that acts as `owner` (`user@host`). Nothing is put before the first content.
    ///
    /// # Errors
    /// In a repository born before Kopia 0.9: a format blob that cannot be read.
    pub fn new(
        repository: &'a Repository,
        workspace: &'a Workspace,
        owner: &'a str,
    ) -> Result<Self, RepositoryError> {
        let replica = if repository.format.enable_password_change {
            Vec::new()
        } else {
            let blob = BlobId::new(REPOSITORY);
            replica_of(&repository.storage.get_all(&blob, FORMAT_BLOB_BYTES_MAX)?)?
        };
        Ok(Self {
            repository,
            workspace,
            owner,
            replica,
            pack_bytes: repository.format.max_pack_size,
            formats: Vec::new(),
            flush: None,
            stats: PackWriterStats::default(),
        })
    }

    /// Closes packs at `pack_bytes` instead of at the repository's own size.
    #[must_use]
    pub fn with_pack_bytes(mut self, pack_bytes: u64) -> Self {
        self.pack_bytes = pack_bytes;
        self
    }

    /// Closes the open packs: what follows goes into others.
    pub fn cut(&mut self) -> Result<(), RepositoryError> {
        if let Some(flush) = &mut self.flush {
            for kind in 0..flush.open.len() {
                flush.close_pack(self.repository, self.workspace, kind)?;
            }
        }
        Ok(())
    }

    /// Appends a content to a pack of its kind: `q` for metadata, `p` for data.
    ///
    /// The bytes must be verified: they are stored as they are.
    ///
    /// # Errors
    /// What the store or scratch answers. Then the session has died, with all that it has written
    /// since the last flush: an index of it could name packs that are not there.
    pub fn append(
        &mut self,
        content: &NewContent<'_>,
        sealed: Sealed<'_>,
    ) -> Result<(), RepositoryError> {
        let appended = self.append_in_session(content, sealed);
        if appended.is_err() {
            self.flush = None;
        }
        appended
    }

    fn append_in_session(
        &mut self,
        content: &NewContent<'_>,
        sealed: Sealed<'_>,
    ) -> Result<(), RepositoryError> {
        let id = ContentId::from_key(content.key)?;
        let format = self.format_number(content.format)?;
        let prefix = id.pack_prefix();
        let kind = usize::from(id.prefix().is_some());
        let (repository, workspace) = (self.repository, self.workspace);
        let flush = match &mut self.flush {
            Some(flush) => flush,
            none => none.insert(Flush::start(repository, workspace, self.owner)?),
        };
        let replica = &self.replica;
        let pack = flush.open_pack(repository, workspace, kind, prefix, replica)?;
        let fields = RecordFields {
            timestamp_seconds: content.timestamp_seconds,
            deleted: content.deleted,
            pack: pack.number,
            pack_offset: pack.next_offset(),
            packed_length: u32::try_from(sealed.len()).unwrap_or(u32::MAX),
            original_length: content.original_length,
            format,
        };
        check(repository, &id, &fields, content.format, &pack.name)?;
        pack.append(content.key, &fields, content.format, sealed)?;
        let full = pack.is_full(self.pack_bytes);
        flush.note(&fields);
        self.stats.contents += 1;
        if full {
            flush.close_pack(repository, workspace, kind)?;
            let age = repository.clock.now().since(flush.session.started);
            if age >= FLUSH_AFTER || flush.packs.len() >= FLUSH_PACKS_MAX {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Closes the open packs, waits until all are durable, writes the index, ends the session.
    pub fn flush(&mut self) -> Result<(), RepositoryError> {
        self.flush_in(&index_workspace(self.workspace))
    }

    /// Ends a flush in a workspace whose merge has the memory that is free.
    fn flush_in(&mut self, free: &Workspace) -> Result<(), RepositoryError> {
        let Some(mut flush) = self.flush.take() else {
            return Ok(());
        };
        let repository = self.repository;
        for kind in 0..flush.open.len() {
            flush.close_pack(repository, self.workspace, kind)?;
        }
        let Flush {
            session,
            puts,
            packs,
            entries,
            longest,
            contents,
            ..
        } = flush;
        self.stats.packs += packs.len() as u64;
        self.stats.pack_bytes += puts.finish()?;
        let loaded = Loaded {
            records: entries.finish_in(free.sort_memory(1))?,
            system: empty_runs(repository, free)?,
            packs: spool_names(free, &packs)?,
            formats: self.formats.clone(),
            layout: records_of(repository),
            stats: stats_of(contents, longest),
        };
        let blobs = write_index(repository, free, &session, &loaded)?;
        self.stats.index_blobs.extend(blobs);
        session.commit(repository)
    }

    /// Ends everything and returns what was written.
    pub fn finish(mut self) -> Result<PackWriterStats, RepositoryError> {
        self.flush()?;
        Ok(self.stats)
    }

    /// Does the same where nobody else uses memory of the plan any more: the merge of the index may
    /// have all that a merge has.
    pub fn finish_alone(mut self) -> Result<PackWriterStats, RepositoryError> {
        self.flush_in(self.workspace)?;
        Ok(self.stats)
    }

    /// Returns what was written so far.
    pub fn stats(&self) -> &PackWriterStats {
        &self.stats
    }

    fn format_number(&mut self, format: ContentFormat) -> Result<u8, RepositoryError> {
        if let Some(number) = self.formats.iter().position(|known| *known == format) {
            return Ok(number as u8);
        }
        if self.formats.len() == FORMATS_MAX {
            return Err(RepositoryError::TooMany {
                what: "content formats",
                maximum: FORMATS_MAX,
            });
        }
        self.formats.push(format);
        Ok((self.formats.len() - 1) as u8)
    }
}

impl Flush {
    /// Puts the session's marker and gets everything ready.
    fn start(
        repository: &Repository,
        workspace: &Workspace,
        owner: &str,
    ) -> Result<Self, RepositoryError> {
        // None of its buffers is opened: it gets runs that are sorted.
        let memory = index_workspace(workspace).sort_memory(1);
        let shape = records_of(repository).shape();
        Ok(Self {
            session: Session::start(repository, owner)?,
            puts: PackPuts::start(&repository.storage),
            packs: Vec::new(),
            open: [None, None],
            entries: Sorter::new(workspace.scratch.clone(), shape, memory),
            longest: 0,
            contents: 0,
        })
    }

    fn open_pack(
        &mut self,
        repository: &Repository,
        workspace: &Workspace,
        kind: usize,
        prefix: &str,
        replica: &[u8],
    ) -> Result<&mut OpenPack, RepositoryError> {
        Ok(match &mut self.open[kind] {
            Some(pack) => pack,
            none => {
                let name = pack_name(prefix, repository.random(), &self.session.id);
                let number = self.packs.len() as u32; // at most FLUSH_PACKS_MAX + 1
                self.packs.push(name.clone());
                none.insert(OpenPack::begin(
                    repository, workspace, name, number, replica,
                )?)
            }
        })
    }

    fn close_pack(
        &mut self,
        repository: &Repository,
        workspace: &Workspace,
        kind: usize,
    ) -> Result<(), RepositoryError> {
        let Some(pack) = self.open[kind].take() else {
            return Ok(());
        };
        let (name, bytes) = pack.close(repository, workspace, self.entries.sorted_run())?;
        match self.puts.put(repository, name, bytes) {
            // The cause first: a put before this one has failed.
            Err(RepositoryError::Interrupted) => Err(self.puts.cause()),
            outcome => outcome,
        }
    }

    fn note(&mut self, fields: &RecordFields) {
        self.longest = self.longest.max(fields.packed_length);
        self.longest = self.longest.max(fields.original_length);
        self.contents += 1;
    }
}

/// Refuses an entry that clients would refuse.
fn check(
    repository: &Repository,
    id: &ContentId,
    fields: &RecordFields,
    format: ContentFormat,
    pack: &BlobId,
) -> Result<(), RepositoryError> {
    let entry = IndexEntry {
        timestamp_seconds: fields.timestamp_seconds,
        deleted: fields.deleted,
        pack_offset: fields.pack_offset,
        packed_length: fields.packed_length,
        original_length: fields.original_length,
        pack: PackRef::Number(0),
        format: 0,
        format_version: format.format_version,
    };
    let version = repository.format.index_version;
    match refusal(&entry, format, pack.as_str().len(), version) {
        None => Ok(()),
        Some(reason) => {
            let reason = format!("cannot be written: {reason}");
            Err(FormatError::malformed(format!("content {id}"), reason).into())
        }
    }
}

fn records_of(repository: &Repository) -> RecordLayout {
    RecordLayout {
        key_bytes: repository.key_bytes(),
    }
}

/// A flush may end while contents are read: its merge has less memory than one that is alone.
fn index_workspace(workspace: &Workspace) -> Workspace {
    let mut small = workspace.clone();
    let memory = &mut small.memory;
    memory.merge_read_bytes = memory.merge_read_bytes.min(ENTRY_READ_BYTES);
    let runs = memory.copy_buffer_bytes / memory.merge_read_bytes;
    memory.merge_runs = runs.clamp(2, memory.merge_runs);
    memory.sort_buffer_bytes = memory.sort_buffer_bytes.min(memory.copy_buffer_bytes);
    small
}

fn empty_runs(
    repository: &Repository,
    workspace: &Workspace,
) -> Result<crate::spill::Runs, RepositoryError> {
    let (shape, memory) = (records_of(repository).shape(), workspace.sort_memory(1));
    Ok(Sorter::new(workspace.scratch.clone(), shape, memory).finish()?)
}

fn spool_names(
    workspace: &Workspace,
    packs: &[BlobId],
) -> Result<super::pack_names::PackTable, RepositoryError> {
    let names = PackNames::create(workspace)?;
    let mut writer = names.writer();
    writer.reserve(packs.len() as u32)?; // so that numbers are places in the list
    for pack in packs {
        writer.push(0, pack.as_str().as_bytes(), "index to write")?;
    }
    writer.flush()?;
    drop(writer);
    names.finish(workspace)
}

fn stats_of(contents: u64, longest_length: u32) -> LoadStats {
    let mut stats = LoadStats {
        entries: contents,
        longest_length,
        ..LoadStats::default()
    };
    stats.target_entries[0] = contents;
    stats
}

/// Writes the index of a flush, as the repository's index manager wants it.
fn write_index(
    repository: &Repository,
    workspace: &Workspace,
    session: &Session,
    loaded: &Loaded,
) -> Result<Vec<BlobId>, RepositoryError> {
    let indexes = write_indexes(repository, workspace, loaded, SHARD_ENTRIES)?;
    if repository.format.epochs.enabled {
        return write_uncompacted_in(repository, workspace, indexes, &session.id);
    }
    let mut blobs = Vec::with_capacity(indexes.len());
    for index in indexes {
        blobs.push(put_index(repository, workspace, index, INDEX_V0_PREFIX, &session.id)?.0);
    }
    Ok(blobs)
}

/// Returns the timestamp of an entry that replaces one of `previous`: `now`, but later than it.
pub fn next_timestamp(now: Timestamp, previous: i64) -> i64 {
    now.seconds().max(previous.saturating_add(1))
}
