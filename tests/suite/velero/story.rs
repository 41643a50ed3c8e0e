//! A repository of Velero from first to last: made by Kopia, taken over, maintained, used by Kopia,
//! given back, maintained by Kopia.
//!
//! By every Kopia of this machine, as `default@default`, below BUCKET/PREFIX/kopia/NAMESPACE of
//! SeaweedFS and of Azurite. Velero's Kopia has no way to another endpoint of Google's store.

use std::path::Path;
use std::process::Command;

use careen::blob::object::location::Location;
use kit::kopia::{self, Client, CreateOptions, Kopia, Remote};
use kit::object_stores::{self, Place};
use serde_json::{Value, json};
use servers::azurite;

use super::bucket::{Bucket, LOCATION};
use super::installation::{Installation, installation};

const PASSWORD: &str = "static-passw0rd";
const TAKEN: &str = "87600h0m0s";

/// Returns an object without what the API server counts.
fn bare(mut object: Value) -> Value {
    for field in ["resourceVersion", "generation", "managedFields"] {
        object["metadata"].as_object_mut().unwrap().remove(field);
    }
    object
}

/// Makes a repository with a snapshot that is kept and one that is deleted.
fn make(kopia: &Kopia, remote: &Remote, files: &Path) -> Client {
    let client = kopia
        .create_at(remote, PASSWORD, &CreateOptions::default())
        .unwrap();
    for round in 0..2 {
        let text = format!("{round}").repeat(100_000);
        std::fs::write(files.join(format!("file-{round}")), text).unwrap();
        let made = client.snapshot_create(files, &[]).unwrap();
        if round == 0 {
            client
                .snapshot_delete(made["id"].as_str().unwrap())
                .unwrap();
        }
    }
    client
}

/// Makes a snapshot and then maintains automatically, as Velero's Jobs do: what is due, and nothing
/// else. Returns what Kopia complained of.
fn back_up_and_maintain(client: &Client, files: &Path) -> String {
    let prepared = client.command(&["snapshot", "create"]);
    let words = prepared
        .get_args()
        .filter(|word| *word != "--no-auto-maintenance");
    let given = prepared
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let mut command = Command::new(prepared.get_program());
    command.env_clear().args(words).arg(files).envs(given);
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{said}");
    said
}

/// Returns how many tasks have run.
fn runs(schedule: &Value) -> usize {
    schedule["runs"].as_object().map_or(0, |runs| runs.len())
}

fn complains(said: &str) -> bool {
    let said = said.to_lowercase();
    said.contains("error") || said.contains("unable") || said.contains("must be run by")
}

/// Plays the story of one repository.
fn play(velero: &Installation<'_>, name: &str, client: &Client, files: &Path) {
    let kopia = client.kopia().to_string();
    let before = bare(velero.get(name));
    let row = velero.careen(&["list", name]).row(name);
    assert_eq!(row["truth"]["owner"], kopia::IDENTITY, "{kopia}: {row}");

    for _ in 0..2 {
        let planned = velero.careen(&["takeover", name]);
        assert_eq!(planned.exit, 0, "{}", planned.text);
        assert_eq!(
            bare(velero.get(name)),
            before,
            "{kopia}: a plan changes nothing"
        );
    }
    for _ in 0..2 {
        assert_eq!(velero.careen(&["takeover", name, "--apply"]).exit, 0);
        assert_eq!(velero.get(name)["spec"]["maintenanceFrequency"], TAKEN);
    }

    let run = velero.careen(&["run", name]);
    assert_eq!(run.exit, 0, "{kopia}: {}", run.text);
    let again = velero.careen(&["run", name]);
    assert_eq!(again.exit, 0, "{kopia}: {}", again.text);
    assert!(
        again.row(name)["because"].is_string(),
        "{kopia}: nothing is due"
    );

    // Kopia, as Velero runs it, finds nothing to do: its schedule has the runs that were.
    let fresh = client.fresh().unwrap();
    let schedule = fresh.maintenance_info().unwrap()["schedule"].clone();
    assert!(
        runs(&schedule) > 0,
        "{kopia}: the runs are recorded: {schedule}"
    );
    let said = back_up_and_maintain(&fresh, files);
    assert!(!complains(&said), "{kopia}: {said}");
    let after = fresh.maintenance_info().unwrap()["schedule"].clone();
    assert_eq!(after, schedule, "{kopia} has run what was done");

    for _ in 0..2 {
        assert_eq!(velero.careen(&["giveback", name, "--apply"]).exit, 0);
        assert_eq!(bare(velero.get(name)), before, "{kopia}");
    }
    let owned = velero.get(name)["metadata"]["managedFields"].clone();
    let ours = owned
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["manager"] == "careen");
    for one in ours {
        let only = json!({ "f:spec": { "f:maintenanceFrequency": {} } });
        assert_eq!(
            one["fieldsV1"], only,
            "what was written is all that is ours"
        );
    }
    let fresh = client.fresh().unwrap();
    fresh.maintenance_run(true).unwrap();
    fresh.snapshot_verify().unwrap();
}

/// Goal: the whole story, by every Kopia that Velero ships, in a bucket.
#[test]
fn a_bucket_is_taken_over_and_given_back() {
    let Some(velero) = installation() else {
        return;
    };
    let Some(bucket) = Bucket::fresh(&velero) else {
        return;
    };
    let files = tempfile::tempdir().unwrap();
    for kopia in kopia::binaries() {
        let namespace = format!("by-{}", kopia.version().replace('.', "-"));
        let remote = bucket.place(&namespace).for_kopia().unwrap();
        let client = make(kopia, &remote, files.path());
        if kopia == kopia::newest().unwrap() {
            // Without careen Kopia does do something.
            let remote = bucket.place("control").for_kopia().unwrap();
            let control = make(kopia, &remote, files.path());
            back_up_and_maintain(&control, files.path());
            assert!(runs(&control.maintenance_info().unwrap()["schedule"]) > 0);
        }
        let name = velero.record(&namespace, LOCATION);
        play(&velero, &name, &client, files.path());
    }
}

/// Writes a location of Azurite with the account's key under a name of its own; returns its name.
fn azure_location(velero: &Installation<'_>, place: &Place) -> (&'static str, String) {
    let Location::Azure(azure) = &place.location else {
        panic!("another store");
    };
    let key = format!(
        "AZURE_CLOUD_NAME=AzurePublicCloud\nMY_KEY={}\n",
        azurite::KEY
    );
    velero.secret("azure-keys", "creds", &key);
    let (prefix, namespace) = azure
        .prefix
        .trim_end_matches('/')
        .split_once("/kopia/")
        .unwrap();
    let uri = format!("http://127.0.0.1:{}/{}", place.port, azurite::ACCOUNT);
    let spec = json!({
        "provider": "velero.io/azure",
        "config": {
            "storageAccount": azurite::ACCOUNT, "storageAccountURI": uri,
            "storageAccountKeyEnvVar": "MY_KEY", "resourceGroup": "unused",
        },
        "credential": { "name": "azure-keys", "key": "creds" },
        "objectStorage": { "bucket": azure.container, "prefix": prefix },
    });
    velero.location("azure", &spec);
    ("azure", namespace.to_owned())
}

/// Goal: the same in Azure, by the newest Kopia, with the keys where Velero has them.
#[test]
fn a_container_is_taken_over_and_given_back() {
    let Some(velero) = installation() else {
        return;
    };
    let (Some(place), Some(kopia)) = (object_stores::azure(), kopia::newest()) else {
        return;
    };
    let files = tempfile::tempdir().unwrap();
    let (location, namespace) = azure_location(&velero, &place);
    let secure = place.secure(None);
    let remote = secure.for_kopia().unwrap();
    let client = make(kopia, &remote, files.path());
    let name = velero.record(&namespace, location);
    play(&velero, &name, &client, files.path());
}
