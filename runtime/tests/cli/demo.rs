//! The demo as a newcomer runs it: it ends, and its table says what was seen.
//! A repository of some thousand entries keeps it quick in a build for tests.

use std::process::Stdio;

use super::*;

/// Goal: the whole demo works from making to the table, and leaves nothing behind; method: a small
/// one.
#[cfg(feature = "plugins")]
#[test]
fn the_demo_ends_with_a_table() {
    let directory = tempfile::tempdir().unwrap();
    let scratch = directory.path().to_str().unwrap();
    let shape = [
        "demo",
        "--entries",
        "5000",
        "--index-blobs",
        "50",
        "--no-kopia",
    ];
    let place = ["--scratch", scratch, "--no-json"];
    let told = careen(&[&shape[..], &place].concat()).output().unwrap();
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    let words = text(&told.stdout);
    for part in [
        "before",
        "after",
        "5,000",
        "peak memory",
        "limit 64 MiB",
        "careen verify",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let left: Vec<_> = std::fs::read_dir(scratch)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    let left: Vec<_> = left.iter().filter(|path| path.is_dir()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Goal: backups are maintained in the limit and are whole after it; method: small ones, and what
/// the table says of them.
#[cfg(feature = "plugins")]
#[test]
fn the_demo_with_backups_ends_with_a_table() {
    let work = tempfile::tempdir().unwrap();
    let scratch = work.path().to_str().unwrap();
    let words = ["demo", "--scratch", scratch, "--no-kopia", "--json"];
    let shape = ["--directories", "3", "--files", "50", "--deleted", "2"];
    let output = careen(&[&words[..], &shape].concat()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let lines = said.lines().map(|line| serde_json::from_str(line).unwrap());
    let mut reports = lines.filter(|line: &serde_json::Value| line["kind"] == "report");
    let report = reports.next().unwrap()["report"].clone();
    assert!(reports.next().is_none(), "the index is left out: {said}");
    let number = |state: &str, field: &str| report[state][field].as_u64().unwrap();
    let (before, after) = (
        number("before", "live_contents"),
        number("after", "live_contents"),
    );
    assert!((200..before).contains(&after), "{report}");
    assert_eq!(report["after"]["packs"]["count"], 2, "{report}");
    assert_eq!(report["made"]["deleted_snapshots"], 2);
    // The check walks the snapshots and reads what is in them.
    let step = |name: &str| said.contains(&format!(r#""step":"{name}""#));
    assert!(step("read directories") && step("read contents"), "{said}");
}

/// Goal: an interrupted demo is cleaned up by the next; method: kill one that is large enough.
#[test]
fn the_next_demo_removes_what_a_killed_one_left() {
    let directory = tempfile::tempdir().unwrap();
    let homes = || {
        let entries = std::fs::read_dir(directory.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.starts_with("careen-demo-"))
            .collect::<Vec<_>>()
    };
    let keep = directory.path().join("repository");
    let place = ["--scratch", directory.path().to_str().unwrap()];
    let place = [&place[..], &["--no-run", "--keep", keep.to_str().unwrap()]].concat();
    let demo = |shape: &[&str]| careen(&[&["demo"], shape, &place].concat());
    let large = ["--entries", "20000000", "--index-blobs", "2000"];
    let mut child = demo(&large).stdout(Stdio::null()).spawn().unwrap();
    while homes().is_empty() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(homes(), [format!("careen-demo-{}", child.id())]);
    let _ = std::fs::remove_dir_all(&keep);
    let small = demo(&["--entries", "10", "--index-blobs", "1"]).output();
    assert_eq!(small.unwrap().status.code(), Some(0));
    assert_eq!(homes(), [""; 0]);
}

/// Goal: the suites' time reaches lines and files alike; method: a demo far in the past.
#[cfg(feature = "test-clock")]
#[test]
fn the_time_can_be_set_in_builds_for_tests() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("repository");
    let shape = [
        "demo",
        "--no-run",
        "--entries",
        "10",
        "--index-blobs",
        "2",
        "--keep",
    ];
    let mut command = careen(&[&shape[..], &[root.to_str().unwrap()]].concat());
    let told = command
        .env("CAREEN_NOW", "2020-02-03T04:05:06Z")
        .output()
        .unwrap();
    assert!(told.status.success(), "{told:?}");
    assert!(
        lines(&told)
            .iter()
            .all(|line| line["time"] == "2020-02-03T04:05:06Z")
    );
    let written = root
        .join("kopia.repository.f")
        .metadata()
        .unwrap()
        .modified()
        .unwrap();
    let seconds = written
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert_eq!(seconds, 1_580_702_706);
    let mut command = careen(&["status", "/r", "--no-json"]);
    let told = command.env("CAREEN_NOW", "soon").output().unwrap();
    assert_eq!(told.status.code(), Some(50));
    assert!(text(&told.stderr).contains("clock-setting"), "{told:?}");
}
