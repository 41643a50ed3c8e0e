//! Taking the maintenance of repositories from Velero, and giving it back exactly as it was.
//!
//! Velero maintains a repository when `spec.maintenanceFrequency` has passed since the last time.
//! Taking over sets it to ten years and keeps what was there in an annotation; giving back puts
//! that there again and removes the annotation. Works in every release, since Velero never lowers a
//! value that is set. Each patch names these fields only, and the version of the object that it was
//! made for: where somebody changed it in between, it is read and looked at again. Memory: one step
//! a repository.
//!
//! Mirrors what Velero's `pkg/controller/backup_repository_controller.go` reads.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::discovery::{RepositoryKind, kind_of};
use super::error::VeleroError;
use super::go_duration;
use super::kinds::BackupRepository;

/// The annotation with the frequency that was there before.
pub const BEFORE: &str = "careen/maintenance-frequency-before";

/// The frequency that keeps Velero from maintaining a repository: ten years, as Go writes it, so
/// that a client that writes the object back does not change it.
pub const TAKEN: &str = "87600h0m0s";

/// How often a patch is made again because the object was changed in between; Velero changes its
/// status every few minutes.
const TRIES_MAX: usize = 20;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From Velero to us.
    Takeover,
    /// Back.
    Giveback,
}

/// Whose the maintenance of a repository is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Held {
    /// Velero's.
    Velero,
    /// Nobody's that is known: Velero is told to maintain it so rarely that others must, and there
    /// was no takeover.
    LeftToOthers {
        /// The frequency.
        now: String,
    },
    /// Ours, taken over.
    Careen {
        /// The frequency that was there before.
        before: String,
    },
    /// Taken over, and then somebody changed the frequency.
    Changed {
        /// The frequency that was there before the takeover.
        before: String,
        /// The present one.
        now: String,
    },
}

/// What is to be done with a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The `BackupRepository`.
    pub name: String,
    /// What.
    #[serde(flatten)]
    pub action: Action,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "action")]
pub enum Action {
    /// A patch.
    Patch {
        /// The frequency now.
        from: String,
        /// The frequency then.
        to: String,
        /// The merge patch: exactly these fields, for exactly this version of the object.
        patch: Value,
    },
    /// Nothing: it is so already.
    Nothing {
        /// Why.
        because: String,
    },
    /// It is not ours to change.
    Refused {
        /// Why, and what to do.
        because: String,
    },
}

/// Returns whose the maintenance is.
pub fn held(repository: &BackupRepository) -> Held {
    let now = &repository.spec.maintenance_frequency;
    match repository.annotation(BEFORE) {
        None if is_left_to_others(now) => Held::LeftToOthers { now: now.clone() },
        None => Held::Velero,
        Some(before) if is_taken(now) => Held::Careen {
            before: before.to_owned(),
        },
        Some(before) => Held::Changed {
            before: before.to_owned(),
            now: now.clone(),
        },
    }
}

/// Plans the step of one repository; changes nothing.
pub fn step(direction: Direction, repository: &BackupRepository) -> Step {
    let action = match kind_of(&repository.spec) {
        RepositoryKind::Restic => Action::Nothing {
            because: "it is restic's: Velero goes on maintaining it".to_owned(),
        },
        RepositoryKind::Kopia => match direction {
            Direction::Takeover => takeover(repository),
            Direction::Giveback => giveback(repository),
        },
    };
    Step {
        name: repository.name().to_owned(),
        action,
    }
}

/// Does the step of one repository, which is looked at again where it was changed since; returns
/// what was done. A patch is whole or not there, and one whose answer is lost is looked for.
///
/// # Errors
/// The API's; [`VeleroError::Conflict`] where somebody changes it again and again.
pub fn apply(cluster: &Cluster, direction: Direction, name: &str) -> Result<Step, VeleroError> {
    let mut tries = 0;
    // A patch of which it is not known whether it was made.
    let mut open: Option<Step> = None;
    cluster.persist(|| apply_once(cluster, direction, name, &mut tries, &mut open))
}

fn apply_once(
    cluster: &Cluster,
    direction: Direction,
    name: &str,
    tries: &mut usize,
    open: &mut Option<Step>,
) -> Result<Step, VeleroError> {
    loop {
        let Some(repository) = cluster.get::<BackupRepository>(name)? else {
            let because = "it is not there any more".to_owned();
            let action = Action::Nothing { because };
            let name = name.to_owned();
            return Ok(Step { name, action });
        };
        let step = step(direction, &repository);
        let Action::Patch { patch, .. } = &step.action else {
            let is_done = matches!(step.action, Action::Nothing { .. });
            return Ok(open.take().filter(|_| is_done).unwrap_or(step));
        };
        *tries += 1;
        match cluster.merge::<BackupRepository>(name, patch) {
            Ok(_) => return Ok(step),
            Err(VeleroError::Conflict { .. } | VeleroError::NotFound { .. })
                if *tries < TRIES_MAX => {}
            Err(error) => {
                *open = Some(step);
                return Err(error);
            }
        }
    }
}

fn takeover(repository: &BackupRepository) -> Action {
    let now = &repository.spec.maintenance_frequency;
    match held(repository) {
        Held::Careen { .. } => Action::Nothing {
            because: "it is taken over already".to_owned(),
        },
        // Somebody wants this frequency: giving back will return to it.
        Held::Velero | Held::LeftToOthers { .. } | Held::Changed { .. } => Action::Patch {
            from: now.clone(),
            to: TAKEN.to_owned(),
            patch: patch(repository, TAKEN, &json!(now)),
        },
    }
}

fn giveback(repository: &BackupRepository) -> Action {
    match held(repository) {
        Held::Velero | Held::LeftToOthers { .. } => Action::Nothing {
            because: "it is not taken over".to_owned(),
        },
        Held::Careen { before } => Action::Patch {
            from: repository.spec.maintenance_frequency.clone(),
            to: before.clone(),
            patch: patch(repository, &before, &Value::Null),
        },
        Held::Changed { before, now } => Action::Refused {
            because: format!(
                "somebody set its frequency to {now} after the takeover (before it was {before}); \
                 keep that by removing the annotation {BEFORE}, or take over again first"
            ),
        },
    }
}

fn patch(repository: &BackupRepository, frequency: &str, before: &Value) -> Value {
    json!({
        "metadata": {
            "resourceVersion": repository.metadata.resource_version,
            "annotations": { BEFORE: before },
        },
        "spec": { "maintenanceFrequency": frequency },
    })
}

/// Tells whether a frequency is such that Velero practically never maintains a repository: as
/// `--default-repo-maintain-frequency` of its server sets it where others do that.
pub fn is_left_to_others(frequency: &str) -> bool {
    const MONTH_NANOS: i128 = 30 * 24 * 3600 * 1_000_000_000;
    go_duration::parse(frequency).is_some_and(|nanos| nanos > MONTH_NANOS)
}

fn is_taken(frequency: &str) -> bool {
    frequency == TAKEN || go_duration::parse(frequency) == go_duration::parse(TAKEN)
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Velero => f.write_str("Velero maintains it"),
            Self::LeftToOthers { now } => write!(
                f,
                "left to others: Velero is told to maintain it every {now} only, and it is not \
                 taken over"
            ),
            Self::Careen { before } => write!(f, "taken over from Velero (before: every {before})"),
            Self::Changed { before, now } if is_left_to_others(now) => write!(
                f,
                "left to others: taken over (before: every {before}), then somebody set {now}"
            ),
            Self::Changed { before, now } => write!(
                f,
                "Velero maintains it again: taken over (before: every {before}), then somebody \
                 set {now}"
            ),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.action {
            Action::Patch { from, to, .. } => {
                write!(f, "{name}: maintenanceFrequency {from} -> {to}")
            }
            Action::Nothing { because } => write!(f, "{name}: nothing to do, {because}"),
            Action::Refused { because } => write!(f, "{name}: left as it is, {because}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn repository(kind: &str, frequency: &str, before: Option<&str>) -> BackupRepository {
        let mut repository = BackupRepository::default();
        repository.metadata.name = Some("r".to_owned());
        repository.metadata.resource_version = Some("7".to_owned());
        repository.spec.repository_type = kind.to_owned();
        repository.spec.maintenance_frequency = frequency.to_owned();
        repository.metadata.annotations =
            before.map(|text| BTreeMap::from([(BEFORE.to_owned(), text.to_owned())]));
        repository
    }

    fn patched(action: &Action) -> Option<&Value> {
        match action {
            Action::Patch { patch, .. } => Some(patch),
            _ => None,
        }
    }

    /// Goal: a patch names one field, one annotation and the version, nothing else.
    #[test]
    fn a_takeover_is_one_field_and_one_annotation() {
        let step = step(Direction::Takeover, &repository("kopia", "1h0m0s", None));
        let expected = json!({
            "metadata": { "resourceVersion": "7", "annotations": { BEFORE: "1h0m0s" } },
            "spec": { "maintenanceFrequency": TAKEN },
        });
        assert_eq!(patched(&step.action), Some(&expected));
    }

    #[test]
    fn a_giveback_returns_the_very_text() {
        let taken = repository("kopia", "87600h", Some("90m"));
        let step = step(Direction::Giveback, &taken);
        let expected = json!({
            "metadata": { "resourceVersion": "7", "annotations": { BEFORE: null } },
            "spec": { "maintenanceFrequency": "90m" },
        });
        assert_eq!(patched(&step.action), Some(&expected));
    }

    #[test]
    fn what_is_so_already_is_left() {
        for (direction, frequency, before) in [
            (Direction::Takeover, TAKEN, Some("1h")),
            (Direction::Takeover, "87600h", Some("1h")),
            (Direction::Giveback, "1h", None),
            (Direction::Giveback, TAKEN, None),
        ] {
            let step = step(direction, &repository("kopia", frequency, before));
            assert!(matches!(step.action, Action::Nothing { .. }), "{step}");
        }
        for kind in ["restic", ""] {
            let step = step(Direction::Takeover, &repository(kind, "168h", None));
            assert!(matches!(step.action, Action::Nothing { .. }), "{step}");
        }
    }

    /// Goal: nobody is told that Velero maintains what it does not; method: frequencies with and
    /// without a takeover.
    #[test]
    fn what_velero_never_comes_to_is_not_veleros() {
        for (frequency, before, said) in [
            ("1h0m0s", None, "Velero maintains it"),
            ("720h", None, "Velero maintains it"),
            (
                TAKEN,
                None,
                "left to others: Velero is told to maintain it every 87600h0m0s only",
            ),
            (
                "8760h",
                None,
                "left to others: Velero is told to maintain it every 8760h only",
            ),
            (TAKEN, Some("1h"), "taken over from Velero"),
            ("2h", Some("1h"), "Velero maintains it again"),
            (
                "8760h",
                Some("1h"),
                "left to others: taken over (before: every 1h), then",
            ),
        ] {
            let held = held(&repository("kopia", frequency, before)).to_string();
            assert!(held.starts_with(said), "{frequency}: {held}");
        }
        let left = step(Direction::Takeover, &repository("kopia", TAKEN, None));
        let patch = patched(&left.action).unwrap();
        assert_eq!(patch["metadata"]["annotations"][BEFORE], TAKEN);
    }

    #[test]
    fn a_change_of_somebody_else_is_not_undone() {
        let changed = repository("kopia", "2h", Some("1h"));
        let back = step(Direction::Giveback, &changed);
        assert!(matches!(back.action, Action::Refused { .. }), "{back}");
        let again = step(Direction::Takeover, &changed);
        let patch = patched(&again.action).unwrap();
        assert_eq!(patch["metadata"]["annotations"][BEFORE], "2h");
    }
}
