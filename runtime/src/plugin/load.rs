//! Loading a plugin, the same for all strategies: its code, its imports, what it says about itself,
//! its configuration.
//!
//! Loading costs a digest of the file, a look into the cache and a mapping: a few milliseconds. A
//! plugin that can describe itself is asked then, and tries its configuration, in an instance that
//! is gone before the first question. Memory: see the floor's head.

use std::fs::File;
use std::path::PathBuf;

use wasmtime::component::{Component, HasSelf, Instance, InstancePre, Linker};
use wasmtime::{Engine, Store};

use crate::maintenance::strategy::StrategyError;

use super::about::About;
use super::cache::{self, Cache, Key};
use super::compile::{self, CompileLimits};
use super::configuration::{self, Configuration};
use super::contract::bindings::DescribableIndices;
use super::contract::bindings::careen::strategy::host_log;
use super::contract::{self, ABOUT};
use super::engine;
use super::error::{Failure, PluginError, harmless};
use super::limits::PluginLimits;
use super::session::{Guest, Session};
use super::usage::{Decided, Tally};
use super::wasm_file::PluginSource;

/// Which plugin to load and what it may take.
#[derive(Clone, Debug)]
pub struct PluginOptions {
    /// The component.
    pub source: PluginSource,
    /// What it may take.
    pub limits: PluginLimits,
    /// Its configuration, where the user gives one.
    pub configuration: Option<Configuration>,
    /// Where compiled code is kept; `None` compiles at every start.
    pub cache_directory: Option<PathBuf>,
    /// What compiling may take.
    pub compile: CompileLimits,
    /// Sums what the plugin uses.
    pub tally: Tally,
}

impl Default for PluginOptions {
    /// The built-in splitting strategy with the limits of every plugin.
    fn default() -> Self {
        Self {
            source: PluginSource::Builtin,
            limits: PluginLimits::default(),
            configuration: None,
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
}

/// What every loaded plugin has.
pub(super) struct Parts {
    engine: Engine,
    name: String,
    digest: [u8; 32],
    limits: PluginLimits,
    tally: Tally,
    linked: InstancePre<Guest>,
    about: Option<About>,
    configuration: Option<(DescribableIndices, String)>,
}

/// An instance of a plugin, configured: what one phase of a run asks. Nothing of it is left when it
/// is dropped. After an error it is of no use.
pub(super) struct Phase {
    session: Session,
    instance: Instance,
}

impl Parts {
    /// Begins a phase: makes an instance and configures it.
    pub(super) fn begin(&self) -> Result<Phase, Failure> {
        let mut session = self.session();
        let instance = session.call(&self.engine, |store| self.linked.instantiate(store))?;
        let mut phase = Phase { session, instance };
        if let Some((indices, text)) = &self.configuration {
            phase.configure(&self.engine, indices, text)?;
        }
        Ok(phase)
    }

    /// Asks once, in a phase of its own; the plugin may answer that it cannot.
    pub(super) fn ask_once<R>(
        &self,
        call: impl FnOnce(&mut Store<Guest>, &Instance) -> wasmtime::Result<Result<R, String>>,
    ) -> Result<R, Failure> {
        self.begin()?.ask(self, call)
    }

    /// Returns the BLAKE3 digest of the component.
    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Counts a question about so many rows.
    pub(super) fn asked(&self, rows: usize) {
        self.tally.add_question(rows);
    }

    /// Remembers a decision for the report.
    pub(super) fn decided(&self, decided: impl FnOnce() -> Decided) {
        self.tally.add_decision(decided);
    }

    /// Returns what the plugin says about itself, if it does.
    pub(super) fn about(&self) -> Option<&About> {
        self.about.as_ref()
    }

    /// Names the plugin in a failure.
    pub(super) fn failed(&self, failure: Failure) -> StrategyError {
        self.error(failure).into()
    }

    /// Returns name, digest, version and limits, for messages.
    pub(super) fn describe(&self) -> String {
        let version = match &self.about {
            Some(about) => format!("version {}, ", about.version),
            None => String::new(),
        };
        format!(
            "{} (blake3 {}, {version}{})",
            harmless(&self.name),
            hex::encode(self.digest),
            self.limits
        )
    }

    /// Returns what its calls have used at most, for messages.
    pub(super) fn used(&self) -> String {
        self.tally.usage().most_of(&self.limits)
    }

    fn error(&self, failure: Failure) -> PluginError {
        let plugin = self.describe();
        PluginError { plugin, failure }
    }

    fn session(&self) -> Session {
        Session::new(&self.engine, &self.name, self.limits, &self.tally)
    }

    /// Lets the plugin describe itself and try its configuration, in an instance of its own.
    fn introduce(
        &mut self,
        configured: Option<&Configuration>,
        fits: impl FnOnce(&mut Store<Guest>, &Instance) -> wasmtime::Result<()>,
    ) -> Result<(), Failure> {
        let component = self.linked.component();
        if component.get_export_index(None, ABOUT).is_none() {
            return configuration::agreed(None, configured).map(drop);
        }
        let indices = DescribableIndices::new(&self.linked)
            .map_err(|error| contract::not_linked(&self.engine, component, &error))?;
        let mut session = self.session();
        let (instance, description, fits) = session.call(&self.engine, |store| {
            let instance = self.linked.instantiate(&mut *store)?;
            let exports = indices.load(&mut *store, &instance)?;
            let about = exports.careen_strategy_about();
            let description = about.call_describe(&mut *store)?;
            let fits = fits(store, &instance);
            Ok((instance, description, fits))
        })?;
        fits.map_err(|error| contract::not_linked(&self.engine, component, &error))?;
        let about = About::new(description)?;
        self.name.clone_from(&about.name);
        let about = self.about.insert(about);
        if let Some(text) = configuration::agreed(Some(about), configured)? {
            let mut phase = Phase { session, instance };
            phase.configure(&self.engine, &indices, &text)?;
            self.configuration = Some((indices, text));
        }
        Ok(())
    }
}

impl Phase {
    /// Asks the instance; the plugin may answer that it cannot.
    pub(super) fn ask<R>(
        &mut self,
        parts: &Parts,
        call: impl FnOnce(&mut Store<Guest>, &Instance) -> wasmtime::Result<Result<R, String>>,
    ) -> Result<R, Failure> {
        let Self { session, instance } = self;
        let answer = session.call(&parts.engine, |store| call(store, instance))?;
        answer.map_err(|reason| Failure::Answered {
            reason: harmless(&reason),
            usage: parts.used(),
        })
    }

    fn configure(
        &mut self,
        engine: &Engine,
        indices: &DescribableIndices,
        text: &str,
    ) -> Result<(), Failure> {
        let Self { session, instance } = self;
        let configured = session.call(engine, |store| {
            let exports = indices.load(&mut *store, instance)?;
            exports.careen_strategy_about().call_configure(store, text)
        })?;
        let refused = |why: String| Failure::Configuration(format!("it says: {}", harmless(&why)));
        configured.map_err(refused)
    }
}

/// Reads the component, checks the pin, compiles or takes from the cache, links it, finds the
/// exports of its strategy with `exports`, and lets it introduce itself. `fits` compares the types
/// of what it exports with the contract's, which takes an instance: the one that introduces itself.
/// For a plugin without `about` its first question does that.
pub(super) fn load_parts<X>(
    options: PluginOptions,
    exports: impl FnOnce(&InstancePre<Guest>) -> wasmtime::Result<X>,
    fits: impl FnOnce(&X, &mut Store<Guest>, &Instance) -> wasmtime::Result<()>,
) -> Result<(Parts, X), PluginError> {
    let PluginOptions { source, limits, .. } = &options;
    let name = source.name();
    let digest = source.digest().map_err(|failure| PluginError {
        plugin: name.clone(),
        failure,
    })?;
    let load = || {
        let engine = engine::new_engine().map_err(|error| Failure::Compile(error.to_string()))?;
        let component = find_component(&engine, &options, &digest)?;
        let (linked, exports) = link(&engine, &component, exports)?;
        Ok((engine, linked, exports))
    };
    let (engine, linked, exports) = load().map_err(|failure| PluginError {
        plugin: describe(&name, &digest, limits),
        failure,
    })?;
    let mut parts = Parts {
        engine,
        name,
        digest,
        limits: *limits,
        tally: options.tally.clone(),
        linked,
        about: None,
        configuration: None,
    };
    let fits = |store: &mut Store<Guest>, instance: &Instance| fits(&exports, store, instance);
    match parts.introduce(options.configuration.as_ref(), fits) {
        Ok(()) => {
            let version = parts.about.as_ref().map(|about| &*about.version);
            parts.tally.of(&parts.name, version, &digest, &parts.limits);
            Ok((parts, exports))
        }
        Err(failure) => Err(parts.error(failure)),
    }
}

/// Names a plugin that has not introduced itself.
pub(super) fn describe(name: &str, digest: &[u8; 32], limits: &PluginLimits) -> String {
    let name = harmless(name);
    format!("{name} (blake3 {}, {limits})", hex::encode(digest))
}

/// Takes the code that was compiled ahead of time, else that of the cache, else compiles it.
fn find_component(
    engine: &Engine,
    options: &PluginOptions,
    digest: &[u8; 32],
) -> Result<Component, Failure> {
    let ahead = Cache::ahead_of_time();
    match ahead.and_then(|ahead| ahead.find(Key::new(engine, digest))) {
        Some(mut code) => {
            tracing::debug!(
                plugin = options.source.name(),
                "code compiled ahead is used"
            );
            loaded(engine, &mut code)
        }
        None => load_component(engine, options, digest).map(|(component, _)| component),
    }
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
    Ok((loaded(engine, &mut code)?, was_there))
}

fn loaded(engine: &Engine, code: &mut File) -> Result<Component, Failure> {
    engine::load(engine, code).map_err(|error| Failure::Compile(format!("{error:#}")))
}

/// Gives the component the log function and lets `exports` find what its strategy exports; refuses
/// every other import by name.
pub(super) fn link<X>(
    engine: &Engine,
    component: &Component,
    exports: impl FnOnce(&InstancePre<Guest>) -> wasmtime::Result<X>,
) -> Result<(InstancePre<Guest>, X), Failure> {
    contract::check_names(engine, component)?;
    let mut linker = Linker::new(engine);
    let linked = host_log::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest: &mut Guest| guest)
        .and_then(|()| linker.instantiate_pre(component))
        .and_then(|linked| Ok((exports(&linked)?, linked)));
    match linked {
        Ok((exports, linked)) => Ok((linked, exports)),
        Err(error) => Err(contract::not_linked(engine, component, &error)),
    }
}
