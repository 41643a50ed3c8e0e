//! Blobs in S3, Google Cloud Storage and Azure.
//!
//! A put is one request, streamed from its source; a get fills the caller's buffer and goes on
//! where it broke off; a listing is one request a page. What is relied on: these stores show a put,
//! a delete and a listing to everybody as soon as they answered (S3 since 2020), list in order of
//! names, and never show half a blob. Timestamps are the store's, in whole seconds. Object locks
//! are set on S3 and on Azure. Memory: [`request_bytes`] for each request in flight, a page of a
//! listing up to [`PAGE_BYTES`]. Mirrors Kopia's `repo/blob/s3`, `gcs` and `azure`.

mod answer;
mod bucket;
pub mod connect;
pub mod credentials;
mod folders;
mod gate;
mod listing;
pub mod location;
mod locks;
mod pace;
pub mod probe;
pub mod region;
pub mod tls;
mod upload;
mod wire;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use md5::{Digest, Md5};
use reqwest::Method;
use sha2::Sha256;

use self::answer::Call;
use self::bucket::{Ask, Payload};
use self::listing::{Page, parse_page};
use self::wire::{Answer, Kind};
use super::source::copy_source;
use super::store::{check_limit, check_name};
use super::{
    BlobError, BlobMetadata, BlobSource, BlobStore, PutOptions, Retention, RetryPolicy,
    RetryingStore, Traffic,
};
use crate::clock::Timestamp;
use crate::kopia::blob_id::BlobId;

use self::bucket::Bucket;
use self::connect::Credentials;
use self::location::Location;

pub use wire::{Wire, WireLimits, request_bytes};

/// Longest answer to a listing: S3's page of 1,000 names of 1,024 bytes, each escaped.
pub const PAGE_BYTES: usize = 4 << 20;

/// Offsets behind this are behind the end of every blob that a store takes.
const FARTHEST: u64 = 1 << 50;

/// How often one get goes on after its body broke off; each time some bytes must have come.
const RESUMES_MAX: u32 = 20;

/// Listings of which is remembered where they go on. More than run at once.
const MARKS_MAX: usize = 16;

/// Where a listing goes on, for stores that cannot begin behind a name.
#[derive(Debug)]
struct Mark {
    prefix: String,
    last: BlobId,
    next: String,
}

/// A bucket as a store. Nothing is tried again: wrap it into a [`super::RetryingStore`].
#[derive(Debug)]
pub struct ObjectStore {
    bucket: Bucket,
    wire: Arc<Wire>,
    marks: Mutex<VecDeque<Mark>>,
}

/// How far one request of a get came.
enum Part {
    /// To its end, with this many bytes.
    Whole(usize),
    /// It broke off after this many bytes.
    Broken(usize, BlobError),
    /// The blob is another one by now.
    Changed,
}

/// Opens a place as maintenance uses it: within `limits`, and patient. Nothing is asked yet.
///
/// Errors: a place or credentials that cannot be used.
pub fn open(
    place: &Location,
    credentials: &Credentials,
    limits: &WireLimits,
) -> Result<Arc<dyn BlobStore>, BlobError> {
    let wire = Arc::new(Wire::new(place.transport(), limits)?);
    let store = ObjectStore::new(place, credentials, wire)?;
    Ok(Arc::new(RetryingStore::with_policy(
        store,
        RetryPolicy::patient(),
    )))
}

impl ObjectStore {
    /// Makes the store of a place; nothing is asked yet. Errors: credentials of another kind of
    /// store.
    pub fn new(
        place: &Location,
        credentials: &Credentials,
        wire: Arc<Wire>,
    ) -> Result<Self, BlobError> {
        Ok(Self {
            bucket: Bucket::new(place, credentials)?,
            wire,
            marks: Mutex::default(),
        })
    }

    /// Sends a request without a body, or with a small one in it.
    async fn ask<'a>(
        &'a self,
        kind: Kind,
        call: Call<'a>,
        ask: Ask,
    ) -> Result<Result<Answer<'a>, answer::Refusal>, BlobError> {
        let turn = self.wire.turn(kind, call, 0).await?;
        let request = self.bucket.sign(call, ask, Payload::InRequest).await?;
        turn.ask(request).await
    }

    /// Reads as far as one request comes.
    async fn get_part(
        &self,
        call: Call<'_>,
        from: u64,
        into: &mut [u8],
        version: &mut Option<String>,
    ) -> Result<Part, BlobError> {
        let to = from + into.len() as u64 - 1;
        let mut ask = Ask::new(Method::GET, Some(self.bucket.key(call.id)))
            .header("range", format!("bytes={from}-{to}"));
        if let Some(version) = version.as_deref() {
            ask = ask.header("if-match", version);
        }
        let mut answer = match self.ask(Kind::Get, call, ask).await? {
            Ok(answer) => answer,
            Err(refusal) if refusal.status == 416 => return Ok(Part::Whole(0)),
            Err(refusal) if refusal.status == 412 && version.is_some() => return Ok(Part::Changed),
            Err(refusal) => return Err(refusal.into_error(call)),
        };
        *version = answer.header("etag").map(str::to_owned);
        // Without a range, what comes is the blob from its first byte.
        let expected = match answer
            .header("content-range")
            .map(|text| covers(text, from))
        {
            Some(Some(total)) => Some((total - from).min(into.len() as u64)),
            Some(None) => return Err(answer.nonsense("another range than was asked for came")),
            None if from == 0 => None,
            None => {
                return Err(BlobError::Unsupported {
                    operation: call.operation,
                    id: call.id.to_owned(),
                    what: "ranges",
                });
            }
        };
        let mut filled = 0;
        while filled < into.len() {
            let bytes = match answer.chunk().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break,
                Err(error) => return Ok(Part::Broken(filled, error)),
            };
            let count = bytes.len().min(into.len() - filled);
            into[filled..filled + count].copy_from_slice(&bytes[..count]);
            filled += count;
        }
        if expected.is_some_and(|expected| expected > filled as u64) {
            let error = answer.nonsense("fewer bytes came than were promised");
            return Ok(Part::Broken(filled, error));
        }
        Ok(Part::Whole(filled))
    }

    /// Asks for one page behind `after`, or from `next` on.
    async fn page(
        &self,
        call: Call<'_>,
        prefix: &str,
        after: Option<&BlobId>,
        next: Option<&str>,
        limit: usize,
    ) -> Result<Page, BlobError> {
        let after = after.map(BlobId::as_str);
        let ask = self.bucket.ask_list(prefix, after, next, limit);
        let answer = match self.ask(Kind::List, call, ask).await? {
            Ok(answer) => answer,
            Err(refusal) => return Err(refusal.into_error(call)),
        };
        let text = answer.text(PAGE_BYTES).await?;
        parse_page(&text).map_err(|reason| BlobError::Transient {
            operation: call.operation,
            id: call.id.to_owned(),
            reason: reason.to_owned(),
        })
    }

    fn marks(&self) -> MutexGuard<'_, VecDeque<Mark>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_mark(&self, prefix: &str, after: Option<&BlobId>) -> Option<String> {
        let mut marks = self.marks();
        let at = marks
            .iter()
            .position(|mark| mark.prefix == prefix && Some(&mark.last) == after)?;
        marks.remove(at).map(|mark| mark.next)
    }

    fn keep_mark(&self, prefix: &str, page: &[BlobMetadata], next: Option<String>) {
        let (Some(last), Some(next)) = (page.last(), next) else {
            return;
        };
        let mut marks = self.marks();
        marks.truncate(MARKS_MAX - 1);
        marks.push_front(Mark {
            prefix: prefix.to_owned(),
            last: last.id.clone(),
            next,
        });
    }

    /// Sends the put itself and returns the store's time.
    async fn send(
        &self,
        call: Call<'_>,
        source: &mut dyn BlobSource,
        options: &PutOptions,
    ) -> Result<Option<Timestamp>, BlobError> {
        let length = source.len();
        let mut ask = self.bucket.ask_put(call.id, length, options.create_only);
        let mut payload = Payload::Streamed;
        if !self.bucket.is_protected() || options.retention.is_some() {
            let digests =
                Digests::of(source).map_err(|error| BlobError::io("put", call.id, error))?;
            payload = Payload::Digested(digests.sha256);
            ask = ask.header("content-md5", digests.md5);
        }
        if let Some(retention) = &options.retention {
            ask = self.lock_with_put(call, ask, retention)?;
        }
        let turn = self.wire.turn(Kind::Put, call, length).await?;
        let request = self.bucket.sign(call, ask, payload).await?;
        match turn.ask_with(request, source).await? {
            Ok(answer) => {
                let time = answer.header("last-modified");
                Ok(time.or_else(|| answer.header("date")).and_then(moment))
            }
            Err(refusal) => Err(self.lock_refusal(call, refusal, options.retention.is_some())),
        }
    }
}

#[async_trait]
impl BlobStore for ObjectStore {
    async fn get(&self, id: &BlobId, offset: u64, into: &mut [u8]) -> Result<usize, BlobError> {
        check_name(id)?;
        if into.is_empty() || offset > FARTHEST {
            return self.metadata(id).await.map(|_| 0);
        }
        let call = blob_call("get", id);
        let (mut filled, mut version, mut resumes) = (0, None, 0);
        loop {
            let from = offset + filled as u64;
            let part = self.get_part(call, from, &mut into[filled..], &mut version);
            match part.await? {
                Part::Whole(count) => return Ok(filled + count),
                Part::Broken(count, error) if count == 0 || resumes == RESUMES_MAX => {
                    return Err(error);
                }
                Part::Broken(count, error) => {
                    tracing::debug!(%error, filled, "going on where it broke off");
                    filled += count;
                }
                Part::Changed => (filled, version) = (0, None),
            }
            resumes += 1;
            if filled == into.len() {
                return Ok(filled);
            }
        }
    }

    async fn metadata(&self, id: &BlobId) -> Result<BlobMetadata, BlobError> {
        check_name(id)?;
        let call = blob_call("metadata", id);
        let ask = Ask::new(Method::HEAD, Some(self.bucket.key(id.as_str())));
        let answer = match self.ask(Kind::Head, call, ask).await? {
            Ok(answer) => answer,
            Err(refusal) => return Err(refusal.into_error(call)),
        };
        let length = answer.header("content-length").map(str::parse);
        let timestamp = answer.header("last-modified").and_then(moment);
        match (length, timestamp) {
            (Some(Ok(length)), Some(timestamp)) => Ok(BlobMetadata {
                id: id.clone(),
                length,
                timestamp,
            }),
            _ => Err(answer.nonsense("the answer has no length or no time")),
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BlobId>,
        limit: usize,
    ) -> Result<Vec<BlobMetadata>, BlobError> {
        check_limit(prefix, limit)?;
        let shown = format!("{prefix}*");
        let call = Call {
            operation: "list",
            id: &shown,
            is_blob: false,
        };
        let mut page: Vec<BlobMetadata> = Vec::new();
        let mut next = self.take_mark(prefix, after);
        let mut last_key: Option<String> = None;
        while page.len() < limit {
            let wanted = limit - page.len();
            let part = self.page(call, prefix, after, next.as_deref(), wanted);
            let part = part.await?;
            for object in part.objects {
                if last_key.as_ref().is_some_and(|last| *last >= object.key) {
                    return Err(unsorted(call));
                }
                let name = object.key.strip_prefix(&self.bucket.prefix);
                // A foreign object: none of a repository has a slash in its name.
                if let Some(name) = name.filter(|name| !name.is_empty() && !name.contains('/'))
                    && after.is_none_or(|after| name > after.as_str())
                {
                    page.push(BlobMetadata {
                        id: BlobId::new(name),
                        length: object.length,
                        timestamp: object.timestamp,
                    });
                }
                last_key = Some(object.key);
            }
            if part.next.is_none() || part.next == next {
                return Ok(page);
            }
            next = part.next;
        }
        if self.bucket.is_azure() {
            self.keep_mark(prefix, &page, next);
        }
        Ok(page)
    }

    async fn put(
        &self,
        id: &BlobId,
        source: &mut dyn BlobSource,
        options: &PutOptions,
    ) -> Result<Timestamp, BlobError> {
        check_name(id)?;
        let call = blob_call("put", id);
        let timestamp = self.send(call, source, options).await?;
        if let Some(retention) = &options.retention {
            self.lock_after_put(call, retention).await?;
        }
        match timestamp {
            Some(timestamp) => Ok(timestamp),
            None => Ok(self.metadata(id).await?.timestamp),
        }
    }

    async fn delete(&self, id: &BlobId) -> Result<(), BlobError> {
        check_name(id)?;
        let call = blob_call("delete", id);
        let ask = Ask::new(Method::DELETE, Some(self.bucket.key(id.as_str())));
        match self.ask(Kind::Delete, call, ask).await? {
            Ok(_) => Ok(()),
            Err(refusal) => match refusal.into_error(call) {
                BlobError::NotFound { .. } => Ok(()),
                error => Err(error),
            },
        }
    }

    async fn extend_retention(&self, id: &BlobId, to: &Retention) -> Result<(), BlobError> {
        check_name(id)?;
        self.lock(blob_call("extend retention", id), to).await
    }

    fn location(&self) -> String {
        self.bucket.location.clone()
    }

    fn traffic(&self) -> Option<Traffic> {
        Some(self.wire.traffic())
    }
}

/// Digests of a whole source, as headers want them.
struct Digests {
    sha256: [u8; 32],
    md5: String,
}

impl Digests {
    fn of(source: &mut dyn BlobSource) -> std::io::Result<Self> {
        let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
        copy_source(source, |piece| {
            sha256.update(piece);
            md5.update(piece);
            Ok(())
        })?;
        Ok(Self {
            sha256: sha256.finalize().into(),
            md5: base64_of(&md5.finalize()),
        })
    }
}

fn base64_of(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}

fn blob_call<'a>(operation: &'static str, id: &'a BlobId) -> Call<'a> {
    Call {
        operation,
        id: id.as_str(),
        is_blob: true,
    }
}

fn unsorted(call: Call<'_>) -> BlobError {
    BlobError::Unsupported {
        operation: call.operation,
        id: call.id.to_owned(),
        what: "listings in the order of names",
    }
}

/// Returns the length of the whole blob if the range begins at `from`: `bytes 0-9/100`.
fn covers(content_range: &str, from: u64) -> Option<u64> {
    let (range, total) = content_range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total: u64 = total.parse().ok()?;
    (first.parse() == Ok(from) && total >= from).then_some(total)
}

/// Parses a time of an answer, in any of the forms that stores use, to whole seconds.
fn moment(text: &str) -> Option<Timestamp> {
    let seconds = match jiff::fmt::rfc2822::parse(text) {
        Ok(zoned) => zoned.timestamp().as_second(),
        Err(_) => Timestamp::parse(text)?.seconds(),
    };
    Some(Timestamp::from_seconds(seconds))
}

#[cfg(test)]
mod tests;
