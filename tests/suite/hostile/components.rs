//! Components that never run: no component at all, too large, too costly to compile, with imports
//! that nobody gets, with floats, with more memories than anyone needs; and files that are not the
//! pinned one, or not any more.
//!
//! Memory: a compile bomb as text, some 20 MB.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use guests::PACKAGE_VERSION;
use guests::answers::{DECISION, YES, decides, runs, splits, waits_until};
use guests::splitting::{Guest, SPLIT, splitting};
use guests::worlds;
use kit::program;

use super::ship::{Ship, Strategy};

/// Every command that takes plugins; each refuses alike.
const ALL: [Strategy; 3] = [Strategy::Split, Strategy::Retention, Strategy::Scheduling];

/// Writes a file and lets each command try it.
fn refused(ship: &Ship, moment: &str, bytes: &[u8], code: &str, words: &str) {
    let path = ship.path("guest.wasm");
    std::fs::write(&path, bytes).unwrap();
    for strategy in ALL {
        refused_by(ship, strategy, moment, code, words);
    }
}

fn refused_by(ship: &Ship, strategy: Strategy, moment: &str, code: &str, words: &str) {
    let path = ship.path("guest.wasm");
    let ended = ship.careen_with(strategy, path.to_str().unwrap());
    let moment = format!("{strategy:?}: {moment}");
    let message = ship.ended_by(&ended, code, &moment, true);
    assert!(message.contains(words), "{moment}: {message}");
    named(&message, &path, code, &moment);
}

/// Checks that a message names the plugin; with digest and limits, once the file was read.
fn named(message: &str, path: &Path, code: &str, moment: &str) {
    let digest = match code {
        "plugin-too-large" => String::new(),
        _ => {
            let digest = blake3::hash(&std::fs::read(path).unwrap());
            format!(" (blake3 {digest}, memory 8192 KiB, fuel 1000000000, deadline 5000 ms)")
        }
    };
    let name = format!(" guest{digest}: ");
    assert!(message.contains(&name), "{moment}: {message}");
}

#[test]
fn what_is_no_component_is_refused() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    let module = wat::parse_str("(module)").unwrap();
    let good = splitting("unreachable");
    let refused =
        |moment, bytes: &[u8], words| refused(&ship, moment, bytes, "plugin-compile", words);
    refused("an empty file", b"", "cannot be compiled");
    refused("a core module", &module, "component");
    refused(
        "machine code",
        b"\x7fELF of somebody else",
        "cannot be compiled",
    );
    refused("noise", &[0xa5; 70_000], "cannot be compiled");
    refused(
        "half of a component",
        &good[..good.len() / 2],
        "cannot be compiled",
    );
    // 200 MB of nothing behind a good beginning; on the disk it takes none.
    let large = File::create(ship.path("guest.wasm")).unwrap();
    large.write_all_at(&good, 0).unwrap();
    large.set_len(200_000_000).unwrap();
    for strategy in ALL {
        refused_by(
            &ship,
            strategy,
            "200 MB",
            "plugin-too-large",
            "33554432 bytes",
        );
    }
}

#[test]
fn components_that_nobody_can_compile_in_the_limit_are_ended() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    let statement = "(local.set 0 (i32.add (local.get 1) (i32.mul (local.get 0) (local.get 2))))";
    let core = format!("{SPLIT} {} (local.get 0))", statement.repeat(100_000));
    let one_function = Guest::new(&core).wasm();
    let core = format!(
        "{} {SPLIT} unreachable)",
        "(func (drop (i32.const 7)))".repeat(50_000)
    );
    let many_functions = Guest::new(&core).wasm();
    for (moment, wasm) in [
        ("one endless function", one_function),
        ("50,000 functions", many_functions),
    ] {
        let words = "MiB of memory, 512 MiB of address space";
        std::fs::write(ship.path("guest.wasm"), wasm).unwrap();
        refused_by(
            &ship,
            Strategy::Split,
            moment,
            "plugin-compile-limit",
            words,
        );
    }
    // As large as is allowed: nearly nothing of it is code.
    let mut section = vec![0_u8];
    let padding = 31 << 20;
    let mut length = padding;
    while length > 0 {
        let more = u8::from(length > 0x7f) << 7;
        section.push((length & 0x7f) as u8 | more);
        length >>= 7;
    }
    let large = [&splitting("unreachable")[..], &section, &vec![0; padding]].concat();
    std::fs::write(ship.path("guest.wasm"), large).unwrap();
    let path = ship.path("guest.wasm");
    let ended = ship.careen_with(Strategy::Split, path.to_str().unwrap());
    let message = ship.ended_by(&ended, "plugin-trap", "31 MiB", true);
    named(&message, &path, "plugin-trap", "31 MiB");
}

/// What the world outside offers, and no plugin gets.
const OUTSIDE: [(&str, &str); 5] = [
    ("wasi:filesystem/preopens@0.2.0", r#"(func (result u32))"#),
    (
        "wasi:sockets/tcp-create-socket@0.2.0",
        r#"(func (param "family" u8) (result u32))"#,
    ),
    (
        "wasi:http/outgoing-handler@0.2.0",
        r#"(func (param "request" u32))"#,
    ),
    ("wasi:clocks/wall-clock@0.2.0", r#"(func (result u64))"#),
    (
        "wasi:random/random@0.2.0",
        r#"(func (param "len" u64) (result (list u8)))"#,
    ),
];

fn importing<'a>(import: &'a str, mut guest: worlds::Guest<'a>) -> Vec<u8> {
    guest.component = import;
    guest.wasm()
}

#[test]
fn nobody_reaches_the_outside() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    for (name, function) in OUTSIDE {
        let import = format!("(import \"{name}\" (instance (export \"call\" {function})))");
        let core = format!("{SPLIT} unreachable)");
        let mut splitting = Guest::new(&core);
        splitting.component = &import;
        for (strategy, wasm) in [
            (Strategy::Split, splitting.wasm()),
            (
                Strategy::Retention,
                importing(&import, worlds::Guest::retaining("", YES, "unreachable")),
            ),
            (
                Strategy::Scheduling,
                importing(&import, worlds::Guest::scheduling("", "unreachable")),
            ),
        ] {
            std::fs::write(ship.path("guest.wasm"), wasm).unwrap();
            refused_by(&ship, strategy, name, "plugin-import", name);
        }
    }
}

#[test]
fn what_is_written_for_no_world_of_ours_is_refused() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    let core = format!("{SPLIT} unreachable)");
    let guest = Guest::new(&core);
    let refused = |strategy, moment, wasm: Vec<u8>, words: &str| {
        std::fs::write(ship.path("guest.wasm"), wasm).unwrap();
        refused_by(&ship, strategy, moment, "plugin-world", words);
    };
    let nothing = wat::parse_str("(component)").unwrap();
    refused(
        Strategy::Split,
        "an empty component",
        nothing,
        "exports nothing",
    );
    let exports = format!("exports careen:strategy/split@{PACKAGE_VERSION}");
    for strategy in [Strategy::Retention, Strategy::Scheduling] {
        refused(strategy, "another strategy", guest.wasm(), &exports);
    }
    let newer = Guest {
        version: "2.0.0",
        ..Guest::new(&core)
    };
    refused(
        Strategy::Split,
        "a version to come",
        newer.wasm(),
        "split@2.0.0",
    );
}

/// Goal: no answer can be NaN, for no world has floats; method: one that answers with them.
#[test]
fn floats_are_refused_before_anything_runs() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    let core = format!("{SPLIT} unreachable)");
    let entries = |kind: &str| format!("(field \"shard-entries\" {kind})");
    for kind in ["f64", "f32"] {
        let text = Guest::new(&core).text();
        let floats = text.replace(&entries("u32"), &entries(kind));
        assert_ne!(floats, text);
        let path = ship.path("guest.wasm");
        std::fs::write(&path, wat::parse_str(&floats).unwrap()).unwrap();
        let ended = ship.careen_with(Strategy::Split, path.to_str().unwrap());
        let message = ship.ended_by(&ended, "plugin-data", kind, true);
        let words = format!("expected `u32` found `{kind}`");
        assert!(message.contains(&words), "{message}");
        named(&message, &path, "plugin-data", kind);
    }
}

/// Goal: what an instance would take counts before any of its code runs.
#[test]
fn memories_tables_and_instances_are_counted_together() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    let many = |module: &str, count: usize| {
        let instances = "(core instance (instantiate $m))".repeat(count);
        format!("(core module $m {module}) {instances}")
    };
    for (moment, component, code, words) in [
        (
            "3 memories of 3 MiB",
            many("(memory 48)", 3),
            "plugin-memory",
            "9216 KiB",
        ),
        (
            "60 memories",
            many("(memory 0)", 60),
            "plugin-data",
            "memory count too high",
        ),
        (
            "500 instances",
            many("", 500),
            "plugin-data",
            "instance count too high",
        ),
        (
            "10 million elements",
            many("(table 10000000 funcref)", 1),
            "plugin-memory",
            "table",
        ),
    ] {
        let core = format!("{SPLIT} {})", splits(100_000, (0, 0), (0, 0)));
        let mut guest = Guest::new(&core);
        guest.component = &component;
        std::fs::write(ship.path("guest.wasm"), guest.wasm()).unwrap();
        let path = ship.path("guest.wasm");
        let ended = ship.careen_with(Strategy::Split, path.to_str().unwrap());
        let message = ship.ended_by(&ended, code, moment, true);
        assert!(message.contains(words), "{moment}: {message}");
        named(&message, &path, code, moment);
        assert!(message.contains("(used: memory "), "{moment}: {message}");
    }
}

#[test]
fn a_file_that_is_not_the_pinned_one_is_refused() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    let path = ship.path("guest.wasm");
    let other = splitting("unreachable");
    std::fs::write(&path, &other).unwrap();
    let pin = blake3::hash(b"what was looked at");
    let found = blake3::hash(&other);
    let words = format!("guest: pinned to blake3 {pin}, but the file has {found}");
    let strategies = ship.path("strategies.toml");
    for strategy in ALL {
        let file = format!("{}@blake3:{pin}", path.display());
        let ended = ship.careen_with(strategy, &file);
        let moment = format!("{strategy:?}: another file");
        let message = ship.ended_by(&ended, "plugin-digest-mismatch", &moment, true);
        assert!(message.contains(&words), "{message}");
        // The same with the pin in the strategies file.
        let (command, name) = strategy.words();
        let text = format!("[{name}]\nplugin = \"guest.wasm\"\nblake3 = \"{pin}\"\n");
        std::fs::write(&strategies, text).unwrap();
        let file = ["--strategies", strategies.to_str().unwrap()];
        let ended = ship.careen(&[command, &file].concat());
        let moment = format!("{strategy:?}: another file than the strategies file's");
        let message = ship.ended_by(&ended, "plugin-digest-mismatch", &moment, true);
        assert!(message.contains(&words), "{message}");
    }
}

/// Goal: a file that is replaced after its pin was checked, and before it is loaded, is not loaded.
/// Method: the scheduling plugin says when it runs, and takes a while; the retention plugin, whose
/// pin was checked at the start, is loaded after it, and is replaced meanwhile.
#[test]
fn a_file_that_is_replaced_after_the_check_is_refused() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    let work = "(local $n i32) (local.set $n (i32.const 100000000)) \
                (call $log (i32.const 2) (i32.const 4096) (i32.const 7)) \
                (loop (local.set $n (i32.sub (local.get $n) (i32.const 1))) \
                (br_if 0 (local.get $n)))";
    let names = r#"(data (i32.const 4096) "at work") (data (i32.const 3072) "snapshot-gc")
        (data (i32.const 2048) "\00\0c\00\00\0b\00\00\00")"#;
    let slow = worlds::scheduling(names, &format!("{work} {}", runs((2_048, 1), (0, 0))));
    let good = worlds::retaining(DECISION, YES, &decides(2_048, 1));
    let (slow_path, path) = (ship.path("slow.wasm"), ship.path("guest.wasm"));
    std::fs::write(&slow_path, slow).unwrap();
    std::fs::write(&path, &good).unwrap();
    let scheduling = format!("scheduling={}", slow_path.display());
    let retention = format!(
        "retention={}@blake3:{}",
        path.display(),
        blake3::hash(&good)
    );
    let words = ["run", "--mode", "full", "--expire-snapshots"];
    let plugins = ["--plugin", &scheduling, "--plugin", &retention];
    let program = Command::new(program::careen().unwrap());
    let mut command = ship.prepare(program, &[&words[..], &plugins].concat());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.contains("at work") {
            let replaced = worlds::retaining(DECISION, YES, "unreachable");
            let mut file = File::create(&path).unwrap();
            file.write_all(&replaced).unwrap();
        }
        said += &format!("{line}\n");
    }
    let exit = child.wait().unwrap().code();
    assert!(said.contains("at work"), "{said}");
    assert_eq!(exit, Some(50), "{said}");
    assert!(
        said.contains(r#""code":"plugin-digest-mismatch""#),
        "{said}"
    );
    ship.unchanged("a replaced file", false);
}

/// Goal: a guest that does as it should is obeyed: the attacks above fail for what they do.
#[test]
fn an_honest_guest_of_the_same_make_is_obeyed() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    let soon = waits_until(
        "(i64.add (i64.load (local.get 0)) (i64.const 60))",
        (3_072, 11),
    );
    let wait = worlds::scheduling(r#"(data (i32.const 3072) "not tonight")"#, &soon);
    let path = ship.path("guest.wasm");
    std::fs::write(&path, wait).unwrap();
    let ended = ship.careen_with(Strategy::Scheduling, path.to_str().unwrap());
    assert_eq!(ended.exit, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("not tonight"), "{ended:?}");
    ship.unchanged("a night off", true);
    let split = splitting(&splits(200_000, (0, 0), (0, 0)));
    std::fs::write(&path, split).unwrap();
    let ended = ship.careen_with(Strategy::Split, path.to_str().unwrap());
    assert_eq!(ended.exit, Some(0), "{ended:?}");
    ship.sails_on();
}
