//! What a rewrite costs and what it saves, in the currency of the user's bill.
//!
//! A pack that is rewritten together with others costs reads and writes now, and saves objects:
//! fewer requests each month, for as long as the horizon. The larger the part of a pack that is in
//! use, the more bytes move and the fewer objects are saved, so there is one size below which a
//! rewrite is worth its price. Memory: none.

/// Prices and habits, per unit. All are finite and not negative: the schema says so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Prices {
    /// Of 1,000 requests that write: PUT, LIST.
    pub(crate) put_1000: f64,
    /// Of 1,000 requests that read: GET.
    pub(crate) get_1000: f64,
    /// Of a gigabyte (10^9 bytes) that is read.
    pub(crate) read_gb: f64,
    /// Of a gigabyte that is written, beside the request: some storage classes ask for one.
    pub(crate) write_gb: f64,
    /// Of the days that a deleted object is billed on, for a gigabyte: storage classes with a
    /// minimum time.
    pub(crate) early_deletion_gb: f64,
    /// Requests that read an object each month: verification, restores, a client without a cache.
    pub(crate) reads_a_month: f64,
    /// Months for which a saved object counts.
    pub(crate) horizon_months: f64,
}

const GB: f64 = 1e9;

impl Prices {
    /// What an object less saves within the horizon.
    fn saved_by_object(&self) -> f64 {
        // Listings have 1,000 objects each: one a month is the least that any tool does.
        let month = self.reads_a_month * self.get_1000 / 1e3 + self.put_1000 / 1e6;
        month * self.horizon_months
    }

    /// What rewriting a pack costs and saves, of which `used` bytes of `full` are in use.
    pub(crate) fn gain(&self, used: u64, full: u64) -> f64 {
        let (used, full) = (used as f64, full.max(1) as f64);
        let share = (used / full).min(1.0);
        let moved = used / GB * (self.read_gb + self.write_gb + self.early_deletion_gb);
        let requests = self.get_1000 / 1e3 + share * self.put_1000 / 1e3;
        (1.0 - share) * self.saved_by_object() - moved - requests
    }

    /// The bytes in use below which a rewrite is worth its price; 0 where none is.
    pub(crate) fn worth_below(&self, full: u64) -> u64 {
        // The gain falls with the bytes in use: halve the range until it is found.
        let (mut low, mut high) = (0, full);
        if self.gain(1, full) <= 0.0 {
            return 0;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match self.gain(middle, full) > 0.0 {
                true => low = middle,
                false => high = middle,
            }
        }
        high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: u64 = 20 << 20;

    fn prices() -> Prices {
        Prices {
            put_1000: 0.005,
            get_1000: 0.0004,
            read_gb: 0.0,
            write_gb: 0.0,
            early_deletion_gb: 0.0,
            reads_a_month: 1.0,
            horizon_months: 12.0,
        }
    }

    #[test]
    fn requests_alone_make_small_packs_worth_it() {
        let below = prices().worth_below(FULL);
        assert!((FULL / 4..FULL).contains(&below), "{below}");
        assert!(prices().gain(below - 1, FULL) > 0.0);
        assert!(prices().gain(below, FULL) <= 0.0);
    }

    #[test]
    fn dear_reads_and_short_horizons_make_nothing_worth_it() {
        let cold = Prices {
            read_gb: 0.03,
            early_deletion_gb: 0.012,
            ..prices()
        };
        assert!(cold.worth_below(FULL) < FULL / 100);
        let short = Prices {
            horizon_months: 0.0,
            ..prices()
        };
        assert_eq!(short.worth_below(FULL), 0);
    }

    #[test]
    fn nothing_costs_nothing() {
        let free = Prices {
            put_1000: 0.0,
            get_1000: 0.0,
            ..prices()
        };
        assert_eq!(free.worth_below(FULL), 0);
    }
}
