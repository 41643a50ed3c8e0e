//! Asks the scheduling strategy which of the due tasks run, and turns its answer into the plan of
//! the run.
//!
//! The host decides which cycles are due and which tasks they have; the strategy chooses among
//! them. What it answers is checked ([`super::scheduling`]); the plan that follows is judged by
//! Kopia's safety gates in the order that was chosen, and the run asks each gate again. What tasks
//! cost is counted only for a strategy that asks for it. Writes nothing. Memory: the question, two
//! cycles of at most 14 rows; and while costs are counted, that of
//! [`Holdings::find`](super::holdings::Holdings::find).

use super::MaintenanceError;
use super::cycle_plan::{
    Circumstances, CyclePlan, PlannedTask, Scheduled, Verdict, Wanted, cycles,
};
use super::cycle_task::{Cycle, CycleTask};
use super::retention::Zone;
use super::scheduling::{
    Choice, Costs, CycleRow, LastRun, Scheduling, SchedulingQuestion, TaskChoice, TaskRow,
};
use super::strategy::StrategyError;
use super::task_costs::TaskCost;
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

/// Tells what a task costs.
pub(super) type CostOf<'a> = Box<dyn Fn(CycleTask) -> TaskCost + 'a>;

/// Counts what the repository holds, for costs.
pub(super) type CountCosts<'a> = dyn FnMut() -> Result<CostOf<'a>, MaintenanceError> + 'a;

/// Asks, where any cycle is due, and makes the plan.
///
/// # Errors
/// A strategy that fails, and an answer that the host refuses; that the run is to end.
pub(super) fn choose<'c>(
    scheduling: &mut dyn Scheduling,
    wanted: &Wanted,
    facts: &Circumstances<'_>,
    surroundings: Surroundings,
    count: &mut CountCosts<'c>,
) -> Result<CyclePlan, MaintenanceError> {
    let due = cycles(wanted, facts);
    if due.is_empty() {
        return Ok(CyclePlan::make(wanted, facts));
    }
    let mut question = question(&due, wanted, facts, surroundings);
    let mut answer = scheduling.schedule(&question)?;
    if answer.asks_for_costs(&question) {
        tell_costs(&mut question, count())?;
        answer = scheduling.schedule(&question)?;
    }
    let strategy = scheduling.describe();
    let choice = answer
        .check(&question)
        .map_err(|why| StrategyError::refused(strategy.clone(), &scheduling.used(), why))?;
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

/// Puts costs into a question. That they cannot be counted is no reason to end the run: what must
/// end it, the tasks find themselves.
fn tell_costs(
    question: &mut SchedulingQuestion,
    counted: Result<CostOf<'_>, MaintenanceError>,
) -> Result<(), MaintenanceError> {
    let cost_of = match counted {
        Err(error) if error.is_halt() => return Err(error),
        Err(error) => {
            tracing::warn!(%error, "costs are not known");
            question.costs = Costs::Unknown(error.to_string());
            return Ok(());
        }
        Ok(cost_of) => cost_of,
    };
    question.costs = Costs::Counted;
    let rows = question.cycles.iter_mut().flat_map(|row| &mut row.tasks);
    for row in rows.filter(|row| row.verdict != Verdict::Off) {
        row.cost = Some(cost_of(row.task));
    }
    Ok(())
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
        costs: Costs::NotCounted,
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
        cost: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::blob::BlobError;
    use crate::clock::Timestamp;
    use crate::kopia::blob_id::BlobId;
    use crate::kopia::maintenance_params::MaintenanceParams;
    use crate::kopia::schedule::RunInfo;
    use crate::maintenance::budget::Budget;
    use crate::maintenance::cycle_plan::{Mode, Verdict};
    use crate::maintenance::safety::Safety;
    use crate::maintenance::scheduling::{NamedTask, SchedulingAnswer};

    const NOW: Timestamp = Timestamp::from_seconds(1_788_220_800);

    /// A strategy that answers what it is told, the last for ever, and keeps the last question.
    struct Told {
        answers: Vec<SchedulingAnswer>,
        asked: Option<SchedulingQuestion>,
    }

    impl Scheduling for Told {
        fn schedule(
            &mut self,
            question: &SchedulingQuestion,
        ) -> Result<SchedulingAnswer, StrategyError> {
            self.asked = Some(question.clone());
            Ok(match self.answers.len() {
                1 => self.answers[0].clone(),
                _ => self.answers.remove(0),
            })
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
    ) -> (
        Result<CyclePlan, MaintenanceError>,
        Option<SchedulingQuestion>,
    ) {
        let wanted = (mode, tasks);
        let count = &mut || panic!("nobody has asked for costs");
        asked_counting(vec![answer], wanted, schedule, count)
    }

    fn asked_counting<'c>(
        answers: Vec<SchedulingAnswer>,
        (mode, tasks): (Mode, &[CycleTask]),
        schedule: &Schedule,
        count: &mut CountCosts<'c>,
    ) -> (
        Result<CyclePlan, MaintenanceError>,
        Option<SchedulingQuestion>,
    ) {
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
            answers,
            asked: None,
        };
        let surroundings = Surroundings::default();
        let plan = choose(&mut told, &wanted, &facts, surroundings, count);
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

    fn cost(task: CycleTask) -> TaskCost {
        TaskCost {
            task,
            read_bytes: task.name().len() as u64,
            written_bytes: 2,
            requests: 3,
            scratch_bytes: 4,
            memory_bytes: 5,
        }
    }

    /// Goal: costs are counted once, for who asks, and every task that is not off has its own.
    #[test]
    fn costs_are_counted_for_who_asks() {
        let choice = run(Cycle::Full, &[("snapshot-gc", None)]);
        let answers = vec![SchedulingAnswer::CountCosts, choice];
        let mut counted = 0;
        let mut count = || {
            counted += 1;
            Ok(Box::new(cost) as CostOf<'_>)
        };
        let wanted = (Mode::Full, &[][..]);
        let (plan, question) = asked_counting(answers, wanted, &both_due(), &mut count);
        assert_eq!(plan.unwrap().cycle, Some(Cycle::Full));
        assert_eq!(counted, 1);
        let question = question.unwrap();
        assert_eq!(question.costs, Costs::Counted);
        for row in &question.cycles[0].tasks {
            let expected = (row.verdict != Verdict::Off).then(|| cost(row.task));
            assert_eq!(row.cost, expected, "{row:?}");
        }
        assert!(
            question.cycles[0]
                .tasks
                .iter()
                .any(|row| row.cost.is_none())
        );
        let answers = vec![SchedulingAnswer::CountCosts];
        let mut count = || Ok(Box::new(cost) as CostOf<'_>);
        let (plan, _) = asked_counting(answers, wanted, &both_due(), &mut count);
        assert_eq!(plan.unwrap_err().code(), "plugin-answer-refused");
    }

    /// Goal: costs that cannot be counted end nothing, unless it is the run that is to end.
    #[test]
    fn a_strategy_is_told_that_costs_are_not_known() {
        let failing = |failure: fn() -> BlobError| {
            let choice = run(Cycle::Full, &[("snapshot-gc", None)]);
            let answers = vec![SchedulingAnswer::CountCosts, choice];
            let mut count = || Err(failure().into());
            asked_counting(answers, (Mode::Full, &[]), &both_due(), &mut count)
        };
        let (plan, question) = failing(|| BlobError::NotFound {
            id: BlobId::new("p1"),
        });
        assert!(plan.is_ok());
        let question = question.unwrap();
        assert!(matches!(&question.costs, Costs::Unknown(why) if why.contains("p1")));
        assert!(
            question.cycles[0]
                .tasks
                .iter()
                .all(|row| row.cost.is_none())
        );
        assert_eq!(
            failing(|| BlobError::Halted).0.unwrap_err().code(),
            "halted"
        );
    }
}
