//! Rewriting and deleting against a model: a crash at every operation, and random histories.
//! The model is a map of all contents with their bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{DAY, check, delete, many_short_packs, rewrite, shapes};
use crate::blob::{SimulatedStore, SimulationOptions};
use crate::clock::Clock;
use crate::maintenance::MaintenanceError;
use crate::maintenance::advance_deletion_watermark::advance_deletion_watermark;
use crate::maintenance::delete_unreferenced_packs::{DeletePacksOptions, DeletePacksPlan};
use crate::maintenance::orphan_packs::Scope;
use crate::maintenance::safety::Safety;
use crate::repository::epochs::EpochState;
use crate::repository::pack_world::{Shape, World, plain};
use crate::repository::sessions::SessionIds;

/// Goal: a crash at any operation of a rewrite and a deletion loses nothing, and the next run comes
/// to the same end.
#[test]
fn a_crash_at_any_operation_loses_nothing() {
    let shape = Shape {
        read_bytes: 600,
        pack_bytes_max: 3000,
        ..Shape::default()
    };
    for torn_writes in [false, true] {
        for crash in (0..).map(|n| n * if torn_writes { 3 } else { 1 }) {
            let world = World::new(shape);
            let model = many_short_packs(&world);
            let options = SimulationOptions {
                seed: crash,
                torn_writes,
                crash_after_operation: Some(crash),
                ..SimulationOptions::default()
            };
            let store = Arc::new(SimulatedStore::new(world.store.clone(), options));
            let (clock, memory) = (world.clock.clone(), world.store.clone());
            let dying = World::on(shape, clock, memory, Some(store));
            let outcome =
                rewrite(&dying, &Safety::full()).and_then(|_| delete(&dying, &Safety::full()));
            check(&world, &model);
            world.clock.advance(DAY * 5);
            rewrite(&world, &Safety::full()).unwrap();
            check(&world, &model);
            world.clock.advance(DAY * 5);
            let report = delete(&world, &Safety::full()).unwrap();
            assert_eq!(report.unexplained, 0, "crash {crash}");
            check(&world, &model);
            assert!(world.names("s").is_empty());
            let packs = world.names("p").len() + world.names("q").len();
            assert!(packs <= 5, "crash {crash}: {packs} packs");
            if outcome.is_ok() {
                assert!(crash > 60, "there are more operations than {crash}");
                break;
            }
        }
    }
}

/// Goal: whether the repository is ours is asked before anything is deleted.
#[test]
fn somebody_elses_repository_is_left_alone() {
    let world = World::new(Shape::default());
    many_short_packs(&world);
    rewrite(&world, &Safety::full()).unwrap();
    let before = world.names("");
    let (active, table) = world.table().unwrap();
    let safety = Safety::full();
    let options = DeletePacksOptions {
        scope: Scope::Full,
        sessions: &SessionIds::default(),
        safety: &safety,
        maintenance_start: world.clock.now(),
        accept_unexplained: false,
        still_ours: &|| Err(MaintenanceError::EmptyOwner),
    };
    let (repository, workspace) = (&world.repository, &world.workspace);
    let plan = DeletePacksPlan::make(repository, workspace, &active, &table, &options).unwrap();
    plan.execute(repository, workspace, &options).unwrap_err();
    assert_eq!(world.names(""), before);
}

/// Goal: a pack that is named and gone stops everything.
#[test]
fn a_missing_pack_stops_the_task() {
    let world = World::new(Shape::default());
    many_short_packs(&world);
    let pack = world.names("p").remove(3);
    world
        .repository
        .storage
        .delete(&pack.as_str().into())
        .unwrap();
    let before = world.names("").len();
    assert_eq!(
        delete(&world, &Safety::none()).unwrap_err().code(),
        "missing-pack"
    );
    assert_eq!(
        rewrite(&world, &Safety::none()).unwrap_err().code(),
        "missing-pack"
    );
    let packs = world
        .names("")
        .into_iter()
        .filter(|name| name.starts_with(['p', 'q']))
        .count();
    assert!(packs >= 19 && world.names("").len() >= before);
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Write(u32, usize, bool),
    Tombstone(Vec<usize>),
    Watermark,
    Rewrite(bool),
    Delete(bool),
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..30_u32, 1..900_usize, any::<bool>()).prop_map(|(a, b, c)| Step::Write(a, b, c)),
        2 => proptest::collection::vec(0..1000_usize, 1..20).prop_map(Step::Tombstone),
        1 => Just(Step::Watermark),
        2 => any::<bool>().prop_map(Step::Rewrite),
        2 => any::<bool>().prop_map(Step::Delete),
        2 => (1..40_u32).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Goal: whatever happened before, rewriting and deleting change nothing that readers see, and
    /// never stop on a repository that is whole.
    #[test]
    fn nothing_that_readers_see_is_lost(
        steps in proptest::collection::vec(step(), 1..25),
        which in 0..3_usize,
    ) {
        let shape = Shape { pack_bytes_max: 4000, read_bytes: 700, ..shapes()[[0, 2, 3][which]] };
        let world = World::new(shape);
        let mut next = 0;
        let mut plains: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for step in steps {
            let before = world.contents();
            let now = world.clock.now();
            match step {
                Step::Write(count, length, prefixed) => {
                    let prefix = prefixed.then_some(b'k');
                    let contents: Vec<_> =
                        (next..next + count).map(|n| (prefix, plain(n, length))).collect();
                    next += count;
                    for (prefix, bytes) in &contents {
                        plains.insert(world.seal(*prefix, bytes).0.to_string(), bytes.clone());
                    }
                    world.write(&contents, now.seconds(), false);
                }
                Step::Tombstone(which) => {
                    let ids: Vec<&String> = before.keys().collect();
                    if ids.is_empty() { continue }
                    let chosen: BTreeSet<String> =
                        which.iter().map(|at| ids[at % ids.len()].clone()).collect();
                    let chosen: Vec<String> = chosen.into_iter().collect();
                    world.tombstones(&chosen, now.seconds());
                }
                Step::Watermark => {
                    let current = EpochState::load_watermark_seconds(&world.repository.storage);
                    let (current, seconds) = (current.unwrap(), now.seconds() - 60);
                    let _ = advance_deletion_watermark(&world.repository, current, seconds);
                }
                Step::Rewrite(full) => {
                    let safety = if full { Safety::full() } else { Safety::none() };
                    rewrite(&world, &safety).unwrap();
                    let after = world.contents();
                    prop_assert_eq!(after.len(), before.len());
                    for (id, row) in &after {
                        prop_assert_eq!(row.deleted, before[id].deleted);
                    }
                }
                Step::Delete(full) => {
                    let safety = if full { Safety::full() } else { Safety::none() };
                    let report = delete(&world, &safety).unwrap();
                    prop_assert_eq!(report.unexplained, 0);
                    prop_assert_eq!(world.contents(), before);
                    let used: BTreeSet<String> =
                        world.contents().into_values().map(|row| row.pack).collect();
                    if !full {
                        let mut left = world.names("p");
                        left.extend(world.names("q"));
                        let left: BTreeSet<String> = left.into_iter().collect();
                        prop_assert_eq!(left, used, "nothing else is left without margins");
                    }
                }
                Step::Wait(hours) => {
                    let time = Duration::from_secs(u64::from(hours) * 3600);
                    world.clock.advance(time);
                }
            }
            let after = world.contents();
            for (id, row) in &after {
                let bytes = world.read(id, row);
                prop_assert_eq!(bytes.as_ref(), Ok(&plains[id]));
            }
        }
    }
}
