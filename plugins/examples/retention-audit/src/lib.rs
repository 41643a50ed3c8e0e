//! Retention: the last of each month for audits, for seven years; all else as Kopia's policy says.
//!
//! Audited is what bears the tag (`audit` unless configured), or what comes from a source whose
//! newest complete snapshot bears it. What Kopia's policy keeps is kept in any case: this strategy
//! asks the built-in one, and only ever keeps more.
//!
//! Memory: that of the built-in strategy.

mod months;

use careen_guest_sdk::retention::{Decision, Question, Retention, SnapshotRow};
use careen_guest_sdk::{Configured, from_json, register_retention};
use retention_kopia::{AtWork, Kopia};
use serde::Deserialize;

use months::Months;

/// The strategy, with its configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    tag: String,
    years: u16,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            tag: "audit".into(),
            years: 7,
        }
    }
}

impl Configured for Audit {
    const SCHEMA: &'static str = include_str!("../schema.json");

    fn configure(json: &str) -> Result<Self, String> {
        from_json(json)
    }
}

/// The strategy at work on one source.
pub struct AuditSource {
    kopia: AtWork,
    months: Months,
    /// Whether the newest complete snapshot is audited; none before it was seen.
    audited: Option<bool>,
}

impl Retention for Audit {
    type Source = AuditSource;

    fn begin(&self, question: &Question) -> Result<AuditSource, String> {
        Ok(AuditSource {
            kopia: Kopia.begin(question)?,
            months: Months::new(question, self.years.into()),
            audited: None,
        })
    }

    fn decide(
        &self,
        source: &mut AuditSource,
        snapshots: &[SnapshotRow],
    ) -> Result<Vec<Decision>, String> {
        let decisions = Kopia.decide(&mut source.kopia, snapshots)?;
        let pairs = snapshots.iter().zip(decisions);
        Ok(pairs
            .map(|(row, decision)| self.one(source, row, decision))
            .collect())
    }
}

impl Audit {
    fn one(&self, source: &mut AuditSource, row: &SnapshotRow, kopia: Decision) -> Decision {
        if !row.is_complete() {
            return kopia;
        }
        let tagged = row.tag(&self.tag).is_some();
        // The first that comes is the newest.
        let of_source = *source.audited.get_or_insert(tagged);
        let last = (tagged || of_source)
            .then(|| source.months.last(row))
            .flatten();
        match last {
            Some(why) if kopia.expire => Decision::keep(why),
            Some(why) => Decision::keep(format!("{}, {why}", kopia.reason)),
            None => kopia,
        }
    }
}

register_retention!(Audit, configured);

#[cfg(test)]
mod tests;
