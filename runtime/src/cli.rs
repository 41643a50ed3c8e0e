//! The command line: arguments, terminal, exit codes, reports. The only floor that prints.
//!
//! A command is: arguments → target (which repository, with which password, as whom) → workspace (memory
//! plan, scratch) → plan → execute → report. Errors of all floors end in `error.rs`, which knows the exit
//! code and what to do next. Memory: nothing that grows with the repository; listings are told row by row.

mod arguments;
mod error;
mod identity;
mod kopia_config;
mod logs;
mod output;
mod password;
mod telling;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;

use crate::clock::{SharedClock, SystemClock};
use arguments::Arguments;
use error::{CliError, Exit};
use output::{Form, Output};

/// Runs the program with `arguments`, the program's name first; returns its exit code.
pub fn main(arguments: std::env::ArgsOs) -> ExitCode {
    let words: Vec<OsString> = arguments.collect();
    let (stdout_is_terminal, stderr_is_terminal) = output::terminals();
    let parsed = match Arguments::try_parse_from(&words) {
        Ok(parsed) => parsed,
        Err(error) => return ExitCode::from(unusable(&error, &words, stdout_is_terminal) as u8),
    };
    let _ = (parsed, stderr_is_terminal);
    ExitCode::SUCCESS
}

/// Shows help, the version, or what is wrong with the arguments.
fn unusable(error: &clap::Error, words: &[OsString], stdout_is_terminal: bool) -> Exit {
    let _ = error.print();
    if !error.use_stderr() {
        return Exit::Done;
    }
    let form = Form::guess(words.iter().filter_map(|w| w.to_str()), stdout_is_terminal);
    if form == Form::Json {
        let clock: SharedClock = Arc::new(SystemClock);
        let output = Output::new(form, clock);
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message);
        output.error(&CliError::Usage(message.to_owned()));
        output.finished(Exit::Configuration);
    }
    Exit::Configuration
}
