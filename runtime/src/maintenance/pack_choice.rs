//! Asks which packs are rewritten together, and holds the host's rules about the answers.
//!
//! Packs are asked about in batches; the numbers in the answers join packs over all of them. The
//! rules that need more than one batch are here: a pack that is alone in its number, kind and owner
//! is not worth a rewrite, so the first one waits for a second, unless it is mixed: then it is
//! taken apart; all answers agree on the size of new packs; a full pack is left; and what is chosen
//! fits into the task's budget. Memory: a batch, and 16 bytes for each number, kind and owner: 4
//! KiB, or 1 MiB where owners are known. Mirrors `findContentInShortPacks` of Kopia's
//! `repo/maintenance/content_rewrite.go`.

use super::budget::{Budget, Cost};
use super::strategy::{
    Owner, PACK_GROUP_MAX, PACK_ROWS_MAX, PackRow, RepackAnswer, RepackQuestion, Splitting,
    StrategyError, TENANTS_MAX,
};

/// Packs with less than this share of the maximum in use are short, in percent.
pub const SHORT_PERCENT: u64 = 60;

/// Owners that a pack can have: each tenant, nobody, what is shared, what is mixed.
const OWNERS: usize = TENANTS_MAX as usize + 3;

/// Somebody who chooses packs.
pub trait ChoosePacks {
    /// Answers a question about some packs.
    fn choose(&mut self, question: &RepackQuestion) -> Result<RepackAnswer, StrategyError>;

    /// Ends the questions about all packs: what was remembered of them is forgotten.
    fn end(&mut self) {}

    /// Names it for errors.
    fn describe(&self) -> String;

    /// Says what its calls have used at most, for errors; empty where nobody counts.
    fn used(&self) -> String {
        String::new()
    }

    /// Returns what copying the chosen packs may cost.
    fn budget(&self) -> Budget {
        Budget::default()
    }
}

/// A strategy as one who chooses packs.
pub struct ByStrategy<'a> {
    /// The strategy.
    pub splitting: &'a mut dyn Splitting,
    /// What copying may cost.
    pub budget: Budget,
}

impl ChoosePacks for ByStrategy<'_> {
    fn choose(&mut self, question: &RepackQuestion) -> Result<RepackAnswer, StrategyError> {
        self.splitting.repack(question)
    }

    fn end(&mut self) {
        self.splitting.end_repack();
    }

    fn describe(&self) -> String {
        self.splitting.describe()
    }

    fn used(&self) -> String {
        self.splitting.used()
    }

    fn budget(&self) -> Budget {
        self.budget
    }
}

/// Kopia's choice: all short packs of a kind together.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShortPacks;

impl ChoosePacks for ShortPacks {
    fn choose(&mut self, question: &RepackQuestion) -> Result<RepackAnswer, StrategyError> {
        let below = question.pack_bytes_max * SHORT_PERCENT / 100;
        let packs = question.packs.iter();
        Ok(RepackAnswer {
            pack_bytes: question.pack_bytes_max,
            groups: packs
                .map(|pack| u8::from(pack.used_bytes < below))
                .collect(),
            reason: format!("packs with less than {below} bytes in use are short"),
        })
    }

    fn describe(&self) -> String {
        "Kopia's choice of short packs".to_owned()
    }
}

/// Asks about one pack after the other.
pub(super) struct PackChoice<'a> {
    chooser: &'a mut dyn ChoosePacks,
    question: RepackQuestion,
    /// Numbers of the packs in the question.
    numbers: Vec<u32>,
    /// By number, kind and owner: the first pack while it is the only one, or that there were more.
    firsts: Vec<First>,
    /// Owners that there can be: one where they are not known.
    owners: usize,
    pack_bytes: Option<u64>,
    /// What the first answer says.
    reason: String,
    /// What copying the packs costs that are chosen.
    cost: Cost,
    /// Packs that the budget leaves.
    left: u64,
}

/// What was decided about all packs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Decided {
    /// Size at which new packs are closed.
    pub(super) pack_bytes: u64,
    /// The reason of the first answer.
    pub(super) reason: String,
    /// Packs that the strategy chose and that the budget leaves.
    pub(super) left: u64,
}

#[derive(Clone, Copy)]
enum First {
    None,
    /// Number and bytes of the first.
    Waiting(u32, u64),
    Gone,
}

/// Returns what copying a pack costs: its contents are read, in long pieces, and written into a new
/// one, which some other packs share.
fn cost(used_bytes: u64) -> Cost {
    Cost {
        bytes: used_bytes.saturating_mul(2),
        requests: 2,
    }
}

impl<'a> PackChoice<'a> {
    pub(super) fn new(
        chooser: &'a mut dyn ChoosePacks,
        pack_bytes_max: u64,
        by_owner: bool,
    ) -> Self {
        let owners = if by_owner { OWNERS } else { 1 };
        Self {
            chooser,
            question: RepackQuestion {
                pack_bytes_max,
                packs: Vec::with_capacity(PACK_ROWS_MAX),
            },
            numbers: Vec::with_capacity(PACK_ROWS_MAX),
            firsts: vec![First::None; 2 * (usize::from(PACK_GROUP_MAX) + 1) * owners],
            owners,
            pack_bytes: None,
            reason: String::new(),
            cost: Cost::default(),
            left: 0,
        }
    }

    /// Looks at the next pack; calls `chosen` with number and group of packs that are to go.
    pub(super) fn look(
        &mut self,
        number: u32,
        row: PackRow,
        chosen: &mut dyn FnMut(u32, u8),
    ) -> Result<(), StrategyError> {
        self.question.packs.push(row);
        self.numbers.push(number);
        if self.numbers.len() == PACK_ROWS_MAX {
            self.ask(chosen)?;
        }
        Ok(())
    }

    /// Ends the choice.
    pub(super) fn end(mut self, chosen: &mut dyn FnMut(u32, u8)) -> Result<Decided, StrategyError> {
        self.ask(chosen)?;
        Ok(Decided {
            pack_bytes: self.pack_bytes.unwrap_or(self.question.pack_bytes_max),
            reason: self.reason,
            left: self.left,
        })
    }

    fn ask(&mut self, chosen: &mut dyn FnMut(u32, u8)) -> Result<(), StrategyError> {
        if self.numbers.is_empty() {
            return Ok(());
        }
        let answer = self.chooser.choose(&self.question)?;
        answer
            .check(&self.question)
            .map_err(|reason| self.refused(reason))?;
        if self.pack_bytes.is_none() {
            self.reason.clone_from(&answer.reason);
        }
        let agreed = *self.pack_bytes.get_or_insert(answer.pack_bytes);
        if agreed != answer.pack_bytes {
            let reason = format!("packs of {} bytes, before {agreed}", answer.pack_bytes);
            return Err(self.refused(reason));
        }
        let numbers = std::mem::take(&mut self.numbers);
        let packs = std::mem::take(&mut self.question.packs);
        let rows = numbers.iter().zip(&packs).zip(answer.groups);
        for ((number, row), group) in rows.filter(|(_, group)| *group > 0) {
            if row.used_bytes < agreed {
                self.join(*number, row, group, chosen);
            }
        }
        Ok(())
    }

    fn join(&mut self, number: u32, row: &PackRow, group: u8, chosen: &mut dyn FnMut(u32, u8)) {
        let place = 2 * usize::from(group) + usize::from(row.metadata);
        let owner = row
            .owner
            .filter(|_| self.owners > 1)
            .map_or(0, Owner::number);
        let place = place * self.owners + usize::from(owner);
        if row.owner == Some(Owner::Mixed) {
            // Its contents go into packs of different owners: alone or not, that is a change.
            self.firsts[place] = First::Gone;
        }
        match self.firsts[place] {
            First::None => self.firsts[place] = First::Waiting(number, row.used_bytes),
            First::Waiting(waiting, bytes) => {
                if self.spend(cost(bytes).plus(cost(row.used_bytes))) {
                    self.firsts[place] = First::Gone;
                    chosen(waiting, group);
                    chosen(number, group);
                }
            }
            First::Gone => {
                if self.spend(cost(row.used_bytes)) {
                    chosen(number, group);
                }
            }
        }
    }

    /// Takes a pack's cost from the budget, if it is there.
    fn spend(&mut self, cost: Cost) -> bool {
        let sum = self.cost.plus(cost);
        let fits = self.chooser.budget().allows(sum);
        if fits {
            self.cost = sum;
        } else {
            self.left += 1;
        }
        fits
    }

    fn refused(&self, reason: String) -> StrategyError {
        let chooser = &self.chooser;
        StrategyError::refused(chooser.describe(), &chooser.used(), reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chooser that gives what it is told.
    struct Told(u64, Vec<u8>);

    /// Kopia's choice, with a budget.
    struct Within(Budget);

    impl ChoosePacks for Within {
        fn choose(&mut self, question: &RepackQuestion) -> Result<RepackAnswer, StrategyError> {
            ShortPacks.choose(question)
        }

        fn describe(&self) -> String {
            "within".to_owned()
        }

        fn budget(&self) -> Budget {
            self.0
        }
    }

    impl ChoosePacks for Told {
        fn choose(&mut self, question: &RepackQuestion) -> Result<RepackAnswer, StrategyError> {
            Ok(RepackAnswer {
                pack_bytes: self.0,
                groups: self
                    .1
                    .drain(..question.packs.len().min(self.1.len()))
                    .collect(),
                reason: String::new(),
            })
        }

        fn describe(&self) -> String {
            "told".to_owned()
        }
    }

    fn choose(
        chooser: &mut dyn ChoosePacks,
        rows: &[(bool, u64)],
    ) -> Result<Vec<(u32, u8)>, StrategyError> {
        let mut choice = PackChoice::new(chooser, 1_000_001, false);
        let mut chosen = Vec::new();
        let mut take = |number, group| chosen.push((number, group));
        for (number, (metadata, used_bytes)) in rows.iter().enumerate() {
            let row = PackRow {
                metadata: *metadata,
                used_bytes: *used_bytes,
                owner: None,
            };
            choice.look(number as u32, row, &mut take)?;
        }
        choice.end(&mut take)?;
        Ok(chosen)
    }

    #[test]
    fn short_is_below_sixty_percent_rounded_down() {
        let short = |rows: &[_]| choose(&mut ShortPacks, rows).unwrap();
        assert!(short(&[(false, 600_000), (false, 0)]).is_empty());
        assert_eq!(short(&[(false, 599_999), (false, 0)]), [(0, 1), (1, 1)]);
    }

    #[test]
    fn one_of_a_kind_stays_over_all_batches() {
        let mut rows = vec![(false, 900_000); 2_500];
        rows[3] = (false, 5);
        rows[4] = (true, 5);
        assert!(choose(&mut ShortPacks, &rows).unwrap().is_empty());
        rows[2_400] = (false, 6);
        rows[2_401] = (false, 7);
        let chosen = choose(&mut ShortPacks, &rows).unwrap();
        assert_eq!(chosen, [(3, 1), (2_400, 1), (2_401, 1)]);
    }

    #[test]
    fn groups_do_not_mix_and_full_packs_stay() {
        let rows = [
            (false, 1),
            (false, 2),
            (false, 3),
            (false, 4),
            (false, 1_000_001),
        ];
        let mut told = Told(1_000_001, vec![2, 1, 2, 3, 2]);
        assert_eq!(choose(&mut told, &rows).unwrap(), [(0, 2), (2, 2)]);
    }

    #[test]
    fn a_budget_takes_as_many_packs_as_fit() {
        let rows = [
            (false, 500),
            (true, 9),
            (false, 400),
            (false, 30),
            (true, 1),
        ];
        let within = |bytes, requests| {
            let mut chooser = Within(Budget { bytes, requests });
            let mut choice = PackChoice::new(&mut chooser, 1_000_001, false);
            let mut chosen = Vec::new();
            let mut take = |number, _| chosen.push(number);
            for (number, (metadata, used_bytes)) in rows.into_iter().enumerate() {
                let row = PackRow {
                    metadata,
                    used_bytes,
                    owner: None,
                };
                choice.look(number as u32, row, &mut take).unwrap();
            }
            let left = choice.end(&mut take).unwrap().left;
            (chosen, left)
        };
        assert_eq!(within(None, None), (vec![0, 2, 3, 1, 4], 0));
        assert_eq!(within(Some(1_880), None), (vec![0, 2, 3, 1, 4], 0));
        assert_eq!(within(Some(1_879), None), (vec![0, 2, 3], 1));
        // The first of a kind waits for one that fits.
        assert_eq!(within(Some(1_100), None), (vec![0, 3, 1, 4], 1));
        assert_eq!(within(Some(19), None), (vec![], 3));
        assert_eq!(within(None, Some(6)), (vec![0, 2, 3], 1));
        assert_eq!(within(None, Some(0)), (vec![], 3));
    }

    #[test]
    fn answers_that_break_a_rule_are_refused() {
        let rows = [(false, 1), (false, 2)];
        for (pack_bytes, groups) in [
            (600_000 - 1, vec![0, 0]),
            (1_000_002, vec![0, 0]),
            (1_000_001, vec![0]),
            (1_000_001, vec![0, 128]),
        ] {
            let refused = choose(&mut Told(pack_bytes, groups), &rows).unwrap_err();
            assert_eq!(refused.code(), "plugin-answer-refused");
        }
        choose(&mut Told(600_000, vec![0, 127]), &rows).unwrap();
    }
}
