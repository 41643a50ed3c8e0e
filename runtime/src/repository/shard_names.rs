//! The names of an index shard's packs, in the order of their numbers.
//!
//! Packs are numbered by first appearance, and their names lie in scratch in another order, more of
//! them than fit into memory: they are sorted. Memory: a sort in the plan's pipeline bytes, and two
//! write buffers.

use std::sync::Arc;

use crate::kopia::hashing::Hasher;
use crate::progress::Part;
use crate::spill::{ScratchFile, SequentialWriter, SortMemory, SortShape, Sorter};

use super::index_image::FinishedRows;
use super::index_pipeline::BATCH_BYTES;
use super::pack_names::{PackTable, SLOT_BYTES, name_of};
use super::working_time::WorkingTime;
use super::{Repository, RepositoryError, Workspace};

/// A merge needs two runs, whatever the plan.
const RUNS_MIN: usize = 2;

/// Writes the names of the packs whose value is at least `first` in the order of their values, as
/// slots. Returns also the length of all names together, in bytes.
pub(super) fn sort_names(
    workspace: &Workspace,
    packs: &PackTable,
    first: u32,
) -> Result<Names, RepositoryError> {
    let shape = SortShape {
        record_bytes: 4 + SLOT_BYTES,
        group: None,
    };
    let plan = &workspace.memory;
    let memory = SortMemory {
        buffer_bytes: plan.pipeline_bytes,
        runs_max: (plan.pipeline_bytes / plan.merge_read_bytes).max(RUNS_MIN),
        ..workspace.sort_memory(1)
    };
    let sorter = Sorter::new(workspace.scratch.clone(), shape, memory);
    let mut buffer = sorter.buffer();
    packs.for_each_valued(first, |value, slot| {
        Ok(buffer.push_with(|out| {
            out[..4].copy_from_slice(&value.to_be_bytes());
            out[4..].copy_from_slice(slot);
        })?)
    })?;
    buffer.finish()?;
    let runs = sorter.finish()?;
    let mut merge = runs.merge()?;
    let file = Arc::new(workspace.scratch.create_file("index-names")?);
    let mut writer = SequentialWriter::new(Arc::clone(&file), BATCH_BYTES);
    let mut name_bytes = 0;
    while let Some(record) = merge.next()? {
        let slot = &record[4..];
        name_bytes += name_of(slot).len() as u64;
        writer.write(slot)?;
    }
    writer.finish()?;
    Ok((file, name_bytes))
}

/// Names in a file of scratch, and their bytes.
type Names = (Arc<ScratchFile>, u64);

/// Sorts the names while a thread hashes the rows: where the guess of the header was wrong, as it
/// is where a set has several blobs.
pub(super) fn hash_and_sort_names(
    repository: &Repository,
    workspace: &Workspace,
    rows: &FinishedRows,
    packs: &PackTable,
    first: u32,
) -> Result<(Hasher, Names), RepositoryError> {
    let (hash, told) = (&repository.crypto.hash, &*workspace.progress);
    std::thread::scope(|scope| {
        let hashing = scope.spawn(move || {
            let time = WorkingTime::start(told);
            let hasher = rows.hash(hash);
            time.lap(Part::Hash);
            hasher
        });
        let names = sort_names(workspace, packs, first);
        let hasher = hashing.join().unwrap_or(Err(RepositoryError::Interrupted));
        Ok((hasher?, names?))
    })
}
