//! What was asked of a storage: requests and bytes by kind, for reports and for what a task cost.
//! No memory cost.

use std::fmt;
use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};

use bytesize::ByteSize;

use crate::kopia::blob_id::BlobId;

/// What was asked of the storage so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Reads of bytes or metadata.
    pub gets: u64,
    /// Pages of listings, and scans.
    pub lists: u64,
    /// Puts.
    pub puts: u64,
    /// Deletions.
    pub deletes: u64,
    /// Bytes that gets gave.
    pub bytes_read: u64,
    /// Bytes that successful puts took.
    pub bytes_written: u64,
}

impl Counters {
    /// Returns the sum with `more`.
    pub fn plus(&self, more: &Self) -> Self {
        Self {
            gets: self.gets + more.gets,
            lists: self.lists + more.lists,
            puts: self.puts + more.puts,
            deletes: self.deletes + more.deletes,
            bytes_read: self.bytes_read + more.bytes_read,
            bytes_written: self.bytes_written + more.bytes_written,
        }
    }

    /// Returns what was asked since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            gets: self.gets - before.gets,
            lists: self.lists - before.lists,
            puts: self.puts - before.puts,
            deletes: self.deletes - before.deletes,
            bytes_read: self.bytes_read - before.bytes_read,
            bytes_written: self.bytes_written - before.bytes_written,
        }
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} GET ({}), {} LIST, {} PUT ({}), {} DELETE",
            self.gets,
            ByteSize(self.bytes_read),
            self.lists,
            self.puts,
            ByteSize(self.bytes_written),
            self.deletes
        )
    }
}

impl Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            gets: self.gets + other.gets,
            lists: self.lists + other.lists,
            puts: self.puts + other.puts,
            deletes: self.deletes + other.deletes,
            bytes_read: self.bytes_read + other.bytes_read,
            bytes_written: self.bytes_written + other.bytes_written,
        }
    }
}

/// What was asked of the storage so far, by what the blobs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CountersByBlob {
    /// Blobs of the index, with epochs or without.
    pub index: Counters,
    /// Packs of data.
    pub data_packs: Counters,
    /// Packs of directories and manifests.
    pub metadata_packs: Counters,
    /// Format, schedule, session markers, logs; listings of all.
    pub other: Counters,
}

impl CountersByBlob {
    /// Returns the sum.
    pub fn sum(&self) -> Counters {
        self.index + self.data_packs + self.metadata_packs + self.other
    }
}

/// Counters that several threads count with.
#[derive(Default)]
pub(super) struct Counts {
    gets: AtomicU64,
    lists: AtomicU64,
    puts: AtomicU64,
    deletes: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

impl Counts {
    pub(super) fn asks_for_bytes(&self) {
        self.gets.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn has_read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn lists(&self) {
        self.lists.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn puts(&self) {
        self.puts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn has_written(&self, bytes: u64) {
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn deletes(&self) {
        self.deletes.fetch_add(1, Ordering::Relaxed);
    }

    fn told(&self) -> Counters {
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            gets: number(&self.gets),
            lists: number(&self.lists),
            puts: number(&self.puts),
            deletes: number(&self.deletes),
            bytes_read: number(&self.bytes_read),
            bytes_written: number(&self.bytes_written),
        }
    }
}

/// The same for each kind of blob.
#[derive(Default)]
pub(super) struct CountsByBlob {
    index: Counts,
    data_packs: Counts,
    metadata_packs: Counts,
    other: Counts,
}

impl CountsByBlob {
    /// Returns what counts for a blob.
    pub(super) fn of(&self, id: &BlobId) -> &Counts {
        self.below(id.as_str())
    }

    /// Returns what counts for the blobs whose names begin so.
    pub(super) fn below(&self, prefix: &str) -> &Counts {
        match prefix.as_bytes().first() {
            Some(b'x' | b'n') => &self.index,
            Some(b'p') => &self.data_packs,
            Some(b'q') => &self.metadata_packs,
            _ => &self.other,
        }
    }

    pub(super) fn told(&self) -> CountersByBlob {
        CountersByBlob {
            index: self.index.told(),
            data_packs: self.data_packs.told(),
            metadata_packs: self.metadata_packs.told(),
            other: self.other.told(),
        }
    }
}
