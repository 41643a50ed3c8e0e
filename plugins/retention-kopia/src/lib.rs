//! The default retention strategy of Careen. It keeps and expires exactly as Kopia does.
//!
//! A complete snapshot is kept when it is the newest of its hour, day, week, month or year, of the
//! last so many, or among the latest; the last are counted from the newest complete snapshot, not
//! from now. Incomplete ones are kept above the newest complete one, three at least, and those
//! that are less than four hours older than the newest. A pin keeps whatever it is on.
//!
//! Two of Kopia's quirks are kept too. Its periods share one list of names, in which week 5 of 2026
//! and May 2026 have the same one, and the year 2026 that of the 2,027th snapshot: the second of
//! the two does not count. And weeks and the limits of periods are local time, while hours, days,
//! months and years are UTC.
//!
//! Memory: one name for each month, week and year that is kept, some kilobytes. Mirrors
//! `ComputeRetentionReasons` in Kopia's `snapshot/policy/retention_policy.go`.

pub mod calendar;

use std::collections::BTreeSet;

#[cfg(feature = "component")]
use careen_guest_sdk::register_retention;
use careen_guest_sdk::retention::{Decision, Policy, Question, Retention, SnapshotRow};

use calendar::{Date, HOUR, Nanos, Zone, day_number, iso_week, nanos_of};

/// Incomplete snapshots younger than the newest one by less are kept.
const INCOMPLETE_KEPT_FOR: Nanos = 4 * HOUR;

/// Incomplete snapshots that are kept, whatever their age.
const INCOMPLETE_KEPT: u64 = 3;

/// The strategy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kopia;

/// The strategy at work on one source.
pub struct AtWork {
    policy: Policy,
    zone: Zone,
    /// Snapshots seen.
    seen: u64,
    /// Start of the first, the newest.
    newest: Option<Nanos>,
    /// Where periods end, once a complete snapshot was seen.
    cutoffs: Option<Cutoffs>,
    periods: Periods,
    /// Whether the next incomplete one may be kept.
    incomplete_kept: bool,
}

#[cfg(feature = "component")]
register_retention!(Kopia);

/// The earliest start of a snapshot that counts, for each period.
struct Cutoffs {
    annual: Nanos,
    monthly: Nanos,
    weekly: Nanos,
    daily: Nanos,
    hourly: Nanos,
}

/// The name of a period, in the list that all kinds of periods share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    /// `2026`: a year, or a place in the list of snapshots.
    Number(i128),
    /// `2026-05`: a month, or a week.
    Part(i128, i128),
    /// A day, as its number.
    Day(i128),
    /// An hour, as its number.
    Hour(i128),
}

/// What was kept so far.
#[derive(Default)]
struct Periods {
    names: BTreeSet<Name>,
    last_day: Option<Name>,
    last_hour: Option<Name>,
    latest: i64,
    annual: i64,
    monthly: i64,
    weekly: i64,
    daily: i64,
    hourly: i64,
}

impl Retention for Kopia {
    type Source = AtWork;

    fn begin(&self, question: &Question) -> Result<AtWork, String> {
        Ok(AtWork {
            policy: Policy {
                keep_latest: effective_keep_latest(&question.policy),
                ..question.policy
            },
            zone: Zone::new(question.offset_seconds, &question.zone),
            seen: 0,
            newest: None,
            cutoffs: None,
            periods: Periods::default(),
            incomplete_kept: true,
        })
    }

    fn decide(
        &self,
        source: &mut AtWork,
        snapshots: &[SnapshotRow],
    ) -> Result<Vec<Decision>, String> {
        Ok(snapshots.iter().map(|row| source.snapshot(row)).collect())
    }
}

impl AtWork {
    fn snapshot(&mut self, row: &SnapshotRow) -> Decision {
        let start = nanos_of(&row.start);
        let reasons = if row.incomplete_reason.is_empty() {
            self.incomplete_kept = false;
            self.complete(start)
        } else {
            self.incomplete(start)
        };
        self.seen += 1;
        if !reasons.is_empty() {
            return Decision::keep(reasons.join(", "));
        }
        match row.pins.as_slice() {
            [] if row.incomplete_reason.is_empty() => Decision::expire("no period keeps it"),
            [] => Decision::expire(format!("incomplete ({})", row.incomplete_reason)),
            pins => Decision::keep(format!("pinned: {}", pins.join(", "))),
        }
    }

    fn incomplete(&mut self, start: Nanos) -> Vec<String> {
        let age = *self.newest.get_or_insert(start) - start;
        self.incomplete_kept &= age < INCOMPLETE_KEPT_FOR || self.seen < INCOMPLETE_KEPT;
        match self.incomplete_kept {
            true => vec!["incomplete".into()],
            false => Vec::new(),
        }
    }

    /// Returns why a complete snapshot is kept, in Kopia's order of reasons.
    fn complete(&mut self, start: Nanos) -> Vec<String> {
        self.newest.get_or_insert(start);
        let (policy, zone) = (&self.policy, &self.zone);
        let cutoffs = self
            .cutoffs
            .get_or_insert_with(|| Cutoffs::new(policy, zone, start));
        let date = Date::of(start);
        let (week_year, week) = iso_week(zone.local(start));
        let month = Name::Part(date.year, date.month);
        let week = Name::Part(week_year, week);
        let day = Name::Day(day_number(start));
        let hour = Name::Hour(start.div_euclid(HOUR));
        let year = Name::Number(date.year);
        let kept = &mut self.periods;
        // In the order in which Kopia looks at them, which decides who gets a name that two want.
        let latest = kept.latest(policy.keep_latest, self.seen);
        let names = &mut kept.names;
        let mut period = |kind: &str, count: &mut i64, most, cutoff, name| {
            if start < cutoff || !counts(count, most) || !names.insert(name) {
                return None;
            }
            *count += 1;
            Some(format!("{kind}-{count}"))
        };
        let (a, m, w, d, h) = (
            policy.keep_annual,
            policy.keep_monthly,
            policy.keep_weekly,
            policy.keep_daily,
            policy.keep_hourly,
        );
        let annual = period("annual", &mut kept.annual, a, cutoffs.annual, year);
        let monthly = period("monthly", &mut kept.monthly, m, cutoffs.monthly, month);
        let weekly = period("weekly", &mut kept.weekly, w, cutoffs.weekly, week);
        let daily = period("daily", &mut kept.daily, d, cutoffs.daily, day);
        let hourly = period("hourly", &mut kept.hourly, h, cutoffs.hourly, hour);
        // Snapshots come in the order of time: earlier days and hours do not come back.
        for (counted, last, name) in [
            (&daily, &mut kept.last_day, day),
            (&hourly, &mut kept.last_hour, hour),
        ] {
            if let Some(earlier) = counted.as_ref().and_then(|_| last.replace(name)) {
                names.remove(&earlier);
            }
        }
        let reasons = [latest, hourly, daily, weekly, monthly, annual];
        reasons.into_iter().flatten().collect()
    }
}

impl Periods {
    /// Keeps the snapshot at this place if it is among the latest, and says so.
    fn latest(&mut self, most: Option<i64>, place: u64) -> Option<String> {
        let name = Name::Number(place.into());
        if !counts(&self.latest, most) || self.names.contains(&name) {
            return None;
        }
        // Only years can want the same name; to remember all would grow with the source.
        if place <= YEAR_MAX {
            self.names.insert(name);
        }
        self.latest += 1;
        Some(format!("latest-{}", self.latest))
    }
}

/// The last year that a Kopia timestamp can have.
const YEAR_MAX: u64 = 2_262;

/// Returns whether one more of a kind is kept.
fn counts(count: &i64, most: Option<i64>) -> bool {
    most.is_some_and(|most| *count < most)
}

/// Returns how many of the latest are kept: all, where the policy keeps nothing.
fn effective_keep_latest(policy: &Policy) -> Option<i64> {
    let all = [
        policy.keep_latest,
        policy.keep_hourly,
        policy.keep_daily,
        policy.keep_weekly,
        policy.keep_monthly,
        policy.keep_annual,
    ];
    let sum = all
        .iter()
        .fold(0i64, |sum, keep| sum.wrapping_add(keep.unwrap_or(0)));
    if sum == 0 {
        Some(i64::MAX)
    } else {
        policy.keep_latest
    }
}

impl Cutoffs {
    /// Periods are counted back from the newest complete snapshot.
    fn new(policy: &Policy, zone: &Zone, newest: Nanos) -> Self {
        let back = |keep: Option<i64>| i128::from(keep.unwrap_or(0));
        Self {
            annual: zone.before(newest, back(policy.keep_annual), 0, 0),
            monthly: zone.before(newest, 0, back(policy.keep_monthly), 0),
            weekly: zone.before(newest, 0, 0, back(policy.keep_weekly) * 7),
            daily: zone.before(newest, 0, 0, back(policy.keep_daily)),
            hourly: newest - hours(policy.keep_hourly.unwrap_or(0)),
        }
    }
}

/// So many hours. Kopia's duration wraps around in 64 bits, so two billion hours, which Velero asks
/// for, are any number.
fn hours(count: i64) -> Nanos {
    -Nanos::from(count.wrapping_neg().wrapping_mul(HOUR as i64))
}

#[cfg(test)]
mod tests;
