//! The pod that finds Velero's repositories itself, with nothing but what a cluster gives it.
//!
//! The component of the manifests and the page's arguments: a service account's token, the API
//! server's authority and address as kubelets project them, real RBAC, the memory of the base, and
//! two repositories in a bucket of SeaweedFS with Velero's own secrets.

use std::collections::BTreeSet;

use kit::manifests::Renderer;
use serde_json::Value;

use super::life::ended;
use super::site::{BACKUPS, PASSWORD, Site};
use super::stores::keys;
use crate::velero::bucket::Bucket;
use crate::velero::installation::Installation;

/// Returns the Events of a `BackupRepository`: type, reason and message.
fn events(velero: &Installation<'_>, name: &str) -> BTreeSet<[String; 3]> {
    let uid = velero.get(name)["metadata"]["uid"].clone();
    let events = velero.server.list(&velero.collection("events")).unwrap();
    let of = events
        .into_iter()
        .filter(|event| event["involvedObject"]["uid"] == uid);
    let told = of.map(|event| {
        assert_eq!(event["reportingComponent"], "careen", "{event}");
        assert_eq!(event["involvedObject"]["name"], name, "{event}");
        ["type", "reason", "message"].map(|field| event[field].as_str().unwrap().to_owned())
    });
    told.collect()
}

/// Has a container look into the namespace of the test, instead of the one that Helm has named.
fn of(velero: &Installation<'_>) -> impl FnOnce(&mut Value) {
    let word = format!("--namespace={}", velero.namespace);
    move |container| {
        let args = container["args"].as_array_mut().unwrap();
        args.retain(|word| word != "--namespace=velero");
        args.push(word.into());
    }
}

/// Goal: the pod maintains every repository of Velero's, says so in Events and in its last word,
/// skips what a backup is at work on, and is refused where the Role is not its; no secret is told.
#[test]
fn the_pod_maintains_what_velero_has() {
    let Some(renderer) = Renderer::find() else {
        return;
    };
    let text = format!(
        "resources: [../careen/runtime/deploy/base]\n{}",
        super::page::all_of_veleros()
    );
    maintains_all(renderer.overlay(&text));
    maintains_all(renderer.helm("{velero: {enabled: true, all: true}}"));
}

fn maintains_all(manifests: Vec<Value>) {
    let Some(site) = Site::of(manifests, &BACKUPS) else {
        return;
    };
    let velero = Installation::within(site.server, site.namespace.clone());
    let Some(bucket) = Bucket::fresh(&velero) else {
        return;
    };
    let [shop, bank] = ["shop", "bank"].map(|name| bucket.repository(&velero, name));

    site.job("all", of(&velero));
    let Some(report) = site.kubelet.run(&site.pod("all")) else {
        return;
    };
    let told = ended(&report, 0, "done");
    assert_eq!(told["command"], "velero run", "{told}");
    assert_eq!(told["repository"], velero.namespace, "{told}");
    assert_eq!(told["memory_bytes"], 64 << 20, "{told}");
    assert_eq!(report.run.oom_kills, 0, "{report:?}");
    let all = format!("{report:?}");
    for secret in [PASSWORD, &keys()[..], "testtest"] {
        assert!(!all.contains(secret), "{all}");
    }
    for name in [&shop, &bank] {
        let events = events(&velero, name);
        let [kind, reason, message] = events.first().unwrap();
        assert_eq!((&**kind, &**reason), ("Normal", "Maintained"));
        assert!(message.starts_with(&format!("{name}: done")), "{message}");
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(velero.holder(name).as_deref(), Some(""), "{name}");
    }
    assert_eq!(site.end("all").0, "Complete");

    velero.begin_backup("nightly", "shop", crate::velero::bucket::LOCATION);
    site.job("beside-a-backup", of(&velero));
    let report = site.kubelet.run(&site.pod("beside-a-backup")).unwrap();
    let told = ended(&report, 40, "other-maintainer");
    assert_eq!(told["code"], "repositories-left", "{told}");
    let first = report.message.lines().next().unwrap();
    for words in ["1 done, 1 skipped", &shop, "PodVolumeBackup nightly"] {
        assert!(first.contains(words), "{words}: {first}");
    }
    let skipped = |event: &[String; 3]| event[1] == "MaintenanceSkipped";
    assert!(events(&velero, &shop).iter().any(skipped));
    assert_eq!(events(&velero, &bank).len(), 1, "nothing was due");
    assert_eq!(site.end("beside-a-backup").1, "PodFailurePolicy");

    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces";
    let bindings = format!("{rbac}/{}/rolebindings", velero.namespace);
    velero.server.delete(&bindings, "careen").unwrap();
    site.job("no-role", of(&velero));
    let report = site.kubelet.run(&site.pod("no-role")).unwrap();
    let told = ended(&report, 50, "configuration");
    assert_eq!(told["code"], "kubernetes-forbidden", "{told}");
    assert_eq!(site.end("no-role").1, "PodFailurePolicy");
}
