//! Loads the strategies that a command needs: the built-in ones, or those that `--plugin` or the
//! strategies file name.
//!
//! A plugin that cannot be used ends the command; it is never replaced by the built-in one in
//! silence. A run checks every pin and every configuration at its start; strategies that are asked
//! once are loaded again when they are, so that no two of them are in memory beside splitting.
//! Memory: the plan's plugin phase.

use std::path::Path;

use super::Console;
use super::arguments::StrategiesArgument;
use super::error::CliError;
use super::used::Used;
use crate::maintenance::retention::Retention;
use crate::maintenance::run::Strategies;
use crate::maintenance::strategy::Splitting;
use crate::memory::MemoryPlan;
#[cfg(feature = "plugins")]
use crate::plugin::{
    PluginOptions, PluginSource, load, load_retention, load_scheduling, parse_strategy_arguments,
};

#[cfg(feature = "plugins")]
pub(super) mod file;
#[cfg(feature = "plugins")]
mod on_demand;

/// Which strategies the user names, and where it is told what they use.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "plugins"),
    expect(dead_code, reason = "nothing is loaded then")
)]
pub(super) struct Named<'a> {
    plugins: &'a [String],
    file: Option<&'a Path>,
    /// Where compiled code is kept, unless it is the default.
    cache: Option<&'a Path>,
    used: &'a Used,
}

impl<'a> Named<'a> {
    /// Takes what the command line names; the file of the environment where it names none.
    pub(super) fn new(
        console: &'a Console,
        plugins: &'a [String],
        strategies: &'a StrategiesArgument,
        used: &'a Used,
    ) -> Self {
        let given = strategies.file.as_deref();
        Self {
            plugins,
            file: given.or(console.surroundings.strategies.as_deref()),
            cache: console.global.plugin_cache.as_deref(),
            used,
        }
    }
}

/// Loads the splitting strategy.
#[cfg(feature = "plugins")]
pub(super) fn splitting(
    named: &Named<'_>,
    memory: &MemoryPlan,
) -> Result<Box<dyn Splitting>, CliError> {
    let [options] = chosen(named, memory, [("splitting", PluginOptions::default())])?;
    Ok(Box::new(load(options)?))
}

/// Loads the retention strategy.
#[cfg(feature = "plugins")]
pub(super) fn retention(
    named: &Named<'_>,
    memory: &MemoryPlan,
) -> Result<Box<dyn Retention>, CliError> {
    let [options] = chosen(named, memory, [("retention", PluginOptions::retention())])?;
    Ok(Box::new(load_retention(options)?))
}

/// Loads, or prepares, the strategies of a run; `expire` says whether it expires snapshots.
#[cfg(feature = "plugins")]
pub(super) fn of_run(
    named: &Named<'_>,
    memory: &MemoryPlan,
    expire: bool,
) -> Result<Strategies<'static>, CliError> {
    use on_demand::{RetentionOnDemand, SchedulingOnDemand};
    let is_retention = |argument: &String| argument.starts_with("retention=");
    if !expire && named.plugins.iter().any(is_retention) {
        let why = "--plugin retention=… needs --expire-snapshots: nothing else asks it";
        return Err(CliError::Usage(why.into()));
    }
    let builtin = [
        ("scheduling", PluginOptions::scheduling()),
        ("splitting", PluginOptions::default()),
        ("retention", PluginOptions::retention()),
    ];
    let [scheduling, splitting, retention] = chosen(named, memory, builtin)?;
    // One after the other: each is gone before the next is loaded.
    match is_given(&scheduling) {
        true => drop(load_scheduling(scheduling.clone())?),
        false => scheduling.check()?,
    }
    match expire && is_given(&retention) {
        true => drop(load_retention(retention.clone())?),
        false => retention.check()?,
    }
    Ok(Strategies {
        scheduling: Box::new(SchedulingOnDemand::new(scheduling)),
        splitting: Box::new(load(splitting)?),
        retention: expire.then(|| Box::new(RetentionOnDemand::new(retention)) as _),
    })
}

/// Tells whether a plugin is a stranger's, or is configured: then it is loaded before anything
/// happens.
#[cfg(feature = "plugins")]
fn is_given(options: &PluginOptions) -> bool {
    matches!(options.source, PluginSource::File { .. }) || options.configuration.is_some()
}

/// Gives a plugin the memory of the plan, and the cache that the user names.
#[cfg(feature = "plugins")]
pub(super) fn within(
    mut options: PluginOptions,
    memory: &MemoryPlan,
    cache: Option<&Path>,
) -> PluginOptions {
    options.limits.memory_bytes = memory.plugin_bytes;
    if let Some(directory) = cache {
        options.cache_directory = Some(directory.to_owned());
    }
    options
}

/// Keeps its compiler within what the plan leaves: both live in the same limit.
#[cfg(feature = "plugins")]
pub(super) fn compile_within(options: &mut PluginOptions, memory: &MemoryPlan) {
    let most = &mut options.compile.data_bytes;
    *most = (*most).min(memory.compile_bytes() as u64);
}

/// Gives strategies what the strategies file says of them, and then the plugins of the command
/// line.
#[cfg(feature = "plugins")]
fn chosen<const N: usize>(
    named: &Named<'_>,
    memory: &MemoryPlan,
    builtin: [(&'static str, PluginOptions); N],
) -> Result<[PluginOptions; N], CliError> {
    let names = builtin.each_ref().map(|(name, _)| *name);
    let mut options = builtin.map(|(name, options)| {
        let mut options = within(options, memory, named.cache);
        options.tally = named.used.of(name);
        compile_within(&mut options, memory);
        options
    });
    let given = parse_strategy_arguments(&names, named.plugins)?;
    if let Some(path) = named.file {
        let file = file::StrategiesFile::read(path)?;
        for (name, options) in names.iter().zip(&mut options) {
            file.apply(name, options, memory)?;
        }
    }
    for (name, source) in given {
        let all = names.iter().zip(&mut options);
        for (_, options) in all.filter(|(known, _)| **known == name) {
            options.source = source.clone();
        }
    }
    Ok(options)
}

/// Refuses: without the plugin host there is no strategy, and none is made up.
#[cfg(not(feature = "plugins"))]
pub(super) fn splitting(_: &Named<'_>, _: &MemoryPlan) -> Result<Box<dyn Splitting>, CliError> {
    Err(CliError::PluginsMissing)
}

/// Refuses: without the plugin host there is no strategy, and none is made up.
#[cfg(not(feature = "plugins"))]
pub(super) fn retention(_: &Named<'_>, _: &MemoryPlan) -> Result<Box<dyn Retention>, CliError> {
    Err(CliError::PluginsMissing)
}

/// Refuses: without the plugin host there is no strategy, and none is made up.
#[cfg(not(feature = "plugins"))]
pub(super) fn of_run(
    _: &Named<'_>,
    _: &MemoryPlan,
    _: bool,
) -> Result<Strategies<'static>, CliError> {
    Err(CliError::PluginsMissing)
}
