//! The plan of `careen run`: whose maintenance it is, which cycle, which tasks and why, and what
//! the index tasks will do.
//!
//! Makes decisions only; writes nothing. Where the schedule alone says that nothing is due, nothing
//! else is read. Else the whole index is read once, for the parameters, and once more for costs,
//! where the scheduling strategy asks for them. Memory: a load of the index, or that of
//! [`Holdings::find`]. Mirrors `RunExclusive` of Kopia's `repo/maintenance/maintenance_run.go` up
//! to its lock.

use std::fmt;

use crate::clock::Timestamp;
use crate::kopia::maintenance_params::MaintenanceParams;
use crate::kopia::schedule::Schedule;
use crate::memory::MemoryPlan;
use crate::repository::active_index::load_active;
use crate::repository::index_load::Strictness;
use crate::repository::sessions::count_writers;
use crate::repository::system_contents::{
    SystemContents, count_manifest_contents, maintenance_params,
};
use crate::repository::{Repository, Workspace};

use super::MaintenanceError;
use super::compact_manifests::is_due;
use super::cycle_choice::{CostOf, Surroundings, choose};
use super::cycle_plan::{Circumstances, CyclePlan, Mode};
use super::cycle_task::{Cycle, CycleTask};
use super::expire_snapshots::ExpireForecast;
use super::holdings::Holdings;
use super::index_plan;
use super::index_tasks::IndexTasks;
use super::lease::{Lease, current_schedule};
use super::orphan_packs::BlobCount;
use super::outlook::Outlook;
use super::run::{RunOptions, Strategies};
use super::safety::Safety;
use super::scheduling::Scheduling;
use super::task_costs::TaskCost;

/// The plan of a run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RunPlan {
    /// Who maintains the repository; none where that was not needed to decide.
    pub owner: Option<String>,
    /// Why we must not, if so; a run stops there.
    pub owner_problem: Option<String>,
    /// The cycle and its tasks.
    #[serde(flatten)]
    pub cycle: CyclePlan,
    /// Contents with manifests, where a run would compact them first.
    pub compact_manifests: Option<u64>,
    /// Snapshots that would be expired first, where that was asked for.
    pub expire: Option<ExpireForecast>,
    /// What the epoch tasks will do.
    pub index: Option<index_plan::Plan>,
    /// What the tasks that run would cost, where any of them works on contents or packs.
    pub outlook: Option<Outlook>,
    /// Why that is not known.
    pub outlook_problem: Option<String>,
    /// Memory of every phase.
    pub memory: MemoryPlan,
}

/// What a run needs of the plan.
pub(super) struct Prepared {
    pub(super) plan: RunPlan,
    pub(super) params: MaintenanceParams,
    /// Who we are allowed to act as.
    identity: Result<String, MaintenanceError>,
    facts: Facts,
}

/// What was read, for the scheduling strategy.
#[derive(Default)]
struct Facts {
    schedule: Schedule,
    now: Timestamp,
    index_blobs: u64,
    index_bytes: u64,
}

impl Prepared {
    /// Reads what decides, and decides.
    pub(super) fn make(
        repository: &Repository,
        workspace: &Workspace,
        options: &RunOptions,
    ) -> Result<Self, MaintenanceError> {
        let wanted = &options.wanted;
        if wanted.mode == Mode::Auto && wanted.tasks.is_empty() {
            // Nothing is due whatever the parameters say: they can only disable cycles.
            let schedule = current_schedule(repository)?;
            let params = MaintenanceParams::default();
            let now = repository.clock.now();
            let cycle = decide(repository, options, &params, &schedule, now);
            if cycle.cycle.is_none() {
                return Ok(Self::without_owner(workspace, cycle, params));
            }
        }
        // The index is read for the parameters here, and by most tasks again.
        workspace.scratch.open_shelf();
        let (active, loaded) = load_active(repository, workspace, None, Strictness::ForReading)?;
        // With gaps not even the owner is certain.
        active.check_nothing_vanished()?;
        let params = maintenance_params(repository, workspace, &loaded)?.unwrap_or_default();
        let (contents, bytes) = count_manifest_contents(SystemContents::of_loaded(&loaded)?)?;
        let (index_blobs, index_bytes) = (loaded.stats.blobs, loaded.stats.stored_bytes);
        drop(loaded);
        let identity = options.owner.check(&params.owner);
        // Only now: a large index takes its time.
        let schedule = current_schedule(repository)?;
        let now = repository.clock.now();
        let cycle = decide(repository, options, &params, &schedule, now);
        let has_epochs = repository.format.epochs.enabled;
        check_names(&cycle, options, has_epochs)?;
        let is_whole = cycle.cycle.is_some() && wanted.tasks.is_empty();
        let manifests_due = is_whole && is_due(contents, bytes);
        let plan = RunPlan {
            owner: Some(params.owner.clone()),
            owner_problem: identity.as_ref().err().map(ToString::to_string),
            cycle,
            compact_manifests: manifests_due.then_some(contents),
            expire: None,
            index: None,
            outlook: None,
            outlook_problem: None,
            memory: workspace.memory,
        };
        let facts = Facts {
            schedule,
            now,
            index_blobs,
            index_bytes,
        };
        Ok(Self {
            plan,
            params,
            identity,
            facts,
        })
    }

    /// Stops who must not run; returns who we act as.
    pub(super) fn may_run(mut self, now: Timestamp) -> Result<(Self, String), MaintenanceError> {
        let owner = std::mem::replace(&mut self.identity, Ok(String::new()))?;
        match self.plan.cycle.lease.clone() {
            Some(Lease { until, run, .. }) if now < until => {
                Err(MaintenanceError::Leased { run, until })
            }
            _ => Ok((self, owner)),
        }
    }

    /// Asks the scheduling strategy, where a cycle may run. Writes nothing. A strategy that wants
    /// to know costs has the index read once more.
    pub(super) fn ask(
        &mut self,
        repository: &Repository,
        workspace: &Workspace,
        scheduling: &mut dyn Scheduling,
        options: &RunOptions,
    ) -> Result<(), MaintenanceError> {
        if self.plan.cycle.cycle.is_none() {
            return Ok(());
        }
        let known = std::mem::take(&mut self.facts);
        let facts = Circumstances {
            has_epochs: repository.format.epochs.enabled,
            params: &self.params,
            schedule: &known.schedule,
            now: known.now,
        };
        let age = Safety::full().session_expiration_age;
        let surroundings = Surroundings {
            zone: options.zone.clone(),
            writers: count_writers(repository, known.now, age)?,
            index_blobs: known.index_blobs,
            index_bytes: known.index_bytes,
            memory_bytes: workspace.memory.limit_bytes as u64,
            scratch_bytes: workspace.scratch.free_bytes(),
        };
        let mut count = || {
            let safety = &options.wanted.safety;
            let found = Holdings::find(repository, workspace, safety)?;
            let (memory, pack_bytes_max) = (&workspace.memory, repository.format.max_pack_size);
            let cost_of = move |task| TaskCost::of(task, &found, memory, pack_bytes_max);
            Ok(Box::new(cost_of) as CostOf<'_>)
        };
        let cycle = choose(
            scheduling,
            &options.wanted,
            &facts,
            surroundings,
            &mut count,
        )?;
        if cycle.cycle.is_none() {
            self.plan.compact_manifests = None;
        }
        self.plan.cycle = cycle;
        Ok(())
    }

    fn without_owner(workspace: &Workspace, cycle: CyclePlan, params: MaintenanceParams) -> Self {
        let plan = RunPlan {
            owner: None,
            owner_problem: None,
            cycle,
            compact_manifests: None,
            expire: None,
            index: None,
            outlook: None,
            outlook_problem: None,
            memory: workspace.memory,
        };
        Self {
            plan,
            params,
            identity: Ok(String::new()),
            facts: Facts::default(),
        }
    }
}

/// Makes the plan, with what the epoch tasks will do. Writes nothing.
///
/// # Errors
/// What cannot be read; a strategy that fails or answers what the host refuses.
pub fn plan(
    repository: &Repository,
    workspace: &Workspace,
    strategies: Strategies<'_>,
    options: &RunOptions,
) -> Result<RunPlan, MaintenanceError> {
    let mut prepared = Prepared::make(repository, workspace, options)?;
    let Strategies {
        mut scheduling,
        mut splitting,
        retention,
    } = strategies;
    prepared.ask(repository, workspace, &mut *scheduling, options)?;
    drop(scheduling);
    let mut plan = prepared.plan;
    if let (Some(Cycle::Full), Some(mut retention), Some(options)) =
        (plan.cycle.cycle, retention, &options.expire)
    {
        let forecast = ExpireForecast::make(repository, workspace, &mut *retention, options)?;
        plan.expire = Some(forecast);
    }
    let tasks = index_tasks_of(&plan.cycle);
    if repository.format.epochs.enabled && !tasks.is_empty() {
        let options = index_plan::Options {
            tasks,
            unsettled: false,
            owner: options.owner.clone(),
        };
        let mut index = IndexTasks::new(repository, workspace, &mut *splitting, options);
        plan.index = Some(index.plan()?);
    }
    if plan.cycle.running().any(works_on_packs) {
        let (safety, tasks) = (&options.wanted.safety, &plan.cycle.tasks);
        let none = BlobCount::default();
        let outlook = Outlook::make(repository, workspace, safety, tasks, none);
        plan.outlook_problem = outlook.as_ref().err().map(ToString::to_string);
        plan.outlook = outlook.ok();
    }
    Ok(plan)
}

/// Tells whether what a task costs follows from contents and packs.
fn works_on_packs(task: CycleTask) -> bool {
    let deletes = matches!(
        task,
        CycleTask::FullDeleteBlobs | CycleTask::QuickDeleteBlobs
    );
    task.copies() || deletes
}

fn decide(
    repository: &Repository,
    options: &RunOptions,
    params: &MaintenanceParams,
    schedule: &Schedule,
    now: Timestamp,
) -> CyclePlan {
    let facts = Circumstances {
        has_epochs: repository.format.epochs.enabled,
        params,
        schedule,
        now,
    };
    CyclePlan::make(&options.wanted, &facts)
}

/// Refuses names of tasks that the cycle does not have.
fn check_names(
    plan: &CyclePlan,
    options: &RunOptions,
    has_epochs: bool,
) -> Result<(), MaintenanceError> {
    let Some(cycle) = plan.cycle else {
        return Ok(());
    };
    let known = cycle.tasks(has_epochs);
    let named = options.wanted.tasks.iter().copied();
    let unknown: Vec<CycleTask> = named.filter(|task| !known.contains(task)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(MaintenanceError::NotInCycle {
        tasks: names(&unknown),
        cycle: match cycle {
            Cycle::Quick => "quick",
            Cycle::Full => "full",
        },
        known: names(known),
    })
}

/// Returns the epoch tasks that run, under the names that the index plan has for them.
pub(super) fn index_tasks_of(plan: &CyclePlan) -> Vec<index_plan::Task> {
    let tasks = plan.running();
    tasks
        .filter_map(|task| index_plan::Task::parse(task.name()))
        .collect()
}

/// Writes a list of tasks.
fn names(tasks: &[CycleTask]) -> String {
    let names: Vec<&str> = tasks.iter().map(|task| task.name()).collect();
    names.join(", ")
}

impl fmt::Display for RunPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cycle.fmt(f)?;
        if let Some(problem) = &self.owner_problem {
            writeln!(f, "a run would stop: {problem}")?;
        } else if let Some(owner) = &self.owner {
            writeln!(f, "owner: {owner}")?;
        }
        if let Some(expire) = &self.expire {
            writeln!(f, "first: {expire}")?;
        }
        if let Some(contents) = self.compact_manifests {
            writeln!(f, "first: manifests of {contents} contents into one")?;
        }
        if let Some(outlook) = &self.outlook {
            writeln!(f, "{outlook}")?;
        }
        if let Some(problem) = &self.outlook_problem {
            writeln!(f, "what it costs is not known: {problem}")?;
        }
        match &self.index {
            Some(index) => index.fmt(f),
            None if self.cycle.cycle.is_some() => self.memory.fmt(f),
            None => Ok(()),
        }
    }
}
