//! New index entries of contents that stay where they are: tombstones.
//!
//! They come in the order of a table's keys, wait in scratch until all are known to be right, and
//! are then written as one flush of a client that has no packs. Memory: one write buffer; then that
//! of [`super::index_writer`]. Mirrors `flushPackIndexesLocked` of Kopia's `content_manager.go`.

use std::sync::Arc;

use crate::kopia::blob_id::{BlobId, session_id};
use crate::spill::{ScratchFile, SequentialReader, SequentialWriter};

use super::content_table::{ContentTable, READ_BYTES};
use super::index_load::LoadStats;
use super::index_writer::{IndexOutput, IndexRows, write_index_rows};
use super::index_writer_v0::write_index_v0;
use super::record::RecordFields;
use super::uncompacted_writer::write_uncompacted;
use super::winners::Records;
use super::{Repository, RepositoryError, Workspace};

/// Entries of an index blob of a flush: Kopia's own.
const SHARD_ENTRIES: u64 = 16_000_000;

/// Entries that wait to be written.
pub struct NewEntries<'a> {
    table: &'a ContentTable,
    file: Arc<ScratchFile>,
    writer: SequentialWriter,
    stats: LoadStats,
}

impl<'a> NewEntries<'a> {
    /// Makes an empty list of entries of contents in `table`.
    pub fn create(workspace: &Workspace, table: &'a ContentTable) -> Result<Self, RepositoryError> {
        let file = Arc::new(workspace.scratch.create_file("new-entries")?);
        Ok(Self {
            table,
            writer: SequentialWriter::new(Arc::clone(&file), READ_BYTES),
            file,
            stats: LoadStats::default(),
        })
    }

    /// Adds an entry; keys must ascend, packs and formats are the table's numbers.
    #[inline]
    pub fn push(&mut self, key: &[u8], fields: &RecordFields) -> Result<(), RepositoryError> {
        let layout = self.table.layout;
        let room = self.writer.room(layout.record_bytes())?;
        layout.encode(room, 0, 0, key, fields);
        self.stats.entries += 1;
        let longest = fields.packed_length.max(fields.original_length);
        self.stats.longest_length = self.stats.longest_length.max(longest);
        Ok(())
    }

    /// Returns how many there are.
    pub fn len(&self) -> u64 {
        self.stats.entries
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.stats.entries == 0
    }

    /// Writes them as the repository's index manager wants it; returns the index blobs.
    ///
    /// # Errors
    /// [`RepositoryError::TooSlow`] when the write took so long that nobody would read it.
    pub fn write(
        mut self,
        repository: &Repository,
        workspace: &Workspace,
    ) -> Result<Vec<BlobId>, RepositoryError> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = self.writer.finish()?;
        self.stats.target_entries[0] = self.stats.entries;
        let table = self.table;
        table.packs.forget_values();
        let rows = IndexRows {
            layout: table.layout,
            packs: &table.packs,
            formats: &table.formats,
            stats: &self.stats,
        };
        let width = table.layout.record_bytes();
        let reader = SequentialReader::new(self.file, 0..bytes, READ_BYTES / width * width);
        let records = Stream { reader, width };
        let output = IndexOutput {
            shard_entries: SHARD_ENTRIES,
            drop_deleted_before: None,
            random_tails: false,
        };
        let indexes = write_index_rows(repository, workspace, &rows, records, &output)?;
        if repository.format.epochs.enabled {
            return write_uncompacted(repository, workspace, indexes);
        }
        let session = session_id(repository.random(), repository.clock.now());
        write_index_v0(repository, workspace, indexes, &session)
    }
}

/// The entries on their way to the index.
struct Stream {
    reader: SequentialReader,
    width: usize,
}

impl Records for Stream {
    fn next(&mut self) -> Result<Option<&[u8]>, RepositoryError> {
        Ok(self.reader.next(self.width)?)
    }
}
