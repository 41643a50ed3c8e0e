//! A kill at any moment loses nothing and brings nothing back, and the next runs end where
//! undisturbed ones end.
//!
//! Index blobs, two compactions that depend on each other and were never cleaned up, then full
//! compactions with drop, two hours apart, until a steady state. The process dies after every
//! single storage operation, puts and deletions under way torn as the seed says. Every reader must
//! then see each live content as before; what is dropped may be there or not, but nothing older of
//! it.

use std::sync::Arc;

use careen::blob::{SimulatedStore, SimulationOptions};
use careen::clock::Timestamp;
use careen::kopia::blob_id::BlobId;
use careen::kopia::compaction_log::{BlobMetadata, LogWriter, Side};
use careen::kopia::format_blob::EpochParameters;
use careen::maintenance::MaintenanceError;
use careen::maintenance::compact_indexes_v0::{CompactionV0, OutcomeV0};
use careen::repository::index_set_v0::SETTLE_TIME;
use kit::index_work::Bench;
use kit::world::model::{self, View};
use kit::world::{Entry, START, World, WorldOptions};

use super::HOUR;

/// Runs until nothing changes any more but names: the first to compact, one to delete its inputs,
/// two to delete its log.
const RUNS: u32 = 4;

/// Tombstones from before are dropped.
pub(super) const DROP_BEFORE: Timestamp = Timestamp::from_seconds(START.seconds() - 500_000);

/// Ten small blobs in use, one more that two compactions made, and what they were made of. The seed
/// decides the order of names: were a result deleted before what it was made of, deleted contents
/// would come back in some of them.
pub(super) fn world(index_version: u8, seed: u64) -> World {
    let world = World::new(WorldOptions {
        seed,
        epochs: EpochParameters::disabled(),
        index_version,
        ..WorldOptions::default()
    });
    let ago = |hours: u32| START.minus(HOUR * hours);
    let time = |number: u64| START.seconds() - 900_000 + number as i64;
    let contents = |first: u64| -> Vec<Entry> {
        let numbers = first..first + 6;
        numbers.map(|n| world.data(n, n / 4, time(n))).collect()
    };
    // Contents 0 to 5 are deleted by the second flush; the first log's result replaces both.
    let first = contents(0);
    let mut second = contents(10);
    second.extend(first.iter().map(|entry| entry.tombstone(time(90))));
    let third = contents(20);
    let inputs = [
        world.put_flush_v0(&first, ago(60)),
        world.put_flush_v0(&second, ago(59)),
    ];
    let two = world.put_flush_v0(&merged(&[&first, &second]), ago(50));
    put_log(&world, &inputs, &two, ago(50));
    let other = world.put_flush_v0(&third, ago(49));
    let three = world.put_flush_v0(&merged(&[&first, &second, &third]), ago(40));
    put_log(&world, &[two, other], &three, ago(40));
    for number in 3..12 {
        let mut entries = contents(number * 10);
        // A young tombstone of what an older blob has: it stays.
        let older = world.data(number * 10 - 10, 1, 0);
        entries.push(older.tombstone(START.seconds() - 1_000));
        world.put_flush_v0(&entries, ago(30 - number as u32));
    }
    world
}

fn merged(all: &[&Vec<Entry>]) -> Vec<Entry> {
    let entries = all.iter().flat_map(|entries| entries.iter().cloned());
    model::winners(entries).into_values().collect()
}

fn put_log(world: &World, inputs: &[String], output: &str, time: Timestamp) {
    let mut json = Vec::new();
    let write = |bytes: &[u8]| {
        json.extend_from_slice(bytes);
        Ok::<(), ()>(())
    };
    let mut log = LogWriter::new(write).unwrap();
    let inputs = inputs.iter().map(|name| (Side::Input, name.as_str()));
    for (side, name) in inputs.chain([(Side::Output, output)]) {
        let blob = BlobMetadata {
            id: name.into(),
            length: 1,
            timestamp: time,
        };
        log.add(side, &blob).unwrap();
    }
    log.finish().unwrap();
    let mut sealed = Vec::new();
    let name = world
        .crypto
        .seal("m", None, &json, world.random(), &mut sealed);
    world.store.insert(BlobId::new(name), sealed, time);
}

/// Runs once with a fresh process; returns how many operations it took.
fn run(
    world: &World,
    compaction: &CompactionV0,
    store: &Arc<SimulatedStore>,
) -> Result<OutcomeV0, MaintenanceError> {
    let repository = world.repository_on(store.clone());
    let bench = Bench::new().quick();
    let workspace = bench.workspace();
    compaction.run(&repository, &workspace, &mut |_| {})
}

/// Runs to the steady state; returns how many operations it took.
pub(super) fn play(
    world: &World,
    options: SimulationOptions,
) -> (u64, Result<(), MaintenanceError>) {
    let store = Arc::new(SimulatedStore::new(world.store.clone(), options));
    let compaction = CompactionV0::drop_deleted(DROP_BEFORE, SETTLE_TIME);
    for _ in 0..RUNS {
        if let Err(error) = run(world, &compaction, &store) {
            return (store.operations(), Err(error));
        }
        world.clock.advance(HOUR * 2);
    }
    (store.operations(), Ok(()))
}

pub(super) fn view(world: &World) -> View {
    model::view_v0(&world.storage(), &world.crypto).unwrap()
}

/// Returns how many blobs `n`, `m` and `l` there are, and how many of the first are in use.
pub(super) fn counts(world: &World) -> [usize; 4] {
    let names: Vec<String> = world.all().into_keys().collect();
    let count = |kind: &str| names.iter().filter(|name| name.starts_with(kind)).count();
    let active = model::active_v0(&world.storage(), &world.crypto).unwrap();
    [count("n"), count("m"), count("l"), active.len()]
}

pub(super) fn check_reader(before: &View, after: &View, found: &View, moment: &str) {
    for (key, entry) in found {
        let known = [before.get(key), after.get(key)].contains(&Some(entry));
        assert!(known, "{moment}: {entry:?} is new");
    }
    for key in after.keys() {
        let key = found.get(key).is_none().then(|| hex::encode(key));
        assert_eq!(key, None, "{moment}: it is lost");
    }
}

fn crash(seed: u64, last: u64) -> SimulationOptions {
    SimulationOptions {
        seed,
        torn_writes: true,
        crash_after_operation: Some(last),
        ..SimulationOptions::default()
    }
}

fn kill_everywhere(index_version: u8, seed: u64) {
    let undisturbed = world(index_version, seed);
    let before = view(&undisturbed);
    let (operations, outcome) = play(&undisturbed, SimulationOptions::default());
    outcome.unwrap();
    let after = view(&undisturbed);
    let dropped = before.len() - after.len();
    assert_eq!(dropped, 6, "old tombstones went, young ones did not");
    assert!(before.values().filter(|entry| entry.deleted).count() > dropped);
    let end = counts(&undisturbed);
    assert_eq!(end, [2, 2, 1, 1], "the steady state");

    let world = world(index_version, seed);
    let (start, snapshot) = (world.now(), world.store.snapshot());
    for last in 0..operations {
        world.store.restore(&snapshot);
        world.clock.set(start);
        let (_, outcome) = play(&world, crash(seed, last));
        let moment = format!("killed after operation {last} of {operations}, seed {seed}");
        if let Err(error) = outcome {
            assert_eq!(error.code(), "storage-crashed", "{moment}: {error}");
        }
        check_reader(&before, &after, &view(&world), &moment);
        world.clock.advance(HOUR * 2);
        let (_, outcome) = play(&world, SimulationOptions::default());
        outcome.unwrap_or_else(|error| panic!("{moment}: again: {error}"));
        assert_eq!(model::difference(&after, &view(&world)), None, "{moment}");
        assert_eq!(counts(&world), end, "{moment}");
    }
}

#[test]
fn version_1() {
    (1..=6).for_each(|seed| kill_everywhere(1, seed));
}

#[test]
fn version_2() {
    kill_everywhere(2, 7);
}

/// Goal: a run that was killed after its log finishes the deletions without a compaction; method:
/// quick runs, of which the second has nothing to merge.
#[test]
fn a_quick_run_finishes_what_was_begun() {
    let quick = CompactionV0::quick(SETTLE_TIME);
    let simulated = |world: &World, options: SimulationOptions| {
        let store = Arc::new(SimulatedStore::new(world.store.clone(), options));
        (run(world, &quick, &store), store.operations())
    };
    let undisturbed = world(1, 1);
    let before = view(&undisturbed);
    let (outcome, operations) = simulated(&undisturbed, SimulationOptions::default());
    assert!(outcome.unwrap().compacted);
    let end = counts(&undisturbed);
    assert_eq!(end, [12, 3, 1, 1], "inputs of the new log stay an hour");
    let world = world(1, 1);
    let snapshot = world.store.snapshot();
    for last in 0..operations {
        world.store.restore(&snapshot);
        let _ = simulated(&world, crash(last, last));
        let moment = format!("killed after operation {last} of {operations}");
        assert_eq!(model::difference(&before, &view(&world)), None, "{moment}");
        let again = simulated(&world, SimulationOptions::default()).0.unwrap();
        assert_eq!(model::difference(&before, &view(&world)), None, "{moment}");
        let now = counts(&world);
        // A result without its log is one more blob to be merged.
        let spare = now[0] - end[0];
        assert!(spare <= 1, "{moment}: {now:?}, {}", again.report);
        assert_eq!(now, [end[0] + spare, end[1], end[2], end[3]], "{moment}");
    }
}
