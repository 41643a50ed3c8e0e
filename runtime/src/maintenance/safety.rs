//! Kopia's safety parameters: how long maintenance waits before it forgets or deletes something.
//!
//! They are law, and not stored in the repository: the command's `--safety` chooses `full` or, for
//! a repository that nobody else uses, `none`. They are shown in every plan and never shortened
//! otherwise. Plain values, no memory. Mirrors Kopia's `repo/maintenance/maintenance_safety.go`.

use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);

/// The margins between what is seen and what may be deleted. `Duration`s, by storage time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Safety {
    /// Age of an unreferenced pack before it may be deleted.
    pub pack_delete_min_age: Duration,
    /// How much older than the justifying GC run a tombstone must be before it is dropped.
    pub drop_content_from_index_extra_margin: Duration,
    /// Least time between the end of one GC run and the start of the one that confirms it.
    pub margin_between_snapshot_gc: Duration,
    /// Age of a content before GC may mark it deleted.
    pub min_content_age_subject_to_gc: Duration,
    /// Age of a content before it may be rewritten.
    pub rewrite_min_age: Duration,
    /// Time since its last checkpoint after which a session counts as dead.
    pub session_expiration_age: Duration,
    /// Whether tombstones are dropped only after two recorded GC runs.
    pub require_two_gc_cycles: bool,
    /// Time after a rewrite in which no pack is deleted.
    pub min_rewrite_to_orphan_deletion_delay: Duration,
    /// Whether waits for eventually consistent storage are left out.
    pub disable_eventual_consistency_safety: bool,
}

impl Safety {
    /// Kopia's `--safety=full`: safe beside any number of clients.
    pub const fn full() -> Self {
        Self {
            pack_delete_min_age: HOUR.saturating_mul(24),
            drop_content_from_index_extra_margin: HOUR,
            margin_between_snapshot_gc: HOUR.saturating_mul(4),
            min_content_age_subject_to_gc: HOUR.saturating_mul(24),
            rewrite_min_age: HOUR.saturating_mul(2),
            session_expiration_age: HOUR.saturating_mul(96),
            require_two_gc_cycles: true,
            min_rewrite_to_orphan_deletion_delay: HOUR,
            disable_eventual_consistency_safety: false,
        }
    }

    /// Kopia's `--safety=none`: only where nobody else uses the repository.
    pub const fn none() -> Self {
        Self {
            pack_delete_min_age: Duration::ZERO,
            drop_content_from_index_extra_margin: Duration::ZERO,
            margin_between_snapshot_gc: Duration::ZERO,
            min_content_age_subject_to_gc: Duration::ZERO,
            rewrite_min_age: Duration::ZERO,
            session_expiration_age: Duration::ZERO,
            require_two_gc_cycles: false,
            min_rewrite_to_orphan_deletion_delay: Duration::ZERO,
            disable_eventual_consistency_safety: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_kopias() {
        let full = Safety::full();
        let hours = |count: u64| Duration::from_secs(count * 3_600);
        assert_eq!(full.pack_delete_min_age, hours(24));
        assert_eq!(full.drop_content_from_index_extra_margin, hours(1));
        assert_eq!(full.margin_between_snapshot_gc, hours(4));
        assert_eq!(full.min_content_age_subject_to_gc, hours(24));
        assert_eq!(full.rewrite_min_age, hours(2));
        assert_eq!(full.session_expiration_age, hours(96));
        assert_eq!(full.min_rewrite_to_orphan_deletion_delay, hours(1));
        assert!(full.require_two_gc_cycles && !full.disable_eventual_consistency_safety);
        let none = Safety::none();
        assert!(!none.require_two_gc_cycles && none.disable_eventual_consistency_safety);
        assert_eq!(none.session_expiration_age, Duration::ZERO);
    }
}
