//! Real Kopia judges compactions without epochs: what it reads afterwards is what it read, in every
//! field; what it would have written is what was written, but for the random tail; and it goes on
//! from there, in turns with Careen.
//!
//! Each Kopia of this machine makes a repository of format version 1. Its own `index optimize` on a
//! copy is the model.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use careen::clock::Timestamp;
use careen::maintenance::compact_indexes_v0::{CompactionV0, OutcomeV0};
use careen::maintenance::owner::Identity;
use careen::repository::Repository;
use careen::repository::index_set_v0::SETTLE_TIME;
use kit::contents::{ContentRow, difference};
use kit::data_dir::DataDir;
use kit::index_work::{Bench, open};
use kit::kopia::{self, Client, CreateOptions, Kopia};
use kit::world::model;
use tempfile::TempDir;

use super::HOUR;

const PASSWORD: &str = "a password";

/// Random bytes at the end of a compacted index.
const TAIL_BYTES: usize = 32;

struct Made {
    dir: TempDir,
    source: TempDir,
    client: Client,
}

impl Made {
    /// Makes a repository with `snapshots` snapshots, each in a session of its own.
    fn new(kopia: &Kopia, snapshots: usize) -> Self {
        let (dir, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let create = CreateOptions {
            format_version: 1,
            ..CreateOptions::default()
        };
        let client = kopia.create(dir.path(), PASSWORD, &create).unwrap();
        let made = Self {
            dir,
            source,
            client,
        };
        (0..snapshots).for_each(|number| made.snapshot(number));
        made
    }

    /// Makes a snapshot of files that have changed, and deletes one now and then. So many manifests
    /// make Kopia merge them, which leaves tombstones.
    fn snapshot(&self, number: usize) {
        for file in 0..3 {
            let text = format!("file {file} of {} ", number * file).repeat(30);
            fs::write(self.source.path().join(format!("f{file}")), text).unwrap();
        }
        let client = self.client.fresh().unwrap();
        let made = client.snapshot_create(self.source.path(), &[]).unwrap();
        if number % 4 == 3 {
            client
                .snapshot_delete(made["id"].as_str().unwrap())
                .unwrap();
        }
    }

    fn data(&self) -> DataDir {
        DataDir::open(self.dir.path()).unwrap()
    }

    /// Asks Kopia, with an empty cache. Before, it merges manifests if there are many.
    fn contents(&self) -> Vec<ContentRow> {
        let client = self.client.fresh().unwrap();
        client.snapshot_list().unwrap();
        client.fresh().unwrap().content_list().unwrap()
    }

    /// Kopia finds nothing wrong, with an empty cache.
    fn check(&self, expected: &[ContentRow]) {
        let client = self.client.fresh().unwrap();
        let kopia = client.kopia();
        let found = client.content_list().unwrap();
        assert_eq!(difference(expected, &found), None, "{kopia}");
        let verified = client.content_verify(true).unwrap();
        assert_eq!(verified, expected.len() as u64, "{kopia}");
        client.snapshot_verify().unwrap();
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

fn careen(path: &Path, compaction: &CompactionV0) -> OutcomeV0 {
    careen_at(path, compaction, now())
}

fn careen_at(path: &Path, compaction: &CompactionV0, now: Timestamp) -> OutcomeV0 {
    let repository = open(path, PASSWORD, now).unwrap();
    let bench = Bench::new();
    let workspace = bench.workspace();
    let owner = Identity::Explicit(kopia::IDENTITY.to_owned());
    let compaction = compaction.clone().as_owner(owner);
    let outcome = compaction.run(&repository, &workspace, &mut |_| {});
    outcome.unwrap()
}

/// Lets Kopia compact.
fn optimize(client: &Client, flags: &[&str]) {
    let allow = match client.kopia().is_at_least(22) {
        true => "--dangerous-commands=enabled",
        false => "--advanced-commands=enabled",
    };
    let command = [&["index", "optimize", allow], flags].concat();
    client.run(&command).unwrap();
}

/// Returns the plaintext of the only index blob in use, without its random tail.
fn only_index(path: &Path) -> Vec<u8> {
    let repository: Repository = open(path, PASSWORD, now()).unwrap();
    let active = model::active_v0(&repository.storage, &repository.crypto).unwrap();
    assert_eq!(active.len(), 1, "{active:?}");
    let name = active.first().unwrap();
    assert!(
        !name.contains('-'),
        "a compaction's blob has no session: {name}"
    );
    let sealed = DataDir::open(path).unwrap().read(name).unwrap();
    let mut plain = model::plaintext(&repository.crypto, name, &sealed).unwrap();
    plain.truncate(plain.len() - TAIL_BYTES);
    plain
}

fn judge(kopia: &Kopia) {
    let made = Made::new(kopia, 20);
    let before = made.contents();
    assert!(
        before.iter().any(|row| row.deleted),
        "{kopia}: there are tombstones"
    );
    let copy = tempfile::tempdir().unwrap();
    made.data().copy_to(copy.path()).unwrap();
    let theirs = kopia
        .connect(copy.path(), PASSWORD, kopia::IDENTITY)
        .unwrap();

    let outcome = careen(made.dir.path(), &CompactionV0::quick(SETTLE_TIME));
    assert!(outcome.compacted, "{kopia}: {}", outcome.report);
    made.check(&before);
    optimize(&theirs, &["--max-small-blobs=8"]);
    assert_eq!(
        only_index(made.dir.path()),
        only_index(copy.path()),
        "{kopia}"
    );
    let entries = made.client.fresh().unwrap().index_inspect(&[]).unwrap();
    assert_eq!(entries.len(), before.len(), "{kopia}");
    let idle = careen(made.dir.path(), &CompactionV0::quick(SETTLE_TIME));
    assert!(idle.report.tasks.is_empty(), "{kopia}: {}", idle.report);

    // All with drop: Kopia's drop time is its present less the flag's.
    std::thread::sleep(Duration::from_millis(1_100));
    careen(
        made.dir.path(),
        &CompactionV0::drop_deleted(now(), SETTLE_TIME),
    );
    optimize(
        &theirs.fresh().unwrap(),
        &["--all", "--drop-deleted-older-than=1ns"],
    );
    let live: Vec<_> = before.iter().filter(|row| !row.deleted).cloned().collect();
    made.check(&live);
    assert_eq!(
        only_index(made.dir.path()),
        only_index(copy.path()),
        "{kopia}"
    );

    let client = made.client.fresh().unwrap();
    client.maintenance_run(false).unwrap();
    client.maintenance_run(true).unwrap();
    client.maintenance_run_unsafe().unwrap();
    let client = client.fresh().unwrap();
    client.snapshot_verify().unwrap();
    client.content_verify(true).unwrap();
    let left = |prefix| made.data().list_prefix(prefix).unwrap().len();
    assert_eq!([left("n"), left("m"), left("l")], [1, 0, 0], "{kopia}");
}

#[test]
fn every_kopia_reads_the_same_and_writes_the_same() {
    std::thread::scope(|scope| {
        for kopia in kopia::binaries() {
            scope.spawn(|| judge(kopia));
        }
    });
}

/// Goal: in turns nobody loses what the other left; method: snapshots, our compaction, quick or
/// with drop, and Kopia's maintenance, with hours in between, and Kopia's verification after each.
fn take_turns(kopia: &Kopia) {
    let made = Made::new(kopia, 9);
    let data = made.data();
    for round in 0..4 {
        // Quick compactions need eight blobs, the others any.
        let snapshots = if round % 2 == 0 { 8 } else { 2 };
        (0..snapshots).for_each(|number| made.snapshot(10 * round + number));
        data.age(3 * HOUR).unwrap();
        let before = made.contents();
        let outcome = if round % 2 == 0 {
            careen(made.dir.path(), &CompactionV0::quick(SETTLE_TIME))
        } else {
            let long_ago = now().minus(1_000 * HOUR);
            careen(
                made.dir.path(),
                &CompactionV0::drop_deleted(long_ago, SETTLE_TIME),
            )
        };
        made.check(&before);
        let deleted = outcome.cleanup.index_blobs;
        assert!(
            round == 0 || deleted > 0,
            "{kopia}, round {round}: {}",
            outcome.report
        );
        data.age(3 * HOUR).unwrap();
        let client = made.client.fresh().unwrap();
        client.maintenance_run(round == 2).unwrap();
        let client = client.fresh().unwrap();
        client.snapshot_verify().unwrap();
        client.content_verify(true).unwrap();
    }
    let before = made.contents();
    careen(
        made.dir.path(),
        &CompactionV0::drop_deleted(now(), Duration::ZERO),
    );
    let live: Vec<_> = before.into_iter().filter(|row| !row.deleted).collect();
    made.check(&live);
    let left = |prefix| data.list_prefix(prefix).unwrap().len();
    assert_eq!([left("n"), left("m"), left("l")], [1, 0, 0], "{kopia}");
}

#[test]
fn in_turns_nobody_loses_anything() {
    let binaries = kopia::binaries();
    let ends = binaries
        .iter()
        .take(1)
        .chain(binaries.iter().skip(1).last());
    std::thread::scope(|scope| {
        for kopia in ends {
            scope.spawn(|| take_turns(kopia));
        }
    });
}

/// Goal: the two waits are Kopia's, and Kopia carries on with our cleanup entries; method: our runs
/// in the past, hours apart, then Kopia's compaction at present.
#[test]
fn cleanup_entries_are_carried_out_by_either() {
    let Some(kopia) = kopia::newest() else {
        return;
    };
    let made = Made::new(kopia, 12);
    let data = made.data();
    data.age(20 * HOUR).unwrap();
    let before = made.contents();
    let left = || ["n", "m", "l"].map(|prefix| data.list_prefix(prefix).unwrap().len());
    let everything = CompactionV0::drop_deleted(Timestamp::default(), SETTLE_TIME);
    let mut seen = Vec::new();
    for hours in [10, 8, 6] {
        let outcome = careen_at(made.dir.path(), &everything, now().minus(hours * HOUR));
        assert!(outcome.compacted);
        seen.push(left());
        made.check(&before);
    }
    assert_eq!(
        seen[1..],
        [[2, 2, 1], [2, 2, 1]],
        "and the first: {:?}",
        seen[0]
    );
    assert_eq!(seen[0][1..], [1, 0], "{seen:?}");
    let client = made.client.fresh().unwrap();
    optimize(&client, &["--all", "--drop-deleted-older-than=100000h"]);
    made.check(&before);
    assert_eq!(left(), [2, 2, 1], "Kopia deleted ours as we would have");
}
