//! An opened repository: its format, its epochs, its index; readers and writers of both.
//!
//! This floor knows what the blobs mean to each other. It decides nothing: which task runs, what is
//! deleted and when is the maintenance floor's. All calls block; only the blob floor below awaits.

pub mod active_index;
pub mod content_check;
mod content_requests;
mod content_seek;
pub mod content_table;
pub mod contents;
pub mod epoch_blobs;
pub mod epochs;
mod error;
mod faults;
pub mod format_watch;
mod index_blob_reader;
mod index_bytes;
mod index_feed;
pub mod index_gaps;
pub mod index_generator;
pub mod index_image;
pub mod index_listing;
pub mod index_load;
pub mod index_names;
mod index_pipeline;
pub mod index_set_v0;
pub mod index_writer;
pub mod index_writer_v0;
pub mod inspect;
pub mod listing;
mod load_worker;
pub mod manifest_writer;
#[cfg(test)]
pub(crate) mod mark_tests;
mod mark_worker;
pub mod new_entries;
pub mod new_repository;
mod object_streams;
pub mod open;
mod open_large;
mod pack_bytes;
mod pack_file;
mod pack_heads;
pub mod pack_local_index;
pub mod pack_names;
pub mod pack_order;
mod pack_puts;
pub mod pack_reader;
#[cfg(test)]
mod pack_tests;
#[cfg(test)]
pub(crate) mod pack_world;
pub mod pack_writer;
mod read_ahead;
mod read_marks;
pub mod record;
pub mod schedule_store;
pub mod sealed_pieces;
pub mod sealing;
mod session_writer;
pub mod sessions;
pub mod set_comparison;
mod shard_names;
pub mod snapshot_generator;
pub mod snapshot_history;
pub mod snapshot_listing;
mod snapshot_order;
pub mod snapshots;
mod sorted_listing;
pub mod storage_time;
pub mod system_contents;
pub mod tenants;
pub mod uncompacted_writer;
pub mod used_contents;
pub mod verify;
#[cfg(test)]
mod views_tests;
pub mod winners;
mod working_time;

pub use error::RepositoryError;
pub use open::{OpenOptions, Repository};

use std::sync::Arc;

use crate::memory::MemoryPlan;
use crate::progress::Progress;
use crate::spill::{Scratch, SortMemory, SortShape, Sorter};

/// What a task works with besides the repository: disk, memory, and somebody who listens.
#[derive(Clone)]
pub struct Workspace {
    /// The run's directory.
    pub scratch: Scratch,
    /// The buffers of every phase.
    pub memory: MemoryPlan,
    /// Who is told how far a task has come.
    pub progress: Arc<dyn Progress>,
}

impl Workspace {
    /// Returns the memory of a sort that `buffers` threads fill.
    pub fn sort_memory(&self, buffers: usize) -> SortMemory {
        SortMemory {
            buffer_bytes: self.memory.sort_buffer_bytes,
            buffers,
            run_read_bytes: self.memory.merge_read_bytes,
            runs_max: self.memory.merge_runs,
        }
    }

    /// Does `work` as a step that is told: its name, the unit that is counted, and how many there
    /// are.
    pub fn step<T>(
        &self,
        name: &str,
        unit: &str,
        total: Option<u64>,
        work: impl FnOnce() -> T,
    ) -> T {
        self.progress.begin(name, unit, total);
        let outcome = work();
        self.progress.end();
        outcome
    }

    /// Starts a sort of records without losers, for one thread.
    fn sorter(&self, record_bytes: usize) -> Sorter {
        let group = None;
        let shape = SortShape {
            record_bytes,
            group,
        };
        Sorter::new(self.scratch.clone(), shape, self.sort_memory(1))
    }
}
