//! Chooses the contents that are copied into new packs, and sorts them in pack order.
//!
//! The table of contents is read twice: once for the bytes in use of every pack, once for the
//! contents of the packs that were chosen. Where whose the contents are is known, those of one
//! tenant sort together, so that no new pack has those of two. Deleted contents that come back are
//! copied the same way. Memory: numbers of each pack in mapped scratch, a sort buffer. Mirrors
//! `getContentToRewrite` of Kopia's `repo/maintenance/content_rewrite.go`.

use crate::clock::Timestamp;
use crate::repository::content_table::ContentTable;
use crate::repository::pack_names::name_of;
use crate::repository::pack_order::{PackOrder, Place};
use crate::repository::record::RecordFields;
use crate::repository::tenants::{ContentTenants, NOBODY};
use crate::repository::{RepositoryError, Workspace};
use crate::spill::{SortBuffer, Sorter};

use super::MaintenanceError;
use super::pack_choice::{ChoosePacks, PackChoice};
use super::pack_sums::PackSums;
use super::rewrite_contents::{RewriteContentsStats, RewriteOptions, RewritePlan};
use super::strategy::{PACK_GROUP_MAX, PackRow};

/// What travels with a content: time 8, deleted 1, original length 4, format 1.
const EXTRA_BYTES: usize = 14;

/// Set in the group of a place when the content is metadata.
const METADATA: u8 = PACK_GROUP_MAX + 1;

/// First character of the names of packs of metadata.
const METADATA_KIND: u8 = b'q';

/// What the new entry of a content takes from the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OldEntry {
    pub(super) timestamp_seconds: i64,
    pub(super) deleted: bool,
    pub(super) original_length: u32,
    /// Number of the format in the table.
    pub(super) format: u8,
}

impl OldEntry {
    fn encode(fields: &RecordFields) -> [u8; EXTRA_BYTES] {
        let mut extra = [0; EXTRA_BYTES];
        extra[..8].copy_from_slice(&fields.timestamp_seconds.to_be_bytes());
        extra[8] = u8::from(fields.deleted);
        extra[9..13].copy_from_slice(&fields.original_length.to_be_bytes());
        extra[13] = fields.format;
        extra
    }

    /// Reads what travelled with a content.
    pub(super) fn of(extra: &[u8]) -> Result<Self, RepositoryError> {
        let extra: &[u8; EXTRA_BYTES] =
            extra.try_into().map_err(|_| RepositoryError::Interrupted)?;
        let (seconds, rest) = extra
            .split_first_chunk()
            .ok_or(RepositoryError::Interrupted)?;
        Ok(Self {
            timestamp_seconds: i64::from_be_bytes(*seconds),
            deleted: rest[0] != 0,
            original_length: u32::from_be_bytes([rest[1], rest[2], rest[3], rest[4]]),
            format: rest[5],
        })
    }
}

/// Contents to be copied, with what the schedule records of them.
struct Places {
    layout: PackOrder,
    sorter: Sorter,
    buffer: SortBuffer,
    stats: RewriteContentsStats,
    longest: u32,
}

impl Places {
    fn new(workspace: &Workspace, table: &ContentTable) -> Self {
        let layout = PackOrder {
            key_bytes: table.layout.key_bytes,
            extra_bytes: EXTRA_BYTES,
        };
        let memory = PackOrder::sort_memory(workspace, 1);
        let sorter = Sorter::new(workspace.scratch.clone(), layout.shape(), memory);
        Self {
            layout,
            buffer: sorter.buffer(),
            sorter,
            stats: RewriteContentsStats::default(),
            longest: 0,
        }
    }

    fn push(
        &mut self,
        key: &[u8],
        fields: &RecordFields,
        group: u8,
        tenant: u8,
    ) -> Result<(), RepositoryError> {
        self.stats.to_rewrite_content_count += 1;
        self.stats.to_rewrite_content_size += u64::from(fields.packed_length);
        self.longest = self.longest.max(fields.packed_length);
        let kind = if is_metadata(key) { METADATA } else { 0 };
        let place = Place {
            // What differs in any of them shares no new pack.
            group: u16::from_be_bytes([kind | group, tenant]),
            pack: fields.pack,
            offset: fields.pack_offset,
            length: fields.packed_length,
        };
        let (layout, extra) = (self.layout, OldEntry::encode(fields));
        self.buffer
            .push_with(|out| layout.encode(out, &place, key, &extra))?;
        Ok(())
    }

    /// Ends the choice.
    fn finish(self, chosen: Chosen) -> Result<RewritePlan, MaintenanceError> {
        self.buffer.finish()?;
        Ok(RewritePlan {
            stats: self.stats,
            packs: chosen.packs,
            packs_left: chosen.left,
            pack_bytes: chosen.pack_bytes,
            reason: chosen.reason,
            longest: self.longest,
            layout: self.layout,
            places: self.sorter.finish()?,
        })
    }
}

/// Collects deleted contents that are in use, to be copied as live ones.
pub(super) struct Undelete(Places);

impl Undelete {
    /// Makes an empty collection.
    pub(super) fn new(workspace: &Workspace, table: &ContentTable) -> Self {
        Self(Places::new(workspace, table))
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
        Ok(self.0.push(key, &live, 0, NOBODY)?)
    }

    /// Ends the collection.
    pub(super) fn finish(self) -> Result<RewritePlan, MaintenanceError> {
        self.0.finish(Chosen::default())
    }
}

/// Chooses packs, then contents.
pub(super) fn choose_contents(
    workspace: &Workspace,
    table: &ContentTable,
    tenants: Option<&ContentTenants>,
    options: &mut RewriteOptions<'_>,
) -> Result<RewritePlan, MaintenanceError> {
    let sums = PackSums::of(workspace, table, tenants)?;
    let chosen = choose_packs(table, &sums, options)?;
    let mut choice = Choice {
        table,
        sums: &sums,
        options,
        places: Places::new(workspace, table),
    };
    let mut tenants = tenants.map(ContentTenants::stream);
    let mut records = table.stream()?;
    while let Some(record) = records.next()? {
        let tenant = match &mut tenants {
            Some(tenants) => tenants.next_tenant()?,
            None => NOBODY,
        };
        choice.look(record, tenant)?;
    }
    choice.places.finish(chosen)
}

/// What was chosen of the packs.
#[derive(Default)]
pub(super) struct Chosen {
    pub(super) packs: u64,
    left: u64,
    pack_bytes: Option<u64>,
    reason: String,
}

/// Marks the packs that are chosen.
fn choose_packs(
    table: &ContentTable,
    sums: &PackSums,
    options: &mut RewriteOptions<'_>,
) -> Result<Chosen, MaintenanceError> {
    let Some(packs) = &mut options.packs else {
        return Ok(Chosen::default());
    };
    let (kind, most) = (options.kind, options.pack_bytes_max);
    ask_about_packs(table, sums, &mut **packs, kind, most)
}

/// Asks about every pack that contents of this kind lie in, and ends the questions.
pub(super) fn ask_about_packs(
    table: &ContentTable,
    sums: &PackSums,
    packs: &mut dyn ChoosePacks,
    kind: Option<u8>,
    pack_bytes_max: u64,
) -> Result<Chosen, MaintenanceError> {
    let chosen = ask_about_each_pack(table, sums, packs, kind, pack_bytes_max);
    packs.end();
    chosen
}

fn ask_about_each_pack(
    table: &ContentTable,
    sums: &PackSums,
    packs: &mut dyn ChoosePacks,
    kind: Option<u8>,
    pack_bytes_max: u64,
) -> Result<Chosen, MaintenanceError> {
    let mut count = 0;
    let mut choice = PackChoice::new(packs, pack_bytes_max, sums.have_owners());
    let mut mark = |number: u32, group: u8| {
        sums.choose(number, group);
        count += 1;
    };
    let mut refused = None;
    table.packs.for_each_canonical(|number, slot| {
        let used_bytes = sums.used_bytes(number);
        let own = name_of(slot).first().copied().unwrap_or(0);
        // A pack that no content lies in has nothing to copy.
        if used_bytes == 0 || kind.is_some_and(|wanted| wanted != own) || refused.is_some() {
            return Ok(());
        }
        let row = PackRow {
            metadata: own == METADATA_KIND,
            used_bytes: u64::from(used_bytes),
            owner: sums.owner(number),
        };
        refused = choice.look(number, row, &mut mark).err();
        Ok(())
    })?;
    match refused {
        Some(error) => Err(error.into()),
        None => {
            let decided = choice.end(&mut mark)?;
            Ok(Chosen {
                packs: count,
                left: decided.left,
                pack_bytes: Some(decided.pack_bytes),
                reason: decided.reason,
            })
        }
    }
}

/// Looks at every content of the table.
struct Choice<'a, 'o> {
    table: &'a ContentTable,
    sums: &'a PackSums,
    options: &'a RewriteOptions<'o>,
    places: Places,
}

impl Choice<'_, '_> {
    #[inline]
    fn look(&mut self, record: &[u8], tenant: u8) -> Result<(), RepositoryError> {
        let fields = self.table.fields(record);
        let key = self.table.key(record);
        let chosen = self.sums.chosen(fields.pack);
        if chosen.is_none() && !self.is_special(record, key, &fields)? {
            return Ok(());
        }
        let group = chosen.unwrap_or(0);
        let written = Timestamp::from_seconds(fields.timestamp_seconds);
        // A time in the future is younger than any age, also than none, as in Kopia.
        let young = self.options.now.since(written) < self.options.safety.rewrite_min_age;
        if young || written > self.options.now {
            let stats = &mut self.places.stats;
            stats.retained_content_count += 1;
            stats.retained_content_size += u64::from(fields.packed_length);
            return Ok(());
        }
        self.places.push(key, &fields, group, tenant)
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
        let right_kind = if is_metadata(key) {
            METADATA_KIND
        } else {
            b'p'
        };
        Ok(options.format_version == Some(version) || (options.wrong_kind && kind != right_kind))
    }
}

/// Returns whether a content has a prefix, and so belongs into a pack of metadata.
pub(super) fn is_metadata(key: &[u8]) -> bool {
    key.first().is_some_and(|prefix| *prefix != 0)
}
