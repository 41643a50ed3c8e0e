//! What `careen plugin …` can be asked, with the help that people read.
//!
//! No memory cost.

use clap::Subcommand;

use super::plugin_project::{BUILD_HELP, BuildArguments, NEW_HELP, NewArguments};

/// `careen plugin …`
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PluginCommand {
    /// Make a project for a strategy of your own, in Rust, Python or JavaScript
    #[command(after_help = NEW_HELP)]
    New(NewArguments),
    /// Build such a project with its language's tools, and show its pin
    #[command(after_help = BUILD_HELP)]
    Build(BuildArguments),
}
