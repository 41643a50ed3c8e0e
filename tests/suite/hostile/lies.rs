//! Answers of the wrong form, and of the right form with the wrong content: too large, outside,
//! never asked for, contradictory, in the past or the far future.
//!
//! The first are refused at the border, the second by the host's check, whose code is
//! `plugin-answer-refused`. Memory: text.

use guests::answers::{
    AT, EMPTY, decides, decides_as, repacks, repacks_as, runs, says, splits, stores, waits,
    waits_until,
};

use guests::tenants::gives;

use super::attacks::{Attack, GROW};

pub(super) use itself::{NAMED, about_configurations, about_itself, describes, is_of_a_record};

mod itself;

/// No UTF-8 at 64, a text at 96.
const TEXTS: &str = r#"(data (i32.const 64) "\ff\fe") (data (i32.const 96) "not tonight")"#;

/// Puts ranges of epochs at 64.
fn ranges(ranges: &[(u32, u32)]) -> String {
    let numbers = ranges.iter().flat_map(|range| [range.0, range.1]);
    let numbers: Vec<_> = (64..).step_by(4).zip(numbers).collect();
    stores(&numbers)
}

/// Answers about the index.
pub(super) fn about_splits() -> Vec<Attack> {
    let none = (0, 0);
    let says = format!("{} (i32.const 4)", stores(&[(4, 1), (8, 96), (12, 11)]));
    let grown = |answer: String| format!("{GROW} {answer}");
    let answers = [
        data(
            "lists more than there is",
            splits(100_000, (0, 500_000_000), none),
            "out of bounds",
        ),
        data(
            "lists between two words",
            splits(100_000, (2, 1), none),
            "align",
        ),
        data(
            "lists megabytes",
            grown(splits(100_000, (64, 700_000), none)),
            "too much data",
        ),
        data(
            "tells megabytes",
            grown(splits(100_000, none, (64, 6_000_000))),
            "too much data",
        ),
        data(
            "tells more than there is",
            splits(100_000, none, (0, u32::MAX)),
            "out of bounds",
        ),
        data("tells no text", splits(100_000, none, (64, 2)), "utf-8"),
        Attack::new("says no", says, "plugin-error", "says: not tonight"),
        refused(
            "tells too long a reason",
            splits(100_000, none, (1_024, 1_001)),
            "a reason of",
        ),
        refused(
            "wants tiny shards",
            splits(1, none, none),
            "shards of 1 entries",
        ),
        refused(
            "wants endless shards",
            splits(u32::MAX, none, none),
            "shards of 4294967295",
        ),
    ];
    let mut all = of(answers, TEXTS);
    all.extend(about_joins());
    all
}

/// Ranges of epochs that there are not, that overlap, that come twice.
fn about_joins() -> Vec<Attack> {
    let joins = |joins: &[(u32, u32)]| {
        let count = joins.len() as u32;
        format!("{} {}", ranges(joins), splits(100_000, (64, count), (0, 0)))
    };
    let none = (0, 0);
    let answers = [
        refused(
            "joins 501 ranges",
            splits(100_000, (1_024, 501), none),
            "501 ranges",
        ),
        refused(
            "joins from the middle",
            joins(&[(7, 9)]),
            "must start at epoch",
        ),
        refused("joins one epoch", joins(&[(0, 0)]), "less than two epochs"),
        refused(
            "joins backwards",
            joins(&[(0, 5), (6, 1)]),
            "less than two epochs",
        ),
        refused(
            "joins what overlaps",
            joins(&[(0, 5), (3, 9)]),
            "must start at epoch 6",
        ),
        refused(
            "joins the same twice",
            joins(&[(0, 1), (0, 1)]),
            "must start at epoch 2",
        ),
        refused(
            "joins what will be",
            joins(&[(0, u32::MAX)]),
            "above the last settled epoch",
        ),
    ];
    of(answers, "")
}

/// Answers about packs.
pub(super) fn about_packs() -> Vec<Attack> {
    let asked = "(local.get 2)";
    let each = |group: u32, count: &str| {
        format!(
            "(memory.fill (i32.const 1024) (i32.const {group}) {count}) {}",
            repacks_as("(local.get 0)", ("(i32.const 1024)", count), (0, 0))
        )
    };
    let told = |reason| repacks_as("(local.get 0)", ("(i32.const 1024)", asked), reason);
    let says = format!("{} (i32.const 16)", stores(&[(16, 1), (24, 96), (28, 11)]));
    let (huge, size) = (u32::MAX, 1 << 20);
    let grown = |answer: String| format!("{GROW} {answer}");
    let answers = [
        data(
            "lists more than there is",
            repacks(size, (1_024, huge)),
            "out of bounds",
        ),
        data(
            "lists megabytes",
            grown(repacks(size, (1_024, 6_000_000))),
            "too much data",
        ),
        data(
            "tells megabytes",
            grown(told((64, 6_000_000))),
            "too much data",
        ),
        data("tells no text", told((64, 2)), "utf-8"),
        Attack::new("says no", says, "plugin-error", "says: not tonight"),
        refused(
            "tells too long a reason",
            told((4_096, 1_001)),
            "a reason of more than",
        ),
        refused(
            "wants tiny packs",
            repacks(1, (1_024, 1)),
            "packs of 1 bytes",
        ),
        refused(
            "wants endless packs",
            repacks(u64::MAX, (1_024, 1)),
            "packs of 184467",
        ),
        refused(
            "answers about nothing",
            each(1, "(i32.const 0)"),
            "0 answers about",
        ),
        refused(
            "answers twice about each",
            each(1, "(i32.mul (i32.const 2) (local.get 2))"),
            "answers about",
        ),
        refused(
            "answers about packs never asked",
            each(1, "(i32.const 60000)"),
            "60000 answers",
        ),
        refused("counts too far", each(128, asked), "packs of number 128"),
    ];
    of(answers, TEXTS)
}

/// Answers about whose snapshots are.
pub(super) fn about_tenants() -> Vec<Attack> {
    let each = "(local.get 1)";
    let from = |at: u32, count: &str| gives(&format!("(i32.const {at})"), count);
    let says = format!("{} (i32.const 16)", stores(&[(16, 1), (20, 96), (24, 11)]));
    let untold = format!("{} (i32.const 16)", stores(&[(16, 1), (20, 64), (24, 2)]));
    let answers = [
        data(
            "lists more than there is",
            from(2_048, "(i32.const -1)"),
            "out of bounds",
        ),
        data(
            "lists megabytes",
            format!("{GROW} {}", from(2_048, "(i32.const 6000000)")),
            "too much data",
        ),
        data("fails without a text", untold, "utf-8"),
        Attack::new("says no", says, "plugin-error", "says: not tonight"),
        refused(
            "gives nobody a tenant",
            from(2_048, "(i32.const 0)"),
            "0 tenants of",
        ),
        refused(
            "gives tenants to snapshots never asked",
            from(2_048, "(i32.const 60000)"),
            "60000 tenants of",
        ),
        refused(
            "gives each two tenants",
            from(2_048, "(i32.mul (i32.const 2) (local.get 1))"),
            "tenants of",
        ),
        refused("counts from none", from(2_052, each), "tenant 0"),
        refused("counts too far", from(2_053, each), "tenant 251"),
    ];
    of(answers, TEXTS)
}

/// Makes one decision for each snapshot; the first `kept` are kept.
fn expires_all_but(kept: u32) -> String {
    format!(
        "(local $at i32) (local.set $at (i32.const {EMPTY})) (loop \
         (i32.store8 (local.get $at) (i32.ge_u (local.get $at) (i32.const {}))) \
         (i32.store offset=4 (local.get $at) (i32.const 3072)) \
         (i32.store offset=8 (local.get $at) (i32.const 3)) \
         (local.set $at (i32.add (local.get $at) (i32.const 12))) \
         (br_if 0 (i32.lt_u (local.get $at) (i32.const {})))) {}",
        EMPTY + 12 * kept,
        EMPTY + 12_000,
        decides_as(EMPTY, "(local.get 1)")
    )
}

/// Answers about snapshots; the first of them must be those that a run is also tried with.
pub(super) fn about_snapshots() -> Vec<Attack> {
    let twice = "(i32.mul (i32.const 2) (local.get 1))";
    let first = |reason: (u32, u32)| {
        let numbers = stores(&[(2_052, reason.0), (2_056, reason.1)]);
        format!("{GROW} {numbers} {}", decides(2_048, 1))
    };
    let answers = [
        refused(
            "expires everything",
            expires_all_but(0),
            "is the newest complete one",
        ),
        Attack::new(
            "expires nearly everything",
            expires_all_but(1),
            "too-many-expired",
            "expire",
        ),
        Attack::new("says no", says(3), "plugin-error", "says: old"),
        refused(
            "decides about nothing",
            decides(2_048, 0),
            "0 decisions about",
        ),
        refused(
            "decides about snapshots never asked",
            decides(EMPTY, 70_000),
            "70000 decisions",
        ),
        refused(
            "decides twice about each",
            decides_as(EMPTY, twice),
            "decisions about",
        ),
        data(
            "lists more than there is",
            decides(2_048, 500_000_000),
            "out of bounds",
        ),
        data("lists between two words", decides(2_049, 1), "align"),
        data(
            "tells megabytes",
            first((EMPTY, 6_000_000)),
            "too much data",
        ),
        data(
            "tells more than there is",
            first((0, u32::MAX)),
            "out of bounds",
        ),
        data("tells no text", first((3_200, 2)), "utf-8"),
        data("fails without a text", says(u32::MAX), "out of bounds"),
    ];
    of(answers, "")
}

/// Answers about tasks.
pub(super) fn about_schedules() -> Vec<Attack> {
    let mut all = about_tasks();
    all.extend(about_broken_tasks());
    all.extend(about_time());
    all
}

/// A name at 3200, and what is none.
const NAMES: &str = r#"(data (i32.const 3200) "cleanup-logs\ff\fe")"#;

/// An answer that runs tasks of a cycle, by its number.
fn of_cycle(cycle: u32) -> String {
    let answer = runs((2_048, 1), (0, 0));
    answer.replace("1040) (i32.const 1)", &format!("1040) (i32.const {cycle})"))
}

/// A decision without anything else, by its number.
fn decision(number: u32) -> String {
    format!("{} (i32.const {AT})", stores(&[(AT, 0), (AT + 8, number)]))
}

fn about_broken_tasks() -> Vec<Attack> {
    let none = (0, 0);
    let says = format!(
        "{} (i32.const {AT})",
        stores(&[(AT, 1), (AT + 8, 3_072), (AT + 12, 11)])
    );
    let answers = [
        data(
            "lists more than there is",
            runs((2_048, 500_000_000), none),
            "out of bounds",
        ),
        data("lists between two words", runs((2_049, 1), none), "align"),
        data(
            "tells more than there is",
            runs((2_048, 1), (0, u32::MAX)),
            "out of bounds",
        ),
        data("tells no text", runs((2_048, 1), (3_212, 2)), "utf-8"),
        data(
            "chooses a cycle that there is not",
            of_cycle(9),
            "discriminant",
        ),
        data("decides what there is not", decision(7), "discriminant"),
        Attack::new("says no", says, "plugin-error", "says: snapshot-gc"),
    ];
    of(answers, NAMES)
}

fn about_tasks() -> Vec<Attack> {
    let none = (0, 0);
    let one = |changes: &[(u32, u32)]| format!("{} {}", stores(changes), runs((2_048, 1), none));
    let two = |at: u32| {
        let numbers = stores(&[(at, 3_072), (at + 4, 11), (at + 8, 0)]);
        format!("{numbers} {}", runs((at - 40, 2), none))
    };
    let answers = [
        refused(
            "tells too long a reason",
            runs((2_048, 1), (4_096, 1_001)),
            "a reason of",
        ),
        refused("runs nothing", runs((2_048, 0), none), "no task at all"),
        refused(
            "runs 15 nameless tasks",
            runs((EMPTY, 15), none),
            "15 tasks",
        ),
        refused(
            "runs what was never offered",
            runs((EMPTY, 1), none),
            "is not one of those",
        ),
        refused("runs a task twice", two(2_088), "task snapshot-gc twice"),
        refused(
            "rewrites before it marks",
            two(2_128),
            "task snapshot-gc after",
        ),
        refused(
            "limits what cannot be limited",
            one(&[(2_048, 3_200), (2_052, 12), (2_056, 1)]),
            "cannot keep one",
        ),
        refused(
            "runs what is not due",
            of_cycle(0),
            "quick maintenance is not due",
        ),
        refused("counts costs for ever", decision(2), "counted already"),
    ];
    of(answers, NAMES)
}

/// Travels in time: now, the past, and a future in which nobody would maintain any more.
fn about_time() -> Vec<Attack> {
    let now = "(i64.load (local.get 0))";
    let until = |moment: &str| waits_until(moment, (3_072, 11));
    let far = format!("(i64.add {now} (i64.const 2678401))");
    let past = format!("(i64.sub {now} (i64.const 86400))");
    let answers = [
        refused("waits until now", until(now), "nothing before"),
        refused("waits until yesterday", until(&past), "nothing before"),
        refused(
            "waits for 31 days and a second",
            until(&far),
            "nothing before",
        ),
        refused("waits until 1970", waits(0, (0, 0)), "nothing before"),
        refused(
            "waits since ever",
            waits(i64::MIN, (0, 0)),
            "nothing before",
        ),
        refused("waits for ever", waits(i64::MAX, (0, 0)), "nothing before"),
    ];
    of(answers, "")
}

/// An answer that is refused at the border.
fn data(name: &'static str, body: String, words: &'static str) -> Attack {
    Attack::new(name, body, "plugin-data", words)
}

/// An answer that is refused by the host's check.
fn refused(name: &'static str, body: String, words: &'static str) -> Attack {
    Attack::new(name, body, "plugin-answer-refused", words)
}

fn of(answers: impl IntoIterator<Item = Attack>, fields: &str) -> Vec<Attack> {
    let answers = answers.into_iter();
    answers.map(|attack| attack.with(fields)).collect()
}
