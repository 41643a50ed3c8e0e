//! Loads the strategies that a command needs: the built-in one, or the one that `--plugin` names.
//!
//! A plugin that cannot be used ends the command; it is never replaced by the built-in one in
//! silence. Memory: the plan's plugin phase.

use super::error::CliError;
use crate::maintenance::retention::Retention;
use crate::maintenance::strategy::Splitting;
use crate::memory::MemoryPlan;

/// Loads the splitting strategy.
#[cfg(feature = "plugins")]
pub(super) fn splitting(
    plugins: &[String],
    memory: &MemoryPlan,
) -> Result<Box<dyn Splitting>, CliError> {
    use crate::plugin::{PluginOptions, load, parse_plugin_argument};
    let source = match plugins {
        [] => PluginOptions::default().source,
        [one] => parse_plugin_argument(one)?,
        _ => {
            return Err(CliError::Usage(
                "--plugin splitting=… can be given once".into(),
            ));
        }
    };
    let memory_bytes = memory.plugin_bytes;
    let options = PluginOptions {
        source,
        memory_bytes,
        ..PluginOptions::default()
    };
    Ok(Box::new(load(options)?))
}

/// Refuses: without the plugin host there is no strategy, and none is made up.
#[cfg(not(feature = "plugins"))]
pub(super) fn splitting(_: &[String], _: &MemoryPlan) -> Result<Box<dyn Splitting>, CliError> {
    Err(CliError::PluginsMissing)
}

/// Loads the retention strategy.
#[cfg(feature = "plugins")]
pub(super) fn retention(
    plugins: &[String],
    memory: &MemoryPlan,
) -> Result<Box<dyn Retention>, CliError> {
    use crate::plugin::{PluginOptions, load_retention, parse_strategy_argument};
    let mut options = PluginOptions {
        memory_bytes: memory.plugin_bytes,
        ..PluginOptions::retention()
    };
    match plugins {
        [] => {}
        [one] => options.source = parse_strategy_argument("retention", one)?,
        _ => {
            return Err(CliError::Usage(
                "--plugin retention=… can be given once".into(),
            ));
        }
    }
    Ok(Box::new(load_retention(options)?))
}

/// Refuses: without the plugin host there is no strategy, and none is made up.
#[cfg(not(feature = "plugins"))]
pub(super) fn retention(_: &[String], _: &MemoryPlan) -> Result<Box<dyn Retention>, CliError> {
    Err(CliError::PluginsMissing)
}
