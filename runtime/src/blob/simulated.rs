//! A storage with a seed: it fails, delays, lists late, and dies after a given number of
//! operations.
//!
//! For suites that ask what is left after a crash at every single operation. The same seed and the
//! same calls give the same world: what happens to an operation depends on the seed and on its
//! number alone. A put never tears a blob (Kopia's contract): the one under way at a crash, or at a
//! fault, has happened whole or not at all. Nothing sleeps; a delay moves the clock. To start again
//! after a crash, make a new one over the same memory. Mirrors the idea of Kopia's
//! `internal/blobtesting/faulty.go`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::store::check_limit;
use super::{
    BlobError, BlobMetadata, BlobSource, BlobStore, BlobVersion, MemoryStore, PutOptions, Replaced,
    Retention,
};
use crate::clock::{ManualClock, SeededRandomness, Timestamp};
use crate::kopia::blob_id::BlobId;

/// How long operations take: up to `max`, by which `clock` is moved.
#[derive(Clone, Debug)]
pub struct Delays {
    /// The clock of the world.
    pub clock: Arc<ManualClock>,
    /// Longest delay of one operation.
    pub max: Duration,
}

/// What is wrong with the simulated storage; nothing by default.
#[derive(Clone, Debug, Default)]
pub struct SimulationOptions {
    /// Decides everything below.
    pub seed: u64,
    /// Per mille of operations that fail with a transient error.
    pub faults: u32,
    /// Operations take time.
    pub delays: Option<Delays>,
    /// A put or deletion that fails (fault or crash) may have happened all the same; else it never
    /// has.
    pub torn_writes: bool,
    /// Listings show new and deleted blobs only after this time.
    pub stale_listings: Option<Duration>,
    /// After so many operations every further one fails with [`BlobError::Crashed`].
    pub crash_after_operation: Option<u64>,
}

/// What becomes of an operation.
enum Fate {
    Succeeds,
    /// Fails with this error; `happens` tells whether a write is done nevertheless.
    Fails {
        error: BlobError,
        happens: bool,
    },
}

/// The simulated storage. Every get, metadata, list, put and delete is an operation; so is each
/// page of a scan.
#[derive(Debug)]
pub struct SimulatedStore {
    inner: Arc<MemoryStore>,
    options: SimulationOptions,
    operations: AtomicU64,
}

impl SimulatedStore {
    /// Makes a storage that keeps its blobs in `inner`.
    pub fn new(inner: Arc<MemoryStore>, options: SimulationOptions) -> Self {
        if options.stale_listings.is_some() {
            inner.keep_history();
        }
        Self {
            inner,
            options,
            operations: AtomicU64::new(0),
        }
    }

    /// Returns the number of operations so far, failed ones included.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::SeqCst)
    }

    /// Counts an operation and decides what becomes of it.
    fn begin(&self, operation: &'static str, id: &str) -> Fate {
        let number = self.operations.fetch_add(1, Ordering::SeqCst) + 1;
        let randomness = SeededRandomness::new(self.options.seed.rotate_left(32) ^ number);
        let [happens, fault, delay] = [(); 3].map(|()| randomness.next_u64());
        let happens = self.options.torn_writes && happens % 2 == 0;
        let id = id.to_owned();
        if let Some(last) = self.options.crash_after_operation
            && number > last
        {
            // Only the first one was under way when the process died.
            let happens = happens && number == last + 1;
            let error = BlobError::Crashed { operation, id };
            return Fate::Fails { error, happens };
        }
        if let Some(delays) = &self.options.delays {
            let most_nanos = u64::try_from(delays.max.as_nanos()).unwrap_or(u64::MAX);
            let nanos = delay % most_nanos.saturating_add(1).max(1);
            delays.clock.advance(Duration::from_nanos(nanos));
        }
        if fault % 1000 < u64::from(self.options.faults) {
            let reason = "simulated fault".to_owned();
            let error = BlobError::Transient {
                operation,
                id,
                reason,
            };
            return Fate::Fails { error, happens };
        }
        Fate::Succeeds
    }

    /// The same for an operation that changes nothing.
    fn begin_read(&self, operation: &'static str, id: &str) -> Result<(), BlobError> {
        match self.begin(operation, id) {
            Fate::Succeeds => Ok(()),
            Fate::Fails { error, .. } => Err(error),
        }
    }

    /// Lists the state of `stale` ago, as far as blobs have come or gone since.
    async fn list_stale(
        &self,
        prefix: &str,
        after: Option<&BlobId>,
        limit: usize,
        stale: Duration,
    ) -> Result<Vec<BlobMetadata>, BlobError> {
        let changed = self
            .inner
            .changed_since(self.inner.clock().now().minus(stale));
        let mut page = Vec::new();
        let mut from = after.cloned();
        loop {
            let present = self.inner.list(prefix, from.as_ref(), limit).await?;
            let is_last = present.len() < limit;
            from = present.last().map(|blob| blob.id.clone());
            let shown = |blob: &BlobMetadata| !matches!(changed.get(&blob.id), Some(None));
            page.extend(present.into_iter().filter(shown));
            if is_last || page.len() >= limit {
                break;
            }
        }
        let gone = changed.into_iter().filter_map(|(id, before)| {
            let wanted = id.as_str().starts_with(prefix) && after.is_none_or(|after| id > *after);
            before.filter(|_| wanted && self.inner.peek(&id).is_none())
        });
        page.extend(gone);
        page.sort_unstable_by(|left, right| left.id.cmp(&right.id));
        page.truncate(limit);
        Ok(page)
    }
}

#[async_trait]
impl BlobStore for SimulatedStore {
    async fn get(&self, id: &BlobId, offset: u64, into: &mut [u8]) -> Result<usize, BlobError> {
        self.begin_read("get", id.as_str())?;
        self.inner.get(id, offset, into).await
    }

    async fn metadata(&self, id: &BlobId) -> Result<BlobMetadata, BlobError> {
        self.begin_read("metadata", id.as_str())?;
        self.inner.metadata(id).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BlobId>,
        limit: usize,
    ) -> Result<Vec<BlobMetadata>, BlobError> {
        check_limit(prefix, limit)?;
        self.begin_read("list", prefix)?;
        match self.options.stale_listings {
            Some(stale) if limit > 0 => self.list_stale(prefix, after, limit, stale).await,
            _ => self.inner.list(prefix, after, limit).await,
        }
    }

    async fn put(
        &self,
        id: &BlobId,
        source: &mut dyn BlobSource,
        options: &PutOptions,
    ) -> Result<Timestamp, BlobError> {
        match self.begin("put", id.as_str()) {
            Fate::Succeeds => self.inner.put(id, source, options).await,
            Fate::Fails { error, happens } => {
                if happens {
                    // Whatever it says, the caller hears of the fault only.
                    self.inner.put(id, source, options).await.ok();
                }
                Err(error)
            }
        }
    }

    async fn get_version(
        &self,
        id: &BlobId,
        into: &mut [u8],
    ) -> Result<(usize, Option<BlobVersion>), BlobError> {
        self.begin_read("get", id.as_str())?;
        self.inner.get_version(id, into).await
    }

    async fn replace(
        &self,
        id: &BlobId,
        bytes: &[u8],
        expected: &BlobVersion,
    ) -> Result<Replaced, BlobError> {
        match self.begin("put", id.as_str()) {
            Fate::Succeeds => self.inner.replace(id, bytes, expected).await,
            Fate::Fails { error, happens } => {
                if happens {
                    self.inner.replace(id, bytes, expected).await.ok();
                }
                Err(error)
            }
        }
    }

    async fn delete(&self, id: &BlobId) -> Result<(), BlobError> {
        match self.begin("delete", id.as_str()) {
            Fate::Succeeds => self.inner.delete(id).await,
            Fate::Fails { error, happens } => {
                if happens {
                    self.inner.delete(id).await.ok();
                }
                Err(error)
            }
        }
    }

    async fn extend_retention(&self, id: &BlobId, to: &Retention) -> Result<(), BlobError> {
        self.begin_read("extend retention", id.as_str())?;
        self.inner.extend_retention(id, to).await
    }

    fn location(&self) -> String {
        format!("simulated, seed {}", self.options.seed)
    }

    fn waits(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::Storage;
    use crate::clock::Clock;

    struct World {
        clock: Arc<ManualClock>,
        memory: Arc<MemoryStore>,
    }

    impl World {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_000)));
            let memory = Arc::new(MemoryStore::new(clock.clone()));
            Self { clock, memory }
        }

        fn storage(&self, options: SimulationOptions) -> (Arc<SimulatedStore>, Storage) {
            let store = Arc::new(SimulatedStore::new(Arc::clone(&self.memory), options));
            (Arc::clone(&store), Storage::new(store))
        }

        fn names(&self) -> Vec<String> {
            names(&Storage::new(Arc::clone(&self.memory) as Arc<dyn BlobStore>))
        }
    }

    fn names(storage: &Storage) -> Vec<String> {
        let page = storage.list("", None, 1000).unwrap();
        page.into_iter().map(|blob| blob.id.to_string()).collect()
    }

    /// Puts and deletes blobs, whatever happens, and tells what happened.
    fn work(storage: &Storage) -> Vec<String> {
        let mut log = Vec::new();
        for number in 0..40 {
            let id = BlobId::new(format!("p{}", number % 13));
            let code = if number % 3 == 2 {
                storage.delete(&id).map_err(|error| error.code())
            } else {
                let put = storage.put_bytes(&id, &[number; 9], &PutOptions::default());
                put.map(drop).map_err(|error| error.code())
            };
            log.push(format!("{code:?}"));
        }
        log
    }

    #[test]
    fn the_same_seed_gives_the_same_world() {
        let run = |seed| {
            let world = World::new();
            let delays = Delays {
                clock: Arc::clone(&world.clock),
                max: Duration::from_secs(3),
            };
            let (_, storage) = world.storage(SimulationOptions {
                seed,
                faults: 250,
                delays: Some(delays),
                torn_writes: true,
                ..SimulationOptions::default()
            });
            (work(&storage), world.names(), world.clock.now())
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1).0, run(2).0);
        assert!(
            run(1).2 > Timestamp::from_seconds(1_000),
            "delays move the clock"
        );
        let faults = run(1)
            .0
            .iter()
            .filter(|line| line.contains("transient"))
            .count();
        assert!(
            (3..20).contains(&faults),
            "about a quarter of 40, not {faults}"
        );
    }

    #[test]
    fn a_crash_leaves_the_operations_before_it() {
        // Goal: after n operations exactly these are visible; the next put is whole or not there,
        // by seed.
        let mut torn = [0, 0];
        for last in 0..10_u64 {
            for seed in 0..8 {
                let world = World::new();
                let (store, storage) = world.storage(SimulationOptions {
                    seed,
                    torn_writes: seed > 0,
                    crash_after_operation: Some(last),
                    ..SimulationOptions::default()
                });
                for number in 0..12_u64 {
                    let id = BlobId::new(format!("p{number:02}"));
                    let result = storage.put_bytes(&id, b"abc", &PutOptions::default());
                    assert_eq!(result.is_ok(), number < last);
                    if let Err(error) = result {
                        assert_eq!(error.code(), "storage-crashed");
                    }
                }
                assert_eq!(store.operations(), 12);
                let left = world.names().len() as u64;
                assert!(left == last || (seed > 0 && left == last + 1));
                if seed > 0 {
                    torn[(left - last) as usize] += 1;
                }
            }
        }
        assert!(torn[0] > 10 && torn[1] > 10, "both happen: {torn:?}");
    }

    #[test]
    fn stale_listings_show_the_past_but_gets_the_present() {
        let world = World::new();
        let (_, storage) = world.storage(SimulationOptions {
            stale_listings: Some(Duration::from_secs(10)),
            ..SimulationOptions::default()
        });
        let put = |name: &str| {
            let put = storage.put_bytes(&BlobId::new(name), b"x", &PutOptions::default());
            put.unwrap();
        };
        put("pa");
        put("pb");
        assert!(names(&storage).is_empty());
        world.clock.advance(Duration::from_secs(10));
        assert_eq!(names(&storage), ["pa", "pb"]);

        put("pab");
        storage.delete(&BlobId::new("pb")).unwrap();
        assert_eq!(names(&storage), ["pa", "pb"]);
        let second = storage.list("p", Some(&BlobId::new("pa")), 1).unwrap();
        assert_eq!(second[0].id.as_str(), "pb");
        assert!(
            storage
                .metadata(&BlobId::new("pb"))
                .unwrap_err()
                .is_not_found()
        );
        assert_eq!(storage.metadata(&BlobId::new("pab")).unwrap().length, 1);
        world.clock.advance(Duration::from_secs(10));
        assert_eq!(names(&storage), ["pa", "pab"]);
    }
}
