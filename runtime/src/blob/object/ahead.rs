//! Blobs that are asked for before somebody wants them.
//!
//! Small blobs cost a round trip each, so whoever knows what comes next says so, and answers are
//! fetched as far as their heads; bodies stay on the way until they are read, one request a blob
//! all the same. They move whenever any thread waits for the store. What is large is read piece by
//! piece: who says so in time makes one request of it, whose body stays open between the pieces,
//! and whose head tells the length of the blob. A blob that is put or deleted is asked for anew.
//! Memory: what [`AHEAD_MAX`] connections hold that nobody reads from, some 16 KiB each, and
//! [`OPEN_MAX`] bodies.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::{Method, Response};
use tokio::task::JoinHandle;

use super::Asker;
use super::bucket::Ask;
use super::read::OpenBody;
use super::wire::Kind;
use crate::blob::{BlobError, BlobMetadata};
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
    planned: VecDeque<(BlobId, Range<u64>)>,
    open: VecDeque<(BlobId, OpenBody)>,
}

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<State>);

impl Ahead {
    /// Remembers what will be asked for, once each; nothing is sent before the next call of
    /// [`Self::take`].
    pub(super) fn want(&self, ids: &[&BlobId]) {
        let mut state = self.state();
        for id in ids {
            if !state.is_known(id) {
                state.wanted.push_back((*id).clone());
            }
        }
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
            let fetch = state.withdraw(id);
            state.send(asker);
            fetch
        };
        // What went wrong is tried again as if nothing had been ahead.
        fetch?.await.ok()?.ok()
    }

    /// Remembers what will be read piece by piece; of too many the oldest goes. It is asked for
    /// with the first piece. What is part of it, and begins there, is planned with it.
    pub(super) fn plan(&self, id: &BlobId, range: Range<u64>) {
        let mut state = self.state();
        let has = |(planned, known): &(BlobId, Range<u64>)| {
            planned == id && known.start == range.start && known.end >= range.end
        };
        if state.planned.iter().any(has) {
            return;
        }
        state.planned.retain(|(planned, _)| planned != id);
        let goes_on = |(open, body): &(BlobId, OpenBody)| open == id && body.at() == range.start;
        if range.is_empty() || state.open.iter().any(goes_on) {
            return;
        }
        if state.planned.len() == OPEN_MAX {
            state.planned.pop_front();
        }
        state.planned.push_back((id.clone(), range));
    }

    /// Returns how far a blob will be read from `offset` on, once.
    pub(super) fn take_plan(&self, id: &BlobId, offset: u64) -> Option<u64> {
        let mut state = self.state();
        let begins =
            |(planned, range): &(BlobId, Range<u64>)| planned == id && range.start == offset;
        let at = state.planned.iter().position(begins)?;
        state.planned.remove(at).map(|(_, range)| range.end)
    }

    /// Keeps a body that has more; of too many the oldest goes.
    pub(super) fn leave_open(&self, id: &BlobId, body: Option<OpenBody>) {
        let Some(body) = body else { return };
        let mut state = self.state();
        if state.open.len() == OPEN_MAX {
            state.open.pop_front();
        }
        state.open.push_back((id.clone(), body));
    }

    /// Returns the open body of a blob if it goes on at `offset`; one that does not is let go.
    pub(super) fn go_on(&self, id: &BlobId, offset: u64) -> Option<OpenBody> {
        let mut state = self.state();
        let at = state.open.iter().position(|(open, _)| open == id)?;
        let (_, body) = state.open.remove(at)?;
        (body.at() == offset).then_some(body)
    }

    /// Returns what the head of an open body says of its blob.
    pub(super) fn metadata(&self, id: &BlobId) -> Option<BlobMetadata> {
        let state = self.state();
        let (_, body) = state.open.iter().find(|(open, _)| open == id)?;
        body.metadata(id)
    }

    /// Forgets what is known of a blob that changes.
    pub(super) fn forget(&self, id: &BlobId) {
        let mut state = self.state();
        state.planned.retain(|(planned, _)| planned != id);
        state.open.retain(|(open, _)| open != id);
        if let Some(fetch) = state.withdraw(id) {
            fetch.abort();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_known(&self, id: &BlobId) -> bool {
        self.wanted.contains(id) || self.fetched.iter().any(|(fetched, _)| fetched == id)
    }

    /// Takes a blob out of what is asked for ahead.
    fn withdraw(&mut self, id: &BlobId) -> Option<Fetch> {
        self.wanted.retain(|wanted| wanted != id);
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
            let (asker, name) = (Arc::clone(asker), id.clone());
            let fetch = tokio::spawn(async move { fetch(&asker, &name).await });
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

async fn fetch(asker: &Asker, id: &BlobId) -> Result<Response, BlobError> {
    let call = super::blob_call("get", id);
    let ask = Ask::new(Method::GET, Some(asker.bucket.key(id.as_str())));
    match asker.ask(Kind::Get, call, ask).await? {
        Ok(answer) => Ok(answer.into_response()),
        Err(refusal) => Err(refusal.into_error(call)),
    }
}
