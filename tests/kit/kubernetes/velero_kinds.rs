//! Velero's kinds as its releases define them, with the fields that matter here.
//!
//! Names, types, enumerations and required fields are Velero's; what is not listed is kept by the
//! API server as it is, except where a release prunes what a later one has
//! (`recentMaintenance`). No kind of Velero's has a status sub-resource.

use serde_json::{Map, Value, json};

/// A release of Velero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32);

/// 1.14 to 1.18.
pub const RELEASES: [Release; 5] = [
    Release(14),
    Release(15),
    Release(16),
    Release(17),
    Release(18),
];

impl Release {
    /// Returns the newest that is known.
    pub fn newest() -> Self {
        RELEASES[RELEASES.len() - 1]
    }
}

/// Returns the definitions of a release.
pub(super) fn definitions(release: Release) -> Vec<Value> {
    vec![
        definition(
            "BackupRepository",
            "v1",
            "backuprepositories",
            backup_repository(release),
        ),
        definition(
            "BackupStorageLocation",
            "v1",
            "backupstoragelocations",
            storage_location(release),
        ),
        definition("Backup", "v1", "backups", backup(release)),
        definition(
            "PodVolumeBackup",
            "v1",
            "podvolumebackups",
            pod_volume_backup(release),
        ),
        definition(
            "DataUpload",
            "v2alpha1",
            "datauploads",
            data_upload(release),
        ),
    ]
}

fn definition(kind: &str, version: &str, plural: &str, [spec, status]: [Value; 2]) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.velero.io") },
        "spec": {
            "group": "velero.io",
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": plural,
                "singular": kind.to_lowercase(),
            },
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "properties": { "spec": spec, "status": status },
                } },
            }],
        },
    })
}

fn backup_repository(release: Release) -> [Value; 2] {
    let mut required = vec![
        "backupStorageLocation",
        "maintenanceFrequency",
        "volumeNamespace",
    ];
    if release < Release(17) {
        required.push("resticIdentifier");
    }
    let mut spec = Map::new();
    for field in [
        "backupStorageLocation",
        "maintenanceFrequency",
        "resticIdentifier",
    ] {
        spec.insert(field.to_owned(), text());
    }
    spec.insert("volumeNamespace".to_owned(), text());
    spec.insert(
        "repositoryType".to_owned(),
        one_of(&["kopia", "restic", ""]),
    );
    if release >= Release(15) {
        spec.insert("repositoryConfig".to_owned(), texts_by_name());
    }
    let mut status = Map::new();
    status.insert("phase".to_owned(), one_of(&["New", "Ready", "NotReady"]));
    status.insert("message".to_owned(), text());
    status.insert("lastMaintenanceTime".to_owned(), time());
    if release >= Release(16) {
        let item = json!({
            "type": "object",
            "properties": {
                "startTimestamp": time(),
                "completeTimestamp": time(),
                "result": one_of(&["Succeeded", "Failed"]),
                "message": text(),
            },
        });
        status.insert(
            "recentMaintenance".to_owned(),
            json!({ "type": "array", "items": item }),
        );
    }
    [
        json!({ "type": "object", "properties": spec, "required": required }),
        json!({ "type": "object", "properties": status }),
    ]
}

fn storage_location(release: Release) -> [Value; 2] {
    let key = json!({
        "type": "object",
        "properties": { "key": text(), "name": text(), "optional": { "type": "boolean" } },
        "required": ["key"],
        "x-kubernetes-map-type": "atomic",
    });
    let mut storage = json!({
        "type": "object",
        "properties": {
            "bucket": text(),
            "prefix": text(),
            "caCert": { "type": "string", "format": "byte" },
        },
        "required": ["bucket"],
    });
    if release >= Release(18) {
        storage["properties"]["caCertRef"] = key.clone();
    }
    [
        json!({
            "type": "object",
            "properties": {
                "provider": text(),
                "accessMode": one_of(&["ReadOnly", "ReadWrite"]),
                "config": texts_by_name(),
                "credential": key,
                "default": { "type": "boolean" },
                "objectStorage": storage,
            },
            "required": ["objectStorage", "provider"],
            "x-kubernetes-preserve-unknown-fields": true,
        }),
        open(json!({ "phase": one_of(&["Available", "Unavailable"]), "message": text() })),
    ]
}

fn backup(release: Release) -> [Value; 2] {
    let names = json!({ "type": "array", "items": text(), "nullable": true });
    let mut phases = vec![
        "New",
        "FailedValidation",
        "InProgress",
        "WaitingForPluginOperations",
        "WaitingForPluginOperationsPartiallyFailed",
        "Finalizing",
        "FinalizingPartiallyFailed",
        "Completed",
        "PartiallyFailed",
        "Failed",
        "Deleting",
    ];
    if release >= Release(18) {
        phases.extend(["Queued", "ReadyToStart"]);
    }
    [
        open(json!({
            "includedNamespaces": names,
            "excludedNamespaces": names,
            "storageLocation": text(),
        })),
        open(json!({ "phase": one_of(&phases), "startTimestamp": time() })),
    ]
}

fn pod_volume_backup(release: Release) -> [Value; 2] {
    let mut phases = vec!["New", "InProgress", "Completed", "Failed"];
    if release >= Release(17) {
        phases.extend(["Accepted", "Prepared", "Canceling", "Canceled"]);
    }
    let mut spec = open(json!({
        "backupStorageLocation": text(),
        "node": text(),
        "pod": open(json!({ "namespace": text(), "name": text() })),
        "repoIdentifier": text(),
        "uploaderType": one_of(&["kopia", "restic", ""]),
        "volume": text(),
    }));
    spec["required"] = json!([
        "backupStorageLocation",
        "node",
        "pod",
        "repoIdentifier",
        "volume"
    ]);
    [
        spec,
        open(json!({ "phase": one_of(&phases), "snapshotID": text() })),
    ]
}

fn data_upload(_: Release) -> [Value; 2] {
    let phases = [
        "New",
        "Accepted",
        "Prepared",
        "InProgress",
        "Canceling",
        "Canceled",
        "Completed",
        "Failed",
    ];
    let mut spec = open(json!({
        "backupStorageLocation": text(),
        "operationTimeout": text(),
        "snapshotType": text(),
        "sourceNamespace": text(),
        "sourcePVC": text(),
    }));
    spec["required"] = json!([
        "backupStorageLocation",
        "operationTimeout",
        "snapshotType",
        "sourceNamespace",
        "sourcePVC"
    ]);
    [
        spec,
        open(json!({ "phase": one_of(&phases), "snapshotID": text() })),
    ]
}

fn open(properties: Value) -> Value {
    json!({
        "type": "object",
        "properties": properties,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn time() -> Value {
    json!({ "type": "string", "format": "date-time", "nullable": true })
}

fn one_of(names: &[&str]) -> Value {
    json!({ "type": "string", "enum": names })
}

fn texts_by_name() -> Value {
    json!({ "type": "object", "additionalProperties": text() })
}
