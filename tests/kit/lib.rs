//! The kit of the suites: golden repositories, real Kopia, an independent reader, a memory cgroup.
//!
//! Nothing here judges; it prepares, runs and reports, so that a suite reads like its claim. Every
//! directory made is temporary and goes away with its value. Where something is missing on the
//! machine (Kopia, Python modules, a cgroup) the kit says so once, in one line, and the suite
//! passes on what there is.

use std::path::{Path, PathBuf};

pub mod aging;
pub mod cgroup;
pub mod checker;
pub mod contents;
pub mod cycle;
pub mod data_dir;
pub mod golden;
pub mod image;
pub mod index_work;
pub mod kopia;

pub mod kubelet;
pub mod kubernetes;
pub mod manifests;
mod notice;
pub mod object_stores;
pub mod program;
pub mod programs;
pub mod timed_store;
pub mod world;

pub use notice::say_once;

/// Returns the root of the workspace: the folder of `Cargo.toml`, `runtime/`, `tests/`.
pub fn workspace_root() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests/ lies in the workspace")
}

/// Returns a folder on a disk, whatever the system's temporary directory is.
///
/// # Panics
///
/// When it cannot be made.
pub fn disk() -> PathBuf {
    let disk = workspace_root().join("target/suite-scratch");
    std::fs::create_dir_all(&disk).expect("a folder below target/ can be made");
    disk
}

/// Returns the path of a file or folder under `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    workspace_root().join("tests/fixtures").join(name)
}
