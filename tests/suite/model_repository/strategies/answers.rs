//! Strategies that answer at random: mostly something that may be done, sometimes anything that the
//! types allow.
//!
//! What they answer is a plain value made beforehand, so that proptest can make it smaller; it is
//! fitted to the question when that comes. They write down what they were asked and what they
//! wanted. Memory: a few rows.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use careen::maintenance::budget::Budget;
use careen::maintenance::cycle_task::{Cycle, CycleTask};
use careen::maintenance::pack_choice::{ChoosePacks, ShortPacks};
use careen::maintenance::retention::{Decision, Retention, RetentionQuestion};
use careen::maintenance::scheduling::{
    NamedTask, Scheduling, SchedulingAnswer, SchedulingQuestion,
};
use careen::maintenance::strategy::{
    EpochRange, RepackAnswer, RepackQuestion, Splitting, SplittingAnswer, SplittingQuestion,
    StrategyError, TaggedSource,
};
use careen::repository::snapshot_history::HistoryRow;
use kit::cycle::KopiasOrder;
use kit::index_work::KopiasShape;
use proptest::collection::vec;
use proptest::prelude::*;

/// What the strategies of one run wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// Who was asked last.
    pub(super) last: &'static str,
    /// Whether a strategy was asked to decide about tasks and answered with these.
    pub(super) tasks: Option<Vec<String>>,
    /// Snapshots to be expired.
    pub(super) expired: BTreeSet<String>,
    /// Whether somebody failed.
    pub(super) failed: bool,
}

/// Shared by the strategies of a run and who judges it.
pub(super) type Notes = Arc<Mutex<Wanted>>;

/// An answer about tasks.
#[derive(Clone, Debug)]
pub(super) enum Tasks {
    AsKopia,
    /// Those whose bit is set, in Kopia's order or with the index first; those that can with a
    /// budget.
    Some(u16, bool, Option<u16>),
    /// Any tasks of any cycle in any order, as often as they come.
    Any(Vec<u8>, bool),
    /// Not before so many seconds from now.
    Wait(i64),
    CountCosts,
    /// A name that there is not, a budget that cannot be kept, a novel for a reason.
    Unknown,
    Overlimited,
    Novel,
    Fails,
}

/// An answer about the index.
#[derive(Clone, Debug)]
pub(super) enum Index {
    AsKopia,
    Shards(u64),
    /// Ranges, counted from the end of the chain.
    Joins(Vec<(i8, u8)>),
    Fails,
}

/// An answer about packs.
#[derive(Clone, Debug)]
pub(super) enum Packs {
    AsKopia,
    /// Size of new packs in percent, and numbers, again and again.
    Groups(u8, Vec<u8>),
    /// So many answers too many.
    Off(i8),
    Bytes(u64),
    Fails,
}

/// An answer about whose snapshots are.
#[derive(Clone, Debug)]
pub(super) enum Tenants {
    /// Numbers, again and again.
    Numbers(Vec<u8>),
    /// So many answers too many.
    Off(i8),
    Fails,
}

/// An answer about snapshots.
#[derive(Clone, Debug)]
pub(super) enum Snapshots {
    Keep,
    /// Those whose bit is set.
    Expire(u16),
    ExpireAll,
    Off(i8),
    Novel,
    Fails,
    FailsAtOnce,
}

/// All answers of a run.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    pub(super) tasks: Vec<Tasks>,
    pub(super) index: Index,
    pub(super) packs: Vec<Packs>,
    /// Where tenants are told apart.
    pub(super) tenants: Option<Tenants>,
    pub(super) snapshots: Option<Snapshots>,
    /// Share of the snapshots that may be expired, in percent.
    pub(super) percent_max: u8,
}

/// Returns random answers.
pub(super) fn answers() -> impl Strategy<Value = Answers> {
    let some = (any::<u16>(), any::<bool>(), prop::option::of(any::<u16>()));
    let tasks = prop_oneof![
        4 => Just(Tasks::AsKopia),
        12 => some.prop_map(|(bits, first, budget)| Tasks::Some(bits, first, budget)),
        2 => (vec(any::<u8>(), 0..16), any::<bool>()).prop_map(|(any, all)| Tasks::Any(any, all)),
        2 => prop_oneof![3 => -50..500_i64, 1 => any::<i64>()].prop_map(Tasks::Wait),
        2 => Just(Tasks::CountCosts),
        1 => prop_oneof![Just(Tasks::Unknown), Just(Tasks::Overlimited), Just(Tasks::Novel)],
        1 => Just(Tasks::Fails),
    ];
    let index = prop_oneof![
        8 => Just(Index::AsKopia),
        2 => prop_oneof![100_000..16_000_000_u64, any::<u64>()].prop_map(Index::Shards),
        2 => vec((prop_oneof![9 => Just(0), 1 => -1..2_i8], 0..4_u8), 0..3).prop_map(Index::Joins),
        1 => Just(Index::Fails),
    ];
    let groups = (
        58..=101_u8,
        vec(prop_oneof![40 => 0..4_u8, 1 => 120..130_u8], 1..8),
    );
    let packs = prop_oneof![
        4 => Just(Packs::AsKopia),
        10 => groups.prop_map(|(percent, groups)| Packs::Groups(percent, groups)),
        1 => (-2..3_i8).prop_map(Packs::Off),
        1 => any::<u64>().prop_map(Packs::Bytes),
        1 => Just(Packs::Fails),
    ];
    let numbers = vec(prop_oneof![30 => 1..5_u8, 1 => any::<u8>()], 4);
    let tenants = prop_oneof![
        10 => numbers.prop_map(Tenants::Numbers),
        1 => (-2..3_i8).prop_map(Tenants::Off),
        1 => Just(Tenants::Fails),
    ];
    let snapshots = prop_oneof![
        3 => Just(Snapshots::Keep),
        10 => any::<(u16, u16)>().prop_map(|(bits, less)| Snapshots::Expire(bits & less & !1)),
        2 => Just(Snapshots::ExpireAll),
        1 => (-2..3_i8).prop_map(Snapshots::Off),
        1 => prop_oneof![Just(Snapshots::Novel), Just(Snapshots::Fails)],
        1 => Just(Snapshots::FailsAtOnce),
    ];
    let percent = prop::sample::select(vec![0, 50, 50, 100, 100]);
    let tenants = prop::option::weighted(0.3, tenants);
    let rest = (prop::option::weighted(0.7, snapshots), percent);
    (vec(tasks, 1..3), index, vec(packs, 1..3), tenants, rest).prop_map(
        |(tasks, index, packs, tenants, (snapshots, percent_max))| Answers {
            tasks,
            index,
            packs,
            tenants,
            snapshots,
            percent_max,
        },
    )
}

/// Fails as a plugin does.
fn fails(notes: &Notes) -> StrategyError {
    notes.lock().unwrap().failed = true;
    StrategyError::Failed {
        strategy: "random".to_owned(),
        reason: "it ends here".to_owned(),
        code: "plugin-trap",
    }
}

fn novel() -> String {
    "x".repeat(1_001)
}

/// Takes one of several answers after the other.
fn next<T: Clone>(answers: &[T], asked: &mut usize) -> T {
    *asked += 1;
    answers[(*asked - 1) % answers.len()].clone()
}

/// Decides about tasks.
pub(super) struct RandomTasks {
    pub(super) answers: Vec<Tasks>,
    pub(super) asked: usize,
    pub(super) notes: Notes,
}

impl Scheduling for RandomTasks {
    fn schedule(
        &mut self,
        question: &SchedulingQuestion,
    ) -> Result<SchedulingAnswer, StrategyError> {
        self.notes.lock().unwrap().last = "scheduling";
        let answer = match next(&self.answers, &mut self.asked) {
            Tasks::Fails => Err(fails(&self.notes)),
            tasks => answer_about_tasks(tasks, question),
        }?;
        if let SchedulingAnswer::Run { tasks, .. } = &answer {
            let names = tasks.iter().map(|task| task.name.clone()).collect();
            self.notes.lock().unwrap().tasks = Some(names);
        }
        Ok(answer)
    }

    fn describe(&self) -> String {
        "random tasks".to_owned()
    }
}

fn answer_about_tasks(
    tasks: Tasks,
    question: &SchedulingQuestion,
) -> Result<SchedulingAnswer, StrategyError> {
    let row = &question.cycles[0];
    let named = |name: &str, bytes: Option<u64>| NamedTask {
        name: name.to_owned(),
        budget: Budget {
            bytes,
            requests: None,
        },
    };
    let offered = row.tasks.iter().map(|row| row.task);
    let (mut reason, mut cycle) = ("at random".to_owned(), row.cycle);
    let tasks: Vec<NamedTask> = match tasks {
        Tasks::AsKopia | Tasks::Fails => return KopiasOrder.schedule(question),
        Tasks::CountCosts => return Ok(SchedulingAnswer::CountCosts),
        Tasks::Wait(seconds) => {
            let seconds = question.now.seconds().saturating_add(seconds);
            return Ok(SchedulingAnswer::Wait {
                not_before: careen::clock::Timestamp::from_seconds(seconds),
                reason,
            });
        }
        Tasks::Some(bits, index_first, budget) => {
            let taken = offered.enumerate().filter(|(at, _)| bits >> at & 1 == 1);
            let mut taken: Vec<CycleTask> = taken.map(|(_, task)| task).collect();
            if index_first {
                taken.sort_by_key(|task| !is_of_index(*task));
            }
            let budget = budget.map(u64::from);
            let tasks = taken.into_iter();
            tasks
                .map(|task| named(task.name(), budget.filter(|_| task.keeps_budget())))
                .collect()
        }
        Tasks::Any(numbers, all) => {
            if !all {
                cycle = Cycle::Quick;
            }
            let task = |number: &u8| CycleTask::ALL[usize::from(*number) % CycleTask::ALL.len()];
            numbers
                .iter()
                .map(|number| named(task(number).name(), None))
                .collect()
        }
        Tasks::Unknown => vec![named("full-delete-everything", None)],
        Tasks::Overlimited => offered.map(|task| named(task.name(), Some(1))).collect(),
        Tasks::Novel => {
            reason = novel();
            offered.map(|task| named(task.name(), None)).collect()
        }
    };
    Ok(SchedulingAnswer::Run {
        cycle,
        tasks,
        reason,
    })
}

fn is_of_index(task: CycleTask) -> bool {
    matches!(
        task,
        CycleTask::IndexCompaction
            | CycleTask::CompactSingleEpoch
            | CycleTask::AdvanceEpoch
            | CycleTask::GenerateEpochRangeIndex
            | CycleTask::CleanupEpochMarkers
            | CycleTask::DeleteSupersededEpochIndexes
    )
}

/// Decides about the index and packs.
pub(super) struct RandomShape {
    pub(super) index: Index,
    pub(super) packs: Vec<Packs>,
    pub(super) tenants: Option<Tenants>,
    pub(super) asked: usize,
    pub(super) notes: Notes,
}

impl Splitting for RandomShape {
    fn split(&mut self, question: &SplittingQuestion) -> Result<SplittingAnswer, StrategyError> {
        self.notes.lock().unwrap().last = "split";
        let mut answer = KopiasShape.split(question)?;
        match &self.index {
            Index::AsKopia => {}
            Index::Shards(entries) => answer.shard_entries = *entries,
            Index::Fails => return Err(fails(&self.notes)),
            Index::Joins(joins) => {
                let mut start = question.chain_end;
                answer.joins.clear();
                for (off, length) in joins {
                    let min = start.saturating_add_signed((*off).into());
                    let max = min.saturating_add((*length).into());
                    answer.joins.push(EpochRange { min, max });
                    start = max.saturating_add(1);
                }
            }
        }
        Ok(answer)
    }

    fn repack(&mut self, question: &RepackQuestion) -> Result<RepackAnswer, StrategyError> {
        self.notes.lock().unwrap().last = "repack";
        let mut answer = ShortPacks.choose(question)?;
        match next(&self.packs, &mut self.asked) {
            Packs::AsKopia => {}
            Packs::Fails => return Err(fails(&self.notes)),
            Packs::Bytes(bytes) => answer.pack_bytes = bytes,
            Packs::Off(by) => {
                let rows = answer.groups.len().saturating_add_signed(by.into());
                answer.groups.resize(rows, 1);
            }
            Packs::Groups(percent, groups) => {
                answer.pack_bytes = question.pack_bytes_max * u64::from(percent) / 100;
                let groups = groups.iter().copied().cycle();
                answer.groups = groups.take(question.packs.len()).collect();
            }
        }
        Ok(answer)
    }

    fn gives_tenants(&self) -> bool {
        self.tenants.is_some()
    }

    fn tenants(&mut self, snapshots: &[TaggedSource]) -> Result<Vec<u8>, StrategyError> {
        self.notes.lock().unwrap().last = "tenants";
        match &self.tenants {
            Some(Tenants::Fails) => Err(fails(&self.notes)),
            Some(Tenants::Numbers(numbers)) => {
                let numbers = numbers.iter().copied().cycle();
                Ok(numbers.take(snapshots.len()).collect())
            }
            Some(Tenants::Off(by)) => {
                let count = snapshots.len().saturating_add_signed((*by).into());
                Ok(vec![1; count])
            }
            None => Ok(vec![1; snapshots.len()]),
        }
    }

    fn describe(&self) -> String {
        "random shape".to_owned()
    }
}

/// Decides about snapshots.
pub(super) struct RandomSnapshots {
    pub(super) answer: Snapshots,
    pub(super) notes: Notes,
}

impl Retention for RandomSnapshots {
    fn begin(&mut self, _: &RetentionQuestion) -> Result<(), StrategyError> {
        self.notes.lock().unwrap().last = "retention";
        match self.answer {
            Snapshots::FailsAtOnce => Err(fails(&self.notes)),
            _ => Ok(()),
        }
    }

    fn decide(&mut self, rows: &[HistoryRow]) -> Result<Vec<Decision>, StrategyError> {
        let expires = |place: usize| match self.answer {
            Snapshots::Expire(bits) => bits >> (place % 16) & 1 == 1,
            Snapshots::ExpireAll | Snapshots::Off(_) => true,
            _ => false,
        };
        let reason = match self.answer {
            Snapshots::Novel => novel(),
            Snapshots::Fails => return Err(fails(&self.notes)),
            _ => "at random".to_owned(),
        };
        let decision = |place| Decision {
            expire: expires(place),
            reason: reason.clone(),
        };
        let count = match self.answer {
            Snapshots::Off(by) => rows.len().saturating_add_signed(by.into()),
            _ => rows.len(),
        };
        let mut notes = self.notes.lock().unwrap();
        let expired = rows.iter().enumerate().filter(|(place, _)| expires(*place));
        notes.expired.extend(expired.map(|(_, row)| row.id.clone()));
        Ok((0..count).map(decision).collect())
    }

    fn describe(&self) -> String {
        "random snapshots".to_owned()
    }
}
