//! Every exit code has the effect on the Job that `podFailurePolicy` promises.
//!
//! Real pods of the Job controller, run for real; the Job is then as its users see it: complete,
//! failed at once, or tried again.

use kit::kubelet::Report;
use serde_json::{Value, json};

use super::site::{ALL, BACKUPS, Site, damage_index};

/// Checks how a pod ended, and the form of its message.
pub(super) fn ended(report: &Report, exit: i32, result: &str) -> Value {
    let message = &report.message;
    assert_eq!(report.exit, exit, "{report:?}");
    let told = report.result();
    assert_eq!(told["result"], result, "{message}");
    let failed = message.starts_with("Repo maintenance error: ");
    assert_eq!(failed, exit != 0, "{message}");
    told
}

/// Adds an argument to a container.
fn with(argument: &str) -> impl FnOnce(&mut Value) {
    let argument = argument.to_owned();
    move |container| {
        container["args"]
            .as_array_mut()
            .unwrap()
            .push(argument.into())
    }
}

/// Goal: the first Job does what is due, the second finds nothing due; both are complete.
#[test]
fn a_job_does_what_is_due() {
    let Some(site) = Site::new(&BACKUPS) else {
        return;
    };
    for (job, result) in [("careen-first", "done"), ("careen-second", "nothing-due")] {
        site.job(job, |_| ());
        let Some(report) = site.kubelet.run(&site.pod(job)) else {
            return;
        };
        let told = ended(&report, 0, result);
        assert_eq!(told["memory_bytes"], 64 << 20, "{told}");
        assert_eq!(report.run.oom_kills, 0, "{report:?}");
        let (condition, _, status) = site.end(job);
        assert_eq!(
            (condition.as_str(), &status["succeeded"]),
            ("Complete", &json!(1))
        );
    }
    site.verify(&ALL);
}

/// Goal: what trying again cannot mend fails the Job at once; method: a case for each exit code.
#[test]
fn a_job_that_cannot_succeed_fails_at_once() {
    let Some(mut site) = Site::new(&BACKUPS) else {
        return;
    };
    let fails = |site: &Site, job: &str, exit: i32, code: &str| -> Option<()> {
        let report = site.kubelet.run(&site.pod(job))?;
        let results = [
            (20, "budget-refused"),
            (40, "other-maintainer"),
            (50, "configuration"),
        ];
        let result = results.iter().find(|row| row.0 == exit);
        let told = ended(&report, exit, result.map_or("safety-stop", |row| row.1));
        assert_eq!(told["code"], code, "{told}");
        let (condition, reason, status) = site.end(job);
        assert_eq!(
            (&*condition, &*reason),
            ("Failed", "PodFailurePolicy"),
            "{status}"
        );
        assert_eq!(status["failed"], 1, "{status}");
        Some(())
    };
    // Nobody gives a claim to the pod's group that can only be read: it is still root's.
    site.kubelet.claims_are_read_only = true;
    site.job("no-rights", |_| ());
    if fails(&site, "no-rights", 50, "storage-permission").is_none() {
        return;
    }
    site.kubelet.claims_are_read_only = false;
    site.job("small", |container| {
        for kind in ["requests", "limits"] {
            container["resources"][kind]["memory"] = "24Mi".into();
        }
    });
    fails(&site, "small", 20, "memory-too-small");
    site.kubelet.scratch_bytes = Some(64 << 10);
    site.job("full-scratch", |_| ());
    fails(&site, "full-scratch", 20, "scratch-full");
    site.kubelet.scratch_bytes = None;
    site.job("another-owner", |container| {
        let mut args = container["args"].as_array_mut().unwrap().iter_mut();
        *args
            .find(|word| **word == "--owner=default@default")
            .unwrap() = "--owner=a@b".into();
    });
    fails(&site, "another-owner", 40, "not-owner");
    site.secret("velero-repo-credentials", "repository-password", "another");
    site.job("wrong-password", |_| ());
    fails(&site, "wrong-password", 50, "wrong-password");
    site.secret(
        "velero-repo-credentials",
        "repository-password",
        super::site::PASSWORD,
    );
    site.job("after", |_| ());
    let report = site.kubelet.run(&site.pod("after")).unwrap();
    ended(&report, 0, "done");
    site.verify(&ALL);
    damage_index(&site.repository());
    site.job("damaged", with("--mode=full"));
    fails(&site, "damaged", 60, "tag-mismatch");
}

/// Goal: a store that fails is tried again, and the next pod of the same Job does the work; method:
/// a disk that is full, and then is larger.
#[test]
fn a_job_whose_store_failed_is_tried_again() {
    let Some(mut site) = Site::new(&BACKUPS) else {
        return;
    };
    site.job("full-disk", |_| ());
    site.kubelet.claims_free_bytes = Some(8 << 10);
    let Some(report) = site.kubelet.run(&site.pod("full-disk")) else {
        return;
    };
    ended(&report, 30, "storage-failed");
    site.kubelet.claims_free_bytes = None;
    // The same for a disk that the system has made read-only.
    site.kubelet.claims_are_read_only = true;
    site.job("read-only", |_| ());
    let report = site.kubelet.run(&site.pod("read-only")).unwrap();
    ended(&report, 30, "storage-failed");
    assert_eq!(site.counted("read-only")["conditions"], Value::Null);
    site.kubelet.claims_are_read_only = false;
    let report = site.kubelet.run(&site.pod("full-disk")).unwrap();
    ended(&report, 0, "done");
    let (condition, _, status) = site.end("full-disk");
    let counted = (&status["failed"], &status["succeeded"]);
    assert_eq!(
        (condition.as_str(), counted),
        ("Complete", (&json!(1), &json!(1)))
    );
    site.verify(&ALL);
}
