//! The SDK's test kit holds answers against a copy of the host's rules; here the copy is compared
//! with the original, over random answers. What the kit accepts, the host accepts.

use careen::clock::Timestamp;
use careen::maintenance::budget::Budget;
use careen::maintenance::cycle_plan::Verdict;
use careen::maintenance::cycle_task::{Cycle, CycleTask};
use careen::maintenance::retention::Zone;
use careen::maintenance::scheduling::{
    Costs, CycleRow, NamedTask, SchedulingAnswer, SchedulingQuestion, TaskRow,
};
use careen::maintenance::strategy::{EpochRange, SplittingAnswer, SplittingQuestion};
use careen_guest_sdk::scheduling::{Decision, Question, RunPlan, Scheduling, TaskChoice};
use careen_guest_sdk::splitting::{self, PackPlan, PackQuestion, Plan, Splitting};
use careen_guest_sdk::{kit, scheduling};
use proptest::prelude::*;

/// Answers what it is told.
struct Told<T>(T);

impl Scheduling for Told<RunPlan> {
    fn schedule(&self, _: &Question) -> Result<Decision, String> {
        Ok(Decision::Run(self.0.clone()))
    }
}

impl Splitting for Told<Plan> {
    fn split(&self, _: &splitting::Question) -> Result<Plan, String> {
        Ok(self.0.clone())
    }

    fn repack(&mut self, _: &PackQuestion) -> Result<PackPlan, String> {
        Err("not asked".into())
    }
}

/// The kit's cycles as the host's question, as far as the check looks at it.
fn hosts(question: &Question) -> SchedulingQuestion {
    let task = |row: &scheduling::TaskRow| {
        let task = CycleTask::parse(&row.name).expect("the kit has tasks that there are");
        assert_eq!(task.keeps_budget(), row.keeps_budget, "{task}");
        TaskRow {
            task,
            verdict: Verdict::Runs,
            because: String::new(),
            until: None,
            last: None,
            cost: None,
        }
    };
    let cycle = |row: &scheduling::CycleRow| {
        let cycle = match row.cycle {
            scheduling::Cycle::Full => Cycle::Full,
            scheduling::Cycle::Quick => Cycle::Quick,
        };
        let tasks: Vec<_> = row.tasks.iter().map(task).collect();
        let names: Vec<_> = tasks.iter().map(|row| row.task).collect();
        assert_eq!(names, cycle.tasks(true));
        CycleRow {
            cycle,
            because: String::new(),
            tasks,
        }
    };
    SchedulingQuestion {
        now: Timestamp::from_seconds(question.now_seconds),
        zone: Zone::default(),
        asked_for: false,
        cycles: question.cycles.iter().map(cycle).collect(),
        writers: 0,
        newest_writer: None,
        index_blobs: 0,
        index_bytes: 0,
        memory_bytes: 0,
        scratch_bytes: 0,
        costs: Costs::Counted,
    }
}

fn choices() -> impl Strategy<Value = Vec<TaskChoice>> {
    let names: Vec<_> = CycleTask::ALL.map(CycleTask::name).to_vec();
    let name = prop::sample::subsequence(names, 0..7).prop_shuffle();
    let budgets = prop::collection::vec(prop::option::weighted(0.1, any::<u64>()), 7);
    (name, budgets).prop_map(|(names, budgets)| {
        let choice = |(name, bytes): (&str, Option<u64>)| TaskChoice {
            name: name.to_owned(),
            budget: scheduling::Budget {
                bytes,
                requests: None,
            },
        };
        names.into_iter().zip(budgets).map(choice).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_rules_about_cycles_are_the_hosts(tasks in choices(), full in any::<bool>()) {
        let question = kit::cycles();
        let named = |choice: &TaskChoice| NamedTask {
            name: choice.name.clone(),
            budget: Budget {
                bytes: choice.budget.bytes,
                requests: choice.budget.requests,
            },
        };
        let answer = SchedulingAnswer::Run {
            cycle: if full { Cycle::Full } else { Cycle::Quick },
            tasks: tasks.iter().map(named).collect(),
            reason: String::new(),
        };
        let plan = RunPlan {
            cycle: if full { scheduling::Cycle::Full } else { scheduling::Cycle::Quick },
            tasks,
            reason: String::new(),
        };
        let kits = kit::schedule(&Told(plan), &question).map(drop);
        let hosts = answer.check(&hosts(&question)).map(drop);
        prop_assert_eq!(kits, hosts);
    }

    #[test]
    fn the_rules_about_epochs_are_the_hosts(
        shard_entries in prop_oneof![99_990_u32..100_010, 15_999_990_u32..16_000_010],
        cuts in prop::collection::vec(0_u32..4, 0..5),
        gap in prop_oneof![4 => Just(0_u32), 1 => 1_u32..3],
    ) {
        let question = kit::index();
        let mut start = question.chain_end + gap;
        let ranges = cuts.iter().map(|epochs| {
            let range = (start, start + epochs);
            start = range.1 + 1;
            range
        });
        let ranges: Vec<_> = ranges.collect();
        let join = |(min, max): &(u32, u32)| splitting::EpochRange { min: *min, max: *max };
        let plan = Plan {
            shard_entries,
            joins: ranges.iter().map(join).collect(),
            reason: String::new(),
        };
        let join = |(min, max): &(u32, u32)| EpochRange { min: *min, max: *max };
        let answer = SplittingAnswer {
            shard_entries: shard_entries.into(),
            joins: ranges.iter().map(join).collect(),
            reason: String::new(),
        };
        let asked = SplittingQuestion {
            write_epoch: question.write_epoch,
            chain_end: question.chain_end,
            last_settled: question.last_settled,
            full_checkpoint_frequency: question.full_checkpoint_frequency,
            shard_entries_max: question.shard_entries_max.into(),
            epochs: Vec::new(),
        };
        prop_assert_eq!(kit::split(&Told(plan), &question).map(drop), answer.check(&asked));
    }
}
