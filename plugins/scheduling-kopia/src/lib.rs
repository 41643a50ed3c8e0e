//! The default scheduling strategy of Careen. It runs what Kopia runs, when Kopia runs it.
//!
//! Whatever is due is done at once: the full cycle when it is due, else the quick one. Every task
//! of it is chosen, in Kopia's order and without a budget. Those that wait are chosen too: like
//! Kopia's, their safety gates are asked when their turn comes. What tasks cost changes nothing, so
//! nobody has to count it.
//!
//! Memory: one answer. Mirrors `shouldRun`, `runFullMaintenance` and `runQuickMaintenance` of
//! Kopia's `repo/maintenance/maintenance_run.go`.

use careen_guest_sdk::register_scheduling;
use careen_guest_sdk::scheduling::{Cycle, Decision, Question, RunPlan, Scheduling, TaskRow};

/// The strategy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kopia;

impl Scheduling for Kopia {
    fn schedule(&self, question: &Question) -> Result<Decision, String> {
        // Kopia looks at the full cycle first; what the user asks for is alone.
        let full = question.cycles.iter().find(|row| row.cycle == Cycle::Full);
        let row = full.or_else(|| question.cycles.first());
        let row = row.ok_or("there is no cycle to choose from")?;
        Ok(Decision::Run(RunPlan {
            cycle: row.cycle,
            tasks: row.tasks.iter().map(TaskRow::choose).collect(),
            reason: "all that is due, in Kopia's order".into(),
        }))
    }
}

register_scheduling!(Kopia);

#[cfg(test)]
mod tests {
    use careen_guest_sdk::scheduling::{
        Budget, CostKnowledge, CycleRow, TaskChoice, TaskCost, Verdict,
    };

    use super::*;

    fn cycle(cycle: Cycle, tasks: &[(&str, Verdict)]) -> CycleRow {
        let row = |(name, verdict): &(&str, Verdict)| TaskRow {
            name: (*name).into(),
            verdict: *verdict,
            because: String::new(),
            until_seconds: None,
            last: None,
            keeps_budget: true,
            cost: Some(TaskCost {
                read_bytes: u64::MAX,
                written_bytes: u64::MAX,
                requests: u64::MAX,
                scratch_bytes: u64::MAX,
                memory_bytes: u64::MAX,
            }),
        };
        CycleRow {
            cycle,
            because: String::new(),
            tasks: tasks.iter().map(row).collect(),
        }
    }

    /// What is answered, which does not depend on what is known of costs.
    fn schedule(cycles: Vec<CycleRow>) -> Result<Decision, String> {
        let answers = [
            CostKnowledge::NotCounted,
            CostKnowledge::Counted,
            CostKnowledge::Unknown("a pack is gone".into()),
        ]
        .map(|costs| schedule_knowing(cycles.clone(), costs));
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        let [answer, ..] = answers;
        answer
    }

    fn schedule_knowing(cycles: Vec<CycleRow>, costs: CostKnowledge) -> Result<Decision, String> {
        Kopia.schedule(&Question {
            now_seconds: 0,
            offset_seconds: 0,
            zone: Vec::new(),
            asked_for: false,
            cycles,
            writers: 3,
            newest_writer_seconds: Some(-5),
            index_blobs: 0,
            index_bytes: 0,
            memory_bytes: 0,
            scratch_bytes: 0,
            costs,
        })
    }

    #[test]
    fn the_full_cycle_comes_first_with_every_task_in_its_order() {
        let quick = cycle(Cycle::Quick, &[("advance-epoch", Verdict::Runs)]);
        let full = [
            ("snapshot-gc", Verdict::Runs),
            ("full-delete-blobs", Verdict::Waits),
            ("extend-blob-retention-time", Verdict::Off),
        ];
        let full = cycle(Cycle::Full, &full);
        for cycles in [
            vec![full.clone(), quick.clone()],
            vec![quick.clone(), full.clone()],
        ] {
            let Ok(Decision::Run(plan)) = schedule(cycles) else {
                panic!("it runs")
            };
            assert_eq!(plan.cycle, Cycle::Full);
            let names: Vec<_> = plan.tasks.iter().map(|task| &*task.name).collect();
            let all = [
                "snapshot-gc",
                "full-delete-blobs",
                "extend-blob-retention-time",
            ];
            assert_eq!(names, all);
            let free = |task: &TaskChoice| task.budget == Budget::NONE;
            assert!(plan.tasks.iter().all(free));
            assert!(!plan.reason.is_empty());
        }
        let Ok(Decision::Run(plan)) = schedule(vec![quick]) else {
            panic!("it runs")
        };
        assert_eq!(plan.cycle, Cycle::Quick);
    }

    #[test]
    fn a_question_without_a_cycle_is_an_error() {
        assert!(schedule(Vec::new()).is_err());
    }
}
