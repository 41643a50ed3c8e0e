//! Progress of the floors below, told: a bar on a terminal, lines in JSON, nothing in a text pipe.
//!
//! Called from several threads, some thousand times a second: the count is an atomic, the step
//! behind a mutex that is taken to begin, to end, and at most once in [`LINE_INTERVAL`] between. No
//! memory cost but the bar's. How long threads worked on each part of index work is summed for the
//! last line.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::output::{Form, Kind, Output};
use crate::clock::Stopwatch;
use crate::progress::{Part, Progress};

/// Least time between two progress lines of a step.
pub(super) const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Listens to tasks and tells what it hears.
#[derive(Debug)]
pub(super) struct Telling {
    output: Arc<Output>,
    bars: bool,
    done: AtomicU64,
    /// Milliseconds since the start of the step at which the next line is due.
    next_line_ms: AtomicU64,
    /// Nanoseconds of thread time, by part.
    busy: [AtomicU64; Part::ALL.len()],
    step: Mutex<Option<Step>>,
}

#[derive(Debug)]
struct Step {
    name: String,
    unit: String,
    total: Option<u64>,
    started: Stopwatch,
    bar: Option<ProgressBar>,
}

#[derive(Serialize)]
struct TaskBody<'a> {
    step: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
}

#[derive(Serialize)]
struct ProgressBody<'a> {
    step: &'a str,
    unit: &'a str,
    done: u64,
    total: Option<u64>,
}

impl Telling {
    /// Tells through `output`; `bars` says whether standard error is a terminal.
    pub(super) fn new(output: Arc<Output>, bars: bool) -> Self {
        let bars = bars && output.form() == Form::Text;
        Self {
            output,
            bars,
            done: AtomicU64::new(0),
            next_line_ms: AtomicU64::new(u64::MAX),
            busy: Default::default(),
            step: Mutex::new(None),
        }
    }

    /// Moves the current step on to `done` units, for steps that another process reports.
    pub(super) fn reach(&self, done: u64) {
        let before = self.done.load(Ordering::Relaxed);
        self.advance(done.saturating_sub(before));
    }

    /// Returns the parts of index work that took any time, with their seconds of thread time.
    pub(super) fn busy_seconds(&self) -> Vec<(&'static str, f64)> {
        let parts = Part::ALL.iter().zip(&self.busy);
        let parts = parts.map(|(part, nanos)| (part.name(), nanos.load(Ordering::Relaxed)));
        let told = parts.filter(|(_, nanos)| *nanos > 0);
        told.map(|(name, nanos)| (name, (nanos as f64 / 1e3).round() / 1e6))
            .collect()
    }

    /// Takes the bar off the terminal, so that an error has its own line.
    pub(super) fn clear(&self) {
        if let Some(bar) = self.step().take().and_then(|step| step.bar) {
            bar.finish_and_clear();
        }
    }

    fn step(&self) -> MutexGuard<'_, Option<Step>> {
        self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the current step away and says that it has ended.
    fn finish(&self, step: Option<Step>) {
        let Some(step) = step else { return };
        self.next_line_ms.store(u64::MAX, Ordering::Relaxed);
        if let Some(bar) = &step.bar {
            bar.finish_and_clear();
        }
        let milliseconds = step.started.elapsed().as_millis();
        self.output.json(
            Kind::Task,
            &TaskBody {
                step: &step.name,
                state: "ended",
                unit: Some(&step.unit),
                done: Some(self.done.load(Ordering::Relaxed)),
                total: step.total,
                seconds: Some(milliseconds as f64 / 1000.0),
            },
        );
    }

    fn line_if_due(&self, done: u64) {
        let guard = self.step();
        let Some(step) = guard.as_ref() else { return };
        let now_ms = step.started.elapsed().as_millis() as u64;
        if now_ms < self.next_line_ms.load(Ordering::Relaxed) {
            return;
        }
        let next = now_ms + LINE_INTERVAL.as_millis() as u64;
        self.next_line_ms.store(next, Ordering::Relaxed);
        self.output.json(
            Kind::Progress,
            &ProgressBody {
                step: &step.name,
                unit: &step.unit,
                done,
                total: step.total,
            },
        );
    }
}

impl Progress for Telling {
    fn begin(&self, name: &str, unit: &str, total: Option<u64>) {
        let mut guard = self.step();
        self.finish(guard.take());
        self.done.store(0, Ordering::Relaxed);
        let bar = self.bars.then(|| new_bar(name, unit, total));
        self.output.json(
            Kind::Task,
            &TaskBody {
                step: name,
                state: "began",
                unit: Some(unit),
                done: None,
                total,
                seconds: None,
            },
        );
        let step = Step {
            name: name.to_owned(),
            unit: unit.to_owned(),
            total,
            started: Stopwatch::start(),
            bar,
        };
        *guard = Some(step);
        if self.output.form() == Form::Json {
            let first = LINE_INTERVAL.as_millis() as u64;
            self.next_line_ms.store(first, Ordering::Relaxed);
        }
    }

    fn advance(&self, amount: u64) {
        let done = self.done.fetch_add(amount, Ordering::Relaxed) + amount;
        if self.bars {
            if let Some(bar) = self.step().as_ref().and_then(|step| step.bar.as_ref()) {
                bar.set_position(done);
            }
        } else if self.next_line_ms.load(Ordering::Relaxed) != u64::MAX {
            self.line_if_due(done);
        }
    }

    fn end(&self) {
        let step = self.step().take();
        self.finish(step);
    }

    fn busy(&self, part: Part, time: Duration) {
        let nanos = time.as_nanos() as u64;
        self.busy[part as usize].fetch_add(nanos, Ordering::Relaxed);
    }
}

fn new_bar(name: &str, unit: &str, total: Option<u64>) -> ProgressBar {
    let counts = match (total, unit) {
        (Some(_), "bytes") => "[{bar:20}] {bytes}/{total_bytes} {eta}",
        (Some(_), _) => "[{bar:20}] {human_pos}/{human_len} {prefix} {eta}",
        (None, "bytes") => "{bytes}",
        (None, _) => "{human_pos} {prefix}",
    };
    let style = ProgressStyle::with_template(&format!("{{msg:20}} {counts}"))
        .expect("the templates above are valid")
        .progress_chars("=> ");
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::no_length(),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    bar.with_style(style)
        .with_message(name.to_owned())
        .with_prefix(unit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};

    #[test]
    fn every_bar_has_a_valid_template() {
        for unit in ["bytes", "blobs"] {
            for total in [None, Some(10)] {
                new_bar("load", unit, total).finish_and_clear();
            }
        }
    }

    #[test]
    fn busy_times_are_summed_by_part() {
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        let telling = Telling::new(Arc::new(Output::new(Form::Text, clock)), false);
        assert_eq!(telling.busy_seconds(), []);
        telling.busy(Part::Write, Duration::from_millis(7));
        telling.busy(Part::Read, Duration::from_millis(5));
        telling.busy(Part::Read, Duration::from_nanos(1_500_300));
        let summed = [("read", 0.0065), ("write", 0.007)];
        assert_eq!(telling.busy_seconds(), summed);
    }

    #[test]
    fn steps_may_be_left_open_and_counted_from_threads() {
        let clock = Arc::new(ManualClock::new(Timestamp::default()));
        let telling = Telling::new(Arc::new(Output::new(Form::Text, clock)), false);
        telling.begin("load", "blobs", Some(1000));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..250).for_each(|_| telling.advance(1)));
            }
        });
        assert_eq!(telling.done.load(Ordering::Relaxed), 1000);
        telling.begin("merge", "entries", None);
        assert_eq!(telling.done.load(Ordering::Relaxed), 0);
        telling.end();
        telling.end();
        assert!(telling.step().is_none());
    }
}
