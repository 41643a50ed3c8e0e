//! The default splitting strategy of Careen. It shapes index sets and rewrites packs exactly as
//! Kopia does.
//!
//! * Shards are as large as the host allows. Kopia cuts an index at 16,000,000 entries; the host
//!   never allows more than that, and less when its memory plan is small.
//! * One range checkpoint is written when the newest settled epoch is at least
//!   `FullCheckpointFrequency` above the end of the range chain. It joins all epochs between them.
//!
//! * Packs with less than 60 % of the maximum in use are short; all short packs of a kind are
//!   rewritten together, into packs of the maximum. One alone is left, by the host.
//!
//! Memory: one answer. Mirrors `getRangeToCompact` in Kopia's `internal/epoch/epoch_manager.go` and
//! `findContentInShortPacks` in its `repo/maintenance/content_rewrite.go`.

#[cfg(feature = "component")]
use careen_guest_sdk::register_splitting;
use careen_guest_sdk::splitting::{EpochRange, PackPlan, PackQuestion, Plan, Question, Splitting};

/// Packs with less than this share of the maximum in use are short, in percent.
const SHORT_PERCENT: u64 = 60;

/// The number of all short packs.
const SHORT: u8 = 1;

/// The strategy.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShortPacks;

impl Splitting for ShortPacks {
    fn split(&self, question: &Question) -> Result<Plan, String> {
        let (joins, why) = join(question);
        Ok(Plan {
            shard_entries: question.shard_entries_max,
            joins,
            reason: format!("shards of {} entries; {why}", question.shard_entries_max),
        })
    }

    fn repack(&mut self, question: &PackQuestion) -> Result<PackPlan, String> {
        let below = question.pack_bytes_max * SHORT_PERCENT / 100;
        let group = |used_bytes| if used_bytes < below { SHORT } else { 0 };
        let groups = question.packs.iter().map(|pack| group(pack.used_bytes));
        Ok(PackPlan {
            pack_bytes: question.pack_bytes_max,
            groups: groups.collect(),
            reason: format!("packs with less than {below} bytes in use are short"),
        })
    }
}

#[cfg(feature = "component")]
register_splitting!(ShortPacks);

/// Returns the range to write, if one is due, and why or why not.
fn join(question: &Question) -> (Vec<EpochRange>, String) {
    let (min, frequency) = (question.chain_end, question.full_checkpoint_frequency);
    let Some(max) = question.last_settled else {
        return (Vec::new(), "no epoch is settled yet".into());
    };
    // Kopia compares the distance, not the number of epochs; a chain may also end above the last
    // settled one.
    let Some(distance) = max.checked_sub(min) else {
        return (
            Vec::new(),
            format!("the range chain already ends above epoch {max}"),
        );
    };
    if distance < frequency || distance == 0 {
        return (
            Vec::new(),
            format!(
                "epochs {min} to {max} are not enough for a range: a distance of {frequency} is due"
            ),
        );
    }
    let why = format!("epochs {min} to {max} become one range, a distance of {frequency} is due");
    (vec![EpochRange { min, max }], why)
}

#[cfg(test)]
mod tests {
    use careen_guest_sdk::splitting::PackRow;

    use super::*;

    fn question(chain_end: u32, last_settled: Option<u32>, frequency: u32) -> Question {
        Question {
            write_epoch: last_settled.map_or(1, |last| last + 2),
            chain_end,
            last_settled,
            full_checkpoint_frequency: frequency,
            shard_entries_max: 16_000_000,
            epochs: Vec::new(),
        }
    }

    fn joins(chain_end: u32, last_settled: Option<u32>, frequency: u32) -> Vec<(u32, u32)> {
        let plan = ShortPacks
            .split(&question(chain_end, last_settled, frequency))
            .unwrap();
        plan.joins.iter().map(|join| (join.min, join.max)).collect()
    }

    #[test]
    fn joins_when_the_distance_reaches_the_frequency() {
        assert_eq!(joins(0, Some(6), 7), []);
        assert_eq!(joins(0, Some(7), 7), [(0, 7)]);
        assert_eq!(joins(8, Some(14), 7), []);
        assert_eq!(joins(8, Some(15), 7), [(8, 15)]);
        assert_eq!(joins(8, Some(40), 7), [(8, 40)]);
    }

    #[test]
    fn joins_nothing_without_a_settled_epoch_or_above_it() {
        assert_eq!(joins(0, None, 7), []);
        assert_eq!(joins(8, Some(7), 7), []);
        assert_eq!(joins(u32::MAX, Some(0), 0), []);
    }

    #[test]
    fn never_writes_a_range_of_one_epoch() {
        assert_eq!(joins(3, Some(3), 0), []);
        assert_eq!(joins(3, Some(4), 0), [(3, 4)]);
        assert_eq!(joins(3, Some(4), 1), [(3, 4)]);
    }

    #[test]
    fn packs_below_sixty_percent_rounded_down_are_short() {
        let packs = [599_999, 600_000, 0, 2_000_000].map(|used_bytes| PackRow {
            metadata: used_bytes == 0,
            used_bytes,
        });
        let question = PackQuestion {
            pack_bytes_max: 1_000_001,
            packs: packs.to_vec(),
        };
        let plan = ShortPacks.repack(&question).unwrap();
        assert_eq!(plan.groups, [1, 0, 1, 0]);
        assert_eq!(plan.pack_bytes, 1_000_001);
        assert!(!plan.reason.is_empty());
    }

    #[test]
    fn shards_are_as_large_as_allowed_and_the_reason_is_short() {
        let mut small = question(0, Some(u32::MAX - 2), u32::MAX - 2);
        small.shard_entries_max = 400_000;
        let plan = ShortPacks.split(&small).unwrap();
        assert_eq!(plan.shard_entries, 400_000);
        assert!(plan.reason.len() <= 1_000, "{}", plan.reason);
    }
}
