//! Options of `careen verify`.
//!
//! No memory cost.

use clap::{ArgGroup, Args};

use super::RepositoryArgument;

/// Options of `verify`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).multiple(true)
    .args(["index", "snapshots", "contents"])))]
pub(in crate::cli) struct VerifyArguments {
    /// Which repository.
    #[command(flatten)]
    pub(in crate::cli) repository: RepositoryArgument,
    /// Read every index blob, check tags, order and entries, and that sets hold all of their inputs
    #[arg(long)]
    pub(in crate::cli) index: bool,
    /// With --index: check that every content lies inside a pack blob that is there; lists packs
    #[arg(long, requires = "index")]
    pub(in crate::cli) packs: bool,
    /// Walk every snapshot: read and parse all directories, find every content in the index and its
    /// pack in the storage, as `kopia snapshot verify`
    #[arg(long)]
    pub(in crate::cli) snapshots: bool,
    /// Read contents: verify their tags, decompress them, compare their hashes with their IDs
    #[arg(long)]
    pub(in crate::cli) contents: bool,
    /// With --contents: read only this share of them, the same ones in every run
    ///
    /// Chosen by content ID, which is a hash; a larger share contains a smaller one. 0.1 is fine.
    #[arg(long, value_name = "N", requires = "contents", default_value_t = 100.0,
          value_parser = parse_percent)]
    pub(in crate::cli) percent: f64,
    /// With --contents: read deleted contents too, as long as the index has them
    #[arg(long, requires = "contents")]
    pub(in crate::cli) include_deleted: bool,
}

/// Shown behind the options.
pub(super) const VERIFY_HELP: &str = "\
Everything that is wrong is counted, the first hundred are named, and the exit code is 60.
--snapshots and --contents need an index that can be read; where it is damaged they stop, and
--index says what it is.

Examples:
  careen verify /backup --index --packs
  careen verify /backup --snapshots
  careen verify /backup --contents --percent 1 --memory 64MiB";

/// Parses a share of more than 0 and up to 100 percent.
fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    let percent = number.filter(|number: &f64| *number > 0.0 && *number <= 100.0);
    percent.ok_or_else(|| "expected more than 0 and at most 100".to_owned())
}
