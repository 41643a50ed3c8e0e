//! `careen snapshot …`: what is saved in a repository.
//!
//! The listing is told row by row, so its memory does not grow with the repository.

use std::fmt;

use serde::Serialize;

use super::Console;
use super::arguments::{SnapshotCommand, SnapshotListArguments};
use super::error::{CliError, Exit};
use super::output::{Form, Kind};
use super::workspace::workspace;
use crate::repository::snapshot_listing::{SnapshotFilter, list_snapshots};

/// Runs a snapshot command.
pub(super) fn run(console: &Console, command: &SnapshotCommand) -> Result<Exit, CliError> {
    match command {
        SnapshotCommand::List(arguments) => list(console, arguments),
    }
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
    let workspace = workspace(console)?;
    let repository = target.open(&workspace.memory, &console.surroundings)?;
    let filter = SnapshotFilter {
        source: arguments.source.clone(),
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
