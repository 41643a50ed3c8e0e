//! The lease of a run: the schedule's next time is a quarter of an hour away at most until the
//! run has succeeded.
//!
//! Kopia writes the real next times at the start of a run; if it dies, nobody maintains the
//! repository for a day. A run here writes a short time instead, renews it while it lives, and
//! writes the real one at the end. Other clients see a run that is not due yet. Our own runs also
//! see who it was, by a field that Kopia ignores and drops when it writes; where that process is
//! known to have died, its lease has ended. Memory: one small value.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::MaintenanceError;
use super::holder::Holder;
use super::watch::StopFlag;
use crate::clock::Timestamp;
use crate::kopia::schedule::Schedule;
use crate::repository::schedule_store::read_schedule;
use crate::repository::{Repository, RepositoryError};

/// How long a run that says nothing more counts as alive. Clocks of two clients may differ by ten
/// minutes (five each from the storage's): so long it must hold when it is renewed.
pub const LEASE: Duration = Duration::from_secs(15 * 60);

/// After how much of it the lease is renewed.
pub const RENEW_AFTER: Duration = Duration::from_secs(3 * 60);

/// How often who waits for a lease looks whether to end.
const PAUSE: Duration = Duration::from_millis(100);

/// How many pauses there are between two looks at the lease.
const PAUSES: u32 = 150;

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
    /// Which process it is, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
}

impl Lease {
    /// Returns the lease of a schedule. One that cannot be read is none.
    pub fn of(schedule: &Schedule) -> Option<Self> {
        let value = schedule.unknown.get(FIELD)?;
        serde_json::from_value(value.clone()).ok()
    }

    /// Ends the lease in a schedule that was read, where its process is known to have died: what it
    /// held back is due. Who only reads has [`current_schedule`].
    pub(super) fn end_where_gone(schedule: &mut Schedule, now: Timestamp) {
        let Some(mut lease) = Self::of(schedule) else {
            return;
        };
        if now >= lease.until || !lease.holder.as_ref().is_some_and(Holder::is_gone) {
            return;
        }
        for next in [&mut schedule.next_full, &mut schedule.next_quick] {
            if *next == lease.until {
                *next = now;
            }
        }
        lease.until = now;
        schedule.unknown.insert(FIELD.to_owned(), lease.to_json());
    }

    /// Writes it into a schedule. Cycles that are due later anyway stay where they are: `next` are
    /// the times of full and quick cycles without the run.
    pub(super) fn put(&self, schedule: &mut Schedule, next: (Timestamp, Timestamp)) {
        schedule.next_full = next.0.max(self.until);
        schedule.next_quick = next.1.max(self.until);
        schedule.unknown.insert(FIELD.to_owned(), self.to_json());
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("times, texts and numbers always serialise")
    }

    /// Takes the lease of any run out of a schedule, and sets the times of full and quick cycles.
    pub(super) fn remove(schedule: &mut Schedule, next: (Timestamp, Timestamp)) {
        (schedule.next_full, schedule.next_quick) = next;
        schedule.unknown.shift_remove(FIELD);
    }
}

/// Reads the schedule as it counts now: without the lease of a run that is known to have died.
pub fn current_schedule(repository: &Repository) -> Result<Schedule, RepositoryError> {
    let (mut schedule, _) = read_schedule(repository)?;
    Lease::end_where_gone(&mut schedule, repository.clock.now());
    Ok(schedule)
}

/// Waits until a lease that was seen to hold until then does not any more, or says something else,
/// and at most until `give_up`. The schedule is read every quarter of a minute.
pub(super) fn wait_for_lease(
    repository: &Repository,
    stop: &StopFlag,
    until: Timestamp,
    give_up: Timestamp,
) -> Result<(), MaintenanceError> {
    let (clock, end) = (&repository.clock, until.min(give_up));
    loop {
        let lease = Lease::of(&current_schedule(repository)?);
        if lease.is_none_or(|lease| lease.until != until) {
            return Ok(());
        }
        for _ in 0..PAUSES {
            if clock.now() >= end {
                return Ok(());
            }
            if stop.load(Ordering::SeqCst) {
                return Err(MaintenanceError::Stopped);
            }
            std::thread::sleep(PAUSE);
        }
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
            holder: None,
        };
        lease.put(&mut schedule, (at(90_000), UNSET));
        let mut schedule = Schedule::parse(&schedule.to_json()).unwrap();
        assert_eq!(
            (schedule.next_full, schedule.next_quick),
            (at(90_000), at(1_800))
        );
        assert_eq!(Lease::of(&schedule), Some(lease.clone()));
        Lease::end_where_gone(&mut schedule, at(1_000));
        assert_eq!(
            Lease::of(&schedule),
            Some(lease),
            "who holds it is not known"
        );
        Lease::remove(&mut schedule, (at(90_000), at(7)));
        assert_eq!(
            (schedule.next_full, schedule.next_quick),
            (at(90_000), at(7))
        );
        assert!(schedule.unknown.is_empty());
        schedule.unknown.insert(FIELD.to_owned(), 5.into());
        assert_eq!(Lease::of(&schedule), None);
    }

    #[test]
    fn the_lease_of_a_dead_process_ends_and_what_it_held_back_is_due() {
        let at = Timestamp::from_seconds;
        let mut schedule = Schedule::default();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let mut value = serde_json::to_value(Holder::here().unwrap()).unwrap();
        value["process"] = child.id().into();
        child.wait().unwrap();
        let lease = Lease {
            until: at(1_800),
            run: "ab".to_owned(),
            task: Some("full-rewrite-contents".to_owned()),
            holder: serde_json::from_value(value).unwrap(),
        };
        lease.put(&mut schedule, (at(90_000), at(5)));
        let mut schedule = Schedule::parse(&schedule.to_json()).unwrap();
        Lease::end_where_gone(&mut schedule, at(1_000));
        let ended = Lease {
            until: at(1_000),
            ..lease
        };
        assert_eq!(Lease::of(&schedule), Some(ended));
        assert_eq!(
            (schedule.next_full, schedule.next_quick),
            (at(90_000), at(1_000))
        );
    }
}
