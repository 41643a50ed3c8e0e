//! A run in a child process, watched: its lines told, its lease kept, its end sent early.
//!
//! SIGTERM goes to the child when we get one, when a backup begins (unless that is fine), and when
//! the lease is lost or cannot be kept: it ends at its next safe point, nothing is lost. Memory:
//! one line, and the keeper's threads.

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
use super::keeper::Keeper;
use super::run::Everything;
use crate::velero::discovery::FoundRepository;
use crate::velero::lease::HeldLease;

/// How often it is looked whether the child has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

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

/// Runs the child of one repository to its end; `lease` is gone where it is not ours any more.
pub(super) fn watch(
    everything: &Everything<'_>,
    found: &FoundRepository,
    lease: &mut Option<HeldLease>,
    mut prepared: Prepared,
) -> Result<Ended, CliError> {
    let failed = |error: std::io::Error| CliError::Child {
        repository: found.name.clone(),
        reason: error.to_string(),
    };
    let mut child = prepared.command.spawn().map_err(failed)?;
    drop(prepared);
    let stdout = child.stdout.take().expect("was piped");
    let (console, name) = (everything.console, found.name.as_str());
    let keeper = &Keeper::new(everything, found);
    let held = lease.take();
    let (status, told, said) = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut said = Said::default();
            each_line(stdout, &mut |line| {
                said.note(line);
                tell(console, name, line);
            });
            said
        });
        let keeping = held.map(|held| scope.spawn(move || keeper.keep(held)));
        if !everything.arguments.beside_backups {
            scope.spawn(move || keeper.look());
        }
        let (status, told) = until_ended(everything, keeper, name, &mut child);
        keeper.end();
        *lease = keeping.and_then(|keeping| keeping.join().ok().flatten());
        (status, told, reader.join().unwrap_or_default())
    });
    let status = status.map_err(failed)?;
    let exit = exit_of(status, told.is_some());
    let because = match (told, said.message()) {
        (Some(why), _) if exit != Exit::Done => Some(why),
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

/// Waits for the child, and tells it to end when it is to; returns why.
fn until_ended(
    everything: &Everything<'_>,
    keeper: &Keeper<'_>,
    name: &str,
    child: &mut Child,
) -> (std::io::Result<ExitStatus>, Option<String>) {
    let mut told = None;
    loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return (Ok(status), told),
            Err(error) => return (Err(error), told),
        }
        if told.is_none() {
            told = match everything.stop.load(Ordering::Relaxed) {
                true => Some("the run was stopped".to_owned()),
                false => keeper.why(),
            };
            if let Some(why) = &told {
                tracing::warn!(repository = name, "ends early: {why}");
                if let Some(id) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                    let _ = kill_process(id, Signal::TERM); // it may have ended by itself
                }
            }
        }
        std::thread::sleep(LOOK_INTERVAL);
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
