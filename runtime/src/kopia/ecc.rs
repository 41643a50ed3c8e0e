//! Error correction around encrypted items: Kopia's `REED-SOLOMON-CRC32`.
//!
//! An item is cut into blocks, a block into data shards of equal length, and parity shards are
//! added; each shard has a CRC that tells whether it is damaged. Stored are first the parity of all
//! blocks, then all data. The first four plain bytes are the item's length. Three size classes keep
//! the cost of small items low (`Layout`).
//!
//! Memory: one block, at most 260 KiB, beside input and output; [`BlockDecoder`] and
//! [`BlockEncoder`] need no more than that for an item of any size. Invariant: bytes equal Kopia's.
//! Mirrors Kopia's `repo/ecc`.

mod block;
mod layout;

use std::sync::Arc;

pub use self::block::{BlockDecoder, BlockEncoder, BlockRanges, EncodedBlock};
use self::layout::{Layout, Parameters};
use super::FormatError;
use super::reed_solomon::ReedSolomon;

/// The only algorithm that Kopia has.
const ALGORITHM: &str = "REED-SOLOMON-CRC32";

/// Data and parity shards of the code for the smallest items.
const SMALL_SHARDS: (usize, usize) = (6, 2);

/// The length of an item is stored in 32 bits.
const PLAIN_BYTES_MAX: u64 = u32::MAX as u64;

/// Bytes of the item's length in front of it, and bytes of each shard's CRC.
const LENGTH_BYTES: usize = 4;
const CRC_BYTES: usize = 4;

/// Error correction with the repository's parameters. Clones share the coefficients.
#[derive(Clone, Debug)]
pub struct Ecc {
    parameters: Parameters,
    small: Arc<ReedSolomon>,
    large: Arc<ReedSolomon>,
}

impl Ecc {
    /// Makes the error correction of the format blob's `ecc` and `eccOverheadPercent`; `None` when
    /// it is off.
    ///
    /// Memory: at most 16 KiB of coefficients. Fails for a name that Kopia does not know.
    pub fn new(name: &str, overhead_percent: i64) -> Result<Option<Self>, FormatError> {
        if name.is_empty() || overhead_percent <= 0 {
            return Ok(None);
        }
        if name != ALGORITHM {
            return Err(FormatError::Algorithm {
                kind: "ecc",
                name: name.to_owned(),
            });
        }
        let parameters = Parameters::of_overhead(overhead_percent);
        let (small_data, small_parity) = SMALL_SHARDS;
        Ok(Some(Self {
            small: Arc::new(ReedSolomon::new(small_data, small_parity)),
            large: Arc::new(ReedSolomon::new(
                parameters.data_shards,
                parameters.parity_shards,
            )),
            parameters,
        }))
    }

    /// Returns the stored length of an item of `plain_bytes`.
    pub fn encoded_len(&self, plain_bytes: usize) -> usize {
        self.encoded_bytes(plain_bytes as u64) as usize
    }

    /// Returns the stored length of an item of `plain_bytes`, for lengths beyond the address space.
    pub fn encoded_bytes(&self, plain_bytes: u64) -> u64 {
        self.parameters.of_plain(plain_bytes).stored_bytes
    }

    /// Appends the stored form of `plain` to `out`. `plain` is shorter than 4 GiB, as all items in
    /// memory are.
    pub fn encode(&self, plain: &[u8], out: &mut Vec<u8>) {
        let mut encoder = self
            .encoder(plain.len() as u64)
            .expect("items in memory are shorter than 4 GiB");
        let start = out.len();
        out.resize(start + encoder.stored_bytes() as usize, 0);
        let stored = &mut out[start..];
        for index in 0..encoder.blocks() {
            let range = encoder.plain_range(index);
            let block = encoder.encode_block(index, &plain[as_usize(range)]);
            let parity_start = block.parity_offset as usize;
            stored[parity_start..][..block.parity.len()].copy_from_slice(block.parity);
            let data_start = block.data_offset as usize;
            stored[data_start..][..block.data.len()].copy_from_slice(block.data);
        }
    }

    /// Appends the plain form of `stored` to `out`; returns whether a shard, of data or parity, was
    /// damaged.
    ///
    /// Fails when more shards of a block are damaged than its parity can replace; `out` is then as
    /// before.
    pub fn decode(&self, stored: &[u8], out: &mut Vec<u8>) -> Result<bool, FormatError> {
        let start = out.len();
        out.reserve(stored.len());
        let result = self.decode_blocks(stored, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn decode_blocks(&self, stored: &[u8], out: &mut Vec<u8>) -> Result<bool, FormatError> {
        let mut decoder = self.decoder(stored.len() as u64)?;
        let mut damaged = false;
        for index in 0..decoder.blocks() {
            let ranges = decoder.ranges(index);
            let parity = &stored[as_usize(ranges.parity)];
            let data = &stored[as_usize(ranges.data)];
            damaged |= decoder.decode_block(index, parity, data, out)?;
        }
        Ok(damaged)
    }

    /// Starts to decode a stored item of `stored_bytes` block by block.
    ///
    /// Fails when that is too short to hold the parity.
    pub fn decoder(&self, stored_bytes: u64) -> Result<BlockDecoder, FormatError> {
        let layout = self.parameters.of_stored(stored_bytes);
        if stored_bytes <= layout.parity_bytes() {
            let reason = format!("{stored_bytes} bytes are too short for error correction");
            return Err(FormatError::malformed("ecc", reason));
        }
        Ok(BlockDecoder::new(self.code(&layout), layout))
    }

    /// Starts to encode an item of `plain_bytes` block by block. Fails for 4 GiB and more.
    pub fn encoder(&self, plain_bytes: u64) -> Result<BlockEncoder, FormatError> {
        if plain_bytes > PLAIN_BYTES_MAX {
            let reason = format!("{plain_bytes} bytes, at most {PLAIN_BYTES_MAX} can be stored");
            return Err(FormatError::malformed("ecc", reason));
        }
        let layout = self.parameters.of_plain(plain_bytes);
        Ok(BlockEncoder::new(self.code(&layout), layout, plain_bytes))
    }

    fn code(&self, layout: &Layout) -> Arc<ReedSolomon> {
        if layout.small {
            Arc::clone(&self.small)
        } else {
            Arc::clone(&self.large)
        }
    }
}

/// Makes a range of slice indexes of one that lies inside a slice.
fn as_usize(range: std::ops::Range<u64>) -> std::ops::Range<usize> {
    range.start as usize..range.end as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    fn ecc(percent: i64) -> Ecc {
        Ecc::new(ALGORITHM, percent).unwrap().unwrap()
    }

    fn input(len: usize) -> Vec<u8> {
        (0..len).map(|i| ((7 * i + 3) % 251) as u8).collect()
    }

    fn encoded(percent: i64, len: usize) -> Vec<u8> {
        let ecc = ecc(percent);
        let mut out = Vec::new();
        ecc.encode(&input(len), &mut out);
        assert_eq!(out.len(), ecc.encoded_len(len));
        out
    }

    // The reference's vectors, one in each size class.
    #[test]
    fn reference_vectors() {
        assert_eq!(
            hex::encode(encoded(10, 10)),
            concat!(
                "4e0240d7bc008f4db590c9ba74aeff41d912000000392ee6190a030aedb685f911181f",
                "c21f4d1a262d341530fee43b4200ff41d912000000"
            )
        );
        let middle = encoded(1, 5000);
        assert_eq!(middle.len(), 6144);
        assert_eq!(
            hex::encode(Sha256::digest(&middle)),
            "3c7d03abfb30a7500fcd74dbca574e3319ae7a615dcdcbfd57d53ff63ad7c48f"
        );
        let blocks = encoded(10, 20_000);
        assert_eq!(blocks.len(), 22_072);
        assert_eq!(
            hex::encode(Sha256::digest(&blocks)),
            "977f28dfdef5b1ef3a8da0db757fc3f424675eee574d60c379108629085b794d"
        );
    }

    #[test]
    fn off_and_unknown() {
        assert!(Ecc::new("", 10).unwrap().is_none());
        assert!(Ecc::new(ALGORITHM, 0).unwrap().is_none());
        let error = Ecc::new("FOUNTAIN", 10).unwrap_err();
        assert_eq!(error.code(), "unsupported-algorithm");
    }

    // Bytes that no encoder makes, with wrong CRCs everywhere, are an error and leave the output
    // alone.
    #[test]
    fn hostile_input() {
        let ecc = ecc(10);
        for len in [0, 1, 4, 7, 10, 16, 17, 39, 40, 41, 1000, 8976, 8977, 30_000] {
            let mut out = vec![1, 2];
            assert!(ecc.decode(&vec![0x5A; len], &mut out).is_err(), "{len}");
            assert_eq!(out, [1, 2]);
        }
        assert!(ecc.encoder(u64::from(u32::MAX) + 1).is_err());
        assert!(ecc.decoder(u64::MAX).is_ok());
    }

    // A length that promises more than is stored is refused, although all CRCs are right.
    #[test]
    fn refuses_a_wrong_length() {
        let ecc = ecc(10);
        let mut stored = Vec::new();
        ecc.encode(&[0xFF; 2], &mut stored);
        let mut shards = [0_u8; 6];
        shards[..4].fill(0xFF);
        let mut parity = [0_u8; 2];
        ReedSolomon::new(6, 2).encode(&shards, &mut parity, 1);
        let all: Vec<u8> = parity
            .iter()
            .chain(&shards)
            .flat_map(|shard| {
                let mut bytes = crc32fast::hash(&[*shard]).to_be_bytes().to_vec();
                bytes.push(*shard);
                bytes
            })
            .collect();
        assert_eq!(all.len(), stored.len());
        let error = ecc.decode(&all, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("length"), "{error}");
    }

    // As many damaged shards in each block as there is parity are repaired, one more is an error.
    #[test]
    fn repairs_damage_in_every_class() {
        for (percent, len) in [
            (10, 10),
            (10, 1_000),
            (10, 20_000),
            (1, 700_000),
            (50, 7_000),
        ] {
            let ecc = ecc(percent);
            let stored = encoded(percent, len);
            let decoder = ecc.decoder(stored.len() as u64).unwrap();
            let parity = decoder.parity_shards();
            let step = decoder.shard_bytes() + CRC_BYTES;
            let mut damaged = stored.clone();
            for index in 0..decoder.blocks() {
                let ranges = decoder.ranges(index);
                damaged[ranges.parity.start as usize] ^= 1;
                for shard in 1..parity {
                    let at = ranges.data.start as usize + (shard - 1) * step + CRC_BYTES;
                    damaged[at] ^= 0x80;
                }
            }
            let mut out = Vec::new();
            assert!(ecc.decode(&damaged, &mut out).unwrap());
            assert_eq!(out, input(len), "{percent} % of {len}");

            let last = decoder.ranges(decoder.blocks() - 1).data.start as usize;
            damaged[last + (parity - 1) * step] ^= 4;
            assert!(ecc.decode(&damaged, &mut Vec::new()).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn round_trip(
            percent in prop::sample::select(vec![1, 2, 3, 4, 6, 7, 9, 10, 30, 100, 250]),
            len in prop_oneof![0..2200_usize, 7000..9000_usize, 15_000..50_000_usize],
        ) {
            let ecc = ecc(percent);
            let plain = input(len);
            let mut stored = vec![7];
            ecc.encode(&plain, &mut stored);
            prop_assert_eq!(stored.len() - 1, ecc.encoded_len(len));
            let mut out = vec![8];
            prop_assert!(!ecc.decode(&stored[1..], &mut out).unwrap());
            prop_assert_eq!(&out[1..], &plain[..]);
        }

        #[test]
        fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let _ = ecc(10).decode(&bytes, &mut Vec::new());
        }
    }
}
