//! `careen status` and `careen verify`: commands that look and change nothing.

use super::Console;
use super::arguments::{StatusArguments, VerifyArguments};
use super::error::{CliError, Exit};
use super::output::Kind;
use super::pending::{status as status_of, verify as verification};
use super::workspace::workspace;

/// Shows the state of a repository.
pub(super) fn status(console: &Console, arguments: &StatusArguments) -> Result<Exit, CliError> {
    let target = console.target("status", &arguments.repository)?;
    let workspace = workspace(console)?;
    let repository = target.open(&workspace.memory, &console.surroundings)?;
    let status = status_of::status(&repository, &workspace)?;
    console.output.both(Kind::Report, "report", &status);
    Ok(Exit::Done)
}

/// Checks the index.
pub(super) fn verify(console: &Console, arguments: &VerifyArguments) -> Result<Exit, CliError> {
    let target = console.target("verify --index", &arguments.repository)?;
    let workspace = workspace(console)?;
    let repository = target.open(&workspace.memory, &console.surroundings)?;
    let report = verification::verify_index(&repository, &workspace)?;
    console.output.both(Kind::Report, "report", &report);
    Ok(if report.is_sound() {
        Exit::Done
    } else {
        Exit::SafetyStop
    })
}
