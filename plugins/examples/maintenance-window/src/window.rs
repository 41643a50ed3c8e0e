//! When a window is open, and when it opens next, in local time.
//!
//! A window may cross midnight; it then belongs to the day on which it opens. Memory: none.

use careen_guest_sdk::scheduling::Question;

/// Seconds of a day.
pub(crate) const DAY: i64 = 24 * 3_600;

/// Names of the days, Monday first.
pub(crate) const DAY_NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A window that opens on some days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// When it opens, in seconds since midnight.
    pub(crate) from: i64,
    /// When it closes; at or before `from` on the next day.
    pub(crate) to: i64,
    /// On which days it opens, Monday first.
    pub(crate) days: [bool; 7],
}

impl Window {
    /// Seconds from its opening to its closing.
    fn length(&self) -> i64 {
        match self.to > self.from {
            true => self.to - self.from,
            false => self.to + DAY - self.from,
        }
    }

    /// Whether it opens on this day, counted from 1970 on, a Thursday.
    fn opens_on(&self, day: i64) -> bool {
        let weekday = (day + 3).rem_euclid(7);
        self.days[weekday as usize]
    }

    /// Whether it is open now.
    pub(crate) fn is_open(&self, question: &Question) -> bool {
        let local = local(question);
        let today = local.div_euclid(DAY);
        // Only today's window and yesterday's can be open.
        [today, today - 1].into_iter().any(|day| {
            let since = local - (day * DAY + self.from);
            self.opens_on(day) && (0..self.length()).contains(&since)
        })
    }

    /// The next moment at which it opens, in seconds since 1970; none where it never does.
    pub(crate) fn next(&self, question: &Question) -> Option<i64> {
        let today = local(question).div_euclid(DAY);
        let days = (today..=today + 8).filter(|day| self.opens_on(*day));
        let mut openings = days.map(|day| utc(question, day * DAY + self.from));
        openings.find(|opening| *opening > question.now_seconds)
    }
}

/// Local time, as seconds.
fn local(question: &Question) -> i64 {
    let offset = question.offset_at(question.now_seconds);
    question.now_seconds.saturating_add(offset.into())
}

/// The moment at which the clock on the wall shows `local`. Where it is set forward over it, the
/// moment is up to an hour off.
fn utc(question: &Question, local: i64) -> i64 {
    let offset = |seconds| i64::from(question.offset_at(seconds));
    let guess = local - offset(question.now_seconds);
    local - offset(guess)
}
