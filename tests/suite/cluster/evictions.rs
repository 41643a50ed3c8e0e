//! What happens to a pod from outside: evictions with and without patience, and the kernel.
//!
//! The eviction API marks the pod, which `podFailurePolicy` ignores: the Job makes another one
//! that goes on, and nothing counts as failed. A kill by the kernel counts.

use rustix::process::Signal;
use serde_json::Value;

use super::life::ended;
use super::site::{BACKUPS, INDEX, Site};

/// Goal: an eviction (SIGTERM) ends the run at a safe point, counts as nothing, and the next pod of
/// the Job does the rest.
#[test]
fn an_evicted_run_goes_on_in_the_next_pod() {
    let Some(site) = Site::new(&INDEX) else {
        return;
    };
    site.job("evicted", |_| ());
    let pod = site.pod("evicted");
    let Some(report) = site.kubelet.run_and(&pod, |_| site.evict(&pod, 30)) else {
        return;
    };
    let told = ended(&report, 10, "part-done");
    assert_eq!(told["code"], "stopped", "{told}");
    let next = site.kubelet.run(&site.pod("evicted")).unwrap();
    let told = ended(&next, 0, "done");
    assert_eq!(told["cycle"], "full", "{told}");
    let (condition, _, status) = site.end("evicted");
    assert_eq!(condition, "Complete", "{status}");
    assert_eq!(status["failed"].as_u64().unwrap_or(0), 0, "{status}");
    site.verify(&["--index"]);
}

/// Goal: a run that still waits for its moment is evicted at once, has touched nothing, and the
/// next pod of the Job does the work; method: a wait of up to an hour.
#[test]
fn a_waiting_run_is_evicted_at_once() {
    let Some(site) = Site::new(&BACKUPS) else {
        return;
    };
    site.set("CAREEN_JITTER", "1h");
    site.job("waiting", |_| ());
    let pod = site.pod("waiting");
    let Some(report) = site.kubelet.run_and(&pod, |_| {
        // For the next one.
        site.set("CAREEN_JITTER", "0");
        site.evict(&pod, 600);
    }) else {
        return;
    };
    let told = ended(&report, 10, "part-done");
    assert_eq!(told["code"], "stopped", "{told}");
    let said = report.run.stdout_text();
    assert!(said.contains(r#""kind":"wait""#), "{said}");
    let finished = said.lines().last().unwrap_or_default();
    assert!(!finished.contains("requests"), "{finished}");
    let next = site.kubelet.run(&site.pod("waiting")).unwrap();
    ended(&next, 0, "done");
    let (condition, _, status) = site.end("waiting");
    assert_eq!(condition, "Complete", "{status}");
    assert_eq!(status["failed"].as_u64().unwrap_or(0), 0, "{status}");
}

/// Goal: a pod that is killed at the end of its grace period has its message from the start, counts
/// as nothing and loses nothing; the next pod of the Job, another machine for all it can see, waits
/// for its lease to end and does the rest; method: a program that is stopped in the middle and
/// cannot hear SIGTERM, and a lease that is ended by hand.
#[test]
fn a_run_that_is_killed_after_its_grace_period_loses_nothing() {
    let Some(site) = Site::new(&INDEX) else {
        return;
    };
    site.job("killed", |_| ());
    let pod = site.pod("killed");
    let report = site.kubelet.run_and(&pod, |running| {
        site.wait_for_lease();
        running.signal(Signal::STOP);
        site.evict(&pod, 1);
    });
    let Some(report) = report else { return };
    let told = ended(&report, 137, "killed");
    assert_eq!(told["repository"], "/repository", "{told}");
    let next = site
        .kubelet
        .run_and(&site.pod("killed"), |_| site.end_lease());
    let next = next.unwrap();
    ended(&next, 0, "done");
    let said = next.run.stdout_text();
    assert!(said.contains(r#""kind":"wait","wait":{"run":""#), "{said}");
    let (condition, _, status) = site.end("killed");
    assert_eq!(condition, "Complete", "{status}");
    assert_eq!(status["failed"].as_u64().unwrap_or(0), 0, "{status}");
    site.verify(&["--index"]);
}

/// Goal: where the kernel kills, the message of the start is what stays, and the Job counts it and
/// goes on; method: a neighbour in the pod's memory group.
#[test]
fn a_run_that_the_kernel_kills_has_said_so() {
    let Some(site) = Site::new(&INDEX) else {
        return;
    };
    site.job("starved", |_| ());
    let pod = site.pod("starved");
    let Some(report) = site
        .kubelet
        .run_and(&pod, |running| running.starve(8 << 20))
    else {
        return;
    };
    let told = ended(&report, 137, "killed");
    assert_eq!(report.reason, "OOMKilled", "{report:?}");
    let hint = told["hint"].as_str().unwrap();
    assert!(hint.contains("OOMKilled"), "{hint}");
    let status = site.counted("starved");
    assert_eq!(status["conditions"], Value::Null, "{status}");
    site.verify(&["--index"]);
}
