//! Snapshot GC finds the contents in use that Kopia finds, and marks deleted what Kopia marks.
//!
//! The golden repositories tell both, for `--safety=full` and `none`.

mod oracle;

use std::collections::{BTreeMap, BTreeSet};

use careen::kopia::content_id::ContentId;
use careen::maintenance::MaintenanceError;
use careen::maintenance::safety::Safety;
use careen::maintenance::snapshot_gc::{GcOptions, GcPlan, GcReport};
use careen::repository::active_index::ActiveIndex;
use careen::repository::content_table::ContentTable;
use careen::repository::contents::each_content;
use careen::repository::snapshots::Snapshots;
use careen::repository::used_contents::{UsedContents, mark};
use careen::repository::{Repository, RepositoryError, Workspace};
use careen::spill::SpillError;
use kit::golden::{DAMAGED, Golden, NAMES};
use kit::index_work::{Bench, open};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What a mark of a repository gives.
struct Marked {
    table: ContentTable,
    used: UsedContents,
}

fn mark_all(repository: &Repository, workspace: &Workspace) -> Result<Marked, RepositoryError> {
    let active = ActiveIndex::find(repository, workspace)?;
    let table = ContentTable::load(repository, workspace, &active)?;
    let snapshots = Snapshots::load(repository, workspace, &table)?;
    let used = mark(repository, workspace, &table, &snapshots)?;
    Ok(Marked { table, used })
}

fn ids(used: &UsedContents) -> BTreeSet<String> {
    let (mut ids, mut merge) = (BTreeSet::new(), used.merge().unwrap());
    while let Some(key) = merge.next().unwrap() {
        assert!(ids.insert(ContentId::from_key(key).unwrap().to_string()));
    }
    ids
}

/// Compares IDs with a list of a description, which may be given as its digest only.
fn check_ids(ids: &BTreeSet<String>, told: &Value, what: &str) {
    if let Some(list) = told.as_array().or_else(|| told["list"].as_array()) {
        let told: BTreeSet<String> = list
            .iter()
            .map(|id| id.as_str().unwrap().to_owned())
            .collect();
        let more: Vec<_> = ids.difference(&told).take(5).collect();
        let less: Vec<_> = told.difference(ids).take(5).collect();
        assert!(
            more.is_empty() && less.is_empty(),
            "{what}: {more:?} too much, {less:?} missing"
        );
        return;
    }
    assert_eq!(told["count"].as_u64(), Some(ids.len() as u64), "{what}");
    let mut hash = Sha256::new();
    for id in ids {
        hash.update(format!("{id}\n"));
    }
    let digest = hex::encode(hash.finalize());
    assert_eq!(told["sha256"].as_str(), Some(digest.as_str()), "{what}");
}

#[test]
fn contents_in_use_are_kopias() {
    for name in NAMES {
        let golden = Golden::open(name);
        let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
        for bench in [Bench::new(), Bench::new().tiny()] {
            let marked = mark_all(&repository, &bench.workspace()).unwrap();
            let ids = ids(&marked.used);
            check_ids(&ids, &golden.state()["usedContents"], name);
            let told = golden.state()["snapshots"].as_array().unwrap().len() as u64;
            assert_eq!(marked.used.stats.snapshots, told, "{name}");
            assert!(marked.table.contents() > ids.len() as u64);
        }
    }
}

/// Runs the task at the repository's own time.
fn collect(
    repository: &Repository,
    bench: &Bench,
    safety: &Safety,
) -> Result<GcReport, MaintenanceError> {
    let now = repository.clock.now();
    let options = GcOptions {
        start: now,
        now,
        safety,
        owner: "default@default",
        end_early: &|| false,
    };
    let workspace = bench.workspace();
    let active = ActiveIndex::find(repository, &workspace)?;
    let table = ContentTable::load(repository, &workspace, &active)?;
    let plan = GcPlan::make(repository, &workspace, &table, &options)?;
    let tombstones = plan.tombstones();
    let report = plan.execute(repository, &workspace, &options)?;
    assert_eq!(report.tombstones, tombstones);
    Ok(report)
}

/// Goal: a quota that will not do is refused before anything is written, with the number that is
/// needed; and with that number the task ends. Method: all quotas from the table's own bytes on. By
/// chance loading can need more than the task, then nothing is refused: not five times in a row.
#[test]
fn too_little_scratch_is_refused_before_anything_is_written() {
    let refused = (0..5)
        .map(|_| refused_for_lack_of_scratch())
        .find(|refused| *refused > 0);
    let refused = refused.expect("a quota that will not do");
    assert!((1..=2).contains(&refused), "{refused}: mark, then write");
}

/// Collects with ever larger quotas until it ends; returns how many were refused.
fn refused_for_lack_of_scratch() -> u32 {
    let golden = Golden::open("default-0.23.1");
    let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
    let needed_with = |quota_bytes: u64| {
        let bench = Bench::new().scratch_below(quota_bytes);
        match collect(&repository, &bench, &Safety::none()) {
            Err(MaintenanceError::Repository(RepositoryError::Spill(SpillError::Full {
                operation,
                needed,
                free,
                ..
            }))) => Some((operation, needed, free)),
            outcome => {
                outcome.unwrap();
                None
            }
        }
    };
    let before = golden.data().fingerprint().unwrap();
    let (mut quota_bytes, mut refused) = (16 << 10, 0);
    while let Some((operation, needed, free)) = needed_with(quota_bytes) {
        assert_eq!(golden.data().fingerprint().unwrap(), before, "{operation}");
        if operation == "this task" {
            refused += 1;
            assert!(needed > free, "{needed} of {free}");
            quota_bytes += needed - free;
        } else {
            // Loading takes more where both of its workers have got blobs.
            let loading = operation == "pack-names";
            assert!(refused == 0 || loading, "{operation} after it was let pass");
            quota_bytes += 4 << 10;
        }
        assert!(quota_bytes < 1 << 30);
    }
    assert_ne!(golden.data().fingerprint().unwrap(), before);
    refused
}

/// What a reader sees of a content: whether it is deleted, its time, its pack.
type Seen = BTreeMap<String, (bool, i64, String)>;

fn contents(repository: &Repository) -> Seen {
    let mut seen = Seen::new();
    each_content(repository, &Bench::new().workspace(), &mut |row| {
        let entry = (row.deleted, row.timestamp.seconds(), row.pack.to_string());
        seen.insert(row.content.to_string(), entry);
        true
    })
    .unwrap();
    seen
}

/// Returns the IDs whose deleted flag went from `was` to `is`.
fn changed(before: &Seen, after: &Seen, was: bool, is: bool) -> BTreeSet<String> {
    let went = |(id, entry): (&String, &(bool, i64, String))| {
        let then = before.get(id)?;
        (then.0 == was && entry.0 == is).then(|| id.clone())
    };
    after.iter().filter_map(went).collect()
}

fn list(told: &Value) -> BTreeSet<String> {
    let ids = told.as_array().or_else(|| told["list"].as_array());
    let ids = ids.into_iter().flatten();
    ids.map(|id| id.as_str().unwrap().to_owned()).collect()
}

#[test]
fn deleted_and_brought_back_is_what_kopia_deletes_and_brings_back() {
    for name in NAMES {
        for (run, safety) in [("full", Safety::full()), ("none", Safety::none())] {
            let golden = Golden::open(name);
            let told = golden.what_kopia_does(run);
            let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
            let before = contents(&repository);
            let report = collect(&repository, &Bench::new(), &safety).unwrap();
            let what = format!("{name} {run}");
            let told_stats = &told["tasks"]["snapshot-gc"]["snapshotGCStats"];
            assert_eq!(
                &serde_json::to_value(report.stats).unwrap(),
                told_stats,
                "{what}"
            );
            let after = contents(&repository);
            check_ids(
                &changed(&before, &after, true, false),
                &told["undeleted"],
                &what,
            );
            let deleted = changed(&before, &after, false, true);
            if told["newlyDeleted"]["sha256"].is_string() {
                check_ids(&deleted, &told["newlyDeleted"], &what);
                continue;
            }
            // Kopia's run has dropped some of them at once.
            let (stay, gone) = (list(&told["newlyDeleted"]), list(&told["droppedFromIndex"]));
            assert!(
                stay.is_subset(&deleted),
                "{what}: {stay:?}, not {deleted:?}"
            );
            let rest: BTreeSet<_> = deleted.difference(&stay).cloned().collect();
            assert!(rest.is_subset(&gone), "{what}: {rest:?} too much");
            for (id, (_, time, pack)) in after.iter().filter(|(id, _)| deleted.contains(*id)) {
                let (_, old_time, old_pack) = &before[id];
                assert_eq!(
                    *time,
                    golden.now().seconds().max(old_time + 1),
                    "{what}: {id}"
                );
                assert_eq!(pack, old_pack, "{what}: {id} stays where it is");
            }
            let untouched = before.iter().filter(|(id, _)| id.starts_with('m'));
            for (id, entry) in untouched {
                assert_eq!(after.get(id), Some(entry), "{what}: {id}");
            }
        }
    }
}

/// What ends the task in a damaged repository; where nothing does, the damage is none of its
/// business: data that only `verify` reads, blobs that nobody needs.
const DAMAGES: [(&str, Option<&str>); 24] = [
    ("intact", None),
    ("missing-p-pack", None),
    ("missing-q-pack", Some("missing-pack")),
    ("truncated-index", Some("tag-mismatch")),
    ("empty-index", Some("tag-mismatch")),
    ("flipped-index-byte", Some("tag-mismatch")),
    ("missing-index", Some("content-not-found")),
    ("flipped-file-byte", None),
    ("flipped-directory-byte", Some("tag-mismatch")),
    ("flipped-manifest-byte", Some("tag-mismatch")),
    ("missing-index-whole-session", None),
    ("half-written-compaction", None),
    ("xs-shard-missing-xn-gone", Some("content-not-found")),
    ("xn-shard-missing", Some("content-not-found")),
    ("two-xs-sets-unequal", Some("content-not-found")),
    ("schedule-truncated", None),
    ("session-marker-garbage", None),
    ("foreign-files", None),
    ("upgrade-lock", Some("upgrade-lock")),
    ("format-truncated", Some("corrupt-format")),
    ("v0-intact", None),
    ("v0-compaction-output-missing", None),
    ("v0-half-written-compaction", None),
    ("v0-output-and-inputs-missing", Some("content-not-found")),
];

#[test]
fn damage_ends_the_task_and_nothing_is_written() {
    let damaged = Golden::open(DAMAGED);
    assert_eq!(damaged.variant_names().len(), DAMAGES.len());
    for (name, expected) in DAMAGES {
        let variant = damaged.variant(name);
        let before = variant.data().fingerprint().unwrap();
        let result = open(variant.path(), damaged.password(), variant.now())
            .map_err(MaintenanceError::from)
            .and_then(|repository| collect(&repository, &Bench::new(), &Safety::full()));
        let code = result.as_ref().err().map(MaintenanceError::code);
        assert_eq!(code, expected, "{name}: {result:?}");
        if code.is_some() {
            let after = variant.data().fingerprint().unwrap();
            assert!(before == after, "{name}: nothing is written");
        }
    }
}
