//! A child process for one repository: `careen` itself, with Velero's secrets in nameless files.
//!
//! Password, keys and certificates are written to memory files (memfd) that only the child inherits
//! by number: nothing secret is on a disk, in an argument or in the environment, and nothing is
//! left behind by a kill. Memory: the secrets, and one line of the child's output.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::Value;

use super::super::Console;
use super::super::demo::child::each_line;
use super::super::error::CliError;
use super::super::surroundings::{JITTER_VARIABLE, PASSWORD_VARIABLE};
use crate::velero::credentials::{Credentials, Hidden};
use crate::velero::location::{Place, Provider};

/// Who Velero is in its repositories.
pub(super) const OWNER: &str = "default@default";

/// A command that is ready to be started, and the files that it inherits.
pub(super) struct Prepared {
    /// The command.
    pub(super) command: Command,
    _files: Vec<File>,
}

/// Prepares `careen WORDS URL …` for a repository.
pub(super) fn prepare(
    console: &Console,
    name: &str,
    words: &[&str],
    place: &Place,
    credentials: &Credentials,
    memory_bytes: usize,
) -> Result<Prepared, CliError> {
    let failed = |error: std::io::Error| CliError::Child {
        repository: name.to_owned(),
        reason: error.to_string(),
    };
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    let mut files = Vec::new();
    command.args(words).arg(&place.url).args(&place.options);
    let secrets = [
        ("--password-file", Some(&credentials.password)),
        ("--credentials-file", credentials.keys.as_ref()),
        ("--ca-file", credentials.certificates.as_ref()),
    ];
    for (option, secret) in secrets {
        if let Some(secret) = secret {
            let file = nameless(secret).map_err(failed)?;
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            command.arg(option).arg(path);
            files.push(file);
        }
    }
    command
        .args(["--owner", OWNER, "--output", "json", "--memory"])
        .arg(memory_bytes.to_string());
    pass_on(console, place, &mut command);
    command
        .env_remove(PASSWORD_VARIABLE)
        .env_remove(JITTER_VARIABLE)
        // The last word is this process's own.
        .env("CAREEN_TERMINATION_LOG", "")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    Ok(Prepared {
        command,
        _files: files,
    })
}

/// Gives the child the options of all commands that are for it.
fn pass_on(console: &Console, place: &Place, command: &mut Command) {
    let global = &console.global;
    let mut path = |option: &str, value: &Option<std::path::PathBuf>| {
        if let Some(value) = value {
            command.arg(option).arg(value);
        }
    };
    path("--scratch", &global.scratch);
    path("--plugin-cache", &global.plugin_cache);
    let storage = &global.storage;
    let requests = storage.max_requests_per_second.map(|count| count as usize);
    let numbers = [
        ("--scratch-quota", global.scratch_quota, true),
        ("--max-requests-per-second", requests, false),
        ("--max-download", storage.max_download, false),
        ("--max-upload", storage.max_upload, false),
    ];
    for (option, value, for_folders) in numbers {
        if let Some(value) = value
            && (for_folders || place.provider != Provider::Fs)
        {
            command.arg(option).arg(value.to_string());
        }
    }
}

/// Writes a secret to a file in memory that has no name and that children inherit.
fn nameless(secret: &Hidden) -> std::io::Result<File> {
    let mut file = File::from(memfd_create("careen", MemfdFlags::empty())?);
    file.write_all(secret.reveal())?;
    Ok(file)
}

/// What a child said that matters in the end.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Its report.
    pub(super) report: Option<Value>,
    /// Its error: code, message, hint, exit.
    pub(super) error: Option<Value>,
}

impl Said {
    /// Notes a line.
    pub(super) fn note(&mut self, line: &Value) {
        match line["kind"].as_str() {
            Some("report") => self.report = Some(line["report"].clone()),
            Some("error") => self.error = Some(line.clone()),
            _ => {}
        }
    }

    /// Returns the message of its error.
    pub(super) fn message(&self) -> Option<String> {
        let message = self.error.as_ref()?["message"].as_str()?;
        Some(message.to_owned())
    }

    /// Returns the message of its error, and what to do.
    pub(super) fn problem(&self) -> String {
        let message = self.message().unwrap_or_default();
        let hint = self.error.as_ref().and_then(|error| error["hint"].as_str());
        match hint {
            Some(hint) => format!("{message}. {hint}"),
            None => message,
        }
    }
}

/// Runs a command to its end, for commands that are short; returns what it said.
pub(super) fn ask(name: &str, mut prepared: Prepared) -> Result<Said, CliError> {
    let failed = |error: std::io::Error| CliError::Child {
        repository: name.to_owned(),
        reason: error.to_string(),
    };
    let mut child = prepared.command.spawn().map_err(failed)?;
    drop(prepared);
    let mut said = Said::default();
    if let Some(stdout) = child.stdout.take() {
        each_line(stdout, &mut |line| said.note(line));
    }
    let status = child.wait().map_err(failed)?;
    if said.report.is_none() && said.error.is_none() {
        let reason = format!("it ended with {status} and said nothing");
        return Err(failed(std::io::Error::other(reason)));
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a child reads the secret, twice, and it is in no argument; method: `cat` as the child.
    #[test]
    fn a_child_reads_a_nameless_file() {
        let file = nameless(&Hidden::new(b"hunter2".to_vec())).unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let output = Command::new("cat").arg(&path).arg(&path).output().unwrap();
        assert_eq!(output.stdout, b"hunter2hunter2");
    }
}
