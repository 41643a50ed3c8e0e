//! The strategy against cases whose answers Kopia gave, in batches of several sizes; and what it
//! remembers of thousands of snapshots.

use careen_guest_sdk::retention::{Moment, Source};

use super::*;

/// `2026-01-05T10:00` or `incomplete 2026-…`, always UTC.
fn row(text: &str) -> SnapshotRow {
    let (incomplete, time) = match text.strip_prefix("incomplete ") {
        Some(time) => ("checkpoint", time),
        None => ("", text),
    };
    let number = |range: std::ops::Range<usize>| time[range].parse::<i64>().unwrap();
    let date = Date {
        year: number(0..4).into(),
        month: number(5..7).into(),
        day: number(8..10).into(),
    };
    let days = calendar::tests::day_number_of(date);
    let moment = Moment {
        seconds: days as i64 * 86_400 + number(11..13) * 3_600 + number(14..16) * 60,
        nanos: 0,
    };
    SnapshotRow {
        id: text.into(),
        start: moment,
        end: moment,
        incomplete_reason: incomplete.into(),
        pins: Vec::new(),
        tags: Vec::new(),
        size: None,
    }
}

/// A policy of latest, hourly, daily, weekly, monthly, annual.
fn policy(keep: [Option<i64>; 6]) -> Policy {
    Policy {
        keep_latest: keep[0],
        keep_hourly: keep[1],
        keep_daily: keep[2],
        keep_weekly: keep[3],
        keep_monthly: keep[4],
        keep_annual: keep[5],
        ignore_identical_snapshots: None,
    }
}

fn begin(policy: Policy) -> AtWork {
    let moment = Moment {
        seconds: 0,
        nanos: 0,
    };
    let question = Question {
        source: Source {
            host: "h".into(),
            user: "u".into(),
            path: "/".into(),
        },
        policy,
        now: moment,
        offset_seconds: 0,
        zone: Vec::new(),
    };
    Kopia.begin(&question).unwrap()
}

/// Checks the reasons of snapshots, newest first; `-` is an expired one.
fn check(keep: [Option<i64>; 6], told: &[(&str, &str)]) {
    let rows: Vec<_> = told.iter().map(|(time, _)| row(time)).collect();
    // Whatever the batches are.
    for batch in [1, 2, 1_000] {
        let mut source = begin(policy(keep));
        let answers: Vec<_> = rows
            .chunks(batch)
            .flat_map(|rows| Kopia.decide(&mut source, rows).unwrap())
            .collect();
        for ((time, reason), answer) in told.iter().zip(&answers) {
            let given = if answer.expire { "-" } else { &answer.reason };
            assert_eq!(given, *reason, "{time}");
        }
    }
}

const NONE: [Option<i64>; 6] = [None; 6];

#[test]
fn a_policy_that_keeps_nothing_keeps_all() {
    let told = [
        ("2020-01-01T12:03", "latest-1"),
        ("2020-01-01T12:02", "latest-2"),
        ("2020-01-01T12:01", "latest-3"),
    ];
    check(NONE, &told);
    check([Some(0); 6], &told);
}

#[test]
fn periods_are_counted_back_from_the_newest() {
    check(
        [None, None, Some(3), None, None, None],
        &[
            ("2020-01-04T15:00", "daily-1"),
            ("2020-01-04T12:00", "-"),
            ("2020-01-03T15:00", "daily-2"),
            ("2020-01-02T15:00", "daily-3"),
            ("2020-01-02T12:00", "-"),
            ("2020-01-01T15:00", "-"),
        ],
    );
    // No snapshot in February, and January is too long ago.
    check(
        [None, None, None, None, Some(3), None],
        &[
            ("2020-04-02T15:00", "monthly-1"),
            ("2020-04-01T12:00", "-"),
            ("2020-03-02T15:00", "monthly-2"),
            ("2020-01-01T15:00", "-"),
        ],
    );
    check(
        [None, None, None, Some(3), None, None],
        &[
            ("2020-01-15T12:00", "weekly-1"),
            ("2020-01-09T12:00", "weekly-2"),
            ("2020-01-08T12:00", "-"),
            ("2020-01-01T15:00", "weekly-3"),
            ("2020-01-01T12:00", "-"),
        ],
    );
}

#[test]
fn reasons_are_in_kopias_order_and_old_incomplete_ones_go() {
    check(
        [Some(3), Some(7), Some(5), None, Some(2), None],
        &[
            ("incomplete 2020-04-02T23:50", "incomplete"),
            ("incomplete 2020-04-02T21:01", "incomplete"),
            ("incomplete 2020-04-02T20:01", "incomplete"),
            ("incomplete 2020-04-02T19:55", "incomplete"),
            ("incomplete 2020-04-02T19:50", "-"),
            ("2020-04-02T15:00", "latest-1, hourly-1, daily-1, monthly-1"),
            ("2020-04-02T13:00", "latest-2, hourly-2"),
            ("2020-04-02T12:00", "latest-3, hourly-3"),
            ("2020-04-01T15:00", "daily-2"),
            ("2020-04-01T14:00", "-"),
            ("incomplete 2020-04-01T13:00", "-"),
            ("2020-03-02T15:00", "monthly-2"),
            ("2020-03-02T13:00", "-"),
        ],
    );
}

#[test]
fn of_incomplete_ones_three_are_kept_whatever_their_age() {
    check(
        [Some(3), None, None, None, None, None],
        &[
            ("incomplete 2020-04-02T23:50", "incomplete"),
            ("incomplete 2020-04-02T19:01", "incomplete"),
            ("incomplete 2020-04-02T18:01", "incomplete"),
            ("incomplete 2020-04-02T17:01", "-"),
            ("2020-04-02T15:00", "latest-1"),
        ],
    );
}

#[test]
fn a_week_and_a_month_with_one_name_count_once() {
    // February 2026 has the name of week 2 of 2026.
    check(
        [None, None, None, Some(20), Some(12), None],
        &[
            ("2026-02-20T12:00", "weekly-1, monthly-1"),
            ("2026-01-07T12:00", "monthly-2"),
            ("2025-12-31T12:00", "monthly-3"),
        ],
    );
}

#[test]
fn velero_keeps_all() {
    const MOST: Option<i64> = Some(i32::MAX as i64);
    let mut source = begin(policy([MOST; 6]));
    let rows: Vec<_> = (0..3_000).map(|_| row("2026-02-20T12:00")).collect();
    let answers = Kopia.decide(&mut source, &rows).unwrap();
    let place = answers.iter().position(|answer| answer.expire);
    assert_eq!(
        place,
        Some(2_026),
        "the snapshot that the year has a name with"
    );
    assert_eq!(answers[1].reason, "latest-2");
    assert_eq!(answers[2_999].reason, "latest-2999");
    assert!(source.periods.names.len() < 2_300);
}

#[test]
fn a_pin_keeps() {
    let mut source = begin(policy([Some(1), None, None, None, None, None]));
    let mut pinned = row("2026-02-19T12:00");
    pinned.pins = vec!["velero-pin".into(), "mine".into()];
    let answers = Kopia.decide(&mut source, &[row("2026-02-20T12:00"), pinned]);
    assert_eq!(
        answers.unwrap()[1],
        Decision::keep("pinned: velero-pin, mine")
    );
}
