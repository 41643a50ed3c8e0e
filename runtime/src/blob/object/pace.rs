//! How much may be asked: requests in a second, bytes in a run.
//!
//! A bucket of tokens that fills at the rate, with a tenth of a second's worth in it; whoever comes
//! too early waits for the moment that is kept for them, in the order of asking. A store that says
//! when to come again (`Retry-After`) is left alone until then, by everybody. The budgets of bytes
//! are counted as they pass; one that is used up ends the run with its own error, since trying
//! again would not help. No memory cost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::answer::Call;
use crate::blob::BlobError;
use crate::clock::Stopwatch;

/// Part of a second whose requests may come at once.
const BURST: Duration = Duration::from_millis(100);

/// Longest time that a store is left alone because it says so: the longest wait between two tries.
/// So a run through a store that always says "later" ends, as it has a number of tries.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(32);

/// Moments since the start of the bucket.
#[derive(Debug, Default)]
struct Moments {
    /// When the next request may go.
    next: Duration,
    /// Until when the store wants to be left alone.
    paused_until: Duration,
}

/// The bucket of tokens.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Option<Duration>,
    since: Stopwatch,
    moments: Mutex<Moments>,
}

impl Pace {
    /// Lets through `per_second` requests in a second; without a number, all.
    pub(super) fn new(per_second: Option<u32>) -> Self {
        Self {
            interval: per_second.map(|rate| Duration::from_secs(1) / rate.max(1)),
            since: Stopwatch::start(),
            moments: Mutex::default(),
        }
    }

    /// Waits until the next request may go.
    pub(super) async fn keep(&self) {
        let interval = self.interval.unwrap_or_default();
        let mut wait = self.reserve(interval, self.since.elapsed());
        // Who waits may have to wait longer, because of an answer that came meanwhile.
        while !wait.is_zero() {
            tokio::time::sleep(wait).await;
            wait = self.pause_left(self.since.elapsed());
        }
    }

    /// Lets no request go for `time`, at most [`PAUSE_MAX`].
    pub(super) fn pause(&self, time: Duration) {
        self.pause_at(time, self.since.elapsed());
    }

    fn pause_at(&self, time: Duration, now: Duration) {
        let mut moments = self.moments();
        let until = now + time.min(PAUSE_MAX);
        moments.paused_until = moments.paused_until.max(until);
    }

    /// Takes the next free moment and returns how far away it is.
    fn reserve(&self, interval: Duration, now: Duration) -> Duration {
        let mut moments = self.moments();
        let earliest = moments.next.max(now.saturating_sub(BURST));
        moments.next = earliest + interval;
        earliest.max(moments.paused_until).saturating_sub(now)
    }

    fn pause_left(&self, now: Duration) -> Duration {
        self.moments().paused_until.saturating_sub(now)
    }

    fn moments(&self) -> MutexGuard<'_, Moments> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many bytes may pass in one direction.
#[derive(Debug)]
pub(super) struct Budget {
    direction: &'static str,
    max_bytes: Option<u64>,
    passed: AtomicU64,
}

impl Budget {
    /// Makes a budget; without a number, nothing is refused.
    pub(super) fn new(direction: &'static str, max_bytes: Option<u64>) -> Self {
        Self {
            direction,
            max_bytes,
            passed: AtomicU64::new(0),
        }
    }

    /// Refuses a request that would need `bytes` more than are left, or any if none are left.
    pub(super) fn check(&self, call: Call<'_>, bytes: u64) -> Result<(), BlobError> {
        let Some(max_bytes) = self.max_bytes else {
            return Ok(());
        };
        let left = max_bytes.saturating_sub(self.passed());
        if left > 0 && bytes <= left {
            return Ok(());
        }
        Err(self.used_up(call, max_bytes))
    }

    /// Stops an answer of which more came than was left.
    pub(super) fn check_passed(&self, call: Call<'_>) -> Result<(), BlobError> {
        match self.max_bytes {
            Some(max_bytes) if self.passed() > max_bytes => Err(self.used_up(call, max_bytes)),
            _ => Ok(()),
        }
    }

    fn used_up(&self, call: Call<'_>, max_bytes: u64) -> BlobError {
        BlobError::TransferBudget {
            operation: call.operation,
            id: call.id.to_owned(),
            direction: self.direction,
            max_bytes,
        }
    }

    /// Counts bytes that passed.
    pub(super) fn count(&self, bytes: u64) {
        self.passed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns how many bytes passed.
    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_kept_and_a_pause_is_not_saved_up() {
        let pace = Pace::new(Some(100));
        let interval = Duration::from_millis(10);
        // A burst of a tenth of a second at a later moment, then one every 10 ms.
        let now = Duration::from_secs(5);
        let waits: Vec<u128> = (0..14)
            .map(|_| pace.reserve(interval, now).as_millis())
            .collect();
        assert!(waits[..11].iter().all(|wait| *wait == 0), "{waits:?}");
        assert_eq!(waits[11..], [10, 20, 30]);
        let much_later = Duration::from_secs(60);
        assert_eq!(pace.reserve(interval, much_later), Duration::ZERO);
    }

    #[test]
    fn a_pause_holds_everybody_back_and_has_an_end() {
        let pace = Pace::new(None);
        let second = Duration::from_secs(1);
        assert_eq!(pace.reserve(Duration::ZERO, second), Duration::ZERO);
        pace.pause_at(3 * second, second);
        // A shorter one later changes nothing.
        pace.pause_at(second, second);
        assert_eq!(pace.reserve(Duration::ZERO, 2 * second), 2 * second);
        assert_eq!(pace.pause_left(3 * second), second);
        assert_eq!(pace.reserve(Duration::ZERO, 4 * second), Duration::ZERO);
        pace.pause_at(1000 * second, 4 * second);
        assert_eq!(pace.reserve(Duration::ZERO, 4 * second), PAUSE_MAX);
    }

    #[test]
    fn a_budget_refuses_what_it_has_no_bytes_for() {
        let call = Call {
            operation: "get",
            id: "p1",
            is_blob: true,
        };
        let budget = Budget::new("download", Some(100));
        budget.check(call, 100).unwrap();
        budget.count(60);
        budget.check(call, 40).unwrap();
        let error = budget.check(call, 41).unwrap_err();
        assert_eq!(error.code(), "transfer-budget");
        assert!(!error.is_transient());
        budget.count(40);
        budget.check_passed(call).unwrap();
        assert!(budget.check(call, 0).is_err());
        budget.count(1);
        assert!(budget.check_passed(call).is_err());
        let endless = Budget::new("upload", None);
        endless.count(u64::MAX);
        endless.check(call, u64::MAX).unwrap();
    }
}
