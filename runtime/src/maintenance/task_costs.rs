//! What a task would cost: bytes, requests, scratch and memory, estimated before anything is done.
//!
//! Estimates follow from [`Holdings`] and are rather too high than too low: a task that finds the
//! table of contents of the one before it, or the index blobs that it has read, asks for no index,
//! and what a mark will find to be garbage is not known. Plain arithmetic, no memory. Kopia has
//! nothing like it.

use std::fmt;

use bytesize::ByteSize;

use crate::memory::{MIB, MemoryPlan};
use crate::spill::SHELF_TABLE_BYTES;

use super::cycle_task::CycleTask;
use super::holdings::Holdings;
use super::index_survey::SCRATCH_FACTOR;
use super::rewrite_contents::{PACKS_IN_SCRATCH, large_bytes};
use super::snapshot_gc::mark_scratch_bytes;

/// Requests of a task that reads and writes some small blobs; its record in the schedule is two.
const FEW_REQUESTS: u64 = 20;

/// Listings that find the index, and the schedule.
const INDEX_LISTS: u64 = 16;

/// Index blobs are read in pieces of this size.
const INDEX_READ_BYTES: u64 = MIB as u64;

/// Blobs of a page of a listing.
const PAGE_BLOBS: u64 = 1_000;

/// Entry of a new content in an index blob and in a pack's local index, in bytes.
const NEW_ENTRY_BYTES: u64 = 64;

/// Local index of a pack, in bytes: some thousand entries.
const LOCAL_INDEX_BYTES: u64 = 256 * 1024;

/// What a task would cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TaskCost {
    /// Kopia's name.
    pub task: CycleTask,
    /// Bytes that it reads.
    pub read_bytes: u64,
    /// Bytes that it writes.
    pub written_bytes: u64,
    /// Requests of all kinds.
    pub requests: u64,
    /// Most scratch at one time, in bytes.
    pub scratch_bytes: u64,
    /// Most memory by the plan, the process included, in bytes.
    pub memory_bytes: usize,
}

impl TaskCost {
    /// Estimates. `pack_bytes_max` is the repository's.
    pub fn of(task: CycleTask, found: &Holdings, memory: &MemoryPlan, pack_bytes_max: u64) -> Self {
        let estimate = Estimate {
            found,
            memory,
            pack_bytes_max,
        };
        match task {
            CycleTask::SnapshotGc => estimate.collect(task),
            CycleTask::FullRewriteContents | CycleTask::QuickRewriteContents => {
                estimate.rewrite(task)
            }
            CycleTask::FullDeleteBlobs | CycleTask::QuickDeleteBlobs => estimate.delete(task),
            CycleTask::CompactSingleEpoch => {
                let settled = found.settled_index;
                estimate.compact(task, settled.count, settled.bytes)
            }
            CycleTask::IndexCompaction => {
                estimate.compact(task, found.index.count, found.index.bytes)
            }
            CycleTask::ExtendBlobRetentionTime => Self {
                requests: found.packs.count + found.index.count + FEW_REQUESTS,
                ..estimate.little(task)
            },
            _ => estimate.little(task),
        }
    }
}

struct Estimate<'a> {
    found: &'a Holdings,
    memory: &'a MemoryPlan,
    pack_bytes_max: u64,
}

impl Estimate<'_> {
    /// A task that touches some small blobs.
    fn little(&self, task: CycleTask) -> TaskCost {
        TaskCost {
            task,
            read_bytes: 0,
            written_bytes: 0,
            requests: FEW_REQUESTS,
            scratch_bytes: 0,
            memory_bytes: self.memory.largest_of(&[]),
        }
    }

    /// A task that reads the whole index, and keeps its blobs for those that come after it.
    fn table(&self, task: CycleTask, phase: &str) -> TaskCost {
        let index = self.found.index;
        let phases = ["load and sort", "merge and encode", phase];
        TaskCost {
            read_bytes: index.bytes,
            requests: FEW_REQUESTS + INDEX_LISTS + index.count + index.bytes / INDEX_READ_BYTES,
            scratch_bytes: self.found.table_bytes + index.bytes + SHELF_TABLE_BYTES,
            memory_bytes: self.memory.largest_of(&phases),
            ..self.little(task)
        }
    }

    /// Every directory is read once, keys in use are sorted, metadata is kept that lies ahead.
    fn collect(&self, task: CycleTask) -> TaskCost {
        let table = self.table(task, "mark");
        let metadata = self.found.metadata;
        let reads = metadata.bytes / self.memory.read_window_bytes as u64;
        let contents = self.found.live.count + self.found.deleted.count;
        TaskCost {
            read_bytes: table.read_bytes + metadata.bytes,
            requests: table.requests + self.found.metadata_packs + reads,
            scratch_bytes: table.scratch_bytes + mark_scratch_bytes(contents, metadata.bytes),
            ..table
        }
    }

    /// Contents of short packs are read, with the packs' own indexes, and written with their
    /// entries.
    fn rewrite(&self, task: CycleTask) -> TaskCost {
        let table = self.table(task, "copy contents");
        let short = self.found.short;
        let reads = short.bytes / self.memory.pack_read_bytes as u64 + self.found.short_packs;
        let packs = short.bytes / self.pack_bytes_max.max(1) + 2;
        let entries_bytes = short.count * NEW_ENTRY_BYTES;
        let local_bytes = self.found.short_packs * LOCAL_INDEX_BYTES;
        if short.count == 0 {
            return table;
        }
        // Some are larger than a buffer where they have a MiB on average.
        let large = match short.bytes / short.count >= MIB as u64 {
            true => large_bytes(0, self.pack_bytes_max),
            false => 0,
        };
        TaskCost {
            read_bytes: table.read_bytes + short.bytes + local_bytes,
            written_bytes: short.bytes + 2 * entries_bytes,
            requests: table.requests + reads + packs,
            scratch_bytes: table.scratch_bytes
                + PACKS_IN_SCRATCH * self.pack_bytes_max
                + large
                + local_bytes
                + SCRATCH_FACTOR * entries_bytes,
            ..table
        }
    }

    /// Packs are listed; those that go are explained by their own index. A rewrite leaves more of
    /// them, whose indexes it has read along.
    fn delete(&self, task: CycleTask) -> TaskCost {
        let table = self.table(task, "load and sort");
        let packs = self.found.packs.count;
        let unused = self.found.unused.count + self.found.short_packs;
        TaskCost {
            read_bytes: table.read_bytes + self.found.unused.count * LOCAL_INDEX_BYTES,
            requests: table.requests + packs / PAGE_BLOBS + 2 * unused,
            ..table
        }
    }

    /// Index blobs become a set, which is read again before it counts.
    fn compact(&self, task: CycleTask, blobs: u64, bytes: u64) -> TaskCost {
        if blobs == 0 {
            return self.little(task);
        }
        let phases = ["load and sort", "merge and encode", "seal and write"];
        TaskCost {
            read_bytes: 2 * bytes,
            written_bytes: bytes,
            requests: FEW_REQUESTS + INDEX_LISTS + blobs + 2 * (bytes / INDEX_READ_BYTES),
            scratch_bytes: SCRATCH_FACTOR * bytes,
            memory_bytes: self.memory.largest_of(&phases),
            ..self.little(task)
        }
    }
}

impl fmt::Display for TaskCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<31} reads {}, writes {}, {} requests, scratch {}, memory {}",
            self.task,
            ByteSize(self.read_bytes),
            ByteSize(self.written_bytes),
            self.requests,
            ByteSize(self.scratch_bytes),
            ByteSize(self.memory_bytes as u64)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maintenance::orphan_packs::BlobCount;

    fn count(count: u64, bytes: u64) -> BlobCount {
        BlobCount { count, bytes }
    }

    /// Goal: the costs of a repository of two million contents, as text; method: those that were
    /// measured are near.
    #[test]
    fn costs_are_told_in_bytes_requests_scratch_and_memory() {
        let mib = MIB as u64;
        let found = Holdings {
            index: count(7, 65 * mib),
            entries: 2_000_000,
            live: count(2_000_000, 490 * mib),
            metadata: count(4_000, 102 * mib),
            metadata_packs: 9,
            short_packs: 9,
            short: count(76_000, 41 * mib),
            packs: count(33, 580 * mib),
            unused: count(11, 80 * mib),
            table_bytes: 160 * mib,
            ..Holdings::default()
        };
        let memory = MemoryPlan::new(64 * MIB).unwrap();
        let text = |task| TaskCost::of(task, &found, &memory, 20 * mib).to_string();
        for (task, told) in [
            (
                CycleTask::SnapshotGc,
                "snapshot-gc                     reads 167.0 MiB, writes 0 B, 219 requests, \
                 scratch 451.1 MiB, memory 45.7 MiB",
            ),
            (
                CycleTask::FullRewriteContents,
                "full-rewrite-contents           reads 108.2 MiB, writes 50.3 MiB, 130 requests, \
                 scratch 343.2 MiB, memory 54.4 MiB",
            ),
            (
                CycleTask::FullDeleteBlobs,
                "full-delete-blobs               reads 67.8 MiB, writes 0 B, 148 requests, \
                 scratch 227.0 MiB, memory 45.7 MiB",
            ),
            (
                CycleTask::CompactSingleEpoch,
                "compact-single-epoch            reads 0 B, writes 0 B, 20 requests, \
                 scratch 0 B, memory 12.0 MiB",
            ),
        ] {
            assert_eq!(text(task), told);
        }
    }

    /// Goal: whatever is found, no estimate overflows or goes below another that is part of it.
    #[test]
    fn a_task_that_reads_the_index_costs_no_less_than_that() {
        let memory = MemoryPlan::new(64 * MIB).unwrap();
        let found = Holdings {
            index: count(1_000_000, 1 << 40),
            settled_index: count(900_000, 1 << 39),
            table_bytes: 1 << 42,
            live: count(1 << 36, 1 << 50),
            ..Holdings::default()
        };
        for task in CycleTask::ALL {
            let cost = TaskCost::of(task, &found, &memory, 0);
            assert!(cost.memory_bytes <= memory.peak_bytes(), "{cost}");
            if task.copies() {
                assert!(
                    cost.read_bytes >= 1 << 40 && cost.scratch_bytes >= 1 << 42,
                    "{cost}"
                );
                assert!(cost.requests >= 2_000_000, "{cost}");
            }
        }
    }
}
