//! Careen: maintenance of Kopia repositories that ends, in the memory it is given.
//!
//! The house has floors. Imports go down only, siblings do not import each other (a test checks
//! it):
//!
//! ```text
//! 6  cli          arguments, terminal, exit codes, reports        the only floor that prints
//! 5  plugin       wasmtime host, implements the strategy traits   velero   in Kubernetes
//! 4  maintenance  one file per Kopia task, safety, order; owns the strategy traits
//! 3  repository   an opened repository: epochs, index, manifests; readers and writers
//! 2  blob         storage as Kopia sees it; the only floor that awaits
//! 1  kopia        the format: bytes in, values out, no I/O        spill    external sort, scratch
//! 0  memory       limit and plan         clock                    progress
//! ```
//!
//! The one idea: everything a task needs is a stream sorted by content ID or pack blob ID, made by
//! one external sorter and combined by merges. Nothing held in memory grows with the repository.

pub mod blob;
pub mod cli;
pub mod clock;
pub mod kopia;
pub mod maintenance;
pub mod memory;
#[cfg(feature = "plugins")]
pub mod plugin;
pub mod progress;
pub mod repository;
pub mod spill;
#[cfg(feature = "velero")]
pub mod velero;
