//! Rewriting contents and deleting packs have the effect that real Kopia's have.
//!
//! On every golden repository what Kopia's snapshot GC did is done by hand (tombstones, undeletes),
//! then our rewrite, the drop of that run, and our deletion follow; contents, packs and statistics
//! must be those that Kopia left. Where there is a real Kopia, it reads everything afterwards.

mod cycles;
mod damaged;
mod oracle;

use std::collections::{BTreeMap, BTreeSet};

use careen::clock::Timestamp;
use careen::kopia::blob_id::{session_id, xn_prefix};
use careen::kopia::content_id::ContentId;
use careen::kopia::index_blob::ContentFormat;
use careen::kopia::index_builder::{EntryFields, IndexBuilder, NewEntry};
use careen::maintenance::MaintenanceError;
use careen::maintenance::advance_deletion_watermark::advance_deletion_watermark;
use careen::maintenance::compact_indexes_v0::CompactionV0;
use careen::maintenance::delete_unreferenced_packs::{
    DeletePacksOptions, DeletePacksPlan, DeletePacksReport,
};
use careen::maintenance::orphan_packs::Scope;
use careen::maintenance::pack_choice::ShortPacks;
use careen::maintenance::rewrite_contents::{RewriteOptions, RewritePlan, RewriteReport};
use careen::maintenance::safety::Safety;
use careen::repository::active_index::ActiveIndex;
use careen::repository::content_table::ContentTable;
use careen::repository::contents::each_content;
use careen::repository::epochs::EpochState;
use careen::repository::pack_writer::{NewContent, PackWriter, Sealed, next_timestamp};
use careen::repository::sessions::SessionIds;
use careen::repository::{Repository, Workspace};
use kit::contents::ContentRow;
use kit::golden::{Golden, NAMES};
use kit::index_work::{Bench, open};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Rewrites what Kopia would.
pub(crate) fn rewrite(
    repository: &Repository,
    workspace: &Workspace,
    safety: &Safety,
    owner: &str,
) -> Result<RewriteReport, MaintenanceError> {
    let active = ActiveIndex::find(repository, workspace)?;
    let table = ContentTable::load(repository, workspace, &active)?;
    let mut short = ShortPacks;
    let mut options = RewriteOptions {
        kind: None,
        packs: Some(&mut short),
        pack_bytes_max: repository.format.max_pack_size,
        format_version: None,
        wrong_kind: false,
        safety,
        now: repository.clock.now(),
        owner,
        end_early: &|| false,
    };
    let plan = RewritePlan::make(workspace, &table, &mut options)?;
    plan.execute(repository, workspace, &table, &options)
}

/// Deletes what Kopia would.
pub(crate) fn delete(
    repository: &Repository,
    workspace: &Workspace,
    safety: &Safety,
    scope: Scope,
) -> Result<DeletePacksReport, MaintenanceError> {
    let sessions = SessionIds::list(repository)?;
    let active = ActiveIndex::find(repository, workspace)?;
    let table = ContentTable::load(repository, workspace, &active)?;
    let options = DeletePacksOptions {
        scope,
        sessions: &sessions,
        safety,
        maintenance_start: repository.clock.now(),
        accept_unexplained: false,
        still_ours: &|| Ok(()),
    };
    let plan = DeletePacksPlan::make(repository, workspace, &active, &table, &options)?;
    plan.execute(repository, workspace, &options)
}

/// One run of Kopia's on a golden repository, and the same by us.
struct Run<'g> {
    golden: &'g Golden,
    name: String,
    told: &'g Value,
    repository: Repository,
    workspace: Workspace,
    before: BTreeMap<String, ContentRow>,
}

impl<'g> Run<'g> {
    fn new(golden: &'g Golden, bench: &Bench, run: &str) -> Self {
        let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
        let workspace = bench.workspace();
        let before = contents(&repository, &workspace);
        Self {
            golden,
            name: format!("{} {run}", golden.name()),
            told: golden.what_kopia_does(run),
            repository,
            workspace,
            before,
        }
    }

    /// Does what snapshot GC did, as far as the outcome tells it.
    fn collect_garbage(&self) {
        let mut tombstones = self.ids("newlyDeleted");
        let dropped = self.ids("droppedFromIndex");
        tombstones.extend(dropped.into_iter().filter(|id| !self.before[id].deleted));
        let version = self.repository.format.index_version;
        let mut builder = IndexBuilder::new(version, self.repository.key_bytes());
        for id in &tombstones {
            let row = &self.before[id];
            let entry = NewEntry {
                fields: EntryFields {
                    timestamp_seconds: next_timestamp(self.golden.now(), row.time_seconds),
                    deleted: true,
                    pack_offset: row.offset as u32,
                    packed_length: row.packed_length as u32,
                    original_length: row.length as u32,
                },
                pack_name: row.pack.as_bytes(),
                format: self.format(row),
            };
            builder
                .add(ContentId::parse(id).unwrap().key(), entry)
                .unwrap();
        }
        if !builder.is_empty() {
            let session = session_id([7; 8], self.golden.now());
            let prefix = if self.repository.format.epochs.enabled {
                let state = EpochState::load(&self.repository.storage).unwrap();
                xn_prefix(state.write_epoch)
            } else {
                "n".to_owned()
            };
            let (plain, mut sealed) = (builder.build(None).unwrap(), Vec::new());
            let suffix = format!("{session}-c1");
            let crypto = &self.repository.crypto;
            let name = crypto.seal(&prefix, Some(&suffix), &plain, [9; 12], &mut sealed);
            let put = careen::blob::PutOptions::default();
            let storage = &self.repository.storage;
            storage
                .put_bytes(&name.as_str().into(), &sealed, &put)
                .unwrap();
        }
        self.undelete();
    }

    fn undelete(&self) {
        let owner = self.golden.maintenance_owner();
        let mut writer = PackWriter::new(&self.repository, &self.workspace, owner).unwrap();
        for id in self.ids("undeleted") {
            let row = &self.before[&id];
            let mut bytes = vec![0; row.packed_length as usize];
            let pack = row.pack.as_str().into();
            let storage = &self.repository.storage;
            assert_eq!(
                storage.get(&pack, row.offset, &mut bytes).unwrap(),
                bytes.len()
            );
            let key = ContentId::parse(&id).unwrap();
            let content = NewContent {
                key: key.key(),
                timestamp_seconds: next_timestamp(self.golden.now(), row.time_seconds),
                deleted: false,
                original_length: row.length as u32,
                format: self.format(row),
            };
            writer.append(&content, Sealed::Bytes(&bytes)).unwrap();
        }
        writer.finish().unwrap();
    }

    fn format(&self, row: &ContentRow) -> ContentFormat {
        ContentFormat {
            compression_header_id: row.compression as u32,
            format_version: self.repository.format.version as u8,
            encryption_key_id: 0,
        }
    }

    /// Forgets deleted contents as the run did.
    fn drop_deleted(&self) {
        let stats = self.task("full-drop-deleted-content", "compactIndexesStats");
        let Some(time) = stats["droppedContentsDeletedBefore"].as_str() else {
            return;
        };
        let before = Timestamp::parse(time).unwrap();
        if self.repository.format.epochs.enabled {
            let state = EpochState::load(&self.repository.storage).unwrap();
            let _ = advance_deletion_watermark(
                &self.repository,
                state.watermark_seconds,
                before.seconds(),
            );
        } else {
            let settle = std::time::Duration::from_secs(3600);
            let compaction = CompactionV0::drop_deleted(before, settle);
            let (repository, workspace) = (&self.repository, &self.workspace);
            compaction.run(repository, workspace, &mut |_| {}).unwrap();
        }
    }

    fn task(&self, task: &str, stats: &str) -> Value {
        self.told["tasks"][task][stats].clone()
    }

    /// Returns the IDs of a list that is short enough to be told.
    fn ids(&self, list: &str) -> BTreeSet<String> {
        match &self.told[list] {
            Value::Array(ids) => ids
                .iter()
                .map(|id| id.as_str().unwrap().to_owned())
                .collect(),
            Value::Object(told) => self.guess(list, told),
            _ => BTreeSet::new(),
        }
    }

    /// A long list is told by its digest; contents that were dropped are the tombstones of before.
    fn guess(&self, list: &str, told: &serde_json::Map<String, Value>) -> BTreeSet<String> {
        let ids = self
            .before
            .values()
            .filter(|row| row.deleted)
            .map(|row| row.id.clone());
        let ids: BTreeSet<String> = ids.collect();
        let fits = told["sha256"].as_str() == Some(&digest(&ids));
        assert!(fits, "{}: {list} is not told", self.name);
        ids
    }

    /// Compares a set with what is told of it.
    fn compare(&self, what: &str, ours: &BTreeSet<String>) {
        match &self.told[what] {
            Value::Array(told) => {
                let told: BTreeSet<String> = told
                    .iter()
                    .map(|id| id.as_str().unwrap().to_owned())
                    .collect();
                assert_eq!(ours, &told, "{}: {what}", self.name);
            }
            told => {
                assert_eq!(told["count"], ours.len(), "{}: {what}", self.name);
                assert_eq!(told["sha256"], digest(ours), "{}: {what}", self.name);
            }
        }
    }
}

fn digest(ids: &BTreeSet<String>) -> String {
    let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
    hex::encode(Sha256::digest(lines))
}

/// Returns all contents as readers see them.
pub(crate) fn contents(
    repository: &Repository,
    workspace: &Workspace,
) -> BTreeMap<String, ContentRow> {
    let mut rows = BTreeMap::new();
    each_content(repository, workspace, &mut |row| {
        let row = ContentRow {
            id: row.content.to_string(),
            deleted: row.deleted,
            time_seconds: row.timestamp.seconds(),
            length: row.original_length.into(),
            packed_length: row.packed_length.into(),
            pack: row.pack.to_string(),
            offset: row.pack_offset.into(),
            compression: row.compression_header_id.into(),
        };
        rows.insert(row.id.clone(), row);
        true
    })
    .unwrap();
    rows
}

/// Goal: the tasks of one run of Kopia's, one after the other, with Kopia's numbers.
fn like_kopia(name: &str, which: &str, safety: &Safety) {
    let golden = Golden::open(name);
    let bench = Bench::new();
    let run = Run::new(&golden, &bench, which);
    let (repository, workspace) = (&run.repository, &run.workspace);
    let blobs_before: BTreeSet<String> = golden
        .data()
        .list()
        .unwrap()
        .into_iter()
        .map(|blob| blob.id)
        .collect();
    run.collect_garbage();
    let told = run.task("full-rewrite-contents", "rewriteContentsStats");
    if !told.is_null() {
        let report = rewrite(repository, workspace, safety, golden.maintenance_owner()).unwrap();
        let ours = serde_json::to_value(report.stats).unwrap();
        assert_eq!(ours, told, "{}", run.name);
    }
    run.drop_deleted();
    let told = run.task("full-delete-blobs", "deleteUnreferencedPacksStats");
    if !told.is_null() {
        let report = delete(repository, workspace, safety, Scope::Full).unwrap();
        assert_eq!(report.unexplained, 0, "{}", run.name);
        let mut ours = serde_json::to_value(report.stats).unwrap();
        let sizes = ["unreferencedTotalSize", "deletedTotalSize"];
        for size in sizes {
            ours[size] = told[size].clone();
        }
        assert_eq!(ours, told, "{}", run.name);
    }
    compare_outcome(&run, &blobs_before);
}

fn compare_outcome(run: &Run<'_>, blobs_before: &BTreeSet<String>) {
    let after = contents(&run.repository, &run.workspace);
    let moved = after
        .iter()
        .filter(|(id, row)| run.before[*id].pack != row.pack);
    run.compare("rewritten", &moved.map(|(id, _)| id.clone()).collect());
    let dropped = run.before.keys().filter(|id| !after.contains_key(*id));
    run.compare("droppedFromIndex", &dropped.cloned().collect());
    let blobs: BTreeSet<String> = run
        .golden
        .data()
        .list()
        .unwrap()
        .into_iter()
        .map(|blob| blob.id)
        .collect();
    let gone = |prefixes: &[char]| -> BTreeSet<String> {
        let gone = blobs_before.difference(&blobs);
        gone.filter(|id| id.starts_with(prefixes))
            .cloned()
            .collect()
    };
    run.compare("packsDeleted", &gone(&['p', 'q']));
    let told = run.told["otherBlobsDeleted"].as_array().unwrap();
    let markers: BTreeSet<String> = told
        .iter()
        .map(|id| id.as_str().unwrap().to_owned())
        .filter(|id| id.starts_with('s'))
        .collect();
    assert_eq!(gone(&['s']), markers, "{}", run.name);
    for row in after.values() {
        assert!(
            blobs.contains(&row.pack),
            "{}: {} is gone",
            run.name,
            row.pack
        );
    }
    for prefix in ["p", "q"] {
        let new = blobs
            .difference(blobs_before)
            .filter(|id| id.starts_with(prefix))
            .count();
        let told = run.told["newBlobs"][prefix].as_u64().unwrap_or(0);
        assert_eq!(new as u64, told, "{}: new packs {prefix}", run.name);
    }
}

#[test]
fn full_runs_with_all_margins() {
    for name in NAMES.iter().filter(|name| **name != "lz4-0.22.3") {
        like_kopia(name, "full", &Safety::full());
    }
}

#[test]
fn full_runs_without_margins() {
    for name in NAMES.iter().filter(|name| **name != "lz4-0.22.3") {
        like_kopia(name, "none", &Safety::none());
    }
}
