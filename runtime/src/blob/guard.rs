//! Somebody who is asked before every operation of the storage.
//!
//! A run of maintenance must end soon when it is told to, and at once when it is no longer the only
//! maintainer. Every storage operation is a moment at which nothing is lost by ending, so that is
//! where it is asked. The guard's own operations go through a storage without it. No memory cost.

use std::fmt::Debug;

use super::BlobError;

/// Decides whether the storage may still be used. Called from several threads, before every
/// operation: most calls must cost next to nothing.
pub trait Guard: Send + Sync + Debug {
    /// Lets the next operation happen, or refuses it with [`BlobError::Halted`] or with what kept
    /// the guard from deciding.
    fn allow(&self) -> Result<(), BlobError>;

    /// The same for a deletion.
    fn allow_delete(&self) -> Result<(), BlobError> {
        self.allow()
    }
}
