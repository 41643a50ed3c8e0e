//! Blobs in memory: for suites, and under the simulated store.
//!
//! Timestamps come from the clock that it is given. A snapshot keeps a state to come back to after
//! a simulated crash; bytes are shared, so it costs the names only. Memory: all blobs, so never for
//! a real repository. Mirrors Kopia's `internal/blobtesting/map.go`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;

use super::source::copy_source;
use super::store::{check_limit, check_name};
use super::{
    BlobError, BlobMetadata, BlobSource, BlobStore, BlobVersion, BytesSource, PutOptions, Replaced,
    Retention,
};
use crate::clock::{SharedClock, Timestamp};
use crate::kopia::blob_id::BlobId;

#[derive(Clone, Debug)]
struct Stored {
    bytes: Arc<[u8]>,
    timestamp: Timestamp,
    retention: Option<Retention>,
    /// No other blob ever has the same.
    version: u64,
}

/// A state of a [`MemoryStore`].
#[derive(Clone, Debug)]
pub struct MemorySnapshot(BTreeMap<BlobId, Stored>);

/// A blob was put or deleted at `at`; what was there before.
#[derive(Debug)]
struct Change {
    at: Timestamp,
    id: BlobId,
    before: Option<BlobMetadata>,
}

#[derive(Debug, Default)]
struct State {
    blobs: BTreeMap<BlobId, Stored>,
    /// Blobs that were ever put.
    versions: u64,
    /// Kept only for stale listings; grows with every change.
    history: Option<Vec<Change>>,
}

impl State {
    /// Puts a blob as a version of its own.
    fn insert(&mut self, id: BlobId, mut stored: Stored) {
        self.versions += 1;
        stored.version = self.versions;
        self.blobs.insert(id, stored);
    }

    fn version(&self, id: &BlobId) -> BlobVersion {
        match self.blobs.get(id) {
            Some(stored) => BlobVersion::new(stored.version.to_string()),
            None => BlobVersion::ABSENT,
        }
    }

    fn remember(&mut self, id: &BlobId, at: Timestamp) {
        let before = self.blobs.get(id).map(|stored| describe(id, stored));
        if let Some(history) = &mut self.history {
            let id = id.clone();
            history.push(Change { at, id, before });
        }
    }
}

/// A store in memory.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
    clock: SharedClock,
}

impl MemoryStore {
    /// Makes an empty store that stamps blobs with the time of `clock`.
    pub fn new(clock: SharedClock) -> Self {
        Self {
            state: Mutex::default(),
            clock,
        }
    }

    /// Returns the clock that stamps blobs.
    pub fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// Returns the present state.
    pub fn snapshot(&self) -> MemorySnapshot {
        MemorySnapshot(self.lock().blobs.clone())
    }

    /// Goes back to `snapshot`.
    pub fn restore(&self, snapshot: &MemorySnapshot) {
        let mut state = self.lock();
        state.blobs = snapshot.0.clone();
        if let Some(history) = &mut state.history {
            history.clear();
        }
    }

    /// Puts a blob with a timestamp of its own, as if it had been put then.
    pub fn insert(&self, id: BlobId, bytes: impl Into<Arc<[u8]>>, timestamp: Timestamp) {
        let stored = Stored {
            bytes: bytes.into(),
            timestamp,
            retention: None,
            version: 0,
        };
        self.lock().insert(id, stored);
    }

    /// Returns the bytes of a blob.
    pub fn bytes(&self, id: &BlobId) -> Option<Arc<[u8]>> {
        let state = self.lock();
        state.blobs.get(id).map(|stored| Arc::clone(&stored.bytes))
    }

    /// Returns the retention that a blob was put with.
    pub fn retention(&self, id: &BlobId) -> Option<Retention> {
        let state = self.lock();
        state
            .blobs
            .get(id)
            .and_then(|stored| stored.retention.clone())
    }

    /// Returns what is known of a blob, `None` when it is not there.
    pub(super) fn peek(&self, id: &BlobId) -> Option<BlobMetadata> {
        let state = self.lock();
        state.blobs.get(id).map(|stored| describe(id, stored))
    }

    /// Starts to remember changes, for [`MemoryStore::changed_since`].
    pub(super) fn keep_history(&self) {
        self.lock().history.get_or_insert_default();
    }

    /// Returns the blobs that were put or deleted after `moment`, each with its state at that
    /// moment.
    pub(super) fn changed_since(
        &self,
        moment: Timestamp,
    ) -> BTreeMap<BlobId, Option<BlobMetadata>> {
        let state = self.lock();
        let mut changed = BTreeMap::new();
        for change in state.history.iter().flatten() {
            if change.at > moment && !changed.contains_key(&change.id) {
                changed.insert(change.id.clone(), change.before.clone());
            }
        }
        changed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn describe(id: &BlobId, stored: &Stored) -> BlobMetadata {
    BlobMetadata {
        id: id.clone(),
        length: stored.bytes.len() as u64,
        timestamp: stored.timestamp,
    }
}

#[async_trait]
impl BlobStore for MemoryStore {
    async fn get(&self, id: &BlobId, offset: u64, into: &mut [u8]) -> Result<usize, BlobError> {
        check_name(id)?;
        let bytes = self.bytes(id).ok_or_else(|| BlobError::not_found(id))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = bytes.get(start..).unwrap_or(&[]);
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    async fn metadata(&self, id: &BlobId) -> Result<BlobMetadata, BlobError> {
        check_name(id)?;
        self.peek(id).ok_or_else(|| BlobError::not_found(id))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BlobId>,
        limit: usize,
    ) -> Result<Vec<BlobMetadata>, BlobError> {
        check_limit(prefix, limit)?;
        let start = match after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix),
        };
        let state = self.lock();
        let page = state
            .blobs
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(id, _)| id.as_str().starts_with(prefix))
            .take(limit)
            .map(|(id, stored)| describe(id, stored))
            .collect();
        Ok(page)
    }

    async fn put(
        &self,
        id: &BlobId,
        source: &mut dyn BlobSource,
        options: &PutOptions,
    ) -> Result<Timestamp, BlobError> {
        check_name(id)?;
        let mut bytes = Vec::new();
        copy_source(source, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .map_err(|error| BlobError::io("put", id, error))?;
        let timestamp = self.clock.now();
        let stored = Stored {
            bytes: bytes.into(),
            timestamp,
            retention: options.retention.clone(),
            version: 0,
        };
        let mut state = self.lock();
        if options.create_only && state.blobs.contains_key(id) {
            return Err(BlobError::AlreadyExists { id: id.clone() });
        }
        state.remember(id, timestamp);
        state.insert(id.clone(), stored);
        Ok(timestamp)
    }

    async fn get_version(
        &self,
        id: &BlobId,
        into: &mut [u8],
    ) -> Result<(usize, Option<BlobVersion>), BlobError> {
        let count = self.get(id, 0, into).await?;
        let version = self.lock().version(id);
        Ok((count, Some(version)))
    }

    async fn replace(
        &self,
        id: &BlobId,
        bytes: &[u8],
        expected: &BlobVersion,
    ) -> Result<Replaced, BlobError> {
        if self.lock().version(id) != *expected {
            return Ok(Replaced::Changed);
        }
        let mut source = BytesSource::new(bytes);
        self.put(id, &mut source, &PutOptions::default()).await?;
        Ok(Replaced::As(self.lock().version(id)))
    }

    async fn delete(&self, id: &BlobId) -> Result<(), BlobError> {
        check_name(id)?;
        let now = self.clock.now();
        let mut state = self.lock();
        if state.blobs.contains_key(id) {
            state.remember(id, now);
            state.blobs.remove(id);
        }
        Ok(())
    }

    async fn extend_retention(&self, id: &BlobId, to: &Retention) -> Result<(), BlobError> {
        check_name(id)?;
        let mut state = self.lock();
        let stored = state.blobs.get_mut(id);
        let stored = stored.ok_or_else(|| BlobError::not_found(id))?;
        if stored
            .retention
            .as_ref()
            .is_none_or(|now| now.until < to.until)
        {
            stored.retention = Some(to.clone());
        }
        Ok(())
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn waits(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::Storage;
    use crate::clock::ManualClock;

    #[test]
    fn a_snapshot_brings_everything_back() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(5)));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let storage = Storage::new(store.clone());
        let (kept, other) = (BlobId::new("pa"), BlobId::new("pb"));
        let retention = Retention {
            mode: "GOVERNANCE".to_owned(),
            until: Timestamp::from_seconds(9),
        };
        let options = PutOptions {
            retention: Some(retention.clone()),
            ..PutOptions::default()
        };
        storage.put_bytes(&kept, b"old", &options).unwrap();
        let snapshot = store.snapshot();

        clock.set(Timestamp::from_seconds(6));
        storage
            .put_bytes(&kept, b"newer", &PutOptions::default())
            .unwrap();
        storage
            .put_bytes(&other, b"", &PutOptions::default())
            .unwrap();
        assert_eq!(store.retention(&kept), None);
        store.restore(&snapshot);

        assert_eq!(storage.get_all(&kept, 9).unwrap(), b"old");
        let metadata = storage.metadata(&kept).unwrap();
        assert_eq!(metadata.timestamp, Timestamp::from_seconds(5));
        assert_eq!(store.retention(&kept), Some(retention));
        assert!(storage.metadata(&other).unwrap_err().is_not_found());
    }
}
