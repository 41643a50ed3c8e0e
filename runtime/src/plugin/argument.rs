//! What follows `--plugin` on a command line: a strategy, a file, and perhaps a pin. `plugin
//! compile` takes files with pins too.
//!
//! Read strictly: a pin that is not understood must not count as none. No memory cost.

use std::ffi::OsStr;

use super::error::{Failure, PluginError, harmless};
use super::wasm_file::PluginSource;

/// Reads what follows `--plugin`: `splitting=FILE` or `splitting=FILE@blake3:HEX`.
pub fn parse_plugin_argument(argument: &str) -> Result<PluginSource, PluginError> {
    parse_strategy_argument("splitting", argument)
}

/// Reads what follows `--plugin` of a command that has one strategy: `STRATEGY=FILE` or
/// `STRATEGY=FILE@blake3:HEX`.
pub fn parse_strategy_argument(
    strategy: &'static str,
    argument: &str,
) -> Result<PluginSource, PluginError> {
    parse_named(&[strategy], argument).map(|(_, source)| source)
}

/// Reads `FILE` or `FILE@blake3:HEX`.
///
/// # Errors
/// A pin that is not one, and no file.
pub fn parse_pinned_file(argument: &OsStr) -> Result<PluginSource, PluginError> {
    match argument.to_str() {
        Some(text) => pinned_file(text).map_err(|reason| refuse(text, reason)),
        None => Ok(PluginSource::File {
            path: argument.into(),
            blake3: None,
        }),
    }
}

/// Reads all `--plugin` of a command that has these strategies; each may be given once.
pub fn parse_strategy_arguments(
    strategies: &[&'static str],
    arguments: &[String],
) -> Result<Vec<(&'static str, PluginSource)>, PluginError> {
    let mut sources: Vec<(&'static str, PluginSource)> = Vec::new();
    for argument in arguments {
        let (strategy, source) = parse_named(strategies, argument)?;
        if sources.iter().any(|(known, _)| *known == strategy) {
            return Err(refuse(argument, format!("{strategy} is given twice")));
        }
        sources.push((strategy, source));
    }
    Ok(sources)
}

fn refuse(argument: &str, reason: String) -> PluginError {
    PluginError {
        plugin: harmless(argument),
        failure: Failure::Argument(reason),
    }
}

fn parse_named(
    strategies: &[&'static str],
    argument: &str,
) -> Result<(&'static str, PluginSource), PluginError> {
    let refuse = |reason: String| refuse(argument, reason);
    let named = argument.split_once('=').and_then(|(name, value)| {
        let strategy = strategies.iter().find(|strategy| **strategy == name)?;
        Some((*strategy, value))
    });
    let Some((strategy, value)) = named else {
        return Err(refuse(match strategies {
            [only] => format!("the only strategy is {only}"),
            _ => format!("the strategies are {}", strategies.join(", ")),
        }));
    };
    Ok((strategy, pinned_file(value).map_err(refuse)?))
}

fn pinned_file(value: &str) -> Result<PluginSource, String> {
    let (path, pin) = match value.rsplit_once('@') {
        Some((path, pin)) if pin.contains(':') && !pin.contains('/') => (path, Some(pin)),
        _ => (value, None),
    };
    if path.is_empty() {
        return Err("no file".into());
    }
    let digest = |pin: &str| {
        let text = pin.strip_prefix("blake3:")?;
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).ok()?;
        Some(digest)
    };
    let blake3 = match pin {
        // A pin that is not understood must not count as none.
        Some(pin) => Some(digest(pin).ok_or("the pin is not blake3: and 64 hex digits")?),
        None => None,
    };
    let path = path.into();
    Ok(PluginSource::File { path, blake3 })
}
