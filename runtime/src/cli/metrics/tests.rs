//! What is written, in which order, and what outlives a failure. Parsing it back by Prometheus' own
//! code is a suite's (`tests/suite/job_metrics.rs`).

use super::*;
use crate::cli::ending::{Gauge, TaskFacts};
use crate::maintenance::cycle_task::Cycle;

fn outcome(exit: Exit, second: i64) -> Outcome {
    Outcome {
        exit,
        failure: None,
        time: Timestamp::from_nanos(second * 1_000_000_000 + 250_000_000),
        elapsed: Duration::from_millis(1500),
        peak_memory_bytes: Some(33 << 20),
    }
}

fn facts() -> Facts {
    let mut facts = Facts {
        command: "run".into(),
        repository: r#"s3://bucket/a"b\c"#.into(),
        memory_bytes: Some(64 << 20),
        cycle: Some(Cycle::Full),
        tasks: vec![TaskFacts {
            name: "cleanup-logs",
            success: true,
            seconds: 0.25,
            reclaimed_bytes: 5_000_000_000,
        }],
        write_epoch_since: Some(Timestamp::from_seconds(1_799_996_400)),
        gauges: vec![Gauge {
            name: "index_blobs",
            labels: Vec::new(),
            value: 12.0,
        }],
        ..Facts::default()
    };
    facts.add_next(Some(Timestamp::from_seconds(1_800_086_400)), None);
    facts
}

#[test]
fn a_whole_run_is_told() {
    let text = exposition(&facts(), &(&outcome(Exit::Done, 1_800_000_000)).into(), "");
    let repository = r#"repository="s3://bucket/a\"b\\c""#;
    for line in [
        "# TYPE careen_last_success_timestamp_seconds gauge".to_owned(),
        format!("careen_last_success_timestamp_seconds{{{repository}}} 1800000000.25"),
        format!("careen_last_full_cycle_timestamp_seconds{{{repository}}} 1800000000.25"),
        format!("careen_exit_code{{{repository}}} 0"),
        format!("careen_next_due_timestamp_seconds{{{repository},cycle=\"full\"}} 1800086400"),
        format!("careen_task_seconds{{{repository},task=\"cleanup-logs\"}} 0.25"),
        "# TYPE careen_reclaimed_bytes_total counter".to_owned(),
        format!("careen_reclaimed_bytes_total{{{repository}}} 5000000000"),
        format!("careen_budget_bytes{{{repository}}} 67108864"),
        format!("careen_index_blobs{{{repository}}} 12"),
        format!("careen_epoch_age_seconds{{{repository}}} 3600.25"),
    ] {
        assert!(text.lines().any(|told| told == line), "{line}\n{text}");
    }
    assert!(!text.contains("last_quick"), "{text}");
}

/// Goal: a failure does not wipe out when it last went well, nor another cycle's; method: three
/// runs into one file.
#[test]
fn successes_outlive_failures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("careen.prom");
    let quick = Facts {
        cycle: Some(Cycle::Quick),
        ..facts()
    };
    write_textfile(&path, &facts(), &outcome(Exit::Done, 100)).unwrap();
    write_textfile(&path, &quick, &outcome(Exit::Done, 200)).unwrap();
    write_textfile(&path, &facts(), &outcome(Exit::Storage, 300)).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let value = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("careen_{name}{{")));
        line.and_then(|line| line.rsplit(' ').next())
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(value("last_run_timestamp_seconds"), "300.25");
    assert_eq!(value("last_success_timestamp_seconds"), "200.25");
    assert_eq!(value("last_full_cycle_timestamp_seconds"), "100.25");
    assert_eq!(value("last_quick_cycle_timestamp_seconds"), "200.25");
    assert_eq!(value("exit_code"), "30");
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "nothing unfinished is left");
    // Another repository's times are not this one's.
    let other = Facts {
        repository: "/other".into(),
        ..facts()
    };
    write_textfile(&path, &other, &outcome(Exit::Storage, 400)).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("last_success_timestamp"), "{text}");
}

#[test]
fn a_folder_that_is_missing_is_an_error() {
    let path = Path::new("/nowhere/at/all/careen.prom");
    assert!(write_textfile(path, &facts(), &outcome(Exit::Done, 1)).is_err());
}

/// Goal: what plugins used is told by strategy and plugin, of their largest calls; method: sums of
/// two calls.
#[cfg(feature = "plugins")]
#[test]
fn plugins_are_told() {
    use crate::plugin::{PluginUsage, Usage, UsageLimits};
    let mut facts = facts();
    facts.add_plugins(&[PluginUsage {
        strategy: "splitting",
        name: "by-price".into(),
        version: None,
        blake3: String::new(),
        usage: Usage {
            fuel: 900,
            fuel_of_a_call: 800,
            memory_peak_bytes: 65_536,
            ..Usage::default()
        },
        limits: UsageLimits::default(),
        decisions: Vec::new(),
        more_decisions: 0,
    }]);
    let text = exposition(&facts, &(&outcome(Exit::Done, 1_800_000_000)).into(), "");
    let labels = r#",strategy="splitting",plugin="by-price"}"#;
    for (name, value) in [("fuel", 800), ("memory_bytes", 65_536)] {
        let line = text.lines().find(|line| {
            line.starts_with(&format!("careen_plugin_{name}{{repository=")) && line.contains(labels)
        });
        let line = line.unwrap_or_else(|| panic!("{text}"));
        assert!(line.ends_with(&format!("}} {value}")), "{line}");
    }
}

/// Goal: alerts and dashboards ask for metrics that there are; method: every name in them.
#[test]
fn what_is_asked_for_is_known() {
    for (text, least) in [
        (
            include_str!("../../../deploy/components/alerts/prometheusrule.yaml"),
            3,
        ),
        (
            include_str!("../../../deploy/components/dashboard/careen.json"),
            15,
        ),
    ] {
        let names = text.split(|char: char| !char.is_ascii_lowercase() && char != '_');
        let names: std::collections::BTreeSet<&str> = names
            .filter_map(|word| word.strip_prefix("careen_"))
            .collect();
        assert!(names.len() >= least, "{names:?}");
        for name in names {
            assert!(FAMILIES.iter().any(|family| family.name == name), "{name}");
        }
    }
}

/// Goal: every metric is documented and nothing else is; method: the table of the document.
#[test]
fn the_documented_names_are_these() {
    let document = include_str!("../../../deploy/README.md");
    let rows = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `careen_"));
    let mut documented: Vec<&str> = rows
        .filter_map(|row| row.split(['`', '{']).next())
        .collect();
    let mut known: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    documented.sort_unstable();
    known.sort_unstable();
    assert_eq!(documented, known);
}
