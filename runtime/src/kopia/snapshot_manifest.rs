//! Snapshot manifests: which directory tree was saved, of which source, when.
//!
//! Every one of them is a root of snapshot GC, complete or not, and rows of retention. A manifest
//! that cannot be read is an error: to skip it, as Kopia does, would make its data collectable.
//! Unknown fields are ignored; a manifest is never rewritten from this form. Memory: its texts.
//! Mirrors Kopia's `snapshot/manifest.go` and `fs/entry.go`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::FormatError;
use super::directory::EntryKind;
use super::object_id::ObjectId;
use super::schedule::{UNSET, go_time};
use crate::clock::Timestamp;

/// The `type` label of the manifests.
pub const MANIFEST_TYPE: &str = "snapshot";

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotManifest {
    /// The manifest's ID.
    pub id: String,
    /// What was saved.
    pub source: SnapshotSource,
    /// What the user says about it.
    pub description: String,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Why it is incomplete (`checkpoint`, `canceled`, …); empty when it is complete.
    pub incomplete_reason: String,
    /// The tree.
    pub root: RootEntry,
    /// The user's tags, with Velero's among them.
    pub tags: BTreeMap<String, String>,
    /// What keeps it from being expired.
    pub pins: Vec<String>,
}

/// Who saved what.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SnapshotSource {
    /// The host.
    #[serde(default, deserialize_with = "null_is_default")]
    pub host: String,
    /// The user.
    #[serde(default, rename = "userName", deserialize_with = "null_is_default")]
    pub user: String,
    /// The directory.
    #[serde(default, deserialize_with = "null_is_default")]
    pub path: String,
}

impl fmt::Display for SnapshotSource {
    /// Kopia's form, `user@host:path`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.user, self.host, self.path)
    }
}

/// The top of the tree: mostly a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootEntry {
    /// What it is.
    pub kind: EntryKind,
    /// Its object.
    pub object: ObjectId,
    /// What lies below it, where the snapshot says so.
    pub summary: Option<DirectorySummary>,
}

/// Counts of a whole tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectorySummary {
    /// Bytes of all files.
    #[serde(default)]
    pub size: i64,
    /// Files.
    #[serde(default)]
    pub files: i64,
    /// Symbolic links.
    #[serde(default)]
    pub symlinks: i64,
    /// Directories.
    #[serde(default)]
    pub dirs: i64,
    /// Entries that could not be read when it was saved.
    #[serde(default, rename = "numFailed")]
    pub failed: i64,
}

impl SnapshotManifest {
    /// Parses the payload of manifest `id`.
    ///
    /// # Errors
    /// JSON of another form, a snapshot without a root or with a root that has no object ID.
    pub fn parse(id: &str, json: &[u8]) -> Result<Self, FormatError> {
        let what = || format!("snapshot manifest {id}");
        let fields: Fields = serde_json::from_slice(json)
            .map_err(|error| FormatError::malformed(what(), error.to_string()))?;
        let root = fields
            .root_entry
            .ok_or_else(|| FormatError::malformed(what(), "no root entry"))?;
        let object = ObjectId::parse(root.obj.as_bytes())
            .map_err(|error| FormatError::malformed(what(), error.to_string()))?;
        Ok(Self {
            id: id.to_owned(),
            source: fields.source.unwrap_or_default(),
            description: fields.description.unwrap_or_default(),
            start: fields.start_time,
            end: fields.end_time,
            incomplete_reason: fields.incomplete.unwrap_or_default(),
            root: RootEntry {
                kind: EntryKind::of(root.kind.as_deref().unwrap_or_default().as_bytes()),
                object,
                summary: root.summ,
            },
            tags: fields.tags.unwrap_or_default(),
            pins: fields.pins.unwrap_or_default(),
        })
    }

    /// Returns whether everything was saved.
    pub fn is_complete(&self) -> bool {
        self.incomplete_reason.is_empty()
    }
}

/// The payload. `null` is as good as nothing, as in Go.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    source: Option<SnapshotSource>,
    description: Option<String>,
    #[serde(default = "unset", with = "go_time")]
    start_time: Timestamp,
    #[serde(default = "unset", with = "go_time")]
    end_time: Timestamp,
    incomplete: Option<String>,
    root_entry: Option<Root>,
    tags: Option<BTreeMap<String, String>>,
    pins: Option<Vec<String>>,
}

/// The root entry as it is written.
#[derive(Deserialize)]
struct Root {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    obj: String,
    summ: Option<DirectorySummary>,
}

fn unset() -> Timestamp {
    UNSET
}

fn null_is_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manifest as Kopia 0.17 writes it for Velero, shortened.
    const VELEROS: &str = r#"{"id":"","source":{"host":"default","userName":"default",
        "path":"/host_pods/1/volumes/a"},"description":"Kopia Uploader",
        "startTime":"2026-09-01T10:00:00.5Z","endTime":"2026-09-01T10:00:01Z",
        "stats":{"totalSize":1},
        "rootEntry":{"name":"a","type":"d","mode":"0755","size":4096,
        "mtime":"2026-09-01T09:00:00Z",
        "obj":"k0f0e0d0c0b0a09080706050403020100","summ":{"size":12,"files":3,"symlinks":1,"dirs":2,
        "maxTime":"2026-09-01T09:00:00Z","numFailed":0}},
        "tags":{"tag:backup":"b1"},"pins":["velero-pin"],"storageStats":{"newData":{}}}"#;

    #[test]
    fn a_snapshot_of_velero() {
        let manifest = SnapshotManifest::parse("id1", VELEROS.as_bytes()).unwrap();
        assert_eq!(manifest.id, "id1");
        assert_eq!(
            manifest.source.to_string(),
            "default@default:/host_pods/1/volumes/a"
        );
        assert_eq!(manifest.description, "Kopia Uploader");
        assert_eq!(manifest.start.to_string(), "2026-09-01T10:00:00.5Z");
        assert_eq!(manifest.end.seconds() - manifest.start.seconds(), 1);
        assert!(manifest.is_complete());
        assert_eq!(manifest.root.kind, EntryKind::Directory);
        let object = manifest.root.object.to_string();
        assert_eq!(object, "k0f0e0d0c0b0a09080706050403020100");
        assert_eq!(manifest.root.summary.unwrap().files, 3);
        assert_eq!(manifest.tags["tag:backup"], "b1");
        assert_eq!(manifest.pins, ["velero-pin"]);
    }

    #[test]
    fn little_is_enough() {
        let json = br#"{"incomplete":"checkpoint","tags":null,"pins":null,"source":null,
            "startTime":"0001-01-01T00:00:00Z","rootEntry":{"type":"f","obj":"Ix00"}}"#;
        let manifest = SnapshotManifest::parse("id1", json).unwrap();
        assert!(!manifest.is_complete());
        assert_eq!((manifest.start, manifest.end), (UNSET, UNSET));
        assert_eq!(manifest.root.kind, EntryKind::File);
    }

    #[test]
    fn what_is_no_snapshot() {
        for (json, reason) in [
            ("{}", "no root entry"),
            (r#"{"rootEntry":null}"#, "no root entry"),
            (r#"{"rootEntry":{"type":"d"}}"#, "not an object ID"),
            (r#"{"rootEntry":{"type":"d","obj":""}}"#, "not an object ID"),
            (r#"{"rootEntry":{"obj":"00"},"pins":5}"#, "invalid type"),
            (r#"{"startTime":"x","rootEntry":{"obj":"00"}}"#, "RFC 3339"),
            ("null", "invalid type"),
            ("{", "EOF"),
        ] {
            let error = SnapshotManifest::parse("id1", json.as_bytes()).unwrap_err();
            let text = error.to_string();
            assert!(
                text.starts_with("snapshot manifest id1") && text.contains(reason),
                "{json}: {text}"
            );
        }
    }
}
