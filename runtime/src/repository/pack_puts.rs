//! Puts finished packs into the store while the next one is filled.
//!
//! [`PUTS_AT_ONCE`] threads take packs from a queue without room: whoever is faster than the store
//! waits. The first error stops all of them. Memory: one buffer for each thread; the packs lie in
//! scratch, or unseen in the store. Invariant: [`PackPuts::finish`] succeeds only when every pack
//! was put.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::blob::{PutOptions, Storage};
use crate::kopia::blob_id::BlobId;

use super::pack_bytes::PackBytes;
use super::sealing::put_options;
use super::{Repository, RepositoryError};

/// Packs on their way at the same time: a store far away is not held back by one connection.
const PUTS_AT_ONCE: usize = 2;

/// A pack to put.
struct Job {
    name: BlobId,
    bytes: PackBytes,
    options: PutOptions,
}

/// Packs on their way into the store.
pub(super) struct PackPuts {
    queue: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<Result<(), RepositoryError>>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    failed: AtomicBool,
    bytes: AtomicU64,
}

impl PackPuts {
    /// Starts the threads.
    pub(super) fn start(storage: &Storage) -> Self {
        let (queue, jobs) = sync_channel(0);
        let jobs = Arc::new(Mutex::new(jobs));
        let state = Arc::new(State::default());
        let threads = (0..PUTS_AT_ONCE)
            .map(|_| {
                let (storage, jobs, state) = (storage.clone(), jobs.clone(), state.clone());
                std::thread::spawn(move || work(&storage, &jobs, &state))
            })
            .collect();
        Self {
            queue: Some(queue),
            threads,
            state,
        }
    }

    /// Hands a pack over; waits while all threads are at work.
    ///
    /// # Errors
    /// `Interrupted` after a put that failed; [`PackPuts::finish`] tells why.
    pub(super) fn put(
        &self,
        repository: &Repository,
        name: BlobId,
        bytes: PackBytes,
    ) -> Result<(), RepositoryError> {
        let options = put_options(repository, &name);
        let job = Job {
            name,
            bytes,
            options,
        };
        let queue = self.queue.as_ref().ok_or(RepositoryError::Interrupted)?;
        if self.state.failed.load(Ordering::Acquire) || queue.send(job).is_err() {
            return Err(RepositoryError::Interrupted);
        }
        Ok(())
    }

    /// Returns why a put failed.
    pub(super) fn cause(&mut self) -> RepositoryError {
        self.join().err().unwrap_or(RepositoryError::Interrupted)
    }

    /// Waits until all packs are in the store, durable; returns their bytes.
    ///
    /// # Errors
    /// Why a put failed; `Interrupted` where that was told before.
    pub(super) fn finish(mut self) -> Result<u64, RepositoryError> {
        self.join()?;
        if self.state.failed.load(Ordering::Acquire) {
            return Err(RepositoryError::Interrupted);
        }
        Ok(self.state.bytes.load(Ordering::Acquire))
    }

    fn join(&mut self) -> Result<(), RepositoryError> {
        self.queue = None;
        let mut outcome = Ok(());
        for thread in self.threads.drain(..) {
            let ended = thread.join().unwrap_or(Err(RepositoryError::Interrupted));
            outcome = outcome.and(ended);
        }
        outcome
    }
}

impl Drop for PackPuts {
    /// Nothing is written any more when a failed task has returned.
    fn drop(&mut self) {
        self.state.failed.store(true, Ordering::Release);
        let _ = self.join();
    }
}

fn work(
    storage: &Storage,
    jobs: &Mutex<Receiver<Job>>,
    state: &State,
) -> Result<(), RepositoryError> {
    loop {
        let job = {
            let jobs = jobs.lock().map_err(|_| RepositoryError::Interrupted)?;
            jobs.recv()
        };
        let Ok(job) = job else { return Ok(()) };
        if state.failed.load(Ordering::Acquire) {
            continue; // emptied, so that nobody waits for room
        }
        let bytes = job.bytes.len();
        if let Err(error) = job.bytes.put(storage, &job.name, &job.options) {
            state.failed.store(true, Ordering::Release);
            return Err(error);
        }
        state.bytes.fetch_add(bytes, Ordering::AcqRel);
    }
}
