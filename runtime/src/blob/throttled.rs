//! Kopia's limits of a storage: operations and bytes a second, reads and writes at once.
//!
//! What Kopia's config file says of them (`kopia repository throttle set`) binds every client of
//! the machine that reads the file, for folders too. As in Kopia a bucket of tokens holds what
//! comes in a minute, a tenth of it at first, and who takes more than is there waits until it would
//! have come. With a limit of reads nothing is asked for ahead, and blobs go out whole. No memory
//! cost. Mirrors Kopia's `repo/blob/throttling`.

use std::ops::{ControlFlow, Range};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    BlobError, BlobMetadata, BlobSource, BlobStore, BlobVersion, PutOptions, Replaced, Retention,
    ScannedBlob, Traffic,
};
use crate::clock::{Stopwatch, Timestamp};
use crate::kopia::blob_id::BlobId;

/// Time whose tokens a bucket holds at most, in seconds.
const WINDOW_SECONDS: f64 = 60.0;

/// Part of a bucket that is full at first.
const FIRST_FILL: f64 = 0.1;

/// Longest wait for one operation: whoever sets a limit that wants more has set it too low, and
/// leases would end.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// Limits of a storage; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StorageLimits {
    /// Reads of bytes and metadata in a second.
    pub reads_per_second: f64,
    /// Puts and deletions in a second.
    pub writes_per_second: f64,
    /// Pages of listings in a second.
    pub lists_per_second: f64,
    /// Bytes that go in a second.
    pub upload_bytes_per_second: f64,
    /// Bytes that come in a second.
    pub download_bytes_per_second: f64,
    /// Reads at once.
    pub concurrent_reads: usize,
    /// Writes at once.
    pub concurrent_writes: usize,
}

impl StorageLimits {
    /// Tells whether nothing is limited.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }

    fn limit_reads(&self) -> bool {
        self.reads_per_second > 0.0
            || self.download_bytes_per_second > 0.0
            || self.concurrent_reads > 0
    }
}

/// Tokens that come with time.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    since: Stopwatch,
    /// What is there, below 0 when it was taken ahead, and at which moment.
    level: Mutex<(f64, Duration)>,
}

impl Bucket {
    fn new(per_second: f64) -> Self {
        let first = per_second * WINDOW_SECONDS * FIRST_FILL;
        Self {
            per_second,
            since: Stopwatch::start(),
            level: Mutex::new((first, Duration::ZERO)),
        }
    }

    /// Takes `count` tokens, and waits until they have come.
    async fn take(&self, count: u64) {
        let wait = self.take_at(count as f64, self.since.elapsed());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Gives back what was not needed.
    fn give_back(&self, count: u64) {
        self.take_at(-(count as f64), self.since.elapsed());
    }

    fn take_at(&self, count: f64, now: Duration) -> Duration {
        if self.per_second <= 0.0 {
            return Duration::ZERO;
        }
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let came = now.saturating_sub(level.1).as_secs_f64() * self.per_second;
        let full = self.per_second * WINDOW_SECONDS;
        level.0 = ((level.0 + came).min(full) - count).min(full);
        level.1 = now;
        let wait = Duration::try_from_secs_f64(-level.0 / self.per_second);
        wait.unwrap_or_default().min(WAIT_MAX)
    }
}

/// A store within limits.
#[derive(Debug)]
pub struct ThrottledStore<S> {
    store: S,
    limits: StorageLimits,
    reads: Bucket,
    writes: Bucket,
    lists: Bucket,
    uploads: Bucket,
    downloads: Bucket,
    readers: Option<Semaphore>,
    writers: Option<Semaphore>,
}

impl<S: BlobStore> ThrottledStore<S> {
    /// Wraps `store`.
    pub fn new(store: S, limits: StorageLimits) -> Self {
        let at_once = |count: usize| {
            let count = count.min(Semaphore::MAX_PERMITS);
            (count > 0).then(|| Semaphore::new(count))
        };
        Self {
            store,
            limits,
            reads: Bucket::new(limits.reads_per_second),
            writes: Bucket::new(limits.writes_per_second),
            lists: Bucket::new(limits.lists_per_second),
            uploads: Bucket::new(limits.upload_bytes_per_second),
            downloads: Bucket::new(limits.download_bytes_per_second),
            readers: at_once(limits.concurrent_reads),
            writers: at_once(limits.concurrent_writes),
        }
    }
}

/// Waits for a place among those who do it at once.
async fn place(at_once: Option<&Semaphore>) -> Option<SemaphorePermit<'_>> {
    // It is never closed.
    at_once?.acquire().await.ok()
}

#[async_trait]
impl<S: BlobStore> BlobStore for ThrottledStore<S> {
    fn will_need(&self, ids: &[&BlobId]) {
        if !self.limits.limit_reads() {
            self.store.will_need(ids);
        }
    }

    fn will_read(&self, id: &BlobId, range: Range<u64>) {
        if !self.limits.limit_reads() {
            self.store.will_read(id, range);
        }
    }

    async fn get(&self, id: &BlobId, offset: u64, into: &mut [u8]) -> Result<usize, BlobError> {
        self.reads.take(1).await;
        let _place = place(self.readers.as_ref()).await;
        let wanted = into.len() as u64;
        self.downloads.take(wanted).await;
        let read = self.store.get(id, offset, into).await;
        let came = read.as_ref().map_or(0, |count| *count as u64);
        self.downloads.give_back(wanted.saturating_sub(came));
        read
    }

    async fn metadata(&self, id: &BlobId) -> Result<BlobMetadata, BlobError> {
        self.reads.take(1).await;
        let _place = place(self.readers.as_ref()).await;
        self.store.metadata(id).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BlobId>,
        limit: usize,
    ) -> Result<Vec<BlobMetadata>, BlobError> {
        self.lists.take(1).await;
        self.store.list(prefix, after, limit).await
    }

    async fn scan(
        &self,
        prefix: &str,
        visit: &mut (dyn for<'a> FnMut(ScannedBlob<'a>) -> ControlFlow<()> + Send),
    ) -> Result<(), BlobError> {
        self.lists.take(1).await;
        self.store.scan(prefix, visit).await
    }

    async fn put(
        &self,
        id: &BlobId,
        source: &mut dyn BlobSource,
        options: &PutOptions,
    ) -> Result<Timestamp, BlobError> {
        self.writes.take(1).await;
        let _place = place(self.writers.as_ref()).await;
        self.uploads.take(source.len()).await;
        self.store.put(id, source, options).await
    }

    async fn get_version(
        &self,
        id: &BlobId,
        into: &mut [u8],
    ) -> Result<(usize, Option<BlobVersion>), BlobError> {
        self.reads.take(1).await;
        let _place = place(self.readers.as_ref()).await;
        let read = self.store.get_version(id, into).await?;
        self.downloads.take(read.0 as u64).await;
        Ok(read)
    }

    async fn replace(
        &self,
        id: &BlobId,
        bytes: &[u8],
        expected: &BlobVersion,
    ) -> Result<Replaced, BlobError> {
        self.writes.take(1).await;
        let _place = place(self.writers.as_ref()).await;
        self.uploads.take(bytes.len() as u64).await;
        self.store.replace(id, bytes, expected).await
    }

    async fn delete(&self, id: &BlobId) -> Result<(), BlobError> {
        self.writes.take(1).await;
        let _place = place(self.writers.as_ref()).await;
        self.store.delete(id).await
    }

    async fn extend_retention(&self, id: &BlobId, to: &Retention) -> Result<(), BlobError> {
        self.store.extend_retention(id, to).await
    }

    fn location(&self) -> String {
        self.store.location()
    }

    fn traffic(&self) -> Option<Traffic> {
        self.store.traffic()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::blob::{MemoryStore, Storage};
    use crate::clock::ManualClock;

    fn throttled(limits: StorageLimits) -> Storage {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1)));
        let store = ThrottledStore::new(MemoryStore::new(clock), limits);
        Storage::new(Arc::new(store))
    }

    #[test]
    fn the_bucket_is_kopias() {
        // Goal: 6 s worth at first, a minute's at most, and what is taken ahead has to come.
        let bucket = Bucket::new(10.0);
        let second = Duration::from_secs(1);
        assert_eq!(bucket.take_at(60.0, Duration::ZERO), Duration::ZERO);
        assert_eq!(bucket.take_at(10.0, Duration::ZERO), second);
        assert_eq!(bucket.take_at(10.0, Duration::ZERO), 2 * second);
        assert_eq!(bucket.take_at(0.0, 2 * second), Duration::ZERO);
        let much_later = 1000 * second;
        assert_eq!(bucket.take_at(600.0, much_later), Duration::ZERO);
        assert_eq!(bucket.take_at(10.0, much_later), second);
        bucket.give_back(10);
        assert_eq!(bucket.take_at(1e18, much_later), WAIT_MAX);
        let endless = Bucket::new(0.0);
        assert_eq!(endless.take_at(1e18, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn operations_and_bytes_wait_for_their_turn() {
        for (limits, seconds) in [
            (StorageLimits::default(), 0.0),
            // 6 s worth at once, then one tenth of a second each: three puts, and a deletion.
            (
                StorageLimits {
                    writes_per_second: 10.0,
                    ..StorageLimits::default()
                },
                0.4,
            ),
            (
                StorageLimits {
                    upload_bytes_per_second: 10_000.0,
                    ..StorageLimits::default()
                },
                0.3,
            ),
            (
                StorageLimits {
                    concurrent_reads: 1,
                    concurrent_writes: 1,
                    ..StorageLimits::default()
                },
                0.0,
            ),
        ] {
            let storage = throttled(limits);
            let id = BlobId::new("p1");
            let put = |count: usize| {
                for _ in 0..count {
                    let options = PutOptions::default();
                    storage.put_bytes(&id, &[7; 1000], &options).unwrap();
                }
            };
            put(60);
            let watch = Stopwatch::start();
            put(3);
            let mut read = [0; 5000];
            assert_eq!(storage.get(&id, 0, &mut read).unwrap(), 1000);
            assert_eq!(storage.list("p", None, 10).unwrap().len(), 1);
            storage.delete(&id).unwrap();
            assert!(storage.metadata(&id).unwrap_err().is_not_found());
            let took = watch.elapsed().as_secs_f64();
            assert!(
                took >= seconds * 0.8 && took < seconds + 2.0,
                "{took} s: {limits:?}"
            );
        }
    }

    #[test]
    fn bytes_that_did_not_come_are_not_counted() {
        let storage = throttled(StorageLimits {
            download_bytes_per_second: 100_000.0,
            ..StorageLimits::default()
        });
        let id = BlobId::new("p1");
        let options = PutOptions::default();
        storage.put_bytes(&id, &[7; 1000], &options).unwrap();
        let watch = Stopwatch::start();
        for _ in 0..20 {
            // 600,000 bytes are there at first.
            let mut read = vec![0; 100_000];
            assert_eq!(storage.get(&id, 0, &mut read).unwrap(), 1000);
        }
        assert!(watch.elapsed() < Duration::from_secs(1));
    }
}
