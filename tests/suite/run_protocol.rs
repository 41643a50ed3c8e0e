//! `careen run` keeps Kopia's protocol: what it records is what Kopia records, a kill or a signal
//! is never a success, and nobody maintains beside anybody.
//!
//! The golden repositories tell what Kopia 0.23.1 recorded at the same moment. Worlds in memory are
//! for kills after every storage operation, for foreign writers in the middle, and for clocks; a
//! real process gets a real signal; and each Kopia of this machine reads what we wrote and goes on.

use std::sync::Arc;
use std::time::Duration;

use careen::kopia::schedule::Schedule;
use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::cycle_task::CycleTask;
use careen::maintenance::run::RunOptions;
use careen::maintenance::safety::Safety;
use kit::cycle::{cycle, schedule};
use kit::world::{OWNER, World, WorldOptions};

use crate::kill::scenarios;

pub(crate) mod effect;
pub(crate) mod golden;
mod interruptions;
mod killed_cycles;
mod kopias;
mod leases;
mod manifests;
mod processes;
mod versions;

const HOUR: Duration = Duration::from_secs(3_600);

/// Tasks of a full cycle that work on the index and the logs alone.
const TASKS: [CycleTask; 6] = [
    CycleTask::CompactSingleEpoch,
    CycleTask::AdvanceEpoch,
    CycleTask::GenerateEpochRangeIndex,
    CycleTask::CleanupEpochMarkers,
    CycleTask::DeleteSupersededEpochIndexes,
    CycleTask::CleanupLogs,
];

/// A world in which each of [`TASKS`] has something to do, but advancing.
fn world() -> World {
    let world = scenarios::settled_world(WorldOptions {
        epochs: scenarios::parameters(),
        ..WorldOptions::default()
    });
    for number in 0..5_u32 {
        let name = format!("_log_2026{number:010}_{}", "0".repeat(32));
        // Half a day off the limit of 30 days, so that a run an hour later finds the same.
        let time = world.now().minus(HOUR * 24 * (28 + number) + HOUR * 12);
        world.store.insert(name.into(), vec![7; 100], time);
    }
    world
}

/// Named tasks of a full cycle.
fn named(tasks: &[CycleTask]) -> RunOptions {
    let mut options = cycle(Mode::Full, Safety::full(), OWNER);
    options.wanted.tasks = tasks.to_vec();
    options
}

fn quick() -> RunOptions {
    cycle(Mode::Quick, Safety::full(), OWNER)
}

fn schedule_of(world: &World) -> Schedule {
    schedule(&world.repository())
}

/// Returns the number of blobs whose names begin with `prefix`.
fn count(world: &World, prefix: &str) -> usize {
    let all = world.all();
    all.keys().filter(|name| name.starts_with(prefix)).count()
}

/// Another maintainer writes the schedule, as Kopia does: without our field.
fn write_as_another(world: &World) -> Schedule {
    let repository = world.repository();
    let mut foreign = schedule(&repository);
    foreign.unknown.clear();
    foreign.next_quick = world.now().plus(HOUR * 5);
    careen::repository::schedule_store::write_schedule(&repository, &foreign).unwrap();
    foreign
}

/// A store that dies after `operations`.
fn dying(world: &World, operations: u64) -> Arc<careen::blob::SimulatedStore> {
    let options = careen::blob::SimulationOptions {
        seed: operations,
        torn_writes: true,
        crash_after_operation: Some(operations),
        ..Default::default()
    };
    Arc::new(careen::blob::SimulatedStore::new(
        world.store.clone(),
        options,
    ))
}
