//! Hostile plugins that run: each is ended by the limit it attacks, and the host goes on.
//! What each one attacks is its test's name; the code of the error is what the test claims.

use std::time::Duration;

use careen::maintenance::strategy::{Splitting, StrategyError};
use careen::plugin::PluginOptions;

use super::component::{Guest, SPLIT, answer, splitting};
use super::{load_wasm, question};

/// Loads a guest, asks it twice, and returns the error; both askings must end the same way.
fn attack(wasm: &[u8], change: impl FnOnce(&mut PluginOptions)) -> StrategyError {
    let mut plugin = load_wasm(wasm, change).unwrap();
    let question = question(3);
    let before = question.clone();
    let first = plugin.split(&question).unwrap_err();
    let second = plugin.split(&question).unwrap_err();
    assert_eq!(first.code(), second.code());
    assert_eq!(question, before);
    let text = first.to_string();
    assert!(
        text.contains("guest (blake3 ") && text.contains("KiB, fuel "),
        "{text}"
    );
    first
}

/// Asserts the code, and words that people need to understand it.
fn assert_ends(wasm: &[u8], code: &str, words: &str) {
    let error = attack(wasm, |options| options.limits.fuel = 20_000_000);
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

fn trap(body: &str) -> Vec<u8> {
    splitting(&format!("{body} (i32.const 0)"))
}

#[test]
fn an_honest_guest_of_the_same_make_is_answered() {
    let body = answer(100_000, (0, 0), (28, 5));
    let core = format!("(data (i32.const 28) \"b\\1bcde\") {SPLIT} {body})");
    let mut plugin = load_wasm(&Guest::new(&core).wasm(), |_| ()).unwrap();
    let answer = plugin.split(&question(1_000)).unwrap();
    assert_eq!(answer.shard_entries, 100_000);
    assert_eq!(answer.reason, "b cde");
}

#[test]
fn endless_loops_run_out_of_fuel() {
    assert_ends(
        &trap("(loop (br 0))"),
        "plugin-fuel",
        "fuel 20000000 of 20000000",
    );
    let core = format!("(func $start (loop (br 0))) (start $start) {SPLIT} (i32.const 0))");
    assert_ends(&Guest::new(&core).wasm(), "plugin-fuel", "ran out of fuel");
}

#[test]
fn an_endless_loop_with_endless_fuel_meets_the_deadline() {
    let error = attack(&trap("(loop (br 0))"), |options| {
        options.limits.fuel = u64::MAX;
        options.limits.deadline = Duration::from_millis(50);
    });
    assert_eq!(error.code(), "plugin-deadline", "{error}");
    assert!(error.to_string().contains("of 50 ms"), "{error}");
}

#[test]
fn a_memory_bomb_meets_the_budget() {
    let bomb = trap("(loop (drop (memory.grow (i32.const 16))) (br 0))");
    assert_ends(&bomb, "plugin-memory", "allowed are 8192 KiB");
    let bomb = trap("(drop (memory.grow (i32.const 65000)))");
    assert_ends(&bomb, "plugin-memory", "memory limit");
}

#[test]
fn many_memories_share_one_budget() {
    let instance = "(core module $m (memory 48))";
    let instances = "(core instance (instantiate $m))".repeat(3);
    let component = format!("{instance} {instances}");
    let core = format!("{SPLIT} unreachable)");
    let mut guest = Guest::new(&core);
    guest.component = &component;
    assert_ends(&guest.wasm(), "plugin-memory", "9216 KiB");
}

#[test]
fn more_memories_or_instances_than_anyone_needs_are_refused() {
    let core = format!("{SPLIT} unreachable)");
    let mut guest = Guest::new(&core);
    let memories = "(core instance (instantiate $m))".repeat(60);
    let component = format!("(core module $m (memory 0)) {memories}");
    guest.component = &component;
    assert_ends(&guest.wasm(), "plugin-data", "memory count too high");
    let instances = "(core instance (instantiate $m))".repeat(500);
    let component = format!("(core module $m) {instances}");
    guest.component = &component;
    assert_ends(&guest.wasm(), "plugin-data", "instance count too high");
}

#[test]
fn tables_count_as_memory() {
    let core = format!("(table 10000000 funcref) {SPLIT} unreachable)");
    assert_ends(&Guest::new(&core).wasm(), "plugin-memory", "this table");
    let grow = "(loop (drop (table.grow (ref.null func) (i32.const 1000))) (br 0))";
    let core = format!("(table 1 funcref) {SPLIT} {grow} (i32.const 0))");
    assert_ends(&Guest::new(&core).wasm(), "plugin-memory", "this table");
}

#[test]
fn traps_are_named() {
    assert_ends(&trap("unreachable"), "plugin-trap", "unreachable");
    let divide = trap("(drop (i32.div_u (i32.const 1) (i32.const 0)))");
    assert_ends(&divide, "plugin-trap", "divide by zero");
    let wild = trap("(drop (i32.load (i32.const -4)))");
    assert_ends(&wild, "plugin-trap", "out of bounds");
    let core = format!("(func $deep (call $deep) (call $deep)) {SPLIT} (call $deep) unreachable)");
    assert_ends(&Guest::new(&core).wasm(), "plugin-trap", "stack exhausted");
}

#[test]
fn the_last_words_before_a_trap_are_passed_on_without_their_escapes() {
    let core = format!(
        "(data (i32.const 32) \"no \\1b[2J epoch\") \
         {SPLIT} (call $log (i32.const 3) (i32.const 32) (i32.const 14)) unreachable)"
    );
    let guest = Guest::new(&core).wasm();
    assert_ends(&guest, "plugin-trap", "after it logged: no  [2J epoch");
}

#[test]
fn its_own_error_is_shown() {
    let body = "(i32.store8 (i32.const 4) (i32.const 1)) (i32.store (i32.const 8) (i32.const 32)) \
                (i32.store (i32.const 12) (i32.const 7)) (i32.const 4)";
    let core = format!("(data (i32.const 32) \"not now\") {SPLIT} {body})");
    assert_ends(&Guest::new(&core).wasm(), "plugin-error", "says: not now");
}

#[test]
fn lying_answers_are_unusable() {
    let lies = [
        // Where the answer is: outside, and between two words.
        ("(i32.const -8)".to_owned(), "out of bounds"),
        ("(i32.const 5)".to_owned(), "align"),
        // Lists that cannot be.
        (answer(100_000, (0, 500_000_000), (0, 0)), "out of bounds"),
        (answer(100_000, (2, 1), (0, 0)), "align"),
        (answer(100_000, (u32::MAX - 3, 1), (0, 0)), "out of bounds"),
        // Strings that cannot be.
        (answer(100_000, (0, 0), (0, u32::MAX)), "out of bounds"),
        (answer(100_000, (0, 0), (8, 8)), "utf-8"),
        // Neither an answer nor an error.
        (
            "(i32.store8 (i32.const 4) (i32.const 2)) (i32.const 4)".into(),
            "discriminant",
        ),
    ];
    for (body, words) in lies {
        let core = format!("(data (i32.const 8) \"\\ff\\ff\\ff\\ff\\ff\") {SPLIT} {body})");
        assert_ends(&Guest::new(&core).wasm(), "plugin-data", words);
    }
}

#[test]
fn an_answer_larger_than_the_host_takes_is_unusable() {
    let grow = "(drop (memory.grow (i32.const 100)))";
    let body = format!("{grow} {}", answer(100_000, (0, 0), (64, 6_000_000)));
    assert_ends(&splitting(&body), "plugin-data", "too much data");
    let body = format!("{grow} {}", answer(100_000, (64, 800_000), (0, 0)));
    assert_ends(&splitting(&body), "plugin-data", "too much data");
}

#[test]
fn log_floods_and_huge_lines_are_ended() {
    let flood = trap("(loop (call $log (i32.const 1) (i32.const 0) (i32.const 9)) (br 0))");
    assert_ends(&flood, "plugin-data", "more than 10000 log lines");
    let huge = trap(
        "(drop (memory.grow (i32.const 100))) \
         (call $log (i32.const 1) (i32.const 0) (i32.const 6000000))",
    );
    assert_ends(&huge, "plugin-data", "too much data");
    let invalid = trap(
        "(i32.store (i32.const 0) (i32.const -1)) \
         (call $log (i32.const 1) (i32.const 0) (i32.const 4))",
    );
    assert_ends(&invalid, "plugin-data", "utf-8");
    let level = trap("(call $log (i32.const 9) (i32.const 0) (i32.const 4))");
    assert_ends(&level, "plugin-data", "discriminant");
}

/// Traps only when it is asked about write epoch 4: the answers before and after do not suffer.
#[test]
fn a_trap_leaves_nothing_behind() {
    let body = format!(
        "(if (i32.eq (local.get 0) (i32.const 12)) (then unreachable)) {}",
        answer(200_000, (0, 0), (0, 0))
    );
    let mut plugin = load_wasm(&splitting(&body), |_| ()).unwrap();
    for rows in [2, 3, 4, 3, 2] {
        let answer = plugin.split(&question(rows));
        match rows {
            3 => assert_eq!(answer.unwrap_err().code(), "plugin-trap"),
            _ => assert_eq!(answer.unwrap().shard_entries, 200_000),
        }
    }
}

/// An instance that counts its calls always answers one: nothing is remembered.
#[test]
fn every_question_meets_a_fresh_instance() {
    let body = format!(
        "{} (i32.store (i32.const 8) (i32.add (i32.load (i32.const 40)) (i32.const 100000))) \
         (i32.store (i32.const 40) (i32.add (i32.load (i32.const 40)) (i32.const 1)))",
        answer(0, (0, 0), (0, 0))
    );
    let mut plugin = load_wasm(&splitting(&body), |_| ()).unwrap();
    for _ in 0..3 {
        assert_eq!(plugin.split(&question(1)).unwrap().shard_entries, 100_000);
    }
}

/// What the limits let through is still refused by the host's own check.
#[test]
fn an_answer_outside_the_rules_is_found_by_the_check() {
    let question = question(3);
    for (body, words) in [
        (answer(1, (0, 0), (0, 0)), "shards of 1 entries"),
        (answer(100_000, (64, 501), (0, 0)), "501 ranges"),
        (answer(100_000, (64, 1), (0, 0)), "must start at epoch 8"),
        (answer(100_000, (0, 0), (64, 1_001)), "a reason of more"),
    ] {
        let mut plugin = load_wasm(&splitting(&body), |_| ()).unwrap();
        let answer = plugin.split(&question).unwrap();
        let refused = answer.check(&question).unwrap_err();
        assert!(refused.contains(words), "{refused}");
    }
}
