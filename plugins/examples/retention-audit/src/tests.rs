//! What is kept for audits, beside what the policy keeps: which snapshots are audited, which are a
//! month's last, and for how long.

use careen_guest_sdk::kit;
use careen_guest_sdk::retention::{Moment, Tag};

use super::*;

/// A snapshot that began at noon of a day.
fn row(year: i64, month: i64, day: i64, tag: Option<&str>) -> SnapshotRow {
    let moment = |seconds| Moment { seconds, nanos: 0 };
    let start = kit::at(year, month, day, 12, 0);
    let tag_of = |key: &str| Tag {
        key: key.into(),
        value: String::new(),
    };
    SnapshotRow {
        id: format!("{year}-{month}-{day}"),
        start: moment(start),
        end: moment(start + 60),
        incomplete_reason: String::new(),
        pins: Vec::new(),
        tags: tag.map(tag_of).into_iter().collect(),
        size: None,
    }
}

/// The reasons of snapshots by a policy of the two latest; `-` is an expired one.
fn decide(json: &str, rows: &[SnapshotRow], offset_seconds: i32) -> Vec<String> {
    let mut source = kit::source();
    source.question.policy = careen_guest_sdk::retention::Policy {
        keep_latest: Some(2),
        keep_hourly: None,
        keep_daily: None,
        keep_weekly: None,
        keep_monthly: None,
        keep_annual: None,
        ignore_identical_snapshots: None,
    };
    source.question.offset_seconds = offset_seconds;
    source.question.zone = Vec::new();
    source.snapshots = rows.to_vec();
    let strategy = Audit::configure(json).unwrap();
    let decisions = kit::retain(&strategy, &source).unwrap();
    let told = |decision: Decision| match decision.expire {
        true => "-".to_owned(),
        false => decision.reason,
    };
    decisions.into_iter().map(told).collect()
}

#[test]
fn the_last_of_each_month_is_kept_for_seven_years() {
    let audit = Some("tag:audit");
    let rows = [
        row(2026, 11, 23, audit),
        row(2026, 11, 20, audit),
        row(2026, 11, 1, audit),
        row(2026, 10, 31, audit),
        row(2026, 10, 30, audit),
        row(2020, 1, 5, audit),
        row(2019, 11, 25, audit),
        row(2019, 10, 25, audit),
    ];
    let wanted = [
        "latest-1, audit: last of 2026-11",
        "latest-2",
        "-",
        "audit: last of 2026-10",
        "-",
        "audit: last of 2020-01",
        "audit: last of 2019-11",
        "-",
    ];
    assert_eq!(decide("{}", &rows, 0), wanted);
    let short = decide(r#"{ "years": 1 }"#, &rows, 0);
    assert_eq!(short[5..], ["-", "-", "-"]);
}

#[test]
fn the_newest_snapshot_speaks_for_its_source() {
    let rows = |newest, older| {
        [
            row(2026, 11, 23, newest),
            row(2026, 11, 22, None),
            row(2026, 9, 22, older),
            row(2026, 8, 22, None),
        ]
    };
    let all = decide("{}", &rows(Some("audit"), None), 0);
    assert_eq!(
        all[2..],
        ["audit: last of 2026-09", "audit: last of 2026-08"]
    );
    let one = decide("{}", &rows(None, Some("audit")), 0);
    assert_eq!(one[2..], ["audit: last of 2026-09", "-"]);
    let none = decide("{}", &rows(Some("other"), None), 0);
    assert_eq!(none, ["latest-1", "latest-2", "-", "-"]);
    let other = decide(r#"{ "tag": "other" }"#, &rows(Some("other"), None), 0);
    assert_eq!(other[3], "audit: last of 2026-08");
}

#[test]
fn months_are_those_of_local_time() {
    let audit = Some("audit");
    let rows = [
        row(2026, 11, 23, audit),
        row(2026, 11, 22, audit),
        row(2026, 11, 1, audit),
    ];
    // Noon of the first is still October, where clocks are thirteen hours behind.
    let told = decide("{}", &rows, -13 * 3_600);
    assert_eq!(told[2], "audit: last of 2026-10");
}

#[test]
fn what_is_incomplete_is_left_to_kopia() {
    let audit = Some("audit");
    let mut rows = vec![row(2026, 11, 23, audit), row(2026, 11, 22, audit)];
    for day in 1..9 {
        let mut incomplete = row(2026, 10, 20 - day, audit);
        incomplete.incomplete_reason = "canceled".into();
        rows.push(incomplete);
    }
    let told = decide("{}", &rows, 0);
    assert!(told[2..].iter().all(|reason| reason == "-"), "{told:?}");
}
