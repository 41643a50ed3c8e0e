//! What a task tells while it works. The floors below `cli` call these; only `cli` shows them.
//!
//! A task has one current step with a unit and, where known, a total. Beside the steps, threads
//! tell how long they worked on which part of index work, so that the slowest part is seen. No
//! memory cost.

use std::time::Duration;

/// Listens to the progress of tasks. Calls come from several threads, some thousand a second at
/// most; `busy` of index blobs some ten thousand.
pub trait Progress: Send + Sync {
    /// A step begins; `total` is in `unit`s, where it is known.
    fn begin(&self, step: &str, unit: &str, total: Option<u64>);
    /// The current step has come `amount` units further.
    fn advance(&self, amount: u64);
    /// The current step has ended.
    fn end(&self);
    /// A thread has worked on `part` for `time`, waits for other threads left out.
    fn busy(&self, _part: Part, _time: Duration) {}
}

/// The parts of index work, in the order in which bytes pass through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Listing the index, and sorting the names.
    List,
    /// Bytes of blobs from the store.
    Read,
    /// Opening blobs and verifying their tags, with ECC decoding it.
    Decrypt,
    /// Entries of index blobs become records, which are sorted.
    Decode,
    /// Sorted records become one stream.
    Merge,
    /// Winners become rows of an index blob; its pack names are sorted.
    Encode,
    /// Hashing plaintexts, those included that are read from scratch once more for it.
    Hash,
    /// Finished rows are read from scratch on their way to the store.
    Reread,
    /// Sealing plaintexts, with ECC making the parity.
    Encrypt,
    /// Rows and opened blobs go to scratch, sealed blobs to the store.
    Write,
}

impl Part {
    /// All parts, in order.
    pub const ALL: [Self; 10] = [
        Self::List,
        Self::Read,
        Self::Decrypt,
        Self::Decode,
        Self::Merge,
        Self::Encode,
        Self::Hash,
        Self::Reread,
        Self::Encrypt,
        Self::Write,
    ];

    /// Returns the name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Read => "read",
            Self::Decrypt => "decrypt",
            Self::Decode => "decode",
            Self::Merge => "merge",
            Self::Encode => "encode",
            Self::Hash => "hash",
            Self::Reread => "reread",
            Self::Encrypt => "encrypt",
            Self::Write => "write",
        }
    }
}

/// Listens to nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_listed_by_their_numbers() {
        for (number, part) in Part::ALL.into_iter().enumerate() {
            assert_eq!(part as usize, number, "{}", part.name());
        }
    }
}
