//! Looks at a plugin without a repository: what it is, what it imports, whether it could be used.
//!
//! Everything is told as far as it could be found out; why a run would refuse the plugin, with the
//! run's own words, comes last. Instantiating runs its start function, within its limits. Memory:
//! a loaded plugin.

use std::io;

use serde::Serialize;
use serde_json::Value;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::about::About;
use super::batches::Strategy;
use super::contract::bindings::DescribableIndices;
use super::error::{Failure, PluginError, harmless};
use super::limits::PluginLimits;
use super::load::{self, PluginOptions};
use super::session::Session;
use super::usage::{Tally, UsageLimits};
use super::wasm_file::PluginSource;
use super::{contract, engine};
use super::{load as load_splitting, load_retention, load_scheduling};

/// Names of imports and exports that are told. A component of a language runtime imports some
/// thirty.
const NAMES_MAX: usize = 100;

/// What a plugin is.
#[derive(Debug, Default, Serialize)]
pub struct Inspection {
    /// Its name: the file's, without the extension.
    pub name: String,
    /// Size of the component.
    pub bytes: u64,
    /// BLAKE3 digest of the component, in hex.
    pub blake3: String,
    /// What follows `--plugin` to use exactly this file, one for each strategy.
    pub pins: Vec<String>,
    /// The strategies whose interfaces it exports.
    pub strategies: Vec<Strategy>,
    /// Versions of the contract that it was built against.
    pub contract: Vec<String>,
    /// What it says about itself, where it does.
    pub about: Option<Introduction>,
    /// What it exports.
    pub exports: Vec<String>,
    /// What it imports.
    pub imports: Vec<Import>,
    /// Whether its code was in the cache.
    pub was_compiled: bool,
    /// Bytes of memories and tables after instantiation; none where that failed.
    pub first_memory_bytes: Option<u64>,
    /// Fuel of instantiation.
    pub instantiation_fuel: Option<u64>,
    /// Wall time of instantiation, in milliseconds.
    pub instantiation_milliseconds: Option<f64>,
    /// What each call may use.
    pub limits: UsageLimits,
    /// Why a run would refuse it.
    #[serde(skip)]
    pub refusal: Option<PluginError>,
}

/// What a plugin says about itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Introduction {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it decides.
    pub summary: String,
    /// The JSON Schema of its configuration; a text where it is no JSON.
    pub configuration_schema: Option<Value>,
}

impl From<&About> for Introduction {
    fn from(about: &About) -> Self {
        let schema = about.configuration_schema.as_deref();
        let value = |text: &str| {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(harmless(text)))
        };
        Self {
            name: about.name.clone(),
            version: about.version.clone(),
            summary: about.summary.clone(),
            configuration_schema: schema.map(value),
        }
    }
}

/// Something that a component wants from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Import {
    /// Its name.
    pub name: String,
    /// Whether no plugin gets it.
    pub refused: bool,
}

/// Looks at the plugin of `options`; `given` adds what one of the strategies is given that it turns
/// out to be. What differs from strategy to strategy is told of the first.
///
/// # Errors
/// A file that cannot be read; what `given` says. All else is told by [`Inspection::refusal`].
pub fn inspect<E: From<PluginError>>(
    options: &PluginOptions,
    mut given: impl FnMut(Strategy, &mut PluginOptions) -> Result<(), E>,
) -> Result<Inspection, E> {
    let source = &options.source;
    let name = source.name();
    let named = |failure| PluginError {
        plugin: name.clone(),
        failure,
    };
    let digest = source.digest().map_err(named)?;
    let mut bytes = Count(0);
    source.copy_to(&mut bytes).map_err(named)?;
    let mut found = Inspection {
        name: harmless(&name),
        bytes: bytes.0,
        blake3: hex::encode(digest),
        ..Inspection::default()
    };
    let opened = open(options, &digest, &mut found);
    let mut all = Vec::with_capacity(Strategy::ALL.len());
    for strategy in found.strategies.clone() {
        found.pins.extend(pin(source, strategy, &found.blake3));
        let mut options = options.clone();
        given(strategy, &mut options)?;
        all.push((strategy, options));
    }
    let limits = all
        .first()
        .map_or(options.limits, |(_, first)| first.limits);
    found.limits = (&limits).into();
    let looked =
        opened.and_then(|(engine, component)| look(&engine, &component, limits, &mut found));
    if let Err(failure) = looked {
        let plugin = load::describe(&name, &digest, &limits);
        found.refusal = Some(PluginError { plugin, failure });
        return Ok(found);
    }
    let mut all = all.into_iter();
    found.refusal = all.find_map(|(strategy, options)| fits(strategy, options).err());
    Ok(found)
}

/// Takes the component's code, and tells its interface.
fn open(
    options: &PluginOptions,
    digest: &[u8; 32],
    found: &mut Inspection,
) -> Result<(Engine, Component), Failure> {
    let engine = engine::new_engine().map_err(|error| Failure::Compile(error.to_string()))?;
    let (component, was_compiled) = load::load_component(&engine, options, digest)?;
    found.was_compiled = was_compiled;
    tell_interface(&engine, &component, found);
    Ok((engine, component))
}

/// Makes an instance, and lets it introduce itself.
fn look(
    engine: &Engine,
    component: &Component,
    limits: PluginLimits,
    found: &mut Inspection,
) -> Result<(), Failure> {
    let (linked, ()) = load::link(engine, component, |_| Ok(()))?;
    let tally = Tally::default();
    let mut session = Session::new(engine, &found.name, limits, &tally);
    let instance = session.call(engine, |store| linked.instantiate(store))?;
    let usage = tally.usage();
    found.first_memory_bytes = Some(usage.memory_peak_bytes);
    found.instantiation_fuel = Some(usage.fuel);
    found.instantiation_milliseconds = Some(usage.milliseconds);
    // Loading asks it too; but then it tells nothing where the configuration does not fit.
    if component.get_export_index(None, contract::ABOUT).is_some() {
        let indices = DescribableIndices::new(&linked)
            .map_err(|error| contract::not_linked(engine, component, &error))?;
        let description = session.call(engine, |store| {
            let exports = indices.load(&mut *store, &instance)?;
            exports.careen_strategy_about().call_describe(store)
        })?;
        found.about = Some(Introduction::from(&About::new(description)?));
    }
    match found.strategies.is_empty() {
        true => Err(Failure::World(format!(
            "it exports no strategy of {}, but {}",
            contract::PACKAGE.trim_end_matches('/'),
            listed(&found.exports)
        ))),
        false => Ok(()),
    }
}

/// Tells what the component exports and imports.
fn tell_interface(engine: &Engine, component: &Component, found: &mut Inspection) {
    let interface = component.component_type();
    for (import, item) in interface.imports(engine).take(NAMES_MAX) {
        found.imports.push(Import {
            name: harmless(import),
            refused: !contract::is_given(import, &item.ty, engine),
        });
    }
    for (export, _) in interface.exports(engine).take(NAMES_MAX) {
        found.exports.push(harmless(export));
        let Some(ours) = export.strip_prefix(contract::PACKAGE) else {
            continue;
        };
        let (name, version) = ours.split_once('@').unwrap_or((ours, ""));
        let strategy = match name {
            "retain" => Some(Strategy::Retention),
            "split" | "repack" | "tenants" => Some(Strategy::Splitting),
            "schedule" => Some(Strategy::Scheduling),
            _ => None,
        };
        let new = strategy.filter(|strategy| !found.strategies.contains(strategy));
        found.strategies.extend(new);
        let version = harmless(version);
        if !version.is_empty() && !found.contract.contains(&version) {
            found.contract.push(version);
        }
    }
}

/// Loads the plugin as a run would.
fn fits(strategy: Strategy, options: PluginOptions) -> Result<(), PluginError> {
    match strategy {
        Strategy::Retention => load_retention(options).map(drop),
        Strategy::Splitting => load_splitting(options).map(drop),
        Strategy::Scheduling => load_scheduling(options).map(drop),
    }
}

/// Returns what follows `--plugin` to use exactly this file.
fn pin(source: &PluginSource, strategy: Strategy, blake3: &str) -> Option<String> {
    let PluginSource::File { path, .. } = source else {
        return None;
    };
    Some(format!("{strategy}={}@blake3:{blake3}", path.display()))
}

/// Returns names in a row.
fn listed(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        names => names.join(", "),
    }
}

/// Counts bytes.
struct Count(u64);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
