//! What a compaction of some time ago has left behind: index blobs that others replace, and logs
//! that are of no use once those are gone.
//!
//! Kopia deletes the inputs of every log that is old enough. Here a blob goes only when what
//! replaced it is there: its log is whole by logs that are old enough, and no reader uses the blob.
//! And it goes before every blob that was made of it: were the result of a compaction gone first,
//! readers would find its inputs again, with entries that were dropped since.
//!
//! Memory: some words for each log; names are sorted in scratch. Mirrors `deleteOldBlobs` of
//! Kopia's `index_blob_manager_v0.go`.

use crate::clock::Timestamp;
use crate::kopia::FormatError;
use crate::kopia::blob_id::BlobId;
use crate::kopia::compaction_log::Side;
use crate::repository::{RepositoryError, Workspace};
use crate::spill::{Merge, Runs, SortShape, Sorter};

use super::names::{Known, NAME_BYTES_MAX};
use super::{BlobUse, IndexSetV0, use_of};

/// Level 4, name with zeros behind it.
const RECORD_BYTES: usize = 4 + NAME_BYTES_MAX;

/// What may go.
#[derive(Debug)]
pub struct Replaced {
    names: Runs,
    /// How many index blobs.
    pub blobs: u64,
    /// Numbers of the logs of which no input is left when the blobs are gone, in the order of their
    /// compactions.
    pub logs: Vec<u32>,
    /// Logs that are old enough and are kept, since some of their inputs are.
    pub kept_logs: u64,
}

/// The names of replaced blobs: each before all that were made of it.
pub struct ReplacedNames {
    merge: Merge,
}

/// Logs that are old enough, and what follows from them.
struct Settled<'a> {
    set: &'a IndexSetV0,
    /// Old enough.
    old: Vec<bool>,
    /// Whole by logs that are old enough.
    whole: Vec<bool>,
    /// Longest way of compactions that lead to the log.
    levels: Vec<u32>,
}

impl IndexSetV0 {
    /// Finds what compactions up to the moment `cut` have replaced.
    pub fn replaced(
        &self,
        workspace: &Workspace,
        cut: Timestamp,
    ) -> Result<Replaced, RepositoryError> {
        let settled = Settled::find(self, cut)?;
        let shape = SortShape {
            record_bytes: RECORD_BYTES,
            group: None,
        };
        let sorter = Sorter::new(workspace.scratch.clone(), shape, workspace.sort_memory(1));
        let mut buffer = sorter.buffer();
        let mut keeps = vec![false; self.logs.len()];
        let mut blobs = 0;
        self.names.each(&mut |known| {
            if known.listed.is_none() {
                return Ok(true);
            }
            if let Some(level) = settled.level_of(known) {
                blobs += 1;
                let name = known.name.as_bytes();
                buffer.push_with(|out| {
                    out[..4].copy_from_slice(&level.to_be_bytes());
                    out[4..].fill(0);
                    out[4..][..name.len()].copy_from_slice(name);
                })?;
            } else {
                known.logs(Side::Input).for_each(|log| keeps[log] = true);
            }
            Ok(true)
        })?;
        buffer.finish()?;
        let old = (0..self.logs.len()).filter(|log| settled.old[*log]);
        let (kept, mut logs): (Vec<usize>, Vec<usize>) = old.partition(|log| keeps[*log]);
        logs.sort_by_key(|log| (settled.levels[*log], self.logs[*log].timestamp, *log));
        Ok(Replaced {
            names: sorter.finish()?,
            blobs,
            logs: logs.into_iter().map(|log| log as u32).collect(),
            kept_logs: kept.len() as u64,
        })
    }
}

impl Replaced {
    /// Streams the names of the blobs.
    pub fn names(&self) -> Result<ReplacedNames, RepositoryError> {
        Ok(ReplacedNames {
            merge: self.names.merge()?,
        })
    }
}

impl ReplacedNames {
    /// Returns the next name.
    pub fn next_name(&mut self) -> Result<Option<BlobId>, RepositoryError> {
        Ok(self.merge.next()?.map(|record| {
            let name = &record[4..];
            let end = name.iter().rposition(|byte| *byte != 0);
            let name = &name[..end.map_or(0, |at| at + 1)];
            BlobId::new(String::from_utf8_lossy(name).into_owned())
        }))
    }
}

impl<'a> Settled<'a> {
    fn find(set: &'a IndexSetV0, cut: Timestamp) -> Result<Self, RepositoryError> {
        let logs = &set.logs;
        let is_old = logs.iter().map(|log| log.readable && log.timestamp <= cut);
        let old: Vec<bool> = is_old.collect();
        let valid = logs.iter().zip(&old).map(|(log, old)| log.valid && *old);
        let mut whole: Vec<bool> = valid.collect();
        set.names.find_whole(logs, &mut whole, &|log| old[log])?;
        let mut settled = Self {
            set,
            levels: vec![0; old.len()],
            old,
            whole,
        };
        settled.find_levels()?;
        Ok(settled)
    }

    /// Finds the levels: one walk for each step of the longest chain of compactions.
    fn find_levels(&mut self) -> Result<(), RepositoryError> {
        let (old, levels) = (&self.old, &mut self.levels);
        let most = old.iter().filter(|old| **old).count() as u32;
        loop {
            let (mut changed, mut circle) = (false, None);
            self.set.names.each(&mut |known| {
                let makers = known.logs(Side::Output).filter(|log| old[*log]);
                let Some(level) = makers.map(|log| levels[log] + 1).max() else {
                    return Ok(true);
                };
                for log in known.logs(Side::Input).filter(|log| old[*log]) {
                    if levels[log] < level {
                        levels[log] = level;
                        changed = true;
                        circle = (level >= most).then_some(log).or(circle);
                    }
                }
                Ok(circle.is_none())
            })?;
            if let Some(log) = circle {
                let log = self.set.logs[log].id.as_str();
                let reason = "it compacts its own result";
                return Err(FormatError::malformed(log, reason).into());
            }
            if !changed {
                return Ok(());
            }
        }
    }

    /// Returns the level of a blob that may go, `None` for one that stays.
    fn level_of(&self, known: &Known<'_>) -> Option<u32> {
        if use_of(known, &self.set.logs) != BlobUse::Superseded {
            return None;
        }
        if known.logs(Side::Output).any(|log| !self.old[log]) {
            return None; // without it that log would not count any more
        }
        let replacing = known.logs(Side::Input).filter(|log| self.whole[*log]);
        replacing.map(|log| self.levels[log]).min()
    }
}
