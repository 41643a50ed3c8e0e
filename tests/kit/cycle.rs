//! Maintenance cycles in process, as `careen run` does them: for suites that choose store, clock
//! and moment.
//!
//! What the schedule records afterwards is read back in the form of the golden descriptions.
//! Memory: that of a run.

use std::sync::Arc;
use std::time::Duration;

use careen::kopia::schedule::{RunInfo, Schedule};
use careen::maintenance::MaintenanceError;
use careen::maintenance::budget::Budget;
use careen::maintenance::cycle_plan::{Mode, Wanted};
use careen::maintenance::cycle_task::CycleTask;
use careen::maintenance::owner::Identity;
use careen::maintenance::retention::{Decision, Retention, RetentionQuestion, Zone};
use careen::maintenance::run::{Event, RunOptions, Strategies, run};
use careen::maintenance::run_report::RunReport;
use careen::maintenance::safety::Safety;
use careen::maintenance::scheduling::{
    NamedTask, Scheduling, SchedulingAnswer, SchedulingQuestion,
};
use careen::maintenance::strategy::StrategyError;
use careen::repository::Repository;
use careen::repository::schedule_store::read_schedule;
use careen::repository::snapshot_history::HistoryRow;
use serde_json::{Map, Value, json};

use crate::index_work::{Bench, KopiasShape};

/// Returns the options of a whole cycle by `owner`.
pub fn cycle(mode: Mode, safety: Safety, owner: &str) -> RunOptions {
    RunOptions {
        wanted: Wanted {
            mode,
            tasks: Vec::new(),
            safety,
        },
        owner: Identity::Explicit(owner.to_owned()),
        config: None,
        accept_unexplained: false,
        expire: None,
        zone: Zone::default(),
        holder: None,
        retry_lock: Duration::ZERO,
        stop: Arc::default(),
    }
}

impl Bench {
    /// Runs a cycle.
    pub fn cycle(
        &self,
        repository: &Repository,
        options: &RunOptions,
    ) -> Result<RunReport, MaintenanceError> {
        self.cycle_with(repository, options, &mut |_| {})
    }

    /// Runs a cycle and shows what happens.
    pub fn cycle_with(
        &self,
        repository: &Repository,
        options: &RunOptions,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<RunReport, MaintenanceError> {
        self.cycle_by(repository, options, strategies(KopiasOrder, None), on_event)
    }

    /// Runs a cycle with these strategies.
    pub fn cycle_by(
        &self,
        repository: &Repository,
        options: &RunOptions,
        strategies: Strategies<'_>,
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<RunReport, MaintenanceError> {
        run(repository, &self.workspace(), strategies, options, on_event)
    }
}

/// Kopia's shape, and these strategies.
pub fn strategies<'a>(
    scheduling: impl Scheduling + 'a,
    retention: Option<Box<dyn Retention + 'a>>,
) -> Strategies<'a> {
    Strategies {
        scheduling: Box::new(scheduling),
        splitting: Box::new(KopiasShape),
        retention,
    }
}

/// A strategy that expires what a rule says of a snapshot's place and row.
#[derive(Clone, Copy, Debug)]
pub struct Expires(pub fn(usize, &HistoryRow) -> bool);

impl Retention for Expires {
    fn begin(&mut self, _: &RetentionQuestion) -> Result<(), StrategyError> {
        Ok(())
    }

    fn decide(&mut self, rows: &[HistoryRow]) -> Result<Vec<Decision>, StrategyError> {
        let decision = |(place, row)| Decision {
            expire: self.0(place, row),
            reason: "a test".into(),
        };
        Ok(rows.iter().enumerate().map(decision).collect())
    }

    fn describe(&self) -> String {
        "expires".into()
    }
}

/// What Kopia runs: every task of the first cycle that is due, in its order.
#[derive(Clone, Copy, Debug)]
pub struct KopiasOrder;

impl Scheduling for KopiasOrder {
    fn schedule(
        &mut self,
        question: &SchedulingQuestion,
    ) -> Result<SchedulingAnswer, StrategyError> {
        let row = &question.cycles[0];
        let named = row.tasks.iter().map(|row| NamedTask {
            name: row.task.name().to_owned(),
            budget: Budget::default(),
        });
        Ok(SchedulingAnswer::Run {
            cycle: row.cycle,
            tasks: named.collect(),
            reason: "as Kopia".to_owned(),
        })
    }

    fn describe(&self) -> String {
        "kit: as Kopia".to_owned()
    }
}

/// Reads the schedule.
pub fn schedule(repository: &Repository) -> Schedule {
    let read = read_schedule(repository);
    read.expect("a suite's repository has a readable schedule")
        .0
}

/// Returns the runs that `after` has and `before` has not, in the form of the golden descriptions'
/// `tasks`.
pub fn new_runs(before: &Schedule, after: &Schedule) -> Value {
    let mut tasks = Map::new();
    for (task, runs) in &after.runs {
        let added = runs.len() - before.runs_of(task).len();
        assert!(added < 2, "{task}: {added} runs of one cycle");
        if let Some(run) = runs.first().filter(|_| added > 0) {
            tasks.insert(task.clone(), as_told(run));
        }
    }
    Value::Object(tasks)
}

fn as_told(run: &RunInfo) -> Value {
    let mut told = json!({"success": run.success});
    if !run.success {
        told["error"] = run.error.clone().into();
    }
    for extra in &run.extra {
        told[&extra.kind] = extra.data.clone().unwrap_or_default();
    }
    told
}

/// Returns the tasks whose runs succeeded at or after a moment, by the schedule.
pub fn succeeded(schedule: &Schedule) -> Vec<CycleTask> {
    let tasks = CycleTask::ALL.into_iter();
    tasks
        .filter(|task| schedule.runs_of(task.name()).iter().any(|run| run.success))
        .collect()
}
