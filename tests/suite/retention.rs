//! Snapshots are kept and expired as Kopia does, and what may not be expired is refused.
//!
//! Real Kopia makes snapshots at given times under several policies and says why it keeps each
//! (`snapshot list`); `snapshot expire` finds nothing more. The built-in strategy runs as native
//! code here; a test of the plugin floor compares it with its component.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use careen::clock::Timestamp;
use careen::kopia::source_filter::SourceFilter;
use careen::maintenance::MaintenanceError;
use careen::maintenance::expire_snapshots::{ExpireOptions, ExpirePlan, ExpireRow};
use careen::maintenance::retention::{Decision, Retention, RetentionQuestion, Zone};
use careen::maintenance::strategy::StrategyError;
use careen::repository::snapshot_history::HistoryRow;
use careen::repository::{Repository, RepositoryError};
use careen_guest_sdk::retention as sdk;
use kit::cycle::Expires;
use kit::golden::{DAMAGED, Golden, NAMES};
use kit::index_work::{Bench, open};
use kit::kopia::{self, Client, CreateOptions};
use retention_kopia::{AtWork, Kopia};
use sdk::Retention as _;

/// The built-in strategy as native code.
struct Native(Option<AtWork>);

fn moment(time: Timestamp) -> sdk::Moment {
    sdk::Moment {
        seconds: time.seconds(),
        nanos: time.nanos().rem_euclid(1_000_000_000) as u32,
    }
}

impl Retention for Native {
    fn begin(&mut self, question: &RetentionQuestion) -> Result<(), StrategyError> {
        let policy = &question.policy;
        let question = sdk::Question {
            source: sdk::Source {
                host: question.source.host.clone(),
                user: question.source.user.clone(),
                path: question.source.path.clone(),
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
            zone: Vec::new(),
        };
        self.0 = Some(Kopia.begin(&question).unwrap());
        Ok(())
    }

    fn decide(&mut self, rows: &[HistoryRow]) -> Result<Vec<Decision>, StrategyError> {
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
        let source = self.0.as_mut().unwrap();
        let decided = Kopia.decide(source, &rows).unwrap().into_iter();
        let decision = |sdk::Decision { expire, reason }| Decision { expire, reason };
        Ok(decided.map(decision).collect())
    }

    fn describe(&self) -> String {
        "native".into()
    }
}

fn options(percent_max: u8) -> ExpireOptions {
    ExpireOptions {
        source: SourceFilter::default(),
        zone: Zone::default(),
        percent_max,
    }
}

fn plan(
    repository: &Repository,
    bench: &Bench,
    strategy: &mut dyn Retention,
    percent_max: u8,
) -> Result<ExpirePlan, MaintenanceError> {
    ExpirePlan::make(
        repository,
        &bench.workspace(),
        strategy,
        &options(percent_max),
    )
}

fn rows(plan: &ExpirePlan) -> Vec<ExpireRow> {
    let mut rows = Vec::new();
    plan.each(|row| {
        rows.push(row);
        Ok::<_, RepositoryError>(())
    })
    .unwrap();
    rows
}

/// Goal: an index that hides something stops the expiry, as it stops snapshot GC: a pin or a policy
/// may be among it. Nothing is written.
#[test]
fn an_index_that_hides_something_stops_the_expiry() {
    let golden = Golden::open(DAMAGED);
    for (name, code) in [
        ("intact", None),
        ("half-written-compaction", None),
        ("v0-intact", None),
        ("two-xs-sets-unequal", Some("unequal-index-sets")),
        ("xs-shard-missing-xn-gone", Some("incomplete-index")),
        ("xn-shard-missing", Some("incomplete-index")),
        ("v0-output-and-inputs-missing", Some("lost-compaction")),
    ] {
        let variant = golden.variant(name);
        let before = variant.data().fingerprint().unwrap();
        let repository = open(variant.path(), golden.password(), variant.now()).unwrap();
        let plan = plan(&repository, &Bench::new(), &mut Native(None), 100);
        assert_eq!(plan.err().map(|error| error.code()), code, "{name}");
        assert_eq!(variant.data().fingerprint().unwrap(), before, "{name}");
    }
}

#[test]
fn every_snapshot_is_seen_once_the_newest_of_a_source_first() {
    for name in NAMES {
        let golden = Golden::open(name);
        let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
        for bench in [Bench::new(), Bench::new().tiny()] {
            let plan = plan(&repository, &bench, &mut Native(None), 100).unwrap();
            let rows = rows(&plan);
            let told = golden.state()["snapshots"].as_array().unwrap();
            let mut told: Vec<_> = told.iter().map(|row| row["id"].as_str().unwrap()).collect();
            let mut ids: Vec<_> = rows.iter().map(|row| &*row.id).collect();
            told.sort_unstable();
            ids.sort_unstable();
            assert_eq!(ids, told, "{name}");
            let order = rows
                .iter()
                .map(|row| (&row.source, std::cmp::Reverse(row.start)));
            assert!(order.is_sorted(), "{name}");
        }
    }
}

#[test]
fn what_may_not_be_expired_is_refused_and_nothing_is_written() {
    let golden = Golden::open("velero-0.17.0");
    let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
    let (bench, before) = (Bench::new(), golden.data().list().unwrap());
    let complete: fn(usize, &HistoryRow) -> bool = |_, row| row.is_complete();
    for rule in [complete, |place, _| place > 0] {
        let plan = plan(&repository, &bench, &mut Expires(rule), 100).unwrap();
        assert!(plan.counts.expired > 0);
        let executed = plan.execute(&repository, &bench.workspace(), "u@h");
        assert_eq!(executed.unwrap_err().code(), "plugin-answer-refused");
    }
    assert_eq!(golden.data().list().unwrap(), before);
}

#[test]
fn expired_snapshots_are_gone_and_too_many_are_refused() {
    for name in ["default-0.23.1", "v1-v0index", "chacha-blake3-ecc"] {
        let golden = Golden::open(name);
        let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
        let bench = Bench::new();
        // All but the newest of each source, and what is pinned.
        let older: fn(usize, &HistoryRow) -> bool = |place, row| place > 0 && row.pins.is_empty();
        let first = plan(&repository, &bench, &mut Expires(older), 1).unwrap();
        let refused = first.execute(&repository, &bench.workspace(), "u@h");
        assert_eq!(refused.unwrap_err().code(), "too-many-expired", "{name}");
        let first = plan(&repository, &bench, &mut Expires(older), 100).unwrap();
        let kept: Vec<_> = rows(&first).into_iter().filter(|row| !row.expire).collect();
        let report = first
            .execute(&repository, &bench.workspace(), "u@h")
            .unwrap();
        assert!(report.counts.expired > 0, "{name}");
        assert_eq!(report.written.contents, 1, "{name}");
        let second = plan(&repository, &bench, &mut Expires(|_, _| false), 1).unwrap();
        let left: Vec<_> = rows(&second).into_iter().map(|row| row.id).collect();
        let kept: Vec<_> = kept.into_iter().map(|row| row.id).collect();
        assert_eq!(left, kept, "{name}");
    }
}

/// Snapshots of two sources over three years, dense at the end; every seventh is pinned.
fn fill(client: &Client, source: &Path) {
    let days = [
        0, 0, 0, 1, 1, 2, 5, 8, 9, 15, 30, 31, 44, 61, 91, 150, 366, 400, 731, 1_100,
    ];
    for (number, day) in days.iter().enumerate() {
        let hours = 24 * day + 5 * (number as i64 % 3);
        let start = Timestamp::from_seconds(1_771_590_000 - 3_600 * hours); // 2026-02-20 12:20
        let text = start.to_string();
        let (date, time) = text.split_once('T').unwrap();
        let time = format!("{date} {} UTC", time.trim_end_matches('Z'));
        let mut flags = vec![format!("--start-time={time}"), format!("--end-time={time}")];
        if number % 7 == 3 {
            flags.push("--pin=mine".into());
        }
        let flags: Vec<_> = flags.iter().map(|flag| &**flag).collect();
        let place = source.join(if number % 5 == 4 { "b" } else { "a" });
        client.snapshot_create(&place, &flags).unwrap();
    }
}

/// What Kopia says of each snapshot: the reasons that keep it.
fn kopias_reasons(client: &Client) -> BTreeMap<String, String> {
    let list = client.snapshot_list().unwrap().into_iter();
    let reasons = |row: &serde_json::Value| {
        let list = row["retentionReason"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let texts: Vec<_> = list
            .iter()
            .map(|one| one.as_str().unwrap().to_owned())
            .collect();
        (row["id"].as_str().unwrap().to_owned(), texts.join(", "))
    };
    list.map(|row| reasons(&row)).collect()
}

#[test]
fn kopia_keeps_and_expires_the_same() {
    for kopia in kopia::binaries() {
        let dir = tempfile::tempdir().unwrap();
        let source = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::create_dir(source.path().join(name)).unwrap();
            std::fs::write(source.path().join(name).join("f"), name).unwrap();
        }
        let client = kopia
            .create(dir.path(), "a password", &CreateOptions::default())
            .unwrap();
        // Under no policy, Kopia's own creation of a snapshot would expire others.
        client
            .run(&["policy", "set", "--global", "--keep-latest=1000"])
            .unwrap();
        fill(&client, source.path());
        let keep = |latest: &str, hourly: &str, rest: [&str; 4]| {
            let [daily, weekly, monthly, annual] = rest;
            [
                format!("--keep-latest={latest}"),
                format!("--keep-hourly={hourly}"),
                format!("--keep-daily={daily}"),
                format!("--keep-weekly={weekly}"),
                format!("--keep-monthly={monthly}"),
                format!("--keep-annual={annual}"),
            ]
        };
        let below = source.path().join("b").to_string_lossy().into_owned();
        for (target, flags) in [
            ("--global", keep("inherit", "inherit", ["inherit"; 4])),
            ("--global", keep("2", "3", ["4", "0", "inherit", "2"])),
            ("--global", keep("0", "0", ["0", "20", "12", "0"])),
            (&below, keep("1", "inherit", ["0", "0", "0", "1"])),
            ("--global", keep("0", "0", ["0"; 4])),
            ("--global", keep("1", "0", ["0"; 4])),
        ] {
            let mut command = vec!["policy", "set", target];
            command.extend(flags.iter().map(|flag| &**flag));
            client.run(&command).unwrap();
            let told = kopias_reasons(&client);
            let repository = open(dir.path(), "a password", SystemTime::now().into()).unwrap();
            let plan = plan(&repository, &Bench::new(), &mut Native(None), 100).unwrap();
            let rows = rows(&plan);
            assert_eq!(rows.len(), told.len());
            for row in &rows {
                let pinned = row.reason.starts_with("pinned");
                let given = match row.expire || pinned {
                    true => "",
                    false => &row.reason,
                };
                assert_eq!(given, told[&row.id], "{kopia} {command:?}: {row}");
            }
        }
        let repository = open(dir.path(), "a password", SystemTime::now().into()).unwrap();
        let plan = plan(&repository, &Bench::new(), &mut Native(None), 100).unwrap();
        let kept = rows(&plan).iter().filter(|row| !row.expire).count();
        let report = plan
            .execute(&repository, &Bench::new().workspace(), kopia::IDENTITY)
            .unwrap();
        assert!(report.counts.expired > 5);
        // Ours and Kopia's expiry leave the same; Kopia reads everything that is left.
        let client = client.fresh().unwrap();
        assert_eq!(client.snapshot_list().unwrap().len(), kept);
        client
            .run(&["snapshot", "expire", "--all", "--delete"])
            .unwrap();
        assert_eq!(client.snapshot_list().unwrap().len(), kept);
        client.snapshot_verify().unwrap();
    }
}
