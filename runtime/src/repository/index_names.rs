//! The names of all uncompacted index blobs, sorted by epoch and then by where they lie on the
//! disk. Without epochs ([`super::index_set_v0`]) groups of names take the place of epochs.
//!
//! There may be hundreds of thousands (a repository that no client can open any more has 64,621 in
//! one epoch), so they go through the sorter and are only ever streamed. Reading tiny files in the
//! order of their inodes instead of their names is five times faster on a disk whose cache is
//! small.
//!
//! Memory: a small sort buffer ([`crate::memory::MemoryPlan::names_bytes`]), one row an epoch, and
//! the sets of several blobs that are being counted ([`OPEN_SETS_MAX`]). Invariant: a set of which
//! blobs are missing is noted in its epoch's row.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::ControlFlow;

use crate::clock::Timestamp;
use crate::kopia::FormatError;
use crate::kopia::blob_id::{BlobId, set_member, uncompacted_epoch};
use crate::progress::Part;
use crate::spill::Merge;
use crate::spill::{Runs, SortBuffer, SortMemory, SortShape, Sorter};

use super::epoch_blobs::EpochBlobs;
use super::epochs::SETS_MAX;
use super::working_time::WorkingTime;
use super::{RepositoryError, Workspace};
use crate::blob::{ScannedBlob, Storage};

/// Longest name of an index blob, in bytes; Kopia's have at most 110.
pub(super) const NAME_BYTES_MAX: usize = 115;

/// Epoch 4, locality 8, length 1, name.
const RECORD_BYTES: usize = 128;

/// Sets of two blobs and more that may be under way at once. One needs 16 million entries in one
/// flush.
const OPEN_SETS_MAX: usize = 10_000;

/// What is known of an epoch's uncompacted blobs without reading them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UncompactedRow {
    /// Number of blobs.
    pub blobs: u64,
    /// Their ages and sizes, where the listing of the store has them.
    pub stored: Option<EpochBlobs>,
    /// Sets of which not all blobs are there, by name.
    pub incomplete_sets: Vec<IncompleteSet>,
}

/// A set of which not all blobs are there: a writer at work or a crashed one, or damage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IncompleteSet {
    /// The part of the names that its blobs share.
    pub set: String,
    /// Blobs that are there.
    pub seen: u32,
    /// Blobs that it must have.
    pub count: u32,
}

impl fmt::Display for IncompleteSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { set, seen, count } = self;
        write!(f, "{set}: {seen} of {count} blobs")
    }
}

/// All `xn` blobs.
pub struct UncompactedNames {
    runs: Runs,
    /// One row for each epoch that has any.
    pub epochs: BTreeMap<u64, UncompactedRow>,
}

impl UncompactedNames {
    /// Scans the store once. Names that do not parse are not ours.
    pub fn scan(storage: &Storage, workspace: &Workspace) -> Result<Self, RepositoryError> {
        let time = WorkingTime::start(&*workspace.progress);
        let mut names = NamesBuilder::new(workspace);
        let mut outcome = Ok(());
        storage.scan(
            "xn",
            &mut |blob: ScannedBlob<'_>| match names.add_uncompacted(&blob) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    outcome = Err(error);
                    ControlFlow::Break(())
                }
            },
        )?;
        outcome?;
        let names = names.finish()?;
        time.lap(Part::List);
        Ok(names)
    }

    /// Streams the names of one epoch.
    pub fn of_epoch(&self, epoch: u64) -> Result<Names, RepositoryError> {
        let (lower, upper) = (prefix(epoch)?, prefix(epoch + 1)?);
        Ok(Names {
            merge: self.runs.merge_range(Some(&lower), Some(&upper))?,
        })
    }

    /// Returns how many blobs an epoch has.
    pub fn blobs(&self, epoch: u64) -> u64 {
        self.epochs.get(&epoch).map_or(0, |row| row.blobs)
    }
}

/// Starts the sort. What it leaves is held beside a load or a merge, so it is small.
fn sorter(workspace: &Workspace) -> Sorter {
    let shape = SortShape {
        record_bytes: RECORD_BYTES,
        group: None,
    };
    let plan = &workspace.memory;
    let memory = SortMemory {
        buffer_bytes: plan.names_bytes,
        runs_max: plan.names_bytes / plan.merge_read_bytes,
        ..workspace.sort_memory(1)
    };
    Sorter::new(workspace.scratch.clone(), shape, memory)
}

/// Takes names in any order.
pub struct NamesBuilder {
    sorter: Sorter,
    buffer: SortBuffer,
    rows: Rows,
}

impl NamesBuilder {
    /// Begins without any.
    pub fn new(workspace: &Workspace) -> Self {
        let sorter = sorter(workspace);
        let buffer = sorter.buffer();
        let rows = Rows::default();
        Self {
            sorter,
            buffer,
            rows,
        }
    }

    /// Adds a blob to the epoch in its name; one that has none is not ours.
    pub fn add_uncompacted(&mut self, blob: &ScannedBlob<'_>) -> Result<(), RepositoryError> {
        let Some(epoch) = uncompacted_epoch(blob.id) else {
            return Ok(());
        };
        self.add(epoch, blob.locality, blob.id)?;
        self.rows.note(epoch, blob.stored);
        Ok(())
    }

    /// Adds a name to an epoch; blobs of smaller `locality` are read first.
    pub fn add(&mut self, epoch: u64, locality: u64, name: &str) -> Result<(), RepositoryError> {
        self.rows.add(epoch, name)?;
        Ok(self.buffer.push(&encode(epoch, locality, name)?)?)
    }

    /// Ends the names.
    pub fn finish(self) -> Result<UncompactedNames, RepositoryError> {
        self.buffer.finish()?;
        Ok(UncompactedNames {
            runs: self.sorter.finish()?,
            epochs: self.rows.finish(),
        })
    }
}

/// A stream of blob names.
pub struct Names {
    merge: Merge,
}

impl Names {
    /// Returns the next name.
    pub fn next_name(&mut self) -> Result<Option<BlobId>, RepositoryError> {
        Ok(self.merge.next()?.map(|record| {
            let length = usize::from(record[12]).min(NAME_BYTES_MAX);
            BlobId::new(String::from_utf8_lossy(&record[13..13 + length]).into_owned())
        }))
    }
}

/// Returns the beginning of all records of an epoch.
fn prefix(epoch: u64) -> Result<[u8; 4], RepositoryError> {
    let epoch = u32::try_from(epoch)
        .map_err(|_| FormatError::malformed("index blob", format!("epoch number {epoch}")))?;
    Ok(epoch.to_be_bytes())
}

/// Refuses a name that no index blob of Kopia's has.
pub(super) fn check_name_length(name: &str) -> Result<(), RepositoryError> {
    if name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(FormatError::malformed(name, "a name of an index blob that is too long").into())
}

fn encode(epoch: u64, locality: u64, name: &str) -> Result<[u8; RECORD_BYTES], RepositoryError> {
    check_name_length(name)?;
    let mut record = [0; RECORD_BYTES];
    record[..4].copy_from_slice(&prefix(epoch)?);
    record[4..12].copy_from_slice(&locality.to_be_bytes());
    record[12] = name.len() as u8;
    record[13..13 + name.len()].copy_from_slice(name.as_bytes());
    Ok(record)
}

/// Rows under construction.
#[derive(Default)]
struct Rows {
    epochs: BTreeMap<u64, UncompactedRow>,
    /// Epoch and set to blobs expected and seen; only sets of two and more, gone when complete.
    open: HashMap<(u64, String), (u32, u32)>,
}

impl Rows {
    fn add(&mut self, epoch: u64, name: &str) -> Result<(), RepositoryError> {
        if self.epochs.len() == SETS_MAX && !self.epochs.contains_key(&epoch) {
            return Err(RepositoryError::TooMany {
                what: "epochs",
                maximum: SETS_MAX,
            });
        }
        self.epochs.entry(epoch).or_default().blobs += 1;
        let Some(member) = set_member(name).filter(|member| member.count != 1) else {
            return Ok(());
        };
        let key = (epoch, member.set.to_owned());
        let open = self.open.entry(key.clone()).or_insert((member.count, 0));
        open.1 += 1;
        if open.1 == open.0 {
            self.open.remove(&key);
        } else if self.open.len() > OPEN_SETS_MAX {
            let what = "index blob sets under way";
            return Err(RepositoryError::TooMany {
                what,
                maximum: OPEN_SETS_MAX,
            });
        }
        Ok(())
    }

    /// Notes length and time of the blob that was just added.
    fn note(&mut self, epoch: u64, stored: Option<(u64, Timestamp)>) {
        if let (Some(row), Some((length, timestamp))) = (self.epochs.get_mut(&epoch), stored) {
            let blobs = row.stored.get_or_insert_default();
            blobs.add(length, timestamp);
        }
    }

    fn finish(mut self) -> BTreeMap<u64, UncompactedRow> {
        for ((epoch, set), (count, seen)) in self.open {
            let row = self.epochs.entry(epoch).or_default();
            row.incomplete_sets.push(IncompleteSet { set, seen, count });
        }
        for row in self.epochs.values_mut() {
            row.incomplete_sets.sort();
        }
        self.epochs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_with_gaps_is_noted_in_its_epoch() {
        let mut rows = Rows::default();
        for (epoch, name) in [
            (3, "xn3_a-s1-c2"),
            (3, "xn3_b-s2-c3"),
            (3, "xn3_c-s1-c2"),
            (3, "xn3_d-s2-c3"),
            (3, "xn3_e-s3-c1"),
            (3, "xn3_f"),
            (4, "xn4_a-s1-c2"),
        ] {
            rows.add(epoch, name).unwrap();
        }
        let rows = rows.finish();
        let open = |epoch| &rows[&epoch].incomplete_sets[..];
        let set = |set: &str, seen, count| IncompleteSet {
            set: set.to_owned(),
            seen,
            count,
        };
        assert_eq!(open(3), [set("s2", 2, 3)]);
        assert_eq!(open(3)[0].to_string(), "s2: 2 of 3 blobs");
        assert_eq!(open(4), [set("s1", 1, 2)]);
        assert_eq!((rows[&3].blobs, rows[&4].blobs), (6, 1));
    }
}
