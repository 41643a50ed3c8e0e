//! Careen reads the golden repositories as real Kopia does.
//!
//! For every repository that Kopia made the whole `state` of its description is what Kopia 0.23.1
//! says: here format, contents (every field and the digest), blobs, index blobs in use and not,
//! epochs; in `golden_state/rest.rs` what remains. The damaged ones are in
//! `golden_state/damaged.rs`.

mod damaged;
pub(crate) mod rest;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use careen::blob::{BlobMetadata, LocalOptions, LocalStore, Storage};
use careen::clock::{ManualClock, SeededRandomness, Timestamp};
use careen::kopia::format_blob::EpochParameters;
use careen::maintenance::cycle_plan::Verdict;
use careen::maintenance::cycle_task::CycleTask;
use careen::maintenance::holdings::Holdings;
use careen::maintenance::maintenance_status::maintenance_status;
use careen::maintenance::orphan_packs::BlobCount;
use careen::maintenance::outlook::Outlook;
use careen::maintenance::safety::Safety;
use careen::maintenance::status::status;
use careen::memory::{MIB, MemoryPlan};
use careen::progress::Silent;
use careen::repository::contents::{ContentRow as Content, each_content};
use careen::repository::epochs::EpochState;
use careen::repository::inspect::{InspectBlobs, InspectOptions, inspect};
use careen::repository::listing::{IndexBlobRow, IndexBlobState, list_index_blobs};
use careen::repository::verify::verify_index;
use careen::repository::{OpenOptions, Repository, RepositoryError, Workspace};
use careen::spill::{Scratch, ScratchOptions};
use kit::contents::{ContentRow, difference, digest};
use kit::golden::{Golden, NAMES};
use kit::kopia::{self, IndexBlob, IndexEntry};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The smallest memory that is promised for every task.
const MEMORY_BYTES: usize = 64 * MIB;

/// Memory of the key derivation: all that Kopia's own takes, which is fastest.
const UNLOCK_BYTES: usize = 72 * MIB;

/// A scratch directory and what works in it.
struct Desk {
    workspace: Workspace,
    _directory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = ScratchOptions {
            parent: directory.path().to_owned(),
            quota_bytes: None,
            tmpfs_allowed: true,
            direct: true,
        };
        let workspace = Workspace {
            scratch: Scratch::create(&options, [1; 8]).unwrap(),
            memory: MemoryPlan::new(MEMORY_BYTES).unwrap(),
            progress: Arc::new(Silent),
        };
        Self {
            workspace,
            _directory: directory,
        }
    }
}

/// Opens as the program does, with the password.
fn open(path: &Path, password: &str, now: Timestamp) -> Result<Repository, RepositoryError> {
    let store = LocalStore::open(path, LocalOptions::default()).unwrap();
    let options = OpenOptions {
        password: password.as_bytes().to_vec(),
        unlock_memory_bytes: UNLOCK_BYTES,
        clock: Arc::new(ManualClock::new(now)),
        randomness: Arc::new(SeededRandomness::new(1)),
    };
    Repository::open(Storage::new(Arc::new(store)), &options)
}

fn contents(repository: &Repository, desk: &Desk) -> Result<Vec<ContentRow>, RepositoryError> {
    let mut rows = Vec::new();
    each_content(repository, &desk.workspace, &mut |content: &Content<'_>| {
        rows.push(ContentRow {
            id: content.content.to_string(),
            deleted: content.deleted,
            time_seconds: content.timestamp.seconds(),
            length: content.original_length.into(),
            packed_length: content.packed_length.into(),
            pack: content.pack.to_string(),
            offset: content.pack_offset.into(),
            compression: content.compression_header_id.into(),
        });
        true
    })?;
    Ok(rows)
}

fn index_blobs(repository: &Repository) -> Vec<IndexBlobRow> {
    let (mut rows, desk) = (Vec::new(), Desk::new());
    list_index_blobs(repository, &desk.workspace, &mut |row| {
        rows.push(row.clone());
        true
    })
    .unwrap();
    assert!(rows.is_sorted_by_key(|row| row.blob.clone()));
    rows
}

/// Returns the names of a description's list, or `None` when it carries only a digest.
fn names(list: &Value) -> Option<BTreeSet<String>> {
    let names = list.as_array()?.iter();
    Some(
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect(),
    )
}

/// Returns the digest of a list of lines as the descriptions define it.
fn lines_digest<'a>(lines: impl Iterator<Item = &'a String>) -> String {
    let mut hash = Sha256::new();
    for line in lines {
        hash.update(format!("{line}\n"));
    }
    hex::encode(hash.finalize())
}

/// Compares names with a list of the description, or with its count and digest.
fn assert_names(found: &BTreeSet<String>, told: &Value, what: &str) {
    match names(told) {
        Some(expected) => assert_eq!(found, &expected, "{what}"),
        None => {
            assert_eq!(told["count"], found.len(), "{what}");
            assert_eq!(told["sha256"], lines_digest(found.iter()), "{what}");
        }
    }
}

#[test]
fn every_golden_repository_reads_as_kopia_reads_it() {
    for name in NAMES {
        let golden = Golden::open(name);
        let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
        let desk = Desk::new();
        assert_format(&repository, &golden);
        assert_blobs(&repository, &golden);
        let rows = contents(&repository, &desk).unwrap();
        assert_contents(&rows, &golden);
        assert_index(&repository, &golden);
        assert_entries(&repository, &desk, &rows, name);
        if let Some(told) = golden.state().get("epochs") {
            assert_epochs(&repository, told, name);
        }
        let status = status(&repository, &desk.workspace).unwrap();
        assert_eq!(
            status.owner.as_deref(),
            Some(golden.maintenance_owner()),
            "{name}"
        );
        assert_eq!(status.owner_problem, None, "{name}");
        assert_eq!(
            status.epochs.is_some(),
            repository.format.epochs.enabled,
            "{name}"
        );
        assert_holdings(&repository, &desk, &rows, name);
        assert_outlook(&repository, &desk, name);
        rest::assert_rest(&repository, &desk.workspace, &status, &golden);
        let report = verify_index(&repository, &desk.workspace).unwrap();
        assert!(report.ok(), "{name}: {report}");
        assert_eq!(
            report.live_contents + report.deleted_contents,
            rows.len() as u64
        );
    }
}

/// What the status counts is what there is.
fn assert_holdings(repository: &Repository, desk: &Desk, rows: &[ContentRow], name: &str) {
    let found = Holdings::find(repository, &desk.workspace, &Safety::full()).unwrap();
    let amount = |wanted: &dyn Fn(&ContentRow) -> bool| {
        let mut amount = BlobCount::default();
        let rows = rows.iter().filter(|row| wanted(row));
        rows.for_each(|row| amount.add(row.packed_length));
        amount
    };
    assert_eq!(found.live, amount(&|row| !row.deleted), "{name}");
    assert_eq!(found.deleted, amount(&|row| row.deleted), "{name}");
    let is_metadata = |row: &ContentRow| row.id.len() % 2 == 1;
    let metadata = amount(&|row| !row.deleted && is_metadata(row));
    assert_eq!(found.metadata, metadata, "{name}");
    let (mut packs, mut unused, mut markers) = (BlobCount::default(), 0, 0);
    let used: BTreeSet<&str> = rows.iter().map(|row| row.pack.as_str()).collect();
    for prefix in ["p", "q", "s"] {
        let listed = repository.storage.for_each(prefix, |blob| {
            match prefix {
                "s" => markers += 1,
                _ => packs.add(blob.length),
            }
            unused += u64::from(prefix != "s" && !used.contains(blob.id.as_str()));
            Ok::<(), RepositoryError>(())
        });
        listed.unwrap();
    }
    assert_eq!(found.packs, packs, "{name}");
    let free = found.unused.count + found.young.count;
    assert_eq!(free, unused + markers, "{name}");
}

/// Every task that is not off has its cost, the index work without epochs too.
fn assert_outlook(repository: &Repository, desk: &Desk, name: &str) {
    let maintenance = maintenance_status(repository, None).unwrap();
    let has_epochs = repository.format.epochs.enabled;
    assert_eq!(maintenance.quick_only.is_empty(), has_epochs, "{name}");
    let tasks = [maintenance.full_cycle, maintenance.quick_only].concat();
    let (workspace, replaced) = (&desk.workspace, BlobCount { count: 1, bytes: 5 });
    let outlook = Outlook::make(repository, workspace, &Safety::full(), &tasks, replaced);
    let outlook = outlook.unwrap();
    let on = tasks.iter().filter(|row| row.verdict != Verdict::Off);
    let told = outlook.costs.iter().map(|cost| cost.task);
    assert!(told.eq(on.map(|row| row.task)), "{name}: {outlook}");
    let last = outlook.waiting.last().unwrap();
    let task = match has_epochs {
        true => CycleTask::DeleteSupersededEpochIndexes,
        false => CycleTask::IndexCompaction,
    };
    assert_eq!((last.task, last.amount), (task, replaced), "{name}");
}

fn assert_format(repository: &Repository, golden: &Golden) {
    let (told, format) = (&golden.state()["format"], &repository.format);
    let epochs: EpochParameters = serde_json::from_value(told["epochParameters"].clone()).unwrap();
    assert_eq!(format.epochs, epochs, "{}", golden.name());
    let read = json!({
        "version": format.version,
        "hash": format.hash,
        "encryption": format.encryption,
        "ecc": format.ecc,
        "eccOverheadPercent": format.ecc_overhead_percent,
        "indexVersion": format.index_version,
        "maxPackSize": format.max_pack_size,
        "splitter": format.splitter,
        "supportsPasswordChange": format.enable_password_change,
        "uniqueID": hex::encode(&format.unique_id),
        "requiredFeatures": null,
        "retentionMode": repository.blob_config.retention_mode.as_deref().unwrap_or_default(),
        "epochParameters": told["epochParameters"],
    });
    assert_eq!(&read, told, "{}", golden.name());
    assert!(format.required_features.is_empty(), "{}", golden.name());
}

fn assert_blobs(repository: &Repository, golden: &Golden) {
    let mut lines = Vec::new();
    let shown = repository.storage.for_each("", |blob| {
        lines.push(format!("{} {} {}", blob.id, blob.length, blob.timestamp));
        Ok::<(), RepositoryError>(())
    });
    shown.unwrap();
    let told = &golden.state()["blobs"];
    let Some(rows) = told.as_array() else {
        assert_eq!(told["count"], lines.len(), "{}", golden.name());
        assert_eq!(
            told["sha256"],
            lines_digest(lines.iter()),
            "{}",
            golden.name()
        );
        return;
    };
    let line = |row: &Value| {
        let text = |column: usize| row[column].as_str().unwrap();
        format!("{} {} {}", text(0), row[1], text(2))
    };
    assert_eq!(
        lines,
        rows.iter().map(line).collect::<Vec<_>>(),
        "{}",
        golden.name()
    );
}

fn assert_contents(rows: &[ContentRow], golden: &Golden) {
    let (name, told) = (golden.name(), &golden.state()["contents"]);
    assert!(
        rows.is_sorted_by(|a, b| a.id < b.id),
        "{name}: each once, in order"
    );
    assert_eq!(
        difference(&golden.contents().unwrap(), rows),
        None,
        "{name}"
    );
    assert_eq!(told["sha256"], digest(rows), "{name}");
    let of = |deleted: bool| rows.iter().filter(move |row| row.deleted == deleted);
    assert_eq!(told["live"], of(false).count(), "{name}");
    assert_eq!(told["deleted"], of(true).count(), "{name}");
    let packed = |deleted| of(deleted).map(|row| row.packed_length).sum::<u64>();
    assert_eq!(told["livePackedBytes"], packed(false), "{name}");
    assert_eq!(told["deletedPackedBytes"], packed(true), "{name}");
    let original = of(false).map(|row| row.length).sum::<u64>();
    assert_eq!(told["liveOriginalBytes"], original, "{name}");
}

fn assert_index(repository: &Repository, golden: &Golden) {
    let rows = index_blobs(repository);
    let (name, told) = (golden.name(), &golden.state()["indexBlobs"]);
    assert!(rows.is_sorted_by(|a, b| a.blob < b.blob), "{name}");
    let of = |active: bool| {
        let rows = rows.iter();
        let rows = rows.filter(|row| (row.state == IndexBlobState::Active) == active);
        rows.map(|row| row.blob.to_string()).collect()
    };
    assert_names(&of(true), &told["active"], name);
    assert_names(&of(false), &told["inactive"], name);
}

/// Every content's winner is the entry of some blob in use, and no entry there is newer.
fn assert_entries(repository: &Repository, desk: &Desk, rows: &[ContentRow], name: &str) {
    let mut entries = BTreeSet::new();
    let options = InspectOptions::default();
    inspect(repository, &desk.workspace, &options, &mut |row| {
        let entry = &row.entry;
        let (content, time) = (entry.content.to_string(), entry.timestamp.seconds());
        let place = (
            entry.pack.to_string(),
            entry.pack_offset,
            entry.packed_length,
        );
        entries.insert((content, time, !entry.deleted, place));
        true
    })
    .unwrap();
    for row in rows {
        let (id, next) = (row.id.clone(), format!("{}~", row.id));
        let start = (id, i64::MIN, false, Default::default());
        let end = (next, i64::MIN, false, Default::default());
        let best = entries.range(start..end).next_back();
        let (_, time, live, place) = best.unwrap_or_else(|| panic!("{name}: {}", row.id));
        assert_eq!((*time, *live), (row.time_seconds, !row.deleted), "{name}");
        let (offset, length) = (u64::from(place.1), u64::from(place.2));
        assert_eq!(
            (&place.0, offset, length),
            (&row.pack, row.offset, row.packed_length)
        );
    }
    let first = &rows[0].id;
    let options = InspectOptions {
        blobs: InspectBlobs::All,
        content_prefix: Some(first.clone()),
    };
    let mut shown = 0;
    inspect(repository, &desk.workspace, &options, &mut |row| {
        assert_eq!(row.entry.content.to_string(), *first, "{name}");
        shown += 1;
        true
    })
    .unwrap();
    assert!(shown > 0, "{name}");
}

fn assert_epochs(repository: &Repository, told: &Value, name: &str) {
    let state = EpochState::load(&repository.storage).unwrap();
    assert_eq!(told["writeEpoch"], state.write_epoch, "{name}");
    let watermark = told["deletionWatermark"].as_str();
    let watermark = watermark.map(|time| Timestamp::parse(time).unwrap().seconds());
    assert_eq!(watermark, state.watermark_seconds, "{name}");
    let set = |blobs: &[BlobMetadata]| blobs.iter().map(|blob| blob.id.to_string()).collect();
    assert_names(&set(&state.markers), &told["markers"], name);
    assert_names(&set(&state.watermarks), &told["watermarkBlobs"], name);
    let singles = told["compactedEpochs"].as_object().unwrap();
    assert_eq!(singles.len(), state.singles.len(), "{name}");
    for (epoch, blobs) in singles {
        let own = state.single(epoch.parse().unwrap()).unwrap();
        assert_names(&set(&own.blobs), blobs, name);
    }
    let ranges = told["rangeCheckpoints"].as_array().unwrap();
    let ends = |range: &Value| {
        (
            range["min"].as_u64().unwrap(),
            range["max"].as_u64().unwrap(),
        )
    };
    assert_eq!(
        ranges.iter().map(ends).collect::<Vec<_>>(),
        state.chain,
        "{name}"
    );
    for range in ranges {
        let own = state.ranges[&ends(range)].complete.first().unwrap();
        assert_names(&set(&own.blobs), &range["blobs"], name);
    }
    let rows = index_blobs(repository);
    for (epoch, blobs) in told["unsettledEpochs"].as_object().unwrap() {
        let epoch = epoch.parse().unwrap();
        let own = rows.iter().filter(|row| {
            row.epochs == Some((epoch, epoch)) && row.blob.as_str().starts_with("xn")
        });
        let own = own.map(|row| row.blob.to_string()).collect();
        assert_names(&own, blobs, name);
        assert!(!state.is_settled(epoch), "{name}");
    }
}

/// Kopia itself, asked now, lists the same index blobs and prints the same entries.
#[test]
fn kopia_prints_the_same_entries() {
    let Some(kopia) = kopia::newest() else {
        return;
    };
    for name in ["old-epochs", "v1-v0index"] {
        let golden = Golden::open(name);
        let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
        let owner = golden.maintenance_owner();
        let client = kopia
            .connect(golden.path(), golden.password(), owner)
            .unwrap();
        let active = index_blobs(&repository).into_iter();
        let active = active.filter(|row| row.state == IndexBlobState::Active);
        let blob = |row: IndexBlobRow| IndexBlob {
            id: row.blob.to_string(),
            length: row.length_bytes,
            time: row.timestamp,
        };
        let mut active: Vec<IndexBlob> = active.map(blob).collect();
        active.sort();
        assert_eq!(active, client.index_list(false).unwrap(), "{name}");
        let (mut entries, desk) = (Vec::new(), Desk::new());
        let options = InspectOptions::default();
        inspect(&repository, &desk.workspace, &options, &mut |row| {
            let entry = &row.entry;
            let time = entry.timestamp.to_string();
            entries.push(IndexEntry {
                content: entry.content.to_string(),
                deleted: entry.deleted,
                time: time.replace('T', " ").replace('Z', ".000 UTC"),
                pack: entry.pack.to_string(),
                offset: entry.pack_offset.into(),
                packed_length: entry.packed_length.into(),
                index_blob: row.blob.to_string(),
            });
            true
        })
        .unwrap();
        entries.sort();
        assert_eq!(entries, client.index_inspect(&[]).unwrap(), "{name}");
    }
}
