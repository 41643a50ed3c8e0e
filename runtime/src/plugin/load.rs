//! Loading a plugin, the same for all strategies: which one and what it may take, its code, its
//! imports.
//!
//! Loading costs a digest of the file, a look into the cache and a mapping: a few milliseconds.
//! Nothing of the plugin runs. Memory: see the floor's head.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Store};

use crate::maintenance::strategy::StrategyError;

use super::cache::{self, Cache, Key};
use super::compile::{self, CompileLimits};
use super::engine;
use super::error::{Failure, PluginError, harmless};
use super::session::{self, CallLimits, Guest, LogLevel};
use super::splitting::bindings::careen::strategy::host_log;
use super::usage::Tally;
use super::wasm_file::PluginSource;

/// Package of every interface between host and plugin.
pub(super) const PACKAGE: &str = "careen:strategy/";

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
    /// Sums what the plugin uses.
    pub tally: Tally,
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
            tally: Tally::default(),
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

    /// Returns what one call may take.
    pub(super) fn limits(&self) -> CallLimits {
        CallLimits {
            memory_bytes: self.memory_bytes,
            fuel: self.fuel,
            deadline: self.deadline,
        }
    }
}

/// What every loaded plugin has.
pub(super) struct Parts {
    pub(super) engine: Engine,
    pub(super) name: String,
    pub(super) digest: [u8; 32],
    pub(super) limits: CallLimits,
    pub(super) tally: Tally,
}

impl Parts {
    /// Asks once, in a fresh instance that `call` makes; the plugin may answer that it cannot.
    pub(super) fn ask<R>(
        &self,
        call: impl FnOnce(&mut Store<Guest>) -> wasmtime::Result<Result<R, String>>,
    ) -> Result<R, Failure> {
        let answer = session::run(&self.engine, &self.name, self.limits, &self.tally, call)?;
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
    let limits = options.limits();
    let parts = || {
        let engine = engine::new_engine().map_err(|error| Failure::Compile(error.to_string()))?;
        let (component, _) = load_component(&engine, &options, &digest)?;
        let component = link(&engine, &component)?;
        Ok((engine, component))
    };
    let (engine, component) = parts().map_err(|failure| PluginError {
        plugin: describe(&name, &digest, limits),
        failure,
    })?;
    options.tally.of(&name, &digest, &limits);
    let parts = Parts {
        engine,
        name,
        digest,
        limits,
        tally: options.tally,
    };
    Ok((parts, component))
}

/// Takes the compiled code from the cache, or compiles it; says whether it was there.
pub(super) fn load_component(
    engine: &Engine,
    options: &PluginOptions,
    digest: &[u8; 32],
) -> Result<(Component, bool), Failure> {
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
    let (mut code, was_there) = match cache {
        None => (cache::compile_for_once(compile)?, false),
        Some(cache) => {
            let key = Key::new(engine, digest);
            match cache.find(key) {
                Some(code) => (code, true),
                None => (cache.insert(key, compile)?, false),
            }
        }
    };
    let component = engine::load(engine, &mut code);
    let component = component.map_err(|error| Failure::Compile(format!("{error:#}")))?;
    Ok((component, was_there))
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
pub(super) fn needs_host(item: &ComponentItem, engine: &Engine) -> bool {
    match item {
        ComponentItem::ComponentInstance(instance) => instance
            .exports(engine)
            .any(|(_, item)| !matches!(item.ty, ComponentItem::Type(_))),
        ComponentItem::Type(_) => false,
        _ => true,
    }
}

pub(super) fn describe(name: &str, digest: &[u8; 32], limits: CallLimits) -> String {
    format!(
        "{} (blake3 {}, memory {} KiB, fuel {}, deadline {} ms)",
        harmless(name),
        hex::encode(digest),
        limits.memory_bytes / 1024,
        limits.fuel,
        limits.deadline.as_millis()
    )
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
