//! `careen snapshot …`: expire.
//!
//! Snapshots are told row by row, so memory does not grow with their number.

use super::Console;
use super::arguments::{ExpireArguments, SnapshotCommand};
use super::error::{CliError, Exit};
use super::output::Kind;
use super::workspace::workspace;
use super::{strategy, time_zone};
use crate::maintenance::expire_snapshots::{ExpireOptions, ExpirePlan, SourceFilter};

/// Runs a snapshot command.
pub(super) fn run(console: &Console, command: &SnapshotCommand) -> Result<Exit, CliError> {
    match command {
        SnapshotCommand::Expire(arguments) => expire(console, arguments),
    }
}

fn expire(console: &Console, arguments: &ExpireArguments) -> Result<Exit, CliError> {
    let target = console.target("snapshot expire", &arguments.repository)?;
    if arguments.delete {
        target.refuse_read_only()?;
    }
    let options = ExpireOptions {
        source: arguments
            .source
            .as_deref()
            .map(SourceFilter::parse)
            .unwrap_or_default(),
        zone: time_zone::local(console.surroundings.time_zone.as_deref()),
        percent_max: arguments.max_expire_percent,
    };
    let workspace = workspace(console)?;
    let repository = target.open(&workspace.memory, &console.surroundings)?;
    let mut retention = strategy::retention(&arguments.plugins, &workspace.memory)?;
    let mut plan = ExpirePlan::make(&repository, &workspace, &mut *retention, &options)?;
    drop(retention);
    console.progress.clear();
    plan.each(|row| {
        console.output.both(Kind::Row, "row", &row);
        Ok::<(), CliError>(())
    })?;
    let report = match arguments.delete {
        true => plan.execute(&repository, &workspace, &target.writer())?,
        false => {
            if let Some(refused) = plan.refused() {
                return Err(refused.into());
            }
            plan.dry_report()
        }
    };
    console.output.both(Kind::Report, "report", &report);
    Ok(Exit::Done)
}
