//! The blocking side of a store: what upper floors call, from plain threads.
//!
//! A store that never waits (local folder, memory) is polled once, without any runtime, so that a
//! call costs some 50 ns more than the file operation. For the others a current-thread runtime is
//! made at the first call; several threads may block on it at once, one of them drives it. Must not
//! be called from inside an async task. Memory: the runtime, some 10 KiB; a page in
//! [`Storage::for_each`].

use std::fmt;
use std::future::Future;
use std::ops::{ControlFlow, Range};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Builder, Runtime};

use super::counters::CountsByBlob;
use super::{
    BlobError, BlobMetadata, BlobSource, BlobStore, BytesSource, Counters, CountersByBlob, Guard,
    LIST_PAGE_MAX, OpenBlob, PutOptions, Retention, ScannedBlob, Traffic,
};
use crate::clock::Timestamp;
use crate::kopia::blob_id::BlobId;

/// First request for a whole blob of unknown length; most small blobs need no second one.
pub(super) const FIRST_GET_BYTES: usize = 32 << 10;

/// Threads that look up names, which blocks; a run looks up one or two.
const RESOLVERS: usize = 2;

struct Shared {
    store: Arc<dyn BlobStore>,
    waits: bool,
    runtime: OnceLock<Runtime>,
    counts: CountsByBlob,
}

/// A put whose bytes come one after the other. Dropped before it is finished it leaves nothing.
#[derive(Debug)]
pub struct OpenPut {
    id: BlobId,
    blob: Box<dyn OpenBlob>,
    storage: Storage,
    bytes: u64,
}

impl OpenPut {
    /// Appends `piece`.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), BlobError> {
        self.bytes += piece.len() as u64;
        self.blob.write(piece)
    }

    /// Returns the bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Shows the blob, whole and durable; returns its storage timestamp.
    pub fn finish(self) -> Result<Timestamp, BlobError> {
        self.storage.ask()?;
        let counts = self.storage.shared.counts.of(&self.id);
        counts.puts();
        let timestamp = self.blob.finish()?;
        counts.has_written(self.bytes);
        Ok(timestamp)
    }
}

/// A store with blocking calls and counters. Cheap to clone; clones share the counters.
#[derive(Clone)]
pub struct Storage {
    shared: Arc<Shared>,
    guard: Option<Arc<dyn Guard>>,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Storage").field(&self.shared.store).finish()
    }
}

impl Storage {
    /// Makes the blocking side of `store`.
    pub fn new(store: Arc<dyn BlobStore>) -> Self {
        let shared = Shared {
            waits: store.waits(),
            store,
            runtime: OnceLock::new(),
            counts: CountsByBlob::default(),
        };
        Self {
            shared: Arc::new(shared),
            guard: None,
        }
    }

    /// Returns the same storage with `guard` asked before every operation.
    pub fn guarded(&self, guard: Arc<dyn Guard>) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            guard: Some(guard),
        }
    }

    /// Fills `into` with the bytes from `offset` on, as far as the blob reaches; returns how many.
    pub fn get(&self, id: &BlobId, offset: u64, into: &mut [u8]) -> Result<usize, BlobError> {
        self.ask()?;
        let counts = self.shared.counts.of(id);
        counts.asks_for_bytes();
        let count = self.wait(self.shared.store.get(id, offset, into))?;
        tracing::trace!(%id, offset, bytes = count, "get");
        counts.has_read(count);
        Ok(count)
    }

    /// Returns all bytes of a small blob; one longer than `max_bytes` is [`BlobError::TooLarge`].
    ///
    /// Memory: the blob, at most four times its size and never more than `max_bytes` + 1.
    pub fn get_all(&self, id: &BlobId, max_bytes: usize) -> Result<Vec<u8>, BlobError> {
        let most_bytes = max_bytes.saturating_add(1);
        let mut bytes = vec![0; FIRST_GET_BYTES.min(most_bytes)];
        let mut filled = 0;
        loop {
            filled += self.get(id, filled as u64, &mut bytes[filled..])?;
            if filled < bytes.len() {
                bytes.truncate(filled);
                return Ok(bytes);
            }
            if filled == most_bytes {
                return Err(BlobError::TooLarge {
                    id: id.clone(),
                    max_bytes,
                });
            }
            bytes.resize(bytes.len().saturating_mul(4).min(most_bytes), 0);
        }
    }

    /// Tells that these blobs will be read soon.
    pub fn will_need(&self, ids: &[&BlobId]) {
        self.shared.store.will_need(ids);
    }

    /// Tells that this range of a blob will be read next, in order.
    pub fn will_read(&self, id: &BlobId, range: Range<u64>) {
        self.shared.store.will_read(id, range);
    }

    /// Returns length and timestamp of a blob.
    pub fn metadata(&self, id: &BlobId) -> Result<BlobMetadata, BlobError> {
        self.ask()?;
        self.shared.counts.of(id).asks_for_bytes();
        tracing::trace!(%id, "metadata");
        self.wait(self.shared.store.metadata(id))
    }

    /// Returns one page in ascending order of IDs; shorter than `limit` means the last one.
    pub fn list(
        &self,
        prefix: &str,
        after: Option<&BlobId>,
        limit: usize,
    ) -> Result<Vec<BlobMetadata>, BlobError> {
        self.ask()?;
        self.shared.counts.below(prefix).lists();
        tracing::trace!(prefix, "list");
        self.wait(self.shared.store.list(prefix, after, limit))
    }

    /// Shows every blob under `prefix` in ascending order of IDs, until `visit` gives an error.
    ///
    /// Memory: one page. Blobs put or deleted meanwhile may or may not be shown.
    pub fn for_each<E: From<BlobError>>(
        &self,
        prefix: &str,
        mut visit: impl FnMut(BlobMetadata) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut after = None;
        loop {
            let page = self.list(prefix, after.as_ref(), LIST_PAGE_MAX)?;
            let is_last = page.len() < LIST_PAGE_MAX;
            after = page.last().map(|blob| blob.id.clone());
            for blob in page {
                visit(blob)?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Shows every blob under `prefix` once, in the store's cheapest order, until `visit` breaks.
    ///
    /// `visit` may call this storage. A store that waits is listed page by page for that: a visitor
    /// inside its future could not block.
    pub fn scan(
        &self,
        prefix: &str,
        mut visit: impl FnMut(ScannedBlob<'_>) -> ControlFlow<()> + Send,
    ) -> Result<(), BlobError> {
        if !self.shared.waits {
            self.ask()?;
            self.shared.counts.below(prefix).lists();
            tracing::trace!(prefix, "scan");
            return self.wait(self.shared.store.scan(prefix, &mut visit));
        }
        let all = self.for_each(prefix, |blob| {
            let shown = ScannedBlob {
                id: blob.id.as_str(),
                stored: Some((blob.length, blob.timestamp)),
                locality: 0,
            };
            match visit(shown) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(None),
            }
        });
        match all {
            Err(Some(error)) => Err(error),
            Ok(()) | Err(None) => Ok(()),
        }
    }

    /// Puts a blob whole and durable, or not at all; returns its storage timestamp.
    pub fn put(
        &self,
        id: &BlobId,
        source: &mut dyn BlobSource,
        options: &PutOptions,
    ) -> Result<Timestamp, BlobError> {
        self.ask()?;
        let counts = self.shared.counts.of(id);
        counts.puts();
        let length = source.len();
        tracing::trace!(%id, bytes = length, "put");
        let timestamp = self.wait(self.shared.store.put(id, source, options))?;
        counts.has_written(length);
        Ok(timestamp)
    }

    /// Puts bytes from memory.
    pub fn put_bytes(
        &self,
        id: &BlobId,
        bytes: &[u8],
        options: &PutOptions,
    ) -> Result<Timestamp, BlobError> {
        self.put(id, &mut BytesSource::new(bytes), options)
    }

    /// Begins a put of a new blob whose bytes come one after the other; `None` where the store
    /// wants a whole source.
    pub fn begin(&self, id: &BlobId, options: &PutOptions) -> Result<Option<OpenPut>, BlobError> {
        self.ask()?;
        let blob = self.shared.store.begin(id, options)?;
        Ok(blob.map(|blob| OpenPut {
            id: id.clone(),
            blob,
            storage: self.clone(),
            bytes: 0,
        }))
    }

    /// Deletes a blob; one that is not there is fine.
    pub fn delete(&self, id: &BlobId) -> Result<(), BlobError> {
        if let Some(guard) = &self.guard {
            guard.allow_delete()?;
        }
        self.shared.counts.of(id).deletes();
        tracing::trace!(%id, "delete");
        self.wait(self.shared.store.delete(id))
    }

    /// Locks a blob that is there until the retention's moment, if that is later than its lock.
    pub fn extend_retention(&self, id: &BlobId, to: &Retention) -> Result<(), BlobError> {
        self.ask()?;
        self.shared.counts.of(id).puts();
        self.wait(self.shared.store.extend_retention(id, to))
    }

    /// Tells whether operations have to wait for somebody else, so that several at once are faster.
    pub fn waits(&self) -> bool {
        self.shared.waits
    }

    /// Returns where the blobs are, for messages; no secrets.
    pub fn location(&self) -> String {
        self.shared.store.location()
    }

    /// Returns what was asked so far, by this one and all its clones.
    pub fn counters(&self) -> Counters {
        self.counters_by_blob().sum()
    }

    /// Returns the same by what the blobs are.
    pub fn counters_by_blob(&self) -> CountersByBlob {
        self.shared.counts.told()
    }

    /// Returns what went over the wire so far; `None` where there is none.
    pub fn traffic(&self) -> Option<Traffic> {
        self.shared.store.traffic()
    }

    pub(super) fn store(&self) -> &dyn BlobStore {
        &*self.shared.store
    }

    pub(super) fn counts(&self) -> &CountsByBlob {
        &self.shared.counts
    }

    /// Asks the guard, if there is one.
    pub(super) fn ask(&self) -> Result<(), BlobError> {
        match &self.guard {
            Some(guard) => guard.allow(),
            None => Ok(()),
        }
    }

    /// Blocks until `future` is done.
    pub(super) fn wait<T>(&self, mut future: BlobFuture<'_, T>) -> Result<T, BlobError> {
        if !self.shared.waits {
            // No runtime around it: only for stores that say that they never wait.
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
                return result;
            }
        }
        self.runtime()?.block_on(future)
    }

    fn runtime(&self) -> Result<&Runtime, BlobError> {
        let cell = &self.shared.runtime;
        if cell.get().is_none() {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(RESOLVERS)
                .build()
                .map_err(|error| BlobError::io("open", self.location(), error))?;
            // Another thread may have been first; then ours is dropped.
            let _ = cell.set(runtime);
        }
        Ok(cell.get().expect("it was set just above"))
    }
}

pub(super) type BlobFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BlobError>> + Send + 'a>>;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::blob::MemoryStore;
    use crate::clock::{ManualClock, SystemClock};

    /// A store that has to wait before it answers.
    #[derive(Debug)]
    struct Slow(MemoryStore);

    #[async_trait]
    impl BlobStore for Slow {
        async fn get(&self, id: &BlobId, offset: u64, into: &mut [u8]) -> Result<usize, BlobError> {
            tokio::time::sleep(Duration::from_millis(2)).await;
            self.0.get(id, offset, into).await
        }
        async fn metadata(&self, id: &BlobId) -> Result<BlobMetadata, BlobError> {
            tokio::task::yield_now().await;
            self.0.metadata(id).await
        }
        async fn list(
            &self,
            prefix: &str,
            after: Option<&BlobId>,
            limit: usize,
        ) -> Result<Vec<BlobMetadata>, BlobError> {
            tokio::task::yield_now().await;
            self.0.list(prefix, after, limit).await
        }
        async fn put(
            &self,
            id: &BlobId,
            source: &mut dyn BlobSource,
            options: &PutOptions,
        ) -> Result<Timestamp, BlobError> {
            self.0.put(id, source, options).await
        }
        async fn delete(&self, id: &BlobId) -> Result<(), BlobError> {
            self.0.delete(id).await
        }
        fn location(&self) -> String {
            "slow".to_owned()
        }
    }

    fn memory() -> MemoryStore {
        MemoryStore::new(Arc::new(ManualClock::new(Timestamp::from_seconds(1))))
    }

    #[test]
    fn waiting_stores_work_from_several_threads() {
        // Goal: one current-thread runtime serves blocking callers at once.
        let storage = Storage::new(Arc::new(Slow(memory())));
        let id = BlobId::new("pa");
        storage
            .put_bytes(&id, b"abc", &PutOptions::default())
            .unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        assert_eq!(storage.get_all(&id, 10).unwrap(), b"abc");
                        assert_eq!(storage.metadata(&id).unwrap().length, 3);
                        let mut seen = 0;
                        storage
                            .scan("p", |_| {
                                seen += 1;
                                ControlFlow::Continue(())
                            })
                            .unwrap();
                        assert_eq!(seen, 1);
                    }
                });
            }
        });
        assert_eq!(storage.counters().gets, 4 * 20 * 2);
        assert_eq!(storage.counters().bytes_read, 4 * 20 * 3);
    }

    #[test]
    fn get_all_takes_exactly_the_limit_and_not_a_byte_more() {
        let storage = Storage::new(Arc::new(memory()));
        for length in [0, 1, FIRST_GET_BYTES - 1, FIRST_GET_BYTES, 300_000] {
            let id = BlobId::new(format!("q{length}"));
            let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
            storage
                .put_bytes(&id, &bytes, &PutOptions::default())
                .unwrap();
            assert_eq!(storage.get_all(&id, length).unwrap(), bytes);
            assert_eq!(storage.get_all(&id, usize::MAX).unwrap(), bytes);
            if length > 0 {
                let error = storage.get_all(&id, length - 1).unwrap_err();
                assert_eq!(error.code(), "blob-too-large");
            }
        }
        assert!(
            storage
                .get_all(&BlobId::new("p"), 1)
                .unwrap_err()
                .is_not_found()
        );
    }

    #[test]
    fn for_each_pages_and_passes_errors_on() {
        let storage = Storage::new(Arc::new(memory()));
        let blobs = 2 * LIST_PAGE_MAX;
        for number in 0..blobs {
            let id = BlobId::new(format!("p{number:05}"));
            storage.put_bytes(&id, b"", &PutOptions::default()).unwrap();
        }
        let mut seen = Vec::new();
        let result: Result<(), BlobError> = storage.for_each("p", |blob| {
            seen.push(blob.id);
            Ok(())
        });
        result.unwrap();
        assert_eq!(seen.len(), blobs);
        assert!(seen.is_sorted());
        assert_eq!(
            storage.counters().lists,
            3,
            "a full page may not be the last"
        );

        let stopped = storage.for_each("p", |blob| Err(BlobError::not_found(&blob.id)));
        assert!(matches!(stopped, Err(BlobError::NotFound { id }) if id.as_str() == "p00000"));
    }

    #[test]
    #[ignore = "a measurement"]
    fn measure_the_cost_of_a_call() {
        let storage = Storage::new(Arc::new(MemoryStore::new(Arc::new(SystemClock))));
        let id = BlobId::new("p");
        storage
            .put_bytes(&id, b"x", &PutOptions::default())
            .unwrap();
        let watch = crate::clock::Stopwatch::start();
        for _ in 0..1_000_000 {
            storage.get(&id, 0, &mut [0; 1]).unwrap();
        }
        println!("{:?} for a million gets", watch.elapsed());
    }
}
