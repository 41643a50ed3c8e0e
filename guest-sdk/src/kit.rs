//! A test kit: realistic questions, and the host's own rules about answers. For native tests only.
//!
//! Each question is the same every time. `retain`, `repack`, `split`, `schedule`, `assign` and
//! `repack_by_owner` ask a strategy as the host does, in batches, and refuse what the host would
//! refuse, with the host's reasons. What they cannot know is the host's alone: how many snapshots
//! of a source the user allows to be expired at once, and whether a task is still safe when its
//! turn comes.
//!
//! ```
//! use careen_guest_sdk::kit;
//! # use careen_guest_sdk::retention::{Decision, Question, Retention, SnapshotRow};
//! # struct Mine;
//! # impl Retention for Mine {
//! #     type Source = ();
//! #     fn begin(&self, _: &Question) -> Result<(), String> { Ok(()) }
//! #     fn decide(&self, _: &mut (), rows: &[SnapshotRow]) -> Result<Vec<Decision>, String> {
//! #         Ok(rows.iter().map(|_| Decision::keep("")).collect())
//! #     }
//! # }
//!
//! let mut source = kit::source();
//! source.question.policy.keep_daily = Some(3);
//! source.snapshots.retain(|row| row.is_complete());
//! let decisions = kit::retain(&Mine, &source).unwrap();
//! assert!(!decisions[0].expire);
//! ```

mod packs;
mod scheduling;
mod sources;
mod splitting;
mod tenants;

pub use packs::{Packs, packs, repack};
pub use scheduling::{count_costs, cycles, schedule};
pub use sources::{Source, retain, source, velero_source};
pub use splitting::{index, split};
pub use tenants::{OwnedPacks, assign, owned_packs, repack_by_owner, snapshots_of_tenants};

/// Longest reason, in bytes.
const REASON_BYTES_MAX: usize = 1_000;

/// Rows of one batch.
const BATCH_ROWS_MAX: usize = 1_000;

/// When the questions are asked: 2026-11-24 12:00 UTC, a Tuesday.
pub const NOW: i64 = 1_795_521_600;

/// Returns a moment of UTC as seconds since 1970.
///
/// Days beyond a month's end are those of the next month.
pub fn at(year: i64, month: i64, day: i64, hour: i64, minute: i64) -> i64 {
    // Years begin in March, so that the leap day is a year's last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = 365 * year + leaps + (153 * month + 2) / 5 + day - 1 - 719_468;
    days * 86_400 + hour * 3_600 + minute * 60
}

fn check_reason(reason: &str) -> Result<(), String> {
    match reason.len() <= REASON_BYTES_MAX {
        true => Ok(()),
        false => Err(format!("a reason of more than {REASON_BYTES_MAX} bytes")),
    }
}

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        assert_eq!(at(1970, 1, 1, 0, 0), 0);
        assert_eq!(at(2000, 2, 29, 0, 1), 951_782_460);
        assert_eq!(at(2000, 3, 1, 0, 0), 951_868_800);
        assert_eq!(at(1969, 12, 31, 23, 0), -3_600);
        assert_eq!(at(2026, 11, 24, 12, 0), NOW);
        assert_eq!(at(2026, 1, 32, 0, 0), at(2026, 2, 1, 0, 0));
    }
}
