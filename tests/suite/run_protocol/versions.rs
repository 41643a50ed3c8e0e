//! Stores that tell versions of a blob and then do not keep to them.
//!
//! Whatever such a store says, a run has its lease in the schedule before its first task.

use std::sync::Arc;

use async_trait::async_trait;
use careen::blob::{
    BlobError, BlobMetadata, BlobSource, BlobStore, BlobVersion, MemoryStore, PutOptions, Replaced,
};
use careen::clock::Timestamp;
use careen::kopia::blob_id::BlobId;
use careen::maintenance::lease::Lease;
use careen::maintenance::run::Event;
use kit::index_work::Bench;

use super::{TASKS, named, schedule_of, world};

/// Tells a version, and replaces none.
#[derive(Debug)]
struct Fickle(Arc<MemoryStore>);

#[async_trait]
impl BlobStore for Fickle {
    async fn get(&self, id: &BlobId, offset: u64, into: &mut [u8]) -> Result<usize, BlobError> {
        self.0.get(id, offset, into).await
    }

    async fn metadata(&self, id: &BlobId) -> Result<BlobMetadata, BlobError> {
        self.0.metadata(id).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BlobId>,
        limit: usize,
    ) -> Result<Vec<BlobMetadata>, BlobError> {
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

    async fn get_version(
        &self,
        id: &BlobId,
        into: &mut [u8],
    ) -> Result<(usize, Option<BlobVersion>), BlobError> {
        self.0.get_version(id, into).await
    }

    async fn replace(&self, _: &BlobId, _: &[u8], _: &BlobVersion) -> Result<Replaced, BlobError> {
        Ok(Replaced::Changed)
    }

    async fn delete(&self, id: &BlobId) -> Result<(), BlobError> {
        self.0.delete(id).await
    }

    fn location(&self) -> String {
        "fickle".to_owned()
    }

    fn waits(&self) -> bool {
        false
    }
}

/// Goal: no task runs without a lease, and all are recorded; method: a store that refuses every
/// condition, also those that hold.
#[test]
fn a_store_that_refuses_every_version_is_written_without() {
    let world = world();
    let repository = world.repository_on(Arc::new(Fickle(world.store.clone())));
    let mut leased = 0;
    let run = Bench::new()
        .quick()
        .cycle_with(&repository, &named(&TASKS), &mut |event| {
            if let Event::Started(_) = event {
                assert!(Lease::of(&schedule_of(&world)).is_some());
                leased += 1;
            }
        });
    run.unwrap();
    assert_eq!(leased, TASKS.len());
    let after = schedule_of(&world);
    assert_eq!(Lease::of(&after), None);
    assert_eq!(after.runs.len(), TASKS.len());
}
