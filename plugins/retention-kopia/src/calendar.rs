//! The calendar as Go's `time` package has it: dates, ISO weeks, local time with its changes.
//!
//! Times are nanoseconds since 1970 in 128 bits, so that no policy overflows them. Memory: the
//! changes of local time. Mirrors Go's `time.Date`, `AddDate` and `ISOWeek`.

use careen_guest_sdk::retention::{Moment, ZoneChange};

/// Nanoseconds since 1970 in UTC.
pub type Nanos = i128;

pub(crate) const SECOND: Nanos = 1_000_000_000;
pub(crate) const HOUR: Nanos = 3_600 * SECOND;
const DAY: Nanos = 24 * HOUR;

/// A moment as nanoseconds.
pub fn nanos_of(moment: &Moment) -> Nanos {
    Nanos::from(moment.seconds) * SECOND + Nanos::from(moment.nanos)
}

/// A date of the Gregorian calendar, also before it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// The year.
    pub year: i128,
    /// 1 to 12.
    pub month: i128,
    /// 1 to 31.
    pub day: i128,
}

/// Days since 1970.
pub(crate) fn day_number(time: Nanos) -> i128 {
    time.div_euclid(DAY)
}

impl Date {
    /// The date of a time that is taken as UTC.
    pub fn of(time: Nanos) -> Self {
        // Years begin in March here, so that the leap day is the last of its year.
        let days = day_number(time) + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year_of_era + era * 400 + i128::from(month <= 2);
        Self { year, month, day }
    }

    /// The number of the day. Months and days may be any number: they carry over.
    fn day_number(self) -> i128 {
        let months = self.year * 12 + self.month - 1;
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
        let year = year - i128::from(month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let month = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * month + 2) / 5;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        era * 146_097 + day_of_era - 719_468 + self.day - 1
    }
}

/// The year and the week of a local time; weeks begin on Monday and belong to the year of their
/// Thursday.
pub(crate) fn iso_week(local: Nanos) -> (i128, i128) {
    let days = day_number(local);
    let monday_is_zero = (days + 3).rem_euclid(7);
    let thursday = days - monday_is_zero + 3;
    let year = Date::of(thursday * DAY).year;
    let first = Date {
        year,
        month: 1,
        day: 1,
    };
    (year, (thursday - first.day_number()) / 7 + 1)
}

/// Local time.
pub struct Zone {
    before: Nanos,
    changes: Vec<(Nanos, Nanos)>,
}

impl Zone {
    /// The zone with these changes, and this offset before the first.
    pub fn new(offset_seconds: i32, changes: &[ZoneChange]) -> Self {
        let change = |change: &ZoneChange| {
            (
                Nanos::from(change.at_seconds) * SECOND,
                Nanos::from(change.offset_seconds) * SECOND,
            )
        };
        Self {
            before: Nanos::from(offset_seconds) * SECOND,
            changes: changes.iter().map(change).collect(),
        }
    }

    /// The offset at a time.
    fn offset(&self, time: Nanos) -> Nanos {
        let after = self.changes.partition_point(|(at, _)| *at <= time);
        match after.checked_sub(1).and_then(|at| self.changes.get(at)) {
            Some((_, offset)) => *offset,
            None => self.before,
        }
    }

    /// A time as the clock on the wall shows it.
    pub fn local(&self, time: Nanos) -> Nanos {
        time + self.offset(time)
    }

    /// The time when the clock on the wall shows `local`, by Go's rule for gaps and overlaps.
    fn time_of(&self, local: Nanos) -> Nanos {
        let guess = self.offset(local);
        // Where the guess is right for the time that it gives, both are the same.
        local - self.offset(local - guess)
    }

    /// The time that many years, months and days before `time`, by the calendar of the zone.
    pub fn before(&self, time: Nanos, years: i128, months: i128, days: i128) -> Nanos {
        let local = self.local(time);
        let date = Date::of(local);
        let moved = Date {
            year: date.year - years,
            month: date.month - months,
            day: date.day - days,
        };
        self.time_of(moved.day_number() * DAY + local.rem_euclid(DAY))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The number of a date's day, for other tests.
    pub(crate) fn day_number_of(date: Date) -> i128 {
        date.day_number()
    }

    fn at(year: i128, month: i128, day: i128) -> Nanos {
        Date { year, month, day }.day_number() * DAY
    }

    #[test]
    fn dates_and_days_belong_together() {
        for days in (-800_000i128..800_000).step_by(373) {
            let date = Date::of(days * DAY);
            assert_eq!(date.day_number(), days, "{date:?}");
        }
        assert_eq!(at(1970, 1, 1), 0);
        assert_eq!(at(2024, 2, 30), at(2024, 3, 1));
        assert_eq!(at(2024, -1, 15), at(2023, 11, 15));
        assert_eq!(at(2024, 1, 0), at(2023, 12, 31));
    }

    #[test]
    fn weeks_are_those_of_iso_8601() {
        for (date, week) in [
            ((2005, 1, 1), (2004, 53)),
            ((2005, 1, 2), (2004, 53)),
            ((2005, 12, 31), (2005, 52)),
            ((2007, 1, 1), (2007, 1)),
            ((2008, 12, 29), (2009, 1)),
            ((2010, 1, 3), (2009, 53)),
            ((2026, 1, 1), (2026, 1)),
        ] {
            assert_eq!(iso_week(at(date.0, date.1, date.2)), week, "{date:?}");
        }
    }

    #[test]
    fn local_time_changes() {
        // Berlin, in 2026: summer time from March 29, 01:00 UTC, to October 25, 01:00 UTC.
        let (spring, autumn) = (at(2026, 3, 29) + HOUR, at(2026, 10, 25) + HOUR);
        let change = |at: Nanos, hours: i32| ZoneChange {
            at_seconds: (at / SECOND) as i64,
            offset_seconds: hours * 3_600,
        };
        let zone = Zone::new(3_600, &[change(spring, 2), change(autumn, 1)]);
        assert_eq!(zone.local(spring - 1), at(2026, 3, 29) + 2 * HOUR - 1);
        assert_eq!(zone.local(spring), at(2026, 3, 29) + 3 * HOUR);
        let noon = at(2026, 4, 2) + 10 * HOUR; // 12:00 on the wall
        assert_eq!(zone.before(noon, 0, 0, 7), at(2026, 3, 26) + 11 * HOUR);
        assert_eq!(zone.before(noon, 0, 1, 0), at(2026, 3, 2) + 11 * HOUR);
        assert_eq!(zone.before(at(2026, 3, 31), 0, 1, 0), at(2026, 3, 3) + HOUR);
    }
}
