//! Keeps a Lease and looks for backups, beside a run and without it waiting for either.
//!
//! An API server may take its time or not answer at all, and the run must hear a signal meanwhile:
//! so two threads ask, briefly, and the run reads what they found. A lease that cannot be renewed
//! is good for what is left of its time, less what a child needs to end. It is renewed until the
//! child has ended, also after that was told to. Memory: two threads.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::run::Everything;
use crate::clock::Stopwatch;
use crate::velero::activity::at_work;
use crate::velero::discovery::FoundRepository;
use crate::velero::lease::HeldLease;
use crate::velero::{Patience, VeleroError};

/// When things are done, in parts of the lease's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    /// How often it is renewed: several tries fit into its time.
    renew: Duration,
    /// How soon after one that failed.
    again: Duration,
    /// How often it is looked whether a backup has begun.
    look: Duration,
    /// How old a renewal may be; then the child has the rest to end.
    give_up: Duration,
}

impl Pace {
    fn of(lease_time: Duration) -> Self {
        Self {
            renew: lease_time / 6,
            again: lease_time / 24,
            look: lease_time / 4,
            give_up: lease_time * 2 / 3,
        }
    }
}

struct State {
    /// Whether the child has ended.
    ended: bool,
    /// Why it is to end.
    why: Option<String>,
    /// When the lease was last renewed, by the keeper's clock.
    renewed: Duration,
    /// Why not since.
    problem: Option<String>,
}

/// Keeps one repository's lease.
pub(super) struct Keeper<'a> {
    everything: &'a Everything<'a>,
    found: &'a FoundRepository,
    pace: Pace,
    clock: Stopwatch,
    state: Mutex<State>,
    changed: Condvar,
}

impl<'a> Keeper<'a> {
    /// Begins with a lease that was taken just now.
    pub(super) fn new(everything: &'a Everything<'a>, found: &'a FoundRepository) -> Self {
        Self {
            everything,
            found,
            pace: Pace::of(everything.arguments.lease_time()),
            clock: Stopwatch::start(),
            state: Mutex::new(State {
                ended: false,
                why: None,
                renewed: Duration::ZERO,
                problem: None,
            }),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns why the child is to end, if it is.
    pub(super) fn why(&self) -> Option<String> {
        let mut state = self.state();
        let age = self.clock.elapsed().saturating_sub(state.renewed);
        if state.why.is_none() && age >= self.pace.give_up {
            let problem = state.problem.as_deref().unwrap_or("no answer");
            let seconds = age.as_secs();
            state.why = Some(format!(
                "its lease was not renewed for {seconds} s: {problem}"
            ));
        }
        state.why.clone()
    }

    /// The child has ended: so do [`Self::keep`] and [`Self::look`].
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.changed.notify_all();
    }

    /// Waits; returns whether the child is still at work.
    fn wait(&self, time: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), time, |state| !state.ended);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.ended
    }

    /// Renews the lease until the child has ended; returns it, if it is still ours.
    pub(super) fn keep(&self, mut lease: HeldLease) -> Option<HeldLease> {
        let cluster = self.everything.cluster.with(Patience::BRIEF);
        let mut pause = self.pace.renew;
        while self.wait(pause) {
            let asked = self.clock.elapsed();
            let now = self.everything.console.surroundings.clock.now();
            pause = self.pace.renew;
            match lease.renew(&cluster, now) {
                Ok(()) => {
                    let mut state = self.state();
                    state.renewed = asked;
                    state.problem = None;
                }
                Err(error @ VeleroError::LeaseHeld { .. }) => {
                    self.state().why.get_or_insert(error.to_string());
                    return None;
                }
                Err(error) => {
                    pause = self.pace.again;
                    if self.state().problem.replace(error.to_string()).is_none() {
                        tracing::warn!(
                            repository = self.found.name, %error,
                            "the lease was not renewed; it is tried again"
                        );
                    }
                }
            }
        }
        Some(lease)
    }

    /// Looks for backups until one has begun, or the child has ended.
    pub(super) fn look(&self) {
        let cluster = self.everything.cluster.with(Patience::BRIEF);
        let mut failed = false;
        while self.wait(self.pace.look) {
            let now = self.everything.console.surroundings.clock.now();
            match at_work(&cluster, self.found, now) {
                Ok(None) => failed = false,
                Ok(Some(who)) => {
                    self.state().why.get_or_insert(who);
                    return;
                }
                Err(error) => {
                    if !failed {
                        tracing::warn!(
                            repository = self.found.name, %error,
                            "backups cannot be looked for; it is tried again"
                        );
                    }
                    failed = true;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: several renewals fit into the time in which one must succeed, one answer that never
    /// comes included, and a child has half a minute to end.
    #[test]
    fn the_pace_leaves_time_to_end() {
        let time = crate::velero::lease::LEASE_TIME;
        let pace = Pace::of(time);
        assert!(pace.renew + Patience::BRIEF.one + 3 * pace.again < pace.give_up);
        assert!(time - pace.give_up >= Duration::from_secs(30));
        assert_eq!(pace.look, Duration::from_secs(30));
    }
}
