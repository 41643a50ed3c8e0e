//! The built-in component and the same strategy compiled natively answer the same, whatever is
//! asked.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use careen::maintenance::strategy::{
    EPOCH_ROWS_MAX, EpochRange, EpochRow, SHARD_ENTRIES_MAX, SHARD_ENTRIES_MIN, Splitting,
    SplittingAnswer, SplittingQuestion,
};
use careen::plugin::{PluginSource, load};
use careen_guest_sdk::splitting as sdk;
use proptest::prelude::*;
use splitting_short_packs::ShortPacks;

use super::{options, question};

fn native(question: &SplittingQuestion) -> SplittingAnswer {
    let question = sdk::Question {
        write_epoch: question.write_epoch,
        chain_end: question.chain_end,
        last_settled: question.last_settled,
        full_checkpoint_frequency: question.full_checkpoint_frequency,
        shard_entries_max: question.shard_entries_max as u32,
        epochs: question
            .epochs
            .iter()
            .map(|row| sdk::EpochRow {
                epoch: row.epoch,
                blobs: row.blobs,
                bytes: row.bytes,
                compacted: row.compacted,
            })
            .collect(),
    };
    let plan = sdk::Splitting::split(&ShortPacks, &question).unwrap();
    SplittingAnswer {
        shard_entries: plan.shard_entries.into(),
        joins: plan
            .joins
            .iter()
            .map(|join| EpochRange {
                min: join.min,
                max: join.max,
            })
            .collect(),
        reason: plan.reason,
    }
}

fn rows() -> impl Strategy<Value = Vec<EpochRow>> {
    let row = (any::<u32>(), any::<u32>(), any::<u64>(), any::<bool>());
    let row = row.prop_map(|(epoch, blobs, bytes, compacted)| EpochRow {
        epoch,
        blobs,
        bytes,
        compacted,
    });
    prop::collection::vec(row, 0..20)
}

prop_compose! {
    fn questions()(
        near in any::<bool>(),
        chain_end in 0u32..2_000,
        settled in prop::option::of(0u32..2_000),
        frequency in 1u32..40,
        far in any::<(u32, Option<u32>, u32)>(),
        shard_entries_max in SHARD_ENTRIES_MIN..=SHARD_ENTRIES_MAX,
        epochs in rows(),
    ) -> SplittingQuestion {
        let (chain_end, last_settled, full_checkpoint_frequency) =
            if near { (chain_end, settled, frequency) } else { far };
        SplittingQuestion {
            write_epoch: last_settled.map_or(0, |last| last.saturating_add(2)),
            chain_end,
            last_settled,
            full_checkpoint_frequency,
            shard_entries_max,
            epochs,
        }
    }
}

#[test]
fn answers_as_the_native_strategy_and_every_answer_passes_the_check() {
    let plugin = RefCell::new(load(options(PluginSource::Builtin)).unwrap());
    let joined = Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&questions(), |question| {
            let answer = plugin.borrow_mut().split(&question).unwrap();
            prop_assert_eq!(&answer, &native(&question));
            prop_assert_eq!(answer.check(&question), Ok(()));
            joined.set(joined.get() + answer.joins.len());
            Ok(())
        })
        .unwrap();
    let joined = joined.get();
    assert!(joined > 30, "only {joined} questions led to a range");
}

#[test]
fn joins_as_kopia_does() {
    let mut plugin = load(options(PluginSource::Builtin)).unwrap();
    assert_eq!(plugin.split(&question(7)).unwrap().joins, []);
    let answer = plugin.split(&question(8)).unwrap();
    assert_eq!(answer.joins, [EpochRange { min: 8, max: 15 }]);
    assert_eq!(answer.shard_entries, 16_000_000);
    assert!(
        answer.reason.contains("epochs 8 to 15"),
        "{}",
        answer.reason
    );
}

#[test]
fn names_itself_with_digest_and_limits() {
    let plugin = load(options(PluginSource::Builtin)).unwrap();
    let text = plugin.describe();
    assert!(text.starts_with("splitting-short-packs (blake3 "), "{text}");
    assert!(text.contains(&hex::encode(plugin.digest())), "{text}");
    assert!(
        text.contains(", version 0.1.0, memory 8192 KiB, fuel 1000000000, deadline 5000 ms)"),
        "{text}"
    );
}

/// The largest question, and what it costs. Figures are shown with `--nocapture`; the bounds are
/// loose.
#[test]
fn a_large_question_is_cheap() {
    let question = question(EPOCH_ROWS_MAX as u32);
    drop(load(options(PluginSource::Builtin)).unwrap());
    let started = Instant::now();
    let mut plugin = load(options(PluginSource::Builtin)).unwrap();
    let loaded = started.elapsed();
    let started = Instant::now();
    let answer = plugin.split(&question).unwrap();
    let answered = started.elapsed();
    println!("load from the cache {loaded:?}, {EPOCH_ROWS_MAX} rows {answered:?}");
    assert_eq!(answer.joins, [EpochRange { min: 8, max: 1_007 }]);
    assert!(loaded.as_millis() < 1_000 && answered.as_millis() < 1_000);
}

/// The default needs a fraction of its limits, so other sizes of question or machine do not end it.
#[test]
fn needs_little() {
    let question = question(EPOCH_ROWS_MAX as u32);
    let mut options = options(PluginSource::Builtin);
    options.limits.memory_bytes = 1 << 20;
    options.limits.fuel = 1_000_000;
    let mut plugin = load(options).unwrap();
    assert!(plugin.split(&question).is_ok());
}
