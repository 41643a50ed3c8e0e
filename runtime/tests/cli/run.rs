//! `careen run`, `plan` and `status` as their users call them.
//!
//! What a cycle does is tested by the suites; here it is what is said, and with which exit code.

use std::process::Command;

use serde_json::Value;

use super::{assert_fails, careen, files, text, with_password};

/// Goal: a cycle from the command line: what it records, what it exits with, and that nobody else
/// may; method: quick cycles on the demo's repository.
#[test]
fn a_cycle_is_planned_run_and_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("repository");
    let (path, demo) = (root.to_str().unwrap(), ["demo", "--no-run", "--keep"]);
    let shape = ["--entries", "1000", "--index-blobs", "10"];
    succeeded(careen(&[&demo[..], &[path], &shape].concat()));
    let before = files(&root);
    let planned = with_password(&["plan", path, "--mode", "full", "--output", "text"]);
    let planned = succeeded(planned);
    for word in [
        "full maintenance: it was asked for",
        "snapshot-gc",
        "owner: default@default",
        "what it costs is not known: pack",
    ] {
        assert!(planned.contains(word), "{word}: {planned}");
    }
    assert_eq!(files(&root), before, "a plan changes nothing");

    let told = succeeded(with_password(&[
        "run", path, "--mode", "quick", "--output", "text",
    ]));
    assert!(
        told.contains("quick maintenance is done: 2 tasks"),
        "{told}"
    );
    let status = succeeded(with_password(&["status", path, "--json"]));
    let lines: Vec<Value> = status
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let report = lines.iter().find(|line| line["kind"] == "report").unwrap();
    let maintenance = &report["report"]["maintenance"];
    let last: Vec<&str> = maintenance["last_runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["task"].as_str().unwrap())
        .collect();
    assert_eq!(last, ["compact-single-epoch", "advance-epoch"]);
    assert!(maintenance["full_cycle"].as_array().unwrap().len() > 10);
    // The demo's index names packs that nobody has made.
    let problem = report["report"]["outlook_problem"].as_str().unwrap();
    assert!(problem.contains("pack"), "{problem}");

    for (arguments, exit, code) in [
        (vec!["--mode", "quick", "--owner", "a@b"], 40, "not-owner"),
        (
            vec!["--mode", "quick", "--task", "cleanup-logs"],
            50,
            "not-in-cycle",
        ),
        (vec!["--task", "sweep"], 50, "usage"),
    ] {
        let arguments = [&["run", path][..], &arguments].concat();
        assert_fails(with_password, &arguments, exit, code);
    }
    let named = succeeded(with_password(&[
        "run",
        path,
        "--task",
        "cleanup-logs",
        "--json",
    ]));
    assert!(
        named.contains(r#""task":"cleanup-logs","state":"ended","success":true"#),
        "{named}"
    );
}

fn succeeded(mut command: Command) -> String {
    let told = command.output().unwrap();
    assert!(told.status.success(), "{command:?}: {told:?}");
    text(&told.stdout)
}
