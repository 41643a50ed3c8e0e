//! From an error to what a person does next: one table of error code, exit code and hint.
//!
//! The table is in `error/table.rs`. The floors below name their errors with stable codes and know
//! nothing of exit codes or hints. A test reads the floors' sources and fails when a code is
//! missing here. No memory cost.

mod table;

use std::fmt;
use std::path::PathBuf;

use crate::blob::BlobError;
use crate::maintenance::MaintenanceError;
use crate::memory::MemoryError;
#[cfg(feature = "plugins")]
use crate::plugin::{PluginError, batches::BatchesError};
use crate::repository::RepositoryError;
use crate::spill::SpillError;
#[cfg(feature = "velero")]
use crate::velero::VeleroError;

use table::row_of;

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
    /// The strategies file cannot be used.
    #[cfg(feature = "plugins")]
    #[error("{}: {reason}", path.display())]
    StrategiesFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and in which line.
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
    #[error("storage of type {kind:?} is not supported: {because}")]
    UnsupportedStorage {
        /// Kopia's name of the type, or the scheme of a URL.
        kind: String,
        /// Why not, and what to do instead.
        because: String,
    },
    /// The repository is not there, but with a slash more or less it is.
    #[error("there is no repository at {location}, but there is one at {other}")]
    OtherPrefix {
        /// What was asked for.
        location: String,
        /// Where it is.
        other: String,
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
    /// Built without strategies.
    #[cfg(not(feature = "plugins"))]
    #[error("this build has no plugin host")]
    PluginsMissing,
    /// The time of the suites cannot be read.
    #[error("CAREEN_NOW is not a time: {0:?}")]
    ClockSetting(String),
    /// The system does not let us hear signals.
    #[error("signals cannot be handled: {0}")]
    Signals(String),
    /// What was to be told did not reach standard output.
    #[error("standard output: {0}")]
    Output(String),
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
    /// A plugin's project cannot be made, or is none.
    #[cfg(feature = "plugins")]
    #[error("{}: {reason}", path.display())]
    PluginProject {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A plugin's configuration cannot be read.
    #[cfg(feature = "plugins")]
    #[error("configuration {}: {reason}", path.display())]
    PluginConfigurationFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tool that a plugin is built with is not here.
    #[cfg(feature = "plugins")]
    #[error("{tool} is not installed; get it by: {get}")]
    PluginTool {
        /// The tool.
        tool: String,
        /// The command that installs it.
        get: String,
    },
    /// A tool could not build the plugin; it said why itself.
    #[cfg(feature = "plugins")]
    #[error("{command}: {reason}")]
    PluginBuild {
        /// The tool.
        command: String,
        /// How it ended.
        reason: String,
    },
    /// Batches cannot be written.
    #[cfg(feature = "plugins")]
    #[error("{}: {reason}", path.display())]
    RecordFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Batches that cannot be used.
    #[cfg(feature = "plugins")]
    #[error(transparent)]
    Batches(#[from] BatchesError),
    /// A plugin that failed its test.
    #[cfg(feature = "plugins")]
    #[error(
        "the plugin fails: {refused} answers are refused, {differ} differ between two instances"
    )]
    PluginTest {
        /// Answers that the host refuses.
        refused: u64,
        /// Answers that are not the same twice.
        differ: u64,
    },
    /// A child process cannot be started.
    #[cfg(feature = "velero")]
    #[error("a process for {repository}: {reason}")]
    Child {
        /// The repository.
        repository: String,
        /// Why.
        reason: String,
    },
    /// The Kubernetes API.
    #[cfg(feature = "velero")]
    #[error(transparent)]
    Velero(#[from] VeleroError),
    /// The limit is below the floor.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Scratch.
    #[error(transparent)]
    Spill(#[from] SpillError),
    /// The storage.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A task.
    #[error(transparent)]
    Maintenance(#[from] MaintenanceError),
    /// A plugin that cannot be loaded.
    #[cfg(feature = "plugins")]
    #[error(transparent)]
    Plugin(#[from] PluginError),
}

impl CliError {
    /// Returns the stable code of this error.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::ConfigFile { .. } => "config-file",
            #[cfg(feature = "plugins")]
            Self::StrategiesFile { .. } => "strategies-file",
            Self::ConfigServer { .. } => "config-server",
            Self::ConfigReadOnly { .. } => "config-read-only",
            Self::UnsupportedStorage { .. } => "unsupported-storage",
            Self::OtherPrefix { .. } => "other-prefix",
            Self::NoPassword => "no-password",
            Self::PasswordFile { .. } => "password-file",
            #[cfg(not(feature = "plugins"))]
            Self::PluginsMissing => "plugins-missing",
            Self::ClockSetting(_) => "clock-setting",
            Self::Signals(_) => "signals",
            Self::Output(_) => "output",
            Self::DemoDirectory { .. } => "demo-directory",
            Self::DemoRun { .. } => "demo-run",
            #[cfg(feature = "plugins")]
            Self::PluginProject { .. } => "plugin-project",
            #[cfg(feature = "plugins")]
            Self::PluginTool { .. } => "plugin-tool",
            #[cfg(feature = "plugins")]
            Self::PluginBuild { .. } => "plugin-build",
            #[cfg(feature = "plugins")]
            Self::PluginConfigurationFile { .. } => "plugin-configuration-file",
            #[cfg(feature = "plugins")]
            Self::RecordFile { .. } => "plugin-recording",
            #[cfg(feature = "plugins")]
            Self::Batches(_) => "plugin-batches",
            #[cfg(feature = "plugins")]
            Self::PluginTest { .. } => "plugin-test",
            #[cfg(feature = "velero")]
            Self::Child { .. } => "child-process",
            #[cfg(feature = "velero")]
            Self::Velero(error) => error.code(),
            Self::Memory(error) => error.code(),
            Self::Spill(error) => error.code(),
            Self::Blob(error) => error.code(),
            Self::Repository(error) => error.code(),
            Self::Maintenance(error) => error.code(),
            #[cfg(feature = "plugins")]
            Self::Plugin(error) => error.code(),
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
