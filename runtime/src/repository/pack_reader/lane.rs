//! One worker of a [`PackReader`](super::PackReader) and the way there and back.
//!
//! It fetches the bytes of a batch and works on them. Memory: the batches that are on their way, at
//! most [`BATCHES_A_WORKER`] either way. Invariant: batches come back in the order in which they
//! were sent; an error comes in its turn and ends the worker.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::blob::Storage;
use crate::repository::RepositoryError;

use super::{Aside, BATCHES_A_WORKER, PackBatch};

/// A worker and the way there and back.
pub(super) struct Lane {
    to: SyncSender<PackBatch>,
    from: Receiver<Result<PackBatch, RepositoryError>>,
}

impl Lane {
    pub(super) fn start<'scope, W>(
        scope: &'scope std::thread::Scope<'scope, '_>,
        storage: &'scope Storage,
        aside: Aside<'scope>,
        mut worker: W,
    ) -> Self
    where
        W: FnMut(&mut PackBatch) -> Result<(), RepositoryError> + Send + 'scope,
    {
        let (to, batches) = sync_channel::<PackBatch>(BATCHES_A_WORKER);
        let (done, from) = sync_channel(BATCHES_A_WORKER);
        scope.spawn(move || {
            while let Ok(mut batch) = batches.recv() {
                let worked = batch
                    .fetch(storage, aside)
                    .and_then(|()| worker(&mut batch));
                let failed = worked.is_err();
                if done.send(worked.map(|()| batch)).is_err() || failed {
                    return; // nobody takes any more
                }
            }
        });
        Self { to, from }
    }

    pub(super) fn send(&self, batch: PackBatch) -> Result<(), RepositoryError> {
        // A worker that has ended left its error on the way back, which is taken in its turn.
        let _ = self.to.send(batch);
        Ok(())
    }

    pub(super) fn receive(&self) -> Result<PackBatch, RepositoryError> {
        self.from
            .recv()
            .unwrap_or(Err(RepositoryError::Interrupted))
    }
}
