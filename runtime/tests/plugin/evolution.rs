//! The rules of `guest-sdk/EVOLUTION.md`, as tests: which versions of the contract run, which are
//! refused, and with which words.

use careen::maintenance::scheduling::Scheduling;
use careen::maintenance::strategy::Splitting;
use careen::plugin::{CONTRACT_VERSION, PluginSource, load, load_scheduling};

use super::component::{self, SPLIT, answer};
use super::scheduling::{load as load_guest, question_of_full};
use super::world::{Guest, stores};
use super::{load_wasm, options, question};

/// A body of `schedule` that waits until 1,800,000,007.
fn waits() -> String {
    let numbers = [(1_024, 0), (1_032, 1), (1_048, 0), (1_052, 0)];
    let moment = "(i64.store (i32.const 1040) (i64.const 1800000007))";
    format!("{} {moment} (i32.const 1024)", stores(&numbers))
}

/// Goal: a plugin of 1.0.0, which knows nothing of `about`, runs, is named after its file, and its
/// pin holds; method: with the contract of today.
#[test]
fn a_plugin_of_the_first_version_runs_and_is_pinned() {
    assert_ne!(CONTRACT_VERSION, "1.0.0");
    let core = format!("{SPLIT} {})", answer(100_000, (0, 0), (0, 0)));
    let wasm = component::Guest::new(&core).wasm();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oldest.wasm");
    std::fs::write(&path, &wasm).unwrap();
    let digest = *blake3::hash(&wasm).as_bytes();
    let source = |blake3| PluginSource::File {
        path: path.clone(),
        blake3,
    };
    let mut plugin = load(options(source(Some(digest)))).unwrap();
    assert_eq!(plugin.split(&question(2)).unwrap().shard_entries, 100_000);
    assert!(plugin.about().is_none());
    assert!(plugin.describe().starts_with("oldest (blake3 "));
    assert_eq!(plugin.digest(), &digest);
    let error = load(options(source(Some([7; 32])))).err().unwrap();
    assert_eq!(error.code(), "plugin-digest-mismatch");
}

/// Goal: a plugin of a later minor version runs as long as it needs nothing of the host that is not
/// there; what it exports besides is not asked.
#[test]
fn a_plugin_of_a_later_version_runs() {
    let body = waits();
    let describe = "(i32.store (i32.const 512) (i32.const 3072)) \
                    (i32.store (i32.const 516) (i32.const 5)) (i32.const 512)";
    let mut guest = Guest::scheduling("(data (i32.const 3072) \"later\")", &body)
        .about(describe, "unreachable");
    guest.version = "1.9.0";
    guest.more = r#"
        (core module $m (func (export "f") unreachable))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (instance $forecast (export "asked" (func $f)))
        (export "careen:strategy/forecast@1.9.0" (instance $forecast))
        (export "their:own/interface@0.0.1" (instance $forecast))
    "#;
    let mut plugin = load_guest(&guest.wasm(), |_| ()).unwrap();
    assert_eq!(plugin.about().unwrap().name, "later");
    assert!(plugin.schedule(&question_of_full()).is_ok());
}

#[test]
fn versions_may_differ_between_interfaces() {
    let core = format!("{SPLIT} {})", answer(100_000, (0, 0), (0, 0)));
    let mut guest = component::Guest::new(&core);
    for (log, exports) in [("1.0.0", "1.9.3"), ("1.9.3", "1.0.0"), ("1.1.0", "1.1.0")] {
        (guest.log_version, guest.version) = (log, exports);
        let mut plugin = load_wasm(&guest.wasm(), |_| ()).unwrap();
        assert!(plugin.split(&question(1)).is_ok(), "{log} {exports}");
    }
}

/// Goal: another major version is refused, with both versions, even if only `about` is of it.
#[test]
fn another_major_version_is_refused() {
    let body = waits();
    for other in ["2.0.0", "0.9.0"] {
        let mut guest = Guest::scheduling("", &body);
        guest.version = other;
        let error = load_guest(&guest.wasm(), |_| ()).err().unwrap();
        assert_eq!(error.code(), "plugin-world");
        for words in [other, CONTRACT_VERSION] {
            assert!(error.to_string().contains(words), "{error}");
        }
    }
    let mut guest = Guest::scheduling("", &body);
    guest.more = r#"
        (core module $m (func (export "f") unreachable))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (instance $about (export "describe" (func $f)))
        (export "careen:strategy/about@2.0.0" (instance $about))
    "#;
    let error = load_guest(&guest.wasm(), |_| ()).err().unwrap();
    assert!(
        error.to_string().contains("careen:strategy/about@2.0.0"),
        "{error}"
    );
}

/// Goal: a plugin whose `about` has another form than the contract's is refused, not taken for one
/// without.
#[test]
fn another_form_of_about_is_refused() {
    let body = waits();
    let mut guest = Guest::scheduling("", &body);
    guest.more = r#"
        (core module $m (func (export "f") unreachable))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (instance $about (export "describe" (func $f)))
        (export "careen:strategy/about@1.1.0" (instance $about))
    "#;
    let error = load_guest(&guest.wasm(), |_| ()).err().unwrap();
    assert_eq!(error.code(), "plugin-world", "{error}");
}

#[test]
fn the_built_in_strategies_are_of_this_version() {
    let plugin = load_scheduling(options(PluginSource::BuiltinScheduling)).unwrap();
    assert!(plugin.about().is_some());
}
