//! Repositories that real Kopia makes in SeaweedFS and in Azurite, each of its versions: Careen
//! maintains them there, and the same Kopia verifies them there and goes on.
//!
//! Kopia reaches Azurite through a proxy with TLS, as it makes the name of the server from account
//! and domain.

use std::collections::BTreeMap;
use std::sync::Arc;

use careen::blob::{BlobError, Retention, Storage};
use careen::clock::SystemClock;
use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::safety::Safety;
use kit::cycle::cycle;
use kit::index_work::{Bench, open_storage};
use kit::kopia::{Client, CreateOptions, Kopia, binaries, newest};
use kit::object_stores::{Place, azure, s3, s3_with_locks};
use serde_json::Value;
use tempfile::TempDir;

use super::limits;

const PASSWORD: &str = "static-passw0rd";

/// Makes a repository with four snapshots, and deletes the first.
fn made(kopia: &Kopia, place: &Place, what: &str) -> (Client, TempDir) {
    let remote = place.for_kopia().unwrap();
    let client = kopia.create_at(&remote, PASSWORD, &CreateOptions::default());
    let client = client.unwrap_or_else(|error| panic!("{what}: {error}"));
    let files = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for round in 0..4_u8 {
        for file in 0..50_u32 {
            let bytes: Vec<u8> = (0..4000_u32)
                .map(|at| (at.wrapping_mul(file + 7) >> (round + 2)) as u8)
                .collect();
            let name = format!("{}", file + u32::from(round) * 30);
            std::fs::write(files.path().join(name), bytes).unwrap();
        }
        let snapshot = client.snapshot_create(files.path(), &[]).unwrap();
        ids.push(snapshot["id"].as_str().unwrap().to_owned());
    }
    client.snapshot_delete(&ids[0]).unwrap();
    (client, files)
}

/// Runs full cycles in the store itself.
fn maintain(client: &Client, place: &Place, cycles: usize) {
    let storage = Storage::new(place.store(&limits()));
    let repository = open_storage(storage, PASSWORD, Arc::new(SystemClock), 64 << 20).unwrap();
    let info: Value = client.maintenance_info().unwrap();
    let owner = info["owner"].as_str().unwrap().to_owned();
    for _ in 0..cycles {
        let options = cycle(Mode::Full, Safety::none(), &owner);
        Bench::new().cycle(&repository, &options).unwrap();
    }
}

#[test]
fn every_kopia_goes_on_where_it_made_its_repository() {
    for kopia in binaries() {
        let places = [s3(), s3().map(|place| place.secure(None))];
        let azure = azure().map(|place| place.secure(None));
        for place in places.into_iter().chain([azure]).flatten() {
            let what = format!("{kopia} at {}", place.location);
            let (client, files) = made(kopia, &place, &what);
            maintain(&client, &place, 2);
            let client = client.fresh().unwrap();
            client.snapshot_verify().unwrap();
            client.content_verify(true).unwrap();
            assert_eq!(client.snapshot_list().unwrap().len(), 3, "{what}");
            client.maintenance_run(true).unwrap();
            client.snapshot_create(files.path(), &[]).unwrap();
            client.fresh().unwrap().snapshot_verify().unwrap();
        }
    }
}

/// Returns until when a blob is locked.
fn locked_until(place: &Place, id: &str) -> Option<String> {
    let path = format!(
        "/{}/{}{id}",
        place.location.bucket(),
        place.location.prefix()
    );
    let head = servers::http::head(place.port, &path).unwrap();
    let until = head.header("x-amz-object-lock-retain-until-date");
    until.map(str::to_owned)
}

#[test]
fn locks_that_kopia_asks_for_are_on_everything_that_careen_writes() {
    // Goal: in a bucket with object locks every new pack and index blob is locked, old locks are
    // extended, and Kopia finds all of it.
    let (Some(kopia), Some(place)) = (newest(), s3_with_locks()) else {
        return;
    };
    let (client, _files) = made(kopia, &place, "locks");
    let set = [
        "repository",
        "set-parameters",
        "--retention-mode=COMPLIANCE",
    ];
    let set = [&set[..], &["--retention-period=48h"]].concat();
    client.run(&set).unwrap();
    client
        .run(&["maintenance", "set", "--extend-object-locks=true"])
        .unwrap();
    let storage = Storage::new(place.store(&limits()));
    let mut before = BTreeMap::new();
    let each = storage.for_each("", |blob| {
        let until = locked_until(&place, blob.id.as_str());
        before.insert(blob.id, until);
        Ok::<_, BlobError>(())
    });
    each.unwrap();
    maintain(&client, &place, 1);
    let mut fresh = 0;
    let each = storage.for_each("", |blob| {
        let until = locked_until(&place, blob.id.as_str());
        if Retention::applies_to(&blob.id) {
            assert!(until.is_some(), "{} has no lock", blob.id);
            fresh += u32::from(!before.contains_key(&blob.id));
        }
        Ok::<_, BlobError>(())
    });
    each.unwrap();
    assert!(fresh >= 2, "{fresh} new blobs");
    let client = client.fresh().unwrap();
    client.snapshot_verify().unwrap();
    client.content_verify(true).unwrap();
}
