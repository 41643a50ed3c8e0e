//! Other clients at work, and listings that lag behind: work is done again, nothing is lost.
//!
//! A store in which another maintainer strikes at the first read of a chosen kind of blob: it
//! merges everything and deletes what it replaced, logs too, without any safety time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use careen::blob::{
    BlobError, BlobMetadata, BlobSource, BlobStore, Delays, MemoryStore, PutOptions,
    SimulationOptions,
};
use careen::clock::Timestamp;
use careen::kopia::blob_id::BlobId;
use careen::maintenance::compact_indexes_v0::{self, CompactionV0};
use careen::repository::Repository;
use careen::repository::index_set_v0::SETTLE_TIME;
use kit::index_work::Bench;
use kit::world::model;

use super::killed::{DROP_BEFORE, counts, play, view, world};

/// The store, and who strikes when.
#[derive(Debug)]
struct Meddled {
    store: Arc<MemoryStore>,
    /// Kind of blob at whose first read the other strikes.
    kind: char,
    struck: AtomicBool,
    other: Other,
}

/// The other maintainer: its own view of the same blobs.
struct Other(Repository);

impl std::fmt::Debug for Other {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("other")
    }
}

impl Meddled {
    fn strike(&self, id: &BlobId) {
        if id.as_str().starts_with(self.kind) && !self.struck.swap(true, Ordering::SeqCst) {
            let bench = Bench::new().quick();
            let (workspace, never) = (bench.workspace(), Timestamp::default());
            let other = &self.other.0;
            compact_indexes_v0::drop_deleted(other, &workspace, never, Duration::ZERO).unwrap();
        }
    }
}

#[async_trait]
impl BlobStore for Meddled {
    async fn get(&self, id: &BlobId, offset: u64, into: &mut [u8]) -> Result<usize, BlobError> {
        self.strike(id);
        self.store.get(id, offset, into).await
    }

    async fn metadata(&self, id: &BlobId) -> Result<BlobMetadata, BlobError> {
        self.store.metadata(id).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BlobId>,
        limit: usize,
    ) -> Result<Vec<BlobMetadata>, BlobError> {
        self.store.list(prefix, after, limit).await
    }

    async fn put(
        &self,
        id: &BlobId,
        source: &mut dyn BlobSource,
        options: &PutOptions,
    ) -> Result<Timestamp, BlobError> {
        self.store.put(id, source, options).await
    }

    async fn delete(&self, id: &BlobId) -> Result<(), BlobError> {
        self.store.delete(id).await
    }

    fn location(&self) -> String {
        "meddled".to_owned()
    }

    fn waits(&self) -> bool {
        false
    }
}

#[test]
fn blobs_that_vanish_are_a_fresh_listing() {
    for kind in ['n', 'm'] {
        for compaction in [
            CompactionV0::quick(SETTLE_TIME),
            CompactionV0::drop_deleted(DROP_BEFORE, SETTLE_TIME),
        ] {
            let world = world(1, 1);
            let before = view(&world);
            let store = Arc::new(Meddled {
                store: world.store.clone(),
                kind,
                struck: AtomicBool::new(false),
                other: Other(world.repository()),
            });
            let repository = world.repository_on(store.clone());
            let bench = Bench::new().quick();
            let workspace = bench.workspace();
            let mut plans = 0;
            let outcome = compaction.run(&repository, &workspace, &mut |_| plans += 1);
            let outcome = outcome.unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert!(store.struck.load(Ordering::SeqCst), "{kind}");
            assert_eq!(
                plans,
                if kind == 'n' { 2 } else { 1 },
                "{kind}: {}",
                outcome.report
            );
            let mut expected = before;
            if compaction.everything {
                expected.retain(|_, entry| {
                    let time = Timestamp::from_seconds(entry.timestamp_seconds);
                    !entry.deleted || time >= DROP_BEFORE
                });
            }
            assert_eq!(model::difference(&expected, &view(&world)), None, "{kind}");
        }
    }
}

#[test]
fn stale_listings_cost_work_only() {
    let undisturbed = world(1, 1);
    let before = view(&undisturbed);
    play(&undisturbed, SimulationOptions::default()).1.unwrap();
    let (after, end) = (view(&undisturbed), counts(&undisturbed));
    for seed in 0..4 {
        let world = world(1, seed);
        let options = SimulationOptions {
            seed,
            delays: Some(Delays {
                clock: world.clock.clone(),
                max: Duration::from_millis(900),
            }),
            stale_listings: Some(Duration::from_secs(600)),
            ..SimulationOptions::default()
        };
        let (_, outcome) = play(&world, options);
        outcome.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(view(&world).len(), after.len(), "seed {seed}");
        assert!(before.len() > after.len());
        world.clock.advance(Duration::from_secs(7200));
        play(&world, SimulationOptions::default()).1.unwrap();
        assert_eq!(counts(&world), end, "seed {seed}");
    }
}

#[test]
fn faults_end_the_run_and_change_nothing() {
    let undisturbed = world(1, 1);
    play(&undisturbed, SimulationOptions::default()).1.unwrap();
    let (after, end) = (view(&undisturbed), counts(&undisturbed));
    let world = world(1, 1);
    let (before, snapshot) = (view(&world), world.store.snapshot());
    let mut failed = 0;
    for seed in 0..30 {
        world.store.restore(&snapshot);
        let options = SimulationOptions {
            seed,
            faults: 15,
            torn_writes: true,
            ..SimulationOptions::default()
        };
        if let Err(error) = play(&world, options).1 {
            assert_eq!(error.code(), "storage-transient", "seed {seed}: {error}");
            failed += 1;
        }
        let found = view(&world);
        super::killed::check_reader(&before, &after, &found, &format!("faults of seed {seed}"));
        play(&world, SimulationOptions::default()).1.unwrap();
        assert_eq!(
            model::difference(&after, &view(&world)),
            None,
            "seed {seed}"
        );
        assert_eq!(counts(&world), end, "seed {seed}");
    }
    assert!(failed > 5, "only {failed} of 30 runs failed");
}
