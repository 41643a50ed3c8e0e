//! Packs written by the writer: what other code finds in them, in every form of repository.
//! Local indexes, sessions, and what a crash leaves, are part of it.

use std::sync::Arc;

use super::pack_local_index::{LocalIndexFound, LocalIndexReader};
use super::pack_world::{FORMAT, NOW, OWNER, Shape, World, plain};
use super::pack_writer::{FLUSH_AFTER, NewContent, PackWriter, Sealed};
use super::sessions::{SessionState, Sessions};
use crate::blob::{SimulatedStore, SimulationOptions};
use crate::kopia::blob_id::session_of;
use crate::kopia::format_blob::find_replica;
use crate::kopia::pack::{PREAMBLE_BYTES, TAIL_BYTES};

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
            ..base
        },
        Shape {
            ecc_percent: 1,
            chacha: true,
            ..base
        },
        Shape {
            pack_bytes_max: 200_000,
            epochs: false,
            ..base
        },
    ]
}

fn some_contents() -> Vec<(Option<u8>, Vec<u8>)> {
    (0..120)
        .map(|n| {
            (
                (n % 3 == 0).then_some(b'k'),
                plain(n, 1 + (n as usize * 37) % 900),
            )
        })
        .collect()
}

/// Goal: contents, their index and the local index of every pack are what was written.
#[test]
fn other_code_reads_what_was_written() {
    for shape in shapes() {
        let world = World::new(shape);
        let contents = some_contents();
        let stats = world.write(&contents, NOW.seconds() - 5, false);
        assert_eq!(stats.contents, contents.len() as u64, "{shape:?}");
        assert!(world.names("s").is_empty(), "the session is committed");
        let rows = world.contents();
        assert_eq!(rows.len(), contents.len());
        let mut packs = world.names("p");
        packs.extend(world.names("q"));
        assert_eq!(packs.len() as u64, stats.packs);
        for (prefix, bytes) in &contents {
            let id = world.seal(*prefix, bytes).0.to_string();
            let row = &rows[&id];
            assert_eq!(world.read(&id, row).unwrap(), *bytes, "{shape:?} {id}");
            assert_eq!(row.pack.starts_with('q'), prefix.is_some());
            if shape.index_version == 2 {
                assert_eq!(row.original_length as usize, bytes.len());
            }
        }
        let mut reader = LocalIndexReader::new(&world.repository, &world.workspace);
        let mut seen = 0;
        for pack in &packs {
            let length = world.store.bytes(&pack.as_str().into()).unwrap().len() as u64;
            let found = reader.each_key(&pack.as_str().into(), length, &mut |key| {
                let id = crate::kopia::content_id::ContentId::from_key(key)?.to_string();
                assert_eq!(rows[&id].pack, *pack);
                seen += 1;
                Ok(())
            });
            assert_eq!(found.unwrap(), LocalIndexFound::Read, "{shape:?} {pack}");
        }
        assert_eq!(seen, contents.len());
    }
}

/// Goal: a pack is closed when it is full, not before, and has what Kopia puts around contents.
#[test]
fn packs_have_kopias_form() {
    let shape = Shape {
        legacy: true,
        ..Shape::default()
    };
    let world = World::new(shape);
    world.write(&some_contents(), NOW.seconds(), false);
    for kind in ["p", "q"] {
        let sizes: Vec<usize> = world
            .names(kind)
            .iter()
            .map(|name| {
                let bytes = world.store.bytes(&name.as_str().into()).unwrap();
                assert!(find_replica(&bytes).is_some());
                bytes.len()
            })
            .collect();
        let most = shape.pack_bytes_max as usize + 1000 + 4096 + TAIL_BYTES as usize;
        assert!(sizes.iter().all(|size| *size <= most), "{sizes:?}");
        let full = sizes
            .iter()
            .filter(|size| **size >= shape.pack_bytes_max as usize)
            .count();
        assert!(
            full + 1 >= sizes.len(),
            "all but the last are full: {sizes:?}"
        );
    }
    let first = world
        .contents()
        .values()
        .map(|row| row.offset)
        .min()
        .unwrap();
    assert!(
        first as usize > PREAMBLE_BYTES + 500,
        "contents lie behind the replica"
    );
}

/// Goal: an item larger than every buffer, local indexes in several runs.
#[test]
fn large_contents_and_many_entries() {
    let shape = Shape {
        pack_bytes_max: 12 << 20,
        ..Shape::default()
    };
    let world = World::new(shape);
    let many: Vec<_> = (0..60_000).map(|n| (None, plain(n, 4))).collect();
    world.write(&many, NOW.seconds(), false);
    assert_eq!(world.names("p").len(), 1);
    let pack = world.names("p").remove(0);
    let length = world.store.bytes(&pack.as_str().into()).unwrap().len() as u64;
    let mut reader = LocalIndexReader::new(&world.repository, &world.workspace);
    let (mut last, mut keys) = (Vec::new(), 0);
    let found = reader.each_key(&pack.as_str().into(), length, &mut |key| {
        assert!(last < key.to_vec());
        last = key.to_vec();
        keys += 1;
        Ok(())
    });
    assert_eq!((found.unwrap(), keys), (LocalIndexFound::Read, 60_000));
}

/// Goal: little is read of the end of the first pack, and of others as much as it would have
/// needed: one GET each.
#[test]
fn the_length_of_local_indexes_is_learned() {
    let world = World::new(Shape {
        pack_bytes_max: 3 << 20,
        ..Shape::default()
    });
    let many: Vec<_> = (0..30_000).map(|n| (None, plain(n, 200))).collect();
    world.write(&many, NOW.seconds(), false);
    let packs = world.names("p");
    assert!(packs.len() > 2, "{packs:?}");
    let mut reader = LocalIndexReader::new(&world.repository, &world.workspace);
    let mut gets = Vec::new();
    for pack in &packs[..packs.len() - 1] {
        let length = world.store.bytes(&pack.as_str().into()).unwrap().len() as u64;
        let before = world.repository.storage.counters().gets;
        let found = reader.each_key(&pack.as_str().into(), length, &mut |_| Ok(()));
        assert_eq!(found.unwrap(), LocalIndexFound::Read);
        gets.push(world.repository.storage.counters().gets - before);
    }
    assert_eq!(gets.remove(0), 2);
    assert!(gets.iter().all(|gets| *gets == 1), "{gets:?}");
}

/// Goal: damage in the local index or postamble is told, and is no error.
#[test]
fn a_local_index_that_is_damaged_is_told() {
    let world = World::new(Shape::default());
    world.write(&some_contents()[..20], NOW.seconds(), false);
    let name = world.names("p").remove(0);
    let whole = world.store.bytes(&name.as_str().into()).unwrap().to_vec();
    let mut reader = LocalIndexReader::new(&world.repository, &world.workspace);
    for at in [1, 10, 30, 300] {
        let mut damaged = whole.clone();
        let place = damaged.len() - at;
        damaged[place] ^= 1;
        world.put(&name, &damaged);
        let id = name.as_str().into();
        let found = reader
            .each_key(&id, whole.len() as u64, &mut |_| Ok(()))
            .unwrap();
        assert!(
            matches!(found, LocalIndexFound::Unreadable(_)),
            "{at}: {found:?}"
        );
    }
    world.put(&name, &whole[..40]);
    let found = reader
        .each_key(&name.as_str().into(), 40, &mut |_| Ok(()))
        .unwrap();
    assert!(matches!(found, LocalIndexFound::Unreadable(_)));
    let gone = reader
        .each_key(&"pnone".into(), 40, &mut |_| Ok(()))
        .unwrap();
    assert_eq!(gone, LocalIndexFound::Gone);
}

/// Goal: after a crash at any storage operation the index names no pack that is not there, and as
/// long as packs are in no index their session has a marker.
#[test]
fn a_crash_at_any_operation_is_harmless() {
    for torn in 0..2 {
        for crash in 0.. {
            let shape = Shape::default();
            let plainly = World::new(shape);
            let options = SimulationOptions {
                seed: crash + torn,
                torn_writes: torn == 1,
                crash_after_operation: Some(crash),
                ..SimulationOptions::default()
            };
            let simulated = Arc::new(SimulatedStore::new(plainly.store.clone(), options));
            let world = World::on(
                shape,
                plainly.clock.clone(),
                plainly.store.clone(),
                Some(simulated),
            );
            let outcome = world.try_write(&some_contents(), NOW.seconds(), false);
            let rows = plainly.contents();
            for (id, row) in &rows {
                plainly.read(id, row).unwrap();
            }
            let sessions = Sessions::load(&plainly.repository, |_| Ok(())).unwrap();
            let used: Vec<&str> = rows.values().map(|row| row.pack.as_str()).collect();
            for pack in plainly.names("p").iter().chain(&plainly.names("q")) {
                let state = sessions.state(pack, NOW, FLUSH_AFTER);
                let marked = state == SessionState::Active;
                assert!(
                    marked || used.contains(&pack.as_str()),
                    "crash {crash}: {pack}"
                );
            }
            if outcome.is_ok() {
                assert_eq!(rows.len(), 120);
                assert!(crash > 6, "the run has more operations than {crash}");
                break;
            }
        }
    }
}

/// Goal: after ten minutes a flush ends and a session of its own begins.
#[test]
fn a_long_run_is_flushed_every_ten_minutes() {
    let world = World::new(Shape::default());
    let mut writer = PackWriter::new(&world.repository, &world.workspace, OWNER).unwrap();
    for (prefix, bytes) in some_contents() {
        let (id, stored) = world.seal(prefix, &bytes);
        let content = NewContent {
            key: id.key(),
            timestamp_seconds: NOW.seconds(),
            deleted: false,
            original_length: bytes.len() as u32,
            format: FORMAT,
        };
        writer.append(&content, Sealed::Bytes(&stored)).unwrap();
        world.clock.advance(FLUSH_AFTER / 40);
    }
    let stats = writer.finish().unwrap();
    assert!(stats.index_blobs.len() > 1);
    let sessions: std::collections::BTreeSet<_> = stats
        .index_blobs
        .iter()
        .map(|blob| session_of(blob.as_str()))
        .collect();
    assert_eq!(sessions.len(), stats.index_blobs.len());
    assert_eq!(world.contents().len(), 120);
}

/// Goal: the rules of sessions, at their edges.
#[test]
fn sessions_are_alive_until_they_expire() {
    use super::sessions::Session;
    use std::time::Duration;
    let world = World::new(Shape::default());
    let session = Session::start(&world.repository, OWNER).unwrap();
    let pack = format!("p00-{}", session.id);
    let sessions = Sessions::load(&world.repository, |_| Ok(())).unwrap();
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let at = |age: Duration| sessions.state(&pack, NOW.plus(age), hours(96));
    assert_eq!(at(hours(0)), SessionState::Active);
    assert_eq!(
        at(hours(96) - Duration::from_nanos(1)),
        SessionState::Active
    );
    assert_eq!(at(hours(96)), SessionState::Expired);
    assert_eq!(
        sessions.state(&pack, NOW, Duration::ZERO),
        SessionState::Expired
    );
    assert_eq!(
        sessions.state("p00-s1", NOW, hours(96)),
        SessionState::NoMarker
    );
    assert_eq!(
        sessions.state("p00", NOW, hours(96)),
        SessionState::NoMarker
    );
    session.commit(&world.repository).unwrap();
    assert!(
        Sessions::load(&world.repository, |_| Ok(()))
            .unwrap()
            .is_empty()
    );
    world.put("sabc", b"");
    assert!(
        Sessions::load(&world.repository, |_| Ok(())).is_err(),
        "a marker without a session"
    );
}
