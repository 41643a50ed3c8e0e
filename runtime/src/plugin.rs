//! The plugin floor: runs strategy plugins (WebAssembly components) and gives them the strategy
//! traits.
//!
//! A plugin is somebody else's code. It gets a memory, fuel, a deadline and a log function, nothing
//! else: no clock, no randomness, no files, no network. It answers a question; the answer is only a
//! proposal. Whatever goes wrong ends the task with the plugin's name, digest, limits and usage. A
//! plugin is never replaced by another one in silence.
//!
//! Memory: the engine and a loaded plugin are about 5 MiB, plus `memory_bytes` while a call runs.
//! Compiling takes 12 to 550 MiB, so it happens in a child process with its own limits; the result
//! is cached. `unsafe` is in `engine.rs` only: loading machine code that this program has compiled.

mod about;
mod argument;
pub mod batches;
mod cache;
mod compile;
mod configuration;
mod contract;
mod engine;
mod error;
pub mod inspect;
mod limits;
mod load;
pub mod precompile;
pub mod record;
pub mod replay;
mod retention;
mod scheduling;
mod schema;
mod session;
mod splitting;
mod tenants;
mod usage;
mod wasm_file;
mod words;

pub use about::About;
pub use argument::{
    parse_pinned_file, parse_plugin_argument, parse_strategy_argument, parse_strategy_arguments,
};
pub use cache::default_cache_directory;
pub use compile::{COMPILE_SUBCOMMAND, CompileLimits, compile_child_main};
pub use configuration::Configuration;
pub use contract::CONTRACT_VERSION;
pub use error::{Failure, PluginError};
pub use limits::{LimitExceeded, PluginLimits, WASM_BYTES_MAX};
pub use load::PluginOptions;
pub use retention::{RetentionPlugin, load_retention};
pub use scheduling::{SchedulingPlugin, load_scheduling};
pub use splitting::{SplittingPlugin, load};
pub use usage::{Decided, PluginUsage, Tally, Usage, UsageLimits};
pub use wasm_file::PluginSource;
