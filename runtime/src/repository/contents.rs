//! Lists the contents of a repository: for each the index entry that counts, in the order of
//! content IDs.
//!
//! Tombstones up to the deletion watermark are left out, after the winner is chosen: they hide
//! older entries first. The names of packs lie in scratch in another order than the contents, so a
//! batch of contents looks them up together, ascending; on a disk that is one sweep instead of a
//! seek for each.
//!
//! Memory: a load, then a merge and one batch ([`BATCH_CONTENTS`]) of 4.2 MB; what a merge in two
//! threads has. Mirrors `listContents` of Kopia's `repo/content/committed_content_index.go`.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::kopia::content_id::ContentId;
use crate::kopia::index_blob::ContentFormat;
use crate::spill::Merge;

use super::active_index::load_active;
use super::index_load::{Loaded, Strictness};
use super::pack_names::{SLOT_BYTES, name_of};
use super::record::RecordFields;
use super::winners::Winners;
use super::{Repository, RepositoryError, Workspace};

/// Contents whose pack names are looked up together.
const BATCH_CONTENTS: usize = 32 * 1024;

/// One content, as an index entry has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContentRow<'a> {
    /// Its ID.
    pub content: ContentId,
    /// Whether it is deleted: the entry is a tombstone.
    pub deleted: bool,
    /// When the entry was made, in whole seconds.
    pub timestamp: Timestamp,
    /// The pack blob that holds it.
    pub pack: Cow<'a, str>,
    /// Where it begins in the pack, in bytes.
    pub pack_offset: u32,
    /// Its length in the pack, in bytes.
    pub packed_length: u32,
    /// Its length, in bytes.
    pub original_length: u32,
    /// Header ID of its compression, 0 for none.
    pub compression_header_id: u32,
    /// Format version of the repository when it was written.
    pub format_version: u8,
}

impl<'a> ContentRow<'a> {
    /// Makes the row of an entry.
    pub(super) fn new(
        key: &[u8],
        fields: &RecordFields,
        format: ContentFormat,
        pack: &'a [u8],
    ) -> Result<Self, RepositoryError> {
        Ok(Self {
            content: ContentId::from_key(key)?,
            deleted: fields.deleted,
            timestamp: Timestamp::from_seconds(fields.timestamp_seconds),
            pack: String::from_utf8_lossy(pack),
            pack_offset: fields.pack_offset,
            packed_length: fields.packed_length,
            original_length: fields.original_length,
            compression_header_id: format.compression_header_id,
            format_version: format.format_version,
        })
    }
}

impl fmt::Display for ContentRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.deleted { "deleted" } else { "live" };
        write!(
            f,
            "{} {state:<7} {} {:>10} bytes in {}+{}+{}",
            self.content,
            self.timestamp,
            self.original_length,
            self.pack,
            self.pack_offset,
            self.packed_length
        )?;
        match self.compression_header_id {
            0 => Ok(()),
            id => write!(f, " compression {id:x}"),
        }
    }
}

/// Shows every content to `visit` in the order of IDs, until it returns false.
pub fn each_content(
    repository: &Repository,
    workspace: &Workspace,
    visit: &mut dyn FnMut(&ContentRow<'_>) -> bool,
) -> Result<(), RepositoryError> {
    let (active, loaded) = load_active(repository, workspace, Some(0), Strictness::ForReading)?;
    each_row(&loaded, active.watermark_seconds(), visit)
}

/// Shows the winners of a load with one target.
fn each_row(
    loaded: &Loaded,
    watermark_seconds: Option<i64>,
    visit: &mut dyn FnMut(&ContentRow<'_>) -> bool,
) -> Result<(), RepositoryError> {
    let mut winners = Winners::new(loaded.records.merge()?, loaded.layout);
    let mut batch = Batch::new(loaded);
    while batch.fill(&mut winners, watermark_seconds)? {
        for (record, slot) in batch.rows() {
            let fields = loaded.layout.fields(record);
            let format = loaded.formats.get(usize::from(fields.format));
            let key = loaded.layout.key(record);
            let format = format.copied().unwrap_or_default();
            if !visit(&ContentRow::new(key, &fields, format, name_of(slot))?) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Returns whether readers skip an entry that won.
pub(super) fn is_dropped(fields: &RecordFields, watermark_seconds: Option<i64>) -> bool {
    let seconds = fields.timestamp_seconds;
    fields.deleted && watermark_seconds.is_some_and(|watermark| seconds <= watermark)
}

/// Some winners in their order, with the slots of their packs.
struct Batch<'a> {
    loaded: &'a Loaded,
    records: Vec<u8>,
    slots: Vec<u8>,
    /// Canonical number of the pack, and place in the batch.
    order: Vec<(u32, u32)>,
}

impl<'a> Batch<'a> {
    fn new(loaded: &'a Loaded) -> Self {
        Self {
            loaded,
            records: Vec::new(),
            slots: Vec::new(),
            order: Vec::new(),
        }
    }

    /// Replaces the batch by the next one; false at the end.
    fn fill(
        &mut self,
        winners: &mut Winners<Merge>,
        watermark_seconds: Option<i64>,
    ) -> Result<bool, RepositoryError> {
        let (layout, packs) = (self.loaded.layout, &self.loaded.packs);
        self.records.clear();
        self.order.clear();
        while self.order.len() < BATCH_CONTENTS {
            let Some(record) = winners.next(packs)? else {
                break;
            };
            let fields = layout.fields(record);
            if !is_dropped(&fields, watermark_seconds) {
                let place = self.order.len() as u32;
                self.order.push((packs.canonical(fields.pack), place));
                self.records.extend_from_slice(record);
            }
        }
        self.slots.resize(self.order.len() * SLOT_BYTES, 0);
        self.order.sort_unstable();
        let mut last = None;
        for (pack, place) in &self.order {
            let slot = match last {
                Some((known, slot)) if known == *pack => slot,
                _ => packs.slot(*pack)?,
            };
            let at = *place as usize * SLOT_BYTES;
            self.slots[at..at + SLOT_BYTES].copy_from_slice(&slot);
            last = Some((*pack, slot));
        }
        Ok(!self.order.is_empty())
    }

    fn rows(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let records = self.records.chunks_exact(self.loaded.layout.record_bytes());
        records.zip(self.slots.chunks_exact(SLOT_BYTES))
    }
}
