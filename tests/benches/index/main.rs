//! Index compaction against real Kopia, on the same repositories in the same run.
//!
//! `cargo bench -p tests --bench index` measures two small repositories in a minute;
//! `-- --full` those of the README, which take Kopia some minutes, `-- --entries N` those with N
//! entries. Every program runs in a memory
//! cgroup of its own, so that its peak is the kernel's count. Rows are with the source in the page
//! cache and, where it may be dropped, without ("cold"). What each step of ours could reach on this
//! machine is measured beside it. Nothing here asserts a time.

#![allow(clippy::print_stdout)] // it is there to print

use std::path::Path;

use kit::cgroup::Run;
use kit::kopia::Kopia;
use kit::programs::{self, Programs};

mod limits;
mod parts;
mod report;

use limits::Limits;
use parts::Sizes;
use report::Peaks;

/// Limit that must be enough, in MiB.
const LIMIT_MIB: u64 = 64;

/// The work: careen compacts the index, Kopia one settled epoch in a quick run.
const CAREEN: [&str; 2] = ["index", "compact"];
const KOPIA: [&str; 3] = ["maintenance", "run", "--no-full"];

/// A repository to make: all entries in one settled epoch.
struct Shape {
    entries: u64,
    blobs: u64,
}

const SMALL: [Shape; 2] = [
    Shape {
        entries: 500_000,
        blobs: 200,
    },
    Shape {
        entries: 60_000,
        blobs: 6_000,
    },
];

const FULL: [Shape; 6] = [
    Shape {
        entries: 5_000_000,
        blobs: 1_000,
    },
    Shape {
        entries: 10_000_000,
        blobs: 1_500,
    },
    Shape {
        entries: 20_000_000,
        blobs: 2_438,
    },
    Shape {
        entries: 646_210,
        blobs: 64_621,
    },
    Shape {
        entries: 700_210,
        blobs: 70_021,
    },
    Shape {
        entries: 2_000_000,
        blobs: 200_000,
    },
];

/// One measured program.
struct Measured {
    name: String,
    /// Whether the page cache was dropped before it.
    cold: bool,
    run: Option<Run>,
    /// The bytes of careen's work.
    sizes: Option<Sizes>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // Cargo runs benchmarks as tests too: there they only have to build.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let full = arguments.iter().any(|argument| argument == "--full");
    let only = arguments.windows(2).find(|pair| pair[0] == "--entries");
    let only: Option<u64> = only.map(|pair| pair[1].parse().expect("--entries takes a number"));
    let careen = programs::build_careen();
    let kopia = kit::kopia::newest();
    let limits = Limits::measure();
    limits.print();
    let shapes = if full || only.is_some() {
        &FULL[..]
    } else {
        &SMALL[..]
    };
    let wanted = |shape: &&Shape| only.is_none_or(|entries| shape.entries == entries);
    let mut peaks = Peaks::default();
    for shape in shapes.iter().filter(wanted) {
        let rows = bench(&careen, kopia, shape);
        println!("\n{} entries in {} index blobs", shape.entries, shape.blobs);
        report::print(&rows);
        report::print_parts(&rows, &limits);
        peaks.take(shape.entries, &rows);
    }
    peaks.print();
}

fn bench(careen: &Path, kopia: Option<&Kopia>, shape: &Shape) -> Vec<Measured> {
    let work = tempfile::tempdir().expect("a temporary directory");
    let programs = Programs::new(careen, work.path());
    let (entries, blobs) = (shape.entries.to_string(), shape.blobs.to_string());
    programs.make(&["--entries", &entries, "--index-blobs", &blobs]);
    let mut rows = Vec::new();
    for cold in [false, true] {
        if cold && !programs::drop_page_cache() {
            kit::say_once("the page cache may not be dropped here: no cold rows");
            break;
        }
        let suffix = if cold { ", cold" } else { "" };
        if let Some(kopia) = kopia {
            rows.push(Measured {
                name: format!("{kopia}, no limit{suffix}"),
                cold,
                run: programs.kopia(kopia, &KOPIA, cold),
                sizes: None,
            });
        }
        for (name, limit) in [
            ("careen, no limit", None),
            (report::LIMITED, Some(LIMIT_MIB)),
        ] {
            let mut sizes = None;
            let look = |run: &Run| sizes = Sizes::of(&programs, run);
            let run = programs.careen_middle(&CAREEN, limit, cold, look);
            rows.push(Measured {
                name: format!("{name}{suffix}"),
                cold,
                run,
                sizes,
            });
        }
    }
    rows
}
