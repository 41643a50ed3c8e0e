//! The lease of a run: the schedule's next time is half an hour away at most until the run has
//! succeeded.
//!
//! Kopia writes the real next times at the start of a run; if it dies, nobody maintains the
//! repository for a day. A run here writes a short time instead, renews it while it lives, and
//! writes the real one at the end. Other clients see a run that is not due yet. Our own runs also
//! see who it was, by a field that Kopia ignores and drops when it writes. Memory: one small value.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::kopia::schedule::Schedule;

/// How long a run that says nothing more counts as alive.
pub const LEASE: Duration = Duration::from_secs(30 * 60);

/// After how much of it the lease is renewed.
pub const RENEW_AFTER: Duration = Duration::from_secs(15 * 60);

/// The schedule's field.
const FIELD: &str = "careenLease";

/// A run at work, or one that has crashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Until when nobody else should maintain the repository.
    pub until: Timestamp,
    /// Which run: random digits.
    pub run: String,
    /// The task at work, where it matters that it was interrupted: one that copies contents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

impl Lease {
    /// Returns the lease of a schedule. One that cannot be read is none.
    pub fn of(schedule: &Schedule) -> Option<Self> {
        let value = schedule.unknown.get(FIELD)?;
        serde_json::from_value(value.clone()).ok()
    }

    /// Writes it into a schedule. Cycles that are due later anyway stay where they are: `next` are
    /// the times of full and quick cycles without the run.
    pub(super) fn put(&self, schedule: &mut Schedule, next: (Timestamp, Timestamp)) {
        schedule.next_full = next.0.max(self.until);
        schedule.next_quick = next.1.max(self.until);
        let value = serde_json::to_value(self).expect("a time and a text always serialise");
        schedule.unknown.insert(FIELD.to_owned(), value);
    }

    /// Takes the lease of any run out of a schedule, and sets the times of full and quick cycles.
    pub(super) fn remove(schedule: &mut Schedule, next: (Timestamp, Timestamp)) {
        (schedule.next_full, schedule.next_quick) = next;
        schedule.unknown.shift_remove(FIELD);
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "run {} is at work, or has crashed, until {}",
            self.run, self.until
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kopia::schedule::UNSET;

    #[test]
    fn a_lease_delays_what_is_due_and_nothing_else() {
        let at = Timestamp::from_seconds;
        let mut schedule = Schedule::default();
        assert_eq!(Lease::of(&schedule), None);
        let lease = Lease {
            until: at(1_800),
            run: "ab".to_owned(),
            task: None,
        };
        lease.put(&mut schedule, (at(90_000), UNSET));
        let mut schedule = Schedule::parse(&schedule.to_json()).unwrap();
        assert_eq!(
            (schedule.next_full, schedule.next_quick),
            (at(90_000), at(1_800))
        );
        assert_eq!(Lease::of(&schedule), Some(lease));
        Lease::remove(&mut schedule, (at(90_000), at(7)));
        assert_eq!(
            (schedule.next_full, schedule.next_quick),
            (at(90_000), at(7))
        );
        assert!(schedule.unknown.is_empty());
        schedule.unknown.insert(FIELD.to_owned(), 5.into());
        assert_eq!(Lease::of(&schedule), None);
    }
}
