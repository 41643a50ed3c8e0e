//! Compiles a plugin ahead of time, so that a run finds its code in the cache.
//!
//! A run compiles what it does not find, in a child with a limit; but the compiler may need more
//! memory than the container of a run has: some 300 MiB for a Python component. Whoever has that
//! memory, in Kubernetes an init container, compiles first. Memory: see `compile.rs`.

use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Stopwatch;

use super::cache::{Cache, Key};
use super::engine;
use super::error::{Failure, PluginError};
use super::load::{self, PluginOptions};

/// What compiling came to.
#[derive(Clone, Debug)]
pub struct Precompiled {
    /// BLAKE3 digest of the component, in hex.
    pub blake3: String,
    /// Where the code is kept.
    pub directory: PathBuf,
    /// Its file there.
    pub file: String,
    /// Bytes of machine code.
    pub code_bytes: u64,
    /// How long compiling took; none when it was there.
    pub compile_time: Option<Duration>,
    /// How long a start takes that finds the code.
    pub start_time: Duration,
}

/// Compiles the plugin of `options` into its cache, unless it is there.
///
/// # Errors
/// A component that cannot be compiled within the limits, or that imports what no plugin gets; a
/// cache that does not keep it.
pub fn precompile(options: &PluginOptions) -> Result<Precompiled, PluginError> {
    let name = options.source.name();
    let digest = options.source.digest().map_err(|failure| PluginError {
        plugin: name.clone(),
        failure,
    })?;
    compile_into_cache(options, &digest).map_err(|failure| PluginError {
        plugin: load::describe(&name, &digest, &options.limits),
        failure,
    })
}

fn compile_into_cache(options: &PluginOptions, digest: &[u8; 32]) -> Result<Precompiled, Failure> {
    let Some(directory) = &options.cache_directory else {
        let why = "there is no home directory to have it in: give --plugin-cache";
        return Err(Failure::io("open the plugin cache")(std::io::Error::other(
            why,
        )));
    };
    // A run goes without a cache that cannot be used; here it is what is asked for.
    let cache = Cache::open(directory).map_err(Failure::io("open the plugin cache"))?;
    let engine = engine::new_engine().map_err(|error| Failure::Compile(error.to_string()))?;
    let compiling = Stopwatch::start();
    let (component, was_there) = load::load_component(&engine, options, digest)?;
    let compile_time = compiling.elapsed();
    load::link(&engine, &component, |_| Ok(()))?;
    let starting = Stopwatch::start();
    let key = Key::new(&engine, digest);
    let code = cache.find(key).ok_or_else(|| {
        let error = std::io::Error::other("it is not there after it was written");
        Failure::io("keep the code in the plugin cache")(error)
    })?;
    let code_bytes = code.metadata().map_or(0, |metadata| metadata.len());
    drop(code);
    load::load_component(&engine, options, digest)?;
    Ok(Precompiled {
        blake3: hex::encode(digest),
        directory: directory.clone(),
        file: key.code_name(),
        code_bytes,
        compile_time: (!was_there).then_some(compile_time),
        start_time: starting.elapsed(),
    })
}
