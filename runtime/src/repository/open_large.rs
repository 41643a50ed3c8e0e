//! Loads an index blob that is too large for memory (Kopia writes them up to 560 MB): it is opened
//! in pieces into scratch and read from there only after its tag has been verified.
//!
//! Memory: one piece of the store's bytes and windows of [`WINDOW_BYTES`]. Scratch: the size of the
//! blob. Invariant: no entry of a blob is used before the blob's last byte was authenticated.

use std::sync::Arc;

use crate::kopia::FormatError;
use crate::kopia::blob_id::BlobId;
use crate::kopia::encryption::OVERHEAD_BYTES;
use crate::kopia::index_blob::{IndexLayout, KeyOrder, PackRef, in_blob};
use crate::progress::Part;
use crate::spill::{ScratchFile, SequentialReader};

use super::RepositoryError;
use super::load_worker::{BlobContext, Worker};
use super::sealed_pieces::open_into_scratch;

/// Buffer of each region of the opened blob, in bytes.
pub(super) const WINDOW_BYTES: usize = 64 * 1024;

impl Worker<'_, '_> {
    /// Takes in a blob that did not fit into memory; its start did.
    pub(super) fn large_blob(
        &mut self,
        blob: &BlobId,
        start: &[u8],
        context: &mut BlobContext<'_>,
    ) -> Result<(), RepositoryError> {
        let (repository, workspace) = (self.shared.repository, self.shared.workspace);
        let (plain, stored_bytes) = open_into_scratch(repository, workspace, blob, start)?;
        self.time.skip(); // told piece by piece
        self.stats.stored_bytes += stored_bytes;
        let mut header = [0; 17];
        let header = {
            let bytes = plain.len().min(17) as usize;
            plain.read_exact_at(&mut header[..bytes], 0)?;
            &header[..bytes]
        };
        let layout = IndexLayout::parse(header, plain.len(), context.name)?;
        if layout.entry_count == 0 {
            return Ok(());
        }
        self.check_key_bytes(layout.key_bytes, context.name)?;
        let mut names = Window::new(Arc::clone(&plain));
        self.take_formats(&plain, &layout, context)?;
        if context.target.is_some() && layout.pack_count > 0 {
            self.take_names(&plain, &layout, context, &mut names)?;
        }
        if context.target.is_some() {
            self.run = Some(self.shared.records.sorted_run());
        }
        self.take_entries(&plain, &layout, context, names)?;
        if let Some(run) = self.run.take() {
            run.finish()?;
        }
        self.time.lap(Part::Decode);
        Ok(())
    }

    fn take_formats(
        &mut self,
        plain: &ScratchFile,
        layout: &IndexLayout,
        context: &mut BlobContext<'_>,
    ) -> Result<(), RepositoryError> {
        let mut bytes = [0; 6];
        for number in 0..u64::from(layout.format_count) {
            plain.read_exact_at(&mut bytes, layout.formats_at + number * 6)?;
            self.take_format(context, number as usize, layout.decode_format(&bytes))?;
        }
        Ok(())
    }

    fn take_names(
        &mut self,
        plain: &Arc<ScratchFile>,
        layout: &IndexLayout,
        context: &mut BlobContext<'_>,
        names: &mut Window,
    ) -> Result<(), RepositoryError> {
        context.first_pack = Some(self.reserve_names(layout.pack_count)?);
        let range = layout.packs_at..layout.packs_at + u64::from(layout.pack_count) * 5;
        let mut slots = SequentialReader::new(Arc::clone(plain), range, WINDOW_BYTES);
        while let Some(slot) = slots.next(5)? {
            let slot = slot.first_chunk().ok_or(RepositoryError::Interrupted)?;
            let (offset, length) = layout.decode_pack_slot(slot);
            let name = names.read(u64::from(offset), usize::from(length), context.name)?;
            self.push_name(context, name)?;
        }
        Ok(())
    }

    fn take_entries(
        &mut self,
        plain: &Arc<ScratchFile>,
        layout: &IndexLayout,
        context: &mut BlobContext<'_>,
        names: Window,
    ) -> Result<(), RepositoryError> {
        let row_bytes = layout.row_bytes();
        let end = layout.entries_at + u64::from(layout.entry_count) * row_bytes as u64;
        let mut rows =
            SequentialReader::new(Arc::clone(plain), layout.entries_at..end, WINDOW_BYTES);
        let (name, names) = (context.name, std::cell::RefCell::new(names));
        let name_of = |pack| {
            let (offset, length) = match pack {
                PackRef::Name { offset, len } => (offset, len),
                PackRef::Number(number) => {
                    let mut slot = [0; 5];
                    plain.read_exact_at(&mut slot, layout.packs_at + u64::from(number) * 5)?;
                    layout.decode_pack_slot(&slot)
                }
            };
            let mut names = names.borrow_mut();
            Ok(names
                .read(u64::from(offset), usize::from(length), name)?
                .to_vec())
        };
        let mut order = KeyOrder::default();
        let mut number = 0;
        while let Some(row) = rows.next(row_bytes)? {
            let (key, rest) = row.split_at(layout.key_bytes);
            order.check(key, name)?;
            let entry = layout
                .decode_entry(rest, OVERHEAD_BYTES as u32)
                .map_err(|error| in_blob(error, name, number))?;
            number += 1;
            self.entry(context, key, &entry, layout.version == 1, name_of)?;
        }
        self.count_entries(context, layout.entry_count);
        Ok(())
    }
}

/// Random reads that mostly go forwards: names of packs.
pub(super) struct Window {
    file: Arc<ScratchFile>,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub(super) fn new(file: Arc<ScratchFile>) -> Self {
        Self {
            file,
            start: 0,
            bytes: Vec::new(),
        }
    }

    pub(super) fn read(
        &mut self,
        offset: u64,
        length: usize,
        blob: &str,
    ) -> Result<&[u8], RepositoryError> {
        let end = offset + length as u64;
        if end > self.file.len() {
            return Err(FormatError::malformed(blob, "a pack name outside the blob").into());
        }
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            let bytes = (self.file.len() - offset).min(WINDOW_BYTES as u64) as usize;
            self.bytes.resize(bytes, 0);
            self.file.read_exact_at(&mut self.bytes, offset)?;
            self.start = offset;
        }
        let from = (offset - self.start) as usize;
        Ok(self.bytes.get(from..from + length).unwrap_or_default())
    }
}
