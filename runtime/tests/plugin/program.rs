//! The program with plugins of a stranger: what `careen run` and `careen plan` do with their
//! answers, with which exit code, and that nothing is written.

use std::path::Path;
use std::process::{Command, Output};

use super::world::{Guest, scheduling, stores};

fn careen(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_careen"));
    command
        .args(arguments)
        .env("KOPIA_PASSWORD", "static-passw0rd")
        .env_remove("CAREEN_STRATEGIES")
        .env_remove("CAREEN_NOW");
    command.output().unwrap()
}

fn succeeded(arguments: &[&str]) -> String {
    let told = careen(arguments);
    assert!(told.status.success(), "{arguments:?}: {told:?}");
    String::from_utf8(told.stdout).unwrap()
}

fn assert_fails(arguments: &[&str], exit: i32, code: &str) {
    let told = careen(&[arguments, &["--json"]].concat());
    assert_eq!(told.status.code(), Some(exit), "{arguments:?}: {told:?}");
    let words = String::from_utf8(told.stdout).unwrap();
    let named = format!("\"code\":\"{code}\"");
    assert!(words.contains(&named), "{arguments:?}: {words}");
}

/// Paths and contents of all files below a folder, sorted.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found.push((path.to_string_lossy().into_owned(), bytes));
            }
        }
    }
    found.sort_unstable();
    found
}

/// Writes a scheduling plugin whose answer is at 1024.
fn plugin(folder: &Path, name: &str, fields: &str, body: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, scheduling(fields, body)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Goal: what a scheduling plugin says is what the command does: nothing before a moment is no
/// error; nonsense and traps are a safety stop; a wrong pin is refused even when nothing is due;
/// and nothing of that writes anything.
#[test]
fn a_scheduling_plugin_decides_and_cannot_hurt() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("repository");
    let path = root.to_str().unwrap();
    let shape = ["--entries", "1000", "--index-blobs", "10"];
    succeeded(&[&["demo", "--no-run", "--keep", path][..], &shape].concat());
    let before = files(&root);
    let file = |name, fields, body: &str| plugin(folder.path(), name, fields, body);
    let run = |command: &str, file: &str| {
        let named = format!("scheduling={file}");
        succeeded(&[
            command, path, "--mode", "full", "--json", "--plugin", &named,
        ])
    };
    let words = "(data (i32.const 3072) \"backups run\")";
    let moment = |seconds: &str| {
        let numbers = [(1_024, 0), (1_032, 1), (1_048, 3_072), (1_052, 11)];
        let store = format!("(i64.store (i32.const 1040) {seconds})");
        format!("{} {store} (i32.const 1024)", stores(&numbers))
    };
    let soon = moment("(i64.add (i64.load (local.get 0)) (i64.const 3600))");
    // The same by one that asks for costs first. They are not known: the packs of this repository
    // were never there.
    let count = stores(&[(1_024, 0), (1_032, 2)]);
    let known = "(i32.load8_u offset=88 (local.get 0))";
    let counts = format!(
        "(if (i32.eqz {known}) (then {count} (return (i32.const 1024))))
         (if (i32.ne {known} (i32.const 2)) (then unreachable)) {soon}"
    );
    let soon = file("soon.wasm", words, &soon);
    let counts = file("counts.wasm", words, &counts);
    for (command, file) in [
        ("run", &soon),
        ("plan", &soon),
        ("run", &counts),
        ("plan", &counts),
    ] {
        let told = run(command, file);
        assert!(told.contains("\"not_before\":\"20"), "{told}");
        assert!(
            told.contains("not before 20") && told.contains(": backups run"),
            "{told}"
        );
    }
    let far = file("far.wasm", words, &moment("(i64.const 4102444800)"));
    let trap = file("trap.wasm", "", "unreachable");
    for (file, exit, code) in [
        (format!("scheduling={far}"), 60, "plugin-answer-refused"),
        (format!("scheduling={trap}"), 60, "plugin-trap"),
        (
            format!("scheduling={soon}@blake3:{}", "0".repeat(64)),
            50,
            "plugin-digest-mismatch",
        ),
        (format!("retention={soon}"), 50, "usage"),
        (format!("order={soon}"), 50, "plugin-argument"),
        (format!("splitting={soon}"), 50, "plugin-world"),
    ] {
        let arguments = ["run", path, "--mode", "full", "--plugin", &file];
        assert_fails(&arguments, exit, code);
    }
    let twice = format!("scheduling={soon}");
    let twice = ["run", path, "--plugin", &twice, "--plugin", &twice];
    assert_fails(&twice, 50, "plugin-argument");
    assert_eq!(files(&root), before, "nothing was written");
}

/// A scheduling plugin that waits an hour, and needs a configuration with a number `hour` below 24.
fn configured_plugin(folder: &Path) {
    let schema = r#"{"required":["hour"],"properties":{"hour":{"maximum":23}}}"#;
    let texts = format!(
        "(data (i32.const 3072) \"by the hour\") (data (i32.const 3200) \"{}\")",
        schema.replace('"', "\\\"")
    );
    let schema_bytes = u32::try_from(schema.len()).unwrap();
    let describe = stores(&[
        (512, 3_072),
        (516, 11),
        (536, 1),
        (540, 3_200),
        (544, schema_bytes),
    ]);
    let describe = format!("{describe} (i32.const 512)");
    let configure = "(i32.store (i32.const 600) (i32.const 0)) (i32.const 600)";
    let soon = "(i64.store (i32.const 1040) \
                (i64.add (i64.load (local.get 0)) (i64.const 3600)))";
    let numbers = stores(&[(1_024, 0), (1_032, 1), (1_048, 3_072), (1_052, 11)]);
    let schedule = format!("{numbers} {soon} (i32.const 1024)");
    let guest = Guest::scheduling(&texts, &schedule).about(&describe, configure);
    std::fs::write(folder.join("hour.wasm"), guest.wasm()).unwrap();
}

/// Strategies files that are refused, with code and words.
const BAD_FILES: &[(&str, &str, &str)] = &[
    (
        "[scheduling]\nplugins = \"hour.wasm\"\n",
        "strategies-file",
        "line 2: unknown field",
    ),
    (
        "[scheduling]\nmemory = \"1GiB\"\n",
        "strategies-file",
        "a memory of 1073741824",
    ),
    (
        "[scheduling]\nplugin = \"hour.wasm\"\n",
        "plugin-configuration",
        "lacks \\\"hour",
    ),
    (
        "[scheduling]\nplugin = \"hour.wasm\"\nconfiguration = { hour = 24 }\n",
        "plugin-configuration",
        "configuration/hour is 24; the most is 23",
    ),
    (
        "[scheduling.configuration]\nhour = 22\n",
        "plugin-configuration",
        "takes no configuration",
    ),
    (
        "[splitting.configuration]\na = 1\n",
        "plugin-configuration",
        "splitting-short-packs",
    ),
];

/// Goal: plugin, limits and configuration come from the strategies file, the command line's plugin
/// wins, and what is wrong ends the command before anything happens, with its line or its place.
#[test]
fn a_strategies_file_says_which_plugin_and_how() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("repository");
    let path = root.to_str().unwrap();
    let shape = ["--entries", "1000", "--index-blobs", "10"];
    succeeded(&[&["demo", "--no-run", "--keep", path][..], &shape].concat());
    let before = files(&root);
    std::fs::create_dir(folder.path().join("strategies")).unwrap();
    let file = folder.path().join("strategies/strategies.toml");
    let name = file.to_str().unwrap();
    configured_plugin(&folder.path().join("strategies"));
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let plan = ["plan", path, "--mode", "full", "--strategies", name];
    let whole = "[scheduling]\nplugin = \"hour.wasm\"\nmemory = \"16MiB\"\n\
                 [scheduling.configuration]\nhour = 22\n";
    write(whole);
    let told = succeeded(&[&plan[..], &["--json"]].concat());
    assert!(
        told.contains(": by the hour") && told.contains("memory 16384 KiB"),
        "{told}"
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_careen"));
    let by_environment = command
        .args(["plan", path, "--mode", "full", "--json"])
        .env("KOPIA_PASSWORD", "static-passw0rd")
        .env("CAREEN_STRATEGIES", name)
        .output();
    let told = String::from_utf8(by_environment.unwrap().stdout).unwrap();
    assert!(told.contains(": by the hour"), "{told}");
    for (text, code, words) in BAD_FILES {
        write(text);
        for command in ["run", "plan"] {
            let arguments = [&[command][..], &plan[1..]].concat();
            assert_fails(&arguments, 50, code);
            let told = careen(&[&arguments[..], &["--json"]].concat());
            let told = String::from_utf8(told.stdout).unwrap();
            assert!(told.contains(words), "{text}: {told}");
        }
    }
    // The command line's plugin instead of the file's: it takes no configuration.
    write(whole);
    let trap = plugin(folder.path(), "trap.wasm", "", "unreachable");
    let trap = format!("scheduling={trap}");
    assert_fails(
        &[&plan[..], &["--plugin", &trap]].concat(),
        50,
        "plugin-configuration",
    );
    write("[scheduling]\nplugin = \"hour.wasm\"\n");
    assert_fails(
        &[&plan[..], &["--plugin", &trap]].concat(),
        60,
        "plugin-trap",
    );
    assert_eq!(files(&root), before, "nothing was written");
}
