//! A store whose blobs are as old as a suite wants them.
//!
//! A real server stamps what is put with its own clock, but the golden repositories are about a
//! moment of their own. What was copied shows its first time, what is put later shows the clock's.
//! Memory: the names of what was copied.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use careen::blob::{
    BlobError, BlobMetadata, BlobSource, BlobStore, PutOptions, Retention, Traffic,
};
use careen::clock::{SharedClock, Timestamp};
use careen::kopia::blob_id::BlobId;

/// The store.
#[derive(Debug)]
pub struct TimedStore {
    inner: Arc<dyn BlobStore>,
    clock: SharedClock,
    times: Mutex<BTreeMap<BlobId, Timestamp>>,
}

impl TimedStore {
    /// Shows `times`, and for all other blobs the clock's.
    pub fn new(
        inner: Arc<dyn BlobStore>,
        clock: SharedClock,
        times: BTreeMap<BlobId, Timestamp>,
    ) -> Self {
        Self {
            inner,
            clock,
            times: Mutex::new(times),
        }
    }

    fn times(&self) -> MutexGuard<'_, BTreeMap<BlobId, Timestamp>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn timed(&self, mut blob: BlobMetadata) -> BlobMetadata {
        let now = self.clock.now();
        blob.timestamp = *self.times().entry(blob.id.clone()).or_insert(now);
        blob
    }
}

#[async_trait]
impl BlobStore for TimedStore {
    fn will_need(&self, ids: &[&BlobId]) {
        self.inner.will_need(ids);
    }

    fn will_read(&self, id: &BlobId, range: Range<u64>) {
        self.inner.will_read(id, range);
    }

    async fn get(&self, id: &BlobId, offset: u64, into: &mut [u8]) -> Result<usize, BlobError> {
        self.inner.get(id, offset, into).await
    }

    async fn metadata(&self, id: &BlobId) -> Result<BlobMetadata, BlobError> {
        Ok(self.timed(self.inner.metadata(id).await?))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BlobId>,
        limit: usize,
    ) -> Result<Vec<BlobMetadata>, BlobError> {
        let page = self.inner.list(prefix, after, limit).await?;
        Ok(page.into_iter().map(|blob| self.timed(blob)).collect())
    }

    async fn put(
        &self,
        id: &BlobId,
        source: &mut dyn BlobSource,
        options: &PutOptions,
    ) -> Result<Timestamp, BlobError> {
        self.inner.put(id, source, options).await?;
        let now = self.clock.now();
        self.times().insert(id.clone(), now);
        Ok(now)
    }

    async fn delete(&self, id: &BlobId) -> Result<(), BlobError> {
        self.inner.delete(id).await
    }

    async fn extend_retention(&self, id: &BlobId, to: &Retention) -> Result<(), BlobError> {
        self.inner.extend_retention(id, to).await
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn traffic(&self) -> Option<Traffic> {
        self.inner.traffic()
    }
}
