//! What `careen snapshot …` can be asked, with the help that people read.
//!
//! No memory cost.

use clap::{Args, Subcommand};

use super::{RepositoryArgument, StrategiesArgument};
use crate::maintenance::expire_snapshots::EXPIRE_PERCENT;

/// `careen snapshot …`
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SnapshotCommand {
    /// List the snapshots by source and time
    List(SnapshotListArguments),
    /// Show what Kopia's retention policies keep and why; with --delete, delete the rest
    #[command(after_help = EXPIRE_HELP)]
    Expire(ExpireArguments),
}

/// Options of `snapshot list`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SnapshotListArguments {
    /// Which repository.
    #[command(flatten)]
    pub(in crate::cli) repository: RepositoryArgument,
    /// Only this source: user@host:/path, user@host, @host or a path
    #[arg(long, value_name = "SOURCE")]
    pub(in crate::cli) source: Option<String>,
    /// Incomplete snapshots too: checkpoints, and those that were canceled
    #[arg(long)]
    pub(in crate::cli) all: bool,
}

/// Options of `snapshot expire`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExpireArguments {
    /// Which repository.
    #[command(flatten)]
    pub(in crate::cli) repository: RepositoryArgument,
    /// Only this source: user@host:/path, user@host, @host or a path
    #[arg(long, value_name = "SOURCE")]
    pub(in crate::cli) source: Option<String>,
    /// Delete the snapshots that are expired; without it nothing is changed
    #[arg(long)]
    pub(in crate::cli) delete: bool,
    /// Largest share of a source's snapshots that may be expired at once, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = EXPIRE_PERCENT,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(in crate::cli) max_expire_percent: u8,
    /// Use this strategy instead of the built-in one: retention=FILE or retention=FILE@blake3:HEX
    ///
    /// With a digest the file is refused unless it has exactly this content.
    #[arg(long = "plugin", value_name = "STRATEGY=FILE")]
    pub(in crate::cli) plugins: Vec<String>,
    /// Which strategies file.
    #[command(flatten)]
    pub(in crate::cli) strategies: StrategiesArgument,
}

const EXPIRE_HELP: &str = "\
The built-in strategy decides as `kopia snapshot expire` does; weeks, and where periods end, are
local time (TZ). Whatever a strategy says, nothing is expired that is pinned, that is Velero's, or
that is the newest complete snapshot of its source: then nothing at all is deleted, exit code 60.

The data of deleted snapshots becomes free in later runs, by Kopia's safety times.

Examples:
  careen snapshot expire /backup
  careen snapshot expire /backup --delete --source user@host:/home
  careen snapshot expire /backup --delete --max-expire-percent 90
  careen snapshot expire /backup --plugin retention=audit.wasm";
