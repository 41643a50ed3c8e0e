//! Whatever strategies answer, nothing in use is lost, no safety rule is broken, and what is
//! refused does not take effect.
//!
//! Random but well-typed answers of all three strategies, good ones and bad ones, drive whole
//! cycles on random repositories. After each run: every content in use and every other one that a
//! reader sees has all its bytes; what was deleted, forgotten, copied or expired might be, by the
//! rules as the model has them; tasks ran as they were chosen, or not at all; and a run that was
//! ended by a strategy has written nothing after it had asked. In the end calm nights with
//! Kopia's choice go on. Memory: the repository, some times over.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use careen::clock::Timestamp;
use careen::kopia::source_filter::SourceFilter;
use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::cycle_task::CycleTask;
use careen::maintenance::expire_snapshots::ExpireOptions;
use careen::maintenance::retention::{Retention, Zone};
use careen::maintenance::run::{Event, RunOptions, Strategies};
use careen::maintenance::safety::Safety;
use kit::cycle::cycle;
use kit::index_work::Bench;
use kit::world::{OWNER, World};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use self::answers::{Answers, Notes, RandomShape, RandomSnapshots, RandomTasks, Wanted};
use self::effects::{Before, snapshots_of};
use super::model::Model;
use super::plan::{Plan, Round, Snapshot, plan};
use super::{build, cases, judge};

mod answers;
mod effects;

/// How a run may end: well, by a strategy, or because a repository is garbage for the most part.
const ENDS: [&str; 5] = [
    "plugin-answer-refused",
    "plugin-trap",
    "too-many-expired",
    "unexplained-packs",
    "",
];

/// What happened, so that a suite that tests nothing is noticed.
#[derive(Debug, Default)]
struct Seen {
    runs: usize,
    waits: usize,
    ended_by: [usize; ENDS.len()],
    expired: usize,
    gone: usize,
    moved: usize,
}

/// A run with its strategies.
struct Night<'a> {
    world: &'a World,
    before: Before,
    notes: Notes,
    /// Tasks that began, with the storage as it was then.
    began: Vec<(CycleTask, Before)>,
    /// Tasks that succeeded.
    done: Vec<CycleTask>,
}

impl<'a> Night<'a> {
    fn new(world: &'a World) -> Self {
        Self {
            world,
            before: Before::of(world),
            notes: Arc::default(),
            began: Vec::new(),
            done: Vec::new(),
        }
    }

    fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Started(task) => self.began.push((*task, Before::of(self.world))),
            Event::Ended(run) if run.success => self.done.push(run.task),
            _ => {}
        }
    }

    /// Runs a cycle; returns the code of its end.
    fn run(&mut self, bench: &Bench, answers: &Answers, options: &RunOptions) -> &'static str {
        let notes = &self.notes;
        let retention = answers.snapshots.clone().map(|answer| {
            let notes = Arc::clone(notes);
            Box::new(RandomSnapshots { answer, notes }) as Box<dyn Retention>
        });
        let strategies = Strategies {
            scheduling: Box::new(RandomTasks {
                answers: answers.tasks.clone(),
                asked: 0,
                notes: Arc::clone(notes),
            }),
            splitting: Box::new(RandomShape {
                index: answers.index.clone(),
                packs: answers.packs.clone(),
                tenants: answers.tenants.clone(),
                asked: 0,
                notes: Arc::clone(notes),
            }),
            retention,
        };
        let repository = self.world.repository();
        let ran = bench.cycle_by(&repository, options, strategies, &mut |event| {
            self.note(event)
        });
        ran.err().map_or("", |error| error.code())
    }

    /// What was wanted, and nothing else.
    fn judge(&self, code: &str, safety: &Model, percent_max: u8) -> Result<(), String> {
        let wanted = self.notes.lock().unwrap().clone();
        self.order(&wanted)?;
        self.refusals(code, &wanted)?;
        self.before.judge(self.world, safety, &self.done)?;
        self.snapshots(code, &wanted, safety, percent_max)
    }

    /// Tasks are among those that were chosen, in the order that was chosen.
    fn order(&self, wanted: &Wanted) -> Result<(), String> {
        let mut chosen = wanted.tasks.iter().flatten();
        for (task, _) in &self.began {
            if !chosen.any(|name| name == task.name()) {
                return Err(format!("{task} ran, and {:?} were chosen", wanted.tasks));
            }
        }
        Ok(())
    }

    /// A strategy that ended the run was the last to do anything.
    fn refusals(&self, code: &str, wanted: &Wanted) -> Result<(), String> {
        if !code.starts_with("plugin-") && code != "too-many-expired" {
            return match wanted.failed {
                true => Err(format!(
                    "a strategy failed, and the run ended with {code:?}"
                )),
                false => Ok(()),
            };
        }
        let asked = match wanted.last {
            "scheduling" | "retention" => &self.before,
            _ => match self.began.last() {
                Some((_, asked)) => asked,
                None => return Err(format!("{} was asked before any task", wanted.last)),
            },
        };
        let all = wanted.last == "scheduling";
        match Before::of(self.world).difference(asked, all) {
            None => Ok(()),
            Some(what) => Err(format!("{} ended the run, and {what}", wanted.last)),
        }
    }

    /// Snapshots that are gone are those that were to be, and nobody needs them.
    fn snapshots(
        &self,
        code: &str,
        wanted: &Wanted,
        model: &Model,
        percent_max: u8,
    ) -> Result<(), String> {
        let left = snapshots_of(self.world, model.epochs)?;
        let known: BTreeSet<String> = model.snapshots.keys().cloned().collect();
        let gone: BTreeSet<&String> = known.difference(&left).collect();
        if gone.is_empty() && left == known {
            return Ok(());
        }
        let told = |why: &str| Err(format!("{code}: snapshots {gone:?} are gone: {why}"));
        if !left.is_subset(&known) {
            return told("others have come");
        }
        if !gone.iter().all(|id| wanted.expired.contains(*id)) {
            return told("nobody wanted that");
        }
        if gone.iter().any(|id| model.snapshots[*id].pinned) {
            return told("one was pinned");
        }
        let complete = |ids: &BTreeSet<String>| ids.iter().any(|id| model.snapshots[id].complete);
        if complete(&known) && !complete(&left) {
            return told("no complete one is left");
        }
        match gone.len() * 100 > known.len() * usize::from(percent_max) {
            true => told("too many"),
            false => Ok(()),
        }
    }
}

/// Takes into the model what a run has rightly done.
fn take_over(night: &Night<'_>, model: &mut Model, now: Timestamp) -> Result<usize, String> {
    let left = snapshots_of(night.world, model.epochs)?;
    let known = model.snapshots.len();
    model.snapshots.retain(|id, _| left.contains(id));
    model.used = BTreeSet::new();
    for snapshot in model.snapshots.values() {
        model.used.extend(snapshot.used.iter().cloned());
    }
    model
        .runs
        .extend(night.done.iter().map(|task| (*task, now)));
    Ok(known - left.len())
}

fn options(plan: &Plan, round: Round, percent_max: u8) -> RunOptions {
    let safety = match plan.unsafe_runs {
        true => Safety::none(),
        false => Safety::full(),
    };
    let mode = if round.quick { Mode::Quick } else { Mode::Full };
    let mut options = cycle(mode, safety, OWNER);
    options.expire = Some(ExpireOptions {
        source: SourceFilter::default(),
        zone: Zone::default(),
        percent_max,
    });
    options
}

fn play(plan: &Plan, all: &[Answers], bench: &Bench, seen: &mut Seen) -> Result<(), String> {
    let (world, mut model) = build::build(plan);
    for (number, answers) in all.iter().enumerate() {
        let round = plan.rounds[number % plan.rounds.len()];
        world.clock.advance(Duration::from_secs(round.wait as u64));
        let now = world.now();
        let mut night = Night::new(&world);
        let percent_max = answers.percent_max;
        let code = night.run(bench, answers, &options(plan, round, percent_max));
        let told = |what: String| format!("night {number}, {code:?}: {what}");
        let end = ENDS.iter().position(|end| *end == code);
        let end = end.ok_or_else(|| told("it may not end like this".to_owned()))?;
        night.judge(code, &model, percent_max).map_err(told)?;
        seen.runs += 1;
        seen.waits += usize::from(code.is_empty() && night.began.is_empty());
        seen.ended_by[end] += 1;
        seen.expired += take_over(&night, &mut model, now).map_err(told)?;
        let (gone, moved) = night.before.counts(&world);
        seen.gone += gone;
        seen.moved += moved;
        judge::nothing_lost(&world, &model).map_err(told)?;
    }
    calm(&world, &model, bench)
}

/// Kopia's choice goes on where the others have left it.
fn calm(world: &World, model: &Model, bench: &Bench) -> Result<(), String> {
    let mut full = cycle(Mode::Full, Safety::full(), OWNER);
    full.accept_unexplained = true;
    for night in 0..3 {
        world.clock.advance(Duration::from_secs(25 * 3_600));
        let told = |what: String| format!("calm night {night}: {what}");
        let ran = bench.cycle(&world.repository(), &full);
        ran.map_err(|error| told(error.to_string()))?;
        judge::nothing_lost(world, model).map_err(told)?;
    }
    Ok(())
}

fn compare(epochs: bool, count: u32) {
    let bench = Bench::new().quick();
    let seen = RefCell::new(Seen::default());
    let mut runner = TestRunner::new(Config {
        cases: cases(count),
        failure_persistence: None,
        ..Config::default()
    });
    let nights = prop::collection::vec(answers::answers(), 2..7);
    let outcome = runner.run(&(plan(epochs), nights), |(plan, nights)| {
        // More snapshots, so that some may go.
        let mut snapshots = plan.snapshots.clone();
        snapshots.extend(plan.snapshots.iter().map(|snapshot| Snapshot {
            flush: snapshot.flush + 1,
            incomplete: false,
            forgotten: false,
            ..snapshot.clone()
        }));
        let plan = Plan {
            snapshots,
            lost: None,
            watermark: None,
            // What a recorded run would have brought back is still deleted.
            past: Vec::new(),
            ..plan
        };
        let mut seen = seen.borrow_mut();
        play(&plan, &nights, &bench, &mut seen).map_err(TestCaseError::fail)
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let seen = seen.into_inner();
    // Each of them happens ten times and more in the mean, so that none is missing by chance.
    let [refused, trapped, .., well] = seen.ended_by;
    let all = [
        refused,
        trapped,
        well,
        seen.waits,
        seen.expired,
        seen.gone,
        seen.moved,
    ];
    assert!(all.iter().all(|seen| *seen > 0), "{seen:?}");
}

#[test]
fn random_answers_break_nothing() {
    compare(true, 48);
}

#[test]
fn random_answers_break_nothing_without_epochs() {
    compare(false, 48);
}
