//! What went over the wire: requests and bytes by kind, every try counted.
//!
//! [`super::Counters`] count what upper floors asked for; this counts what the store was asked, so
//! that the price of tries, of locks and of pages is seen. No memory cost.

use std::fmt;

use bytesize::ByteSize;

/// Requests and bytes of a store behind a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Traffic {
    /// Reads of bytes.
    pub get: u64,
    /// Pages of listings.
    pub list: u64,
    /// Puts.
    pub put: u64,
    /// Reads of metadata.
    pub head: u64,
    /// Deletions.
    pub delete: u64,
    /// Requests about object locks.
    pub lock: u64,
    /// Bytes of bodies that came.
    pub downloaded_bytes: u64,
    /// Bytes of bodies that went.
    pub uploaded_bytes: u64,
    /// Answers that asked for fewer requests.
    pub throttled: u64,
    /// Operations that were tried again.
    pub retries: u64,
    /// Most requests in flight at one time.
    pub in_flight_peak: u64,
    /// Requests in flight, on average over the time in which there was one.
    pub in_flight_mean: f64,
}

impl Traffic {
    /// Returns the number of all requests.
    pub fn requests(&self) -> u64 {
        self.get + self.list + self.put + self.head + self.delete + self.lock
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests: {} GET, {} HEAD, {} LIST, {} PUT, {} DELETE, {} about locks; {} down, {} \
             up; {} in flight at most, {:.1} on average; {} tried again, {} throttled",
            self.requests(),
            self.get,
            self.head,
            self.list,
            self.put,
            self.delete,
            self.lock,
            ByteSize(self.downloaded_bytes),
            ByteSize(self.uploaded_bytes),
            self.in_flight_peak,
            self.in_flight_mean,
            self.retries,
            self.throttled
        )
    }
}
