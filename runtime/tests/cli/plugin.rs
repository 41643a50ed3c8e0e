//! `careen plugin …` as its users call it, on the built-in components and on repositories of the
//! demo: what is said, with which exit code, and that repositories stay as they are.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

use super::{assert_fails, files, lines, text, with_password};

/// A component that is part of the program.
fn built(name: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    format!("{root}/../plugins/built/{name}.wasm")
}

/// A cache of these tests, so that each component is compiled once.
fn cache() -> &'static str {
    static CACHE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let directory = CACHE.get_or_init(|| tempfile::tempdir().unwrap());
    directory.path().to_str().unwrap()
}

fn careen(arguments: &[&str]) -> Command {
    let mut command = with_password(arguments);
    command.args(["--plugin-cache", cache()]);
    command
}

fn json(arguments: &[&str]) -> Vec<Value> {
    let told = careen(&[arguments, &["--json"]].concat()).output().unwrap();
    assert_eq!(told.status.code(), Some(0), "{arguments:?}: {told:?}");
    lines(&told)
}

fn words(arguments: &[&str]) -> String {
    let told = careen(&[arguments, &["--no-json"]].concat())
        .output()
        .unwrap();
    assert_eq!(told.status.code(), Some(0), "{arguments:?}: {told:?}");
    text(&told.stdout)
}

fn report(told: &[Value]) -> &Value {
    let is_report = |line: &&Value| line["kind"] == "report";
    &told.iter().find(is_report).unwrap()["report"]
}

fn rows(told: &[Value]) -> Vec<&Value> {
    let rows = told.iter().filter(|line| line["kind"] == "row");
    rows.map(|line| &line["row"]).collect()
}

/// Four snapshots of a source, some packs; made once.
fn backups() -> &'static Path {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, root) = MADE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("repository");
        let run = ["demo", "--no-run", "--keep", root.to_str().unwrap()];
        let shape = ["--snapshots", "6", "--directories", "3", "--files", "40"];
        let made = careen(&[&run[..], &shape].concat()).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        (directory, root)
    });
    root
}

#[test]
fn check_says_what_a_plugin_is() {
    for (name, strategy, export) in [
        (
            "splitting-short-packs",
            "splitting",
            "careen:strategy/split@",
        ),
        ("retention-kopia", "retention", "careen:strategy/retain@"),
        (
            "scheduling-kopia",
            "scheduling",
            "careen:strategy/schedule@",
        ),
    ] {
        let file = built(name);
        let told = json(&["plugin", "check", &file]);
        let report = report(&told);
        let digest = report["blake3"].as_str().unwrap();
        assert_eq!(report["strategies"], serde_json::json!([strategy]));
        let pin = format!("{strategy}={file}@blake3:{digest}");
        assert_eq!(report["pins"], serde_json::json!([pin]));
        assert_eq!(report["contract"].as_array().unwrap().len(), 1, "{report}");
        let exports = report["exports"].as_array().unwrap();
        assert!(exports[0].as_str().unwrap().starts_with(export), "{report}");
        let length = std::fs::metadata(&file).unwrap().len();
        assert_eq!(report["bytes"], length);
        assert!(report["first_memory_bytes"].as_u64().unwrap() <= 256 << 10);
        let digests = std::fs::read_to_string(file.replace(".wasm", ".digests")).unwrap();
        assert!(digests.contains(digest), "{digests}");

        let said = words(&["plugin", "check", &file]);
        let pin = format!("use it as   --plugin {pin}");
        for part in [
            &pin[..],
            "imports",
            "host-log@",
            "128 KiB at first, of 8 MiB",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

/// Goal: what check refuses, a run refuses with the same words; method: broken files, and a
/// component for another strategy.
#[test]
fn check_refuses_what_a_run_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (cut, module, nothing) = (path("cut.wasm"), path("module.wasm"), path("nothing.wasm"));
    let whole = std::fs::read(built("splitting-short-packs")).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    std::fs::write(&module, wat::parse_str("(module)").unwrap()).unwrap();
    for (file, code) in [
        (&cut, "plugin-compile"),
        (&module, "plugin-compile"),
        (&nothing, "plugin-io"),
    ] {
        let message = |arguments: &[&str]| {
            let told = careen(&[arguments, &["--json"]].concat()).output().unwrap();
            assert_eq!(told.status.code(), Some(50), "{arguments:?}: {told:?}");
            let told = lines(&told);
            let error = told.iter().find(|line| line["kind"] == "error").unwrap();
            assert_eq!(error["code"], code, "{error}");
            error["message"].as_str().unwrap().to_owned()
        };
        let checked = message(&["plugin", "check", file]);
        let named = format!("splitting={file}");
        let repository = super::repository().to_str().unwrap();
        let run = [
            "index",
            "compact",
            repository,
            "--dry-run",
            "--plugin",
            &named,
        ];
        assert_eq!(checked, message(&run));
    }
    let told = careen(&["plugin", "check", &cut, "--json"])
        .output()
        .unwrap();
    let told = lines(&told);
    assert_eq!(
        report(&told)["bytes"],
        whole.len() as u64 / 2,
        "it is told all the same"
    );
}

#[test]
fn compile_fills_a_cache_that_runs_use() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let cache = cache.to_str().unwrap();
    let file = built("retention-kopia");
    let compile = |more: &[&str]| {
        let words = ["plugin", "compile", &file, "--plugin-cache", cache];
        let mut command = with_password(&[&words[..], more].concat());
        command.output().unwrap()
    };
    let first = lines(&compile(&["--json"]));
    let first = rows(&first)[0];
    assert!(first["compile_seconds"].is_f64(), "{first}");
    assert!(first["start_milliseconds"].as_f64().unwrap() < 1_000.0);
    let code = first["code"].as_str().unwrap();
    let length = std::fs::metadata(code).unwrap().len();
    assert_eq!(first["code_bytes"], length);
    let said = text(&compile(&["--no-json"]).stdout);
    assert!(said.contains("compiled before"), "{said}");

    let none = folder.path().join("file");
    std::fs::write(&none, "").unwrap();
    let below = none.join("cache");
    let below = [
        "plugin",
        "compile",
        &file,
        "--plugin-cache",
        below.to_str().unwrap(),
    ];
    assert_fails(with_password, &below, 50, "plugin-io");
    let little = tempfile::tempdir().unwrap();
    let little = ["--plugin-cache", little.path().to_str().unwrap()];
    let limit = ["plugin", "compile", &file, "--compile-memory", "20MiB"];
    assert_fails(
        with_password,
        &[&limit[..], &little].concat(),
        50,
        "plugin-compile-limit",
    );
}

#[test]
fn the_built_in_plugins_pass_their_test() {
    for (name, strategy, rows) in [
        ("splitting-short-packs", "splitting", 5_000),
        ("retention-kopia", "retention", 18_000),
        ("scheduling-kopia", "scheduling", 200),
    ] {
        let told = json(&["plugin", "test", &built(name)]);
        let report = report(&told);
        assert_eq!(report["strategy"], strategy);
        assert!(report["rows"].as_u64().unwrap() > rows, "{report}");
        for count in ["refused", "differences", "other_reasons"] {
            assert_eq!(report[count], 0, "{report}");
        }
        let usage = &report["plugin"]["usage"];
        assert!(
            usage["fuel"].as_u64() > usage["fuel_of_a_call"].as_u64(),
            "{usage}"
        );
        assert!(report["fuel_of_a_row"].as_f64().unwrap() > 1.0);
        let said = words(&["plugin", "test", &built(name)]);
        for part in ["0 refused, 0 differ", "a row; at most", "of 8 MiB"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

#[test]
fn a_limit_that_is_passed_fails_the_test() {
    let file = built("retention-kopia");
    let test = ["plugin", "test", &file];
    let little = ["--plugin-fuel", "200000"];
    let told = careen(&[&test[..], &little, &["--json"]].concat()).output();
    let told = told.unwrap();
    assert_eq!(told.status.code(), Some(60), "{told:?}");
    let told = lines(&told);
    let error = told.iter().find(|line| line["kind"] == "error").unwrap();
    assert_eq!(error["code"], "plugin-fuel");
    for more in [["--plugin-memory", "1GiB"], ["--plugin-fuel", "5"]] {
        assert_fails(careen, &[&test[..], &more].concat(), 50, "usage");
    }
}

/// Goal: a recording is what a repository asks, without names if wanted, and replaying it on the
/// same plugin differs nowhere; method: the demo's backups, all three strategies.
#[test]
fn recordings_come_back() {
    let (root, folder) = (backups(), tempfile::tempdir().unwrap());
    let path = root.to_str().unwrap();
    let before = files(root);
    for (strategy, plugin, least) in [
        ("retention", "retention-kopia", 3),
        ("splitting", "splitting-short-packs", 2),
        ("scheduling", "scheduling-kopia", 10),
    ] {
        let file = folder.path().join(format!("{strategy}.jsonl"));
        let to = file.to_str().unwrap();
        let record = ["plugin", "record", path, "--strategy", strategy, "-o", to];
        let told = json(&record);
        let report = report(&told);
        assert!(report["rows"].as_u64().unwrap() >= least, "{report}");
        assert_eq!(report["bytes"], std::fs::metadata(&file).unwrap().len());
        let head = std::fs::read_to_string(&file).unwrap();
        let head: Value = serde_json::from_str(head.lines().next().unwrap()).unwrap();
        assert_eq!(
            (&head["careen_batches"], &head["strategy"]),
            (&1.into(), &strategy.into())
        );

        let replay = ["plugin", "replay", &built(plugin), to];
        let told = json(&replay);
        assert!(rows(&told).is_empty(), "{told:?}");
        let replayed = self::report(&told);
        assert_eq!(replayed["rows"], report["rows"]);
        assert_eq!(
            (&replayed["differences"], &replayed["refused"]),
            (&0.into(), &0.into())
        );
        let test = ["plugin", "test", &built(plugin), to];
        assert_eq!(
            json(&test)
                .iter()
                .filter(|line| line["kind"] == "report")
                .count(),
            2
        );
        let other = match plugin {
            "retention-kopia" => built("scheduling-kopia"),
            _ => built("retention-kopia"),
        };
        assert_fails(
            careen,
            &["plugin", "replay", &other, to],
            50,
            "plugin-world",
        );
    }
    let mode = |file: &Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(file).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode(&folder.path().join("retention.jsonl")), 0o600);
    assert_eq!(files(root), before, "nothing was written");
}

#[test]
fn names_can_be_hidden() {
    let (root, folder) = (backups().to_str().unwrap(), tempfile::tempdir().unwrap());
    let file = |name: &str, more: &[&str]| {
        let path = folder.path().join(name);
        let to = path.to_str().unwrap().to_owned();
        let record = [
            "plugin",
            "record",
            root,
            "--strategy",
            "retention",
            "-o",
            &to,
        ];
        json(&[&record[..], more].concat());
        std::fs::read_to_string(path).unwrap()
    };
    let (open, hidden) = (file("open", &[]), file("hidden", &["--hash-names"]));
    let source = |recorded: &str| {
        let sources = recorded.lines().filter_map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line.get("source").cloned()
        });
        sources.collect::<Vec<_>>()[0].clone()
    };
    let (open, hidden) = (source(&open), source(&hidden));
    for field in ["host", "userName", "path"] {
        let name = open[field].as_str().unwrap();
        assert!(!name.is_empty(), "{open}");
        assert_ne!(open[field], hidden[field], "{hidden}");
    }
    assert_ne!(
        hidden,
        source(&file("again", &["--hash-names"])),
        "the key is new"
    );
}

#[test]
fn recordings_are_refused_where_they_do_not_belong() {
    let root = backups();
    let path = root.to_str().unwrap();
    let inside = root.join("x.jsonl");
    let inside = inside.to_str().unwrap();
    let record = ["plugin", "record", path, "--strategy", "retention", "-o"];
    assert_fails(careen, &[&record[..], &[inside]].concat(), 50, "usage");
    let nowhere = "/nowhere/at/all.jsonl";
    assert_fails(
        careen,
        &[&record[..], &[nowhere]].concat(),
        50,
        "plugin-recording",
    );
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.jsonl");
    std::fs::write(&broken, "{}\n").unwrap();
    let broken = broken.to_str().unwrap();
    let plugin = built("retention-kopia");
    assert_fails(
        careen,
        &["plugin", "replay", &plugin, broken],
        50,
        "plugin-batches",
    );
    assert_fails(
        careen,
        &["plugin", "test", &plugin, "/nowhere"],
        50,
        "plugin-batches",
    );
}

/// Goal: a run and a plan tell what each plugin used, and what it decided for which reason; method:
/// a full cycle on backups of its own.
#[test]
fn reports_tell_of_the_plugins_that_were_asked() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("repository");
    let path = root.to_str().unwrap();
    let run = ["demo", "--no-run", "--keep", path];
    let shape = ["--snapshots", "6", "--directories", "3", "--files", "40"];
    assert!(
        careen(&[&run[..], &shape].concat())
            .output()
            .unwrap()
            .status
            .success()
    );
    let full = ["--mode", "full", "--safety", "none", "--expire-snapshots"];
    let told = json(&[&["plan", path][..], &full].concat());
    let plan = &told.iter().find(|line| line["kind"] == "plan").unwrap()["plan"];
    let names = |of: &Value| {
        let plugins = of["plugins"].as_array().unwrap().iter();
        let names = plugins.map(|plugin| plugin["strategy"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(plan), ["scheduling", "retention", "splitting"]);
    let told = careen(&[&["run", path][..], &full, &["--json"]].concat())
        .output()
        .unwrap();
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    let told = lines(&told);
    let report = report(&told);
    assert_eq!(names(report), ["scheduling", "retention", "splitting"]);
    for plugin in report["plugins"].as_array().unwrap() {
        assert_eq!(plugin["blake3"].as_str().unwrap().len(), 64);
        assert!(plugin["usage"]["calls"].as_u64().unwrap() > 0, "{plugin}");
        assert_eq!(plugin["limits"]["memory_bytes"], 8 << 20);
    }
    let packs = &report["plugins"][2]["decisions"];
    let packs = packs.as_array().unwrap();
    assert!(
        packs
            .iter()
            .any(|row| row["decision"].as_str().unwrap().contains("rewritten"))
    );
    assert!(
        packs
            .iter()
            .all(|row| !row["reason"].as_str().unwrap().is_empty())
    );

    let said = words(&["snapshot", "expire", path]);
    assert!(said.contains("\nplugin retention-kopia"), "{said}");
    assert!(said.contains("M fuel, "), "{said}");
}

#[test]
fn help_of_plugin_commands_teaches() {
    for (command, parts) in [
        (
            &["plugin"][..],
            &["check", "compile", "test", "record", "replay"][..],
        ),
        (&["plugin", "check"], &["refuse", "Examples:"]),
        (
            &["plugin", "compile"],
            &["init container", "--compile-memory", "--plugin-cache"],
        ),
        (&["plugin", "test"], &["twice", "Exit\ncode 60"]),
        (&["plugin", "record"], &["--hash-names", "-o", "no lock"]),
        (&["plugin", "replay"], &["--against", "builtin"]),
    ] {
        let told: Output = super::careen(&[command, &["--help"]].concat())
            .output()
            .unwrap();
        assert_eq!(told.status.code(), Some(0), "{command:?}");
        let said = text(&told.stdout);
        for part in parts {
            assert!(said.contains(part), "{command:?} {part}: {said}");
        }
        assert!(
            said.lines().all(|line| line.chars().count() <= 100),
            "{said}"
        );
    }
}
