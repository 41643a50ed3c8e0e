//! Names of index blobs side by side with what compaction logs say of them, in the order of names.
//!
//! Two sorted streams in scratch: the listed blobs, and one record for each blob that a log names.
//! A walk over both shows everything that is known of a name at once. Memory: the buffers of one
//! merge, shared by the two, and the logs that name one blob, at most two records for each log.

use crate::blob::BlobMetadata;
use crate::clock::Timestamp;
use crate::kopia::FormatError;
use crate::kopia::blob_id::BlobId;
use crate::kopia::compaction_log::Side;
use crate::repository::{RepositoryError, Workspace};
use crate::spill::{Merge, MergeOptions, RunWriter, Runs, SortBuffer, SortShape, Sorter};

/// Longest name of an index blob, in bytes; Kopia's have at most 87.
pub const NAME_BYTES_MAX: usize = 112;

/// Name with zeros behind it, length 8, time 8.
const BLOB_BYTES: usize = NAME_BYTES_MAX + 16;

/// Name with zeros behind it, log 4, side 1.
const REFERENCE_BYTES: usize = NAME_BYTES_MAX + 5;

/// The two streams.
#[derive(Debug)]
pub(super) struct NameStreams {
    blobs: Runs,
    references: Runs,
}

/// What is known of a name.
#[derive(Debug)]
pub(super) struct Known<'a> {
    /// The name.
    pub(super) name: &'a str,
    /// Length and time, if it is listed.
    pub(super) listed: Option<(u64, Timestamp)>,
    /// The logs that name it, by number, and as what.
    pub(super) references: &'a [(u32, Side)],
}

impl Known<'_> {
    /// Returns the numbers of the logs that name it as `side`.
    pub(super) fn logs(&self, side: Side) -> impl Iterator<Item = usize> + '_ {
        let of_side = self.references.iter().filter(move |(_, as_)| *as_ == side);
        of_side.map(|(log, _)| *log as usize)
    }

    /// Returns the listed blob.
    pub(super) fn metadata(&self) -> Option<BlobMetadata> {
        self.listed.map(|(length, timestamp)| BlobMetadata {
            id: BlobId::new(self.name),
            length,
            timestamp,
        })
    }
}

/// Takes the references of logs, in any order.
pub(super) struct References {
    sorter: Sorter,
    buffer: SortBuffer,
}

impl References {
    pub(super) fn new(workspace: &Workspace) -> Self {
        let sorter = sorter(workspace, REFERENCE_BYTES);
        let buffer = sorter.buffer();
        Self { sorter, buffer }
    }

    pub(super) fn add(&mut self, log: u32, side: Side, name: &str) -> Result<(), RepositoryError> {
        let mut record = [0; REFERENCE_BYTES];
        put_name(&mut record, name)?;
        record[NAME_BYTES_MAX..][..4].copy_from_slice(&log.to_be_bytes());
        record[NAME_BYTES_MAX + 4] = u8::from(side == Side::Output);
        Ok(self.buffer.push(&record)?)
    }

    pub(super) fn finish(self) -> Result<Runs, RepositoryError> {
        self.buffer.finish()?;
        Ok(self.sorter.finish()?)
    }
}

/// Takes the listed blobs, in the order of their names.
pub(super) struct Listed {
    sorter: Sorter,
    run: RunWriter,
}

impl Listed {
    pub(super) fn new(workspace: &Workspace) -> Self {
        let sorter = sorter(workspace, BLOB_BYTES);
        let run = sorter.sorted_run();
        Self { sorter, run }
    }

    pub(super) fn add(&mut self, blob: &BlobMetadata) -> Result<(), RepositoryError> {
        let mut record = [0; BLOB_BYTES];
        put_name(&mut record, blob.id.as_str())?;
        record[NAME_BYTES_MAX..][..8].copy_from_slice(&blob.length.to_be_bytes());
        record[NAME_BYTES_MAX + 8..].copy_from_slice(&blob.timestamp.nanos().to_be_bytes());
        Ok(self.run.push(&record)?)
    }

    pub(super) fn finish(self, references: Runs) -> Result<NameStreams, RepositoryError> {
        self.run.finish()?;
        let blobs = self.sorter.finish()?;
        Ok(NameStreams { blobs, references })
    }
}

impl NameStreams {
    /// Shows every name that is listed or named by a log, until `visit` wants no more.
    pub(super) fn each(
        &self,
        visit: &mut dyn FnMut(&Known<'_>) -> Result<bool, RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let shared = MergeOptions {
            share: 2,
            ..MergeOptions::default()
        };
        let mut blobs = self.blobs.merge_with(&shared)?;
        let mut references = self.references.merge_with(&shared)?;
        blobs.advance()?;
        references.advance()?;
        let (mut name, mut logs) = (Vec::with_capacity(NAME_BYTES_MAX), Vec::new());
        while let Some(next) = smaller_name(&blobs, &references) {
            name.clear();
            name.extend_from_slice(next);
            let mut listed = None;
            if let Some(record) = blobs.current().filter(|record| record.starts_with(&name)) {
                listed = Some((
                    word(record, 0),
                    Timestamp::from_nanos(word(record, 8) as i64),
                ));
                blobs.advance()?;
            }
            logs.clear();
            while let Some(record) = references
                .current()
                .filter(|other| other.starts_with(&name))
            {
                logs.push(reference(record));
                references.advance()?;
            }
            let end = name
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |at| at + 1);
            let name = String::from_utf8_lossy(&name[..end]);
            let known = Known {
                name: &name,
                listed,
                references: &logs,
            };
            if !visit(&known)? {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn sorter(workspace: &Workspace, record_bytes: usize) -> Sorter {
    let shape = SortShape {
        record_bytes,
        group: None,
    };
    Sorter::new(workspace.scratch.clone(), shape, workspace.sort_memory(1))
}

fn put_name(record: &mut [u8], name: &str) -> Result<(), RepositoryError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        let reason = format!("a name of an index blob with {} bytes", name.len());
        return Err(FormatError::malformed(name, reason).into());
    }
    record[..name.len()].copy_from_slice(name.as_bytes());
    Ok(())
}

fn smaller_name<'a>(blobs: &'a Merge, references: &'a Merge) -> Option<&'a [u8]> {
    let name = |merge: &'a Merge| merge.current().map(|record| &record[..NAME_BYTES_MAX]);
    match (name(blobs), name(references)) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn word(record: &[u8], at: usize) -> u64 {
    let bytes = record[NAME_BYTES_MAX + at..].first_chunk();
    bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn reference(record: &[u8]) -> (u32, Side) {
    let bytes = record[NAME_BYTES_MAX..].first_chunk();
    let side = match record[NAME_BYTES_MAX + 4] {
        0 => Side::Input,
        _ => Side::Output,
    };
    (bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes)), side)
}
