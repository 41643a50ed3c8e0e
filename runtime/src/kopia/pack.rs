//! Pack blobs: the order of their pieces, and the postamble that finds the local index from the
//! end.
//!
//! ```text
//! [format replica] 32 random bytes | contents … | 1..4096 random bytes | local index | postamble
//! ```
//!
//! A pack is written piece by piece; [`PackLayout`] only counts, so that content offsets and the
//! place of the local index are known while the bytes are already on their way. All pieces come
//! sealed. Invariant: the postamble's checksum proves nothing but good luck; only the tag of the
//! local index does. Memory: none that grows. Mirrors Kopia's `content_index_recovery.go` and
//! `preparePackDataContent`.

use crate::kopia::FormatError;
use crate::kopia::index_blob::OFFSET_LIMIT;

/// Random bytes at the start of a pack.
pub const PREAMBLE_BYTES: usize = 32;
/// Packs are padded so that the local index begins at a multiple of this.
pub const PADDING_UNIT_BYTES: usize = 4096;
/// What a reader of local indexes fetches first from the end of a pack.
pub const TAIL_BYTES: u64 = 8192;
/// Longest postamble: its length has one byte, which is behind it.
pub const POSTAMBLE_BYTES_MAX: usize = 256;
/// Longest IV that fits in a postamble with the longest numbers.
const IV_BYTES_MAX: usize = 32;
/// Bytes of the checksum.
const CHECKSUM_BYTES: usize = 4;
/// Longest number: 64 bits in groups of seven.
const UVARINT_BYTES_MAX: usize = 10;
/// The only version of the postamble.
const VERSION: u64 = 1;

/// Where the local index of a pack lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postamble {
    /// The full hash of the local index's plaintext: the IV of its encryption.
    pub local_index_iv: Vec<u8>,
    /// Where the sealed local index begins.
    pub local_index_offset: u32,
    /// Bytes of the sealed local index.
    pub local_index_length: u32,
}

impl Postamble {
    /// Returns the bytes that end a pack.
    ///
    /// # Errors
    /// An IV longer than any hash.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        if self.local_index_iv.len() > IV_BYTES_MAX {
            return Err(FormatError::malformed("postamble", "the IV is too long"));
        }
        let mut out = Vec::with_capacity(POSTAMBLE_BYTES_MAX);
        put_uvarint(&mut out, VERSION);
        put_uvarint(&mut out, self.local_index_iv.len() as u64);
        out.extend_from_slice(&self.local_index_iv);
        put_uvarint(&mut out, u64::from(self.local_index_offset));
        put_uvarint(&mut out, u64::from(self.local_index_length));
        out.extend(crc32fast::hash(&out).to_be_bytes());
        out.push(out.len() as u8); // at most 2 + 32 + 20 + 4
        Ok(out)
    }

    /// Finds the postamble at the end of `tail`, the last bytes of a pack; `None` when there is no
    /// valid one.
    pub fn find(tail: &[u8]) -> Option<Self> {
        let (&bytes, before) = tail.split_last()?;
        let start = before.len().checked_sub(usize::from(bytes))?;
        let (payload, checksum) = before.get(start..)?.split_last_chunk::<CHECKSUM_BYTES>()?;
        if crc32fast::hash(payload) != u32::from_be_bytes(*checksum) {
            return None;
        }
        Self::decode(payload)
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        let (version, rest) = uvarint(payload)?;
        if version != VERSION {
            return None;
        }
        let (iv_bytes, rest) = uvarint(rest)?;
        let (iv, rest) = rest.split_at_checked(usize::try_from(iv_bytes).ok()?)?;
        let (offset, rest) = uvarint(rest)?;
        let (length, _) = uvarint(rest)?;
        Some(Self {
            local_index_iv: iv.to_vec(),
            local_index_offset: u32::try_from(offset).ok()?,
            local_index_length: u32::try_from(length).ok()?,
        })
    }

    /// Returns the place of the sealed local index in a pack of `pack_bytes`; `None` when it does
    /// not lie inside.
    pub fn local_index(&self, pack_bytes: u64) -> Option<std::ops::Range<u64>> {
        let start = u64::from(self.local_index_offset);
        let end = start + u64::from(self.local_index_length);
        (end < pack_bytes).then_some(start..end)
    }
}

/// Returns how many random bytes follow the contents when the pack has `bytes` so far: 1 to 4096, a
/// whole unit when nothing would be missing.
pub fn padding_bytes(bytes: u64) -> usize {
    PADDING_UNIT_BYTES - (bytes % PADDING_UNIT_BYTES as u64) as usize
}

/// Counts the bytes of a pack that is being written.
#[derive(Clone, Copy, Debug)]
pub struct PackLayout {
    bytes: u64,
    contents: u64,
}

impl PackLayout {
    /// Starts a pack with its preamble, behind `replica_bytes` of format blob replica (zero unless
    /// the repository is a legacy one).
    pub fn new(replica_bytes: usize) -> Self {
        Self {
            bytes: replica_bytes as u64 + PREAMBLE_BYTES as u64,
            contents: 0,
        }
    }

    /// Places a sealed content of `packed_bytes` and returns its offset.
    ///
    /// # Errors
    /// An offset that no index entry can hold.
    pub fn append(&mut self, packed_bytes: u32) -> Result<u32, FormatError> {
        let offset = u32::try_from(self.bytes)
            .ok()
            .filter(|&offset| offset < OFFSET_LIMIT)
            .ok_or_else(|| {
                FormatError::malformed("pack to write", "the content offset is 2^30 or more")
            })?;
        self.bytes += u64::from(packed_bytes);
        self.contents += 1;
        Ok(offset)
    }

    /// Returns the bytes so far: replica, preamble, contents.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the contents so far. A pack without any is not written.
    pub fn contents(&self) -> u64 {
        self.contents
    }

    /// Returns whether the pack is to be closed: it reached `pack_bytes_max` with the content just
    /// appended.
    pub fn is_full(&self, pack_bytes_max: u64) -> bool {
        self.bytes >= pack_bytes_max
    }

    /// Returns the bytes of padding that follow the last content.
    pub fn padding_bytes(&self) -> usize {
        padding_bytes(self.bytes)
    }

    /// Returns the postamble for a sealed local index that follows the padding.
    ///
    /// # Errors
    /// A pack beyond 4 GiB.
    pub fn postamble(
        &self,
        local_index_iv: &[u8],
        sealed_local_index_bytes: usize,
    ) -> Result<Postamble, FormatError> {
        let beyond = |_| FormatError::malformed("pack to write", "it is larger than 4 GiB");
        let offset = self.bytes + self.padding_bytes() as u64;
        Ok(Postamble {
            local_index_iv: local_index_iv.to_vec(),
            local_index_offset: u32::try_from(offset).map_err(beyond)?,
            local_index_length: u32::try_from(sealed_local_index_bytes).map_err(beyond)?,
        })
    }
}

/// The pieces of a whole pack in memory, for small packs.
#[derive(Clone, Copy, Debug)]
pub struct PackPieces<'a> {
    /// Replica of the format blob; empty unless the repository is a legacy one.
    pub replica: &'a [u8],
    /// Random bytes.
    pub preamble: &'a [u8; PREAMBLE_BYTES],
    /// Sealed contents in the order in which [`PackLayout::append`] placed them.
    pub contents: &'a [&'a [u8]],
    /// Random bytes; as many as needed are taken.
    pub padding: &'a [u8; PADDING_UNIT_BYTES],
    /// The sealed local index.
    pub local_index: &'a [u8],
    /// The full hash of the local index's plaintext.
    pub local_index_iv: &'a [u8],
}

/// Puts the pieces of a pack together. Memory: the pack.
///
/// # Errors
/// As [`PackLayout`] and [`Postamble::encode`].
pub fn assemble(pieces: &PackPieces<'_>) -> Result<Vec<u8>, FormatError> {
    let mut layout = PackLayout::new(pieces.replica.len());
    let mut out = [pieces.replica, pieces.preamble].concat();
    for content in pieces.contents {
        let bytes = u32::try_from(content.len())
            .map_err(|_| FormatError::malformed("pack to write", "a content is too long"))?;
        layout.append(bytes)?;
        out.extend_from_slice(content);
    }
    out.extend_from_slice(&pieces.padding[..layout.padding_bytes()]);
    out.extend_from_slice(pieces.local_index);
    let postamble = layout.postamble(pieces.local_index_iv, pieces.local_index.len())?;
    out.extend(postamble.encode()?);
    Ok(out)
}

/// Reads a LEB128 number of at most 64 bits and returns what follows it.
fn uvarint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (i, &byte) in bytes.iter().take(UVARINT_BYTES_MAX).enumerate() {
        if i == UVARINT_BYTES_MAX - 1 && byte > 1 {
            return None;
        }
        number |= u64::from(byte & 0x7F) << (7 * i);
        if byte < 0x80 {
            return Some((number, &bytes[i + 1..]));
        }
    }
    None
}

fn put_uvarint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kopia::index_builder::test_file;

    fn vector() -> Postamble {
        Postamble {
            local_index_iv: (0..16).collect(),
            local_index_offset: 20_971_520,
            local_index_length: 777,
        }
    }

    #[test]
    fn the_vector_of_the_reference() {
        let bytes = vector().encode().unwrap();
        assert_eq!(
            hex::encode(&bytes),
            "0110000102030405060708090a0b0c0d0e0f8080800a8906db9308ed1c"
        );
        assert_eq!(Postamble::find(&bytes), Some(vector()));
    }

    /// The end of a pack that Kopia wrote, 21,376 bytes long: local index and postamble.
    #[test]
    fn a_real_pack_end() {
        let tail = test_file("pack-tail");
        let postamble = Postamble::find(&tail).unwrap();
        let place = postamble.local_index(21_376).unwrap();
        assert_eq!(place, 20_480..20_480 + 840 + 28);
        let encoded = postamble.encode().unwrap();
        assert_eq!(place.end + encoded.len() as u64, 21_376);
        assert!(tail.ends_with(&encoded));
        assert_eq!(postamble.local_index(place.end), None);
    }

    #[test]
    fn damage_is_no_postamble() {
        let good = [vec![9; 40], vector().encode().unwrap()].concat();
        assert!(Postamble::find(&good).is_some());
        for at in 40..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_eq!(Postamble::find(&bad), None, "byte {at}");
        }
        assert_eq!(Postamble::find(&[]), None);
        assert_eq!(Postamble::find(&[4, 0, 0, 0, 0, 4]), None);
        assert_eq!(Postamble::find(&good[60..]), None);
    }

    #[test]
    fn padding_is_never_empty() {
        assert_eq!(padding_bytes(0), 4096);
        assert_eq!(padding_bytes(1), 4095);
        assert_eq!(padding_bytes(4095), 1);
        assert_eq!(padding_bytes(4096), 4096);
    }

    #[test]
    fn pieces_lie_where_the_layout_says() {
        let contents: [&[u8]; 2] = [&[1; 100], &[2; 50]];
        let pieces = PackPieces {
            replica: &[7; 9],
            preamble: &[8; PREAMBLE_BYTES],
            contents: &contents,
            padding: &[9; PADDING_UNIT_BYTES],
            local_index: &[5; 60],
            local_index_iv: &[3; 32],
        };
        let pack = assemble(&pieces).unwrap();
        let mut layout = PackLayout::new(9);
        let offsets: Vec<usize> = contents
            .iter()
            .map(|c| layout.append(c.len() as u32).unwrap() as usize)
            .collect();
        assert_eq!(offsets, [41, 141]);
        assert_eq!(pack[141..191], [2; 50]);
        let postamble = Postamble::find(&pack).unwrap();
        assert_eq!(postamble.local_index(pack.len() as u64), Some(4096..4156));
        assert_eq!(pack[4096..4156], [5; 60]);
        assert!(layout.is_full(191) && !layout.is_full(192));
        assert_eq!((layout.contents(), layout.bytes()), (2, 191));
    }

    #[test]
    fn offsets_stay_below_their_limit() {
        let mut layout = PackLayout::new(0);
        layout.append(OFFSET_LIMIT - 33).unwrap();
        layout.append(1).unwrap();
        assert!(layout.append(1).is_err());
    }

    proptest! {
        #[test]
        fn postambles_round(
            iv in proptest::collection::vec(any::<u8>(), 0..=32),
            offset in any::<u32>(),
            length in any::<u32>(),
        ) {
            let postamble = Postamble {
                local_index_iv: iv, local_index_offset: offset, local_index_length: length,
            };
            let bytes = postamble.encode().unwrap();
            prop_assert_eq!(Postamble::find(&bytes), Some(postamble));
        }

        #[test]
        fn hostile_tails_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Postamble::find(&bytes);
            let _ = Postamble::decode(&bytes);
        }
    }
}
