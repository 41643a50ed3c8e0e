//! The command line: arguments, terminal, exit codes, reports. The only floor that prints.
//!
//! A command is: arguments → target (which repository, with which password, as whom) → workspace
//! (memory plan, scratch) → plan → execute → report. Errors of all floors end in `error.rs`, which
//! knows the exit code and what to do next. Memory: nothing that grows with the repository;
//! listings are told row by row.

mod arguments;
mod check;
mod demo;
mod doctor;
mod error;
mod identity;
mod index;
mod kopia_config;
mod logs;
mod output;
mod password;
mod place;
#[cfg(feature = "plugins")]
mod plugin;
mod run;
mod signals;
mod snapshot;
mod strategy;
mod surroundings;
mod target;
mod telling;
mod time_zone;
mod used;
#[cfg(feature = "velero")]
mod velero;
mod wording;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use serde::Serialize;

use crate::clock::SystemClock;
use arguments::{Arguments, Command, GlobalOptions, RepositoryArgument};
use error::{CliError, Exit};
use output::{Asked, Form, Kind, Output};
use surroundings::Surroundings;
use target::{Target, Touched};
use telling::Telling;

pub use crate::memory::restart_with_returning_heap;

/// Runs the program with `arguments`, the program's name first; returns its exit code.
pub fn main(arguments: std::env::ArgsOs) -> ExitCode {
    let words: Vec<OsString> = arguments.collect();
    let (stdout_is_terminal, stderr_is_terminal) = output::terminals();
    let exit = match Arguments::try_parse_from(&words) {
        Ok(parsed) => work(parsed, stdout_is_terminal, stderr_is_terminal),
        Err(error) => unusable(&error, &words, stdout_is_terminal),
    };
    ExitCode::from(exit as u8)
}

/// What every command has at hand.
struct Console {
    global: GlobalOptions,
    surroundings: Surroundings,
    output: Arc<Output>,
    progress: Arc<Telling>,
    touched: Touched,
}

#[derive(Serialize)]
struct StartedBody<'a> {
    command: &'a str,
    repository: &'a str,
    version: &'a str,
}

impl Console {
    /// Finds out which repository a command means, and says that it has begun.
    fn target(&self, command: &str, repository: &RepositoryArgument) -> Result<Target, CliError> {
        let given = repository.repository.as_deref();
        let target = Target::new(given, &self.global, &self.surroundings, &self.touched)?;
        self.started(command, &target.location());
        Ok(target)
    }

    fn started(&self, command: &str, repository: &str) {
        let version = arguments::VERSION;
        self.output.json(
            Kind::Started,
            &StartedBody {
                command,
                repository,
                version,
            },
        );
    }
}

fn work(arguments: Arguments, stdout_is_terminal: bool, stderr_is_terminal: bool) -> Exit {
    let form = Form::choose(&arguments.global, stdout_is_terminal);
    let surroundings = match Surroundings::read() {
        Ok(surroundings) => surroundings,
        Err(error) => {
            Output::new(form, Arc::new(SystemClock)).error(&error);
            return error.exit();
        }
    };
    let output = Arc::new(Output::new(form, Arc::clone(&surroundings.clock)));
    logs::start(&output, surroundings.log.as_deref());
    let console = Console {
        global: arguments.global,
        surroundings,
        progress: Arc::new(Telling::new(Arc::clone(&output), stderr_is_terminal)),
        output: Arc::clone(&output),
        touched: Touched::default(),
    };
    let result = match &arguments.command {
        Command::Demo(arguments) => demo::run(&console, arguments),
        Command::Run(arguments) => run::run(&console, arguments),
        Command::Plan(arguments) => run::plan(&console, arguments),
        Command::Index(command) => index::run(&console, command),
        Command::Snapshot(command) => snapshot::run(&console, command),
        #[cfg(feature = "plugins")]
        Command::Plugin(command) => plugin::run(&console, command),
        #[cfg(feature = "velero")]
        Command::Velero(command) => velero::run(&console, command),
        Command::Status(arguments) => check::status(&console, arguments),
        Command::Doctor(arguments) => doctor::run(&console, arguments),
        Command::Verify(arguments) => check::verify(&console, arguments),
    };
    console.progress.clear();
    let exit = result.unwrap_or_else(|error| {
        output.error(&error);
        error.exit()
    });
    let asked = console.touched.get().map(Asked::of);
    output.finished(exit, console.progress.busy_seconds(), asked.as_ref());
    match (exit, output.lost()) {
        (Exit::Done | Exit::PartDone, Some(error)) => {
            output::warn_error(&error);
            error.exit()
        }
        _ => exit,
    }
}

/// Shows help, the version, or what is wrong with the arguments.
fn unusable(error: &clap::Error, words: &[OsString], stdout_is_terminal: bool) -> Exit {
    let _ = error.print();
    if !error.use_stderr() {
        return Exit::Done;
    }
    let form = Form::guess(words.iter().filter_map(|w| w.to_str()), stdout_is_terminal);
    if form == Form::Json {
        let output = Output::new(form, Arc::new(SystemClock));
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message);
        output.error(&CliError::Usage(message.to_owned()));
        output.finished(Exit::Configuration, Vec::new(), None);
    }
    Exit::Configuration
}
