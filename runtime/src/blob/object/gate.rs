//! How many requests are in flight: as many as the store takes, by trying.
//!
//! Up by one for every success until the store asks for fewer for the first time, by one for every
//! round of successes from then on, halved when the store asks for fewer (slow start, additive
//! increase, multiplicative decrease, as TCP does it), never above the maximum, in the order of
//! asking. Requests that began before the last halving do not halve again. No memory cost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Stopwatch;

/// Requests in flight at first: what every store takes, and more than a run usually has.
const FIRST_IN_FLIGHT: usize = 8;

#[derive(Debug)]
struct State {
    /// How many may be in flight.
    limit: usize,
    /// Permits that do not come back, since the limit fell while they were out.
    owed: usize,
    /// Successes since the limit last rose.
    successes: usize,
    /// Number of halvings so far.
    halvings: u64,
    in_flight: usize,
    in_flight_peak: usize,
    /// When the number in flight last changed.
    changed: Duration,
    /// Time in which something was in flight.
    busy: Duration,
    /// Sum of the times of all requests.
    requests: Duration,
}

impl State {
    /// Accounts for the time since the last change of the number in flight.
    fn passes(&mut self, now: Duration) {
        let time = now.saturating_sub(self.changed);
        self.changed = now;
        if self.in_flight > 0 {
            self.busy += time;
            self.requests += time.saturating_mul(self.in_flight as u32);
        }
    }
}

/// The door that every request goes through.
#[derive(Debug)]
pub(super) struct Gate {
    permits: Arc<Semaphore>,
    maximum: usize,
    stopwatch: Stopwatch,
    state: Mutex<State>,
}

/// A request in flight; gives its place back when it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    gate: &'a Gate,
    halvings: u64,
    permit: Option<OwnedSemaphorePermit>,
}

impl Gate {
    /// Lets through up to `maximum` requests at once, at least one.
    pub(super) fn new(maximum: usize) -> Self {
        let maximum = maximum.max(1);
        let limit = maximum.min(FIRST_IN_FLIGHT);
        Self {
            permits: Arc::new(Semaphore::new(limit)),
            maximum,
            stopwatch: Stopwatch::start(),
            state: Mutex::new(State {
                limit,
                owed: 0,
                successes: 0,
                halvings: 0,
                in_flight: 0,
                in_flight_peak: 0,
                changed: Duration::ZERO,
                busy: Duration::ZERO,
                requests: Duration::ZERO,
            }),
        }
    }

    /// Waits for a place.
    pub(super) async fn enter(&self) -> Place<'_> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let mut state = self.state();
        state.passes(self.stopwatch.elapsed());
        state.in_flight += 1;
        state.in_flight_peak = state.in_flight_peak.max(state.in_flight);
        Place {
            gate: self,
            halvings: state.halvings,
            permit,
        }
    }

    /// Returns how many may be in flight now, and how many were at most.
    pub(super) fn limit_and_peak(&self) -> (usize, usize) {
        let state = self.state();
        (state.limit, state.in_flight_peak)
    }

    /// Returns how many were in flight on average, over the time in which there was one.
    pub(super) fn mean(&self) -> f64 {
        let mut state = self.state();
        state.passes(self.stopwatch.elapsed());
        match state.busy.as_secs_f64() {
            0.0 => 0.0,
            busy => state.requests.as_secs_f64() / busy,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Tells that the store did what it was asked.
    pub(super) fn succeeded(&self) {
        let mut state = self.gate.state();
        state.successes += 1;
        let round = if state.halvings == 0 { 1 } else { state.limit };
        if state.successes < round || state.limit >= self.gate.maximum {
            return;
        }
        state.successes = 0;
        state.limit += 1;
        if state.owed > 0 {
            state.owed -= 1;
        } else {
            self.gate.permits.add_permits(1);
        }
    }

    /// Tells that the store asked for fewer requests.
    pub(super) fn throttled(&self) {
        let mut state = self.gate.state();
        state.successes = 0;
        if self.halvings != state.halvings {
            return;
        }
        state.halvings += 1;
        let less = state.limit / 2;
        let limit = (state.limit - less).max(1);
        let mut gone = state.limit - limit;
        state.limit = limit;
        gone -= self.gate.permits.forget_permits(gone);
        state.owed += gone;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.passes(self.gate.stopwatch.elapsed());
        state.in_flight -= 1;
        if state.owed > 0
            && let Some(permit) = self.permit.take()
        {
            state.owed -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(future).as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }

    fn fill(gate: &Gate) -> Vec<Place<'_>> {
        std::iter::from_fn(|| now(gate.enter())).take(100).collect()
    }

    #[test]
    fn the_limit_rises_with_successes_and_is_halved_by_throttling() {
        let gate = Gate::new(16);
        assert_eq!(fill(&gate).len(), 8);
        for _ in 0..200 {
            now(gate.enter()).unwrap().succeeded();
        }
        let places = fill(&gate);
        assert_eq!(places.len(), 16, "never above the maximum");
        // Of all that are in flight the first one halves, the others had the same reason.
        for place in &places {
            place.throttled();
        }
        assert_eq!(gate.limit_and_peak(), (8, 16));
        assert!(now(gate.enter()).is_none());
        drop(places);
        assert_eq!(fill(&gate).len(), 8);
        for _ in 0..10 {
            now(gate.enter()).unwrap().throttled();
        }
        assert_eq!(fill(&gate).len(), 1, "one is always let through");
        for _ in 0..3 {
            now(gate.enter()).unwrap().succeeded();
        }
        assert_eq!(fill(&gate).len(), 3);
        assert_eq!(gate.limit_and_peak().1, 16);
    }

    #[test]
    fn the_mean_counts_only_time_with_something_in_flight() {
        let mut state = Gate::new(8).state.into_inner().unwrap();
        let at = Duration::from_secs;
        state.passes(at(100));
        state.in_flight = 2;
        state.passes(at(101));
        state.in_flight = 5;
        state.passes(at(102));
        state.in_flight = 0;
        state.passes(at(200));
        assert_eq!((state.busy, state.requests), (at(2), at(7)));
        let gate = Gate::new(8);
        assert_eq!(gate.mean(), 0.0);
        drop(now(gate.enter()).unwrap());
        assert!(gate.mean() > 0.99 && gate.mean() < 1.01);
    }

    #[test]
    fn a_limit_that_rises_while_permits_are_owed_is_right_in_the_end() {
        let gate = Gate::new(8);
        let places = fill(&gate);
        places[0].throttled();
        for place in &places {
            place.succeeded();
        }
        let limit = gate.limit_and_peak().0;
        drop(places);
        assert_eq!(fill(&gate).len(), limit);
    }
}
