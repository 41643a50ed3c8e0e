//! From an error to what a person does next: one table of error code, exit code and hint.
//!
//! The floors below name their errors with stable codes and know nothing of exit codes or hints. A test reads
//! the floors' sources and fails when a code is missing here. No memory cost.

use std::fmt;
use std::path::PathBuf;

use crate::memory::MemoryError;

/// The exit codes. They are stable: scripts and CronJobs depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// Done, or nothing was due.
    Done = 0,
    /// Part done, nothing is lost; run again.
    PartDone = 10,
    /// A budget was refused; says what is needed.
    Budget = 20,
    /// The storage failed after retries.
    Storage = 30,
    /// Another maintainer is active, or we are not the owner.
    OtherMaintainer = 40,
    /// Usage, configuration or credentials.
    Configuration = 50,
    /// Something is not as it must be; nothing was deleted.
    SafetyStop = 60,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (*self as u8).fmt(f)
    }
}

/// One row: what a code means for the caller and for the person.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// The floor's stable code.
    pub(super) code: &'static str,
    /// What the process exits with.
    pub(super) exit: Exit,
    /// What to do next.
    pub(super) hint: &'static str,
}

const fn row(code: &'static str, exit: Exit, hint: &'static str) -> Row {
    Row { code, exit, hint }
}

/// For a code that is not in the table, which a test excludes.
const UNKNOWN: Row = row(
    "unknown",
    Exit::SafetyStop,
    "This is a defect of careen; please report it with the message above.",
);

/// Returns the row of `code`.
pub(super) fn row_of(code: &str) -> Row {
    TABLE
        .iter()
        .find(|row| row.code == code)
        .copied()
        .unwrap_or(UNKNOWN)
}

const DAMAGED: &str = "Nothing was changed. Run `careen verify --index` to see everything that is \
    damaged, and `kopia index inspect --all` for Kopia's view; restore the blob from a copy of the \
    storage if there is one.";
const NEWER: &str = "The repository is from a newer Kopia; use a newer careen.";
const MORE_MEMORY: &str = "Give --memory at least what the message asks for, and the container \
    the same limit.";
const SCRATCH: &str = "Give --scratch a directory on a disk (in Kubernetes: an emptyDir without \
    `medium: Memory`, or a volume) with that much free space.";
const STRATEGY: &str = "The task stopped before it changed anything. Fix the plugin, or leave out \
    --plugin to use the built-in strategy.";

/// Every error code of every floor.
pub(super) const TABLE: &[Row] = &[
    // cli
    row(
        "usage",
        Exit::Configuration,
        "`careen --help` shows the commands, `careen COMMAND --help` their options.",
    ),
    row(
        "config-file",
        Exit::Configuration,
        "Give --config the file that `kopia repository connect` wrote, usually ~/.config/kopia/repository.config.",
    ),
    row(
        "config-server",
        Exit::Configuration,
        "Maintenance needs the storage itself: connect Kopia to the repository directly, not through a server.",
    ),
    row(
        "config-read-only",
        Exit::Configuration,
        "Connect Kopia without --readonly, or give the repository's path instead of --config.",
    ),
    row(
        "unsupported-storage",
        Exit::Configuration,
        "This version works on local disks: mount the storage, or give a directory.",
    ),
    row(
        "no-password",
        Exit::Configuration,
        "Set KOPIA_PASSWORD, or give --password-file FILE. Velero's default is static-passw0rd.",
    ),
    row(
        "password-file",
        Exit::Configuration,
        "Check the path and that this user may read the file.",
    ),
    row(
        "plugins-missing",
        Exit::Configuration,
        "This careen was built without plugins, and index compaction needs its strategy; use a build with the feature `plugins`.",
    ),
    row(
        "clock-setting",
        Exit::Configuration,
        "CAREEN_NOW must be an RFC 3339 time, such as 2026-01-02T03:04:05Z.",
    ),
    row("scratch-in-memory", Exit::Budget, SCRATCH),
    row(
        "scratch-directory",
        Exit::Budget,
        "Give --scratch a directory that this user may write to, on a disk.",
    ),
    row(
        "demo-directory",
        Exit::Configuration,
        "Give --keep a directory that is empty or does not exist.",
    ),
    row(
        "demo-run",
        Exit::SafetyStop,
        "Run the command that is shown by hand; with --keep DIR the repository is left for it.",
    ),
    // memory and kopia
    row("memory-too-small", Exit::Budget, MORE_MEMORY),
    row("malformed", Exit::SafetyStop, DAMAGED),
    row("tag-mismatch", Exit::SafetyStop, DAMAGED),
    row(
        "wrong-password",
        Exit::Configuration,
        "Check KOPIA_PASSWORD or --password-file; `kopia repository connect` with the same password must work. Velero's default is static-passw0rd.",
    ),
    row(
        "unsupported-algorithm",
        Exit::Configuration,
        "The repository uses an algorithm that current Kopia versions do not have either; migrate it with the Kopia that wrote it.",
    ),
    row("newer-format", Exit::Configuration, NEWER),
    row("unknown-required-feature", Exit::Configuration, NEWER),
    // strategies
    row("plugin-answer-refused", Exit::SafetyStop, STRATEGY),
];

/// What the command line itself, or a floor below, ends with.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// Arguments that do not fit together.
    #[error("{0}")]
    Usage(String),
    /// Kopia's config file cannot be used.
    #[error("{}: {reason}", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The config file connects to a server, not to a storage.
    #[error("{}: connects to a Kopia server at {url}", path.display())]
    ConfigServer {
        /// The file.
        path: PathBuf,
        /// The server.
        url: String,
    },
    /// The config file forbids changes.
    #[error("{}: is a read-only connection", path.display())]
    ConfigReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// A storage that this version does not reach.
    #[error("storage of type {kind:?} is not supported")]
    UnsupportedStorage {
        /// Kopia's name of the type, or the scheme of a URL.
        kind: String,
    },
    /// No password anywhere.
    #[error("the repository's password is not given")]
    NoPassword,
    /// The password file cannot be read.
    #[error("password file {}: {reason}", path.display())]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The scratch directory is on a file system in memory.
    #[error("scratch directory {} is in memory ({file_system})", path.display())]
    ScratchInMemory {
        /// The directory.
        path: PathBuf,
        /// tmpfs or ramfs.
        file_system: &'static str,
    },
    /// The scratch directory cannot be used.
    #[error("scratch directory {}: {reason}", path.display())]
    ScratchDirectory {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Built without strategies.
    #[error("this build has no plugin host")]
    PluginsMissing,
    /// The time of the suites cannot be read.
    #[error("CAREEN_NOW is not a time: {0:?}")]
    ClockSetting(String),
    /// The demo's directory is in use.
    #[error("{}: {reason}", path.display())]
    DemoDirectory {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A step of the demo ended badly.
    #[error("{command}: {reason}")]
    DemoRun {
        /// What was run.
        command: String,
        /// How it ended.
        reason: String,
    },
    /// The limit is below the floor.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl CliError {
    /// Returns the stable code of this error.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::ConfigFile { .. } => "config-file",
            Self::ConfigServer { .. } => "config-server",
            Self::ConfigReadOnly { .. } => "config-read-only",
            Self::UnsupportedStorage { .. } => "unsupported-storage",
            Self::NoPassword => "no-password",
            Self::PasswordFile { .. } => "password-file",
            Self::ScratchInMemory { .. } => "scratch-in-memory",
            Self::ScratchDirectory { .. } => "scratch-directory",
            Self::PluginsMissing => "plugins-missing",
            Self::ClockSetting(_) => "clock-setting",
            Self::DemoDirectory { .. } => "demo-directory",
            Self::DemoRun { .. } => "demo-run",
            Self::Memory(error) => error.code(),
        }
    }

    /// Returns the exit code.
    pub(super) fn exit(&self) -> Exit {
        row_of(self.code()).exit
    }

    /// Returns what to do next.
    pub(super) fn hint(&self) -> &'static str {
        row_of(self.code()).hint
    }
}
