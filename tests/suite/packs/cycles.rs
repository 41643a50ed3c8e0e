//! Whole full cycles, with and without margins, leave in the schedule what Kopia's leave, and the
//! same contents.
//!
//! Every golden repository with epochs whose full run Kopia ends. The statistics of all tasks are
//! compared, so that an effect that differs anywhere shows. Sizes of packs that were made in the
//! run itself are left out: padding is random.

use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::safety::Safety;
use kit::cycle::{cycle, new_runs, schedule};
use kit::golden::{Golden, NAMES};
use kit::index_work::{Bench, open};
use serde_json::Value;

use super::contents;

fn compare(name: &str, which: &str, safety: Safety) {
    let golden = Golden::open(name);
    let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
    if !repository.format.epochs.enabled {
        return;
    }
    let before = schedule(&repository);
    let options = cycle(Mode::Full, safety, golden.maintenance_owner());
    let bench = Bench::new();
    bench
        .cycle(&repository, &options)
        .unwrap_or_else(|error| panic!("{name} {which}: {error}"));
    let mut ours = new_runs(&before, &schedule(&repository));
    let mut told = golden.what_kopia_does(which)["tasks"].clone();
    for tasks in [&mut ours, &mut told] {
        let stats = &mut tasks["full-delete-blobs"]["deleteUnreferencedPacksStats"];
        for size in ["unreferencedTotalSize", "deletedTotalSize"] {
            if !stats.is_null() {
                stats[size] = Value::Null;
            }
        }
    }
    assert_eq!(ours, told, "{name} {which}");
    let after = contents(&repository, &bench.workspace());
    let told = &golden.what_kopia_does(which)["contentsAfter"];
    let deleted = after.values().filter(|row| row.deleted).count();
    assert_eq!(told["deleted"], deleted, "{name} {which}");
    assert_eq!(told["live"], after.len() - deleted, "{name} {which}");
}

#[test]
fn with_margins() {
    for name in NAMES.iter().filter(|name| **name != "lz4-0.22.3") {
        compare(name, "full", Safety::full());
    }
}

#[test]
fn without_margins() {
    for name in NAMES.iter().filter(|name| **name != "lz4-0.22.3") {
        compare(name, "none", Safety::none());
    }
}
