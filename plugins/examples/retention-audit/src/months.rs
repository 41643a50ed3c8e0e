//! The last snapshot of each month, for some years.
//!
//! Snapshots come the newest first, so the first of a month that is seen is its last. Months are
//! those of local time. Memory: the month that was seen last.

use careen_guest_sdk::retention::{Question, SnapshotRow};
use retention_kopia::calendar::{Date, Nanos, Zone, nanos_of};

/// Tells the last snapshot of each month.
pub(crate) struct Months {
    zone: Zone,
    /// Snapshots that began before are not asked for any more.
    since: Nanos,
    /// Year and month of the last one that counted.
    seen: Option<(i128, i128)>,
}

impl Months {
    /// Begins a source; months count for so many years back from now.
    pub(crate) fn new(question: &Question, years: i128) -> Self {
        let zone = Zone::new(question.offset_seconds, &question.zone);
        let since = zone.before(nanos_of(&question.now), years, 0, 0);
        Self {
            zone,
            since,
            seen: None,
        }
    }

    /// Whether a complete snapshot is the last of its month, and why.
    pub(crate) fn last(&mut self, row: &SnapshotRow) -> Option<String> {
        let start = nanos_of(&row.start);
        let date = Date::of(self.zone.local(start));
        let month = (date.year, date.month);
        if start < self.since || self.seen == Some(month) {
            return None;
        }
        self.seen = Some(month);
        Some(format!("audit: last of {:04}-{:02}", date.year, date.month))
    }
}
