//! What a task may use of the storage, and what it is expected to use.
//!
//! A strategy gives budgets; a task compares its estimate with its own before it writes anything,
//! and is left for later where it is larger. The rewrite of contents and the deletion of packs take
//! as many packs as fit.
//! Estimates are about right, not promises. Plain values, no memory.

use std::fmt;

/// What a task may use; without a number, as much as it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Budget {
    /// Bytes read from the storage and written to it, together.
    pub bytes: Option<u64>,
    /// Requests to the storage, listings left out.
    pub requests: Option<u64>,
}

/// What a task is expected to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Bytes read from the storage and written to it, together.
    pub bytes: u64,
    /// Requests to the storage, listings left out.
    pub requests: u64,
}

impl Budget {
    /// Returns whether everything is allowed.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether `cost` is allowed.
    pub fn allows(&self, cost: Cost) -> bool {
        self.bytes.is_none_or(|most| cost.bytes <= most)
            && self.requests.is_none_or(|most| cost.requests <= most)
    }

    /// Returns what is left after `cost`.
    #[must_use]
    pub(super) fn without(&self, cost: Cost) -> Self {
        Self {
            bytes: self.bytes.map(|most| most.saturating_sub(cost.bytes)),
            requests: self.requests.map(|most| most.saturating_sub(cost.requests)),
        }
    }

    /// Returns why a task with this estimate is left for later, if it is.
    pub(super) fn refuses(&self, cost: Cost) -> Option<String> {
        let refused = !self.allows(cost);
        refused.then(|| format!("it would take about {cost}; its budget is {self}"))
    }
}

impl Cost {
    /// Adds up; stops at the largest number.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            requests: self.requests.saturating_add(other.requests),
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes and {} requests", self.bytes, self.requests)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.bytes, self.requests) {
            (Some(bytes), Some(requests)) => write!(f, "{bytes} bytes and {requests} requests"),
            (Some(bytes), None) => write!(f, "{bytes} bytes"),
            (None, Some(requests)) => write!(f, "{requests} requests"),
            (None, None) => f.write_str("without limit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_numbers_must_fit() {
        let cost = Cost {
            bytes: 100,
            requests: 5,
        };
        let budget = |bytes, requests| Budget { bytes, requests };
        for (budget, allows) in [
            (budget(None, None), true),
            (budget(Some(100), Some(5)), true),
            (budget(Some(99), None), false),
            (budget(None, Some(4)), false),
            (budget(Some(1_000), Some(4)), false),
        ] {
            assert_eq!(budget.allows(cost), allows, "{budget}");
            assert_eq!(budget.refuses(cost).is_none(), allows, "{budget}");
        }
        let why = budget(Some(99), None).refuses(cost).unwrap();
        let text = "it would take about 100 bytes and 5 requests; its budget is 99 bytes";
        assert_eq!(why, text);
        let most = Cost {
            bytes: u64::MAX,
            requests: 1,
        };
        assert_eq!(most.plus(cost).bytes, u64::MAX);
        assert_eq!(most.plus(cost).requests, 6);
    }
}
