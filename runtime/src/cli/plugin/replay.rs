//! `careen plugin replay` and `careen plugin test`: one mechanism, which asks two plugins the same
//! and compares.
//!
//! A test asks the plugin and itself, and fails where the two differ, also in their reasons. What
//! is found is told as it is found. Memory: two loaded plugins and one batch.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::Console;
use crate::cli::arguments::{ReplayArguments, TestArguments};
use crate::cli::error::{CliError, Exit};
use crate::cli::output::Kind;
use crate::cli::wording::{bytes, count};
use crate::maintenance::MaintenanceError;
use crate::maintenance::strategy::StrategyError;
use crate::plugin::batches::{BatchReader, BatchesError, Strategy, made};
use crate::plugin::inspect::inspect;
use crate::plugin::replay::{Finding, Replay, ReplayReport};
use crate::plugin::{PluginOptions, PluginUsage, Tally};

/// Compares a plugin with another one.
pub(super) fn replay(console: &Console, arguments: &ReplayArguments) -> Result<Exit, CliError> {
    let (file, batches) = (&arguments.file, &arguments.batches);
    let place = format!("{} {}", file.display(), batches.display());
    console.started("plugin replay", &place);
    let mut reader = open(batches)?;
    let strategy = reader.head().strategy;
    let (load, against) = (&arguments.load, &arguments.against);
    let other = match against == Path::new("builtin") {
        true => super::options(console, super::builtin(strategy), &load.compile)?,
        false => super::configured(console, super::file(against), load, strategy)?,
    };
    let plugin = super::configured(console, super::file(file), load, strategy)?;
    let plugins = [plugin, other];
    let mut find = |finding: &Finding| console.output.both(Kind::Row, "row", finding);
    let mut replay = Replay::new(strategy, plugins, false, &mut find)?;
    let lines = ask_recorded(&mut replay, &mut reader)?;
    let report = replay.end(lines);
    console.output.both(Kind::Report, "report", &report);
    Ok(Exit::Done)
}

/// Tests a plugin.
pub(super) fn test(console: &Console, arguments: &TestArguments) -> Result<Exit, CliError> {
    let file = &arguments.file;
    console.started("plugin test", &file.display().to_string());
    let load = &arguments.load;
    let options = super::options(console, super::file(file), &load.compile)?;
    let found = inspect(&options, |strategy, options| {
        super::configure(console, load, strategy, options)
    })?;
    let configured = |strategy| super::configured(console, super::file(file), load, strategy);
    if let Some(error) = found.refusal {
        return Err(error.into());
    }
    let recordings = arguments.batches.iter().map(open);
    let recordings = recordings.collect::<Result<Vec<_>, _>>()?;
    let mut wrong = (0, 0);
    for strategy in found.strategies {
        let made = |replay: &mut Replay<'_>| {
            let asked = made::each(strategy, &mut |batch| replay.ask(0, batch));
            asked.map(|()| 0).map_err(strategy_error)
        };
        let options = configured(strategy)?;
        test_with(console, &options, (strategy, "made"), &mut wrong, made)?;
    }
    for (path, mut reader) in arguments.batches.iter().zip(recordings) {
        let (strategy, name) = (reader.head().strategy, path.display().to_string());
        let recorded = |replay: &mut Replay<'_>| ask_recorded(replay, &mut reader);
        let options = configured(strategy)?;
        test_with(console, &options, (strategy, &name), &mut wrong, recorded)?;
    }
    match wrong {
        (0, 0) => Ok(Exit::Done),
        (refused, differ) => Err(CliError::PluginTest { refused, differ }),
    }
}

/// Asks two instances of a plugin; adds what is wrong to `wrong`: answers that are refused, and
/// answers that differ.
fn test_with(
    console: &Console,
    options: &PluginOptions,
    (strategy, batches): (Strategy, &str),
    wrong: &mut (u64, u64),
    ask: impl FnOnce(&mut Replay<'_>) -> Result<u64, CliError>,
) -> Result<(), CliError> {
    let plugins = [(); 2].map(|()| PluginOptions {
        tally: Tally::default(),
        ..options.clone()
    });
    let mut find = |finding: &Finding| {
        // How much may be expired at once is the user's business, not that of made snapshots.
        if !matches!(finding, Finding::OverShare { .. }) {
            console.output.both(Kind::Row, "row", finding);
        }
    };
    let mut replay = Replay::new(strategy, plugins, true, &mut find)?;
    let lines = ask(&mut replay)?;
    let report = replay.end(lines);
    wrong.0 += report.refused;
    wrong.1 += report.differences;
    let told = Tested {
        batches_of: batches,
        report: &report,
    };
    console.output.both(Kind::Report, "report", &told);
    Ok(())
}

/// Asks all batches of a file; returns the last line.
fn ask_recorded(
    replay: &mut Replay<'_>,
    reader: &mut BatchReader<BufReader<File>>,
) -> Result<u64, CliError> {
    let mut last = 0;
    while let Some((line, batch)) = reader.next_batch()? {
        replay.ask(line, batch).map_err(strategy_error)?;
        last = line;
    }
    Ok(last)
}

fn strategy_error(error: StrategyError) -> CliError {
    MaintenanceError::from(error).into()
}

fn open(path: &PathBuf) -> Result<BatchReader<BufReader<File>>, CliError> {
    let file = File::open(path).map_err(|error| BatchesError {
        path: path.clone(),
        what: format!("cannot be read: {error}"),
    })?;
    Ok(BatchReader::new(BufReader::new(file), path.clone())?)
}

/// A test's report: what was found, and how far the limits are.
#[derive(Serialize)]
struct Tested<'a> {
    batches_of: &'a str,
    #[serde(flatten)]
    report: &'a ReplayReport,
}

impl fmt::Display for Tested<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        write!(
            f,
            "{}, {} batches ({}), {} rows: {} refused, {} differ",
            report.strategy,
            count(report.batches),
            self.batches_of,
            count(report.rows),
            report.refused,
            report.differences
        )?;
        match &report.plugin {
            Some(told) => margins(f, told),
            None => Ok(()),
        }
    }
}

/// Tells how much of each limit the largest call took.
fn margins(f: &mut fmt::Formatter<'_>, told: &PluginUsage) -> fmt::Result {
    let (usage, limits) = (&told.usage, &told.limits);
    let share = |used: f64, limit: u64| format!("{:.1} %", used * 100.0 / limit.max(1) as f64);
    write!(
        f,
        "\n  fuel    {} a row; at most {} a call, {} of the limit",
        count(usage.fuel_of_a_row() as u64),
        count(usage.fuel_of_a_call),
        share(usage.fuel_of_a_call as f64, limits.fuel)
    )?;
    write!(
        f,
        "\n  memory  {} of {}, {}",
        bytes(usage.memory_peak_bytes),
        bytes(limits.memory_bytes),
        share(usage.memory_peak_bytes as f64, limits.memory_bytes)
    )?;
    write!(
        f,
        "\n  time    {:.0} ns a row; at most {:.1} ms a call, {} of the limit",
        usage.nanoseconds_of_a_row(),
        usage.milliseconds_of_a_call,
        share(usage.milliseconds_of_a_call, limits.deadline_milliseconds)
    )
}
