//! `careen verify --snapshots` and `--contents`, and `careen snapshot list`, on what Kopia made.
//!
//! Sound repositories have no findings. Who sees what of the damaged ones is a table in
//! `damaged/full_runs.rs`; that the listing has Kopia's snapshots is in `golden_state/rest.rs`.

use std::collections::BTreeSet;

use careen::kopia::source_filter::SourceFilter;
use careen::repository::verify::{ContentOptions, verify_contents, verify_snapshots};
use kit::golden::{Golden, NAMES};
use kit::index_work::{Bench, open};

use crate::golden_state::rest::snapshots_of;

const ALL: ContentOptions = ContentOptions {
    percent: 100.0,
    deleted: true,
};

/// Goal: what Kopia made is whole, and its snapshots are listed as Kopia lists them; method: all
/// golden repositories, with much and with little memory.
#[test]
fn what_kopia_made_is_whole_and_listed() {
    for name in NAMES {
        let golden = Golden::open(name);
        let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
        let bench = Bench::new();
        let workspace = bench.workspace();
        let listed = snapshots_of(&repository, &workspace, SourceFilter::default());
        assert!(listed.is_sorted_by_key(|row| (row.source.clone(), row.start)));
        let source = &listed[0].source;
        let one = snapshots_of(&repository, &workspace, SourceFilter::parse(source));
        let own: Vec<_> = listed.iter().filter(|row| row.source == *source).collect();
        assert_eq!(one.iter().collect::<Vec<_>>(), own);
        for bench in [Bench::new(), Bench::new().tiny()] {
            let workspace = bench.workspace();
            let walked = verify_snapshots(&repository, &workspace).unwrap();
            assert!(walked.found.none(), "{name}: {walked}");
            assert_eq!(walked.walked.snapshots, listed.len() as u64, "{name}");
            let read = verify_contents(&repository, &workspace, &ALL).unwrap();
            assert!(read.found.none(), "{name}: {read}");
            assert_eq!(read.chosen, read.contents, "{name}");
            assert_eq!(read.hashed, read.contents, "{name}");
            let part = ContentOptions {
                percent: 30.0,
                ..ALL
            };
            let part = verify_contents(&repository, &workspace, &part).unwrap();
            assert!(part.chosen < read.chosen, "{name}: {part}");
            assert_eq!(part.hashed, part.chosen, "{name}");
        }
    }
}

/// Goal: the walk goes on behind a damage and names each content once; method: a pack is gone and
/// another is cut, contents are read together, or each in pieces since no buffer holds it.
#[test]
fn everything_that_is_missing_is_named_once() {
    let golden = Golden::open("default-0.23.1");
    let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
    let contents = golden.contents().unwrap();
    let used = golden.state()["usedContents"]["list"].as_array().unwrap();
    let used: BTreeSet<&str> = used.iter().map(|id| id.as_str().unwrap()).collect();
    let data = golden.data();
    let own = |prefix: &str| -> Vec<String> {
        let packs = contents.iter().filter(|row| !row.deleted);
        let packs = packs.filter(|row| used.contains(&row.id[..]) && row.pack.starts_with(prefix));
        let packs: BTreeSet<&str> = packs.map(|row| &row.pack[..]).collect();
        packs.into_iter().map(str::to_owned).collect()
    };
    let (gone, cut) = (&own("p")[0], &own("p")[1]);
    let whole = data.read(cut).unwrap();
    // One byte less than the furthest content in use needs.
    let ends = contents
        .iter()
        .filter(|row| row.pack == *cut && used.contains(&row.id[..]));
    let short = ends
        .map(|row| row.offset + row.packed_length)
        .max()
        .unwrap()
        - 1;
    let time = data
        .list()
        .unwrap()
        .into_iter()
        .find(|blob| blob.id == *cut)
        .unwrap()
        .time;
    data.write(cut, &whole[..short as usize], time).unwrap();
    data.remove(gone).unwrap();
    let lost = |row: &&kit::contents::ContentRow| {
        row.pack == *gone || (row.pack == *cut && row.offset + row.packed_length > short)
    };
    let live: Vec<_> = contents.iter().filter(|row| !row.deleted).collect();
    let lost_live = live.iter().copied().filter(lost).count() as u64;
    let lost_used = contents.iter().filter(lost);
    let lost_used = lost_used.filter(|row| used.contains(&row.id[..])).count() as u64;
    assert!(lost_used > 1);
    let mut small = Bench::new();
    small.memory.read_window_bytes = 64;
    small.memory.pack_read_bytes = 128;
    for bench in [Bench::new(), small] {
        let workspace = bench.workspace();
        let walked = verify_snapshots(&repository, &workspace).unwrap();
        assert_eq!(walked.found.findings_total, lost_used, "{walked}");
        let live = ContentOptions {
            deleted: false,
            ..ALL
        };
        let read = verify_contents(&repository, &workspace, &live).unwrap();
        assert_eq!(read.found.findings_total, lost_live, "{read}");
        assert_eq!(read.hashed, read.chosen - lost_live);
        for found in [&walked.found, &read.found] {
            let codes: BTreeSet<_> = found.findings.iter().map(|found| found.code).collect();
            assert_eq!(codes, BTreeSet::from(["missing-pack", "short-pack"]));
        }
    }
}
