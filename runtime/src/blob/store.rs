//! What a store is: the operations that maintenance needs, and no more.
//!
//! The trait fits a local folder and the flat key space of S3, GCS and Azure alike: raw string
//! prefixes (`p`, `xn3_`, `p0`), pages in key order, no folders. [`BlobStore::scan`] is for those
//! who sort anyway and want the names as cheaply as the store can give them. Mirrors Kopia's
//! `repo/blob/storage.go`.

use std::fmt::Debug;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use async_trait::async_trait;

use super::{BlobError, BlobSource, BlobVersion, BytesSource, Replaced, Traffic};
use crate::clock::Timestamp;
use crate::kopia::blob_id::BlobId;

/// Largest page of a listing: what S3 gives in one request. About 200 KiB.
pub const LIST_PAGE_MAX: usize = 1000;

/// What the storage knows of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobMetadata {
    /// Its name.
    pub id: BlobId,
    /// Its length in bytes.
    pub length: u64,
    /// When the storage took it, by the storage's clock.
    pub timestamp: Timestamp,
}

/// A blob as a scan shows it: what the store knows without asking further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScannedBlob<'a> {
    /// Its name.
    pub id: &'a str,
    /// Its length in bytes and its time, where they cost nothing.
    pub stored: Option<(u64, Timestamp)>,
    /// Reading blobs in ascending order of it is fastest: the inode number on a local disk, 0
    /// elsewhere.
    pub locality: u64,
}

/// How long a blob must not be deleted (object lock).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Kopia's mode: `GOVERNANCE`, `COMPLIANCE` or `Locked`.
    pub mode: String,
    /// The moment after which it may be deleted.
    pub until: Timestamp,
}

impl Retention {
    /// Tells whether Kopia locks blobs of this name: packs, index blobs, the format blobs.
    pub fn applies_to(id: &BlobId) -> bool {
        const PREFIXES: [&str; 6] = ["n", "x", "p", "q", "kopia.repository", "kopia.blobcfg"];
        PREFIXES
            .iter()
            .any(|prefix| id.as_str().starts_with(prefix))
    }
}

/// How a blob is put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// Fail with [`BlobError::AlreadyExists`] if the blob is there, instead of replacing it.
    pub create_only: bool,
    /// Lock the blob.
    pub retention: Option<Retention>,
}

/// A blob that is written piece by piece where it will be: nobody sees it before it is finished,
/// and dropped it leaves nothing. Its store never waits.
pub trait OpenBlob: Send + Debug {
    /// Appends `piece`.
    fn write(&mut self, piece: &[u8]) -> Result<(), BlobError>;

    /// Shows the blob, whole and durable; returns its storage timestamp.
    fn finish(self: Box<Self>) -> Result<Timestamp, BlobError>;
}

/// A place that keeps blobs.
#[async_trait]
pub trait BlobStore: Send + Sync + Debug {
    /// Fills `into` with the bytes from `offset` on, as far as the blob reaches; returns how many.
    ///
    /// An offset at or behind the end gives 0. Errors: `NotFound`.
    async fn get(&self, id: &BlobId, offset: u64, into: &mut [u8]) -> Result<usize, BlobError>;

    /// Tells that these blobs will be read soon, from their first byte; a store may get ready for
    /// it.
    ///
    /// Never waits and never fails. Many small files are read several times faster so.
    fn will_need(&self, _ids: &[&BlobId]) {}

    /// Tells that this range of a blob will be read next, in order, by gets of any size: a store
    /// may ask for all of it at once.
    ///
    /// Never waits and never fails. A content of 4 MiB, read in pieces, is one request so.
    fn will_read(&self, _id: &BlobId, _range: Range<u64>) {}

    /// Returns length and timestamp. Errors: `NotFound`.
    async fn metadata(&self, id: &BlobId) -> Result<BlobMetadata, BlobError>;

    /// Returns the first `limit` blobs whose ID starts with `prefix` and is greater than `after`,
    /// in ascending order of their IDs (as bytes).
    ///
    /// A page shorter than `limit` is the last one. A `limit` above [`LIST_PAGE_MAX`] is
    /// `Unsupported`.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&BlobId>,
        limit: usize,
    ) -> Result<Vec<BlobMetadata>, BlobError>;

    /// Shows every blob whose ID starts with `prefix` once, in the order that is cheapest for the
    /// store, until `visit` breaks. Constant memory.
    async fn scan(
        &self,
        prefix: &str,
        visit: &mut (dyn for<'a> FnMut(ScannedBlob<'a>) -> ControlFlow<()> + Send),
    ) -> Result<(), BlobError> {
        scan_by_pages(self, prefix, visit).await
    }

    /// Puts a blob whole, durable before it returns, or not at all; returns its storage timestamp.
    ///
    /// Rewinds `source` first. Errors: `AlreadyExists` with `create_only`; `Unsupported` for an
    /// option that the store does not have.
    async fn put(
        &self,
        id: &BlobId,
        source: &mut dyn BlobSource,
        options: &PutOptions,
    ) -> Result<Timestamp, BlobError>;

    /// Fills `into` with the first bytes of a blob, and tells its version: `None` where the store
    /// cannot [`replace`](Self::replace) by version.
    async fn get_version(
        &self,
        id: &BlobId,
        into: &mut [u8],
    ) -> Result<(usize, Option<BlobVersion>), BlobError> {
        Ok((self.get(id, 0, into).await?, None))
    }

    /// Puts a small blob in the place of `expected`, and of nothing else where the store knows
    /// conditions; it has no retention.
    async fn replace(
        &self,
        id: &BlobId,
        bytes: &[u8],
        _expected: &BlobVersion,
    ) -> Result<Replaced, BlobError> {
        let mut source = BytesSource::new(bytes);
        self.put(id, &mut source, &PutOptions::default()).await?;
        Ok(Replaced::Blindly)
    }

    /// Begins a new blob whose bytes come one after the other, for a store that can keep them
    /// where they will be: they need not go through scratch then. `None` means that this store
    /// wants a whole source ([`BlobStore::put`]).
    ///
    /// The blob must not be there yet. Errors: those of `put`.
    fn begin(&self, _: &BlobId, _: &PutOptions) -> Result<Option<Box<dyn OpenBlob>>, BlobError> {
        Ok(None)
    }

    /// Deletes a blob; one that is not there is fine.
    async fn delete(&self, id: &BlobId) -> Result<(), BlobError>;

    /// Locks a blob that is there until the retention's moment, if that is later than its lock.
    ///
    /// Errors: `NotFound`; `Unsupported` from a store that cannot lock.
    async fn extend_retention(&self, id: &BlobId, _: &Retention) -> Result<(), BlobError> {
        Err(BlobError::Unsupported {
            operation: "extend retention",
            id: id.to_string(),
            what: "object locks",
        })
    }

    /// Returns where it is, for messages; no secrets.
    fn location(&self) -> String;

    /// Tells whether the futures may have to wait for something, and so need a runtime around them.
    fn waits(&self) -> bool {
        true
    }

    /// Returns what went over the wire so far; `None` where there is none.
    fn traffic(&self) -> Option<Traffic> {
        None
    }
}

#[async_trait]
impl<S: BlobStore + ?Sized> BlobStore for Arc<S> {
    fn will_need(&self, ids: &[&BlobId]) {
        (**self).will_need(ids);
    }

    fn will_read(&self, id: &BlobId, range: Range<u64>) {
        (**self).will_read(id, range);
    }

    async fn get(&self, id: &BlobId, offset: u64, into: &mut [u8]) -> Result<usize, BlobError> {
        (**self).get(id, offset, into).await
    }

    async fn metadata(&self, id: &BlobId) -> Result<BlobMetadata, BlobError> {
        (**self).metadata(id).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BlobId>,
        limit: usize,
    ) -> Result<Vec<BlobMetadata>, BlobError> {
        (**self).list(prefix, after, limit).await
    }

    async fn get_version(
        &self,
        id: &BlobId,
        into: &mut [u8],
    ) -> Result<(usize, Option<BlobVersion>), BlobError> {
        (**self).get_version(id, into).await
    }

    async fn replace(
        &self,
        id: &BlobId,
        bytes: &[u8],
        expected: &BlobVersion,
    ) -> Result<Replaced, BlobError> {
        (**self).replace(id, bytes, expected).await
    }

    async fn scan(
        &self,
        prefix: &str,
        visit: &mut (dyn for<'a> FnMut(ScannedBlob<'a>) -> ControlFlow<()> + Send),
    ) -> Result<(), BlobError> {
        (**self).scan(prefix, visit).await
    }

    async fn put(
        &self,
        id: &BlobId,
        source: &mut dyn BlobSource,
        options: &PutOptions,
    ) -> Result<Timestamp, BlobError> {
        (**self).put(id, source, options).await
    }

    fn begin(
        &self,
        id: &BlobId,
        options: &PutOptions,
    ) -> Result<Option<Box<dyn OpenBlob>>, BlobError> {
        (**self).begin(id, options)
    }

    async fn delete(&self, id: &BlobId) -> Result<(), BlobError> {
        (**self).delete(id).await
    }

    async fn extend_retention(&self, id: &BlobId, to: &Retention) -> Result<(), BlobError> {
        (**self).extend_retention(id, to).await
    }

    fn location(&self) -> String {
        (**self).location()
    }

    fn waits(&self) -> bool {
        (**self).waits()
    }

    fn traffic(&self) -> Option<Traffic> {
        (**self).traffic()
    }
}

/// Scans by listing page after page: for stores whose only order is the order of IDs. One page of
/// memory.
pub async fn scan_by_pages<S: BlobStore + ?Sized>(
    store: &S,
    prefix: &str,
    visit: &mut (dyn for<'a> FnMut(ScannedBlob<'a>) -> ControlFlow<()> + Send),
) -> Result<(), BlobError> {
    let mut after: Option<BlobId> = None;
    loop {
        let page = store.list(prefix, after.as_ref(), LIST_PAGE_MAX).await?;
        for blob in &page {
            let shown = ScannedBlob {
                id: blob.id.as_str(),
                stored: Some((blob.length, blob.timestamp)),
                locality: 0,
            };
            if visit(shown).is_break() {
                return Ok(());
            }
        }
        if page.len() < LIST_PAGE_MAX {
            return Ok(());
        }
        after = page.into_iter().next_back().map(|blob| blob.id);
    }
}

/// Refuses names that no store takes.
pub(super) fn check_name(id: &BlobId) -> Result<(), BlobError> {
    let text = id.as_str();
    let reason = if text.is_empty() {
        "it is empty"
    } else if text.contains('/') {
        "it has a slash"
    } else if text.contains('\0') {
        "it has a zero byte"
    } else {
        return Ok(());
    };
    Err(BlobError::InvalidName {
        id: text.to_owned(),
        reason,
    })
}

/// Refuses pages that are too long; cutting them would look like the end of the listing.
pub(super) fn check_limit(prefix: &str, limit: usize) -> Result<(), BlobError> {
    if limit <= LIST_PAGE_MAX {
        return Ok(());
    }
    Err(BlobError::Unsupported {
        operation: "list",
        id: format!("{prefix}*"),
        what: "pages of more than 1000 blobs",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kopia_locks_what_data_depends_on() {
        for (name, locked) in [
            ("p00", true),
            ("q00", true),
            ("n00", true),
            ("xw1", true),
            ("kopia.repository", true),
            ("kopia.blobcfg", true),
            ("kopia.maintenance", false),
            ("s00", false),
            ("m00", false),
            ("l00", false),
            ("_log_", false),
        ] {
            assert_eq!(Retention::applies_to(&BlobId::new(name)), locked, "{name}");
        }
    }
}
