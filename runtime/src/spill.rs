//! External sort and merge: the floor that everything larger than memory stands on.
//!
//! A record is a byte string of fixed width whose **bytewise order is the sort order**; the caller
//! encodes its keys so. Nothing here knows of Kopia. [`Scratch`] is the disk, [`Sorter`] takes
//! records from several threads and leaves sorted [`Runs`], [`Merge`] reads them back as one
//! ascending stream.
//!
//! Memory is fixed when a sorter is made: [`SortMemory`] says how much each phase holds, nothing
//! grows with the number of records but a few bytes for each run. A sort that fits stays in memory
//! and never touches the disk. No clock, no randomness, no environment: all of it is passed in.

mod books;
mod copy;
mod cursor;
mod disk;
pub mod error;
mod handles;
pub mod join;
pub mod mapped;
pub mod merge;
mod read_ahead;
mod run;
mod run_directory;
mod runs;
mod samples;
pub mod scratch;
mod scratch_file;
mod sequential;
mod shape;
pub mod shelf;
mod sort_buffer;
#[cfg(test)]
mod sort_tests;
pub mod sorter;

pub use copy::copy_record;
pub use disk::{BLOCK_BYTES, Block};
pub use error::SpillError;
pub use mapped::MappedU32;
pub use merge::{Merge, MergeOptions};
pub use scratch::{Scratch, ScratchFile, ScratchOptions, SequentialReader, SequentialWriter};
pub use shelf::{SHELF_TABLE_BYTES, ShelfPlace};
pub use sorter::{Group, RunWriter, Runs, SortBuffer, SortMemory, SortShape, Sorter};
