//! Who is at work on a repository: backups of its namespace, and Velero's own maintenance.
//!
//! Maintenance beside a backup is safe, but both want the store and the node; so a run waits for a
//! better time. What was begun more than [`STALE_AFTER`] ago and has not ended is taken for dead:
//! Velero leaves such objects behind when its server restarts. Memory: a page of a listing.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;

use super::cluster::Cluster;
use super::discovery::{FoundRepository, label_value};
use super::error::VeleroError;
use super::kinds::{
    Backup, BackupSpec, DataUpload, DataUploadSpec, Kind, Object, PodVolumeBackup,
    PodVolumeBackupSpec,
};
use crate::clock::Timestamp;

/// The label of Velero's maintenance Jobs.
pub(super) const REPOSITORY_LABEL: &str = "velero.io/repo-name";

/// What has not ended by then never will.
const STALE_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Looks who is at work on `repository`; returns the first that is found, for people.
pub fn at_work(
    cluster: &Cluster,
    repository: &FoundRepository,
    now: Timestamp,
) -> Result<Option<String>, VeleroError> {
    if let Some(job) = maintenance(cluster, repository, now)? {
        return Ok(Some(job));
    }
    let mut found: Option<String> = None;
    let (namespace, location) = (&repository.volume_namespace, &repository.storage_location);
    let mut see = |plural: &str, name: &str, phase: &str| {
        let phase = if phase.is_empty() { "New" } else { phase };
        found.get_or_insert_with(|| format!("{plural} {name} is {phase}"));
    };
    cluster.each(
        PodVolumeBackupSpec::PLURAL,
        "",
        &mut |backup: PodVolumeBackup| {
            let spec = &backup.spec;
            let ours = spec.pod.namespace == *namespace
                && spec.backup_storage_location == *location
                && spec.uploader_type != "restic";
            if ours && is_moving(&backup.status.phase) && is_alive(&backup, now) {
                see("PodVolumeBackup", backup.name(), &backup.status.phase);
            }
            Ok(())
        },
    )?;
    cluster.each(DataUploadSpec::PLURAL, "", &mut |upload: DataUpload| {
        let spec = &upload.spec;
        let ours = spec.source_namespace == *namespace && spec.backup_storage_location == *location;
        if ours && is_moving(&upload.status.phase) && is_alive(&upload, now) {
            see("DataUpload", upload.name(), &upload.status.phase);
        }
        Ok(())
    })?;
    cluster.each(BackupSpec::PLURAL, "", &mut |backup: Backup| {
        let ours = backup.spec.storage_location == *location && covers(&backup.spec, namespace);
        if ours && backup.status.phase == "InProgress" && is_alive(&backup, now) {
            see("Backup", backup.name(), &backup.status.phase);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Returns Velero's unfinished maintenance Job of the repository.
fn maintenance(
    cluster: &Cluster,
    repository: &FoundRepository,
    now: Timestamp,
) -> Result<Option<String>, VeleroError> {
    let selector = format!("{REPOSITORY_LABEL}={}", label_value(&repository.name));
    let mut found = None;
    cluster.each("jobs", &selector, &mut |job: Job| {
        let started = job.metadata.creation_timestamp.as_ref();
        let started = started.map(|time| Timestamp::from_seconds(time.0.as_second()));
        let alive = started.is_none_or(|started| now.since(started) < STALE_AFTER);
        if alive && !has_ended(&job) {
            let name = job.metadata.name.unwrap_or_default();
            found = Some(format!("Velero's maintenance Job {name} is at work"));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Tells whether a Job has ended, well or badly.
pub(super) fn has_ended(job: &Job) -> bool {
    let conditions = job
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| {
        let ended = |kind: &str| matches!(kind, "Complete" | "Failed");
        all.iter()
            .any(|one| one.status == "True" && ended(&one.type_))
    })
}

/// Tells whether data still move in this phase.
fn is_moving(phase: &str) -> bool {
    !matches!(phase, "Completed" | "Failed" | "Canceled")
}

fn is_alive<K: Kind>(object: &Object<K>, now: Timestamp) -> bool {
    let created = object.created();
    created.is_none_or(|created| now.since(created) < STALE_AFTER)
}

fn covers(spec: &BackupSpec, namespace: &str) -> bool {
    let named = |list: &Option<Vec<String>>| {
        let list = list.as_deref().unwrap_or_default();
        list.iter().any(|name| matches(name, namespace))
    };
    let all = spec.included_namespaces.as_ref().is_none_or(Vec::is_empty);
    (all || named(&spec.included_namespaces)) && !named(&spec.excluded_namespaces)
}

/// Tells whether a name of a backup means the namespace: from 1.18 on it may be a pattern, of which
/// `*` and `?` are known here. What else there is shows when data begin to move.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut in_name) = (0, 0);
    // Behind the last star, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(in_name) {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, in_name));
            }
            Some(one) if *one == b'?' || one == byte => {
                at += 1;
                in_name += 1;
            }
            _ => {
                let Some((behind, taken)) = star else {
                    return false;
                };
                star = Some((behind, taken + 1));
                (at, in_name) = (behind, taken + 1);
            }
        }
    }
    pattern
        .get(at..)
        .unwrap_or_default()
        .iter()
        .all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_covers_the_namespaces_that_it_names() {
        let spec = |included: &[&str], excluded: &[&str]| {
            let list = |names: &[&str]| Some(names.iter().map(|n| (*n).to_owned()).collect());
            BackupSpec {
                included_namespaces: list(included),
                excluded_namespaces: list(excluded),
                ..BackupSpec::default()
            }
        };
        assert!(covers(&BackupSpec::default(), "shop"));
        assert!(covers(&spec(&[], &[]), "shop"));
        assert!(covers(&spec(&["*"], &[]), "shop"));
        assert!(covers(&spec(&["a", "shop"], &[]), "shop"));
        assert!(covers(&spec(&["sh*"], &[]), "shop"));
        assert!(covers(&spec(&["*-1", "s?op"], &[]), "shop"));
        assert!(!covers(&spec(&["sh*x"], &[]), "shop"));
        assert!(!covers(&spec(&["a"], &[]), "shop"));
        assert!(!covers(&spec(&[], &["shop"]), "shop"));
    }
}
