//! The format of a Kopia repository: bytes in, values out. No I/O, no async, no clock, no
//! randomness.
//!
//! Everything here is checked against the format's reference vectors and against real repositories.
//! Input may be hostile: no decoder panics, allocates by a number that it has not checked, or reads
//! past its input.

pub mod blob_id;
pub mod compaction_log;
pub mod complete_set;
pub mod compression;
pub mod content_id;
pub mod directory;
pub mod ecc;
pub mod encryption;
mod error;
pub mod format_blob;
pub mod hashing;
pub mod index_blob;
pub mod index_builder;
pub mod indirect_object;
mod json_stream;
pub mod key_derivation;
pub mod maintenance_params;
pub mod manifest;
pub mod object_id;
pub mod pack;
pub mod policy;
mod reed_solomon;
pub mod schedule;
mod scrypt;
pub mod sealed_blob;
pub mod snapshot_manifest;
pub mod upgrade_lock;

pub use error::FormatError;
