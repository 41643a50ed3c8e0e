//! Velero's kinds, with the fields that we read, as 1.14 to 1.18 have them.
//!
//! They are only read. Changes are merge patches of named fields, so that what is not listed here
//! survives. Memory: the fields of one object.
//!
//! Mirrors Velero's `pkg/apis/velero`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::clock::Timestamp;

/// The API group of all of them.
const GROUP: &str = "velero.io";

/// The spec of one of Velero's kinds.
pub trait Kind: Clone + std::fmt::Debug + Default + DeserializeOwned {
    /// Its name.
    const KIND: &'static str;
    /// The version of the API.
    const VERSION: &'static str;
    /// Its name in paths and Roles.
    const PLURAL: &'static str;
    /// What Velero says of an object.
    type Status: Clone + std::fmt::Debug + Default + DeserializeOwned;
}

/// An object of one of Velero's kinds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(bound = "")]
pub struct Object<K: Kind> {
    /// Name, annotations, version.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: K,
    /// What is.
    #[serde(default)]
    pub status: K::Status,
}

impl<K: Kind> Object<K> {
    /// Returns its name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Returns an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        let all = self.metadata.annotations.as_ref()?;
        all.get(key).map(String::as_str)
    }

    /// Returns when it was made.
    pub fn created(&self) -> Option<Timestamp> {
        let time = self.metadata.creation_timestamp.as_ref()?;
        Some(Timestamp::from_seconds(time.0.as_second()))
    }
}

impl<K: Kind> kube::Resource for Object<K> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        K::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

macro_rules! kind {
    ($spec:ty, $status:ty, $kind:literal, $version:literal, $plural:literal) => {
        impl Kind for $spec {
            const KIND: &'static str = $kind;
            const VERSION: &'static str = $version;
            const PLURAL: &'static str = $plural;
            type Status = $status;
        }
    };
}

/// A repository: one for each namespace, storage location and kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupRepositorySpec {
    /// The namespace whose volumes it holds.
    pub volume_namespace: String,
    /// The `BackupStorageLocation` that it lies in.
    pub backup_storage_location: String,
    /// `kopia` or `restic`; empty for restic.
    pub repository_type: String,
    /// How often Velero maintains it, as a Go duration.
    pub maintenance_frequency: String,
}

/// What Velero says of a repository.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupRepositoryStatus {
    /// `New`, `Ready` or `NotReady`.
    pub phase: String,
    /// What is wrong, or how the last maintenance failed.
    pub message: String,
    /// When Velero last counted a maintenance as done.
    pub last_maintenance_time: Option<Timestamp>,
    /// The last ones, oldest first (1.16 and later; three, 25 in 1.19).
    pub recent_maintenance: Vec<RecentMaintenance>,
}

/// One maintenance, as Velero saw it.
#[derive(Clone, Debug, Default, Deserialize, serde::Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct RecentMaintenance {
    /// `Succeeded` or `Failed`.
    pub result: String,
    /// When its Job began.
    pub start_timestamp: Option<Timestamp>,
    /// When its Job ended.
    pub complete_timestamp: Option<Timestamp>,
    /// Why it failed, if Velero found that out.
    pub message: String,
}

kind!(
    BackupRepositorySpec,
    BackupRepositoryStatus,
    "BackupRepository",
    "v1",
    "backuprepositories"
);

/// Where backups are stored.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupStorageLocationSpec {
    /// The store's kind: `aws`, `velero.io/azure`, …
    pub provider: String,
    /// `ReadOnly` or `ReadWrite`; empty for the latter.
    pub access_mode: String,
    /// Options of the store.
    pub config: Option<BTreeMap<String, String>>,
    /// Its own keys; without them the keys of the installation.
    pub credential: Option<SecretKey>,
    /// Bucket and prefix.
    pub object_storage: Option<ObjectStorage>,
}

/// Bucket and prefix.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectStorage {
    /// The bucket, or container.
    pub bucket: String,
    /// The folder in it.
    pub prefix: String,
    /// Certificates (PEM) in base64.
    pub ca_cert: Option<String>,
    /// A Secret with certificates (1.18 and later); comes before `ca_cert`.
    pub ca_cert_ref: Option<SecretKey>,
}

/// A key of a Secret.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct SecretKey {
    /// The Secret.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// What Velero says of a storage location.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupStorageLocationStatus {
    /// `Available` or `Unavailable`.
    pub phase: String,
    /// Why it is unavailable.
    pub message: String,
}

kind!(
    BackupStorageLocationSpec,
    BackupStorageLocationStatus,
    "BackupStorageLocation",
    "v1",
    "backupstoragelocations"
);

/// A backup of some namespaces.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupSpec {
    /// These namespaces; none, or `*`, for all.
    pub included_namespaces: Option<Vec<String>>,
    /// But not these.
    pub excluded_namespaces: Option<Vec<String>>,
    /// Where it goes.
    pub storage_location: String,
}

/// How far something is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Phase {
    /// Empty, `New`, …, `Completed`.
    pub phase: String,
}

kind!(BackupSpec, Phase, "Backup", "v1", "backups");

/// A volume that is backed up file by file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodVolumeBackupSpec {
    /// Where it goes.
    pub backup_storage_location: String,
    /// The pod that has it.
    pub pod: PodReference,
    /// `kopia` or `restic`.
    pub uploader_type: String,
}

/// A pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodReference {
    /// Its namespace.
    pub namespace: String,
}

kind!(
    PodVolumeBackupSpec,
    Phase,
    "PodVolumeBackup",
    "v1",
    "podvolumebackups"
);

/// A volume's snapshot that is carried to the store.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataUploadSpec {
    /// Where it goes.
    pub backup_storage_location: String,
    /// The namespace of the volume.
    pub source_namespace: String,
}

kind!(
    DataUploadSpec,
    Phase,
    "DataUpload",
    "v2alpha1",
    "datauploads"
);

/// A repository of Velero.
pub type BackupRepository = Object<BackupRepositorySpec>;
/// A storage location of Velero.
pub type BackupStorageLocation = Object<BackupStorageLocationSpec>;
/// A backup.
pub type Backup = Object<BackupSpec>;
/// A volume's backup by files.
pub type PodVolumeBackup = Object<PodVolumeBackupSpec>;
/// A volume's backup by snapshot.
pub type DataUpload = Object<DataUploadSpec>;
