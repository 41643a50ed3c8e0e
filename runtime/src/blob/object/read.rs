//! The reading side of a get: ranges, bodies, and what breaks off.
//!
//! Memory: none of its own; bytes go from the connection into the caller's buffer.

use reqwest::Method;

use super::ObjectStore;
use super::answer::Call;
use super::bucket::Ask;
use super::wire::{Answer, Kind};
use crate::blob::BlobError;

/// How far one request of a get came.
pub(super) enum Part {
    /// To its end, with this many bytes.
    Whole(usize),
    /// It broke off after this many bytes.
    Broken(usize, BlobError),
    /// The blob is another one by now.
    Changed,
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

/// Returns the length of the whole blob if the range begins at `from`: `bytes 0-9/100`.
fn covers(content_range: &str, from: u64) -> Option<u64> {
    let (range, total) = content_range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total: u64 = total.parse().ok()?;
    (first.parse() == Ok(from) && total >= from).then_some(total)
}
