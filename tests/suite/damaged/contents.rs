//! Contents that a full run does not look into, and those that Kopia cannot.
//!
//! A run reads what it copies: a damage inside a pack that stays as it is is seen by
//! `careen verify --contents` alone. What was compressed with lz4 Kopia 0.23 cannot read, and its
//! full runs end there; Careen copies it as it is stored, and a Kopia that knows lz4 reads it.

use std::collections::{BTreeMap, BTreeSet};

use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::safety::Safety;
use careen::repository::Repository;
use careen::repository::contents::each_content;
use careen::repository::verify::{
    ContentOptions, ContentsReport, verify_contents, verify_index, verify_snapshots,
};
use kit::contents::ContentRow;
use kit::cycle::cycle;
use kit::golden::Golden;
use kit::index_work::{Bench, open};
use kit::kopia;

use crate::run_protocol::effect::Look;
use crate::run_protocol::golden::assert_effect;

fn read_all(repository: &Repository) -> ContentsReport {
    let bench = Bench::new();
    let live = ContentOptions {
        percent: 100.0,
        deleted: false,
    };
    verify_contents(repository, &bench.workspace(), &live).unwrap()
}

fn run(repository: &Repository, owner: &str) {
    let options = cycle(Mode::Full, Safety::none(), owner);
    Bench::new().cycle(repository, &options).unwrap();
}

/// Goal: verification of contents finds what nobody else looks at; method: a bit of a content in
/// use is flipped in a pack that is not short.
#[test]
fn a_damage_in_a_full_pack_is_seen_only_by_contents() {
    let golden = Golden::open("small-packs");
    let (data, contents) = (golden.data(), golden.contents().unwrap());
    let used = golden.state()["usedContents"]["list"].as_array().unwrap();
    let used: BTreeSet<&str> = used.iter().map(|id| id.as_str().unwrap()).collect();
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    for row in &contents {
        *bytes.entry(&row.pack).or_default() += row.packed_length;
    }
    // The largest packs are beyond the repository's 20,000 bytes.
    let full = |row: &&ContentRow| bytes[&row.pack[..]] > 20_000;
    let mut damaged = contents.iter().filter(full);
    let damaged = damaged.find(|row| used.contains(&row.id[..])).unwrap();
    let mut pack = data.read(&damaged.pack).unwrap();
    pack[damaged.offset as usize + 20] ^= 1;
    let blobs = data.list().unwrap();
    let time = blobs
        .iter()
        .find(|blob| blob.id == damaged.pack)
        .unwrap()
        .time;
    data.write(&damaged.pack, &pack, time).unwrap();

    let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
    let look = Look::at(&repository);
    run(&repository, golden.maintenance_owner());
    let effect = Look::at(&repository).since(&look);
    assert_effect(
        &effect,
        golden.what_kopia_does("none"),
        &mut 0,
        "as undamaged",
    );
    let bench = Bench::new();
    let workspace = bench.workspace();
    assert!(verify_index(&repository, &workspace).unwrap().ok());
    let walked = verify_snapshots(&repository, &workspace).unwrap();
    assert!(walked.found.none(), "{walked}");
    let read = read_all(&repository);
    let found: Vec<_> = read.found.findings.iter().collect();
    assert_eq!(found.len(), 1, "{read}");
    assert_eq!(found[0].code, "tag-mismatch", "{read}");
    assert!(read.to_string().contains(&damaged.id), "{read}");
    assert!(data.read(&damaged.pack).is_ok(), "the pack is in use");
}

/// The stored bytes of every live content whose compression Kopia 0.23 does not know.
fn stored_lz4(golden: &Golden, repository: &Repository) -> BTreeMap<String, Vec<u8>> {
    let (bench, data, mut stored) = (Bench::new(), golden.data(), BTreeMap::new());
    each_content(repository, &bench.workspace(), &mut |row| {
        if !row.deleted && LZ4.contains(&row.compression_header_id) {
            let pack = data.read(&row.pack).unwrap();
            let start = row.pack_offset as usize;
            let bytes = &pack[start..start + row.packed_length as usize];
            stored.insert(row.content.to_string(), bytes.to_vec());
        }
        true
    })
    .unwrap();
    stored
}

/// Header ID of lz4.
const LZ4: [u32; 1] = [0x1400];

#[test]
fn what_kopia_cannot_read_is_copied_as_it_is() {
    let golden = Golden::open("lz4-0.22.3");
    let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
    let before = (read_all(&repository), stored_lz4(&golden, &repository));
    assert!(before.0.found.none(), "{}", before.0);
    assert!(!before.1.is_empty());
    let packs = |golden: &Golden| -> BTreeSet<String> {
        let blobs = golden.data().list().unwrap().into_iter();
        blobs
            .map(|blob| blob.id)
            .filter(|id| id.starts_with(['p', 'q']))
            .collect()
    };
    let old = packs(&golden);
    run(&repository, golden.maintenance_owner());
    assert!(packs(&golden).is_disjoint(&old), "all was rewritten");
    let after = (read_all(&repository), stored_lz4(&golden, &repository));
    assert!(after.0.found.none(), "{}", after.0);
    assert_eq!(after.0.hashed, before.0.hashed);
    assert_eq!(after.1, before.1);
    let bench = Bench::new();
    let walked = verify_snapshots(&repository, &bench.workspace()).unwrap();
    assert!(walked.found.none(), "{walked}");
    for kopia in kopia::binaries()
        .iter()
        .filter(|kopia| !kopia.is_at_least(23))
    {
        let owner = golden.maintenance_owner();
        let client = kopia
            .connect(golden.path(), golden.password(), owner)
            .unwrap();
        client
            .snapshot_verify()
            .unwrap_or_else(|error| panic!("{kopia}: {error}"));
    }
}
