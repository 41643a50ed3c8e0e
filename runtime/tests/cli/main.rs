//! The program as its users call it: exit codes, hints, help, and what goes where.
//!
//! Repositories are made by the program's own demo. Opening one takes a key derivation, so these
//! tests share one.

#![allow(clippy::unwrap_used)] // a test that cannot go on says so

use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

#[cfg(feature = "plugins")]
mod demo;
#[cfg(all(feature = "plugins", feature = "object-stores"))]
mod doctor;
#[cfg(feature = "plugins")]
mod job;
#[cfg(feature = "plugins")]
mod plugin;
#[cfg(feature = "plugins")]
mod run;
#[cfg(feature = "plugins")]
mod verify;

/// Runs the program without the environment of whoever runs the tests.
fn careen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_careen"));
    for variable in [
        "KOPIA_PASSWORD",
        "CAREEN_LOG",
        "CAREEN_KOPIA",
        "CAREEN_NOW",
        "CAREEN_JITTER",
    ] {
        command.env_remove(variable);
    }
    command.args(arguments);
    command
}

fn with_password(arguments: &[&str]) -> Command {
    let mut command = careen(arguments);
    command.env("KOPIA_PASSWORD", "static-passw0rd");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Checks exit code and error code in both forms of the output.
fn assert_fails(run: impl Fn(&[&str]) -> Command, arguments: &[&str], exit: i32, code: &str) {
    let told = run(&[arguments, &["--output", "text"]].concat())
        .output()
        .unwrap();
    assert_eq!(told.status.code(), Some(exit), "{arguments:?}: {told:?}");
    assert_eq!(text(&told.stdout), "", "{arguments:?}");
    let words = text(&told.stderr);
    assert!(
        words.contains(&format!("error [{code}]: ")),
        "{arguments:?}: {words}"
    );
    assert!(words.contains("\nhint: "), "{arguments:?}: {words}");

    let told = run(&[arguments, &["--json"]].concat()).output().unwrap();
    let error = lines(&told)
        .into_iter()
        .find(|line| line["kind"] == "error")
        .unwrap();
    assert_eq!(error["code"], code, "{arguments:?}");
    assert_eq!(error["exit"], exit, "{arguments:?}");
    assert!(!error["hint"].as_str().unwrap().is_empty());
    assert_eq!(text(&told.stderr), "", "{arguments:?}");
}

/// Parses every line of standard output; each must be an object with the common fields.
fn lines(output: &Output) -> Vec<Value> {
    let parsed: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for line in &parsed {
        assert_eq!(line["schema"], 1, "{line}");
        assert!(
            line["time"].is_string() && line["kind"].is_string(),
            "{line}"
        );
    }
    let last = parsed.last().unwrap();
    assert_eq!(last["kind"], "finished");
    assert_eq!(last["exit"].as_i64(), output.status.code().map(i64::from));
    assert!(last["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
    parsed
}

/// Returns a repository that the demo made, settled, with 1,000 entries in 10 index blobs.
fn repository() -> &'static Path {
    static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let directory = MADE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("repository");
        let shape = [
            "--entries",
            "1000",
            "--index-blobs",
            "10",
            "--tombstones",
            "10",
        ];
        let run = ["demo", "--no-run", "--keep", root.to_str().unwrap()];
        let made = careen(&[&run[..], &shape].concat()).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let told = lines(&made);
        let report = told.iter().find(|line| line["kind"] == "report").unwrap();
        assert_eq!(report["report"]["entries"], 1000);
        assert_eq!(
            report["report"]["tombstones"], 88,
            "the oldest blob deletes nothing"
        );
        assert_eq!(report["report"]["index"]["count"], 10);
        directory
    });
    Path::new(Box::leak(
        directory.path().join("repository").into_boxed_path(),
    ))
}

#[test]
fn help_and_version_are_no_errors_and_teach() {
    for words in [&["help"][..], &["help", "index", "compact"]] {
        assert_eq!(careen(words).output().unwrap().status.code(), Some(0));
    }
    let help = careen(&["--help"]).output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    let words = text(&help.stdout);
    for part in [
        "careen demo",
        "KOPIA_PASSWORD",
        "Exit codes:",
        "safety stop",
        "--dry-run",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    for (command, part) in [
        (&["demo"][..], "--no-run"),
        (&["index"], "compact"),
        (&["index", "list"], "REPOSITORY"),
        (&["index", "inspect"], "--content"),
        (&["index", "compact"], "Examples:"),
        (&["index", "repair"], "--dry-run"),
        (&["status"], "changes nothing"),
        (&["verify"], "--index"),
    ] {
        let help = careen(&[command, &["--help"]].concat()).output().unwrap();
        assert_eq!(help.status.code(), Some(0), "{command:?}");
        let words = text(&help.stdout);
        assert!(words.contains(part), "{command:?} {part}: {words}");
        assert!(
            words.lines().all(|line| line.chars().count() <= 100),
            "{command:?}: {words}"
        );
    }
    let version = careen(&["--version"]).output().unwrap();
    assert_eq!(version.status.code(), Some(0));
    let shown = text(&version.stdout);
    assert!(
        shown.starts_with(concat!("careen ", env!("CARGO_PKG_VERSION"))),
        "{shown}"
    );
    assert_eq!(shown.contains("test-clock"), cfg!(feature = "test-clock"));
}

#[test]
fn usage_errors_are_exit_50() {
    for arguments in [
        &[][..],
        &["sail"],
        &["index"],
        &["verify", "/r"],
        &["demo", "--no-run"],
        &["demo", "--memory", "lots"],
        &["index", "compact", "/r", "--password", "secret"],
    ] {
        let told = careen(&[arguments, &["--output", "text"]].concat())
            .output()
            .unwrap();
        assert_eq!(told.status.code(), Some(50), "{arguments:?}: {told:?}");
        assert!(
            text(&told.stderr).contains("--help"),
            "{arguments:?}: {told:?}"
        );
        let told = careen(&[arguments, &["--json"]].concat()).output().unwrap();
        assert_eq!(lines(&told)[0]["code"], "usage", "{arguments:?}");
    }
    assert_fails(careen, &["status"], 50, "usage");
    assert_fails(careen, &["status", "/r", "--owner", "nobody"], 50, "usage");
    assert_fails(
        careen,
        &["index", "compact", "/r", "--task", "sail"],
        50,
        "usage",
    );
    assert_fails(
        careen,
        &["demo", "--entries", "5", "--index-blobs", "6"],
        50,
        "usage",
    );
}

#[test]
fn what_cannot_be_opened_is_exit_50_with_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (nothing, file, empty) = (path("nothing"), path("file"), path("empty"));
    std::fs::write(&file, "text").unwrap();
    std::fs::create_dir(&empty).unwrap();
    std::fs::write(path("empty/.shards"), r#"{"default":[1,3]}"#).unwrap();
    let bare = path("bare");
    std::fs::create_dir(&bare).unwrap();
    let scratch = path("scratch");
    let run = |arguments: &[&str]| {
        let mut command = with_password(arguments);
        command.args(["--scratch", &scratch]);
        command
    };
    assert_fails(run, &["status", &nothing], 50, "no-folder");
    assert_fails(run, &["status", &file], 50, "not-a-folder");
    assert_fails(run, &["status", &bare], 50, "no-repository");
    std::fs::write(path("bare/kopia.repository.f"), "{}").unwrap();
    assert_fails(run, &["status", &bare], 50, "missing-shards");
    assert_fails(run, &["status", &empty], 50, "no-repository");
    assert_fails(
        run,
        &["status", "sftp://host/prefix"],
        50,
        "unsupported-storage",
    );
    assert_fails(
        careen,
        &["status", &empty, "--scratch", &scratch],
        50,
        "no-password",
    );
    let password = [
        "status",
        &empty,
        "--scratch",
        &scratch,
        "--password-file",
        &nothing,
    ];
    assert_fails(careen, &password, 50, "password-file");
}

#[test]
fn kopias_config_file_is_read_and_checked() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("repository.config");
    let written = |json: &str| {
        std::fs::write(&config, json).unwrap();
        config.to_str().unwrap().to_owned()
    };
    let webdav =
        written(r#"{"storage":{"type":"webdav","config":{}},"hostname":"h","username":"u"}"#);
    assert_fails(
        careen,
        &["status", "--config", &webdav],
        50,
        "unsupported-storage",
    );
    assert_fails(
        careen,
        &["status", "/r", "--config", &webdav],
        50,
        "unsupported-storage",
    );
    let server = written(r#"{"apiServer":{"url":"https://host:51515"},"hostname":"h"}"#);
    assert_fails(
        careen,
        &["status", "--config", &server],
        50,
        "config-server",
    );
    let broken = written("{");
    assert_fails(careen, &["status", "--config", &broken], 50, "config-file");
    let local = r#"{"storage":{"type":"filesystem","config":{"path":"/r"}},"readonly":true}"#;
    let local = written(local);
    assert_fails(careen, &["status", "/r", "--config", &local], 50, "usage");
    assert_fails(
        careen,
        &["index", "repair", "--config", &local],
        50,
        "config-read-only",
    );
}

#[test]
fn budgets_are_refused_with_what_is_needed() {
    let arguments = ["status", "/r", "--memory", "8MiB"];
    assert_fails(with_password, &arguments, 20, "memory-too-small");
    let told = with_password(&arguments).arg("--no-json").output().unwrap();
    assert!(
        text(&told.stderr).contains("33554432 are needed"),
        "{told:?}"
    );
    // Bytes without a unit, most likely meant as mebibytes.
    let arguments = ["status", "/r", "--memory", "64"];
    assert_fails(with_password, &arguments, 20, "memory-too-small");
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = file.path().join("scratch");
    let arguments = ["status", "/r", "--scratch", below.to_str().unwrap()];
    assert_fails(with_password, &arguments, 20, "scratch-io");
    let told = with_password(&arguments).arg("--no-json").output().unwrap();
    assert!(text(&told.stderr).contains("ot a directory"), "{told:?}");
    let in_memory = Path::new("/dev/shm");
    if in_memory.is_dir() {
        let name = in_memory.join(format!("careen-test-{}", std::process::id()));
        let arguments = ["status", "/r", "--scratch", name.to_str().unwrap()];
        assert_fails(with_password, &arguments, 20, "scratch-tmpfs");
        let _ = std::fs::remove_dir(name);
    }
}

#[test]
fn the_demo_leaves_a_directory_in_use_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("mine"), "x").unwrap();
    let keep = directory.path().to_str().unwrap();
    assert_fails(
        careen,
        &["demo", "--no-run", "--keep", keep],
        50,
        "demo-directory",
    );
    assert_eq!(std::fs::read_dir(keep).unwrap().count(), 1);
}

#[test]
fn a_wrong_password_is_exit_50_and_is_not_shown() {
    let root = repository().to_str().unwrap();
    let told = careen(&["status", root, "--json"])
        .env("KOPIA_PASSWORD", "not-the-passw0rd")
        .output()
        .unwrap();
    let error = lines(&told)
        .into_iter()
        .find(|line| line["kind"] == "error")
        .unwrap();
    assert_eq!(
        (&error["code"], &error["exit"]),
        (&"wrong-password".into(), &50.into())
    );
    assert!(!text(&told.stdout).contains("not-the-passw0rd"));
}

#[test]
fn a_repository_opens_by_path_and_by_kopias_config() {
    let root = repository().to_str().unwrap();
    let told = with_password(&["status", root]).output().unwrap();
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    let finished = lines(&told).pop().unwrap();
    let gets = |field: &str| finished.pointer(field).unwrap().as_u64().unwrap();
    assert!(gets("/requests/gets") > gets("/requests_by_blob/index/gets"));
    assert!(finished["traffic"].is_null(), "a folder has no wire");
    assert_eq!(lines(&told)[0]["repository"], root);
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("repository.config");
    let json = serde_json::json!({
        "storage": { "type": "filesystem", "config": { "path": root } },
        "hostname": "default", "username": "default",
    });
    std::fs::write(&config, json.to_string()).unwrap();
    let stored = directory.path().join("repository.config.kopia-password");
    std::fs::write(stored, "c3RhdGljLXBhc3N3MHJk").unwrap();
    let told = careen(&["status", "--config", config.to_str().unwrap(), "--no-json"]).output();
    let told = told.unwrap();
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    assert!(
        !text(&told.stdout).is_empty() && text(&told.stderr).is_empty(),
        "{told:?}"
    );
}

/// Names and lengths of all files below `folder`.
#[cfg(feature = "plugins")]
fn files(folder: &Path) -> std::collections::BTreeMap<std::path::PathBuf, u64> {
    let mut found = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let length = path.metadata().unwrap().len();
            found.insert(path, length);
        }
    }
    found
}

/// Goal: the way of a user: look, be refused as somebody else, compact, find nothing left to do.
#[cfg(feature = "plugins")]
#[test]
fn an_index_is_compacted_once_and_by_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("repository");
    let (root, keep) = (root.to_str().unwrap(), ["demo", "--no-run", "--keep"]);
    let shape = ["--entries", "1000", "--index-blobs", "10"];
    let made = careen(&[&keep[..], &[root], &shape].concat())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let before = files(Path::new(root));

    let told = with_password(&["index", "compact", root, "--dry-run"])
        .output()
        .unwrap();
    let plan = lines(&told)
        .into_iter()
        .find(|line| line["kind"] == "plan")
        .unwrap();
    assert_eq!(plan["plan"]["compact"][0]["blobs"], 10);
    assert!(plan["plan"]["memory"]["limit_bytes"].is_u64());
    let owner = [
        "index",
        "compact",
        root,
        "--owner",
        "somebody@else",
        "--no-json",
    ];
    let told = with_password(&owner).output().unwrap();
    assert_eq!(told.status.code(), Some(40), "{told:?}");
    assert!(text(&told.stderr).contains("--owner"), "{told:?}");
    assert_eq!(files(Path::new(root)), before, "neither changed anything");

    let compact = ["index", "compact", root, "--memory", "64MiB"];
    let told = with_password(&compact).output().unwrap();
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    let told = lines(&told);
    let kinds: Vec<&str> = told
        .iter()
        .map(|line| line["kind"].as_str().unwrap())
        .collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 2]), ("started", "report"));
    assert!(
        kinds.contains(&"plan") && kinds.contains(&"task"),
        "{kinds:?}"
    );
    let report = &told[told.len() - 2]["report"];
    assert_eq!(report["owner"], "default@default");
    assert_eq!(report["tasks"][0]["entries_read"], 1000);
    let after = files(Path::new(root));
    assert_eq!(after.len(), before.len() + 1, "one set more, nothing less");

    let told = with_password(&[&compact[..], &["--no-json"]].concat())
        .output()
        .unwrap();
    let said = text(&told.stdout);
    assert!(said.starts_with("nothing was due\nplugin "), "{told:?}");
    assert_eq!(files(Path::new(root)), after);
}
