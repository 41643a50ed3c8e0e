//! What a strategy answers about packs: the built-in one as natively compiled and as Kopia's own
//! rule, an honest guest, and guests that answer too much, nonsense, or not at all.

use careen::maintenance::pack_choice::{ChoosePacks, ShortPacks};
use careen::maintenance::strategy::{
    PACK_ROWS_MAX, PackRow, RepackAnswer, RepackQuestion, Splitting,
};
use careen::plugin::{PluginSource, load};
use careen_guest_sdk::splitting as sdk;
use proptest::prelude::*;

use super::component::repacking;
use super::{load_wasm, options};
use guests::answers::repacks as body;

fn question(used_bytes: &[u64]) -> RepackQuestion {
    let row = |(number, used_bytes): (usize, &u64)| PackRow {
        metadata: number % 3 == 0,
        used_bytes: *used_bytes,
        owner: None,
    };
    RepackQuestion {
        pack_bytes_max: 20 << 20,
        packs: used_bytes.iter().enumerate().map(row).collect(),
    }
}

fn native(question: &RepackQuestion) -> RepackAnswer {
    let row = |row: &PackRow| sdk::PackRow {
        metadata: row.metadata,
        used_bytes: row.used_bytes,
    };
    let question = sdk::PackQuestion {
        pack_bytes_max: question.pack_bytes_max,
        packs: question.packs.iter().map(row).collect(),
    };
    let plan = sdk::Splitting::repack(&mut splitting_short_packs::ShortPacks, &question).unwrap();
    RepackAnswer {
        pack_bytes: plan.pack_bytes,
        groups: plan.groups,
        reason: plan.reason,
    }
}

/// Goal: component, native strategy and the host's own rule of Kopia's choice are one.
#[test]
fn the_built_in_strategy_chooses_as_kopia() {
    let mut plugin = load(options(PluginSource::Builtin)).unwrap();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let sizes = prop_oneof![0..30_000_000_u64, 12_582_910..12_582_915_u64, any::<u64>()];
    let plugin = std::cell::RefCell::new(&mut plugin);
    runner
        .run(&prop::collection::vec(sizes, 0..50), |sizes| {
            let question = question(&sizes);
            let answer = plugin.borrow_mut().repack(&question).unwrap();
            prop_assert_eq!(&answer, &native(&question));
            prop_assert_eq!(&answer, &ShortPacks.choose(&question).unwrap());
            prop_assert_eq!(answer.check(&question), Ok(()));
            Ok(())
        })
        .unwrap();
}

/// Goal: the largest question fits into the default limits many times.
#[test]
fn a_full_question_needs_little() {
    let mut options = options(PluginSource::Builtin);
    options.limits.memory_bytes = 1 << 20;
    options.limits.fuel = 1_000_000;
    let mut plugin = load(options).unwrap();
    let answer = plugin.repack(&question(&vec![7; PACK_ROWS_MAX])).unwrap();
    assert_eq!(answer.groups, vec![1; PACK_ROWS_MAX]);
}

#[test]
fn an_honest_guest_is_answered() {
    let wasm = repacking(&body(16 << 20, (1024, 2)));
    let mut plugin = load_wasm(&wasm, |_| ()).unwrap();
    let answer = plugin.repack(&question(&[1, 2])).unwrap();
    assert_eq!((answer.pack_bytes, answer.groups), (16 << 20, vec![0, 0]));
}

#[test]
fn answers_of_the_wrong_length_are_refused_by_the_check() {
    let wasm = repacking(&body(16 << 20, (1024, 60_000)));
    let mut plugin = load_wasm(&wasm, |_| ()).unwrap();
    let asked = question(&[1, 2]);
    let answer = plugin.repack(&asked).unwrap();
    assert!(answer.check(&asked).unwrap_err().contains("60000 answers"));
}

#[test]
fn hostile_guests_are_ended() {
    for (body, code) in [
        ("(loop (br 0)) (i32.const 0)".to_owned(), "plugin-fuel"),
        ("unreachable".to_owned(), "plugin-trap"),
        (body(1, (1024, u32::MAX)), "plugin-data"),
        ("(i32.const -8)".to_owned(), "plugin-data"),
    ] {
        let change = |options: &mut careen::plugin::PluginOptions| options.limits.fuel = 20_000_000;
        let mut plugin = load_wasm(&repacking(&body), change).unwrap();
        for _ in 0..2 {
            let error = plugin.repack(&question(&[1])).unwrap_err();
            assert_eq!(error.code(), code, "{body}: {error}");
        }
    }
}

/// Goal: the questions of one rewrite meet one instance, another rewrite a fresh one, and so does
/// what comes after an error; method: a guest that counts its calls, and traps at an empty
/// question.
#[test]
fn the_questions_of_a_rewrite_meet_the_same_instance() {
    let count = "(i32.add (i32.load (i32.const 48)) (i32.const 1))";
    let plan = body(0, (1024, 0));
    let counts = format!(
        "(if (i32.eqz (local.get 2)) (then unreachable)) (i32.store (i32.const 48) {count}) \
         (drop {plan}) (i64.store (i32.const 24) (i64.extend_i32_u (i32.load (i32.const 48)))) \
         (i32.const 16)"
    );
    let mut plugin = load_wasm(&repacking(&counts), |_| ()).unwrap();
    let mut ask = |used: &[u64]| plugin.repack(&question(used)).map(|plan| plan.pack_bytes);
    assert_eq!(ask(&[1]).unwrap(), 1);
    assert_eq!(ask(&[1]).unwrap(), 2);
    assert_eq!(ask(&[]).unwrap_err().code(), "plugin-trap");
    assert_eq!(ask(&[1]).unwrap(), 1);
    assert_eq!(ask(&[1]).unwrap(), 2);
    plugin.end_repack();
    assert_eq!(plugin.repack(&question(&[1])).unwrap().pack_bytes, 1);
}
