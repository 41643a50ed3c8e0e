//! Makes components out of a few lines of WebAssembly text: honest around, hostile inside.
//! The text has the form that the canonical ABI asks for, so that a test changes one thing only.
//! Memory: the component.

use super::PACKAGE_VERSION;

/// Types of the interface, as they stand in a component.
const TYPES: &str = r#"
  (type $row (record (field "epoch" u32) (field "blobs" u32) (field "bytes" u64)
                     (field "compacted" bool)))
  (type $last (option u32))
  (type $rows (list $row))
  (type $question (record (field "write-epoch" u32) (field "chain-end" u32)
    (field "last-settled" $last) (field "full-checkpoint-frequency" u32)
    (field "shard-entries-max" u32) (field "epochs" $rows)))
  (type $range (record (field "min" u32) (field "max" u32)))
  (type $ranges (list $range))
  (type $plan (record (field "shard-entries" u32) (field "joins" $ranges)
                      (field "reason" string)))
  (type $answer (result $plan (error string)))
  (type $pack-row (record (field "metadata" bool) (field "used-bytes" u64)))
  (type $pack-rows (list $pack-row))
  (type $pack-question (record (field "pack-bytes-max" u64) (field "packs" $pack-rows)))
  (type $groups (list u8))
  (type $pack-plan (record (field "pack-bytes" u64) (field "groups" $groups)
                           (field "reason" string)))
  (type $pack-answer (result $pack-plan (error string)))
"#;

/// The same for the interface about packs.
const PACK_SHIM: &str = r#"
  (component $pack-shim
    (type $row0 (record (field "metadata" bool) (field "used-bytes" u64)))
    (import "row" (type $row (eq $row0)))
    (type $rows (list $row))
    (type $question0 (record (field "pack-bytes-max" u64) (field "packs" $rows)))
    (import "question" (type $question (eq $question0)))
    (type $groups (list u8))
    (type $plan0 (record (field "pack-bytes" u64) (field "groups" $groups)
                         (field "reason" string)))
    (import "plan" (type $plan (eq $plan0)))
    (type $answer (result $plan (error string)))
    (import "repack" (func $repack (param "question" $question) (result $answer)))
    (export $row1 "pack-row" (type $row0))
    (type $rows1 (list $row1))
    (type $question2 (record (field "pack-bytes-max" u64) (field "packs" $rows1)))
    (export $question1 "pack-question" (type $question2))
    (export $plan1 "pack-plan" (type $plan0))
    (type $answer1 (result $plan1 (error string)))
    (export "repack" (func $repack) (func (param "question" $question1) (result $answer1)))
  )
"#;

/// Gives the types their names, as a component's exports need them.
const SHIM: &str = r#"
  (component $shim
    (type $row0 (record (field "epoch" u32) (field "blobs" u32) (field "bytes" u64)
                        (field "compacted" bool)))
    (import "row" (type $row (eq $row0)))
    (type $last (option u32))
    (type $rows (list $row))
    (type $question0 (record (field "write-epoch" u32) (field "chain-end" u32)
      (field "last-settled" $last) (field "full-checkpoint-frequency" u32)
      (field "shard-entries-max" u32) (field "epochs" $rows)))
    (import "question" (type $question (eq $question0)))
    (type $range0 (record (field "min" u32) (field "max" u32)))
    (import "range" (type $range (eq $range0)))
    (type $ranges (list $range))
    (type $plan0 (record (field "shard-entries" u32) (field "joins" $ranges)
                         (field "reason" string)))
    (import "plan" (type $plan (eq $plan0)))
    (type $answer (result $plan (error string)))
    (import "split" (func $split (param "question" $question) (result $answer)))
    (export $row1 "epoch-row" (type $row0))
    (type $rows1 (list $row1))
    (type $question2 (record (field "write-epoch" u32) (field "chain-end" u32)
      (field "last-settled" $last) (field "full-checkpoint-frequency" u32)
      (field "shard-entries-max" u32) (field "epochs" $rows1)))
    (export $question1 "question" (type $question2))
    (export $range1 "epoch-range" (type $range0))
    (type $ranges1 (list $range1))
    (type $plan2 (record (field "shard-entries" u32) (field "joins" $ranges1)
                         (field "reason" string)))
    (export $plan1 "plan" (type $plan2))
    (type $answer1 (result $plan1 (error string)))
    (export "split" (func $split) (func (param "question" $question1) (result $answer1)))
  )
"#;

/// A core module with a memory and an allocator that never frees.
const MEMORY: &str = r#"
  (core module $memory-module
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (local.get $at)))
  (core instance $memory (instantiate $memory-module))
"#;

/// The signature of the core function behind `split`.
pub const SPLIT: &str =
    "(func (export \"split\") (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)";

/// The signature of the core function behind `repack`.
pub const REPACK: &str = "(func (export \"repack\") (param i64 i32 i32) (result i32)";

/// What varies between the guests.
pub struct Guest<'a> {
    /// Text put first into the component: further imports, further instances.
    pub component: &'a str,
    /// Further arguments of the main core module's instance.
    pub with: &'a str,
    /// Fields of the main core module; `memory` and `$log` are imported already.
    pub core: &'a str,
    /// Body of `repack`.
    pub repack: &'a str,
    /// Version of the log interface that is imported.
    pub log_version: &'a str,
    /// Version of the interface that is exported.
    pub version: &'a str,
}

impl<'a> Guest<'a> {
    /// A guest with these fields in its core module.
    pub fn new(core: &'a str) -> Self {
        Self {
            component: "",
            with: "",
            core,
            repack: "unreachable",
            log_version: PACKAGE_VERSION,
            version: PACKAGE_VERSION,
        }
    }

    /// Returns the component.
    ///
    /// # Panics
    /// Text that is no component.
    pub fn wasm(&self) -> Vec<u8> {
        wat::parse_str(self.text()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns the component's text.
    pub fn text(&self) -> String {
        format!(
            r#"(component
  {component}
  (import "careen:strategy/host-log@{log_version}" (instance $host-log
    (type $level0 (enum "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level0)))
    (export "log" (func (param "level" $level) (param "message" string)))))
  {MEMORY}
  (core func $log (canon lower (func $host-log "log") (memory $memory "memory")))
  (core module $main-module
    (import "memory" "memory" (memory 2))
    (import "host" "log" (func $log (param i32 i32 i32)))
    {core}
    {REPACK} {repack}))
  (core instance $main (instantiate $main-module
    (with "memory" (instance $memory))
    (with "host" (instance (export "log" (func $log)))) {with}))
  {TYPES}
  (func $split (param "question" $question) (result $answer)
    (canon lift (core func $main "split") (memory $memory "memory")
      (realloc (func $memory "realloc"))))
  (func $repack (param "question" $pack-question) (result $pack-answer)
    (canon lift (core func $main "repack") (memory $memory "memory")
      (realloc (func $memory "realloc"))))
  {SHIM}
  {PACK_SHIM}
  (instance $export (instantiate $shim
    (with "row" (type $row)) (with "question" (type $question)) (with "range" (type $range))
    (with "plan" (type $plan)) (with "split" (func $split))))
  (instance $pack-export (instantiate $pack-shim
    (with "row" (type $pack-row)) (with "question" (type $pack-question))
    (with "plan" (type $pack-plan)) (with "repack" (func $repack))))
  (export "careen:strategy/split@{version}" (instance $export))
  (export "careen:strategy/repack@{version}" (instance $pack-export)))"#,
            component = self.component,
            with = self.with,
            core = self.core,
            repack = self.repack,
            log_version = self.log_version,
            version = self.version,
        )
    }
}

/// A guest whose `split` has this body.
pub fn splitting(body: &str) -> Vec<u8> {
    Guest::new(&format!("{SPLIT} {body})")).wasm()
}

/// A guest whose `repack` has this body.
pub fn repacking(body: &str) -> Vec<u8> {
    let core = format!("{SPLIT} unreachable)");
    let mut guest = Guest::new(&core);
    guest.repack = body;
    guest.wasm()
}
