//! Tasks `full-rewrite-contents` and `quick-rewrite-contents`: copies the contents of short packs
//! into full ones, so that the old packs become orphans.
//!
//! What is rewritten is chosen first ([`super::rewrite_choice`]). The contents come sorted in pack
//! order, are read in long pieces by two threads that verify every tag, and written as they are. A
//! tag that does not fit ends the task; what was copied before is indexed and valid, and the pack
//! with the damage stays in use, so that nobody deletes it.
//!
//! Memory: the buffers of packs, the merge of places, and a pack writer. Mirrors Kopia's
//! `repo/maintenance/content_rewrite.go`.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Timestamp;
use crate::kopia::index_blob::ContentFormat;
use crate::memory::{MemoryPlan, WORKERS};
use crate::repository::content_check::{ContentCheck, check_large};
use crate::repository::content_table::ContentTable;
use crate::repository::pack_order::PackOrder;
use crate::repository::pack_reader::{BATCHES_A_WORKER, LARGE_BYTES_MAX, PackBatch, PackReader};
use crate::repository::pack_writer::{
    NewContent, PackWriter, PackWriterStats, Sealed, next_timestamp,
};
use crate::repository::tenants::ContentTenants;
use crate::repository::{Repository, RepositoryError, Workspace};
use crate::spill::Runs;

use super::MaintenanceError;
use super::pack_choice::ChoosePacks;
use super::rewrite_choice::{OldEntry, choose_contents};
use super::safety::Safety;

pub(super) use super::rewrite_choice::Undelete;

/// Packs in scratch at the same time: two open, one in each put, one between.
pub(super) const PACKS_IN_SCRATCH: u64 = 5;

/// Which contents are rewritten, and as whom.
pub struct RewriteOptions<'a> {
    /// Only packs of this kind (`q` in quick maintenance); all without.
    pub kind: Option<u8>,
    /// Chooses packs; without it only the cases below are rewritten.
    pub packs: Option<&'a mut dyn ChoosePacks>,
    /// Size at which the repository's clients close a pack, in bytes.
    pub pack_bytes_max: u64,
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
    /// Asked between batches, by any thread, whether to end early; what is copied then is indexed.
    pub end_early: &'a (dyn Fn() -> bool + Sync),
}

/// The contents that are to be rewritten.
pub struct RewritePlan {
    /// What the schedule records; nothing is rewritten yet.
    pub stats: RewriteContentsStats,
    /// Packs that were chosen.
    pub packs: u64,
    /// Packs that were chosen and are left for later, since the budget does not allow them.
    pub packs_left: u64,
    /// Size at which new packs are closed, in bytes; without it the repository's own.
    pub pack_bytes: Option<u64>,
    /// Why these packs; empty where none were asked about.
    pub reason: String,
    /// Length of the longest content as stored, in bytes.
    pub(super) longest: u32,
    pub(super) layout: PackOrder,
    pub(super) places: Runs,
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
        choose_contents(workspace, table, None, options)
    }

    /// Does the same where it is known whose the contents of `table` are: packs are asked about
    /// with their owners, and no new pack has contents of two.
    pub fn make_by_tenant(
        workspace: &Workspace,
        table: &ContentTable,
        tenants: Option<&ContentTenants>,
        options: &mut RewriteOptions<'_>,
    ) -> Result<Self, MaintenanceError> {
        choose_contents(workspace, table, tenants, options)
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
        let needed_bytes = self.needed_bytes(repository, &workspace.memory);
        workspace.scratch.require(needed_bytes)?;
        let total = self.stats.to_rewrite_content_size;
        workspace
            .progress
            .begin("rewrite contents", "bytes", Some(total));
        let mut writer = PackWriter::new(repository, workspace, options.owner)?;
        if let Some(pack_bytes) = self.pack_bytes {
            writer = writer.with_pack_bytes(pack_bytes);
        }
        let mut copy = Copying {
            repository,
            workspace,
            table,
            options,
            layout: self.layout,
            group: None,
            writer,
            report: &mut report,
        };
        let copied = copy.run(self.places);
        let finished = copy.writer.finish_alone();
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

    /// Returns the scratch that the copying needs besides what is there: packs on their way,
    /// contents that do not fit into memory, and the entries of a flush, sorted and as index.
    pub fn needed_bytes(&self, repository: &Repository, memory: &MemoryPlan) -> u64 {
        let mut packs = repository.format.max_pack_size * PACKS_IN_SCRATCH;
        if self.longest as usize > copy_buffer(repository, memory) {
            packs += large_bytes(u64::from(self.longest), repository.format.max_pack_size);
        }
        let entry = 3 * self.layout.record_bytes() as u64;
        packs + self.stats.to_rewrite_content_count * entry
    }
}

/// Returns the size of a buffer of contents; with ECC the other half is what is decoded.
fn copy_buffer(repository: &Repository, memory: &MemoryPlan) -> usize {
    let shared = if repository.crypto.ecc.is_some() {
        2
    } else {
        1
    };
    memory.pack_read_bytes / shared
}

/// Returns the scratch that contents larger than a buffer take, the longest of them of `longest`
/// bytes, in packs of some `pack_bytes`.
pub(super) fn large_bytes(longest: u64, pack_bytes: u64) -> u64 {
    (WORKERS * BATCHES_A_WORKER) as u64 * LARGE_BYTES_MAX.min(pack_bytes).max(longest)
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
    /// What was written last belongs to these.
    group: Option<u16>,
    writer: PackWriter<'a>,
    report: &'a mut RewriteReport,
}

impl Copying<'_, '_> {
    fn run(&mut self, places: Runs) -> Result<(), Stop> {
        let merge = places.into_merge(false).map_err(RepositoryError::from)?;
        let (repository, workspace) = (self.repository, self.workspace);
        let (layout, crypto) = (self.layout, &repository.crypto);
        let end_early = self.options.end_early;
        let repaired = AtomicU64::new(0);
        let workers = (0..WORKERS)
            .map(|_| {
                let (mut check, repaired) = (ContentCheck::new(crypto), &repaired);
                move |batch: &mut PackBatch| {
                    let damaged = match batch.large() {
                        true => read_large(repository, workspace, layout, end_early, batch)?,
                        false => check_batch(&mut check, layout, batch)?,
                    };
                    repaired.fetch_add(damaged, Ordering::Relaxed);
                    Ok(())
                }
            })
            .collect();
        let mut reader = PackReader::new(merge, layout, &self.table.packs);
        if repository.storage.waits() {
            // Snapshot GC may have read metadata just now.
            reader = reader.taking_heads(&workspace.scratch);
        }
        let delay = self.options.safety.min_rewrite_to_orphan_deletion_delay;
        if delay.is_zero() {
            // This run deletes the packs, and wants their local indexes.
            reader = reader.keeping_tails(&workspace.scratch);
        }
        let buffer_bytes = copy_buffer(repository, &workspace.memory);
        let storage = &repository.storage;
        let outcome = reader.read(storage, buffer_bytes, workers, |batch| self.take(batch));
        self.report.repaired += repaired.into_inner();
        outcome
    }

    /// Writes the contents of a batch, which are verified.
    fn take(&mut self, batch: &mut PackBatch) -> Result<(), Stop> {
        for number in 0..batch.len() {
            if (number == 0 || batch.large()) && (self.options.end_early)() {
                return Err(Stop::Early);
            }
            let file = batch.next_file();
            if batch.large() && file.is_none() {
                return Err(Stop::Early); // the worker was told so
            }
            let content = batch.content(number);
            let (place, key) = (
                self.layout.place(content.record),
                self.layout.key(content.record),
            );
            let extra = self.layout.extra(content.record);
            if self
                .group
                .replace(place.group)
                .is_some_and(|last| last != place.group)
            {
                self.writer.cut()?;
            }
            match &file {
                Some(file) => self.write(key, extra, Sealed::File(file))?,
                None => self.write(key, extra, Sealed::Bytes(content.bytes))?,
            }
            let (stats, bytes) = (&mut self.report.stats, u64::from(place.length));
            stats.rewritten_content_count += 1;
            stats.rewritten_content_size += bytes;
            self.workspace.progress.advance(bytes);
        }
        Ok(())
    }

    fn write(&mut self, key: &[u8], extra: &[u8], sealed: Sealed<'_>) -> Result<(), Stop> {
        let old = OldEntry::of(extra)?;
        let format = self.table.formats.get(usize::from(old.format)).copied();
        let content = NewContent {
            key,
            timestamp_seconds: next_timestamp(self.options.now, old.timestamp_seconds),
            deleted: old.deleted,
            original_length: old.original_length,
            format: ContentFormat {
                format_version: self.repository.format.version as u8, // 1 to 3
                ..format.unwrap_or_default()
            },
        };
        Ok(self.writer.append(&content, sealed)?)
    }
}

/// Reads and verifies the large contents of a batch, unless it is to end early; returns how many
/// were repaired.
fn read_large(
    repository: &Repository,
    workspace: &Workspace,
    layout: PackOrder,
    end_early: &(dyn Fn() -> bool + Sync),
    batch: &mut PackBatch,
) -> Result<u64, RepositoryError> {
    let mut repaired = 0;
    let (storage, scratch) = (&repository.storage, &workspace.scratch);
    batch.read_large(storage, scratch, |record, pack, buffer| {
        if end_early() {
            return Ok(None);
        }
        let (place, content) = (layout.place(record), (layout.key(record), pack));
        let start = u64::from(place.offset);
        let range = start..start + u64::from(place.length);
        let (file, damaged) = check_large(repository, workspace, content, range, buffer)?;
        repaired += u64::from(damaged);
        Ok(Some(file))
    })?;
    Ok(repaired)
}

/// Verifies the contents of a batch that are in memory; returns how many were repaired.
fn check_batch(
    check: &mut ContentCheck<'_>,
    layout: PackOrder,
    batch: &mut PackBatch,
) -> Result<u64, RepositoryError> {
    let mut repaired = 0;
    for number in 0..batch.len() {
        repaired += u64::from(batch.with_bytes(number, |record, pack, bytes| {
            check.check(layout.key(record), pack, bytes)
        })?);
    }
    Ok(repaired)
}
