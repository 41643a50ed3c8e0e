//! An index, for splitting strategies, with the host's rules about the answers: a copy of them,
//! which a test of the host compares with its own.

use crate::splitting::{EpochRow, Plan, Question, Splitting};

use super::check_reason;

/// Most ranges of one answer.
const JOINS_MAX: usize = 500;

/// Least entries of a shard.
const SHARD_ENTRIES_MIN: u32 = 100_000;

/// An index of a repository in daily use: a chain of ranges up to epoch 119, eleven settled epochs
/// above it, of which the newest three were not compacted by anybody.
pub fn index() -> Question {
    let row = |epoch: u32| EpochRow {
        epoch,
        blobs: if epoch < 128 { 1 } else { 160 - epoch },
        bytes: 90_000_000 + u64::from(epoch) * 1_000_000,
        compacted: epoch < 128,
    };
    Question {
        write_epoch: 132,
        chain_end: 120,
        last_settled: Some(130),
        full_checkpoint_frequency: 7,
        shard_entries_max: 16_000_000,
        epochs: (120..=130).map(row).collect(),
    }
}

/// Asks about an index, and checks the answer.
///
/// # Errors
/// The strategy's own, or which rule of the host the answer breaks.
pub fn split(strategy: &impl Splitting, question: &Question) -> Result<Plan, String> {
    let plan = strategy.split(question)?;
    check_reason(&plan.reason)?;
    let (least, most) = (SHARD_ENTRIES_MIN, question.shard_entries_max);
    if !(least..=most).contains(&plan.shard_entries) {
        let entries = plan.shard_entries;
        return Err(format!(
            "shards of {entries} entries; allowed are {least} to {most}"
        ));
    }
    if plan.joins.len() > JOINS_MAX {
        let ranges = plan.joins.len();
        return Err(format!("{ranges} ranges; allowed are {JOINS_MAX}"));
    }
    let mut start = question.chain_end;
    for join in &plan.joins {
        let range = format!("range {}..={}", join.min, join.max);
        if join.min != start {
            return Err(format!(
                "{range} must start at epoch {start}, the chain's end"
            ));
        }
        if join.max <= join.min {
            return Err(format!(
                "{range} spans less than two epochs: readers would lose it"
            ));
        }
        if question.last_settled.is_none_or(|last| join.max > last) {
            return Err(format!("{range} reaches above the last settled epoch"));
        }
        start = join.max + 1;
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use crate::splitting::{EpochRange, PackPlan, PackQuestion};

    use super::*;

    struct Told(u32, &'static [(u32, u32)]);

    impl Splitting for Told {
        fn split(&self, _: &Question) -> Result<Plan, String> {
            let join = |(min, max): &(u32, u32)| EpochRange {
                min: *min,
                max: *max,
            };
            Ok(Plan {
                shard_entries: self.0,
                joins: self.1.iter().map(join).collect(),
                reason: String::new(),
            })
        }

        fn repack(&mut self, _: &PackQuestion) -> Result<PackPlan, String> {
            Err("not asked".into())
        }
    }

    #[test]
    fn what_the_host_refuses_is_refused() {
        let ask = |entries, joins| split(&Told(entries, joins), &index());
        assert!(ask(100_000, &[(120, 121), (122, 130)]).is_ok());
        for (entries, joins, words) in [
            (99_999, &[][..], "shards of 99999"),
            (16_000_001, &[], "shards of 16000001"),
            (100_000, &[(121, 130)], "must start at epoch 120"),
            (100_000, &[(120, 120)], "less than two"),
            (100_000, &[(120, 131)], "above the last settled"),
        ] {
            let refused = ask(entries, joins).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
