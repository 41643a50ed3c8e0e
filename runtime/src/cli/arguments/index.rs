//! What `careen index …` can be asked, with the help that people read.
//!
//! No memory cost.

use clap::{Args, Subcommand};

use super::{RepositoryArgument, StrategiesArgument};

/// `careen index …`
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum IndexCommand {
    /// List the index blobs and what Kopia uses each for
    List(ListArguments),
    /// Print the entries of index blobs as they are stored, blob by blob
    Inspect(InspectArguments),
    /// Compact settled epochs, join ranges, advance the epoch, remove what is superseded
    #[command(after_help = COMPACT_HELP)]
    Compact(ChangeArguments),
    /// Repair an index that lost entries to an incomplete compaction, or that is jammed
    #[command(after_help = REPAIR_HELP)]
    Repair(ChangeArguments),
}

const COMPACT_HELP: &str = "\
Kopia's own tasks, in Kopia's order, with Kopia's safety times. Interrupt it whenever you like:
nothing is lost, and the next run goes on. An index set replaces its inputs only after it was
read back complete. A repository from before epochs has one task, index-compaction.

Examples:
  careen index compact /backup --dry-run
  careen index compact --config ~/.config/kopia/repository.config --memory 64MiB
  KOPIA_PASSWORD=... careen index compact /velero/kopia/namespace --owner default@default";

const REPAIR_HELP: &str = "\
Adds what is missing, removes nothing. Look first:
  careen index repair /backup --dry-run";

/// Options of `index list`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ListArguments {
    /// Which repository.
    #[command(flatten)]
    pub(in crate::cli) repository: RepositoryArgument,
}

/// Options of `index inspect`.
#[derive(Debug, Args)]
pub(in crate::cli) struct InspectArguments {
    /// Which repository.
    #[command(flatten)]
    pub(in crate::cli) repository: RepositoryArgument,
    /// Only contents whose ID starts with this
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) content: Option<String>,
    /// Only this index blob, whether readers use it or not
    #[arg(long, value_name = "BLOB")]
    pub(in crate::cli) blob: Option<String>,
    /// Also index blobs that others replace, and those of incomplete sets
    #[arg(long)]
    pub(in crate::cli) all: bool,
}

/// Options of `index compact` and `index repair`.
#[derive(Debug, Default, Args)]
pub(in crate::cli) struct ChangeArguments {
    /// Which repository.
    #[command(flatten)]
    pub(in crate::cli) repository: RepositoryArgument,
    /// Print the plan with its reasons and the memory plan, and stop
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Only this task, may be repeated: a name as in Kopia's schedule, such as compact-single-epoch
    #[arg(long = "task", value_name = "NAME")]
    pub(in crate::cli) tasks: Vec<String>,
    /// Also take epochs that writers may still write to; only when no other client is connected
    #[arg(long)]
    pub(in crate::cli) unsettled: bool,
    /// Use this strategy instead of the built-in one: splitting=FILE or splitting=FILE@blake3:HEX
    ///
    /// With a digest the file is refused unless it has exactly this content.
    #[arg(long = "plugin", value_name = "STRATEGY=FILE")]
    pub(in crate::cli) plugins: Vec<String>,
    /// Which strategies file.
    #[command(flatten)]
    pub(in crate::cli) strategies: StrategiesArgument,
}
