//! The bytes of an object in order, however many contents it is made of.
//!
//! Needed for directories that are too large for one content, and for the index objects of objects
//! so large that the index itself is indirect. Rare; so contents are read one by one. Those that
//! were read stay in scratch, decrypted: a large directory that changes a little from snapshot to
//! snapshot has most of its parts in common with the one before.
//!
//! Memory: for each level of indirection a piece and what a decompressor takes; places of at most
//! [`KEPT_MAX`] contents. Invariant: bytes come only of contents whose tags were verified.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::kopia::FormatError;
use crate::kopia::blob_id::BlobId;
use crate::kopia::compression::{Compressed, Decompressor};
use crate::kopia::content_id::ContentId;
use crate::kopia::indirect_object::IndirectReader;
use crate::kopia::object_id::ObjectId;
use crate::spill::{ScratchFile, SequentialReader};

use super::content_seek::ContentSeeker;
use super::content_table::ContentTable;
use super::mark_worker::no_content;
use super::sealed_pieces::open_content_into_scratch;
use super::{Repository, RepositoryError, Workspace};

/// Contents that stay in scratch: 128 GiB at Kopia's usual 4 MiB; 64 bytes of memory each.
const KEPT_MAX: usize = 32_768;

/// Deepest nesting of parts that are indirect themselves. Kopia nests twice at most.
const NESTING_MAX: usize = 16;

/// Buffer for reading scratch, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// Takes an object.
pub(super) trait ObjectSink {
    /// Takes note of a content that the object is made of.
    fn content(&mut self, content: &ContentId) -> Result<(), RepositoryError>;
    /// Takes the next bytes; `what` names the object's content.
    fn piece(&mut self, piece: &[u8], what: &dyn fmt::Display) -> Result<(), RepositoryError>;
}

/// Reads objects, one after the other.
pub(super) struct ObjectStreams<'a> {
    repository: &'a Repository,
    workspace: &'a Workspace,
    table: &'a ContentTable,
    kept: RefCell<Kept>,
}

/// Decrypted contents in scratch.
#[derive(Default)]
struct Kept {
    file: Option<Arc<ScratchFile>>,
    /// Offset and length.
    places: HashMap<ContentId, (u64, u64)>,
}

impl<'a> ObjectStreams<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        workspace: &'a Workspace,
        table: &'a ContentTable,
    ) -> Self {
        Self {
            repository,
            workspace,
            table,
            kept: RefCell::default(),
        }
    }

    /// Gives all bytes of `object` to `sink`, and every content that it is made of.
    ///
    /// # Errors
    /// A content that is not in the index or cannot be read, parts that do not follow each other,
    /// nesting deeper than [`NESTING_MAX`]; what `sink` gives.
    pub(super) fn read(
        &self,
        object: &ObjectId,
        sink: &mut dyn ObjectSink,
    ) -> Result<(), RepositoryError> {
        self.object(object, sink, 0)
    }

    fn object(
        &self,
        object: &ObjectId,
        sink: &mut dyn ObjectSink,
        nesting: usize,
    ) -> Result<(), RepositoryError> {
        if nesting > NESTING_MAX {
            return Err(RepositoryError::TooMany {
                what: "levels of indirection",
                maximum: NESTING_MAX,
            });
        }
        let Some(index) = object.index_object() else {
            sink.content(&object.content)?;
            return self.content(object, sink);
        };
        let mut parts = Parts {
            streams: self,
            sink,
            reader: IndirectReader::new(),
            nesting: nesting + 1,
        };
        self.object(&index, &mut parts, nesting + 1)?;
        parts.reader.finish(&format!("object {index}"))?;
        Ok(())
    }

    /// Gives the bytes of an object that is one content.
    fn content(&self, object: &ObjectId, sink: &mut dyn ObjectSink) -> Result<(), RepositoryError> {
        let id = &object.content;
        let mut seeker = ContentSeeker::new(self.table);
        let (_, record) = seeker.seek(id.key())?.ok_or_else(|| no_content(id))?;
        let fields = self.table.fields(record);
        let format = self.table.format(record);
        let pack = BlobId::new(self.table.pack_name(record)?);
        let what = format!("content {id} in pack {pack}");
        if format.encryption_key_id != 0 {
            return Err(FormatError::malformed(what, "an unknown encryption key").into());
        }
        let start = u64::from(fields.pack_offset);
        let range = start..start + u64::from(fields.packed_length);
        let known = self.kept.borrow().places.get(id).copied();
        let (file, range) = match known {
            Some((at, bytes)) => (self.kept.borrow().file.clone(), at..at + bytes),
            None => {
                let (repository, workspace) = (self.repository, self.workspace);
                let opened = open_content_into_scratch(repository, workspace, id, &pack, range)?;
                let bytes = opened.len();
                self.keep(id, &opened)?;
                (Some(opened), 0..bytes)
            }
        };
        let file = file.ok_or(RepositoryError::Interrupted)?;
        let reader = SequentialReader::new(file, range, READ_BYTES);
        let compressed = Compressed {
            header_id: format.compression_header_id,
            plain_bytes: fields.original_length.into(),
            object: object.compressed,
        };
        Decompressor::new(0).open_stream(compressed, reader, &what, &mut |piece| {
            sink.piece(piece, &what)
        })
    }

    /// Copies a decrypted content behind those that are kept.
    fn keep(&self, id: &ContentId, opened: &Arc<ScratchFile>) -> Result<(), RepositoryError> {
        let mut kept = self.kept.borrow_mut();
        if kept.places.len() >= KEPT_MAX {
            return Ok(());
        }
        let file = match &kept.file {
            Some(file) => Arc::clone(file),
            None => Arc::new(self.workspace.scratch.create_file("object-parts")?),
        };
        let (at, bytes) = (file.len(), opened.len());
        let mut reader = SequentialReader::new(Arc::clone(opened), 0..bytes, READ_BYTES);
        while reader.remaining() > 0 {
            let piece = reader.remaining().min(READ_BYTES as u64) as usize;
            if let Some(piece) = reader.next(piece)? {
                file.append(piece)?;
            }
        }
        kept.file = Some(file);
        kept.places.insert(*id, (at, bytes));
        Ok(())
    }
}

/// Takes an index object and gives the parts that it lists.
struct Parts<'s, 'a> {
    streams: &'s ObjectStreams<'a>,
    sink: &'s mut dyn ObjectSink,
    reader: IndirectReader,
    nesting: usize,
}

impl ObjectSink for Parts<'_, '_> {
    fn content(&mut self, content: &ContentId) -> Result<(), RepositoryError> {
        self.sink.content(content)
    }

    fn piece(&mut self, piece: &[u8], what: &dyn fmt::Display) -> Result<(), RepositoryError> {
        let (streams, nesting) = (self.streams, self.nesting);
        let sink = &mut *self.sink;
        self.reader.push(piece, what, |part| {
            streams.object(&part.object, sink, nesting)
        })
    }
}
