//! Write strategy plugins for Careen: one trait and one macro per strategy.
//!
//! * [`retention`] decides which snapshots are kept: [`Retention`](retention::Retention),
//!   [`register_retention!`].
//! * [`splitting`] decides which packs are rewritten together, and how index sets are shaped:
//!   [`Splitting`](splitting::Splitting), [`register_splitting!`]. With [`tenants`] it keeps the
//!   data of tenants in packs of their own.
//! * [`scheduling`] decides which due tasks run now, in what order, and how much they may use:
//!   [`Scheduling`](scheduling::Scheduling), [`register_scheduling!`].
//!
//! A plugin is an ordinary Rust library. It compiles natively, so `cargo test` needs no
//! WebAssembly, and [`kit`] has realistic questions and the host's own rules about answers; for
//! `wasm32-unknown-unknown` the macro adds the exports, and the linker writes a finished component.
//! The contract is `wit/strategy.wit`; the types here are generated from it and carry its
//! documentation.
//!
//! Name, version and summary of a plugin are those of its Cargo package. A strategy is a value:
//! [`Default`] makes it, or, where people configure it, [`Configured`] does.
//!
//! ```
//! use careen_guest_sdk::register_splitting;
//! use careen_guest_sdk::splitting::{PackPlan, PackQuestion, Plan, Question, Splitting};
//!
//! /// Rewrites nothing, and joins nothing.
//! #[derive(Default)]
//! struct Nothing;
//!
//! impl Splitting for Nothing {
//!     fn split(&self, question: &Question) -> Result<Plan, String> {
//!         Ok(Plan {
//!             shard_entries: question.shard_entries_max,
//!             joins: Vec::new(),
//!             reason: "ranges are never joined".into(),
//!         })
//!     }
//!
//!     fn repack(&mut self, question: &PackQuestion) -> Result<PackPlan, String> {
//!         Ok(PackPlan {
//!             pack_bytes: question.pack_bytes_max,
//!             groups: vec![0; question.packs.len()],
//!             reason: "packs are never rewritten".into(),
//!         })
//!     }
//! }
//!
//! register_splitting!(Nothing);
//! ```

/// The examples of the package's page compile.
#[cfg(all(doctest, feature = "json"))]
#[doc = include_str!("../README.md")]
struct Readme;

#[doc(hidden)]
pub mod bindings;
pub mod calendar;
mod configured;
#[cfg(not(target_arch = "wasm32"))]
pub mod kit;
pub mod retention;
#[doc(hidden)]
pub mod retention_bindings;
pub mod scheduling;
#[doc(hidden)]
pub mod scheduling_bindings;
pub mod splitting;
pub mod tenants;
#[doc(hidden)]
pub mod tenants_bindings;

pub use bindings::careen::strategy::host_log::Level;
pub use configured::Configured;
#[cfg(feature = "json")]
pub use configured::from_json;
#[doc(hidden)]
pub use configured::{ByConfiguration, ByDefault, Made};

/// Writes one line to the host's log; in a native test, to standard error.
///
/// The host cuts lines after 1,000 bytes, drops lines after the first 100 of a call, and ends a
/// plugin that writes more than 10,000.
pub fn log(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    bindings::careen::strategy::host_log::log(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    {
        use std::io::Write;
        // A test without a standard error has nobody to tell.
        let _ = writeln!(std::io::stderr(), "{level:?}: {message}");
    }
}

/// Makes a panic's message visible in the host's log. The host sees only `unreachable` otherwise.
#[doc(hidden)]
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| log(Level::Error, &panic.to_string())));
}

/// Keeps a strategy in one place of a component, and exports what it says about itself: the part
/// that all strategies share. `$way` makes the strategy.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_about {
    ($strategy:ty, $kept:ty, $way:ty, $bindings:ident) => {
        ::std::thread_local! {
            /// The strategy, once it was asked or configured.
            static STRATEGY: ::std::cell::RefCell<Option<$kept>> =
                const { ::std::cell::RefCell::new(None) };
        }

        /// Asks the strategy, and makes it first where it can be made without a configuration.
        fn ask<R>(question: impl FnOnce(&mut $kept) -> Result<R, String>) -> Result<R, String> {
            $crate::log_panics();
            STRATEGY.with(|strategy| {
                let mut strategy = strategy.borrow_mut();
                match &mut *strategy {
                    Some(strategy) => question(strategy),
                    none => {
                        let made = <$way as $crate::Made<$strategy>>::unconfigured()?;
                        question(none.insert(made.into()))
                    }
                }
            })
        }

        struct Exported;

        impl $crate::$bindings::exports::careen::strategy::about::Guest for Exported {
            fn describe() -> $crate::$bindings::exports::careen::strategy::about::Description {
                $crate::log_panics();
                let schema = <$way as $crate::Made<$strategy>>::SCHEMA;
                $crate::$bindings::exports::careen::strategy::about::Description {
                    name: ::std::env!("CARGO_PKG_NAME").into(),
                    version: ::std::env!("CARGO_PKG_VERSION").into(),
                    summary: ::std::env!("CARGO_PKG_DESCRIPTION").into(),
                    configuration_schema: schema.map(Into::into),
                }
            }

            fn configure(json: String) -> Result<(), String> {
                $crate::log_panics();
                let made = <$way as $crate::Made<$strategy>>::configure(&json)?;
                STRATEGY.with(|strategy| *strategy.borrow_mut() = Some(made.into()));
                Ok(())
            }
        }
    };
}
