//! A deletion that is cut by a budget is one that ended half way: what it leaves stays what it is,
//! and the next takes the rest. Method: one blob at a time.

use super::{DAY, check, delete_as, many_short_packs, packs_of_a_dead_session, rewrite};
use crate::clock::Clock;
use crate::maintenance::delete_unreferenced_packs::{
    DeletePacksOptions, DeletePacksPlan, DeletePacksReport,
};
use crate::maintenance::orphan_packs::Scope;
use crate::maintenance::safety::Safety;
use crate::repository::pack_world::{Shape, World};
use crate::repository::sessions::SessionIds;

fn delete_at_most(world: &World, deletions: u64) -> DeletePacksReport {
    let (repository, workspace) = (&world.repository, &world.workspace);
    let (active, table) = world.table().unwrap();
    let options = DeletePacksOptions {
        scope: Scope::Full,
        sessions: &SessionIds::default(),
        safety: &Safety::full(),
        maintenance_start: world.clock.now(),
        accept_unexplained: false,
        still_ours: &|| Ok(()),
    };
    let plan = DeletePacksPlan::make(repository, workspace, &active, &table, &options).unwrap();
    let plan = plan.with_at_most(deletions);
    plan.execute(repository, workspace, &options).unwrap()
}

fn packs(world: &World) -> usize {
    world.names("p").len() + world.names("q").len()
}

#[test]
fn old_packs_go_one_by_one() {
    let world = World::new(Shape::default());
    let model = many_short_packs(&world);
    rewrite(&world, &Safety::full()).unwrap();
    let all = packs(&world);
    assert_eq!(delete_at_most(&world, 0).left, 20);
    for left in (0..20).rev() {
        let report = delete_at_most(&world, 1);
        assert_eq!(report.left, left);
        let stats = report.stats;
        assert_eq!(stats.unreferenced_pack_count, left + 1);
        assert_eq!(stats.deleted_pack_count, 1);
        assert!(stats.deleted_total_size > 0);
        check(&world, &model);
    }
    assert_eq!(packs(&world), all - 20);
    let report = delete_as(&world, &Safety::full(), Scope::Full, false).unwrap();
    assert_eq!((report.left, report.stats.deleted_pack_count), (0, 0));
}

/// Goal: as long as a pack of a dead session is left, so is the marker that explains it.
#[test]
fn a_marker_goes_after_the_last_pack_of_its_session() {
    let world = World::new(Shape::default());
    let all = packs_of_a_dead_session(&world);
    assert!(all > 1, "{all}");
    world.clock.advance(DAY * 5);
    for left in (0..all).rev() {
        let report = delete_at_most(&world, 1);
        assert_eq!(packs(&world), left);
        assert_eq!(report.unexplained, 0);
        assert_eq!(world.names("s").len(), 1, "{left} packs are left");
    }
    assert_eq!(delete_at_most(&world, 1).left, 0);
    assert!(world.names("s").is_empty());
}
