//! What the program leaves behind for whoever started it as a Job: its termination message,
//! metrics, and how it takes signals. In its container it is tried by the suite `image`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{assert_fails, careen, text, with_password};

/// Makes a repository with a large index.
fn repository(folder: &Path, entries: &str) -> String {
    let root = folder.join("repository").to_str().unwrap().to_owned();
    let made = ["demo", "--no-run", "--keep", &root, "--entries", entries];
    let made = careen(&made).arg("--index-blobs=20").output().unwrap();
    assert!(made.status.success(), "{made:?}");
    root
}

/// Returns the message in `file`: its first line, and the JSON of its last.
fn message(file: &Path) -> (String, Value) {
    let text = std::fs::read_to_string(file).unwrap();
    let first = text.lines().next().unwrap_or_default().to_owned();
    let last = text.lines().last().unwrap_or_default();
    (first, serde_json::from_str(last).unwrap())
}

/// Goal: the last word is there on success and on every refusal, by option and by environment.
#[test]
fn the_last_word_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let root = repository(folder.path(), "1000");
    let file = folder.path().join("log");
    let told = |mut command: Command, exit: i32| {
        let ended = command
            .env("CAREEN_TERMINATION_LOG", &file)
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(exit), "{ended:?}");
        message(&file)
    };
    let quick = ["run", &root, "--mode", "quick"];
    let (first, done) = told(with_password(&quick), 0);
    assert!(first.starts_with('{'), "{first}");
    for (field, value) in [
        ("result", Value::from("done")),
        ("exit", 0.into()),
        ("command", "run".into()),
        ("cycle", "quick".into()),
        ("tasks", 2.into()),
        ("repository", root.clone().into()),
    ] {
        assert_eq!(done[field], value, "{done}");
    }
    assert!(
        done["next_quick"].is_string() && done["code"].is_null(),
        "{done}"
    );
    assert!(done["peak_memory_bytes"].as_u64() > Some(1 << 20), "{done}");
    let (_, nothing) = told(with_password(&["run", &root]), 0);
    assert_ne!(nothing["result"], "part-done", "{nothing}");

    let mut small = with_password(&quick);
    small.env("CAREEN_MEMORY", "16777216");
    for (command, exit, code) in [
        (careen(&quick), 50, "no-password"),
        (small, 20, "memory-too-small"),
        (with_password(&["run", &root, "--fast"]), 50, "usage"),
        (with_password(&["run", "/nowhere"]), 50, "no-folder"),
        (with_password(&["doctor", "/nowhere"]), 50, "no-folder"),
    ] {
        let (first, json) = told(command, exit);
        assert!(first.starts_with("Repo maintenance error: "), "{first}");
        assert_eq!(
            (&json["code"], &json["exit"]),
            (&code.into(), &exit.into()),
            "{first}"
        );
        assert!(json["hint"].as_str().unwrap().len() > 10, "{json}");
    }
    // The option comes before the environment.
    let other = folder.path().join("other");
    let option = format!("--termination-log={}", other.display());
    let status = with_password(&["status", &root, &option]).output().unwrap();
    assert!(status.status.success(), "{status:?}");
    assert_eq!(message(&other).1["command"], "status");
}

/// Goal: metrics are written at the end, whatever the end is, and a place that cannot be written is
/// a warning.
#[test]
fn metrics_are_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let root = repository(folder.path(), "1000");
    let file = folder.path().join("careen.prom");
    let option = format!("--metrics-textfile={}", file.display());
    let ended = with_password(&["status", &root, &option]).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let told = std::fs::read_to_string(&file).unwrap();
    let line = format!("careen_exit_code{{repository=\"{root}\"}} 0");
    assert!(told.contains(&line), "{line}: {told}");
    let nowhere = ["status", &root, "--metrics-textfile=/nowhere/at/all.prom"];
    let ended = with_password(&nowhere).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(
        text(&ended.stdout).contains("the metrics cannot be written"),
        "{ended:?}"
    );
    // Nobody listens at port 1.
    let push = ["status", &root, "--metrics-push=http://127.0.0.1:1"];
    let ended = with_password(&push).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    #[cfg(feature = "object-stores")]
    assert!(
        text(&ended.stdout).contains("the metrics cannot be pushed"),
        "{ended:?}"
    );
}

fn started(arguments: &[&str]) -> Child {
    let mut command = with_password(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn terminate(child: &Child) {
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &id]).status().unwrap();
    assert!(sent.success());
}

/// Goal: SIGTERM stops the compaction of an index with exit code 10, and the next one goes on;
/// method: ever later moments, until one was early enough and all is done.
#[test]
fn a_compaction_stops_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let root = repository(folder.path(), "200000");
    let compact = ["index", "compact", &root, "--memory=64MiB"];
    let mut codes = Vec::new();
    for step in 1..40 {
        let mut child = started(&compact);
        std::thread::sleep(Duration::from_millis(30 * step));
        terminate(&child);
        let code = child.wait().unwrap().code();
        codes.push(code);
        if code == Some(0) {
            break;
        }
        assert!(matches!(code, Some(10) | None), "{codes:?}");
    }
    assert!(codes.contains(&Some(10)), "it was never stopped: {codes:?}");
    let verified = with_password(&["verify", &root, "--index"])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

/// Goal: a run that is to wait says until when, and reads nothing before; SIGTERM ends it there as
/// a run that had begun; a plan does not wait; method: a repository that is not there, an hour.
#[test]
fn a_wait_is_told_and_ends_with_sigterm() {
    let nowhere = ["run", "/no/such/repository"];
    for (variable, words) in [("0", &["--jitter", "1h"][..]), ("1h", &[])] {
        let mut command = with_password(&[&nowhere, words].concat());
        command.env("CAREEN_JITTER", variable).arg("--json");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
        let wait = told.by_ref().map(|line| line.unwrap());
        let wait = wait.map(|line| serde_json::from_str::<Value>(&line).unwrap());
        let mut wait = wait.filter(|line| line["kind"] == "wait");
        let wait = wait.next().unwrap()["wait"].clone();
        assert!(wait["until"].is_string(), "{wait}");
        let seconds = wait["seconds"].as_u64().unwrap();
        assert!((600..=3600).contains(&seconds), "{wait}");
        terminate(&child);
        let rest: Vec<String> = told.map(Result::unwrap).collect();
        assert_eq!(child.wait().unwrap().code(), Some(10), "{rest:?}");
        assert!(rest.concat().contains(r#""code":"stopped""#), "{rest:?}");
    }
    let planned = [&nowhere[..], &["--dry-run", "--jitter", "1h"]].concat();
    for words in [&planned[..], &nowhere[..]] {
        assert_fails(with_password, words, 50, "no-folder");
    }
    let long = [&nowhere[..], &["--jitter", "2h"]].concat();
    let refused = with_password(&long).output().unwrap();
    assert_eq!(refused.status.code(), Some(50), "{refused:?}");
}
