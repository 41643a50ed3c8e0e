//! Memory is arithmetic: one pure function turns a limit into the buffers of every phase.
//!
//! The limit is the size of the cgroup to live in. At most [`PLANNED_PERCENT`] of it is handed out;
//! the rest is kernel memory, page cache and slack, without which the disk becomes the limit
//! (measured: with less than a third left, a merge takes twice as long). Phases do not overlap: the
//! plan is the largest phase, not the sum. Nothing asks for memory later, so nothing can fail half
//! way for lack of it.

mod cgroup;
mod heap;

use std::fmt;

use thiserror::Error;

pub use cgroup::cgroup_limit_bytes;
pub use heap::restart_with_returning_heap;

/// Bytes in a mebibyte.
pub const MIB: usize = 1024 * 1024;

/// Share of the limit that the plan hands out, in percent.
pub const PLANNED_PERCENT: usize = 85;

/// Limit where none is given and no cgroup sets one, in bytes.
pub const DEFAULT_LIMIT_BYTES: usize = 128 * MIB;

/// Smallest limit with which every task runs, in bytes. Accepted since the plan's largest phase
/// fits into it.
pub const FLOOR_BYTES: usize = 32 * MIB;

/// The same for a repository behind a network, in bytes.
pub const NETWORK_FLOOR_BYTES: usize = 40 * MIB;

/// More memory than this is not planned for: every buffer has its largest size long before, and the
/// page cache has the rest.
pub const USEFUL_BYTES: usize = 512 * MIB;

/// What the process holds in every phase: code and data, stacks of five threads, allocator, tokio,
/// and an idle plugin engine. Small repositories ended with 9.4 to 12.1 MiB of anonymous memory,
/// what the allocator keeps included.
pub const PROCESS_BYTES: usize = 12 * MIB;

/// What requests to a store behind a network hold in every phase: two gets and two puts in flight
/// (buffers of HTTP and TLS, pieces of a put), answers fetched ahead, a page of a listing, root
/// certificates. A full run in S3 held 3.3 MiB more than the same run in a folder.
pub const REQUEST_BYTES: usize = 4 * MIB;

/// Worker threads that decode and sort; more gain nothing on the machines that maintenance gets.
pub const WORKERS: usize = 2;

/// An index blob up to this size is opened in memory, a larger one through scratch.
pub const BLOB_IN_MEMORY_BYTES: usize = 2 * MIB;

/// Why a limit cannot be used.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// Below the floor.
    #[error(
        "a memory limit of {given_bytes} bytes is too small: {needed_bytes} are needed ({} MiB)",
        needed_bytes.div_ceil(MIB)
    )]
    TooSmall {
        /// The limit that was given.
        given_bytes: usize,
        /// The smallest that is accepted.
        needed_bytes: usize,
    },
}

impl MemoryError {
    /// Returns the stable code of this error.
    pub fn code(&self) -> &'static str {
        "memory-too-small"
    }
}

/// Buffers of every phase, in bytes. Made once, at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MemoryPlan {
    /// The limit that the plan is for.
    pub limit_bytes: usize,
    /// Every phase: requests to a store behind a network; 0 for a folder.
    pub request_bytes: usize,
    /// Unlock: table of the key derivation (Kopia's scrypt wants 64 MiB; with less it recomputes).
    pub unlock_bytes: usize,
    /// Strategy call: all memories and tables of a plugin together.
    pub plugin_bytes: usize,
    /// Load: one sort buffer (records and handles) of each worker.
    pub sort_buffer_bytes: usize,
    /// Load: one index blob in flight of each worker, plus as much again for ECC.
    pub blob_bytes: usize,
    /// Load: one sort buffer of system contents (manifests) of each worker; there are few.
    pub system_buffer_bytes: usize,
    /// Load and merge: names of uncompacted index blobs, as a sort buffer, kept in memory, or in
    /// the read buffers of their runs. A rescue has two sets of them, before and after.
    pub names_bytes: usize,
    /// Merge: runs open at once.
    pub merge_runs: usize,
    /// Merge: what is read at a time of one open run, in its window and ahead of it, at least. With
    /// 32 KiB, a merge of 20 million entries in 64 MiB took a tenth longer than with 128.
    pub merge_read_bytes: usize,
    /// Merge: batches of winners between the merging and the encoding thread, batches of rows
    /// behind it, and rows on their way to the disk: four of 256 KiB each.
    /// The pack names of a finished shard are sorted in as much again.
    pub pipeline_bytes: usize,
    /// Seal: pieces of an index shard on their way from scratch to the store.
    pub seal_bytes: usize,
    /// Mark: one buffer of directories as stored. Each worker has two, and one each for what ECC
    /// decodes, for what is decompressed, and inside the decompressor.
    pub read_window_bytes: usize,
    /// Mark: one sort buffer of content IDs in use, of each worker.
    pub mark_buffer_bytes: usize,
    /// Copy contents: one buffer of contents as stored, each of its reads a GET; each worker has
    /// two. With ECC half of it: the other half is what is decoded.
    pub pack_read_bytes: usize,
    /// Copy contents: the merge of their places, the sorts of the entries of two open packs (half
    /// of it each), the merge of a new index: this much each.
    pub copy_buffer_bytes: usize,
}

/// Merge: rows of a finished shard on their way to its hash, where the guess of its header was
/// wrong: a window and two pieces past the page cache.
const ROWS_AGAIN_BYTES: usize = 3 * MIB / 2;

/// Mark: what finding the directories of a level takes, and opening one large content.
const MARK_OTHER_BYTES: usize = 7 * MIB;

/// Verify contents: opening two contents that are larger than a buffer.
const VERIFY_OTHER_BYTES: usize = 3 * MIB;

/// Copy contents: write buffers of two open packs and of two on their way, pieces of two reads, all
/// past the page cache.
const COPY_OTHER_BYTES: usize = 4 * MIB;

/// Mark: sort buffer of directories to be read, of each worker.
pub const NEXT_LEVEL_BYTES: usize = MIB / 2;

impl MemoryPlan {
    /// Plans for `limit_bytes` and a repository in a folder, or says how much is needed.
    pub fn new(limit_bytes: usize) -> Result<Self, MemoryError> {
        Self::with_requests(limit_bytes, 0, FLOOR_BYTES)
    }

    /// The same for a repository behind a network.
    pub fn behind_network(limit_bytes: usize) -> Result<Self, MemoryError> {
        Self::with_requests(limit_bytes, REQUEST_BYTES, NETWORK_FLOOR_BYTES)
    }

    fn with_requests(
        limit_bytes: usize,
        request_bytes: usize,
        floor_bytes: usize,
    ) -> Result<Self, MemoryError> {
        if limit_bytes < floor_bytes {
            let (given_bytes, needed_bytes) = (limit_bytes, floor_bytes);
            return Err(MemoryError::TooSmall {
                given_bytes,
                needed_bytes,
            });
        }
        let useful = limit_bytes.min(USEFUL_BYTES);
        let held = PROCESS_BYTES + request_bytes;
        let handed = useful * PLANNED_PERCENT / 100 - held;
        // A third of the limit is worth more as page cache than as buffers (see the head).
        let buffers = handed.min(useful * 2 / 3 - held);
        let blob_bytes = BLOB_IN_MEMORY_BYTES;
        let sort_buffer_bytes = (buffers / WORKERS)
            .saturating_sub(2 * blob_bytes + MIB)
            .clamp(2 * MIB, 16 * MIB);
        let merge_read_bytes = 128 * 1024;
        let pipeline_bytes = 3 * MIB;
        let names_bytes = (useful / 32).clamp(MIB, 2 * MIB);
        let merge_runs = ((buffers - pipeline_bytes) / merge_read_bytes).min(192);
        let read_window_bytes = (limit_bytes / 64).clamp(MIB / 2, 2 * MIB);
        let mark_fixed = WORKERS * (5 * read_window_bytes + NEXT_LEVEL_BYTES) + MARK_OTHER_BYTES;
        // All of it: contents are copied past the page cache.
        let pack_read_bytes = (handed / 10).clamp(MIB, 8 * MIB);
        let copy_fixed = WORKERS * 2 * pack_read_bytes + pipeline_bytes + COPY_OTHER_BYTES;
        let copy_rest = handed.saturating_sub(copy_fixed);
        let plan = Self {
            limit_bytes,
            request_bytes,
            unlock_bytes: key_table_bytes(handed - names_bytes),
            plugin_bytes: 8 * MIB,
            sort_buffer_bytes,
            blob_bytes,
            system_buffer_bytes: 512 * 1024,
            names_bytes,
            merge_runs,
            merge_read_bytes,
            pipeline_bytes,
            seal_bytes: 2 * MIB,
            read_window_bytes,
            mark_buffer_bytes: (buffers.saturating_sub(mark_fixed) / WORKERS).clamp(MIB, 16 * MIB),
            pack_read_bytes,
            copy_buffer_bytes: (copy_rest / 3).clamp(MIB / 2, 8 * MIB),
        };
        assert!(
            plan.peak_bytes() <= useful * PLANNED_PERCENT / 100,
            "the plan fits into the limit"
        );
        Ok(plan)
    }

    /// Returns the phases with what each holds besides the process itself, in bytes.
    pub fn phases(&self) -> [(&'static str, Vec<(&'static str, usize)>); 8] {
        let Self {
            sort_buffer_bytes,
            blob_bytes,
            system_buffer_bytes,
            names_bytes,
            ..
        } = *self;
        let load = vec![
            ("sort buffers", WORKERS * sort_buffer_bytes),
            ("index blobs", WORKERS * 2 * blob_bytes),
            ("system contents", WORKERS * system_buffer_bytes),
            ("names", 2 * names_bytes),
        ];
        let merge = vec![
            ("runs", self.merge_runs * self.merge_read_bytes),
            ("batches", self.pipeline_bytes),
            ("pack names", self.pipeline_bytes),
            ("rows read again", ROWS_AGAIN_BYTES),
            ("names", names_bytes),
        ];
        let seal = vec![
            ("pieces", WORKERS * self.seal_bytes),
            ("names", names_bytes),
        ];
        let mark = vec![
            ("read windows", WORKERS * 5 * self.read_window_bytes),
            ("next level", WORKERS * NEXT_LEVEL_BYTES),
            ("sort buffers", WORKERS * self.mark_buffer_bytes),
            ("other", MARK_OTHER_BYTES),
        ];
        let copy = vec![
            ("contents", WORKERS * 2 * self.pack_read_bytes),
            ("places, entries and indexes", 3 * self.copy_buffer_bytes),
            ("batches", self.pipeline_bytes),
            ("packs", COPY_OTHER_BYTES),
        ];
        let verify = vec![
            ("read windows", WORKERS * 5 * self.verify_read_bytes()),
            ("places", self.copy_buffer_bytes),
            ("other", VERIFY_OTHER_BYTES),
        ];
        let mut phases = [
            (
                "unlock",
                vec![("key table", self.unlock_bytes), ("names", names_bytes)],
            ),
            (
                "strategy",
                vec![("plugin", self.plugin_bytes), ("names", names_bytes)],
            ),
            ("load and sort", load),
            ("merge and encode", merge),
            ("seal and write", seal),
            ("mark", mark),
            ("copy contents", copy),
            ("verify contents", verify),
        ];
        for (_, parts) in &mut phases {
            if self.request_bytes > 0 {
                parts.push(("requests", self.request_bytes));
            }
        }
        phases
    }

    /// Strategy call: the most that a plugin may be given instead of `plugin_bytes`, in bytes.
    pub fn plugin_bytes_max(&self) -> usize {
        let planned = self.limit_bytes.min(USEFUL_BYTES) * PLANNED_PERCENT / 100;
        planned.saturating_sub(PROCESS_BYTES + self.request_bytes + self.names_bytes)
    }

    /// Returns the largest of the phases with these names, the process included, in bytes.
    pub fn largest_of(&self, names: &[&str]) -> usize {
        let phases = self.phases();
        let named = phases.iter().filter(|(name, _)| names.contains(name));
        let bytes = named.map(|(_, parts)| phase_bytes(parts));
        bytes.max().unwrap_or(PROCESS_BYTES)
    }

    /// Verify contents: one buffer of contents as stored, in bytes. Each worker has two, and one
    /// each for what ECC decodes, for what is decompressed, and inside the decompressor.
    pub fn verify_read_bytes(&self) -> usize {
        self.pack_read_bytes / 2
    }

    /// Compiling a plugin: what the child process that does it may hold beside this one, in bytes.
    /// No request is in flight then.
    pub fn compile_bytes(&self) -> usize {
        self.limit_bytes / 100 * PLANNED_PERCENT - PROCESS_BYTES - self.names_bytes
    }

    /// Returns the largest phase, the process included, in bytes.
    pub fn peak_bytes(&self) -> usize {
        let phases = self.phases();
        let phases = phases.iter().map(|(_, parts)| phase_bytes(parts));
        phases.max().unwrap_or(0)
    }
}

/// Returns what a phase holds, the process included.
fn phase_bytes(parts: &[(&'static str, usize)]) -> usize {
    PROCESS_BYTES + parts.iter().map(|(_, bytes)| bytes).sum::<usize>()
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "memory plan for a limit of {} MiB:",
            self.limit_bytes / MIB
        )?;
        for (phase, parts) in self.phases() {
            let bytes = phase_bytes(&parts);
            let process = PROCESS_BYTES / MIB;
            let total = bytes.div_ceil(MIB);
            write!(f, "  {phase:<18} {total:>4} MiB: process {process}")?;
            for (part, bytes) in parts {
                write!(f, ", {part} {:.1}", bytes as f64 / MIB as f64)?;
            }
            writeln!(f)?;
        }
        write!(
            f,
            "  {:<18} {:>4} MiB",
            "kernel and cache",
            (self.limit_bytes - self.peak_bytes()) / MIB
        )
    }
}

/// Returns the largest table of Kopia's scrypt that fits: all of its 64 MiB, or every 2nd, 4th, 8th
/// or 16th block of it, from which the others are computed again.
fn key_table_bytes(handed_bytes: usize) -> usize {
    let tables = [64, 32, 16, 8, 4].map(|mib| mib * MIB);
    let fits = tables.into_iter().find(|bytes| *bytes <= handed_bytes);
    fits.unwrap_or(4 * MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every limit from the floor up gives a plan that fits; method: all limits in steps of a
    /// MiB.
    #[test]
    fn every_limit_from_the_floor_up_fits() {
        let folder = (FLOOR_BYTES / MIB..4096).map(|mib| (mib, MemoryPlan::new(mib * MIB)));
        let network = (NETWORK_FLOOR_BYTES / MIB..4096)
            .map(|mib| (mib, MemoryPlan::behind_network(mib * MIB)));
        for (mib, plan) in folder.chain(network) {
            let plan = plan.unwrap();
            assert!(
                plan.peak_bytes() <= mib * MIB * PLANNED_PERCENT / 100,
                "{mib} MiB: {plan}"
            );
            assert!(
                plan.merge_runs >= 16,
                "{mib} MiB: fan-in {}",
                plan.merge_runs
            );
            assert!(plan.unlock_bytes >= 4 * MIB, "{mib} MiB");
            // What the built-in strategies need.
            assert!(plan.compile_bytes() >= 14 * MIB, "{mib} MiB");
        }
    }

    #[test]
    fn a_smaller_limit_is_refused_with_the_number_that_is_needed() {
        let refused = MemoryPlan::new(FLOOR_BYTES - 1).unwrap_err();
        assert!(
            refused.to_string().contains(&FLOOR_BYTES.to_string()),
            "{refused}"
        );
    }
}
