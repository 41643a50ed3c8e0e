//! `careen velero explain` says what Velero's record does not.
//!
//! The API server runs no pods, so a Job and its pod are written as the kubelet leaves them.

use serde_json::json;

use super::installation::{Installation, installation};

/// Writes a maintenance Job of 512 MiB and its pod, which the kernel has killed.
fn a_killed_job(velero: &Installation<'_>, repository: &str) {
    let labels = json!({ "velero.io/repo-name": repository });
    let containers = json!([{
        "name": "velero-repo-maintenance-container", "image": "velero",
        "resources": { "limits": { "memory": "512Mi" } },
    }]);
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": "shop-maintain-job-1", "labels": labels },
        "spec": {
            "backoffLimit": 0,
            "template": {
                "metadata": { "labels": labels },
                "spec": { "restartPolicy": "Never", "containers": containers },
            },
        },
    });
    velero.post("jobs", &job);
    let ended = json!({ "status": {
        "startTime": "2026-11-20T04:00:00Z",
        "failed": 1,
        "conditions": [
            {
                "type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded",
                "message": "Job has reached the specified backoff limit",
                "lastTransitionTime": "2026-11-20T04:30:00Z",
            },
            {
                "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded",
                "message": "Job has reached the specified backoff limit",
                "lastTransitionTime": "2026-11-20T04:30:00Z",
            },
        ],
    } });
    let jobs = velero.collection("jobs");
    velero
        .server
        .merge_status(&jobs, "shop-maintain-job-1", &ended)
        .unwrap();
    let mut pod_labels = labels.clone();
    pod_labels["batch.kubernetes.io/job-name"] = "shop-maintain-job-1".into();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "shop-maintain-job-1-x", "labels": pod_labels },
        "spec": { "restartPolicy": "Never", "containers": containers },
    });
    velero.post("pods", &pod);
    let killed = json!({ "status": { "phase": "Failed", "containerStatuses": [{
        "name": "velero-repo-maintenance-container", "image": "velero", "imageID": "",
        "ready": false, "restartCount": 0,
        "state": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } },
    }] } });
    let pods = velero.collection("pods");
    velero
        .server
        .merge_status(&pods, "shop-maintain-job-1-x", &killed)
        .unwrap();
}

/// Goal: a Job that the kernel killed for its memory is named, with its limit; and a success that
/// was none; method: a Job and a pod as the kubelet leaves them.
#[test]
fn a_job_that_ran_out_of_memory_is_named() {
    let Some(velero) = installation() else {
        return;
    };
    let name = velero.repository("shop");
    let path = velero.collection("backuprepositories");
    let status = json!({ "status": {
        "lastMaintenanceTime": "2026-11-20T05:00:00Z",
        "recentMaintenance": [{
            "result": "Failed", "startTimestamp": "2026-11-20T04:00:00Z",
            "completeTimestamp": "2026-11-20T04:30:00Z",
            "message": "Repo maintenance failed but result is not retrieveable",
        }],
    } });
    velero.server.merge(&path, &name, &status).unwrap();
    a_killed_job(&velero, &name);
    let answer = velero.careen(&["explain", "shop"]);
    assert_eq!(answer.exit, 0, "{}", answer.text);
    let report = &answer.all("report")[0];
    assert_eq!(report["jobs"][0]["out_of_memory"], true, "{report}");
    assert_eq!(report["jobs"][0]["memory_limit"], "512Mi");
    let so = report["conclusions"].to_string();
    assert!(so.contains("512Mi"), "{so}");
    assert!(
        so.contains("2026-11-20T05:00:00Z"),
        "a success that was none: {so}"
    );
    assert_eq!(report["truth"]["owner"], "default@default");
    assert!(!report["waiting"].is_null());
}
