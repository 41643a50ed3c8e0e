//! Conditional puts: the schedule is replaced only as it was read.
//!
//! S3, Azure and Google know such conditions, and so do most servers that speak as S3 does; others
//! take the header and ignore it. So the first conditional put of a run names a version that no
//! blob has: who refuses it keeps conditions, who takes it has put the blob as it would have been
//! put without any. No memory cost.

use std::sync::atomic::{AtomicU8, Ordering};

use reqwest::Method;

use super::answer::{Call, Refusal};
use super::bucket::{Ask, Condition};
use super::read::Reading;
use super::wire::{Answer, Kind};
use super::{ObjectStore, blob_call};
use crate::blob::{BlobError, BlobVersion, BytesSource, PutOptions, Replaced};
use crate::kopia::blob_id::BlobId;

/// What is known of the store: whether it keeps conditions.
#[derive(Debug, Default)]
pub(super) struct Conditions(AtomicU8);

impl Conditions {
    const KEPT: u8 = 1;
    const IGNORED: u8 = 2;
}

impl ObjectStore {
    /// Reads the beginning of a blob, and its version.
    pub(super) async fn read_version(
        &self,
        id: &BlobId,
        into: &mut [u8],
    ) -> Result<(usize, Option<BlobVersion>), BlobError> {
        let call = blob_call("get", id);
        let last = into.len().saturating_sub(1);
        let ask = Ask::new(Method::GET, Some(self.asker.bucket.key(call.id)))
            .header("range", format!("bytes=0-{last}"));
        let answer = match self.asker.ask(Kind::Get, call, ask).await? {
            Ok(answer) => answer,
            Err(refusal) if refusal.status == 416 => return Ok((0, None)),
            Err(refusal) => return Err(refusal.into_error(call)),
        };
        let version = self.version_of(&answer);
        let mut reading = Reading::new(answer, call, 0..into.len() as u64)?;
        let mut filled = 0;
        reading.fill(into, &mut filled).await?;
        Ok((filled, version))
    }

    /// Puts a blob in the place of a version.
    pub(super) async fn replace_version(
        &self,
        id: &BlobId,
        bytes: &[u8],
        expected: &BlobVersion,
    ) -> Result<Replaced, BlobError> {
        let call = blob_call("put", id);
        let conditions = &self.conditions.0;
        if conditions.load(Ordering::Relaxed) == 0 {
            let none = Condition::Version(self.asker.bucket.no_version());
            let kept = match self.put_on(call, bytes, none).await? {
                Ok(_) => {
                    conditions.store(Conditions::IGNORED, Ordering::Relaxed);
                    return Ok(Replaced::Blindly);
                }
                Err(refusal) if is_another(&refusal) => Conditions::KEPT,
                Err(refusal) => match refusal.into_error(call) {
                    error if error.is_transient() => return Err(error),
                    // What is wrong besides the condition is told by the put without it.
                    _ => Conditions::IGNORED,
                },
            };
            conditions.store(kept, Ordering::Relaxed);
        }
        if conditions.load(Ordering::Relaxed) == Conditions::IGNORED {
            let put = self.put_on(call, bytes, Condition::None).await?;
            return match put {
                Ok(_) => Ok(Replaced::Blindly),
                Err(refusal) => Err(refusal.into_error(call)),
            };
        }
        let condition = expected
            .word()
            .map_or(Condition::Absent, Condition::Version);
        match self.put_on(call, bytes, condition).await? {
            Ok(Some(version)) => Ok(Replaced::As(version)),
            Ok(None) => Ok(Replaced::Blindly),
            Err(refusal) if is_another(&refusal) => Ok(Replaced::Changed),
            Err(refusal) => match refusal.into_error(call) {
                BlobError::AlreadyExists { .. } => Ok(Replaced::Changed),
                error => Err(error),
            },
        }
    }

    /// Puts under a condition; returns the version that the answer tells.
    async fn put_on(
        &self,
        call: Call<'_>,
        bytes: &[u8],
        condition: Condition<'_>,
    ) -> Result<Result<Option<BlobVersion>, Refusal>, BlobError> {
        let mut source = BytesSource::new(bytes);
        let options = PutOptions::default();
        let sent = self.send(call, &mut source, &options, condition).await?;
        Ok(sent.map(|answer| self.version_of(&answer)))
    }

    fn version_of(&self, answer: &Answer<'_>) -> Option<BlobVersion> {
        let word = answer.header(self.asker.bucket.version_header())?;
        // A weak ETag may stand for two states.
        (!word.starts_with("W/")).then(|| BlobVersion::new(word))
    }
}

/// Tells whether a put was refused because the blob is another one, or not there.
fn is_another(refusal: &Refusal) -> bool {
    matches!(refusal.status, 404 | 412)
}
