//! `careen velero explain` in every state that somebody is called for at night.
//!
//! It says what is wrong and what to do, and in a good state nothing of that.

use serde_json::json;

use super::installation::{Installation, installation};

/// A state: the repository's namespace, what is said, and what is not.
struct State {
    namespace: &'static str,
    says: &'static [&'static str],
    never: &'static [&'static str],
}

const fn state(namespace: &'static str, says: &'static [&'static str]) -> State {
    State {
        namespace,
        says,
        never: &[],
    }
}

const STATES: &[State] = &[
    State {
        namespace: "healthy",
        says: &["\"lease\":null"],
        never: &["It is late", "must be scheduled", "owner"],
    },
    state("late", &["It is late", "Velero has not maintained it"]),
    state("gone", &["does not exist", "Check the path"]),
    state(
        "foreign",
        &[
            "Its owner is",
            "kopia maintenance set --owner=default@default",
        ],
    ),
    state(
        "read-only",
        &[
            "storage location is ReadOnly",
            "cannot use its storage location",
            "403",
        ],
    ),
    state(
        "lost",
        &[
            "its storage location nowhere is not there",
            "delete this BackupRepository",
        ],
    ),
    state("old", &["It is restic's"]),
    state(
        "taken",
        &["It is late", "careen has not run", "must be scheduled"],
    ),
    state("changed", &["Velero maintains it again every 2h0m0s"]),
    state(
        "by-hand",
        &[
            "every 87600h0m0s only",
            "nobody maintains it",
            "must be scheduled",
        ],
    ),
    state("many", &["index blobs", "--mode full"]),
    state(
        "busy",
        &[
            "PodVolumeBackup nightly is InProgress",
            "other-pod, until 2099",
        ],
    ),
];

/// Brings every state about.
fn bring_about(velero: &Installation<'_>) {
    velero.repository("healthy");
    velero.repository("late");
    velero.record("gone", "default");
    velero.repository_from("sessions-foreign-owner", "foreign");
    let mut location = velero.folder_location();
    location["accessMode"] = "ReadOnly".into();
    velero.location("archive", &location);
    let status = json!({ "status": { "phase": "Unavailable", "message": "HTTP 403" } });
    velero.change("backupstoragelocations", "archive", &status);
    velero.record("read-only", "archive");
    velero.record("lost", "nowhere");
    velero.record_with("old", "default", "restic", "168h0m0s");
    velero.repository("taken");
    let changed = velero.repository("changed");
    assert_eq!(
        velero
            .careen(&["takeover", "taken", "changed", "--apply"])
            .exit,
        0
    );
    let frequency = |text: &str| json!({ "spec": { "maintenanceFrequency": text } });
    velero.change("backuprepositories", &changed, &frequency("2h0m0s"));
    let by_hand = velero.repository("by-hand");
    velero.change("backuprepositories", &by_hand, &frequency("87600h0m0s"));
    velero.repository_from("tiny-index-3000", "many");
    let busy = velero.repository("busy");
    velero.begin_backup("nightly", "busy", "default");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": format!("careen-{busy}") },
        "spec": {
            "holderIdentity": "other-pod", "leaseDurationSeconds": 120,
            "renewTime": "2099-01-01T00:00:00.000000Z",
        },
    });
    velero.post("leases", &lease);
    let run = velero.careen(&["run", "healthy", "--mode", "full"]);
    assert_eq!(run.exit, 0, "{}", run.text);
}

#[test]
fn every_state_is_explained() {
    let Some(velero) = installation() else {
        return;
    };
    bring_about(&velero);
    for state in STATES {
        let answer = velero.careen(&["explain", state.namespace]);
        assert_eq!(answer.exit, 0, "{}", answer.text);
        let report = answer.all("report")[0].to_string();
        for words in state.says {
            let namespace = state.namespace;
            assert!(
                report.contains(words),
                "{namespace}: no {words:?} in {report}"
            );
        }
        for words in state.never {
            let conclusions = answer.all("report")[0]["conclusions"].to_string();
            assert!(
                !conclusions.contains(words),
                "{}: {conclusions}",
                state.namespace
            );
        }
    }
}
