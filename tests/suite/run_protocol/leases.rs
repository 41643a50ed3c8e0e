//! The lease: short while a run is at work, renewed as long as it lives, gone when it has ended.
//!
//! Clocks are moved by hand or by a storage whose every operation takes minutes; what other clients
//! would see is read from the schedule while the run is at work.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use careen::blob::{Delays, SimulatedStore, SimulationOptions};
use careen::clock::{ManualClock, Timestamp};
use careen::kopia::blob_id::{BlobId, REPOSITORY};
use careen::kopia::schedule::UNSET;
use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::cycle_task::CycleTask;
use careen::maintenance::lease::{LEASE, Lease, RENEW_AFTER};
use careen::maintenance::run::{Event, RunOptions};
use careen::maintenance::safety::Safety;
use careen::maintenance::watch::Watch;
use careen::repository::Repository;
use careen::repository::schedule_store::{read_schedule, write_schedule};
use kit::cycle::{cycle, schedule};
use kit::golden::{DAMAGED, Golden};
use kit::index_work::{Bench, open};
use kit::world::{OWNER, START, World, WorldOptions};

use super::{HOUR, TASKS, named, quick, schedule_of, world};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn other_clients_see_a_run_that_is_not_due_and_the_real_times_after_it() {
    let world = world();
    let mut seen = Vec::new();
    let report = Bench::new()
        .quick()
        .cycle_with(&world.repository(), &quick(), &mut |event| {
            if let Event::Started(_) = event {
                let during = schedule_of(&world);
                let lease = Lease::of(&during).unwrap();
                assert_eq!(lease.until, START.plus(LEASE));
                assert_eq!(
                    (during.next_full, during.next_quick),
                    (lease.until, lease.until)
                );
                seen.push(lease.run);
            }
        });
    let report = report.unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0], seen[1]);
    let after = schedule_of(&world);
    assert_eq!(
        (after.next_full, after.next_quick),
        (UNSET, START.plus(HOUR))
    );
    assert_eq!(
        (report.next_full, report.next_quick),
        (None, Some(START.plus(HOUR)))
    );
    assert_eq!(Lease::of(&after), None);
}

#[test]
fn named_tasks_do_not_move_the_next_times() {
    let world = world();
    let repository = world.repository();
    let (mut before, _) = read_schedule(&repository).unwrap();
    (before.next_full, before.next_quick) = (START.plus(HOUR * 3), START.minus(HOUR));
    before.unknown.insert("future".to_owned(), 7.into());
    write_schedule(&repository, &before).unwrap();
    Bench::new()
        .quick()
        .cycle(&repository, &named(&TASKS))
        .unwrap();
    let after = schedule_of(&world);
    assert_eq!(
        (after.next_full, after.next_quick),
        (before.next_full, before.next_quick)
    );
    assert_eq!(
        after.unknown, before.unknown,
        "what we do not know survives"
    );
}

#[test]
fn automatic_runs_do_what_is_due_and_nothing_before_its_time() {
    let world = world();
    let bench = Bench::new().quick();
    let auto = cycle(Mode::Auto, Safety::full(), OWNER);
    let repository = world.repository();
    let (mut schedule, _) = read_schedule(&repository).unwrap();
    schedule.next_full = START.plus(HOUR * 20);
    schedule.next_quick = START;
    write_schedule(&repository, &schedule).unwrap();
    let report = bench.cycle(&repository, &auto).unwrap();
    assert_eq!(report.cycle.unwrap().to_string(), "quick");
    let blobs = world.all();
    let report = bench.cycle(&repository, &auto).unwrap();
    assert_eq!((report.cycle, report.tasks.len()), (None, 0));
    assert!(report.to_string().starts_with("nothing is due"), "{report}");
    assert_eq!(world.all(), blobs, "and nothing is written");
}

/// Goal: a run that lives long keeps its lease; method: every operation takes minutes.
#[test]
fn a_slow_run_renews_its_lease() {
    let world = world();
    let delays = Delays {
        clock: world.clock.clone(),
        max: MINUTE * 2,
    };
    let options = SimulationOptions {
        seed: 5,
        delays: Some(delays),
        ..SimulationOptions::default()
    };
    let store = Arc::new(SimulatedStore::new(world.store.clone(), options));
    let mut ends: Vec<Timestamp> = Vec::new();
    let outcome = Bench::new().quick().cycle_with(
        &world.repository_on(store),
        &named(&TASKS),
        &mut |event| {
            if let Event::Started(_) | Event::Ended(_) = event {
                let lease = Lease::of(&schedule_of(&world)).unwrap();
                assert!(world.now() < lease.until, "{event:?}");
                ends.push(lease.until);
            }
        },
    );
    outcome.unwrap();
    assert!(
        world.now() > START.plus(LEASE * 2),
        "the run took {}",
        world.now()
    );
    assert!(ends.is_sorted() && ends.last() > ends.first());
}

#[test]
fn a_run_is_refused_beside_another_and_a_crashed_rewrite_is_remembered() {
    let world = world();
    let repository = world.repository();
    let (watch, anchor) = Watch::begin(&repository, Arc::default(), None).unwrap();
    assert_eq!(anchor.start, START);
    watch.enter(CycleTask::FullRewriteContents).unwrap();
    let refused = Bench::new()
        .quick()
        .cycle(&repository, &quick())
        .unwrap_err();
    assert_eq!(refused.code(), "leased");
    assert!(
        refused.to_string().contains("2026-09-01T00:15:00Z"),
        "{refused}"
    );
    // The run dies here. When its lease has ended the next one goes on, and knows.
    world.clock.set(START.plus(LEASE));
    Bench::new().quick().cycle(&repository, &quick()).unwrap();
    let after = schedule_of(&world);
    let run = &after.runs_of("full-rewrite-contents")[0];
    assert_eq!((run.success, run.end), (false, START.plus(LEASE)));
    assert!(run.error.ends_with("crashed"), "{run:?}");
    // What is left of the dead run cannot write any more.
    assert_eq!(watch.still_ours().unwrap_err().code(), "taken-over");
}

/// Goal: a run waits for the lease of one that has died, and no longer than it was told to for one
/// that lives; method: nobody renews it, somebody does, and a wait that is told to end. The clock
/// moves whenever the run says that it waits.
#[test]
fn a_run_waits_for_a_lease_within_its_time() {
    let waits = |retry_lock: Duration, on_wait: &dyn Fn(&World, &Arc<Watch>)| {
        let world = world();
        let repository = world.repository();
        let (watch, _) = Watch::begin(&repository, Arc::default(), None).unwrap();
        let options = RunOptions {
            retry_lock,
            ..quick()
        };
        let mut waits = 0;
        let outcome = Bench::new()
            .quick()
            .cycle_with(&repository, &options, &mut |event| {
                if let Event::Waits(_, until) = event {
                    assert_eq!(*until, Lease::of(&schedule_of(&world)).unwrap().until);
                    waits += 1;
                    world.clock.advance(MINUTE * 4);
                    on_wait(&world, &watch);
                }
            });
        (waits, outcome.map_err(|error| error.code()).map(drop))
    };
    let (hour, dies) = (MINUTE * 60, |world: &World, _: &Arc<Watch>| {
        world.clock.advance(LEASE)
    });
    assert_eq!(waits(hour, &dies), (1, Ok(())));
    let (count, outcome) = waits(MINUTE * 2, &|_, _| ());
    assert_eq!(
        (count, outcome),
        (1, Err("leased")),
        "the time to wait is over"
    );
    let renews = |world: &World, watch: &Arc<Watch>| {
        watch
            .watched()
            .storage
            .metadata(&BlobId::new(REPOSITORY))
            .unwrap();
        world.clock.advance(LEASE / 4); // and it is looked at
    };
    let (count, outcome) = waits(hour, &renews);
    assert!(count > 3, "{count}");
    assert_eq!(outcome, Err("leased"), "it lives");
    let ends = |world: &World, watch: &Arc<Watch>| {
        watch.release();
        world.clock.advance(MINUTE);
    };
    assert_eq!(waits(hour, &ends), (1, Ok(())));
}

/// Goal: who waits ends when it is told to, having written nothing.
#[test]
fn a_wait_can_be_stopped() {
    let world = world();
    let repository = world.repository();
    let (_watch, _) = Watch::begin(&repository, Arc::default(), None).unwrap();
    let blobs = world.all();
    let options = RunOptions {
        retry_lock: LEASE * 2,
        ..quick()
    };
    let stop = Arc::clone(&options.stop);
    let outcome = Bench::new()
        .quick()
        .cycle_with(&repository, &options, &mut |event| {
            assert!(matches!(event, Event::Waits(..)), "{event:?}");
            stop.store(true, Ordering::SeqCst);
        });
    assert_eq!(outcome.unwrap_err().code(), "stopped");
    assert_eq!(world.all(), blobs);
}

#[test]
fn clocks_that_differ_stop_a_run_and_leave_no_lease() {
    for (skew, code) in [(MINUTE * 5, None), (MINUTE * 6, Some("clock-skew"))] {
        let world = world();
        let ours = Arc::new(ManualClock::new(world.now().plus(skew)));
        let repository = Repository {
            clock: ours,
            ..world.repository()
        };
        let outcome = Bench::new().quick().cycle(&repository, &quick());
        assert_eq!(outcome.err().map(|error| error.code()), code);
        let after = schedule_of(&world);
        assert_eq!(Lease::of(&after), None);
        assert_eq!(after.runs.is_empty(), code.is_some());
    }
}

#[test]
fn the_owner_is_checked_before_anything_is_written() {
    let world = world();
    let blobs = world.all();
    let stranger = cycle(Mode::Quick, Safety::full(), "somebody@else");
    let refused = Bench::new().quick().cycle(&world.repository(), &stranger);
    assert_eq!(refused.unwrap_err().code(), "not-owner");
    assert_eq!(world.all(), blobs);
}

/// Goal: a change of the format ends a run within the time of a renewal; method: another format
/// blob, and Kopia's own upgrade lock.
#[test]
fn a_changed_format_and_an_upgrade_lock_end_a_run() {
    let world = world();
    let repository = world.repository();
    let (watch, _) = Watch::begin(&repository, Arc::default(), None).unwrap();
    let watched = watch.watched();
    let other = World::new(WorldOptions {
        seed: 2,
        ..WorldOptions::default()
    });
    let id = BlobId::new(REPOSITORY);
    let changed = other.store.bytes(&id).unwrap();
    world.store.insert(id.clone(), changed, world.now());
    world.clock.advance(RENEW_AFTER - MINUTE);
    watched.storage.metadata(&id).unwrap();
    world.clock.advance(MINUTE);
    let halted = watched.storage.metadata(&id).unwrap_err();
    assert_eq!(halted.code(), "halted");
    assert_eq!(watch.reason(halted.into()).code(), "format-changed");

    let damaged = Golden::open(DAMAGED);
    let intact = damaged.variant("v0-intact");
    let clock = Arc::new(ManualClock::new(intact.now()));
    let repository = Repository {
        clock: clock.clone(),
        ..open(intact.path(), damaged.password(), intact.now()).unwrap()
    };
    let (watch, _) = Watch::begin(&repository, Arc::default(), None).unwrap();
    let watched = watch.watched();
    let before = schedule(&repository);
    let locked = damaged.variant("upgrade-lock").data();
    let locked = locked.read(REPOSITORY).unwrap();
    let data = intact.data();
    data.write(REPOSITORY, &locked, intact.now()).unwrap();
    watched.storage.metadata(&id).unwrap();
    clock.advance(RENEW_AFTER);
    let halted = watched.storage.metadata(&id).unwrap_err();
    assert_eq!(halted.code(), "halted");
    assert_eq!(watch.reason(halted.into()).code(), "upgrade-lock");
    watch.release();
    assert_eq!(
        schedule(&repository),
        before,
        "nothing is written under the lock"
    );
}
