//! Tasks `full-rewrite-contents` and `quick-rewrite-contents`: copies the contents of short packs
//! into full ones, so that the old packs become orphans.
//!
//! The table of contents is read twice: once for the bytes in use of every pack, once for the
//! contents of those that were chosen. These are sorted in pack order, read in long pieces by two
//! threads that verify every tag, and written as they are. A tag that does not fit ends the task;
//! what was copied before is indexed and valid, and the pack with the damage stays in use, so that
//! nobody deletes it.
//!
//! Memory: two numbers a pack in mapped scratch, a sort buffer; then the buffers of packs, the merge
//! of places, and a pack writer. Mirrors Kopia's `repo/maintenance/content_rewrite.go`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Timestamp;
use crate::kopia::blob_id::BlobId;
use crate::kopia::index_blob::ContentFormat;
use crate::memory::WORKERS;
use crate::repository::content_check::{ContentCheck, check_large};
use crate::repository::content_table::ContentTable;
use crate::repository::pack_names::name_of;
use crate::repository::pack_order::{PackOrder, Place};
use crate::repository::pack_reader::{PackBatch, PackReader};
use crate::repository::pack_writer::{
    NewContent, PackWriter, PackWriterStats, Sealed, next_timestamp,
};
use crate::repository::record::RecordFields;
use crate::repository::{Repository, RepositoryError, Workspace};
use crate::spill::{MappedU32, Runs, ScratchFile, SortBuffer, Sorter};

use super::MaintenanceError;
use super::pack_choice::{ChoosePacks, PackRow};
use super::safety::Safety;

/// What travels with a content: time 8, deleted 1, original length 4, format 1.
pub(super) const EXTRA_BYTES: usize = 14;

/// In the table of sums: the contents of this pack are rewritten. A sum never is: it stops before.
const CHOSEN: u32 = u32::MAX;

/// Packs in scratch at the same time: two open, one in each put, one between.
const PACKS_IN_SCRATCH: u64 = 5;

/// Which contents are rewritten, and as whom.
pub struct RewriteOptions<'a> {
    /// Only packs of this kind (`q` in quick maintenance); all without.
    pub kind: Option<u8>,
    /// Chooses packs; without it only the cases below are rewritten.
    pub packs: Option<&'a mut dyn ChoosePacks>,
    /// Contents that were written in this version of the format, as `kopia content rewrite
    /// --format-version` takes them.
    pub format_version: Option<u8>,
    /// Metadata in packs of data, and the other way round.
    pub wrong_kind: bool,
    /// The margins.
    pub safety: &'a Safety,
    /// The client's time when the table was read. New entries have this time, so that an entry that
    /// somebody else has written since wins against them.
    pub now: Timestamp,
    /// `user@host` that we act as.
    pub owner: &'a str,
    /// Asked between batches whether to end early; what is copied then is indexed.
    pub end_early: &'a dyn Fn() -> bool,
}

/// The contents that are to be rewritten.
pub struct RewritePlan {
    /// What the schedule records; nothing is rewritten yet.
    pub stats: RewriteContentsStats,
    /// Packs that were chosen.
    pub packs: u64,
    layout: PackOrder,
    places: Runs,
}

/// Kopia's statistics of the task, `rewriteContentsStats` in the schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RewriteContentsStats {
    /// Contents to rewrite.
    pub to_rewrite_content_count: u64,
    /// Their bytes as stored.
    pub to_rewrite_content_size: u64,
    /// Contents that were rewritten.
    pub rewritten_content_count: u64,
    /// Their bytes as stored.
    pub rewritten_content_size: u64,
    /// Contents that are too young.
    pub retained_content_count: u64,
    /// Their bytes as stored.
    pub retained_content_size: u64,
}

/// What the task did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RewriteReport {
    /// What the schedule records.
    pub stats: RewriteContentsStats,
    /// What was written.
    pub written: PackWriterStats,
    /// Contents that were damaged and that error correction has repaired.
    pub repaired: u64,
    /// Whether it ended early.
    pub ended_early: bool,
}

impl RewritePlan {
    /// Chooses contents. Reads the table, writes nothing.
    pub fn make(
        workspace: &Workspace,
        table: &ContentTable,
        options: &mut RewriteOptions<'_>,
    ) -> Result<Self, MaintenanceError> {
        let mut sums = sum_packs(workspace, table)?;
        let packs = choose(table, &mut sums, options)?;
        let layout = PackOrder {
            key_bytes: table.layout.key_bytes,
            extra_bytes: EXTRA_BYTES,
        };
        let memory = PackOrder::sort_memory(workspace, 1);
        let sorter = Sorter::new(workspace.scratch.clone(), layout.shape(), memory);
        let mut choice = Choice {
            table,
            sums: &sums,
            options,
            layout,
            places: sorter.buffer(),
            stats: RewriteContentsStats::default(),
        };
        let mut records = table.stream()?;
        while let Some(record) = records.next()? {
            choice.look(record)?;
        }
        let stats = choice.stats;
        choice.places.finish()?;
        Ok(Self {
            stats,
            packs,
            layout,
            places: sorter.finish()?,
        })
    }

    /// Makes a plan of contents that others have chosen: records of `layout` with what
    /// [`encode_extra`] gives.
    pub(super) fn of(stats: RewriteContentsStats, layout: PackOrder, places: Runs) -> Self {
        Self {
            stats,
            packs: 0,
            layout,
            places,
        }
    }

    /// Tells whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.stats.to_rewrite_content_count == 0
    }

    /// Copies the contents and writes their index.
    ///
    /// # Errors
    /// A content that is damaged, a pack that is gone: what was copied before is indexed.
    pub fn execute(
        self,
        repository: &Repository,
        workspace: &Workspace,
        table: &ContentTable,
        options: &RewriteOptions<'_>,
    ) -> Result<RewriteReport, MaintenanceError> {
        let mut report = RewriteReport {
            stats: self.stats,
            ..RewriteReport::default()
        };
        if self.is_empty() {
            return Ok(report);
        }
        workspace.scratch.require(self.needed_bytes(repository))?;
        let total = self.stats.to_rewrite_content_size;
        workspace
            .progress
            .begin("rewrite contents", "bytes", Some(total));
        let writer = PackWriter::new(repository, workspace, options.owner)?;
        let mut copy = Copying {
            repository,
            workspace,
            table,
            options,
            layout: self.layout,
            writer,
            report: &mut report,
        };
        let copied = copy.run(self.places);
        let finished = copy.writer.finish();
        workspace.progress.end();
        match copied {
            Ok(()) => {}
            Err(Stop::Early) => report.ended_early = true,
            Err(Stop::Error(error)) => {
                if let Err(also) = finished {
                    tracing::warn!(error = %also, "what was copied is not indexed");
                }
                return Err(error.into());
            }
        }
        report.written = finished?;
        Ok(report)
    }

    /// Returns the scratch that the copying needs besides what is there: packs on their way, and
    /// the entries of a flush, sorted and as index.
    pub fn needed_bytes(&self, repository: &Repository) -> u64 {
        let packs = repository.format.max_pack_size * PACKS_IN_SCRATCH;
        let entry = 3 * self.layout.record_bytes() as u64;
        packs + self.stats.to_rewrite_content_count * entry
    }
}

/// Returns where a content lies; data is read before metadata.
pub(super) fn place_of(key: &[u8], fields: &RecordFields) -> Place {
    Place {
        group: u8::from(is_metadata(key)),
        pack: fields.pack,
        offset: fields.pack_offset,
        length: fields.packed_length,
    }
}

/// Sums the bytes in use of every pack, by canonical number; a sum that does not fit is large
/// anyway.
fn sum_packs(workspace: &Workspace, table: &ContentTable) -> Result<MappedU32, RepositoryError> {
    let sums = MappedU32::create(&workspace.scratch, table.packs.numbers(), 0)?;
    let mut records = table.stream()?;
    while let Some(record) = records.next()? {
        let fields = table.fields(record);
        let number = u64::from(fields.pack);
        let sum = sums.get(number).saturating_add(fields.packed_length);
        sums.set(number, sum.min(CHOSEN - 1));
    }
    Ok(sums)
}

/// Marks the packs that are chosen; returns how many.
fn choose(
    table: &ContentTable,
    sums: &mut MappedU32,
    options: &mut RewriteOptions<'_>,
) -> Result<u64, RepositoryError> {
    let Some(packs) = &mut options.packs else {
        return Ok(0);
    };
    let mut count = 0;
    table.packs.for_each_canonical(|number, slot| {
        let used_bytes = sums.get(u64::from(number));
        let kind = name_of(slot).first().copied().unwrap_or(0);
        // A pack that no content lies in has nothing to copy.
        if used_bytes == 0 || options.kind.is_some_and(|wanted| wanted != kind) {
            return Ok(());
        }
        let row = PackRow {
            number,
            kind,
            used_bytes: u64::from(used_bytes),
        };
        packs.look(&row, &mut |chosen| {
            sums.set(u64::from(chosen), CHOSEN);
            count += 1;
        });
        Ok(())
    })?;
    Ok(count)
}

/// Looks at every content of the table.
struct Choice<'a, 'o> {
    table: &'a ContentTable,
    sums: &'a MappedU32,
    options: &'a RewriteOptions<'o>,
    layout: PackOrder,
    places: SortBuffer,
    stats: RewriteContentsStats,
}

impl Choice<'_, '_> {
    #[inline]
    fn look(&mut self, record: &[u8]) -> Result<(), RepositoryError> {
        let fields = self.table.fields(record);
        let key = self.table.key(record);
        let chosen = self.sums.get(u64::from(fields.pack)) == CHOSEN;
        if !chosen && !self.is_special(record, key, &fields)? {
            return Ok(());
        }
        let size = u64::from(fields.packed_length);
        let written = Timestamp::from_seconds(fields.timestamp_seconds);
        // A time in the future is younger than any age, also than none, as in Kopia.
        let young = self.options.now.since(written) < self.options.safety.rewrite_min_age;
        if young || written > self.options.now {
            self.stats.retained_content_count += 1;
            self.stats.retained_content_size += size;
            return Ok(());
        }
        self.stats.to_rewrite_content_count += 1;
        self.stats.to_rewrite_content_size += size;
        let (layout, place, extra) = (self.layout, place_of(key, &fields), encode_extra(&fields));
        self.places
            .push_with(|out| layout.encode(out, &place, key, &extra))?;
        Ok(())
    }

    /// Returns whether a content of a pack that was not chosen is rewritten all the same.
    #[inline]
    fn is_special(
        &self,
        record: &[u8],
        key: &[u8],
        fields: &RecordFields,
    ) -> Result<bool, RepositoryError> {
        let options = self.options;
        if options.format_version.is_none() && !options.wrong_kind {
            return Ok(false);
        }
        let name = self.table.packs.slot(fields.pack)?;
        let kind = name_of(&name).first().copied().unwrap_or(0);
        if options.kind.is_some_and(|wanted| wanted != kind) {
            return Ok(false);
        }
        let version = self.table.format(record).format_version;
        let right_kind = if is_metadata(key) { b'q' } else { b'p' };
        Ok(options.format_version == Some(version) || (options.wrong_kind && kind != right_kind))
    }
}

/// Returns whether a content has a prefix, and so belongs into a pack of metadata.
fn is_metadata(key: &[u8]) -> bool {
    key.first().is_some_and(|prefix| *prefix != 0)
}

/// Returns what travels with a content.
pub(super) fn encode_extra(fields: &RecordFields) -> [u8; EXTRA_BYTES] {
    let mut extra = [0; EXTRA_BYTES];
    extra[..8].copy_from_slice(&fields.timestamp_seconds.to_be_bytes());
    extra[8] = u8::from(fields.deleted);
    extra[9..13].copy_from_slice(&fields.original_length.to_be_bytes());
    extra[13] = fields.format;
    extra
}

/// Why the copying ended before its end.
enum Stop {
    Early,
    Error(RepositoryError),
}

impl From<RepositoryError> for Stop {
    fn from(error: RepositoryError) -> Self {
        Self::Error(error)
    }
}

/// Copies contents in pack order.
struct Copying<'a, 'o> {
    repository: &'a Repository,
    workspace: &'a Workspace,
    table: &'a ContentTable,
    options: &'a RewriteOptions<'o>,
    layout: PackOrder,
    writer: PackWriter<'a>,
    report: &'a mut RewriteReport,
}

impl Copying<'_, '_> {
    fn run(&mut self, places: Runs) -> Result<(), Stop> {
        let merge = places.into_merge(false).map_err(RepositoryError::from)?;
        let (layout, crypto) = (self.layout, &self.repository.crypto);
        let repaired = AtomicU64::new(0);
        let workers = (0..WORKERS)
            .map(|_| {
                let (mut check, repaired) = (ContentCheck::new(crypto), &repaired);
                move |batch: &mut PackBatch| {
                    let damaged = check_batch(&mut check, layout, batch)?;
                    repaired.fetch_add(damaged, Ordering::Relaxed);
                    Ok(())
                }
            })
            .collect();
        let reader = PackReader::new(merge, layout, &self.table.packs);
        let buffer_bytes = self.workspace.memory.pack_read_bytes;
        let storage = &self.repository.storage;
        let outcome = reader.read(storage, buffer_bytes, workers, |batch| self.take(batch));
        self.report.repaired += repaired.into_inner();
        outcome
    }

    /// Writes the contents of a batch, which are verified.
    fn take(&mut self, batch: &mut PackBatch) -> Result<(), Stop> {
        if (self.options.end_early)() {
            return Err(Stop::Early);
        }
        let mut bytes = 0;
        for number in 0..batch.len() {
            let content = batch.content(number);
            let (place, key) = (
                self.layout.place(content.record),
                self.layout.key(content.record),
            );
            let extra = self.layout.extra(content.record);
            bytes += u64::from(place.length);
            if batch.large() {
                let (file, damaged) = self.read_large(key, content.pack, &place)?;
                self.report.repaired += u64::from(damaged);
                self.write(key, extra, Sealed::File(&file))?;
            } else {
                self.write(key, extra, Sealed::Bytes(content.bytes))?;
            }
        }
        let stats = &mut self.report.stats;
        stats.rewritten_content_count += batch.len() as u64;
        stats.rewritten_content_size += bytes;
        self.workspace.progress.advance(bytes);
        Ok(())
    }

    fn read_large(
        &self,
        key: &[u8],
        pack: &BlobId,
        place: &Place,
    ) -> Result<(Arc<ScratchFile>, bool), RepositoryError> {
        let start = u64::from(place.offset);
        let range = start..start + u64::from(place.length);
        check_large(self.repository, self.workspace, key, pack, range)
    }

    fn write(&mut self, key: &[u8], extra: &[u8], sealed: Sealed<'_>) -> Result<(), Stop> {
        let extra: &[u8; EXTRA_BYTES] =
            extra.try_into().map_err(|_| RepositoryError::Interrupted)?;
        let (seconds, rest) = extra
            .split_first_chunk()
            .ok_or(RepositoryError::Interrupted)?;
        let previous = i64::from_be_bytes(*seconds);
        let old = self.table.formats.get(usize::from(extra[13])).copied();
        let old = old.unwrap_or_default();
        let content = NewContent {
            key,
            timestamp_seconds: next_timestamp(self.options.now, previous),
            deleted: rest[0] != 0,
            original_length: u32::from_be_bytes([rest[1], rest[2], rest[3], rest[4]]),
            format: ContentFormat {
                format_version: self.repository.format.version as u8, // 1 to 3
                ..old
            },
        };
        Ok(self.writer.append(&content, sealed)?)
    }
}

/// Verifies all contents of a batch; returns how many were repaired. A large one is verified when
/// it is read.
fn check_batch(
    check: &mut ContentCheck<'_>,
    layout: PackOrder,
    batch: &mut PackBatch,
) -> Result<u64, RepositoryError> {
    let mut repaired = 0;
    for number in 0..if batch.large() { 0 } else { batch.len() } {
        repaired += u64::from(batch.with_bytes(number, |record, pack, bytes| {
            check.check(layout.key(record), pack, bytes)
        })?);
    }
    Ok(repaired)
}
