//! Splitting: packs are rewritten where what that saves is worth its price.
//!
//! For object stores that bill each request. The price list and the habits of the repository are
//! the configuration; `price.rs` has the formula. Index sets are shaped as the built-in strategy
//! does. Memory: one answer.

mod price;

use careen_guest_sdk::splitting::{PackPlan, PackQuestion, Plan, Question, Splitting};
use careen_guest_sdk::{Configured, from_json, register_splitting};
use serde::Deserialize;
use splitting_short_packs::ShortPacks;

use price::Prices;

/// The number of all packs that are worth it; data and metadata never share a pack.
const WORTH_IT: u8 = 1;

/// The strategy, with its configuration.
#[derive(Clone, Debug)]
pub struct ByPrice {
    prices: Prices,
}

/// The configuration as JSON; prices as providers list them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Settings {
    per_1000_puts: f64,
    per_1000_gets: f64,
    per_gigabyte_read: f64,
    per_gigabyte_written: f64,
    per_gigabyte_deleted_early: f64,
    reads_per_month: f64,
    horizon_months: f64,
}

impl Default for Settings {
    /// A standard class in the provider's own network, each pack read once a month.
    fn default() -> Self {
        Self {
            per_1000_puts: 0.005,
            per_1000_gets: 0.0004,
            per_gigabyte_read: 0.0,
            per_gigabyte_written: 0.0,
            per_gigabyte_deleted_early: 0.0,
            reads_per_month: 1.0,
            horizon_months: 12.0,
        }
    }
}

impl Configured for ByPrice {
    const SCHEMA: &'static str = include_str!("../schema.json");

    fn configure(json: &str) -> Result<Self, String> {
        let settings: Settings = from_json(json)?;
        Ok(Self {
            prices: Prices {
                put_1000: settings.per_1000_puts,
                get_1000: settings.per_1000_gets,
                read_gb: settings.per_gigabyte_read,
                write_gb: settings.per_gigabyte_written,
                early_deletion_gb: settings.per_gigabyte_deleted_early,
                reads_a_month: settings.reads_per_month,
                horizon_months: settings.horizon_months,
            },
        })
    }
}

impl Splitting for ByPrice {
    fn split(&self, question: &Question) -> Result<Plan, String> {
        ShortPacks.split(question)
    }

    fn repack(&mut self, question: &PackQuestion) -> Result<PackPlan, String> {
        let full = question.pack_bytes_max;
        let below = self.prices.worth_below(full);
        let group = |used| if used < below { WORTH_IT } else { 0 };
        let groups = question.packs.iter().map(|pack| group(pack.used_bytes));
        Ok(PackPlan {
            pack_bytes: full,
            groups: groups.collect(),
            reason: match below {
                0 => "at these prices no rewrite is worth it".into(),
                _ => format!("a rewrite is worth its price below {below} bytes in use"),
            },
        })
    }
}

register_splitting!(ByPrice, configured);

#[cfg(test)]
mod tests {
    use careen_guest_sdk::kit;

    use super::*;

    fn rewritten(json: &str) -> usize {
        let mut strategy = ByPrice::configure(json).unwrap();
        let chosen = kit::repack(&mut strategy, &kit::packs()).unwrap();
        chosen.iter().filter(|group| **group != 0).count()
    }

    #[test]
    fn dearer_reads_rewrite_fewer_packs() {
        let near = rewritten("{}");
        let far = rewritten(r#"{ "per-gigabyte-read": 0.0001 }"#);
        let cold = rewritten(r#"{ "per-gigabyte-read": 0.03, "horizon-months": 1 }"#);
        assert!(near > far && far > cold, "{near} {far} {cold}");
        assert_eq!(rewritten(r#"{ "horizon-months": 0 }"#), 0);
        assert!(rewritten(r#"{ "reads-per-month": 30 }"#) > near);
    }

    #[test]
    fn the_index_is_shaped_as_by_default() {
        let strategy = ByPrice::configure("{}").unwrap();
        let question = kit::index();
        let plan = kit::split(&strategy, &question).unwrap();
        assert_eq!(plan, kit::split(&ShortPacks, &question).unwrap());
    }
}
