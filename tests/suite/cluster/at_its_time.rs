//! The CronJob fires by itself, and what it makes is let in and runs.
//!
//! Takes up to a minute, which is the shortest schedule that there is.

use serde_json::json;

use super::life::ended;
use super::site::{BACKUPS, Site};

/// Goal: with nothing but the manifests and time a repository is maintained.
#[test]
fn the_cron_job_fires() {
    let Some(site) = Site::new(&BACKUPS) else {
        return;
    };
    site.change(&json!({ "spec": { "schedule": "* * * * *" } }));
    let job = site.scheduled_job();
    // One is enough.
    site.change(&json!({ "spec": { "suspend": true } }));
    let Some(report) = site.kubelet.run(&site.pod(&job)) else {
        return;
    };
    ended(&report, 0, "done");
    assert_eq!(site.end(&job).0, "Complete");
}
