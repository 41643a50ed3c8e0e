//! The optional interface `tenants`, put into a splitting guest: a core module of its own, with a
//! memory of its own, so that the rest of the guest stays as it is.
//!
//! Memory: the text.

use super::TENANTS_VERSION;

/// A core module with a memory, an allocator that never frees, and the two functions.
const MODULE: &str = r#"
  (core module $tenants-module
    (memory (export "memory") 2)
    (data (i32.const 2048) "\01\02\03\04\00\fb\ff\01")
    FIELDS
    (global $next (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func (export "assign") (param i32 i32) (result i32) ASSIGN)
    (func (export "repack") (param i64 i32 i32) (result i32) REPACK))
  (core instance $tenants (instantiate $tenants-module))
"#;

/// Types of the interface, and what gives them their names.
const INTERFACE: &str = r#"
  (type $t-tag (record (field "key" string) (field "value" string)))
  (type $t-tags (list $t-tag))
  (type $t-snapshot (record (field "host" string) (field "user" string) (field "path" string)
                            (field "tags" $t-tags)))
  (type $t-snapshots (list $t-snapshot))
  (type $t-numbers (list u8))
  (type $t-given (result $t-numbers (error string)))
  (type $t-owner (variant (case "nobody") (case "one" u8) (case "shared") (case "mixed")))
  (type $t-row (record (field "metadata" bool) (field "used-bytes" u64) (field "owner" $t-owner)))
  (type $t-rows (list $t-row))
  (type $t-question (record (field "pack-bytes-max" u64) (field "packs" $t-rows)))
  (type $t-plan (record (field "pack-bytes" u64) (field "groups" $t-numbers)
                        (field "reason" string)))
  (type $t-answer (result $t-plan (error string)))
  (func $t-assign (param "snapshots" $t-snapshots) (result $t-given)
    (canon lift (core func $tenants "assign") (memory $tenants "memory")
      (realloc (func $tenants "realloc"))))
  (func $t-repack (param "question" $t-question) (result $t-answer)
    (canon lift (core func $tenants "repack") (memory $tenants "memory")
      (realloc (func $tenants "realloc"))))
  (component $tenants-shim
    (type $tag0 (record (field "key" string) (field "value" string)))
    (import "tag" (type $tag (eq $tag0)))
    (type $tags (list $tag))
    (type $snapshot0 (record (field "host" string) (field "user" string) (field "path" string)
                             (field "tags" $tags)))
    (import "snapshot" (type $snapshot (eq $snapshot0)))
    (type $owner0 (variant (case "nobody") (case "one" u8) (case "shared") (case "mixed")))
    (import "owner" (type $owner (eq $owner0)))
    (type $row0 (record (field "metadata" bool) (field "used-bytes" u64) (field "owner" $owner)))
    (import "row" (type $row (eq $row0)))
    (type $rows (list $row))
    (type $question0 (record (field "pack-bytes-max" u64) (field "packs" $rows)))
    (import "question" (type $question (eq $question0)))
    (type $numbers (list u8))
    (type $plan0 (record (field "pack-bytes" u64) (field "groups" $numbers)
                         (field "reason" string)))
    (import "plan" (type $plan (eq $plan0)))
    (type $snapshots (list $snapshot))
    (type $given (result $numbers (error string)))
    (type $answer (result $plan (error string)))
    (import "assign" (func $assign (param "snapshots" $snapshots) (result $given)))
    (import "repack" (func $repack (param "question" $question) (result $answer)))
    (export $tag1 "tag" (type $tag0))
    (type $tags1 (list $tag1))
    (type $snapshot2 (record (field "host" string) (field "user" string) (field "path" string)
                             (field "tags" $tags1)))
    (export $snapshot1 "snapshot-row" (type $snapshot2))
    (export $owner1 "owner" (type $owner0))
    (type $row2 (record (field "metadata" bool) (field "used-bytes" u64) (field "owner" $owner1)))
    (export $row1 "pack-row" (type $row2))
    (type $rows1 (list $row1))
    (type $question2 (record (field "pack-bytes-max" u64) (field "packs" $rows1)))
    (export $question1 "pack-question" (type $question2))
    (export $plan1 "pack-plan" (type $plan0))
    (type $snapshots1 (list $snapshot1))
    (type $answer1 (result $plan1 (error string)))
    (export "assign" (func $assign) (func (param "snapshots" $snapshots1) (result $given)))
    (export "repack" (func $repack) (func (param "question" $question1) (result $answer1))))
  (instance $tenants-export (instantiate $tenants-shim
    (with "tag" (type $t-tag)) (with "snapshot" (type $t-snapshot)) (with "owner" (type $t-owner))
    (with "row" (type $t-row)) (with "question" (type $t-question)) (with "plan" (type $t-plan))
    (with "assign" (func $t-assign)) (with "repack" (func $t-repack))))
"#;

/// The interface with these bodies, for [`Guest::component`](super::splitting::Guest::component).
/// At 2048 are the numbers 1, 2, 3, 4, 0, 251, 255, 1.
pub fn tenants(assign: &str, repack: &str) -> String {
    tenants_of(TENANTS_VERSION, assign, repack)
}

/// The same in another version.
pub fn tenants_of(version: &str, assign: &str, repack: &str) -> String {
    tenants_with(version, "", assign, repack)
}

/// The same with further fields of its core module.
pub fn tenants_with(version: &str, fields: &str, assign: &str, repack: &str) -> String {
    let module = MODULE.replace("FIELDS", fields);
    let module = module.replace("ASSIGN", assign).replace("REPACK", repack);
    format!(
        "{module} {INTERFACE}
  (export \"careen:strategy/tenants@{version}\" (instance $tenants-export))"
    )
}

/// A body of `assign` that answers with the numbers at `at`, so many.
pub fn gives(at: &str, count: &str) -> String {
    format!(
        "(i32.store8 (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) {at}) \
         (i32.store (i32.const 24) {count}) (i32.const 16)"
    )
}
