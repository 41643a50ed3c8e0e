//! Versions of a small blob that two writers may want to replace.
//!
//! The schedule is the only such blob. A store that knows conditions gives each state of a blob a
//! word of its own (an ETag, a generation) and replaces that state or nothing, so that none of two
//! writers overwrites the other unseen. Memory: the word.

use super::storage::FIRST_GET_BYTES;
use super::{BlobError, Storage};
use crate::kopia::blob_id::BlobId;

/// Tells one state of a blob from all others that it had or will have; or that it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobVersion(Option<Box<str>>);

impl BlobVersion {
    /// There is no blob.
    pub const ABSENT: Self = Self(None);

    /// The state to which the store gives this word.
    pub(super) fn new(word: impl Into<Box<str>>) -> Self {
        Self(Some(word.into()))
    }

    /// Returns the store's word, `None` where there is no blob.
    #[cfg(feature = "object-stores")]
    pub(super) fn word(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// What became of a put that was to replace one version of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// It was done, and this is the version now.
    As(BlobVersion),
    /// Nothing was done: the blob is another one by now. After a try whose answer was lost, that
    /// other one may be our own.
    Changed,
    /// It was done whatever was there: the store knows no conditions.
    Blindly,
}

impl Storage {
    /// Returns all bytes of a small blob with its version, which is `None` where the store cannot
    /// [`replace`](Self::replace) by version; otherwise like [`get_all`](Self::get_all).
    pub fn get_version(
        &self,
        id: &BlobId,
        max_bytes: usize,
    ) -> Result<(Vec<u8>, Option<BlobVersion>), BlobError> {
        let most_bytes = max_bytes.saturating_add(1);
        let mut bytes = vec![0; FIRST_GET_BYTES.min(most_bytes)];
        loop {
            self.ask()?;
            let counts = self.counts().of(id);
            counts.asks_for_bytes();
            let (count, version) = self.wait(self.store().get_version(id, &mut bytes))?;
            tracing::trace!(%id, bytes = count, "get");
            counts.has_read(count);
            if count < bytes.len() {
                bytes.truncate(count);
                return Ok((bytes, version));
            }
            if count == most_bytes {
                let id = id.clone();
                return Err(BlobError::TooLarge { id, max_bytes });
            }
            // From the beginning: all of it must be of one version.
            bytes.resize(bytes.len().saturating_mul(4).min(most_bytes), 0);
        }
    }

    /// Puts a small blob in the place of `expected`, and of nothing else where the store knows
    /// conditions; it has no retention.
    pub fn replace(
        &self,
        id: &BlobId,
        bytes: &[u8],
        expected: &BlobVersion,
    ) -> Result<Replaced, BlobError> {
        self.ask()?;
        let counts = self.counts().of(id);
        counts.puts();
        tracing::trace!(%id, bytes = bytes.len(), "replace");
        let replaced = self.wait(self.store().replace(id, bytes, expected))?;
        if replaced != Replaced::Changed {
            counts.has_written(bytes.len() as u64);
        }
        Ok(replaced)
    }
}
