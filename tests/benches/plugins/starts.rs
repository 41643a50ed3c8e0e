//! A start: from the component's file to the first answer, with the machine code in the cache.
//!
//! Memory: a plugin.

use std::time::Duration;

use careen::clock::Timestamp;
use careen::kopia::policy::RetentionPolicy;
use careen::kopia::snapshot_manifest::SnapshotSource;
use careen::maintenance::cycle_plan::Verdict;
use careen::maintenance::cycle_task::Cycle;
use careen::maintenance::retention::{Retention, RetentionQuestion, Zone};
use careen::maintenance::scheduling::{Costs, CycleRow, Scheduling, SchedulingQuestion, TaskRow};
use careen::maintenance::strategy::{EpochRow, Splitting, SplittingQuestion};
use careen::plugin::{PluginOptions, load, load_retention, load_scheduling};

use crate::{Home, STARTS, middle, row};

/// Longest that a start may take.
const TARGET: Duration = Duration::from_millis(5);

pub(crate) fn measure(home: &Home) {
    let splitting = || {
        let mut plugin = load(home.options(PluginOptions::default())).expect("it loads");
        plugin.split(&about_the_index()).expect("it answers");
    };
    let retention = || {
        let options = home.options(PluginOptions::retention());
        let mut plugin = load_retention(options).expect("it loads");
        plugin.begin(&about_a_source()).expect("it begins");
        plugin
            .decide(&crate::rows::snapshots(1))
            .expect("it decides");
    };
    let scheduling = || {
        let options = home.options(PluginOptions::scheduling());
        let mut plugin = load_scheduling(options).expect("it loads");
        plugin.schedule(&about_tasks()).expect("it answers");
    };
    let all: [(&str, &dyn Fn()); 3] = [
        ("splitting", &splitting),
        ("retention", &retention),
        ("scheduling", &scheduling),
    ];
    for (name, start) in all {
        // The first one compiles.
        start();
        let taken = middle(STARTS, start);
        row(
            &format!("start of {name} from the cache, and its first answer"),
            format!("{:.2} ms", taken.as_secs_f64() * 1e3),
            "5 ms",
            taken < TARGET,
        );
    }
}

/// What a splitting strategy is told of an index set.
pub(crate) fn about_the_index() -> SplittingQuestion {
    let row = |epoch| EpochRow {
        epoch,
        blobs: 3,
        bytes: 1 << 30,
        compacted: true,
    };
    SplittingQuestion {
        write_epoch: 20,
        chain_end: 8,
        last_settled: Some(18),
        full_checkpoint_frequency: 7,
        shard_entries_max: 16_000_000,
        epochs: (8..19).map(row).collect(),
    }
}

/// What a retention strategy is told of a source.
pub(crate) fn about_a_source() -> RetentionQuestion {
    RetentionQuestion {
        source: SnapshotSource {
            host: "host".into(),
            user: "user".into(),
            path: "/data".into(),
        },
        policy: RetentionPolicy::DEFAULT,
        now: Timestamp::from_seconds(1_800_000_000),
        zone: Zone::default(),
    }
}

fn about_tasks() -> SchedulingQuestion {
    let row = |task| TaskRow {
        task,
        verdict: Verdict::Runs,
        because: "its time has come".to_owned(),
        until: None,
        last: None,
        cost: None,
    };
    let cycle = |cycle: Cycle| CycleRow {
        cycle,
        because: "it was due".to_owned(),
        tasks: cycle.tasks(true).iter().copied().map(row).collect(),
    };
    SchedulingQuestion {
        now: Timestamp::from_seconds(1_800_000_000),
        zone: Zone::default(),
        asked_for: false,
        cycles: vec![cycle(Cycle::Full), cycle(Cycle::Quick)],
        writers: 0,
        newest_writer: None,
        index_blobs: 100,
        index_bytes: 1 << 30,
        memory_bytes: 64 << 20,
        scratch_bytes: 1 << 36,
        costs: Costs::NotCounted,
    }
}
