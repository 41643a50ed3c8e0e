//! Splitting: the data of tenants ends up in packs of their own.
//!
//! For repositories that several teams share. A restore of one tenant then reads its own packs
//! only, its bytes in the store can be told, and when its last snapshot goes, its packs go as a
//! whole. Short packs are rewritten, as the built-in strategy does; the host writes the contents of
//! each tenant into packs of their own. Contents that tenants share, the same bytes, stay shared
//! and get packs of their own too. Index sets are shaped as the built-in strategy does.
//!
//! In quick maintenance nobody knows whose data is where, so nothing is rewritten. Memory: names of
//! at most 250 tenants, one answer.

mod rules;

use careen_guest_sdk::splitting::{PackPlan, PackQuestion, Plan, Question, Splitting};
use careen_guest_sdk::tenants::{self, Owner, SnapshotRow, Tenants};
use careen_guest_sdk::{Configured, from_json, register_splitting};
use splitting_short_packs::ShortPacks;

use rules::{Numbers, Rules};

/// The number of all packs that are rewritten: the host keeps owners apart.
const TOGETHER: u8 = 1;

/// The strategy, with its configuration.
#[derive(Clone, Debug)]
pub struct ByTenant {
    rules: Rules,
    /// Tenants that were seen, and their numbers.
    numbers: Numbers,
}

impl Configured for ByTenant {
    const SCHEMA: &'static str = include_str!("../schema.json");

    fn configure(json: &str) -> Result<Self, String> {
        let rules: Rules = from_json(json)?;
        Ok(Self {
            rules,
            numbers: Numbers::default(),
        })
    }
}

impl Splitting for ByTenant {
    fn split(&self, question: &Question) -> Result<Plan, String> {
        ShortPacks.split(question)
    }

    fn repack(&mut self, question: &PackQuestion) -> Result<PackPlan, String> {
        Ok(PackPlan {
            pack_bytes: question.pack_bytes_max,
            groups: vec![0; question.packs.len()],
            reason: "nobody knows whose data is where: that is for full maintenance".into(),
        })
    }
}

impl Tenants for ByTenant {
    fn assign(&mut self, snapshots: &[SnapshotRow]) -> Result<Vec<u8>, String> {
        let Self { rules, numbers } = self;
        let rows = snapshots.iter();
        Ok(rows.map(|row| numbers.of(&rules.tenant(row))).collect())
    }

    fn repack_by_owner(&mut self, question: &tenants::PackQuestion) -> Result<PackPlan, String> {
        let most = question.pack_bytes_max;
        let (short, mixed) = (
            most * self.rules.short_percent / 100,
            most * self.rules.mixed_percent / 100,
        );
        let group = |pack: &tenants::PackRow| {
            let below = match pack.owner {
                Owner::Mixed => mixed,
                Owner::One(_) | Owner::Shared | Owner::Nobody => short,
            };
            if pack.used_bytes < below { TOGETHER } else { 0 }
        };
        Ok(PackPlan {
            pack_bytes: most,
            groups: question.packs.iter().map(group).collect(),
            reason: format!(
                "tenants apart: packs below {short} bytes in use, mixed ones below {mixed}"
            ),
        })
    }
}

register_splitting!(ByTenant, configured, tenants);

#[cfg(test)]
mod tests;
