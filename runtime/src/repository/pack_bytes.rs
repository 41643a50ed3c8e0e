//! The bytes of a new pack, before anybody sees it.
//!
//! A store that can takes them at once where they will be: the disk then writes them once. For the
//! others they lie in scratch until the pack is whole, and are put from there. Memory: the store's
//! write buffer, or [`WRITE_BYTES`].

use std::sync::Arc;

use crate::blob::{OpenPut, PutOptions, Storage};
use crate::kopia::blob_id::BlobId;
use crate::spill::SequentialWriter;

use super::sealing::{FileSource, put_options};
use super::{Repository, RepositoryError, Workspace};

/// Write buffer in scratch, in bytes.
const WRITE_BYTES: usize = 256 * 1024;

/// Bytes that are appended.
pub(super) enum PackBytes {
    /// In the store.
    Stored(OpenPut),
    /// In scratch.
    Scratch(SequentialWriter),
}

impl PackBytes {
    /// Begins the pack `name`.
    pub(super) fn begin(
        repository: &Repository,
        workspace: &Workspace,
        name: &BlobId,
    ) -> Result<Self, RepositoryError> {
        let options = put_options(repository, name);
        if let Some(put) = repository.storage.begin(name, &options)? {
            return Ok(Self::Stored(put));
        }
        let file = Arc::new(workspace.scratch.create_file("pack")?);
        Ok(Self::Scratch(SequentialWriter::new(file, WRITE_BYTES)))
    }

    /// Appends `piece`.
    pub(super) fn write(&mut self, piece: &[u8]) -> Result<(), RepositoryError> {
        match self {
            Self::Stored(put) => put.write(piece)?,
            Self::Scratch(writer) => writer.write(piece)?,
        }
        Ok(())
    }

    /// Returns the number of bytes so far.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Stored(put) => put.bytes(),
            Self::Scratch(writer) => writer.position(),
        }
    }

    /// Shows the pack in the store, whole and durable.
    pub(super) fn put(
        self,
        storage: &Storage,
        name: &BlobId,
        options: &PutOptions,
    ) -> Result<(), RepositoryError> {
        match self {
            Self::Stored(put) => put.finish()?,
            Self::Scratch(writer) => {
                let file = Arc::clone(writer.file());
                writer.finish()?;
                storage.put(name, &mut FileSource::new(file), options)?
            }
        };
        Ok(())
    }
}
