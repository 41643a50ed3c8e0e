//! Loads the strategies that a command needs: the built-in ones, or those that `--plugin` names.
//!
//! A plugin that cannot be used ends the command; it is never replaced by the built-in one in
//! silence. A run checks every pin at its start; strategies that are asked once are loaded when
//! they are, so that no two of them are in memory beside splitting. Memory: the plan's plugin
//! phase.

use super::error::CliError;
use crate::maintenance::retention::Retention;
use crate::maintenance::run::Strategies;
use crate::maintenance::strategy::Splitting;
use crate::memory::MemoryPlan;

#[cfg(feature = "plugins")]
mod on_demand;

/// Loads the splitting strategy.
#[cfg(feature = "plugins")]
pub(super) fn splitting(
    plugins: &[String],
    memory: &MemoryPlan,
) -> Result<Box<dyn Splitting>, CliError> {
    use crate::plugin::{PluginOptions, load};
    let options = limited(PluginOptions::default(), memory);
    let [options] = named(["splitting"], [options], plugins)?;
    Ok(Box::new(load(options)?))
}

/// Loads the retention strategy.
#[cfg(feature = "plugins")]
pub(super) fn retention(
    plugins: &[String],
    memory: &MemoryPlan,
) -> Result<Box<dyn Retention>, CliError> {
    use crate::plugin::{PluginOptions, load_retention};
    let options = limited(PluginOptions::retention(), memory);
    let [options] = named(["retention"], [options], plugins)?;
    Ok(Box::new(load_retention(options)?))
}

/// Loads, or prepares, the strategies of a run; `expire` says whether it expires snapshots.
#[cfg(feature = "plugins")]
pub(super) fn of_run(
    plugins: &[String],
    memory: &MemoryPlan,
    expire: bool,
) -> Result<Strategies<'static>, CliError> {
    use crate::plugin::{PluginOptions, load};
    use on_demand::{RetentionOnDemand, SchedulingOnDemand};
    let is_retention = |argument: &String| argument.starts_with("retention=");
    if !expire && plugins.iter().any(is_retention) {
        let why = "--plugin retention=… needs --expire-snapshots: nothing else asks it";
        return Err(CliError::Usage(why.into()));
    }
    let builtin = [
        PluginOptions::scheduling(),
        PluginOptions::default(),
        PluginOptions::retention(),
    ];
    let builtin = builtin.map(|options| limited(options, memory));
    let names = ["scheduling", "splitting", "retention"];
    let [scheduling, splitting, retention] = named(names, builtin, plugins)?;
    scheduling.check()?;
    retention.check()?;
    Ok(Strategies {
        scheduling: Box::new(SchedulingOnDemand::new(scheduling)),
        splitting: Box::new(load(splitting)?),
        retention: expire.then(|| Box::new(RetentionOnDemand::new(retention)) as _),
    })
}

/// Gives a plugin, and the compiler that it may need, what the plan has for them.
#[cfg(feature = "plugins")]
fn limited(
    options: crate::plugin::PluginOptions,
    memory: &MemoryPlan,
) -> crate::plugin::PluginOptions {
    let compile = crate::plugin::CompileLimits {
        data_bytes: options
            .compile
            .data_bytes
            .min(memory.compile_bytes() as u64),
        ..options.compile
    };
    crate::plugin::PluginOptions {
        memory_bytes: memory.plugin_bytes,
        compile,
        ..options
    }
}

/// Replaces the sources of strategies by those that were named.
#[cfg(feature = "plugins")]
fn named<const N: usize>(
    names: [&'static str; N],
    mut options: [crate::plugin::PluginOptions; N],
    plugins: &[String],
) -> Result<[crate::plugin::PluginOptions; N], CliError> {
    for (name, source) in crate::plugin::parse_strategy_arguments(&names, plugins)? {
        let all = names.iter().zip(&mut options);
        for (_, options) in all.filter(|(known, _)| **known == name) {
            options.source = source.clone();
        }
    }
    Ok(options)
}

/// Refuses: without the plugin host there is no strategy, and none is made up.
#[cfg(not(feature = "plugins"))]
pub(super) fn splitting(_: &[String], _: &MemoryPlan) -> Result<Box<dyn Splitting>, CliError> {
    Err(CliError::PluginsMissing)
}

/// Refuses: without the plugin host there is no strategy, and none is made up.
#[cfg(not(feature = "plugins"))]
pub(super) fn retention(_: &[String], _: &MemoryPlan) -> Result<Box<dyn Retention>, CliError> {
    Err(CliError::PluginsMissing)
}

/// Refuses: without the plugin host there is no strategy, and none is made up.
#[cfg(not(feature = "plugins"))]
pub(super) fn of_run(
    _: &[String],
    _: &MemoryPlan,
    _: bool,
) -> Result<Strategies<'static>, CliError> {
    Err(CliError::PluginsMissing)
}
