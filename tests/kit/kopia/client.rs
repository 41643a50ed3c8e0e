//! One connected Kopia client: its commands, with their flags and their output as values.
//!
//! Mirrors Kopia's cli/command_*.go. Each client has its own configuration, cache and logs. A cache
//! hides damage, so after Careen has worked a suite asks [`Client::fresh`], never an old client.
//! Automatic maintenance and repository logs are off: a judge changes nothing that it was not asked
//! to.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::listing::{self, EpochList, IndexBlob, IndexEntry};
use super::{CreateOptions, Kopia};
use crate::contents::ContentRow;

/// A command of Kopia that ended with an error, or said something that we do not understand.
pub struct Failure {
    /// The binary and its arguments.
    pub command: String,
    /// Exit code; `None` after a signal, or when it could not be started.
    pub exit_code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (exit, out) = (self.exit_code, self.stdout.trim());
        write!(
            f,
            "{}: exit {exit:?}\n{out}\n{}",
            self.command,
            self.stderr.trim()
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

/// Epoch parameters that a suite may lower; `None` leaves Kopia's. Kopia's own limits: duration at
/// least 10 min, refresh at most a third of it, margin at least three refreshes, count at least 10.
#[derive(Clone, Copy, Debug, Default)]
pub struct EpochParameters {
    /// `EpochRefreshFrequency`.
    pub refresh_frequency: Option<Duration>,
    /// `MinEpochDuration`.
    pub min_duration: Option<Duration>,
    /// `CleanupSafetyMargin`.
    pub cleanup_safety_margin: Option<Duration>,
    /// `EpochAdvanceOnCountThreshold`.
    pub advance_on_count: Option<u32>,
    /// `FullCheckpointFrequency`.
    pub checkpoint_frequency: Option<u32>,
}

impl EpochParameters {
    /// The smallest that Kopia accepts: 10 min, 1 min, 3 min, 10 blobs, a range of 2 epochs.
    pub fn smallest() -> Self {
        let minutes = |count: u64| Some(Duration::from_secs(60 * count));
        Self {
            refresh_frequency: minutes(1),
            min_duration: minutes(10),
            cleanup_safety_margin: minutes(3),
            advance_on_count: Some(10),
            checkpoint_frequency: Some(2),
        }
    }

    fn flags(&self) -> Vec<String> {
        let time = |name: &str, value: Option<Duration>| {
            value.map(|value| format!("--epoch-{name}={}s", value.as_secs()))
        };
        let count =
            |name: &str, value: Option<u32>| value.map(|value| format!("--epoch-{name}={value}"));
        let flags = [
            time("refresh-frequency", self.refresh_frequency),
            time("min-duration", self.min_duration),
            time("cleanup-safety-margin", self.cleanup_safety_margin),
            count("advance-on-count", self.advance_on_count),
            count("checkpoint-frequency", self.checkpoint_frequency),
        ];
        flags.into_iter().flatten().collect()
    }
}

/// A connection of one Kopia to one repository.
#[derive(Debug)]
pub struct Client {
    kopia: Kopia,
    home: TempDir,
    data: PathBuf,
    /// Kopia's name of the storage with its options, where it is no folder.
    remote: Option<Remote>,
    password: String,
    identity: String,
}

/// A storage that is no folder: Kopia's name for it, and its options.
#[derive(Clone, Debug)]
pub struct Remote {
    /// `s3`, `azure`, `gcs`.
    pub kind: &'static str,
    /// Options of `repository create` and `connect`.
    pub flags: Vec<String>,
    /// What is in the environment besides.
    pub environment: Vec<(&'static str, String)>,
}

impl Client {
    pub(super) fn at(kopia: &Kopia, remote: &Remote, password: &str, identity: &str) -> Self {
        let mut client = Self::new(kopia, Path::new(""), password, identity);
        client.remote = Some(remote.clone());
        client
    }

    pub(super) fn new(kopia: &Kopia, data: &Path, password: &str, identity: &str) -> Self {
        let home = tempfile::Builder::new().prefix("kopia-").tempdir();
        Self {
            kopia: kopia.clone(),
            home: home.expect("a suite needs a directory for temporary files"),
            data: data.to_owned(),
            remote: None,
            password: password.to_owned(),
            identity: identity.to_owned(),
        }
    }

    pub(super) fn create(&self, options: &CreateOptions) -> Result<(), Failure> {
        let mut flags = self.storage_flags();
        let mut add = |name: &str, value: &str| {
            if !value.is_empty() && value != "0" {
                flags.push(format!("--{name}={value}"));
            }
        };
        add("format-version", &options.format_version.to_string());
        add("block-hash", &options.hash);
        add("encryption", &options.encryption);
        add("object-splitter", &options.splitter);
        if options.ecc_percent > 0 {
            add("ecc", "REED-SOLOMON-CRC32");
            add("ecc-overhead-percent", &options.ecc_percent.to_string());
        }
        if self.remote.is_none() {
            std::fs::create_dir_all(&self.data).map_err(|error| self.broken("create", &error))?;
        }
        self.run_with(&["repository", "create", self.storage_kind()], &flags)
            .map(drop)
    }

    pub(super) fn connect(&self) -> Result<(), Failure> {
        let command = ["repository", "connect", self.storage_kind()];
        self.run_with(&command, &self.storage_flags()).map(drop)
    }

    fn storage_flags(&self) -> Vec<String> {
        let (user, host) = self
            .identity
            .split_once('@')
            .unwrap_or((&self.identity, "default"));
        let mut flags = match &self.remote {
            Some(remote) => remote.flags.clone(),
            None => vec![format!("--path={}", self.data.display())],
        };
        flags.extend([
            format!(
                "--cache-directory={}",
                self.home.path().join("cache").display()
            ),
            format!("--override-username={user}"),
            format!("--override-hostname={host}"),
        ]);
        flags
    }

    fn storage_kind(&self) -> &'static str {
        self.remote
            .as_ref()
            .map_or("filesystem", |remote| remote.kind)
    }

    /// Returns the binary.
    pub fn kopia(&self) -> &Kopia {
        &self.kopia
    }

    /// Returns the repository's directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Connects again, with an empty cache: nothing that was seen before is believed.
    pub fn fresh(&self) -> Result<Self, Failure> {
        self.as_identity(&self.identity)
    }

    /// Empties its cache, as a client on a new machine has it.
    pub fn forget(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(self.home.path().join("cache")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Connects as another `user@host`, with an empty cache.
    pub fn as_identity(&self, identity: &str) -> Result<Self, Failure> {
        match &self.remote {
            Some(remote) => self.kopia.connect_at(remote, &self.password, identity),
            None => self.kopia.connect(&self.data, &self.password, identity),
        }
    }

    /// Runs any command; an exit code other than 0 is a [`Failure`]. Returns standard output.
    pub fn run(&self, arguments: &[&str]) -> Result<String, Failure> {
        self.run_with(arguments, &[]).map(|(stdout, _)| stdout)
    }

    /// Prepares a command without running it, for a run under a memory cgroup.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let home = self.home.path();
        let mut command = Command::new(self.kopia.path());
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", home)
            .env("TZ", "UTC")
            .env("KOPIA_PASSWORD", &self.password)
            .env("KOPIA_CHECK_FOR_UPDATES", "false")
            .env("KOPIA_USE_KEYRING", "false")
            .env("KOPIA_DISABLE_INTERNAL_LOG", "true") // until 0.21
            .env("KOPIA_DISABLE_REPOSITORY_LOG", "true") // from 0.22
            .env("KOPIA_SEND_ERROR_NOTIFICATIONS", "never")
            .env("KOPIA_LOG_DIR", home.join("logs"))
            .env("KOPIA_CACHE_DIRECTORY", home.join("cache"))
            .env("KOPIA_CONFIG_PATH", home.join("repository.config"))
            .envs(self.environment())
            .arg("--no-auto-maintenance")
            .arg("--no-progress")
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let remote = self.remote.as_ref();
        remote.map_or_else(Vec::new, |remote| remote.environment.clone())
    }

    fn run_with(&self, arguments: &[&str], more: &[String]) -> Result<(String, String), Failure> {
        let mut command = self.command(arguments);
        command.args(more);
        let shown = format!("{} {} {}", self.kopia, arguments.join(" "), more.join(" "));
        let ended = command
            .output()
            .map_err(|error| self.broken(&shown, &error))?;
        let Output {
            status,
            stdout,
            stderr,
        } = ended;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let (stdout, stderr) = (text(stdout), text(stderr));
        if status.success() {
            return Ok((stdout, stderr));
        }
        Err(Failure {
            command: shown,
            exit_code: status.code(),
            stdout,
            stderr,
        })
    }

    fn broken(&self, command: &str, reason: &dyn fmt::Display) -> Failure {
        Failure {
            command: format!("{} {command}", self.kopia),
            exit_code: None,
            stdout: String::new(),
            stderr: reason.to_string(),
        }
    }

    fn json(&self, arguments: &[&str]) -> Result<Value, Failure> {
        let text = self.run(arguments)?;
        let parsed = serde_json::from_str(&text);
        parsed.map_err(|error| self.broken(&arguments.join(" "), &format!("{error}: {text}")))
    }

    fn parsed<T>(&self, arguments: &[&str], parse: fn(&str) -> Option<T>) -> Result<T, Failure> {
        let text = self.run(arguments)?;
        let told = || self.broken(&arguments.join(" "), &format!("not understood: {text}"));
        parse(&text).ok_or_else(told)
    }

    /// Makes a snapshot of `path`; returns its manifest.
    pub fn snapshot_create(&self, path: &Path, flags: &[&str]) -> Result<Value, Failure> {
        let path = path.to_string_lossy();
        let mut arguments = vec!["snapshot", "create", "--json", &path];
        arguments.extend_from_slice(flags);
        self.json(&arguments)
    }

    /// Lists all snapshots of all sources, incomplete ones too, sorted by ID.
    pub fn snapshot_list(&self) -> Result<Vec<Value>, Failure> {
        let command = ["snapshot", "list", "--all", "--incomplete", "--json"];
        Ok(sorted_by(self.json(&command)?, "id"))
    }

    /// Deletes a snapshot's manifest.
    pub fn snapshot_delete(&self, id: &str) -> Result<(), Failure> {
        self.run(&["snapshot", "delete", "--delete", id]).map(drop)
    }

    /// Walks every snapshot and reads every file completely: Kopia's strongest test.
    pub fn snapshot_verify(&self) -> Result<(), Failure> {
        self.run(&["snapshot", "verify", "--verify-files-percent=100"])
            .map(drop)
    }

    /// Lists all contents, tombstones too, sorted by ID.
    pub fn content_list(&self) -> Result<Vec<ContentRow>, Failure> {
        self.parsed(
            &["content", "list", "--deleted", "--json"],
            listing::contents,
        )
    }

    /// Deletes contents, whether anybody needs them or not.
    pub fn content_delete<'i>(
        &self,
        ids: impl IntoIterator<Item = &'i str>,
    ) -> Result<(), Failure> {
        let flag = match self.kopia.is_at_least(22) {
            true => "--dangerous-commands=enabled",
            false => "--advanced-commands=enabled",
        };
        let mut arguments = vec!["content", "delete", flag];
        arguments.extend(ids);
        self.run(&arguments).map(drop)
    }

    /// Lists all contents as Kopia prints them with `--long`, sorted.
    pub fn content_list_long(&self) -> Result<Vec<String>, Failure> {
        let text = self.run(&["content", "list", "--deleted", "--long"])?;
        Ok(listing::sorted_lines(&text))
    }

    /// Reads, decrypts and hashes every content, tombstones too if asked; returns how many.
    pub fn content_verify(&self, include_deleted: bool) -> Result<u64, Failure> {
        let mut command = vec!["content", "verify", "--full"];
        if include_deleted {
            command.push("--include-deleted");
        }
        let (stdout, stderr) = self.run_with(&command, &[])?;
        let said = format!("{stdout}\n{stderr}");
        let told = || self.broken("content verify", &format!("not understood: {said}"));
        listing::verified(&said).ok_or_else(told)
    }

    /// Lists the active index blobs, superseded ones too if asked, sorted by ID.
    pub fn index_list(&self, superseded: bool) -> Result<Vec<IndexBlob>, Failure> {
        let mut command = vec!["index", "list", "--json"];
        if superseded {
            command.push("--superseded");
        }
        self.parsed(&command, listing::index_blobs)
    }

    /// Prints every entry of the active index blobs, sorted; `blobs` asks for these instead.
    pub fn index_inspect(&self, blobs: &[&str]) -> Result<Vec<IndexEntry>, Failure> {
        let mut command = vec!["index", "inspect"];
        if blobs.is_empty() {
            command.push("--active");
        }
        command.extend_from_slice(blobs);
        self.parsed(&command, listing::index_entries)
    }

    /// Returns the epochs as Kopia sees them; fails on a repository of the V0 index manager.
    pub fn epoch_list(&self) -> Result<EpochList, Failure> {
        self.parsed(&["index", "epoch", "list"], listing::epochs)
    }

    /// Runs quick or full maintenance with Kopia's safety parameters.
    pub fn maintenance_run(&self, full: bool) -> Result<(), Failure> {
        let kind = if full { "--full" } else { "--no-full" };
        self.run(&["maintenance", "run", kind, "--safety=full"])
            .map(drop)
    }

    /// Runs full maintenance without any safety time.
    pub fn maintenance_run_unsafe(&self) -> Result<(), Failure> {
        self.run(&["maintenance", "run", "--full", "--safety=none"])
            .map(drop)
    }

    /// Returns the parameters and the schedule: shows that `kopia.maintenance` decrypts.
    pub fn maintenance_info(&self) -> Result<Value, Failure> {
        self.json(&["maintenance", "info", "--json"])
    }

    /// Makes `owner` (`user@host`) the maintenance owner.
    pub fn maintenance_set_owner(&self, owner: &str) -> Result<(), Failure> {
        self.run(&["maintenance", "set", &format!("--owner={owner}")])
            .map(drop)
    }

    /// Sets epoch parameters of the repository.
    pub fn set_epoch_parameters(&self, parameters: &EpochParameters) -> Result<(), Failure> {
        self.run_with(&["repository", "set-parameters"], &parameters.flags())
            .map(drop)
    }

    /// Returns the format parameters of the repository.
    pub fn status(&self) -> Result<Value, Failure> {
        self.json(&["repository", "status", "--json"])
    }

    /// Lists all manifests, sorted by ID.
    pub fn manifest_list(&self) -> Result<Vec<Value>, Failure> {
        Ok(sorted_by(self.json(&["manifest", "list", "--json"])?, "id"))
    }

    /// Lists active sessions, one line each, sorted.
    pub fn session_list(&self) -> Result<Vec<String>, Failure> {
        Ok(listing::sorted_lines(&self.run(&["session", "list"])?))
    }
}

fn sorted_by(list: Value, field: &str) -> Vec<Value> {
    let mut list = match list {
        Value::Array(list) => list,
        _ => Vec::new(),
    };
    list.sort_by(|a, b| a[field].as_str().cmp(&b[field].as_str()));
    list
}
