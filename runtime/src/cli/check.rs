//! `careen status` and `careen verify`: commands that look and change nothing.
//!
//! What they found goes out as one report; something wrong in an index is a safety stop (exit 60).

use super::Console;
use super::arguments::{StatusArguments, VerifyArguments};
use super::error::{CliError, Exit};
use super::output::Kind;
use super::workspace::workspace;
use crate::maintenance::status::status as status_of;
use crate::repository::verify::{VerifyOptions, verify_index_with};

/// Shows the state of a repository.
pub(super) fn status(console: &Console, arguments: &StatusArguments) -> Result<Exit, CliError> {
    let target = console.target("status", &arguments.repository)?;
    let workspace = workspace(console)?;
    let repository = target.open(&workspace.memory, &console.surroundings)?;
    let status = status_of(&repository, &workspace)?;
    console.output.both(Kind::Report, "report", &status);
    Ok(Exit::Done)
}

/// Checks the index.
pub(super) fn verify(console: &Console, arguments: &VerifyArguments) -> Result<Exit, CliError> {
    let target = console.target("verify --index", &arguments.repository)?;
    let workspace = workspace(console)?;
    let repository = target.open(&workspace.memory, &console.surroundings)?;
    let options = VerifyOptions {
        packs: arguments.packs,
        ..VerifyOptions::default()
    };
    let report = verify_index_with(&repository, &workspace, &options)?;
    console.output.both(Kind::Report, "report", &report);
    Ok(if report.ok() {
        Exit::Done
    } else {
        Exit::SafetyStop
    })
}
