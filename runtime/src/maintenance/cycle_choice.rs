//! Asks the scheduling strategy which of the due tasks run, and turns its answer into the plan of
//! the run.
//!
//! The host decides which cycles are due and which tasks they have; the strategy chooses among
//! them. What it answers is checked ([`super::scheduling`]); the plan that follows is judged by
//! Kopia's safety gates in the order that was chosen, and the run asks each gate again. Writes
//! nothing. Memory: the question, two cycles of at most 14 rows.

use super::cycle_plan::{Circumstances, CyclePlan, PlannedTask, Scheduled, Wanted, cycles};
use super::cycle_task::{Cycle, CycleTask};
use super::retention::Zone;
use super::scheduling::{
    Choice, CycleRow, LastRun, Scheduling, SchedulingQuestion, TaskChoice, TaskRow,
};
use super::strategy::StrategyError;
use crate::kopia::schedule::Schedule;
use crate::repository::sessions::Writers;

/// What a strategy is told besides tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    pub(super) zone: Zone,
    pub(super) writers: Writers,
    pub(super) index_blobs: u64,
    pub(super) index_bytes: u64,
    pub(super) memory_bytes: u64,
    pub(super) scratch_bytes: u64,
}

/// Asks, where any cycle is due, and makes the plan.
///
/// # Errors
/// A strategy that fails, and an answer that the host refuses.
pub(super) fn choose(
    scheduling: &mut dyn Scheduling,
    wanted: &Wanted,
    facts: &Circumstances<'_>,
    surroundings: Surroundings,
) -> Result<CyclePlan, StrategyError> {
    let due = cycles(wanted, facts);
    if due.is_empty() {
        return Ok(CyclePlan::make(wanted, facts));
    }
    let question = question(&due, wanted, facts, surroundings);
    let answer = scheduling.schedule(&question)?;
    let strategy = scheduling.describe();
    let choice = answer
        .check(&question)
        .map_err(|reason| StrategyError::Refused {
            strategy: strategy.clone(),
            reason,
        })?;
    let reason = answer.reason().to_owned();
    let mut scheduled = Scheduled {
        strategy,
        reason,
        not_before: None,
    };
    let mut plan = match choice {
        Choice::Wait(not_before) => {
            scheduled.not_before = Some(not_before);
            let because = format!("not before {not_before}: {}", scheduled.reason);
            CyclePlan::of_nothing(because, facts)
        }
        Choice::Run(cycle, choices) => plan_of(cycle, &choices, &due, wanted, facts),
    };
    plan.scheduling = Some(scheduled);
    Ok(plan)
}

/// Makes the plan of what was chosen.
fn plan_of(
    cycle: Cycle,
    choices: &[TaskChoice],
    due: &[(Cycle, String)],
    wanted: &Wanted,
    facts: &Circumstances<'_>,
) -> CyclePlan {
    let because = due.iter().find(|(due, _)| *due == cycle);
    let because = because.map(|(_, because)| because.clone());
    let order: Vec<CycleTask> = choices.iter().map(|choice| choice.task).collect();
    let because = because.unwrap_or_default();
    let mut plan = CyclePlan::of_cycle(cycle, because, &order, wanted, facts);
    for row in &mut plan.tasks {
        let choice = choices.iter().find(|choice| choice.task == row.task);
        row.budget = choice.map(|choice| choice.budget).unwrap_or_default();
    }
    plan
}

fn question(
    due: &[(Cycle, String)],
    wanted: &Wanted,
    facts: &Circumstances<'_>,
    surroundings: Surroundings,
) -> SchedulingQuestion {
    let cycle_row = |(cycle, because): &(Cycle, String)| {
        let order = cycle.tasks(facts.has_epochs);
        let plan = CyclePlan::of_cycle(*cycle, because.clone(), order, wanted, facts);
        let named = plan.tasks.into_iter().filter(|row| wanted.wants(row.task));
        CycleRow {
            cycle: *cycle,
            because: because.clone(),
            tasks: named.map(|row| task_row(row, facts.schedule)).collect(),
        }
    };
    let Surroundings {
        zone,
        writers,
        index_blobs,
        index_bytes,
        memory_bytes,
        scratch_bytes,
    } = surroundings;
    SchedulingQuestion {
        now: facts.now,
        zone,
        asked_for: wanted.is_explicit(),
        cycles: due.iter().map(cycle_row).collect(),
        writers: writers.count,
        newest_writer: writers.newest,
        index_blobs,
        index_bytes,
        memory_bytes,
        scratch_bytes,
    }
}

fn task_row(row: PlannedTask, schedule: &Schedule) -> TaskRow {
    let last = schedule.runs_of(row.task.name()).first();
    TaskRow {
        task: row.task,
        verdict: row.verdict,
        because: row.because,
        until: row.until,
        last: last.map(|run| LastRun {
            start: run.start,
            end: run.end,
            success: run.success,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Timestamp;
    use crate::kopia::maintenance_params::MaintenanceParams;
    use crate::kopia::schedule::RunInfo;
    use crate::maintenance::budget::Budget;
    use crate::maintenance::cycle_plan::{Mode, Verdict};
    use crate::maintenance::safety::Safety;
    use crate::maintenance::scheduling::{NamedTask, SchedulingAnswer};

    const NOW: Timestamp = Timestamp::from_seconds(1_788_220_800);

    /// A strategy that answers what it is told, and keeps the question.
    struct Told {
        answer: SchedulingAnswer,
        asked: Option<SchedulingQuestion>,
    }

    impl Scheduling for Told {
        fn schedule(
            &mut self,
            question: &SchedulingQuestion,
        ) -> Result<SchedulingAnswer, StrategyError> {
            self.asked = Some(question.clone());
            Ok(self.answer.clone())
        }

        fn describe(&self) -> String {
            "told".to_owned()
        }
    }

    fn run(cycle: Cycle, names: &[(&str, Option<u64>)]) -> SchedulingAnswer {
        let named = |(name, bytes): &(&str, Option<u64>)| NamedTask {
            name: (*name).to_owned(),
            budget: Budget {
                bytes: *bytes,
                requests: None,
            },
        };
        SchedulingAnswer::Run {
            cycle,
            tasks: names.iter().map(named).collect(),
            reason: "a test".to_owned(),
        }
    }

    fn asked(
        answer: SchedulingAnswer,
        mode: Mode,
        schedule: &Schedule,
        tasks: &[CycleTask],
    ) -> (Result<CyclePlan, StrategyError>, Option<SchedulingQuestion>) {
        let wanted = Wanted {
            mode,
            tasks: tasks.to_vec(),
            safety: Safety::full(),
        };
        let facts = Circumstances {
            has_epochs: true,
            params: &MaintenanceParams::default(),
            schedule,
            now: NOW,
        };
        let mut told = Told {
            answer,
            asked: None,
        };
        let plan = choose(&mut told, &wanted, &facts, Surroundings::default());
        (plan, told.asked)
    }

    fn both_due() -> Schedule {
        let hour = Duration::from_secs(3_600);
        let mut schedule = Schedule {
            next_full: NOW.minus(hour),
            next_quick: NOW.minus(hour * 2),
            ..Schedule::default()
        };
        let (start, end) = (NOW.minus(hour * 25), NOW.minus(hour * 24));
        let info = RunInfo::succeeded(start, end, vec![]);
        schedule.report_run("snapshot-gc", info);
        schedule
    }

    #[test]
    fn both_cycles_that_are_due_are_told_kopias_choice_first() {
        let answer = run(Cycle::Quick, &[("advance-epoch", None)]);
        let (plan, question) = asked(answer, Mode::Auto, &both_due(), &[]);
        let (plan, question) = (plan.unwrap(), question.unwrap());
        let cycles: Vec<_> = question.cycles.iter().map(|row| row.cycle).collect();
        assert_eq!(cycles, [Cycle::Full, Cycle::Quick]);
        assert!(!question.asked_for);
        let gc = question.cycles[0].tasks[0].last.unwrap();
        assert!(gc.success && gc.end < NOW);
        assert_eq!(question.cycles[1].tasks.len(), 2);
        assert_eq!(plan.cycle, Some(Cycle::Quick));
        let rows: Vec<_> = plan.tasks.iter().map(|row| row.verdict).collect();
        assert_eq!(rows, [Verdict::Left, Verdict::Runs]);
        assert_eq!(plan.scheduling.unwrap().reason, "a test");
    }

    #[test]
    fn gates_judge_the_order_that_was_chosen_and_budgets_stay_with_their_tasks() {
        let names = [
            ("compact-single-epoch", None),
            ("full-rewrite-contents", Some(7)),
            ("full-delete-blobs", None),
        ];
        let (plan, question) = asked(
            run(Cycle::Full, &names),
            Mode::Full,
            &Schedule::default(),
            &[],
        );
        assert!(question.unwrap().asked_for);
        let plan = plan.unwrap();
        let rows: Vec<_> = plan.tasks.iter().take(3).collect();
        let tasks: Vec<_> = rows.iter().map(|row| row.task.name()).collect();
        let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        assert_eq!(tasks, names);
        // The deletion follows the rewrite of this very run.
        let verdicts: Vec<_> = rows.iter().map(|row| row.verdict).collect();
        assert_eq!(verdicts, [Verdict::Runs, Verdict::Runs, Verdict::Waits]);
        assert_eq!(rows[1].budget.bytes, Some(7));
        let left = |row: &&PlannedTask| row.verdict == Verdict::Left;
        assert_eq!(plan.tasks.iter().filter(left).count(), 8);
        let alone = run(Cycle::Full, &[("full-delete-blobs", None)]);
        let (plan, _) = asked(alone, Mode::Full, &Schedule::default(), &[]);
        let running: Vec<_> = plan.unwrap().running().collect();
        assert_eq!(running, [CycleTask::FullDeleteBlobs]);
    }

    #[test]
    fn only_named_tasks_are_offered() {
        let tasks = [CycleTask::SnapshotGc, CycleTask::CleanupLogs];
        let answer = run(Cycle::Full, &[("full-delete-blobs", None)]);
        let (plan, question) = asked(answer, Mode::Full, &Schedule::default(), &tasks);
        let offered = question.unwrap().cycles.remove(0).tasks;
        let offered: Vec<_> = offered.into_iter().map(|row| row.task).collect();
        assert_eq!(offered, tasks);
        assert_eq!(plan.unwrap_err().code(), "plugin-answer-refused");
    }

    #[test]
    fn waiting_is_a_plan_of_nothing_and_nobody_is_asked_when_nothing_is_due() {
        let wait = |seconds| SchedulingAnswer::Wait {
            not_before: Timestamp::from_seconds(NOW.seconds() + seconds),
            reason: "backups run".to_owned(),
        };
        let (plan, _) = asked(wait(60), Mode::Auto, &both_due(), &[]);
        let plan = plan.unwrap();
        assert_eq!((plan.cycle, plan.tasks.len()), (None, 0));
        let text = "not before 2026-09-01T00:01:00Z: backups run";
        assert_eq!(plan.because, text);
        assert!(plan.scheduling.unwrap().not_before.is_some());
        let (plan, _) = asked(wait(-60), Mode::Auto, &both_due(), &[]);
        assert_eq!(plan.unwrap_err().code(), "plugin-answer-refused");
        let later = Schedule {
            next_full: NOW.plus(Duration::from_secs(1)),
            next_quick: NOW.plus(Duration::from_secs(1)),
            ..Schedule::default()
        };
        let (plan, question) = asked(wait(60), Mode::Auto, &later, &[]);
        assert!(question.is_none());
        assert!(plan.unwrap().because.starts_with("nothing is due"));
    }
}
