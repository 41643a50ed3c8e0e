//! `careen doctor` on repositories that somebody's trap caught, in every store: it names the trap,
//! says what to do, and ends with the exit code that a run ends with.
//!
//! Wrong ways to a store, keys and rights are tried in the program's own tests, on a store that can
//! be made wrong; here it is what lies in the repository.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use careen::blob::object::WireLimits;
use careen::blob::{PutOptions, Storage};
use careen::clock::{Clock, SystemClock};
use careen::kopia::blob_id::BlobId;
use careen::kopia::format_blob::BlobConfig;
use careen::kopia::maintenance_params::{MANIFEST_TYPE, MaintenanceParams};
use careen::kopia::manifest::{ManifestEntry, TYPE_LABEL};
use careen::repository::schedule_store::write_schedule;
use kit::golden::Golden;
use kit::index_work::open_storage;
use kit::object_stores::{Place, all, carry_there};
use kit::program;
use kit::world::{OWNER, START, World, WorldOptions};
use serde_json::Value;
use serde_json::value::RawValue;
use servers::fault_proxy::{Fault, FaultProxy, Kind};

const PASSWORD: &str = "static-passw0rd";

fn world(blob_config: BlobConfig) -> World {
    World::new(WorldOptions {
        password: Some(PASSWORD),
        blob_config,
        ..WorldOptions::default()
    })
}

/// Adds parameters of maintenance to those that are there, which are a minute older.
fn add_params(world: &World, owner: &str) {
    let params = MaintenanceParams {
        owner: owner.to_owned(),
        ..MaintenanceParams::default()
    };
    let json = String::from_utf8(params.to_json()).unwrap();
    let payload = RawValue::from_string(json).unwrap();
    let labels = BTreeMap::from([(TYPE_LABEL.to_owned(), MANIFEST_TYPE.to_owned())]);
    let (id, time) = (
        hex::encode(world.random::<16>()),
        START.plus(Duration::from_secs(60)),
    );
    world.put_manifest_content(&[ManifestEntry::new(id, labels, time, payload)]);
}

/// Carries a world to a place.
fn carried(world: &World, place: &Place) -> Storage {
    let storage = Storage::new(place.store(&WireLimits::default()));
    for (name, (bytes, _)) in world.all() {
        let put = storage.put_bytes(&BlobId::new(name), &bytes, &PutOptions::default());
        put.unwrap();
    }
    storage
}

/// Asks the doctor; the finding of this code must be there and say what to do.
fn asserts(place: &Place, code: &str, state: &str, exit: i32) {
    let Some(program) = program::careen() else {
        return;
    };
    let mut command = Command::new(program);
    command.arg("doctor");
    place.tell(&mut command);
    command
        .args(["--json", "--write-probe", "--owner", OWNER, "--scratch"])
        .arg(kit::disk())
        .env("KOPIA_PASSWORD", PASSWORD)
        .stdin(Stdio::null());
    let ended = command.output().unwrap();
    let out = String::from_utf8_lossy(&ended.stdout);
    let what = format!("{code} at {}: {out}", place.location);
    assert_eq!(ended.status.code(), Some(exit), "{what}");
    let lines = out.lines().map(|line| serde_json::from_str(line).unwrap());
    let rows: Vec<Value> = lines
        .filter(|line: &Value| line["code"].is_string())
        .collect();
    let found = rows.iter().find(|row| row["code"] == code);
    let found = found.unwrap_or_else(|| panic!("{what}"));
    assert_eq!(found["state"], state, "{what}");
    assert!(found["next"].as_str().is_some_and(|next| next.len() > 20));
    let errors = rows.iter().filter(|row| row["state"] == "error");
    assert_eq!(errors.count(), usize::from(state == "error"), "{what}");
}

#[test]
fn parameters_that_are_there_twice_are_named() {
    let twice = world(BlobConfig::default());
    add_params(&twice, OWNER);
    let nobodys = world(BlobConfig::default());
    add_params(&nobodys, "");
    for place in all() {
        carried(&twice, &place);
        asserts(&place, "params-twice", "warning", 0);
    }
    for place in all() {
        carried(&nobodys, &place);
        asserts(&place, "empty-owner", "error", 40);
    }
}

#[test]
fn a_schedule_of_a_cycle_that_crashed_is_named() {
    // Goal: Kopia wrote the next times and died: nothing of the cycle is recorded.
    let world = world(BlobConfig::default());
    for place in all() {
        let storage = carried(&world, &place);
        let clock = Arc::new(SystemClock);
        let repository = open_storage(storage, PASSWORD, clock, 64 << 20).unwrap();
        let mut schedule = careen::kopia::schedule::Schedule::default();
        let hour = Duration::from_secs(3600);
        schedule.next_full = SystemClock.now().plus(12 * hour);
        schedule.next_quick = SystemClock.now().plus(hour);
        write_schedule(&repository, &schedule).unwrap();
        asserts(&place, "stale-schedule", "warning", 0);
    }
}

#[test]
fn a_store_that_refuses_is_soon_given_up() {
    // Goal: who asks the doctor waits for the answer: five tries, where a run makes eleven.
    let world = world(BlobConfig::default());
    for place in all() {
        carried(&world, &place);
        let proxy = FaultProxy::before(place.port);
        proxy.rule(|seen| match seen.kind {
            Kind::Put => Fault::Refuse(503, "SlowDown"),
            _ => Fault::Pass,
        });
        asserts(
            &place.through(proxy.port()),
            "storage-transient",
            "error",
            30,
        );
        assert_eq!(proxy.count(Kind::Put), 5);
    }
}

#[test]
fn locks_that_a_store_does_not_have_are_named() {
    // Goal: a repository with object locks was copied into a bucket without.
    let world = world(BlobConfig {
        retention_mode: Some("COMPLIANCE".to_owned()),
        retention_period: Duration::from_secs(48 * 3600),
    });
    for place in all() {
        carried(&world, &place);
        asserts(&place, "no-object-locks", "error", 50);
    }
}

#[test]
fn what_is_wrong_with_an_index_is_named() {
    let golden = Golden::open("damaged");
    for (variant, code, state, exit) in [
        ("two-xs-sets-unequal", "unequal-index-sets", "error", 60),
        ("xn-shard-missing", "incomplete-index", "error", 60),
        ("half-written-compaction", "incomplete-sets", "warning", 0),
        ("xs-shard-missing-xn-gone", "damaged-index", "error", 60),
        ("truncated-index", "damaged-index", "error", 60),
    ] {
        for place in all() {
            let storage = Storage::new(place.store(&WireLimits::default()));
            carry_there(&golden.variant(variant).data(), &storage);
            asserts(&place, code, state, exit);
        }
    }
}
