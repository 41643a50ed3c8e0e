//! `careen velero list`: every repository, where it is, what Velero thinks, and what is true.
//!
//! In folders, and in a bucket where a server is installed.

use careen::blob::Storage;
use careen::blob::object::WireLimits;
use careen::blob::object::location::Location;
use kit::golden::Golden;
use kit::object_stores::{self, carry_there};
use serde_json::{Value, json};

use servers::fault_proxy::Fault;
use servers::gate::Gate;

use super::bucket::Bucket;
use super::installation::installation;

/// Goal: one bad repository hides none; method: a good one, one whose folder is gone, restic's, and
/// one whose location is gone.
#[test]
fn every_repository_has_a_row() {
    let Some(velero) = installation() else {
        return;
    };
    let good = velero.repository("shop");
    let gone = velero.record("gone", "default");
    let lost = velero.record("lost", "nowhere");
    let restic = velero.record_with("old", "default", "restic", "168h0m0s");
    let answer = velero.careen(&["list"]);
    assert_eq!(answer.exit, 0, "{}", answer.text);

    let row = answer.row(&good);
    let folder = velero.folder_of("shop");
    assert_eq!(row["url"], folder.to_str().unwrap());
    assert_eq!(row["namespace"], "shop");
    assert_eq!(row["health"], "late", "{row}");
    assert_eq!(row["maintained_by"]["by"], "velero");
    assert_eq!(row["velero"]["phase"], "Ready");
    assert_eq!(row["velero"]["frequency"], "1h0m0s");
    assert_eq!(row["truth"]["owner"], "default@default");
    assert!(row["truth"]["pack_bytes"].as_u64().unwrap() > 0);

    assert_eq!(answer.row(&gone)["health"], "unreachable");
    let problem = answer.row(&lost)["problem"].clone();
    assert!(problem.as_str().unwrap().contains("nowhere"), "{problem}");
    assert_eq!(answer.row(&restic)["type"], "restic");
    assert_eq!(answer.row(&restic)["health"], "unknown");
    assert_eq!(answer.all("row").len(), 4);
}

/// Goal: several are looked at at once, as many as the memory has shares for, and the rows keep the
/// order of names; method: the first names are held before the store until as many wait as may.
#[test]
fn several_are_looked_at_at_once() {
    let Some(mut velero) = installation() else {
        return;
    };
    let Some(bucket) = Bucket::fresh(&velero) else {
        return;
    };
    let namespaces = ["a", "b", "c", "d", "e"];
    let names = namespaces.map(|namespace| bucket.repository(&velero, namespace));
    // Three shares of 40 MiB beside 16.
    velero.memory = "140MiB";
    let gates = ["a", "b", "c"].map(|name| (format!("/kopia/{name}/"), Gate::default()));
    let own = gates.clone();
    bucket.proxy.rule(move |seen| {
        let gate = own.iter().find(|(path, _)| {
            seen.target.contains(path) || seen.target.contains(&path.replace('/', "%2F"))
        });
        gate.map_or(Fault::Pass, |(_, gate)| Fault::Wait(gate.clone()))
    });
    let running = velero.start(&["list"]);
    gates.iter().for_each(|(_, gate)| gate.reached());
    // The last one first.
    gates.iter().rev().for_each(|(_, gate)| gate.open());
    let answer = running.ended();
    assert_eq!(answer.exit, 0, "{}", answer.text);
    let rows = answer.all("row");
    let told: Vec<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(told, names);
    assert!(
        rows.iter()
            .all(|row| row["truth"]["owner"] == "default@default")
    );
}

/// Goal: with `--no-look` nothing but Kubernetes is asked; method: no secret to read.
#[test]
fn without_a_look_no_secret_is_read() {
    let Some(velero) = installation() else {
        return;
    };
    let name = velero.record("shop", "default");
    let secrets = velero.collection("secrets");
    velero
        .server
        .delete(&secrets, "velero-repo-credentials")
        .unwrap();
    let row = velero.careen(&["list", "--no-look"]).row(&name);
    assert_eq!(row["health"], "unknown");
    assert_eq!(row["problem"], Value::Null);
    let row = velero.careen(&["list"]).row(&name);
    let problem = row["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("velero-repo-credentials"), "{problem}");
}

/// Goal: a bucket as Velero names it, with the keys of its secret; method: SeaweedFS, and the right
/// and wrong keys.
#[test]
fn a_bucket_is_reached_with_veleros_keys() {
    let (Some(velero), Some(place)) = (installation(), object_stores::s3()) else {
        return;
    };
    let Location::S3(s3) = &place.location else {
        panic!("another store");
    };
    let storage = Storage::new(place.store(&WireLimits::default()));
    carry_there(&Golden::open("velero-0.17.0").data(), &storage);
    let parts: Vec<&str> = s3.prefix.trim_end_matches('/').split("/kopia/").collect();
    let [prefix, namespace] = parts[..] else {
        panic!("another prefix");
    };
    let keys = |secret: &str| {
        format!("[default]\naws_access_key_id=test\naws_secret_access_key={secret}\n")
    };
    velero.secret("cloud-credentials", "cloud", &keys("testtest"));
    velero.secret("others", "creds", &keys("hunter2"));
    let mut spec = json!({
        "provider": "aws",
        "config": {
            "s3Url": format!("http://127.0.0.1:{}", place.port),
            "region": "us-east-1", "s3ForcePathStyle": "true",
        },
        "objectStorage": { "bucket": s3.bucket, "prefix": prefix },
    });
    velero.location("bucket", &spec);
    spec["credential"] = json!({ "name": "others", "key": "creds" });
    velero.location("wrong", &spec);
    let good = velero.record(namespace, "bucket");
    let wrong = velero.record(namespace, "wrong");

    let answer = velero.careen(&["list"]);
    assert_eq!(answer.exit, 0, "{}", answer.text);
    let row = answer.row(&good);
    assert_eq!(row["url"], format!("s3://{}/{}", s3.bucket, s3.prefix));
    assert_eq!(row["truth"]["owner"], "default@default", "{row}");
    assert_eq!(row["truth"]["keys"], "secret cloud-credentials, key cloud");
    assert_eq!(answer.row(&wrong)["health"], "unreachable");
    for secret in ["testtest", "hunter2", "static-passw0rd"] {
        assert!(!answer.text.contains(secret), "{secret} is told");
    }
}

/// Goal: what somebody has set to ten years by hand is neither Velero's nor taken over, in both
/// forms; method: that beside one of each, before and after a takeover.
#[test]
fn who_maintains_is_told_truly() {
    let Some(velero) = installation() else {
        return;
    };
    let plain = velero.record("plain", "default");
    let by_hand = velero.record_with("by-hand", "default", "kopia", "87600h0m0s");
    let list = || velero.careen(&["list", "--no-look"]);
    let who = |name: &str| list().row(name)["maintained_by"]["by"].clone();
    assert_eq!(who(&plain), "velero");
    assert_eq!(who(&by_hand), "left-to-others");
    let words = ["list", "by-hand", "--no-look"];
    let mut command = velero.command(&words);
    let said = command.arg("--no-json").output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("maintained  left to others"), "{said}");
    assert!(!said.contains("Velero maintains it"), "{said}");

    assert_eq!(velero.careen(&["takeover", "--apply"]).exit, 0);
    assert_eq!(
        (who(&plain), who(&by_hand)),
        ("careen".into(), "careen".into())
    );
    assert_eq!(velero.careen(&["giveback", "--apply"]).exit, 0);
    assert_eq!(
        (who(&plain), who(&by_hand)),
        ("velero".into(), "left-to-others".into())
    );
}

#[test]
fn a_cluster_that_is_not_there_is_said() {
    let Some(mut velero) = installation() else {
        return;
    };
    velero.kubeconfig = velero.path().join("no-kubeconfig");
    let answer = velero.careen(&["list"]);
    assert_eq!(answer.exit, 50, "{}", answer.text);
    assert_eq!(answer.error()["code"], "no-cluster");
}
