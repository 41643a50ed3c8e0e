//! A full cycle on a store in which something happens at a chosen operation: whatever a suite wants
//! to happen before it, or the operation fails.
//!
//! Memory: the repository.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use careen::blob::{
    BlobError, BlobMetadata, BlobSource, BlobStore, BlobVersion, MemorySnapshot, MemoryStore,
    PutOptions, Replaced,
};
use careen::clock::{Clock, ManualClock, Timestamp};
use careen::kopia::blob_id::BlobId;
use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::safety::Safety;
use kit::cycle::cycle;
use kit::index_work::Bench;
use kit::world::{OWNER, World};

use super::model::Model;
use super::{build, harmless, judge};

pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// What happens at the operation.
pub(super) enum Strike {
    /// Something, before it.
    Happens(Box<dyn Fn() + Send + Sync>),
    /// It fails, once; a write has `happened` or not.
    Fails { happened: bool },
}

/// A store in which something happens at operation `at`.
pub(super) struct Struck {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    at: u64,
    operations: AtomicU64,
    strike: Strike,
    /// How long each operation takes from then on.
    slow: Duration,
    /// What was written since, and when.
    pub(super) written: Mutex<Vec<(String, Timestamp)>>,
}

impl Struck {
    fn new(world: &World, at: u64, slow: Duration, strike: Strike) -> Self {
        Self {
            store: world.store.clone(),
            clock: world.clock.clone(),
            at,
            operations: AtomicU64::new(0),
            strike,
            slow,
            written: Mutex::default(),
        }
    }

    /// Counts an operation. Returns whether it is to fail.
    fn begin(&self, id: &str) -> Result<(), BlobError> {
        let number = self.operations.fetch_add(1, Ordering::SeqCst);
        match &self.strike {
            Strike::Happens(strike) if number == self.at => strike(),
            Strike::Fails { .. } if number == self.at => return Err(fault(id)),
            _ if number > self.at => self.clock.advance(self.slow),
            _ => {}
        }
        Ok(())
    }

    /// Notes a write that happens. Returns whether it is to fail, and happens nevertheless.
    fn write(&self, id: &BlobId) -> Result<bool, BlobError> {
        let fails = self.fails(id);
        self.note_written(id);
        fails
    }

    fn note_written(&self, id: &BlobId) {
        if self.has_struck() {
            let mut written = self.written.lock().unwrap();
            written.push((id.to_string(), self.clock.now()));
        }
    }

    /// Begins a write; returns whether it is told to have failed although it happens.
    fn fails(&self, id: &BlobId) -> Result<bool, BlobError> {
        match (self.begin(id.as_str()), &self.strike) {
            (Err(_), Strike::Fails { happened: true }) => Ok(true),
            (outcome, _) => outcome.map(|()| false),
        }
    }

    /// Returns whether it has come to the strike.
    fn has_struck(&self) -> bool {
        self.operations.load(Ordering::SeqCst) > self.at
    }
}

impl fmt::Debug for Struck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Struck").finish_non_exhaustive()
    }
}

#[async_trait]
impl BlobStore for Struck {
    async fn get(&self, id: &BlobId, offset: u64, into: &mut [u8]) -> Result<usize, BlobError> {
        self.begin(id.as_str())?;
        self.store.get(id, offset, into).await
    }

    async fn metadata(&self, id: &BlobId) -> Result<BlobMetadata, BlobError> {
        self.begin(id.as_str())?;
        self.store.metadata(id).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BlobId>,
        limit: usize,
    ) -> Result<Vec<BlobMetadata>, BlobError> {
        self.begin(prefix)?;
        self.store.list(prefix, after, limit).await
    }

    async fn put(
        &self,
        id: &BlobId,
        source: &mut dyn BlobSource,
        options: &PutOptions,
    ) -> Result<Timestamp, BlobError> {
        let fails = self.write(id)?;
        let time = self.store.put(id, source, options).await?;
        if fails {
            Err(fault(id.as_str()))
        } else {
            Ok(time)
        }
    }

    async fn get_version(
        &self,
        id: &BlobId,
        into: &mut [u8],
    ) -> Result<(usize, Option<BlobVersion>), BlobError> {
        self.begin(id.as_str())?;
        self.store.get_version(id, into).await
    }

    async fn replace(
        &self,
        id: &BlobId,
        bytes: &[u8],
        expected: &BlobVersion,
    ) -> Result<Replaced, BlobError> {
        let fails = self.fails(id)?;
        let replaced = self.store.replace(id, bytes, expected).await?;
        if replaced != Replaced::Changed {
            self.note_written(id);
        }
        if fails {
            Err(fault(id.as_str()))
        } else {
            Ok(replaced)
        }
    }

    async fn delete(&self, id: &BlobId) -> Result<(), BlobError> {
        let fails = self.write(id)?;
        self.store.delete(id).await?;
        if fails {
            Err(fault(id.as_str()))
        } else {
            Ok(())
        }
    }

    fn location(&self) -> String {
        "struck".to_owned()
    }

    fn waits(&self) -> bool {
        false
    }
}

fn fault(id: &str) -> BlobError {
    BlobError::Transient {
        operation: "an operation",
        id: id.to_owned(),
        reason: "simulated fault".to_owned(),
    }
}

/// A repository on the day on which a full cycle has the most to do.
pub(super) struct Day {
    pub(super) world: World,
    pub(super) model: Model,
    pub(super) bench: Bench,
    snapshot: MemorySnapshot,
    pub(super) start: Timestamp,
}

/// What a run on a struck store came to.
pub(super) struct Ended {
    pub(super) code: Option<&'static str>,
    pub(super) told: String,
    pub(super) store: Arc<Struck>,
}

impl Day {
    pub(super) fn new(epochs: bool, seed: u8) -> Self {
        let (world, model) = build::build(&harmless(epochs, seed));
        let bench = Bench::new().quick();
        let full = cycle(Mode::Full, Safety::full(), OWNER);
        for _ in 0..1 + seed % 3 {
            world.clock.advance(MINUTE * 60 * 25);
            bench.cycle(&world.repository(), &full).unwrap();
        }
        world.clock.advance(MINUTE * 60 * 25);
        Self::of(world, model)
    }

    pub(super) fn of(world: World, model: Model) -> Self {
        let (snapshot, start) = (world.store.snapshot(), world.now());
        let bench = Bench::new().quick();
        Self {
            world,
            model,
            bench,
            snapshot,
            start,
        }
    }

    pub(super) fn run(&self, at: u64, slow: Duration, strike: Strike) -> Ended {
        self.world.store.restore(&self.snapshot);
        self.world.clock.set(self.start);
        let store = Arc::new(Struck::new(&self.world, at, slow, strike));
        let full = cycle(Mode::Full, Safety::full(), OWNER);
        let ran = self
            .bench
            .cycle(&self.world.repository_on(store.clone()), &full);
        let code = ran.as_ref().err().map(|error| error.code());
        let told = format!("struck at {at}: {:?}", ran.err());
        Ended { code, told, store }
    }

    /// Strikes at every `step`-th operation; the number of times that the run was ended by it.
    pub(super) fn every(&self, step: u64, mut each: impl FnMut(&Self, u64) -> Ended) -> usize {
        let mut ended = 0;
        for at in (0..).step_by(step as usize) {
            let run = each(self, at);
            let lost = judge::nothing_lost(&self.world, &self.model);
            lost.unwrap_or_else(|lost| panic!("{}: {lost}", run.told));
            ended += usize::from(run.code.is_some());
            if !run.store.has_struck() {
                assert_eq!(run.code, None, "{}", run.told);
                break;
            }
        }
        ended
    }
}
