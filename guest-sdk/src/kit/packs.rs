//! Packs, for splitting strategies: asked about in batches as the host does, with its rules about
//! the answers.

use std::collections::BTreeMap;

use crate::splitting::{PackPlan, PackQuestion, PackRow, Splitting};

use super::{BATCH_ROWS_MAX, Numbers, check_reason};

/// Kopia's default for the size of a pack.
const PACK_BYTES: u64 = 20 << 20;

/// The number of an owner whose packs may be alone.
pub(super) const MIXED: u8 = u8::MAX;

/// Highest number of packs that are rewritten together.
const GROUP_MAX: u8 = 127;

/// All packs of a repository.
#[derive(Clone, Debug)]
pub struct Packs {
    /// Size at which clients close a pack, in bytes.
    pub pack_bytes_max: u64,
    /// What lies in each.
    pub packs: Vec<PackRow>,
}

/// The packs of a repository in use for years: 3,000, one in six of metadata. Two thirds are nearly
/// full; the others lost some or most of their contents, or were closed early.
pub fn packs() -> Packs {
    let mut numbers = Numbers(11);
    let row = |number: u64| PackRow {
        metadata: number % 6 == 5,
        used_bytes: match numbers.below(100) {
            0..65 => PACK_BYTES - numbers.below(PACK_BYTES / 20),
            65..80 => PACK_BYTES / 2 + numbers.below(PACK_BYTES / 2),
            80..95 => 1 + numbers.below(PACK_BYTES / 2),
            95..99 => 1 + numbers.below(4_096),
            _ => PACK_BYTES + numbers.below(PACK_BYTES / 4),
        },
    };
    Packs {
        pack_bytes_max: PACK_BYTES,
        packs: (0..3_000).map(row).collect(),
    }
}

/// Asks about all packs, in batches as the host does, and checks the answers. Returns for each pack
/// what the host would make of it: 0 where it stays, else the number of those that it is rewritten
/// with. The host leaves full packs, and one that is alone.
///
/// # Errors
/// The strategy's own, or which rule of the host an answer breaks.
pub fn repack(strategy: &mut impl Splitting, packs: &Packs) -> Result<Vec<u8>, String> {
    let mut host = Host::new(packs.pack_bytes_max);
    for batch in packs.packs.chunks(BATCH_ROWS_MAX) {
        let plan = strategy.repack(&PackQuestion {
            pack_bytes_max: packs.pack_bytes_max,
            packs: batch.to_vec(),
        })?;
        let rows = batch.iter();
        host.take(plan, rows.map(|row| (row.used_bytes, row.metadata, 0)))?;
    }
    Ok(host.end())
}

/// What the host makes of the answers about packs.
pub(super) struct Host {
    pack_bytes_max: u64,
    agreed: Option<u64>,
    groups: Vec<u8>,
    /// Kind and owner of each pack.
    kinds: Vec<(bool, u8)>,
}

impl Host {
    pub(super) fn new(pack_bytes_max: u64) -> Self {
        Self {
            pack_bytes_max,
            agreed: None,
            groups: Vec::new(),
            kinds: Vec::new(),
        }
    }

    /// Takes the answer about packs: bytes in use, whether it is metadata, and whose.
    pub(super) fn take(
        &mut self,
        plan: PackPlan,
        rows: impl ExactSizeIterator<Item = (u64, bool, u8)>,
    ) -> Result<(), String> {
        check(&plan, self.pack_bytes_max, rows.len())?;
        let agreed = *self.agreed.get_or_insert(plan.pack_bytes);
        if agreed != plan.pack_bytes {
            let bytes = plan.pack_bytes;
            return Err(format!("packs of {bytes} bytes, before {agreed}"));
        }
        for ((used_bytes, metadata, owner), group) in rows.zip(plan.groups) {
            self.groups
                .push(if used_bytes < agreed { group } else { 0 });
            self.kinds.push((metadata, owner));
        }
        Ok(())
    }

    /// Leaves what is alone; returns the groups.
    pub(super) fn end(mut self) -> Vec<u8> {
        let mut members = BTreeMap::new();
        let places = || self.groups.iter().copied().zip(self.kinds.iter().copied());
        places().for_each(|place| *members.entry(place).or_insert(0) += 1);
        let alone: Vec<bool> = places()
            .map(|place| members[&place] == 1 && place.1.1 != MIXED)
            .collect();
        for (group, alone) in self.groups.iter_mut().zip(alone) {
            if alone {
                *group = 0;
            }
        }
        self.groups
    }
}

fn check(plan: &PackPlan, pack_bytes_max: u64, packs: usize) -> Result<(), String> {
    check_reason(&plan.reason)?;
    let most = pack_bytes_max;
    let least = most * 60 / 100;
    if !(least..=most).contains(&plan.pack_bytes) {
        let bytes = plan.pack_bytes;
        return Err(format!(
            "packs of {bytes} bytes; allowed are {least} to {most}"
        ));
    }
    if plan.groups.len() != packs {
        let groups = plan.groups.len();
        return Err(format!("{groups} answers about {packs} packs"));
    }
    match plan.groups.iter().find(|group| **group > GROUP_MAX) {
        Some(group) => Err(format!(
            "packs of number {group}; allowed are 0 to {GROUP_MAX}"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::splitting::{Plan, Question};

    use super::*;

    struct Told(fn(&PackQuestion) -> PackPlan);

    impl Splitting for Told {
        fn split(&self, _: &Question) -> Result<Plan, String> {
            Err("not asked".into())
        }

        fn repack(&mut self, question: &PackQuestion) -> Result<PackPlan, String> {
            Ok(self.0(question))
        }
    }

    fn plan(question: &PackQuestion, group: fn(&PackRow) -> u8) -> PackPlan {
        PackPlan {
            pack_bytes: question.pack_bytes_max,
            groups: question.packs.iter().map(group).collect(),
            reason: String::new(),
        }
    }

    #[test]
    fn full_packs_and_lonely_ones_stay() {
        let packs = packs();
        assert_eq!(packs.packs.len(), 3_000);
        let chosen = repack(&mut Told(|asked| plan(asked, |_| 1)), &packs).unwrap();
        let full = |row: &PackRow| row.used_bytes >= packs.pack_bytes_max;
        let rows = || packs.packs.iter().zip(&chosen);
        assert!(rows().all(|(row, group)| full(row) == (*group == 0)));
        assert!(packs.packs.iter().any(full));
        let mut few = packs.clone();
        few.packs.truncate(6);
        let chosen = repack(&mut Told(|asked| plan(asked, |_| 3)), &few).unwrap();
        assert_eq!(chosen[5], 0, "the only one of metadata");
    }

    #[test]
    fn what_the_host_refuses_is_refused() {
        let refused = |told| repack(&mut Told(told), &packs()).unwrap_err();
        let short = refused(|asked| PackPlan {
            groups: Vec::new(),
            ..plan(asked, |_| 0)
        });
        assert_eq!(short, "0 answers about 1000 packs");
        assert!(refused(|asked| plan(asked, |_| 128)).contains("number 128"));
        let small = refused(|asked| PackPlan {
            pack_bytes: 5,
            ..plan(asked, |_| 0)
        });
        assert!(small.contains("packs of 5 bytes"), "{small}");
        let torn = refused(|asked| PackPlan {
            pack_bytes: asked.pack_bytes_max - asked.packs[0].used_bytes % 1_000,
            ..plan(asked, |_| 0)
        });
        assert!(torn.contains("before"), "{torn}");
    }
}
