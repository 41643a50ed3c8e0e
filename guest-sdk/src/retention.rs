//! The retention strategy: trait and macro.
//!
//! A source's snapshots come in batches, so the strategy is a value that lives from the first batch
//! to the last. Natively a test makes it with `begin` and calls `decide`; in a component the macro
//! keeps it in one place. Memory: whatever the strategy keeps between batches.

pub use crate::retention_bindings::exports::careen::strategy::retain::{
    Decision, Moment, Policy, Question, SnapshotRow, Source, Tag, ZoneChange,
};

/// Decides which snapshots of a source are kept.
///
/// One value for each source; nothing is remembered from one source to the next.
pub trait Retention: Sized {
    /// Begins a source. An error ends the task and changes nothing; its text is shown to people.
    fn begin(question: &Question) -> Result<Self, String>;

    /// Decides about the next snapshots, the newest first: one decision for each, in their order.
    ///
    /// The host refuses to expire what is pinned, what is Velero's, the newest complete snapshot
    /// of the source, and more than the user allows; then nothing at all is expired.
    fn decide(&mut self, snapshots: &[SnapshotRow]) -> Result<Vec<Decision>, String>;
}

impl Decision {
    /// Keeps the snapshot, for this reason.
    pub fn keep(reason: impl Into<String>) -> Self {
        Self {
            expire: false,
            reason: reason.into(),
        }
    }

    /// Expires the snapshot, for this reason.
    pub fn expire(reason: impl Into<String>) -> Self {
        Self {
            expire: true,
            reason: reason.into(),
        }
    }
}

/// Exports a type that implements [`Retention`] as the plugin's strategy. Use it once in a plugin.
///
/// Natively it expands to a check that the type implements the trait, nothing else.
///
/// ```
/// use careen_guest_sdk::register_retention;
/// use careen_guest_sdk::retention::{Decision, Question, Retention, SnapshotRow};
///
/// struct KeepAll;
///
/// impl Retention for KeepAll {
///     fn begin(_: &Question) -> Result<Self, String> {
///         Ok(Self)
///     }
///
///     fn decide(&mut self, snapshots: &[SnapshotRow]) -> Result<Vec<Decision>, String> {
///         Ok(snapshots.iter().map(|_| Decision::keep("all are kept")).collect())
///     }
/// }
///
/// register_retention!(KeepAll);
/// ```
#[macro_export]
macro_rules! register_retention {
    ($strategy:ty) => {
        const _: () = {
            #[cfg(target_arch = "wasm32")]
            struct Exported;

            #[cfg(target_arch = "wasm32")]
            ::std::thread_local! {
                static SOURCE: ::std::cell::RefCell<Option<$strategy>> =
                    const { ::std::cell::RefCell::new(None) };
            }

            #[cfg(target_arch = "wasm32")]
            impl $crate::retention_bindings::exports::careen::strategy::retain::Guest for Exported {
                fn begin(question: $crate::retention::Question) -> Result<(), String> {
                    $crate::log_panics();
                    let begun = <$strategy as $crate::retention::Retention>::begin(&question)?;
                    SOURCE.with(|source| *source.borrow_mut() = Some(begun));
                    Ok(())
                }

                fn decide(
                    snapshots: Vec<$crate::retention::SnapshotRow>,
                ) -> Result<Vec<$crate::retention::Decision>, String> {
                    SOURCE.with(|source| match &mut *source.borrow_mut() {
                        Some(strategy) => {
                            $crate::retention::Retention::decide(strategy, &snapshots)
                        }
                        None => Err("decide was called before begin".into()),
                    })
                }
            }

            #[cfg(target_arch = "wasm32")]
            $crate::retention_bindings::export_retention!(
                Exported with_types_in $crate::retention_bindings
            );

            #[cfg(not(target_arch = "wasm32"))]
            const _: fn(&$crate::retention::Question) -> Result<$strategy, String> =
                <$strategy as $crate::retention::Retention>::begin;
        };
    };
}
