//! Real Kopia reads everything after our rewriting and deleting, and goes on from there; ours goes
//! on from Kopia's.
//!
//! Each Kopia of this machine makes a repository of many small flushes, in several formats. Rounds
//! of ours and of Kopia's maintenance follow; after each one Kopia reads every content and every
//! file, with an empty cache. The kit says so where there is no Kopia.

use std::fs;
use std::time::SystemTime;

use careen::maintenance::orphan_packs::Scope;
use careen::maintenance::safety::Safety;
use kit::index_work::{Bench, open};
use kit::kopia::{self, Client, CreateOptions, Kopia};

use super::{delete, rewrite};

const PASSWORD: &str = "a password";

/// Makes snapshots of files that change, and deletes some of them.
fn fill(client: &Client, seed: usize) {
    let source = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for round in 0..5 {
        for number in 0..6 {
            let text = format!("{seed} file {number} round {} ", round * number % 5);
            let text = text.repeat(1 + 400 * (number % 3));
            fs::create_dir_all(source.path().join(format!("d{}", number % 2))).unwrap();
            let path = source.path().join(format!("d{}/f{number}", number % 2));
            fs::write(path, text).unwrap();
        }
        let snapshot = client.snapshot_create(source.path(), &[]).unwrap();
        ids.push(snapshot["id"].as_str().unwrap().to_owned());
    }
    client.snapshot_delete(&ids[1]).unwrap();
    client.snapshot_delete(&ids[3]).unwrap();
}

/// Kopia reads all contents, tombstones too, and all files.
fn check(client: &Client) {
    let client = client.fresh().unwrap();
    client
        .run(&["content", "verify", "--full", "--include-deleted"])
        .unwrap();
    client
        .run(&["snapshot", "verify", "--verify-files-percent=100"])
        .unwrap();
    let found = client.run(&["blob", "list", "--prefix=s"]).unwrap();
    assert!(found.trim().is_empty(), "session markers: {found}");
}

/// Kopia finds the local index of every pack. A dry run: nothing is written.
fn recover(client: &Client) {
    let flags = [
        "--dangerous-commands=enabled",
        "--advanced-commands=enabled",
    ];
    let mut tried = flags
        .map(|flag| client.run(&["index", "recover", flag]))
        .into_iter();
    let recovered = tried
        .find_map(Result::ok)
        .expect("one of the flags is known");
    assert!(!recovered.to_lowercase().contains("unable"), "{recovered}");
}

fn judge(kopia: &Kopia, create: &CreateOptions, rounds: usize) {
    let dir = tempfile::tempdir().unwrap();
    let client = kopia.create(dir.path(), PASSWORD, create).unwrap();
    let bench = Bench::new();
    for round in 0..rounds {
        fill(&client.fresh().unwrap(), round);
        let before = client.fresh().unwrap().content_list().unwrap();
        let now = SystemTime::now().into();
        let repository = open(dir.path(), PASSWORD, now).unwrap();
        let workspace = bench.workspace();
        let owner = kopia::IDENTITY;
        let report = rewrite(&repository, &workspace, &Safety::none(), owner).unwrap();
        assert!(report.stats.rewritten_content_count > 10, "{kopia}");
        check(&client);
        let deleted = delete(&repository, &workspace, &Safety::none(), Scope::Full).unwrap();
        assert!(deleted.stats.deleted_pack_count > 1, "{kopia}");
        assert_eq!(deleted.unexplained, 0, "{kopia}");
        check(&client);
        let after = client.fresh().unwrap().content_list().unwrap();
        let ids = |rows: &[kit::contents::ContentRow]| -> Vec<_> {
            let facts = rows
                .iter()
                .map(|row| (row.id.clone(), row.deleted, row.length));
            facts.collect()
        };
        assert_eq!(ids(&before), ids(&after), "{kopia}");
        recover(&client.fresh().unwrap());
        client.fresh().unwrap().maintenance_run_unsafe().unwrap();
        check(&client);
    }
}

#[test]
fn every_kopia_reads_what_we_rewrote() {
    for kopia in kopia::binaries() {
        judge(kopia, &CreateOptions::default(), 1);
    }
}

#[test]
fn other_formats_are_read_as_well() {
    let Some(kopia) = kopia::newest() else { return };
    let legacy = CreateOptions {
        format_version: 1,
        ..CreateOptions::default()
    };
    judge(kopia, &legacy, 2);
    let other = CreateOptions {
        encryption: "CHACHA20-POLY1305-HMAC-SHA256".to_owned(),
        hash: "BLAKE3-256".to_owned(),
        ecc_percent: 10,
        ..CreateOptions::default()
    };
    judge(kopia, &other, 2);
}
