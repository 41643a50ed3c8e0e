//! `careen velero run`: one process a repository, a Lease each, and nobody in the way of another.
//!
//! On repositories that Kopia made in Velero's way, so that there is something to do.

use std::time::Duration;

use kit::data_dir::DataDir;
use kit::kopia;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::installation::{answer, installation};

fn lease(holder: &str, renewed: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "careen-shop-default-kopia" },
        "spec": {
            "holderIdentity": holder, "leaseDurationSeconds": 120, "renewTime": renewed,
        },
    })
}

/// Goal: a broken repository does not touch the others, and the gravest exit code is told; method:
/// two good ones, and one whose folder is gone, two at once.
#[test]
fn failures_are_isolated() {
    let Some(velero) = installation() else {
        return;
    };
    let shop = velero.repository("shop");
    let bank = velero.repository("bank");
    let gone = velero.record("gone", "default");
    let answer = velero.careen(&["run", "--all", "--parallel", "2", "--mode", "quick"]);
    for name in [&shop, &bank] {
        let row = answer.row(name);
        assert_eq!(row["exit"], 0, "{row}");
        assert_eq!(row["report"]["owner"], "default@default");
    }
    let broken = answer.row(&gone);
    assert_ne!(broken["exit"], 0);
    assert_eq!(Value::from(answer.exit), broken["exit"], "{}", answer.text);
    let report = &answer.all("report")[0];
    assert_eq!(
        (&report["done"], &report["repositories"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(report["failed"], json!([gone]));
    let tasks = answer.lines.iter().filter(|line| line["kind"] == "task");
    assert!(tasks.clone().count() > 0);
    assert!(tasks.clone().all(|line| line["repository"].is_string()));
    // The leases are free again.
    let leases = velero.server.list(&velero.collection("leases")).unwrap();
    assert_eq!(leases.len(), 3);
    assert!(
        leases
            .iter()
            .all(|lease| lease["spec"]["holderIdentity"] == "")
    );
    // Kopia, as Velero runs it, has no complaint.
    if let Some(kopia) = kopia::newest() {
        let folder = velero.folder_of("shop");
        let client = kopia
            .connect(&folder, "static-passw0rd", kopia::IDENTITY)
            .unwrap();
        client.snapshot_verify().unwrap();
        client.maintenance_run(false).unwrap();
    }
    // And a second run finds nothing due.
    let again = velero.careen(&["run", "shop"]);
    assert_eq!(again.exit, 0, "{}", again.text);
}

/// Goal: one run at a time; method: a lease of somebody else, alive and then dead.
#[test]
fn a_lease_of_another_is_heeded() {
    let Some(velero) = installation() else {
        return;
    };
    let shop = velero.repository("shop");
    let before = DataDir::open(&velero.folder_of("shop"))
        .unwrap()
        .fingerprint()
        .unwrap();
    velero.post(
        "leases",
        &lease("another-pod", "2099-01-01T00:00:00.000000Z"),
    );
    let held = velero.careen(&["run", "--all", "--mode", "quick"]);
    assert_eq!(held.exit, 40, "{}", held.text);
    let because = held.row(&shop)["because"].as_str().unwrap().to_owned();
    assert!(because.contains("another-pod"), "{because}");
    let after = DataDir::open(&velero.folder_of("shop"))
        .unwrap()
        .fingerprint()
        .unwrap();
    assert_eq!(before, after, "nothing was touched");

    let dead = json!({ "spec": { "renewTime": "2026-01-01T00:00:00.000000Z" } });
    let leases = velero.collection("leases");
    velero
        .server
        .merge(&leases, "careen-shop-default-kopia", &dead)
        .unwrap();
    let free = velero.careen(&["run", "--all", "--mode", "quick"]);
    assert_eq!(free.exit, 0, "{}", free.text);
}

/// Goal: a run waits for backups of its namespace, and for Velero's own maintenance, not for those
/// of others; method: one of each kind.
#[test]
fn a_repository_at_work_is_skipped() {
    let Some(velero) = installation() else {
        return;
    };
    let shop = velero.repository("shop");
    let run = || velero.careen(&["run", "shop", "--mode", "quick"]);
    velero.begin_backup("others", "bank", "default");
    assert_eq!(run().exit, 0);
    velero.begin_backup("ours", "shop", "default");
    let skipped = run();
    assert_eq!(skipped.exit, 40, "{}", skipped.text);
    let because = skipped.row(&shop)["because"].as_str().unwrap().to_owned();
    assert!(because.contains("PodVolumeBackup ours"), "{because}");
    let beside = velero.careen(&["run", "shop", "--mode", "quick", "--beside-backups"]);
    assert_eq!(beside.exit, 0, "{}", beside.text);
    velero.end_backup("ours");

    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": "shop-maintain-job-1", "labels": { "velero.io/repo-name": shop },
        },
        "spec": { "template": { "spec": {
            "restartPolicy": "Never", "containers": [{ "name": "c", "image": "velero" }],
        } } },
    });
    velero.post("jobs", &job);
    let skipped = run();
    assert_eq!(skipped.exit, 40, "{}", skipped.text);
    let because = skipped.row(&shop)["because"].as_str().unwrap().to_owned();
    assert!(because.contains("shop-maintain-job-1"), "{because}");
}

/// Goal: what was done is seen where people look; method: the Events of a repository that is taken
/// over, maintained, at work, and given back, and of one that is gone.
#[test]
fn what_was_done_is_told_in_events() {
    let Some(velero) = installation() else {
        return;
    };
    let shop = velero.repository("shop");
    let gone = velero.record("gone", "default");
    velero.careen(&["takeover", "--apply"]);
    velero.careen(&["run", "--all", "--mode", "quick"]);
    velero.careen(&["run", "shop"]);
    velero.begin_backup("nightly", "shop", "default");
    velero.careen(&["run", "shop", "--mode", "quick"]);
    velero.careen(&["giveback", "shop", "--apply"]);
    let events = velero.server.list(&velero.collection("events")).unwrap();
    let of = |name: &str| {
        let object = velero.get(name);
        let events = events.iter();
        let events = events.filter(|event| event["involvedObject"]["name"] == name);
        let told = events.map(|event| {
            assert_eq!(event["involvedObject"]["uid"], object["metadata"]["uid"]);
            assert_eq!(event["reportingComponent"], "careen");
            let words = [&event["type"], &event["reason"]];
            words
                .map(|word| word.as_str().unwrap().to_owned())
                .join(" ")
        });
        told.collect::<std::collections::BTreeSet<_>>()
    };
    let known = |told: &[&str]| told.iter().map(|one| (*one).to_owned()).collect();
    let all = [
        "Normal Maintained",
        "Normal MaintenanceGivenBack",
        "Normal MaintenanceSkipped",
        "Normal MaintenanceTakenOver",
    ];
    assert_eq!(of(&shop), known(&all));
    let failed = ["Normal MaintenanceTakenOver", "Warning MaintenanceFailed"];
    assert_eq!(of(&gone), known(&failed));
}

/// Goal: a memory that is too small is refused before anything is touched.
#[test]
fn shares_that_are_too_small_are_refused() {
    let Some(velero) = installation() else {
        return;
    };
    for namespace in ["a", "b", "c"] {
        velero.record(namespace, "default");
    }
    let answer = velero.careen(&["run", "--all", "--parallel", "3"]);
    assert_eq!(answer.exit, 20, "{}", answer.text);
    assert_eq!(
        velero
            .server
            .list(&velero.collection("leases"))
            .unwrap()
            .len(),
        0
    );
}

/// Goal: SIGTERM reaches the children, and the lease is given back; method: a signal as soon as a
/// run has begun. Whether it had ended by then is a matter of luck.
#[test]
fn sigterm_ends_all_of_it() {
    let Some(velero) = installation() else {
        return;
    };
    for namespace in ["a", "b", "c", "d"] {
        velero.repository(namespace);
    }
    let child = velero
        .command(&["run", "--all", "--mode", "full"])
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let id = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    let answer = answer(child.wait_with_output().unwrap());
    assert!(matches!(answer.exit, 0 | 10), "{}", answer.text);
    let leases = velero.server.list(&velero.collection("leases")).unwrap();
    assert!(
        leases
            .iter()
            .all(|lease| lease["spec"]["holderIdentity"] == "")
    );
    let after = velero.careen(&["run", "--all", "--mode", "full"]);
    assert_eq!(after.exit, 0, "{}", after.text);
}

/// Goal: a run waits for its moment before it takes a Lease or starts anything, by the first
/// repository's URL, and ends there when it is told to; children of a run do not wait; method: a
/// bucket that is not there, then a folder.
#[test]
fn a_run_waits_for_its_moment_once() {
    let Some(velero) = installation() else {
        return;
    };
    let spec = json!({
        "provider": "aws", "config": { "region": "us-east-1" },
        "objectStorage": { "bucket": "nowhere", "prefix": "cluster-1" },
    });
    velero.location("away", &spec);
    velero.record("shop", "away");
    let mut running = velero.start(&["run", "--all", "--jitter", "1h"]);
    running.until(&[r#""kind":"wait""#, "seconds"]);
    let id = Pid::from_raw(i32::try_from(running.child.id()).unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    let answer = running.ended();
    assert_eq!(answer.exit, 10, "{}", answer.text);
    assert_eq!(answer.error()["code"], "stopped");
    let seconds = answer.all("wait")[0]["seconds"].as_u64().unwrap();
    assert!((60..=3600).contains(&seconds), "{seconds}");
    let leases = velero.server.list(&velero.collection("leases")).unwrap();
    assert_eq!(leases.len(), 0);

    velero.repository("bank");
    let mut command = velero.command(&["run", "bank", "--mode", "quick", "--jitter", "0"]);
    let ended = super::installation::answer(command.env("CAREEN_JITTER", "1h").output().unwrap());
    assert_eq!(ended.exit, 0, "{}", ended.text);
    assert_eq!(ended.all("wait").len(), 0);
}
