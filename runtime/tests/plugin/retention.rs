//! The built-in retention plugin: the component answers as its native code; an instance lives for
//! one source; failures are named and leave nothing behind.

use std::collections::BTreeMap;

use careen::clock::Timestamp;
use careen::kopia::policy::RetentionPolicy;
use careen::kopia::snapshot_manifest::SnapshotSource;
use careen::maintenance::retention::{Retention, RetentionQuestion, Zone};
use careen::plugin::{PluginOptions, PluginSource, RetentionPlugin, load_retention};
use careen::repository::snapshot_history::HistoryRow;
use careen_guest_sdk::retention as sdk;
use retention_kopia::Kopia;

use super::component::splitting;

fn load(change: impl FnOnce(&mut PluginOptions)) -> RetentionPlugin {
    let mut options = super::options(PluginSource::BuiltinRetention);
    change(&mut options);
    load_retention(options).unwrap()
}

fn question() -> RetentionQuestion {
    RetentionQuestion {
        source: SnapshotSource {
            host: "h".into(),
            user: "u".into(),
            path: "/a".into(),
        },
        policy: RetentionPolicy {
            keep_latest: Some(20),
            ..RetentionPolicy::DEFAULT
        },
        now: Timestamp::from_seconds(1_800_000_000),
        zone: Zone {
            offset_seconds: 3_600,
            changes: vec![(1_750_000_000, 7_200), (1_780_000_000, 3_600)],
        },
    }
}

/// Snapshots every 11 hours.
fn rows(count: i64) -> Vec<HistoryRow> {
    let row = |number: i64| HistoryRow {
        id: format!("id{number}"),
        source: question().source,
        start: Timestamp::from_seconds(1_790_000_000 - number * 39_600),
        end: Timestamp::from_seconds(1_790_000_060 - number * 39_600),
        modified: Timestamp::from_seconds(1_790_000_060),
        incomplete_reason: if number % 9 < 2 { "checkpoint" } else { "" }.into(),
        pins: (number % 50 == 7)
            .then(|| "mine".to_owned())
            .into_iter()
            .collect(),
        tags: BTreeMap::from([("tag:a".to_owned(), number.to_string())]),
        size_bytes: Some(1 << 40),
    };
    (0..count).map(row).collect()
}

/// The native answers, as pairs.
fn native(rows: &[HistoryRow]) -> Vec<(bool, String)> {
    let question = question();
    let moment = |time: Timestamp| sdk::Moment {
        seconds: time.seconds(),
        nanos: 0,
    };
    let policy = &question.policy;
    let change = |(at_seconds, offset_seconds): &(i64, i32)| sdk::ZoneChange {
        at_seconds: *at_seconds,
        offset_seconds: *offset_seconds,
    };
    let mut strategy = <Kopia as sdk::Retention>::begin(&sdk::Question {
        source: sdk::Source {
            host: "h".into(),
            user: "u".into(),
            path: "/a".into(),
        },
        policy: sdk::Policy {
            keep_latest: policy.keep_latest,
            keep_hourly: policy.keep_hourly,
            keep_daily: policy.keep_daily,
            keep_weekly: policy.keep_weekly,
            keep_monthly: policy.keep_monthly,
            keep_annual: policy.keep_annual,
            ignore_identical_snapshots: policy.ignore_identical_snapshots,
        },
        now: moment(question.now),
        offset_seconds: question.zone.offset_seconds,
        zone: question.zone.changes.iter().map(change).collect(),
    })
    .unwrap();
    let row = |row: &HistoryRow| sdk::SnapshotRow {
        id: row.id.clone(),
        start: moment(row.start),
        end: moment(row.end),
        incomplete_reason: row.incomplete_reason.clone(),
        pins: row.pins.clone(),
        tags: Vec::new(),
        size: row.size_bytes,
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    let decided = sdk::Retention::decide(&mut strategy, &rows).unwrap();
    decided
        .into_iter()
        .map(|decision| (decision.expire, decision.reason))
        .collect()
}

#[test]
fn the_component_answers_as_its_native_code_in_batches() {
    let mut plugin = load(|_| ());
    let rows = rows(3_000);
    let expected = native(&rows);
    assert!(expected.iter().any(|(expire, _)| *expire));
    for batch in [1_000, 77] {
        plugin.begin(&question()).unwrap();
        let mut answers = Vec::new();
        for rows in rows.chunks(batch) {
            let decided = plugin.decide(rows).unwrap().into_iter();
            answers.extend(decided.map(|decision| (decision.expire, decision.reason)));
        }
        assert_eq!(answers, expected, "batches of {batch}");
    }
}

#[test]
fn limits_end_the_plugin_by_name_and_a_new_source_begins_afresh() {
    let mut starved = load(|options| options.fuel = 60_000);
    starved.begin(&question()).unwrap();
    let error = starved.decide(&rows(1_000)).unwrap_err();
    assert_eq!(error.code(), "plugin-fuel", "{error}");
    assert!(
        error.to_string().contains("retention-kopia (blake3 "),
        "{error}"
    );
    assert!(starved.decide(&rows(1)).is_err(), "the source is lost");
    starved.begin(&question()).unwrap();
    assert_eq!(starved.decide(&rows(1)).unwrap().len(), 1);
    let mut small = load(|options| options.memory_bytes = 64 << 10);
    assert_eq!(
        small.begin(&question()).unwrap_err().code(),
        "plugin-memory"
    );
}

#[test]
fn a_plugin_of_another_strategy_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("guest.wasm");
    std::fs::write(&path, splitting("unreachable")).unwrap();
    let options = super::options(PluginSource::File { path, blake3: None });
    let error = load_retention(options).err().unwrap();
    assert_eq!(error.code(), "plugin-world", "{error}");
}
