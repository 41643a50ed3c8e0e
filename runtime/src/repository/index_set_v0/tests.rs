//! The set on stores made to order.
//!
//! Names, logs and times are enough: no index blob is opened.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::blob::{BlobStore, MemoryStore, Storage};
use crate::clock::{ManualClock, SeededRandomness, Timestamp};
use crate::kopia::compaction_log::{BlobMetadata as Described, LogWriter};
use crate::kopia::format_blob::{BlobConfig, FormatBlob, NewRepository, RANDOM_BYTES};
use crate::memory::{FLOOR_BYTES, MemoryPlan};
use crate::progress::Silent;
use crate::repository::index_writer_v0::write_cleanup_entry;
use crate::spill::{Scratch, ScratchOptions};

const KEY: [u8; 32] = [7; 32];

const HOUR: Duration = Duration::from_secs(3600);

/// Names of inputs, names of outputs.
type Log<'a> = (&'a [&'a str], &'a [&'a str]);

struct World {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    repository: Repository,
    workspace: Workspace,
    _directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_788_220_800)));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let parts = NewRepository::new(&[9; RANDOM_BYTES]).with_version(1);
        let blob = parts.format_blob_with_key(&KEY).unwrap();
        let format = FormatBlob::parse(&blob).unwrap();
        let format = format.unlock_with_key(&KEY).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let options = ScratchOptions {
            parent: directory.path().to_owned(),
            quota_bytes: None,
            tmpfs_allowed: true,
            direct: true,
        };
        let memory = MemoryPlan {
            sort_buffer_bytes: 64 << 10,
            ..MemoryPlan::new(FLOOR_BYTES).unwrap()
        };
        let dyn_store: Arc<dyn BlobStore> = store.clone();
        Self {
            repository: Repository {
                storage: Storage::new(dyn_store),
                crypto: format.blob_crypto().unwrap(),
                format: Arc::new(format),
                blob_config: Arc::new(BlobConfig::default()),
                clock: clock.clone(),
                randomness: Arc::new(SeededRandomness::new(1)),
                last_write_epoch: Default::default(),
            },
            workspace: Workspace {
                scratch: Scratch::create(&options, [1; 8]).unwrap(),
                memory,
                progress: Arc::new(Silent),
            },
            store,
            clock,
            _directory: directory,
        }
    }

    /// A world with blobs, and logs an hour apart.
    fn with(names: &[&str], logs: &[Log<'_>]) -> Self {
        let world = Self::new();
        names.iter().for_each(|name| world.put(name));
        for log in logs {
            world.log(log);
            world.clock.advance(HOUR);
        }
        world
    }

    fn put(&self, name: &str) {
        let time = self.repository.clock.now();
        self.store.insert(BlobId::new(name), vec![0; 10], time);
    }

    /// Puts a log; returns its name.
    fn log(&self, (inputs, outputs): &Log<'_>) -> String {
        let mut json = Vec::new();
        let write = |bytes: &[u8]| {
            json.extend_from_slice(bytes);
            Ok::<(), ()>(())
        };
        let mut writer = LogWriter::new(write).unwrap();
        for (side, names) in [(Side::Input, *inputs), (Side::Output, *outputs)] {
            for name in names {
                let blob = Described {
                    id: (*name).into(),
                    length: 10,
                    timestamp: self.repository.clock.now(),
                };
                writer.add(side, &blob).unwrap();
            }
        }
        writer.finish().unwrap();
        self.seal(json)
    }

    fn seal(&self, json: Vec<u8>) -> String {
        let mut sealed = Vec::new();
        let crypto = &self.repository.crypto;
        let name = crypto.seal("m", None, &json, self.repository.random(), &mut sealed);
        let time = self.repository.clock.now();
        self.store.insert(BlobId::new(name.as_str()), sealed, time);
        name
    }

    fn load(&self) -> IndexSetV0 {
        IndexSetV0::load(&self.repository, &self.workspace).unwrap()
    }

    fn active(&self) -> Vec<String> {
        let mut active = Vec::new();
        self.load()
            .each_blob(&mut |blob, used| {
                if used == BlobUse::Active {
                    active.push(blob.id.to_string());
                }
                Ok(true)
            })
            .unwrap();
        active
    }

    /// Returns output and number of missing inputs of each lost compaction.
    fn lost(&self) -> Vec<String> {
        let set = self.load();
        let lost = set.lost();
        let mut lost: Vec<String> = lost
            .map(|lost| format!("{} {}", lost.output, lost.inputs))
            .collect();
        lost.sort();
        lost
    }

    /// Returns the blobs that may go, in order, and how many logs then hide nothing.
    fn replaced(&self, age: Duration) -> (Vec<String>, usize) {
        let set = self.load();
        let cut = set.newest_log().unwrap().minus(age);
        let replaced = set.replaced(&self.workspace, cut).unwrap();
        let mut names = replaced.names().unwrap();
        let mut found = Vec::new();
        while let Some(name) = names.next_name().unwrap() {
            found.push(name.to_string());
        }
        assert_eq!(found.len() as u64, replaced.blobs);
        (found, replaced.logs.len())
    }
}

#[test]
fn a_log_counts_when_all_its_outputs_are_listed() {
    let names = ["n1", "n2", "n3", "n4", INDEX_V0_POISON];
    let active = |logs: &[Log<'_>]| World::with(&names, logs).active();
    assert_eq!(active(&[]), ["n1", "n2", "n3", "n4"]);
    assert_eq!(active(&[(&["n1", "n2"], &["n3"])]), ["n3", "n4"]);
    let gone = active(&[(&["n1", "n2"], &["n3", "n9"])]);
    assert_eq!(gone, ["n1", "n2", "n3", "n4"]);
    // Without outputs everything was dropped; a chain removes its middle.
    assert_eq!(active(&[(&["n1"], &[])]), ["n2", "n3", "n4"]);
    let chain = active(&[(&["n1", "n2"], &["n3"]), (&["n3", "n7"], &["n4"])]);
    assert_eq!(chain, ["n4"]);
    let set = World::with(&names, &[(&["n1", "n2"], &["n3"])]).load();
    assert_eq!((set.active.blobs, set.superseded.blobs), (2, 2));
    assert_eq!((set.active.bytes, set.superseded.bytes), (20, 20));
}

#[test]
fn a_compaction_is_lost_when_neither_side_is_there() {
    let log: Log<'_> = (&["n1", "n2"], &["n3"]);
    let lost = |names: &[&str]| World::with(names, &[log]).lost();
    assert_eq!(lost(&["n3"]), [""; 0], "the usual end");
    assert_eq!(lost(&["n1", "n2"]), [""; 0], "the usual beginning");
    assert_eq!(lost(&["n1"]), ["n3 1"]);
    assert_eq!(lost(&[]), ["n3 2"]);
    let dropped = World::with(&[], &[(&["n1"], &[])]);
    assert_eq!(dropped.lost(), [""; 0], "everything was dropped");
    let world = World::with(&[], &[log]);
    let error = world.load().check_nothing_lost().unwrap_err();
    assert_eq!(error.code(), "lost-compaction");
}

#[test]
fn what_another_compaction_took_over_is_not_lost() {
    let first: Log<'_> = (&["n1", "n2"], &["n3"]);
    let then: Log<'_> = (&["n3", "n4"], &["n5"]);
    let third: Log<'_> = (&["n5"], &["n6"]);
    let lost = |names: &[&str], logs: &[Log<'_>]| World::with(names, logs).lost();
    assert_eq!(lost(&["n5"], &[first, then]), [""; 0]);
    assert_eq!(lost(&["n6"], &[first, then, third]), [""; 0]);
    assert_eq!(lost(&["n6"], &[third, then, first]), [""; 0]);
    assert_eq!(lost(&["n4"], &[first, then]), ["n3 2", "n5 1"]);
    let again: Log<'_> = (&["n1", "n2"], &["n6"]);
    assert_eq!(lost(&["n6"], &[first, again]), [""; 0], "done twice");
}

/// Goal: a cleanup that was killed between two logs is no loss; method: the log in the middle of a
/// chain is gone, and an entry names it.
#[test]
fn a_cleanup_under_way_is_no_loss() {
    let world = World::with(&["n5"], &[(&["n1", "n2"], &["n3"])]);
    assert_eq!(world.lost(), ["n3 2"]);
    let log = world.load().logs[0].id.clone();
    let now = world.repository.clock.now();
    let (entry, _) = write_cleanup_entry(&world.repository, vec![log.clone()], now).unwrap();
    assert_eq!(world.lost(), ["n3 2"], "nothing is deleted yet");
    world.repository.storage.delete(&entry).unwrap();
    let gone = BlobId::new("m00112233445566778899aabbccddeeff");
    write_cleanup_entry(&world.repository, vec![gone, log], now).unwrap();
    assert_eq!(world.lost(), [""; 0]);
    let set = world.load();
    assert!(set.logs[0].scheduled);
    assert_eq!((set.cleanups[0].logs.len(), set.cleanups[0].gone), (1, 1));
}

#[test]
fn replaced_blobs_go_before_what_was_made_of_them() {
    let first: Log<'_> = (&["n8", "n9"], &["n5"]);
    let then: Log<'_> = (&["n5", "n7"], &["n2"]);
    let third: Log<'_> = (&["n2", "n6"], &["n1"]);
    let names = ["n1", "n2", "n5", "n6", "n7", "n8", "n9"];
    let world = World::with(&names, &[first, then, third]);
    let (blobs, logs) = world.replaced(Duration::ZERO);
    assert_eq!(blobs, ["n8", "n9", "n5", "n7", "n2", "n6"]);
    assert_eq!(logs, 3);
    assert_eq!(world.replaced(HOUR).0, ["n8", "n9", "n5", "n7"]);
    assert_eq!(
        world.replaced(HOUR * 2),
        (vec!["n8".into(), "n9".into()], 1)
    );
    assert_eq!(world.replaced(HOUR * 3), (vec![], 0));
    // The middle is gone already: what led to it still goes.
    let world = World::with(&["n1", "n6", "n7", "n8"], &[first, then, third]);
    assert_eq!(
        world.active(),
        ["n1", "n7", "n8"],
        "as Kopia's readers find them"
    );
    assert_eq!(world.replaced(Duration::ZERO), (vec!["n6".into()], 1));
}

#[test]
fn what_no_blob_replaces_stays() {
    // Its output is gone: readers use the inputs, whatever Kopia would delete.
    let world = World::with(&["n1", "n2", "n4"], &[(&["n1", "n2"], &["n3"])]);
    assert_eq!(world.replaced(Duration::ZERO), (vec![], 0));
    // Merged again meanwhile: once by the lost log, once by one that is whole.
    world.log(&(&["n1", "n2", "n4"], &["n5"]));
    world.put("n5");
    assert_eq!(world.replaced(Duration::ZERO).0, ["n1", "n2", "n4"]);
    assert_eq!(
        world.replaced(HOUR),
        (vec![], 0),
        "the new log is too young"
    );
}

#[test]
fn a_circle_of_compactions_is_an_error() {
    let circle: [Log<'_>; 2] = [(&["n1"], &["n2"]), (&["n2"], &["n1"])];
    let set = World::with(&["n1", "n2"], &circle);
    let found = set
        .load()
        .replaced(&set.workspace, set.repository.clock.now());
    assert_eq!(found.unwrap_err().code(), "malformed");
}

#[test]
fn damaged_notes_are_errors_or_noted() {
    let world = World::with(&["n1", "n2", "n3"], &[(&["n1", "n2"], &["n3"])]);
    world.seal(b"{\"inputMetadata\":[{\"id\":\"n3\"},{".to_vec());
    let error = IndexSetV0::load(&world.repository, &world.workspace).unwrap_err();
    assert_eq!(error.code(), "malformed");
    let set = IndexSetV0::load_damaged(&world.repository, &world.workspace).unwrap();
    assert_eq!((set.active.blobs, set.superseded.blobs), (1, 2));
    assert_eq!(set.damaged.len(), 1);
    assert_eq!(set.lost().count(), 0);
    let (blobs, kept) = {
        let cut = set.newest_log().unwrap();
        let replaced = set.replaced(&world.workspace, cut).unwrap();
        (replaced.blobs, replaced.kept_logs)
    };
    assert_eq!((blobs, kept), (2, 0));
}

#[test]
fn cleanups_are_due_by_the_newest_entry() {
    let world = World::new();
    let now = world.repository.clock.now();
    write_cleanup_entry(&world.repository, vec!["m1".into()], now).unwrap();
    let due = |age| world.load().due_cleanups(age).len();
    assert_eq!((due(Duration::ZERO), due(HOUR)), (1, 0));
    world.clock.advance(HOUR);
    assert_eq!(due(HOUR), 0, "nothing tells that an hour has passed");
    write_cleanup_entry(&world.repository, vec!["m2".into()], now.plus(HOUR)).unwrap();
    assert_eq!(due(HOUR), 1);
}

/// What happens to an index, with numbers from which the rest follows.
#[derive(Clone, Copy, Debug)]
enum Event {
    Flush(u8),
    Compact(u8),
    Hours(u8),
    /// A maintainer that died, or a copy that lost something: a replaced blob is gone.
    Lose(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => any::<u8>().prop_map(Event::Flush),
        3 => any::<u8>().prop_map(Event::Compact),
        2 => (0..3u8).prop_map(Event::Hours),
        1 => any::<u8>().prop_map(Event::Lose),
    ]
}

/// Plays a history; names follow from the numbers, so that their order is any.
fn play(events: &[Event]) -> World {
    let world = World::new();
    let name = |number: u8, at: usize| format!("n{:02x}{at:02x}", number.reverse_bits());
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Flush(number) => world.put(&name(*number, at)),
            Event::Hours(hours) => world.clock.advance(HOUR * u32::from(*hours)),
            Event::Compact(number) => {
                let mut inputs = world.active();
                inputs.retain(|name| (name.len() * at) % 3 != usize::from(*number) % 7);
                let output = name(number.wrapping_mul(37), at);
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                if inputs.len() > 1 {
                    world.log(&(&inputs, &[&output]));
                    world.put(&output);
                }
            }
            Event::Lose(number) => {
                let (names, _) = match world.load().newest_log() {
                    Some(_) => world.replaced(HOUR),
                    None => continue,
                };
                if let Some(name) = names.get(usize::from(*number) % names.len().max(1)) {
                    let id = BlobId::new(name.as_str());
                    world.repository.storage.delete(&id).unwrap();
                }
            }
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Goal: however deletions are cut short, readers go on with the same blobs; method: random
    /// histories, in some of which replaced blobs were lost in a bad order; after every single
    /// deletion the blobs in use are those from before.
    #[test]
    fn deletions_in_order_never_change_what_is_read(
        events in prop::collection::vec(event(), 1..40),
        age in 0..3u32,
    ) {
        let world = play(&events);
        if world.load().newest_log().is_some() {
            let active = world.active();
            let (names, _) = world.replaced(HOUR * age);
            let there: BTreeSet<&String> = active.iter().collect();
            for name in &names {
                prop_assert!(!there.contains(name), "{} is in use", name);
                world.repository.storage.delete(&BlobId::new(name.as_str())).unwrap();
                prop_assert_eq!(&world.active(), &active, "after {}", name);
            }
            prop_assert_eq!(world.lost(), [""; 0]);
            prop_assert_eq!(world.replaced(HOUR * age).0, [""; 0]);
        }
    }
}
