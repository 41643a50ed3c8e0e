//! One thread of the mark: reads directories and index objects and says what they refer to.
//!
//! Every content that is referred to goes to the contents in use; directories and index objects
//! also to the list of what is read next. Memory: two sort buffers, and what one incomplete
//! directory entry takes. Invariant: nothing is left out: an entry without a usable object ID is an
//! error.

use crate::kopia::FormatError;
use crate::kopia::content_id::ContentId;
use crate::kopia::directory::{Below, DirectoryEntry, DirectoryReader, EntryKind};
use crate::kopia::indirect_object::IndirectReader;
use crate::kopia::object_id::ObjectId;
use crate::spill::SortBuffer;

use super::RepositoryError;
use super::content_requests::{Body, Requested, TakeContents};
use super::object_streams::ObjectSink;

/// Tags of contents to be read; the bits are those of [`super::used_contents`]'s table.
pub(super) mod tag {
    /// A directory.
    pub(in crate::repository) const DIRECTORY: u8 = 1;
    /// A directory that is compressed as an object.
    pub(in crate::repository) const COMPRESSED_DIRECTORY: u8 = 2;
    /// The index object of a file.
    pub(in crate::repository) const INDEX: u8 = 4;
    /// The index object of a directory.
    pub(in crate::repository) const DIRECTORY_INDEX: u8 = 8;
}

/// How the object of a key is to be read: [`NEXT_BYTES`] behind the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) directory: bool,
    pub(super) compressed: bool,
    pub(super) indirections: u8,
    /// 2 to this power bytes of directories belong to it; 0 when nothing does.
    pub(super) reach: u8,
    /// Whose it is; 0 where nobody asks.
    pub(super) tenant: u8,
}

/// Bytes of [`Next`].
pub(super) const NEXT_BYTES: usize = 3;

/// Bytes of a directory as stored, without and for each entry: zstd leaves the hash and a little.
const DIRECTORY_BYTES: u64 = 256;
const ENTRY_BYTES: u64 = 48;

impl Next {
    pub(super) fn of(object: &ObjectId, directory: Option<Below>, tenant: u8) -> Self {
        Self {
            directory: directory.is_some(),
            compressed: object.compressed,
            indirections: object.indirections,
            reach: directory.map_or(0, reach_of),
            tenant,
        }
    }

    pub(super) fn encode(self) -> [u8; NEXT_BYTES] {
        let kind = u8::from(self.directory) | (u8::from(self.compressed) << 1);
        [kind | (self.indirections << 2), self.reach, self.tenant]
    }

    pub(super) fn decode([kind, reach, tenant]: [u8; NEXT_BYTES]) -> Self {
        Self {
            directory: kind & 1 != 0,
            compressed: kind & 2 != 0,
            indirections: kind >> 2,
            reach,
            tenant,
        }
    }

    /// Returns the object with `content`.
    pub(super) fn object(self, content: ContentId) -> ObjectId {
        ObjectId {
            indirections: self.indirections,
            compressed: self.compressed,
            content,
        }
    }
}

/// Returns how far the directories below one reach, as a power of two of bytes: clients write them
/// right before it.
fn reach_of(below: Below) -> u8 {
    if below.directories < 2 {
        return 0; // itself
    }
    let bytes = (below.directories - 1).saturating_mul(DIRECTORY_BYTES);
    let bytes = bytes.saturating_add(below.files.saturating_mul(ENTRY_BYTES));
    (u64::BITS - bytes.leading_zeros()) as u8
}

/// Where the references of one thread go.
pub(super) struct References {
    pub(super) key_bytes: usize,
    /// Whose directory or object is read; 0 where nobody asks.
    pub(super) tenant: u8,
    /// Keys of contents in use, each with a tenant's number where somebody asks.
    pub(super) used: SortBuffer,
    /// Keys of what is read next, each with the bytes of [`Next`].
    pub(super) next: Option<SortBuffer>,
}

impl References {
    /// Notes that a content is in use.
    #[inline]
    pub(super) fn content(&mut self, content: &ContentId) -> Result<(), RepositoryError> {
        if content.key().len() != self.key_bytes {
            return Err(no_content(content)); // no content of this repository has such an ID
        }
        if self.tenant == 0 {
            return Ok(self.used.push(content.key())?);
        }
        let (key, tenant) = (content.key(), self.tenant);
        Ok(self.used.push_whole(|out| {
            out[..key.len()].copy_from_slice(key);
            out[key.len()] = tenant;
        })?)
    }

    /// Notes that an object is in use, and reads it next where it refers to others.
    #[inline]
    pub(super) fn object(
        &mut self,
        object: &ObjectId,
        directory: Option<Below>,
    ) -> Result<(), RepositoryError> {
        self.content(&object.content)?;
        if directory.is_none() && object.indirections == 0 {
            return Ok(());
        }
        let (key, next) = (
            object.content.key(),
            Next::of(object, directory, self.tenant).encode(),
        );
        let buffer = self.next.as_mut().ok_or(RepositoryError::Interrupted)?;
        Ok(buffer.push_with(|out| {
            out[..key.len()].copy_from_slice(key);
            out[key.len()..].copy_from_slice(&next);
        })?)
    }

    #[inline]
    fn entry(&mut self, entry: &DirectoryEntry<'_>) -> Result<(), RepositoryError> {
        let directory = entry.kind == EntryKind::Directory;
        self.object(&entry.object, directory.then_some(entry.below))
    }
}

#[cold]
pub(super) fn no_content(content: &ContentId) -> RepositoryError {
    RepositoryError::NoContent {
        content: content.to_string(),
    }
}

/// The thread's state.
pub(super) struct MarkWorker {
    pub(super) references: References,
    directory: DirectoryReader,
    index: IndirectReader,
    /// Directories read.
    pub(super) directories: u64,
    /// Index objects read.
    pub(super) indexes: u64,
}

impl MarkWorker {
    pub(super) fn new(key_bytes: usize, used: SortBuffer) -> Self {
        Self {
            references: References {
                key_bytes,
                tenant: 0,
                used,
                next: None,
            },
            directory: DirectoryReader::new(),
            index: IndirectReader::new(),
            directories: 0,
            indexes: 0,
        }
    }

    /// Returns where a directory of a tenant goes that comes as a stream.
    pub(super) fn directory_sink(&mut self, tenant: u8) -> DirectorySink<'_> {
        self.directories += 1;
        self.references.tenant = tenant;
        DirectorySink {
            references: &mut self.references,
            reader: &mut self.directory,
        }
    }

    /// Returns where an index object of a tenant goes that comes as a stream.
    pub(super) fn index_sink(&mut self, tenant: u8) -> IndexSink<'_> {
        self.indexes += 1;
        self.references.tenant = tenant;
        IndexSink {
            references: &mut self.references,
            reader: &mut self.index,
        }
    }
}

impl TakeContents for MarkWorker {
    fn forget(&mut self) {
        self.directory = DirectoryReader::new();
        self.index = IndirectReader::new();
    }

    fn take(&mut self, content: &Requested<'_>, body: Body<'_, '_>) -> Result<(), RepositoryError> {
        match content.tag {
            tag::DIRECTORY | tag::COMPRESSED_DIRECTORY => {
                let mut sink = self.directory_sink(content.tenant);
                body.pieces(content.tag == tag::COMPRESSED_DIRECTORY, &mut |piece| {
                    sink.piece(piece, content)
                })?;
                Ok(sink.reader.finish(content)?)
            }
            tag::INDEX => {
                let mut sink = self.index_sink(content.tenant);
                body.pieces(false, &mut |piece| sink.piece(piece, content))?;
                sink.reader.finish(content)?;
                Ok(())
            }
            _ => {
                let reason = "it is referred to as a directory and as something else";
                Err(FormatError::malformed(content.to_string(), reason).into())
            }
        }
    }
}

/// Takes the pieces of a directory.
pub(super) struct DirectorySink<'a> {
    references: &'a mut References,
    pub(super) reader: &'a mut DirectoryReader,
}

impl ObjectSink for DirectorySink<'_> {
    fn content(&mut self, content: &ContentId) -> Result<(), RepositoryError> {
        self.references.content(content)
    }

    #[inline]
    fn piece(&mut self, piece: &[u8], what: &dyn std::fmt::Display) -> Result<(), RepositoryError> {
        let references = &mut *self.references;
        self.reader
            .push(piece, what, |entry| references.entry(&entry))
    }
}

/// Takes the pieces of an index object.
pub(super) struct IndexSink<'a> {
    references: &'a mut References,
    pub(super) reader: &'a mut IndirectReader,
}

impl ObjectSink for IndexSink<'_> {
    fn content(&mut self, content: &ContentId) -> Result<(), RepositoryError> {
        self.references.content(content)
    }

    fn piece(&mut self, piece: &[u8], what: &dyn std::fmt::Display) -> Result<(), RepositoryError> {
        let references = &mut *self.references;
        self.reader
            .push(piece, what, |part| references.object(&part.object, None))
    }
}
