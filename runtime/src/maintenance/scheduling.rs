//! What a scheduling strategy is asked and what it answers. Plain values; knows no wasmtime.
//!
//! The plugin proposes, the host disposes: an answer is checked by [`SchedulingAnswer::check`],
//! whoever gave it, and each task's safety gate is asked again just before the task. A strategy
//! that fails ends the run before anything is written. Memory: two cycles of [`TASKS_MAX`] rows.
//! Mirrors `runFullMaintenance`, `runQuickMaintenance` of `repo/maintenance/maintenance_run.go`.

use std::time::Duration;

use crate::clock::Timestamp;

use super::budget::Budget;
use super::cycle_plan::Verdict;
use super::cycle_task::{Cycle, CycleTask};
use super::retention::Zone;
use super::strategy::{REASON_BYTES_MAX, StrategyError};
use super::task_costs::TaskCost;

/// Tasks of one cycle, and of one answer: as many as there are.
pub const TASKS_MAX: usize = CycleTask::ALL.len();

/// How far away "not before" may be: with more, a repository would never be maintained.
pub const PAUSE_MAX: Duration = Duration::from_secs(31 * 24 * 3_600);

/// The last run of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LastRun {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Whether it succeeded.
    pub success: bool,
}

/// A task of a cycle.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TaskRow {
    /// The task.
    pub task: CycleTask,
    /// What would become of it after all tasks before it.
    pub verdict: Verdict,
    /// Why.
    pub because: String,
    /// Until when it waits, where time alone decides.
    pub until: Option<Timestamp>,
    /// Its last run, by whatever client.
    pub last: Option<LastRun>,
    /// What it would cost; where costs are counted and it is not off.
    pub cost: Option<TaskCost>,
}

/// What is known of the costs of tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Costs {
    /// Nothing yet: who asks for them has the whole index read.
    #[default]
    NotCounted,
    /// Each task says its own.
    Counted,
    /// They cannot be counted; why.
    Unknown(String),
}

/// A cycle that is due, or that the user asks for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CycleRow {
    /// Which one.
    pub cycle: Cycle,
    /// Why.
    pub because: String,
    /// Its tasks in Kopia's order, those left out that the user has not named.
    pub tasks: Vec<TaskRow>,
}

/// What the host tells.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SchedulingQuestion {
    /// Now.
    pub now: Timestamp,
    /// Local time.
    pub zone: Zone,
    /// Whether the user asks for a cycle or for tasks.
    pub asked_for: bool,
    /// Cycles to choose from, Kopia's choice first.
    pub cycles: Vec<CycleRow>,
    /// Clients that may be writing.
    pub writers: u32,
    /// When the newest of their markers was written, by the storage's clock.
    pub newest_writer: Option<Timestamp>,
    /// Index blobs that a reader uses.
    pub index_blobs: u64,
    /// Their bytes as stored.
    pub index_bytes: u64,
    /// The memory limit, in bytes.
    pub memory_bytes: u64,
    /// Scratch that is free, in bytes.
    pub scratch_bytes: u64,
    /// What is known of costs.
    pub costs: Costs,
}

/// A task that is to run, as a strategy names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTask {
    /// Kopia's name.
    pub name: String,
    /// What it may use.
    pub budget: Budget,
}

/// What a strategy wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchedulingAnswer {
    /// Run these tasks of a cycle.
    Run {
        /// The cycle.
        cycle: Cycle,
        /// The tasks in their order; at most [`TASKS_MAX`].
        tasks: Vec<NamedTask>,
        /// Why; at most [`REASON_BYTES_MAX`] bytes.
        reason: String,
    },
    /// Run nothing yet.
    Wait {
        /// Not before this moment, at most [`PAUSE_MAX`] away.
        not_before: Timestamp,
        /// Why; at most [`REASON_BYTES_MAX`] bytes.
        reason: String,
    },
    /// Count the costs and ask again.
    CountCosts,
}

/// A task that is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskChoice {
    /// The task.
    pub task: CycleTask,
    /// What it may use.
    pub budget: Budget,
}

/// What a checked answer comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Tasks of a cycle, in their order.
    Run(Cycle, Vec<TaskChoice>),
    /// Nothing before a moment.
    Wait(Timestamp),
}

/// Decides which due tasks run, and in what order.
pub trait Scheduling: Send {
    /// Answers `question`, on its own: nothing is remembered of others.
    fn schedule(
        &mut self,
        question: &SchedulingQuestion,
    ) -> Result<SchedulingAnswer, StrategyError>;

    /// Names the strategy for plans and errors: file, digest, limits.
    fn describe(&self) -> String;

    /// Says what its calls have used at most, for errors; empty where nobody counts.
    fn used(&self) -> String {
        String::new()
    }
}

impl SchedulingAnswer {
    /// Returns the strategy's reason.
    pub fn reason(&self) -> &str {
        match self {
            Self::Run { reason, .. } | Self::Wait { reason, .. } => reason,
            Self::CountCosts => "",
        }
    }

    /// Returns whether costs are to be counted for another question.
    pub fn asks_for_costs(&self, question: &SchedulingQuestion) -> bool {
        *self == Self::CountCosts && question.costs == Costs::NotCounted
    }

    /// Checks the answer against `question`; the error says which rule it breaks.
    pub fn check(&self, question: &SchedulingQuestion) -> Result<Choice, String> {
        if self.reason().len() > REASON_BYTES_MAX {
            return Err(format!("a reason of more than {REASON_BYTES_MAX} bytes"));
        }
        match self {
            Self::Wait { not_before, .. } => {
                let last = question.now.plus(PAUSE_MAX);
                if *not_before <= question.now || *not_before > last {
                    return Err(format!(
                        "nothing before {not_before}; allowed are times after now, up to {last}"
                    ));
                }
                Ok(Choice::Wait(*not_before))
            }
            Self::Run { cycle, tasks, .. } => {
                let row = question.cycles.iter().find(|row| row.cycle == *cycle);
                let row = row.ok_or_else(|| format!("{cycle} maintenance is not due"))?;
                let choices = named(row, tasks)?;
                check_order(&choices)?;
                Ok(Choice::Run(*cycle, choices))
            }
            Self::CountCosts => Err("costs were counted already, as far as they can be".to_owned()),
        }
    }
}

/// Finds the tasks of a cycle that are named, each once.
fn named(row: &CycleRow, tasks: &[NamedTask]) -> Result<Vec<TaskChoice>, String> {
    if tasks.is_empty() {
        return Err("no task at all; that is to be said by waiting".to_owned());
    }
    if tasks.len() > TASKS_MAX {
        return Err(format!("{} tasks; allowed are {TASKS_MAX}", tasks.len()));
    }
    let mut choices: Vec<TaskChoice> = Vec::with_capacity(tasks.len());
    for NamedTask { name, budget } in tasks {
        let known = row.tasks.iter().map(|row| row.task);
        let task = known.into_iter().find(|task| task.name() == name);
        let task = task.ok_or_else(|| {
            let name: String = name.chars().take(40).collect();
            format!("task {name:?} is not one of those to choose from")
        })?;
        if choices.iter().any(|choice| choice.task == task) {
            return Err(format!("task {task} twice"));
        }
        if !budget.is_none() && !task.keeps_budget() {
            return Err(format!("a budget for task {task}, which cannot keep one"));
        }
        choices.push(TaskChoice {
            task,
            budget: *budget,
        });
    }
    Ok(choices)
}

/// Where a task stands among those whose order matters.
enum Place {
    /// Tasks of contents and packs: after those of a smaller number. What snapshot GC brings back
    /// must not be forgotten before; what a rewrite orphans or a drop forgets is deleted after.
    Contents(usize),
    /// Tasks of the index, which share one look at it: together, in their order.
    Index(usize),
    /// Anywhere.
    Free,
}

fn place(task: CycleTask) -> Place {
    match task {
        CycleTask::SnapshotGc => Place::Contents(0),
        CycleTask::FullRewriteContents | CycleTask::QuickRewriteContents => Place::Contents(1),
        CycleTask::FullDropDeletedContent => Place::Contents(2),
        CycleTask::FullDeleteBlobs => Place::Contents(3),
        CycleTask::QuickDeleteBlobs => Place::Contents(4),
        CycleTask::ExtendBlobRetentionTime => Place::Contents(5),
        CycleTask::IndexCompaction => Place::Index(0),
        CycleTask::CompactSingleEpoch => Place::Index(1),
        CycleTask::AdvanceEpoch => Place::Index(2),
        CycleTask::GenerateEpochRangeIndex => Place::Index(3),
        CycleTask::CleanupEpochMarkers => Place::Index(4),
        CycleTask::DeleteSupersededEpochIndexes => Place::Index(5),
        CycleTask::CleanupLogs => Place::Free,
    }
}

/// Checks that Kopia's tasks could have run in this order, over one or more cycles.
fn check_order(choices: &[TaskChoice]) -> Result<(), String> {
    let mut contents: Option<(usize, CycleTask)> = None;
    let mut index: Option<(usize, CycleTask)> = None;
    // Whether tasks of contents came before the index, and after it.
    let (mut before, mut after) = (false, false);
    for TaskChoice { task, .. } in choices {
        let (last, rank) = match place(*task) {
            Place::Free => continue,
            Place::Contents(rank) => {
                before |= index.is_none();
                after |= index.is_some();
                (&mut contents, rank)
            }
            Place::Index(rank) => {
                if after {
                    return Err(format!("task {task} apart from others of the index"));
                }
                (&mut index, rank)
            }
        };
        if before && after {
            return Err(format!(
                "task {task} after those of the index, and others before"
            ));
        }
        if let Some((other, earlier)) = last.replace((rank, *task))
            && other > rank
        {
            return Err(format!("task {task} after {earlier}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
