//! `careen plugin …` with plugins of a stranger: what is refused, what differs, what is logged, and
//! with which exit code.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use guests::answers::{DECISION, decides, splits as answer, stores};
use guests::splitting::{Guest, SPLIT, splitting};
use guests::worlds::retaining;

use super::about::configurable;

fn careen(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_careen"));
    let cache = super::shared_cache().to_str().unwrap();
    command
        .args(arguments)
        .args(["--json", "--plugin-cache", cache]);
    command.env("CAREEN_LOG", "info").output().unwrap()
}

/// Runs the program; returns the exit code, and the lines that it told.
fn told(arguments: &[&str]) -> (i32, Vec<Value>) {
    let output = careen(arguments);
    let words = String::from_utf8(output.stdout).unwrap();
    let lines = words
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    (output.status.code().unwrap(), lines.collect())
}

fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["kind"] == kind).collect()
}

fn code(lines: &[Value]) -> &str {
    of_kind(lines, "error")[0]["code"].as_str().unwrap()
}

fn guest(folder: &Path, wasm: &[u8]) -> String {
    let path = folder.join("guest.wasm");
    std::fs::write(&path, wasm).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn check_names_what_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let core = format!("{SPLIT} unreachable)");
    let mut clock = Guest::new(&core);
    clock.component = r#"(import "wasi:clocks/monotonic-clock@0.2.0" (instance
        (export "now" (func (result u64)))))"#;
    let file = guest(folder.path(), &clock.wasm());
    let (exit, lines) = told(&["plugin", "check", &file]);
    assert_eq!((exit, code(&lines)), (50, "plugin-import"));
    let report = &of_kind(&lines, "report")[0]["report"];
    let imports = report["imports"].as_array().unwrap();
    let refused = imports.iter().filter(|import| import["refused"] == true);
    let names: Vec<_> = refused.map(|import| import["name"].clone()).collect();
    assert_eq!(names, ["wasi:clocks/monotonic-clock@0.2.0"]);
    assert_eq!(report["first_memory_bytes"], Value::Null);
    let (exit, lines) = told(&["plugin", "compile", &file]);
    assert_eq!((exit, code(&lines)), (50, "plugin-import"));

    let mut start = Guest::new(&core);
    start.component = "(core module $bad (func $f unreachable) (start $f))
        (core instance (instantiate $bad))";
    let file = guest(folder.path(), &start.wasm());
    let (exit, lines) = told(&["plugin", "check", &file]);
    assert_eq!((exit, code(&lines)), (60, "plugin-trap"));
    let report = &of_kind(&lines, "report")[0]["report"];
    assert_eq!(report["strategies"], serde_json::json!(["splitting"]));

    let file = guest(folder.path(), &wat::parse_str("(component)").unwrap());
    let (exit, lines) = told(&["plugin", "check", &file]);
    assert_eq!((exit, code(&lines)), (50, "plugin-world"));
    let error = of_kind(&lines, "error")[0]["message"].as_str().unwrap();
    assert!(error.contains("exports no strategy"), "{error}");
}

/// Goal: a configuration is checked against the plugin's own schema, which is told in any case.
#[test]
fn check_tries_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = guest(folder.path(), &configurable());
    let configuration = folder.path().join("c.json");
    for (json, exit, named) in [
        ("{\"begins\": 22}", 0, ""),
        ("{\"begins\": 24}", 50, "plugin-configuration"),
        ("{\"ends\": 1}", 50, "plugin-configuration"),
        ("{", 50, "plugin-configuration-file"),
    ] {
        std::fs::write(&configuration, json).unwrap();
        let path = configuration.to_str().unwrap();
        let words = ["plugin", "check", &file, "--configuration", path];
        let (ended, lines) = told(&words);
        assert_eq!(ended, exit, "{json}: {lines:?}");
        if exit > 0 {
            assert_eq!(code(&lines), named, "{json}");
        }
        let report = of_kind(&lines, "report");
        assert_eq!(report.is_empty(), named == "plugin-configuration-file");
        for line in report {
            let about = &line["report"]["about"];
            assert_eq!(
                (&about["name"], &about["version"]),
                (&"at  night".into(), &"1.2.3".into())
            );
            assert_eq!(about["configuration_schema"]["additionalProperties"], false);
        }
    }
}

/// Goal: `check` and `test` see limits and configuration of a run, from the strategies file; what
/// the command line says is taken instead. Its plugin and pin are not looked at.
#[test]
fn check_and_test_take_limits_and_configuration_from_the_strategies_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = guest(folder.path(), &configurable());
    let strategies = folder.path().join("strategies.toml");
    let path = strategies.to_str().unwrap();
    let other = folder.path().join("other.json");
    std::fs::write(&other, "{\"begins\": 21}").unwrap();
    let other = ["--configuration", other.to_str().unwrap()];
    for (table, more, exit, named) in [
        ("configuration.begins = 22", &[][..], 0, ""),
        ("configuration.begins = 24", &[], 50, "plugin-configuration"),
        ("configuration.begins = 24", &other, 0, ""),
        ("fule = 5", &[], 50, "strategies-file"),
        ("memory = \"1GiB\"", &[], 50, "strategies-file"),
        ("fuel = 5", &[], 50, "strategies-file"),
        ("deadline = \"7s\"\nmemory = \"1MiB\"", &[], 0, ""),
        (
            "deadline = \"7s\"\nmemory = \"64KiB\"",
            &["--plugin-memory", "1MiB"],
            0,
            "",
        ),
    ] {
        let pin = "00".repeat(32);
        let plugin = format!("plugin = \"nowhere.wasm\"\nblake3 = \"{pin}\"");
        std::fs::write(&strategies, format!("[scheduling]\n{plugin}\n{table}\n")).unwrap();
        let words = ["plugin", "check", &file, "--strategies", path];
        let (ended, lines) = told(&[&words[..], more].concat());
        assert_eq!(ended, exit, "{table}: {lines:?}");
        if exit > 0 {
            assert_eq!(code(&lines), named, "{table}");
        }
        if table.starts_with("deadline") {
            let limits = &of_kind(&lines, "report")[0]["report"]["limits"];
            assert_eq!(limits["memory_bytes"], 1 << 20);
            assert_eq!(limits["deadline_milliseconds"], 7_000);
        }
    }

    let built = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../plugins/built/retention-kopia.wasm"
    );
    std::fs::write(&strategies, "[retention]\nfuel = 200_000\n").unwrap();
    let batches = folder.path().join("batches.jsonl");
    std::fs::write(&batches, many_recorded()).unwrap();
    let batches = batches.to_str().unwrap();
    let file = ["--strategies", path];
    for words in [
        &["plugin", "test", built][..],
        &["plugin", "replay", built, batches],
        &["plugin", "replay", built, batches, "--against", built],
    ] {
        let (exit, lines) = told(&[words, &file].concat());
        assert_eq!((exit, code(&lines)), (60, "plugin-fuel"), "{words:?}");
        let message = of_kind(&lines, "error")[0]["message"].as_str().unwrap();
        assert!(message.contains(" of 200000, "), "{message}");
        let fuel = ["--plugin-fuel", "1000000000"];
        let (exit, lines) = told(&[words, &file, &fuel].concat());
        assert_eq!(exit, 0, "{words:?}: {lines:?}");
    }
}

#[test]
fn a_test_fails_for_answers_that_are_refused_and_for_traps() {
    let folder = tempfile::tempdir().unwrap();
    let file = guest(folder.path(), &splitting("unreachable"));
    let (exit, lines) = told(&["plugin", "test", &file]);
    assert_eq!((exit, code(&lines)), (60, "plugin-trap"));

    let core = format!("{SPLIT} {})", answer(5, (0, 0), (0, 0)));
    let mut refused = Guest::new(&core);
    // All packs are left: as many zeros as there are packs, with the size that is asked about.
    let leave = "(i64.store (i32.const 1032) (local.get 0)) (i32.store (i32.const 1040)
        (i32.const 120000)) (i32.store (i32.const 1044) (local.get 2)) (i32.const 1024)";
    refused.repack = leave;
    let file = guest(folder.path(), &refused.wasm());
    let (exit, lines) = told(&["plugin", "test", &file]);
    assert_eq!((exit, code(&lines)), (60, "plugin-test"), "{lines:?}");
    let rows = of_kind(&lines, "row");
    assert_eq!(rows.len(), 16, "eight index sets, asked of two instances");
    let reason = rows[0]["row"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("shards of 5 entries"), "{reason}");
    assert_eq!(rows[0]["row"]["finding"], "refused");
}

/// Goal: log lines of a plugin bear its name, are cut, and stop after a hundred; method: one that
/// logs two hundred lines of 1,500 bytes in each call.
#[test]
fn log_lines_bear_the_name_of_their_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let words = format!("(data (i32.const 4096) \"{}\")", "x".repeat(1_500));
    let log = "(call $log (i32.const 1) (i32.const 4096) (i32.const 1500))";
    let body = format!(
        "(local $n i32) (loop {log} (local.set $n (i32.add (local.get $n) (i32.const 1)))
         (br_if 0 (i32.lt_u (local.get $n) (i32.const 200)))) unreachable"
    );
    let wasm = Guest::new(&format!("{words} {SPLIT} {body})")).wasm();
    let file = guest(folder.path(), &wasm);
    let (exit, lines) = told(&["plugin", "test", &file]);
    assert_eq!((exit, code(&lines)), (60, "plugin-trap"));
    let logs = of_kind(&lines, "log");
    assert_eq!(logs.len(), 101);
    for line in &logs {
        assert_eq!(line["plugin"], "guest", "{line}");
        assert!(line["message"].as_str().unwrap().len() <= 1_000);
    }
    let last = logs[100]["message"].as_str().unwrap();
    assert!(last.contains("the rest is dropped"), "{last}");
}

const HEAD: &str = concat!(
    r#"{"careen_batches":1,"contract":"x","strategy":"retention","careen":"x","#,
    r#""time":"2026-09-01T00:00:00Z","hashed_names":false}"#
);

/// Five snapshots, a day apart, the second of them pinned.
fn recorded() -> String {
    let source = concat!(
        r#"{"source":{"host":"h","userName":"u","path":"/a","policy":{"keepLatest":9},"#,
        r#""now":"2026-09-01T00:00:00Z"}}"#
    );
    let row = |day: u32| {
        let pins = if day == 29 { r#","pins":["mine"]"# } else { "" };
        let time = format!("2026-08-{day}T00:00:00Z");
        format!(r#"{{"id":"id{day}","start":"{time}","end":"{time}"{pins}}}"#)
    };
    let rows: Vec<_> = (26..31).rev().map(row).collect();
    format!("{HEAD}\n{source}\n{{\"snapshots\":[{}]}}\n", rows.join(","))
}

/// A thousand snapshots of a source, an hour apart.
fn many_recorded() -> String {
    let source = recorded();
    let source: Vec<&str> = source.lines().take(2).collect();
    let row = |number: i64| {
        let time = careen::clock::Timestamp::from_seconds(1_756_600_000 - number * 3_600);
        format!(r#"{{"id":"id{number}","start":"{time}","end":"{time}"}}"#)
    };
    let rows: Vec<_> = (0..1_000).map(row).collect();
    format!(
        "{}\n{{\"snapshots\":[{}]}}\n",
        source.join("\n"),
        rows.join(",")
    )
}

/// Goal: names of a recording, which anybody can have made, do not steer a terminal.
#[test]
fn what_a_recording_says_does_not_steer_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let yes = "(i32.store (i32.const 512) (i32.const 0)) (i32.const 512)";
    let file = guest(folder.path(), &retaining(DECISION, yes, &decides(2_048, 1)));
    let batches = folder.path().join("batches.jsonl");
    let row = "{\"id\":\"\\u001b[2J\",\"start\":\"2026-08-26T00:00:00Z\",\
               \"end\":\"2026-08-26T00:00:00Z\",\"pins\":[\"\\u001b[3J\"]}";
    let source = recorded().lines().take(2).collect::<Vec<_>>().join("\n");
    let source = source.replace("\"/a\"", "\"/\\u001b[1J\"");
    for (line, words) in [
        (format!("{{\"snapshots\":[{row}]}}"), " [2J of u@h:/ [1J"),
        ("{\"\\u001b[4J\":1}".to_owned(), "unknown variant ` [4J`"),
    ] {
        std::fs::write(&batches, format!("{source}\n{line}\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_careen"));
        command.args(["plugin", "replay", &file, batches.to_str().unwrap()]);
        let cache = super::shared_cache().to_str().unwrap();
        command.args(["--no-json", "--plugin-cache", cache]);
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains(words), "{said}");
        assert!(!said.contains('\u{1b}'), "{said:?}");
    }
}

/// Goal: every decision that differs is shown, and what the host would refuse of it; method: a
/// plugin that expires all against the built-in one, and against itself.
#[test]
fn a_replay_shows_what_differs_and_what_would_be_refused() {
    let folder = tempfile::tempdir().unwrap();
    let yes = "(i32.store (i32.const 512) (i32.const 0)) (i32.const 512)";
    let all = format!(
        "(local $n i32) (loop
           (i32.store8 (i32.add (i32.const 1048576) (i32.mul (local.get $n) (i32.const 12)))
             (i32.const 1))
           (local.set $n (i32.add (local.get $n) (i32.const 1)))
           (br_if 0 (i32.lt_u (local.get $n) (local.get 1))))
         {} (i32.store (i32.const 1032) (local.get 1)) (i32.const 1024)",
        stores(&[(1_024, 0), (1_028, 1 << 20)])
    );
    let file = guest(folder.path(), &retaining("", yes, &all));
    let batches = folder.path().join("batches.jsonl");
    std::fs::write(&batches, recorded()).unwrap();
    let batches = batches.to_str().unwrap();
    let (exit, lines) = told(&["plugin", "replay", &file, batches]);
    assert_eq!(exit, 0, "{lines:?}");
    let rows: Vec<&Value> = of_kind(&lines, "row")
        .iter()
        .map(|line| &line["row"])
        .collect();
    let found = |finding: &str| -> Vec<&&Value> {
        let rows = rows.iter();
        rows.filter(|row| row["finding"] == finding).collect()
    };
    let differs = found("differs");
    assert_eq!(differs.len(), 5);
    assert_eq!(differs[0]["line"], 3);
    assert_eq!(differs[0]["answer"], "expire");
    assert!(
        differs[0]["other"]
            .as_str()
            .unwrap()
            .starts_with("keep (latest-1"),
        "{differs:?}"
    );
    let about = differs[0]["about"].as_str().unwrap();
    assert!(about.contains("id30 of u@h:/a"), "{about}");
    let refused = found("refused");
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(
        refused[0]["reason"]
            .as_str()
            .unwrap()
            .contains("newest complete")
    );
    assert!(
        refused[1]["reason"]
            .as_str()
            .unwrap()
            .contains("pinned (mine)")
    );
    assert_eq!(found("over-share")[0]["expired"], 5);
    let report = &of_kind(&lines, "report")[0]["report"];
    assert_eq!(
        (&report["differences"], &report["refused"]),
        (&5.into(), &2.into())
    );
    assert_eq!(report["other"]["name"], "retention-kopia");
    assert_eq!(report["other_refused"], 0);

    let (exit, lines) = told(&["plugin", "replay", &file, batches, "--against", &file]);
    let report = &of_kind(&lines, "report")[0]["report"];
    assert_eq!((exit, &report["differences"]), (0, &0.into()));
    let (exit, lines) = told(&["plugin", "test", &file, batches]);
    assert_eq!(exit, 60, "{lines:?}");
}
