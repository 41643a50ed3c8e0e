//! One block of an error-corrected item: so items of hundreds of MB need the memory of one block.
//!
//! The caller reads or writes the stored ranges that belong to a block; these types turn bytes into
//! bytes.
//!
//! Memory: one block of shards, at most 260 KiB, in each coder. Invariant: blocks are decoded in
//! order, because the first one holds the length. Mirrors `Encrypt` and `Decrypt` of
//! `repo/ecc/ecc_rs_crc.go`.

use std::ops::Range;
use std::sync::Arc;

use super::layout::Layout;
use super::{CRC_BYTES, LENGTH_BYTES};
use crate::kopia::FormatError;
use crate::kopia::reed_solomon::ReedSolomon;

/// Where the two parts of a block lie in the stored item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockRanges {
    /// Its parity shards with their CRCs.
    pub parity: Range<u64>,
    /// Its data shards with their CRCs; shorter in the last block.
    pub data: Range<u64>,
}

/// Decodes a stored item block by block.
#[derive(Debug)]
pub struct BlockDecoder {
    code: Arc<ReedSolomon>,
    layout: Layout,
    next_block: u64,
    /// Plain bytes still to come; known after the first block.
    plain_bytes_left: u64,
    /// Data, then parity shards of a damaged block.
    shards: Vec<u8>,
    lost: Vec<bool>,
}

impl BlockDecoder {
    pub(super) fn new(code: Arc<ReedSolomon>, layout: Layout) -> Self {
        Self {
            lost: vec![false; layout.data_shards + layout.parity_shards],
            code,
            layout,
            next_block: 0,
            plain_bytes_left: 0,
            shards: Vec::new(),
        }
    }

    /// Returns the number of blocks, at least 1.
    pub fn blocks(&self) -> u64 {
        self.layout.blocks
    }

    /// Returns the plain bytes still to come; known once the first block is decoded.
    pub fn plain_bytes_left(&self) -> u64 {
        self.plain_bytes_left
    }

    /// Returns the bytes of a shard without its CRC.
    pub fn shard_bytes(&self) -> usize {
        self.layout.shard_bytes
    }

    /// Returns how many damaged shards of a block can be repaired.
    pub fn parity_shards(&self) -> usize {
        self.layout.parity_shards
    }

    /// Returns the stored ranges of block `index`, at most 260 KiB together.
    pub fn ranges(&self, index: u64) -> BlockRanges {
        let layout = &self.layout;
        let parity_step = layout.block_parity_bytes() as u64;
        let data_step = layout.block_data_bytes() as u64;
        let parity_start = index.saturating_mul(parity_step);
        let data_start = layout
            .parity_bytes()
            .saturating_add(index.saturating_mul(data_step))
            .min(layout.stored_bytes);
        let data_end = data_start.saturating_add(data_step);
        BlockRanges {
            parity: parity_start..parity_start.saturating_add(parity_step),
            data: data_start..data_end.min(layout.stored_bytes),
        }
    }

    /// Appends the plain bytes of block `index` to `out`; returns whether a shard was damaged.
    ///
    /// Blocks come in order. `parity` and `data` are the stored bytes of [`BlockDecoder::ranges`].
    /// Fails when more shards are damaged than parity can replace, and when the length does not fit
    /// the stored bytes.
    pub fn decode_block(
        &mut self,
        index: u64,
        parity: &[u8],
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, FormatError> {
        assert_eq!(index, self.next_block, "blocks are decoded in order");
        self.next_block += 1;
        let damaged = self.find_damage(parity, data);
        if damaged == 0 {
            self.take_stored(index, data, out)?;
            return Ok(false);
        }
        let usable = damaged <= self.layout.parity_shards && self.repair(parity, data);
        if !usable {
            let reason = format!(
                "{damaged} shards of block {index} are damaged, {} can be repaired",
                self.layout.parity_shards
            );
            return Err(FormatError::malformed("ecc", reason));
        }
        self.take_repaired(index, out)?;
        Ok(true)
    }

    /// Checks all CRCs; data shards that were not stored count as whole and zero.
    fn find_damage(&mut self, parity: &[u8], data: &[u8]) -> usize {
        let shard_bytes = self.layout.shard_bytes;
        let step = CRC_BYTES + shard_bytes;
        let (data_lost, parity_lost) = self.lost.split_at_mut(self.layout.data_shards);
        for (lost_of_part, part) in [(data_lost, data), (parity_lost, parity)] {
            lost_of_part.fill(false);
            for (lost, stored) in lost_of_part.iter_mut().zip(part.chunks(step)) {
                *lost = !is_whole(stored, shard_bytes);
            }
        }
        self.lost.iter().filter(|lost| **lost).count()
    }

    /// Hands out the shards as they were stored.
    fn take_stored(
        &mut self,
        index: u64,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        let start = out.len();
        for stored in data.chunks(CRC_BYTES + self.layout.shard_bytes) {
            out.extend_from_slice(stored.get(CRC_BYTES..).unwrap_or(&[]));
        }
        self.trim(index, start, out)
    }

    /// Fills `shards` and computes the lost ones.
    fn repair(&mut self, parity: &[u8], data: &[u8]) -> bool {
        let shard_bytes = self.layout.shard_bytes;
        let step = CRC_BYTES + shard_bytes;
        self.shards.clear();
        self.shards.resize(self.lost.len() * shard_bytes, 0);
        let (data_out, parity_out) = self.shards.split_at_mut(self.layout.block_plain_bytes());
        for (part_out, part) in [(data_out, data), (parity_out, parity)] {
            let shards = part_out.chunks_exact_mut(shard_bytes);
            for (shard, stored) in shards.zip(part.chunks(step)) {
                let bytes = stored.get(CRC_BYTES..).unwrap_or(&[]);
                shard[..bytes.len()].copy_from_slice(bytes);
            }
        }
        self.code
            .reconstruct(&mut self.shards, &self.lost, shard_bytes)
    }

    fn take_repaired(&mut self, index: u64, out: &mut Vec<u8>) -> Result<(), FormatError> {
        let start = out.len();
        out.extend_from_slice(&self.shards[..self.layout.block_plain_bytes()]);
        self.trim(index, start, out)
    }

    /// Takes the length off the first block, and padding off the last.
    fn trim(&mut self, index: u64, start: usize, out: &mut Vec<u8>) -> Result<(), FormatError> {
        if index == 0 {
            let length = out[start..].first_chunk::<LENGTH_BYTES>().copied();
            let length = u32::from_be_bytes(length.unwrap_or([u8::MAX; LENGTH_BYTES]));
            self.check_length(length.into())?;
            self.plain_bytes_left = length.into();
            out.drain(start..start + LENGTH_BYTES);
        }
        let wanted = self.plain_bytes_left.min((out.len() - start) as u64);
        out.truncate(start + wanted as usize);
        self.plain_bytes_left -= wanted;
        if self.next_block == self.layout.blocks && self.plain_bytes_left > 0 {
            let reason = format!("{} bytes of the length are missing", self.plain_bytes_left);
            return Err(FormatError::malformed("ecc", reason));
        }
        Ok(())
    }

    /// The length must fit into all blocks together.
    fn check_length(&self, plain_bytes: u64) -> Result<(), FormatError> {
        let block_bytes = self.layout.block_plain_bytes() as u64;
        let capacity = self.layout.blocks.saturating_mul(block_bytes);
        if plain_bytes.saturating_add(LENGTH_BYTES as u64) > capacity {
            let reason = format!("length {plain_bytes} in blocks for {capacity} bytes");
            return Err(FormatError::malformed("ecc", reason));
        }
        Ok(())
    }
}

/// Checks the CRC in front of a shard; cut-off bytes count as zeros.
fn is_whole(stored: &[u8], shard_bytes: usize) -> bool {
    let (crc, shard) = stored.split_at(stored.len().min(CRC_BYTES));
    let mut want = [0; CRC_BYTES];
    want[..crc.len()].copy_from_slice(crc);
    u32::from_be_bytes(want) == crc_of(shard, shard_bytes)
}

/// Returns the CRC of a shard that zeros fill up to `shard_bytes`.
fn crc_of(shard: &[u8], shard_bytes: usize) -> u32 {
    const ZEROS: [u8; 1024] = [0; 1024];
    let mut crc = crc32fast::Hasher::new();
    crc.update(shard);
    let mut missing = shard_bytes - shard.len();
    while missing > 0 {
        let piece = missing.min(ZEROS.len());
        crc.update(&ZEROS[..piece]);
        missing -= piece;
    }
    crc.finalize()
}

/// One encoded block, ready to be written in two places.
#[derive(Debug)]
pub struct EncodedBlock<'a> {
    /// Parity shards with their CRCs.
    pub parity: &'a [u8],
    /// Where they lie in the stored item.
    pub parity_offset: u64,
    /// Data shards with their CRCs.
    pub data: &'a [u8],
    /// Where they lie in the stored item.
    pub data_offset: u64,
}

/// Encodes an item block by block, in any order.
#[derive(Debug)]
pub struct BlockEncoder {
    code: Arc<ReedSolomon>,
    layout: Layout,
    plain_bytes: u64,
    /// Data, then parity shards without CRCs.
    shards: Vec<u8>,
    /// Parity, then data shards with CRCs.
    stored: Vec<u8>,
}

impl BlockEncoder {
    pub(super) fn new(code: Arc<ReedSolomon>, layout: Layout, plain_bytes: u64) -> Self {
        Self {
            code,
            layout,
            plain_bytes,
            shards: Vec::new(),
            stored: Vec::new(),
        }
    }

    /// Returns the length of the whole stored item.
    pub fn stored_bytes(&self) -> u64 {
        self.layout.stored_bytes
    }

    /// Returns the number of blocks, at least 1.
    pub fn blocks(&self) -> u64 {
        self.layout.blocks
    }

    /// Returns which bytes of the plain item block `index` takes, at most 254 KiB.
    pub fn plain_range(&self, index: u64) -> Range<u64> {
        let block_bytes = self.layout.block_plain_bytes() as u64;
        let prefix = LENGTH_BYTES as u64;
        let start = (index * block_bytes).saturating_sub(prefix);
        let end = ((index + 1) * block_bytes).saturating_sub(prefix);
        start.min(self.plain_bytes)..end.min(self.plain_bytes)
    }

    /// Encodes block `index` from the plain bytes of [`BlockEncoder::plain_range`].
    pub fn encode_block(&mut self, index: u64, plain: &[u8]) -> EncodedBlock<'_> {
        let range = self.plain_range(index);
        assert_eq!(
            plain.len() as u64,
            range.end - range.start,
            "the whole block"
        );
        let layout = self.layout;
        self.fill_shards(index, plain);
        let data_bytes = layout.block_plain_bytes();
        let (data, parity) = self.shards.split_at_mut(data_bytes);
        self.code.encode(data, parity, layout.shard_bytes);

        self.stored.clear();
        push_shards(parity, layout.shard_bytes, &mut self.stored);
        push_shards(data, layout.shard_bytes, &mut self.stored);
        let parity_bytes = layout.block_parity_bytes();
        let data_offset = layout.parity_bytes() + index * layout.block_data_bytes() as u64;
        // Padding at the end of the last block is not stored when there are several.
        let data_stored = layout.stored_bytes.saturating_sub(data_offset);
        let data_stored = data_stored.min(layout.block_data_bytes() as u64) as usize;
        EncodedBlock {
            parity: &self.stored[..parity_bytes],
            parity_offset: index * parity_bytes as u64,
            data: &self.stored[parity_bytes..parity_bytes + data_stored],
            data_offset,
        }
    }

    /// Puts the length in front of the first block, and zeros behind the last.
    fn fill_shards(&mut self, index: u64, plain: &[u8]) {
        let shards = self.layout.data_shards + self.layout.parity_shards;
        self.shards.clear();
        if index == 0 {
            let length = self.plain_bytes as u32;
            self.shards.extend_from_slice(&length.to_be_bytes());
        }
        self.shards.extend_from_slice(plain);
        self.shards.resize(shards * self.layout.shard_bytes, 0);
    }
}

fn push_shards(shards: &[u8], shard_bytes: usize, stored: &mut Vec<u8>) {
    for shard in shards.chunks_exact(shard_bytes) {
        stored.extend_from_slice(&crc32fast::hash(shard).to_be_bytes());
        stored.extend_from_slice(shard);
    }
}
