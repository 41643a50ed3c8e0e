//! A run in a child process, watched: its lines told, its lease renewed, its end sent early.
//!
//! SIGTERM goes to the child when we get one, when a backup begins (unless that is fine), and when
//! the lease cannot be kept: it ends at its next safe point, nothing is lost. Memory: one line.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value};

use super::super::Console;
use super::super::demo::child::each_line;
use super::super::error::{CliError, Exit};
use super::super::output::Kind;
use super::children::{Prepared, Said};
use super::run::Everything;
use crate::clock::Stopwatch;
use crate::velero::VeleroError;
use crate::velero::activity::at_work;
use crate::velero::discovery::FoundRepository;
use crate::velero::lease::{HeldLease, RENEW_INTERVAL};

/// How often it is looked whether the child has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How often it is looked whether a backup has begun.
const BACKUP_INTERVAL: Duration = Duration::from_secs(30);

/// How a child ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit code.
    pub(super) exit: Exit,
    /// Why it ended early, or did nothing.
    pub(super) because: Option<String>,
    /// The report of its run.
    pub(super) report: Option<Value>,
}

/// Watches over the run of one repository.
pub(super) struct Watch<'a> {
    everything: &'a Everything<'a>,
    found: &'a FoundRepository,
    lease: Option<HeldLease>,
    clock: Stopwatch,
    renewed: Duration,
    looked: Duration,
    /// Why SIGTERM was sent.
    told: Option<String>,
}

impl<'a> Watch<'a> {
    /// Begins with a lease.
    pub(super) fn new(
        everything: &'a Everything<'a>,
        found: &'a FoundRepository,
        lease: HeldLease,
    ) -> Self {
        Self {
            everything,
            found,
            lease: Some(lease),
            clock: Stopwatch::start(),
            renewed: Duration::ZERO,
            looked: Duration::ZERO,
            told: None,
        }
    }

    /// Gives the lease back.
    pub(super) fn release(self) {
        if let Some(lease) = self.lease {
            lease.release(self.everything.cluster);
        }
    }

    /// Runs the child to its end.
    pub(super) fn run(&mut self, mut prepared: Prepared) -> Result<Ended, CliError> {
        let failed = |error: std::io::Error| CliError::Child {
            repository: self.found.name.clone(),
            reason: error.to_string(),
        };
        let mut child = prepared.command.spawn().map_err(failed)?;
        drop(prepared);
        let stdout = child.stdout.take().expect("was piped");
        let (console, name) = (self.everything.console, self.found.name.as_str());
        let (status, said) = std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut said = Said::default();
                each_line(stdout, &mut |line| {
                    said.note(line);
                    tell(console, name, line);
                });
                said
            });
            let status = self.until_ended(&mut child);
            (status, reader.join().unwrap_or_default())
        });
        let status = status.map_err(|error| CliError::Child {
            repository: self.found.name.clone(),
            reason: error.to_string(),
        })?;
        let exit = exit_of(status, self.told.is_some());
        let because = match (&self.told, said.message()) {
            (Some(why), _) if exit != Exit::Done => Some(why.clone()),
            (_, Some(message)) => Some(message),
            (_, None) if status.code().is_none() => Some(format!("it was killed: {status}")),
            (_, None) if exit != Exit::Done => Some(format!("it ended with {status}")),
            (_, None) => idle(said.report.as_ref()),
        };
        Ok(Ended {
            exit,
            because,
            report: said.report,
        })
    }

    fn until_ended(&mut self, child: &mut Child) -> std::io::Result<ExitStatus> {
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if self.told.is_none()
                && let Some(why) = self.reason_to_end()
            {
                tracing::warn!(repository = self.found.name, "ends early: {why}");
                if let Some(id) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                    let _ = kill_process(id, Signal::TERM); // it may have ended by itself
                }
                self.told = Some(why);
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Returns why the child is to end now, if it is.
    fn reason_to_end(&mut self) -> Option<String> {
        if self.everything.stop.load(Ordering::Relaxed) {
            return Some("the run was stopped".to_owned());
        }
        let passed = self.clock.elapsed();
        if passed >= self.renewed + RENEW_INTERVAL {
            self.renewed = passed;
            if let Some(why) = self.renew() {
                return Some(why);
            }
        }
        if !self.everything.arguments.beside_backups && passed >= self.looked + BACKUP_INTERVAL {
            self.looked = passed;
            let now = self.everything.console.surroundings.clock.now();
            match at_work(self.everything.cluster, self.found, now) {
                Ok(who) => return who,
                Err(error) => tracing::warn!(%error, "backups cannot be looked for"),
            }
        }
        None
    }

    fn renew(&mut self) -> Option<String> {
        let now = self.everything.console.surroundings.clock.now();
        let lease = self.lease.as_mut()?;
        match lease.renew(self.everything.cluster, now) {
            Ok(()) => None,
            Err(error @ VeleroError::LeaseHeld { .. }) => {
                self.lease = None; // it is not ours to release
                Some(error.to_string())
            }
            Err(error) if now >= lease.ends() => Some(format!("its lease has ended: {error}")),
            Err(error) => {
                tracing::warn!(%error, "the lease was not renewed; it is tried again");
                None
            }
        }
    }
}

/// Tells a line of a child, with the repository's name.
fn tell(console: &Console, name: &str, line: &Value) {
    let kind = match line["kind"].as_str() {
        Some("task") => Kind::Task,
        Some("plan") => Kind::Plan,
        Some("log") => Kind::Log,
        Some("progress") => Kind::Progress,
        _ => return,
    };
    if kind == Kind::Task && line["state"] == "ended" && line["task"].is_string() {
        let (task, what) = (&line["task"], &line["what"]);
        let words = [task, what].map(|word| word.as_str().unwrap_or_default());
        let [task, what] = words;
        console.output.text(format_args!("{name}: {task}: {what}"));
    }
    if kind == Kind::Log {
        let message = line["message"].as_str().unwrap_or_default();
        console.output.text(format_args!("{name}: {message}"));
    }
    let mut body = Map::new();
    body.insert("repository".to_owned(), name.into());
    let known = ["schema", "time", "kind"];
    let fields = line.as_object().into_iter().flatten();
    for (field, value) in fields.filter(|(field, _)| !known.contains(&field.as_str())) {
        body.insert(field.clone(), value.clone());
    }
    console.output.json(kind, &body);
}

/// Returns why a run did nothing.
fn idle(report: Option<&Value>) -> Option<String> {
    let report = report?;
    let because = report["because"].as_str()?;
    report["cycle"].is_null().then(|| because.to_owned())
}

/// Returns what a child's end means. One that was killed has run out of memory, as a rule; one that
/// was told to end may have been before it could listen.
fn exit_of(status: ExitStatus, told_to_end: bool) -> Exit {
    const TERM: i32 = Signal::TERM.as_raw();
    match status.code() {
        None if told_to_end && status.signal() == Some(TERM) => Exit::PartDone,
        Some(0) => Exit::Done,
        Some(10) => Exit::PartDone,
        Some(20) | None => Exit::Budget,
        Some(30) => Exit::Storage,
        Some(40) => Exit::OtherMaintainer,
        Some(50) => Exit::Configuration,
        Some(_) => Exit::SafetyStop,
    }
}
