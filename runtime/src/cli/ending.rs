//! What a command came to, kept for those who read it after the process has gone.
//!
//! Commands write down what they learn as they learn it, so that a run which fails half way still
//! tells what it has freed. At the end it becomes the termination message and the metrics. Nothing
//! is decided by it. Memory: one row a task of a cycle, some numbers a plugin.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::{CliError, Exit};
use crate::blob::Counters;
use crate::clock::Timestamp;
use crate::maintenance::cycle_task::Cycle;
use crate::maintenance::outlook::Outlook;
use crate::maintenance::run_report::{RunReport, TaskRun};
use crate::maintenance::status::{EpochRow, EpochsStatus};
#[cfg(feature = "plugins")]
use crate::plugin::PluginUsage;

/// Collects what a command learns.
#[derive(Debug, Default)]
pub(super) struct Ending {
    facts: Mutex<Facts>,
}

/// What is known of a command.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// The command, such as `run`.
    pub(super) command: String,
    /// Where the repository is.
    pub(super) repository: String,
    /// The memory limit that was planned for.
    pub(super) memory_bytes: Option<u64>,
    /// The cycle that ran; none where none was due.
    pub(super) cycle: Option<Cycle>,
    /// Whether a run found that nothing is due.
    pub(super) nothing_due: bool,
    /// Tasks that ended, in their order.
    pub(super) tasks: Vec<TaskFacts>,
    /// What was asked of the storage; none before anything is known of it.
    pub(super) requests: Option<Counters>,
    /// Most scratch that was used.
    pub(super) scratch_peak_bytes: Option<u64>,
    /// When the cycles are due next.
    pub(super) next: BTreeMap<&'static str, Timestamp>,
    /// What a look found to be wrong first, where that is no error of the command.
    pub(super) problem: Option<Failure>,
    /// Gauges of the repository and of its plugins, by the name of their metric and labels.
    pub(super) gauges: Vec<Gauge>,
    /// When the storage took the first index blob of the epoch that writers write to.
    pub(super) write_epoch_since: Option<Timestamp>,
}

/// A number that is known of the repository.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gauge {
    /// Name of the metric, without `careen_`.
    pub(super) name: &'static str,
    /// Further labels and their values.
    pub(super) labels: Vec<(&'static str, String)>,
    /// The number.
    pub(super) value: f64,
}

/// A task that ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TaskFacts {
    /// Kopia's name.
    pub(super) name: &'static str,
    /// Whether it succeeded.
    pub(super) success: bool,
    /// How long it took.
    pub(super) seconds: f64,
    /// Bytes of blobs that it deleted.
    pub(super) reclaimed_bytes: u64,
}

/// How a command ended.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// The exit code.
    pub(super) exit: Exit,
    /// Why it ended early.
    pub(super) failure: Option<Failure>,
    /// When.
    pub(super) time: Timestamp,
    /// How long it took.
    pub(super) elapsed: Duration,
    /// The most memory that the process has held.
    pub(super) peak_memory_bytes: Option<u64>,
}

/// Why a command ended early.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// The stable code.
    pub(super) code: &'static str,
    /// The message.
    pub(super) message: String,
    /// What to do next.
    pub(super) hint: Cow<'static, str>,
}

impl Failure {
    /// Keeps what is told of an error.
    pub(super) fn of(error: &CliError) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
            hint: error.hint().into(),
        }
    }
}

impl Ending {
    /// Writes something down.
    pub(super) fn note(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts());
    }

    /// Returns what is known by now.
    pub(super) fn known(&self) -> Facts {
        self.facts().clone()
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    /// Adds a task that ended.
    pub(super) fn add_task(&mut self, run: &TaskRun) {
        self.tasks.push(TaskFacts {
            name: run.task.name(),
            success: run.success,
            seconds: run.end.since(run.start).as_secs_f64(),
            reclaimed_bytes: run.reclaimed_bytes(),
        });
        let sum = self.requests.get_or_insert_default();
        *sum = sum.plus(&run.requests);
    }

    /// Adds the report of a run that ended well.
    pub(super) fn add_report(&mut self, report: &RunReport) {
        self.cycle = report.cycle;
        self.nothing_due = report.cycle.is_none();
        self.add_next(report.next_full, report.next_quick);
        self.scratch_peak_bytes = Some(report.scratch_peak_bytes);
        self.write_epoch_since = report.write_epoch_since;
        if report.cycle.is_some() {
            self.requests = Some(report.requests);
        }
    }

    /// Adds when the cycles are due next.
    pub(super) fn add_next(&mut self, full: Option<Timestamp>, quick: Option<Timestamp>) {
        let cycles = [("full", full), ("quick", quick)];
        let known = cycles
            .into_iter()
            .filter_map(|(name, at)| Some((name, at?)));
        self.next.extend(known);
    }

    /// Adds what the repository holds, and what waits to become free.
    pub(super) fn add_outlook(&mut self, outlook: &Outlook) {
        let held = &outlook.holdings;
        let state = |state: &str| vec![("state", state.to_owned())];
        let mut add = |name, labels, value: u64| self.add_gauge(name, labels, value);
        add("index_blobs", Vec::new(), held.index.count);
        add("index_bytes", Vec::new(), held.index.bytes);
        add("index_entries", Vec::new(), held.entries);
        add("contents", state("in-use"), held.live.count);
        add("contents", state("deleted"), held.deleted.count);
        let mut waiting = BTreeMap::new();
        for row in &outlook.waiting {
            *waiting.entry(row.task.name()).or_insert(0) += row.amount.bytes;
        }
        for (task, bytes) in waiting {
            add("reclaimable_bytes", state(task), bytes);
        }
    }

    /// Adds how the repository's epochs stand.
    pub(super) fn add_epochs(&mut self, epochs: &EpochsStatus) {
        let write = |row: &&EpochRow| row.epoch == epochs.write_epoch && row.blobs.count > 0;
        let row = epochs.newest_epochs.iter().find(write);
        self.write_epoch_since = row.map(|row| row.blobs.oldest);
    }

    /// Adds what plugins have used.
    #[cfg(feature = "plugins")]
    pub(super) fn add_plugins(&mut self, plugins: &[PluginUsage]) {
        for plugin in plugins {
            let labels = vec![
                ("strategy", plugin.strategy.to_owned()),
                ("plugin", plugin.name.clone()),
            ];
            let usage = &plugin.usage;
            self.add_gauge("plugin_fuel", labels.clone(), usage.fuel_of_a_call);
            self.add_gauge("plugin_memory_bytes", labels, usage.memory_peak_bytes);
        }
    }

    fn add_gauge(&mut self, name: &'static str, labels: Vec<(&'static str, String)>, value: u64) {
        let value = value as f64;
        self.gauges.push(Gauge {
            name,
            labels,
            value,
        });
    }

    /// Returns the bytes of blobs that were deleted.
    pub(super) fn reclaimed_bytes(&self) -> u64 {
        self.tasks.iter().map(|task| task.reclaimed_bytes).sum()
    }
}

impl Outcome {
    /// Returns the result in one word.
    pub(super) fn result(&self, facts: &Facts) -> &'static str {
        match self.exit {
            Exit::Done if facts.nothing_due => "nothing-due",
            Exit::Done => "done",
            Exit::PartDone => "part-done",
            Exit::Budget => "budget-refused",
            Exit::Storage => "storage-failed",
            Exit::OtherMaintainer => "other-maintainer",
            Exit::Configuration => "configuration",
            Exit::SafetyStop => "safety-stop",
        }
    }
}
