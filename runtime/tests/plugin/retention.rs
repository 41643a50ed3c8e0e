//! The built-in retention plugin: the component answers as its native code; an instance lives for
//! one source; failures are named and leave nothing behind. Hostile guests are ended by the limit
//! that they attack; what the limits let through is refused by the host's check.

use std::collections::BTreeMap;

use careen::clock::Timestamp;
use careen::kopia::policy::RetentionPolicy;
use careen::kopia::snapshot_manifest::SnapshotSource;
use careen::maintenance::retention::{Retention, RetentionGuard, RetentionQuestion, Zone};
use careen::plugin::{PluginOptions, PluginSource, RetentionPlugin, load_retention};
use careen::repository::snapshot_history::HistoryRow;
use careen_guest_sdk::retention as sdk;
use retention_kopia::Kopia;

use super::component::splitting;
use super::world::retaining;
use guests::answers::{AT, DECISION, YES, decides, says, stores};

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
    let mut source = sdk::Retention::begin(
        &Kopia,
        &sdk::Question {
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
        },
    )
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
    let decided = sdk::Retention::decide(&Kopia, &mut source, &rows).unwrap();
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
    let mut starved = load(|options| options.limits.fuel = 60_000);
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
    // It describes itself when it is loaded, and cannot even do that.
    let mut small = super::options(PluginSource::BuiltinRetention);
    small.limits.memory_bytes = 64 << 10;
    let error = load_retention(small).err().unwrap();
    assert_eq!(error.code(), "plugin-memory", "{error}");
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

/// Loads a guest with these bodies of `begin` and `decide`.
fn guest(fields: &str, begin: &str, decide: &str) -> RetentionPlugin {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("guest.wasm");
    std::fs::write(&path, retaining(fields, begin, decide)).unwrap();
    let mut options = super::options(PluginSource::File { path, blake3: None });
    options.limits.fuel = 20_000_000;
    load_retention(options).unwrap()
}

#[test]
fn an_honest_guest_is_answered_and_cannot_steer_a_terminal() {
    let mut plugin = guest(DECISION, YES, &decides(2_048, 1));
    for _ in 0..2 {
        plugin.begin(&question()).unwrap();
        for _ in 0..2 {
            let decisions = plugin.decide(&rows(1)).unwrap();
            assert_eq!(decisions.len(), 1);
            assert!(decisions[0].expire);
            assert_eq!(decisions[0].reason, "old [2J");
        }
    }
}

/// Goal: whatever a guest does in either function, the host ends it, forgets the source, and can
/// begin again; method: every attack twice.
#[test]
fn hostile_guests_are_ended_and_their_source_is_lost() {
    let grow = "(drop (memory.grow (i32.const 100)))";
    let attacks = [
        ("(loop (br 0)) (i32.const 0)".to_owned(), "plugin-fuel"),
        ("unreachable".to_owned(), "plugin-trap"),
        (
            format!("(loop {grow} (br 0)) (i32.const 0)"),
            "plugin-memory",
        ),
        ("(i32.const -8)".to_owned(), "plugin-data"),
        ("(i32.const 6)".to_owned(), "plugin-data"),
        (stores(&[(AT, 3)]) + " (i32.const 1024)", "plugin-data"),
        (
            "(loop (call $log (i32.const 1) (i32.const 0) (i32.const 9)) (br 0)) (i32.const 0)"
                .to_owned(),
            "plugin-data",
        ),
        (says(7), "plugin-error"),
        (says(u32::MAX), "plugin-data"),
    ];
    for (body, code) in &attacks {
        let mut plugin = guest(DECISION, body, &decides(2_048, 1));
        for _ in 0..2 {
            let error = plugin.begin(&question()).unwrap_err();
            assert_eq!(error.code(), *code, "begin {body}: {error}");
            assert!(plugin.decide(&rows(1)).is_err(), "begin {body}");
        }
    }
    let lies = [
        (decides(2_048, 500_000_000), "plugin-data"),
        (decides(2_049, 1), "plugin-data"),
        (decides(u32::MAX - 3, 1), "plugin-data"),
        (
            stores(&[(2_052, 3_200), (2_056, 2)]) + &decides(2_048, 1),
            "plugin-data",
        ),
        (
            stores(&[(2_052, 0), (2_056, u32::MAX)]) + &decides(2_048, 1),
            "plugin-data",
        ),
    ];
    for (body, code) in attacks.iter().chain(&lies) {
        let mut plugin = guest(DECISION, YES, body);
        for _ in 0..2 {
            plugin.begin(&question()).unwrap();
            let error = plugin.decide(&rows(3)).unwrap_err();
            assert_eq!(error.code(), *code, "decide {body}: {error}");
            assert!(error.to_string().contains("guest (blake3 "), "{error}");
            assert!(plugin.decide(&rows(1)).is_err(), "decide {body}");
        }
    }
}

#[test]
fn reasons_that_share_their_bytes_count_each_time() {
    // 1,000 decisions whose reasons are the same 100,000 bytes.
    let fill = "(local $at i32) (local.set $at (i32.const 1048576)) (loop \
        (i32.store offset=4 (local.get $at) (i32.const 1200000)) \
        (i32.store offset=8 (local.get $at) (i32.const 100000)) \
        (local.set $at (i32.add (local.get $at) (i32.const 12))) \
        (br_if 0 (i32.lt_u (local.get $at) (i32.const 1060576))))";
    let mut plugin = guest("", YES, &format!("{fill} {}", decides(1 << 20, 1_000)));
    plugin.begin(&question()).unwrap();
    let error = plugin.decide(&rows(1_000)).unwrap_err();
    assert_eq!(error.code(), "plugin-data", "{error}");
    assert!(error.to_string().contains("too much data"), "{error}");
}

/// Goal: decisions of the wrong number, and reasons that are too long, end at the host's check.
#[test]
fn nonsense_is_refused_by_the_check() {
    for (body, words) in [
        (decides(2_048, 0), "0 decisions about 1 snapshots"),
        (decides(1 << 20, 70_000), "70000 decisions"),
        (
            stores(&[(2_052, 1 << 20), (2_056, 1_001)]) + &decides(2_048, 1),
            "a reason of more than",
        ),
    ] {
        let mut plugin = guest(DECISION, YES, &body);
        plugin.begin(&question()).unwrap();
        let decisions = plugin.decide(&rows(1)).unwrap();
        let refused = RetentionGuard::check_batch(&rows(1), &decisions).unwrap_err();
        assert!(refused.contains(words), "{words}: {refused}");
    }
}

/// Goal: what is kept from one source does not reach the next; method: a guest that remembers.
#[test]
fn a_source_meets_a_fresh_instance() {
    let begin = format!("(if (i32.load (i32.const 8)) (then unreachable)) {YES}");
    let decide = format!(
        "(i32.store (i32.const 8) (i32.const 1)) {}",
        decides(2_048, 1)
    );
    let mut plugin = guest(DECISION, &begin, &decide);
    for _ in 0..3 {
        plugin.begin(&question()).unwrap();
        assert_eq!(plugin.decide(&rows(1)).unwrap().len(), 1);
    }
}
