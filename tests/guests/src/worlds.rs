//! Components for the worlds `scheduling` and `retention`, with `about` or without, out of a few
//! lines of WebAssembly text: honest around, hostile inside.
//!
//! Types are written once, with `{name}` where one uses another; they are put into the component
//! and into the shim that gives them their names, as a component's exports need them. Bodies are
//! those of core functions, in the form that the canonical ABI asks for. Memory: the component.

use super::{ABOUT_VERSION, PACKAGE_VERSION};

/// An interface that a guest exports.
struct Interface {
    name: &'static str,
    /// Name and definition, each after those that it uses.
    types: &'static [(&'static str, &'static str)],
    /// Name, type, and signature of the core function behind it.
    functions: &'static [(&'static str, &'static str, &'static str)],
}

const SCHEDULE: Interface = Interface {
    name: "schedule",
    types: &[
        ("cycle", r#"(enum "quick" "full")"#),
        ("verdict", r#"(enum "runs" "waits" "off")"#),
        (
            "past-run",
            r#"(record (field "start-seconds" s64) (field "end-seconds" s64)
                       (field "success" bool))"#,
        ),
        (
            "task-cost",
            r#"(record (field "read-bytes" u64) (field "written-bytes" u64)
                       (field "requests" u64) (field "scratch-bytes" u64)
                       (field "memory-bytes" u64))"#,
        ),
        (
            "task-row",
            r#"(record (field "name" string) (field "verdict" {verdict}) (field "because" string)
                       (field "until-seconds" (option s64)) (field "last" (option {past-run}))
                       (field "keeps-budget" bool) (field "cost" (option {task-cost})))"#,
        ),
        (
            "cost-knowledge",
            r#"(variant (case "not-counted") (case "counted") (case "unknown" string))"#,
        ),
        (
            "cycle-row",
            r#"(record (field "cycle" {cycle}) (field "because" string)
                       (field "tasks" (list {task-row})))"#,
        ),
        (
            "zone-change",
            r#"(record (field "at-seconds" s64) (field "offset-seconds" s32))"#,
        ),
        (
            "question",
            r#"(record (field "now-seconds" s64) (field "offset-seconds" s32)
                       (field "zone" (list {zone-change})) (field "asked-for" bool)
                       (field "cycles" (list {cycle-row})) (field "writers" u32)
                       (field "newest-writer-seconds" (option s64)) (field "index-blobs" u64)
                       (field "index-bytes" u64) (field "memory-bytes" u64)
                       (field "scratch-bytes" u64) (field "costs" {cost-knowledge}))"#,
        ),
        (
            "budget",
            r#"(record (field "bytes" (option u64)) (field "requests" (option u64)))"#,
        ),
        (
            "task-choice",
            r#"(record (field "name" string) (field "budget" {budget}))"#,
        ),
        (
            "run-plan",
            r#"(record (field "cycle" {cycle}) (field "tasks" (list {task-choice}))
                       (field "reason" string))"#,
        ),
        (
            "pause",
            r#"(record (field "not-before-seconds" s64) (field "reason" string))"#,
        ),
        (
            "decision",
            r#"(variant (case "run" {run-plan}) (case "wait" {pause}) (case "count-costs"))"#,
        ),
    ],
    functions: &[(
        "schedule",
        r#"(param "question" {question}) (result (result {decision} (error string)))"#,
        "(param i32) (result i32)",
    )],
};

const RETAIN: Interface = Interface {
    name: "retain",
    types: &[
        (
            "moment",
            r#"(record (field "seconds" s64) (field "nanos" u32))"#,
        ),
        (
            "source",
            r#"(record (field "host" string) (field "user" string) (field "path" string))"#,
        ),
        (
            "policy",
            r#"(record (field "keep-latest" (option s64)) (field "keep-hourly" (option s64))
                       (field "keep-daily" (option s64)) (field "keep-weekly" (option s64))
                       (field "keep-monthly" (option s64)) (field "keep-annual" (option s64))
                       (field "ignore-identical-snapshots" (option bool)))"#,
        ),
        (
            "zone-change",
            r#"(record (field "at-seconds" s64) (field "offset-seconds" s32))"#,
        ),
        (
            "question",
            r#"(record (field "source" {source}) (field "policy" {policy}) (field "now" {moment})
                       (field "offset-seconds" s32) (field "zone" (list {zone-change})))"#,
        ),
        (
            "tag",
            r#"(record (field "key" string) (field "value" string))"#,
        ),
        (
            "snapshot-row",
            r#"(record (field "id" string) (field "start" {moment}) (field "end" {moment})
                       (field "incomplete-reason" string) (field "pins" (list string))
                       (field "tags" (list {tag})) (field "size" (option u64)))"#,
        ),
        (
            "decision",
            r#"(record (field "expire" bool) (field "reason" string))"#,
        ),
    ],
    functions: &[
        (
            "begin",
            r#"(param "question" {question}) (result (result (error string)))"#,
            "(param i32) (result i32)",
        ),
        (
            "decide",
            r#"(param "snapshots" (list {snapshot-row}))
               (result (result (list {decision}) (error string)))"#,
            "(param i32 i32) (result i32)",
        ),
    ],
};

const ABOUT: Interface = Interface {
    name: "about",
    types: &[(
        "description",
        r#"(record (field "name" string) (field "version" string) (field "summary" string)
                   (field "configuration-schema" (option string)))"#,
    )],
    functions: &[
        ("describe", "(result {description})", "(result i32)"),
        (
            "configure",
            r#"(param "json" string) (result (result (error string)))"#,
            "(param i32 i32) (result i32)",
        ),
    ],
};

/// Memory with an allocator that never frees; too much of it traps.
const MEMORY: &str = r#"
  (core module $memory-module
    (memory (export "memory") 32)
    (global $next (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (local.get $at)))
  (core instance $memory (instantiate $memory-module))
"#;

/// What varies between the guests.
pub struct Guest<'a> {
    /// Text put first into the component: further imports, further instances.
    pub component: &'a str,
    /// Further arguments of the main core module's instance.
    pub with: &'a str,
    /// Fields of the main core module; `memory` and `$log` are imported already.
    pub fields: &'a str,
    /// Text put last into the component: further exports.
    pub more: &'a str,
    /// Version of all interfaces that are imported and exported.
    pub version: &'a str,
    interfaces: Vec<(&'static Interface, Vec<&'a str>)>,
}

impl<'a> Guest<'a> {
    /// A guest whose `schedule` has this body.
    pub fn scheduling(fields: &'a str, body: &'a str) -> Self {
        Self::new(fields, &SCHEDULE, vec![body])
    }

    /// A guest whose `begin` and `decide` have these bodies.
    pub fn retaining(fields: &'a str, begin: &'a str, decide: &'a str) -> Self {
        Self::new(fields, &RETAIN, vec![begin, decide])
    }

    fn new(fields: &'a str, interface: &'static Interface, bodies: Vec<&'a str>) -> Self {
        Self {
            component: "",
            with: "",
            fields,
            more: "",
            version: PACKAGE_VERSION,
            interfaces: vec![(interface, bodies)],
        }
    }

    /// Adds the interface `about`, whose functions have these bodies.
    pub fn about(mut self, describe: &'a str, configure: &'a str) -> Self {
        self.version = ABOUT_VERSION;
        self.interfaces.push((&ABOUT, vec![describe, configure]));
        self
    }
}

/// A guest whose `schedule` has this body; `fields` are further fields of its core module.
pub fn scheduling(fields: &str, body: &str) -> Vec<u8> {
    Guest::scheduling(fields, body).wasm()
}

/// A guest whose `begin` and `decide` have these bodies.
pub fn retaining(fields: &str, begin: &str, decide: &str) -> Vec<u8> {
    Guest::retaining(fields, begin, decide).wasm()
}

/// Replaces `{name}` by the index of that type, with a suffix.
fn with_names(text: &str, suffix: &str) -> String {
    text.replace('{', "$").replace('}', suffix)
}

impl Guest<'_> {
    /// Returns the component.
    ///
    /// # Panics
    /// Text that is no component.
    pub fn wasm(&self) -> Vec<u8> {
        wat::parse_str(self.text()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns the component's text.
    pub fn text(&self) -> String {
        let version = self.version;
        let (mut core, mut outside) = <(String, String)>::default();
        for (interface, bodies) in &self.interfaces {
            outside += &exported(interface, version);
            for ((name, _, signature), body) in interface.functions.iter().zip(bodies) {
                core += &format!("(func (export \"{name}\") {signature} {body})\n");
            }
        }
        format!(
            r#"(component
  {component}
  (import "careen:strategy/host-log@{version}" (instance $host-log
    (type $level0 (enum "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level0)))
    (export "log" (func (param "level" $level) (param "message" string)))))
  {MEMORY}
  (core func $log (canon lower (func $host-log "log") (memory $memory "memory")))
  (core module $main-module
    (import "memory" "memory" (memory 32))
    (import "host" "log" (func $log (param i32 i32 i32)))
    {fields}
    {core})
  (core instance $main (instantiate $main-module
    (with "memory" (instance $memory))
    (with "host" (instance (export "log" (func $log)))) {with}))
  {outside}
  {more})"#,
            component = self.component,
            with = self.with,
            fields = self.fields,
            more = self.more,
        )
    }
}

/// Lifts the functions of an interface out of `$main`, and exports them under its name.
fn exported(interface: &Interface, version: &str) -> String {
    let (mut types, mut shim, mut exports, mut with) =
        <(String, String, String, String)>::default();
    for (name, definition) in interface.types {
        let inner = with_names(definition, "");
        types += &format!("(type ${name} {inner})\n");
        shim += &format!(
            "(type ${name}-0 {inner}) (import \"{name}\" (type ${name} (eq ${name}-0)))\n"
        );
        let outer = with_names(definition, "-1");
        exports +=
            &format!("(type ${name}-2 {outer}) (export ${name}-1 \"{name}\" (type ${name}-2))\n");
        with += &format!("(with \"{name}\" (type ${name})) ");
    }
    let mut lifts = String::new();
    for (name, kind, _) in interface.functions {
        let (inner, outer) = (with_names(kind, ""), with_names(kind, "-1"));
        lifts += &format!(
            "(func $f-{name} {inner} (canon lift (core func $main \"{name}\")
               (memory $memory \"memory\") (realloc (func $memory \"realloc\"))))\n"
        );
        shim += &format!("(import \"{name}\" (func $f-{name} {inner}))\n");
        exports += &format!("(export \"{name}\" (func $f-{name}) (func {outer}))\n");
        with += &format!("(with \"{name}\" (func $f-{name})) ");
    }
    let name = interface.name;
    format!(
        r#"
  {types}
  {lifts}
  (component $shim-{name}
    {shim}
    {exports})
  (instance $export-{name} (instantiate $shim-{name} {with}))
  (export "careen:strategy/{name}@{version}" (instance $export-{name}))"#
    )
}
