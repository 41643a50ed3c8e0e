//! The example plugins as components, in four languages: each loads within its limits, says what it
//! is, takes its configuration, and answers as its source does in its native tests.
//!
//! Components that are too large to be checked in are tested where `CAREEN_GUESTS_BUILT` names the
//! directory that they were built in.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use careen::clock::Timestamp;
use careen::kopia::policy::RetentionPolicy;
use careen::kopia::snapshot_manifest::SnapshotSource;
use careen::maintenance::retention::{Retention, RetentionQuestion, Zone};
use careen::maintenance::scheduling::{Costs, Scheduling, SchedulingAnswer, SchedulingQuestion};
use careen::maintenance::strategy::{Owner, PackRow, RepackQuestion, Splitting, TaggedSource};
use careen::maintenance::task_costs::TaskCost;
use careen::plugin::{
    Configuration, PluginOptions, PluginSource, RetentionPlugin, load, load_retention,
    load_scheduling,
};
use careen::repository::snapshot_history::HistoryRow;
use careen_guest_sdk::kit;
use serde_json::Value;

const DAY: i64 = 24 * 3_600;

/// The components that are checked in.
const BUILT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/examples/built");

/// A component: as it is checked in, and as CI built it just now; none where it is not here.
fn components(name: &str) -> Vec<PathBuf> {
    let file = format!("{name}.wasm");
    let here = Path::new(BUILT).join(&file);
    let built = std::env::var_os("CAREEN_GUESTS_BUILT");
    let built = built.map(|directory| Path::new(&directory).join(&file));
    let places = [Some(here), built].into_iter().flatten();
    let found: Vec<_> = places.filter(|path| path.is_file()).collect();
    if found.is_empty() {
        // A test without a standard error has nobody to tell.
        let _ = writeln!(
            std::io::stderr(),
            "{name} is not built here, and was not tested"
        );
    }
    found
}

/// Options with a configuration, and the memory that the component's language needs.
fn configured(path: PathBuf, configuration: &Value) -> PluginOptions {
    let mut options = super::options(PluginSource::File { path, blake3: None });
    let text = configuration.to_string();
    options.configuration = Some(Configuration::parse(&text).unwrap());
    options
}

fn checked_in(name: &str, configuration: &str) -> PluginOptions {
    let path = Path::new(BUILT).join(format!("{name}.wasm"));
    configured(path, &serde_json::from_str(configuration).unwrap())
}

fn retention_question(now_seconds: i64, keep_latest: Option<i64>) -> RetentionQuestion {
    RetentionQuestion {
        source: SnapshotSource {
            host: "host".into(),
            user: "user".into(),
            path: "/home".into(),
        },
        policy: RetentionPolicy {
            keep_latest,
            keep_hourly: None,
            keep_daily: None,
            keep_weekly: None,
            keep_monthly: None,
            keep_annual: None,
            ..RetentionPolicy::DEFAULT
        },
        now: Timestamp::from_seconds(now_seconds),
        zone: Zone::default(),
    }
}

fn snapshot(start_seconds: i64, tags: &[(String, String)]) -> HistoryRow {
    HistoryRow {
        id: format!("id{start_seconds}"),
        source: retention_question(0, None).source,
        start: Timestamp::from_seconds(start_seconds),
        end: Timestamp::from_seconds(start_seconds + 60),
        modified: Timestamp::from_seconds(start_seconds + 60),
        incomplete_reason: String::new(),
        pins: Vec::new(),
        tags: tags.iter().cloned().collect::<BTreeMap<_, _>>(),
        size_bytes: Some(1 << 30),
    }
}

/// What a plugin decides, as pairs.
fn decide(
    plugin: &mut RetentionPlugin,
    question: &RetentionQuestion,
    rows: &[HistoryRow],
) -> Vec<(bool, String)> {
    plugin.begin(question).unwrap();
    // In two batches: what is known of the source must last from one to the next.
    let (first, second) = rows.split_at(rows.len() / 2);
    let mut decisions = plugin.decide(first).unwrap();
    decisions.extend(plugin.decide(second).unwrap());
    let pairs = decisions.into_iter();
    pairs.map(|one| (one.expire, one.reason)).collect()
}

/// A snapshot of the cases that all languages share.
fn snapshot_of_case(row: &Value, now_seconds: i64) -> HistoryRow {
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let tags = ["customer", "tenant"].map(|key| (format!("tag:{key}"), text(key)));
    let tags: Vec<_> = tags
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let mut snapshot = snapshot(now_seconds - row["age"].as_i64().unwrap() * DAY, &tags);
    snapshot.incomplete_reason = text("incomplete");
    snapshot.pins = row["pin"].as_str().map(str::to_owned).into_iter().collect();
    snapshot
}

/// Goal: Python and JavaScript decide as their sources; method: the cases of their native tests.
#[test]
fn tenants_are_decided_alike_in_every_language() {
    let cases = Path::new(BUILT).join("../tenants/cases.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(cases).unwrap()).unwrap();
    let question = retention_question(20_000 * DAY, None);
    for (name, memory_bytes) in [
        ("tenants-javascript", 4 << 20),
        ("tenants-python", 16 << 20),
    ] {
        for path in components(name) {
            for case in cases.as_array().unwrap() {
                let mut options = configured(path.clone(), &case["configuration"]);
                options.limits.memory_bytes = memory_bytes;
                check_case(&mut load_retention(options).unwrap(), &question, case, name);
            }
        }
    }
}

fn check_case(
    plugin: &mut RetentionPlugin,
    question: &RetentionQuestion,
    case: &Value,
    name: &str,
) {
    let told = case["snapshots"].as_array().unwrap();
    let now = question.now.seconds();
    let rows: Vec<_> = told.iter().map(|row| snapshot_of_case(row, now)).collect();
    let wanted = told.iter().map(|row| {
        let reason = row["reason"].as_str().unwrap().to_owned();
        (row["expire"].as_bool().unwrap(), reason)
    });
    let wanted: Vec<_> = wanted.collect();
    let found = decide(plugin, question, &rows);
    assert_eq!(found, wanted, "{name}: {}", case["what"]);
}

/// Goal: an error in a runtime's own words reaches the user; method: a tenant too many.
#[test]
fn errors_of_every_language_have_their_words() {
    for (name, memory_bytes) in [
        ("tenants-javascript", 8 << 20),
        ("tenants-python", 24 << 20),
    ] {
        let Some(path) = components(name).pop() else {
            continue;
        };
        let mut options = configured(path, &serde_json::json!({}));
        options.limits.memory_bytes = memory_bytes;
        options.limits.fuel *= 10;
        let mut plugin = load_retention(options).unwrap();
        plugin
            .begin(&retention_question(20_000 * DAY, None))
            .unwrap();
        let rows = |from: i64| {
            let tag = |number: i64| [("tenant".to_owned(), format!("t{number}"))];
            let rows = from..from + 1_000;
            rows.map(|number| snapshot(-number, &tag(number)))
                .collect::<Vec<_>>()
        };
        for batch in 0..10 {
            plugin.decide(&rows(batch * 1_000)).unwrap();
        }
        let error = plugin.decide(&rows(10_000)).unwrap_err().to_string();
        assert!(error.contains("more than 10000 tenants"), "{name}: {error}");
    }
}

#[test]
fn audits_keep_the_last_of_each_month() {
    let options = checked_in("retention-audit", r#"{ "years": 1 }"#);
    let mut plugin = load_retention(options).unwrap();
    let at = |year, month, day| kit::at(year, month, day, 12, 0);
    let audit = [("tag:audit".to_owned(), String::new())];
    let rows = [
        snapshot(at(2026, 11, 23), &audit),
        snapshot(at(2026, 11, 1), &[]),
        snapshot(at(2026, 10, 31), &[]),
        snapshot(at(2026, 10, 1), &[]),
        snapshot(at(2025, 10, 31), &[]),
    ];
    let question = retention_question(kit::NOW, Some(1));
    let told = decide(&mut plugin, &question, &rows);
    let reasons: Vec<_> = told.iter().map(|(_, reason)| reason.as_str()).collect();
    assert_eq!(reasons[0], "latest-1, audit: last of 2026-11");
    assert_eq!(reasons[2], "audit: last of 2026-10");
    let expired: Vec<_> = told.iter().map(|(expired, _)| *expired).collect();
    assert_eq!(expired, [false, true, false, true, true]);
}

fn schedule(options: PluginOptions, question: &SchedulingQuestion) -> SchedulingAnswer {
    let mut plugin = load_scheduling(options).unwrap();
    let answer = plugin.schedule(question).unwrap();
    if answer != SchedulingAnswer::CountCosts {
        answer.check(question).unwrap();
    }
    answer
}

fn at(day: i64, hour: i64) -> SchedulingQuestion {
    SchedulingQuestion {
        now: Timestamp::from_seconds(kit::at(2026, 11, day, hour, 0)),
        zone: Zone::default(),
        writers: 0,
        newest_writer: None,
        ..super::scheduling::question_of_full()
    }
}

/// Goal: window and budget hold; method: each side of the window, and costs that are known.
#[test]
fn the_window_and_its_budget_hold() {
    let weekend = r#"{ "days": ["sat"], "from": "20:00", "to": "04:00", "bytes-per-run": 1000 }"#;
    let options = || checked_in("maintenance-window", weekend);
    let SchedulingAnswer::Wait { not_before, .. } = schedule(options(), &at(24, 21)) else {
        panic!("it waits")
    };
    assert_eq!(not_before.seconds(), kit::at(2026, 11, 28, 20, 0));
    let mut inside = at(29, 3);
    let first = schedule(options(), &inside);
    assert!(matches!(first, SchedulingAnswer::CountCosts), "{first:?}");
    inside.costs = Costs::Counted;
    for row in inside.cycles.iter_mut().flat_map(|cycle| &mut cycle.tasks) {
        row.cost = Some(TaskCost {
            task: row.task,
            read_bytes: 300,
            written_bytes: 100,
            requests: 1,
            scratch_bytes: 0,
            memory_bytes: 0,
        });
    }
    let SchedulingAnswer::Run { tasks, .. } = schedule(options(), &inside) else {
        panic!("it runs")
    };
    let budgets: Vec<_> = tasks.iter().filter_map(|task| task.budget.bytes).collect();
    assert!(budgets.is_sorted_by(|one, next| one >= next), "{budgets:?}");
    let (first, last) = (budgets.first().unwrap(), budgets.last().unwrap());
    assert!(last < first && *first <= 1_000, "{budgets:?}");
}

#[test]
fn nothing_runs_while_a_backup_is_written() {
    let calm = || {
        super::options(PluginSource::File {
            path: Path::new(BUILT).join("calm-c.wasm"),
            blake3: None,
        })
    };
    let mut busy = at(24, 12);
    let now = busy.now.seconds();
    busy.writers = 1;
    busy.newest_writer = Some(Timestamp::from_seconds(now - 600));
    let SchedulingAnswer::Wait { not_before, reason } = schedule(calm(), &busy) else {
        panic!("it waits")
    };
    assert_eq!(not_before.seconds(), now + 1_200);
    assert_eq!(reason, "a backup is being written");
    busy.newest_writer = Some(Timestamp::from_seconds(now - 1_800));
    let SchedulingAnswer::Run { tasks, .. } = schedule(calm(), &busy) else {
        panic!("it runs")
    };
    let names = tasks.iter().map(|choice| choice.name.as_str());
    let wanted = busy.cycles[0].tasks.iter().map(|row| row.task.name());
    assert!(names.eq(wanted));
}

#[test]
fn what_is_not_worth_its_price_is_left() {
    let rewritten = |configuration: &str| {
        let options = checked_in("splitting-by-price", configuration);
        let mut plugin = load(options).unwrap();
        let row = |number: u64| PackRow {
            metadata: number.is_multiple_of(2),
            used_bytes: number * (20 << 10) + 1,
            owner: None,
        };
        let question = RepackQuestion {
            pack_bytes_max: 20 << 20,
            packs: (0..1_000).map(row).collect(),
        };
        let answer = plugin.repack(&question).unwrap();
        answer.check(&question).unwrap();
        answer.groups.iter().filter(|group| **group != 0).count()
    };
    let near = rewritten("{}");
    assert!((400..500).contains(&near), "{near}");
    assert!(rewritten(r#"{ "per-gigabyte-read": 0.03 }"#) < 20);
    assert_eq!(rewritten(r#"{ "horizon-months": 0 }"#), 0);
}

/// Goal: the component says whose snapshots are, and takes packs of several apart.
#[test]
fn tenants_get_packs_of_their_own() {
    let configuration = r#"{
        "tenants": [{ "name": "red", "sources": ["*@*.red.example.org:*"] }],
        "others-by-tag": "ns",
        "mixed-percent": 90
    }"#;
    let mut plugin = load(checked_in("splitting-tenants", configuration)).unwrap();
    assert!(plugin.gives_tenants());
    let snapshot = |host: &str, namespace: &str| TaggedSource {
        source: SnapshotSource {
            host: host.into(),
            user: "root".into(),
            path: "/data".into(),
        },
        tags: [("tag:ns".to_owned(), namespace.to_owned())].into(),
    };
    let rows = [
        snapshot("a.red.example.org", "shop"),
        snapshot("a.blue.example.org", "shop"),
        snapshot("b.blue.example.org", "shop"),
        snapshot("b.blue.example.org", "mail"),
        snapshot("b.red.example.org", "mail"),
    ];
    assert_eq!(plugin.tenants(&rows).unwrap(), [1, 2, 2, 3, 1]);
    plugin.end_tenants();
    let row = |owner, percent: u64| PackRow {
        metadata: false,
        used_bytes: (20 << 20) * percent / 100,
        owner: Some(owner),
    };
    let question = RepackQuestion {
        pack_bytes_max: 20 << 20,
        packs: vec![
            row(Owner::One(1), 59),
            row(Owner::One(2), 61),
            row(Owner::Mixed, 89),
            row(Owner::Mixed, 91),
            row(Owner::Shared, 61),
            row(Owner::Nobody, 1),
        ],
    };
    let answer = plugin.repack(&question).unwrap();
    answer.check(&question).unwrap();
    assert_eq!(answer.groups, [1, 0, 1, 0, 0, 1]);
}

/// Goal: a mistake in a configuration is found before anything is asked.
#[test]
fn configurations_that_do_not_fit_are_refused() {
    for (name, configuration) in [
        ("retention-audit", r#"{ "year": 1 }"#),
        ("tenants-javascript", r#"{ "restore-points": 0 }"#),
    ] {
        let Err(error) = load_retention(checked_in(name, configuration)) else {
            panic!("{name} took {configuration}")
        };
        assert_eq!(error.failure.code(), "plugin-configuration", "{error}");
    }
}

/// The text file beside a component is what people copy pins from. `.ci/build-plugins.sh --update`
/// and `.ci/build-guests.sh --update` run this test to write its first line.
#[test]
fn the_examples_have_the_digests_written_beside_them() {
    let entries = std::fs::read_dir(BUILT).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut count = 0;
    for path in paths.filter(|path| path.extension().is_some_and(|kind| kind == "wasm")) {
        let blake3 = format!("blake3 {}", blake3::hash(&std::fs::read(&path).unwrap()));
        let beside = path.with_extension("digests");
        let mut text = std::fs::read_to_string(&beside).unwrap();
        if std::env::var_os("CAREEN_WRITE_DIGESTS").is_some() && !text.starts_with("blake3 ") {
            text = format!("{blake3}\n{text}");
            std::fs::write(&beside, &text).unwrap();
        }
        assert_eq!(text.lines().next(), Some(&*blake3), "{}", beside.display());
        count += 1;
    }
    assert!(count >= 5, "only {count} components");
}
