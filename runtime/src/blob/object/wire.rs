//! The one way to the store: every request, and every try of it, goes through here.
//!
//! It waits for its turn (pace, requests in flight), is refused when a budget is used up, is given
//! up when nothing comes or goes for a while, and is counted. Nothing is tried again here:
//! [`crate::blob::RetryingStore`] does that, for all stores, so `object_store`'s own tries are not
//! used. Memory: for each request in flight the buffers of HTTP and TLS, some 50 KiB, and up to 400
//! KiB where a large body is read.

use std::error::Error;
use std::fmt::Write;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use object_store::client::{HttpClient, HttpConnector, HttpRequest};
use reqwest::header::HeaderMap;
use reqwest::{Client, Request, Response};

use super::answer::{Call, EXCERPT_BYTES, Refusal};
use super::bucket::header;
use super::connect::Credentials;
use super::gate::{Gate, Place};
use super::location::Transport;
use super::moment;
use super::pace::{Budget, Pace};
use super::tls::client_builder;
use super::upload::{body, stalled};
use crate::blob::{BlobError, BlobSource, RetryPolicy, Traffic};
use crate::clock::{Clock, SystemClock};
use crate::kopia::blob_id::MAINTENANCE;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long an unused connection is kept: shorter than stores keep theirs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Requests in flight at most, where nothing else is said: as many as are sent ahead of an index
/// load.
const IN_FLIGHT_MAX: usize = 32;

/// How much a store is asked.
#[derive(Clone, Debug)]
pub struct WireLimits {
    /// Requests in a second, at most.
    pub max_requests_per_second: Option<u32>,
    /// Bytes to read in this run, at most; what comes together with the last of them, some 100 KiB
    /// a request, is not cut.
    pub max_download_bytes: Option<u64>,
    /// Bytes to write in this run, at most.
    pub max_upload_bytes: Option<u64>,
    /// Requests in flight at once, at most.
    pub in_flight_max: usize,
    /// A request for which nothing comes or goes for so long is given up.
    pub stall: Duration,
    /// How requests are tried again.
    pub retries: RetryPolicy,
}

impl Default for WireLimits {
    fn default() -> Self {
        Self {
            max_requests_per_second: None,
            max_download_bytes: None,
            max_upload_bytes: None,
            in_flight_max: IN_FLIGHT_MAX,
            stall: Duration::from_secs(60),
            retries: RetryPolicy::patient(),
        }
    }
}

/// Kinds of requests, as reports count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    List,
    Put,
    Head,
    Delete,
    Lock,
}

/// The way to the store.
#[derive(Debug)]
pub struct Wire {
    client: Client,
    gate: Gate,
    pace: Pace,
    keys: Credentials,
    downloads: Budget,
    uploads: Budget,
    stall: Duration,
    requests: [AtomicU64; 6],
    throttled: AtomicU64,
}

/// A request that may go now.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    wire: &'a Wire,
    call: Call<'a>,
    /// `None` once others may have it: while a body waits to be read.
    place: Option<Place<'a>>,
}

/// An answer whose status is a success.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    response: Response,
    turn: Turn<'a>,
}

impl Wire {
    /// Makes the way; nothing is connected yet. Errors: certificates that are none.
    pub fn new(
        transport: &Transport,
        limits: &WireLimits,
        keys: &Credentials,
    ) -> Result<Self, BlobError> {
        let client = client_builder(transport)?
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(limits.in_flight_max)
            .build();
        let client = client.map_err(|error| BlobError::Setup {
            location: "HTTP client".to_owned(),
            reason: chain(&error),
        })?;
        Ok(Self {
            client,
            gate: Gate::new(limits.in_flight_max),
            pace: Pace::new(limits.max_requests_per_second),
            keys: keys.clone(),
            downloads: Budget::new("download", limits.max_download_bytes),
            uploads: Budget::new("upload", limits.max_upload_bytes),
            stall: limits.stall,
            requests: Default::default(),
            throttled: AtomicU64::new(0),
        })
    }

    /// Returns what went over the wire so far.
    pub fn traffic(&self) -> Traffic {
        let requests = |kind: Kind| self.requests[kind as usize].load(Ordering::Relaxed);
        Traffic {
            get: requests(Kind::Get),
            list: requests(Kind::List),
            put: requests(Kind::Put),
            head: requests(Kind::Head),
            delete: requests(Kind::Delete),
            lock: requests(Kind::Lock),
            downloaded_bytes: self.downloads.passed(),
            uploaded_bytes: self.uploads.passed(),
            throttled: self.throttled.load(Ordering::Relaxed),
            retries: 0,
            in_flight_peak: self.gate.limit_and_peak().1 as u64,
            in_flight_mean: self.gate.mean(),
        }
    }

    /// Waits for the turn of a request that sends `upload_bytes`. Sign it after that: signatures
    /// age.
    pub(super) async fn turn<'a>(
        &'a self,
        kind: Kind,
        call: Call<'a>,
        upload_bytes: u64,
    ) -> Result<Turn<'a>, BlobError> {
        if !is_free(call) {
            self.downloads.check(call, 0)?;
            if upload_bytes > 0 {
                self.uploads.check(call, upload_bytes)?;
            }
        }
        let place = self.gate.enter().await;
        self.pace.keep().await;
        self.requests[kind as usize].fetch_add(1, Ordering::Relaxed);
        Ok(Turn {
            wire: self,
            call,
            place: Some(place),
        })
    }

    /// Takes up an answer whose head came before, to read its body.
    pub(super) fn taken_up<'a>(&'a self, call: Call<'a>, response: Response) -> Answer<'a> {
        let turn = Turn {
            wire: self,
            call,
            place: None,
        };
        Answer { response, turn }
    }
}

impl HttpConnector for Wire {
    /// For the sources of credentials: the same certificates, none of the limits.
    fn connect(&self, _: &object_store::ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.client.clone()))
    }
}

impl<'a> Turn<'a> {
    /// Sends a request whose bytes, if any, are in it.
    pub(super) async fn ask(
        self,
        request: HttpRequest,
    ) -> Result<Result<Answer<'a>, Refusal>, BlobError> {
        let (parts, body) = request.into_parts();
        let body = body.as_bytes().cloned().unwrap_or_default();
        self.wire.uploads.count(body.len() as u64);
        let request = self.request(parts.method, &parts.uri.to_string(), parts.headers, body)?;
        let stall = self.wire.stall;
        let answer = self.wire.client.execute(request);
        let answer = tokio::time::timeout(stall, answer).await;
        let answer = answer.map_err(|_| stalled(self.call, stall))?;
        self.take(answer).await
    }

    /// Sends a request with the bytes of `source`.
    pub(super) async fn ask_with(
        self,
        request: HttpRequest,
        source: &mut dyn BlobSource,
    ) -> Result<Result<Answer<'a>, Refusal>, BlobError> {
        let (parts, _) = request.into_parts();
        let length = source.len();
        let (feed, pieces) = body(length);
        let pieces = reqwest::Body::wrap(pieces);
        let request = self.request(parts.method, &parts.uri.to_string(), parts.headers, pieces)?;
        let stall = self.wire.stall;
        let mut answer = pin!(self.wire.client.execute(request));
        let mut feed = pin!(feed.run(source, self.call, stall));
        // The answer may come before all is sent; what the source says counts more.
        let early = poll_fn(|context| {
            if let Poll::Ready(fed) = feed.as_mut().poll(context) {
                return Poll::Ready(fed.map(|()| None));
            }
            answer.as_mut().poll(context).map(|answer| Ok(Some(answer)))
        });
        let answer = match early.await? {
            Some(answer) => answer,
            None => {
                let answer = tokio::time::timeout(stall, answer).await;
                answer.map_err(|_| stalled(self.call, stall))?
            }
        };
        self.wire.uploads.count(length);
        self.take(answer).await
    }

    fn request(
        &self,
        method: reqwest::Method,
        url: &str,
        headers: HeaderMap,
        body: impl Into<reqwest::Body>,
    ) -> Result<Request, BlobError> {
        let url = url.parse().map_err(|_| BlobError::Refused {
            operation: self.call.operation,
            id: self.call.id.to_owned(),
            reason: "the storage's address is no URL".to_owned(),
        })?;
        let mut request = Request::new(method, url);
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.into());
        Ok(request)
    }

    /// Looks at what came back.
    async fn take(
        self,
        answer: reqwest::Result<Response>,
    ) -> Result<Result<Answer<'a>, Refusal>, BlobError> {
        let response = answer.map_err(|error| broken(self.call, error))?;
        let status = response.status();
        let (operation, id) = (self.call.operation, self.call.id);
        tracing::trace!(operation, id, status = status.as_u16(), "answered");
        let answer = Answer {
            response,
            turn: self,
        };
        if status.is_success() {
            if let Some(place) = &answer.turn.place {
                place.succeeded();
            }
            return Ok(Ok(answer));
        }
        let refusal = answer.refusal().await;
        Ok(Err(refusal))
    }
}

impl Answer<'_> {
    /// Returns the status.
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Lets the next request go, and returns what is left to read.
    pub(super) fn into_response(self) -> Response {
        self.response
    }

    /// Returns the text of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(self.response.headers(), name)
    }

    /// Returns the next bytes of the body; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, BlobError> {
        let Turn { wire, call, .. } = self.turn;
        let chunk = tokio::time::timeout(wire.stall, self.response.chunk()).await;
        let chunk = chunk.map_err(|_| stalled(call, wire.stall))?;
        let chunk = chunk.map_err(|error| broken(call, error))?;
        if let Some(bytes) = &chunk {
            wire.downloads.count(bytes.len() as u64);
            if !is_free(call) {
                wire.downloads.check_passed(call)?;
            }
        }
        Ok(chunk)
    }

    /// Returns the whole body, which must not be longer than `max_bytes`.
    pub(super) async fn text(mut self, max_bytes: usize) -> Result<String, BlobError> {
        let mut body = Vec::new();
        while let Some(bytes) = self.chunk().await? {
            body.extend_from_slice(&bytes);
            if body.len() > max_bytes {
                return Err(self.nonsense("the answer is too long"));
            }
        }
        String::from_utf8(body).map_err(|_| self.nonsense("the answer is no text"))
    }

    /// Makes the error of an answer that cannot be understood.
    pub(super) fn nonsense(&self, reason: &str) -> BlobError {
        BlobError::Transient {
            operation: self.turn.call.operation,
            id: self.turn.call.id.to_owned(),
            reason: reason.to_owned(),
        }
    }

    /// Reads why not, as far as that can be read.
    async fn refusal(mut self) -> Refusal {
        let mut body = Vec::new();
        while body.len() < EXCERPT_BYTES
            && let Ok(Some(bytes)) = self.chunk().await
        {
            body.extend_from_slice(&bytes);
        }
        body.truncate(EXCERPT_BYTES);
        let text = String::from_utf8_lossy(&body);
        let code = self.header("x-ms-error-code");
        let mut refusal = Refusal::new(self.status(), code, &text);
        if let Some(region) = self.header("x-amz-bucket-region") {
            refusal.region.get_or_insert_with(|| region.to_owned());
        }
        if refusal.is_about_keys() {
            refusal.has_new_keys = self.turn.wire.keys.renew().await;
        }
        let is_throttling = refusal.is_throttling();
        if is_throttling {
            if let Some(place) = &self.turn.place {
                place.throttled();
            }
            self.turn.wire.throttled.fetch_add(1, Ordering::Relaxed);
        }
        let later = self.header("retry-after");
        let later = later.filter(|_| is_throttling || refusal.status >= 500);
        if let Some(wait) = later.and_then(|text| wait_of(text, self.header("date"))) {
            tracing::debug!(?wait, "the store says when to come again");
            self.turn.wire.pace.pause(wait);
        }
        refusal
    }
}

/// Tells whether a call is beyond all budgets of bytes: the schedule, some KiB, in which a run that
/// ends gives back its lease.
fn is_free(call: Call<'_>) -> bool {
    call.is_blob && call.id == MAINTENANCE
}

/// Returns how long to wait by a `Retry-After`: seconds, or a moment of the store's own clock.
fn wait_of(retry_after: &str, date: Option<&str>) -> Option<Duration> {
    let text = retry_after.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = date.and_then(moment);
    let now = now.unwrap_or_else(|| SystemClock.now());
    // In the past it is nothing.
    Some(moment(text)?.since(now))
}

/// Returns the error of a connection that was not made or broke; a certificate that is not trusted
/// stays so.
fn broken(call: Call<'_>, error: reqwest::Error) -> BlobError {
    let error = error.without_url();
    let (operation, id, reason) = (call.operation, call.id.to_owned(), chain(&error));
    if error.is_builder() || mentions_certificate(&error) {
        return BlobError::Refused {
            operation,
            id,
            reason,
        };
    }
    BlobError::Transient {
        operation,
        id,
        reason,
    }
}

fn mentions_certificate(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // The TLS error lies inside an I/O error, which does not name it as its source.
        let inner = error.downcast_ref::<std::io::Error>();
        let inner = inner.and_then(std::io::Error::get_ref);
        if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return matches!(tls, rustls::Error::InvalidCertificate(_));
        }
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return matches!(tls, rustls::Error::InvalidCertificate(_));
        }
        cause = error.source();
    }
    false
}

/// Returns an error with all its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_to_come_again_is_seconds_or_a_date() {
        let date = Some("Thu, 26 Nov 2026 08:00:00 GMT");
        for (text, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Thu, 26 Nov 2026 08:00:09 GMT", Some(9)),
            ("Thu, 26 Nov 2026 07:59:00 GMT", Some(0)),
            ("soon", None),
            ("-3", None),
            ("", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(wait_of(text, date), expected, "{text}");
        }
        let past = wait_of("Thu, 26 Nov 2020 08:00:00 GMT", None);
        assert_eq!(past, Some(Duration::ZERO));
    }
}
