//! Maintenance in an object store against the same in a folder, and against real Kopia in the same
//! store.
//!
//! `cargo bench -p tests --bench object_stores` takes some minutes; `-- --full` larger repositories
//! and Kopia at every latency, `-- --only NAME` one repository, `-- --no-kopia` careen alone.
//! SeaweedFS runs on loopback; a proxy before it makes the way longer and counts, for both programs
//! alike. Careen runs in a memory cgroup of 64 MiB, Kopia without a limit and with an empty cache,
//! each on a fresh copy. `curl` shows what the server takes for the same GETs and PUTs by itself,
//! which may be more than the work in a folder. Nothing here asserts a time.

#![allow(clippy::print_stdout)] // it is there to print

use std::path::Path;
use std::time::Duration;

use kit::kopia::Kopia;
use kit::object_stores::s3;
use kit::programs::{self, Programs};

mod limits;
mod shapes;
mod table;
mod there;

use shapes::{FULL, SMALL, Shape};
use table::Row;
use there::There;

/// Limit that must be enough, in MiB.
const LIMIT_MIB: u64 = 64;

/// Time that every request takes longer, in milliseconds.
const LATENCIES: [u64; 3] = [0, 20, 100];

/// Runs at no latency of which the middle one counts.
const RUNS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let is_given = |option: &str| arguments.iter().any(|argument| argument == option);
    // Cargo runs benchmarks as tests too: there they only have to build.
    if is_given("--test") {
        return;
    }
    let Some(_) = s3() else {
        println!("without SeaweedFS there is nothing to measure");
        return;
    };
    let only = arguments.windows(2).find(|pair| pair[0] == "--only");
    let only = only.map(|pair| pair[1].as_str());
    let careen = programs::build_careen();
    let kopia = match is_given("--no-kopia") {
        true => None,
        false => kit::kopia::newest(),
    };
    let all = SMALL.iter().chain(&FULL);
    let shapes: Vec<&Shape> = match only {
        Some(name) => all.filter(|shape| shape.name == name).collect(),
        None if is_given("--full") => FULL.iter().collect(),
        None => SMALL.iter().collect(),
    };
    assert!(!shapes.is_empty(), "no repository has this name");
    let every = is_given("--full");
    for shape in shapes {
        bench(&careen, kopia, shape, every);
    }
}

/// Measures everything on one repository; `every`: Kopia at every latency.
fn bench(careen: &Path, kopia: Option<&Kopia>, shape: &Shape, every: bool) {
    let work = tempfile::tempdir().expect("a temporary directory");
    let programs = Programs::new(careen, work.path());
    programs.make(shape.made_by);
    there::touch(programs.source());
    let there = There::new(careen, programs.source(), work.path());
    println!("\n{}: {}\n{}", shape.name, shape.about, table::head());
    let local = programs.careen_middle(shape.careen, Some(LIMIT_MIB), false, |_| ());
    let base = local.as_ref().map(|run| run.wall);
    let show = |row: &Row| println!("{}", row.line(base));
    show(&Row::of_folder("careen, folder", local));
    let mut runs: Vec<Row> = (0..RUNS)
        .map(|_| there.careen("careen, S3", shape.careen, None))
        .collect();
    runs.sort_by_key(Row::wall);
    show(&runs[RUNS / 2]);
    let mut rows = Vec::new();
    for milliseconds in LATENCIES {
        let delay = Some(Duration::from_millis(milliseconds));
        let name = format!("careen, S3 + {milliseconds} ms");
        rows.push(there.careen(&name, shape.careen, delay));
        show(&rows[rows.len() - 1]);
    }
    if let Some(asked) = &rows[0].asked {
        show(&there.nobody("curl, the same requests", asked));
    }
    let Some(kopia) = kopia else {
        return limits::print(&rows[0], None);
    };
    let mut theirs = None;
    for milliseconds in LATENCIES
        .iter()
        .take(if every { LATENCIES.len() } else { 1 })
    {
        let delay = Duration::from_millis(*milliseconds);
        let name = format!("{kopia}, S3 + {milliseconds} ms");
        let row = there.kopia(&name, kopia, shape.kopia, delay);
        show(&row);
        theirs.get_or_insert(row);
    }
    limits::print(&rows[0], theirs.as_ref());
}
