//! Index compaction against real Kopia, on the same repositories in the same run.
//!
//! `cargo bench -p tests --bench index` measures two small repositories in a minute;
//! `-- --full` those of the README, which take Kopia some minutes, `-- --entries N` those with N
//! entries. Every program runs in a memory
//! cgroup of its own, so that its peak is the kernel's count. What each step of ours could reach on
//! this machine is measured beside it. Nothing here asserts a time.

#![allow(clippy::print_stdout)] // it is there to print

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kit::cgroup::{MemoryGroup, Run};
use kit::kopia::Kopia;

mod limits;
mod report;

const PASSWORD: &str = "static-passw0rd";

/// Longest that a single program may take.
const DEADLINE: Duration = Duration::from_secs(1800);

/// Limit that must be enough, in MiB.
const LIMIT_MIB: u64 = 64;

/// Runs of careen of which the middle one counts; Kopia runs once.
const RUNS: usize = 3;

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
    run: Option<Run>,
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
    let careen = build_careen();
    let kopia = kit::kopia::newest();
    limits::print();
    let shapes = if full || only.is_some() {
        &FULL[..]
    } else {
        &SMALL[..]
    };
    let wanted = |shape: &&Shape| only.is_none_or(|entries| shape.entries == entries);
    for shape in shapes.iter().filter(wanted) {
        bench(&careen, kopia, shape);
    }
}

fn bench(careen: &Path, kopia: Option<&Kopia>, shape: &Shape) {
    let work = tempfile::tempdir().expect("a temporary directory");
    let source = work.path().join("source");
    make(careen, &source, shape);
    let mut rows = Vec::new();
    if let Some(kopia) = kopia {
        rows.push(with_kopia(kopia, &source, work.path()));
    }
    for (name, limit) in [
        ("careen, no limit", None),
        ("careen, 64 MiB", Some(LIMIT_MIB)),
    ] {
        let mut runs: Vec<Run> = (0..RUNS)
            .filter_map(|_| with_careen(careen, &source, work.path(), limit))
            .collect();
        runs.sort_by_key(|run| run.wall);
        let middle = runs.len() / 2;
        let run = (!runs.is_empty()).then(|| runs.swap_remove(middle));
        rows.push(Measured {
            name: name.to_owned(),
            run,
        });
    }
    println!("\n{} entries in {} index blobs", shape.entries, shape.blobs);
    report::print(&rows);
}

/// Builds the program as it is released and returns where it is.
fn build_careen() -> PathBuf {
    if let Some(named) = std::env::var_os("CAREEN_BINARY") {
        return named.into();
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "-p", "careen"])
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "careen does not build"
    );
    let own = std::env::current_exe().expect("this program has a path");
    let folder = own
        .ancestors()
        .nth(2)
        .expect("it lies in target/release/deps");
    folder.join("careen")
}

fn make(careen: &Path, source: &Path, shape: &Shape) {
    let made = Command::new(careen)
        .args(["demo", "--no-run", "--entries", &shape.entries.to_string()])
        .args(["--index-blobs", &shape.blobs.to_string(), "--keep"])
        .arg(source)
        .env("KOPIA_PASSWORD", PASSWORD)
        .output();
    assert!(
        made.is_ok_and(|made| made.status.success()),
        "the repository is not made"
    );
}

/// Copies the repository and brings it to the disk; the copy stays in the page cache.
fn copy(source: &Path, work: &Path) -> PathBuf {
    let copy = work.join("copy");
    let _ = std::fs::remove_dir_all(&copy);
    let copied = Command::new("cp").arg("-a").arg(source).arg(&copy).status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "the repository is not copied"
    );
    let _ = Command::new("sync").status();
    copy
}

fn with_careen(careen: &Path, source: &Path, work: &Path, limit: Option<u64>) -> Option<Run> {
    let repository = copy(source, work);
    let group = MemoryGroup::new_or_say(limit.map(|mib| mib << 20))?;
    let memory = format!("{}MiB", limit.unwrap_or(512));
    let mut command = group.command(careen);
    command
        .args([
            "index",
            "compact",
            "--json",
            "--memory",
            &memory,
            "--scratch",
        ])
        .arg(work.join("scratch"))
        .arg(&repository)
        .env("KOPIA_PASSWORD", PASSWORD);
    group.run(&mut command, DEADLINE).ok()
}

/// Kopia compacts one settled epoch in a quick run: the same work.
fn with_kopia(kopia: &Kopia, source: &Path, work: &Path) -> Measured {
    let name = format!("{kopia}, no limit");
    let repository = copy(source, work);
    let run = kopia
        .connect(&repository, PASSWORD, "default@default")
        .ok()
        .and_then(|client| {
            let group = MemoryGroup::new_or_say(None)?;
            let inner = client.command(&["maintenance", "run", "--no-full"]);
            let mut command = group.command(inner.get_program());
            command.args(inner.get_args());
            for (name, value) in inner.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            group.run(&mut command, DEADLINE).ok()
        });
    Measured { name, run }
}
