//! Reads single index blobs entry by entry, as they are: nothing is merged, sorted or left out.
//!
//! For looking at blobs and for finding the damaged ones among many; loads do their own reading,
//! in several threads. A blob that is larger than the plan's buffer goes through scratch. Memory:
//! one blob ([`crate::memory::MemoryPlan::blob_bytes`]), twice with ECC. Invariant: no entry is
//! shown before the tag of its blob was verified.

use std::cell::RefCell;
use std::sync::Arc;

use crate::kopia::FormatError;
use crate::kopia::blob_id::BlobId;
use crate::kopia::encryption::OVERHEAD_BYTES;
use crate::kopia::index_blob::{
    ContentFormat, FORMAT_SLOT_BYTES, HEADER_BYTES_MAX, IndexBlob, IndexEntry, IndexLayout,
    KeyOrder, PACK_SLOT_BYTES, PackRef, in_blob,
};
use crate::kopia::sealed_blob::renamed;
use crate::spill::{ScratchFile, SequentialReader};

use super::open_large::{WINDOW_BYTES, Window};
use super::sealed_pieces::{SealedItem, open_into_scratch, open_item};
use super::{Repository, RepositoryError, Workspace};

/// One entry of one blob.
pub(super) struct RawEntry<'a> {
    /// Key of the content.
    pub(super) key: &'a [u8],
    /// The entry.
    pub(super) entry: IndexEntry,
    /// How the content is stored.
    pub(super) format: ContentFormat,
    /// Name of the pack.
    pub(super) pack: &'a [u8],
}

/// Takes entries; returns whether it wants more.
pub(super) type VisitEntry<'v> = &'v mut dyn FnMut(&RawEntry<'_>) -> Result<bool, RepositoryError>;

/// Reads blobs one after the other.
pub(super) struct IndexBlobReader<'a> {
    repository: &'a Repository,
    workspace: &'a Workspace,
    stored: Vec<u8>,
}

impl<'a> IndexBlobReader<'a> {
    /// Makes a reader.
    pub(super) fn new(repository: &'a Repository, workspace: &'a Workspace) -> Self {
        Self {
            repository,
            workspace,
            stored: vec![0; workspace.memory.blob_bytes],
        }
    }

    /// Shows every entry of `blob` in the order of keys.
    ///
    /// Errors: what the store says, a wrong tag, a form that is none, keys that do not ascend.
    pub(super) fn each_entry(
        &mut self,
        blob: &BlobId,
        visit: VisitEntry<'_>,
    ) -> Result<(), RepositoryError> {
        let crypto = &self.repository.crypto;
        let name = blob.as_str();
        // One that is larger than the buffer goes on from there.
        self.repository.storage.will_read(blob, 0..u64::MAX);
        let length = self.repository.storage.get(blob, 0, &mut self.stored)?;
        if length == self.stored.len() {
            let (repository, workspace) = (self.repository, self.workspace);
            let (plain, _) = open_into_scratch(repository, workspace, blob, &self.stored)?;
            return self.each_of_large(&plain, name, visit);
        }
        let sealed = &mut self.stored[..length];
        if crypto.ecc.is_some() {
            let mut sealed = sealed.to_vec();
            let range = crypto.open(name, &mut sealed, &mut Vec::new())?;
            let plain = sealed.get(range).unwrap_or_default();
            return each_of_small(
                &IndexBlob::parse(plain, name)?,
                name,
                self.key_bytes(),
                visit,
            );
        }
        let plain = crypto.open_slice(name, sealed)?;
        let blob = IndexBlob::parse(plain, name)?;
        each_of_small(&blob, name, self.repository.key_bytes(), visit)
    }

    /// Shows every entry of a sealed index that is a part of a blob. `known` has its bytes, where
    /// they were read already.
    ///
    /// # Errors
    /// As [`IndexBlobReader::each_entry`].
    pub(super) fn each_entry_of_part(
        &mut self,
        item: &SealedItem<'_>,
        known: Option<&[u8]>,
        iv: &[u8],
        visit: VisitEntry<'_>,
    ) -> Result<(), RepositoryError> {
        let length = usize::try_from(item.range.end - item.range.start).unwrap_or(usize::MAX);
        if length > self.stored.len() {
            let plain = open_item(self.repository, self.workspace, item, iv)?;
            return self.each_of_large(&plain, item.name, visit);
        }
        let sealed = &mut self.stored[..length];
        match known {
            Some(known) if known.len() == length => sealed.copy_from_slice(known),
            _ => {
                let start = item.range.start;
                if self.repository.storage.get(item.blob, start, sealed)? < length {
                    return Err(FormatError::malformed(item.name, "cut short").into());
                }
            }
        }
        let (crypto, name) = (&self.repository.crypto, item.name);
        let mut decoded = Vec::new();
        let sealed = match &crypto.ecc {
            None => sealed,
            Some(ecc) => {
                let decode = ecc.decode(sealed, &mut decoded);
                decode.map_err(|error| renamed(error, name))?;
                &mut decoded
            }
        };
        let plain = crypto.encryption.open(iv, sealed);
        let plain = plain.map_err(|error| renamed(error, name))?;
        let index = IndexBlob::parse(plain, name)?;
        each_of_small(&index, name, self.repository.key_bytes(), visit)
    }

    fn key_bytes(&self) -> usize {
        self.repository.key_bytes()
    }

    fn each_of_large(
        &self,
        plain: &Arc<ScratchFile>,
        name: &str,
        visit: VisitEntry<'_>,
    ) -> Result<(), RepositoryError> {
        let mut header = [0; HEADER_BYTES_MAX];
        let header_bytes = plain.len().min(header.len() as u64) as usize;
        plain.read_exact_at(&mut header[..header_bytes], 0)?;
        let layout = IndexLayout::parse(&header[..header_bytes], plain.len(), name)?;
        check_key_bytes(&layout, name, self.key_bytes())?;
        let formats = read_formats(plain, &layout)?;
        let names = RefCell::new(Window::new(Arc::clone(plain)));
        let (row_bytes, rows) = (layout.row_bytes(), u64::from(layout.entry_count));
        let range = layout.entries_at..layout.entries_at + rows * row_bytes as u64;
        let mut rows = SequentialReader::new(Arc::clone(plain), range, WINDOW_BYTES);
        let (mut order, mut number) = (KeyOrder::default(), 0);
        while let Some(row) = rows.next(row_bytes)? {
            let (key, rest) = row.split_at(layout.key_bytes);
            order.check(key, name)?;
            let entry = layout
                .decode_entry(rest, OVERHEAD_BYTES as u32)
                .map_err(|error| in_blob(error, name, number))?;
            number += 1;
            let (offset, length) = match entry.pack {
                PackRef::Name { offset, len } => (offset, len),
                PackRef::Number(number) => {
                    let mut slot = [0; PACK_SLOT_BYTES];
                    let at = layout.packs_at + u64::from(number) * PACK_SLOT_BYTES as u64;
                    plain.read_exact_at(&mut slot, at)?;
                    layout.decode_pack_slot(&slot)
                }
            };
            let mut names = names.borrow_mut();
            let entry = RawEntry {
                key,
                entry,
                format: format_of(&layout, &formats, &entry),
                pack: names.read(u64::from(offset), usize::from(length), name)?,
            };
            if !visit(&entry)? {
                break;
            }
        }
        Ok(())
    }
}

fn each_of_small(
    blob: &IndexBlob<'_>,
    name: &str,
    key_bytes: usize,
    visit: VisitEntry<'_>,
) -> Result<(), RepositoryError> {
    let layout = blob.layout();
    check_key_bytes(layout, name, key_bytes)?;
    let formats: Vec<ContentFormat> = blob.formats().collect();
    let mut order = KeyOrder::default();
    for row in 0..layout.entry_count {
        let key = blob.key(row);
        order.check(key, name)?;
        let entry = blob.entry(row, OVERHEAD_BYTES as u32)?;
        let entry = RawEntry {
            key,
            entry,
            format: format_of(layout, &formats, &entry),
            pack: blob.pack_name(entry.pack)?,
        };
        if !visit(&entry)? {
            break;
        }
    }
    Ok(())
}

fn check_key_bytes(
    layout: &IndexLayout,
    name: &str,
    key_bytes: usize,
) -> Result<(), RepositoryError> {
    if layout.entry_count == 0 || layout.key_bytes == key_bytes {
        return Ok(());
    }
    let reason = format!(
        "keys of {} bytes in a repository of {key_bytes}",
        layout.key_bytes
    );
    Err(FormatError::malformed(name, reason).into())
}

fn read_formats(
    plain: &ScratchFile,
    layout: &IndexLayout,
) -> Result<Vec<ContentFormat>, RepositoryError> {
    let mut bytes = [0; FORMAT_SLOT_BYTES];
    let mut formats = Vec::with_capacity(usize::from(layout.format_count));
    for number in 0..u64::from(layout.format_count) {
        let at = layout.formats_at + number * FORMAT_SLOT_BYTES as u64;
        plain.read_exact_at(&mut bytes, at)?;
        formats.push(layout.decode_format(&bytes));
    }
    Ok(formats)
}

fn format_of(layout: &IndexLayout, formats: &[ContentFormat], entry: &IndexEntry) -> ContentFormat {
    if layout.version == 1 {
        return ContentFormat {
            format_version: entry.format_version,
            ..ContentFormat::default()
        };
    }
    let format = formats.get(usize::from(entry.format));
    format.copied().unwrap_or_default()
}
