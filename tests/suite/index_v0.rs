//! Index maintenance of repositories without epochs: Kopia's effect, nothing lost, in any order
//! with Kopia's own.
//!
//! Here are the golden repositories: what Kopia recorded of its own runs on them, ours must do, at
//! the same moment. `kopia_judges` asks real Kopia, `killed` dies at every operation, `large` has
//! more index blobs than any client should. Damage is in the suite `damaged`.

use std::collections::BTreeMap;
use std::time::Duration;

use careen::clock::Timestamp;
use careen::maintenance::compact_indexes_v0::{self, CompactionV0, OutcomeV0};
use careen::maintenance::owner::Identity;
use careen::maintenance::status::status;
use careen::repository::Repository;
use careen::repository::index_set_v0::{IndexSetV0, SETTLE_TIME};
use careen::repository::verify::verify_index;
use kit::contents::difference;
use kit::golden::Golden;
use kit::index_work::{Bench, open};
use kit::world::{everything, model};

use crate::damaged::rows_of;

mod killed;
mod kopia_judges;
mod large;
mod weather;

const GOLDEN: &str = "v1-v0index";

const HOUR: Duration = Duration::from_secs(3600);

fn open_golden(golden: &Golden) -> Repository {
    open(golden.path(), golden.password(), golden.now()).unwrap()
}

/// Returns the number of blobs by their first letter.
fn by_kind(repository: &Repository) -> BTreeMap<char, usize> {
    let mut counts = BTreeMap::new();
    for name in everything(&repository.storage).into_keys() {
        let kind = name.chars().next().unwrap();
        *counts.entry(kind).or_insert(0) += 1;
    }
    counts
}

fn active(repository: &Repository) -> usize {
    let active = model::active_v0(&repository.storage, &repository.crypto);
    active.unwrap().len()
}

fn quick(repository: &Repository, settle: Duration) -> OutcomeV0 {
    let bench = Bench::new();
    let workspace = bench.workspace();
    compact_indexes_v0::quick(repository, &workspace, settle).unwrap()
}

fn drop_deleted(repository: &Repository, before: Timestamp, settle: Duration) -> OutcomeV0 {
    let bench = Bench::new();
    let workspace = bench.workspace();
    compact_indexes_v0::drop_deleted(repository, &workspace, before, settle).unwrap()
}

/// Kopia's quick run finds too few blobs to merge, and ours does nothing either: not even a
/// replaced blob goes before the next compaction.
#[test]
fn quick_does_nothing_where_kopia_does_nothing() {
    let golden = Golden::open(GOLDEN);
    let told = golden.what_kopia_does("quick");
    assert_eq!(told["indexBlobsAfter"]["active"]["n"], 5);
    let recorded = &told["tasks"]["index-compaction"];
    assert!(recorded["success"] == true && recorded["compactIndexesStats"].is_null());
    let repository = open_golden(&golden);
    let before = everything(&repository.storage);
    let outcome = quick(&repository, SETTLE_TIME);
    assert!(!outcome.compacted && outcome.report.tasks.is_empty());
    let extra = outcome.extra();
    assert_eq!(extra.kind, "compactIndexesStats");
    assert_eq!(extra.data, Some(serde_json::Value::Null));
    assert_eq!(everything(&repository.storage), before);
}

/// Goal: the index part of Kopia's full run: all blobs into one, what was replaced long ago goes,
/// with its log and its cleanup entry; a tombstone from before the drop time goes, others stay.
#[test]
fn full_with_drop_has_kopias_effect() {
    let golden = Golden::open(GOLDEN);
    let told = golden.what_kopia_does("full");
    let recorded = &told["tasks"]["full-drop-deleted-content"]["compactIndexesStats"];
    let time = recorded["droppedContentsDeletedBefore"].as_str().unwrap();
    let repository = open_golden(&golden);
    let outcome = drop_deleted(&repository, Timestamp::parse(time).unwrap(), SETTLE_TIME);
    assert_eq!(outcome.extra().data.as_ref(), Some(recorded));
    // Kopia's run has a GC before, which writes one index blob more: it is replaced at once.
    let kinds = by_kind(&repository);
    let told_kinds = ["n", "m", "l"].map(|kind| told["blobsAfter"][kind]["count"].as_u64());
    assert_eq!(told_kinds, [Some(7), Some(2), Some(1)]);
    assert_eq!([kinds[&'n'], kinds[&'m'], kinds[&'l']], [6, 2, 1]);
    assert_eq!(active(&repository), 1);
    let view = model::view_v0(&repository.storage, &repository.crypto).unwrap();
    let expected = golden.contents().unwrap();
    assert_eq!(told["droppedFromIndex"].as_array().unwrap().len(), 0);
    assert_eq!(difference(&expected, &rows_of(view)), None);
}

/// Goal: without safety nothing of earlier compactions is left, not even logs.
#[test]
fn without_safety_one_blob_is_left() {
    let golden = Golden::open(GOLDEN);
    let told = golden.what_kopia_does("none");
    let repository = open_golden(&golden);
    let deleted = golden.contents().unwrap();
    let live = deleted.iter().filter(|row| !row.deleted).cloned();
    let live: Vec<_> = live.collect();
    let outcome = drop_deleted(&repository, golden.now(), Duration::ZERO);
    assert!(outcome.compacted, "{}", outcome.report);
    let kinds = by_kind(&repository);
    let told_kind = |kind: &str| told["blobsAfter"][kind]["count"].as_u64().unwrap_or(0);
    assert_eq!((told_kind("n"), told_kind("m"), told_kind("l")), (1, 0, 0));
    let left = ['n', 'm', 'l'].map(|kind| kinds.get(&kind).copied().unwrap_or(0));
    assert_eq!(left, [1, 0, 0]);
    let view = model::view_v0(&repository.storage, &repository.crypto).unwrap();
    assert_eq!(difference(&live, &rows_of(view)), None);
}

/// After an upgrade the old manager's blobs are nobody's: neither compacted nor deleted.
#[test]
fn left_overs_of_an_upgrade_are_left_alone() {
    let golden = Golden::open("upgraded-from-v0");
    let repository = open_golden(&golden);
    assert!(repository.format.epochs.enabled);
    let of_v0 = |repository: &Repository| {
        let mut all = everything(&repository.storage);
        all.retain(|name, _| name.starts_with(['n', 'm', 'l']));
        all
    };
    let before = of_v0(&repository);
    assert!(before.len() > 3);
    let mut options = kit::index_work::options(&[], false);
    options.owner = Identity::Explicit(golden.maintenance_owner().to_owned());
    Bench::new().run(&repository, &options).unwrap();
    assert_eq!(of_v0(&repository), before);
}

/// Goal: nothing is written under a foreign name.
#[test]
fn another_owner_stops_it() {
    let golden = Golden::open(GOLDEN);
    let repository = open_golden(&golden);
    let before = everything(&repository.storage);
    let owner = Identity::Explicit("somebody@else".to_owned());
    let compaction = CompactionV0::drop_deleted(golden.now(), SETTLE_TIME).as_owner(owner);
    let bench = Bench::new();
    let workspace = bench.workspace();
    let error = compaction.run(&repository, &workspace, &mut |_| {});
    assert_eq!(error.unwrap_err().code(), "not-owner");
    assert_eq!(everything(&repository.storage), before);
}

/// Goal: a plan tells what a run does; method: the plan before, the counts after.
#[test]
fn a_plan_tells_what_is_done() {
    let golden = Golden::open(GOLDEN);
    let repository = open_golden(&golden);
    let before = everything(&repository.storage);
    let bench = Bench::new();
    let workspace = bench.workspace();
    let drop_time = golden.now().minus(40 * HOUR);
    let compaction = CompactionV0::drop_deleted(drop_time, SETTLE_TIME);
    let plan = compaction.plan(&repository, &workspace).unwrap();
    assert_eq!(everything(&repository.storage), before);
    assert!(plan.compacts() && plan.compact.chosen.blobs == 5, "{plan}");
    assert!(
        plan.to_string().contains("index-compaction: 5 index blobs"),
        "{plan}"
    );
    let quick = CompactionV0::quick(SETTLE_TIME)
        .plan(&repository, &workspace)
        .unwrap();
    assert!(quick.is_empty(), "{quick}");
    assert!(quick.to_string().contains("fewer than 8"), "{quick}");
    let set = IndexSetV0::load(&repository, &workspace).unwrap();
    assert_eq!((set.active.blobs, set.superseded.blobs), (5, 10));
}

/// Goal: a damaged index blob, log or cleanup entry stops the work before anything is written, and
/// those who look are told; method: one byte flipped in one blob of each kind.
#[test]
fn damage_stops_the_work_and_is_told() {
    for kind in ["n", "m", "l"] {
        let golden = Golden::open(GOLDEN);
        let data = golden.data();
        let repository = open_golden(&golden);
        let used = model::active_v0(&repository.storage, &repository.crypto).unwrap();
        let blobs = data.list_prefix(kind).unwrap();
        let blob = blobs
            .into_iter()
            .find(|blob| kind != "n" || used.contains(&blob.id));
        let blob = blob.unwrap();
        let mut bytes = data.read(&blob.id).unwrap();
        bytes[40] ^= 1;
        data.write(&blob.id, &bytes, blob.time).unwrap();
        let before = everything(&repository.storage);
        let bench = Bench::new();
        let workspace = bench.workspace();
        let dropping = CompactionV0::drop_deleted(golden.now(), SETTLE_TIME);
        let error = dropping
            .run(&repository, &workspace, &mut |_| {})
            .unwrap_err();
        assert_eq!(error.code(), "tag-mismatch", "{kind}");
        assert_eq!(everything(&repository.storage), before, "{kind}");

        let report = verify_index(&repository, &workspace).unwrap();
        let told: Vec<_> = report
            .found
            .findings
            .iter()
            .map(|finding| finding.code)
            .collect();
        assert_eq!(told, ["tag-mismatch"], "{kind}: {report}");
        assert_eq!(
            report.found.findings[0].blob.as_deref(),
            Some(blob.id.as_str())
        );
        let status = status(&repository, &workspace).unwrap();
        let notes = status.v0.as_ref().unwrap().damaged_notes.total;
        assert_eq!(notes, u64::from(kind != "n"), "{kind}: {status}");
    }
}

#[test]
fn the_status_tells_what_is_due() {
    let golden = Golden::open(GOLDEN);
    let repository = open_golden(&golden);
    let bench = Bench::new();
    let status = status(&repository, &bench.workspace()).unwrap();
    let v0 = status.v0.as_ref().unwrap();
    let work = &v0.work[0];
    assert_eq!(
        (work.task, work.due),
        ("index-compaction", false),
        "{status}"
    );
    let because = "5 index blobs are not larger than a pack, fewer than 8; \
                   10 replaced ones wait for the next compaction, an hour at least";
    assert_eq!(work.because, because);
    assert!(
        status
            .to_string()
            .contains("not due index-compaction: 5 index blobs"),
        "{status}"
    );
}
