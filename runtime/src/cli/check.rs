//! `careen status` and `careen verify`: commands that look and change nothing.
//!
//! What they found goes out as one report; something wrong is a safety stop (exit 60).

use std::fmt;

use serde::Serialize;

use super::Console;
use super::arguments::{StatusArguments, VerifyArguments};
use super::error::{CliError, Exit};
use super::output::Kind;
use super::workspace::workspace;
use crate::maintenance::cycle_plan::PlannedTask;
use crate::maintenance::maintenance_status::{MaintenanceStatus, maintenance_status};
use crate::maintenance::outlook::Outlook;
use crate::maintenance::safety::Safety;
use crate::maintenance::status::{Known, Status, status_and_params};
use crate::repository::verify::{
    ContentOptions, VerifyOptions, verify_contents, verify_index_with, verify_snapshots,
};

/// What the repository is, and how its maintenance stands.
#[derive(Serialize)]
struct WholeStatus {
    #[serde(flatten)]
    status: Status,
    maintenance: Option<MaintenanceStatus>,
    /// Why that could not be read.
    maintenance_problem: Option<String>,
    /// What waits, and what tasks would cost.
    outlook: Option<Outlook>,
    /// Why that is not known.
    outlook_problem: Option<String>,
}

impl fmt::Display for WholeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.status)?;
        match (&self.maintenance, &self.maintenance_problem) {
            (Some(maintenance), _) => writeln!(f, "{maintenance}")?,
            (None, problem) => {
                let problem = problem.as_deref().unwrap_or_default();
                writeln!(f, "maintenance  the schedule cannot be read: {problem}")?;
            }
        }
        match (&self.outlook, &self.outlook_problem) {
            (Some(outlook), _) => outlook.fmt(f),
            (None, problem) => {
                let problem = problem.as_deref().unwrap_or_default();
                write!(f, "space        not known: {problem}")
            }
        }
    }
}

/// Shows the state of a repository.
pub(super) fn status(console: &Console, arguments: &StatusArguments) -> Result<Exit, CliError> {
    let target = console.target("status", &arguments.repository)?;
    let workspace = workspace(console, &target)?;
    let repository = target.open(&workspace.memory, &console.surroundings)?;
    // The index is read for the parameters, and again for what it holds.
    workspace.scratch.open_shelf();
    let known = status_and_params(&repository, &workspace)?;
    let Known { status, params, .. } = known;
    let maintenance = maintenance_status(&repository, params.as_ref());
    let replaced = status.replaced_index();
    let tasks: Vec<PlannedTask> = match &maintenance {
        Ok(known) => known
            .full_cycle
            .iter()
            .chain(&known.quick_only)
            .cloned()
            .collect(),
        Err(_) => Vec::new(),
    };
    let outlook = Outlook::make(&repository, &workspace, &Safety::full(), &tasks, replaced);
    let whole = WholeStatus {
        status,
        outlook_problem: outlook.as_ref().err().map(ToString::to_string),
        outlook: outlook.ok(),
        maintenance_problem: maintenance.as_ref().err().map(ToString::to_string),
        maintenance: maintenance.ok(),
    };
    console.ending.note(|facts| {
        if let Some(maintenance) = &whole.maintenance {
            facts.add_next(maintenance.next_full, maintenance.next_quick);
        }
        if let Some(epochs) = &whole.status.epochs {
            facts.add_epochs(epochs);
        }
        if let Some(outlook) = &whole.outlook {
            facts.add_outlook(outlook);
        }
    });
    console.output.both(Kind::Report, "report", &whole);
    Ok(Exit::Done)
}

/// Checks what was asked for, one after the other, each with its report.
pub(super) fn verify(console: &Console, arguments: &VerifyArguments) -> Result<Exit, CliError> {
    let asked = [
        (arguments.index, " --index"),
        (arguments.snapshots, " --snapshots"),
        (arguments.contents, " --contents"),
    ];
    let asked = asked.iter().filter(|(asked, _)| *asked);
    let options: String = asked.map(|(_, option)| *option).collect();
    let target = console.target(&format!("verify{options}"), &arguments.repository)?;
    let workspace = workspace(console, &target)?;
    let repository = target.open(&workspace.memory, &console.surroundings)?;
    let mut whole = true;
    if arguments.index {
        let options = VerifyOptions {
            packs: arguments.packs,
            ..VerifyOptions::default()
        };
        let report = verify_index_with(&repository, &workspace, &options)?;
        console.output.both(Kind::Report, "report", &report);
        whole &= report.ok();
    }
    if arguments.snapshots {
        let report = verify_snapshots(&repository, &workspace)?;
        console.output.both(Kind::Report, "report", &report);
        whole &= report.found.none();
    }
    if arguments.contents {
        let options = ContentOptions {
            percent: arguments.percent,
            deleted: arguments.include_deleted,
        };
        let report = verify_contents(&repository, &workspace, &options)?;
        console.output.both(Kind::Report, "report", &report);
        whole &= report.found.none();
    }
    Ok(if whole { Exit::Done } else { Exit::SafetyStop })
}
