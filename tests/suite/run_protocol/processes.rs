//! The program itself: a signal in the middle of a run, Kopia's lock file, and what both leave.
//!
//! The signal comes when the program has said that a task began, on a world that takes it long
//! enough. Without a built program nothing is tested, and the kit says so.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use careen::maintenance::lease::Lease;
use careen::maintenance::local_lock::LocalLock;
use careen::repository::schedule_store::{read_schedule, write_schedule};
use kit::cycle::schedule;
use kit::index_work::open;
use kit::program;
use kit::world::{Entry, START, World, WorldOptions};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::kill::scenarios;

const PASSWORD: &str = "a password";

/// A settled world with thousands of blobs, so that a run takes long enough to be told to end.
fn large_world() -> World {
    let world = scenarios::settled_world(WorldOptions {
        epochs: scenarios::parameters(),
        password: Some(PASSWORD),
        ..WorldOptions::default()
    });
    for number in 0..3_000 {
        let first = 10_000 + number * 20;
        let entries: Vec<Entry> = (first..first + 20)
            .map(|n| world.data(n, n / 20, 1000 + number as i64))
            .collect();
        let time = START.minus(Duration::from_secs(100_000));
        world.put_uncompacted(2 + number % 2, &entries, time);
    }
    world
}

fn careen(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program::careen().expect("the test asked for it"));
    command.args(arguments);
    command.args([
        "--json",
        "--memory",
        "64MiB",
        "--owner",
        "default@default",
        "--scratch",
    ]);
    command.arg(kit::disk());
    command.arg(folder).env("KOPIA_PASSWORD", PASSWORD);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Starts a quick run on a large world; returns when it has said that a compaction began, with what
/// it says after that.
fn in_the_middle() -> (TempDir, Child, Lines<BufReader<ChildStdout>>) {
    let folder = tempfile::tempdir().unwrap();
    large_world().write_to(folder.path()).unwrap();
    let mut command = careen(folder.path(), &["run", "--mode", "quick"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let began = |line: &Value| line["task"] == "compact-single-epoch" && line["state"] == "began";
    let is_there = lines.any(|line| began(&serde_json::from_str(&line.unwrap()).unwrap()));
    assert!(is_there);
    (folder, child, lines)
}

#[test]
fn sigterm_ends_a_run_with_10_and_the_next_one_goes_on() {
    if program::careen().is_none() {
        return;
    }
    let (folder, mut child, lines) = in_the_middle();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let ended = child.wait().unwrap();
    assert_eq!(ended.code(), Some(10), "{rest:?}");
    let said = rest.iter().any(|line| line.contains(r#""code":"stopped""#));
    assert!(said, "{rest:?}");
    let repository = open(folder.path(), PASSWORD, START).unwrap();
    let after = schedule(&repository);
    assert_eq!(Lease::of(&after), None);
    assert!(!after.runs_of("compact-single-epoch")[0].success);

    let mut command = careen(folder.path(), &["run", "--mode", "quick"]);
    assert!(command.output().unwrap().status.success());
    let runs = schedule(&repository);
    assert!(runs.runs_of("compact-single-epoch")[0].success);
}

/// Goal: a run that was killed holds nobody up on its own machine; method: SIGKILL in the middle,
/// and the next run a moment later. As seen from another machine its lease holds.
#[test]
fn after_a_sigkill_the_next_run_goes_on_at_once() {
    if program::careen().is_none() {
        return;
    }
    let (folder, mut child, _lines) = in_the_middle();
    child.kill().unwrap();
    child.wait().unwrap();
    let repository = open(folder.path(), PASSWORD, START).unwrap();
    let (mut left, _) = read_schedule(&repository).unwrap();
    let holder = left.unknown["careenLease"]["holder"].clone();
    assert_eq!(holder["process"], i64::from(child.id()));

    let mut elsewhere = left.clone();
    elsewhere.unknown["careenLease"]["holder"]["host"] = "another".into();
    write_schedule(&repository, &elsewhere).unwrap();
    let mut command = careen(folder.path(), &["run", "--mode", "auto"]);
    assert_eq!(command.output().unwrap().status.code(), Some(40));

    // What is due is found to be, although the schedule says that it is not for a while.
    left.next_full = left.next_quick.plus(Duration::from_secs(100_000));
    write_schedule(&repository, &left).unwrap();
    let mut command = careen(folder.path(), &["run", "--mode", "auto"]);
    assert_eq!(command.output().unwrap().status.code(), Some(0));
    let after = schedule(&repository);
    assert_eq!(Lease::of(&after), None);
    assert!(after.runs_of("compact-single-epoch")[0].success);
}

#[test]
fn kopias_lock_file_keeps_a_second_process_out() {
    if program::careen().is_none() {
        return;
    }
    let world = scenarios::settled_world(WorldOptions {
        epochs: scenarios::parameters(),
        password: Some(PASSWORD),
        ..WorldOptions::default()
    });
    let folder = tempfile::tempdir().unwrap();
    world.write_to(folder.path()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("repository.config");
    let storage = serde_json::json!({"type": "filesystem", "config": {"path": folder.path()}});
    let json = serde_json::json!({
        "storage": storage, "username": "default", "hostname": "default",
    });
    std::fs::write(&config, json.to_string()).unwrap();
    let run = || {
        let mut command = Command::new(program::careen().unwrap());
        command.args(["run", "--mode", "quick", "--json", "--config"]);
        command.arg(&config).arg("--scratch");
        command.arg(kit::disk());
        command.env("KOPIA_PASSWORD", PASSWORD);
        command.output().unwrap().status.code()
    };
    let lock = LocalLock::take(&config).unwrap();
    assert_eq!(run(), Some(40));
    drop(lock);
    assert_eq!(run(), Some(0));
}
