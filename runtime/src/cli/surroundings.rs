//! What the process finds around it: time, randomness, environment.
//!
//! The only file of this floor that reads environment variables, so that there is one list of them:
//! `KOPIA_PASSWORD`, `CAREEN_MEMORY`, `CAREEN_STRATEGIES`, `CAREEN_JITTER`, `CAREEN_RETRY_LOCK`,
//! `CAREEN_TERMINATION_LOG`, `CAREEN_LOG`, `TZ`, `CAREEN_KOPIA` and `PATH` (demo), with the feature
//! `test-clock` `CAREEN_NOW`, and for object stores the list in
//! `blob/object/credentials/variables.rs`. No memory cost.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::arguments::{parse_duration, parse_jitter, parse_size};
use super::error::CliError;
use crate::blob::LocalOptions;
#[cfg(feature = "object-stores")]
use crate::blob::object::credentials::Variables;
use crate::clock::Timestamp;
use crate::clock::{ManualClock, SharedClock, SharedRandomness, SystemClock, SystemRandomness};
use crate::memory::cgroup_limit_bytes;

/// Where the password may be.
pub(super) const PASSWORD_VARIABLE: &str = "KOPIA_PASSWORD";

/// Which strategies file is taken where none is named.
const STRATEGIES_VARIABLE: &str = "CAREEN_STRATEGIES";

/// The memory limit where none is named: what the downward API gives of `limits.memory`.
const MEMORY_VARIABLE: &str = "CAREEN_MEMORY";

/// How long another run's lease is waited for where that is not said.
const RETRY_LOCK_VARIABLE: &str = "CAREEN_RETRY_LOCK";

/// How long a run may wait first where that is not said. Processes that we start do not wait.
pub(super) const JITTER_VARIABLE: &str = "CAREEN_JITTER";

/// Where the termination message goes where no file is named.
const TERMINATION_VARIABLE: &str = "CAREEN_TERMINATION_LOG";

/// Which log lines are told.
const LOG_VARIABLE: &str = "CAREEN_LOG";

/// Kopia binaries for comparison.
const KOPIA_VARIABLE: &str = "CAREEN_KOPIA";

/// The time, in builds for tests.
const NOW_VARIABLE: &str = "CAREEN_NOW";

/// Time, randomness and environment of this process.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    /// The client's clock.
    pub(super) clock: SharedClock,
    /// Unpredictable bytes.
    pub(super) randomness: SharedRandomness,
    /// Whether the clock stands still at `CAREEN_NOW`, and files are stamped with it.
    pub(super) stamps: bool,
    /// `KOPIA_PASSWORD`.
    pub(super) password: Option<OsString>,
    /// `CAREEN_MEMORY`, unless it is empty.
    pub(super) memory: Option<usize>,
    /// `CAREEN_STRATEGIES`, unless it is empty.
    pub(super) strategies: Option<PathBuf>,
    /// `CAREEN_RETRY_LOCK`, zero where it is empty.
    pub(super) retry_lock: Duration,
    /// `CAREEN_JITTER`, unless it is empty.
    pub(super) jitter: Option<Duration>,
    /// `CAREEN_LOG`.
    pub(super) log: Option<String>,
    /// `CAREEN_KOPIA`.
    pub(super) kopia: Option<OsString>,
    /// `PATH`.
    pub(super) path: Option<OsString>,
    /// `TZ`.
    pub(super) time_zone: Option<OsString>,
    /// What object stores and their keys may come from.
    #[cfg(feature = "object-stores")]
    pub(super) variables: Variables,
    /// The system's directory for temporary files.
    pub(super) temporary: PathBuf,
}

impl Surroundings {
    /// Reads the environment.
    pub(super) fn read() -> Result<Self, CliError> {
        let given = cfg!(feature = "test-clock")
            .then(|| std::env::var_os(NOW_VARIABLE))
            .flatten();
        let clock: SharedClock = match &given {
            Some(text) => Arc::new(ManualClock::new(time(&text.to_string_lossy())?)),
            None => Arc::new(SystemClock),
        };
        Ok(Self {
            clock,
            randomness: Arc::new(SystemRandomness),
            stamps: given.is_some(),
            password: std::env::var_os(PASSWORD_VARIABLE),
            memory: parsed(
                MEMORY_VARIABLE,
                std::env::var_os(MEMORY_VARIABLE),
                parse_size,
            )?,
            strategies: std::env::var_os(STRATEGIES_VARIABLE)
                .filter(|file| !file.is_empty())
                .map(PathBuf::from),
            retry_lock: parsed(
                RETRY_LOCK_VARIABLE,
                std::env::var_os(RETRY_LOCK_VARIABLE),
                parse_duration,
            )?
            .unwrap_or_default(),
            jitter: parsed(
                JITTER_VARIABLE,
                std::env::var_os(JITTER_VARIABLE),
                parse_jitter,
            )?,
            log: std::env::var(LOG_VARIABLE).ok(),
            kopia: std::env::var_os(KOPIA_VARIABLE),
            path: std::env::var_os("PATH"),
            time_zone: std::env::var_os("TZ"),
            #[cfg(feature = "object-stores")]
            variables: Variables::read(|name| std::env::var(name).ok()),
            temporary: std::env::temp_dir(),
        })
    }

    /// Returns how local stores are used: durable, and stamped in builds for tests.
    pub(super) fn local_options(&self) -> LocalOptions {
        LocalOptions {
            clock_stamp: self.stamps.then(|| Arc::clone(&self.clock)),
            direct: cgroup_limit_bytes().is_some(),
            ..LocalOptions::default()
        }
    }
}

/// Returns where the termination message goes; known even where the rest cannot be read.
pub(super) fn termination_log() -> Option<PathBuf> {
    std::env::var_os(TERMINATION_VARIABLE).map(PathBuf::from)
}

/// Reads a variable as the option that it stands for; one that is empty is none.
fn parsed<T>(
    name: &str,
    text: Option<OsString>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, CliError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let text = text.to_string_lossy();
    let refuse = |why| CliError::Usage(format!("{name}={text}: {why}"));
    parse(&text).map(Some).map_err(refuse)
}

fn time(text: &str) -> Result<Timestamp, CliError> {
    Timestamp::parse(text).ok_or_else(|| CliError::ClockSetting(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_written_as_kubernetes_writes_it() {
        let read = |text: &str| parsed(MEMORY_VARIABLE, Some(text.into()), parse_size);
        assert_eq!(read("67108864").unwrap(), Some(64 << 20));
        assert_eq!(read("64Mi").unwrap(), Some(64 << 20));
        assert_eq!(read("").unwrap(), None);
        assert_eq!(parsed(MEMORY_VARIABLE, None, parse_size).unwrap(), None);
        let error = read("plenty").unwrap_err();
        assert_eq!(error.code(), "usage");
        assert!(error.to_string().starts_with("CAREEN_MEMORY=plenty: "));
    }

    #[test]
    fn times_are_written_as_people_write_them() {
        let read = |text: &str| {
            let read = parsed(RETRY_LOCK_VARIABLE, Some(text.into()), parse_duration);
            read.map(Option::unwrap_or_default)
        };
        for (text, seconds) in [
            ("", 0),
            ("0s", 0),
            ("90s", 90),
            ("20m", 1_200),
            ("24h", 86_400),
        ] {
            assert_eq!(read(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for text in [
            "20",
            "m",
            "1h30m",
            "-1s",
            "1d",
            "25h",
            "99999999999999999999s",
            " 5m",
        ] {
            assert_eq!(read(text).unwrap_err().code(), "usage", "{text}");
        }
    }

    #[test]
    fn a_time_that_is_none_is_refused() {
        assert_eq!(
            time("2026-01-02T03:04:05.5Z").unwrap().seconds(),
            1_767_323_045
        );
        assert_eq!(time("yesterday").unwrap_err().code(), "clock-setting");
    }
}
