//! Contents that are to be read and opened, in pack order, by several threads.
//!
//! ```text
//! push(key, entry, tag) … -> sort by pack -> PackReader -> decrypt -> decompress -> you
//! ```
//!
//! The tag comes back with the content: what is to be done with it. Workers get contents in no
//! particular order, each in pieces. Memory: one sort buffer of [`BUFFER_BYTES`] while contents are
//! pushed; then the batches of [`super::pack_reader`] and for each worker what ECC decodes and what
//! is decompressed, a buffer each. Invariant: no byte is given out before its content's tag was
//! verified with the key of its content ID.

use std::fmt;

use crate::kopia::FormatError;
use crate::kopia::blob_id::BlobId;
use crate::kopia::compression::{Compressed, Decompressor};
use crate::kopia::content_id::ContentId;
use crate::kopia::index_blob::ContentFormat;
use crate::kopia::sealed_blob::renamed;
use crate::memory::WORKERS;
use crate::spill::{Runs, SequentialReader, SortBuffer, SortMemory, Sorter};

use super::faults::Faults;
use super::pack_names::PackTable;
use super::pack_order::{PackOrder, Place};
use super::pack_reader::{PackBatch, PackReader};
use super::read_ahead::ReadAhead;
use super::record::RecordFields;
use super::sealed_pieces::open_content_into_scratch;
use super::{Repository, RepositoryError, Workspace};

/// Sort buffer of requests, in bytes.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Runs of small sorts that are merged at once, and what is read of each.
const RUNS_MAX: usize = 16;
const RUN_READ_BYTES: usize = 64 * 1024;

/// What travels along: original length 4 | format 1 | tag 1 | tenant 1 | reach 1.
const EXTRA_BYTES: usize = 8;

/// Returns the memory of small sorts beside the large ones: `buffers` of `buffer_bytes`.
pub(super) fn small_sort(workspace: &Workspace, buffer_bytes: usize, buffers: usize) -> SortMemory {
    let memory = workspace.sort_memory(buffers);
    SortMemory {
        buffer_bytes: buffer_bytes.min(memory.buffer_bytes),
        run_read_bytes: RUN_READ_BYTES.min(memory.run_read_bytes),
        runs_max: RUNS_MAX.min(memory.runs_max),
        ..memory
    }
}

/// Collects requests.
pub(super) struct ContentRequests {
    layout: PackOrder,
    sorter: Sorter,
    buffer: SortBuffer,
}

impl ContentRequests {
    /// Makes an empty collection, for some of all contents.
    pub(super) fn new(workspace: &Workspace, key_bytes: usize) -> Self {
        Self::sorted_in(workspace, key_bytes, small_sort(workspace, BUFFER_BYTES, 1))
    }

    /// Makes an empty collection, for any number of contents, in the phase of the memory plan that
    /// reads all of them.
    pub(super) fn for_all(workspace: &Workspace, key_bytes: usize) -> Self {
        Self::sorted_in(workspace, key_bytes, PackOrder::sort_memory(workspace, 1))
    }

    fn sorted_in(workspace: &Workspace, key_bytes: usize, memory: SortMemory) -> Self {
        let layout = PackOrder {
            key_bytes,
            extra_bytes: EXTRA_BYTES,
        };
        let sorter = Sorter::new(workspace.scratch.clone(), layout.shape(), memory);
        let buffer = sorter.buffer();
        Self {
            layout,
            sorter,
            buffer,
        }
    }

    /// Adds a content; its pack is given by its canonical number. The same request twice is one.
    /// `reach` is for [`super::read_ahead`]: 2 to this power bytes before it belong to it.
    pub(super) fn push(
        &mut self,
        key: &[u8],
        fields: &RecordFields,
        tag: u8,
        reach: u8,
    ) -> Result<(), RepositoryError> {
        self.push_for(key, fields, (tag, reach), 0)
    }

    /// Does the same for a tenant, whose number comes back with the content.
    pub(super) fn push_for(
        &mut self,
        key: &[u8],
        fields: &RecordFields,
        (tag, reach): (u8, u8),
        tenant: u8,
    ) -> Result<(), RepositoryError> {
        let place = Place {
            group: 0,
            pack: fields.pack,
            offset: fields.pack_offset,
            length: fields.packed_length,
        };
        let mut extra = [0; EXTRA_BYTES];
        extra[..4].copy_from_slice(&fields.original_length.to_be_bytes());
        extra[4..].copy_from_slice(&[fields.format, tag, tenant, reach]);
        let layout = self.layout;
        Ok(self
            .buffer
            .push_with(|out| layout.encode(out, &place, key, &extra))?)
    }

    /// Ends the collection.
    pub(super) fn finish(self) -> Result<SortedRequests, RepositoryError> {
        self.buffer.finish()?;
        Ok(SortedRequests {
            layout: self.layout,
            runs: self.sorter.finish()?,
            window_bytes: None,
            shelved: false,
        })
    }
}

/// Requests in the order in which they will be read.
pub(super) struct SortedRequests {
    layout: PackOrder,
    runs: Runs,
    window_bytes: Option<usize>,
    shelved: bool,
}

/// Names and formats that the requests refer to.
#[derive(Clone, Copy)]
pub(super) struct ContentSource<'a> {
    pub(super) packs: &'a PackTable,
    pub(super) formats: &'a [ContentFormat],
}

/// One content that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requested<'a> {
    /// Its key.
    pub(super) key: &'a [u8],
    /// The pack that it lies in.
    pub(super) pack: &'a BlobId,
    /// What is to be done with it.
    pub(super) tag: u8,
    /// The tenant that it was asked for; 0 without one.
    pub(super) tenant: u8,
    place: Place,
    original_length: u32,
    format: ContentFormat,
}

impl fmt::Display for Requested<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ContentId::from_key(self.key) {
            Ok(id) => write!(f, "content {id} in pack {}", self.pack),
            Err(_) => write!(f, "content {} in pack {}", hex::encode(self.key), self.pack),
        }
    }
}

/// Takes contents, on a thread of its own.
pub(super) trait TakeContents: Send {
    /// Takes one content; `body` gives its plaintext. With `object` given to `body`, what the
    /// content holds is decompressed once more.
    fn take(&mut self, content: &Requested<'_>, body: Body<'_, '_>) -> Result<(), RepositoryError>;

    /// Forgets what is left of a content that ended with an error, where the work goes on.
    fn forget(&mut self) {}
}

/// A content that is about to be opened.
pub(super) struct Body<'a, 'o> {
    opener: &'a mut ContentOpener<'o>,
    content: &'a Requested<'a>,
    /// The bytes as stored; none when they do not fit into memory.
    stored: Option<&'a mut [u8]>,
}

impl Body<'_, '_> {
    /// Gives the plaintext to `each`, piece by piece. `object` says that it is an object that is
    /// compressed as a whole (`Z`), which is undone too.
    pub(super) fn pieces(
        self,
        object: bool,
        each: &mut dyn FnMut(&[u8]) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        match self.stored {
            Some(stored) => self.opener.open(self.content, stored, object, each),
            None => self.opener.open_large(self.content, object, each),
        }
    }
}

impl SortedRequests {
    /// Reads in buffers of `bytes` instead of those of the mark.
    pub(super) fn in_windows(self, bytes: usize) -> Self {
        let window_bytes = Some(bytes);
        Self {
            window_bytes,
            ..self
        }
    }

    /// Keeps what is read for the next task of the run that asks for the same contents.
    pub(super) fn shelved(self) -> Self {
        Self {
            shelved: true,
            ..self
        }
    }

    /// Reads and opens everything; each of `workers` (at most [`WORKERS`]) takes some of it. Goes
    /// on behind damage where `faults` take note of it.
    ///
    /// # Errors
    /// Without `faults` a pack that is gone or too short, a content whose tag does not fit or that
    /// cannot be decompressed, what a worker gives; with them only what keeps us from reading. The
    /// other workers stop soon after.
    pub(super) fn read<W: TakeContents>(
        &self,
        repository: &Repository,
        workspace: &Workspace,
        source: ContentSource<'_>,
        ahead: Option<&ReadAhead>,
        faults: Option<&Faults>,
        workers: &mut [W],
    ) -> Result<(), RepositoryError> {
        debug_assert!(workers.len() <= WORKERS);
        let mut reader = PackReader::new(self.runs.merge()?, self.layout, source.packs);
        if let Some(ahead) = ahead {
            reader = reader.reading_ahead(ahead);
        }
        if self.shelved {
            reader = reader.keeping_stretches(&workspace.scratch);
        }
        // Others want other pieces of the same packs.
        if (self.shelved || ahead.is_some()) && repository.storage.waits() {
            reader = reader.reading_heads(&workspace.scratch);
        }
        if faults.is_some() {
            reader = reader.going_on();
        }
        let buffer_bytes = self.window_bytes;
        let buffer_bytes = buffer_bytes.unwrap_or(workspace.memory.read_window_bytes);
        let lanes = workers.iter_mut().map(|worker| {
            let mut opener = ContentOpener {
                repository,
                workspace,
                formats: source.formats,
                faults,
                decoded: Vec::new(),
                decompressor: Decompressor::new(buffer_bytes),
            };
            let layout = self.layout;
            move |batch: &mut PackBatch| opener.batch(layout, batch, worker)
        });
        reader.read(&repository.storage, buffer_bytes, lanes.collect(), |_| {
            Ok::<(), RepositoryError>(())
        })
    }
}

/// Opens contents, one after the other, for one thread.
pub(super) struct ContentOpener<'a> {
    repository: &'a Repository,
    workspace: &'a Workspace,
    formats: &'a [ContentFormat],
    faults: Option<&'a Faults>,
    decoded: Vec<u8>,
    decompressor: Decompressor,
}

impl<'a> ContentOpener<'a> {
    fn batch<W: TakeContents>(
        &mut self,
        layout: PackOrder,
        batch: &mut PackBatch,
        worker: &mut W,
    ) -> Result<(), RepositoryError> {
        let (large, faults) = (batch.large(), self.faults);
        batch.announce_large(&self.repository.storage);
        for number in 0..batch.len() {
            let unread = batch.unread(number);
            batch.with_bytes(number, |record, pack, stored| {
                let [l0, l1, l2, l3, format, tag, tenant, _] = layout
                    .extra(record)
                    .try_into()
                    .map_err(|_| RepositoryError::Interrupted)?;
                let format = self.formats.get(usize::from(format)).copied();
                let requested = Requested {
                    key: layout.key(record),
                    pack,
                    tag,
                    tenant,
                    place: layout.place(record),
                    original_length: u32::from_be_bytes([l0, l1, l2, l3]),
                    format: format.unwrap_or_default(),
                };
                let body = Body {
                    opener: &mut *self,
                    content: &requested,
                    stored: (!large).then_some(stored),
                };
                let taken = match unread {
                    Some(error) => Err(error),
                    None => worker.take(&requested, body),
                };
                match (taken, faults) {
                    (Err(error), Some(faults)) => {
                        worker.forget();
                        faults.note(error, Some((requested.key, pack)))
                    }
                    (taken, _) => taken,
                }
            })?;
            self.workspace.progress.advance(1);
        }
        Ok(())
    }

    /// Opens a content that lies in memory.
    fn open(
        &mut self,
        content: &Requested<'_>,
        stored: &mut [u8],
        object: bool,
        each: &mut dyn FnMut(&[u8]) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let id = ContentId::from_key(content.key)?;
        let compressed = compressed(content, object)?;
        let fails = |error| renamed(error, &content.to_string());
        let crypto = &self.repository.crypto;
        let sealed = match &crypto.ecc {
            None => stored,
            Some(ecc) => {
                self.decoded.clear();
                ecc.decode(stored, &mut self.decoded).map_err(fails)?;
                self.decoded.as_mut_slice()
            }
        };
        let plain = crypto.encryption.open(id.iv(), sealed).map_err(fails)?;
        self.decompressor.open(compressed, plain, content, each)
    }

    /// Opens a content through scratch.
    fn open_large(
        &mut self,
        content: &Requested<'_>,
        object: bool,
        each: &mut dyn FnMut(&[u8]) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let id = ContentId::from_key(content.key)?;
        let compressed = compressed(content, object)?;
        let start = u64::from(content.place.offset);
        let range = start..start + u64::from(content.place.length);
        let (repository, workspace) = (self.repository, self.workspace);
        let file = open_content_into_scratch(repository, workspace, &id, content.pack, range)?;
        let bytes = 0..file.len();
        let reader = SequentialReader::new(file, bytes, RUN_READ_BYTES).drop_behind();
        self.decompressor
            .open_stream(compressed, reader, content, each)
    }
}

/// Returns how a content is to be decompressed.
fn compressed(content: &Requested<'_>, object: bool) -> Result<Compressed, FormatError> {
    if content.format.encryption_key_id != 0 {
        let reason = "an unknown encryption key";
        return Err(FormatError::malformed(content.to_string(), reason));
    }
    Ok(Compressed {
        header_id: content.format.compression_header_id,
        plain_bytes: content.original_length.into(),
        object,
    })
}
