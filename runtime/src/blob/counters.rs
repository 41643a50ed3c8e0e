//! What was asked of a storage: requests and bytes by kind, for reports and for what a task cost.
//! No memory cost.

use std::fmt;

use bytesize::ByteSize;

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
