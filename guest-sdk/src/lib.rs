//! Write strategy plugins for Careen: one trait and one macro per strategy.
//!
//! A plugin is an ordinary Rust library. It compiles natively, so `cargo test` needs no
//! WebAssembly; for `wasm32-unknown-unknown` the macro adds the exports, and the linker writes a
//! finished component. The contract is `wit/strategy.wit`; the types here are generated from it and
//! carry its documentation.
//!
//! ```
//! use careen_guest_sdk::{PackPlan, PackQuestion, Plan, Question, Splitting, register_splitting};
//!
//! struct NeverJoin;
//!
//! impl Splitting for NeverJoin {
//!     fn split(question: &Question) -> Result<Plan, String> {
//!         Ok(Plan {
//!             shard_entries: question.shard_entries_max,
//!             joins: Vec::new(),
//!             reason: "ranges are never joined".into(),
//!         })
//!     }
//!
//!     fn repack(question: &PackQuestion) -> Result<PackPlan, String> {
//!         Ok(PackPlan {
//!             pack_bytes: question.pack_bytes_max,
//!             groups: vec![0; question.packs.len()],
//!             reason: "packs are never rewritten".into(),
//!         })
//!     }
//! }
//!
//! register_splitting!(NeverJoin);
//! ```
//!
//! Retention strategies are in [`retention`], scheduling strategies in [`scheduling`].

#[doc(hidden)]
pub mod bindings;
pub mod retention;
#[doc(hidden)]
pub mod retention_bindings;
pub mod scheduling;
#[doc(hidden)]
pub mod scheduling_bindings;

pub use bindings::careen::strategy::host_log::Level;
pub use bindings::exports::careen::strategy::repack::{PackPlan, PackQuestion, PackRow};
pub use bindings::exports::careen::strategy::split::{EpochRange, EpochRow, Plan, Question};

/// Decides the shape of index sets, and which packs are rewritten.
///
/// There is no `self`: every call gets a fresh instance, nothing is remembered between calls.
pub trait Splitting {
    /// Answers one question. An error ends the task and changes nothing; its text is shown to
    /// people.
    ///
    /// What the answer may hold is written at [`Plan`]; the host refuses everything else.
    fn split(question: &Question) -> Result<Plan, String>;

    /// Answers one question about packs. An error ends the task and changes nothing.
    ///
    /// What the answer may hold is written at [`PackPlan`]; the host refuses everything else.
    fn repack(question: &PackQuestion) -> Result<PackPlan, String>;
}

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

/// Exports a type that implements [`Splitting`] as the plugin's strategy. Use it once in a plugin.
///
/// Natively it expands to a check that the type implements the trait, nothing else.
#[macro_export]
macro_rules! register_splitting {
    ($strategy:ty) => {
        const _: () = {
            #[cfg(target_arch = "wasm32")]
            struct Exported;

            #[cfg(target_arch = "wasm32")]
            impl $crate::bindings::exports::careen::strategy::split::Guest for Exported {
                fn split(question: $crate::Question) -> Result<$crate::Plan, String> {
                    $crate::log_panics();
                    <$strategy as $crate::Splitting>::split(&question)
                }
            }

            #[cfg(target_arch = "wasm32")]
            impl $crate::bindings::exports::careen::strategy::repack::Guest for Exported {
                fn repack(question: $crate::PackQuestion) -> Result<$crate::PackPlan, String> {
                    $crate::log_panics();
                    <$strategy as $crate::Splitting>::repack(&question)
                }
            }

            #[cfg(target_arch = "wasm32")]
    $crate::bindings::export_splitting!(Exported with_types_in $crate::bindings);

            #[cfg(not(target_arch = "wasm32"))]
            const _: fn(&$crate::Question) -> Result<$crate::Plan, String> =
                <$strategy as $crate::Splitting>::split;

            #[cfg(not(target_arch = "wasm32"))]
            const _: fn(&$crate::PackQuestion) -> Result<$crate::PackPlan, String> =
                <$strategy as $crate::Splitting>::repack;
        };
    };
}
