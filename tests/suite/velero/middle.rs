//! What happens in the middle of `careen velero run`: backups begin, leases are lost, the API
//! server goes away, another cluster comes.
//!
//! Runs are held at a gate before the store, so that each test acts in the middle and waits for
//! what it has caused, not for a time.

use std::sync::mpsc;

use kit::kopia;
use serde_json::json;
use servers::fault_proxy::Fault;

use super::bucket::{Bucket, LOCATION};
use super::installation::{Answer, Installation, installation};

/// Leases are short, so that what depends on their time comes soon.
const RUN: [&str; 5] = ["run", "--mode", "full", "--lease-seconds", "20"];

fn run(more: &[&'static str]) -> Vec<&'static str> {
    [&RUN[..], more].concat()
}

fn because(answer: &Answer, name: &str) -> String {
    let row = answer.row(name);
    row["because"].as_str().unwrap_or_default().to_owned()
}

/// Every repository is whole, for Kopia too.
fn judge(bucket: &Bucket, namespaces: &[&str]) {
    for namespace in namespaces {
        let remote = bucket.place(namespace).for_kopia();
        if let (Some(kopia), Some(remote)) = (kopia::newest(), remote) {
            let client = kopia.connect_at(&remote, "static-passw0rd", kopia::IDENTITY);
            client.unwrap().snapshot_verify().unwrap();
        }
    }
}

/// Goal: a backup that begins, and a lease that is taken or deleted, end the one child that they
/// concern, at a safe point, and say so; method: four runs at once, each in its middle.
#[test]
fn each_child_ends_for_its_own_reason() {
    let Some(mut velero) = installation() else {
        return;
    };
    let Some(bucket) = Bucket::fresh(&velero) else {
        return;
    };
    velero.memory = "256MiB";
    let namespaces = ["backed-up", "deleted", "robbed", "quiet"];
    let names = namespaces.map(|namespace| bucket.repository(&velero, namespace));
    let [backed_up, deleted, robbed, quiet] = names.each_ref().map(String::as_str);
    let gates = bucket.hold(namespaces);
    let mut running = velero.start(&run(&["--all", "--parallel", "4"]));
    gates.iter().for_each(|gate| gate.reached());

    velero.begin_backup("nightly", "backed-up", LOCATION);
    let leases = velero.collection("leases");
    let lease = |name: &str| format!("careen-{name}");
    velero.server.delete(&leases, &lease(deleted)).unwrap();
    let thief = json!({ "spec": { "holderIdentity": "thief" } });
    velero.change("leases", &lease(robbed), &thief);
    for name in [backed_up, deleted, robbed] {
        running.until(&["ends early", name]);
    }
    gates.iter().for_each(|gate| gate.open());
    let answer = running.ended();

    assert_eq!(answer.exit, 10, "{}", answer.text);
    for (name, why) in [
        (backed_up, "PodVolumeBackup nightly is InProgress"),
        (deleted, "nobody: it was deleted"),
        (robbed, "held by thief"),
    ] {
        assert_eq!(answer.row(name)["exit"], 10, "{name}: {}", answer.text);
        let because = because(&answer, name);
        assert!(because.contains(why), "{name}: {because}");
    }
    assert_eq!(answer.row(quiet)["exit"], 0, "{}", answer.text);
    assert_eq!(velero.holder(quiet).as_deref(), Some(""));
    assert_eq!(velero.holder(backed_up).as_deref(), Some(""));
    assert_eq!(velero.holder(deleted), None, "it is not made again");
    assert_eq!(velero.holder(robbed).as_deref(), Some("thief"));
    judge(&bucket, &namespaces);

    velero.end_backup("nightly");
    let free = json!({ "spec": { "holderIdentity": "" } });
    velero.change("leases", &lease(robbed), &free);
    let next = velero.careen(&run(&["--all", "--parallel", "4"]));
    assert_eq!(next.exit, 0, "{}", next.text);
    for name in [backed_up, deleted, robbed] {
        let report = &next.row(name)["report"];
        assert!(
            report["cycle"].is_string() || report["cycle"].is_object(),
            "{report}"
        );
    }
    judge(&bucket, &namespaces);
}

/// Goal: without the API server a run goes on while its lease holds, and ends before it does not;
/// method: a server that closes every connection, for two renewals and then for good.
#[test]
fn an_api_server_that_is_away_is_waited_for_while_the_lease_holds() {
    let Some(mut velero) = installation() else {
        return;
    };
    let Some(bucket) = Bucket::fresh(&velero) else {
        return;
    };
    let shop = bucket.repository(&velero, "shop");
    let (proxy, kubeconfig) = velero.server.behind_proxy(velero.path());
    velero.kubeconfig = kubeconfig;
    let [gate] = bucket.hold(["shop"]);
    let mut running = velero.start(&run(&["shop"]));
    gate.reached();
    let (tell, renewals) = mpsc::channel();
    let told = tell.clone();
    proxy.rule(move |seen| {
        if seen.target.contains("/leases/") {
            let _ = told.send("tried");
        }
        Fault::Drop
    });
    for _ in 0..2 {
        assert_eq!(renewals.recv().unwrap(), "tried");
    }
    proxy.rule(move |seen| {
        if seen.target.contains("/leases/") {
            let _ = tell.send("back");
        }
        Fault::Pass
    });
    while renewals.recv().unwrap() != "back" {}
    running.until(&["the lease was not renewed"]);
    gate.open();
    let answer = running.ended();
    assert_eq!(answer.exit, 0, "{}", answer.text);
    assert_eq!(velero.holder(&shop).as_deref(), Some(""));

    let [gate] = bucket.hold(["shop"]);
    let mut running = velero.start(&run(&["shop"]));
    gate.reached();
    proxy.rule(|_| Fault::Drop);
    running.until(&["ends early", "its lease was not renewed"]);
    proxy.rule(|_| Fault::Pass);
    gate.open();
    let answer = running.ended();
    assert_eq!(answer.exit, 10, "{}", answer.text);
    let because = because(&answer, &shop);
    assert!(because.contains("its lease was not renewed"), "{because}");
    assert_eq!(velero.holder(&shop).as_deref(), Some(""));
    let next = velero.careen(&run(&["shop"]));
    assert_eq!(next.exit, 0, "{}", next.text);
    judge(&bucket, &["shop"]);
}

/// Goal: two clusters with one storage location keep out of each other's way, though neither sees
/// the other's Lease; method: two installations, the second comes in the middle of the first.
#[test]
fn clusters_that_share_a_location_take_turns() {
    let Some(one) = installation() else {
        return;
    };
    let Some(bucket) = Bucket::fresh(&one) else {
        return;
    };
    let other = Installation::on(one.server);
    bucket.serve(&other);
    let shop = bucket.repository(&one, "shop");
    other.record("shop", LOCATION);
    let [gate] = bucket.hold(["shop"]);
    let running = one.start(&run(&["shop"]));
    gate.reached();
    let second = other.careen(&run(&["shop"]));
    assert_eq!(second.exit, 40, "{}", second.text);
    let because = because(&second, &shop);
    assert!(because.contains("maintains the repository"), "{because}");
    gate.open();
    let first = running.ended();
    assert_eq!(first.exit, 0, "{}", first.text);
    let second = other.careen(&["run", "shop"]);
    assert_eq!(second.exit, 0, "{}", second.text);
    assert!(second.row(&shop)["because"].is_string(), "nothing is due");
    judge(&bucket, &["shop"]);
}
