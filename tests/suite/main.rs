//! All suites in one binary: each module begins with what it claims and how it shows it.
//!
//! A file that is not listed here would never run, so `tidy` fails on it. Suites that need
//! something of the machine (Kopia, Python modules, a cgroup) say once in one line when it is not
//! there.

// Everything in this binary is a test, its builders too; clippy knows only functions marked
// `#[test]`.
#![allow(clippy::unwrap_used)]

mod cluster;
mod damaged;
mod golden_state;
mod histories;
mod hostile;
mod image;
mod index_v0;
mod judges;
mod kill;
mod kopia_oracle;
mod memory_cgroup;
mod merge_model;
mod model_repository;
mod object_stores;
mod packs;
mod recordings;
mod requests;
mod retention;
mod run_protocol;
mod scheduling;
mod snapshot_gc;
mod tenants;
mod tidy;
mod velero;
mod verify;
mod watermark;
