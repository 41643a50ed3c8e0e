//! One maintainer: whoever else writes the schedule, maintains, or locks the repository for an
//! upgrade, at whatever operation of a full cycle, ends our run, and nothing is lost.
//!
//! Something happens before a chosen operation ([`super::struck`]). The other maintainer is a whole
//! cycle that does not respect our lease, as a user's who runs Kopia by hand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use careen::blob::MemoryStore;
use careen::kopia::blob_id::{BlobId, MAINTENANCE, REPOSITORY};
use careen::kopia::format_blob::FormatBlob;
use careen::kopia::schedule::Schedule;
use careen::kopia::upgrade_lock::UpgradeLock;
use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::cycle_task::CycleTask;
use careen::maintenance::lease::{LEASE, RENEW_AFTER};
use careen::maintenance::safety::Safety;
use careen::repository::Repository;
use careen::repository::schedule_store::{read_schedule, write_schedule};
use kit::cycle::{cycle, schedule};
use kit::index_work::Bench;
use kit::world::OWNER;

use super::plan::{DeadSession, Flush, Plan, Tombstone};
use super::struck::{Day, MINUTE, Strike};
use super::{build, harmless, weather};

/// Another maintainer's write: what we had written there is gone.
fn write_as_another(repository: &Repository) -> Schedule {
    let (mut foreign, _) = read_schedule(repository).unwrap();
    foreign.unknown.clear();
    foreign.next_quick = repository.clock.now().plus(MINUTE * 300);
    write_schedule(repository, &foreign).unwrap();
    foreign
}

/// Goal: a foreign schedule is never overwritten, and ends the run; method: one before every
/// operation. Who writes just before we read it for the first time is before us, who writes between
/// our reading and our first writing is not seen by anybody, and after our last word nothing is to
/// be ended.
#[test]
fn a_foreign_schedule_ends_a_full_cycle() {
    for (epochs, seed) in [(true, 1), (true, 5), (false, 2)] {
        let day = Day::new(epochs, seed);
        let ended = day.every(3, |day, at| {
            let written = Arc::new(Mutex::new(None));
            let (repository, note) = (day.world.repository(), written.clone());
            let strike = move || *note.lock().unwrap() = Some(write_as_another(&repository));
            let run = day.run(at, Duration::ZERO, Strike::Happens(Box::new(strike)));
            let known = [None, Some("taken-over")];
            assert!(known.contains(&run.code), "{}", run.told);
            if run.code.is_some() {
                let foreign = written.lock().unwrap().clone();
                assert_eq!(
                    Some(schedule(&day.world.repository())),
                    foreign,
                    "{}",
                    run.told
                );
                let ours = run.store.written.lock().unwrap();
                assert!(
                    ours.iter().all(|(name, _)| name != MAINTENANCE),
                    "{}",
                    run.told
                );
            }
            run
        });
        assert!(ended > 12, "{ended}");
    }
}

/// Goal: two maintainers at once lose nothing, whoever comes between whom; method: a whole cycle
/// of another before every operation of ours. Calm nights end as ever.
#[test]
fn another_maintainer_in_the_middle_loses_nothing() {
    for (epochs, seed) in [(true, 2), (true, 3), (false, 4)] {
        let day = Day::new(epochs, seed);
        let mut runs = 0;
        let ended = day.every(11, |day, at| {
            let repository = day.world.repository();
            let strike = move || {
                write_as_another(&repository);
                let full = cycle(Mode::Full, Safety::full(), OWNER);
                let other = Bench::new().quick();
                other.cycle(&repository, &full).unwrap();
            };
            let run = day.run(at, Duration::ZERO, Strike::Happens(Box::new(strike)));
            runs += 1;
            if runs % 5 == 0 {
                day.world.clock.advance(LEASE);
                weather::calm(&day.world, &day.model, &day.bench, &run.told);
            }
            run
        });
        assert!(ended > 3, "{ended}");
    }
}

/// Goal: within a quarter of an hour after an upgrade has begun, nothing is written any more;
/// method: a lock before every operation, and operations that take a minute each.
#[test]
fn an_upgrade_lock_ends_a_full_cycle() {
    for (epochs, seed) in [(true, 1), (false, 3)] {
        let day = Day::new(epochs, seed);
        let ended = day.every(7, |day, at| {
            let repository = day.world.repository();
            let store = day.world.store.clone();
            let locked = Arc::new(Mutex::new(day.start));
            let note = locked.clone();
            let strike = move || {
                lock(&repository, &store);
                // After it: operations of other threads take their minutes meanwhile.
                *note.lock().unwrap() = repository.clock.now();
            };
            let run = day.run(at, MINUTE, Strike::Happens(Box::new(strike)));
            let until = locked.lock().unwrap().plus(RENEW_AFTER + MINUTE * 5);
            for (name, time) in run.store.written.lock().unwrap().iter() {
                assert!(*time <= until, "{}: {name} at {time}", run.told);
            }
            let known = [None, Some("upgrade-lock")];
            assert!(known.contains(&run.code), "{}", run.told);
            run
        });
        assert!(ended > 8, "{ended}");
    }
}

/// A session that wrote its pack a day ago and ends now: it writes its index, then its marker goes.
/// What is in the pack is known elsewhere, as deleted.
fn long_session() -> Plan {
    const HOUR: i64 = 3_600;
    let content = 3;
    Plan {
        flushes: vec![Flush {
            age: 200 * HOUR,
            data: vec![content],
            metadata: Vec::new(),
            epoch: 0,
            pack_bytes: 5_000,
            marker: None,
        }],
        snapshots: Vec::new(),
        tombstones: vec![Tombstone {
            content: 0,
            age: 60 * HOUR,
        }],
        dead_sessions: vec![DeadSession {
            age: 30 * HOUR,
            checkpoint: 31 * HOUR,
            data: vec![content],
        }],
        // Packs are deleted, and not rewritten.
        past: vec![(CycleTask::FullRewriteContents, 50 * HOUR)],
        ..harmless(true, 1)
    }
}

/// Goal: a client that ends its session in the middle loses no pack; method: before every
/// operation.
#[test]
fn a_session_that_ends_in_the_middle_keeps_its_packs() {
    let (world, model) = build::build(&long_session());
    let (marker, session) = model.markers.iter().next().unwrap();
    let own = |pack: &&String| pack.ends_with(&session.session);
    let pack = model.packs.keys().find(own).unwrap();
    let mut entries = world.local_index(pack).unwrap();
    entries[0].timestamp_seconds = world.now().seconds();
    let plain = world.index_bytes(&entries);
    let (marker, suffix) = (
        BlobId::new(marker.as_str()),
        format!("{}-c1", session.session),
    );
    let mut sealed = Vec::new();
    let crypto = &world.crypto;
    let name = crypto.seal("xn0_", Some(&suffix), &plain, world.random(), &mut sealed);
    let day = Day::of(world, model);
    let ended = day.every(1, |day, at| {
        let (world, store) = (&day.world, day.world.store.clone());
        let (index, marker) = ((name.clone(), sealed.clone()), marker.clone());
        let (storage, now) = (world.storage(), world.now());
        let strike = move || {
            store.insert(BlobId::new(index.0.as_str()), index.1.clone(), now);
            storage.delete(&marker).unwrap();
        };
        day.run(at, Duration::ZERO, Strike::Happens(Box::new(strike)))
    });
    assert_eq!(ended, 0);
}

/// Locks the repository for an upgrade by somebody else.
fn lock(repository: &Repository, store: &MemoryStore) {
    let id = BlobId::new(REPOSITORY);
    let blob = FormatBlob::parse(&store.bytes(&id).unwrap()).unwrap();
    let mut format = (*repository.format).clone();
    format.upgrade_lock = Some(UpgradeLock {
        owner_id: "somebody".to_owned(),
        creation_time: repository.clock.now(),
        advance_notice_duration: Duration::ZERO,
        io_drain_timeout: MINUTE * 15,
        status_poll_interval: MINUTE,
        message: "upgrading".to_owned(),
        max_permitted_clock_drift: MINUTE * 5,
    });
    let bytes = blob.with_format(&format, repository.random()).to_json();
    store.insert(id, bytes, repository.clock.now());
}
