//! Writes made-up backups, data and all: snapshots of one source in many short sessions, some of
//! them deleted since, so that there is garbage, and short packs to be rewritten.
//!
//! For the demo, the benchmark and the suites. Kopia lists, verifies and restores what is here:
//! real directories, files, manifests, tombstones. Everything but keys and nonces is a function of
//! the seed. Small contents cost maintenance most, so files are small.
//!
//! Without data ([`SnapshotOptions::with_data`]) the same index is written and the directories of
//! the snapshots that are kept, but no files: for sizes whose data fit on no disk.
//!
//! Memory: one session at a time ([`super::session_writer`]), a directory and the listings above
//! it, whatever the size of the whole.

mod directory_json;
mod history;
mod manifest_json;

use std::ops::RangeInclusive;

use crate::clock::{ManualClock, Timestamp};
use crate::kopia::content_id::ContentId;
use crate::kopia::directory::CONTENT_PREFIX as DIRECTORY_PREFIX;
use crate::kopia::manifest::{CONTENT_PREFIX as MANIFEST_PREFIX, ManifestEntry, to_gzip_json};
use crate::progress::Progress;

use super::RepositoryError;
use super::index_generator::{GeneratorTarget, settle};
use super::session_writer::{Place, SESSION_ENTRIES, SessionWriter};
use directory_json::{DirectoryJson, Entry, Summary};
use history::History;
use manifest_json::manifest;

pub use super::session_writer::Written;

/// Possible numbers of snapshots: a file's version is looked for in all before it.
pub const SNAPSHOTS: RangeInclusive<i64> = 1..=1_000;

/// Possible numbers of directories: two levels of a thousand each.
pub const DIRECTORIES: RangeInclusive<i64> = 1..=1_000_000;

/// Possible numbers of files in a directory: its JSON is one content, as Kopia would write it.
pub const FILES: RangeInclusive<i64> = 1..=20_000;

/// Possible sizes of files, in bytes: one content each, and no two alike.
pub const FILE_BYTES: RangeInclusive<i64> = 32..=4 << 20;

/// Most tombstones: their places are remembered, some 200 bytes each.
const TOMBSTONES_MAX: usize = 4_096;

/// Of so many files that only a deleted snapshot has, one is deleted already.
const TOMBSTONE_INTERVAL: u64 = 16;

/// Name of the tree's top.
const ROOT: &str = "demo";

/// What is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// Snapshots, one a day; within [`SNAPSHOTS`].
    pub snapshots: u32,
    /// How many of them, the first ones, are deleted at the end.
    pub deleted: u32,
    /// Directories of each snapshot; within [`DIRECTORIES`].
    pub directories: u32,
    /// Files in each directory; within [`FILES`].
    pub files: u32,
    /// Share of the files that change from one snapshot to the next.
    pub changed_percent: u8,
    /// Size of a file in the middle; within [`FILE_BYTES`].
    pub file_bytes: u32,
    /// Sessions of all snapshots together, at most one for each directory of each: they have packs
    /// and an index blob of their own. Every snapshot has at least one, a long one is flushed in
    /// between.
    pub sessions: u32,
    /// Whether files are written, and directories of deleted snapshots.
    pub with_data: bool,
    /// Everything follows from it.
    pub seed: u64,
    /// The present; the last snapshot was two days before.
    pub now: Timestamp,
    /// Whether epoch 0 gets settled, by the markers of epochs 1 and 2.
    pub settled: bool,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct GeneratedSnapshots {
    /// Snapshots, also the deleted ones.
    pub snapshots: u64,
    /// The deleted ones.
    pub deleted_snapshots: u64,
    /// Sessions, contents, packs and index blobs.
    #[serde(flatten)]
    pub written: Written,
}

/// Writes the backups of `options` to `target`. `clock` is moved to the time of each session, for a
/// store that stamps its blobs with it.
///
/// # Errors
/// What the store answers.
pub fn generate_snapshots(
    target: &GeneratorTarget<'_>,
    options: &SnapshotOptions,
    clock: &ManualClock,
    progress: &dyn Progress,
) -> Result<GeneratedSnapshots, RepositoryError> {
    let mut making = Making {
        target: *target,
        history: History::new(options),
        clock,
        progress,
        session: None,
        now: options.now,
        written: Written::default(),
        doomed: Vec::new(),
        garbage: 0,
        file: Vec::new(),
    };
    let files = u64::from(options.snapshots) * u64::from(options.directories);
    progress.begin("write snapshots", "directories", Some(files));
    let made = making.all();
    progress.end();
    made?;
    if options.settled {
        settle(target.storage)?;
    }
    Ok(GeneratedSnapshots {
        snapshots: options.snapshots.into(),
        deleted_snapshots: options.deleted.min(options.snapshots).into(),
        written: making.written,
    })
}

/// The work, and what it remembers.
struct Making<'a> {
    target: GeneratorTarget<'a>,
    history: History,
    clock: &'a ManualClock,
    progress: &'a dyn Progress,
    session: Option<SessionWriter<'a>>,
    /// When the session is.
    now: Timestamp,
    written: Written,
    /// Contents that get a tombstone at the end.
    doomed: Vec<Place>,
    /// Files so far that only deleted snapshots have.
    garbage: u64,
    /// Bytes of the file that is written.
    file: Vec<u8>,
}

/// A directory that was written, or was there already.
struct Stored {
    id: ContentId,
    summary: Summary,
    is_new: bool,
}

impl<'a> Making<'a> {
    fn all(&mut self) -> Result<(), RepositoryError> {
        for number in 0..self.history.options.snapshots {
            self.snapshot(number)?;
        }
        if self.history.options.deleted > 0 {
            self.deletions()?;
        }
        self.end_session()
    }

    /// Writes one snapshot: its files and directories, its manifest.
    fn snapshot(&mut self, number: u32) -> Result<(), RepositoryError> {
        let only_group = self.history.groups().count() == 1;
        let (mut listing, mut top) = (DirectoryJson::default(), DirectoryJson::default());
        let (mut session, mut last) = (None, None);
        let mut any_new = false;
        for (index, group) in self.history.groups().enumerate() {
            let mut is_new = false;
            for directory in group {
                let own = self.history.session_of(number, directory);
                if session.replace(own) != Some(own) {
                    self.begin_session(self.history.time(number, own))?;
                }
                let stored = self.directory(number, directory)?;
                let name = format!("directory-{directory:07}");
                listing.push(&Entry::directory(&name, stored.id, stored.summary));
                is_new |= stored.is_new;
                self.progress.advance(1);
            }
            let (json, summary) = listing.finish();
            let stored = self.store_directory(number, &json, summary, is_new)?;
            any_new |= is_new;
            if !only_group {
                let name = format!("part-{index:04}");
                top.push(&Entry::directory(&name, stored.id, stored.summary));
            }
            last = Some(stored);
        }
        let root = match last {
            Some(stored) if only_group => stored,
            _ => {
                let (json, summary) = top.finish();
                self.store_directory(number, &json, summary, any_new)?
            }
        };
        let root = Entry::directory(ROOT, root.id, root.summary);
        let times = (self.history.time(number, 0), self.now);
        let entry = manifest(self.history.manifest_id(number), times, &root);
        self.store_manifests(&[entry])
    }

    /// Writes a directory with its files, as far as they are new in snapshot `number`.
    fn directory(&mut self, number: u32, directory: u32) -> Result<Stored, RepositoryError> {
        let mut json = DirectoryJson::default();
        let mut is_new = false;
        for file in 0..self.history.options.files {
            let version = self.history.file(number, directory, file);
            let id = if self.history.options.with_data {
                version.fill(&mut self.file);
                SessionWriter::id_of(&self.target, None, &self.file)?
            } else {
                ContentId::from_hash(None, &version.made_up_hash())?
            };
            if version.version == number {
                is_new = true;
                let place = match self.history.options.with_data {
                    true => writer(&mut self.session, self.target, self.now, &mut self.written)?
                        .write(id, &self.file)?,
                    false => writer(&mut self.session, self.target, self.now, &mut self.written)?
                        .write_absent(id, version.length)?,
                };
                self.note_garbage(place, (number, directory, file));
            }
            let time = self.history.time(version.version, 0);
            let (name, length) = (format!("file-{file:05}"), version.length as u64);
            json.push(&Entry::file(&name, length, time, id));
        }
        let (json, summary) = json.finish();
        self.store_directory(number, &json, summary, is_new)
    }

    /// Remembers some of what only deleted snapshots have.
    fn note_garbage(&mut self, place: Place, (version, directory, file): (u32, u32, u32)) {
        let history = &self.history;
        if self.doomed.len() < TOMBSTONES_MAX
            && history.is_deleted(version)
            && !history.is_kept(version, directory, file)
        {
            self.garbage += 1;
            if self.garbage.is_multiple_of(TOMBSTONE_INTERVAL) {
                self.doomed.push(place);
            }
        }
    }

    /// Writes a directory of snapshot `number`, unless an earlier one has the same.
    fn store_directory(
        &mut self,
        number: u32,
        json: &[u8],
        summary: Summary,
        is_new: bool,
    ) -> Result<Stored, RepositoryError> {
        let history = &self.history;
        let id = SessionWriter::id_of(&self.target, Some(DIRECTORY_PREFIX), json)?;
        let absent = !history.options.with_data && history.is_deleted(number);
        // What was absent in a deleted snapshot must be there for the first one that is kept.
        let returns = !history.options.with_data && number == history.first_kept();
        let is_new = is_new || returns;
        if is_new {
            let writer = writer(&mut self.session, self.target, self.now, &mut self.written)?;
            match absent {
                true => writer.write_absent(id, json.len())?,
                false => writer.write_compressed(id, json)?,
            };
        }
        Ok(Stored {
            id,
            summary,
            is_new,
        })
    }

    /// Deletes the first snapshots, and some contents that an earlier maintenance has found.
    fn deletions(&mut self) -> Result<(), RepositoryError> {
        self.begin_session(self.history.deletion_time())?;
        let deleted = 0..self.history.options.deleted;
        let tombstone =
            |number| ManifestEntry::tombstone(self.history.manifest_id(number), self.now);
        let entries: Vec<_> = deleted.map(tombstone).collect();
        self.store_manifests(&entries)?;
        for place in std::mem::take(&mut self.doomed) {
            let writer = writer(&mut self.session, self.target, self.now, &mut self.written)?;
            writer.delete(&place)?;
        }
        Ok(())
    }

    fn store_manifests(&mut self, entries: &[ManifestEntry]) -> Result<(), RepositoryError> {
        let plain = to_gzip_json(entries);
        let id = SessionWriter::id_of(&self.target, Some(MANIFEST_PREFIX), &plain)?;
        let writer = writer(&mut self.session, self.target, self.now, &mut self.written)?;
        writer.write(id, &plain)?;
        Ok(())
    }

    fn begin_session(&mut self, now: Timestamp) -> Result<(), RepositoryError> {
        self.end_session()?;
        self.now = now;
        self.clock.set(now);
        Ok(())
    }

    fn end_session(&mut self) -> Result<(), RepositoryError> {
        if let Some(session) = self.session.take() {
            self.written.add(&session.finish()?);
        }
        Ok(())
    }
}

/// Returns the session that is open, or a new one where that is long enough.
fn writer<'w, 'a>(
    session: &'w mut Option<SessionWriter<'a>>,
    target: GeneratorTarget<'a>,
    now: Timestamp,
    written: &mut Written,
) -> Result<&'w mut SessionWriter<'a>, RepositoryError> {
    if let Some(long) = session.take_if(|session| session.entries() >= SESSION_ENTRIES) {
        written.add(&long.finish()?);
    }
    Ok(session.get_or_insert_with(|| SessionWriter::start(target, now)))
}

#[cfg(test)]
mod tests;
