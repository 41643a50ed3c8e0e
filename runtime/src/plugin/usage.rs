//! What a plugin has used, summed over its calls, for reports.
//!
//! A [`Tally`] is shared by whoever loads a plugin, who may drop it again, and by whoever tells at
//! the end. Nothing is decided by it. Memory: some numbers a plugin, and of its decisions the first
//! [`DECISIONS_MAX`], at most [`DECISIONS_BYTES_MAX`] bytes of text.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::error::harmless;
use super::limits::PluginLimits;

/// Decisions that are told with their reasons; a listing has all of them.
const DECISIONS_MAX: usize = 100;

/// Bytes of their texts.
const DECISIONS_BYTES_MAX: usize = 64 << 10;

/// What calls have used, all together unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Questions that it was asked: a batch of snapshots, an index set, some packs, a cycle.
    pub questions: u64,
    /// Calls into the plugin: to describe itself and to be configured, too.
    pub calls: u64,
    /// Rows that it was asked about: snapshots, epochs, packs, tasks.
    pub rows: u64,
    /// Units of fuel.
    pub fuel: u64,
    /// Units of fuel of the call that took most.
    pub fuel_of_a_call: u64,
    /// Bytes of all its memories and tables in the call that had most.
    pub memory_peak_bytes: u64,
    /// Wall time, in milliseconds; making instances is a part of it.
    pub milliseconds: f64,
    /// Wall time of the call that took longest, in milliseconds.
    pub milliseconds_of_a_call: f64,
    /// Log lines, those that were dropped included.
    pub log_lines: u64,
}

impl Usage {
    /// Returns the most that a call has used, beside what it may.
    pub(super) fn most_of(&self, limits: &PluginLimits) -> String {
        format!(
            "memory {} of {} KiB, fuel {} of {}, {:.1} of {} ms",
            self.memory_peak_bytes / 1024,
            limits.memory_bytes / 1024,
            self.fuel_of_a_call,
            limits.fuel,
            self.milliseconds_of_a_call,
            limits.deadline.as_millis()
        )
    }
}

/// What one call may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UsageLimits {
    /// Bytes of all memories and tables together.
    pub memory_bytes: u64,
    /// Units of fuel.
    pub fuel: u64,
    /// Wall time, in milliseconds.
    pub deadline_milliseconds: u64,
}

/// A plugin that was asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PluginUsage {
    /// Which strategy it is.
    pub strategy: &'static str,
    /// Its name.
    pub name: String,
    /// Its version, where it says so.
    pub version: Option<String>,
    /// BLAKE3 digest of the component, in hex: what a pin holds.
    pub blake3: String,
    /// What it has used.
    pub usage: Usage,
    /// What each call may use.
    pub limits: UsageLimits,
    /// The first of its decisions, with its reasons. Snapshots that are kept are none.
    pub decisions: Vec<Decided>,
    /// Further decisions.
    pub more_decisions: u64,
}

/// What a plugin wants, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decided {
    /// What it was asked about.
    pub about: String,
    /// Its answer.
    pub decision: String,
    /// Its reason.
    pub reason: String,
}

/// Sums what a plugin uses. Clones share the sums.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<Tallied>>);

#[derive(Debug, Default)]
struct Tallied {
    name: String,
    version: Option<String>,
    digest: [u8; 32],
    limits: UsageLimits,
    usage: Usage,
    decisions: Vec<Decided>,
    decisions_bytes: usize,
    more_decisions: u64,
}

impl Tally {
    /// Returns what was used up to now; nothing when nothing was asked. `strategy` is what the
    /// plugin was asked as.
    pub fn told(&self, strategy: &'static str) -> Option<PluginUsage> {
        let tallied = self.tallied();
        (tallied.usage.questions > 0).then(|| PluginUsage {
            strategy,
            name: tallied.name.clone(),
            version: tallied.version.clone(),
            blake3: hex::encode(tallied.digest),
            usage: tallied.usage,
            limits: tallied.limits,
            decisions: tallied.decisions.clone(),
            more_decisions: tallied.more_decisions,
        })
    }

    /// Remembers whose sums these are.
    pub(super) fn of(
        &self,
        name: &str,
        version: Option<&str>,
        digest: &[u8; 32],
        limits: &PluginLimits,
    ) {
        let mut tallied = self.tallied();
        tallied.name = harmless(name);
        tallied.version = version.map(harmless);
        tallied.digest = *digest;
        tallied.limits = limits.into();
    }

    /// Adds a call.
    pub(super) fn add_call(&self, fuel: u64, held_bytes: usize, time: Duration, log_lines: u32) {
        let usage = &mut self.tallied().usage;
        let milliseconds = time.as_secs_f64() * 1e3;
        usage.calls += 1;
        usage.fuel = usage.fuel.saturating_add(fuel);
        usage.fuel_of_a_call = usage.fuel_of_a_call.max(fuel);
        usage.memory_peak_bytes = usage.memory_peak_bytes.max(held_bytes as u64);
        usage.milliseconds += milliseconds;
        usage.milliseconds_of_a_call = usage.milliseconds_of_a_call.max(milliseconds);
        usage.log_lines += u64::from(log_lines);
    }

    /// Adds a question about so many rows.
    pub(super) fn add_question(&self, rows: usize) {
        let usage = &mut self.tallied().usage;
        usage.questions += 1;
        usage.rows += rows as u64;
    }

    /// Returns the sums up to now.
    pub(super) fn usage(&self) -> Usage {
        self.tallied().usage
    }

    /// Remembers a decision, as long as there are not too many.
    pub(super) fn add_decision(&self, decided: impl FnOnce() -> Decided) {
        let tallied = &mut *self.tallied();
        let few = tallied.decisions.len() < DECISIONS_MAX;
        if few && tallied.decisions_bytes < DECISIONS_BYTES_MAX {
            let decided = decided().shortened();
            let Decided {
                about,
                decision,
                reason,
            } = &decided;
            tallied.decisions_bytes += about.len() + decision.len() + reason.len();
            tallied.decisions.push(decided);
        } else {
            tallied.more_decisions += 1;
        }
    }

    fn tallied(&self) -> MutexGuard<'_, Tallied> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<&PluginLimits> for UsageLimits {
    fn from(limits: &PluginLimits) -> Self {
        Self {
            memory_bytes: limits.memory_bytes as u64,
            fuel: limits.fuel,
            deadline_milliseconds: limits.deadline.as_millis() as u64,
        }
    }
}

impl Decided {
    /// Cuts its texts to what is shown of a plugin's.
    fn shortened(self) -> Self {
        Self {
            about: harmless(&self.about),
            decision: harmless(&self.decision),
            reason: harmless(&self.reason),
        }
    }
}

impl PluginUsage {
    /// Leaves the decisions out.
    pub(super) fn without_decisions(self) -> Self {
        Self {
            decisions: Vec::new(),
            more_decisions: 0,
            ..self
        }
    }
}

impl Usage {
    /// Returns units of fuel for each row, calls that have none included.
    pub fn fuel_of_a_row(&self) -> f64 {
        self.fuel as f64 / self.rows.max(1) as f64
    }

    /// Returns nanoseconds for each row.
    pub fn nanoseconds_of_a_row(&self) -> f64 {
        self.milliseconds * 1e6 / self.rows.max(1) as f64
    }
}

impl fmt::Display for PluginUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { usage, limits, .. } = self;
        let version = self.version.as_deref().unwrap_or_default();
        let space = if version.is_empty() { "" } else { " " };
        let plural = if usage.questions == 1 { "" } else { "s" };
        write!(
            f,
            "{}{space}{version}: {} question{plural}, {} M of {} M fuel, {} of {} MiB, {:.1} ms",
            self.name,
            usage.questions,
            rounded(usage.fuel_of_a_call as f64 / 1e6),
            rounded(limits.fuel as f64 / 1e6),
            rounded(usage.memory_peak_bytes as f64 / f64::from(1 << 20)),
            rounded(limits.memory_bytes as f64 / f64::from(1 << 20)),
            usage.milliseconds
        )
    }
}

/// Writes a number with as many digits after the point as tell something.
fn rounded(number: f64) -> String {
    let digits = match number {
        n if n >= 100.0 || (n - n.round()).abs() < 0.000_5 => 0,
        n if n < 0.1 => 3,
        _ => 1,
    };
    format!("{number:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_peaks_are_told_by_whoever_shares_them() {
        let tally = Tally::default();
        let limits = PluginLimits {
            memory_bytes: 8 << 20,
            fuel: 1_000_000_000,
            deadline: Duration::from_secs(5),
        };
        let shared = tally.clone();
        shared.of("mine\u{1b}", None, &[7; 32], &limits);
        assert_eq!(tally.told("splitting"), None);
        shared.add_call(800_000, 200 << 10, Duration::from_micros(900), 2);
        shared.add_call(100_000, 90 << 10, Duration::from_micros(400), 1);
        assert_eq!(tally.told("splitting"), None, "nothing was asked");
        shared.add_question(9);
        let told = tally.told("splitting").unwrap();
        assert_eq!(
            (told.usage.fuel, told.usage.fuel_of_a_row()),
            (900_000, 100_000.0)
        );
        assert_eq!((told.usage.rows, told.usage.log_lines), (9, 3));
        assert_eq!(told.blake3, "07".repeat(32));
        assert_eq!(
            told.to_string(),
            "mine : 1 question, 0.8 M of 1000 M fuel, 0.2 of 8 MiB, 1.3 ms"
        );
        for number in 0..120 {
            shared.add_decision(|| Decided {
                about: format!("snapshot {number}"),
                decision: "expire".into(),
                reason: "x".repeat(2_000),
            });
        }
        let told = tally.told("splitting").unwrap();
        assert_eq!((told.decisions.len(), told.more_decisions), (65, 55));
        assert_eq!(told.decisions[0].reason.len(), 1_000);
        shared.of("mine", Some("0.1.0"), &[7; 32], &limits);
        let told = tally.told("splitting").unwrap().to_string();
        assert!(told.starts_with("mine 0.1.0: 1 question,"), "{told}");
    }
}
