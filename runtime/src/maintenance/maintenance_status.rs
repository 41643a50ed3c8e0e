//! How the maintenance of a repository stands: what is due, what each task of the next full cycle
//! waits for and until when, and how its last runs ended.
//!
//! The same decisions as a run's, on the same history. Reads the schedule, writes nothing. Memory:
//! one row a task. Mirrors `kopia maintenance info`.

use std::fmt;

use crate::clock::Timestamp;
use crate::kopia::maintenance_params::MaintenanceParams;
use crate::kopia::schedule::Schedule;
use crate::repository::{Repository, RepositoryError};

use super::cycle_plan::{Circumstances, CyclePlan, Mode, PlannedTask, Verdict, Wanted};
use super::cycle_task::CycleTask;
use super::lease::{Lease, current_schedule};
use super::safety::Safety;

/// How maintenance stands.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MaintenanceStatus {
    /// What a run would do now, or why nothing.
    pub due: String,
    /// When a full cycle is due; none when none ever ran.
    pub next_full: Option<Timestamp>,
    /// When a quick cycle is due.
    pub next_quick: Option<Timestamp>,
    /// A run that is at work, or has crashed.
    pub lease: Option<Lease>,
    /// What a full cycle would do now.
    pub full_cycle: Vec<PlannedTask>,
    /// What a quick cycle would do now that no full cycle does: the index work of repositories
    /// without epochs.
    pub quick_only: Vec<PlannedTask>,
    /// The last run of every task that ever ran, in the order of the cycle.
    pub last_runs: Vec<LastRun>,
}

/// The last run of a task.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LastRun {
    /// Kopia's name.
    pub task: String,
    /// When it ended.
    pub end: Timestamp,
    /// Whether it succeeded.
    pub success: bool,
    /// Why it did not.
    pub error: Option<String>,
}

/// Looks at the schedule. Without `params` (they could not be read, or nobody has set any) Kopia's
/// defaults hold.
pub fn maintenance_status(
    repository: &Repository,
    params: Option<&MaintenanceParams>,
) -> Result<MaintenanceStatus, RepositoryError> {
    let schedule = current_schedule(repository)?;
    let defaults = MaintenanceParams::default();
    let facts = Circumstances {
        has_epochs: repository.format.epochs.enabled,
        params: params.unwrap_or(&defaults),
        schedule: &schedule,
        now: repository.clock.now(),
    };
    let plan = |mode| {
        let wanted = Wanted {
            mode,
            tasks: Vec::new(),
            safety: Safety::full(),
        };
        CyclePlan::make(&wanted, &facts)
    };
    let (auto, full, quick) = (plan(Mode::Auto), plan(Mode::Full), plan(Mode::Quick));
    let in_full = |row: &PlannedTask| full.tasks.iter().any(|other| other.task == row.task);
    let quick_only = quick
        .tasks
        .into_iter()
        .filter(|row| !in_full(row))
        .collect();
    let due = match auto.cycle {
        Some(cycle) => format!("{cycle} maintenance is due: {}", auto.because),
        None => auto.because,
    };
    Ok(MaintenanceStatus {
        due,
        next_full: auto.next_full,
        next_quick: auto.next_quick,
        lease: auto.lease,
        quick_only,
        full_cycle: full.tasks,
        last_runs: last_runs(&schedule),
    })
}

/// Returns the last run of every task, those that we do not know last.
fn last_runs(schedule: &Schedule) -> Vec<LastRun> {
    let known = CycleTask::ALL.map(CycleTask::name);
    let unknown = schedule.runs.keys().map(String::as_str);
    let unknown = unknown.filter(|name| !known.contains(name));
    let row = |name: &str| {
        let run = schedule.runs_of(name).first()?;
        Some(LastRun {
            task: name.to_owned(),
            end: run.end,
            success: run.success,
            error: Some(run.error.clone()).filter(|error| !error.is_empty()),
        })
    };
    known.into_iter().chain(unknown).filter_map(row).collect()
}

impl fmt::Display for MaintenanceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "maintenance  {}", self.due)?;
        if let Some(lease) = &self.lease {
            write!(f, "\nlease        {lease}")?;
        }
        cycle(f, "full cycle", &self.full_cycle)?;
        cycle(f, "quick cycle", &self.quick_only)?;
        let mut label = "last runs";
        for run in &self.last_runs {
            let outcome = match (&run.error, run.success) {
                (_, true) => "succeeded",
                (Some(error), false) => error,
                (None, false) => "failed",
            };
            write!(f, "\n{label:<12} {} {}: {outcome}", run.end, run.task)?;
            label = "";
        }
        Ok(())
    }
}

fn cycle(f: &mut fmt::Formatter<'_>, label: &str, tasks: &[PlannedTask]) -> fmt::Result {
    let mut label = label;
    for row in tasks {
        let verdict = match row.verdict {
            Verdict::Runs => "runs ",
            Verdict::Waits => "waits",
            Verdict::Off => "off  ",
            Verdict::Left => "left ",
        };
        write!(
            f,
            "\n{label:<12} {verdict} {}: {}",
            row.task.name(),
            row.because
        )?;
        if let Some(until) = row.until {
            write!(f, "; not before {until}")?;
        }
        label = "";
    }
    Ok(())
}
