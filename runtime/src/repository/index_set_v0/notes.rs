//! Compaction logs (`m`) and cleanup entries (`l`), as far as they are kept in memory.
//!
//! What a log names goes to scratch; a row stays here. A log of any length is read: beyond
//! [`SMALL_BYTES`] it is opened through scratch. Memory: [`LOGS_MAX`] rows of some 150 bytes and
//! [`CLEANUP_IDS_MAX`] numbers. Invariant: nothing of a blob is believed before its tag was
//! verified.

use std::io::Read;

use crate::blob::{BlobError, BlobMetadata};
use crate::clock::Timestamp;
use crate::kopia::blob_id::{BlobId, CLEANUP_V0_PREFIX, COMPACTION_LOG_V0_PREFIX};
use crate::kopia::compaction_log::{CleanupEntry, read_log};
use crate::repository::sealed_pieces::open_into_scratch;
use crate::repository::{Repository, RepositoryError, Workspace};
use crate::spill::SequentialReader;

use super::names::References;

/// Most compaction logs. Kopia makes one an hour at most, and deletes them some hours later: this
/// many are those of two years without any cleanup.
pub const LOGS_MAX: usize = 20_000;

/// Most compaction logs in all cleanup entries together, 9 MB while they are read. Kopia's entries
/// name every log that is there, some three.
pub const CLEANUP_IDS_MAX: usize = 100_000;

/// Damaged logs and entries that are kept; all are counted by those who look.
const DAMAGED_MAX: usize = 100;

/// A log up to this size is opened in memory: some 7,000 blobs.
const SMALL_BYTES: usize = 1024 * 1024;

/// Buffer of a log that is read from scratch, in bytes.
const WINDOW_BYTES: usize = 64 * 1024;

/// A compaction log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// Its name.
    pub id: BlobId,
    /// Its storage time.
    pub timestamp: Timestamp,
    /// Whether it could be read; one that could not replaces nothing.
    pub readable: bool,
    /// Whether readers believe it: all outputs are listed.
    pub valid: bool,
    /// Whether its entries are there: each output is listed, or went into a log that is whole.
    pub whole: bool,
    /// The first output that is neither listed nor in another log that is whole.
    pub missing_output: Option<BlobId>,
    /// Inputs that are neither listed nor in a log that is whole.
    pub missing_inputs: u64,
    /// Whether a cleanup entry names it.
    pub scheduled: bool,
}

/// A cleanup entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanupRow {
    /// Its name.
    pub id: BlobId,
    /// Its storage time.
    pub timestamp: Timestamp,
    /// When the cleanup was decided.
    pub schedule_time: Timestamp,
    /// Numbers of the logs that it names and that are listed.
    pub logs: Vec<u32>,
    /// Logs that it names and that are not listed.
    pub gone: u64,
}

/// A compaction log or a cleanup entry that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedNote {
    /// The blob.
    pub blob: BlobId,
    /// Stable code of what is wrong.
    pub code: &'static str,
    /// What is wrong, for people.
    pub reason: String,
}

/// Whether a note that cannot be read is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    /// It is: who writes or decides needs all of them.
    IsAnError,
    /// It is noted, and the note counts as not there.
    IsNoted,
}

/// Everything that was read.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) logs: Vec<LogRow>,
    pub(super) cleanups: Vec<CleanupRow>,
    pub(super) damaged: Vec<DamagedNote>,
    ids: usize,
}

/// Reads notes.
pub(super) struct NotesReader<'a> {
    pub(super) repository: &'a Repository,
    pub(super) workspace: &'a Workspace,
    pub(super) damage: Damage,
}

/// A cleanup entry before the logs are known.
pub(super) type NamedCleanup = (BlobMetadata, CleanupEntry);

impl NotesReader<'_> {
    /// Reads the cleanup entries.
    pub(super) fn cleanups(&self, notes: &mut Notes) -> Result<Vec<NamedCleanup>, RepositoryError> {
        let mut cleanups = Vec::new();
        self.repository
            .storage
            .for_each(CLEANUP_V0_PREFIX, |blob| {
                let what = blob.id.as_str();
                let read = self.open(&blob.id, &mut |json| {
                    let entry = CleanupEntry::parse(json, what)?;
                    notes.ids += entry.blob_ids.len();
                    if notes.ids > CLEANUP_IDS_MAX || cleanups.len() == LOGS_MAX {
                        return Err(too_many("logs in cleanup entries", CLEANUP_IDS_MAX));
                    }
                    cleanups.push((blob.clone(), entry));
                    Ok(())
                });
                self.judge(notes, &blob.id, read).map(|_| ())
            })?;
        Ok(cleanups)
    }

    /// Reads the compaction logs; what they name goes to `references`.
    pub(super) fn logs(
        &self,
        notes: &mut Notes,
        references: &mut References,
    ) -> Result<(), RepositoryError> {
        self.repository
            .storage
            .for_each(COMPACTION_LOG_V0_PREFIX, |blob| {
                if notes.logs.len() == LOGS_MAX {
                    return Err(too_many("compaction logs", LOGS_MAX));
                }
                let number = notes.logs.len() as u32;
                let what = blob.id.as_str();
                let read = self.open(&blob.id, &mut |json| {
                    let mut added = Ok(());
                    read_log(json, what, &mut |side, name| {
                        added = references.add(number, side, name);
                        added.is_ok()
                    })?;
                    added
                });
                let readable = self.judge(notes, &blob.id, read)?;
                // A damaged one has a row as well: a part of what it names is in scratch already.
                notes.logs.push(LogRow {
                    id: blob.id,
                    timestamp: blob.timestamp,
                    readable,
                    valid: readable,
                    whole: false,
                    missing_output: None,
                    missing_inputs: 0,
                    scheduled: false,
                });
                Ok(())
            })
    }

    /// Returns whether a note was read.
    fn judge(
        &self,
        notes: &mut Notes,
        blob: &BlobId,
        read: Result<(), RepositoryError>,
    ) -> Result<bool, RepositoryError> {
        match read {
            Ok(()) => Ok(true),
            Err(RepositoryError::Format(error)) if self.damage == Damage::IsNoted => {
                if notes.damaged.len() < DAMAGED_MAX {
                    notes.damaged.push(DamagedNote {
                        blob: blob.clone(),
                        code: error.code(),
                        reason: error.to_string(),
                    });
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a note and lends its plaintext. One that is gone asks for a fresh listing.
    fn open(
        &self,
        blob: &BlobId,
        visit: &mut dyn FnMut(&mut dyn Read) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let (repository, name) = (self.repository, blob.as_str());
        let read = match repository.storage.get_all(blob, SMALL_BYTES) {
            Ok(mut bytes) => {
                let range = repository.crypto.open(name, &mut bytes, &mut Vec::new())?;
                return visit(&mut bytes.get(range).unwrap_or_default());
            }
            Err(BlobError::TooLarge { .. }) => {
                open_into_scratch(repository, self.workspace, blob, &[])
            }
            Err(error) => Err(error.into()),
        };
        match read {
            Ok((plain, _)) => {
                let range = 0..plain.len();
                visit(&mut SequentialReader::new(plain, range, WINDOW_BYTES))
            }
            Err(RepositoryError::Blob(error)) if error.is_not_found() => {
                Err(RepositoryError::Vanished {
                    blob: name.to_owned(),
                    attempts: 1,
                })
            }
            Err(error) => Err(error),
        }
    }
}

impl Notes {
    /// Finds the logs that the cleanup entries name.
    pub(super) fn resolve(&mut self, cleanups: Vec<NamedCleanup>) {
        for (blob, entry) in cleanups {
            let number = |id: &BlobId| {
                let found = self.logs.binary_search_by(|log| log.id.cmp(id));
                found.ok().map(|number| number as u32)
            };
            let logs: Vec<u32> = entry.blob_ids.iter().filter_map(number).collect();
            for log in &logs {
                if let Some(row) = self.logs.get_mut(*log as usize) {
                    row.scheduled = true;
                }
            }
            self.cleanups.push(CleanupRow {
                id: blob.id,
                timestamp: blob.timestamp,
                schedule_time: entry.cleanup_schedule_time,
                gone: (entry.blob_ids.len() - logs.len()) as u64,
                logs,
            });
        }
    }
}

fn too_many(what: &'static str, maximum: usize) -> RepositoryError {
    RepositoryError::TooMany { what, maximum }
}
