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
mod ending;
mod error;
mod identity;
mod index;
mod jitter;
mod kopia_config;
mod logs;
mod metrics;
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
mod termination;
mod time_zone;
mod used;
#[cfg(feature = "velero")]
mod velero;
mod wording;
mod workspace;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use serde::Serialize;

use crate::clock::{Clock, SystemClock};
#[cfg(feature = "velero")]
use arguments::VeleroCommand;
use arguments::{
    Arguments, Command, GlobalOptions, IndexCommand, ReportingOptions, RepositoryArgument,
    SnapshotCommand,
};
use ending::{Ending, Facts, Failure, Outcome};
use error::{CliError, Exit};
use output::{Asked, Form, Kind, Output};
use surroundings::Surroundings;
use target::{Target, Touched};
use telling::Telling;
use termination::TerminationLog;

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
    ending: Arc<Ending>,
    termination: TerminationLog,
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
        self.ending.note(|facts| {
            facts.command = command.to_owned();
            facts.repository = repository.to_owned();
        });
        self.termination.begin(&self.ending.known());
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
    let mut global = arguments.global;
    let termination = termination_log(global.reporting.termination_log.as_deref());
    let surroundings = match Surroundings::read() {
        Ok(surroundings) => surroundings,
        Err(error) => {
            let output = Output::new(form, Arc::new(SystemClock));
            output.error(&error);
            let failure = Some(Failure::of(&error));
            let outcome = outcome(&output, &SystemClock, error.exit(), failure);
            termination.end(&Facts::default(), &outcome);
            return error.exit();
        }
    };
    global.memory = global.memory.or(surroundings.memory);
    let output = Arc::new(Output::new(form, Arc::clone(&surroundings.clock)));
    logs::start(&output, surroundings.log.as_deref());
    let console = Console {
        global,
        surroundings,
        progress: Arc::new(Telling::new(Arc::clone(&output), stderr_is_terminal)),
        output: Arc::clone(&output),
        touched: Touched::default(),
        ending: Arc::default(),
        termination,
    };
    listen(&console);
    let result = match ends_at_once(&arguments.command) {
        true => signals::end_at_once(),
        false => Ok(()),
    };
    let result = result.and_then(|()| command(&console, &arguments.command));
    console.progress.clear();
    let failure = result.as_ref().err().map(Failure::of);
    let exit = result.unwrap_or_else(|error| {
        output.error(&error);
        error.exit()
    });
    let exit = match (exit, output.lost()) {
        (Exit::Done | Exit::PartDone, Some(error)) => {
            output::warn_error(&error);
            error.exit()
        }
        _ => exit,
    };
    leave_behind(&console, exit, failure);
    let asked = console.touched.get().map(Asked::of);
    output.finished(exit, console.progress.busy_seconds(), asked.as_ref());
    exit
}

/// Returns whether a signal may end a command at any moment; the others look for one themselves.
fn ends_at_once(command: &Command) -> bool {
    match command {
        Command::Run(_) | Command::Plan(_) => false,
        Command::Index(command) => {
            matches!(command, IndexCommand::List(_) | IndexCommand::Inspect(_))
        }
        Command::Snapshot(command) => matches!(command, SnapshotCommand::List(_)),
        #[cfg(feature = "plugins")]
        Command::Plugin(_) => true,
        // What runs children passes signals on to them.
        #[cfg(feature = "velero")]
        Command::Velero(command) => !matches!(command, VeleroCommand::Run(_)),
        Command::Demo(_) | Command::Status(_) | Command::Doctor(_) | Command::Verify(_) => true,
    }
}

fn command(console: &Console, command: &Command) -> Result<Exit, CliError> {
    match command {
        Command::Demo(arguments) => demo::run(console, arguments),
        Command::Run(arguments) => run::run(console, arguments),
        Command::Plan(arguments) => run::plan(console, arguments),
        Command::Index(command) => index::run(console, command),
        Command::Snapshot(command) => snapshot::run(console, command),
        #[cfg(feature = "plugins")]
        Command::Plugin(command) => plugin::run(console, command),
        #[cfg(feature = "velero")]
        Command::Velero(command) => velero::run(console, command),
        Command::Status(arguments) => check::status(console, arguments),
        Command::Doctor(arguments) => doctor::run(console, arguments),
        Command::Verify(arguments) => check::verify(console, arguments),
    }
}

fn termination_log(option: Option<&Path>) -> TerminationLog {
    TerminationLog::choose(option, surroundings::termination_log().as_deref())
}

fn outcome(output: &Output, clock: &dyn Clock, exit: Exit, failure: Option<Failure>) -> Outcome {
    Outcome {
        exit,
        failure,
        time: clock.now(),
        elapsed: output.elapsed(),
        peak_memory_bytes: output::peak_memory_bytes("self"),
    }
}

/// Lets metrics be asked for, where that is wanted.
fn listen(console: &Console) {
    let Some(address) = console.global.reporting.metrics_listen else {
        return;
    };
    let told = metrics::listen::Told {
        ending: Arc::clone(&console.ending),
        output: Arc::clone(&console.output),
        clock: Arc::clone(&console.surroundings.clock),
    };
    if let Err(error) = metrics::listen::listen(address, told) {
        tracing::warn!(%error, %address, "metrics cannot be asked for");
    }
}

/// Leaves metrics and the termination message behind. Whatever fails here is a warning: the work is
/// done.
fn leave_behind(console: &Console, exit: Exit, failure: Option<Failure>) {
    let (output, clock) = (&console.output, &*console.surroundings.clock);
    let facts = console.ending.known();
    let failure = failure.or_else(|| facts.problem.clone().filter(|_| exit != Exit::Done));
    let outcome = outcome(output, clock, exit, failure);
    let ReportingOptions {
        metrics_textfile, ..
    } = &console.global.reporting;
    if let Some(path) = metrics_textfile
        && let Err(error) = metrics::write_textfile(path, &facts, &outcome)
    {
        let path = path.display();
        tracing::warn!(%error, %path, "the metrics cannot be written");
    }
    #[cfg(feature = "object-stores")]
    metrics::push::push_or_warn(&console.global, &facts, &outcome);
    console.termination.end(&facts, &outcome);
}

/// Shows help, the version, or what is wrong with the arguments.
fn unusable(error: &clap::Error, words: &[OsString], stdout_is_terminal: bool) -> Exit {
    let _ = error.print();
    if !error.use_stderr() {
        return Exit::Done;
    }
    let text = error.to_string();
    let message = text.lines().next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let error = CliError::Usage(message.to_owned());
    let form = Form::guess(words.iter().filter_map(|w| w.to_str()), stdout_is_terminal);
    let output = Output::new(form, Arc::new(SystemClock));
    if form == Form::Json {
        output.error(&error);
        output.finished(Exit::Configuration, Vec::new(), None);
    }
    let failure = Some(Failure::of(&error));
    let outcome = outcome(&output, &SystemClock, Exit::Configuration, failure);
    let named = termination::guess(words.iter().filter_map(|word| word.to_str()));
    termination_log(named.map(Path::new)).end(&Facts::default(), &outcome);
    Exit::Configuration
}
