//! `careen plugin …`: a strategy of one's own, from the first line to the pin.
//!
//! No memory cost.

mod build;
mod new;
mod project;
mod templates;

use super::Console;
use super::arguments::PluginCommand;
use super::error::{CliError, Exit};

/// Runs a plugin command.
pub(super) fn run(console: &Console, command: &PluginCommand) -> Result<Exit, CliError> {
    match command {
        PluginCommand::New(arguments) => new::run(console, arguments),
        PluginCommand::Build(arguments) => build::run(console, arguments),
    }
}
