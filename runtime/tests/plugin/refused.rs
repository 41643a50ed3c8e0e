//! Components that never run: wrong imports, wrong versions, not a component, too costly to
//! compile.

use std::time::{Duration, Instant};

use careen::plugin::PluginError;

use super::component::{Guest, SPLIT, answer, splitting};
use super::{load_wasm, world};
use guests::PACKAGE_VERSION;

fn refused(wasm: &[u8]) -> PluginError {
    load_wasm(wasm, |_| ()).err().expect("must not load")
}

fn assert_refused(wasm: &[u8], code: &str, words: &str) {
    let error = refused(wasm);
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(words), "{error}");
    assert!(error.to_string().contains("guest (blake3 "), "{error}");
}

#[test]
fn imports_other_than_the_log_are_refused_by_name() {
    let core = format!("{SPLIT} unreachable)");
    let mut guest = Guest::new(&core);
    guest.component = r#"(import "wasi:clocks/monotonic-clock@0.2.0" (instance
        (export "now" (func (result u64)))))"#;
    assert_refused(
        &guest.wasm(),
        "plugin-import",
        "wasi:clocks/monotonic-clock@0.2.0",
    );
    guest.component = r#"(import "run" (func (param "command" string)))"#;
    assert_refused(&guest.wasm(), "plugin-import", "imports run,");
    guest.component = r#"(import "careen:strategy/host-files@1.2.0" (instance
        (export "read" (func (result string)))))"#;
    assert_refused(
        &guest.wasm(),
        "plugin-world",
        "it imports careen:strategy/host-files@1.2.0, which this host, careen:strategy@1.2.0, does",
    );
}

#[test]
fn an_interface_of_types_alone_is_no_import() {
    let core = format!("{SPLIT} {})", answer(100_000, (0, 0), (0, 0)));
    let mut guest = Guest::new(&core);
    guest.component = r#"(import "their:types/all@1.0.0" (instance
        (type $t (enum "a" "b")) (export "t" (type (eq $t)))))"#;
    assert!(load_wasm(&guest.wasm(), |_| ()).is_ok());
}

#[test]
fn other_versions_are_refused_and_shown() {
    let core = format!("{SPLIT} unreachable)");
    let mut guest = Guest::new(&core);
    for other in ["0.1.0", "2.0.0"] {
        guest.version = other;
        let words =
            format!("it has careen:strategy/split@{other}, this host speaks careen:strategy@1.2.0");
        assert_refused(&guest.wasm(), "plugin-world", &words);
        guest.version = PACKAGE_VERSION;
        guest.log_version = other;
        let words = format!("it has careen:strategy/host-log@{other}, this host speaks");
        assert_refused(&guest.wasm(), "plugin-world", &words);
        guest.log_version = PACKAGE_VERSION;
    }
    let empty = wat::parse_str("(component)").unwrap();
    assert_refused(&empty, "plugin-world", "it exports nothing");
}

#[test]
fn what_is_no_component_is_refused() {
    assert_refused(b"", "plugin-compile", "cannot be compiled");
    assert_refused(b"\x7fELF not ours", "plugin-compile", "cannot be compiled");
    assert_refused(&[0xa5; 70_000], "plugin-compile", "cannot be compiled");
    let module = wat::parse_str("(module)").unwrap();
    assert_refused(&module, "plugin-compile", "component");
    let mut cut = splitting("unreachable");
    cut.truncate(cut.len() / 2);
    assert_refused(&cut, "plugin-compile", "cannot be compiled");
}

#[test]
fn proposals_that_are_switched_off_are_refused() {
    for (core, words) in [
        ("(type (struct (field i32)))", "gc"),
        ("(memory 1 1 shared)", "threads"),
        ("(memory i64 1)", "memory64"),
        ("(tag)", "exceptions"),
        ("(func $f (return_call $f))", "tail calls"),
    ] {
        let core = format!("{core} {SPLIT} unreachable)");
        assert_refused(&Guest::new(&core).wasm(), "plugin-compile", words);
    }
}

/// One function of 300,000 statements: 550 MiB in the compiler if it is let.
fn compile_bomb() -> Vec<u8> {
    let statement = "(local.set 0 (i32.add (local.get 1) (i32.mul (local.get 0) (local.get 2))))";
    let core = format!("{SPLIT} {} (local.get 0))", statement.repeat(300_000));
    Guest::new(&core).wasm()
}

#[test]
fn a_compile_bomb_meets_the_limits_of_the_child() {
    let bomb = compile_bomb();
    let ended = |change: &dyn Fn(&mut careen::plugin::CompileLimits)| {
        let started = Instant::now();
        let error = load_wasm(&bomb, |options| change(&mut options.compile))
            .err()
            .expect("must not load");
        println!("{:?}: {error}", started.elapsed());
        assert_eq!(error.code(), "plugin-compile-limit", "{error}");
        error.to_string()
    };
    let text = ended(&|limits| limits.address_space_bytes = 200 << 20);
    assert!(text.contains("200 MiB of address space"), "{text}");
    let text = ended(&|limits| limits.deadline = Duration::from_millis(300));
    assert!(text.contains("killed at its deadline"), "{text}");
    let text = ended(&|limits| {
        limits.cpu_seconds = 1;
        limits.address_space_bytes = 4 << 30;
    });
    assert!(text.contains("(processor time)"), "{text}");
}

#[test]
fn code_above_its_limit_is_not_written() {
    let error = load_wasm(&splitting("(unreachable) (nop)"), |options| {
        options.compile.code_bytes = 4_096;
    });
    assert_eq!(error.err().unwrap().code(), "plugin-compile-limit");
}

#[test]
fn a_compiler_that_cannot_be_started_is_an_error() {
    let error = load_wasm(&splitting("(unreachable) (nop) (nop)"), |options| {
        options.compile.program = Some("/does/not/exist".into());
    });
    assert_eq!(error.err().unwrap().code(), "plugin-io");
}

/// Goal: an interface whose types are not the contract's is refused when it is loaded, as one that
/// is missing, where the plugin introduces itself; else its first question says it.
#[test]
fn other_types_are_refused_when_the_plugin_is_loaded() {
    let describe = "(i32.store (i32.const 512) (i32.const 3072)) \
                    (i32.store (i32.const 516) (i32.const 5)) (i32.const 512)";
    let honest = world::Guest::scheduling("(data (i32.const 3072) \"other\")", "unreachable")
        .about(describe, "unreachable");
    assert!(super::scheduling::load(&honest.wasm(), |_| ()).is_ok());
    let text = honest
        .text()
        .replace("\"not-before-seconds\" s64", "\"not-before-seconds\" u64");
    let wasm = wat::parse_str(&text).unwrap();
    let error = super::scheduling::load(&wasm, |_| ()).err().unwrap();
    assert_eq!(error.code(), "plugin-world", "{error}");
    assert!(
        error.to_string().contains("careen:strategy@1.2.0"),
        "{error}"
    );
}
