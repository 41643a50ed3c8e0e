//! `careen doctor`: what keeps maintenance from working, from the outside in.
//!
//! Each check is told as soon as it ended. One that fails on the way to the repository ends the
//! walk: what comes behind it could only fail for the same reason. Nothing is changed, except by
//! `--write-probe`. Memory: that of `careen status`.

mod local;
mod locks;
#[cfg(feature = "object-stores")]
mod object;
mod permissions;
mod repository;

use std::fmt;

use serde::Serialize;

use super::Console;
use super::arguments::DoctorArguments;
use super::ending::Failure;
use super::error::{CliError, Exit};
use super::output::Kind;
use super::place::Place;
use super::target::Target;
use crate::maintenance::diagnosis::{Finding, State};

/// Where findings are told.
struct Walk<'a> {
    console: &'a Console,
    target: &'a Target,
    found: [u64; 4],
    exit: Option<Exit>,
}

/// Looks at everything.
pub(super) fn run(console: &Console, arguments: &DoctorArguments) -> Result<Exit, CliError> {
    let target = console.target("doctor", &arguments.repository)?;
    #[cfg(feature = "object-stores")]
    let target = target.for_a_look();
    let mut walk = Walk {
        console,
        target: &target,
        found: [0; 4],
        exit: None,
    };
    // A check that fails ends the walk; it was told already.
    let _ = walk.all(arguments.write_probe);
    let report = Report {
        ok: walk.found[State::Ok as usize],
        skipped: walk.found[State::Skipped as usize],
        warnings: walk.found[State::Warning as usize],
        errors: walk.found[State::Error as usize],
    };
    console.output.both(Kind::Report, "report", &report);
    Ok(walk.exit.unwrap_or(Exit::Done))
}

/// The walk cannot go on; the reason was told.
struct Ended;

impl Walk<'_> {
    fn all(&mut self, write_probe: bool) -> Result<(), Ended> {
        match self.target.place() {
            Place::Folder(place) => local::look(self, &place.path)?,
            #[cfg(feature = "object-stores")]
            Place::Object(place) => object::look(self, place)?,
        }
        let storage = permissions::look(self, write_probe)?;
        repository::look(self, storage, write_probe)
    }

    /// Tells a finding.
    fn tell(&mut self, finding: &Finding) {
        self.found[finding.state as usize] += 1;
        if finding.state == State::Error {
            self.console.ending.note(|facts| {
                facts.problem.get_or_insert_with(|| Failure {
                    code: finding.code.unwrap_or("doctor"),
                    message: format!("{}: {}", finding.check, finding.what),
                    hint: finding.next.clone().unwrap_or_default().into(),
                });
            });
        }
        if finding.state == State::Error && self.exit.is_none() {
            self.exit = Some(match finding.code {
                Some("not-owner" | "empty-owner") => Exit::OtherMaintainer,
                Some("damaged-index" | "incomplete-index" | "unequal-index-sets") => {
                    Exit::SafetyStop
                }
                Some("scratch-small") => Exit::Budget,
                Some("no-connection") => Exit::Storage,
                _ => Exit::Configuration,
            });
        }
        self.console.progress.clear();
        self.console.output.json(Kind::Row, finding);
        self.console.output.text(Shown(finding));
    }

    /// Tells an error and ends the walk.
    fn end(&mut self, finding: &Finding) -> Ended {
        self.tell(finding);
        Ended
    }

    /// Tells an error of another floor, with its own hint and exit code, and ends the walk.
    fn failed(&mut self, check: &'static str, error: &CliError) -> Ended {
        self.exit.get_or_insert(error.exit());
        self.end(&Finding::error(
            check,
            error.code(),
            error.to_string(),
            error.hint(),
        ))
    }
}

/// A finding for people.
struct Shown<'a>(&'a Finding);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding {
            check, state, what, ..
        } = self.0;
        let state = match state {
            State::Ok => "ok",
            State::Skipped => "skipped",
            State::Warning => "warning",
            State::Error => "error",
        };
        write!(f, "{state:<8} {check:<12} {what}")?;
        if let Some(code) = self.0.code {
            write!(f, " [{code}]")?;
        }
        match &self.0.next {
            Some(next) => write!(f, "\n{:>22}next: {next}", ""),
            None => Ok(()),
        }
    }
}

/// How many of each.
#[derive(Serialize)]
struct Report {
    ok: u64,
    skipped: u64,
    warnings: u64,
    errors: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ok,
            skipped,
            warnings,
            errors,
        } = self;
        write!(
            f,
            "{ok} ok, {warnings} warnings, {errors} errors, {skipped} skipped"
        )
    }
}
