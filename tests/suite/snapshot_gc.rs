//! Snapshot GC finds the contents in use that Kopia finds, and marks deleted what Kopia marks.
//!
//! The golden repositories tell both, for `--safety=full` and `none`.

use std::collections::BTreeSet;

use careen::kopia::content_id::ContentId;
use careen::repository::active_index::ActiveIndex;
use careen::repository::content_table::ContentTable;
use careen::repository::snapshots::Snapshots;
use careen::repository::used_contents::{UsedContents, mark};
use careen::repository::{Repository, RepositoryError, Workspace};
use kit::golden::{Golden, NAMES};
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
