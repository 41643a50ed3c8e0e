//! Snapshot manifests as Kopia writes them, with the numbers that it lists.
//!
//! No memory cost. Mirrors Kopia's `snapshot/manifest.go`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::directory_json::Entry;
use crate::clock::Timestamp;
use crate::kopia::manifest::{ManifestEntry, TYPE_LABEL};
use crate::kopia::snapshot_manifest::{MANIFEST_TYPE, SnapshotSource};

/// The source of all snapshots: user and host are Velero's.
const USER: &str = "default";
const PATH: &str = "/careen/demo";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    id: &'static str,
    source: SnapshotSource,
    description: &'static str,
    start_time: Timestamp,
    end_time: Timestamp,
    stats: Stats,
    root_entry: &'a Entry<'a>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    total_size: u64,
    excluded_total_size: u64,
    file_count: u64,
    cached_files: u64,
    non_cached_files: u64,
    dir_count: u64,
    excluded_file_count: u64,
    excluded_dir_count: u64,
    ignored_error_count: u64,
    error_count: u64,
}

/// Returns the manifest of the snapshot whose tree is `root`.
pub(super) fn manifest(
    id: String,
    (start, end): (Timestamp, Timestamp),
    root: &Entry<'_>,
) -> ManifestEntry {
    let below = root.summary.unwrap_or_default();
    let manifest = Manifest {
        id: "",
        source: SnapshotSource {
            host: USER.into(),
            user: USER.into(),
            path: PATH.into(),
        },
        description: "made up",
        start_time: start,
        end_time: end,
        stats: Stats {
            total_size: below.size,
            file_count: below.files,
            non_cached_files: below.files,
            dir_count: below.dirs,
            ..Stats::default()
        },
        root_entry: root,
    };
    let json = serde_json::to_string(&manifest).expect("texts and numbers are JSON");
    let payload = RawValue::from_string(json).expect("it was just written as JSON");
    let labels = [
        (TYPE_LABEL, MANIFEST_TYPE),
        ("hostname", USER),
        ("username", USER),
        ("path", PATH),
    ];
    let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
    ManifestEntry::new(id, BTreeMap::from(labels), end, payload)
}
