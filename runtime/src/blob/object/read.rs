//! The reading side of a get: ranges, bodies, and what breaks off.
//!
//! Memory: none of its own; bytes go from the connection into the caller's buffer. What came of an
//! open body and was not asked for yet waits with it, some hundred KiB at most.

use std::ops::Range;

use bytes::Bytes;
use reqwest::{Method, Response};

use super::answer::Call;
use super::bucket::{Ask, header};
use super::wire::{Answer, Kind, Wire};
use super::{ObjectStore, metadata_of};
use crate::blob::{BlobError, BlobMetadata};
use crate::kopia::blob_id::BlobId;

/// Why no bytes of a range come.
pub(super) enum NoBytes {
    /// The blob ends before it.
    Behind,
    /// The blob is another one by now.
    Changed,
}

/// An answer to a get, as far as it was read.
pub(super) struct Reading<'a> {
    answer: Answer<'a>,
    /// What came and was not asked for.
    rest: Bytes,
    /// Where in the blob it goes on.
    at: u64,
    /// Where in the blob it ends, if its head says so.
    end: Option<u64>,
}

/// A [`Reading`] that waits to be gone on with.
#[derive(Debug)]
pub(super) struct OpenBody {
    response: Response,
    rest: Bytes,
    at: u64,
    end: u64,
}

impl OpenBody {
    /// Returns where in the blob it goes on.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Returns what the answer's head says of the blob, if it says all.
    pub(super) fn metadata(&self, id: &BlobId) -> Option<BlobMetadata> {
        let is_whole = self.response.status() == 200;
        let header = |name| header(self.response.headers(), name);
        metadata_of(id, header).filter(|_| is_whole)
    }

    /// Goes on.
    pub(super) fn go_on<'a>(self, wire: &'a Wire, call: Call<'a>) -> Reading<'a> {
        Reading {
            answer: wire.taken_up(call, self.response),
            rest: self.rest,
            at: self.at,
            end: Some(self.end),
        }
    }
}

impl<'a> Reading<'a> {
    /// Begins with the answer to a get of `range`.
    ///
    /// Errors: another range than that, and none where it does not begin at 0.
    pub(super) fn new(
        answer: Answer<'a>,
        call: Call<'_>,
        range: Range<u64>,
    ) -> Result<Self, BlobError> {
        let covered = answer.header("content-range");
        let end = match covered.map(|text| covers(text, range.start)) {
            Some(Some(total)) => Some(total),
            Some(None) => return Err(answer.nonsense("another range than was asked for came")),
            // Without a range, it is the blob from its first byte.
            None if range.start == 0 => answer.header("content-length").and_then(parse),
            None => {
                return Err(BlobError::Unsupported {
                    operation: call.operation,
                    id: call.id.to_owned(),
                    what: "ranges",
                });
            }
        };
        Ok(Self {
            answer,
            rest: Bytes::new(),
            at: range.start,
            end: end.map(|end| end.min(range.end)),
        })
    }

    /// Returns where in the blob it ends, if its head says so.
    pub(super) fn end(&self) -> Option<u64> {
        self.end
    }

    /// Returns the version of the blob that is read.
    pub(super) fn version(&self) -> Option<String> {
        self.answer.header("etag").map(str::to_owned)
    }

    /// Fills `into` as far as the body reaches; `filled` tells how far, when it breaks off too.
    pub(super) async fn fill(
        &mut self,
        into: &mut [u8],
        filled: &mut usize,
    ) -> Result<(), BlobError> {
        loop {
            let count = self.rest.len().min(into.len() - *filled);
            into[*filled..*filled + count].copy_from_slice(&self.rest.split_to(count));
            *filled += count;
            self.at += count as u64;
            if *filled == into.len() {
                return Ok(());
            }
            self.rest = match self.answer.chunk().await? {
                Some(bytes) => bytes,
                None if self.end.is_some_and(|end| self.at < end) => {
                    return Err(self.answer.nonsense("fewer bytes came than were promised"));
                }
                None => return Ok(()),
            };
        }
    }

    /// Returns what is left of it, if that is certain to be more than nothing.
    pub(super) fn into_open(self) -> Option<OpenBody> {
        Some(OpenBody {
            end: self.end.filter(|end| *end > self.at)?,
            response: self.answer.into_response(),
            rest: self.rest,
            at: self.at,
        })
    }
}

impl ObjectStore {
    /// Returns what an answer that is there already gives of a blob, from `offset` on.
    pub(super) async fn begun<'a>(
        &'a self,
        id: &BlobId,
        call: Call<'a>,
        offset: u64,
    ) -> Result<Option<Reading<'a>>, BlobError> {
        let wire = &self.asker.wire;
        if let Some(body) = self.ahead.go_on(id, offset) {
            return Ok(Some(body.go_on(wire, call)));
        }
        if offset > 0 {
            return Ok(None);
        }
        match self.ahead.take(&self.asker, id).await {
            Some(response) => {
                // It comes whole.
                self.ahead.take_plan(id, 0);
                let answer = wire.taken_up(call, response);
                Reading::new(answer, call, 0..u64::MAX).map(Some)
            }
            None => Ok(None),
        }
    }

    /// Asks for a range, to the end of the blob where that is `u64::MAX`, of the `version` that was
    /// read before.
    pub(super) async fn ask_for<'a>(
        &'a self,
        call: Call<'a>,
        range: Range<u64>,
        version: Option<&str>,
    ) -> Result<Result<Reading<'a>, NoBytes>, BlobError> {
        let mut ask = Ask::new(Method::GET, Some(self.asker.bucket.key(call.id)));
        ask = match range {
            Range {
                start: 0,
                end: u64::MAX,
            } => ask,
            Range {
                start,
                end: u64::MAX,
            } => ask.header("range", format!("bytes={start}-")),
            Range { start, end } => ask.header("range", format!("bytes={start}-{}", end - 1)),
        };
        if let Some(version) = version {
            ask = ask.header("if-match", version);
        }
        match self.asker.ask(Kind::Get, call, ask).await? {
            Ok(answer) => Reading::new(answer, call, range).map(Ok),
            Err(refusal) if refusal.status == 416 => Ok(Err(NoBytes::Behind)),
            Err(refusal) if refusal.status == 412 && version.is_some() => Ok(Err(NoBytes::Changed)),
            Err(refusal) => Err(refusal.into_error(call)),
        }
    }
}

/// Returns the length of the whole blob if the range begins at `from`: `bytes 0-9/100`.
fn covers(content_range: &str, from: u64) -> Option<u64> {
    let (range, total) = content_range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total: u64 = total.parse().ok()?;
    (first.parse() == Ok(from) && total >= from).then_some(total)
}

fn parse(length: &str) -> Option<u64> {
    length.parse().ok()
}
