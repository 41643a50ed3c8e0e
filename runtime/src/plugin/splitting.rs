//! The splitting strategy as a plugin: loads a component and asks it. Loading is the same for all
//! strategies.
//!
//! Loading costs a digest of the file, a look into the cache and a mapping: a few milliseconds. A
//! question costs a fresh instance and a call: well below one. Whoever asks checks the answer with
//! `SplittingAnswer::check`; here it is only turned into plain values. Memory: see the floor's
//! head; the question is copied once, 24 bytes a row.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Store};

use crate::maintenance::strategy::{
    EpochRange, RepackAnswer, RepackQuestion, Splitting, SplittingAnswer, SplittingQuestion,
    StrategyError,
};

use super::cache::{self, Cache, Key};
use super::compile::{self, CompileLimits};
use super::engine;
use super::error::{Failure, PluginError, harmless, without_controls};
use super::session::{self, CallLimits, Guest, LogLevel};
use super::wasm_file::PluginSource;

pub(super) mod bindings {
    wasmtime::component::bindgen!({
        path: "../guest-sdk/wit",
        world: "splitting",
        imports: { default: trappable },
    });
}

use bindings::careen::strategy::host_log;
use bindings::exports::careen::strategy::repack as wit_packs;
use bindings::exports::careen::strategy::split as wit;

/// Package of every interface between host and plugin.
const PACKAGE: &str = "careen:strategy/";

/// Interface names of a component that an error shows.
const SHOWN_NAMES_MAX: usize = 8;

/// Which plugin to load and what it may take.
#[derive(Clone, Debug)]
pub struct PluginOptions {
    /// The component.
    pub source: PluginSource,
    /// Bytes of all its memories and tables together.
    pub memory_bytes: usize,
    /// Fuel of one question: about 6 to 20 units a nanosecond.
    pub fuel: u64,
    /// Wall time of one question.
    pub deadline: Duration,
    /// Where compiled code is kept; `None` compiles at every start.
    pub cache_directory: Option<PathBuf>,
    /// What compiling may take.
    pub compile: CompileLimits,
}

impl Default for PluginOptions {
    /// The built-in strategy; 8 MiB, a billion units of fuel (50 to 160 ms), 5 s.
    fn default() -> Self {
        Self {
            source: PluginSource::Builtin,
            memory_bytes: 8 << 20,
            fuel: 1_000_000_000,
            deadline: Duration::from_secs(5),
            cache_directory: cache::default_cache_directory(),
            compile: CompileLimits::default(),
        }
    }
}

impl PluginOptions {
    /// Reads the file and compares it with the pin: for plugins that are loaded later, if at all.
    ///
    /// # Errors
    /// A file that cannot be read, or is not the pinned one.
    pub fn check(&self) -> Result<(), PluginError> {
        let checked = self.source.digest();
        checked.map(drop).map_err(|failure| PluginError {
            plugin: self.source.name(),
            failure,
        })
    }
}

/// A loaded splitting plugin.
pub struct SplittingPlugin {
    parts: Parts,
    component: bindings::SplittingPre<Guest>,
}

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
    let (path, pin) = match value.rsplit_once('@') {
        Some((path, pin)) if pin.contains(':') && !pin.contains('/') => (path, Some(pin)),
        _ => (value, None),
    };
    if path.is_empty() {
        return Err(refuse("no file".into()));
    }
    let digest = |pin: &str| {
        let text = pin.strip_prefix("blake3:")?;
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).ok()?;
        Some(digest)
    };
    let blake3 = match pin {
        // A pin that is not understood must not count as none.
        Some(pin) => Some(
            digest(pin).ok_or_else(|| refuse("the pin is not blake3: and 64 hex digits".into()))?,
        ),
        None => None,
    };
    let path = path.into();
    Ok((strategy, PluginSource::File { path, blake3 }))
}

/// Loads a splitting plugin: reads, checks the pin, compiles or takes from the cache, checks its
/// interfaces.
///
/// # Errors
/// Every reason why the plugin cannot be used; nothing of it has run then.
pub fn load(options: PluginOptions) -> Result<SplittingPlugin, PluginError> {
    let (parts, component) = load_parts(options, |engine, component| {
        link(engine, component, |linker| {
            linker
                .instantiate_pre(component)
                .and_then(bindings::SplittingPre::new)
        })
    })?;
    Ok(SplittingPlugin { parts, component })
}

/// What every loaded plugin has.
pub(super) struct Parts {
    pub(super) engine: Engine,
    pub(super) name: String,
    pub(super) digest: [u8; 32],
    pub(super) limits: CallLimits,
}

impl Parts {
    /// Asks once, in a fresh instance that `call` makes; the plugin may answer that it cannot.
    pub(super) fn ask<R>(
        &self,
        call: impl FnOnce(&mut Store<Guest>) -> wasmtime::Result<Result<R, String>>,
    ) -> Result<R, Failure> {
        let answer = session::run(&self.engine, &self.name, self.limits, call)?;
        answer.map_err(|reason| Failure::Answered(harmless(&reason)))
    }

    /// Names the plugin in a failure.
    pub(super) fn failed(&self, failure: Failure) -> StrategyError {
        let plugin = self.describe();
        PluginError { plugin, failure }.into()
    }

    /// Returns name, digest and limits, for messages.
    pub(super) fn describe(&self) -> String {
        describe(&self.name, &self.digest, self.limits)
    }
}

/// Reads the component, checks the pin, compiles or takes from the cache, and links it with `link`.
pub(super) fn load_parts<C>(
    options: PluginOptions,
    link: impl FnOnce(&Engine, &Component) -> Result<C, Failure>,
) -> Result<(Parts, C), PluginError> {
    let name = options.source.name();
    let digest = options.source.digest().map_err(|failure| PluginError {
        plugin: name.clone(),
        failure,
    })?;
    let limits = CallLimits {
        memory_bytes: options.memory_bytes,
        fuel: options.fuel,
        deadline: options.deadline,
    };
    let parts = || {
        let engine = engine::new_engine().map_err(|error| Failure::Compile(error.to_string()))?;
        let component = load_component(&engine, &options, &digest)?;
        let component = link(&engine, &component)?;
        Ok((engine, component))
    };
    let (engine, component) = parts().map_err(|failure| PluginError {
        plugin: describe(&name, &digest, limits),
        failure,
    })?;
    let parts = Parts {
        engine,
        name,
        digest,
        limits,
    };
    Ok((parts, component))
}

/// Takes the compiled code from the cache, or compiles it.
fn load_component(
    engine: &Engine,
    options: &PluginOptions,
    digest: &[u8; 32],
) -> Result<Component, Failure> {
    let compile = |code: &File| compile::compile(&options.source, digest, code, &options.compile);
    let cache = options
        .cache_directory
        .as_deref()
        .and_then(|path| match Cache::open(path) {
            Ok(cache) => Some(cache),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "plugin cache is not used, compiling at every start");
                None
            }
        });
    let mut code = match cache {
        None => cache::compile_for_once(compile)?,
        Some(cache) => {
            let key = Key::new(engine, digest);
            match cache.find(key) {
                Some(code) => code,
                None => cache.insert(key, compile)?,
            }
        }
    };
    engine::load(engine, &mut code).map_err(|error| Failure::Compile(format!("{error:#}")))
}

/// Gives the component the log function and lets `export` find its export; refuses every other
/// import by name.
pub(super) fn link<P>(
    engine: &Engine,
    component: &Component,
    export: impl FnOnce(&Linker<Guest>) -> wasmtime::Result<P>,
) -> Result<P, Failure> {
    let interface = component.component_type();
    for (import, item) in interface.imports(engine) {
        if !import.starts_with(PACKAGE) && needs_host(&item.ty, engine) {
            return Err(Failure::Import(harmless(import)));
        }
    }
    let mut linker = Linker::new(engine);
    let linked = host_log::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest: &mut Guest| guest)
        .and_then(|()| export(&linker));
    linked.map_err(|error| {
        let exports: Vec<String> = interface
            .exports(engine)
            .take(SHOWN_NAMES_MAX)
            .map(|(export, _)| harmless(export))
            .collect();
        let exports = if exports.is_empty() {
            "nothing".into()
        } else {
            exports.join(", ")
        };
        Failure::World(format!(
            "{}; it exports {exports}",
            harmless(&format!("{error:#}"))
        ))
    })
}

/// Tells whether the host would have to provide something: an interface of types alone needs
/// nothing.
fn needs_host(item: &ComponentItem, engine: &Engine) -> bool {
    match item {
        ComponentItem::ComponentInstance(instance) => instance
            .exports(engine)
            .any(|(_, item)| !matches!(item.ty, ComponentItem::Type(_))),
        ComponentItem::Type(_) => false,
        _ => true,
    }
}

fn describe(name: &str, digest: &[u8; 32], limits: CallLimits) -> String {
    format!(
        "{} (blake3 {}, memory {} KiB, fuel {}, deadline {} ms)",
        harmless(name),
        hex::encode(digest),
        limits.memory_bytes / 1024,
        limits.fuel,
        limits.deadline.as_millis()
    )
}

impl SplittingPlugin {
    /// Returns the BLAKE3 digest of the component: what a pin holds.
    pub fn digest(&self) -> &[u8; 32] {
        &self.parts.digest
    }

    fn ask(&mut self, question: &SplittingQuestion) -> Result<SplittingAnswer, Failure> {
        let question = into_wit(question);
        let component = &self.component;
        let plan = self.parts.ask(|store| {
            let instance = component.instantiate(&mut *store)?;
            instance
                .careen_strategy_split()
                .call_split(store, &question)
        })?;
        Ok(from_wit(plan))
    }

    fn ask_about_packs(&mut self, question: &RepackQuestion) -> Result<RepackAnswer, Failure> {
        let packs = question.packs.iter().map(|row| wit_packs::PackRow {
            metadata: row.metadata,
            used_bytes: row.used_bytes,
        });
        let question = wit_packs::PackQuestion {
            pack_bytes_max: question.pack_bytes_max,
            packs: packs.collect(),
        };
        let component = &self.component;
        let plan = self.parts.ask(|store| {
            let instance = component.instantiate(&mut *store)?;
            instance
                .careen_strategy_repack()
                .call_repack(store, &question)
        })?;
        Ok(RepackAnswer {
            pack_bytes: plan.pack_bytes,
            groups: plan.groups,
            reason: without_controls(&plan.reason),
        })
    }
}

impl Splitting for SplittingPlugin {
    fn split(&mut self, question: &SplittingQuestion) -> Result<SplittingAnswer, StrategyError> {
        let answer = self.ask(question);
        answer.map_err(|failure| self.parts.failed(failure))
    }

    fn repack(&mut self, question: &RepackQuestion) -> Result<RepackAnswer, StrategyError> {
        let answer = self.ask_about_packs(question);
        answer.map_err(|failure| self.parts.failed(failure))
    }

    fn describe(&self) -> String {
        self.parts.describe()
    }
}

fn into_wit(question: &SplittingQuestion) -> wit::Question {
    wit::Question {
        write_epoch: question.write_epoch,
        chain_end: question.chain_end,
        last_settled: question.last_settled,
        full_checkpoint_frequency: question.full_checkpoint_frequency,
        // Kopia's own maximum fits; a caller's larger one would be refused by the check anyway.
        shard_entries_max: u32::try_from(question.shard_entries_max).unwrap_or(u32::MAX),
        epochs: question
            .epochs
            .iter()
            .map(|row| wit::EpochRow {
                epoch: row.epoch,
                blobs: row.blobs,
                bytes: row.bytes,
                compacted: row.compacted,
            })
            .collect(),
    }
}

fn from_wit(plan: wit::Plan) -> SplittingAnswer {
    SplittingAnswer {
        shard_entries: plan.shard_entries.into(),
        joins: plan
            .joins
            .iter()
            .map(|join| EpochRange {
                min: join.min,
                max: join.max,
            })
            .collect(),
        // Its length is the check's business; what steers a terminal is not.
        reason: without_controls(&plan.reason),
    }
}

impl host_log::Host for Guest {
    fn log(&mut self, level: host_log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            host_log::Level::Debug => LogLevel::Debug,
            host_log::Level::Info => LogLevel::Info,
            host_log::Level::Warn => LogLevel::Warn,
            host_log::Level::Error => LogLevel::Error,
        };
        Guest::log(self, level, &message)
    }
}
