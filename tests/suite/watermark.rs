//! The deletion watermark moves forward only, and readers forget the tombstones that it passes.
//!
//! A tombstone at the watermark is gone, and with it the older live entry that it hides; a later
//! one stays.

use careen::maintenance::advance_deletion_watermark::advance_deletion_watermark;
use careen::repository::Repository;
use careen::repository::contents::each_content;
use careen::repository::epochs::EpochState;
use kit::index_work::Bench;
use kit::world::{World, WorldOptions};

/// Returns the deleted flags of all contents that are not system contents.
fn seen(repository: &Repository) -> Vec<bool> {
    let mut deleted = Vec::new();
    each_content(repository, &Bench::new().workspace(), &mut |row| {
        if row.content.prefix().is_none() {
            deleted.push(row.deleted);
        }
        true
    })
    .unwrap();
    deleted
}

#[test]
fn it_moves_forward_only_and_passes_tombstones() {
    let world = World::new(WorldOptions::default());
    let start = world.now().seconds() - 1_000;
    let (old, young) = (world.data(1, 1, start), world.data(2, 1, start));
    let entries = [old.clone(), young.clone()];
    world.put_uncompacted(0, &entries, world.now());
    let tombstones = [old.tombstone(start + 100), young.tombstone(start + 101)];
    world.put_uncompacted(0, &tombstones, world.now());
    let repository = world.repository();
    assert_eq!(seen(&repository), [true, true]);

    let state = || EpochState::load(&repository.storage).unwrap();
    assert!(
        advance_deletion_watermark(&repository, state().watermark_seconds, start + 100).unwrap()
    );
    assert_eq!(state().watermark_seconds, Some(start + 100));
    assert_eq!(
        seen(&repository),
        [true],
        "the tombstone at the watermark and what it hides"
    );
    let again =
        advance_deletion_watermark(&repository, state().watermark_seconds, start + 100).unwrap();
    assert!(!again, "the same second is no move");
    let back =
        advance_deletion_watermark(&repository, state().watermark_seconds, start + 99).unwrap_err();
    assert_eq!(back.code(), "watermark-backwards");
    assert_eq!(state().watermarks.len(), 1, "nothing was written");
}
