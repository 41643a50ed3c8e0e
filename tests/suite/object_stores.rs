//! Maintenance works in object stores as in folders: the same effect, few requests, whatever
//! networks do.
//!
//! Golden repositories are carried into SeaweedFS, Azurite and an emulation of Google's store, a
//! cycle runs there, and what it did is compared with what Kopia did in a folder. `asked` counts
//! what that costs, `commands` does it as a user does, `doctor` looks at repositories in traps,
//! `faults` are whole runs of the program through them, `tokens` such runs with keys that end in
//! their middle, `secure` such runs behind TLS in a cgroup; in `kopias` real Kopia, where it is,
//! makes repositories in SeaweedFS and Azurite itself.

mod asked;
mod commands;
mod doctor;
mod faults;
mod kopias;
mod secure;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use careen::blob::object::WireLimits;
use careen::blob::object::location::Location;
use careen::blob::{Storage, Traffic};
use careen::clock::ManualClock;
use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::safety::Safety;
use careen::repository::Repository;
use kit::cycle::{cycle, new_runs, schedule};
use kit::golden::Golden;
use kit::index_work::{Bench, open_storage};
use kit::kopia::newest;
use kit::object_stores::{Place, all, carry_back, carry_there};
use kit::timed_store::TimedStore;
use servers::fault_proxy::{Fault, FaultProxy};

use crate::run_protocol::effect::Look;
use crate::run_protocol::golden::{assert_effect, assert_tasks, told};

/// Epochs with ranges, short packs, and what Velero leaves.
const CARRIED: [&str; 3] = ["old-epochs", "small-packs", "velero-0.17.0"];

fn limits() -> WireLimits {
    WireLimits {
        stall: Duration::from_secs(5),
        ..WireLimits::default()
    }
}

/// Carries a golden repository to a place and opens it there, at its own moment.
fn carried(golden: &Golden, place: &Place) -> Repository {
    let times = carry_there(&golden.data(), &Storage::new(place.store(&limits())));
    reopened(golden, place, times)
}

fn reopened(
    golden: &Golden,
    place: &Place,
    times: std::collections::BTreeMap<careen::kopia::blob_id::BlobId, careen::clock::Timestamp>,
) -> Repository {
    let clock = Arc::new(ManualClock::new(golden.now()));
    let store = TimedStore::new(place.store(&limits()), clock.clone(), times);
    let storage = Storage::new(Arc::new(store));
    open_storage(storage, golden.password(), clock, 64 << 20).unwrap()
}

/// Runs a full cycle and compares it with Kopia's.
fn maintain(golden: &Golden, repository: &Repository, what: &str) -> Traffic {
    let (before, look) = (schedule(repository), Look::at(repository));
    let traffic = repository.storage.traffic().unwrap();
    let options = cycle(Mode::Full, Safety::full(), golden.maintenance_owner());
    let outcome = Bench::new().cycle(repository, &options);
    outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
    let traffic = since(&repository.storage.traffic().unwrap(), &traffic);
    let told = told(golden, "full").unwrap();
    assert_tasks(
        &new_runs(&before, &schedule(repository)),
        &told["tasks"],
        what,
    );
    let effect = Look::at(repository).since(&look);
    assert_effect(&effect, told, &mut 0, what);
    traffic
}

fn since(now: &Traffic, before: &Traffic) -> Traffic {
    Traffic {
        get: now.get - before.get,
        list: now.list - before.list,
        put: now.put - before.put,
        head: now.head - before.head,
        delete: now.delete - before.delete,
        ..*now
    }
}

#[test]
fn full_cycles_in_object_stores_have_kopias_effect() {
    for name in CARRIED {
        let golden = Golden::open(name);
        for place in all() {
            let what = format!("{name} at {}", place.location);
            let repository = carried(&golden, &place);
            let counted = repository.storage.counters();
            let before = repository.storage.traffic().unwrap();
            maintain(&golden, &repository, &what);
            let asked = repository.storage.counters().since(&counted);
            let traffic = since(&repository.storage.traffic().unwrap(), &before);
            // What was asked for was asked once; on S3 the hidden blob with storage classes too.
            let hidden = u64::from(matches!(place.location, Location::S3(_)));
            assert_eq!(traffic.get + traffic.head, asked.gets + hidden, "{what}");
            assert_eq!(traffic.list, asked.lists, "{what}");
            assert_eq!(traffic.put, asked.puts, "{what}");
            assert_eq!(traffic.delete, asked.deletes, "{what}");
            judge_a_copy(&golden, &repository, &what);
        }
    }
}

/// Carries the repository into a folder, where real Kopia reads it.
fn judge_a_copy(golden: &Golden, repository: &Repository, what: &str) {
    let folder = tempfile::tempdir().unwrap();
    carry_back(&repository.storage, golden.path(), folder.path()).unwrap();
    let Some(kopia) = newest() else {
        return;
    };
    let owner = golden.maintenance_owner();
    let client = kopia.connect(folder.path(), golden.password(), owner);
    let client = client.unwrap_or_else(|error| panic!("{what}: {error}"));
    client.snapshot_verify().unwrap();
    client.content_verify(false).unwrap();
}

#[test]
fn a_cycle_through_faults_has_the_same_effect() {
    // Goal: faults at every seventh request, at whatever it is, change nothing but the requests.
    let faults = [
        Fault::Drop,
        Fault::Refuse(503, "SlowDown"),
        Fault::Truncate(100),
        Fault::Refuse(500, "InternalError"),
        Fault::DropAnswer,
    ];
    let golden = Golden::open("old-epochs");
    for place in all() {
        let what = format!("faults at {}", place.location);
        let times = carry_there(&golden.data(), &Storage::new(place.store(&limits())));
        let proxy = FaultProxy::before(place.port);
        let place = place.through(proxy.port());
        let repository = reopened(&golden, &place, times);
        let faults = faults.clone();
        proxy.rule(move |seen| {
            let (turn, is_due) = (seen.number / 7, seen.number % 7 == 6);
            match &faults[turn as usize % faults.len()] {
                fault if is_due => fault.clone(),
                _ => Fault::Pass,
            }
        });
        let traffic = maintain(&golden, &repository, &what);
        assert!(traffic.throttled > 0, "{what}: {traffic}");
    }
}
