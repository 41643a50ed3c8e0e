//! The retention strategy: trait and macro.
//!
//! A source's snapshots come in batches, the newest first. Natively a test calls the trait, or lets
//! the kit do it; in a component the macro keeps strategy and source in one place. Memory: a batch,
//! and whatever the strategy keeps between batches.

pub use crate::retention_bindings::exports::careen::strategy::retain::{
    Decision, Moment, Policy, Question, SnapshotRow, Source, Tag, ZoneChange,
};

/// Decides which snapshots of a source are kept.
///
/// The strategy itself does not change: what it knows of a source is a value of its own, which
/// lives from the source's first snapshot to its last. Nothing is remembered from one source to the
/// next.
pub trait Retention {
    /// What is remembered of a source between its batches; `()` where each snapshot is decided by
    /// itself.
    type Source;

    /// Begins a source. An error ends the task and changes nothing; its text is shown to people.
    fn begin(&self, question: &Question) -> Result<Self::Source, String>;

    /// Decides about the next snapshots, the newest first: one decision for each, in their order.
    ///
    /// The host refuses to expire what is pinned, what is Velero's, the newest complete snapshot
    /// of the source, and more than the user allows; then nothing at all is expired.
    fn decide(
        &self,
        source: &mut Self::Source,
        snapshots: &[SnapshotRow],
    ) -> Result<Vec<Decision>, String>;
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

impl SnapshotRow {
    /// Returns whether it is complete: only complete ones count for periods.
    pub fn is_complete(&self) -> bool {
        self.incomplete_reason.is_empty()
    }

    /// Returns the value of a tag. Those given on Kopia's command line are found with and without
    /// their prefix `tag:`.
    pub fn tag(&self, key: &str) -> Option<&str> {
        let is = |tag: &&Tag| tag.key == key || tag.key.strip_prefix("tag:") == Some(key);
        self.tags.iter().find(is).map(|tag| &*tag.value)
    }
}

/// What a component keeps of its strategy: the strategy, and the source that it is at.
#[doc(hidden)]
pub struct Kept<S: Retention> {
    strategy: S,
    source: Option<S::Source>,
}

impl<S: Retention> From<S> for Kept<S> {
    fn from(strategy: S) -> Self {
        let source = None;
        Self { strategy, source }
    }
}

impl<S: Retention> Kept<S> {
    /// Begins a source.
    pub fn begin(&mut self, question: &Question) -> Result<(), String> {
        self.source = Some(self.strategy.begin(question)?);
        Ok(())
    }

    /// Decides about its next snapshots.
    pub fn decide(&mut self, snapshots: &[SnapshotRow]) -> Result<Vec<Decision>, String> {
        match &mut self.source {
            Some(source) => self.strategy.decide(source, snapshots),
            None => Err("decide was called before begin".into()),
        }
    }
}

/// Exports a type that implements [`Retention`] as the plugin's strategy. Use it once in a plugin.
///
/// `register_retention!(Mine)` for a type that is [`Default`], `register_retention!(Mine,
/// configured)` for one that is [`Configured`](crate::Configured). Natively it expands to a check
/// that the type is that, nothing else.
///
/// ```
/// use careen_guest_sdk::register_retention;
/// use careen_guest_sdk::retention::{Decision, Question, Retention, SnapshotRow};
///
/// /// Keeps the newest three complete snapshots of a source, and everything tagged `keep`.
/// #[derive(Default)]
/// struct Three;
///
/// impl Retention for Three {
///     /// Complete ones seen.
///     type Source = u32;
///
///     fn begin(&self, _: &Question) -> Result<u32, String> {
///         Ok(0)
///     }
///
///     fn decide(&self, seen: &mut u32, rows: &[SnapshotRow]) -> Result<Vec<Decision>, String> {
///         let decision = |row: &SnapshotRow| {
///             *seen += u32::from(row.is_complete());
///             if row.tag("keep").is_some() || !row.pins.is_empty() {
///                 return Decision::keep("somebody wants it");
///             }
///             match *seen {
///                 0..=3 => Decision::keep(format!("one of the newest three ({seen})")),
///                 _ => Decision::expire("older than the newest three"),
///             }
///         };
///         Ok(rows.iter().map(decision).collect())
///     }
/// }
///
/// register_retention!(Three);
///
/// // In a test: two years of snapshots, asked in batches, checked by the host's rules.
/// use careen_guest_sdk::kit;
/// let source = kit::source();
/// let decisions = kit::retain(&Three, &source).unwrap();
/// assert_eq!(decisions.len(), source.snapshots.len());
/// ```
#[macro_export]
macro_rules! register_retention {
    ($strategy:ty) => {
        $crate::register_retention!(@made $strategy, $crate::ByDefault);
    };
    ($strategy:ty, configured) => {
        $crate::register_retention!(@made $strategy, $crate::ByConfiguration);
    };
    (@made $strategy:ty, $way:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            $crate::__export_about!(
                $strategy, $crate::retention::Kept<$strategy>, $way, retention_bindings
            );

            impl $crate::retention_bindings::exports::careen::strategy::retain::Guest for Exported {
                fn begin(question: $crate::retention::Question) -> Result<(), String> {
                    ask(|kept| kept.begin(&question))
                }

                fn decide(
                    snapshots: Vec<$crate::retention::SnapshotRow>,
                ) -> Result<Vec<$crate::retention::Decision>, String> {
                    ask(|kept| kept.decide(&snapshots))
                }
            }

            $crate::retention_bindings::export_retention!(
                Exported with_types_in $crate::retention_bindings
            );
        };

        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = || {
            fn is_one<S: $crate::retention::Retention, W: $crate::Made<S>>() {}
            is_one::<$strategy, $way>();
        };
    };
}
