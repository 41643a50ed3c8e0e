//! Storage as Kopia sees it: a flat set of named blobs, each with a length and a storage timestamp.
//!
//! What every store promises, and Kopia relies on: a put is whole or not there, and durable when it
//! returns; gets and lists show what was put before; timestamps do not run backwards beyond a small
//! skew. Timestamps are the storage's; every age of a blob is measured with them. This is the only
//! floor that awaits: upper floors call the blocking [`Storage`] from plain threads.
//!
//! Memory: a listing holds one page, a put one piece of its source. Mirrors Kopia's `repo/blob`.

mod counters;
mod error;
mod guard;
mod local;
mod memory;
#[cfg(feature = "object-stores")]
pub mod object;
mod parts;
mod retry;
mod simulated;
mod source;
mod storage;
mod store;
mod throttled;
mod traffic;
mod version;

#[cfg(test)]
mod contract;

pub use counters::{Counters, CountersByBlob};
pub use error::BlobError;
pub use guard::Guard;
pub use local::{LocalOptions, LocalStore};
pub use memory::{MemorySnapshot, MemoryStore};
pub use parts::BlobPart;
pub use retry::{RetryPolicy, RetryingStore};
pub use simulated::{Delays, SimulatedStore, SimulationOptions};
pub use source::{BlobSource, BytesSource, PIECE_BYTES, copy_source, md5_of};
pub use storage::{OpenPut, Storage};
pub use store::{
    BlobMetadata, BlobStore, LIST_PAGE_MAX, OpenBlob, PutOptions, Retention, ScannedBlob,
    scan_by_pages,
};
pub use throttled::{StorageLimits, ThrottledStore};
pub use traffic::Traffic;
pub use version::{BlobVersion, Replaced};
