//! Which repositories Velero has, where each is, and what Velero thinks of it.
//!
//! Reads `BackupRepository` and `BackupStorageLocation`; no secret, and not the repositories
//! themselves. One that cannot be reached is found too, with the reason. Memory: a row a
//! repository, at most [`REPOSITORIES_MAX`] of some 2 KiB.

use std::time::Duration;

use serde::Serialize;

use super::cluster::Cluster;
use super::error::VeleroError;
use super::go_duration;
use super::kinds::{
    BackupRepository, BackupRepositorySpec, BackupStorageLocation, BackupStorageLocationSpec, Kind,
    RecentMaintenance,
};
use super::location::{Place, place_of};
use super::takeover::{Held, held, is_left_to_others};
use crate::clock::Timestamp;

/// Most repositories of an installation; 1054 are the most that was heard of.
pub const REPOSITORIES_MAX: usize = 10_000;

/// Most storage locations.
const LOCATIONS_MAX: usize = 10_000;

/// A repository of Velero.
#[derive(Clone, Debug)]
pub struct FoundRepository {
    /// The `BackupRepository`.
    pub name: String,
    /// Its identity.
    pub uid: Option<String>,
    /// The namespace whose volumes it holds.
    pub volume_namespace: String,
    /// The `BackupStorageLocation`.
    pub storage_location: String,
    /// Kopia or restic.
    pub kind: RepositoryKind,
    /// Where it is, or why it cannot be reached.
    pub place: Result<Place, String>,
    /// Whether its storage location is for reading only.
    pub read_only: bool,
    /// Why Velero cannot reach its storage location, if it says so.
    pub unavailable: Option<String>,
    /// What Velero thinks.
    pub velero: VeleroView,
    /// Whose its maintenance is.
    pub held: Held,
}

/// Kopia or restic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RepositoryKind {
    /// Ours.
    Kopia,
    /// Not ours.
    Restic,
}

/// What Velero thinks of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VeleroView {
    /// `New`, `Ready` or `NotReady`; empty before.
    pub phase: String,
    /// What is wrong.
    pub message: String,
    /// How often it is to be maintained.
    pub frequency: String,
    /// When Velero last counted a maintenance as done.
    pub last_maintenance: Option<Timestamp>,
    /// The last ones, oldest first.
    pub recent: Vec<RecentMaintenance>,
}

impl VeleroView {
    /// Returns when Velero's own maintenance is due next, by its record.
    pub fn next_maintenance(&self) -> Option<Timestamp> {
        let time = Duration::from_nanos(u64::try_from(go_duration::parse(&self.frequency)?).ok()?);
        Some(self.last_maintenance?.plus(time))
    }

    /// Tells whether the frequency is such that Velero practically never maintains it.
    pub fn is_left_to_others(&self) -> bool {
        is_left_to_others(&self.frequency)
    }
}

/// Finds all repositories, in the order of their names.
pub fn find(cluster: &Cluster) -> Result<Vec<FoundRepository>, VeleroError> {
    let locations: Vec<BackupStorageLocation> =
        cluster.list(BackupStorageLocationSpec::PLURAL, "", LOCATIONS_MAX)?;
    let repositories = repositories(cluster)?;
    let found = repositories.iter().map(|repository| {
        let name = &repository.spec.backup_storage_location;
        let location = locations.iter().find(|location| location.name() == name);
        row(repository, location)
    });
    Ok(found.collect())
}

/// Reads all `BackupRepository`s, in the order of their names.
pub fn repositories(cluster: &Cluster) -> Result<Vec<BackupRepository>, VeleroError> {
    let mut all: Vec<BackupRepository> =
        cluster.list(BackupRepositorySpec::PLURAL, "", REPOSITORIES_MAX)?;
    all.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(all)
}

/// Keeps those of `names`; all where there are none. A name is a `BackupRepository`'s, or a
/// namespace's that has one.
///
/// # Errors
/// [`VeleroError::UnknownRepository`] for a name that none has.
pub fn choose<R>(
    cluster: &Cluster,
    all: Vec<R>,
    names: &[String],
    words: impl Fn(&R) -> [String; 2],
) -> Result<Vec<R>, VeleroError> {
    if names.is_empty() {
        return Ok(all);
    }
    for name in names {
        if !all.iter().any(|one| words(one).contains(name)) {
            let known: Vec<String> = all.iter().map(|one| words(one)[0].clone()).collect();
            return Err(VeleroError::UnknownRepository {
                name: name.clone(),
                namespace: cluster.namespace().to_owned(),
                known: known.join(", "),
            });
        }
    }
    let wanted = |one: &R| words(one).iter().any(|word| names.contains(word));
    Ok(all.into_iter().filter(wanted).collect())
}

/// Returns what Kopia's Jobs of Velero call a repository in their label: its name, or a hash of it
/// where labels are too short. Mirrors `ReturnNameOrHash` of Velero's `pkg/label/label.go`.
pub fn label_value(name: &str) -> String {
    use sha3::Digest as _;
    const LABEL_BYTES_MAX: usize = 63;
    if name.len() <= LABEL_BYTES_MAX {
        return name.to_owned();
    }
    hex::encode(sha3::Sha3_224::digest(name.as_bytes()))
}

/// Tells whether a repository is Kopia's; a type that is not said is restic's, as in old releases.
pub fn kind_of(spec: &BackupRepositorySpec) -> RepositoryKind {
    match spec.repository_type.as_str() {
        "kopia" => RepositoryKind::Kopia,
        _ => RepositoryKind::Restic,
    }
}

fn row(repository: &BackupRepository, location: Option<&BackupStorageLocation>) -> FoundRepository {
    let (spec, status) = (&repository.spec, &repository.status);
    let kind = kind_of(spec);
    let place = match (kind, location) {
        (RepositoryKind::Restic, _) => Err("it is restic's, not Kopia's".to_owned()),
        (_, None) => Err(format!(
            "its storage location {} is not there: make it again or, if it is gone for good, \
             delete this BackupRepository",
            spec.backup_storage_location
        )),
        (_, Some(location)) => place_of(spec, &location.spec),
    };
    FoundRepository {
        name: repository.name().to_owned(),
        uid: repository.metadata.uid.clone(),
        volume_namespace: spec.volume_namespace.clone(),
        storage_location: spec.backup_storage_location.clone(),
        kind,
        place,
        read_only: location.is_some_and(|location| location.spec.access_mode == "ReadOnly"),
        unavailable: location
            .filter(|location| location.status.phase == "Unavailable")
            .map(|location| location.status.message.clone()),
        velero: VeleroView {
            phase: status.phase.clone(),
            message: status.message.clone(),
            frequency: spec.maintenance_frequency.clone(),
            last_maintenance: status.last_maintenance_time,
            recent: status.recent_maintenance.clone(),
        },
        held: held(repository),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: Velero's Jobs of a repository with a long name are found; method: the hash that
    /// Python's hashlib gives.
    #[test]
    fn labels_are_names_or_hashes() {
        assert_eq!(label_value("shop-default-kopia-x"), "shop-default-kopia-x");
        assert_eq!(label_value(&"a".repeat(63)), "a".repeat(63));
        assert_eq!(label_value(&"a".repeat(64)), HASH);
    }

    const HASH: &str = "ce06309528da04278a8072ca96610a47298cbca3a9b6a0ee7f581316";
}
