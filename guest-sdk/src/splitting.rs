//! The splitting strategy: trait and macro.
//!
//! Two questions: how index sets are shaped, and which packs are rewritten together. The second
//! comes in batches of packs; whose data lies in them is asked for with [`crate::tenants`].
//! Natively a test calls the trait. Memory: one question and one answer, and what the strategy
//! keeps between the batches of a rewrite.

pub use crate::bindings::exports::careen::strategy::repack::{PackPlan, PackQuestion, PackRow};
pub use crate::bindings::exports::careen::strategy::split::{EpochRange, EpochRow, Plan, Question};

/// Decides the shape of index sets, and which packs are rewritten.
pub trait Splitting {
    /// Answers one question. An error ends the task and changes nothing; its text is shown to
    /// people.
    ///
    /// What the answer may hold is written at [`Plan`]; the host refuses everything else.
    fn split(&self, question: &Question) -> Result<Plan, String>;

    /// Answers one question about packs. An error ends the task and changes nothing.
    ///
    /// The questions of one rewrite come to one value, one after the other, until each pack was in
    /// one; the next rewrite begins with a fresh value. What the answer may hold is written at
    /// [`PackPlan`]; the host refuses everything else.
    fn repack(&mut self, question: &PackQuestion) -> Result<PackPlan, String>;
}

/// Exports a type that implements [`Splitting`] as the plugin's strategy. Use it once in a plugin.
///
/// `register_splitting!(Mine)` for a type that is [`Default`], `register_splitting!(Mine,
/// configured)` for one that is [`Configured`](crate::Configured); with `tenants` behind it for one
/// that has [`Tenants`](crate::tenants::Tenants) too: `register_splitting!(Mine, configured,
/// tenants)`. Natively it expands to a check that the type is that, nothing else.
///
/// ```
/// use careen_guest_sdk::register_splitting;
/// use careen_guest_sdk::splitting::{PackPlan, PackQuestion, PackRow, Plan, Question, Splitting};
///
/// /// Kopia's shape of the index; packs of which less than a quarter is in use go into new ones.
/// #[derive(Default)]
/// struct Quarter;
///
/// impl Splitting for Quarter {
///     fn split(&self, question: &Question) -> Result<Plan, String> {
///         Ok(Plan {
///             shard_entries: question.shard_entries_max,
///             joins: Vec::new(),
///             reason: "ranges are never joined".into(),
///         })
///     }
///
///     fn repack(&mut self, question: &PackQuestion) -> Result<PackPlan, String> {
///         let most = question.pack_bytes_max;
///         let group = |pack: &PackRow| u8::from(pack.used_bytes < most / 4);
///         Ok(PackPlan {
///             pack_bytes: most,
///             groups: question.packs.iter().map(group).collect(),
///             reason: "less than a quarter is in use".into(),
///         })
///     }
/// }
///
/// register_splitting!(Quarter);
///
/// // In a test:
/// use careen_guest_sdk::kit;
/// let chosen = kit::repack(&mut Quarter, &kit::packs()).unwrap();
/// assert!(chosen.iter().any(|group| *group == 1));
/// ```
#[macro_export]
macro_rules! register_splitting {
    ($strategy:ty) => {
        $crate::register_splitting!(@made $strategy, $crate::ByDefault,);
    };
    ($strategy:ty, configured) => {
        $crate::register_splitting!(@made $strategy, $crate::ByConfiguration,);
    };
    ($strategy:ty, tenants) => {
        $crate::register_splitting!(@made $strategy, $crate::ByDefault, tenants);
    };
    ($strategy:ty, configured, tenants) => {
        $crate::register_splitting!(@made $strategy, $crate::ByConfiguration, tenants);
    };
    (@made $strategy:ty, $way:ty, $($tenants:ident)?) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            $crate::__export_about!($strategy, $strategy, $way, bindings);

            impl $crate::bindings::exports::careen::strategy::split::Guest for Exported {
                fn split(
                    question: $crate::splitting::Question,
                ) -> Result<$crate::splitting::Plan, String> {
                    ask(|strategy| $crate::splitting::Splitting::split(strategy, &question))
                }
            }

            impl $crate::bindings::exports::careen::strategy::repack::Guest for Exported {
                fn repack(
                    question: $crate::splitting::PackQuestion,
                ) -> Result<$crate::splitting::PackPlan, String> {
                    ask(|strategy| $crate::splitting::Splitting::repack(strategy, &question))
                }
            }

            $crate::bindings::export_splitting!(Exported with_types_in $crate::bindings);
            $($crate::__export_tenants!(export $strategy, $tenants);)?
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = || {
            fn is_one<S: $crate::splitting::Splitting, W: $crate::Made<S>>() {}
            is_one::<$strategy, $way>();
            $($crate::__export_tenants!(check $strategy, $tenants);)?
        };
    };
}
