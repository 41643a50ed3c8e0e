//! Bodies of the guests' functions that answer: each puts a result into memory and returns where.
//!
//! The host's rows begin at 64 KiB, where the allocator does; below it is room for what a guest
//! makes up. Memory: a line of text.

/// Where an answer of the worlds `scheduling` and `retention` is.
pub const AT: u32 = 1_024;

/// Where memory is empty in these worlds: above what the host has written.
pub const EMPTY: u32 = 1 << 20;

/// A body of `begin` that says yes.
pub const YES: &str = "(i32.store (i32.const 512) (i32.const 0)) (i32.const 512)";

/// One decision at 2048: expired, for "old\x1b[2J" at 3072; and no UTF-8 at 3200.
pub const DECISION: &str = r#"
    (data (i32.const 3072) "old\1b[2J")
    (data (i32.const 3200) "\ff\fe")
    (data (i32.const 2048) "\01\00\00\00\00\0c\00\00\07\00\00\00")
"#;

/// Two tasks at 2048, with names at 3072: snapshot-gc, and the rewrite with 7,000 bytes.
pub const TASKS: &str = r#"
    (data (i32.const 3072) "snapshot-gcfull-rewrite-contents\1b[2J")
    (data (i32.const 2048) "\00\0c\00\00\0b\00\00\00")
    (data (i32.const 2088) "\0b\0c\00\00\15\00\00\00")
    (data (i32.const 2096) "\01\00\00\00\00\00\00\00\58\1b\00\00\00\00\00\00")
"#;

/// Stores numbers, each at its address.
pub fn stores(numbers: &[(u32, u32)]) -> String {
    let store =
        |(at, value): &(u32, u32)| format!("(i32.store (i32.const {at}) (i32.const {value}))");
    numbers.iter().map(store).collect::<Vec<_>>().join(" ")
}

/// A body of `split` that answers with entries, joins (where they are, how many), and a reason
/// (where, how many bytes).
pub fn splits(entries: u32, joins: (u32, u32), reason: (u32, u32)) -> String {
    let numbers = [
        (8, entries),
        (12, joins.0),
        (16, joins.1),
        (20, reason.0),
        (24, reason.1),
    ];
    let numbers = stores(&numbers);
    format!("(i32.store8 (i32.const 4) (i32.const 0)) {numbers} (i32.const 4)")
}

/// A body of `repack` that answers with a size of new packs, and groups: where they are, and how
/// many.
pub fn repacks(pack_bytes: u64, groups: (u32, u32)) -> String {
    let number = |number: u32| format!("(i32.const {number})");
    let pack_bytes = format!("(i64.const {pack_bytes})");
    repacks_as(&pack_bytes, (&number(groups.0), &number(groups.1)), (0, 0))
}

/// The same with expressions, and a reason.
pub fn repacks_as(pack_bytes: &str, groups: (&str, &str), reason: (u32, u32)) -> String {
    let reason = stores(&[(40, reason.0), (44, reason.1)]);
    format!(
        "(i32.store8 (i32.const 16) (i32.const 0)) (i64.store (i32.const 24) {pack_bytes}) \
         (i32.store (i32.const 32) {}) (i32.store (i32.const 36) {}) {reason} (i32.const 16)",
        groups.0, groups.1
    )
}

/// A body of `decide` that answers with decisions: where they are, and how many.
pub fn decides(at: u32, count: u32) -> String {
    decides_as(at, &format!("(i32.const {count})"))
}

/// The same with an expression for their number.
pub fn decides_as(at: u32, count: &str) -> String {
    let numbers = stores(&[(AT, 0), (AT + 4, at)]);
    format!(
        "{numbers} (i32.store (i32.const {}) {count}) (i32.const {AT})",
        AT + 8
    )
}

/// A body of `begin` or `decide` that answers with an error of its own: so many bytes at 3072.
pub fn says(bytes: u32) -> String {
    let numbers = [(AT, 1), (AT + 4, 3_072), (AT + 8, bytes)];
    format!("{} (i32.const {AT})", stores(&numbers))
}

/// A body of `schedule` that answers with tasks of the full cycle (where they are, how many), and a
/// reason.
pub fn runs(tasks: (u32, u32), reason: (u32, u32)) -> String {
    let numbers = [
        (AT, 0),
        (AT + 8, 0),
        (AT + 16, 1),
        (AT + 20, tasks.0),
        (AT + 24, tasks.1),
        (AT + 28, reason.0),
        (AT + 32, reason.1),
    ];
    format!("{} (i32.const {AT})", stores(&numbers))
}

/// A body of `schedule` that answers with a moment, which is an expression, and a reason.
pub fn waits_until(seconds: &str, reason: (u32, u32)) -> String {
    let numbers = [
        (AT, 0),
        (AT + 8, 1),
        (AT + 24, reason.0),
        (AT + 28, reason.1),
    ];
    let moment = format!("(i64.store (i32.const {}) {seconds})", AT + 16);
    format!("{} {moment} (i32.const {AT})", stores(&numbers))
}

/// The same with a number.
pub fn waits(seconds: i64, reason: (u32, u32)) -> String {
    waits_until(&format!("(i64.const {seconds})"), reason)
}
