//! What `careen plugin …` can be asked, with the help that people read.
//!
//! No memory cost.

mod project;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{CycleMode, RepositoryArgument, parse_size};

use project::{BUILD_HELP, NEW_HELP};
pub(in crate::cli) use project::{
    BuildArguments, Language, NewArguments, ProjectStrategy, parse_name,
};

/// `careen plugin …`
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PluginCommand {
    /// Make a project for a strategy of your own, in Rust, Python or JavaScript
    #[command(after_help = NEW_HELP)]
    New(NewArguments),
    /// Build such a project with its language's tools, and show its pin
    #[command(after_help = BUILD_HELP)]
    Build(BuildArguments),
    /// Say what a plugin is, what it imports, what it takes, and whether a run would use it
    #[command(after_help = CHECK_HELP)]
    Check(CheckArguments),
    /// Compile plugins ahead of time, so that a run starts in milliseconds and in its own memory
    #[command(after_help = COMPILE_HELP)]
    Compile(CompileArguments),
    /// Ask a plugin realistic questions twice: are its answers allowed, the same, within limits?
    #[command(after_help = TEST_HELP)]
    Test(TestArguments),
    /// Write down what a repository asks a strategy; changes nothing
    #[command(after_help = RECORD_HELP)]
    Record(RecordArguments),
    /// Ask a plugin what was recorded, and show every decision that differs from another plugin's
    #[command(after_help = REPLAY_HELP)]
    Replay(ReplayArguments),
}

/// What compiling may take.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct CompileLimit {
    /// Memory of the compiler, a process of its own [default: 512MiB, or what the memory limit
    /// leaves]
    ///
    /// Address space of the program included: a plugin in Rust or C needs 128MiB, CPython as a
    /// component 512MiB, of which it uses some 300.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(in crate::cli) compile_memory: Option<usize>,
}

/// How a plugin is loaded.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct LoadArguments {
    /// Strategies file: limits and configuration of its strategy, as a run has them
    ///
    /// The plugin and the pin that the file names are not looked at. The options below are taken
    /// instead of what the file says. With --against the other plugin gets the same.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) strategies: Option<PathBuf>,
    /// Its configuration, JSON that must fit the schema that it exports
    ///
    /// With --against the other plugin gets it too, unless that is a built-in one.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) configuration: Option<PathBuf>,
    /// Memory of the plugin, as `memory` in a strategies file: 16MiB [default: 8MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(in crate::cli) plugin_memory: Option<usize>,
    /// Fuel of a call, as `fuel` in a strategies file [default: 1000000000]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) plugin_fuel: Option<u64>,
    /// What compiling may take.
    #[command(flatten)]
    pub(in crate::cli) compile: CompileLimit,
}

/// Options of `plugin check`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CheckArguments {
    /// The component
    #[arg(value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
    /// How it is loaded.
    #[command(flatten)]
    pub(in crate::cli) load: LoadArguments,
}

/// Options of `plugin compile`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CompileArguments {
    /// The components
    ///
    /// FILE may be followed by @blake3:HEX: then it is refused, and not compiled, unless it has
    /// exactly this content.
    #[arg(value_name = "FILE", required = true)]
    pub(in crate::cli) files: Vec<PathBuf>,
    /// What compiling may take.
    #[command(flatten)]
    pub(in crate::cli) compile: CompileLimit,
}

/// Options of `plugin test`.
#[derive(Debug, Args)]
pub(in crate::cli) struct TestArguments {
    /// The component
    #[arg(value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
    /// Recorded batches that it is asked as well
    #[arg(value_name = "BATCHES")]
    pub(in crate::cli) batches: Vec<PathBuf>,
    /// How it is loaded.
    #[command(flatten)]
    pub(in crate::cli) load: LoadArguments,
}

/// Options of `plugin record`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RecordArguments {
    /// Which repository.
    #[command(flatten)]
    pub(in crate::cli) repository: RepositoryArgument,
    /// Whose questions
    #[arg(long, value_name = "NAME", value_enum)]
    pub(in crate::cli) strategy: StrategyName,
    /// The file to write; one of this name is replaced
    #[arg(short = 'o', long = "to", value_name = "FILE")]
    pub(in crate::cli) output_file: PathBuf,
    /// Replace host, user, path, tag values and pins by hashes
    ///
    /// The same name has the same hash in one file; the key is random and is not kept. Each part of
    /// a path has a hash of its own. IDs, times, sizes and keys of tags stay.
    #[arg(long)]
    pub(in crate::cli) hash_names: bool,
    /// Retention: only this source: user@host:/path, user@host, @host or a path
    #[arg(long, value_name = "SOURCE")]
    pub(in crate::cli) source: Option<String>,
    /// Splitting: record also whose packs are, each source a tenant
    ///
    /// For plugins that give snapshots tenants: replay translates to theirs. Reads all directories
    /// that snapshots use.
    #[arg(long)]
    pub(in crate::cli) tenants: bool,
    /// Scheduling: which cycle is asked for; where nothing is due, auto asks for a full one
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    pub(in crate::cli) mode: CycleMode,
}

/// The strategies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum StrategyName {
    /// Every source with its policy and its snapshots
    Retention,
    /// The shape of the index, and every pack
    Splitting,
    /// What is due, as a run would ask now
    Scheduling,
}

/// Options of `plugin replay`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ReplayArguments {
    /// The component
    #[arg(value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
    /// What `careen plugin record` wrote
    #[arg(value_name = "BATCHES")]
    pub(in crate::cli) batches: PathBuf,
    /// The plugin to compare with: a component, or builtin
    #[arg(long, value_name = "FILE", default_value = "builtin")]
    pub(in crate::cli) against: PathBuf,
    /// How it is loaded.
    #[command(flatten)]
    pub(in crate::cli) load: LoadArguments,
}

const CHECK_HELP: &str = "\
Needs no repository. Where `careen run` would refuse the plugin, this says so with the same words
and the same exit code (50, or 60 where it fails when it is instantiated).

Examples:
  careen plugin check audit.wasm
  careen plugin check audit.wasm --json
  careen plugin check audit.wasm --strategies strategies.toml";

const COMPILE_HELP: &str = "\
Code is kept in --plugin-cache DIR, by default `careen` in $XDG_CACHE_HOME or ~/.cache; give the
same directory to the run. It belongs to this user, this version of careen and this kind of CPU.

In Kubernetes: an init container with a limit of 640Mi runs `careen plugin compile --plugin-cache
/cache/careen /plugins/audit.wasm`; the container of the run, with its 64Mi, has the same volume.

Examples:
  careen plugin compile audit.wasm at_night.wasm
  careen plugin compile policy.py.wasm --compile-memory 768MiB --plugin-cache /var/cache/careen";

const TEST_HELP: &str = "\
Asks two years of snapshots of eight sources, three thousand packs, or cycles that are due, always
the same ones, and every recording that is given. Each question is asked of two instances. Exit
code 60 when the host refuses an answer, when the two differ, or when a limit is passed.

Examples:
  careen plugin test audit.wasm --strategies strategies.toml
  careen plugin test audit.wasm monday.jsonl tuesday.jsonl";

const RECORD_HELP: &str = "\
Takes no lock and writes nothing to the repository. The file has one JSON object a line and can be
as large as the manifests of all snapshots; only this user may read it.

Examples:
  careen plugin record /backup --strategy retention -o monday.jsonl --hash-names
  careen plugin record /backup --strategy splitting -o packs.jsonl
  careen plugin record /backup --strategy scheduling -o due.jsonl --mode full";

const REPLAY_HELP: &str = "\
Changes nothing anywhere and needs no repository. Answers that the host refuses are shown; that two
plugins differ is no error (exit code 0), that one fails is (60).

Examples:
  careen plugin replay audit.wasm monday.jsonl
  careen plugin replay audit.wasm monday.jsonl --strategies strategies.toml
  careen plugin replay audit-2.wasm monday.jsonl --against audit-1.wasm";
