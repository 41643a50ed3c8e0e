//! What is neither format nor index: blobs by kind, manifests, snapshots, parameters and schedule
//! of maintenance, sessions, contents in use.

use std::collections::{BTreeMap, BTreeSet};

use careen::kopia::maintenance_params::MaintenanceParams;
use careen::kopia::source_filter::SourceFilter;
use careen::maintenance::status::Status;
use careen::repository::active_index::load_active;
use careen::repository::index_load::{Loaded, Strictness};
use careen::repository::sessions::{SessionInfo, each_marker};
use careen::repository::snapshot_listing::{SnapshotFilter, SnapshotRow, list_snapshots};
use careen::repository::system_contents::{SystemContents, maintenance_params, read_manifests};
use careen::repository::verify::verify_snapshots;
use careen::repository::{Repository, RepositoryError, Workspace};
use kit::cycle::schedule;
use kit::golden::Golden;
use serde_json::{Map, Value, json};

/// Fields of a description's `state`; each is compared here or beside.
const FIELDS: [&str; 11] = [
    "activeSessions",
    "blobs",
    "blobsByPrefix",
    "contents",
    "epochs",
    "format",
    "indexBlobs",
    "maintenance",
    "manifests",
    "snapshots",
    "usedContents",
];

/// Compares all that is left, and that nothing is left out.
pub(super) fn assert_rest(
    repository: &Repository,
    workspace: &Workspace,
    status: &Status,
    golden: &Golden,
) {
    let (state, name) = (golden.state(), golden.name());
    let fields: BTreeSet<&str> = state
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let unknown: Vec<_> = fields
        .iter()
        .filter(|field| !FIELDS.contains(field))
        .collect();
    assert!(unknown.is_empty(), "{name}: {unknown:?} is not compared");
    assert_kinds(repository, &state["blobsByPrefix"], name);
    let strictness = Strictness::ForReading;
    let (_, loaded) = load_active(repository, workspace, None, strictness).unwrap();
    assert_manifests(repository, workspace, &loaded, &state["manifests"], name);
    assert_maintenance(repository, workspace, &loaded, &state["maintenance"], name);
    let all = SourceFilter::default();
    let snapshots = snapshots_of(repository, workspace, all);
    assert_snapshots(&snapshots, &state["snapshots"], name);
    assert_sessions(repository, &state["activeSessions"], name);
    assert_used(repository, workspace, &state["usedContents"], name);
    assert_status(status, state, name);
}

/// Returns the kind of a blob as the descriptions have it.
fn kind(blob: &str) -> &str {
    let bytes = match blob.as_bytes().first() {
        Some(b'k') => blob.len(),
        Some(b'_') => "_log_".len(),
        Some(b'x') => 2,
        _ => 1,
    };
    &blob[..bytes]
}

fn assert_kinds(repository: &Repository, told: &Value, name: &str) {
    let mut kinds: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let shown = repository.storage.for_each("", |blob| {
        let totals = kinds.entry(kind(blob.id.as_str()).to_owned()).or_default();
        totals.0 += 1;
        totals.1 += blob.length;
        Ok::<(), RepositoryError>(())
    });
    shown.unwrap();
    let totals = kinds
        .into_iter()
        .map(|(kind, (count, bytes))| (kind, json!({"count": count, "bytes": bytes})));
    assert_eq!(&Value::Object(totals.collect()), told, "{name}");
}

fn assert_manifests(
    repository: &Repository,
    workspace: &Workspace,
    loaded: &Loaded,
    told: &Value,
    name: &str,
) {
    let system = SystemContents::of_loaded(loaded).unwrap();
    let manifests = read_manifests(repository, workspace, system, &[]).unwrap();
    let mut rows = BTreeMap::new();
    let read = manifests.each(|entry| {
        let modified = entry.modified.to_string();
        let row = json!({"id": entry.id, "labels": entry.labels, "modified": modified});
        assert!(rows.insert(entry.id, row).is_none(), "{name}: each once");
        Ok::<(), RepositoryError>(())
    });
    read.unwrap();
    let told = told.as_array().unwrap().iter();
    let told: BTreeMap<String, Value> = told
        .map(|row| (row["id"].as_str().unwrap().to_owned(), row.clone()))
        .collect();
    assert_eq!(rows, told, "{name}");
}

fn assert_maintenance(
    repository: &Repository,
    workspace: &Workspace,
    loaded: &Loaded,
    told: &Value,
    name: &str,
) {
    let params = maintenance_params(repository, workspace, loaded).unwrap();
    assert_eq!(as_told(&params.unwrap()), told["params"], "{name}");
    let mut schedule = serde_json::to_value(schedule(repository)).unwrap();
    let mut told = told["schedule"].clone();
    for schedule in [&mut schedule, &mut told] {
        // Kopia writes `null` before the first run.
        let runs = schedule["runs"].take();
        schedule["runs"] = runs.as_object().cloned().unwrap_or_default().into();
    }
    assert_eq!(schedule, told, "{name}");
}

/// Returns parameters as Kopia prints them: fields that are not set, too.
fn as_told(params: &MaintenanceParams) -> Value {
    let mut told = json!({"extendObjectLocks": false, "listParallelism": 0});
    let written = serde_json::to_value(params).unwrap();
    let fields: Map<String, Value> = written.as_object().unwrap().clone();
    told.as_object_mut().unwrap().extend(fields);
    told
}

/// Lists the snapshots of some sources, incomplete ones too.
pub(crate) fn snapshots_of(
    repository: &Repository,
    workspace: &Workspace,
    source: SourceFilter,
) -> Vec<SnapshotRow> {
    let filter = SnapshotFilter {
        source,
        incomplete: true,
    };
    let mut rows = Vec::new();
    let hidden = list_snapshots(repository, workspace, &filter, &mut |row| {
        rows.push(row.clone());
        true
    });
    assert_eq!(hidden.unwrap(), 0);
    rows
}

/// Compares a listing with Kopia's, in every field that the description has.
fn assert_snapshots(rows: &[SnapshotRow], told: &Value, name: &str) {
    let told = told.as_array().unwrap();
    assert_eq!(rows.len(), told.len(), "{name}");
    let rows: BTreeMap<&str, &SnapshotRow> = rows.iter().map(|row| (&row.id[..], row)).collect();
    for told in told {
        let row = rows[told["id"].as_str().unwrap()];
        let mut shown = json!({
            "id": row.id,
            "source": row.source,
            "root": row.root,
            "startTime": row.start.to_string(),
        });
        let mut add = |field: &str, value: Value| shown[field] = value;
        if !row.description.is_empty() {
            add("description", row.description.clone().into());
        }
        if !row.tags.is_empty() {
            add("tags", json!(row.tags));
        }
        if !row.pins.is_empty() {
            add("pins", json!(row.pins));
        }
        if let Some(reason) = &row.incomplete_reason {
            add("incomplete", reason.clone().into());
        }
        assert_eq!(&shown, told, "{name}");
        assert!(row.files.is_some() && row.size_bytes.is_some(), "{name}");
    }
}

fn assert_sessions(repository: &Repository, told: &Value, name: &str) {
    let mut rows = Vec::new();
    let read = each_marker(repository, |_, id, info: SessionInfo| {
        assert_eq!(id, info.id, "{name}");
        rows.push(json!({
            "id": id,
            "user": info.username,
            "host": info.hostname,
            "startTime": info.start_time.to_string(),
            "checkpointTime": info.checkpoint_time.to_string(),
        }));
        Ok(())
    });
    read.unwrap();
    rows.sort_by_key(|row| row["id"].to_string());
    assert_eq!(&Value::Array(rows), told, "{name}");
}

/// Counts; which contents they are is compared by the suite of snapshot GC.
fn assert_used(repository: &Repository, workspace: &Workspace, told: &Value, name: &str) {
    let report = verify_snapshots(repository, workspace).unwrap();
    assert!(report.found.none(), "{name}: {report}");
    assert_eq!(told["count"], report.contents_in_use, "{name}");
    assert_eq!(told["deletedInIndex"], report.deleted_in_use, "{name}");
}

/// What `careen status` shows is the same.
fn assert_status(status: &Status, state: &Value, name: &str) {
    let (told, format) = (&state["format"], &status.format);
    let shown = json!({
        "version": format.version,
        "indexVersion": format.index_version,
        "hash": format.hash,
        "encryption": format.encryption,
        "ecc": format.ecc,
        "eccOverheadPercent": format.ecc_overhead_percent,
        "splitter": format.splitter,
        "maxPackSize": format.max_pack_size_bytes,
        "supportsPasswordChange": format.enable_password_change,
        "uniqueID": status.unique_id,
    });
    for (field, value) in shown.as_object().unwrap() {
        assert_eq!(&told[field], value, "{name}: {field}");
    }
    assert_eq!(status.upgrade_lock, None, "{name}");
    assert!(status.ignored_features.is_empty(), "{name}");
    let epochs = status.epochs.as_ref();
    let write_epoch = epochs.map(|epochs| epochs.write_epoch);
    assert_eq!(
        state["epochs"]["writeEpoch"].as_u64(),
        write_epoch,
        "{name}"
    );
}
