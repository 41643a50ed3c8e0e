//! Bad weather over whole full cycles: operations fail, take minutes, list what was there before,
//! and the process dies, at random or at each operation. After every night everything in use is
//! there; and after some calm nights the end is that of a repository that never saw weather: what
//! is in use, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use careen::blob::{Delays, SimulatedStore, SimulationOptions};
use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::lease::{LEASE, Lease};
use careen::maintenance::safety::Safety;
use kit::cycle::{cycle, schedule};
use kit::index_work::Bench;
use kit::world::{OWNER, World};

use super::model::Model;
use super::plan::{Flush, Plan, Snapshot, Tombstone};
use super::struck::{Day, Strike};
use super::{build, cases, harmless, judge};

const NIGHT: Duration = Duration::from_secs(25 * 3_600);

/// Nights after which nothing is left of whatever can be deleted: a session that died in the last
/// bad one has to be dead for four days, and packs go every other night.
const CALM_NIGHTS: usize = 8;

/// How a run in bad weather may end. Without epochs a run reads what it has deleted itself, where a
/// listing still has it: it tries ten times and gives up.
const ENDS: [Option<&str>; 4] = [
    None,
    Some("storage-transient"),
    Some("storage-crashed"),
    Some("index-blob-vanished"),
];

/// Returns the weather of a night.
fn weather(world: &World, seed: u64, night: u64) -> SimulationOptions {
    let delays = Delays {
        clock: world.clock.clone(),
        max: Duration::from_secs([2, 90][(seed % 2) as usize]),
    };
    let stale = Duration::from_secs(600);
    let kind = (seed + night) % 5;
    SimulationOptions {
        seed: seed * 100 + night,
        faults: [0, 4, 0, 2, 4][kind as usize],
        torn_writes: true,
        delays: (kind != 1).then_some(delays),
        stale_listings: (kind >= 2).then_some(stale),
        crash_after_operation: (kind == 3).then_some(20 + (seed * 37 + night * 61) % 150),
    }
}

fn run(world: &World, bench: &Bench, options: SimulationOptions) -> Option<String> {
    let store = Arc::new(SimulatedStore::new(world.store.clone(), options));
    let mut full = cycle(Mode::Full, Safety::full(), OWNER);
    // Some of these repositories are garbage for the most part.
    full.accept_unexplained = true;
    let ran = bench.cycle(&world.repository_on(store), &full);
    ran.err().map(|error| format!("{}: {error}", error.code()))
}

/// Nobody disturbs any more: what is not in use goes.
pub(super) fn calm(world: &World, model: &Model, bench: &Bench, moment: &str) {
    for night in 0..CALM_NIGHTS {
        world.clock.advance(NIGHT);
        let ended = run(world, bench, SimulationOptions::default());
        assert_eq!(ended, None, "{moment}, calm night {night}");
        let view = judge::nothing_lost(world, model);
        let view = view.unwrap_or_else(|lost| panic!("{moment}, calm night {night}: {lost}"));
        if night + 1 < CALM_NIGHTS {
            continue;
        }
        for entry in view.values().filter(|entry| entry.key[0] != b'm') {
            let in_use = model.used.contains(&entry.key) && !entry.deleted;
            assert!(in_use, "{moment}: {entry:?} is left");
        }
        let named = |name: &String| view.values().any(|entry| entry.pack == *name);
        let left: Vec<String> = world.all().into_keys().collect();
        let left = left
            .iter()
            .filter(|name| name.starts_with(['p', 'q', 's']) && !named(name));
        assert_eq!(left.collect::<Vec<_>>(), Vec::<&String>::new(), "{moment}");
    }
}

fn bad_nights(epochs: bool, seeds: u32) {
    let bench = Bench::new().quick();
    let mut ends = [0; ENDS.len()];
    for seed in 0..cases(seeds) as u64 {
        let (world, model) = build::build(&harmless(epochs, seed as u8));
        for night in 0..6 {
            world.clock.advance(NIGHT);
            let ended = run(&world, &bench, weather(&world, seed, night));
            let moment = format!("seed {seed}, night {night}, {ended:?}");
            let code = ended.as_ref().and_then(|ended| ended.split(':').next());
            let end = ENDS.iter().position(|end| *end == code);
            ends[end.unwrap_or_else(|| panic!("{moment}"))] += 1;
            let view = judge::nothing_lost(&world, &model);
            view.unwrap_or_else(|lost| panic!("{moment}: {lost}"));
        }
        calm(&world, &model, &bench, &format!("seed {seed}"));
    }
    assert!(ends[..3].iter().all(|count| *count > 1), "{ends:?}");
}

#[test]
fn bad_nights_lose_nothing_and_calm_ones_end_the_same() {
    bad_nights(true, 8);
}

#[test]
fn the_same_without_epochs() {
    bad_nights(false, 8);
}

/// Goal: a death at any operation of a full cycle, while time passes, loses nothing, and a rerun
/// ends where an undisturbed run does; method: every operation on one day after the other, torn
/// writes as several seeds say.
fn deaths(epochs: bool, plans: &[u8]) {
    let bench = Bench::new().quick();
    for seed in plans {
        let (world, model) = build::build(&harmless(epochs, *seed));
        for day in 0..2 {
            world.clock.advance(NIGHT);
            let (start, snapshot) = (world.now(), world.store.snapshot());
            let mut last = 0;
            loop {
                world.store.restore(&snapshot);
                world.clock.set(start);
                let ended = run(&world, &bench, death(&world, last + u64::from(*seed), last));
                let moment = format!("plan {seed}, day {day}, dead after {last}, {ended:?}");
                let lost = |lost| panic!("{moment}: {lost}");
                judge::nothing_lost(&world, &model).unwrap_or_else(lost);
                if ended.is_none() {
                    break;
                }
                world.clock.advance(LEASE);
                let again = run(&world, &bench, SimulationOptions::default());
                assert_eq!(again, None, "{moment}, again");
                judge::nothing_lost(&world, &model).unwrap_or_else(lost);
                if last % 40 == 7 {
                    calm(&world, &model, &bench, &moment);
                }
                last += 1;
            }
            assert!(last > 40, "{last} operations");
        }
    }
}

fn death(world: &World, seed: u64, last: u64) -> SimulationOptions {
    let delays = Delays {
        clock: world.clock.clone(),
        max: Duration::from_secs(10),
    };
    SimulationOptions {
        seed,
        torn_writes: true,
        delays: Some(delays),
        crash_after_operation: Some(last),
        ..SimulationOptions::default()
    }
}

#[test]
fn a_death_at_any_operation_loses_nothing() {
    deaths(true, &[1]);
}

#[test]
fn a_death_without_epochs_loses_nothing() {
    deaths(false, &[2]);
}

/// Sixty contents in packs of their own, all in use: enough for a rewrite to fill many packs.
fn much_to_rewrite(epochs: bool) -> Plan {
    const HOUR: i64 = 3_600;
    let flush = |first: u16| Flush {
        age: 100 * HOUR,
        epoch: 0,
        data: (first..first + 20).collect(),
        metadata: Vec::new(),
        pack_bytes: 1,
        marker: None,
    };
    let snapshot = Snapshot {
        flush: 0,
        directories: vec![(0..60).collect()],
        indirect: false,
        incomplete: false,
        forgotten: false,
        pinned: false,
    };
    Plan {
        flushes: vec![flush(0), flush(20), flush(40)],
        snapshots: vec![snapshot],
        tombstones: (0..20)
            .map(|content| Tombstone {
                content: content * 3,
                age: 30 * HOUR,
            })
            .collect(),
        dead_sessions: Vec::new(),
        past: Vec::new(),
        ..harmless(epochs, 1)
    }
}

/// Goal: one operation that fails for good, whichever, ends the run with the storage's error and
/// loses nothing, and the lease is given back; method: every operation, with writes that have
/// happened, which are not taken for another's, and such that have not.
#[test]
fn a_fault_at_any_operation_loses_nothing() {
    for epochs in [true, false] {
        let (world, model) = build::build(&much_to_rewrite(epochs));
        let day = Day::of(world, model);
        for happened in [false, true] {
            let ended = day.every(1, |day, at| {
                let run = day.run(at, Duration::ZERO, Strike::Fails { happened });
                let ends = [None, Some("storage-transient")];
                assert!(ends.contains(&run.code), "{}", run.told);
                let left = Lease::of(&schedule(&day.world.repository()));
                assert_eq!(left, None, "{}", run.told);
                run
            });
            assert!(ended > 50, "{ended}");
        }
    }
}
