//! The maintenance changes hands, and is given back exactly as it was.
//!
//! Objects are compared whole, without what the API server counts.

use std::time::Duration;

use kit::kubernetes::{self, RELEASES};
use serde_json::{Value, json};

use super::installation::{Installation, installation};

const BEFORE: &str = "careen/maintenance-frequency-before";
const TAKEN: &str = "87600h0m0s";

/// Returns an object without what the API server counts.
fn bare(mut object: Value) -> Value {
    for field in ["resourceVersion", "generation", "managedFields"] {
        object["metadata"].as_object_mut().unwrap().remove(field);
    }
    object
}

/// Goal: nothing but the frequency and the annotation is changed, and giving back restores every
/// other byte, in every release; method: the kinds of each release, one after the other, as an
/// upgrade does it, with fields that we do not know.
#[test]
fn every_release_gives_and_takes_back_exactly() {
    if installation().is_none() {
        return;
    }
    let Some(server) = kubernetes::start() else {
        return;
    };
    let none = Installation::empty(&server).careen(&["list"]);
    assert_eq!(
        (none.exit, &none.error()["code"]),
        (50, &json!("no-velero"))
    );
    for release in RELEASES {
        server.install(release);
        let velero = Installation::on(&server);
        let name = velero.record_with("shop", "default", "kopia", "90m");
        let restic = velero.record_with("old", "default", "restic", "168h0m0s");
        let annotations = json!({ "metadata": { "annotations": { "team/contact": "ops" } } });
        let path = velero.collection("backuprepositories");
        server.merge(&path, &name, &annotations).unwrap();
        let before = bare(velero.get(&name));
        let others = bare(velero.get(&restic));

        let planned = velero.careen(&["takeover"]);
        assert_eq!(planned.exit, 0, "{}", planned.text);
        assert_eq!(planned.row(&name)["action"], "patch");
        assert_eq!(bare(velero.get(&name)), before, "a plan changes nothing");

        let taken = velero.careen(&["takeover", "--apply"]);
        assert_eq!(taken.exit, 0, "{}", taken.text);
        let mut expected = before.clone();
        expected["spec"]["maintenanceFrequency"] = TAKEN.into();
        expected["metadata"]["annotations"][BEFORE] = "90m".into();
        assert_eq!(bare(velero.get(&name)), expected, "{release:?}");
        assert_eq!(bare(velero.get(&restic)), others, "restic's is Velero's");

        let version = velero.get(&name)["metadata"]["resourceVersion"].clone();
        let again = velero.careen(&["takeover", "--apply"]);
        assert_eq!(again.row(&name)["action"], "nothing");
        assert_eq!(velero.get(&name)["metadata"]["resourceVersion"], version);

        let back = velero.careen(&["giveback", "--apply"]);
        assert_eq!(back.exit, 0, "{}", back.text);
        assert_eq!(bare(velero.get(&name)), before, "{release:?}");
        let again = velero.careen(&["giveback", "--apply"]);
        assert_eq!(again.row(&name)["action"], "nothing");
    }
}

/// Goal: what somebody set after the takeover is not overwritten by giving back; method: set it.
#[test]
fn a_change_in_between_is_kept() {
    let Some(velero) = installation() else {
        return;
    };
    let name = velero.record("shop", "default");
    let other = velero.record("bank", "default");
    assert_eq!(velero.careen(&["takeover", "--apply"]).exit, 0);
    let path = velero.collection("backuprepositories");
    let changed = json!({ "spec": { "maintenanceFrequency": "2h0m0s" } });
    velero.server.merge(&path, &name, &changed).unwrap();

    let back = velero.careen(&["giveback", "--apply"]);
    assert_eq!(back.exit, 60, "{}", back.text);
    assert_eq!(back.row(&name)["action"], "refused");
    assert_eq!(velero.get(&name)["spec"]["maintenanceFrequency"], "2h0m0s");
    assert_eq!(velero.get(&other)["spec"]["maintenanceFrequency"], "1h0m0s");

    // Taking over again remembers what is there now.
    assert_eq!(velero.careen(&["takeover", "shop", "--apply"]).exit, 0);
    assert_eq!(velero.careen(&["giveback", "shop", "--apply"]).exit, 0);
    let found = velero.get(&name);
    assert_eq!(found["spec"]["maintenanceFrequency"], "2h0m0s");
    assert_eq!(found["metadata"]["annotations"][BEFORE], Value::Null);
}

/// Goal: Velero writing the object at the same time neither loses its status nor stops us; method:
/// a writer that changes the status a hundred times a second.
#[test]
fn a_busy_velero_is_no_obstacle() {
    let Some(velero) = installation() else {
        return;
    };
    let name = velero.record("shop", "default");
    let path = velero.collection("backuprepositories");
    let (velero, path, name) = (&velero, &path, &name);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for round in 0..40 {
                let status = json!({ "status": { "message": format!("round {round}") } });
                velero.server.merge(path, name, &status).unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        while !writer.is_finished() {
            assert_eq!(velero.careen(&["takeover", "--apply"]).exit, 0);
            assert_eq!(velero.careen(&["giveback", "--apply"]).exit, 0);
        }
        writer.join().unwrap();
    });
    let found = velero.get(name);
    assert_eq!(found["status"]["message"], "round 39");
    assert_eq!(found["spec"]["maintenanceFrequency"], "1h0m0s");
}

#[test]
fn a_name_that_nobody_has_is_an_error() {
    let Some(velero) = installation() else {
        return;
    };
    velero.record("shop", "default");
    let answer = velero.careen(&["takeover", "shop", "nobody", "--apply"]);
    assert_eq!(answer.exit, 50, "{}", answer.text);
    assert_eq!(answer.error()["code"], "unknown-velero-repository");
}
