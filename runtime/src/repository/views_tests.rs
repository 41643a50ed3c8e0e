//! The views of the index on repositories made to order: verification, inspection, contents.
//!
//! What golden repositories cannot show: entries and packs at the edge, several sets that are
//! repaired, blobs larger than the buffer. The key derivation is left out, it takes seconds in a
//! test.

use std::io::Write;
use std::sync::Arc;

use super::contents::each_content;
use super::epoch_blobs::EpochBlobs;
use super::index_generator::{GeneratorOptions, GeneratorTarget, generate};
use super::index_names::UncompactedNames;
use super::inspect::{InspectBlobs, InspectOptions, inspect};
use super::listing::{IndexBlobState, list_index_blobs};
use super::verify::{VerifyOptions, VerifyReport, verify_index, verify_index_with};
use super::{Repository, RepositoryError, Workspace};
use crate::blob::{LocalOptions, LocalStore, MemoryStore, PutOptions, Storage};
use crate::clock::{ManualClock, SeededRandomness, Stopwatch, Timestamp};
use crate::kopia::blob_id::{BlobId, epoch_marker_name};
use crate::kopia::format_blob::{BlobConfig, FormatBlob, NewRepository, RANDOM_BYTES};
use crate::kopia::index_blob::ContentFormat;
use crate::kopia::index_builder::{EntryFields, IndexBuilder, NewEntry};
use crate::memory::{MIB, MemoryPlan};
use crate::progress::Silent;
use crate::spill::{Scratch, ScratchOptions};

const FORMAT_KEY: [u8; 32] = [7; 32];

const NOW: Timestamp = Timestamp::from_seconds(1_788_220_800);

/// Content, seconds, whether deleted, pack, end in the pack.
type Entry<'a> = (u8, i64, bool, &'a str, u32);

struct World {
    repository: Repository,
    workspace: Workspace,
    _directory: tempfile::TempDir,
}

impl World {
    /// A repository whose epoch 0 is settled.
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        Self::on(Storage::new(Arc::new(MemoryStore::new(clock))))
    }

    fn on(storage: Storage) -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let parts = NewRepository::new(&[9; RANDOM_BYTES]);
        let blob = parts.format_blob_with_key(&FORMAT_KEY).unwrap();
        let format = FormatBlob::parse(&blob).unwrap();
        let format = format.unlock_with_key(&FORMAT_KEY).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let options = ScratchOptions {
            parent: directory.path().to_owned(),
            quota_bytes: None,
            tmpfs_allowed: true,
            direct: true,
        };
        let world = Self {
            repository: Repository {
                storage,
                crypto: format.blob_crypto().unwrap(),
                format: Arc::new(format),
                blob_config: Arc::new(BlobConfig::default()),
                clock,
                randomness: Arc::new(SeededRandomness::new(1)),
                last_write_epoch: Default::default(),
            },
            workspace: Workspace {
                scratch: Scratch::create(&options, [1; 8]).unwrap(),
                memory: MemoryPlan::new(32 * MIB).unwrap(),
                progress: Arc::new(Silent),
            },
            _directory: directory,
        };
        world.put(epoch_marker_name(2).as_str(), b"");
        world
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let storage = &self.repository.storage;
        let put = storage.put_bytes(&name.into(), bytes, &PutOptions::default());
        put.unwrap();
    }

    /// Puts an index blob; returns its name.
    fn index(&self, prefix: &str, suffix: &str, entries: &[Entry<'_>]) -> BlobId {
        let mut builder = IndexBuilder::new(2, self.repository.key_bytes());
        for (content, seconds, deleted, pack, end) in entries {
            let mut key = vec![0; self.repository.key_bytes()];
            key[1] = *content;
            let entry = NewEntry {
                fields: EntryFields {
                    timestamp_seconds: *seconds,
                    deleted: *deleted,
                    pack_offset: end - 40,
                    packed_length: 40,
                    original_length: 12,
                },
                pack_name: pack.as_bytes(),
                format: ContentFormat {
                    compression_header_id: 0x1101,
                    format_version: 3,
                    encryption_key_id: 0,
                },
            };
            builder.add(&key, entry).unwrap();
        }
        let (plain, mut sealed) = (builder.build(None).unwrap(), Vec::new());
        let crypto = &self.repository.crypto;
        let nonce = self.repository.random();
        let name = crypto.seal(prefix, Some(suffix), &plain, nonce, &mut sealed);
        self.put(&name, &sealed);
        name.into()
    }

    fn verify(&self) -> VerifyReport {
        verify_index(&self.repository, &self.workspace).unwrap()
    }

    fn codes(&self) -> Vec<&'static str> {
        let findings = self.verify().found.findings;
        findings.iter().map(|finding| finding.code).collect()
    }

    fn inspected(&self, options: &InspectOptions) -> Vec<String> {
        let mut rows = Vec::new();
        inspect(&self.repository, &self.workspace, options, &mut |row| {
            rows.push(row.to_string());
            true
        })
        .unwrap();
        rows
    }

    fn contents(&self) -> Vec<String> {
        let mut rows = Vec::new();
        each_content(&self.repository, &self.workspace, &mut |row| {
            rows.push(format!("{} {} {}", row.content, row.deleted, row.pack));
            true
        })
        .unwrap();
        rows
    }
}

#[test]
fn contents_must_lie_inside_packs_that_are_there() {
    let world = World::new();
    let entries = [
        (1, 10, false, "pa", 100),
        (2, 10, false, "pa", 60),
        (3, 10, false, "pb", 101),
        (4, 10, false, "qc", 100),
        (5, 10, true, "pd", 100),
        (6, 10, false, "zz", 100),
    ];
    world.index("xn0_", "s1-c1", &entries);
    for name in ["pa", "pb", "zz"] {
        world.put(name, &[0; 100]);
    }
    let report = world.verify();
    let found: Vec<_> = report
        .found
        .findings
        .iter()
        .map(|f| (f.code, f.blob.as_deref()))
        .collect();
    assert_eq!(
        found,
        [("short-pack", Some("pb")), ("missing-pack", Some("qc"))]
    );
    assert_eq!(report.packs, Some(4));
    assert_eq!((report.live_contents, report.deleted_contents), (5, 1));
    let text = "it ends at byte 101, the pack blob has 100";
    assert_eq!(report.found.findings[0].explanation, text);
    let verify = |options| verify_index_with(&world.repository, &world.workspace, &options);
    let deleted = VerifyOptions {
        deleted: true,
        ..VerifyOptions::default()
    };
    assert_eq!(
        verify(deleted).unwrap().found.findings_total,
        3,
        "pd is gone, too"
    );
    let without = VerifyOptions {
        packs: false,
        ..deleted
    };
    let report = verify(without).unwrap();
    assert!(report.ok() && report.packs.is_none());
    world.put("xw10", b"");
    assert_eq!(
        verify(deleted).unwrap().found.findings_total,
        2,
        "the tombstone is dropped"
    );
}

#[test]
fn sets_that_differ_hide_entries_until_another_blob_holds_them() {
    let world = World::new();
    world.put("pa", &[0; 100]);
    let (one, two) = ((1, 10, false, "pa", 100), (2, 10, false, "pa", 100));
    world.index("xs0_", "s01-c1", &[one, two]);
    assert!(world.verify().ok());
    world.index("xs0_", "s02-c1", &[one]);
    assert_eq!(world.codes(), ["hidden-entry"]);
    let older = (2, 9, false, "pa", 100);
    world.index("xn2_", "s03-c1", &[older]);
    assert_eq!(world.codes(), ["hidden-entry"], "what others hold is older");
    world.index("xn2_", "s04-c1", &[two]);
    let report = world.verify();
    assert!(report.ok(), "{report}");
    assert_eq!(report.notes.len(), 1, "{report}");
    assert_eq!(report.epochs_compared, 1);
}

#[test]
fn replaced_blobs_tell_what_their_set_lacks() {
    let world = World::new();
    world.put("pa", &[0; 100]);
    let (old, new) = ((1, 10, false, "pa", 100), (1, 11, true, "pa", 100));
    world.index("xn0_", "s1-c1", &[old]);
    world.index("xs0_", "s01-c1", &[new]);
    assert!(world.verify().ok(), "the set has a newer entry");
    world.index("xn0_", "s2-c1", &[(1, 12, false, "pa", 100)]);
    let report = world.verify();
    assert_eq!(report.found.findings_total, 1, "{report}");
    assert_eq!(report.found.findings[0].code, "hidden-entry");
    let text = "a complete set of epoch 0 lacks its newest entry";
    assert_eq!(report.found.findings[0].explanation, text);
}

#[test]
fn at_the_same_second_the_larger_pack_is_the_newest_entry() {
    let world = World::new();
    world.put("pa", &[0; 100]);
    world.put("pb", &[0; 100]);
    world.index("xn0_", "s1-c1", &[(1, 10, false, "pa", 100)]);
    world.index("xs0_", "s01-c1", &[(1, 10, false, "pb", 100)]);
    assert!(world.verify().ok());
    world.index("xn0_", "s2-c1", &[(2, 10, false, "pb", 100)]);
    world.index(
        "xs0_",
        "s02-c1",
        &[(1, 10, false, "pb", 100), (2, 10, false, "pa", 100)],
    );
    let codes = world.codes();
    assert_eq!(
        codes,
        ["hidden-entry"],
        "content 2 once, though two sets lack it"
    );
}

#[test]
fn damaged_and_refused_blobs_are_all_found() {
    let mut world = World::new();
    world.put("pa", &[0; 100]);
    let sound = world.index("xn2_", "s1-c1", &[(1, 10, false, "pa", 100)]);
    world.put("xn1_00112233445566778899aabbccddeeff-s2-c1", &[0; 50]);
    world.put("xn1_nohash-s3-c1", &[0; 50]);
    let mut found = world.codes();
    found.sort_unstable();
    assert_eq!(found, ["malformed", "tag-mismatch"]);
    let report = world.verify();
    assert_eq!(
        (report.index_blobs, report.live_contents),
        (1, 1),
        "{report}"
    );
    Arc::make_mut(&mut world.repository.format).index_version = 1;
    let report = world.verify();
    assert_eq!(report.found.findings_total, 3, "{report}");
    let refused = report.found.findings.last().unwrap();
    assert_eq!(
        (refused.code, refused.blob.as_deref()),
        ("refused-entry", Some(sound.as_str()))
    );
    assert_eq!(report.live_contents, 1, "it is read all the same");
    let error = each_content(&world.repository, &world.workspace, &mut |_| true).unwrap_err();
    let code = error.code();
    assert!(
        ["malformed", "tag-mismatch"].contains(&code),
        "views stop at the first"
    );
}

/// Goal: a blob larger than the buffer reads as a small one; method: a buffer smaller than any
/// blob.
#[test]
fn large_blobs_read_like_small_ones() {
    let mut world = World::new();
    let entries: Vec<Entry<'_>> = (0..200)
        .map(|content| {
            (
                content,
                10,
                content % 3 == 0,
                ["pa", "pb"][content as usize % 2],
                100,
            )
        })
        .collect();
    let first = world.index("xn2_", "s1-c1", &entries);
    world.index("xs0_", "s01-c1", &entries[..50]);
    world.index("xn0_", "s2-c1", &entries[..10]);
    let active = InspectOptions::default();
    let small = world.inspected(&active);
    assert_eq!(small.len(), 250);
    let contents = world.contents();
    assert_eq!(contents.len(), 200);
    world.workspace.memory.blob_bytes = 200;
    assert_eq!(world.inspected(&active), small);
    assert_eq!(world.contents(), contents);
    let options = InspectOptions {
        blobs: InspectBlobs::All,
        content_prefix: Some("05".into()),
    };
    assert_eq!(world.inspected(&options).len(), 3, "the replaced blob, too");
    let options = InspectOptions {
        blobs: InspectBlobs::Named(vec![first.clone()]),
        content_prefix: None,
    };
    assert_eq!(world.inspected(&options).len(), 200);
    let mut bytes = world.repository.storage.get_all(&first, MIB).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    world.put(first.as_str(), &bytes);
    let options = VerifyOptions {
        packs: false,
        deleted: false,
    };
    let report = verify_index_with(&world.repository, &world.workspace, &options).unwrap();
    assert_eq!(report.found.findings_total, 1, "{report}");
    assert_eq!(report.found.findings[0].code, "tag-mismatch");
    assert_eq!(report.entries, 50);
}

#[test]
fn views_end_when_nobody_looks() {
    let world = World::new();
    let entries = [(1, 10, false, "pa", 100), (2, 10, false, "pa", 100)];
    world.index("xn0_", "s1-c1", &entries);
    world.index("xn2_", "s2-c1", &entries);
    let mut seen = [0; 3];
    let (repository, workspace) = (&world.repository, &world.workspace);
    let mut once = |at: usize| {
        seen[at] += 1;
        false
    };
    each_content(repository, workspace, &mut |_| once(0)).unwrap();
    inspect(
        repository,
        workspace,
        &InspectOptions::default(),
        &mut |_| once(1),
    )
    .unwrap();
    list_index_blobs(repository, workspace, &mut |row| {
        assert_eq!(row.state, IndexBlobState::Active);
        once(2)
    })
    .unwrap();
    assert_eq!(seen, [1; 3]);
}

#[test]
fn blobs_are_listed_by_name() {
    let world = World::new();
    let listed = || {
        let mut rows = Vec::new();
        list_index_blobs(&world.repository, &world.workspace, &mut |row| {
            rows.push((row.blob.to_string(), row.length_bytes, row.timestamp));
            true
        })
        .unwrap();
        rows
    };
    let names = ["n0", "xn10_a", "xn2_a", "xn2_b", "xn2_bc", "xn_", "xr0_1_a"];
    for (length, name) in names.iter().enumerate().rev() {
        world.put(name, &vec![0; length]);
    }
    let expected = names.iter().enumerate();
    let expected = expected.map(|(length, name)| ((*name).to_owned(), length as u64, NOW));
    assert_eq!(listed(), expected.collect::<Vec<_>>());
    world.put(&format!("xn2_{}", "c".repeat(200)), b"");
    let error = list_index_blobs(&world.repository, &world.workspace, &mut |_| true);
    assert_eq!(error.unwrap_err().code(), "malformed");
}

/// A listing that knows ages and sizes is believed; else each blob is asked for.
#[test]
fn blobs_of_an_epoch_are_measured() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let local = LocalStore::create(folder.path(), LocalOptions::default()).unwrap();
    let local = Storage::new(Arc::new(local));
    for (storage, expected) in [(&world.repository.storage, (3, 9)), (&local, (2, 6))] {
        let names = ["xn10_a", "xn1_a", "xn2_a", "xn2_b", "xn2_bc"];
        for (length, name) in names.into_iter().enumerate() {
            let (id, bytes) = (name.into(), vec![0; length]);
            storage
                .put_bytes(&id, &bytes, &PutOptions::default())
                .unwrap();
        }
        let names = UncompactedNames::scan(storage, &world.workspace).unwrap();
        storage.delete(&"xn2_b".into()).unwrap();
        let blobs = EpochBlobs::look_up(storage, &names, 2).unwrap();
        assert_eq!((blobs.count, blobs.bytes), expected);
        assert!(blobs.oldest <= blobs.newest);
    }
}

#[test]
fn a_write_epoch_beyond_all_reason_is_an_error() {
    let world = World::new();
    world.put("xe9223372036854775807", b"");
    let error = verify_index(&world.repository, &world.workspace).unwrap_err();
    assert!(
        matches!(error, RepositoryError::TooMany { what: "epochs", .. }),
        "{error}"
    );
}

#[test]
#[ignore = "a measurement"]
fn measure_a_million_entries() {
    let number = |name: &str, default: u64| {
        let given = std::env::var(name).ok();
        given.map_or(default, |text| text.parse().unwrap())
    };
    let directory = tempfile::tempdir().unwrap();
    let options = LocalOptions {
        durable: false,
        ..LocalOptions::default()
    };
    let store = LocalStore::create(directory.path(), options).unwrap();
    let world = World::on(Storage::new(Arc::new(store)));
    let target = GeneratorTarget {
        storage: &world.repository.storage,
        crypto: &world.repository.crypto,
        randomness: &world.repository.randomness,
    };
    let options = GeneratorOptions {
        entries: number("ENTRIES", 1_000_000),
        index_blobs: number("BLOBS", 2_000),
        tombstone_percent: 10,
        seed: 1,
        now: NOW,
        settled: true,
    };
    generate(&target, &options, &Silent).unwrap();
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM"));
        line.unwrap().to_owned()
    };
    let measure = |what: &str, work: &mut dyn FnMut() -> String| {
        let watch = Stopwatch::start();
        let outcome = work();
        let time = watch.elapsed();
        writeln!(std::io::stderr(), "{what}: {outcome}, {time:?}, {}", peak()).unwrap();
    };
    let (repository, workspace) = (&world.repository, &world.workspace);
    measure("contents", &mut || {
        let mut rows = 0;
        each_content(repository, workspace, &mut |_| {
            rows += 1;
            true
        })
        .unwrap();
        rows.to_string()
    });
    measure("verify without packs", &mut || {
        let options = VerifyOptions {
            packs: false,
            deleted: false,
        };
        let report = verify_index_with(repository, workspace, &options).unwrap();
        report.found.findings_total.to_string()
    });
    measure("verify", &mut || {
        world.verify().found.findings_total.to_string()
    });
    measure("inspect", &mut || {
        world
            .inspected(&InspectOptions {
                content_prefix: Some("abc".into()),
                ..InspectOptions::default()
            })
            .len()
            .to_string()
    });
}
