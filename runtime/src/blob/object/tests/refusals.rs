//! What is wrong from the beginning: keys, buckets, foreign objects; and object locks.
//!
//! Each server that is here is asked itself, nothing is in between.

use std::io::BufReader;
use std::net::TcpListener;
use std::sync::Mutex;
use std::time::Duration;

use servers::http::Message;

use super::*;
use crate::blob::{BlobError, PutOptions, Retention, Storage};
use crate::clock::{Clock, SystemClock};
use crate::kopia::blob_id::BlobId;

fn storage(place: &Location, credentials: &Credentials) -> Storage {
    Storage::new(Arc::new(store(place, credentials, &WireLimits::default())))
}

fn id(name: &str) -> BlobId {
    BlobId::new(name)
}

#[test]
fn foreign_objects_are_not_seen() {
    // Goal: keys that no repository has, around and among the blobs, change no listing.
    let mut places = Vec::new();
    let google = Google::start();
    places.push((google_place(google.port()), google_keys()));
    if let Some(server) = seaweedfs::shared() {
        server.bucket("foreign", false);
        places.push((seaweedfs_place(server.port, "foreign"), aws_keys()));
    }
    if let Some(server) = azurite::shared() {
        server.container("foreign");
        places.push((azurite_place(server.port, "foreign"), azure_keys()));
    }
    for (mut place, credentials) in places {
        let prefix = place.prefix().to_owned();
        let set_prefix = |place: &mut Location, prefix: String| match place {
            Location::S3(place) => place.prefix = prefix,
            Location::Gcs(place) => place.prefix = prefix,
            Location::Azure(place) => place.prefix = prefix,
        };
        // Other keys are other prefixes.
        for foreign in ["a//", "a/b/", "p/", "p1/"] {
            set_prefix(&mut place, format!("{prefix}{foreign}"));
            let put =
                storage(&place, &credentials).put_bytes(&id("p7"), b"x", &PutOptions::default());
            // SeaweedFS cleans some of them up.
            drop(put);
        }
        set_prefix(&mut place, format!("{prefix}q/../"));
        let refused = storage(&place, &credentials).delete(&id("p1")).unwrap_err();
        assert_eq!(refused.code(), "invalid-blob-name");
        set_prefix(&mut place, prefix);
        let storage = storage(&place, &credentials);
        for name in ["p1", "p2", "q1", "xn0"] {
            storage
                .put_bytes(&id(name), b"", &PutOptions::default())
                .unwrap();
        }
        for limit in [1, 2, 3, 1000] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = storage.list("", after.as_ref(), limit).unwrap();
                seen.extend(page.iter().map(|blob| blob.id.to_string()));
                if page.len() < limit {
                    break;
                }
                after = page.last().map(|blob| blob.id.clone());
            }
            assert_eq!(seen, ["p1", "p2", "q1", "xn0"], "{place}, pages of {limit}");
        }
        let names = storage.list("p", None, 1000).unwrap();
        assert_eq!(names.len(), 2, "{place}");
    }
}

#[test]
fn a_wrong_key_and_a_missing_bucket_are_said() {
    if let Some(server) = seaweedfs::shared() {
        server.bucket("refusals", false);
        let wrong = Credentials::Aws(Arc::new(StaticCredentialProvider::new(AwsCredential {
            key_id: seaweedfs::ACCESS_KEY.to_owned(),
            secret_key: "another".to_owned(),
            token: None,
        })));
        let place = seaweedfs_place(server.port, "refusals");
        let error = storage(&place, &wrong).list("", None, 1).unwrap_err();
        assert_eq!(error.code(), "storage-credentials", "{error}");
        let place = seaweedfs_place(server.port, "not-there");
        let error = storage(&place, &aws_keys()).list("", None, 1).unwrap_err();
        assert_eq!(error.code(), "storage-refused", "{error}");
    }
    if let Some(server) = azurite::shared() {
        let place = azurite_place(server.port, "not-there");
        let error = storage(&place, &azure_keys())
            .list("", None, 1)
            .unwrap_err();
        assert_eq!(error.code(), "storage-refused", "{error}");
        let key = AzureAccessKey::try_new("bm90IHRoZSBrZXk=").unwrap();
        let wrong = AzureCredential::AccessKey(key);
        let wrong = Credentials::Azure(Arc::new(StaticCredentialProvider::new(wrong)));
        let error = storage(&place, &wrong).list("", None, 1).unwrap_err();
        assert_eq!(error.code(), "storage-credentials", "{error}");
    }
    let google = Google::start();
    let credential = GcpCredential {
        bearer: "another".to_owned(),
    };
    let wrong = Credentials::Google(Arc::new(StaticCredentialProvider::new(credential)));
    let error = storage(&google_place(google.port()), &wrong).list("", None, 1);
    assert_eq!(error.unwrap_err().code(), "storage-credentials");
    let error = open(
        &google_place(google.port()),
        &aws_keys(),
        &WireLimits::default(),
    );
    assert_eq!(error.unwrap_err().code(), "storage-credentials");
}

fn until(hours: u64) -> Retention {
    Retention {
        mode: "COMPLIANCE".to_owned(),
        until: SystemClock.now().plus(Duration::from_secs(hours * 3600)),
    }
}

fn locked(hours: u64) -> PutOptions {
    PutOptions {
        retention: Some(until(hours)),
        ..PutOptions::default()
    }
}

#[test]
fn locks_are_set_and_extended_on_s3() {
    let Some(server) = seaweedfs::shared() else {
        return;
    };
    server.bucket("locked", true);
    let storage = storage(&seaweedfs_place(server.port, "locked"), &aws_keys());
    let content = vec![9; 500_000];
    storage.put_bytes(&id("p1"), &content, &locked(1)).unwrap();
    assert_eq!(storage.get_all(&id("p1"), 1 << 20).unwrap(), content);
    storage.extend_retention(&id("p1"), &until(48)).unwrap();
    // A shorter lock changes nothing, and is no error.
    storage.extend_retention(&id("p1"), &until(2)).unwrap();
    storage
        .put_bytes(&id("q1"), b"", &PutOptions::default())
        .unwrap();
    storage.extend_retention(&id("q1"), &until(1)).unwrap();
    let error = storage.extend_retention(&id("p2"), &until(1)).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let traffic = storage.traffic().unwrap();
    assert!((4..=6).contains(&traffic.lock), "{traffic}");
}

#[test]
fn a_store_that_cannot_lock_says_so() {
    let google = Google::start();
    let mut storages = vec![storage(&google_place(google.port()), &google_keys())];
    if let Some(server) = seaweedfs::shared() {
        server.bucket("unlocked", false);
        storages.push(storage(
            &seaweedfs_place(server.port, "unlocked"),
            &aws_keys(),
        ));
    }
    if let Some(server) = azurite::shared() {
        server.container("unlocked");
        storages.push(storage(
            &azurite_place(server.port, "unlocked"),
            &azure_keys(),
        ));
    }
    for storage in storages {
        let place = storage.location();
        let error = storage.put_bytes(&id("p1"), b"x", &locked(1)).unwrap_err();
        let is_said = matches!(
            error,
            BlobError::Unsupported {
                what: "object locks",
                ..
            }
        );
        assert!(is_said, "{place}: {error}");
        storage
            .put_bytes(&id("p1"), b"x", &PutOptions::default())
            .unwrap();
        let error = storage.extend_retention(&id("p1"), &until(1)).unwrap_err();
        assert_eq!(error.code(), "storage-unsupported", "{place}: {error}");
    }
}

#[test]
fn a_locked_blob_in_azure_is_covered_and_then_deleted() {
    // Goal: Kopia's steps, in their order; no server here has immutability, so the test answers.
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut from = BufReader::new(stream);
            while let Ok(Some(request)) = Message::read_request(&mut from) {
                let mut seen = seen.lock().unwrap();
                let (_, query) = request.target().split_once('?').unwrap_or_default();
                let mode = request.header("x-ms-immutability-policy-mode");
                let told = [request.method(), query, mode.unwrap_or_default()].join(" ");
                seen.push(told.trim().to_owned());
                let answer = match seen.len() {
                    1 => Message::refusal(409, "BlobImmutableDueToPolicy"),
                    2 => Message::answer(201, &[("x-ms-version-id", "v 7")], b""),
                    _ => Message::answer(202, &[], b""),
                };
                answer.write(from.get_mut(), None).unwrap();
            }
        }
    });
    let storage = storage(&azurite_place(port, "locked"), &azure_keys());
    storage.delete(&id("p1")).unwrap();
    assert_eq!(
        *asked.lock().unwrap(),
        [
            "DELETE",
            "PUT  Unlocked",
            "DELETE comp=immutabilityPolicies",
            "DELETE",
            "DELETE versionid=v%207"
        ]
    );
}
