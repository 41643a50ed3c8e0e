//! Finds packs and session markers that nobody uses and that are old enough to go: Kopia's rules.
//!
//! The names of all packs that an index entry names, tombstones included, are sorted and joined
//! with the store's listing. What is left is judged by the storage's clock: not younger than the
//! run, not younger than the margin, not of a session that may be alive. A pack that is named and
//! not listed stops the task: then index and storage do not belong together.
//!
//! Memory: a page of the listing, a merge, the sessions; what is found goes to scratch. Mirrors
//! `DeleteUnreferencedPacks` of Kopia's `repo/maintenance/pack_gc.go`.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::blob::BlobMetadata;
use crate::clock::Timestamp;
use crate::kopia::blob_id::{
    BlobId, PACK_DATA_PREFIX, PACK_METADATA_PREFIX, SESSION_PREFIX, session_of,
};
use crate::kopia::content_id::ContentId;
use crate::repository::content_table::ContentTable;
use crate::repository::pack_names::{NAME_BYTES_MAX, name_of};
use crate::repository::sessions::{SessionIds, SessionState, Sessions};
use crate::repository::{Repository, RepositoryError, Workspace};
use crate::spill::{
    MappedU32, Merge, ScratchFile, SequentialReader, SequentialWriter, SortShape, Sorter,
};

use super::MaintenanceError;
use super::safety::Safety;

/// Kopia's slack of the cutoff: some clocks do not reliably move forward.
const CUTOFF_SLACK: Duration = Duration::from_secs(1);

/// Longest name that is looked at: markers of repositories with the longest hash have 86 bytes.
const NAME_MAX: usize = 96;

/// What a row begins with: length of the name, name, length of the blob.
const BLOB_BYTES: usize = 1 + NAME_MAX + 8;

/// An orphan: the blob, whether its session has expired.
const ROW_BYTES: usize = BLOB_BYTES + 1;

/// A marker: the blob, its time.
const MARKER_BYTES: usize = BLOB_BYTES + 8;

/// Name and number of a pack in use.
const USED_BYTES: usize = NAME_BYTES_MAX + 4;

/// Buffer of rows, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Which blobs are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Packs of both kinds, then session markers.
    Full,
    /// Packs of metadata.
    Quick,
}

impl Scope {
    /// Returns the prefixes of the packs, ascending.
    fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Full => &[PACK_DATA_PREFIX, PACK_METADATA_PREFIX],
            Self::Quick => &[PACK_METADATA_PREFIX],
        }
    }
}

/// A number of blobs, or of contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct BlobCount {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl BlobCount {
    /// Adds a blob.
    pub fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// A blob that nobody uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its name.
    pub blob: BlobId,
    /// Its length, in bytes.
    pub length: u64,
    /// Whether its session has a marker and has died.
    pub session_expired: bool,
}

impl Orphan {
    /// Returns whether this is a session marker.
    pub fn is_marker(&self) -> bool {
        self.blob.as_str().starts_with(SESSION_PREFIX)
    }
}

/// What was found.
pub struct Orphans {
    /// Packs in the listing, used or not.
    pub listed: BlobCount,
    /// Unused and old enough: packs, and markers.
    pub unreferenced: BlobCount,
    /// Unused, but young or of a session that may be alive.
    pub retained: BlobCount,
    /// Dead sessions that have packs which are kept: their markers must stay.
    pub kept_sessions: BTreeSet<String>,
    rows: Arc<ScratchFile>,
}

impl Orphans {
    /// Lists, joins and judges. The sessions had a marker before that index was listed which the
    /// table was read from; `start` is the time of the run's start by the storage's clock.
    pub fn find(
        repository: &Repository,
        workspace: &Workspace,
        (sessions, table): (&SessionIds, &ContentTable),
        scope: Scope,
        safety: &Safety,
        start: Timestamp,
    ) -> Result<Self, MaintenanceError> {
        let mut markers = Markers::new(workspace)?;
        let now = Sessions::load(repository, |marker| match scope {
            Scope::Full => markers.add(marker),
            Scope::Quick => Ok(()),
        })?;
        let mut search = Search {
            repository,
            table,
            scope,
            safety,
            cutoff: start.plus(CUTOFF_SLACK),
            sessions: now.since(sessions),
            used: used_packs(workspace, table)?,
            rows: SequentialWriter::new(
                Arc::new(workspace.scratch.create_file("orphans")?),
                BUFFER_BYTES,
            ),
            listed: BlobCount::default(),
            unreferenced: BlobCount::default(),
            retained: BlobCount::default(),
            kept_sessions: BTreeSet::new(),
        };
        workspace
            .progress
            .begin("look for unused packs", "packs", None);
        search.used.advance()?;
        for prefix in scope.prefixes() {
            repository.storage.for_each(prefix, |blob| {
                workspace.progress.advance(1);
                search.take_in(&blob)
            })?;
        }
        search.end()?;
        markers.each(|marker| search.judge(marker))?;
        workspace.progress.end();
        let rows = Arc::clone(search.rows.file());
        search.rows.finish()?;
        Ok(Self {
            listed: search.listed,
            unreferenced: search.unreferenced,
            retained: search.retained,
            kept_sessions: search.kept_sessions,
            rows,
        })
    }

    /// Streams what is unused and old enough, in the order of names: packs, then markers.
    pub fn stream(&self) -> OrphanStream {
        let (file, end) = (Arc::clone(&self.rows), self.rows.len());
        OrphanStream(SequentialReader::new(file, 0..end, BUFFER_BYTES))
    }
}

/// Orphans in the order of names.
pub struct OrphanStream(SequentialReader);

impl OrphanStream {
    /// Returns the next one, `None` at the end.
    #[allow(clippy::should_implement_trait)] // it can fail
    pub fn next(&mut self) -> Result<Option<Orphan>, RepositoryError> {
        let Some(row) = self.0.next(ROW_BYTES)? else {
            return Ok(None);
        };
        let (blob, length) = blob_of(row);
        Ok(Some(Orphan {
            blob,
            length,
            session_expired: row[ROW_BYTES - 1] != 0,
        }))
    }
}

/// Sorts the packs that any content lies in by name.
fn used_packs(workspace: &Workspace, table: &ContentTable) -> Result<Merge, RepositoryError> {
    let used = MappedU32::create(&workspace.scratch, table.packs.numbers(), 0)?;
    let mut records = table.stream()?;
    while let Some(record) = records.next()? {
        used.set(u64::from(table.layout.pack(record)), 1);
    }
    let shape = SortShape {
        record_bytes: USED_BYTES,
        group: None,
    };
    let memory = workspace.sort_memory(1);
    let sorter = Sorter::new(workspace.scratch.clone(), shape, memory);
    let mut buffer = sorter.buffer();
    table.packs.for_each_canonical(|number, slot| {
        if used.get(u64::from(number)) != 0 {
            let name = name_of(slot);
            buffer.push_with(|out| {
                out[..name.len()].copy_from_slice(name);
                out[NAME_BYTES_MAX..].copy_from_slice(&number.to_be_bytes());
            })?;
        }
        Ok(())
    })?;
    buffer.finish()?;
    Ok(sorter.finish()?.into_merge(false)?)
}

/// The join of used and listed packs.
struct Search<'a> {
    repository: &'a Repository,
    table: &'a ContentTable,
    scope: Scope,
    safety: &'a Safety,
    cutoff: Timestamp,
    sessions: Sessions,
    used: Merge,
    rows: SequentialWriter,
    listed: BlobCount,
    unreferenced: BlobCount,
    retained: BlobCount,
    kept_sessions: BTreeSet<String>,
}

impl Search<'_> {
    fn take_in(&mut self, blob: &BlobMetadata) -> Result<(), MaintenanceError> {
        let name = blob.id.as_str();
        self.listed.add(blob.length);
        while let Some(record) = self.used.current() {
            match used_name(record).cmp(name.as_bytes()) {
                Ordering::Less => self.not_listed()?,
                Ordering::Equal => {
                    self.used.advance()?;
                    return Ok(());
                }
                Ordering::Greater => break,
            }
        }
        self.judge(blob)
    }

    fn end(&mut self) -> Result<(), MaintenanceError> {
        while self.used.current().is_some() {
            self.not_listed()?;
        }
        Ok(())
    }

    /// Goes past a used pack that the listing lacks: it may be out of scope, or have come since.
    fn not_listed(&mut self) -> Result<(), MaintenanceError> {
        let Some(record) = self.used.current() else {
            return Ok(());
        };
        let name = String::from_utf8_lossy(used_name(record)).into_owned();
        let prefixes = self.scope.prefixes();
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            let number = used_number(record);
            match self
                .repository
                .storage
                .metadata(&BlobId::new(name.as_str()))
            {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {
                    let content = self.content_in(number)?;
                    let pack = name;
                    return Err(RepositoryError::MissingPack { pack, content }.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.used.advance()?;
        Ok(())
    }

    /// Returns the first content that lies in a pack, for the message.
    fn content_in(&self, number: u32) -> Result<String, RepositoryError> {
        let mut records = self.table.stream()?;
        while let Some(record) = records.next()? {
            if self.table.layout.pack(record) == number {
                return Ok(ContentId::from_key(self.table.key(record))?.to_string());
            }
        }
        Err(RepositoryError::Interrupted)
    }

    /// Judges a blob that no entry names.
    fn judge(&mut self, blob: &BlobMetadata) -> Result<(), MaintenanceError> {
        let name = blob.id.as_str();
        let age = self
            .sessions
            .state(name, self.cutoff, self.safety.session_expiration_age);
        let is_young = blob.timestamp > self.cutoff
            || self.cutoff.since(blob.timestamp) < self.safety.pack_delete_min_age;
        if is_young || age == SessionState::Active || name.len() > NAME_MAX {
            self.retained.add(blob.length);
            if age == SessionState::Expired && !name.starts_with(SESSION_PREFIX) {
                // At most one for each session with a marker.
                self.kept_sessions
                    .extend(session_of(name).map(str::to_owned));
            }
            return Ok(());
        }
        self.unreferenced.add(blob.length);
        let row = self.rows.room(ROW_BYTES)?;
        put_blob(row, blob);
        row[ROW_BYTES - 1] = u8::from(age == SessionState::Expired);
        Ok(())
    }
}

/// The markers, as they were listed when the sessions were read, in a scratch file.
struct Markers(SequentialWriter);

impl Markers {
    fn new(workspace: &Workspace) -> Result<Self, RepositoryError> {
        let file = Arc::new(workspace.scratch.create_file("markers")?);
        Ok(Self(SequentialWriter::new(file, BUFFER_BYTES)))
    }

    /// Takes a marker in; none has a longer name, so what has stays where it is.
    fn add(&mut self, marker: &BlobMetadata) -> Result<(), RepositoryError> {
        if marker.id.as_str().len() <= NAME_MAX {
            let row = self.0.room(MARKER_BYTES)?;
            put_blob(row, marker);
            row[BLOB_BYTES..].copy_from_slice(&marker.timestamp.nanos().to_be_bytes());
        }
        Ok(())
    }

    /// Shows all of them, in the order of names.
    fn each(
        self,
        mut see: impl FnMut(&BlobMetadata) -> Result<(), MaintenanceError>,
    ) -> Result<(), MaintenanceError> {
        let file = Arc::clone(self.0.file());
        let end = self.0.finish()?;
        let mut rows = SequentialReader::new(file, 0..end, BUFFER_BYTES);
        while let Some(row) = rows.next(MARKER_BYTES).map_err(RepositoryError::from)? {
            let (id, length) = blob_of(row);
            let nanos = row[BLOB_BYTES..].first_chunk().copied();
            see(&BlobMetadata {
                id,
                length,
                timestamp: Timestamp::from_nanos(i64::from_be_bytes(nanos.unwrap_or_default())),
            })?;
        }
        Ok(())
    }
}

/// Writes what a row begins with; the name has at most [`NAME_MAX`] bytes.
fn put_blob(row: &mut [u8], blob: &BlobMetadata) {
    let name = blob.id.as_str().as_bytes();
    row.fill(0);
    row[0] = name.len() as u8;
    row[1..1 + name.len()].copy_from_slice(name);
    row[1 + NAME_MAX..BLOB_BYTES].copy_from_slice(&blob.length.to_be_bytes());
}

/// Returns name and length of the blob of a row.
fn blob_of(row: &[u8]) -> (BlobId, u64) {
    let name = row.get(1..1 + usize::from(row[0])).unwrap_or_default();
    let length = row[1 + NAME_MAX..].first_chunk().copied();
    let id = BlobId::new(String::from_utf8_lossy(name));
    (id, u64::from_be_bytes(length.unwrap_or_default()))
}

fn used_name(record: &[u8]) -> &[u8] {
    let name = &record[..NAME_BYTES_MAX];
    let length = name.iter().position(|byte| *byte == 0);
    &name[..length.unwrap_or(NAME_BYTES_MAX)]
}

fn used_number(record: &[u8]) -> u32 {
    let number = record[NAME_BYTES_MAX..].first_chunk().copied();
    u32::from_be_bytes(number.unwrap_or_default())
}
