//! How much a run asks a store for: each index blob once, each content that is too large for a
//! buffer once, few listings.
//!
//! A proxy before SeaweedFS counts. Without SeaweedFS nothing is tested, and the kit says so.

use std::process::Stdio;

use careen::blob::Storage;
use careen::blob::object::WireLimits;
use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::safety::Safety;
use kit::cycle::cycle;
use kit::data_dir::DataDir;
use kit::golden::Golden;
use kit::index_work::Bench;
use kit::kopia::{IDENTITY, newest};
use kit::object_stores::{Place, carry_there, s3};
use kit::program;
use kit::programs::{PASSWORD, Programs};
use serde_json::Value;
use servers::counting_proxy::{Asked, CountingProxy};
use servers::fault_proxy::Kind;

use super::{carried, judge_a_copy};
use crate::run_protocol::effect::Look;
use crate::run_protocol::golden::{assert_effect, told};

/// Index blobs that hold entries, whatever they are called.
const INDEX: [&str; 4] = ["xn", "xs", "xr", "n"];

/// Listings of a full cycle: each prefix once, and those that safety wants again.
const LISTS_MAX: u64 = 13;

/// Asserts that no index blob was asked for twice. Those that were written meanwhile are read to
/// see that all arrived.
fn assert_index_once(asked: &Asked, what: &str) -> usize {
    let mut read = 0;
    for (name, blob) in asked.blobs_of(&INDEX) {
        let most = 1 + blob.puts as usize;
        assert!(
            blob.reads.len() <= most,
            "{what}: {name} was read {:?}",
            blob.reads
        );
        read += usize::from(!blob.reads.is_empty());
    }
    read
}

/// Goal: one GET for each index blob, small or not, with ECC too, whose parity lies apart; no more
/// listings than there are reasons for; and Kopia's effect.
#[test]
fn a_full_cycle_asks_for_each_index_blob_once() {
    for name in ["old-epochs", "small-packs", "chacha-blake3-ecc"] {
        for below in [None, Some(399)] {
            let Some(place) = s3() else { return };
            let what = format!("{name}, index blobs in memory below {below:?}");
            let golden = Golden::open(name);
            let proxy = CountingProxy::before(place.port);
            let repository = carried(&golden, &place.through(proxy.port()));
            let look = Look::at(&repository);
            let bench = match below {
                Some(below) => Bench::new().blobs_below(below),
                None => Bench::new(),
            };
            let options = cycle(Mode::Full, Safety::full(), golden.maintenance_owner());
            proxy.take();
            let outcome = bench.cycle(&repository, &options);
            outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
            let asked = proxy.take();
            let effect = Look::at(&repository).since(&look);
            assert_effect(&effect, told(&golden, "full").unwrap(), &mut 0, &what);
            let read = assert_index_once(&asked, &what);
            assert!(
                read > 3,
                "{what}: {read} of {:?}",
                asked.blobs_of(&INDEX).collect::<Vec<_>>()
            );
            let lists = asked.count(Kind::List);
            assert!(lists <= LISTS_MAX, "{what}: {lists} listings");
            assert!(asked.count(Kind::Head) <= 1, "{what}");
            judge_a_copy(&golden, &repository, &what);
        }
    }
}

/// Runs the program on a repository of `careen demo`, carried to SeaweedFS; returns what it asked
/// for, its report, and the place.
fn run(made_by: &[&str], words: &[&str], memory: &str) -> Option<(Asked, Value, Place)> {
    let (careen, place) = (program::careen()?, s3()?);
    let work = tempfile::tempdir_in(kit::disk()).unwrap();
    let programs = Programs::new(careen, work.path());
    programs.make(made_by);
    let folder = DataDir::open(programs.source()).unwrap();
    carry_there(&folder, &Storage::new(place.store(&WireLimits::default())));
    let proxy = CountingProxy::before(place.port);
    let mut command = std::process::Command::new(careen);
    command.args(words);
    place.clone().through(proxy.port()).tell(&mut command);
    command
        .args(["--json", "--memory", memory, "--scratch"])
        .arg(work.path())
        .env("KOPIA_PASSWORD", PASSWORD)
        .stdin(Stdio::null());
    let ended = command.output().unwrap();
    let told = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{told}");
    let mut lines = told.lines().map(serde_json::from_str::<Value>);
    let report = lines.find_map(|line| line.ok().filter(|line| line["kind"] == "report"));
    Some((proxy.take(), report.unwrap(), place))
}

/// Goal: an index blob of some MB, read in pieces, is one GET, and its length costs no request.
#[test]
fn a_large_index_blob_is_one_get() {
    let made_by = ["--entries", "150000", "--index-blobs", "3"];
    let Some((asked, _, _)) = run(&made_by, &["index", "compact"], "64MiB") else {
        return;
    };
    let large = asked
        .blobs_of(&INDEX)
        .filter(|(_, b)| b.read_bytes > 2 << 20);
    assert_eq!(large.count(), 2, "they are not large");
    assert_eq!(assert_index_once(&asked, "a large index"), 3);
    assert_eq!(asked.count(Kind::Head), 0);
}

/// Goal: contents that fit into no buffer are read piece by piece; neighbours, and the end of their
/// pack with them, are one GET. A small metadata pack is one GET in the whole run.
#[test]
fn large_contents_and_small_metadata_packs_are_few_gets() {
    let made_by = [
        ["--snapshots", "3"],
        ["--deleted", "1"],
        ["--directories", "3"],
        ["--files", "2"],
        ["--sessions", "9"],
        ["--changed", "60"],
        ["--file-bytes", "4000000"],
    ];
    let words = ["run", "--mode", "full", "--safety", "none"];
    let Some((asked, report, place)) = run(&made_by.concat(), &words, "40MiB") else {
        return;
    };
    let rewrite = &report["report"]["tasks"][1];
    assert_eq!(rewrite["task"], "full-rewrite-contents");
    let copied = rewrite["stats"]["data"]["rewrittenContentCount"].as_u64();
    assert!(copied.is_some_and(|copied| copied > 20), "{rewrite}");
    let (mut packs, mut of_several) = (0, 0);
    for (name, pack) in asked.blobs_of(&["p"]).filter(|(_, pack)| pack.puts == 0) {
        assert_eq!(pack.reads.len(), 1, "{name}: {pack:?}");
        packs += 1;
        // Files have 2 to 6 MB.
        of_several += u64::from(pack.read_bytes > 6_100_000);
    }
    assert!(packs > 5 && of_several > 2, "{:?}", asked.reads_of(&["p"]));
    let mut metadata = 0;
    for (name, pack) in asked.blobs_of(&["q"]).filter(|(_, pack)| pack.puts == 0) {
        assert_eq!(pack.reads.len(), 1, "{name}: {pack:?}");
        metadata += 1;
    }
    assert!(metadata > 5, "{:?}", asked.reads_of(&["q"]));
    if let Some(kopia) = newest() {
        let client = kopia.connect_at(&place.for_kopia().unwrap(), PASSWORD, IDENTITY);
        let client = client.unwrap_or_else(|error| panic!("{error}"));
        client.snapshot_verify().unwrap();
        client.content_verify(true).unwrap();
    }
}
