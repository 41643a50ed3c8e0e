//! The demo's steps: compact and verify as a child would, count what is left, and let Kopia do the
//! same.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use super::child::{self, Outcome};
use super::comparison::{Kopia, KopiaCost, available_bytes, copy_by_links, find};
use super::memory_group::MemoryGroup;
use super::report::{Blobs, Cost};
use crate::blob::{BlobError, LocalStore, Storage};
use crate::cli::Console;
use crate::cli::error::{CliError, Exit};
use crate::cli::surroundings::{JITTER_VARIABLE, PASSWORD_VARIABLE};
use crate::cli::wording::bytes;
use crate::kopia::blob_id::{COMPACTED_EPOCH_PREFIX, UNCOMPACTED_PREFIX};
use crate::progress::Progress;

/// What holds the children to the limit.
pub(super) struct Limit {
    /// The limit.
    pub(super) bytes: usize,
    group: Result<MemoryGroup, String>,
}

impl Limit {
    /// Makes a cgroup of `bytes`, where that is possible.
    pub(super) fn new(bytes: usize) -> Self {
        let group = MemoryGroup::new(bytes).map_err(|error| error.to_string());
        Self { bytes, group }
    }

    /// Says what holds the children to the limit.
    pub(super) fn describe(&self) -> String {
        match &self.group {
            Ok(group) => format!("held by a cgroup (v{}) without swap", group.version()),
            Err(reason) => format!("kept by the plan alone (no cgroup of our own: {reason})"),
        }
    }

    fn command(&self, program: &OsStr) -> Command {
        match &self.group {
            Ok(group) => group.command(program),
            Err(_) => Command::new(program),
        }
    }

    fn kills(&self) -> u64 {
        self.group.as_ref().map_or(0, MemoryGroup::kills)
    }
}

/// What the steps work with.
pub(super) struct Steps<'a> {
    /// Output, progress, environment.
    pub(super) console: &'a Console,
    /// The repository.
    pub(super) repository: &'a Path,
    /// Directory for everything else.
    pub(super) work: &'a Path,
    /// The repository's password.
    pub(super) password: &'a OsStr,
    /// The limit of the children.
    pub(super) limit: &'a Limit,
}

/// A copy for Kopia, and the Kopia.
pub(super) struct PreparedKopia {
    program: PathBuf,
    copy: PathBuf,
}

impl Steps<'_> {
    /// Compacts the index in the limit, also that of open epochs where nobody else is; notes what
    /// has to wait.
    pub(super) fn compact(
        &self,
        unsettled: bool,
        notes: &mut Vec<String>,
    ) -> Result<Cost, CliError> {
        let unsettled: &[&str] = if unsettled { &["--unsettled"] } else { &[] };
        let (cost, report) = self.careen(&["index", "compact"], unsettled)?;
        notes.extend(report["unfinished_until"].as_str().map(|time| {
            format!("Index blobs that were replaced stay until a run after {time}, for safety.")
        }));
        Ok(cost)
    }

    /// Checks the repository in the limit, as `what` says; returns also what was seen first.
    pub(super) fn verify(&self, what: &[&str]) -> Result<(Cost, Value), CliError> {
        self.careen(&["verify"], what)
    }

    /// Runs this program with the repository between `words` and `more`; returns what it took and
    /// its first report.
    pub(super) fn careen(&self, words: &[&str], more: &[&str]) -> Result<(Cost, Value), CliError> {
        let shown = [&["careen"], words, more].concat().join(" ");
        let failed = |reason: String| CliError::DemoRun {
            command: shown.clone(),
            reason,
        };
        let limit = bytes(self.limit.bytes as u64);
        self.console
            .output
            .text(format_args!("{shown} --memory {limit} ..."));
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut command = self.limit.command(program.as_os_str());
        command.args(words).arg(self.repository).args(more);
        command
            .args(["--output", "json", "--memory"])
            .arg(self.limit.bytes.to_string());
        if let Some(scratch) = &self.console.global.scratch {
            command.arg("--scratch").arg(scratch);
        }
        command
            .env(PASSWORD_VARIABLE, self.password)
            .env_remove(JITTER_VARIABLE);
        let (mut error, mut report) = (None, Value::Null);
        let outcome = child::run(&mut command, &mut |line| {
            self.pass_on(line);
            if line["kind"] == "error" {
                error = line["message"].as_str().map(str::to_owned);
            }
            if line["kind"] == "report" && report.is_null() {
                report = line["report"].clone();
            }
        });
        let outcome = outcome.map_err(|error| failed(error.to_string()))?;
        match how_it_ended(&outcome, self.limit.kills(), error) {
            None => {
                let cost = Cost {
                    seconds: (outcome.duration.as_secs_f64() * 100.0).round() / 100.0,
                    peak_memory_bytes: outcome.peak_memory_bytes,
                };
                Ok((cost, report))
            }
            Some(reason) => Err(failed(reason)),
        }
    }

    /// Shows the child's steps as ours.
    fn pass_on(&self, line: &Value) {
        let progress: &dyn Progress = &*self.console.progress;
        let text = |field: &str| line[field].as_str().unwrap_or_default();
        match (text("kind"), text("state")) {
            ("task", "began") => {
                progress.begin(text("step"), text("unit"), line["total"].as_u64());
            }
            ("task", "ended") => progress.end(),
            ("progress", _) => self
                .console
                .progress
                .reach(line["done"].as_u64().unwrap_or(0)),
            _ => {}
        }
    }

    /// Counts the index blobs that a reader uses: those of compacted epochs, else all.
    pub(super) fn index_blobs(&self) -> Result<Blobs, CliError> {
        let compacted = self.blobs(&[COMPACTED_EPOCH_PREFIX])?;
        if compacted.count > 0 {
            return Ok(compacted);
        }
        self.blobs(&[UNCOMPACTED_PREFIX])
    }

    /// Counts the blobs with these prefixes.
    pub(super) fn blobs(&self, prefixes: &[&str]) -> Result<Blobs, CliError> {
        let options = self.console.surroundings.local_options();
        let storage = Storage::new(Arc::new(LocalStore::open(self.repository, options)?));
        let mut blobs = Blobs::default();
        for prefix in prefixes {
            storage.for_each(prefix, |blob| {
                blobs.count += 1;
                blobs.bytes += blob.length;
                Ok::<(), BlobError>(())
            })?;
        }
        Ok(blobs)
    }

    /// Finds a Kopia, which will take some `needed_bytes` of memory, and copies the repository for
    /// it, before ours is changed; notes why not.
    pub(super) fn prepare_kopia(
        &self,
        needed_bytes: u64,
        unwanted: bool,
        notes: &mut Vec<String>,
    ) -> Result<Option<PreparedKopia>, CliError> {
        if unwanted {
            return Ok(None);
        }
        let surroundings = &self.console.surroundings;
        let found = find(surroundings.kopia.as_deref(), surroundings.path.as_deref());
        let Some(program) = found else {
            notes.push("No Kopia was found to measure (CAREEN_KOPIA, or kopia on PATH).".into());
            return Ok(None);
        };
        if available_bytes().is_some_and(|available| available < needed_bytes) {
            notes.push(format!(
                "Kopia was not measured: it may need {}, more than this machine has free.",
                bytes(needed_bytes)
            ));
            return Ok(None);
        }
        let copy = self.work.join("copy");
        copy_by_links(self.repository, &copy).map_err(|error| CliError::DemoDirectory {
            path: copy.clone(),
            reason: error.to_string(),
        })?;
        Ok(Some(PreparedKopia { program, copy }))
    }

    /// Lets Kopia do `work` on the copy: its command and options.
    pub(super) fn measure_kopia(
        &self,
        prepared: &PreparedKopia,
        work: &[&str],
    ) -> Result<KopiaCost, CliError> {
        let shown = format!("kopia {}", work.join(" "));
        self.console
            .output
            .text(format_args!("{shown}, on a copy ..."));
        let home = self.work.join("kopia");
        let kopia = Kopia {
            program: &prepared.program,
            home: &home,
            password: self.password,
        };
        self.console.progress.begin(&shown, "", None);
        let cost = kopia.measure(&prepared.copy, work);
        self.console.progress.end();
        cost
    }
}

/// Says why a child's end is not a good one.
fn how_it_ended(outcome: &Outcome, kills: u64, error: Option<String>) -> Option<String> {
    let part_done = i32::from(Exit::PartDone as u8);
    if outcome.status.success() || outcome.status.code() == Some(part_done) {
        return None;
    }
    if kills > 0 {
        return Some("was killed by the kernel for memory: the promise is broken".into());
    }
    let said = error.unwrap_or_else(|| outcome.standard_error.clone());
    Some(format!("{}: {said}", outcome.status))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_killed_child_is_named_as_such() {
        let outcome = |raw| Outcome {
            status: ExitStatus::from_raw(raw),
            duration: Duration::ZERO,
            peak_memory_bytes: 0,
            standard_error: "last words".into(),
        };
        assert_eq!(how_it_ended(&outcome(0), 0, None), None);
        assert_eq!(how_it_ended(&outcome(10 << 8), 0, None), None);
        assert!(
            how_it_ended(&outcome(9), 1, None)
                .unwrap()
                .contains("killed by the kernel")
        );
        assert!(
            how_it_ended(&outcome(20 << 8), 0, None)
                .unwrap()
                .contains("last words")
        );
        let said = how_it_ended(&outcome(20 << 8), 0, Some("too small".into())).unwrap();
        assert!(said.contains("20") && said.contains("too small"), "{said}");
    }
}
