//! Full maintenance against real Kopia, on the same repositories in the same run.
//!
//! `cargo bench -p tests --bench full` measures two small repositories in a few minutes;
//! `-- --full` those that the promise is about, of which Kopia takes the largest in some twenty
//! minutes; `-- --only NAME` one of them or of the huge ones, `-- --no-kopia` careen alone. For
//! each repository a full run without safety margins (nobody else is there), then one more right
//! after it, with next to nothing to do, both on what careen has left. Every program runs in a
//! memory cgroup of its own, so that its peak is the kernel's count. Nothing here asserts a time.

#![allow(clippy::print_stdout)] // it is there to print

use std::path::Path;

use kit::cgroup::Run;
use kit::kopia::Kopia;
use kit::programs::{self, Programs, event};
use serde_json::Value;

mod shapes;

use shapes::{FULL, HUGE, SMALL, Shape};

/// Limit that must be enough, in MiB.
const LIMIT_MIB: u64 = 64;

/// The work.
const CAREEN: [&str; 5] = ["run", "--mode", "full", "--safety", "none"];
const KOPIA: [&str; 4] = ["maintenance", "run", "--full", "--safety=none"];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let is_given = |option: &str| arguments.iter().any(|argument| argument == option);
    // Cargo runs benchmarks as tests too: there they only have to build.
    if is_given("--test") {
        return;
    }
    let only = arguments.windows(2).find(|pair| pair[0] == "--only");
    let only = only.map(|pair| pair[1].as_str());
    let careen = programs::build_careen();
    let kopia = match is_given("--no-kopia") {
        true => None,
        false => kit::kopia::newest(),
    };
    let shapes: Vec<Shape> = match only {
        Some(name) => {
            let all = SMALL.iter().chain(&FULL).chain(&HUGE).copied();
            all.filter(|shape| shape.name == name).collect()
        }
        None if is_given("--full") => FULL.to_vec(),
        None => SMALL.to_vec(),
    };
    assert!(!shapes.is_empty(), "no repository has this name");
    for shape in &shapes {
        bench(&careen, kopia, shape);
    }
}

/// Measures both runs on one repository.
fn bench(careen: &Path, kopia: Option<&Kopia>, shape: &Shape) {
    let work = tempfile::tempdir().expect("a temporary directory");
    let programs = Programs::new(careen, work.path());
    let options = shape.options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let made = programs.make(&options);
    let made = made.map_or(String::new(), |report| made_words(&report));
    println!("\n{}{made}\n{}", shape.describe(), programs::head());
    let kopia = kopia.filter(|_| shape.compared);
    measure(&programs, kopia, shape, "");
    programs.go_on_with_copy();
    measure(&programs, kopia, shape, ", again");
}

/// Measures all programs on the repository as it is; careen in the limit comes last.
fn measure(programs: &Programs<'_>, kopia: Option<&Kopia>, shape: &Shape, suffix: &str) {
    let base = kopia.map(|kopia| {
        let run = programs.kopia(kopia, &KOPIA, false);
        let row = programs::row(&format!("{kopia}{suffix}"), run.as_ref(), None, "");
        println!("{row}");
        run
    });
    let base = base.flatten().filter(|run| run.status.success());
    let limits: &[_] = match shape.compared {
        true => &[("no limit", None), ("64 MiB", Some(LIMIT_MIB))],
        false => &[("64 MiB", Some(LIMIT_MIB))],
    };
    for (limit, mib) in limits {
        let run = match shape.once {
            true => programs.careen(&CAREEN, *mib, false),
            false => programs.careen_middle(&CAREEN, *mib, false, |_| ()),
        };
        let name = format!("careen, {limit}{suffix}");
        let more = run.as_ref().and_then(requests).unwrap_or_default();
        let row = programs::row(&name, run.as_ref(), base.as_ref(), &more);
        println!("{row}");
        if let Some(run) = &run {
            println!("{}", tasks(run));
        }
    }
}

/// Returns what the generator has made, in words.
fn made_words(report: &Value) -> String {
    let number = |field: &str| report[field].as_u64().unwrap_or(0);
    format!(
        "\n{} contents in {} packs of {:.0} MB, {} index blobs",
        number("contents"),
        number("packs"),
        number("pack_bytes") as f64 / 1e6,
        number("index_blobs"),
    )
}

/// Returns the requests that careen has counted.
fn requests(run: &Run) -> Option<String> {
    let report = event(run, "report")?;
    let requests = &report["report"]["requests"];
    let number = |field: &str| requests[field].as_u64();
    Some(format!(
        "   {} GETs ({:.0} MB), {} LISTs, {} PUTs ({:.0} MB), {} DELETEs",
        number("gets")?,
        number("bytes_read")? as f64 / 1e6,
        number("lists")?,
        number("puts")?,
        number("bytes_written")? as f64 / 1e6,
        number("deletes")?,
    ))
}

/// Returns where the time went: the tasks that took some.
fn tasks(run: &Run) -> String {
    let stdout = run.stdout_text();
    let ended = stdout.lines().filter_map(|line| {
        let event: Value = serde_json::from_str(line).ok()?;
        let seconds = event["seconds"].as_f64().filter(|s| *s >= 0.005)?;
        let task = event["task"].as_str()?;
        (event["state"] == "ended").then(|| format!("{task} {seconds:.2}"))
    });
    let ended: Vec<String> = ended.collect();
    format!("    {}", ended.join(", "))
}
