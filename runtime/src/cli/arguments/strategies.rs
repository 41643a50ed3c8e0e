//! The option of every command that asks strategies: the file that says which, and how.
//!
//! No memory cost.

use std::path::PathBuf;

use clap::Args;

/// Which strategies file.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct StrategiesArgument {
    /// Strategies file: plugins, their limits and configuration, as TOML [default: what
    /// CAREEN_STRATEGIES names]
    ///
    /// What --plugin names is taken instead of the file's plugin; limits and configuration of the
    /// file are kept.
    #[arg(long = "strategies", value_name = "FILE")]
    pub(in crate::cli) file: Option<PathBuf>,
}
