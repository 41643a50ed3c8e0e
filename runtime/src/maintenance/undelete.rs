//! Brings deleted contents back that some snapshot uses: they are copied as live ones, into new
//! packs, as any rewritten content.
//!
//! Snapshot GC finds them in the order of their IDs; here they are sorted by where they lie. Memory:
//! one sort buffer, once there is any. Mirrors `UndeleteContent` of Kopia's `content_manager.go`.

use crate::repository::Workspace;
use crate::repository::content_table::ContentTable;
use crate::repository::pack_order::PackOrder;
use crate::repository::record::RecordFields;
use crate::spill::{SortBuffer, Sorter};

use super::MaintenanceError;
use super::rewrite_contents::{
    EXTRA_BYTES, RewriteContentsStats, RewritePlan, encode_extra, place_of,
};

/// Collects deleted contents that are in use, to be copied as live ones.
pub(super) struct Undelete {
    layout: PackOrder,
    sorter: Sorter,
    places: SortBuffer,
    stats: RewriteContentsStats,
}

impl Undelete {
    /// Makes an empty collection.
    pub(super) fn new(workspace: &Workspace, table: &ContentTable) -> Self {
        let layout = PackOrder {
            key_bytes: table.layout.key_bytes,
            extra_bytes: EXTRA_BYTES,
        };
        let memory = PackOrder::sort_memory(workspace, 1);
        let sorter = Sorter::new(workspace.scratch.clone(), layout.shape(), memory);
        Self {
            layout,
            places: sorter.buffer(),
            sorter,
            stats: RewriteContentsStats::default(),
        }
    }

    /// Adds a content.
    pub(super) fn push(
        &mut self,
        key: &[u8],
        fields: &RecordFields,
    ) -> Result<(), MaintenanceError> {
        let live = RecordFields {
            deleted: false,
            ..*fields
        };
        self.stats.to_rewrite_content_count += 1;
        self.stats.to_rewrite_content_size += u64::from(fields.packed_length);
        let (layout, place, extra) = (self.layout, place_of(key, fields), encode_extra(&live));
        self.places
            .push_with(|out| layout.encode(out, &place, key, &extra))?;
        Ok(())
    }

    /// Ends the collection.
    pub(super) fn finish(self) -> Result<RewritePlan, MaintenanceError> {
        self.places.finish()?;
        let places = self.sorter.finish()?;
        Ok(RewritePlan::of(self.stats, self.layout, places))
    }
}
