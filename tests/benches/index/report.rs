//! The table of the benchmark, with the steps of each run, and the peaks beside each other.
//!
//! The rows themselves are the kit's.

use kit::cgroup::Run;
use kit::programs::{self, head};

use crate::limits::Limits;
use crate::{Measured, parts};

const MIB: u64 = 1 << 20;

/// Name of the rows in the limit that must be enough.
pub(crate) const LIMITED: &str = "careen, 64 MiB";

/// Prints the table; every row is compared with the Kopia row before it.
pub(crate) fn print(rows: &[Measured]) {
    println!("{}", head());
    let mut base = None;
    for row in rows {
        if row.name.starts_with("Kopia") {
            base = row.run.as_ref().filter(|run| run.status.success());
        }
        let more = row.run.as_ref().map(phases).unwrap_or_default();
        println!(
            "{}",
            programs::row(&row.name, row.run.as_ref(), base, &more)
        );
    }
}

/// Returns the steps that the program told of, with their seconds.
fn phases(run: &Run) -> String {
    let stdout = run.stdout_text();
    let steps = stdout.lines().filter_map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        let ended = event.get("state")?.as_str()? == "ended";
        let (step, seconds) = (
            event.get("step")?.as_str()?,
            event.get("seconds")?.as_f64()?,
        );
        ended.then(|| format!("{step} {seconds:.2}"))
    });
    let steps: Vec<String> = steps.collect();
    if steps.is_empty() {
        String::new()
    } else {
        format!("   [{}]", steps.join(", "))
    }
}

/// Prints where the time of each run of careen goes.
pub(crate) fn print_parts(rows: &[Measured], limits: &Limits) {
    for row in rows {
        if let (Some(run), Some(sizes)) = (&row.run, &row.sizes) {
            parts::print(&row.name, run, sizes, limits, row.cold);
        }
    }
}

/// Peaks in the limit by number of entries: they must not grow with it.
#[derive(Default)]
pub(crate) struct Peaks(Vec<(u64, u64)>);

impl Peaks {
    /// Shapes that are compared: large ones, so that all buffers are full.
    const ENTRIES: [u64; 3] = [5_000_000, 10_000_000, 20_000_000];

    /// Takes the peak of a shape, where it is one of those that are compared.
    pub(crate) fn take(&mut self, entries: u64, rows: &[Measured]) {
        let row = rows.iter().find(|row| row.name == LIMITED);
        let run = row.and_then(|row| row.run.as_ref());
        if let Some(run) =
            run.filter(|run| run.status.success() && Self::ENTRIES.contains(&entries))
        {
            let bytes = run.anon_max_bytes + run.kernel_max_bytes;
            self.0.push((entries, bytes));
        }
    }

    /// Prints them in one line, where there are at least two.
    pub(crate) fn print(&self) {
        let [(_, first), .., (_, last)] = self.0.as_slice() else {
            return;
        };
        let peaks = self.0.iter().map(|(entries, bytes)| {
            let mib = *bytes as f64 / MIB as f64;
            format!("{mib:.1} MiB at {} M entries", entries / 1_000_000)
        });
        let peaks: Vec<String> = peaks.collect();
        let percent = (*last as f64 / *first as f64 - 1.0) * 100.0;
        println!(
            "\n{LIMITED}, anonymous and kernel peaks: {}; growth {percent:+.1} %",
            peaks.join(", ")
        );
    }
}
