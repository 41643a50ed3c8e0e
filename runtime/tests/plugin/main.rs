//! The plugin floor against honest and hostile plugins. Every test loads a component, asks it, and
//! looks at the answer or the error's code; after each attack the host must be able to ask again.
//!
//! The compiler runs as a child of the real `careen` program, with its real limits.
#![cfg(feature = "plugins")]
#![allow(clippy::unwrap_used)]

mod about;
mod attacks;
mod builtin;
mod code;
mod commands;
mod evolution;
mod examples;
mod kit;
mod packs;
mod program;
mod refused;
mod retention;
mod scheduling;
mod tenants;

/// Guests for the world `splitting`.
mod component {
    pub(crate) use guests::answers::splits as answer;
    pub(crate) use guests::splitting::{Guest, SPLIT, repacking, splitting};
}

/// Guests for the other worlds.
mod world {
    pub(crate) use guests::answers::stores;
    pub(crate) use guests::worlds::{Guest, retaining, scheduling};
}

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use careen::maintenance::strategy::{EpochRow, SplittingQuestion};
use careen::plugin::{
    CompileLimits, PluginError, PluginOptions, PluginSource, SplittingPlugin, load,
};

/// A cache that all tests of this run share, so that each guest is compiled once.
fn shared_cache() -> &'static Path {
    static DIRECTORY: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIRECTORY
        .get_or_init(|| tempfile::tempdir().unwrap())
        .path()
}

/// Options with the real compiler child.
fn options(source: PluginSource) -> PluginOptions {
    PluginOptions {
        source,
        cache_directory: Some(shared_cache().into()),
        compile: CompileLimits {
            program: Some(PathBuf::from(env!("CARGO_BIN_EXE_careen"))),
            ..CompileLimits::default()
        },
        ..PluginOptions::default()
    }
}

/// Writes a component to a file and loads it.
fn load_wasm(
    wasm: &[u8],
    change: impl FnOnce(&mut PluginOptions),
) -> Result<SplittingPlugin, PluginError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("guest.wasm");
    std::fs::write(&path, wasm).unwrap();
    let mut options = options(PluginSource::File { path, blake3: None });
    change(&mut options);
    load(options)
}

/// A question with `rows` epochs above epoch 8.
fn question(rows: u32) -> SplittingQuestion {
    SplittingQuestion {
        write_epoch: 8 + rows + 1,
        chain_end: 8,
        last_settled: (rows > 0).then(|| 8 + rows - 1),
        full_checkpoint_frequency: 7,
        shard_entries_max: 16_000_000,
        epochs: (0..rows)
            .map(|row| EpochRow {
                epoch: 8 + row,
                blobs: 3,
                bytes: 1 << 33,
                compacted: row % 2 == 0,
            })
            .collect(),
    }
}
