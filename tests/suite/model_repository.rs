//! A model repository as the oracle of snapshot GC, rewriting and deleting: random repositories,
//! several runs on each, and after every run each content and each blob is where the model says.
//!
//! The model is a map of contents and a map of packs, and Kopia's rules written over them once more
//! (`model`). Repositories (`plan`, `build`) have sessions with packs of every fill, snapshots that
//! share files, indirect objects, tombstones of every age, dead sessions, a history of runs, and
//! ages a second before and after every margin. Nobody else is at work, and the clock stands still
//! during a run.

use std::time::Duration;

use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::safety::Safety;
use kit::cycle::cycle;
use kit::index_work::Bench;
use kit::world::OWNER;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use self::plan::{Plan, plan};

mod build;
mod judge;
mod model;
mod others;
mod plan;
mod strategies;
mod struck;
mod weather;

/// Multiplies the number of repositories: `CAREEN_SUITE_ROUNDS`.
fn cases(count: u32) -> u32 {
    let rounds = std::env::var("CAREEN_SUITE_ROUNDS").ok();
    count * rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// Returns the plan of a seed: with all margins, and nothing lost from the beginning.
fn harmless(epochs: bool, seed: u8) -> Plan {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let made = plan(epochs).new_tree(&mut runner);
    let mut plan = Plan {
        unsafe_runs: false,
        lost: None,
        watermark: None,
        ..made.unwrap().current()
    };
    if seed % 2 == 1 {
        // Enough for rewrites that fill some packs.
        let more = |flush: &mut plan::Flush| flush.data.extend(seed.into()..u16::from(seed) + 25);
        plan.flushes.iter_mut().for_each(more);
    }
    plan
}

/// Plays a plan; says what is wrong. Returns in how many runs something happened.
fn play(plan: &Plan, bench: &Bench) -> Result<Played, String> {
    let (world, mut model) = build::build(plan);
    let mut played = Played::default();
    for (number, round) in plan.rounds.iter().enumerate() {
        let wait = if number == 0 && plan.at_once {
            0
        } else {
            round.wait
        };
        world.clock.advance(Duration::from_secs(wait as u64));
        let now = world.now();
        let safety = if plan.unsafe_runs {
            Safety::none()
        } else {
            Safety::full()
        };
        let mode = if round.quick { Mode::Quick } else { Mode::Full };
        let outcome = model.run(round.quick, now);
        if outcome.open {
            break;
        }
        let ran = bench.cycle(&world.repository(), &cycle(mode, safety, OWNER));
        let told = |what: String| format!("round {number}: {what}");
        let code = ran.as_ref().err().map(|error| error.code());
        if code != outcome.stops {
            return Err(told(format!(
                "it ends with {ran:?}, not {:?}",
                outcome.stops
            )));
        }
        judge::judge(&world, &mut model, &outcome, now).map_err(told)?;
        played.moved += outcome.moved.len();
        played.gone += outcome.gone.len();
        played.stopped += usize::from(code.is_some());
    }
    Ok(played)
}

/// What happened, so that a suite that tests nothing is noticed.
#[derive(Debug, Default)]
struct Played {
    moved: usize,
    gone: usize,
    stopped: usize,
}

fn compare(epochs: bool, count: u32) {
    let bench = Bench::new().quick();
    let all = std::cell::RefCell::new(Played::default());
    let mut runner = TestRunner::new(Config {
        cases: cases(count),
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&plan(epochs), |plan| {
        let played = play(&plan, &bench).map_err(TestCaseError::fail)?;
        let mut all = all.borrow_mut();
        all.moved += played.moved;
        all.gone += played.gone;
        all.stopped += played.stopped;
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let all = all.into_inner();
    let enough = count as usize;
    assert!(
        all.moved > enough && all.gone > enough / 2 && (all.stopped > 0 || !epochs),
        "{all:?}"
    );
}

#[test]
fn runs_do_what_the_model_says() {
    // So many that some surely stop: with 48 one run had none.
    compare(true, 192);
}

#[test]
fn runs_without_epochs_do_what_the_model_says() {
    compare(false, 48);
}
