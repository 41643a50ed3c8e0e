//! What networks and stores do to requests, and what becomes of the operations.
//!
//! A proxy in the test does it, before each server that is here.

use std::sync::Mutex;
use std::time::Duration;

use servers::fault_proxy::{Fault, FaultProxy, Kind};

use super::*;
use crate::blob::{BlobError, PutOptions, RetryPolicy, RetryingStore, Storage};
use crate::clock::Stopwatch;
use crate::kopia::blob_id::BlobId;

const STALL: Duration = Duration::from_secs(1);

pub(super) fn limits() -> WireLimits {
    WireLimits {
        stall: STALL,
        ..WireLimits::default()
    }
}

pub(super) fn quick(place: &Location, credentials: &Credentials, limits: &WireLimits) -> Storage {
    let policy = RetryPolicy {
        first_wait: Duration::from_millis(2),
        first_tries_max: 10,
        ..RetryPolicy::default()
    };
    let store = store(place, credentials, limits);
    Storage::new(Arc::new(RetryingStore::with_policy(store, policy)))
}

/// Places behind a proxy on each server that is here.
pub(super) fn places() -> Vec<(FaultProxy, Location, Credentials, Option<Google>)> {
    let mut places = Vec::new();
    if let Some(server) = seaweedfs::shared() {
        server.bucket("faults", false);
        let proxy = FaultProxy::before(server.port);
        let place = seaweedfs_place(proxy.port(), "faults");
        places.push((proxy, place, aws_keys(), None));
    }
    if let Some(server) = azurite::shared() {
        server.container("faults");
        let proxy = FaultProxy::before(server.port);
        let place = azurite_place(proxy.port(), "faults");
        places.push((proxy, place, azure_keys(), None));
    }
    let google = Google::start();
    let proxy = FaultProxy::before(google.port());
    let place = google_place(proxy.port());
    places.push((proxy, place, google_keys(), Some(google)));
    places
}

pub(super) fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n / 3) as u8).collect()
}

/// Puts, reads, lists and deletes; everything has to be right, whatever happens on the way.
fn work(storage: &Storage, number: usize) {
    let id = BlobId::new(format!("p{number:03}"));
    let content = bytes(300_000);
    storage
        .put_bytes(&id, &content, &PutOptions::default())
        .unwrap();
    assert_eq!(storage.get_all(&id, 1 << 20).unwrap(), content);
    storage.will_read(&id, 10..290_000);
    for range in [10..20, 20..289_000, 289_000..290_000] {
        let mut piece = vec![0; range.len()];
        let count = storage.get(&id, range.start as u64, &mut piece).unwrap();
        assert!(count == range.len() && piece == content[range]);
    }
    assert_eq!(storage.metadata(&id).unwrap().length, 300_000);
    let page = storage.list("p", None, 1000).unwrap();
    assert_eq!(page.len(), 1);
    assert_eq!(page[0].id, id);
    storage.delete(&id).unwrap();
    assert!(storage.metadata(&id).unwrap_err().is_not_found());
    assert!(storage.list("p", None, 1000).unwrap().is_empty());
}

#[test]
fn every_fault_at_every_operation_is_survived() {
    // Goal: a fault once at each kind of request, then at every third request; nothing is lost.
    let faults = [
        Fault::Drop,
        Fault::DropAnswer,
        Fault::Hang(2 * STALL),
        Fault::Refuse(500, "InternalError"),
        Fault::Refuse(503, "SlowDown"),
        Fault::Refuse(429, "TooManyRequests"),
        Fault::Refuse(403, "ExpiredToken"),
        Fault::Truncate(0),
        Fault::Truncate(20),
        Fault::Delay(Duration::from_millis(20)),
    ];
    for (proxy, place, credentials, _server) in places() {
        let storage = quick(&place, &credentials, &limits());
        let mut number = 0;
        for fault in &faults {
            for kind in [Kind::Put, Kind::Get, Kind::Head, Kind::List, Kind::Delete] {
                let (fault, mut is_first) = (fault.clone(), true);
                proxy.rule(move |seen| {
                    if seen.kind == kind && std::mem::take(&mut is_first) {
                        return fault.clone();
                    }
                    Fault::Pass
                });
                work(&storage, number);
                number += 1;
            }
            let (fault, mut turn) = (fault.clone(), 0);
            proxy.rule(move |_| {
                turn += 1;
                if turn % 3 == 0 {
                    fault.clone()
                } else {
                    Fault::Pass
                }
            });
            work(&storage, number);
            number += 1;
        }
        let traffic = storage.traffic().unwrap();
        assert!(traffic.throttled >= 2, "{place}: {traffic}");
    }
}

#[test]
fn a_store_that_says_when_to_come_again_is_left_alone_until_then() {
    // Goal: seconds or a date; nobody asks anything before; an answer without one waits as always.
    let date = "Thu, 26 Nov 2020 08:00:00 GMT";
    for (until, seconds) in [("1", 1.0), ("soon", 0.0), (date, 0.0)] {
        for (proxy, place, credentials, _server) in places() {
            let storage = quick(&place, &credentials, &limits());
            let mut is_first = true;
            proxy.rule(move |_| match std::mem::take(&mut is_first) {
                true => Fault::RefuseUntil(503, "SlowDown", until.to_owned()),
                false => Fault::Pass,
            });
            let watch = Stopwatch::start();
            assert!(storage.list("p", None, 10).unwrap().is_empty());
            let took = watch.elapsed().as_secs_f64();
            assert!(
                (seconds..seconds + 5.0).contains(&took),
                "{place}: {took} s"
            );
            assert_eq!(proxy.count(Kind::List), 2);
        }
    }
}

#[test]
fn storage_classes_of_kopias_hidden_blob_are_asked_for() {
    let Some(server) = seaweedfs::shared() else {
        return;
    };
    server.bucket("classes", false);
    let place = seaweedfs_place(server.port, "classes");
    let storage = quick(&place, &aws_keys(), &limits());
    let config = br#"{"blobOptions":[{"prefix":"p","storageClass":"STANDARD_IA"}]}"#;
    let options = PutOptions::default();
    let hidden = BlobId::new(".storageconfig");
    storage.put_bytes(&hidden, config, &options).unwrap();
    // Another client, as the first one has read that there is none.
    let storage = quick(&place, &aws_keys(), &limits());
    for name in ["p1", "p2", "q1"] {
        storage
            .put_bytes(&BlobId::new(name), b"x", &options)
            .unwrap();
    }
    assert_eq!(storage.traffic().unwrap().get, 1, "it is read once");
    let shown = storage.list("", None, 10).unwrap();
    assert_eq!(shown.len(), 3, "and hidden");
    for (name, class) in [("p1", "STANDARD_IA"), ("p2", "STANDARD_IA"), ("q1", "")] {
        let path = format!("/classes/{}{name}", place.prefix());
        let head = servers::http::head(server.port, &path).unwrap();
        let told = head.header("x-amz-storage-class").unwrap_or_default();
        assert!(
            told == class || (class.is_empty() && told == "STANDARD"),
            "{name}: {told}"
        );
    }
}

#[test]
fn a_body_that_breaks_off_goes_on_where_it_was() {
    for (proxy, place, credentials, _server) in places() {
        let storage = quick(&place, &credentials, &limits());
        let id = BlobId::new("p1");
        let content = bytes(1_000_000);
        storage
            .put_bytes(&id, &content, &PutOptions::default())
            .unwrap();
        proxy.rule(|seen| match seen.kind {
            Kind::Get => Fault::Truncate(300_000),
            _ => Fault::Pass,
        });
        let before = storage.traffic().unwrap();
        let mut read = vec![0; 900_000];
        assert_eq!(storage.get(&id, 50_000, &mut read).unwrap(), read.len());
        assert!(read == content[50_000..950_000]);
        let after = storage.traffic().unwrap();
        // Three times 300,000 bytes, none of them twice.
        assert_eq!(after.get - before.get, 3, "{place}");
        assert_eq!(after.downloaded_bytes - before.downloaded_bytes, 900_000);

        // Another blob of the same name is never mixed with the first one.
        let (first, mut is_first) = (storage.clone(), true);
        let other = vec![7; 1_000_000];
        let put = Mutex::new(Some(move || {
            first
                .put_bytes(&BlobId::new("p1"), &other, &PutOptions::default())
                .unwrap();
        }));
        proxy.rule(move |seen| {
            if seen.kind == Kind::Get && std::mem::take(&mut is_first) {
                return Fault::Truncate(300_000);
            }
            Fault::Pass
        });
        let mut part = vec![0; 300_000];
        assert_eq!(storage.get(&id, 0, &mut part).unwrap(), part.len());
        if let Some(put) = put.lock().unwrap().take() {
            put();
        }
        let mut whole = vec![0; 1_000_000];
        assert_eq!(storage.get(&id, 0, &mut whole).unwrap(), whole.len());
        assert!(whole.iter().all(|byte| *byte == 7));
    }
}

#[test]
fn a_request_that_hangs_is_given_up() {
    for (proxy, place, credentials, _server) in places() {
        let storage = quick(&place, &credentials, &limits());
        let mut is_first = true;
        proxy.rule(move |_| {
            if std::mem::take(&mut is_first) {
                return Fault::Hang(Duration::from_secs(30));
            }
            Fault::Pass
        });
        let watch = Stopwatch::start();
        assert!(storage.list("p", None, 10).unwrap().is_empty());
        assert!(watch.elapsed() >= STALL && watch.elapsed() < 20 * STALL);
    }
}

#[test]
fn a_put_whose_answer_was_lost_says_that_it_is_there() {
    for (proxy, place, credentials, _server) in places() {
        let storage = quick(&place, &credentials, &limits());
        let early = BlobId::new("pearly");
        let plain = PutOptions::default();
        storage.put_bytes(&early, b"before", &plain).unwrap();
        let mut is_first = true;
        proxy.rule(move |seen| {
            if seen.kind == Kind::Put && std::mem::take(&mut is_first) {
                return Fault::DropAnswer;
            }
            Fault::Pass
        });
        let options = PutOptions {
            create_only: true,
            ..PutOptions::default()
        };
        let id = BlobId::new("kopia.maintenance");
        let put = storage.put_bytes(&id, b"ours", &options);
        // A server that has just started may refuse its first put; then ours is the second.
        let refused = proxy.dropped().is_some_and(|status| status >= 500);
        let there = matches!(&put, Err(BlobError::AlreadyExists { .. }));
        assert!(
            there || (refused && put.is_ok()),
            "{put:?} after {:?}, {place:?}",
            proxy.dropped()
        );
        assert_eq!(storage.get_all(&id, 100).unwrap(), b"ours");
    }
}

#[test]
fn what_cannot_become_better_is_asked_once() {
    for (status, code, expected) in [
        (403, "AccessDenied", "storage-permission"),
        (403, "SignatureDoesNotMatch", "storage-credentials"),
        (400, "InvalidArgument", "storage-refused"),
        (404, "NoSuchBucket", "storage-refused"),
    ] {
        for (proxy, place, credentials, _server) in places() {
            let storage = quick(&place, &credentials, &limits());
            proxy.rule(move |_| Fault::Refuse(status, code));
            let id = BlobId::new("p1");
            let put = storage.put_bytes(&id, &bytes(500_000), &PutOptions::default());
            assert_eq!(put.unwrap_err().code(), expected, "{code}");
            let list = storage.list("p", None, 10).unwrap_err();
            assert_eq!(list.code(), expected, "{code}");
            // On S3 a put asks for the storage classes first.
            let asked = [Kind::Put, Kind::Get, Kind::List].map(|kind| proxy.count(kind));
            assert_eq!(asked.iter().sum::<u64>(), 2, "{asked:?}");
        }
    }
}

#[test]
fn budgets_of_bytes_end_the_run() {
    for (proxy, place, credentials, _server) in places() {
        let limits = WireLimits {
            max_download_bytes: Some(250_000),
            max_upload_bytes: Some(450_000),
            ..limits()
        };
        let storage = quick(&place, &credentials, &limits);
        let id = BlobId::new("p1");
        let content = bytes(200_000);
        let put = || storage.put_bytes(&id, &content, &PutOptions::default());
        put().unwrap();
        put().unwrap();
        assert_eq!(put().unwrap_err().code(), "transfer-budget");
        assert_eq!(proxy.count(Kind::Put), 2, "it is not even asked");
        storage.get_all(&id, 1 << 20).unwrap();
        let error = storage.get_all(&id, 1 << 20).unwrap_err();
        assert_eq!(error.code(), "transfer-budget");
        assert!(!error.is_transient());
        assert!(storage.traffic().unwrap().uploaded_bytes == 400_000);
        // The schedule is beyond all budgets: a run that ends gives its lease back.
        let schedule = BlobId::new("kopia.maintenance");
        let put = storage.put_bytes(&schedule, &content, &PutOptions::default());
        put.unwrap();
        assert_eq!(storage.get_all(&schedule, 1 << 20).unwrap(), content);
    }
}

#[test]
fn a_budget_is_kept_in_the_middle_of_a_blob() {
    for (_proxy, place, credentials, _server) in places() {
        let id = BlobId::new("p1");
        let all = quick(&place, &credentials, &limits());
        all.put_bytes(&id, &bytes(6 << 20), &PutOptions::default())
            .unwrap();
        let limits = WireLimits {
            max_download_bytes: Some(1 << 20),
            ..limits()
        };
        let storage = quick(&place, &credentials, &limits);
        let mut into = vec![0; 6 << 20];
        let error = storage.get(&id, 0, &mut into).unwrap_err();
        assert_eq!(error.code(), "transfer-budget");
        let passed = storage.traffic().unwrap().downloaded_bytes;
        assert!(passed < 2 << 20, "{place}: {passed}");
    }
}

#[test]
fn the_pace_of_requests_is_kept() {
    let (proxy, place, credentials, _server) = places().pop().unwrap();
    let limits = WireLimits {
        max_requests_per_second: Some(50),
        ..limits()
    };
    let storage = quick(&place, &credentials, &limits);
    let watch = Stopwatch::start();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    storage.list("p", None, 10).unwrap();
                }
            });
        }
    });
    assert_eq!(proxy.count(Kind::List), 40);
    assert!(
        watch.elapsed() >= Duration::from_millis(600),
        "{:?}",
        watch.elapsed()
    );
}

#[test]
fn a_stale_listing_is_shown_as_it_is() {
    // Goal: nothing here hides or mends it; the rules above live with listings of the past.
    let (proxy, place, credentials, _server) = places().pop().unwrap();
    let storage = quick(&place, &credentials, &limits());
    assert!(storage.list("p", None, 10).unwrap().is_empty());
    let id = BlobId::new("p1");
    storage
        .put_bytes(&id, b"x", &PutOptions::default())
        .unwrap();
    proxy.rule(|seen| match seen.kind {
        Kind::List => Fault::Stale,
        _ => Fault::Pass,
    });
    assert!(storage.list("p", None, 10).unwrap().is_empty());
    assert_eq!(storage.get_all(&id, 10).unwrap(), b"x");
    proxy.rule(|_| Fault::Pass);
    assert_eq!(storage.list("p", None, 10).unwrap().len(), 1);
}

#[test]
fn blobs_that_are_known_to_come_are_asked_for_together() {
    // Goal: many round trips at once, one request a blob all the same, and never an old content.
    for (proxy, place, credentials, _server) in places() {
        let storage = quick(&place, &credentials, &limits());
        let ids: Vec<BlobId> = (0..40).map(|n| BlobId::new(format!("xn{n:02}"))).collect();
        let content = |number: usize| vec![number as u8; 1 + 7_000 * number];
        for (number, id) in ids.iter().enumerate() {
            let bytes = content(number);
            storage
                .put_bytes(id, &bytes, &PutOptions::default())
                .unwrap();
        }
        proxy.rule(|_| Fault::Delay(Duration::from_millis(50)));
        storage.will_need(&ids.iter().collect::<Vec<_>>());
        let watch = Stopwatch::start();
        let mut into = vec![0; 1 << 20];
        for (number, id) in ids.iter().enumerate() {
            if number == 20 {
                let bytes = content(3);
                storage
                    .put_bytes(id, &bytes, &PutOptions::default())
                    .unwrap();
            }
            let count = storage.get(id, 0, &mut into).unwrap();
            let expected = content(if number == 20 { 3 } else { number });
            assert!(into[..count] == expected, "{place}: {id}");
        }
        let seconds = watch.elapsed().as_secs_f64();
        assert!(seconds < 40.0 * 0.05 / 2.0, "{place}: {seconds} s");
        assert!((40..=41).contains(&proxy.count(Kind::Get)), "{place}");
        assert!(storage.traffic().unwrap().in_flight_peak > 4);

        // Faults on what was sent ahead, a buffer that is too short, and nobody who takes it.
        proxy.rule(|seen| match (seen.kind, seen.number % 3) {
            (Kind::Get, 0) => Fault::Truncate(5_000),
            (Kind::Get, 1) => Fault::Drop,
            _ => Fault::Pass,
        });
        storage.will_need(&ids.iter().collect::<Vec<_>>());
        for number in [1, 9, 20, 39] {
            let expected = content(if number == 20 { 3 } else { number });
            let wanted = expected.len().min(30_000);
            let count = storage.get(&ids[number], 0, &mut into[..30_000]).unwrap();
            assert!(into[..count] == expected[..wanted], "{place}: {number}");
        }
        for _ in 0..2 {
            storage.will_need(&ids.iter().collect::<Vec<_>>());
            assert_eq!(storage.get(&ids[5], 100, &mut into[..10]).unwrap(), 10);
        }
    }
}
