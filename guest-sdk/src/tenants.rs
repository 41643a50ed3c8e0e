//! Tenants: what a splitting strategy has besides, where no new pack may hold data of two.
//!
//! The strategy says whose each snapshot is, and is asked about packs with their owners. The host
//! keeps the data of tenants apart, whatever the answer. Natively a test calls the trait. Memory:
//! one question and one answer.

use crate::splitting::{self, PackPlan, Splitting};

pub use crate::tenants_bindings::exports::careen::strategy::tenants::{
    Owner, PackQuestion, PackRow, SnapshotRow, Tag,
};

/// Largest number of a tenant.
pub const TENANTS_MAX: u8 = 250;

impl SnapshotRow {
    /// Returns the value of a tag. Those given on Kopia's command line are found with and without
    /// their prefix `tag:`.
    pub fn tag(&self, key: &str) -> Option<&str> {
        let is = |tag: &&Tag| tag.key == key || tag.key.strip_prefix("tag:") == Some(key);
        self.tags.iter().find(is).map(|tag| &*tag.value)
    }
}

/// Gives snapshots tenants. Register it with `tenants` as the last word of
/// [`register_splitting!`](crate::register_splitting).
///
/// The host then reads the directories of all snapshots before each rewrite of full maintenance, as
/// snapshot GC does, to find out whose the contents of packs are. Quick cycles rewrite nothing
/// then; [`Splitting::repack`] is asked by hosts that do not know tenants.
///
/// ```
/// use careen_guest_sdk::register_splitting;
/// use careen_guest_sdk::splitting::{PackPlan, PackQuestion, Plan, Question, Splitting};
/// use careen_guest_sdk::tenants::{SnapshotRow, Tenants};
///
/// /// Machines whose names begin with `a-` are one tenant, all others another.
/// #[derive(Default)]
/// struct TwoTenants;
///
/// impl Splitting for TwoTenants {
///     fn split(&self, question: &Question) -> Result<Plan, String> {
///         Ok(Plan {
///             shard_entries: question.shard_entries_max,
///             joins: Vec::new(),
///             reason: "ranges are never joined".into(),
///         })
///     }
///
///     fn repack(&mut self, question: &PackQuestion) -> Result<PackPlan, String> {
///         let half = question.pack_bytes_max / 2;
///         let packs = question.packs.iter();
///         Ok(PackPlan {
///             pack_bytes: question.pack_bytes_max,
///             groups: packs.map(|pack| u8::from(pack.used_bytes < half)).collect(),
///             reason: "less than half is in use".into(),
///         })
///     }
/// }
///
/// impl Tenants for TwoTenants {
///     fn assign(&mut self, snapshots: &[SnapshotRow]) -> Result<Vec<u8>, String> {
///         let rows = snapshots.iter();
///         Ok(rows.map(|row| if row.host.starts_with("a-") { 1 } else { 2 }).collect())
///     }
/// }
///
/// register_splitting!(TwoTenants, tenants);
///
/// // In a test:
/// use careen_guest_sdk::kit;
/// kit::assign(&mut TwoTenants, &kit::snapshots_of_tenants()).unwrap();
/// kit::repack_by_owner(&mut TwoTenants, &kit::owned_packs()).unwrap();
/// ```
pub trait Tenants: Splitting {
    /// Gives each snapshot its tenant, 1 to [`TENANTS_MAX`], in the same order. An error ends the
    /// task and changes nothing.
    ///
    /// The questions of one rewrite come to one value, one after the other; packs are asked about
    /// with another value.
    fn assign(&mut self, snapshots: &[SnapshotRow]) -> Result<Vec<u8>, String>;

    /// Answers one question about packs whose owners are known, in place of
    /// [`Splitting::repack`], which it asks unless you write another one. Contents of different
    /// owners never share a new pack, also where their old packs have the same number.
    fn repack_by_owner(&mut self, question: &PackQuestion) -> Result<PackPlan, String> {
        let packs = question.packs.iter().map(|pack| splitting::PackRow {
            metadata: pack.metadata,
            used_bytes: pack.used_bytes,
        });
        self.repack(&splitting::PackQuestion {
            pack_bytes_max: question.pack_bytes_max,
            packs: packs.collect(),
        })
    }
}

/// Exports the interface of a strategy with tenants, inside `register_splitting!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_tenants {
    (export $strategy:ty, tenants) => {
        impl $crate::tenants_bindings::exports::careen::strategy::tenants::Guest for Exported {
            fn assign(
                snapshots: Vec<$crate::tenants::SnapshotRow>,
            ) -> Result<Vec<u8>, String> {
                ask(|strategy| $crate::tenants::Tenants::assign(strategy, &snapshots))
            }

            fn repack(
                question: $crate::tenants::PackQuestion,
            ) -> Result<
                $crate::tenants_bindings::exports::careen::strategy::tenants::PackPlan,
                String,
            > {
                let plan = ask(|strategy| {
                    $crate::tenants::Tenants::repack_by_owner(strategy, &question)
                })?;
                Ok($crate::tenants_bindings::exports::careen::strategy::tenants::PackPlan {
                    pack_bytes: plan.pack_bytes,
                    groups: plan.groups,
                    reason: plan.reason,
                })
            }
        }

        $crate::tenants_bindings::export_tenants!(
            Exported with_types_in $crate::tenants_bindings
        );
    };
    (check $strategy:ty, tenants) => {
        fn has_tenants<S: $crate::tenants::Tenants>() {}
        has_tenants::<$strategy>();
    };
}
