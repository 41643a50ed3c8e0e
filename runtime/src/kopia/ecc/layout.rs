//! How an item is cut into blocks and shards, from the overhead and the item's length.
//!
//! Three size classes: the smallest items use the (6, 2) code, middle ones one block of the main
//! code with the shortest shards that hold them, large ones blocks of full shards. The stored
//! length alone tells the class.
//!
//! Memory: none. Mirrors `newReedSolomonCrcECC` and the size functions of Kopia's
//! `repo/ecc/ecc_rs_crc.go`; its 32-bit float arithmetic is part of the format.

use super::{CRC_BYTES, LENGTH_BYTES, SMALL_SHARDS};

/// What the overhead decides.
#[derive(Clone, Debug)]
pub(super) struct Parameters {
    shard_bytes_max: usize,
    pub(super) data_shards: usize,
    pub(super) parity_shards: usize,
}

/// One item, cut up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) blocks: u64,
    pub(super) data_shards: usize,
    pub(super) parity_shards: usize,
    pub(super) shard_bytes: usize,
    /// The (6, 2) code is used.
    pub(super) small: bool,
    pub(super) stored_bytes: u64,
}

impl Layout {
    /// Returns the stored bytes of the parity of all blocks; data begins there.
    pub(super) fn parity_bytes(&self) -> u64 {
        self.blocks.saturating_mul(self.block_parity_bytes() as u64)
    }

    /// Returns the stored bytes of one block's parity.
    pub(super) fn block_parity_bytes(&self) -> usize {
        self.parity_shards * (CRC_BYTES + self.shard_bytes)
    }

    /// Returns the stored bytes of one block's data; the last block can have fewer.
    pub(super) fn block_data_bytes(&self) -> usize {
        self.data_shards * (CRC_BYTES + self.shard_bytes)
    }

    /// Returns the plain bytes that a block holds, the length in front included.
    pub(super) fn block_plain_bytes(&self) -> usize {
        self.data_shards * self.shard_bytes
    }
}

impl Parameters {
    /// Returns the parameters of an overhead of at least 1 percent.
    pub(super) fn of_overhead(percent: i64) -> Self {
        let shard_bytes_max = match percent {
            1 => 1024,
            2 => 512,
            3 => 256,
            4..=6 => 128,
            _ => 64,
        };
        // The CRCs are part of the overhead; what they leave is for parity.
        let for_crc = 100.0 * CRC_BYTES as f32 / shard_bytes_max as f32;
        let free = (percent as f32 - for_crc).max(0.01);
        let share = |shards: f64, percent: f32| (shards * f64::from(percent)).floor() as usize;
        let (mut data_shards, mut parity_shards) = (128, share(128.0, free / 100.0).clamp(1, 128));
        if parity_shards == 1 {
            parity_shards = 2;
            data_shards = share(2.0, 100.0 / free).clamp(128, 254);
        }
        Self {
            shard_bytes_max,
            data_shards,
            parity_shards,
        }
    }

    /// The longest input, with its length in front, for the (6, 2) code.
    fn small_plain_max(&self) -> usize {
        2 * CRC_BYTES * (self.data_shards + self.parity_shards)
    }

    /// Returns the layout of an item to store; lengths of 2^63 and more saturate.
    pub(super) fn of_plain(&self, plain_bytes: u64) -> Layout {
        let with_length = plain_bytes.saturating_add(LENGTH_BYTES as u64);
        let block_bytes = (self.data_shards * self.shard_bytes_max) as u64;
        if with_length <= self.small_plain_max() as u64 {
            let (data_shards, parity_shards) = SMALL_SHARDS;
            let shard_bytes = (with_length as usize).div_ceil(data_shards);
            return one_block(data_shards, parity_shards, shard_bytes, true);
        }
        if with_length <= block_bytes {
            let shard_bytes = (with_length as usize).div_ceil(self.data_shards);
            return one_block(self.data_shards, self.parity_shards, shard_bytes, false);
        }
        let mut layout = self.full_blocks(with_length.div_ceil(block_bytes));
        let shards = with_length.div_ceil(self.shard_bytes_max as u64);
        layout.stored_bytes = layout
            .parity_bytes()
            .saturating_add(shards.saturating_mul(CRC_BYTES as u64))
            .saturating_add(with_length);
        layout
    }

    /// Returns the layout of a stored item.
    pub(super) fn of_stored(&self, stored_bytes: u64) -> Layout {
        let (small_data, small_parity) = SMALL_SHARDS;
        let small_shard_max = self.small_plain_max().div_ceil(small_data);
        let small_max = (small_data + small_parity) * (CRC_BYTES + small_shard_max);
        let shards = self.data_shards + self.parity_shards;
        let block_max = shards * (CRC_BYTES + self.shard_bytes_max);
        let shard_bytes = |shards: usize| {
            let with_crc = (stored_bytes as usize).div_ceil(shards);
            with_crc.max(CRC_BYTES + 1) - CRC_BYTES
        };
        let mut layout = if stored_bytes <= small_max as u64 {
            let shard_bytes = shard_bytes(small_data + small_parity);
            one_block(small_data, small_parity, shard_bytes, true)
        } else if stored_bytes <= block_max as u64 {
            let shard_bytes = shard_bytes(shards);
            one_block(self.data_shards, self.parity_shards, shard_bytes, false)
        } else {
            self.full_blocks(stored_bytes.div_ceil(block_max as u64))
        };
        layout.stored_bytes = stored_bytes;
        layout
    }

    /// Blocks of full shards; the stored length is still to be set.
    fn full_blocks(&self, blocks: u64) -> Layout {
        Layout {
            blocks,
            data_shards: self.data_shards,
            parity_shards: self.parity_shards,
            shard_bytes: self.shard_bytes_max,
            small: false,
            stored_bytes: 0,
        }
    }
}

/// A single block whose padding is stored.
fn one_block(data_shards: usize, parity_shards: usize, shard_bytes: usize, small: bool) -> Layout {
    Layout {
        blocks: 1,
        data_shards,
        parity_shards,
        shard_bytes,
        small,
        stored_bytes: ((data_shards + parity_shards) * (CRC_BYTES + shard_bytes)) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The reference's table: percent, longest shard, data and parity shards.
    #[test]
    fn reference_table() {
        for (percent, shard_bytes_max, data_shards, parity_shards) in [
            (1, 1024, 254, 2),
            (2, 512, 164, 2),
            (3, 256, 139, 2),
            (4, 128, 228, 2),
            (5, 128, 128, 2),
            (6, 128, 128, 3),
            (7, 64, 254, 2),
            (8, 64, 128, 2),
            (9, 64, 128, 3),
            (10, 64, 128, 4),
            (11, 64, 128, 6),
            (12, 64, 128, 7),
            (15, 64, 128, 11),
            (20, 64, 128, 17),
            (25, 64, 128, 24),
            (30, 64, 128, 30),
            (50, 64, 128, 56),
            (75, 64, 128, 88),
            (100, 64, 128, 120),
        ] {
            let got = Parameters::of_overhead(percent);
            assert_eq!(got.shard_bytes_max, shard_bytes_max, "{percent} %");
            assert_eq!(got.data_shards, data_shards, "{percent} %");
            assert_eq!(got.parity_shards, parity_shards, "{percent} %");
        }
    }

    // Decoding must find the blocks and shards that encoding chose, from the stored length alone.
    #[test]
    fn stored_length_tells_the_layout() {
        for percent in 1..=120 {
            let parameters = Parameters::of_overhead(percent);
            let block = (parameters.data_shards * parameters.shard_bytes_max) as u64;
            let small = parameters.small_plain_max() as u64;
            let around = [0, small - 4, block - 4, block, 2 * block - 4, 9 * block]
                .into_iter()
                .flat_map(|middle: u64| middle.saturating_sub(70)..middle + 70);
            for plain_bytes in around {
                let want = parameters.of_plain(plain_bytes);
                let got = parameters.of_stored(want.stored_bytes);
                assert_eq!(got.small, want.small, "{percent} % of {plain_bytes}");
                assert_eq!(got.blocks, want.blocks, "{percent} % of {plain_bytes}");
                assert_eq!(
                    got.shard_bytes, want.shard_bytes,
                    "{percent} % of {plain_bytes}"
                );
            }
        }
    }
}
