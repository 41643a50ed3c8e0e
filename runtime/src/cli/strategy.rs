//! Loads the strategies that a command needs: the built-in ones, or those that `--plugin` names.
//!
//! A plugin that cannot be used ends the command; it is never replaced by the built-in one in
//! silence. A run checks every pin at its start; strategies that are asked once are loaded when
//! they are, so that no two of them are in memory beside splitting. Memory: the plan's plugin
//! phase.

use std::path::Path;

use super::Console;
use super::error::CliError;
use super::used::Used;
use crate::maintenance::retention::Retention;
use crate::maintenance::run::Strategies;
use crate::maintenance::strategy::Splitting;
use crate::memory::MemoryPlan;

#[cfg(feature = "plugins")]
mod on_demand;

/// Which strategies a command has, and where it tells of them.
#[cfg_attr(not(feature = "plugins"), allow(dead_code))]
pub(super) struct Plugins<'a> {
    /// What `--plugin` names.
    named: &'a [String],
    /// Where compiled code is kept, unless it is the default.
    cache: Option<&'a Path>,
    /// Sums what they use.
    used: &'a Used,
}

impl<'a> Plugins<'a> {
    /// Those that `named` names, else the built-in ones.
    pub(super) fn new(console: &'a Console, named: &'a [String], used: &'a Used) -> Self {
        let cache = console.global.plugin_cache.as_deref();
        Self { named, cache, used }
    }
}

/// Loads the splitting strategy.
#[cfg(feature = "plugins")]
pub(super) fn splitting(
    plugins: &Plugins<'_>,
    memory: &MemoryPlan,
) -> Result<Box<dyn Splitting>, CliError> {
    use crate::plugin::{PluginOptions, load};
    let builtin = [PluginOptions::default()];
    let [options] = named(["splitting"], builtin, plugins, memory)?;
    Ok(Box::new(load(options)?))
}

/// Loads the retention strategy.
#[cfg(feature = "plugins")]
pub(super) fn retention(
    plugins: &Plugins<'_>,
    memory: &MemoryPlan,
) -> Result<Box<dyn Retention>, CliError> {
    use crate::plugin::{PluginOptions, load_retention};
    let builtin = [PluginOptions::retention()];
    let [options] = named(["retention"], builtin, plugins, memory)?;
    Ok(Box::new(load_retention(options)?))
}

/// Loads, or prepares, the strategies of a run; `expire` says whether it expires snapshots.
#[cfg(feature = "plugins")]
pub(super) fn of_run(
    plugins: &Plugins<'_>,
    memory: &MemoryPlan,
    expire: bool,
) -> Result<Strategies<'static>, CliError> {
    use crate::plugin::{PluginOptions, load};
    use on_demand::{RetentionOnDemand, SchedulingOnDemand};
    let is_retention = |argument: &String| argument.starts_with("retention=");
    if !expire && plugins.named.iter().any(is_retention) {
        let why = "--plugin retention=… needs --expire-snapshots: nothing else asks it";
        return Err(CliError::Usage(why.into()));
    }
    let builtin = [
        PluginOptions::scheduling(),
        PluginOptions::default(),
        PluginOptions::retention(),
    ];
    let names = ["scheduling", "splitting", "retention"];
    let [scheduling, splitting, retention] = named(names, builtin, plugins, memory)?;
    scheduling.check()?;
    retention.check()?;
    Ok(Strategies {
        scheduling: Box::new(SchedulingOnDemand::new(scheduling)),
        splitting: Box::new(load(splitting)?),
        retention: expire.then(|| Box::new(RetentionOnDemand::new(retention)) as _),
    })
}

/// Replaces the sources of strategies by those that were named, and gives them their limits.
#[cfg(feature = "plugins")]
fn named<const N: usize>(
    names: [&'static str; N],
    mut options: [crate::plugin::PluginOptions; N],
    plugins: &Plugins<'_>,
    memory: &MemoryPlan,
) -> Result<[crate::plugin::PluginOptions; N], CliError> {
    for (name, options) in names.iter().zip(&mut options) {
        options.memory_bytes = memory.plugin_bytes;
        options.tally = plugins.used.of(name);
        if let Some(directory) = plugins.cache {
            options.cache_directory = Some(directory.to_owned());
        }
    }
    for (name, source) in crate::plugin::parse_strategy_arguments(&names, plugins.named)? {
        let all = names.iter().zip(&mut options);
        for (_, options) in all.filter(|(known, _)| **known == name) {
            options.source = source.clone();
        }
    }
    Ok(options)
}

/// Refuses: without the plugin host there is no strategy, and none is made up.
#[cfg(not(feature = "plugins"))]
pub(super) fn splitting(_: &Plugins<'_>, _: &MemoryPlan) -> Result<Box<dyn Splitting>, CliError> {
    Err(CliError::PluginsMissing)
}

/// Refuses: without the plugin host there is no strategy, and none is made up.
#[cfg(not(feature = "plugins"))]
pub(super) fn retention(_: &Plugins<'_>, _: &MemoryPlan) -> Result<Box<dyn Retention>, CliError> {
    Err(CliError::PluginsMissing)
}

/// Refuses: without the plugin host there is no strategy, and none is made up.
#[cfg(not(feature = "plugins"))]
pub(super) fn of_run(
    _: &Plugins<'_>,
    _: &MemoryPlan,
    _: bool,
) -> Result<Strategies<'static>, CliError> {
    Err(CliError::PluginsMissing)
}
