//! Blobs that are asked for before somebody wants them.
//!
//! Small blobs cost a round trip each, so whoever knows what comes next says so, and answers are
//! fetched as far as their heads; bodies stay on the way until they are read, one request a blob
//! all the same. They move whenever any thread waits for the store. A large blob is read piece by
//! piece: between two of them its body stays open, so it is one request too. A blob that is put or
//! deleted is asked for anew. Memory: what [`AHEAD_MAX`] connections hold that nobody reads from,
//! some 16 KiB each, and [`OPEN_MAX`] bodies.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::{Method, Response};
use tokio::task::JoinHandle;

use super::Asker;
use super::bucket::Ask;
use super::read::OpenBody;
use super::wire::Kind;
use crate::blob::BlobError;
use crate::kopia::blob_id::BlobId;
use crate::memory::WORKERS;

/// Answers that wait to be read: with a tenth of a second for each round trip, some 300 a
/// second.
pub(super) const AHEAD_MAX: usize = 32;

/// Blobs of which is remembered that they will be asked for: more than an index load knows ahead.
const WANTED_MAX: usize = 256;

/// Bodies that stay open: each worker reads one blob at a time.
const OPEN_MAX: usize = WORKERS;

type Fetch = JoinHandle<Result<Response, BlobError>>;

#[derive(Debug, Default)]
struct State {
    wanted: VecDeque<BlobId>,
    fetched: VecDeque<(BlobId, Fetch)>,
    open: VecDeque<(BlobId, OpenBody)>,
}

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<State>);

impl Ahead {
    /// Remembers what will be asked for; nothing is sent before the next call of [`Self::take`].
    pub(super) fn want(&self, ids: &[&BlobId]) {
        let mut state = self.state();
        state.wanted.extend(ids.iter().map(|id| (*id).clone()));
        let too_many = state.wanted.len().saturating_sub(WANTED_MAX);
        state.wanted.drain(..too_many);
    }

    /// Returns the answer to a request for `id` that was sent ahead, and sends others. Inside a
    /// runtime only.
    pub(super) async fn take(&self, asker: &Arc<Asker>, id: &BlobId) -> Option<Response> {
        let fetch = {
            let mut state = self.state();
            if state.wanted.is_empty() && state.fetched.is_empty() {
                return None;
            }
            // One that is wanted and was not sent is asked for whole, as those that were.
            let is_wanted = state.wanted.contains(id);
            let fetch = state.forget(id);
            state.send(asker);
            fetch.or_else(|| is_wanted.then(|| spawn(asker, id)))
        };
        // What went wrong is tried again as if nothing had been ahead.
        fetch?.await.ok()?.ok()
    }

    /// Keeps a body that may have more; of too many the oldest goes.
    pub(super) fn leave_open(&self, id: &BlobId, body: OpenBody) {
        let mut state = self.state();
        if state.open.len() == OPEN_MAX {
            state.open.pop_front();
        }
        state.open.push_back((id.clone(), body));
    }

    /// Returns the open body of a blob if it goes on at `offset`.
    pub(super) fn go_on(&self, id: &BlobId, offset: u64) -> Option<OpenBody> {
        let mut state = self.state();
        let fits = |(open, body): &(BlobId, OpenBody)| open == id && body.at() == offset;
        let at = state.open.iter().position(fits)?;
        state.open.remove(at).map(|(_, body)| body)
    }

    /// Forgets what is known of a blob that changes.
    pub(super) fn forget(&self, id: &BlobId) {
        if let Some(fetch) = self.state().forget(id) {
            fetch.abort();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self, id: &BlobId) -> Option<Fetch> {
        self.wanted.retain(|wanted| wanted != id);
        self.open.retain(|(open, _)| open != id);
        let at = self.fetched.iter().position(|(fetched, _)| fetched == id)?;
        self.fetched.remove(at).map(|(_, fetch)| fetch)
    }

    /// Sends requests as long as there is room; what nobody fetched has to make room in the end.
    fn send(&mut self, asker: &Arc<Asker>) {
        while let Some(id) = self.wanted.pop_front() {
            if self.fetched.len() >= AHEAD_MAX {
                self.wanted.push_front(id);
                break;
            }
            let fetch = spawn(asker, &id);
            self.fetched.push_back((id, fetch));
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        for (_, fetch) in &self.fetched {
            fetch.abort();
        }
    }
}

fn spawn(asker: &Arc<Asker>, id: &BlobId) -> Fetch {
    let (asker, name) = (Arc::clone(asker), id.clone());
    tokio::spawn(async move { fetch(&asker, &name).await })
}

async fn fetch(asker: &Asker, id: &BlobId) -> Result<Response, BlobError> {
    let call = super::blob_call("get", id);
    let ask = Ask::new(Method::GET, Some(asker.bucket.key(id.as_str())));
    match asker.ask(Kind::Get, call, ask).await? {
        Ok(answer) => Ok(answer.into_response()),
        Err(refusal) => Err(refusal.into_error(call)),
    }
}
