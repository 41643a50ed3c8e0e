//! The same for repositories of other shapes: hash, cipher, ECC, index version 1, and what a second
//! tool of the same repository sees of a rescue and of a repair.
//!
//! With the newest Kopia only; the others differ in nothing that these shapes touch.

use std::path::Path;
use std::time::Duration;

use careen::clock::{Randomness, SystemRandomness};
use careen::kopia::blob_id::REPOSITORY;
use careen::kopia::format_blob::FormatBlob;
use careen::maintenance::index_plan::Task;
use careen::maintenance::index_repair;
use kit::contents::difference;
use kit::data_dir::DataDir;
use kit::index_work::{Bench, open, options};
use kit::kopia::{self, CreateOptions};

use super::{PASSWORD, check_whole, judge, make, now};

#[test]
fn other_algorithms() {
    let Some(kopia) = kopia::newest() else {
        return;
    };
    let shape = |hash: &str, encryption: &str, ecc_percent| CreateOptions {
        hash: hash.to_owned(),
        encryption: encryption.to_owned(),
        ecc_percent,
        ..CreateOptions::default()
    };
    let shapes = [
        shape("BLAKE3-256", "CHACHA20-POLY1305-HMAC-SHA256", 10),
        shape("HMAC-SHA224", "AES256-GCM-HMAC-SHA256", 1),
        shape("BLAKE2S-256", "CHACHA20-POLY1305-HMAC-SHA256", 0),
    ];
    std::thread::scope(|scope| {
        for shape in &shapes {
            scope.spawn(|| judge(&make(kopia, shape, |_| {})));
        }
    });
}

/// Kopia makes no repository with epochs and index version 1 any more, but it works with one: the
/// format blob is changed before the first snapshot.
#[test]
fn index_version_1_with_epochs() {
    let Some(kopia) = kopia::newest() else {
        return;
    };
    let made = make(kopia, &CreateOptions::default(), set_index_version_1);
    judge(&made);
}

fn set_index_version_1(path: &Path) {
    let data = DataDir::open(path).unwrap();
    let bytes = data.read(REPOSITORY).unwrap();
    let blob = FormatBlob::parse(&bytes).unwrap();
    let mut format = blob.unlock(PASSWORD.as_bytes(), 64 << 20).unwrap();
    format.index_version = 1;
    let mut nonce = [0; 12];
    SystemRandomness.fill(&mut nonce);
    let changed = blob.with_format(&format, nonce).to_json();
    data.write(REPOSITORY, &changed, now()).unwrap();
    // What clients wrote before, the owner's manifest, is in version 2: written anew by them.
    let repository = open(path, PASSWORD, now()).unwrap();
    assert_eq!(repository.format.index_version, 1);
}

/// Goal: merged blobs of open epochs are read by Kopia like any others, before and after the
/// originals are gone.
#[test]
fn a_rescue_is_read() {
    let Some(kopia) = kopia::newest() else {
        return;
    };
    let made = make(kopia, &CreateOptions::default(), |_| {});
    let data = made.data();
    // All into the open epochs.
    for epoch in 2..=super::WRITE_EPOCH {
        data.remove(&format!("xe{epoch}")).unwrap();
    }
    for blob in data.list_prefix("xn").unwrap() {
        let (head, rest) = blob.id.split_once('_').unwrap();
        let epoch = u64::from(head != "xn0");
        let bytes = data.read(&blob.id).unwrap();
        data.remove(&blob.id).unwrap();
        data.write(&format!("xn{epoch}_{rest}"), &bytes, blob.time)
            .unwrap();
    }
    let before = made.contents();
    let bench = Bench::new();
    let all = options(&[Task::CompactSingleEpoch], true);
    let repository = open(made.dir.path(), PASSWORD, now()).unwrap();
    let report = bench.run(&repository, &all).unwrap();
    let due = report.unfinished_until.expect("the margin has not passed");
    check_whole(&made, &before);
    let count = || data.list_prefix("xn1_").unwrap().len();
    assert!(count() > 3, "{report}");
    let late = open(made.dir.path(), PASSWORD, due.plus(Duration::from_secs(1))).unwrap();
    let report = bench.run(&late, &all).unwrap();
    assert_eq!((count(), report.unfinished_until), (1, None), "{report}");
    data.set_time("kopia.maintenance", now()).unwrap();
    check_whole(&made, &before);
}

/// Goal: Kopia reads again what a poorer set may hide; method: a second set is made of one of an
/// epoch's blobs, and the uncompacted blobs are removed.
#[test]
fn a_repair_is_read() {
    let Some(kopia) = kopia::newest() else {
        return;
    };
    let made = make(kopia, &CreateOptions::default(), |_| {});
    let data = made.data();
    let before = made.contents();
    let blobs = |kind: &str, epoch: usize| data.list_prefix(&format!("{kind}{epoch}_")).unwrap();
    let settled = 0..super::WRITE_EPOCH - 1;
    let epoch = settled
        .max_by_key(|epoch| blobs("xn", *epoch).len())
        .unwrap();
    let compact = options(&[Task::CompactSingleEpoch], false);
    let run = || {
        let repository = open(made.dir.path(), PASSWORD, now()).unwrap();
        Bench::new().run(&repository, &compact)
    };
    run().unwrap();
    let spare = blobs("xn", epoch);
    assert!(spare.len() > 1, "{spare:?}");
    let poor = data.read(&spare[0].id).unwrap();
    let hash = spare[0].id.split(['_', '-']).nth(1).unwrap();
    let name = format!("xs{epoch}_{hash}-s00112233445566aa-c1");
    data.write(&name, &poor, spare[0].time).unwrap();
    spare.iter().for_each(|blob| data.remove(&blob.id).unwrap());
    assert_eq!(run().unwrap_err().code(), "unequal-index-sets");
    let repository = open(made.dir.path(), PASSWORD, now()).unwrap();
    index_repair::execute(&repository, &Bench::new().workspace(), &compact).unwrap();
    assert_eq!(difference(&before, &made.contents()), None);
    run().unwrap();
    check_whole(&made, &before);
}
