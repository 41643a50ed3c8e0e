//! The index blobs (`n`) of a repository without epochs, and which of them a reader uses.
//!
//! A compaction writes new blobs and then a log (`m`) of what went in and came out; a log counts
//! when all its outputs are listed, and then its inputs do not. The blob by which an upgrade stops
//! old clients is none. There may be any number of blobs: jammed repositories have 70,000.
//!
//! Memory: the buffers of a merge, and a row for each log ([`notes`]); names are in scratch, in
//! sorted streams ([`names`]). Invariant: the three listings come in the order `l`, `n`, `m`, so
//! that a cleanup by another client at the same time never looks like a loss. Mirrors Kopia's
//! `repo/content/indexblob/index_blob_manager_v0.go`.

mod candidates;
mod cleanup;
mod names;
mod notes;
mod replaced;
#[cfg(test)]
mod tests;

use crate::blob::BlobMetadata;
use crate::kopia::blob_id::{BlobId, INDEX_V0_POISON, INDEX_V0_PREFIX};
use crate::kopia::compaction_log::Side;

use super::active_index::with_fresh_listings;
use super::index_names::{NamesBuilder, UncompactedNames};
use super::{Repository, RepositoryError, Workspace};

pub use candidates::{Candidates, CompactionRule, QUICK_SMALL_BLOBS};
pub use cleanup::SETTLE_TIME;
pub use names::NAME_BYTES_MAX;
pub use notes::{CLEANUP_IDS_MAX, CleanupRow, DamagedNote, LOGS_MAX, LogRow};
pub use replaced::{Replaced, ReplacedNames};

use names::{Known, Listed, NameStreams, References};
use notes::{Damage, Notes, NotesReader};

/// Where [`UncompactedNames`] has the blobs that are meant.
pub const CHOSEN_GROUP: u64 = 0;

/// Where [`UncompactedNames`] has the other blobs that a reader uses.
pub const OTHER_GROUP: u64 = 1;

/// All `n` blobs, and which of them count.
#[derive(Debug)]
pub struct IndexSetV0 {
    names: NameStreams,
    /// Compaction logs in the order of their names.
    pub logs: Vec<LogRow>,
    /// Cleanup entries in the order of their names.
    pub cleanups: Vec<CleanupRow>,
    /// Logs and entries that could not be read, where that was no error; at most 100.
    pub damaged: Vec<DamagedNote>,
    /// Blobs that a reader uses.
    pub active: BlobTotals,
    /// Blobs that others replace.
    pub superseded: BlobTotals,
}

/// Some blobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct BlobTotals {
    /// How many.
    pub blobs: u64,
    /// Their bytes as stored.
    pub bytes: u64,
}

impl BlobTotals {
    fn add(&mut self, bytes: u64) {
        self.blobs += 1;
        self.bytes += bytes;
    }
}

/// What a listed blob is to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobUse {
    /// It is read.
    Active,
    /// A compaction replaced it.
    Superseded,
    /// It stops old clients and holds no entries.
    Poison,
}

/// A compaction whose result is gone, and not all its inputs are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostCompaction<'a> {
    /// The compaction log.
    pub log: &'a BlobId,
    /// The first output that is missing.
    pub output: &'a BlobId,
    /// Inputs that are missing.
    pub inputs: u64,
}

impl IndexSetV0 {
    /// Lists the blobs and reads logs and cleanup entries. Those that vanish meanwhile are a fresh
    /// start, at most ten times.
    pub fn load(repository: &Repository, workspace: &Workspace) -> Result<Self, RepositoryError> {
        with_fresh_listings(|| Self::load_once(repository, workspace, Damage::IsAnError))
    }

    /// The same for those who only look: a log or an entry that cannot be read is noted and counts
    /// as not there, so that what it replaced is read again.
    pub fn load_damaged(
        repository: &Repository,
        workspace: &Workspace,
    ) -> Result<Self, RepositoryError> {
        with_fresh_listings(|| Self::load_once(repository, workspace, Damage::IsNoted))
    }

    fn load_once(
        repository: &Repository,
        workspace: &Workspace,
        damage: Damage,
    ) -> Result<Self, RepositoryError> {
        let reader = NotesReader {
            repository,
            workspace,
            damage,
        };
        let mut notes = Notes::default();
        let cleanups = reader.cleanups(&mut notes)?;
        let mut listed = Listed::new(workspace);
        repository
            .storage
            .for_each(INDEX_V0_PREFIX, |blob| listed.add(&blob))?;
        let mut references = References::new(workspace);
        reader.logs(&mut notes, &mut references)?;
        notes.resolve(cleanups);
        let names = listed.finish(references.finish()?)?;
        Self::of(names, notes)
    }

    /// Finds what counts.
    fn of(names: NameStreams, notes: Notes) -> Result<Self, RepositoryError> {
        let mut set = Self {
            names,
            logs: notes.logs,
            cleanups: notes.cleanups,
            damaged: notes.damaged,
            active: BlobTotals::default(),
            superseded: BlobTotals::default(),
        };
        set.find_valid_logs()?;
        let mut whole: Vec<bool> = set.logs.iter().map(|log| log.valid).collect();
        set.names.find_whole(&set.logs, &mut whole, &|_| true)?;
        for (log, whole) in set.logs.iter_mut().zip(&whole) {
            log.whole = *whole;
        }
        set.count()?;
        Ok(set)
    }

    /// Marks the logs of which an output is not listed.
    fn find_valid_logs(&mut self) -> Result<(), RepositoryError> {
        let logs = &mut self.logs;
        self.names.each(&mut |known| {
            if known.listed.is_none() {
                for log in known.logs(Side::Output) {
                    logs[log].valid = false;
                }
            }
            Ok(true)
        })
    }

    /// Counts the blobs, and what is missing.
    fn count(&mut self) -> Result<(), RepositoryError> {
        let (mut active, mut superseded) = (BlobTotals::default(), BlobTotals::default());
        let logs = &mut self.logs;
        self.names.each(&mut |known| {
            let Some((length, _)) = known.listed else {
                if known.logs(Side::Input).any(|log| logs[log].whole) {
                    return Ok(true);
                }
                for (log, side) in known.references {
                    note_missing(&mut logs[*log as usize], *side, known.name);
                }
                return Ok(true);
            };
            let totals = match use_of(known, logs) {
                BlobUse::Active => &mut active,
                BlobUse::Superseded => &mut superseded,
                BlobUse::Poison => return Ok(true),
            };
            totals.add(length);
            Ok(true)
        })?;
        (self.active, self.superseded) = (active, superseded);
        Ok(())
    }

    /// Shows every listed blob in the order of names, until `visit` wants no more.
    pub fn each_blob(
        &self,
        visit: &mut dyn FnMut(BlobMetadata, BlobUse) -> Result<bool, RepositoryError>,
    ) -> Result<(), RepositoryError> {
        self.names.each(&mut |known| match known.metadata() {
            Some(blob) => visit(blob, use_of(known, &self.logs)),
            None => Ok(true),
        })
    }

    /// Returns the names of the blobs that a reader uses, the oldest first: those that `choose`
    /// picks as [`CHOSEN_GROUP`], the others as [`OTHER_GROUP`].
    pub fn active_names(
        &self,
        workspace: &Workspace,
        choose: &dyn Fn(&BlobMetadata) -> bool,
    ) -> Result<UncompactedNames, RepositoryError> {
        let mut names = NamesBuilder::new(workspace);
        self.each_blob(&mut |blob, used| {
            if used == BlobUse::Active {
                let group = match choose(&blob) {
                    true => CHOSEN_GROUP,
                    false => OTHER_GROUP,
                };
                // What was written at one time lies together on a disk.
                let locality = blob.timestamp.nanos() as u64;
                names.add(group, locality, blob.id.as_str())?;
            }
            Ok(true)
        })?;
        names.finish()
    }

    /// Returns compactions of which inputs and outputs are gone, so that a reader misses entries.
    ///
    /// None while a cleanup is under way that has deleted some of the logs that lead from one
    /// compaction to the next: then nothing can be told.
    pub fn lost(&self) -> impl Iterator<Item = LostCompaction<'_>> {
        let cleaning = self.cleanups.iter().any(|entry| entry.gone > 0);
        let logs = self.logs.iter();
        let logs = logs.filter(move |log| log.readable && !(cleaning && log.scheduled));
        logs.filter_map(|log| {
            let output = log.missing_output.as_ref().filter(|_| !log.whole)?;
            (log.missing_inputs > 0).then_some(LostCompaction {
                log: &log.id,
                output,
                inputs: log.missing_inputs,
            })
        })
    }

    /// Stops where a reader would silently go on with fewer entries.
    pub fn check_nothing_lost(&self) -> Result<(), RepositoryError> {
        match self.lost().next() {
            None => Ok(()),
            Some(lost) => Err(RepositoryError::LostCompaction {
                log: lost.log.to_string(),
                output: lost.output.to_string(),
                inputs: lost.inputs,
            }),
        }
    }
}

/// Returns what a listed blob is to a reader.
fn use_of(known: &Known<'_>, logs: &[LogRow]) -> BlobUse {
    if known.name == INDEX_V0_POISON {
        BlobUse::Poison
    } else if known.logs(Side::Input).any(|log| logs[log].valid) {
        BlobUse::Superseded
    } else {
        BlobUse::Active
    }
}

fn note_missing(log: &mut LogRow, side: Side, name: &str) {
    match side {
        Side::Input => log.missing_inputs += 1,
        Side::Output if log.missing_output.is_none() => {
            log.missing_output = Some(BlobId::new(name));
        }
        Side::Output => {}
    }
}

impl NameStreams {
    /// Grows `whole`, which begins with the logs that are whole for sure, until no log among those
    /// that `counts` picks follows: a log is whole when each output is listed or an input of
    /// another log that is whole.
    ///
    /// One walk for each step of the longest chain of compactions whose results are gone; none
    /// while every log is whole.
    fn find_whole(
        &self,
        logs: &[LogRow],
        whole: &mut [bool],
        counts: &dyn Fn(usize) -> bool,
    ) -> Result<(), RepositoryError> {
        let candidate = |log: usize| logs[log].readable && counts(log);
        while (0..logs.len()).any(|log| candidate(log) && !whole[log]) {
            let mut next: Vec<bool> = (0..logs.len()).map(candidate).collect();
            self.each(&mut |known| {
                let there = known.listed.is_some() || known.logs(Side::Input).any(|log| whole[log]);
                if !there {
                    for log in known.logs(Side::Output) {
                        next[log] = false;
                    }
                }
                Ok(true)
            })?;
            if next == whole {
                break;
            }
            whole.copy_from_slice(&next);
        }
        Ok(())
    }
}
