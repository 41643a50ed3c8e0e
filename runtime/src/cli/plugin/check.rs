//! `careen plugin check`: what a plugin is, and whether a run would use it.
//!
//! What could be found out is told even if the plugin is refused; the refusal is the error that a
//! run would end with. Memory: a loaded plugin.

use std::fmt;

use serde::Serialize;

use crate::cli::Console;
use crate::cli::arguments::CheckArguments;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::Kind;
use crate::cli::wording::{bytes, count};
use crate::plugin::inspect::{Inspection, inspect};

/// Looks at a component.
pub(super) fn run(console: &Console, arguments: &CheckArguments) -> Result<Exit, CliError> {
    let file = &arguments.file;
    console.started("plugin check", &file.display().to_string());
    let load = &arguments.load;
    let options = super::options(console, super::file(file), &load.compile)?;
    let found = inspect(&options, |strategy, options| {
        super::configure(console, load, strategy, options)
    })?;
    console.output.both(Kind::Report, "report", &Told(&found));
    match found.refusal {
        Some(error) => Err(error.into()),
        None => Ok(Exit::Done),
    }
}

/// An inspection as people read it.
#[derive(Serialize)]
#[serde(transparent)]
struct Told<'a>(&'a Inspection);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.0;
        write!(f, "{}: {}", found.name, bytes(found.bytes))?;
        write!(f, "\n  blake3      {}", found.blake3)?;
        if let Some(about) = &found.about {
            write!(
                f,
                "\n  says        {} {}: {}",
                about.name, about.version, about.summary
            )?;
        }
        for pin in &found.pins {
            write!(f, "\n  use it as   --plugin {pin}")?;
        }
        if !found.strategies.is_empty() {
            let names = found.strategies.iter().map(|strategy| strategy.name());
            write!(
                f,
                "\n  strategy    {}",
                names.collect::<Vec<_>>().join(", ")
            )?;
        }
        if !found.contract.is_empty() {
            let versions = found.contract.join(", ");
            write!(f, "\n  contract    careen:strategy@{versions}")?;
        }
        for (number, import) in found.imports.iter().enumerate() {
            let label = if number == 0 { "imports" } else { "" };
            let refused = if import.refused { "  REFUSED" } else { "" };
            write!(f, "\n  {label:<11} {}{refused}", import.name)?;
        }
        if found.imports.is_empty() && !found.exports.is_empty() {
            write!(f, "\n  imports     nothing")?;
        }
        if let (Some(memory), Some(fuel), Some(time)) = (
            found.first_memory_bytes,
            found.instantiation_fuel,
            found.instantiation_milliseconds,
        ) {
            write!(
                f,
                "\n  memory      {} at first, of {}",
                bytes(memory),
                bytes(found.limits.memory_bytes)
            )?;
            write!(
                f,
                "\n  instance    {} fuel of {}, {time:.2} ms",
                count(fuel),
                count(found.limits.fuel)
            )?;
        }
        let schema = found.about.as_ref();
        match schema.and_then(|about| about.configuration_schema.as_ref()) {
            Some(schema) => write!(f, "\n  configure   {schema}"),
            None => Ok(()),
        }
    }
}
