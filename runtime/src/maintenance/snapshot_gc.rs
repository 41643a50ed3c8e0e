//! Task `snapshot-gc`: contents that no snapshot uses become deleted, deleted ones that some
//! snapshot uses are brought back.
//!
//! The mark ([`crate::repository::used_contents`]) gives the keys in use, sorted; the sweep joins
//! them with the table of contents, which is sorted alike, in one pass. Nothing is written before
//! both have ended without an error: a key in use that the table does not have ends the task. What
//! is deleted gets a tombstone in place, what comes back is copied into new packs. System contents
//! (`m`) are never touched. Where scratch will not do, the task is refused before the mark, with
//! the number that is needed, and once more before it writes, when all is known.
//!
//! Memory: the phases of the mark and of a merge, one after the other. Invariant: only contents
//! that are old enough by the storage's clock are marked deleted. Mirrors Kopia's
//! `snapshot/snapshotgc/gc.go`.

use std::cmp::Ordering;

use crate::clock::Timestamp;
use crate::kopia::blob_id::BlobId;
use crate::kopia::content_id::ContentId;
use crate::kopia::manifest::CONTENT_PREFIX;
use crate::memory::MemoryPlan;
use crate::repository::content_table::ContentTable;
use crate::repository::new_entries::NewEntries;
use crate::repository::pack_writer::{PackWriterStats, next_timestamp};
use crate::repository::record::RecordFields;
use crate::repository::snapshots::Snapshots;
use crate::repository::used_contents::{MarkStats, UsedContents, mark};
use crate::repository::{Repository, RepositoryError, Workspace};

use super::MaintenanceError;
use super::rewrite_contents::{RewriteOptions, RewritePlan, Undelete};
use super::safety::Safety;

/// Contents between two reports of progress.
const PROGRESS_CONTENTS: u64 = 4_096;

/// Scratch that each content takes, in bytes: its key where it is in use, else its entry that
/// becomes deleted.
const CONTENT_BYTES: u64 = 64;

/// How the task is to go.
pub struct GcOptions<'a> {
    /// When the run began by the storage's clock: ages are measured from here.
    pub start: Timestamp,
    /// The client's time: new entries have it.
    pub now: Timestamp,
    /// The margins.
    pub safety: &'a Safety,
    /// `user@host` that we act as.
    pub owner: &'a str,
    /// Asked between batches of copied contents whether to end early.
    pub end_early: &'a (dyn Fn() -> bool + Sync),
}

/// Kopia's statistics of the task, `snapshotGCStats` in the schedule. Sizes are bytes as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotGcStats {
    /// Contents that no snapshot uses and that are old enough, also those deleted before.
    pub unreferenced_content_count: u64,
    /// Their bytes.
    pub unreferenced_content_size: u64,
    /// Of them those that are deleted now, also those deleted before.
    pub deleted_content_count: u64,
    /// Their bytes.
    pub deleted_content_size: u64,
    /// Contents that no snapshot uses and that are too young.
    pub unreferenced_recent_content_count: u64,
    /// Their bytes.
    pub unreferenced_recent_content_size: u64,
    /// Contents in use.
    pub in_use_content_count: u64,
    /// Their bytes.
    pub in_use_content_size: u64,
    /// System contents.
    pub in_use_system_content_count: u64,
    /// Their bytes.
    pub in_use_system_content_size: u64,
    /// Deleted contents that are in use and come back.
    pub recovered_content_count: u64,
    /// Their bytes.
    pub recovered_content_size: u64,
}

/// What is to be done.
pub struct GcPlan<'a> {
    /// What the schedule records when it is done.
    pub stats: SnapshotGcStats,
    /// What the mark has seen.
    pub mark: MarkStats,
    table: &'a ContentTable,
    tombstones: NewEntries<'a>,
    undelete: RewritePlan,
}

/// What the task did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct GcReport {
    /// What the schedule records.
    pub stats: SnapshotGcStats,
    /// What the mark has seen.
    pub mark: MarkStats,
    /// Contents that became deleted.
    pub tombstones: u64,
    /// Index blobs with their tombstones.
    pub index_blobs: Vec<BlobId>,
    /// What was written to bring contents back.
    pub undeleted: PackWriterStats,
    /// Whether it ended early: not all is brought back, nothing is deleted.
    pub ended_early: bool,
}

/// Returns about the scratch that mark and sweep need besides the table: something of each content,
/// and the live metadata, most of which may have to wait until its level comes.
pub(super) fn mark_scratch_bytes(contents: u64, metadata_bytes: u64) -> u64 {
    contents
        .saturating_mul(CONTENT_BYTES)
        .saturating_add(metadata_bytes)
}

/// Returns the bytes of live contents with a prefix, as stored: directories, index objects,
/// manifests.
pub(super) fn live_metadata_bytes(table: &ContentTable) -> Result<u64, RepositoryError> {
    let mut bytes: u64 = 0;
    let mut records = table.stream_range(&[1], None)?;
    while let Some(record) = records.next()? {
        let fields = table.fields(record);
        if !fields.deleted {
            bytes = bytes.saturating_add(fields.packed_length.into());
        }
    }
    Ok(bytes)
}

impl<'a> GcPlan<'a> {
    /// Reads the snapshots, marks and sweeps. Writes nothing.
    ///
    /// # Errors
    /// Too little scratch, before anything is marked. Whatever cannot be read below any snapshot,
    /// and a content in use that is not in the index.
    pub fn make(
        repository: &Repository,
        workspace: &Workspace,
        table: &'a ContentTable,
        options: &GcOptions<'_>,
    ) -> Result<Self, MaintenanceError> {
        let metadata_bytes = live_metadata_bytes(table)?;
        let needed_bytes = mark_scratch_bytes(table.contents(), metadata_bytes);
        workspace.scratch.require(needed_bytes)?;
        let snapshots = Snapshots::load(repository, workspace, table)?;
        let used = mark(repository, workspace, table, &snapshots)?;
        drop(snapshots);
        Self::sweep(workspace, table, &used, options)
    }

    /// Joins the contents in use with all contents.
    pub fn sweep(
        workspace: &Workspace,
        table: &'a ContentTable,
        used: &UsedContents,
        options: &GcOptions<'_>,
    ) -> Result<Self, MaintenanceError> {
        let progress = &workspace.progress;
        progress.begin(
            "compare with all contents",
            "contents",
            Some(table.contents()),
        );
        let mut sweep = Sweep {
            options,
            stats: SnapshotGcStats::default(),
            tombstones: NewEntries::create(workspace, table)?,
            undelete: Undelete::new(workspace, table),
        };
        let (mut records, mut used_keys) = (table.stream()?, used.merge()?);
        used_keys.advance().map_err(RepositoryError::from)?;
        let mut seen = 0;
        while let Some(record) = records.next()? {
            let key = table.key(record);
            let order = used_keys
                .current()
                .map_or(Ordering::Greater, |used| used.cmp(key));
            if order == Ordering::Less {
                break; // in use, and not in the table
            }
            sweep.content(key, &table.fields(record), order == Ordering::Equal)?;
            if order == Ordering::Equal {
                used_keys.advance().map_err(RepositoryError::from)?;
            }
            seen += 1;
            if seen % PROGRESS_CONTENTS == 0 {
                progress.advance(PROGRESS_CONTENTS);
            }
        }
        if let Some(key) = used_keys.current() {
            let content = ContentId::from_key(key).map_err(RepositoryError::from)?;
            let content = content.to_string();
            return Err(RepositoryError::NoContent { content }.into());
        }
        progress.end();
        Ok(Self {
            stats: sweep.stats,
            mark: used.stats,
            table,
            tombstones: sweep.tombstones,
            undelete: sweep.undelete.finish()?,
        })
    }

    /// Returns how many contents would become deleted.
    pub fn tombstones(&self) -> u64 {
        self.tombstones.len()
    }

    /// Returns the scratch that writing needs besides what is there: the index of what becomes
    /// deleted, and what is copied to be brought back.
    pub fn needed_bytes(&self, repository: &Repository, memory: &MemoryPlan) -> u64 {
        let entry = 2 * self.table.layout.record_bytes() as u64;
        let index = self.tombstones.len() * entry;
        match self.undelete.is_empty() {
            true => index,
            false => index + self.undelete.needed_bytes(repository, memory),
        }
    }

    /// Brings back what is in use, then deletes what is not.
    ///
    /// # Errors
    /// Too little scratch, before anything is written. A content that cannot be copied: then
    /// nothing is deleted.
    pub fn execute(
        self,
        repository: &Repository,
        workspace: &Workspace,
        options: &GcOptions<'_>,
    ) -> Result<GcReport, MaintenanceError> {
        let needed_bytes = self.needed_bytes(repository, &workspace.memory);
        workspace.scratch.require(needed_bytes)?;
        let rewrite = RewriteOptions {
            kind: None,
            packs: None,
            pack_bytes_max: repository.format.max_pack_size,
            format_version: None,
            wrong_kind: false,
            safety: options.safety,
            now: options.now,
            owner: options.owner,
            end_early: options.end_early,
        };
        let copied = self
            .undelete
            .execute(repository, workspace, self.table, &rewrite)?;
        let mut report = GcReport {
            stats: self.stats,
            mark: self.mark,
            undeleted: copied.written,
            ended_early: copied.ended_early,
            ..GcReport::default()
        };
        if !report.ended_early {
            report.tombstones = self.tombstones.len();
            report.index_blobs = self.tombstones.write(repository, workspace)?;
        }
        Ok(report)
    }
}

/// A sweep in progress.
struct Sweep<'a, 'o> {
    options: &'o GcOptions<'o>,
    stats: SnapshotGcStats,
    tombstones: NewEntries<'a>,
    undelete: Undelete,
}

impl Sweep<'_, '_> {
    #[inline]
    fn content(
        &mut self,
        key: &[u8],
        fields: &RecordFields,
        used: bool,
    ) -> Result<(), MaintenanceError> {
        let size = u64::from(fields.packed_length);
        let stats = &mut self.stats;
        if key.first() == Some(&CONTENT_PREFIX) {
            stats.in_use_system_content_count += 1;
            stats.in_use_system_content_size += size;
            return Ok(());
        }
        if used {
            stats.in_use_content_count += 1;
            stats.in_use_content_size += size;
            if fields.deleted {
                stats.recovered_content_count += 1;
                stats.recovered_content_size += size;
                self.undelete.push(key, fields)?;
            }
            return Ok(());
        }
        if is_recent(self.options, fields.timestamp_seconds) {
            stats.unreferenced_recent_content_count += 1;
            stats.unreferenced_recent_content_size += size;
            return Ok(());
        }
        stats.unreferenced_content_count += 1;
        stats.unreferenced_content_size += size;
        stats.deleted_content_count += 1;
        stats.deleted_content_size += size;
        if !fields.deleted {
            let tombstone = RecordFields {
                deleted: true,
                timestamp_seconds: next_timestamp(self.options.now, fields.timestamp_seconds),
                ..*fields
            };
            self.tombstones.push(key, &tombstone)?;
        }
        Ok(())
    }
}

/// Returns whether an entry is too young to be deleted. A time after the start of the run is
/// younger than any age, also than none.
fn is_recent(options: &GcOptions<'_>, timestamp_seconds: i64) -> bool {
    let written = Timestamp::from_seconds(timestamp_seconds);
    let age = options.start.since(written);
    written > options.start || age < options.safety.min_content_age_subject_to_gc
}
