//! The reading side of a get: ranges, bodies, and what breaks off.
//!
//! Memory: none of its own; bytes go from the connection into the caller's buffer. What came of an
//! open body and was not asked for yet waits with it, some hundred KiB at most.

use bytes::Bytes;
use reqwest::{Method, Response};

use super::ObjectStore;
use super::answer::Call;
use super::bucket::Ask;
use super::wire::{Answer, Kind};
use crate::blob::BlobError;
use crate::kopia::blob_id::BlobId;

/// How far one request of a get came.
pub(super) enum Part {
    /// To its end, with this many bytes.
    Whole(usize),
    /// It broke off after this many bytes.
    Broken(usize, BlobError),
    /// The blob is another one by now.
    Changed,
}

/// An answer with all of a blob, as far as nobody has read it.
#[derive(Debug)]
pub(super) struct OpenBody {
    response: Response,
    /// What came and was not asked for.
    rest: Bytes,
    /// Where in the blob it goes on.
    at: u64,
}

impl OpenBody {
    /// A body that nobody has read from.
    pub(super) fn new(response: Response) -> Self {
        Self {
            response,
            rest: Bytes::new(),
            at: 0,
        }
    }

    /// Returns where in the blob it goes on.
    pub(super) fn at(&self) -> u64 {
        self.at
    }
}

impl ObjectStore {
    /// Reads as far as one request comes.
    pub(super) async fn get_part(
        &self,
        call: Call<'_>,
        from: u64,
        into: &mut [u8],
        version: &mut Option<String>,
    ) -> Result<Part, BlobError> {
        let to = from + into.len() as u64 - 1;
        let mut ask = Ask::new(Method::GET, Some(self.asker.bucket.key(call.id)))
            .header("range", format!("bytes={from}-{to}"));
        if let Some(version) = version.as_deref() {
            ask = ask.header("if-match", version);
        }
        let answer = match self.asker.ask(Kind::Get, call, ask).await? {
            Ok(answer) => answer,
            Err(refusal) if refusal.status == 416 => return Ok(Part::Whole(0)),
            Err(refusal) if refusal.status == 412 && version.is_some() => return Ok(Part::Changed),
            Err(refusal) => return Err(refusal.into_error(call)),
        };
        read_part(answer, call, from, into, version).await
    }

    /// Reads on in a body, which stays open for who goes on from there.
    pub(super) async fn read_on(
        &self,
        id: &BlobId,
        call: Call<'_>,
        body: OpenBody,
        into: &mut [u8],
        version: &mut Option<String>,
    ) -> Part {
        let OpenBody {
            response,
            mut rest,
            at,
        } = body;
        let mut answer = self.asker.wire.taken_up(call, response);
        *version = answer.header("etag").map(str::to_owned);
        let mut filled = 0;
        loop {
            let count = rest.len().min(into.len() - filled);
            into[filled..filled + count].copy_from_slice(&rest.split_to(count));
            filled += count;
            if filled == into.len() {
                break;
            }
            rest = match answer.chunk().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Part::Whole(filled),
                Err(error) => return Part::Broken(filled, error),
            };
        }
        let (response, at) = (answer.into_response(), at + filled as u64);
        self.ahead.leave_open(id, OpenBody { response, rest, at });
        Part::Whole(filled)
    }
}

/// Reads an answer to a get as far as it comes.
pub(super) async fn read_part(
    mut answer: Answer<'_>,
    call: Call<'_>,
    from: u64,
    into: &mut [u8],
    version: &mut Option<String>,
) -> Result<Part, BlobError> {
    *version = answer.header("etag").map(str::to_owned);
    // Where no range came, it is the blob from its first byte.
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

/// Returns the length of the whole blob if the range begins at `from`: `bytes 0-9/100`.
fn covers(content_range: &str, from: u64) -> Option<u64> {
    let (range, total) = content_range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total: u64 = total.parse().ok()?;
    (first.parse() == Ok(from) && total >= from).then_some(total)
}
