//! Where real Kopia's maintenance is recorded, ours records the same: tasks, outcomes, statistics.
//!
//! The golden descriptions hold what Kopia 0.23.1 wrote into the schedule at `now`; ours runs at
//! the same moment.

use std::collections::BTreeMap;

use careen::clock::Timestamp;
use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::cycle_task::CycleTask;
use careen::maintenance::safety::Safety;
use careen::repository::contents::each_content;
use kit::cycle::{cycle, new_runs, schedule};
use kit::golden::{Golden, NAMES};
use kit::index_work::{Bench, open, open_live};
use serde_json::Value;

use super::effect::{Look, count, in_form_of};

#[test]
fn quick_cycles_are_recorded_as_kopias() {
    let mut compared = 0;
    for name in NAMES {
        let golden = Golden::open(name);
        let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
        let before = schedule(&repository);
        let options = cycle(Mode::Quick, Safety::full(), golden.maintenance_owner());
        let report = Bench::new()
            .cycle(&repository, &options)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let after = schedule(&repository);
        let told = &golden.what_kopia_does("quick")["tasks"];
        assert_eq!(&new_runs(&before, &after), told, "{name}");
        let tasks = told.as_object().unwrap().len();
        assert_eq!(report.tasks.len(), tasks, "{name}");
        assert_eq!(after.next_full, before.next_full, "{name}");
        let hour = golden.now().plus(std::time::Duration::from_secs(3_600));
        assert_eq!(
            after.next_quick, hour,
            "{name}: an interval after the start"
        );
        assert!(after.unknown.is_empty(), "{name}: the lease is given back");
        compared += 1;
    }
    assert_eq!(compared, NAMES.len());
}

/// Sizes of new packs are random, within this.
const PACK_BYTES: i64 = 4096;

/// Written with lz4, which Kopia 0.23.1 cannot read: its full runs fail there. What 0.22.3 did is
/// told for one run.
const LZ4: &str = "lz4-0.22.3";

/// Returns what a Kopia did that could.
pub(crate) fn told<'a>(golden: &'a Golden, run: &str) -> Option<&'a Value> {
    match (golden.name(), run) {
        (LZ4, "full") => Some(&golden.description()["whatKopia0223Does"][run]),
        (LZ4, _) => None,
        _ => Some(golden.what_kopia_does(run)),
    }
}

/// Compares what is recorded of a run that may have deleted packs that it had written itself.
pub(crate) fn assert_tasks(ours: &Value, told: &Value, what: &str) {
    let (mut ours, told) = (ours.clone(), told.clone());
    let kind = "deleteUnreferencedPacksStats";
    let told_stats = &told["full-delete-blobs"][kind];
    let task = ours.get_mut("full-delete-blobs");
    if let Some(stats) = task.and_then(|task| task[kind].as_object_mut()) {
        let slack = PACK_BYTES * stats["deletedPackCount"].as_i64().unwrap();
        for size in ["unreferencedTotalSize", "deletedTotalSize"] {
            let difference = stats[size].as_i64().unwrap() - told_stats[size].as_i64().unwrap();
            assert!(difference.abs() <= slack, "{what}: {size}");
            stats[size] = told_stats[size].clone();
        }
    }
    assert_eq!(ours, told, "{what}");
}

/// Compares the effect of a run.
///
/// GC writes the index of what it brings back before that of what it deletes, Kopia both in one:
/// `split` runs so far have left one index blob more.
pub(crate) fn assert_effect(ours: &Value, told: &Value, split: &mut u64, what: &str) {
    if count(&ours["undeleted"]) > 0 && count(&ours["newlyDeleted"]) > 0 {
        *split += 1;
    }
    for (field, value) in ours.as_object().unwrap() {
        let told = &told[field];
        if field == "indexBlobsAfter" {
            assert_index(value, told, *split, what);
        } else if told.is_u64() {
            assert_eq!(count(value), count(told), "{what}: {field}");
        } else {
            assert_eq!(&in_form_of(told, value), told, "{what}: {field}");
        }
    }
}

fn assert_index(ours: &Value, told: &Value, split: u64, what: &str) {
    for state in ["active", "inactive"] {
        let counts = |index: &Value| -> BTreeMap<String, u64> {
            let all = index[state].as_object().unwrap().iter();
            // The blobs of an index manager from before an upgrade are nobody's any more.
            let all = all.filter(|(epoch, _)| *epoch != "n");
            all.map(|(epoch, blobs)| (epoch.clone(), blobs.as_u64().unwrap()))
                .collect()
        };
        let (mut ours, told) = (counts(ours), counts(told));
        for (epoch, blobs) in &mut ours {
            let more = blobs.saturating_sub(told.get(epoch).copied().unwrap_or(0));
            if epoch.starts_with("xn") && more <= split {
                *blobs -= more;
            }
        }
        assert_eq!(ours, told, "{what}: {state} index blobs");
    }
}

#[test]
fn full_cycles_are_recorded_as_kopias_and_have_its_effect() {
    for (run, safety) in [("full", Safety::full()), ("none", Safety::none())] {
        for name in NAMES {
            let golden = Golden::open(name);
            let what = format!("{name}, safety {run}");
            let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
            let (before, look) = (schedule(&repository), Look::at(&repository));
            let options = cycle(Mode::Full, safety, golden.maintenance_owner());
            let outcome = Bench::new().cycle(&repository, &options);
            outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
            let after = schedule(&repository);
            let Some(told) = told(&golden, run) else {
                continue;
            };
            assert_tasks(&new_runs(&before, &after), &told["tasks"], &what);
            let effect = Look::at(&repository).since(&look);
            assert_effect(&effect, told, &mut 0, &what);
        }
    }
}

/// Goal: without margins what a run deletes is gone after it, however fast the run is; on a clock
/// that stands still, as above, copies of tombstones outlive it. Method: this machine's clock.
#[test]
fn without_margins_nothing_deleted_is_left() {
    for name in ["small-packs", "v1-v0index"] {
        let golden = Golden::open(name);
        let repository = open_live(golden.path(), golden.password()).unwrap();
        let options = cycle(Mode::Full, Safety::none(), golden.maintenance_owner());
        let report = Bench::new().cycle(&repository, &options).unwrap();
        let task = |task| report.tasks.iter().find(|run| run.task == task);
        assert!(task(CycleTask::FullRewriteContents).is_some(), "{name}");
        let (bench, mut deleted) = (Bench::new(), 0);
        each_content(&repository, &bench.workspace(), &mut |row| {
            deleted += u32::from(row.deleted && !row.content.to_string().starts_with('m'));
            true
        })
        .unwrap();
        assert_eq!(deleted, 0, "{name}: {:?}", task(CycleTask::SnapshotGc));
    }
}

/// Four days, a full cycle each: what one run orphans the next deletes, what one tombstones a later
/// one drops.
#[test]
fn four_days_have_kopias_effect() {
    for name in NAMES.into_iter().filter(|name| *name != LZ4) {
        let golden = Golden::open(name);
        let mut split = 0;
        for step in golden.what_kopia_does("daily4").as_array().unwrap() {
            let now = Timestamp::parse(step["now"].as_str().unwrap()).unwrap();
            let what = format!("{name} at {now}");
            let repository = open(golden.path(), golden.password(), now).unwrap();
            let look = Look::at(&repository);
            let options = cycle(Mode::Full, Safety::full(), golden.maintenance_owner());
            let outcome = Bench::new().cycle(&repository, &options);
            outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
            let effect = Look::at(&repository).since(&look);
            assert_effect(&effect, step, &mut split, &what);
        }
    }
}
