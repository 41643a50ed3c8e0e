//! `careen velero takeover` and `giveback`: the maintenance changes hands.
//!
//! Both show first what they would do. One that is refused or fails leaves the others alone.
//! Memory: a step a repository.

use std::fmt;

use serde::Serialize;

use super::super::Console;
use super::super::arguments::ChangeHandsArguments;
use super::super::error::{CliError, Exit};
use super::super::output::Kind;
use super::cluster;
use super::summary::gravest;
use crate::maintenance::watch::StopFlag;
use crate::velero::cluster::Cluster;
use crate::velero::discovery::{choose, repositories};
use crate::velero::events::{self, Happened, Tone};
use crate::velero::kinds::BackupRepository;
use crate::velero::takeover::{Action, Direction, Step, apply, step};

/// What Velero's server is told for repositories to come.
const SERVER_FLAG: &str = "--default-repo-maintain-frequency=87600h";

/// One step, planned or done.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    step: Step,
    /// Whether it was done.
    done: bool,
    /// Why it could not be done.
    error: Option<String>,
}

/// What became of all.
#[derive(Serialize)]
struct Report {
    applied: bool,
    patches: usize,
    refused: usize,
    failed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
}

/// Takes over.
pub(super) fn takeover(
    console: &Console,
    arguments: &ChangeHandsArguments,
) -> Result<Exit, CliError> {
    change(console, arguments, Direction::Takeover)
}

/// Gives back.
pub(super) fn giveback(
    console: &Console,
    arguments: &ChangeHandsArguments,
) -> Result<Exit, CliError> {
    change(console, arguments, Direction::Giveback)
}

fn change(
    console: &Console,
    arguments: &ChangeHandsArguments,
    direction: Direction,
) -> Result<Exit, CliError> {
    let command = match direction {
        Direction::Takeover => "takeover",
        Direction::Giveback => "giveback",
    };
    let cluster = cluster(console, command, &arguments.cluster, &StopFlag::default())?;
    let words = |one: &BackupRepository| [one.name().to_owned(), one.spec.volume_namespace.clone()];
    let all = choose(&cluster, repositories(&cluster)?, &arguments.names, words)?;
    let mut report = Report {
        applied: arguments.apply,
        patches: 0,
        refused: 0,
        failed: 0,
        advice: (direction == Direction::Takeover).then_some(SERVER_FLAG),
    };
    let mut exits = Vec::new();
    for repository in &all {
        let planned = step(direction, repository);
        let row = if arguments.apply {
            match apply(&cluster, direction, repository.name()) {
                Ok(step) => Row {
                    done: matches!(step.action, Action::Patch { .. }),
                    step,
                    error: None,
                },
                Err(error) => {
                    report.failed += 1;
                    let error = CliError::from(error);
                    exits.push(error.exit());
                    Row {
                        step: planned,
                        done: false,
                        error: Some(error.to_string()),
                    }
                }
            }
        } else {
            Row {
                step: planned,
                done: false,
                error: None,
            }
        };
        match row.step.action {
            Action::Patch { .. } => {
                report.patches += usize::from(row.error.is_none());
                if row.done {
                    tell(console, &cluster, direction, repository, &row.step);
                }
            }
            Action::Refused { .. } => {
                report.refused += 1;
                exits.push(Exit::SafetyStop);
            }
            Action::Nothing { .. } => {}
        }
        console.output.both(Kind::Row, "row", &row);
    }
    console.output.both(Kind::Report, "report", &report);
    Ok(gravest(exits))
}

fn tell(
    console: &Console,
    cluster: &Cluster,
    direction: Direction,
    repository: &BackupRepository,
    step: &Step,
) {
    let happened = Happened {
        repository: repository.name(),
        uid: repository.metadata.uid.as_deref(),
        tone: Tone::Normal,
        reason: match direction {
            Direction::Takeover => "MaintenanceTakenOver",
            Direction::Giveback => "MaintenanceGivenBack",
        },
        message: &step.to_string(),
    };
    events::tell(cluster, happened, console.surroundings.clock.now());
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = if self.done { ", done" } else { "" };
        write!(f, "{}{done}", self.step)?;
        match &self.error {
            Some(error) => write!(f, "; not done: {error}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (patches, refused, failed) = (self.patches, self.refused, self.failed);
        match self.applied {
            true => write!(f, "{patches} changed")?,
            false => write!(f, "{patches} would be changed; give --apply to do it")?,
        }
        if refused + failed > 0 {
            write!(f, "; {refused} left as they are, {failed} failed")?;
        }
        match self.advice {
            Some(flag) => write!(
                f,
                "\nFor repositories that Velero makes later, give its server {flag}"
            ),
            None => Ok(()),
        }
    }
}
