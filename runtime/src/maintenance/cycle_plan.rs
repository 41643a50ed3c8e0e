//! What a run of maintenance consists of, decided before anything is done: which cycle is due, and
//! for each of its tasks whether it runs, why or why not, and until when it waits.
//!
//! A task's gate is asked twice: here, on the history as it will be if all goes well, and again by
//! the run itself just before the task, on the history as it is then. Memory: one row a task.
//! Mirrors `shouldRun`, `runQuickMaintenance` and `runFullMaintenance` of Kopia's
//! `repo/maintenance/maintenance_run.go`.

use std::fmt;

use crate::clock::Timestamp;
use crate::kopia::maintenance_params::MaintenanceParams;
use crate::kopia::schedule::{Schedule, UNSET};

use super::budget::Budget;
use super::cycle_task::{Cycle, CycleTask};
use super::interlocks::{
    Gate, History, full_rewrite, had_recent_full_rewrite, pack_deletion, quick_rewrite,
    safe_drop_time,
};
use super::lease::Lease;
use super::safety::Safety;

/// Which cycle the user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Whatever the schedule says is due.
    #[default]
    Auto,
    /// A quick cycle now.
    Quick,
    /// A full cycle now.
    Full,
}

/// What a run is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which cycle.
    pub mode: Mode,
    /// Only these tasks of it; none given means all.
    pub tasks: Vec<CycleTask>,
    /// The margins.
    pub safety: Safety,
}

impl Wanted {
    /// Returns whether the user asks for a cycle or for tasks.
    pub(super) fn is_explicit(&self) -> bool {
        self.mode != Mode::Auto || !self.tasks.is_empty()
    }

    /// Returns whether a task is wanted.
    pub(super) fn wants(&self, task: CycleTask) -> bool {
        self.tasks.is_empty() || self.tasks.contains(&task)
    }

    /// Returns whether a task needs snapshot GC of the same run before it: without margins nothing
    /// else brings back what is in use and was deleted before it is forgotten. A strategy may leave
    /// GC out, or its budget may; a user who names the task alone is taken at their word.
    pub(super) fn waits_for_gc(&self, task: CycleTask) -> bool {
        task == CycleTask::FullDropDeletedContent
            && !self.safety.require_two_gc_cycles
            && self.wants(CycleTask::SnapshotGc)
    }
}

/// What a repository says of its maintenance, as far as decisions need it.
#[derive(Clone, Debug)]
pub struct Circumstances<'a> {
    /// Whether it has epochs.
    pub has_epochs: bool,
    /// The parameters.
    pub params: &'a MaintenanceParams,
    /// The schedule.
    pub schedule: &'a Schedule,
    /// The present moment.
    pub now: Timestamp,
}

/// What becomes of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It runs.
    Runs,
    /// It has to wait.
    Waits,
    /// It is not asked for.
    Off,
    /// The scheduling strategy, or its budget, leaves it for a later run.
    Left,
}

/// A task of the cycle.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PlannedTask {
    /// Kopia's name.
    pub task: CycleTask,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why.
    pub because: String,
    /// Until when it waits, where time alone decides.
    pub until: Option<Timestamp>,
    /// What it may use.
    #[serde(skip_serializing_if = "Budget::is_none")]
    pub budget: Budget,
}

/// What a scheduling strategy said.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Scheduled {
    /// Which one: name, digest, limits.
    pub strategy: String,
    /// Its reason.
    pub reason: String,
    /// Nothing is to run before this moment.
    pub not_before: Option<Timestamp>,
}

/// The plan of a run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CyclePlan {
    /// The cycle that runs; none when nothing is due.
    pub cycle: Option<Cycle>,
    /// Why this one, or why none.
    pub because: String,
    /// When a full cycle is due; none when none ever ran.
    pub next_full: Option<Timestamp>,
    /// When a quick cycle is due.
    pub next_quick: Option<Timestamp>,
    /// A run that is at work, or has crashed.
    pub lease: Option<Lease>,
    /// The tasks in their order; empty without a cycle.
    pub tasks: Vec<PlannedTask>,
    /// Deleted contents of before this moment are forgotten by this run.
    pub drop_before: Option<Timestamp>,
    /// Who chose; none where nobody was asked.
    pub scheduling: Option<Scheduled>,
}

impl CyclePlan {
    /// Decides as Kopia does. Writes and reads nothing.
    pub fn make(wanted: &Wanted, facts: &Circumstances<'_>) -> Self {
        match cycles(wanted, facts).into_iter().next() {
            Some((cycle, because)) => {
                let order = cycle.tasks(facts.has_epochs);
                Self::of_cycle(cycle, because, order, wanted, facts)
            }
            None => Self::of_nothing(nothing_due(facts), facts),
        }
    }

    /// Makes a plan in which nothing runs.
    pub(super) fn of_nothing(because: String, facts: &Circumstances<'_>) -> Self {
        let known = |time: Timestamp| Some(time).filter(|time| *time != UNSET);
        Self {
            cycle: None,
            because,
            next_full: known(facts.schedule.next_full),
            next_quick: known(facts.schedule.next_quick),
            lease: Lease::of(facts.schedule),
            tasks: Vec::new(),
            drop_before: None,
            scheduling: None,
        }
    }

    /// Makes the plan of a cycle with the tasks of `order`; the others are left for later.
    pub(super) fn of_cycle(
        cycle: Cycle,
        because: String,
        order: &[CycleTask],
        wanted: &Wanted,
        facts: &Circumstances<'_>,
    ) -> Self {
        let mut plan = Self {
            cycle: Some(cycle),
            ..Self::of_nothing(because, facts)
        };
        plan.forecast(cycle, order, wanted, facts);
        plan
    }

    /// Returns the tasks that run.
    pub fn running(&self) -> impl Iterator<Item = CycleTask> + '_ {
        let runs = |row: &&PlannedTask| row.verdict == Verdict::Runs;
        self.tasks.iter().filter(runs).map(|row| row.task)
    }

    /// Judges every task on the history that the tasks before it will have left.
    fn forecast(
        &mut self,
        cycle: Cycle,
        order: &[CycleTask],
        wanted: &Wanted,
        facts: &Circumstances<'_>,
    ) {
        let mut history = History::of(facts.schedule);
        for task in rows(order, cycle.tasks(facts.has_epochs)) {
            let row = if !wanted.wants(task) {
                PlannedTask::not_run(task, Verdict::Off, "not among the tasks that were named")
            } else if order.contains(&task) {
                let runs = |row: &PlannedTask| row.verdict == Verdict::Runs;
                let collects = |row: &PlannedTask| row.task == CycleTask::SnapshotGc && runs(row);
                let gate = match wanted.waits_for_gc(task) && !self.tasks.iter().any(collects) {
                    true => gc_first(),
                    false => gate(task, cycle, &history, wanted, facts.params, facts.now),
                };
                if gate.is_open() && task == CycleTask::FullDropDeletedContent {
                    self.drop_before = safe_drop_time(&history, &wanted.safety, facts.now).ok();
                }
                PlannedTask::of(task, gate)
            } else {
                PlannedTask::not_run(task, Verdict::Left, "the scheduling strategy leaves it")
            };
            if row.verdict == Verdict::Runs {
                history.add(task, facts.now, facts.now);
            }
            self.tasks.push(row);
        }
        self.name_own_rewrite();
    }

    /// Says of pack deletions that wait for a rewrite of this very run what they wait for: a moment
    /// of the forecast would tell nobody anything.
    fn name_own_rewrite(&mut self) {
        if !self.running().any(CycleTask::rewrites) {
            return;
        }
        let deletes = |task| {
            matches!(
                task,
                CycleTask::FullDeleteBlobs | CycleTask::QuickDeleteBlobs
            )
        };
        for row in &mut self.tasks {
            if deletes(row.task) && row.verdict == Verdict::Waits {
                row.because = "this run rewrites contents; clients may still read the old packs \
                               for a while, so the next run deletes them"
                    .to_owned();
            }
        }
    }
}

impl PlannedTask {
    pub(super) fn of(task: CycleTask, gate: Gate) -> Self {
        let (verdict, because, until) = match gate {
            Gate::Open { because } => (Verdict::Runs, because, None),
            Gate::Closed { because, until } => (Verdict::Waits, because, until),
            Gate::Off { because } => (Verdict::Off, because, None),
        };
        Self {
            task,
            verdict,
            because,
            until,
            budget: Budget::default(),
        }
    }

    /// A task that does not run, whatever its gate says.
    pub(super) fn not_run(task: CycleTask, verdict: Verdict, because: impl Into<String>) -> Self {
        Self {
            task,
            verdict,
            because: because.into(),
            until: None,
            budget: Budget::default(),
        }
    }
}

/// Returns all tasks of a cycle: in Kopia's order, unless those that were chosen have another.
fn rows(order: &[CycleTask], all: &[CycleTask]) -> Vec<CycleTask> {
    let chosen = all.iter().filter(|task| order.contains(task));
    if chosen.eq(order) {
        return all.to_vec();
    }
    let others = all.iter().filter(|task| !order.contains(task));
    order.iter().chain(others).copied().collect()
}

/// Returns the cycles that may run, each with the reason: the one that the user asks for, or those
/// that are due, Kopia's choice first.
pub(super) fn cycles(wanted: &Wanted, facts: &Circumstances<'_>) -> Vec<(Cycle, String)> {
    let (params, schedule, now) = (facts.params, facts.schedule, facts.now);
    match wanted.mode {
        Mode::Full => return vec![(Cycle::Full, "it was asked for".to_owned())],
        Mode::Quick => return vec![(Cycle::Quick, "it was asked for".to_owned())],
        Mode::Auto if !wanted.tasks.is_empty() => {
            let quick = Cycle::Quick.tasks(facts.has_epochs);
            let is_quick = wanted.tasks.iter().all(|task| quick.contains(task));
            let cycle = if is_quick { Cycle::Quick } else { Cycle::Full };
            return vec![(cycle, "tasks of it were named".to_owned())];
        }
        Mode::Auto => {}
    }
    let because = |time: Timestamp| match time {
        UNSET => "it never ran".to_owned(),
        time => format!("it was due at {time}"),
    };
    let full = (Cycle::Full, params.full.enabled, schedule.next_full);
    let quick = (Cycle::Quick, params.quick.enabled, schedule.next_quick);
    let due = |(_, enabled, next): &(Cycle, bool, Timestamp)| *enabled && now >= *next;
    let both = [full, quick].into_iter().filter(due);
    both.map(|(cycle, _, next)| (cycle, because(next)))
        .collect()
}

/// Says why no cycle is due.
fn nothing_due(facts: &Circumstances<'_>) -> String {
    let (params, schedule) = (facts.params, facts.schedule);
    let wait = |name: &str, enabled: bool, next: Timestamp| match enabled {
        true => format!("{name} not before {next}"),
        false => format!("{name} is disabled"),
    };
    let full = wait("full", params.full.enabled, schedule.next_full);
    let quick = wait("quick", params.quick.enabled, schedule.next_quick);
    format!("nothing is due: {quick}, {full}")
}

/// The gate of a task that snapshot GC of the same run must come before.
pub(super) fn gc_first() -> Gate {
    Gate::Closed {
        because: "without safety margins snapshot GC of the same run must succeed first".to_owned(),
        until: None,
    }
}

/// Tells whether a task of a cycle may run, on a history.
pub(super) fn gate(
    task: CycleTask,
    cycle: Cycle,
    history: &History,
    wanted: &Wanted,
    params: &MaintenanceParams,
    now: Timestamp,
) -> Gate {
    let safety = &wanted.safety;
    match task {
        CycleTask::FullRewriteContents => full_rewrite(history, safety),
        CycleTask::QuickRewriteContents => quick_rewrite(history, safety),
        CycleTask::FullDropDeletedContent => match safe_drop_time(history, safety, now) {
            Ok(time) => Gate::open(format!("what was deleted before {time} is forgotten")),
            Err(closed) => closed,
        },
        CycleTask::FullDeleteBlobs if cycle == Cycle::Quick => {
            match had_recent_full_rewrite(history) {
                true => pack_deletion(history, safety, now),
                false => Gate::off("the last rewrite was of system contents only"),
            }
        }
        CycleTask::QuickDeleteBlobs if had_recent_full_rewrite(history) => {
            Gate::off("the last rewrite was a full one: full-delete-blobs follows it")
        }
        CycleTask::FullDeleteBlobs | CycleTask::QuickDeleteBlobs => {
            pack_deletion(history, safety, now)
        }
        CycleTask::ExtendBlobRetentionTime if !params.extend_object_locks => {
            Gate::off("the maintenance parameters do not ask for it")
        }
        _ => Gate::open(format!("every {cycle} cycle has it")),
    }
}

impl fmt::Display for CyclePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cycle {
            Some(cycle) => writeln!(f, "{cycle} maintenance: {}", self.because)?,
            None => writeln!(f, "{}", self.because)?,
        }
        if let Some(lease) = &self.lease {
            writeln!(f, "lease: {lease}")?;
        }
        if let Some(scheduled) = &self.scheduling {
            writeln!(
                f,
                "scheduling by {}: {}",
                scheduled.strategy, scheduled.reason
            )?;
        }
        for row in &self.tasks {
            let verdict = match row.verdict {
                Verdict::Runs => "runs",
                Verdict::Waits => "waits",
                Verdict::Off => "off",
                Verdict::Left => "left",
            };
            write!(f, "  {:<32} {verdict:<6} {}", row.task, row.because)?;
            if !row.budget.is_none() {
                write!(f, "; at most {}", row.budget)?;
            }
            match row.until {
                Some(until) => writeln!(f, "; not before {until}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
