//! The questions to splitting strategies: index sets, whose snapshots are, packs.
//!
//! Owners in a recording are by the numbers that were given when it was made. A plugin gives
//! numbers of its own; what was one tenant's is that of the plugin's tenant, as long as the plugin
//! sees one there too. What was shared or mixed stays so, though another plugin might see one
//! tenant there. Memory: a question, two numbers for each tenant.

use crate::maintenance::strategy::{
    Owner, PackRow, RepackQuestion, Splitting, SplittingQuestion, StrategyError, check_tenants,
};
use crate::plugin::SplittingPlugin;
use crate::plugin::batches::{Batch, TenantsLine};
use crate::plugin::words;
use crate::repository::tenants::{NOBODY, SHARED, joined};

use super::{Asked, Replay, Side};

/// Numbers of a byte.
const NUMBERS: usize = 256;

/// What is remembered of one side between questions.
pub(super) struct Packs {
    /// Size of new packs in the first answer, which all others must have.
    pack_bytes: Option<u64>,
    /// By the number of a tenant in the recording: the plugin's.
    translated: [u8; NUMBERS],
    /// By the plugin's number: which of its tenants came first, second, and so on.
    order: [u8; NUMBERS],
    tenants: u8,
}

impl Default for Packs {
    fn default() -> Self {
        Self {
            pack_bytes: None,
            translated: [NOBODY; NUMBERS],
            order: [0; NUMBERS],
            tenants: 0,
        }
    }
}

impl Packs {
    /// Takes a tenant's number in the recording, and the plugin's; returns which of the plugin's
    /// tenants it is, counted from 1 as they come.
    fn tenant(&mut self, recorded: u8, given: u8) -> u8 {
        let translated = &mut self.translated[usize::from(recorded)];
        *translated = joined(*translated, given);
        let order = &mut self.order[usize::from(given)];
        if *order == 0 {
            // At most as many as there are numbers, and 0 is none.
            self.tenants = self.tenants.saturating_add(1);
            *order = self.tenants;
        }
        *order
    }

    /// Returns a pack with the plugin's owner.
    fn translate(&self, row: PackRow) -> PackRow {
        let owner = row.owner.map(|owner| match owner {
            Owner::One(tenant) => match self.translated[usize::from(tenant)] {
                NOBODY => owner,
                // The plugin sees several where the recording sees one.
                SHARED => Owner::Mixed,
                number => Owner::of(number),
            },
            other => other,
        });
        PackRow { owner, ..row }
    }
}

impl Side {
    pub(super) fn gives_tenants(&self) -> bool {
        matches!(&self.asked, Asked::Splitting(plugin) if plugin.gives_tenants())
    }

    fn splitting(&mut self) -> Option<&mut SplittingPlugin> {
        match &mut self.asked {
            Asked::Splitting(plugin) => Some(plugin),
            _ => None,
        }
    }
}

impl Replay<'_> {
    pub(super) fn split(
        &mut self,
        line: u64,
        question: &SplittingQuestion,
    ) -> Result<(), StrategyError> {
        let mut answers = Vec::with_capacity(2);
        for side in 0..2 {
            let Asked::Splitting(plugin) = &mut self.sides[side].asked else {
                return Ok(());
            };
            let answer = plugin.split(question)?;
            if let Err(reason) = answer.check(question) {
                self.refuse(side, line, reason);
            }
            answers.push(answer);
        }
        let (answer, other) = (&answers[0], &answers[1]);
        let same = (answer.shard_entries, &answer.joins) == (other.shard_entries, &other.joins);
        self.compare(line, same, answer.reason == other.reason, || {
            let words = [answer, other].map(|answer| {
                format!("{}{}", words::shape(answer), words::because(&answer.reason))
            });
            let [answer, other] = words;
            [words::index(question), answer, other]
        });
        Ok(())
    }

    /// Asks those that give tenants for those of snapshots. Numbers mean nothing: what is compared
    /// is which snapshots share one.
    pub(super) fn tenants(&mut self, line: u64, batch: &TenantsLine) -> Result<(), StrategyError> {
        let mut answers = Vec::with_capacity(2);
        for side in 0..2 {
            if !self.sides[side].gives_tenants() {
                continue;
            }
            let Some(plugin) = self.sides[side].splitting() else {
                return Ok(());
            };
            let given = plugin.tenants(&batch.snapshots)?;
            if let Err(reason) = check_tenants(&batch.snapshots, &given) {
                self.refuse(side, line, reason);
            }
            let packs = &mut self.sides[side].packs;
            let pairs = batch.tenants.iter().zip(given);
            let order = pairs.map(|(recorded, given)| packs.tenant(*recorded, given));
            answers.push(order.collect::<Vec<u8>>());
        }
        let [answer, other] = &answers[..] else {
            return Ok(());
        };
        for (row, (answer, other)) in batch.snapshots.iter().zip(answer.iter().zip(other)) {
            self.compare(line, answer == other, true, || {
                let tenant = |number: &u8| format!("of tenant {number}, counted as they come");
                [words::tagged(row), tenant(answer), tenant(other)]
            });
        }
        Ok(())
    }

    pub(super) fn repack(
        &mut self,
        line: u64,
        recorded: RepackQuestion,
    ) -> Result<(), StrategyError> {
        let mut answers = Vec::with_capacity(2);
        for side in 0..2 {
            let packs = &self.sides[side].packs;
            let rows = recorded.packs.iter().map(|row| packs.translate(*row));
            let question = RepackQuestion {
                pack_bytes_max: recorded.pack_bytes_max,
                packs: rows.collect(),
            };
            let Asked::Splitting(plugin) = &mut self.sides[side].asked else {
                return Ok(());
            };
            let answer = plugin.repack(&question)?;
            let packs = &mut self.sides[side].packs;
            let agreed = *packs.pack_bytes.get_or_insert(answer.pack_bytes);
            if let Err(reason) = answer.check(&question) {
                self.refuse(side, line, reason);
            } else if agreed != answer.pack_bytes {
                let reason = format!("packs of {} bytes, before {agreed}", answer.pack_bytes);
                self.refuse(side, line, reason);
            }
            answers.push(answer);
        }
        let (answer, other) = (&answers[0], &answers[1]);
        let same = answer.pack_bytes == other.pack_bytes;
        self.compare(line, same, answer.reason == other.reason, || {
            let words = [answer, other].map(|answer| {
                format!("{}{}", words::packs(answer), words::because(&answer.reason))
            });
            let [answer, other] = words;
            [format!("{} packs", recorded.packs.len()), answer, other]
        });
        let groups = answer.groups.iter().zip(&other.groups);
        for (number, (row, (group, other))) in recorded.packs.iter().zip(groups).enumerate() {
            self.compare(line, group == other, true, || {
                let about = words::pack(number, row);
                [about, words::group(*group), words::group(*other)]
            });
        }
        Ok(())
    }

    /// Ends the questions about the packs of one rewrite.
    pub(super) fn end_packs(&mut self) {
        for side in &mut self.sides {
            if let Asked::Splitting(plugin) = &mut side.asked {
                plugin.end_repack();
            }
            side.packs.pack_bytes = None;
        }
    }

    /// Ends what ends before this batch: questions about packs, and about snapshots.
    pub(super) fn end_packs_before(&mut self, batch: &Batch) {
        match batch {
            Batch::Repack(question) => {
                let with_owners = question.packs.iter().any(|row| row.owner.is_some());
                if self.with_owners != with_owners {
                    self.end_packs();
                }
                self.with_owners = with_owners;
            }
            Batch::Tenants(_) => {
                self.end_packs();
                if self.with_owners {
                    self.end_tenants();
                }
                self.with_owners = false;
            }
            _ => {
                self.end_packs();
                self.end_tenants();
            }
        }
    }

    /// Ends the questions about snapshots, and what came of them.
    pub(super) fn end_tenants(&mut self) {
        self.with_owners = false;
        for side in &mut self.sides {
            if let Some(plugin) = side.splitting() {
                plugin.end_tenants();
            }
            side.packs = Packs::default();
        }
    }
}
