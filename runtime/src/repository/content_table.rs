//! The whole index as a reader sees it, written once as one sorted run: what every task of a full
//! run reads.
//!
//! Each content has one record, that of the entry that counts; tombstones up to the deletion
//! watermark are left out, after the winner is chosen. Records name their pack by its canonical
//! number, so that equal numbers are equal packs. The run is read from the start or from a key on,
//! as often as wanted.
//!
//! Memory: a load, then a merge; afterwards [`READ_BYTES`] for each open stream, four times that
//! where the table is large. Scratch: one record for each content, one key for each that was
//! dropped. Invariant: keys ascend strictly. Mirrors `listContents` of Kopia's
//! `repo/content/committed_content_index.go`.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use crate::kopia::index_blob::ContentFormat;
use crate::spill::{ScratchFile, SequentialReader, SequentialWriter};

use super::active_index::ActiveIndex;
use super::contents::is_dropped;
use super::index_load::{Loaded, Strictness};
use super::index_pipeline::{BATCH_BYTES, feed_records, take_winners};
use super::pack_names::PackTable;
use super::record::{RECORD_BYTES_MAX, RecordFields, RecordLayout};
use super::winners::Records;
use super::working_time::WorkingTime;
use super::{Repository, RepositoryError, Workspace};

/// Read and write buffer of the run, in bytes; the kernel reads as much ahead.
pub const READ_BYTES: usize = 128 * 1024;

/// Tables of this size go past the page cache.
const LARGE_TABLE_BYTES: u64 = 8 << 20;

/// Batches of records between the merging thread and the writing one.
const BATCHES: usize = 2;

/// The winners of the active index, sorted by key.
pub struct ContentTable {
    /// Names of their packs.
    pub packs: PackTable,
    /// Content formats by number.
    pub formats: Vec<ContentFormat>,
    /// Form of the records.
    pub layout: RecordLayout,
    /// Longest length of any entry of the index, packed or original, in bytes.
    pub longest_length: u32,
    records: Arc<ScratchFile>,
    contents: u64,
    dropped: Arc<ScratchFile>,
}

impl ContentTable {
    /// Reads all blobs of `active` and writes the table.
    ///
    /// Entries that a client would refuse fail the load: the tasks that use a table write entries
    /// again. A blob that is gone is [`RepositoryError::Vanished`]: time for a fresh listing.
    pub fn load(
        repository: &Repository,
        workspace: &Workspace,
        active: &ActiveIndex,
    ) -> Result<Self, RepositoryError> {
        let loaded = active.load(repository, workspace, Some(0), Strictness::ForWriting)?;
        Self::of_loaded(workspace, loaded, active.watermark_seconds())
    }

    /// Writes the table of a load with one target, number 0.
    pub fn of_loaded(
        workspace: &Workspace,
        loaded: Loaded,
        watermark_seconds: Option<i64>,
    ) -> Result<Self, RepositoryError> {
        let progress = &workspace.progress;
        let total = loaded.records.records();
        progress.begin("merge the index", "entries", Some(total));
        let written = write_winners(workspace, &loaded, watermark_seconds)?;
        progress.end();
        Ok(Self {
            packs: loaded.packs,
            formats: loaded.formats,
            layout: loaded.layout,
            longest_length: loaded.stats.longest_length,
            records: written.records,
            contents: written.contents,
            dropped: written.dropped,
        })
    }

    /// Returns the number of contents, tombstones above the watermark included.
    pub fn contents(&self) -> u64 {
        self.contents
    }

    /// Returns the bytes of the run.
    pub fn scratch_bytes(&self) -> u64 {
        self.contents * self.layout.record_bytes() as u64
    }

    /// Returns the fields of a record.
    #[inline]
    pub fn fields(&self, record: &[u8]) -> RecordFields {
        self.layout.fields(record)
    }

    /// Returns the key of a record: prefix byte and hash.
    #[inline]
    pub fn key<'r>(&self, record: &'r [u8]) -> &'r [u8] {
        self.layout.key(record)
    }

    /// Returns the content format of a record.
    pub fn format(&self, record: &[u8]) -> ContentFormat {
        let number = usize::from(self.fields(record).format);
        self.formats.get(number).copied().unwrap_or_default()
    }

    /// Returns the pack blob ID of a record: one random read of scratch, for messages and single
    /// contents.
    pub fn pack_name(&self, record: &[u8]) -> Result<String, RepositoryError> {
        let name = self.packs.name(self.layout.pack(record))?;
        Ok(String::from_utf8_lossy(&name).into_owned())
    }

    /// Streams the keys of the contents whose tombstones readers do not see any more, in their
    /// order: what was dropped, and is no loss.
    pub fn dropped_keys(&self) -> ContentStream {
        let bytes = self.layout.key_bytes;
        let (file, buffer_bytes) = (Arc::clone(&self.dropped), READ_BYTES / bytes * bytes);
        ContentStream {
            reader: SequentialReader::new(file, 0..self.dropped.len(), buffer_bytes),
            record_bytes: bytes,
        }
    }

    /// Streams all records in the order of keys.
    pub fn stream(&self) -> Result<ContentStream, RepositoryError> {
        Ok(self.stream_rows(0, self.contents))
    }

    /// Streams the records of contents whose ID has `prefix`; 0 means those without one.
    pub fn stream_prefix(&self, prefix: u8) -> Result<ContentStream, RepositoryError> {
        let upper = prefix.checked_add(1).map(|next| [next]);
        self.stream_range(&[prefix], upper.as_ref().map(|key| &key[..]))
    }

    /// Streams the records from key `lower` on, up to and without `upper`. Both may be leading
    /// bytes of keys.
    pub fn stream_range(
        &self,
        lower: &[u8],
        upper: Option<&[u8]>,
    ) -> Result<ContentStream, RepositoryError> {
        let first = self.row_of(lower)?;
        let end = match upper {
            Some(upper) => self.row_of(upper)?.max(first),
            None => self.contents,
        };
        Ok(self.stream_rows(first, end))
    }

    /// Returns the number of the first record whose key is `lower` or larger.
    fn row_of(&self, lower: &[u8]) -> Result<u64, RepositoryError> {
        let mut record = [0; RECORD_BYTES_MAX];
        let record = &mut record[..self.layout.record_bytes()];
        let (mut first, mut end) = (0, self.contents);
        while first < end {
            let middle = first + (end - first) / 2;
            self.read_rows(middle, record)?;
            if self.layout.key(record) < lower {
                first = middle + 1;
            } else {
                end = middle;
            }
        }
        Ok(first)
    }

    /// Fills `records` with those from number `row` on.
    pub(super) fn read_rows(&self, row: u64, records: &mut [u8]) -> Result<(), RepositoryError> {
        let at = row * self.layout.record_bytes() as u64;
        Ok(self.records.read_exact_at(records, at)?)
    }

    fn stream_rows(&self, first: u64, end: u64) -> ContentStream {
        let bytes = self.layout.record_bytes();
        let range = first * bytes as u64..end * bytes as u64;
        let buffer_bytes = READ_BYTES / bytes * bytes;
        ContentStream {
            reader: SequentialReader::new(Arc::clone(&self.records), range, buffer_bytes),
            record_bytes: bytes,
        }
    }
}

/// Records of a table in the order of keys, lent one by one.
pub struct ContentStream {
    reader: SequentialReader,
    record_bytes: usize,
}

impl ContentStream {
    /// Lets the page cache behind the stream go: right for the last reading of a large table.
    #[must_use]
    pub fn drop_behind(mut self) -> Self {
        self.reader = self.reader.drop_behind();
        self
    }

    /// Returns how many records are left.
    pub fn remaining(&self) -> u64 {
        self.reader.remaining() / self.record_bytes as u64
    }

    /// Returns the next record, `None` at the end.
    #[allow(clippy::should_implement_trait)] // it lends, which an iterator cannot
    #[inline]
    pub fn next(&mut self) -> Result<Option<&[u8]>, RepositoryError> {
        Ok(self.reader.next(self.record_bytes)?)
    }
}

impl Records for ContentStream {
    fn next(&mut self) -> Result<Option<&[u8]>, RepositoryError> {
        ContentStream::next(self)
    }
}

/// What was written of a load.
struct Written {
    records: Arc<ScratchFile>,
    contents: u64,
    /// Keys of contents that are as if absent.
    dropped: Arc<ScratchFile>,
}

/// Merges in one thread, chooses winners and writes them in another.
fn write_winners(
    workspace: &Workspace,
    loaded: &Loaded,
    watermark_seconds: Option<i64>,
) -> Result<Written, RepositoryError> {
    let (layout, packs) = (loaded.layout, &loaded.packs);
    let bytes = layout.record_bytes();
    let scratch = &workspace.scratch;
    let records = match loaded.records.records() * bytes as u64 >= LARGE_TABLE_BYTES {
        true => scratch.create_large_file("content-table")?,
        false => scratch.create_file("content-table")?,
    };
    let (records, dropped) = (
        Arc::new(records),
        Arc::new(scratch.create_file("dropped-keys")?),
    );
    let mut writer = SequentialWriter::new(Arc::clone(&records), READ_BYTES);
    let mut dropped_writer = SequentialWriter::new(Arc::clone(&dropped), READ_BYTES);
    let merge = loaded.records.merge()?;
    let (batches_out, batches_in) = sync_channel(BATCHES);
    let (used_out, used_in) = sync_channel(2 * BATCHES);
    let mut contents = 0u64;
    std::thread::scope(|scope| {
        let (progress, out) = (&*workspace.progress, batches_out);
        let merging = scope.spawn(move || feed_records(merge, layout, &out, &used_in, progress));
        let time = WorkingTime::start(progress);
        let written = take_winners(&batches_in, &used_out, layout, packs, &time, |record| {
            let mut fields = layout.fields(record);
            if is_dropped(&fields, watermark_seconds) {
                dropped_writer.write(layout.key(record))?;
                return Ok(());
            }
            fields.pack = packs.canonical(fields.pack);
            layout.encode(writer.room(bytes)?, 0, 0, layout.key(record), &fields);
            contents += 1;
            if contents.is_multiple_of((BATCH_BYTES / bytes) as u64) {
                workspace.progress.advance((BATCH_BYTES / bytes) as u64);
            }
            Ok(())
        });
        drop(batches_in); // so that the other thread ends, whatever happened here
        let merged = merging.join().unwrap_or(Err(RepositoryError::Interrupted));
        merged.and(written)
    })?;
    writer.finish()?;
    dropped_writer.finish()?;
    Ok(Written {
        records,
        contents,
        dropped,
    })
}
