//! A whole full cycle on real contents, killed after its storage operations: every content that a
//! snapshot uses stays where the index says, and the next cycle ends where an undisturbed one does.
//!
//! The repositories are golden ones, moved into memory. Two days: on the first, contents are
//! collected and rewritten; on the second, packs are deleted and deleted contents forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use careen::blob::{BlobStore, MemoryStore, SimulatedStore, SimulationOptions, Storage};
use careen::clock::{Clock, ManualClock, Timestamp};
use careen::kopia::blob_id::BlobId;
use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::lease::Lease;
use careen::maintenance::run::RunOptions;
use careen::maintenance::safety::Safety;
use careen::repository::Repository;
use careen::repository::contents::{ContentRow as Row, each_content};
use kit::cycle::{cycle, schedule};
use kit::golden::Golden;
use kit::index_work::{Bench, open};
use kit::world::everything;

use super::HOUR;

/// A golden repository in memory.
struct Moved {
    repository: Repository,
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    used: BTreeSet<String>,
    bench: Bench,
    options: RunOptions,
}

impl Moved {
    fn new(name: &str, safety: Safety) -> Self {
        let golden = Golden::open(name);
        let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
        let clock = Arc::new(ManualClock::new(golden.now()));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        for (blob, (bytes, time)) in everything(&repository.storage) {
            store.insert(BlobId::new(blob), bytes, time);
        }
        let used = golden.state()["usedContents"]["list"]
            .as_array()
            .unwrap()
            .iter();
        Self {
            used: used.map(|id| id.as_str().unwrap().to_owned()).collect(),
            options: cycle(Mode::Full, safety, golden.maintenance_owner()),
            bench: Bench::new().quick(),
            repository,
            store,
            clock,
        }
    }

    fn on(&self, store: Arc<dyn BlobStore>) -> Repository {
        Repository {
            storage: Storage::new(store),
            clock: self.clock.clone(),
            ..self.repository.clone()
        }
    }

    /// Runs a cycle on a store that dies after so many operations; returns how many there were.
    fn run(&self, last: Option<u64>) -> (u64, Result<(), careen::maintenance::MaintenanceError>) {
        let options = SimulationOptions {
            seed: last.unwrap_or(0),
            torn_writes: true,
            crash_after_operation: last,
            ..SimulationOptions::default()
        };
        let store = Arc::new(SimulatedStore::new(self.store.clone(), options));
        let outcome = self.bench.cycle(&self.on(store.clone()), &self.options);
        (store.operations(), outcome.map(|_| ()))
    }

    /// Checks that everything in use is live or a tombstone, and lies inside a pack that is there.
    /// Returns what the contents are: deleted or not.
    fn check(&self, moment: &str) -> BTreeMap<String, bool> {
        let repository = self.on(self.store.clone());
        let mut lengths = BTreeMap::new();
        let listed = repository.storage.for_each("", |blob| {
            lengths.insert(blob.id.to_string(), blob.length);
            Ok::<(), careen::blob::BlobError>(())
        });
        listed.unwrap();
        let mut contents = BTreeMap::new();
        let shown = each_content(&repository, &self.bench.workspace(), &mut |row: &Row<
            '_,
        >| {
            let id = row.content.to_string();
            let end = u64::from(row.pack_offset) + u64::from(row.packed_length);
            let length = lengths.get(row.pack.as_ref()).copied().unwrap_or(0);
            assert!(
                row.deleted || end <= length,
                "{moment}: {id} lies in {}",
                row.pack
            );
            contents.insert(id, row.deleted);
            true
        });
        shown.unwrap();
        for id in &self.used {
            assert!(contents.contains_key(id), "{moment}: {id} is lost");
        }
        contents
    }

    fn packs(&self) -> usize {
        let names = everything(&self.on(self.store.clone()).storage).into_keys();
        names.filter(|name| name.starts_with(['p', 'q'])).count()
    }
}

/// Plays days of one cycle each; kills each of them after every operation.
fn kill_on_every_day(name: &str, safety: Safety, days: usize) {
    let moved = Moved::new(name, safety);
    for day in 1..=days {
        let (start, snapshot): (Timestamp, _) = (moved.clock.now(), moved.store.snapshot());
        let (operations, outcome) = moved.run(None);
        outcome.unwrap();
        let (expected, packs) = (moved.check("undisturbed"), moved.packs());
        let after = moved.store.snapshot();
        assert!(operations > 50, "{name}: {operations}");
        for last in 0..operations {
            let moment = format!("{name}, day {day}, killed after {last} of {operations}");
            moved.store.restore(&snapshot);
            moved.clock.set(start);
            let (_, killed) = moved.run(Some(last));
            if let Err(error) = killed {
                assert_eq!(error.code(), "storage-crashed", "{moment}: {error}");
            }
            moved.check(&moment);
            if let Some(lease) = Lease::of(&schedule(&moved.on(moved.store.clone()))) {
                moved.clock.set(lease.until);
            }
            let (_, again) = moved.run(None);
            again.unwrap_or_else(|error| panic!("{moment}: again: {error}"));
            let contents = moved.check(&format!("{moment}, and run again"));
            let same = |id: &String, deleted: &bool| match deleted {
                false => contents.get(id) == Some(&false),
                // Without margins a later run forgets more.
                true => contents.get(id).is_none_or(|deleted| *deleted),
            };
            let all = expected.iter().all(|(id, deleted)| same(id, deleted));
            assert!(all && contents.len() <= expected.len(), "{moment}");
        }
        assert!(packs > 0);
        moved.store.restore(&after);
        moved
            .clock
            .set(start.plus(HOUR * 25 + Duration::from_secs(60)));
    }
}

#[test]
fn with_margins_over_two_days() {
    kill_on_every_day("small-packs", Safety::full(), 2);
}

#[test]
fn with_many_epochs() {
    kill_on_every_day("old-epochs", Safety::full(), 1);
}

#[test]
fn without_epochs() {
    kill_on_every_day("v1-v0index", Safety::full(), 2);
}

#[test]
fn without_margins() {
    kill_on_every_day("small-packs", Safety::none(), 1);
}
