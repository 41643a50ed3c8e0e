//! What `careen plugin record` writes is what a repository asks: every snapshot, every pack, the
//! cycle that is due, and nothing of the repository changes. Replaying it on the built-in strategy
//! decides as the commands themselves.
//!
//! The program itself records from golden repositories. Without a built program nothing is tested,
//! and the kit says so.

use std::path::Path;
use std::process::{Command, Stdio};

use kit::golden::Golden;
use kit::program;
use serde_json::Value;

/// With epochs and without, Velero's, and one with many packs.
const RECORDED: [&str; 4] = [
    "default-0.23.1",
    "v1-v0index",
    "velero-0.17.0",
    "small-packs",
];

/// Runs the program; returns its JSON lines.
fn careen(golden: &Golden, arguments: &[&str]) -> Vec<Value> {
    let mut command = Command::new(program::careen().expect("the test asked for it"));
    command.args(arguments).arg("--json");
    command.arg("--scratch").arg(kit::disk());
    command.env("KOPIA_PASSWORD", golden.password());
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{arguments:?}: {words}");
    let lines = words.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines
        .iter()
        .filter(|line| line["kind"] == kind)
        .map(|line| &line[kind])
        .collect()
}

fn built(name: &str) -> String {
    let path = kit::workspace_root().join(format!("plugins/built/{name}.wasm"));
    path.to_str().unwrap().to_owned()
}

/// The batches of a recording, the head left out.
fn batches(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().skip(1);
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_recording_has_all_that_a_repository_asks() {
    if program::careen().is_none() {
        return;
    }
    for name in RECORDED {
        let golden = Golden::open(name);
        let root = golden.path().to_str().unwrap().to_owned();
        let before = golden.data().list().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let record = |strategy: &str| {
            let file = folder.path().join(strategy);
            let to = file.to_str().unwrap();
            let words = ["plugin", "record", &root, "--strategy", strategy, "-o", to];
            careen(&golden, &words);
            file
        };

        let retention = record("retention");
        let mut ids: Vec<String> = Vec::new();
        for batch in batches(&retention) {
            let rows = batch["snapshots"].as_array().cloned().unwrap_or_default();
            ids.extend(
                rows.iter()
                    .map(|row| row["id"].as_str().unwrap().to_owned()),
            );
        }
        let expire = careen(
            &golden,
            &["snapshot", "expire", &root, "--max-expire-percent", "100"],
        );
        let rows = of_kind(&expire, "row");
        let told: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert_eq!(ids, told, "{name}: in the same order");

        let splitting = record("splitting");
        let packs: usize = batches(&splitting)
            .iter()
            .filter_map(|batch| Some(batch.get("repack")?["packs"].as_array()?.len()))
            .sum();
        let index = careen(&golden, &["index", "inspect", &root]);
        let rows = of_kind(&index, "row");
        let named: std::collections::BTreeSet<_> =
            rows.iter().filter_map(|row| row["pack"].as_str()).collect();
        assert!(
            packs > 0 && packs <= named.len(),
            "{name}: {packs} of {}",
            named.len()
        );

        let scheduling = record("scheduling");
        let asked = batches(&scheduling);
        let asked = &asked[asked.len() - 1]["schedule"];
        assert!(!asked["cycles"].as_array().unwrap().is_empty(), "{name}");
        assert_eq!(
            golden.data().list().unwrap(),
            before,
            "{name}: nothing changed"
        );

        for (file, plugin) in [
            (&retention, "retention-kopia"),
            (&splitting, "splitting-short-packs"),
            (&scheduling, "scheduling-kopia"),
        ] {
            passes(&golden, plugin, file);
        }
    }
}

/// Checks that a built-in plugin passes its test, with a recording as well.
fn passes(golden: &Golden, plugin: &str, file: &Path) {
    let words = ["plugin", "test", &built(plugin), file.to_str().unwrap()];
    let tested = careen(golden, &words);
    let name = golden.name();
    assert!(of_kind(&tested, "row").is_empty(), "{name} {plugin}");
    assert_eq!(of_kind(&tested, "report").len(), 2, "{name} {plugin}");
}

/// Goal: with `--tenants` whose packs are is recorded too, a plugin that gives tenants is asked
/// about it, and nothing of the repository changes.
#[test]
fn owners_of_packs_are_recorded_for_plugins_that_ask() {
    if program::careen().is_none() {
        return;
    }
    let example = kit::workspace_root().join("plugins/examples/built/splitting-tenants.wasm");
    let example = example.to_str().unwrap();
    for name in ["default-0.23.1", "velero-0.17.0"] {
        let golden = Golden::open(name);
        let root = golden.path().to_str().unwrap().to_owned();
        let before = golden.data().list().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recorded");
        let to = file.to_str().unwrap();
        let words = [
            "plugin",
            "record",
            &root,
            "--strategy",
            "splitting",
            "-o",
            to,
        ];
        careen(
            &golden,
            &[&words[..], &["--tenants", "--hash-names"]].concat(),
        );
        assert_eq!(golden.data().list().unwrap(), before, "{name}");

        let recorded = batches(&file);
        let (mut snapshots, mut sources) = (0, std::collections::BTreeMap::new());
        let (mut packs, mut owned) = (0, 0);
        for batch in &recorded {
            if let Some(line) = batch.get("tenants") {
                let rows = line["snapshots"].as_array().unwrap();
                let tenants = line["tenants"].as_array().unwrap();
                for (row, tenant) in rows.iter().zip(tenants) {
                    let source =
                        [&row["host"], &row["userName"], &row["path"]].map(Value::to_string);
                    assert_eq!(sources.entry(source).or_insert(tenant), &tenant, "{name}");
                    snapshots += 1;
                }
            }
            for pack in batch["repack"]["packs"].as_array().into_iter().flatten() {
                packs += 1;
                owned += usize::from(pack["owner"].get("one").is_some());
            }
        }
        let listed = careen(&golden, &["snapshot", "list", &root]);
        assert_eq!(snapshots, of_kind(&listed, "row").len(), "{name}");
        assert!(packs > 0 && owned > 0, "{name}: {owned} of {packs}");

        let tested = careen(&golden, &["plugin", "test", example, to]);
        assert!(of_kind(&tested, "row").is_empty(), "{name}");
        let reports = of_kind(&tested, "report");
        let asked = recorded.len() as u64;
        assert_eq!(reports[1]["batches"], asked, "{name}: all of them");
        let replayed = careen(&golden, &["plugin", "replay", example, to]);
        assert_eq!(of_kind(&replayed, "report")[0]["refused"], 0, "{name}");
        passes(&golden, "splitting-short-packs", &file);
    }
}
