//! Metrics of a process that is gone before anybody could ask for them.
//!
//! Prometheus' text form, written at the end into a file for node_exporter, or pushed to a
//! Pushgateway. Counters begin at zero with the process, as with every batch job: they are this
//! run's. The times of earlier successes outlive a failure: in a file they are taken over from its
//! last version, in a Pushgateway they are left as they are. The names are in `deploy/README.md`; a
//! test compares. Memory: the text, some 10 KB.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use super::ending::{Facts, Outcome};
use super::error::Exit;
use crate::clock::Timestamp;

pub(super) mod listen;
#[cfg(feature = "object-stores")]
pub(super) mod push;
mod text;

use text::{Family, Kind, Text};

/// Largest earlier file that is looked at for times of successes.
const EARLIER_BYTES_MAX: u64 = 1 << 20;

/// Every family, in the order in which they are written.
const FAMILIES: [Family; 26] = [
    gauge("info", "Version of the program that ran last."),
    gauge("last_run_timestamp_seconds", "When a run ended last."),
    gauge(
        "last_success_timestamp_seconds",
        "When a run last ended with exit code 0.",
    ),
    gauge(
        "last_full_cycle_timestamp_seconds",
        "When a full cycle last ended well.",
    ),
    gauge(
        "last_quick_cycle_timestamp_seconds",
        "When a quick cycle last ended well.",
    ),
    gauge("exit_code", "Exit code of the last run."),
    gauge("run_seconds", "How long the last run took."),
    gauge("nothing_due", "Whether the last run had nothing to do."),
    gauge("next_due_timestamp_seconds", "When the cycle is due next."),
    gauge("task_seconds", "How long the task took in the last run."),
    gauge(
        "task_success",
        "Whether the task succeeded in the last run.",
    ),
    gauge("budget_bytes", "Memory limit that the last run lived in."),
    gauge("peak_memory_bytes", "Most memory that the process held."),
    gauge("scratch_peak_bytes", "Most scratch that was used."),
    counter("reclaimed_bytes_total", "Bytes of blobs that were deleted."),
    counter("downloaded_bytes_total", "Bytes read from the storage."),
    counter("uploaded_bytes_total", "Bytes written to the storage."),
    counter("requests_total", "Requests to the storage."),
    gauge("index_blobs", "Index blobs that readers read."),
    gauge("index_bytes", "Their bytes."),
    gauge("index_entries", "Entries in them."),
    gauge("contents", "Contents of the repository, by state."),
    gauge("reclaimable_bytes", "Bytes that wait to become free."),
    gauge("epoch_age_seconds", "Age of the epoch that is written to."),
    gauge("plugin_fuel", "Fuel of the plugin's largest call."),
    gauge(
        "plugin_memory_bytes",
        "Memory of the plugin's largest call.",
    ),
];

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family {
        name,
        help,
        kind: Kind::Gauge,
    }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family {
        name,
        help,
        kind: Kind::Counter,
    }
}

/// When something is told of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Its exit code, once it has ended.
    exit: Option<Exit>,
    /// The time.
    time: Timestamp,
    /// How long it has run.
    elapsed: Duration,
    /// The most memory that the process has held so far.
    peak_memory_bytes: Option<u64>,
}

impl From<&Outcome> for Moment {
    fn from(outcome: &Outcome) -> Self {
        Self {
            exit: Some(outcome.exit),
            time: outcome.time,
            elapsed: outcome.elapsed,
            peak_memory_bytes: outcome.peak_memory_bytes,
        }
    }
}

/// Families that tell when something last succeeded.
const SUCCESSES: [&str; 3] = [
    "last_success_timestamp_seconds",
    "last_full_cycle_timestamp_seconds",
    "last_quick_cycle_timestamp_seconds",
];

/// Writes the metrics into a file, whole or not at all.
///
/// # Errors
/// A folder that cannot be written.
pub(super) fn write_textfile(path: &Path, facts: &Facts, outcome: &Outcome) -> io::Result<()> {
    let earlier = read_earlier(path).unwrap_or_default();
    let text = exposition(facts, &outcome.into(), &earlier);
    let mut name = path
        .file_name()
        .ok_or(io::ErrorKind::InvalidInput)?
        .to_owned();
    // node_exporter reads files that end with .prom only.
    name.push(format!(".{}.unfinished", std::process::id()));
    let unfinished = path.with_file_name(name);
    let written = File::create(&unfinished)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
        })
        .and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn read_earlier(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(EARLIER_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// Makes the text. `earlier`: what was written before, or nothing.
fn exposition(facts: &Facts, moment: &Moment, earlier: &str) -> String {
    let mut text = Text::new(&FAMILIES, &facts.repository);
    let version = super::arguments::VERSION;
    text.add(
        "info",
        &[("version", version), ("command", &facts.command)],
        1.0,
    );
    if let Some(exit) = moment.exit {
        add_end(&mut text, facts, exit, seconds(moment.time));
    }
    text.add("run_seconds", &[], moment.elapsed.as_secs_f64());
    for name in SUCCESSES {
        text.take_over(name, earlier);
    }
    if facts.nothing_due || facts.cycle.is_some() {
        text.add("nothing_due", &[], f64::from(u8::from(facts.nothing_due)));
    }
    for (cycle, time) in &facts.next {
        text.add(
            "next_due_timestamp_seconds",
            &[("cycle", cycle)],
            seconds(*time),
        );
    }
    for task in &facts.tasks {
        let label = [("task", task.name)];
        text.add("task_seconds", &label, task.seconds);
        text.add("task_success", &label, f64::from(u8::from(task.success)));
    }
    let budgets = [
        ("budget_bytes", facts.memory_bytes),
        ("peak_memory_bytes", moment.peak_memory_bytes),
        ("scratch_peak_bytes", facts.scratch_peak_bytes),
    ];
    for (name, bytes) in budgets {
        if let Some(bytes) = bytes {
            text.add(name, &[], bytes as f64);
        }
    }
    add_traffic(&mut text, facts);
    if let Some(since) = facts.write_epoch_since {
        let age = moment.time.since(since);
        text.add("epoch_age_seconds", &[], age.as_secs_f64());
    }
    for gauge in &facts.gauges {
        let labels = gauge.labels.iter();
        let labels: Vec<_> = labels
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        text.add(gauge.name, &labels, gauge.value);
    }
    text.finish()
}

fn add_end(text: &mut Text<'_>, facts: &Facts, exit: Exit, now: f64) {
    text.add("last_run_timestamp_seconds", &[], now);
    text.add("exit_code", &[], f64::from(exit as u8));
    if exit == Exit::Done {
        text.add("last_success_timestamp_seconds", &[], now);
        if let Some(cycle) = facts.cycle {
            text.add(&format!("last_{cycle}_cycle_timestamp_seconds"), &[], now);
        }
    }
}

fn add_traffic(text: &mut Text<'_>, facts: &Facts) {
    text.add("reclaimed_bytes_total", &[], facts.reclaimed_bytes() as f64);
    let Some(requests) = &facts.requests else {
        return;
    };
    text.add("downloaded_bytes_total", &[], requests.bytes_read as f64);
    text.add("uploaded_bytes_total", &[], requests.bytes_written as f64);
    let all = [
        ("get", requests.gets),
        ("list", requests.lists),
        ("put", requests.puts),
        ("delete", requests.deletes),
    ];
    for (op, count) in all {
        text.add("requests_total", &[("op", op)], count as f64);
    }
}

/// Returns a time as Prometheus has it, to the millisecond.
fn seconds(time: Timestamp) -> f64 {
    (time.nanos() / 1_000_000) as f64 / 1e3
}

#[cfg(test)]
mod tests;
