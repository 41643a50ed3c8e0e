//! A full run asks the storage for few things: its requests follow from bytes and blobs, never from
//! contents.
//!
//! Three snapshots, each written by a session of its own as a client does, one of them deleted:
//! garbage, short packs, packs to be deleted. Every task says what it asked for, and all of it is
//! what the storage has counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use careen::blob::object::WireLimits;
use careen::blob::{PutOptions, Storage};
use careen::clock::Timestamp;
use careen::kopia::blob_id::BlobId;
use careen::kopia::content_id::ContentId;
use careen::kopia::index_blob::ContentFormat;
use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::outlook::Outlook;
use careen::maintenance::run::run;
use careen::maintenance::run_plan::plan;
use careen::maintenance::run_report::RunReport;
use careen::maintenance::safety::Safety;
use careen::repository::pack_writer::{NewContent, PackWriter, Sealed};
use careen::repository::{Repository, Workspace};
use kit::cycle::{KopiasOrder, cycle, strategies};
use kit::index_work::Bench;
use kit::object_stores::all;
use kit::timed_store::TimedStore;
use kit::world::{OWNER, START, World, WorldOptions};
use serde_json::value::RawValue;
use servers::counting_proxy::CountingProxy;
use servers::fault_proxy::Kind;

const DIRECTORIES: u64 = 40;
const FILES: u64 = 200;
const FILE_BYTES: usize = 600;
const SNAPSHOTS: u64 = 3;

/// What long reads have at least, where there is so much to read, in bytes.
const READ_BYTES: u64 = 512 * 1024;

/// What nobody minds, in bytes.
const SMALL_BYTES: u64 = 512 * 1024;

/// Listings by prefix; Kopia makes 117.
const LISTS_MAX: u64 = 40;

/// A session of a client.
struct Client<'w> {
    world: &'w World,
    repository: &'w Repository,
    packs: PackWriter<'w>,
}

impl<'w> Client<'w> {
    fn new(world: &'w World, repository: &'w Repository, workspace: &'w Workspace) -> Self {
        let packs = PackWriter::new(repository, workspace, "client@host").unwrap();
        Self {
            world,
            repository,
            packs,
        }
    }

    /// Writes a content; returns its ID.
    fn content(&mut self, prefix: Option<u8>, plain: &[u8]) -> String {
        let crypto = &self.repository.crypto;
        let id = ContentId::from_hash(prefix, &crypto.hash.hash(plain)).unwrap();
        let (nonce, mut sealed) = (self.world.random(), Vec::new());
        crypto.encryption.seal(id.iv(), nonce, plain, &mut sealed);
        let content = NewContent {
            key: id.key(),
            timestamp_seconds: START.seconds() - 100_000,
            deleted: false,
            original_length: plain.len() as u32,
            format: ContentFormat {
                compression_header_id: 0,
                format_version: 3,
                encryption_key_id: 0,
            },
        };
        self.packs.append(&content, Sealed::Bytes(&sealed)).unwrap();
        id.to_string()
    }

    fn directory(&mut self, entries: &[String]) -> String {
        let entries = entries.join(",");
        let json = format!("{{\"stream\":\"kopia:directory\",\"entries\":[{entries}]}}\n");
        self.content(Some(b'k'), json.as_bytes())
    }

    /// Writes a tree whose files nobody else has; returns its root.
    fn tree(&mut self, seed: u64) -> String {
        let mut directories = Vec::new();
        for directory in 0..DIRECTORIES {
            let mut files = Vec::new();
            for file in 0..FILES {
                let number = (seed * DIRECTORIES + directory) * FILES + file;
                let mut bytes = number.to_be_bytes().to_vec();
                bytes.resize(FILE_BYTES, seed as u8);
                let id = self.content(None, &bytes);
                files.push(format!(
                    "{{\"name\":\"file-{file}\",\"type\":\"f\",\"obj\":\"{id}\"}}"
                ));
            }
            let id = self.directory(&files);
            directories.push(format!(
                "{{\"name\":\"dir-{directory}\",\"type\":\"d\",\"obj\":\"{id}\",\
                 \"summ\":{{\"files\":{FILES},\"dirs\":1}}}}"
            ));
        }
        self.directory(&directories)
    }
}

/// Goal: GETs are bytes by the length of a read, and some for each blob and task; the rest no more
/// than there is to write and delete.
#[test]
fn a_full_run_asks_for_bytes_and_blobs_not_for_contents() {
    let world = World::new(WorldOptions::default());
    let (repository, bench) = (world.repository(), Bench::new());
    let workspace = bench.workspace();
    for seed in 0..SNAPSHOTS {
        let mut client = Client::new(&world, &repository, &workspace);
        let root = client.tree(seed);
        client.packs.finish().unwrap();
        if seed > 0 {
            let snapshot = format!(
                "{{\"source\":{{\"host\":\"h\",\"userName\":\"u\",\"path\":\"/p\"}},\
                 \"rootEntry\":{{\"type\":\"d\",\"obj\":\"{root}\"}}}}"
            );
            let payload = RawValue::from_string(snapshot).unwrap();
            world.put_manifest_content(&[world.manifest("snapshot", payload)]);
        }
    }
    let now = Timestamp::from_seconds(START.seconds() + 1_000);
    world.clock.set(now);
    let before = world.all();
    let repository = world.repository();
    let options = cycle(Mode::Full, Safety::none(), OWNER);
    let asked = strategies(KopiasOrder, None);
    let planned = plan(&repository, &bench.workspace(), asked, &options).unwrap();
    assert_eq!(world.all(), before, "a plan writes nothing");
    let repository = world.repository();
    let report = bench.cycle(&repository, &options).unwrap();
    let counted = repository.storage.counters();
    assert_eq!(report.requests, counted, "the report tells all of it");
    let tasks = report.tasks.len() as u64;
    assert_eq!(tasks, 10);
    let mut told = 0;
    for task in &report.tasks {
        assert!(task.to_string().contains(" GET ("), "{task}");
        told += task.requests.gets;
    }
    assert!(told <= counted.gets);

    check_costs(&planned.outlook.unwrap(), &report);

    let after = world.all();
    let blobs = before.len() as u64;
    let stored_bytes: usize = before.values().map(|(bytes, _)| bytes.len()).sum();
    assert!(
        counted.bytes_read * 2 <= stored_bytes as u64 * 3,
        "{report}"
    );
    let most = counted.bytes_read / READ_BYTES + 3 * blobs + 2 * tasks;
    assert!(counted.gets <= most, "{most}: {report}");
    assert!(most < DIRECTORIES * SNAPSHOTS, "far fewer than contents");
    assert!(counted.lists <= LISTS_MAX, "{report}");
    let new = after.keys().filter(|name| !before.contains_key(*name));
    assert!(counted.puts <= 2 * tasks + new.count() as u64, "{report}");
    // And the marker of our own session.
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    assert_eq!(counted.deletes, gone.count() as u64 + 1, "{report}");
}

/// What the plan said is near what the run took, and never below.
fn check_costs(planned: &Outlook, report: &RunReport) {
    let holdings = &planned.holdings;
    assert_eq!(
        holdings.live.count,
        SNAPSHOTS * (DIRECTORIES * (FILES + 1) + 1) + 3
    );
    assert_eq!(holdings.deleted.count, 0);
    assert_eq!(holdings.unused.count, 0);
    assert_eq!(
        holdings.short.count, holdings.live.count,
        "every pack is short"
    );
    let most_scratch = planned.costs.iter().map(|cost| cost.scratch_bytes).max();
    assert!(report.scratch_peak_bytes <= most_scratch.unwrap());
    for task in &report.tasks {
        let cost = planned.costs.iter().find(|cost| cost.task == task.task);
        let cost = cost.unwrap();
        let asked = &task.requests;
        let requests = asked.gets + asked.lists + asked.puts + asked.deletes;
        assert!(requests <= cost.requests, "{cost}: {asked}");
        assert!(cost.requests <= 3 * requests + 40, "{cost}: {asked}");
        // What the tasks before it write is in no estimate.
        let most = cost.read_bytes + cost.read_bytes / 10 + SMALL_BYTES;
        assert!(asked.bytes_read <= most, "{cost}: {asked}");
        assert!(
            cost.read_bytes <= 2 * asked.bytes_read + SMALL_BYTES,
            "{cost}: {asked}"
        );
        let most = cost.written_bytes + SMALL_BYTES;
        assert!(asked.bytes_written <= most, "{cost}: {asked}");
    }
}

/// Sessions of clients that wrote one file each.
const SMALL_SESSIONS: u64 = 60;

/// Makes them, each with an index blob and two packs, and a snapshot of each; later it is due.
fn small_sessions(bench: &Bench) -> World {
    let world = World::new(WorldOptions::default());
    let repository = world.repository();
    let workspace = bench.workspace();
    let mut roots = Vec::new();
    for seed in 0..SMALL_SESSIONS {
        let mut client = Client::new(&world, &repository, &workspace);
        let file = client.content(None, &seed.to_be_bytes());
        let file = format!("{{\"name\":\"file\",\"type\":\"f\",\"obj\":\"{file}\"}}");
        roots.push(client.directory(&[file]));
        client.packs.finish().unwrap();
    }
    let manifests = roots.iter().map(|root| {
        let snapshot = format!(
            "{{\"source\":{{\"host\":\"h\",\"userName\":\"u\",\"path\":\"/p\"}},\
             \"rootEntry\":{{\"type\":\"d\",\"obj\":\"{root}\"}}}}"
        );
        world.manifest("snapshot", RawValue::from_string(snapshot).unwrap())
    });
    world.put_manifest_content(&manifests.collect::<Vec<_>>());
    let later = Timestamp::from_seconds(START.seconds() + 1_000);
    world.clock.set(later);
    world
}

/// Goal: whatever the tasks, a run asks for each index blob once, and for each pack that it
/// rewrites and deletes once; without room to keep what was read it asks more often, and ends the
/// same.
#[test]
fn a_full_run_asks_for_a_blob_once() {
    let mut ends = Vec::new();
    for keeps in [true, false] {
        let bench = Bench::new();
        let world = small_sessions(&bench);
        let index_blobs = count(&world, "xn");
        let packs = count(&world, "p") + count(&world, "q");
        assert!(index_blobs >= SMALL_SESSIONS && packs >= 2 * SMALL_SESSIONS);
        let options = cycle(Mode::Full, Safety::none(), OWNER);
        let repository = world.repository();
        let asked = strategies(KopiasOrder, None);
        plan(&repository, &bench.workspace(), asked, &options).unwrap();
        let most = index_blobs + SMALL_SESSIONS / 2;
        assert!(repository.storage.counters().gets <= most, "a plan");
        let repository = world.repository();
        let workspace = bench.workspace();
        if !keeps {
            workspace.scratch.open_shelf();
            workspace.scratch.shelf_gives_way();
        }
        let asked = strategies(KopiasOrder, None);
        let report = run(&repository, &workspace, asked, &options, &mut |_| {}).unwrap();
        let gets = report.requests.gets;
        let rewritten = world
            .all()
            .keys()
            .filter(|name| name.starts_with('p'))
            .count();
        assert!(rewritten <= 2, "short packs are gone");
        // GC reads the packs of directories, the rewrite all of them.
        let once = index_blobs + packs + SMALL_SESSIONS;
        let few = once + SMALL_SESSIONS;
        if keeps {
            assert!(gets <= few, "{few}: {report}");
        } else {
            assert!(gets >= few + 2 * index_blobs + packs / 2, "{few}: {report}");
        }
        ends.push(world.all().len());
    }
    assert_eq!(ends[0], ends[1]);
}

/// Goal: on the wire to real stores, a run asks for each index blob once, and for each pack of
/// directories once to find what is in use and once to rewrite it; what it says of itself is what a
/// proxy sees.
#[test]
fn a_full_run_over_the_wire_asks_for_a_blob_once() {
    for place in all() {
        let bench = Bench::new();
        let world = small_sessions(&bench);
        let index_blobs = count(&world, "xn");
        let there = Storage::new(place.store(&WireLimits::default()));
        let mut times = BTreeMap::new();
        for (name, (bytes, time)) in world.all() {
            let id = BlobId::new(name);
            there
                .put_bytes(&id, &bytes, &PutOptions::default())
                .unwrap();
            times.insert(id, time);
        }
        let proxy = CountingProxy::before(place.port);
        let place = place.through(proxy.port());
        let store = place.store(&WireLimits::default());
        let store = TimedStore::new(store, world.clock.clone(), times);
        let repository = world.repository_on(Arc::new(store));
        let options = cycle(Mode::Full, Safety::none(), OWNER);
        let report = bench.cycle(&repository, &options).unwrap();
        let asked = proxy.take();
        let what = format!("{}: {report}", place.location);
        let traffic = repository.storage.traffic().unwrap();
        assert_eq!(asked.all(), traffic.requests(), "{what}");
        assert_eq!(asked.count(Kind::Get), traffic.get, "{what}");
        assert_eq!(asked.count(Kind::List), traffic.list, "{what}");
        assert_eq!(asked.count(Kind::Put), traffic.put, "{what}");
        assert_eq!(asked.uploaded_bytes, traffic.uploaded_bytes, "{what}");
        assert_eq!(asked.downloaded_bytes, traffic.downloaded_bytes, "{what}");
        let read = asked.reads_of(&["x"]);
        assert!(read.len() as u64 >= index_blobs, "{what}");
        assert!(read.values().all(|count| *count == 1), "{read:?} {what}");
        let read = asked.reads_of(&["q"]);
        let often: Vec<_> = read.iter().filter(|(_, count)| **count > 2).collect();
        assert!(often.is_empty(), "{often:?} {what}");
        assert!(asked.count(Kind::List) <= LISTS_MAX, "{what}");
    }
}

/// Counts blobs by the start of their names.
fn count(world: &World, prefix: &str) -> u64 {
    let all = world.all();
    all.keys().filter(|name| name.starts_with(prefix)).count() as u64
}
