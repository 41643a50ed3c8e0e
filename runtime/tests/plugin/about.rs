//! What plugins say about themselves, and their configuration: taken before anything else happens,
//! refused with the place, and nothing of it hurts the host.

use careen::maintenance::scheduling::{Scheduling, SchedulingAnswer};
use careen::plugin::{
    Configuration, PluginError, PluginOptions, SchedulingPlugin, load_scheduling,
};

use super::scheduling::{load, question_of_full};
use super::world::{Guest, stores};

/// Texts of the guests: a name at 3072, a version at 3088, a summary at 3104, a schema at 3200, the
/// error of a guest at 3600.
const TEXTS: &str = r#"
    (data (i32.const 3072) "at  night")
    (data (i32.const 3088) "1.2.3")
    (data (i32.const 3104) "only \1bt night")
    (data (i32.const 3200)
      "{\"type\":\"object\",\"properties\":{\"begins\":{\"type\":\"integer\",\"maximum\":23}},"
      "\"additionalProperties\":false}")
    (data (i32.const 3600) "22 is too late")
"#;

const SCHEMA_BYTES: u32 = 102;

/// A body of `describe` with these lengths of name, version, summary, and schema if it has one.
fn describes(name: u32, version: u32, summary: u32, schema: Option<u32>) -> String {
    let numbers = [
        (512, 3_072),
        (516, name),
        (520, 3_088),
        (524, version),
        (528, 3_104),
        (532, summary),
        (536, u32::from(schema.is_some())),
        (540, 3_200),
        (544, schema.unwrap_or(0)),
    ];
    format!("{} (i32.const 512)", stores(&numbers))
}

fn honest() -> String {
    describes(9, 5, 13, Some(SCHEMA_BYTES))
}

/// A guest that describes itself and takes `{"begins": 0 to 23}`.
pub(crate) fn configurable() -> Vec<u8> {
    let honest = honest();
    let guest = Guest::scheduling(TEXTS, WAITS);
    guest.about(&honest, KEEPS).wasm()
}

/// A body of `configure` that keeps the length of what it got at 8, and says yes.
const KEEPS: &str = "(i32.store (i32.const 8) (local.get 1)) \
     (i32.store (i32.const 600) (i32.const 0)) (i32.const 600)";

/// A body of `configure` that says no.
const REFUSES: &str = "(i32.store (i32.const 600) (i32.const 1)) \
     (i32.store (i32.const 604) (i32.const 3600)) \
     (i32.store (i32.const 608) (i32.const 14)) (i32.const 600)";

/// A body of `schedule` that waits as many seconds after 1,800,000,000 as is kept at 8.
const WAITS: &str = "(i32.store (i32.const 1024) (i32.const 0)) \
     (i32.store (i32.const 1032) (i32.const 1)) \
     (i64.store (i32.const 1040) (i64.add (i64.const 1800000000) \
       (i64.extend_i32_u (i32.load (i32.const 8))))) \
     (i32.store (i32.const 1048) (i32.const 0)) (i32.store (i32.const 1052) (i32.const 0)) \
     (i32.store (i32.const 8) (i32.const 99)) (i32.const 1024)";

fn configured(options: &mut PluginOptions, json: &str) {
    options.configuration = Some(Configuration::parse(json).unwrap());
}

/// The seconds that the guest waits: what it kept of its configuration.
fn waits(plugin: &mut SchedulingPlugin) -> i64 {
    match plugin.schedule(&question_of_full()).unwrap() {
        SchedulingAnswer::Wait { not_before, .. } => not_before.seconds() - 1_800_000_000,
        other => panic!("{other:?}"),
    }
}

fn refused(wasm: &[u8], change: impl FnOnce(&mut PluginOptions)) -> PluginError {
    load(wasm, change).err().expect("must not load")
}

#[test]
fn a_plugin_names_itself_and_every_instance_is_configured_once() {
    let honest = honest();
    let wasm = Guest::scheduling(TEXTS, WAITS).about(&honest, KEEPS).wasm();
    let mut plugin = load(&wasm, |options| configured(options, "{\"begins\": 22}")).unwrap();
    let about = plugin.about().unwrap();
    assert_eq!(about.name, "at  night");
    assert_eq!(about.version, "1.2.3");
    assert_eq!(about.summary, "only  t night");
    let schema = about.configuration_schema.as_deref().unwrap();
    assert_eq!(schema.len() as u32, SCHEMA_BYTES);
    let text = plugin.describe();
    assert!(text.starts_with("at  night (blake3 "), "{text}");
    assert!(text.contains(", version 1.2.3, memory"), "{text}");
    for _ in 0..3 {
        assert_eq!(waits(&mut plugin), 14, "the text as the user gave it");
    }
    let mut plugin = load(&wasm, |_| ()).unwrap();
    assert_eq!(waits(&mut plugin), 2, "an empty object");
}

#[test]
fn a_plugin_without_a_schema_is_not_configured() {
    let plain = describes(9, 5, 13, None);
    let with = Guest::scheduling(TEXTS, WAITS)
        .about(&plain, "unreachable")
        .wasm();
    let mut plugin = load(&with, |_| ()).unwrap();
    assert!(plugin.about().unwrap().configuration_schema.is_none());
    assert_eq!(waits(&mut plugin), 0);
    let without = Guest::scheduling(TEXTS, WAITS).wasm();
    assert!(load(&without, |_| ()).unwrap().about().is_none());
    for wasm in [with, without] {
        let error = refused(&wasm, |options| configured(options, "{}"));
        assert_eq!(error.code(), "plugin-configuration", "{error}");
        assert!(
            error.to_string().contains("takes no configuration"),
            "{error}"
        );
    }
}

#[test]
fn a_configuration_that_does_not_fit_is_refused_when_the_plugin_is_loaded() {
    let honest = honest();
    let wasm = Guest::scheduling(TEXTS, "unreachable")
        .about(&honest, KEEPS)
        .wasm();
    for (json, words) in [
        (
            "{\"begins\":24}",
            "configuration/begins is 24; the most is 23",
        ),
        ("{\"begin\":2}", "configuration/begin may not be there"),
        ("[]", "configuration is a list of 0, not of type \"object\""),
    ] {
        let error = refused(&wasm, |options| configured(options, json));
        assert_eq!(error.code(), "plugin-configuration", "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains("at  night (blake3 "), "{error}");
    }
    let wasm = Guest::scheduling(TEXTS, "unreachable")
        .about(&honest, REFUSES)
        .wasm();
    let error = refused(&wasm, |_| ());
    assert_eq!(error.code(), "plugin-configuration", "{error}");
    assert!(
        error.to_string().contains("it says: 22 is too late"),
        "{error}"
    );
}

/// Goal: whatever a plugin does while it describes itself or is configured ends the loading, by the
/// limit that it attacks.
#[test]
fn hostile_descriptions_end_the_loading() {
    let honest = honest();
    let loops = "(loop (br 0)) (i32.const 0)";
    let grows = "(loop (drop (memory.grow (i32.const 16))) (br 0)) (i32.const 0)";
    let bodies = [
        (loops, "plugin-fuel"),
        ("unreachable", "plugin-trap"),
        (grows, "plugin-memory"),
        ("(i32.const -8)", "plugin-data"),
        ("(i32.const 513)", "plugin-data"),
    ];
    let assert_refused = |describe: &str, configure: &str, code: &str| {
        let wasm = Guest::scheduling(TEXTS, WAITS)
            .about(describe, configure)
            .wasm();
        let error = refused(&wasm, |options| options.limits.fuel = 20_000_000);
        assert_eq!(error.code(), code, "{describe} {configure}: {error}");
    };
    for (body, code) in bodies {
        assert_refused(body, KEEPS, code);
        assert_refused(&honest, body, code);
    }
    for (describe, code) in [
        (describes(0, 5, 13, None), "plugin-description"),
        (describes(101, 5, 13, None), "plugin-description"),
        (describes(9, 101, 13, None), "plugin-description"),
        (describes(9, 5, 1_001, None), "plugin-description"),
        (describes(9, 5, 13, Some(65_537)), "plugin-description"),
        (describes(9, 5, 13, Some(SCHEMA_BYTES - 1)), "plugin-schema"),
        (describes(u32::MAX, 5, 13, None), "plugin-data"),
    ] {
        assert_refused(&describe, KEEPS, code);
    }
}

/// Goal: the built-in strategies describe themselves as their packages do.
#[test]
fn the_built_in_strategies_describe_themselves() {
    let plugin = load_scheduling(super::options(
        careen::plugin::PluginSource::BuiltinScheduling,
    ));
    let plugin = plugin.unwrap();
    let about = plugin.about().unwrap();
    assert_eq!(about.name, "scheduling-kopia");
    assert_eq!(about.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(about.summary, "The default scheduling strategy of Careen");
    assert_eq!(about.configuration_schema, None);
}
