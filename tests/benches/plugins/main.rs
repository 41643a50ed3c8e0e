//! What plugins cost: a start, a row, a million snapshots, and their share of a full run, beside
//! what they may cost.
//!
//! `cargo bench -p tests --bench plugins` takes about a minute. Plugins are the built-in ones,
//! loaded through the same door as any other: compiled by the released program in a child process,
//! kept in a cache, checked, linked.
//! Nothing here asserts a time; a figure above its target is marked.

#![allow(clippy::print_stdout)] // it is there to print

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use careen::plugin::{CompileLimits, PluginOptions};
use kit::programs;

mod greedy;
mod resident;
mod rows;
mod share;
mod starts;

/// Times a start is measured; the one in the middle counts.
const STARTS: usize = 51;

fn main() {
    // Cargo runs benchmarks as tests too: there they only have to build.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let careen = programs::build_careen();
    let work = tempfile::tempdir().expect("a temporary directory");
    let home = Home {
        careen,
        cache: work.path().join("cache"),
    };
    println!("{:<58} {:>12} {:>12}", "", "measured", "at most");
    starts::measure(&home);
    rows::measure(&home);
    greedy::measure(&home);
    share::measure(&home, work.path());
}

/// Where plugins are compiled and kept.
struct Home {
    careen: PathBuf,
    cache: PathBuf,
}

impl Home {
    /// Returns a plugin's options with this home.
    fn options(&self, plugin: PluginOptions) -> PluginOptions {
        PluginOptions {
            cache_directory: Some(self.cache.clone()),
            compile: CompileLimits {
                program: Some(self.careen.clone()),
                ..CompileLimits::default()
            },
            ..plugin
        }
    }

    fn careen(&self) -> &Path {
        &self.careen
    }
}

/// Prints a figure beside its target.
fn row(name: &str, measured: String, target: &str, is_met: bool) {
    let mark = if is_met { "" } else { "  MISSED" };
    println!("{name:<58} {measured:>12} {target:>12}{mark}");
}

/// Prints a figure that has no target.
fn note(name: &str, measured: String) {
    println!("{name:<58} {measured:>12}");
}

/// Measures `each` several times; returns the time in the middle.
fn middle(times: usize, mut each: impl FnMut()) -> Duration {
    let mut taken: Vec<Duration> = (0..times)
        .map(|_| {
            let started = Instant::now();
            each();
            started.elapsed()
        })
        .collect();
    taken.sort_unstable();
    taken[times / 2]
}
