//! `careen plugin …`: new, build, check, compile, test, record, replay.
//!
//! All of them change nothing but files that they are told to write, and the cache of compiled
//! code. Memory: a loaded plugin, or two; to record, that of a plan.

mod build;
mod check;
mod compile;
mod new;
mod project;
mod record;
mod replay;
mod templates;
mod tools;

use std::path::Path;

use super::Console;
use super::arguments::{CompileLimit, LoadArguments, PluginCommand};
use super::error::{CliError, Exit};
use super::kopia_config::read_bounded;
use super::strategy::file::StrategiesFile;
use super::strategy::{compile_within, within};
use super::workspace::memory_limit_bytes;
use crate::memory::{MemoryPlan, cgroup_limit_bytes};
use crate::plugin::batches::Strategy;
use crate::plugin::{Configuration, PluginOptions, PluginSource};

/// Largest file with a configuration: more than any plugin gets.
const CONFIGURATION_BYTES_MAX: u64 = 128 << 10;

/// Runs a plugin command.
pub(super) fn run(console: &Console, command: &PluginCommand) -> Result<Exit, CliError> {
    match command {
        PluginCommand::New(arguments) => new::run(console, arguments),
        PluginCommand::Build(arguments) => build::run(console, arguments),
        PluginCommand::Check(arguments) => check::run(console, arguments),
        PluginCommand::Compile(arguments) => compile::run(console, arguments),
        PluginCommand::Test(arguments) => replay::test(console, arguments),
        PluginCommand::Record(arguments) => record::run(console, arguments),
        PluginCommand::Replay(arguments) => replay::replay(console, arguments),
    }
}

/// Returns the options of a component, with the limits that a run has.
fn options(
    console: &Console,
    source: PluginSource,
    compile: &CompileLimit,
) -> Result<PluginOptions, CliError> {
    let memory = MemoryPlan::new(memory_limit_bytes(&console.global))?;
    let options = PluginOptions {
        source,
        ..PluginOptions::default()
    };
    let mut options = within(options, &memory, console.global.plugin_cache.as_deref());
    let cgroup = cgroup_limit_bytes();
    if let Some(bytes) = compile.compile_memory {
        options.compile.address_space_bytes = bytes as u64;
        options.compile.data_bytes = bytes as u64;
        if let Some(limit) = cgroup {
            // Beyond it the kernel would end this process too: cgroup v2 kills whole containers.
            compile_within(&mut options, &MemoryPlan::new(limit)?);
        }
    } else if console.global.memory.is_some() || cgroup.is_some() {
        compile_within(&mut options, &memory);
    }
    Ok(options)
}

/// The same with what a strategy is given: limits and configuration of the strategies file, then
/// those of the command line.
fn configured(
    console: &Console,
    source: PluginSource,
    load: &LoadArguments,
    strategy: Strategy,
) -> Result<PluginOptions, CliError> {
    let mut options = options(console, source, &load.compile)?;
    configure(console, load, strategy, &mut options)?;
    Ok(options)
}

/// Gives options what a strategy is given.
fn configure(
    console: &Console,
    load: &LoadArguments,
    strategy: Strategy,
    options: &mut PluginOptions,
) -> Result<(), CliError> {
    let memory = MemoryPlan::new(memory_limit_bytes(&console.global))?;
    if let Some(path) = &load.strategies {
        let file = StrategiesFile::read(path)?;
        file.apply_limits(strategy.name(), options, &memory)?;
    }
    let limits = &mut options.limits;
    limits.memory_bytes = load.plugin_memory.unwrap_or(limits.memory_bytes);
    limits.fuel = load.plugin_fuel.unwrap_or(limits.fuel);
    limits
        .check(memory.plugin_bytes_max())
        .map_err(CliError::Usage)?;
    if let Some(path) = &load.configuration {
        let refuse = |reason: String| CliError::PluginConfigurationFile {
            path: path.clone(),
            reason,
        };
        let bytes = read_bounded(path, CONFIGURATION_BYTES_MAX);
        let bytes = bytes.map_err(|error| refuse(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|error| refuse(error.to_string()))?;
        options.configuration = Some(Configuration::parse(&text).map_err(refuse)?);
    }
    Ok(())
}

/// Returns a component of a file; the pin is what `plugin check` is asked for.
fn file(path: &Path) -> PluginSource {
    PluginSource::File {
        path: path.to_owned(),
        blake3: None,
    }
}

/// Returns the built-in component of a strategy.
fn builtin(strategy: Strategy) -> PluginSource {
    match strategy {
        Strategy::Retention => PluginSource::BuiltinRetention,
        Strategy::Splitting => PluginSource::Builtin,
        Strategy::Scheduling => PluginSource::BuiltinScheduling,
    }
}
