//! What a repository holds: contents that are live or deleted, packs that are short or unused.
//!
//! Nobody can say what is garbage before a mark; all else is counted here as the tasks of a run
//! will find it. The index is read once and merged, the packs are listed. Writes nothing. Memory: a
//! load, a merge, a number a pack in mapped scratch; scratch: the table of contents.

use crate::repository::active_index::{ActiveIndex, load_active};
use crate::repository::content_table::ContentTable;
use crate::repository::index_load::Strictness;
use crate::repository::pack_names::name_of;
use crate::repository::sessions::SessionIds;
use crate::repository::{Repository, Workspace};

use super::MaintenanceError;
use super::orphan_packs::{BlobCount, Orphans, Scope};
use super::pack_choice::ShortPacks;
use super::pack_sums::PackSums;
use super::rewrite_choice::{ask_about_packs, is_metadata};
use super::safety::Safety;

/// What a repository holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Holdings {
    /// Index blobs that readers read.
    pub index: BlobCount,
    /// Entries in them.
    pub entries: u64,
    /// Index blobs of settled epochs that no compaction has replaced; their bytes are an average.
    pub settled_index: BlobCount,
    /// Live contents.
    pub live: BlobCount,
    /// Those of them that are directories, index objects and manifests.
    pub metadata: BlobCount,
    /// Contents that are deleted, and not dropped.
    pub deleted: BlobCount,
    /// Packs in the storage, used or not.
    pub packs: BlobCount,
    /// Packs with metadata that the index names.
    pub metadata_packs: u64,
    /// Packs that are to be rewritten.
    pub short_packs: u64,
    /// Contents that lie in them.
    pub short: BlobCount,
    /// Packs and session markers that nobody uses and that are old enough to go.
    pub unused: BlobCount,
    /// The same, but young or of a session that may be alive.
    pub young: BlobCount,
    /// Bytes of scratch that the table of contents takes while it is made.
    pub table_bytes: u64,
}

impl Holdings {
    /// Counts. Ages of packs are judged by our clock: what a run decides follows the storage's.
    ///
    /// # Errors
    /// An index that cannot be read, a pack in use that is gone, scratch that is full.
    pub fn find(
        repository: &Repository,
        workspace: &Workspace,
        safety: &Safety,
    ) -> Result<Self, MaintenanceError> {
        let strictness = Strictness::ForReading;
        let sessions = SessionIds::list(repository)?;
        let (active, loaded) = load_active(repository, workspace, Some(0), strictness)?;
        let mut found = Self {
            index: BlobCount {
                count: loaded.stats.blobs,
                bytes: loaded.stats.stored_bytes,
            },
            entries: loaded.stats.entries,
            ..Self::default()
        };
        found.settled_index = settled(&active, found.index);
        let table = ContentTable::of_loaded(workspace, loaded, active.watermark_seconds())?;
        let sorted_bytes = found.entries * table.layout.record_bytes() as u64;
        found.table_bytes = sorted_bytes + table.scratch_bytes();
        found.count_contents(repository, workspace, &table)?;
        let now = repository.clock.now();
        let read = (&sessions, &table);
        let orphans = Orphans::find(repository, workspace, read, Scope::Full, safety, now)?;
        found.packs = orphans.listed;
        (found.unused, found.young) = (orphans.unreferenced, orphans.retained);
        Ok(found)
    }

    /// Looks at every content.
    fn count_contents(
        &mut self,
        repository: &Repository,
        workspace: &Workspace,
        table: &ContentTable,
    ) -> Result<(), MaintenanceError> {
        let sums = PackSums::of(workspace, table, None)?;
        let most = repository.format.max_pack_size;
        self.short_packs = ask_about_packs(table, &sums, &mut ShortPacks, None, most)?.packs;
        table.packs.for_each_canonical(|number, slot| {
            let is_used = sums.used_bytes(number) != 0;
            self.metadata_packs += u64::from(is_used && name_of(slot).starts_with(b"q"));
            Ok(())
        })?;
        let mut records = table.stream()?;
        while let Some(record) = records.next()? {
            let fields = table.fields(record);
            let bytes = u64::from(fields.packed_length);
            if sums.chosen(fields.pack).is_some() {
                self.short.add(bytes);
            }
            if fields.deleted {
                self.deleted.add(bytes);
                continue;
            }
            self.live.add(bytes);
            if is_metadata(table.key(record)) {
                self.metadata.add(bytes);
            }
        }
        Ok(())
    }

    /// Returns the packs that contents lie in, with the bytes of them that belong to none: dropped
    /// contents, and padding. Local indexes are taken to be as large as the index is.
    pub fn unowned(&self) -> BlobCount {
        let contents = u128::from(self.live.count + self.deleted.count);
        let entries = u128::from(self.entries.max(1));
        let local_indexes = u128::from(self.index.bytes) * contents / entries;
        let owned = self.live.bytes + self.deleted.bytes + local_indexes as u64;
        let unused = self.unused.bytes + self.young.bytes;
        BlobCount {
            count: self
                .packs
                .count
                .saturating_sub(self.unused.count + self.young.count),
            bytes: self.packs.bytes.saturating_sub(owned + unused),
        }
    }
}

/// Returns the uncompacted blobs of settled epochs that readers read.
fn settled(active: &ActiveIndex, all: BlobCount) -> BlobCount {
    let Some(state) = active.epochs() else {
        return BlobCount::default();
    };
    let (_, epochs) = state.selection();
    let settled = epochs.iter().filter(|epoch| state.is_settled(**epoch));
    let count = settled.map(|epoch| active.uncompacted.blobs(*epoch)).sum();
    let bytes = u128::from(all.bytes) * u128::from(count) / u128::from(all.count.max(1));
    BlobCount {
        count,
        bytes: bytes as u64, // at most all bytes
    }
}
