//! The judges are fit to judge: real Kopia and the independent reader agree on what is known.
//!
//! Every Kopia of this machine makes a repository through the kit and says of it what must be true;
//! the newest Kopia and the reader each read the golden repositories and must find exactly what the
//! descriptions hold, in every field. Where a judge is missing, the kit says so and the other one
//! remains.

use std::fs;

use careen::clock::Timestamp;
use kit::checker::Checker;
use kit::contents::{ContentRow, difference};
use kit::data_dir::DataDir;
use kit::golden::{DAMAGED, Golden, NAMES};
use kit::kopia::{self, CreateOptions, EpochParameters, Kopia};

const PASSWORD: &str = "a password";

/// Small files with different contents, so that a repository has a few packs and directories.
fn files(count: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..count {
        let text = format!("file {number} ").repeat(50 + number);
        fs::write(dir.path().join(format!("f{number}")), text).unwrap();
    }
    dir
}

#[test]
fn every_kopia_is_driven_and_understood() {
    for kopia in kopia::binaries() {
        drive(kopia, &CreateOptions::default());
    }
}

#[test]
fn every_kopia_creates_what_it_is_told() {
    for kopia in kopia::binaries() {
        let options = CreateOptions {
            format_version: 3,
            hash: "BLAKE3-256".to_owned(),
            encryption: "CHACHA20-POLY1305-HMAC-SHA256".to_owned(),
            ecc_percent: 10,
            splitter: "FIXED-1M".to_owned(),
        };
        let dir = tempfile::tempdir().unwrap();
        let client = kopia.create(dir.path(), PASSWORD, &options).unwrap();
        let format = &client.status().unwrap()["contentFormat"];
        assert_eq!(format["hash"], options.hash, "{kopia}");
        assert_eq!(format["encryption"], options.encryption, "{kopia}");
        assert_eq!(format["ecc"], "REED-SOLOMON-CRC32", "{kopia}");
        assert_eq!(format["version"], 3, "{kopia}");
        let refused = kopia
            .connect(dir.path(), "another", kopia::IDENTITY)
            .unwrap_err();
        assert_eq!(refused.exit_code, Some(1), "{refused}");
    }
}

fn drive(kopia: &Kopia, options: &CreateOptions) {
    let dir = tempfile::tempdir().unwrap();
    let client = kopia.create(dir.path(), PASSWORD, options).unwrap();
    let source = files(5);
    let first = client.snapshot_create(source.path(), &[]).unwrap();
    fs::write(source.path().join("f0"), "changed").unwrap();
    client
        .snapshot_create(source.path(), &["--tags=kind:test"])
        .unwrap();
    assert_eq!(client.snapshot_list().unwrap().len(), 2, "{kopia}");
    client
        .snapshot_delete(first["id"].as_str().unwrap())
        .unwrap();
    assert_eq!(client.snapshot_list().unwrap().len(), 1, "{kopia}");
    assert!(client.manifest_list().unwrap().len() >= 3, "{kopia}");
    client.snapshot_verify().unwrap();

    let contents = client.content_list().unwrap();
    assert_eq!(
        client.content_list_long().unwrap().len(),
        contents.len(),
        "{kopia}"
    );
    let live = contents.iter().filter(|row| !row.deleted).count() as u64;
    assert_eq!(client.content_verify(false).unwrap(), live, "{kopia}");
    assert_eq!(
        client.content_verify(true).unwrap(),
        contents.len() as u64,
        "{kopia}"
    );

    let entries = client.index_inspect(&[]).unwrap();
    assert!(
        entries.len() >= contents.len(),
        "{kopia}: every winner is an entry"
    );
    let blobs = client.index_list(true).unwrap();
    let one = client.index_inspect(&[&blobs[0].id]).unwrap();
    assert!(
        one.iter().all(|entry| entry.index_blob == blobs[0].id),
        "{kopia}"
    );
    assert!(client.session_list().unwrap().is_empty(), "{kopia}");

    client
        .set_epoch_parameters(&EpochParameters::smallest())
        .unwrap();
    let client = client.fresh().unwrap();
    let status = client.status().unwrap();
    let parameters = &status["contentFormat"]["epochParameters"];
    assert_eq!(
        parameters["MinEpochDuration"], 600_000_000_000u64,
        "{kopia}"
    );
    settle(&client, &contents);
}

/// Moves the repository to epoch 3 by hand, lets Kopia compact, and looks at what the kit makes of
/// it.
fn settle(client: &kopia::Client, contents: &[ContentRow]) {
    let data = DataDir::open(client.data()).unwrap();
    let blobs = data.list_prefix("xn").unwrap();
    let newest = blobs.iter().map(|blob| blob.time).max().unwrap_or_default();
    data.advance_to_epoch(3, newest).unwrap();
    let client = client.fresh().unwrap();
    let before = client.epoch_list().unwrap();
    assert_eq!((before.write_epoch, before.single.len()), (3, 0));
    assert!(
        before.uncompacted.is_empty(),
        "Kopia shows those of unsettled epochs only"
    );
    client.maintenance_run(false).unwrap();
    client.maintenance_run(true).unwrap();
    let client = client.fresh().unwrap();
    let compacted = client.content_list().unwrap();
    assert_eq!(difference(contents, &compacted), None);
    let after = client.epoch_list().unwrap();
    assert_eq!(after.single, [(0, 1)], "{after:?}");
    let active = client.index_list(false).unwrap();
    assert!(
        active.iter().any(|blob| blob.id.starts_with("xs0_")),
        "{active:?}"
    );
    let runs = client.maintenance_info().unwrap();
    assert!(runs["schedule"]["runs"].is_object(), "{runs}");
    client.maintenance_set_owner("root@other").unwrap();
    assert_eq!(client.maintenance_info().unwrap()["owner"], "root@other");
    let refused = client.maintenance_run(true);
    assert!(refused.is_err(), "only the owner runs maintenance");
    let owner = client.as_identity("root@other").unwrap();
    owner.maintenance_run_unsafe().unwrap();
    owner.maintenance_set_owner(kopia::IDENTITY).unwrap();
}

#[test]
fn kopia_reads_the_golden_repositories_as_described() {
    let Some(kopia) = kopia::newest() else {
        return;
    };
    for name in NAMES {
        let golden = Golden::open(name);
        let owner = golden.maintenance_owner();
        let client = kopia
            .connect(golden.path(), golden.password(), owner)
            .unwrap();
        let expected = golden.contents().unwrap();
        let read = client.content_list().unwrap();
        assert_eq!(difference(&expected, &read), None, "{kopia} on {name}");
        let snapshots = golden.state()["snapshots"].as_array().map_or(0, Vec::len);
        assert_eq!(
            client.snapshot_list().unwrap().len(),
            snapshots,
            "{kopia} on {name}"
        );
    }
}

#[test]
fn the_independent_reader_reads_the_golden_repositories_as_described() {
    let Some(checker) = Checker::find() else {
        return;
    };
    for name in NAMES {
        let golden = Golden::open(name);
        let expected = golden.contents().unwrap();
        let read = checker.contents(golden.path(), golden.password()).unwrap();
        assert_eq!(difference(&expected, &read), None, "{name}");
        let verified = checker.verify(golden.path(), golden.password()).unwrap();
        assert_eq!(verified.contents, expected.len() as u64, "{name}");
        assert_eq!(verified.missing, 0, "{name}");
        let used = &golden.state()["usedContents"];
        assert_eq!(used["count"], verified.in_use, "{name}");
        assert_eq!(
            used["deletedInIndex"], verified.in_use_but_deleted,
            "{name}"
        );
        let told = golden.state()["maintenance"]["params"]["owner"].as_str();
        assert_eq!(told, Some(golden.maintenance_owner()), "{name}");
        checker
            .maintenance(golden.path(), golden.password())
            .unwrap();
    }
}

#[test]
fn both_judges_refuse_a_damage() {
    let damaged = Golden::open(DAMAGED);
    let variant = damaged.variant("flipped-file-byte");
    if let Some(checker) = Checker::find() {
        assert!(checker.verify(variant.path(), damaged.password()).is_err());
    }
    if let Some(kopia) = kopia::newest() {
        let client = kopia
            .connect(variant.path(), damaged.password(), kopia::IDENTITY)
            .unwrap();
        assert!(client.content_verify(true).is_err());
        assert!(client.snapshot_verify().is_err());
    }
    assert!(variant.now() > Timestamp::from_seconds(1_700_000_000));
}
