//! Rewriting contents and deleting packs on small repositories in memory, judged by a model: a map
//! of all contents that must stay readable.

mod cut;
mod groups;
mod model;
mod tenants;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::MaintenanceError;
use super::advance_deletion_watermark::advance_deletion_watermark;
use super::delete_unreferenced_packs::{DeletePacksOptions, DeletePacksPlan, DeletePacksReport};
use super::orphan_packs::Scope;
use super::pack_choice::ShortPacks;
use super::rewrite_contents::{RewriteOptions, RewritePlan, RewriteReport};
use super::safety::Safety;
use crate::blob::{SimulatedStore, SimulationOptions};
use crate::clock::{Clock, Timestamp};
use crate::repository::epochs::EpochState;
use crate::repository::pack_world::{NOW, OWNER, Shape, World, plain};
use crate::repository::sessions::SessionIds;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How a rewrite is to go, besides what all tests share.
#[derive(Clone, Copy, Default)]
struct Special {
    kind: Option<u8>,
    format_version: Option<u8>,
    wrong_kind: bool,
    no_short_packs: bool,
}

fn rewrite(world: &World, safety: &Safety) -> Result<RewriteReport, MaintenanceError> {
    rewrite_as(world, safety, Special::default(), &|| false)
}

fn rewrite_as(
    world: &World,
    safety: &Safety,
    special: Special,
    end_early: &(dyn Fn() -> bool + Sync),
) -> Result<RewriteReport, MaintenanceError> {
    let (repository, workspace) = (&world.repository, &world.workspace);
    let (_, table) = world.table()?;
    let mut short = ShortPacks;
    let mut options = RewriteOptions {
        kind: special.kind,
        packs: (!special.no_short_packs).then_some(&mut short),
        pack_bytes_max: repository.format.max_pack_size,
        format_version: special.format_version,
        wrong_kind: special.wrong_kind,
        safety,
        now: world.clock.now(),
        owner: OWNER,
        end_early,
    };
    let plan = RewritePlan::make(workspace, &table, &mut options)?;
    plan.execute(repository, workspace, &table, &options)
}

fn delete(world: &World, safety: &Safety) -> Result<DeletePacksReport, MaintenanceError> {
    delete_as(world, safety, Scope::Full, false)
}

fn delete_as(
    world: &World,
    safety: &Safety,
    scope: Scope,
    accept_unexplained: bool,
) -> Result<DeletePacksReport, MaintenanceError> {
    let (repository, workspace) = (&world.repository, &world.workspace);
    let sessions = SessionIds::list(repository)?;
    let (active, table) = world.table()?;
    let options = DeletePacksOptions {
        scope,
        sessions: &sessions,
        safety,
        maintenance_start: world.clock.now(),
        accept_unexplained,
        still_ours: &|| Ok(()),
    };
    let plan = DeletePacksPlan::make(repository, workspace, &active, &table, &options)?;
    plan.execute(repository, workspace, &options)
}

/// Contents of these numbers, `length` bytes each.
fn some(numbers: std::ops::Range<u32>, length: usize) -> Vec<(Option<u8>, Vec<u8>)> {
    numbers
        .map(|n| ((n % 4 == 0).then_some(b'k'), plain(n, length)))
        .collect()
}

/// Ten flushes of ten contents each: packs of a few hundred bytes, a day ago.
fn many_short_packs(world: &World) -> BTreeMap<String, Vec<u8>> {
    let mut model = BTreeMap::new();
    for flush in 0..10 {
        let contents = some(flush * 10..flush * 10 + 10, 50);
        for (prefix, bytes) in &contents {
            model.insert(world.seal(*prefix, bytes).0.to_string(), bytes.clone());
        }
        world.write(&contents, NOW.seconds(), false);
    }
    world.clock.advance(DAY * 2);
    model
}

/// Lets a writer die before it writes its index; returns how many packs there are then.
fn packs_of_a_dead_session(world: &World) -> usize {
    let options = SimulationOptions {
        crash_after_operation: Some(4),
        ..SimulationOptions::default()
    };
    let store = Arc::new(SimulatedStore::new(world.store.clone(), options));
    let dying = World::on(
        Shape::default(),
        world.clock.clone(),
        world.store.clone(),
        Some(store),
    );
    dying
        .try_write(&some(0..200, 700), NOW.seconds(), false)
        .unwrap_err();
    world.names("p").len() + world.names("q").len()
}

fn check(world: &World, model: &BTreeMap<String, Vec<u8>>) {
    let rows = world.contents();
    assert_eq!(rows.len(), model.len());
    for (id, bytes) in model {
        assert_eq!(world.read(id, &rows[id]).unwrap(), *bytes, "{id}");
    }
}

fn shapes() -> Vec<Shape> {
    let base = Shape::default();
    vec![
        base,
        Shape {
            epochs: false,
            index_version: 1,
            legacy: true,
            ..base
        },
        Shape {
            ecc_percent: 10,
            chacha: true,
            ..base
        },
        Shape {
            read_bytes: 40,
            ..base
        }, // every content is larger than a buffer
        Shape {
            read_bytes: 40,
            ecc_percent: 2,
            ..base
        },
    ]
}

/// Goal: contents of short packs move into full ones, as they are; the old packs go when they may.
#[test]
fn short_packs_are_rewritten_and_their_old_packs_deleted() {
    for shape in shapes() {
        let world = World::new(shape);
        let model = many_short_packs(&world);
        let before = world.contents();
        assert_eq!(world.names("p").len() + world.names("q").len(), 20);
        let report = rewrite(&world, &Safety::full()).unwrap();
        assert_eq!(report.stats.rewritten_content_count, 100, "{shape:?}");
        assert_eq!(report.stats.to_rewrite_content_count, 100);
        assert_eq!(report.written.packs, 2, "one of each kind");
        check(&world, &model);
        for (id, row) in world.contents() {
            assert_eq!(row.seconds, world.clock.now().seconds());
            assert_ne!(row.pack, before[&id].pack);
            assert_eq!(row.length, before[&id].length);
            assert_eq!(row.original_length, before[&id].original_length);
        }
        let again = rewrite(&world, &Safety::none()).unwrap();
        assert_eq!(
            again.stats.to_rewrite_content_count, 0,
            "one short pack of a kind stays"
        );
        let gets = world.repository.storage.counters().gets;
        let deleted = delete(&world, &Safety::full()).unwrap();
        assert_eq!(deleted.stats.deleted_pack_count, 20, "{shape:?}");
        assert_eq!(deleted.unexplained, 0);
        let gets = world.repository.storage.counters().gets - gets;
        assert!(gets < 60, "{gets} GETs for 20 packs and the index");
        check(&world, &model);
    }
}

/// Goal: young contents stay, tombstones stay tombstones, times go forward.
#[test]
fn ages_tombstones_and_times() {
    let world = World::new(Shape::default());
    let old = some(0..10, 50);
    world.write(&old, NOW.seconds(), false);
    world.write(&some(10..20, 50), NOW.seconds() + 3600, false);
    let deleted: Vec<String> = old[..3]
        .iter()
        .map(|(p, b)| world.seal(*p, b).0.to_string())
        .collect();
    world.tombstones(&deleted, NOW.seconds() + 60);
    world
        .clock
        .set(Timestamp::from_seconds(NOW.seconds() + 7200 + 60));
    let report = rewrite(&world, &Safety::full()).unwrap();
    assert_eq!(report.stats.rewritten_content_count, 10);
    assert_eq!(report.stats.retained_content_count, 10);
    let rows = world.contents();
    for id in &deleted {
        assert!(rows[id].deleted);
        world.read(id, &rows[id]).unwrap();
    }
    assert_eq!(rows.values().filter(|row| row.deleted).count(), 3);
    // An entry of this second or later gets a later time than it has.
    world.clock.set(Timestamp::from_seconds(NOW.seconds()));
    let early = rewrite(&world, &Safety::none()).unwrap();
    assert_eq!(
        early.stats.rewritten_content_count, 0,
        "times in the future are young"
    );
}

/// Goal: only what was asked for: one kind of pack, one version of the format, wrong kinds.
#[test]
fn other_reasons_to_rewrite() {
    let world = World::new(Shape::default());
    let model = many_short_packs(&world);
    let quick = Special {
        kind: Some(b'q'),
        ..Special::default()
    };
    let report = rewrite_as(&world, &Safety::full(), quick, &|| false).unwrap();
    assert_eq!(report.stats.rewritten_content_count, 25);
    let none = Special {
        no_short_packs: true,
        ..Special::default()
    };
    let version = Special {
        format_version: Some(3),
        ..none
    };
    world.clock.advance(DAY);
    let report = rewrite_as(&world, &Safety::full(), version, &|| false).unwrap();
    assert_eq!(report.stats.rewritten_content_count, 100);
    let version = Special {
        format_version: Some(2),
        ..none
    };
    let report = rewrite_as(&world, &Safety::none(), version, &|| false).unwrap();
    assert_eq!(report.stats.to_rewrite_content_count, 0);
    let wrong = Special {
        wrong_kind: true,
        ..none
    };
    let report = rewrite_as(&world, &Safety::none(), wrong, &|| false).unwrap();
    assert_eq!(
        report.stats.to_rewrite_content_count, 0,
        "all lie where they belong"
    );
    check(&world, &model);
}

/// Goal: a tag that does not fit ends the task before the damaged pack becomes an orphan.
#[test]
fn damage_ends_the_task_and_nothing_is_lost() {
    for read_bytes in [16_384, 40] {
        let world = World::new(Shape {
            read_bytes,
            ..Shape::default()
        });
        let mut model = many_short_packs(&world);
        let rows = world.contents();
        let (bad, row) = rows.iter().nth(50).unwrap();
        world.damage(row);
        let error = rewrite(&world, &Safety::full()).unwrap_err();
        assert_eq!(error.code(), "tag-mismatch");
        let text = error.to_string();
        assert!(text.contains(bad) && text.contains(&row.pack), "{text}");
        let after = world.contents();
        assert_eq!(after.len(), rows.len());
        assert_eq!(after[bad].pack, row.pack, "it stays where it is");
        assert!(world.names("s").is_empty(), "what was copied is indexed");
        world.clock.advance(DAY * 2);
        delete(&world, &Safety::full()).unwrap();
        let bytes = model.remove(bad).unwrap();
        let after = world.contents();
        for (id, bytes) in &model {
            assert_eq!(world.read(id, &after[id]).unwrap(), *bytes, "{id}");
        }
        assert_eq!(bytes.len(), 50);
        assert!(world.store.bytes(&row.pack.as_str().into()).is_some());
    }
}

/// Goal: with error correction damage is repaired on the way.
#[test]
fn ecc_repairs_while_contents_move() {
    for read_bytes in [16_384, 40] {
        let world = World::new(Shape {
            ecc_percent: 10,
            read_bytes,
            ..Shape::default()
        });
        let model = many_short_packs(&world);
        for row in world.contents().values().step_by(7) {
            world.damage(row);
        }
        let report = rewrite(&world, &Safety::full()).unwrap();
        assert_eq!(report.repaired, 15);
        check(&world, &model);
        let ecc = world.repository.crypto.ecc.clone().unwrap();
        for row in world.contents().values() {
            let pack = world.store.bytes(&row.pack.as_str().into()).unwrap();
            let place = row.offset as usize..(row.offset + row.length) as usize;
            assert!(
                !ecc.decode(&pack[place], &mut Vec::new()).unwrap(),
                "no damage is left"
            );
        }
    }
}

/// Goal: told to end early, it leaves what it has copied, and the next run goes on; also where
/// contents fit into no buffer, which workers read ahead.
#[test]
fn an_early_end_keeps_what_was_done() {
    an_early_end(500, 3);
    an_early_end(20, 120);
}

fn an_early_end(read_bytes: usize, questions: u32) {
    let world = World::new(Shape {
        read_bytes,
        ..Shape::default()
    });
    let model = many_short_packs(&world);
    let asked = AtomicU32::new(0);
    let end = || asked.fetch_add(1, Ordering::Relaxed) >= questions;
    let report = rewrite_as(&world, &Safety::full(), Special::default(), &end).unwrap();
    assert!(report.ended_early);
    let done = report.stats.rewritten_content_count;
    assert!(done > 0 && done < 100, "{done}");
    check(&world, &model);
    world.clock.advance(DAY);
    let rest = rewrite(&world, &Safety::full()).unwrap();
    assert!(rest.stats.rewritten_content_count >= 100 - done);
    check(&world, &model);
}

/// Goal: the guard: packs of a lost index blob stay, and stop the run; a dead session's go.
#[test]
fn a_lost_index_blob_is_not_a_licence_to_delete() {
    for shape in [
        Shape::default(),
        Shape {
            ecc_percent: 10,
            ..Shape::default()
        },
    ] {
        let world = World::new(shape);
        let model = many_short_packs(&world);
        let lost = world.names("xn0_").remove(4);
        let blob = lost.as_str().into();
        let index = world.store.bytes(&blob).unwrap();
        world.repository.storage.delete(&blob).unwrap();
        world.clock.advance(DAY * 30);
        let packs = world.names("p").len() + world.names("q").len();
        let error = delete(&world, &Safety::full()).unwrap_err();
        assert_eq!(error.code(), "unexplained-packs");
        assert!(error.to_string().starts_with("2 of 20 packs"), "{error}");
        assert_eq!(world.names("p").len() + world.names("q").len(), packs);
        world.store.insert(blob, index, NOW);
        check(&world, &model);
        world
            .repository
            .storage
            .delete(&lost.as_str().into())
            .unwrap();
        let report = delete_as(&world, &Safety::full(), Scope::Full, true).unwrap();
        assert_eq!(report.stats.deleted_pack_count, 2, "the user accepted it");
    }
}

/// Goal: few unexplained packs among many are kept and named, the others go.
#[test]
fn a_small_share_is_kept_and_named() {
    let world = World::new(Shape {
        pack_bytes_max: 200,
        ..Shape::default()
    });
    let model: BTreeMap<_, _> = (0..150)
        .map(|n| plain(n, 200))
        .map(|bytes| (world.seal(None, &bytes).0.to_string(), bytes))
        .collect();
    let contents: Vec<_> = model.values().map(|bytes| (None, bytes.clone())).collect();
    world.write(&contents, NOW.seconds(), false);
    world.put(
        "p00000000000000000000000000000000-s00000000000000000",
        b"not a pack",
    );
    world.clock.advance(DAY * 5);
    let report = delete(&world, &Safety::full()).unwrap();
    assert_eq!(report.unexplained, 1);
    assert!(
        report.named[0].reason.contains("local index"),
        "{:?}",
        report.named
    );
    assert_eq!(report.stats.unreferenced_pack_count, 1);
    assert_eq!(report.stats.deleted_pack_count, 0);
    check(&world, &model);
}

/// Goal: a dead session's packs go, then its marker; a living one's stay. Method: crash a writer.
#[test]
fn dead_sessions_lose_their_packs_and_then_their_marker() {
    let world = World::new(Shape::default());
    let packs = packs_of_a_dead_session(&world);
    assert_eq!(world.names("s").len(), 1);
    assert!(packs > 0);
    world.clock.advance(DAY * 4 - Duration::from_secs(2));
    let early = delete(&world, &Safety::full()).unwrap();
    assert_eq!(early.stats.retained_pack_count, packs as u64 + 1);
    assert_eq!(early.stats.deleted_pack_count, 0);
    // A pack that came late: younger than a day, so the marker explains it later.
    let late = world.names("p").remove(0);
    let bytes = world.store.bytes(&late.as_str().into()).unwrap();
    world
        .store
        .insert(late.as_str().into(), bytes.clone(), world.clock.now());
    world.clock.advance(Duration::from_secs(2));
    let report = delete(&world, &Safety::full()).unwrap();
    assert_eq!(report.stats.deleted_pack_count, packs as u64 - 1);
    assert_eq!(
        world.names("s").len(),
        1,
        "its marker explains the late pack"
    );
    assert_eq!(world.names("p"), [late]);
    world.clock.advance(DAY);
    delete(&world, &Safety::full()).unwrap();
    assert!(world.names("p").is_empty() && world.names("s").is_empty());
}

/// Goal: contents that were dropped explain their packs; the margins hold.
#[test]
fn dropped_contents_free_their_packs_after_a_day() {
    let world = World::new(Shape {
        pack_bytes_max: 500,
        ..Shape::default()
    });
    world.write(&some(0..40, 100), NOW.seconds(), false);
    let ids: Vec<String> = world.contents().into_keys().collect();
    world.tombstones(&ids, NOW.seconds() + 10);
    world.clock.advance(Duration::from_secs(20));
    let state = EpochState::load(&world.repository.storage).unwrap();
    let none = delete(&world, &Safety::none()).unwrap();
    assert_eq!(
        none.stats.unreferenced_pack_count, 0,
        "tombstones keep packs"
    );
    advance_deletion_watermark(
        &world.repository,
        state.watermark_seconds,
        NOW.seconds() + 10,
    )
    .unwrap();
    let young = delete(&world, &Safety::full()).unwrap();
    assert_eq!(
        (
            young.stats.deleted_pack_count,
            young.stats.retained_pack_count > 0
        ),
        (0, true)
    );
    // Kopia's cutoff is one second after the start.
    world.clock.set(NOW.plus(DAY - Duration::from_secs(1)));
    let quick = delete_as(&world, &Safety::full(), Scope::Quick, false).unwrap();
    assert!(quick.stats.deleted_pack_count > 0);
    assert!(world.names("q").is_empty() && !world.names("p").is_empty());
    let report = delete(&world, &Safety::full()).unwrap();
    assert_eq!(report.unexplained, 0);
    assert!(world.names("p").is_empty());
}
