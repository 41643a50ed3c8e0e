//! Worlds in which something is due, and who does it: the material of [`super`].
//!
//! Parameters are the smallest that Kopia accepts, so that a few epochs of a few blobs are enough.
//! A play does everything that is due, as often as it takes: runs that a safety time keeps from
//! finishing come again five hours later.

use std::sync::Arc;
use std::time::Duration;

use careen::blob::SimulatedStore;
use careen::clock::Timestamp;
use careen::kopia::format_blob::EpochParameters;
use careen::maintenance::MaintenanceError;
use careen::maintenance::compact_epochs::{Output, load_round, write_round};
use careen::maintenance::index_plan::Task;
use careen::maintenance::index_repair;
use careen::repository::epochs::EpochState;
use careen::repository::index_names::UncompactedNames;
use kit::index_work::{Bench, options};
use kit::world::model::{self, Choice};
use kit::world::{Entry, START, World, WorldOptions};

use super::Scenario;

const HOUR: Duration = Duration::from_secs(3600);

/// Most runs that any scenario needs.
const RUNS_MAX: usize = 6;

/// Everything but a new epoch: that would settle others, and later kills would find other work.
pub(super) const ALL_BUT_ADVANCE: [Task; 4] = [
    Task::CompactSingleEpoch,
    Task::GenerateEpochRangeIndex,
    Task::CleanupEpochMarkers,
    Task::DeleteSupersededEpochIndexes,
];

pub(crate) fn parameters() -> EpochParameters {
    EpochParameters {
        full_checkpoint_frequency: 2,
        advance_on_count: 10,
        ..EpochParameters::default()
    }
}

fn ago(hours: u32) -> Timestamp {
    START.minus(HOUR * hours)
}

/// Returns entries of a flush: new contents, and every third one a tombstone of an older content.
fn flush(world: &World, epoch: u64, number: u64) -> Vec<Entry> {
    let first = epoch * 100 + number * 4;
    let time = START.seconds() - 900_000 + first as i64;
    let mut entries: Vec<Entry> = (first..first + 6)
        .map(|content| world.data(content, content / 8, time))
        .collect();
    if first > 100 {
        entries.push(
            world
                .data(first - 100, (first - 100) / 8, time)
                .tombstone(time),
        );
    }
    entries
}

/// Puts flushes into an epoch, one an hour from `hours` ago on; returns all entries.
fn fill(world: &World, epoch: u64, flushes: u64, hours: u32) -> Vec<Entry> {
    let mut all = Vec::new();
    for number in 0..flushes {
        let entries = flush(world, epoch, number);
        world.put_uncompacted(epoch, &entries, ago(hours).plus(HOUR * number as u32));
        all.extend(entries);
    }
    all
}

/// Runs until nothing is left to do, five hours apart.
fn runs(
    world: &World,
    store: &Arc<SimulatedStore>,
    tasks: &[Task],
    unsettled: bool,
) -> Result<(), MaintenanceError> {
    let bench = Bench::new().quick();
    for _ in 0..RUNS_MAX {
        let repository = world.repository_on(store.clone());
        let report = bench.run(&repository, &options(tasks, unsettled))?;
        if report.tasks.is_empty() && report.unfinished_until.is_none() {
            return Ok(());
        }
        world.clock.advance(HOUR * 5);
    }
    panic!("still not finished after {RUNS_MAX} runs");
}

/// Returns the entry of the owner's manifest, which every new world has.
fn manifest(world: &World) -> Vec<Entry> {
    let view = model::view(&world.storage(), &world.crypto, Choice::First);
    view.unwrap().into_values().collect()
}

/// Epochs 0 to 3 are settled: 0 and 1 were compacted long ago, 1 twice; 4 and 5 are open.
pub(crate) fn settled_world(options: WorldOptions) -> World {
    let world = World::new(options);
    let mut first: Vec<Entry> = manifest(&world);
    first.extend(fill(&world, 0, 3, 300));
    world.put_set("xs0_", &[first], 1, ago(200));
    let second = fill(&world, 1, 3, 280);
    let (left, right) = second.split_at(7);
    world.put_set("xs1_", &[left.to_vec(), right.to_vec()], 2, ago(190));
    world.put_set("xs1_", std::slice::from_ref(&second), 1, ago(180));
    world.put_set("xs1_", &[left.to_vec()], 2, ago(170));
    for epoch in 2..=5 {
        fill(&world, epoch, 4, 100 - 15 * epoch as u32);
    }
    world.put_markers(5, ago(20));
    world.put_watermark(START.seconds() - 2_000_000, ago(150));
    world.put_watermark(START.seconds() - 1_000_000, ago(100));
    world
}

pub(super) fn settled() -> Scenario {
    let options = WorldOptions {
        epochs: parameters(),
        ..WorldOptions::default()
    };
    Scenario {
        name: "settled",
        world: settled_world(options),
        play: |world, store| runs(world, &store, &ALL_BUT_ADVANCE, false),
    }
}

pub(super) fn settled_with_ecc() -> Scenario {
    let options = WorldOptions {
        hash: "BLAKE3-256",
        encryption: "CHACHA20-POLY1305-HMAC-SHA256",
        ecc_percent: 5,
        epochs: parameters(),
        ..WorldOptions::default()
    };
    Scenario {
        name: "settled with ECC",
        world: settled_world(options),
        play: |world, store| runs(world, &store, &ALL_BUT_ADVANCE, false),
    }
}

/// Epoch 1 is due to end: 12 blobs over 30 hours.
pub(super) fn advance() -> Scenario {
    let world = World::new(WorldOptions {
        epochs: parameters(),
        ..WorldOptions::default()
    });
    fill(&world, 0, 2, 90);
    for number in 0..12 {
        let time = ago(40).plus(HOUR * 3 * number);
        world.put_uncompacted(1, &flush(&world, 1, u64::from(number)), time);
    }
    world.put_markers(1, ago(60));
    Scenario {
        name: "advance",
        world,
        play: |world, store| runs(world, &store, &[], false),
    }
}

fn open_world() -> World {
    let world = World::new(WorldOptions {
        epochs: parameters(),
        ..WorldOptions::default()
    });
    fill(&world, 0, 8, 9);
    fill(&world, 1, 5, 5);
    // A writer at work, or one that died: two of three blobs.
    let shards = [flush(&world, 1, 20), flush(&world, 1, 21)];
    world.put_set("xn1_", &shards, 3, ago(1));
    world.put_markers(1, ago(6));
    world
}

/// No epoch is settled, and both have many blobs.
pub(super) fn rescue() -> Scenario {
    Scenario {
        name: "rescue",
        world: open_world(),
        play: |world, store| runs(world, &store, &ALL_BUT_ADVANCE, true),
    }
}

/// The same, when clients have written more since an earlier rescue merged.
pub(super) fn rescue_again() -> Scenario {
    let world = open_world();
    let repository = world.repository();
    Bench::new()
        .quick()
        .run(&repository, &options(&ALL_BUT_ADVANCE, true))
        .unwrap();
    world.clock.advance(HOUR);
    for number in 30..33 {
        let time = world.now();
        world.put_uncompacted(1, &flush(&world, 1, number), time);
    }
    Scenario {
        name: "rescue again",
        world,
        play: |world, store| runs(world, &store, &ALL_BUT_ADVANCE, true),
    }
}

/// Epochs 0 and 1 have two complete sets each, and none of them has everything.
pub(super) fn repair() -> Scenario {
    let world = World::new(WorldOptions {
        epochs: parameters(),
        ..WorldOptions::default()
    });
    for epoch in 1..=2 {
        let all: Vec<Entry> = (0..4)
            .flat_map(|number| flush(&world, epoch, number))
            .collect();
        world.put_set(&format!("xs{epoch}_"), &[all[..20].to_vec()], 1, ago(100));
        world.put_set(&format!("xs{epoch}_"), &[all[5..].to_vec()], 1, ago(90));
    }
    fill(&world, 3, 2, 30);
    fill(&world, 4, 2, 20);
    world.put_markers(4, ago(25));
    let play = |world: &World, store: Arc<SimulatedStore>| {
        let repository = world.repository_on(store);
        index_repair::execute(
            &repository,
            &Bench::new().quick().workspace(),
            &options(&[], false),
        )?;
        Ok(())
    };
    Scenario {
        name: "repair",
        world,
        play,
    }
}

/// Two epochs are merged in one round into sets of many small shards.
pub(super) fn many_shards() -> Scenario {
    let world = World::new(WorldOptions {
        epochs: parameters(),
        ..WorldOptions::default()
    });
    fill(&world, 1, 4, 90);
    fill(&world, 2, 3, 60);
    fill(&world, 3, 3, 40);
    world.put_markers(4, ago(30));
    let play = |world: &World, store: Arc<SimulatedStore>| {
        let bench = Bench::new().quick();
        let (repository, workspace) = (world.repository_on(store), bench.workspace());
        let state = EpochState::load(&repository.storage)?;
        let due = (0..=2).filter(|epoch| state.single(*epoch).is_none());
        let due: Vec<Output> = due.map(Output::Single).collect();
        let names = UncompactedNames::scan(&repository.storage, &workspace)?;
        let loaded = load_round(&repository, &workspace, &state, &names, &due, true)?;
        write_round(&repository, &workspace, loaded, &due, 6)?;
        Ok(())
    };
    Scenario {
        name: "many shards",
        world,
        play,
    }
}
