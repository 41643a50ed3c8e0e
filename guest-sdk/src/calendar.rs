//! What the clock on the wall shows: dates, weekdays and weeks out of seconds since 1970.
//!
//! A plugin has no time zone database: the question says how far local time is from UTC, and when
//! that changes. Pure arithmetic; no memory cost.

use crate::{retention, scheduling};

/// Seconds of a day.
const DAY: i64 = 86_400;

/// A moment as the clock on the wall shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalTime {
    /// The year.
    pub year: i64,
    /// The month, 1 to 12.
    pub month: u8,
    /// The day of the month, 1 to 31.
    pub day: u8,
    /// The hour, 0 to 23.
    pub hour: u8,
    /// The minute, 0 to 59.
    pub minute: u8,
    /// The second, 0 to 59.
    pub second: u8,
}

impl LocalTime {
    /// The local time of a moment, in seconds since 1970 in UTC, where local time is so many
    /// seconds from UTC.
    pub fn new(seconds: i64, offset_seconds: i32) -> Self {
        let local = seconds.saturating_add(offset_seconds.into());
        let (days, of_day) = (local.div_euclid(DAY), local.rem_euclid(DAY));
        // Years begin in March here, so that the leap day is the last of its year.
        let days = days + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u8,
            day: day as u8,
            hour: (of_day / 3_600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
        }
    }

    /// Returns the number of its day since 1970.
    pub fn day_number(&self) -> i64 {
        let (year, month) = match self.month > 2 {
            true => (self.year, i64::from(self.month) - 3),
            false => (self.year - 1, i64::from(self.month) + 9),
        };
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        era * 146_097 + day_of_era - 719_468
    }

    /// Returns its weekday: 1 for Monday to 7 for Sunday.
    pub fn weekday(&self) -> u8 {
        (self.day_number() + 3).rem_euclid(7) as u8 + 1
    }

    /// Returns year and week by ISO 8601: weeks begin on Monday and belong to the year of their
    /// Thursday.
    pub fn iso_week(&self) -> (i64, u8) {
        let thursday = self.day_number() - i64::from(self.weekday()) + 4;
        let year = Self::new(thursday * DAY, 0).year;
        let first = Self {
            year,
            month: 1,
            day: 1,
            ..*self
        };
        (year, ((thursday - first.day_number()) / 7 + 1) as u8)
    }

    /// Returns the seconds since midnight.
    pub fn seconds_of_day(&self) -> i64 {
        i64::from(self.hour) * 3_600 + i64::from(self.minute) * 60 + i64::from(self.second)
    }
}

/// Returns local time minus UTC at a moment: `first` before all changes.
fn offset_at(first: i32, changes: impl DoubleEndedIterator<Item = (i64, i32)>, at: i64) -> i32 {
    let last = changes.rev().find(|(from, _)| *from <= at);
    last.map_or(first, |(_, offset)| offset)
}

impl retention::Question {
    /// Returns local time minus UTC at a moment, in seconds.
    pub fn offset_at(&self, seconds: i64) -> i32 {
        let zone = self.zone.iter();
        let changes = zone.map(|change| (change.at_seconds, change.offset_seconds));
        offset_at(self.offset_seconds, changes, seconds)
    }

    /// Returns the local time of a moment, such as a snapshot's start.
    pub fn local_time(&self, moment: &retention::Moment) -> LocalTime {
        LocalTime::new(moment.seconds, self.offset_at(moment.seconds))
    }
}

impl scheduling::Question {
    /// Returns local time minus UTC at a moment, in seconds.
    pub fn offset_at(&self, seconds: i64) -> i32 {
        let zone = self.zone.iter();
        let changes = zone.map(|change| (change.at_seconds, change.offset_seconds));
        offset_at(self.offset_seconds, changes, seconds)
    }

    /// Returns the local time of a moment, in seconds since 1970 in UTC.
    pub fn local_time(&self, seconds: i64) -> LocalTime {
        LocalTime::new(seconds, self.offset_at(seconds))
    }

    /// Returns the seconds since midnight of local time: what windows such as "from 02:00" need.
    pub fn seconds_of_day(&self) -> i64 {
        self.local_time(self.now_seconds).seconds_of_day()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(year: i64, month: u8, day: u8) -> LocalTime {
        LocalTime {
            year,
            month,
            day,
            hour: 0,
            minute: 0,
            second: 0,
        }
    }

    #[test]
    fn dates_and_days_belong_together() {
        for days in (-800_000_i64..800_000).step_by(373) {
            let time = LocalTime::new(days * DAY + 86_399, 0);
            assert_eq!(time.day_number(), days, "{time:?}");
            assert_eq!((time.hour, time.minute, time.second), (23, 59, 59));
        }
        assert_eq!(date(1970, 1, 1).day_number(), 0);
        assert_eq!(LocalTime::new(951_782_460, 3_600).day, 29);
        assert_eq!(LocalTime::new(-1, 0).year, 1969);
        for extreme in [i64::MIN, i64::MAX] {
            let time = LocalTime::new(extreme, i32::MAX);
            assert!((1..=12).contains(&time.month) && (1..=31).contains(&time.day));
        }
    }

    #[test]
    fn weeks_are_those_of_iso_8601() {
        for ((year, month, day), weekday, week) in [
            ((2005, 1, 1), 6, (2004, 53)),
            ((2005, 12, 31), 6, (2005, 52)),
            ((2007, 1, 1), 1, (2007, 1)),
            ((2008, 12, 29), 1, (2009, 1)),
            ((2010, 1, 3), 7, (2009, 53)),
            ((2026, 1, 1), 4, (2026, 1)),
        ] {
            let date = date(year, month, day);
            assert_eq!(
                (date.weekday(), date.iso_week()),
                (weekday, week),
                "{date:?}"
            );
        }
    }

    #[test]
    fn local_time_follows_the_changes() {
        let changes = [(1_000_000, 7_200), (2_000_000, -3_600)];
        let at = |seconds| offset_at(3_600, changes.into_iter(), seconds);
        assert_eq!([at(0), at(999_999), at(1_000_000)], [3_600, 3_600, 7_200]);
        assert_eq!([at(1_999_999), at(2_000_000)], [7_200, -3_600]);
        let mut question = crate::kit::cycles();
        for (now, seconds) in [(0, 3_600), (-3_601, 86_399)] {
            question.now_seconds = now;
            question.zone.clear();
            assert_eq!(question.seconds_of_day(), seconds);
        }
        let source = crate::kit::source();
        let start = retention::Moment {
            seconds: crate::kit::at(2026, 7, 1, 22, 30),
            nanos: 0,
        };
        let local = source.question.local_time(&start);
        assert_eq!(
            (local.month, local.day, local.hour),
            (7, 2, 0),
            "summer in Berlin"
        );
    }
}
