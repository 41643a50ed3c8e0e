//! A kill at any moment loses nothing, and the next run finishes the work.
//!
//! Each scenario is played undisturbed and its storage operations are counted. Then it is played
//! again and again, and the process dies after every single operation; a put or deletion under way
//! has happened or not, as the seed says. Whatever is stored then, every reader must see what it
//! saw before, whichever of several complete sets it takes. Then the scenario is played to its end:
//! view and index blobs must be those of the undisturbed play, up to random suffixes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use careen::blob::{SimulatedStore, SimulationOptions};
use careen::maintenance::MaintenanceError;
use kit::world::World;
use kit::world::model::{self, Choice, View};

mod processes;
pub(crate) mod scenarios;
mod weather;

/// What readers see before a scenario, by choice, and after it, whatever they choose.
struct Promise {
    before: [View; 2],
    after: View,
}

const CHOICES: [Choice; 2] = [Choice::First, Choice::Last];

/// A world and what is done to it, in steps; each is an operation of a user.
struct Scenario {
    name: &'static str,
    world: World,
    play: fn(&World, Arc<SimulatedStore>) -> Result<(), MaintenanceError>,
}

impl Scenario {
    fn view(&self, choice: Choice) -> View {
        let view = model::view(&self.world.storage(), &self.world.crypto, choice);
        view.unwrap_or_else(|error| panic!("{}: a reader fails: {error}", self.name))
    }

    /// Plays with a fresh process on the blobs as they are; returns how many operations it took.
    fn play(&self, options: SimulationOptions) -> (u64, Result<(), MaintenanceError>) {
        let store = Arc::new(SimulatedStore::new(self.world.store.clone(), options));
        let outcome = (self.play)(&self.world, store.clone());
        (store.operations(), outcome)
    }

    /// Returns the index blobs that matter: without suffixes, and without sets that are not whole.
    fn index_blobs(&self) -> BTreeSet<String> {
        let names: Vec<String> = self.world.all().into_keys().collect();
        let whole = |name: &&String| {
            let parts: Vec<&str> = name.split('-').collect();
            let count = parts
                .get(2)
                .and_then(|count| count.strip_prefix('c')?.parse().ok());
            let members = names.iter().filter(|other| {
                let same = other.split('-').nth(1) == parts.get(1).copied();
                same && other.split('_').next() == name.split('_').next()
            });
            count.is_none_or(|count: usize| members.count() == count)
        };
        let index = names
            .iter()
            .filter(|name| name.starts_with('x'))
            .filter(whole);
        let stem = |name: &String| name.split('-').next().unwrap_or_default().to_owned();
        index.map(stem).collect()
    }
}

/// Checks what a reader sees in the middle: nothing that it saw before is gone, and nothing is
/// there that the whole scenario would not show.
fn check_reader(scenario: &Scenario, promise: &Promise, moment: &str) {
    for (choice, before) in CHOICES.into_iter().zip(&promise.before) {
        let view = scenario.view(choice);
        let name = scenario.name;
        if *before == promise.after {
            let difference = model::difference(before, &view);
            assert_eq!(difference, None, "{name}, {moment}, {choice:?}");
        }
        for (key, entry) in &view {
            let known = [before.get(key), promise.after.get(key)];
            assert!(
                known.contains(&Some(entry)),
                "{name}, {moment}: {entry:?} is new"
            );
        }
        let lost = before.keys().filter(|key| !view.contains_key(*key));
        assert_eq!(
            lost.count(),
            0,
            "{name}, {moment}, {choice:?}: contents are lost"
        );
    }
}

/// Kills after every operation (every `step`-th), with torn writes as `seeds` say.
fn kill_everywhere(make: fn() -> Scenario, seeds: &[u64], step: usize) {
    let undisturbed = make();
    let before = CHOICES.map(|choice| undisturbed.view(choice));
    let (operations, outcome) = undisturbed.play(SimulationOptions::default());
    outcome.unwrap();
    let promise = Promise {
        before,
        after: undisturbed.view(Choice::First),
    };
    let expected = undisturbed.index_blobs();
    check_reader(&undisturbed, &promise, "at the end");
    assert!(
        operations > 10,
        "{}: {operations} operations",
        undisturbed.name
    );

    let scenario = make();
    let (start, snapshot) = (scenario.world.now(), scenario.world.store.snapshot());
    for seed in seeds {
        for last in (0..operations).step_by(step) {
            scenario.world.store.restore(&snapshot);
            scenario.world.clock.set(start);
            let (_, outcome) = scenario.play(SimulationOptions {
                seed: *seed,
                torn_writes: true,
                crash_after_operation: Some(last),
                ..SimulationOptions::default()
            });
            let moment = format!("killed after operation {last} of {operations}, seed {seed}");
            if let Err(error) = outcome {
                assert_eq!(error.code(), "storage-crashed", "{moment}: {error}");
            }
            check_reader(&scenario, &promise, &moment);

            scenario.world.clock.advance(Duration::from_secs(60));
            let (_, outcome) = scenario.play(SimulationOptions::default());
            outcome.unwrap_or_else(|error| panic!("{}, {moment}: again: {error}", scenario.name));
            check_reader(&scenario, &promise, &format!("{moment}, and played again"));
            let view = scenario.view(Choice::First);
            assert_eq!(model::difference(&promise.after, &view), None, "{moment}");
            assert_eq!(
                scenario.index_blobs(),
                expected,
                "{}, {moment}",
                scenario.name
            );
        }
    }
}

#[test]
fn compaction_range_markers_and_superseded() {
    kill_everywhere(scenarios::settled, &[1, 2], 1);
}

#[test]
fn advance() {
    kill_everywhere(scenarios::advance, &[1], 1);
}

#[test]
fn rescue_of_open_epochs() {
    kill_everywhere(scenarios::rescue, &[1], 1);
}

#[test]
fn rescue_of_what_came_after_a_rescue() {
    kill_everywhere(scenarios::rescue_again, &[1], 1);
}

#[test]
fn repair() {
    kill_everywhere(scenarios::repair, &[1, 2], 1);
}

#[test]
fn sets_of_many_shards() {
    kill_everywhere(scenarios::many_shards, &[1, 2], 1);
}

#[test]
fn with_ecc_and_the_other_cipher() {
    kill_everywhere(scenarios::settled_with_ecc, &[3], 7);
}

/// Goal: the scenarios above do what their tests claim; method: the names that they leave.
#[test]
fn scenarios_do_everything_that_is_due() {
    let names = |make: fn() -> Scenario| -> Vec<String> {
        let scenario = make();
        scenario.play(SimulationOptions::default()).1.unwrap();
        let all = scenario.world.all().into_keys();
        all.filter(|name| name.starts_with('x')).collect()
    };
    let count = |names: &[String], prefix: &str| {
        names.iter().filter(|name| name.starts_with(prefix)).count()
    };
    let settled = names(scenarios::settled);
    let sets = ["xs0_", "xs1_", "xs2_", "xs3_", "xr0_3_"].map(|set| count(&settled, set));
    assert_eq!(sets, [1, 4, 1, 1, 1], "{settled:?}");
    let uncompacted = [0, 1, 2, 3, 4, 5].map(|epoch| count(&settled, &format!("xn{epoch}_")));
    assert_eq!(
        uncompacted,
        [0, 0, 4, 4, 4, 4],
        "the new sets are too young to replace theirs"
    );
    assert_eq!(
        (count(&settled, "xe"), count(&settled, "xw")),
        (2, 1),
        "{settled:?}"
    );
    assert_eq!(count(&names(scenarios::advance), "xe2"), 1);
    let rescued = names(scenarios::rescue);
    assert_eq!(
        [count(&rescued, "xn0_"), count(&rescued, "xn1_")],
        [1, 3],
        "{rescued:?}"
    );
    // The earlier rescue's merged blob goes too: the new one was merged from it.
    let rescued = names(scenarios::rescue_again);
    assert_eq!(
        [count(&rescued, "xn0_"), count(&rescued, "xn1_")],
        [1, 3],
        "{rescued:?}"
    );
    assert_eq!(count(&names(scenarios::repair), "xn4_"), 3);
    assert_eq!(count(&names(scenarios::many_shards), "xs1_"), 4);
}
