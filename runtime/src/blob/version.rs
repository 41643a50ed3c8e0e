//! Versions of a small blob that two writers may want to replace.
//!
//! The schedule is the only such blob. A store that knows conditions gives each state of a blob a
//! word of its own (an ETag, a generation) and replaces that state or nothing, so that none of two
//! writers overwrites the other unseen. Memory: the word.

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
