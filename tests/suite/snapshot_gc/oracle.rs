//! Real Kopia and ours collect the same, on copies of one repository; Kopia reads what is left.
//!
//! Each Kopia of this machine makes snapshots of a tree that changes: directories on several
//! levels, the same file in many places, large files and large directories (small splitters cut
//! both into many contents), a single file as root, an incomplete change; then some snapshots are
//! deleted. The kit says so where there is no Kopia.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use careen::maintenance::safety::Safety;
use careen::repository::verify::{ContentOptions, verify_contents, verify_snapshots};
use kit::data_dir::DataDir;
use kit::index_work::{Bench, open};
use kit::kopia::{self, Client, CreateOptions, Kopia};

use super::collect;

const PASSWORD: &str = "a password";

/// Changes the tree for a round.
fn change(tree: &Path, round: usize) {
    for number in 0..40 {
        if round > 0 && number % 5 != round {
            continue;
        }
        let path = tree.join(format!("d{}/e{}/f{number}", number % 3, number % 4));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{round} file {number} ").repeat(1 + number)).unwrap();
        let shared = tree.join(format!("d{}/shared", number % 3));
        fs::write(shared, "the same everywhere").unwrap();
    }
    let lines: Vec<String> = (0..60_000)
        .map(|n| format!("{} ", n * (round + 1)))
        .collect();
    fs::write(tree.join("large"), lines.concat()).unwrap();
    let many = tree.join("many");
    fs::create_dir_all(&many).unwrap();
    for number in 0..1_500 + 10 * round {
        let path = many.join(format!("a file with a long name {number:06}"));
        if round == 0 || !path.exists() {
            fs::write(path, number.to_string()).unwrap();
        }
    }
    if round == 2 {
        fs::remove_dir_all(tree.join("d1")).unwrap();
    }
}

/// Makes snapshots and deletes two of them.
fn fill(client: &Client) {
    let tree = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for round in 0..4 {
        change(tree.path(), round);
        let snapshot = client.snapshot_create(tree.path(), &[]).unwrap();
        ids.push(snapshot["id"].as_str().unwrap().to_owned());
    }
    let file = tree.path().join("large");
    client.snapshot_create(&file, &[]).unwrap();
    client.snapshot_delete(&ids[0]).unwrap();
    client.snapshot_delete(&ids[2]).unwrap();
}

/// Returns the live contents that are not manifests.
fn live(client: &Client) -> BTreeSet<String> {
    let rows = client.fresh().unwrap().content_list().unwrap();
    let live = rows.into_iter().filter(|row| !row.deleted);
    let ids = live.map(|row| row.id);
    ids.filter(|id| !id.starts_with('m')).collect()
}

fn judge(kopia: &Kopia, create: &CreateOptions) {
    let dir = tempfile::tempdir().unwrap();
    let client = kopia.create(dir.path(), PASSWORD, create).unwrap();
    fill(&client);
    let copy = tempfile::tempdir().unwrap();
    let data = DataDir::open(dir.path()).unwrap();
    data.copy_to(copy.path()).unwrap();

    let theirs = kopia
        .connect(copy.path(), PASSWORD, kopia::IDENTITY)
        .unwrap();
    theirs.maintenance_run_unsafe().unwrap();
    let now = SystemTime::now().into();
    let repository = open(dir.path(), PASSWORD, now).unwrap();
    let report = collect(&repository, &Bench::new(), &Safety::none()).unwrap();
    assert!(report.tombstones > 10, "{kopia}");
    let info = theirs.fresh().unwrap().maintenance_info().unwrap();
    let told = &info["schedule"]["runs"]["snapshot-gc"][0]["extra"][0]["data"];
    if told.is_object() {
        let mut ours = serde_json::to_value(report.stats).unwrap();
        // Kopia's own run has written manifests, ours has not.
        for field in ["inUseSystemContentCount", "inUseSystemContentSize"] {
            ours[field] = told[field].clone();
        }
        assert_eq!(&ours, told, "{kopia}");
    }
    assert_eq!(live(&client), live(&theirs), "{kopia}");
    let client = client.fresh().unwrap();
    client
        .run(&["content", "verify", "--full", "--include-deleted"])
        .unwrap();
    client
        .run(&["snapshot", "verify", "--verify-files-percent=100"])
        .unwrap();
    // Nothing is left to do, and Kopia agrees.
    let again = collect(&repository, &Bench::new(), &Safety::none()).unwrap();
    assert_eq!(
        (again.tombstones, again.stats.recovered_content_count),
        (0, 0)
    );
    client.fresh().unwrap().maintenance_run_unsafe().unwrap();
    assert_eq!(live(&client), live(&theirs), "{kopia}");
}

#[test]
fn every_kopia_collects_what_we_collect() {
    for kopia in kopia::binaries() {
        let create = CreateOptions {
            splitter: "FIXED-128K".to_owned(),
            ..CreateOptions::default()
        };
        judge(kopia, &create);
    }
}

#[test]
fn other_formats_as_well() {
    let Some(kopia) = kopia::newest() else { return };
    let legacy = CreateOptions {
        format_version: 1,
        ..CreateOptions::default()
    };
    judge(kopia, &legacy);
    let other = CreateOptions {
        encryption: "CHACHA20-POLY1305-HMAC-SHA256".to_owned(),
        hash: "BLAKE3-256".to_owned(),
        ecc_percent: 10,
        splitter: "DYNAMIC-128K-BUZHASH".to_owned(),
        ..CreateOptions::default()
    };
    judge(kopia, &other);
}

/// Compressors of each family that Kopia has; 0.23 knows the last one no more.
const COMPRESSORS: [&str; 9] = [
    "gzip-best-speed",
    "pgzip",
    "deflate-default",
    "zstd-better-compression",
    "s2-default",
    "s2-better",
    "s2-parallel-4",
    "none",
    "lz4",
];

/// Goal: directories and indirect objects are read however a policy has them compressed, and all
/// contents are what their IDs say; method: a snapshot for each compressor, in one repository.
#[test]
fn metadata_in_every_compression_is_read() {
    let reads_lz4 = |kopia: &&Kopia| !kopia.is_at_least(23);
    let last_with_lz4 = kopia::binaries()
        .iter()
        .rfind(|kopia| reads_lz4(kopia) && kopia.is_at_least(18));
    // Metadata has a compression of its own since 0.18.
    let newest = kopia::newest().filter(|kopia| kopia.is_at_least(18));
    for kopia in [last_with_lz4, newest].into_iter().flatten() {
        let dir = tempfile::tempdir().unwrap();
        let create = CreateOptions {
            splitter: "FIXED-1M".to_owned(),
            ..CreateOptions::default()
        };
        let client = kopia.create(dir.path(), PASSWORD, &create).unwrap();
        let tree = tempfile::tempdir().unwrap();
        let mut snapshots = 0;
        let compressors = COMPRESSORS.iter().enumerate();
        for (round, name) in compressors.filter(|(_, name)| reads_lz4(&kopia) || **name != "lz4") {
            let [metadata, files] =
                ["metadata-compression", "compression"].map(|option| format!("--{option}={name}"));
            let policy = ["policy", "set", "--global", &metadata, &files];
            client.run(&policy).unwrap();
            change(tree.path(), round);
            client.snapshot_create(tree.path(), &[]).unwrap();
            snapshots += 1;
        }
        let repository = open(dir.path(), PASSWORD, SystemTime::now().into()).unwrap();
        let bench = Bench::new();
        let report = collect(&repository, &bench, &Safety::none()).unwrap();
        assert_eq!(report.tombstones, 0, "{kopia}: all is in use");
        let walked = verify_snapshots(&repository, &bench.workspace()).unwrap();
        assert!(walked.found.none(), "{kopia}: {walked}");
        assert_eq!(walked.walked.snapshots, snapshots, "{kopia}");
        let all = ContentOptions {
            percent: 100.0,
            deleted: true,
        };
        let read = verify_contents(&repository, &bench.workspace(), &all).unwrap();
        assert!(read.found.none(), "{kopia}: {read}");
        assert_eq!(read.hashed, read.contents, "{kopia}");
    }
}
