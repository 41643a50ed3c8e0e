//! `careen snapshot …`: list, expire.
//!
//! Snapshots are told row by row, so memory does not grow with their number.

use std::fmt;

use serde::Serialize;

use super::Console;
use super::arguments::{ExpireArguments, SnapshotCommand, SnapshotListArguments};
use super::error::{CliError, Exit};
use super::output::{Form, Kind};
use super::signals::{reason, stop_flag, stoppable};
use super::strategy::{self, Named};
use super::time_zone;
use super::used::Used;
use super::workspace::workspace;
use crate::kopia::source_filter::SourceFilter;
use crate::maintenance::expire_snapshots::{ExpireOptions, ExpirePlan};
use crate::repository::snapshot_listing::{SnapshotFilter, list_snapshots};

/// Runs a snapshot command.
pub(super) fn run(console: &Console, command: &SnapshotCommand) -> Result<Exit, CliError> {
    match command {
        SnapshotCommand::List(arguments) => list(console, arguments),
        SnapshotCommand::Expire(arguments) => expire(console, arguments),
    }
}

fn expire(console: &Console, arguments: &ExpireArguments) -> Result<Exit, CliError> {
    let target = console.target("snapshot expire", &arguments.repository)?;
    if arguments.delete {
        target.refuse_read_only()?;
    }
    let options = ExpireOptions {
        source: source_filter(arguments.source.as_deref()),
        zone: time_zone::local(console.surroundings.time_zone.as_deref()),
        percent_max: arguments.max_expire_percent,
    };
    let stop = stop_flag()?;
    let workspace = workspace(console, &target)?;
    let repository = target.open(&workspace.memory, &console.surroundings)?;
    let repository = stoppable(&stop, &repository, &workspace);
    let used = Used::default();
    let named = Named::new(console, &arguments.plugins, &arguments.strategies, &used);
    let mut retention = strategy::retention(&named, &workspace.memory)?;
    let mut plan = ExpirePlan::make(&repository, &workspace, &mut *retention, &options)
        .map_err(|error| reason(&stop, error))?;
    drop(retention);
    console.progress.clear();
    plan.each(|row| {
        console.output.both(Kind::Row, "row", &row);
        Ok::<(), CliError>(())
    })?;
    let report = match arguments.delete {
        true => plan
            .execute(&repository, &workspace, &target.writer())
            .map_err(|error| reason(&stop, error))?,
        false => {
            if let Some(refused) = plan.refused() {
                return Err(refused.into());
            }
            plan.dry_report()
        }
    };
    let report = used.with(&report);
    console.output.both(Kind::Report, "report", &report);
    Ok(Exit::Done)
}

fn source_filter(source: Option<&str>) -> SourceFilter {
    source.map(SourceFilter::parse).unwrap_or_default()
}

/// What the listing ends with.
#[derive(Serialize)]
struct Totals {
    sources: u64,
    snapshots: u64,
    incomplete_not_shown: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (snapshots, sources) = (self.snapshots, self.sources);
        write!(f, "{snapshots} snapshots of {sources} sources")?;
        match self.incomplete_not_shown {
            0 => Ok(()),
            count => write!(f, "; {count} incomplete ones not shown, --all shows them"),
        }
    }
}

fn list(console: &Console, arguments: &SnapshotListArguments) -> Result<Exit, CliError> {
    let target = console.target("snapshot list", &arguments.repository)?;
    let workspace = workspace(console, &target)?;
    let repository = target.open(&workspace.memory, &console.surroundings)?;
    let filter = SnapshotFilter {
        source: source_filter(arguments.source.as_deref()),
        incomplete: arguments.all,
    };
    let (mut last, mut totals) = (None, (0, 0));
    let hidden = list_snapshots(&repository, &workspace, &filter, &mut |row| {
        if last.as_ref() != Some(&row.source) {
            if console.output.form() == Form::Text {
                console.output.text(&row.source);
            }
            last = Some(row.source.clone());
            totals.0 += 1;
        }
        totals.1 += 1;
        console.output.both(Kind::Row, "row", row);
        !console.output.is_closed()
    })?;
    let totals = Totals {
        sources: totals.0,
        snapshots: totals.1,
        incomplete_not_shown: hidden,
    };
    console.output.both(Kind::Report, "report", &totals);
    Ok(Exit::Done)
}
