//! Bad weather: the storage fails now and then, answers late, or lists what was there before.
//!
//! A failed operation ends the run with its error (retries are the store's, below), and readers see
//! what they saw. With listings that lag ten minutes behind, runs may do work twice, and nothing
//! else.

use std::time::Duration;

use careen::blob::{Delays, SimulationOptions};
use kit::world::model::{self, Choice};

use super::{CHOICES, Promise, Scenario, check_reader, scenarios};

const SCENARIOS: [fn() -> Scenario; 3] = [scenarios::settled, scenarios::rescue, scenarios::repair];

/// Plays undisturbed; what a reader sees before and after.
fn promise(make: fn() -> Scenario) -> Promise {
    let scenario = make();
    let before = CHOICES.map(|choice| scenario.view(choice));
    scenario.play(SimulationOptions::default()).1.unwrap();
    let after = scenario.view(Choice::First);
    Promise { before, after }
}

#[test]
fn faults_end_the_run_and_change_nothing() {
    for make in SCENARIOS {
        let promise = promise(make);
        let scenario = make();
        let (start, snapshot) = (scenario.world.now(), scenario.world.store.snapshot());
        let mut failed = 0;
        for seed in 0..30 {
            scenario.world.store.restore(&snapshot);
            scenario.world.clock.set(start);
            let (_, outcome) = scenario.play(SimulationOptions {
                seed,
                faults: 15,
                torn_writes: true,
                ..SimulationOptions::default()
            });
            if let Err(error) = outcome {
                assert_eq!(error.code(), "storage-transient", "seed {seed}: {error}");
                failed += 1;
            }
            check_reader(&scenario, &promise, &format!("faults of seed {seed}"));
            scenario.play(SimulationOptions::default()).1.unwrap();
            let view = scenario.view(Choice::First);
            assert_eq!(
                model::difference(&promise.after, &view),
                None,
                "seed {seed}"
            );
        }
        assert!(
            failed > 5,
            "{}: only {failed} of 30 runs failed",
            scenario.name
        );
    }
}

#[test]
fn stale_listings_cost_work_only() {
    for make in SCENARIOS {
        let promise = promise(make);
        for seed in 0..4 {
            let scenario = make();
            let options = SimulationOptions {
                seed,
                delays: Some(Delays {
                    clock: scenario.world.clock.clone(),
                    max: Duration::from_millis(900),
                }),
                stale_listings: Some(Duration::from_secs(600)),
                ..SimulationOptions::default()
            };
            for round in 0..2 {
                let (_, outcome) = scenario.play(options.clone());
                let moment = format!("stale listings, seed {seed}, round {round}");
                outcome.unwrap_or_else(|error| panic!("{}, {moment}: {error}", scenario.name));
                check_reader(&scenario, &promise, &moment);
            }
            scenario.world.clock.advance(Duration::from_secs(3600));
            let view = scenario.view(Choice::First);
            assert_eq!(
                model::difference(&promise.after, &view),
                None,
                "seed {seed}"
            );
        }
    }
}
