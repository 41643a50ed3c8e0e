//! Many parts of blobs, read at the same time from a store that has to be waited for.
//!
//! One after the other each part costs the time of a request and its answer, 100 ms where the store
//! is far; side by side they cost it once. A store that never waits is asked one by one. Memory:
//! some 300 bytes a part besides what the store holds for each request in flight.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use super::{BlobError, Storage};
use crate::kopia::blob_id::BlobId;

/// A part of a blob, and where its bytes are to go.
#[derive(Debug)]
pub struct BlobPart<'a> {
    /// The blob.
    pub id: &'a BlobId,
    /// Where the part begins.
    pub offset: u64,
    /// As many bytes as there are of it, at most.
    pub into: &'a mut [u8],
}

type Got = Result<usize, BlobError>;

impl Storage {
    /// Gets each part; returns what [`get`](Self::get) does for each, in their order. The caller
    /// bounds how many there are.
    pub fn get_each(&self, parts: Vec<BlobPart<'_>>) -> Vec<Got> {
        if !self.waits() || parts.len() <= 1 {
            let parts = parts.into_iter();
            return parts
                .map(|part| self.get(part.id, part.offset, part.into))
                .collect();
        }
        let count = parts.len();
        let get = |part| Box::pin(self.get_part(part)) as Pin<Box<dyn Future<Output = Got> + Send>>;
        let all = all_of(parts.into_iter().map(get).collect());
        match self.wait(Box::pin(async { Ok(all.await) })) {
            Ok(got) => got,
            // Only a runtime that cannot be made: then nothing was asked.
            Err(error) => {
                let told = |_| {
                    Err(BlobError::Setup {
                        location: self.location(),
                        reason: error.to_string(),
                    })
                };
                (0..count).map(told).collect()
            }
        }
    }

    async fn get_part(&self, part: BlobPart<'_>) -> Got {
        self.ask()?;
        let BlobPart { id, offset, into } = part;
        let counts = self.counts().of(id);
        counts.asks_for_bytes();
        let count = self.store().get(id, offset, into).await?;
        tracing::trace!(%id, offset, bytes = count, "get");
        counts.has_read(count);
        Ok(count)
    }
}

/// Waits for all of them, in any order; each is asked again whenever one of them may have come
/// further, so there should be few.
async fn all_of(mut futures: Vec<Pin<Box<dyn Future<Output = Got> + Send + '_>>>) -> Vec<Got> {
    let mut outcomes: Vec<Option<Got>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut all = true;
        for (future, outcome) in futures.iter_mut().zip(&mut outcomes) {
            if outcome.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(done) => *outcome = Some(done),
                    Poll::Pending => all = false,
                }
            }
        }
        if all { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outcomes.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::blob::{BlobMetadata, BlobSource, BlobStore, PutOptions};
    use crate::clock::Timestamp;

    /// A store that answers nobody before all are there.
    #[derive(Debug, Default)]
    struct Meeting {
        there: AtomicUsize,
        expected: usize,
    }

    #[async_trait]
    impl BlobStore for Meeting {
        async fn get(&self, id: &BlobId, offset: u64, into: &mut [u8]) -> Got {
            self.there.fetch_add(1, Ordering::SeqCst);
            while self.there.load(Ordering::SeqCst) < self.expected {
                tokio::task::yield_now().await;
            }
            if id.as_str() == "gone" {
                return Err(BlobError::not_found(id));
            }
            into.fill(offset as u8);
            Ok(into.len())
        }

        async fn metadata(&self, id: &BlobId) -> Result<BlobMetadata, BlobError> {
            Err(BlobError::not_found(id))
        }

        async fn list(
            &self,
            _: &str,
            _: Option<&BlobId>,
            _: usize,
        ) -> Result<Vec<BlobMetadata>, BlobError> {
            Ok(Vec::new())
        }

        async fn put(
            &self,
            id: &BlobId,
            _: &mut dyn BlobSource,
            _: &PutOptions,
        ) -> Result<Timestamp, BlobError> {
            Err(BlobError::not_found(id))
        }

        async fn delete(&self, _: &BlobId) -> Result<(), BlobError> {
            Ok(())
        }

        fn location(&self) -> String {
            String::new()
        }
    }

    #[test]
    fn parts_are_asked_for_at_the_same_time_and_come_in_order() {
        let store = Meeting {
            expected: 16,
            ..Meeting::default()
        };
        let storage = Storage::new(Arc::new(store));
        let ids: Vec<BlobId> = (0..16)
            .map(|number| BlobId::new(if number == 7 { "gone" } else { "q" }))
            .collect();
        let mut bytes = vec![0; 32];
        let parts = ids.iter().zip(bytes.chunks_mut(2)).enumerate();
        let parts = parts.map(|(offset, (id, into))| {
            let offset = offset as u64;
            BlobPart { id, offset, into }
        });
        let got = storage.get_each(parts.collect());
        for (number, got) in got.into_iter().enumerate() {
            match number {
                7 => assert!(got.unwrap_err().is_not_found()),
                _ => assert_eq!(got.unwrap(), 2),
            }
        }
        let expected = (0..32).map(|at| if at / 2 == 7 { 0 } else { at / 2 });
        assert_eq!(bytes, expected.collect::<Vec<u8>>());
        assert_eq!(storage.counters().gets, 16);
    }
}
