//! What the program can be asked: subcommands and options, with the help that people read.
//!
//! Options of all commands are accepted before and after the subcommand. The password is never an
//! argument: arguments are visible to every process of the machine. No memory cost.

mod demo;
mod doctor;
mod index;
mod jitter;
#[cfg(feature = "plugins")]
mod plugin;
mod reporting;
mod snapshot;
mod storage;
mod strategies;
#[cfg(feature = "velero")]
mod velero;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::maintenance::expire_snapshots::EXPIRE_PERCENT;

pub(super) use demo::{BACKUPS, BackupShape, DemoArguments, IndexShape};
pub(super) use doctor::DoctorArguments;
pub(super) use index::{ChangeArguments, IndexCommand, InspectArguments, ListArguments};
pub(super) use jitter::{JitterArgument, parse_jitter};
#[cfg(feature = "plugins")]
pub(super) use plugin::{
    BuildArguments, CheckArguments, CompileArguments, CompileLimit, Language, LoadArguments,
    NewArguments, PluginCommand, ProjectStrategy, RecordArguments, ReplayArguments, StrategyName,
    TestArguments, parse_name,
};
pub(super) use reporting::ReportingOptions;
pub(super) use snapshot::{ExpireArguments, SnapshotCommand, SnapshotListArguments};
pub(super) use storage::StorageOptions;
pub(super) use strategies::StrategiesArgument;
#[cfg(feature = "velero")]
pub(super) use velero::{
    ChangeHandsArguments, ClusterArguments, ExplainArguments, VeleroCommand, VeleroListArguments,
    VeleroRunArguments,
};
pub(super) use verify::VerifyArguments;

/// Shown by `--version`; says so where the time can be set, or plugins compile without limits.
pub(super) const VERSION: &str = if cfg!(feature = "test-clock") {
    concat!(
        env!("CARGO_PKG_VERSION"),
        " (test-clock: takes the time from CAREEN_NOW; only for tests)"
    )
} else if cfg!(feature = "compile-in-process") {
    concat!(
        env!("CARGO_PKG_VERSION"),
        " (compile-in-process: compiles plugins without limits; only for fuzzing)"
    )
} else {
    env!("CARGO_PKG_VERSION")
};

const ABOUT: &str = "Maintenance of Kopia repositories that ends, in the memory it is given";

const LONG_ABOUT: &str = "\
Maintenance of Kopia repositories that ends, in the memory it is given.

Kopia keeps the whole index of a repository in memory to compact it. Careen sorts it on disk \
instead: with --memory 64MiB it does the work in a container of 64 MiB, whatever the size of the \
repository. Kopia, and Velero, read and write the repository before, during and after.";

const AFTER_HELP: &str = "\
Start here:
  careen demo                                   see it work on a repository made for it
  careen doctor /backup                         is all set up right? changes nothing
  careen status /backup                         look at a repository; changes nothing
  careen snapshot list /backup                  what is saved in it
  careen plan /backup                           what is due, what would be done, and why
  careen run /backup --memory 64MiB             do it

The repository is a directory (/backup, file:///backup), a place in an object store
(s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX; Velero's prefixes end with a slash:
s3://BUCKET/PREFIX/kopia/NAMESPACE/), or what Kopia's own config file says (--config).
The password is taken from --password-file, from KOPIA_PASSWORD or, with --config, from the
password file that Kopia keeps beside its config.

In a pipe (--json) each line is an object. The last one, \"finished\", has the exit code, the time,
the peak of memory and what was asked of the storage: requests by kind and by what the blobs are,
and in an object store the traffic, every try counted. On a terminal the traffic is one line at the
end.

Exit codes:
   0  done, or nothing was due
  10  part done; run again at the time that is shown
  20  not enough memory or scratch, says how much is needed; or no bytes left of --max-download
  30  the storage failed
  40  somebody else owns the maintenance of this repository
  50  usage, configuration, credentials, or a right that is missing
  60  safety stop: something is not as it must be; nothing was deleted";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "careen", version = VERSION, about = ABOUT, long_about = LONG_ABOUT,
    after_help = AFTER_HELP, max_term_width = 100,
    propagate_version = false, arg_required_else_help = true
)]
pub(super) struct Arguments {
    /// Options of all commands.
    #[command(flatten)]
    pub(super) global: GlobalOptions,
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Options that every command accepts, before or after its name.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of all commands")]
pub(super) struct GlobalOptions {
    /// Memory to live in, as the limit of a container: 64MiB, 1GiB [env: CAREEN_MEMORY; default:
    /// the cgroup's limit, else 128MiB]
    ///
    /// At most 85 % of it is used; the rest is for the kernel and the page cache. The smallest
    /// limit is 32MiB. Where the cgroup's limit is smaller, that is the one.
    #[arg(long, global = true, value_name = "SIZE", value_parser = parse_size)]
    pub(super) memory: Option<usize>,
    /// Directory on a disk for sorted pieces of the index [default: the system's temporary
    /// directory]
    ///
    /// Must not be in memory (tmpfs). Only files of this run are made there, and removed at its
    /// end.
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) scratch: Option<PathBuf>,
    /// Most of the disk that the scratch directory may take: 20GiB [default: what is free]
    #[arg(long, global = true, value_name = "SIZE", value_parser = parse_size)]
    pub(super) scratch_quota: Option<usize>,
    /// Directory with the code of compiled plugins [default: careen in the user's cache directory]
    ///
    /// `careen plugin compile` fills it ahead of time. Only this user may write it.
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) plugin_cache: Option<PathBuf>,
    /// Kopia's config file of the repository, instead of a path
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// File with the repository's password; a newline at its end is ignored
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
    /// Act as this maintenance owner, for example default@default for Velero
    ///
    /// A repository has one owner, who alone maintains it ("kopia maintenance info" shows it).
    /// Without this option we act as the config file's user, or as the recorded owner if that is
    /// default@default or this user on this host.
    #[arg(long, global = true, value_name = "USER@HOST")]
    pub(super) owner: Option<String>,
    /// How to report: tables and bars, or one JSON object a line
    #[arg(long, global = true, value_name = "FORM", value_enum, default_value_t)]
    pub(super) output: OutputForm,
    /// Same as --output json
    #[arg(long, global = true, overrides_with = "no_json")]
    pub(super) json: bool,
    /// Same as --output text
    #[arg(long, global = true, overrides_with = "json")]
    pub(super) no_json: bool,
    /// How object stores are reached.
    #[command(flatten)]
    pub(super) storage: StorageOptions,
    /// What is left behind for others to read.
    #[command(flatten)]
    pub(super) reporting: ReportingOptions,
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputForm {
    /// Text on a terminal, JSON lines in a pipe
    #[default]
    Auto,
    /// Tables, and progress bars where there is a terminal
    Text,
    /// One JSON object a line
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make repositories on the local disk and careen them in 64 MiB: the point in a minute
    Demo(DemoArguments),
    /// Maintain the repository: what is due by Kopia's schedule, or a cycle that is named
    #[command(after_help = RUN_HELP)]
    Run(RunArguments),
    /// Show what a run would do, task by task, and why; changes nothing (same as run --dry-run)
    Plan(CycleArguments),
    /// Look at, compact or repair the index
    #[command(subcommand)]
    Index(IndexCommand),
    /// Show snapshots, or expire them by Kopia's policies
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// A strategy of your own: make it, build it, check and test it, record and replay questions
    #[cfg(feature = "plugins")]
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Velero's repositories: list, maintain, take over, give back, explain
    #[cfg(feature = "velero")]
    #[command(subcommand)]
    Velero(VeleroCommand),
    /// Show the repository: format, owner, epochs, what is due; changes nothing
    Status(StatusArguments),
    /// Look for what keeps maintenance from working, from the server's name to the schedule
    #[command(after_help = doctor::DOCTOR_HELP)]
    Doctor(DoctorArguments),
    /// Check the repository: index, snapshots, contents; changes nothing
    #[command(after_help = verify::VERIFY_HELP)]
    Verify(VerifyArguments),
}

/// A repository as an argument.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct RepositoryArgument {
    /// Repository: a directory or a file://, s3://, gs:// or az:// URL; left out with --config
    #[arg(value_name = "REPOSITORY")]
    pub(super) repository: Option<String>,
}

/// Which cycle of maintenance, and how.
#[derive(Debug, Args)]
pub(super) struct CycleArguments {
    /// Which repository.
    #[command(flatten)]
    pub(super) repository: RepositoryArgument,
    /// Which cycle
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub(super) mode: CycleMode,
    /// Kopia's safety margins, such as 24 h before an unused pack is deleted
    ///
    /// They protect clients that write snapshots meanwhile. Turn them off only for a repository
    /// that nobody else uses now.
    #[arg(long, value_name = "MARGINS", value_enum, default_value_t)]
    pub(super) safety: SafetyMargins,
    /// Only this task, may be repeated: a name as in Kopia's schedule, such as cleanup-logs
    ///
    /// The schedule's next times stay as they are, since the cycle is not whole.
    #[arg(long = "task", value_name = "NAME")]
    pub(super) tasks: Vec<String>,
    /// In a full cycle, first expire snapshots by Kopia's policies, as `snapshot expire --delete`
    ///
    /// Not for Velero's repositories: Velero deletes its snapshots itself.
    #[arg(long)]
    pub(super) expire_snapshots: bool,
    /// Largest share of a source's snapshots that may be expired at once, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = EXPIRE_PERCENT,
          requires = "expire_snapshots", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(super) max_expire_percent: u8,
    /// Use this strategy instead of the built-in one: scheduling=FILE, splitting=FILE or, with
    /// --expire-snapshots, retention=FILE; may be repeated
    ///
    /// FILE may be followed by @blake3:HEX: then the file is refused unless it has exactly this
    /// content.
    #[arg(long = "plugin", value_name = "STRATEGY=FILE")]
    pub(super) plugins: Vec<String>,
    /// Which strategies file.
    #[command(flatten)]
    pub(super) strategies: StrategiesArgument,
}

/// Which cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum CycleMode {
    /// Full or quick, whichever the schedule says is due; nothing if none is
    #[default]
    Auto,
    /// What keeps the index small; hourly by default
    Quick,
    /// Everything; daily by default
    Full,
}

/// Kopia's `--safety`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum SafetyMargins {
    /// Safe beside any number of clients
    #[default]
    Full,
    /// Only where nobody else uses the repository
    None,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// Which cycle, and how.
    #[command(flatten)]
    pub(super) cycle: CycleArguments,
    /// Print the plan with its reasons and the memory plan, and stop
    #[arg(long)]
    pub(super) dry_run: bool,
    /// How long it may wait first; a dry run does not.
    #[command(flatten)]
    pub(super) jitter: JitterArgument,
    /// Delete unused packs even if it is not known why nothing uses them
    ///
    /// Without it such packs are kept and named, and many of them stop the run: an index blob may
    /// be lost, and these packs are then all that is left of some backup.
    #[arg(long)]
    pub(super) accept_unexplained: bool,
    /// Wait for another run's lease to end, for so long at most: 90s, 20m, 1h [default: what
    /// CAREEN_RETRY_LOCK says, else 0s]
    ///
    /// The lease of a run that was killed ends within a quarter of an hour, and at once where it is
    /// seen that its process is gone. A run that meets another's lease and waits no longer ends
    /// with 40.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(super) retry_lock: Option<Duration>,
}

const RUN_HELP: &str = "\
Kopia's own protocol: its owner, its schedule, its tasks in its order, with its safety times. Each
task is recorded in the schedule as it ended, so that `kopia maintenance info` shows it. Run it as
often as you like, from a timer: with --mode auto it does nothing until something is due.

One maintainer at a time: while a run is at work, the schedule says that nothing is due for a
quarter of an hour, renewed as long as it lives. So if it is killed, the next one can begin so much
later at most, on the same machine at once; --retry-lock waits for it. SIGTERM ends a run within
seconds; nothing is lost, what is due stays due, exit code 10.

A scheduling plugin chooses among what is due, or says that nothing is to be done before a moment:
then the run ends with exit code 0, as when nothing is due, and the report says why and until when.

Examples:
  careen run /backup --dry-run
  careen run --config ~/.config/kopia/repository.config --memory 64MiB
  KOPIA_PASSWORD=... careen run /velero/kopia/namespace --owner default@default
  careen run /backup --mode quick
  careen run /backup --task cleanup-logs
  careen run /backup --expire-snapshots
  careen run /backup --plugin scheduling=at_night.wasm";

/// Options of `status`.
#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    /// Which repository.
    #[command(flatten)]
    pub(super) repository: RepositoryArgument,
}

/// Longest time that can be given.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Parses a time as people write it, a whole number and its unit: `500ms`, `90s`, `20m`, `1h`; `0`
/// has none.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a time such as 500ms, 90s, 20m or 1h".to_owned();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let millis_each = match &text[digits.len()..] {
        "" if digits == "0" => 0,
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(expected()),
    };
    let number: u64 = digits.parse().map_err(|_| expected())?;
    let time = number.checked_mul(millis_each).map(Duration::from_millis);
    let time = time.filter(|time| *time <= DURATION_MAX);
    time.ok_or_else(|| format!("at most {} hours", DURATION_MAX.as_secs() / 3600))
}

/// Parses a size as people write it: `64MiB`, `64Mi` (Kubernetes), `1GB`, plain bytes.
pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    let size: bytesize::ByteSize = text
        .parse()
        .map_err(|_| "expected a size such as 64MiB".to_owned())?;
    usize::try_from(size.as_u64()).map_err(|_| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::memory::MIB;

    fn parse(words: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(words.split_whitespace())
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    /// Goal: options of all commands work on both sides of the command; method: every place.
    #[test]
    fn global_options_are_accepted_everywhere() {
        for line in [
            "careen --memory 64MiB --json index compact /r",
            "careen index --memory 64MiB --json compact /r",
            "careen index compact --memory 64MiB --json /r",
            "careen index compact /r --memory 64MiB --json",
        ] {
            let parsed = parse(line).unwrap();
            assert_eq!(parsed.global.memory, Some(64 * MIB), "{line}");
            assert!(parsed.global.json, "{line}");
        }
    }

    #[test]
    fn sizes_are_written_as_people_write_them() {
        for (text, bytes) in [
            ("64MiB", 64 * MIB),
            ("64Mi", 64 * MIB),
            ("64MB", 64_000_000),
            ("1GiB", 1024 * MIB),
            ("67108864", 64 * MIB),
            ("64 MiB", 64 * MIB),
            ("0", 0),
            ("64", 64),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "64MiBs", "1e9"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn usage_errors_are_found() {
        for line in [
            "careen",
            "careen sail",
            "careen index",
            "careen verify /r",
            "careen verify /r --snapshots --percent 5",
            "careen verify /r --contents --percent 0",
            "careen verify /r --contents --percent 101",
            "careen verify /r --contents --packs",
            "careen snapshot",
            "careen demo --no-run",
            "careen demo --entries 0",
            "careen index compact /r --password secret",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
