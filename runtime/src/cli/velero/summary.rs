//! One exit code for many repositories, and what became of each.
//!
//! The gravest one: what needs a person comes before what mends itself. No memory cost.

use std::fmt;

use serde::Serialize;

use super::super::ending::Failure;
use super::super::error::Exit;
use crate::clock::Timestamp;
use crate::velero::cluster::Cluster;
use crate::velero::events::{self, Happened, Tone};

/// From the gravest to the least.
const ORDER: [Exit; 7] = [
    Exit::SafetyStop,
    Exit::Configuration,
    Exit::Budget,
    Exit::Storage,
    Exit::PartDone,
    Exit::OtherMaintainer,
    Exit::Done,
];

/// Returns the gravest of `exits`; done where there are none.
pub(super) fn gravest(exits: impl IntoIterator<Item = Exit>) -> Exit {
    let exits: Vec<Exit> = exits.into_iter().collect();
    let mut order = ORDER.into_iter();
    order
        .find(|exit| exits.contains(exit))
        .unwrap_or(Exit::Done)
}

/// What became of one repository.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// The `BackupRepository`.
    pub(super) name: String,
    /// Its identity.
    #[serde(skip)]
    pub(super) uid: Option<String>,
    /// Its exit code.
    #[serde(serialize_with = "as_number")]
    pub(super) exit: Exit,
    /// How long it took.
    pub(super) seconds: f64,
    /// Why it was skipped, or how it ended early.
    pub(super) because: Option<String>,
    /// The report of its run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) report: Option<serde_json::Value>,
}

impl Outcome {
    /// Tells it in an Event; that nothing was due is none.
    pub(super) fn tell(&self, cluster: &Cluster, now: Timestamp) {
        let done = |report: &serde_json::Value| !report["cycle"].is_null();
        let (tone, reason) = match self.exit {
            Exit::Done if !self.report.as_ref().is_some_and(done) => return,
            Exit::Done => (Tone::Normal, "Maintained"),
            Exit::PartDone => (Tone::Normal, "MaintenancePartDone"),
            Exit::OtherMaintainer => (Tone::Normal, "MaintenanceSkipped"),
            _ => (Tone::Warning, "MaintenanceFailed"),
        };
        let happened = Happened {
            repository: &self.name,
            uid: self.uid.as_deref(),
            tone,
            reason,
            message: &self.to_string(),
        };
        events::tell(cluster, happened, now);
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's form
fn as_number<S: serde::Serializer>(exit: &Exit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(*exit as u8)
}

/// What became of all.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Repositories.
    pub(super) repositories: usize,
    /// Those that are done.
    pub(super) done: usize,
    /// Those that were skipped.
    pub(super) skipped: usize,
    /// The others.
    pub(super) failed: Vec<String>,
}

impl Summary {
    /// Counts.
    pub(super) fn of(outcomes: &[Outcome]) -> Self {
        let count = |exit: Exit| outcomes.iter().filter(|one| one.exit == exit).count();
        let (done, skipped) = (count(Exit::Done), count(Exit::OtherMaintainer));
        let failed = outcomes.iter();
        let failed = failed.filter(|one| !matches!(one.exit, Exit::Done | Exit::OtherMaintainer));
        Self {
            repositories: outcomes.len(),
            done,
            skipped,
            failed: failed.map(|one| one.name.clone()).collect(),
        }
    }

    /// Returns what the last word says besides the exit code: all in numbers, and of those that
    /// ended with it the first. Nothing where all is well.
    pub(super) fn problem(&self, outcomes: &[Outcome], exit: Exit) -> Option<Failure> {
        let mut gravest = outcomes.iter().filter(|one| one.exit == exit);
        let first = gravest.next().filter(|_| exit != Exit::Done)?;
        Some(Failure {
            code: "repositories-left",
            message: format!("{self}; {first}"),
            hint: "`kubectl describe backuprepository NAME` shows what became of each, \
                   `careen velero explain NAME` what to do."
                .into(),
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, exit, seconds) = (&self.name, self.exit, self.seconds);
        write!(f, "{name}: ")?;
        match exit {
            Exit::Done => f.write_str("done")?,
            Exit::OtherMaintainer => write!(f, "skipped (exit {exit})")?,
            Exit::PartDone => write!(f, "part done (exit {exit})")?,
            _ => write!(f, "failed (exit {exit})")?,
        }
        write!(f, " after {seconds:.0} s")?;
        match &self.because {
            Some(because) => write!(f, ": {because}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, done, skipped) = (self.repositories, self.done, self.skipped);
        write!(f, "{all} repositories: {done} done, {skipped} skipped")?;
        match self.failed.is_empty() {
            true => Ok(()),
            false => write!(f, "; not done: {}", self.failed.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_person_comes_first() {
        use Exit::{Configuration, Done, OtherMaintainer, PartDone, SafetyStop, Storage};
        assert_eq!(gravest([]), Done);
        assert_eq!(gravest([Done, OtherMaintainer]), OtherMaintainer);
        assert_eq!(gravest([OtherMaintainer, PartDone]), PartDone);
        assert_eq!(gravest([Storage, Done, Configuration]), Configuration);
        assert_eq!(gravest([Configuration, SafetyStop]), SafetyStop);
    }
}
