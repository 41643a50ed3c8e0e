//! What every store promises, as one suite that each of them is run against.
//!
//! Tests only. A rule that holds for one store alone is tested beside that store.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::{
    BlobError, BlobSource, BlobStore, BlobVersion, BytesSource, LIST_PAGE_MAX, LocalOptions,
    LocalStore, MemoryStore, PutOptions, Replaced, RetryingStore, SimulatedStore,
    SimulationOptions, Storage,
};
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::kopia::blob_id::BlobId;

/// An empty store whose blobs get the time of `clock`, where it is not a real server.
struct World {
    storage: Storage,
    clock: Arc<ManualClock>,
    is_real: bool,
}

impl World {
    fn put(&self, name: &str, bytes: &[u8]) -> Timestamp {
        let put = self
            .storage
            .put_bytes(&BlobId::new(name), bytes, &PutOptions::default());
        put.unwrap()
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, BlobError> {
        self.storage.get_all(&BlobId::new(name), 1 << 20)
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        let after = after.map(BlobId::new);
        let page = self.storage.list(prefix, after.as_ref(), limit).unwrap();
        page.into_iter().map(|blob| blob.id.to_string()).collect()
    }

    fn scan(&self, prefix: &str) -> Vec<String> {
        let mut names = Vec::new();
        let scan = self.storage.scan(prefix, |blob| {
            names.push(blob.id.to_owned());
            ControlFlow::Continue(())
        });
        scan.unwrap();
        names.sort();
        names
    }
}

fn contract(new_store: impl Fn(Arc<ManualClock>) -> Arc<dyn BlobStore>) {
    check(new_store, false);
}

/// Runs the suite against empty places in a real server, which has a clock of its own.
#[cfg(feature = "object-stores")]
pub(super) fn contract_of_a_server(new_store: impl Fn() -> Arc<dyn BlobStore>) {
    check(|_| new_store(), true);
}

fn check(new_store: impl Fn(Arc<ManualClock>) -> Arc<dyn BlobStore>, is_real: bool) {
    for rule in [
        bytes_come_back,
        a_missing_blob_is_not_found,
        a_put_replaces_the_whole_blob,
        create_only_never_replaces,
        a_version_is_replaced_once,
        a_broken_source_leaves_what_was_there,
        names_that_no_store_takes_are_refused,
        pages_are_in_order,
        long_listings_come_in_pages,
        a_scan_shows_everything_once,
    ] {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_700_000_000)));
        let storage = Storage::new(new_store(Arc::clone(&clock)));
        let world = World {
            storage,
            clock,
            is_real,
        };
        rule(&world);
    }
}

fn bytes_come_back(world: &World) {
    let long: Vec<u8> = (0..200_000_u32).map(|n| (n / 7) as u8).collect();
    let name = "p0123456789abcdef0123456789abcdef-s0123456789abcdef123";
    for (name, bytes) in [
        ("xe7", &b""[..]),
        ("kopia.repository", b"{}"),
        (name, &long),
    ] {
        world.put(name, bytes);
        assert_eq!(world.get(name).unwrap(), bytes);
        let metadata = world.storage.metadata(&BlobId::new(name)).unwrap();
        assert_eq!(metadata.id.as_str(), name);
        assert_eq!(metadata.length, bytes.len() as u64);
    }
    let id = BlobId::new(name);
    let mut part = [0; 100];
    assert_eq!(world.storage.get(&id, 70_000, &mut part).unwrap(), 100);
    assert_eq!(part, long[70_000..70_100]);
    assert_eq!(world.storage.get(&id, 199_990, &mut part).unwrap(), 10);
    assert_eq!(part[..10], long[199_990..]);
    for offset in [200_000, 200_001, i64::MAX as u64, u64::MAX] {
        assert_eq!(world.storage.get(&id, offset, &mut part).unwrap(), 0);
    }
    assert_eq!(world.storage.get(&id, 0, &mut []).unwrap(), 0);
}

fn a_missing_blob_is_not_found(world: &World) {
    let id = BlobId::new("p0123456789abcdef0123456789abcdef-s0123456789abcdef123");
    for present in [false, true, false] {
        if present {
            world.put(id.as_str(), b"x");
        }
        assert_eq!(world.get(id.as_str()).is_ok(), present);
        let metadata = world.storage.metadata(&id);
        assert!(present || metadata.unwrap_err().is_not_found());
        world.storage.delete(&id).unwrap();
        assert!(world.get(id.as_str()).unwrap_err().is_not_found());
    }
    assert!(world.list("", None, 10).is_empty());
    assert!(world.scan("").is_empty());
}

fn a_put_replaces_the_whole_blob(world: &World) {
    let first = world.put("kopia.maintenance", b"a long first version");
    assert!(world.is_real || first == world.clock.now());
    world.clock.advance(Duration::from_nanos(1_500_000_007));
    let second = world.put("kopia.maintenance", b"short");
    assert!(world.is_real || second == world.clock.now());
    assert_eq!(world.get("kopia.maintenance").unwrap(), b"short");
    let metadata = world
        .storage
        .metadata(&BlobId::new("kopia.maintenance"))
        .unwrap();
    // A server may take it just before the second in which it answers.
    let skew = Duration::from_secs(u64::from(world.is_real));
    assert!(metadata.timestamp <= second && second.since(metadata.timestamp) <= skew);
    assert_eq!(world.storage.list("k", None, 1).unwrap(), [metadata]);

    // A source that was read before starts anew.
    let mut source = BytesSource::new(b"again");
    source.read(&mut [0; 3]).unwrap();
    let id = BlobId::new("xw1");
    world
        .storage
        .put(&id, &mut source, &PutOptions::default())
        .unwrap();
    assert_eq!(world.get("xw1").unwrap(), b"again");
}

fn create_only_never_replaces(world: &World) {
    let options = PutOptions {
        create_only: true,
        ..PutOptions::default()
    };
    let id = BlobId::new("q0123456789abcdef0123456789abcdef-s0123456789abcdef123");
    world.storage.put_bytes(&id, b"first", &options).unwrap();
    let error = world
        .storage
        .put_bytes(&id, b"second", &options)
        .unwrap_err();
    assert!(matches!(error, BlobError::AlreadyExists { id: there } if there == id));
    assert_eq!(world.get(id.as_str()).unwrap(), b"first");
    assert_eq!(world.scan(""), [id.as_str()]);

    // Of several at once exactly one succeeds.
    let id = BlobId::new("q1123456789abcdef0123456789abcdef-s0123456789abcdef123");
    let successes: usize = std::thread::scope(|scope| {
        let put = || world.storage.put_bytes(&id, b"x", &options);
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(put)).collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap());
        results.map(|result| usize::from(result.is_ok())).sum()
    });
    assert_eq!(successes, 1);
}

/// Promises one byte more than it has, or fails in the middle.
struct Broken {
    bytes: BytesSource<Vec<u8>>,
    fails: bool,
}

impl BlobSource for Broken {
    fn len(&self) -> u64 {
        self.bytes.len() + 1
    }

    fn rewind(&mut self) -> io::Result<()> {
        self.bytes.rewind()
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.bytes.read(into)? {
            0 if self.fails => Err(io::Error::other("scratch is gone")),
            count => Ok(count),
        }
    }
}

fn a_version_is_replaced_once(world: &World) {
    let id = BlobId::new("kopia.maintenance");
    let replace = |bytes: &[u8], expected: &BlobVersion| {
        let replaced = world.storage.replace(&id, bytes, expected);
        replaced.unwrap()
    };
    let Replaced::As(first) = replace(b"first", &BlobVersion::ABSENT) else {
        // A store that knows no conditions puts it, and says so.
        assert_eq!(world.get(id.as_str()).unwrap(), b"first");
        assert_eq!(
            world.storage.get_version(&id, 9).unwrap(),
            (b"first".to_vec(), None)
        );
        assert!(!world.is_real, "all servers of the suites know conditions");
        return;
    };
    assert_eq!(replace(b"again", &BlobVersion::ABSENT), Replaced::Changed);
    let (bytes, version) = world.storage.get_version(&id, 9).unwrap();
    assert_eq!(
        (&bytes[..], version.as_ref()),
        (&b"first"[..], Some(&first))
    );
    let Replaced::As(second) = replace(b"second", &first) else {
        panic!("the version that is there is not replaced");
    };
    assert_ne!(first, second);
    assert_eq!(replace(b"third", &first), Replaced::Changed);
    assert_eq!(world.get(id.as_str()).unwrap(), b"second");
    world.put(id.as_str(), b"somebody's");
    assert_eq!(replace(b"third", &second), Replaced::Changed);
    world.storage.delete(&id).unwrap();
    assert_eq!(replace(b"third", &second), Replaced::Changed);
    assert!(world.get(id.as_str()).unwrap_err().is_not_found());
    // Longer than the first read.
    let long: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    let Replaced::As(whole) = replace(&long, &BlobVersion::ABSENT) else {
        panic!("nothing is there, and nothing is put");
    };
    let read = world.storage.get_version(&id, 100_000).unwrap();
    assert_eq!(read, (long, Some(whole)));
    let too_long = world.storage.get_version(&id, 99_999);
    assert!(matches!(too_long, Err(BlobError::TooLarge { .. })));
}

fn a_broken_source_leaves_what_was_there(world: &World) {
    world.put("xn1_a", b"old");
    for fails in [false, true] {
        for name in [
            "xn1_a",
            "p0123456789abcdef0123456789abcdef-s0123456789abcdef123",
        ] {
            let bytes = BytesSource::new(vec![1; 100_000]);
            let mut source = Broken { bytes, fails };
            let put = world
                .storage
                .put(&BlobId::new(name), &mut source, &PutOptions::default());
            assert_eq!(put.unwrap_err().code(), "storage-io");
        }
        assert_eq!(world.get("xn1_a").unwrap(), b"old");
        assert_eq!(world.scan(""), ["xn1_a"]);
    }
}

fn names_that_no_store_takes_are_refused(world: &World) {
    for name in ["", "/", "p/abc", "../p", "p\0"] {
        let id = BlobId::new(name);
        for error in [
            world
                .storage
                .put_bytes(&id, b"", &PutOptions::default())
                .unwrap_err(),
            world.storage.get(&id, 0, &mut [0; 1]).unwrap_err(),
            world.storage.metadata(&id).unwrap_err(),
            world.storage.delete(&id).unwrap_err(),
        ] {
            assert_eq!(error.code(), "invalid-blob-name", "{name:?}");
        }
    }
}

/// Short and long names, so that some are in folders and some are not.
const NAMES: [&str; 12] = [
    "_log_20260101000000_0123_1_2_3_0123456789abcdef0123456789abcdef",
    "kopia.maintenance",
    "kopia.repository",
    "p",
    "p0",
    "p00",
    "p00123456789abcdef0123456789abcdef-s0123456789abcdef123",
    "p0z",
    "pz0123456789abcdef0123456789abcdef-s0123456789abcdef123",
    "q00123456789abcdef0123456789abcdef-s0123456789abcdef123",
    "xn10_0123456789abcdef0123456789abcdef-s0123456789abcdef123-c1",
    "xn1_0123456789abcdef0123456789abcdef-s0123456789abcdef123-c1",
];

fn pages_are_in_order(world: &World) {
    for name in NAMES.iter().rev() {
        world.put(name, name.as_bytes());
    }
    assert_eq!(world.list("", None, LIST_PAGE_MAX), NAMES);
    for prefix in [
        "", "p", "p0", "p00", "p001", "pz", "xn1", "xn1_", "xn2_", "k", "kopia.r", "zz",
    ] {
        let all: Vec<_> = NAMES
            .iter()
            .filter(|name| name.starts_with(prefix))
            .collect();
        assert_eq!(
            world.scan(prefix),
            all.iter().map(|name| **name).collect::<Vec<_>>()
        );
        for limit in [1, 2, 5, 20] {
            assert_eq!(
                world.list(prefix, None, limit),
                all.iter()
                    .take(limit)
                    .map(|name| **name)
                    .collect::<Vec<_>>()
            );
        }
        // Behind every name, and behind names that are not there.
        for after in NAMES.iter().chain(&["", "p001", "pa", "o", "zzz"]) {
            let rest = all.iter().filter(|name| **name > after).map(|name| **name);
            assert_eq!(
                world.list(prefix, Some(after), 20),
                rest.collect::<Vec<_>>()
            );
        }
    }
    let page = world.storage.list("", None, LIST_PAGE_MAX).unwrap();
    assert!(
        page.iter()
            .all(|blob| blob.length == blob.id.as_str().len() as u64)
    );
    assert!(world.list("", None, 0).is_empty());
    let error = world.storage.list("", None, LIST_PAGE_MAX + 1).unwrap_err();
    assert_eq!(error.code(), "storage-unsupported");
}

fn long_listings_come_in_pages(world: &World) {
    let mut names: Vec<String> = (0..1_100_u64)
        .map(|number| {
            let hash = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            format!("q{hash:016x}{hash:016x}-s0123456789abcdef123")
        })
        .collect();
    for name in &names {
        world.put(name, b"");
    }
    names.sort();
    let mut paged = Vec::new();
    let all: Result<(), BlobError> = world.storage.for_each("", |blob| {
        paged.push(blob.id.to_string());
        Ok(())
    });
    all.unwrap();
    assert_eq!(paged, names);
    assert_eq!(world.scan("q"), names);
}

fn a_scan_shows_everything_once(world: &World) {
    for name in NAMES {
        world.put(name, name.as_bytes());
    }
    let mut seen = 0;
    let scan = world.storage.scan("", |blob| {
        seen += 1;
        assert!(
            blob.stored
                .is_none_or(|(length, _)| length == blob.id.len() as u64)
        );
        // A visitor may use the store.
        assert_eq!(world.get(blob.id).unwrap(), blob.id.as_bytes());
        if seen == 5 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    scan.unwrap();
    assert_eq!(seen, 5, "it stops when it is told to");
    assert_eq!(world.scan(""), NAMES);
}

#[test]
fn the_memory_store_keeps_the_contract() {
    contract(|clock| Arc::new(MemoryStore::new(clock)));
}

#[test]
fn the_simulated_store_keeps_the_contract() {
    for stale_listings in [None, Some(Duration::ZERO)] {
        contract(|clock| {
            let inner = Arc::new(MemoryStore::new(clock));
            let options = SimulationOptions {
                stale_listings,
                ..SimulationOptions::default()
            };
            Arc::new(SimulatedStore::new(inner, options))
        });
    }
}

#[test]
fn the_retrying_store_keeps_the_contract() {
    contract(|clock| Arc::new(RetryingStore::new(MemoryStore::new(clock))));
}

#[test]
fn the_local_store_keeps_the_contract_in_every_layout() {
    for shards in [
        r#"{"default":[1,3],"maxNonShardedLength":20}"#,
        r#"{"default":[3,3],"maxNonShardedLength":20}"#,
        r#"{"default":[],"maxNonShardedLength":20}"#,
        r#"{"default":[1,1],"maxNonShardedLength":0,
            "overrides":[{"prefix":"p0","shards":[2,2]},{"prefix":"x","shards":[]}]}"#,
    ] {
        let folder = tempfile::tempdir().unwrap();
        let number = std::cell::Cell::new(0);
        contract(|clock| {
            number.set(number.get() + 1);
            let root = folder.path().join(number.get().to_string());
            std::fs::create_dir(&root).unwrap();
            std::fs::write(root.join(".shards"), shards).unwrap();
            let options = LocalOptions {
                clock_stamp: Some(clock),
                // Not where a thousand blobs are put, for the time it takes.
                durable: number.get() <= 5,
                direct: number.get() % 2 == 0,
                ..LocalOptions::default()
            };
            Arc::new(LocalStore::open(&root, options).unwrap())
        });
    }
}
