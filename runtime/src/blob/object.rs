//! Blobs in S3, Google Cloud Storage and Azure.
//!
//! A put is one request, streamed from its source; a get fills the caller's buffer and goes on
//! where it broke off; a listing is one request a page. What is relied on: these stores show a put,
//! a delete and a listing to everybody as soon as they answered (S3 since 2020), list in order of
//! names, and never show half a blob. Timestamps are the store's, in whole seconds. Object locks
//! are set on S3 and on Azure. Memory: buffers of requests ([`wire`]), a page of a listing up to
//! [`PAGE_BYTES`]. Mirrors Kopia's `repo/blob/s3`, `gcs` and `azure`.

mod ahead;
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
mod read;
pub mod region;
mod replace;
mod storage_config;
pub mod tls;
mod upload;
mod wire;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use reqwest::Method;
use tokio::sync::OnceCell;

use self::ahead::Ahead;
use self::answer::{Call, Refusal};
use self::bucket::{Ask, Condition, Payload};
use self::listing::{Page, is_web_page, kept_time, parse_page};
use self::read::NoBytes;
use self::replace::Conditions;
use self::storage_config::{STORAGE_CONFIG, StorageConfig};
use self::upload::Digests;
use self::wire::{Answer, Kind};
use super::store::{check_limit, check_name};
use super::{
    BlobError, BlobMetadata, BlobSource, BlobStore, BlobVersion, PutOptions, Replaced, Retention,
    RetryingStore, Traffic,
};
use crate::clock::Timestamp;
use crate::kopia::blob_id::BlobId;

use self::bucket::Bucket;
use self::connect::Credentials;
use self::location::Location;

pub use wire::{Wire, WireLimits};

/// Longest answer to a listing: S3's page of 1,000 names of 1,024 bytes, each escaped.
pub const PAGE_BYTES: usize = 2 << 20;

/// Offsets behind this are behind the end of every blob that a store takes.
const FARTHEST: u64 = 1 << 50;

/// The time that Kopia kept of a blob, in Azure.
const KEPT_HEADER: &str = "x-ms-meta-kopiamtime";

/// How often one get goes on after its body broke off; each time some bytes must have come.
const RESUMES_MAX: u32 = 20;

/// Listings of which is remembered where they go on. More than run at once.
const MARKS_MAX: usize = 16;

/// What is said of a server that answers a person instead of a program, such as a store's console.
const WEB_PAGE: &str = "it answered with a web page";

/// Where a listing goes on, for stores that cannot begin behind a name.
#[derive(Debug)]
struct Mark {
    prefix: String,
    last: BlobId,
    next: String,
}

/// Where to ask, and by what way.
#[derive(Debug)]
struct Asker {
    bucket: Bucket,
    wire: Arc<Wire>,
}

/// A bucket as a store. Nothing is tried again: wrap it into a [`super::RetryingStore`].
#[derive(Debug)]
pub struct ObjectStore {
    asker: Arc<Asker>,
    ahead: Ahead,
    marks: Mutex<VecDeque<Mark>>,
    conditions: Conditions,
    storage_config: OnceCell<StorageConfig>,
}

/// Opens a place within `limits`. Nothing is asked yet.
///
/// Errors: a place or credentials that cannot be used.
pub fn open(
    place: &Location,
    credentials: &Credentials,
    limits: &WireLimits,
) -> Result<Arc<dyn BlobStore>, BlobError> {
    let wire = Arc::new(Wire::new(place.transport(), limits, credentials)?);
    let store = ObjectStore::new(place, credentials, wire)?;
    Ok(Arc::new(RetryingStore::with_policy(store, limits.retries)))
}

impl Asker {
    /// Sends a request without a body, or with a small one in it.
    async fn ask<'a>(
        &'a self,
        kind: Kind,
        call: Call<'a>,
        ask: Ask,
    ) -> Result<Result<Answer<'a>, Refusal>, BlobError> {
        let turn = self.wire.turn(kind, call, 0).await?;
        let request = self.bucket.sign(call, ask, Payload::InRequest).await?;
        turn.ask(request).await
    }
}

impl ObjectStore {
    /// Makes the store of a place; nothing is asked yet. Errors: credentials of another kind of
    /// store.
    pub fn new(
        place: &Location,
        credentials: &Credentials,
        wire: Arc<Wire>,
    ) -> Result<Self, BlobError> {
        let bucket = Bucket::new(place, credentials)?;
        Ok(Self {
            asker: Arc::new(Asker { bucket, wire }),
            ahead: Ahead::default(),
            marks: Mutex::default(),
            conditions: Conditions::default(),
            storage_config: OnceCell::new(),
        })
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
        let ask = self.asker.bucket.ask_list(prefix, after, next, limit);
        let answer = match self.asker.ask(Kind::List, call, ask).await? {
            Ok(answer) => answer,
            Err(refusal) => return Err(refusal.into_error(call)),
        };
        let text = answer.text(PAGE_BYTES).await?;
        parse_page(&text).map_err(|reason| {
            let (operation, id) = (call.operation, call.id.to_owned());
            match is_web_page(&text) {
                true => BlobError::Refused {
                    operation,
                    id,
                    reason: WEB_PAGE.to_owned(),
                },
                false => BlobError::Transient {
                    operation,
                    id,
                    reason: reason.to_owned(),
                },
            }
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

    /// Sends the put itself and returns the answer to it.
    async fn send<'a>(
        &'a self,
        call: Call<'a>,
        source: &mut dyn BlobSource,
        options: &PutOptions,
        condition: Condition<'_>,
    ) -> Result<Result<Answer<'a>, Refusal>, BlobError> {
        let (length, class) = (source.len(), self.class_of(call).await?);
        let bucket = &self.asker.bucket;
        let mut ask = bucket.ask_put(call.id, length, condition, class);
        let mut payload = Payload::Streamed;
        if !bucket.is_protected() || options.retention.is_some() {
            let digests =
                Digests::of(source).map_err(|error| BlobError::io("put", call.id, error))?;
            payload = Payload::Digested(digests.sha256);
            ask = ask.header("content-md5", digests.md5);
        }
        if let Some(retention) = &options.retention {
            ask = self.lock_with_put(call, ask, retention)?;
        }
        let turn = self.asker.wire.turn(Kind::Put, call, length).await?;
        let request = bucket.sign(call, ask, payload).await?;
        turn.ask_with(request, source).await
    }
}

#[async_trait]
impl BlobStore for ObjectStore {
    fn will_need(&self, ids: &[&BlobId]) {
        self.ahead.want(ids);
    }

    fn will_read(&self, id: &BlobId, range: Range<u64>) {
        self.ahead.plan(id, range);
    }

    async fn get(&self, id: &BlobId, offset: u64, into: &mut [u8]) -> Result<usize, BlobError> {
        check_name(id)?;
        if into.is_empty() || offset > FARTHEST {
            return self.metadata(id).await.map(|_| 0);
        }
        let call = blob_call("get", id);
        let mut open = self.begun(id, call, offset).await?;
        let least = offset + into.len() as u64;
        let planned = match &open {
            Some(reading) => reading.end(),
            None => self.ahead.take_plan(id, offset),
        };
        let until = planned.unwrap_or(least).max(least);
        let (mut filled, mut version, mut resumes) = (0, None, 0);
        while filled < into.len() {
            let from = offset + filled as u64;
            let was_open = open.is_some();
            let asked = match open.take() {
                Some(reading) => Ok(reading),
                None => self.ask_for(call, from..until, version.as_deref()).await?,
            };
            let mut reading = match asked {
                Ok(reading) => reading,
                Err(NoBytes::Behind) => break,
                Err(NoBytes::Changed) => {
                    (filled, version) = (0, None);
                    continue;
                }
            };
            version = reading.version();
            let before = filled;
            match reading.fill(into, &mut filled).await {
                Ok(()) => {
                    self.ahead.leave_open(id, reading.into_open());
                    break;
                }
                // Nobody read from it for a while, perhaps: it is asked for again.
                Err(_) if was_open && filled == before => {}
                Err(error) if filled == before || resumes == RESUMES_MAX => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, filled, "going on where it broke off");
                    resumes += 1;
                }
            }
        }
        Ok(filled)
    }

    async fn metadata(&self, id: &BlobId) -> Result<BlobMetadata, BlobError> {
        check_name(id)?;
        if let Some(metadata) = self.ahead.metadata(id) {
            return Ok(metadata);
        }
        let call = blob_call("metadata", id);
        let ask = Ask::new(Method::HEAD, Some(self.asker.bucket.key(id.as_str())));
        let answer = match self.asker.ask(Kind::Head, call, ask).await? {
            Ok(answer) => answer,
            Err(refusal) => return Err(refusal.into_error(call)),
        };
        metadata_of(id, |name| answer.header(name))
            .ok_or_else(|| answer.nonsense("the answer has no length or no time"))
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
                let name = object.key.strip_prefix(&self.asker.bucket.prefix);
                // Foreign objects: none of a repository has a slash in its name.
                let is_own = |name: &&str| {
                    !name.is_empty() && !name.contains('/') && *name != STORAGE_CONFIG
                };
                if let Some(name) = name.filter(is_own)
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
        if self.asker.bucket.is_azure() {
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
        self.ahead.forget(id);
        let call = blob_call("put", id);
        let condition = match options.create_only {
            true => Condition::Absent,
            false => Condition::None,
        };
        let timestamp = match self.send(call, source, options, condition).await? {
            Ok(answer) => {
                let time = answer.header("last-modified");
                time.or_else(|| answer.header("date")).and_then(moment)
            }
            Err(refusal) => {
                return Err(self.lock_refusal(call, refusal, options.retention.is_some()));
            }
        };
        if let Some(retention) = &options.retention {
            self.lock_after_put(call, retention).await?;
        }
        match timestamp {
            Some(timestamp) => Ok(timestamp),
            None => Ok(self.metadata(id).await?.timestamp),
        }
    }

    async fn get_version(
        &self,
        id: &BlobId,
        into: &mut [u8],
    ) -> Result<(usize, Option<BlobVersion>), BlobError> {
        check_name(id)?;
        self.read_version(id, into).await
    }

    async fn replace(
        &self,
        id: &BlobId,
        bytes: &[u8],
        expected: &BlobVersion,
    ) -> Result<Replaced, BlobError> {
        check_name(id)?;
        self.ahead.forget(id);
        self.replace_version(id, bytes, expected).await
    }

    async fn delete(&self, id: &BlobId) -> Result<(), BlobError> {
        check_name(id)?;
        self.ahead.forget(id);
        let call = blob_call("delete", id);
        let ask = Ask::new(Method::DELETE, Some(self.asker.bucket.key(id.as_str())));
        match self.asker.ask(Kind::Delete, call, ask).await? {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.is_immutable() => self.delete_immutable(call).await,
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
        self.asker.bucket.location.clone()
    }

    fn traffic(&self) -> Option<Traffic> {
        Some(self.asker.wire.traffic())
    }
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

/// Returns what the head of an answer to a get or a look says of a blob, if it says all.
fn metadata_of<'h>(
    id: &BlobId,
    header: impl Fn(&'static str) -> Option<&'h str>,
) -> Option<BlobMetadata> {
    let kept = header(KEPT_HEADER).and_then(kept_time);
    Some(BlobMetadata {
        id: id.clone(),
        length: header("content-length")?.parse().ok()?,
        timestamp: kept.or_else(|| header("last-modified").and_then(moment))?,
    })
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
