//! The termination message: what `kubectl describe` and Velero show of a pod that has gone.
//!
//! One line of JSON, on success too; a failure has a line before it that begins as Velero expects
//! and says why. It is written at the start as well, for a process that is killed: the kernel's OOM
//! killer lets nobody say a last word, and Velero then knows nothing but "not retrieveable". At
//! most [`MESSAGE_BYTES_MAX`] bytes, which is the kubelet's limit. No memory cost.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::arguments::VERSION;
use super::ending::{Facts, Failure, Outcome};
use super::output::SCHEMA;
use crate::clock::Timestamp;

/// The kubelet drops what is longer.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Longest reason, in bytes.
const REASON_BYTES_MAX: usize = 1200;

/// Longest place of a repository, in bytes.
const REPOSITORY_BYTES_MAX: usize = 500;

/// Where Kubernetes looks, unless the pod says otherwise. Made by the kubelet, never by us.
const DEFAULT_FILE: &str = "/dev/termination-log";

/// What Velero looks for (`RepositoryMaintenance` in its `pkg/repository/maintenance`).
const VELERO_INDICATOR: &str = "Repo maintenance error: ";

/// What is said for a process that can say nothing itself.
const KILLED: Failure = Failure {
    code: "killed",
    message: String::new(),
    hint: Cow::Borrowed(
        "Look at the container's reason and exit code: OOMKilled wants the container's limit at \
         --memory or above it, 137 without that is a SIGKILL, 143 a SIGTERM. Nothing is lost; the \
         next run goes on when the lease of this one has ended, a quarter of an hour later at \
         most (--retry-lock waits for that).",
    ),
};

/// The file of the message.
#[derive(Debug)]
pub(super) enum TerminationLog {
    /// One that was named.
    Named(PathBuf),
    /// Kubernetes' own, where it is.
    Default,
    /// An empty name was given: nothing is written.
    None,
}

impl TerminationLog {
    /// Chooses the option's file, else the environment's, else Kubernetes' own.
    pub(super) fn choose(option: Option<&Path>, environment: Option<&Path>) -> Self {
        match option.or(environment) {
            Some(path) if path.as_os_str().is_empty() => Self::None,
            Some(path) => Self::Named(path.to_owned()),
            None => Self::Default,
        }
    }

    /// Writes what holds if nothing else is ever written. A file that cannot be written is told at
    /// the end only.
    pub(super) fn begin(&self, facts: &Facts) {
        let mut failure = KILLED;
        failure.message = "careen was killed before its end".to_owned();
        let _ = self.write(&message(facts, None, Some(&failure)));
    }

    /// Writes how it ended.
    pub(super) fn end(&self, facts: &Facts, outcome: &Outcome) {
        let text = message(facts, Some(outcome), outcome.failure.as_ref());
        if let Err(error) = self.write(&text) {
            tracing::warn!(%error, "the termination message cannot be written");
        }
    }

    fn write(&self, text: &str) -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).truncate(true);
        let opened = match self {
            Self::None => return Ok(()),
            Self::Named(path) => options.create(true).open(path),
            Self::Default => match options.open(DEFAULT_FILE) {
                // Not in Kubernetes, or not for us.
                Err(error) if is_absent(error.kind()) => return Ok(()),
                opened => opened,
            },
        };
        opened?.write_all(text.as_bytes())
    }
}

/// Guesses the option's file when the arguments could not be parsed.
pub(super) fn guess<'a>(mut arguments: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let option = "--termination-log";
    let word = arguments.find(|word| word.starts_with(option))?;
    match word.strip_prefix(option) {
        Some("") => arguments.next(),
        Some(rest) => rest.strip_prefix('='),
        None => None,
    }
}

fn is_absent(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
    )
}

#[derive(Serialize)]
struct Message<'a> {
    schema: u32,
    result: &'static str,
    exit: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    command: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    repository: String,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cycle: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reclaimed_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_full: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_quick: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
}

/// Makes the text: a line of words where it failed, and a line of JSON.
fn message(facts: &Facts, outcome: Option<&Outcome>, failure: Option<&Failure>) -> String {
    let ran = facts.cycle.is_some() || facts.nothing_due || !facts.tasks.is_empty();
    let json = Message {
        schema: SCHEMA,
        result: outcome.map_or("killed", |outcome| outcome.result(facts)),
        exit: outcome.map(|outcome| outcome.exit as u8),
        code: failure.map(|failure| failure.code),
        hint: failure.map(|failure| clipped(&failure.hint, REPOSITORY_BYTES_MAX)),
        command: clipped(&facts.command, REPOSITORY_BYTES_MAX),
        repository: one_line(&facts.repository, REPOSITORY_BYTES_MAX),
        version: VERSION,
        cycle: facts.cycle.map(|cycle| cycle.to_string()),
        tasks: ran.then_some(facts.tasks.len()),
        reclaimed_bytes: ran.then(|| facts.reclaimed_bytes()),
        next_full: facts.next.get("full").copied(),
        next_quick: facts.next.get("quick").copied(),
        seconds: outcome.map(|outcome| (outcome.elapsed.as_secs_f64() * 1e3).round() / 1e3),
        peak_memory_bytes: outcome.and_then(|outcome| outcome.peak_memory_bytes),
        memory_bytes: facts.memory_bytes,
    };
    let json = serde_json::to_string(&json).unwrap_or_default();
    let failed = outcome.is_none_or(|outcome| outcome.exit as u8 != 0);
    let text = match failure {
        Some(failure) => {
            let reason = one_line(&failure.message, REASON_BYTES_MAX);
            format!("{VELERO_INDICATOR}{reason} [{}]\n{json}\n", failure.code)
        }
        None if failed => {
            let result = outcome.map_or("killed", |outcome| outcome.result(facts));
            format!("{VELERO_INDICATOR}{result}\n{json}\n")
        }
        None => format!("{json}\n"),
    };
    clipped(&text, MESSAGE_BYTES_MAX).to_owned()
}

/// Returns `text` without control characters, in at most `bytes_max` bytes.
fn one_line(text: &str, bytes_max: usize) -> String {
    let spaced = |char: char| if char.is_control() { ' ' } else { char };
    let clean: String = clipped(text, bytes_max).chars().map(spaced).collect();
    clean.trim().to_owned()
}

/// Returns the first bytes of `text`, whole characters.
fn clipped(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::error::Exit;
    use crate::maintenance::cycle_task::Cycle;

    fn outcome(exit: Exit, failure: Option<Failure>) -> Outcome {
        Outcome {
            exit,
            failure,
            time: Timestamp::from_seconds(1_800_000_000),
            elapsed: Duration::from_micros(1_234_567),
            peak_memory_bytes: Some(33 << 20),
        }
    }

    fn failure(message: &str) -> Failure {
        Failure {
            code: "wrong-password",
            message: message.to_owned(),
            hint: "Give another.".into(),
        }
    }

    /// Goal: success is one line of JSON with everything; method: a whole cycle.
    #[test]
    fn success_is_one_line() {
        let mut facts = Facts {
            command: "run".into(),
            repository: "s3://bucket/kopia/ns/".into(),
            memory_bytes: Some(64 << 20),
            cycle: Some(Cycle::Full),
            ..Facts::default()
        };
        facts.add_next(Some(Timestamp::from_seconds(1_800_086_400)), None);
        let text = message(&facts, Some(&outcome(Exit::Done, None)), None);
        let (line, rest) = text.split_once('\n').unwrap();
        assert_eq!(rest, "");
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        let expected = serde_json::json!({
            "schema": 1, "result": "done", "exit": 0, "command": "run",
            "repository": "s3://bucket/kopia/ns/", "version": VERSION, "cycle": "full",
            "tasks": 0, "reclaimed_bytes": 0, "next_full": "2027-01-16T08:00:00Z",
            "seconds": 1.235, "peak_memory_bytes": 33 << 20, "memory_bytes": 64 << 20,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn failure_begins_as_velero_expects() {
        let failed = outcome(Exit::Configuration, Some(failure("wrong\npassword")));
        let text = message(&Facts::default(), Some(&failed), failed.failure.as_ref());
        let start = "Repo maintenance error: wrong password [wrong-password]\n{\"schema\":1,";
        assert!(text.starts_with(start), "{text}");
        assert!(
            text.contains(r#""result":"configuration","exit":50"#),
            "{text}"
        );
        // A report that found damage is no error, but it is no success.
        let stopped = outcome(Exit::SafetyStop, None);
        let text = message(&Facts::default(), Some(&stopped), None);
        assert!(
            text.starts_with("Repo maintenance error: safety-stop\n{"),
            "{text}"
        );
    }

    #[test]
    fn the_file_is_guessed_from_unusable_arguments() {
        let found = |line: &'static str| guess(line.split(' '));
        assert_eq!(found("careen sail --termination-log /a --x"), Some("/a"));
        assert_eq!(found("careen --termination-log=/a sail"), Some("/a"));
        assert_eq!(found("careen --termination-log"), None);
        assert_eq!(found("careen --termination-logs /a"), None);
        assert_eq!(found("careen sail"), None);
    }

    /// Goal: never more than the kubelet takes, and JSON even then; method: the longest and worst
    /// texts.
    #[test]
    fn the_longest_message_fits() {
        for worst in ["\"", "\\", "\u{1}", "\u{2028}", "é", "𐍈"] {
            let long = worst.repeat(10_000);
            let facts = Facts {
                command: "verify --index --snapshots --contents".into(),
                repository: long.clone(),
                memory_bytes: Some(u64::MAX),
                cycle: Some(Cycle::Quick),
                ..Facts::default()
            };
            let failed = outcome(Exit::SafetyStop, Some(failure(&long)));
            let text = message(&facts, Some(&failed), failed.failure.as_ref());
            assert!(text.len() <= MESSAGE_BYTES_MAX, "{worst:?}: {}", text.len());
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), 2, "{worst:?}");
            serde_json::from_str::<serde_json::Value>(lines[1]).unwrap();
        }
    }

    /// Goal: a file that was there is replaced, one that was not is made, and what was said at the
    /// start is gone at the end.
    #[test]
    fn the_last_word_replaces_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = TerminationLog::choose(Some(&path), Some(Path::new("/nowhere")));
        log.begin(&Facts::default());
        let first = std::fs::read_to_string(&path).unwrap();
        assert!(
            first.starts_with("Repo maintenance error: careen was killed"),
            "{first}"
        );
        assert!(
            first.contains(r#""result":"killed","exit":null"#),
            "{first}"
        );
        log.end(&Facts::default(), &outcome(Exit::Done, None));
        let last = std::fs::read_to_string(&path).unwrap();
        assert!(last.starts_with('{') && last.len() < first.len(), "{last}");
        let none = TerminationLog::choose(Some(Path::new("")), Some(&path));
        none.end(&Facts::default(), &outcome(Exit::SafetyStop, None));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), last);
    }
}
