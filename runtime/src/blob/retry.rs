//! Tries again what the storage refused for the moment.
//!
//! Kopia's policy: up to 10 tries, the first wait 100 ms, each 1.5 times the one before, at most 32
//! s; for object stores twice as long each, so that an outage of a minute is survived, but only
//! after something succeeded: who mistyped an address hears it soon. Waits are cut by up to half at
//! random, so that threads do not come back together, and new keys are tried after the first wait;
//! all tries of a store come out of one budget, so that a store that fails most of the time is
//! given up. What cannot become better (not found, already there, permission, unsupported) is not
//! tried again. A put starts its source anew. After a try of a `create_only` put whose answer was
//! lost, `AlreadyExists` may mean our own first try; the caller decides by what it finds there. No
//! memory cost. Mirrors Kopia's `repo/blob/retrying` and `internal/retry`.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::{
    BlobError, BlobMetadata, BlobSource, BlobStore, BlobVersion, PutOptions, Replaced, Retention,
    Traffic,
};
use crate::clock::{Randomness, SeededRandomness, SystemRandomness, Timestamp};
use crate::kopia::blob_id::BlobId;

/// Tries again that a store has in all, besides one for every two successes.
const BUDGET: u32 = 200;

/// What one more try costs of the budget, in units of which a success gives one back.
const TRY_COST: u32 = 2;

/// How often and how long to try.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Number of tries in all.
    pub tries_max: u32,
    /// The same before anything succeeded.
    pub first_tries_max: u32,
    /// Wait before the second try.
    pub first_wait: Duration,
    /// By what each wait is longer than the one before.
    pub factor: f64,
    /// Longest wait.
    pub wait_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries_max: 10,
            first_tries_max: 10,
            first_wait: Duration::from_millis(100),
            factor: 1.5,
            wait_max: Duration::from_secs(32),
        }
    }
}

impl RetryPolicy {
    /// Returns the policy for stores behind a network: some 75 s for one operation.
    pub fn patient() -> Self {
        Self {
            tries_max: 11,
            first_tries_max: 5,
            factor: 2.0,
            ..Self::default()
        }
    }

    /// Returns the policy for a look at a store, whose answer is what somebody waits for: some 2 s.
    pub fn for_a_look() -> Self {
        Self {
            tries_max: 5,
            ..Self::patient()
        }
    }

    /// Returns the wait after one of `wait`.
    fn next_wait(&self, wait: Duration) -> Duration {
        let longer = wait.as_secs_f64() * self.factor;
        Duration::try_from_secs_f64(longer).map_or(self.wait_max, |wait| wait.min(self.wait_max))
    }
}

#[derive(Default)]
struct Progress {
    tries: u32,
    wait: Option<Duration>,
}

/// A store that tries again; needs a tokio runtime with time around it, which [`super::Storage`]
/// brings.
///
/// A scan goes by pages, each of which is tried again; so the blobs of a scan come in order of IDs.
#[derive(Debug)]
pub struct RetryingStore<S> {
    store: S,
    policy: RetryPolicy,
    randomness: SeededRandomness,
    has_succeeded: AtomicBool,
    budget: AtomicU32,
    retries: AtomicU64,
}

impl<S: BlobStore> RetryingStore<S> {
    /// Wraps `store` with Kopia's policy.
    pub fn new(store: S) -> Self {
        Self::with_policy(store, RetryPolicy::default())
    }

    /// Wraps `store` with another policy.
    pub fn with_policy(store: S, policy: RetryPolicy) -> Self {
        let mut seed = [0; 8];
        SystemRandomness.fill(&mut seed);
        Self {
            store,
            policy,
            randomness: SeededRandomness::new(u64::from_le_bytes(seed)),
            has_succeeded: AtomicBool::new(false),
            budget: AtomicU32::new(BUDGET * TRY_COST),
            retries: AtomicU64::new(0),
        }
    }

    /// Counts what did not have to be tried again, whatever came of it.
    fn succeeded(&self) {
        self.has_succeeded.store(true, Ordering::Relaxed);
        let more = |left: u32| (left < BUDGET * TRY_COST).then(|| left + 1);
        // Where the budget is full, nothing changes.
        let _ = self
            .budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Waits before another try, or gives the error back when there is none left or it would not
    /// help.
    async fn pause(&self, progress: &mut Progress, error: BlobError) -> Result<(), BlobError> {
        if !error.is_transient() {
            self.succeeded();
            return Err(error);
        }
        let policy = &self.policy;
        let tries_max = if self.has_succeeded.load(Ordering::Relaxed) {
            policy.tries_max
        } else {
            policy.first_tries_max
        };
        progress.tries += 1;
        let less = |left: u32| left.checked_sub(TRY_COST);
        if progress.tries >= tries_max
            || self
                .budget
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                .is_err()
        {
            return Err(error);
        }
        let first_wait = policy.first_wait.min(policy.wait_max);
        let wait = match progress.wait {
            _ if error.has_new_keys() => first_wait,
            None => *progress.wait.insert(first_wait),
            Some(wait) => *progress.wait.insert(policy.next_wait(wait)),
        };
        let share = self.randomness.next_u64() as f64 / u64::MAX as f64;
        let wait = wait.mul_f64(1.0 - share / 2.0);
        tracing::debug!(%error, tries = progress.tries, ?wait, "trying again");
        tokio::time::sleep(wait).await;
        self.retries.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Runs `$call` until it succeeds or the policy gives up. A macro, as the calls borrow their
/// arguments.
macro_rules! retry {
    ($self:ident, $call:expr) => {{
        let mut progress = Progress::default();
        loop {
            match $call.await {
                Ok(value) => {
                    $self.succeeded();
                    break Ok(value);
                }
                Err(error) => $self.pause(&mut progress, error).await?,
            }
        }
    }};
}

#[async_trait]
impl<S: BlobStore> BlobStore for RetryingStore<S> {
    fn will_need(&self, ids: &[&BlobId]) {
        self.store.will_need(ids);
    }

    fn will_read(&self, id: &BlobId, range: Range<u64>) {
        self.store.will_read(id, range);
    }

    async fn get(&self, id: &BlobId, offset: u64, into: &mut [u8]) -> Result<usize, BlobError> {
        retry!(self, self.store.get(id, offset, into))
    }

    async fn metadata(&self, id: &BlobId) -> Result<BlobMetadata, BlobError> {
        retry!(self, self.store.metadata(id))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BlobId>,
        limit: usize,
    ) -> Result<Vec<BlobMetadata>, BlobError> {
        retry!(self, self.store.list(prefix, after, limit))
    }

    async fn put(
        &self,
        id: &BlobId,
        source: &mut dyn BlobSource,
        options: &PutOptions,
    ) -> Result<Timestamp, BlobError> {
        retry!(self, self.store.put(id, source, options))
    }

    async fn get_version(
        &self,
        id: &BlobId,
        into: &mut [u8],
    ) -> Result<(usize, Option<BlobVersion>), BlobError> {
        retry!(self, self.store.get_version(id, into))
    }

    async fn replace(
        &self,
        id: &BlobId,
        bytes: &[u8],
        expected: &BlobVersion,
    ) -> Result<Replaced, BlobError> {
        retry!(self, self.store.replace(id, bytes, expected))
    }

    async fn delete(&self, id: &BlobId) -> Result<(), BlobError> {
        retry!(self, self.store.delete(id))
    }

    async fn extend_retention(&self, id: &BlobId, to: &Retention) -> Result<(), BlobError> {
        retry!(self, self.store.extend_retention(id, to))
    }

    fn location(&self) -> String {
        self.store.location()
    }

    fn traffic(&self) -> Option<Traffic> {
        let traffic = self.store.traffic()?;
        Some(Traffic {
            retries: traffic.retries + self.retries.load(Ordering::Relaxed),
            ..traffic
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::blob::{MemoryStore, SimulatedStore, SimulationOptions, Storage};
    use crate::clock::ManualClock;

    fn world(faults: u32, tries_max: u32) -> (Arc<SimulatedStore>, Storage) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1)));
        let options = SimulationOptions {
            seed: 7,
            faults,
            ..SimulationOptions::default()
        };
        let inner = Arc::new(MemoryStore::new(clock));
        let simulated = Arc::new(SimulatedStore::new(inner, options));
        let policy = RetryPolicy {
            tries_max,
            first_tries_max: tries_max,
            first_wait: Duration::from_micros(50),
            factor: 1.0,
            ..RetryPolicy::default()
        };
        let retrying = RetryingStore::with_policy(Arc::clone(&simulated), policy);
        (simulated, Storage::new(Arc::new(retrying)))
    }

    #[test]
    fn the_waits_are_kopias() {
        // Goal: 100 ms, then 1.5 times as long each, never above 32 s.
        let policy = RetryPolicy::default();
        let mut wait = policy.first_wait;
        let mut waits = vec![wait.as_millis()];
        for _ in 0..18 {
            wait = policy.next_wait(wait);
            waits.push(wait.as_millis());
        }
        assert_eq!(waits[..5], [100, 150, 225, 337, 506]);
        assert_eq!(waits[17], 32_000);
        assert_eq!(policy.tries_max, 10);
    }

    #[test]
    fn faults_are_survived_by_every_call() {
        let (simulated, storage) = world(400, 100);
        for number in 0..30 {
            let id = BlobId::new(format!("p{number:02}"));
            storage
                .put_bytes(&id, b"abc", &PutOptions::default())
                .unwrap();
            assert_eq!(storage.get_all(&id, 9).unwrap(), b"abc");
            assert_eq!(storage.metadata(&id).unwrap().length, 3);
        }
        let mut seen = Vec::new();
        storage
            .scan("p", |blob| {
                seen.push(blob.id.to_owned());
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(seen.len(), 30);
        storage.delete(&BlobId::new("p07")).unwrap();
        assert_eq!(storage.list("p", None, 100).unwrap().len(), 29);
        assert!(simulated.operations() > 120, "there were faults");
    }

    #[test]
    fn it_gives_up_after_the_last_try_and_at_once_when_trying_cannot_help() {
        let (simulated, storage) = world(1000, 10);
        let error = storage.metadata(&BlobId::new("p")).unwrap_err();
        assert!(error.is_transient());
        assert_eq!(simulated.operations(), 10);

        let (simulated, storage) = world(0, 10);
        let id = BlobId::new("p");
        assert!(storage.metadata(&id).unwrap_err().is_not_found());
        let create_only = PutOptions {
            create_only: true,
            ..PutOptions::default()
        };
        storage.put_bytes(&id, b"", &create_only).unwrap();
        let error = storage.put_bytes(&id, b"", &create_only).unwrap_err();
        assert_eq!(error.code(), "blob-already-exists");
        assert_eq!(simulated.operations(), 3);
    }

    #[test]
    fn a_mistyped_address_is_heard_of_soon_and_an_outage_is_survived() {
        let patient = RetryPolicy::patient();
        let mut wait = patient.first_wait;
        let mut sum = Duration::ZERO;
        for _ in 1..patient.tries_max {
            sum += wait;
            wait = patient.next_wait(wait);
        }
        // At least half of each wait is kept.
        assert!(sum / 2 > Duration::from_secs(40), "{sum:?}");
        let (simulated, storage) = world(1000, 10);
        drop(storage);
        let policy = RetryPolicy {
            first_tries_max: 3,
            first_wait: Duration::ZERO,
            ..patient
        };
        let retrying = RetryingStore::with_policy(Arc::clone(&simulated), policy);
        let storage = Storage::new(Arc::new(retrying));
        assert!(storage.metadata(&BlobId::new("p")).is_err());
        assert_eq!(simulated.operations(), 3);
    }

    #[test]
    fn a_store_that_fails_most_of_the_time_is_given_up() {
        // Goal: tries again are a budget of the store, not of the operation.
        let (simulated, storage) = world(1000, 50);
        for _ in 0..20 {
            assert!(storage.metadata(&BlobId::new("p")).is_err());
        }
        assert_eq!(simulated.operations(), u64::from(BUDGET) + 20);
    }
}
