//! The streaming core of both AEADs: a stream cipher and a polynomial hash over the same piece.
//!
//! AES-256-GCM and ChaCha20-Poly1305 have one shape: hash the padded associated data, then the
//! padded ciphertext, then both lengths; the tag is that hash, for GCM masked with a block of the
//! cipher's stream. The crates that have both ciphers whole cannot stream; index blobs of hundreds
//! of MB must.
//!
//! Memory: a few hundred bytes of state. Invariant: the hash sees ciphertext, before decryption and
//! after encryption. Kopia gets this from Go's `cipher.AEAD`.

use aes::Aes256Enc;
use chacha20::ChaCha20;
use ctr::cipher::{BlockCipherEncrypt, InnerIvInit, KeyInit, KeyIvInit, StreamCipher};
use ctr::flavors::Ctr32BE as Ctr32;
use ctr::{Ctr32BE, CtrCore};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use ghash::universal_hash::consts::U16;
use poly1305::Poly1305;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{NONCE_BYTES, TAG_BYTES};

/// Cipher and hash take turns on pieces of this size, so that the second finds it in the L1 cache.
const PIECE_BYTES: usize = 4 << 10;

/// Blocks of GHASH and of Poly1305.
const BLOCK_BYTES: usize = 16;

/// The sixteen-byte block of `universal_hash`.
type Block = ghash::Block;

/// An AEAD in progress. Not boxed: every small item would pay for it, and only one or two exist at
/// a time.
#[allow(clippy::large_enum_variant)]
pub(super) enum Aead {
    /// AES-256-GCM.
    Aes(Core<Ctr32BE<Aes256Enc>, GHash>),
    /// ChaCha20-Poly1305.
    ChaCha(Core<ChaCha20, Poly1305>),
}

impl Aead {
    /// Starts AES-256-GCM.
    pub(super) fn aes_gcm(key: &[u8; 32], nonce: &[u8; NONCE_BYTES], aad: &[u8]) -> Self {
        let cipher = Aes256Enc::new(&(*key).into());
        let mut hash_key = Block::default();
        cipher.encrypt_block(&mut hash_key);
        let hash = GHash::new(&hash_key);
        let mut counter = [0; BLOCK_BYTES];
        counter[..NONCE_BYTES].copy_from_slice(nonce);
        counter[BLOCK_BYTES - 1] = 1;
        let stream = CtrCore::<Aes256Enc, Ctr32>::inner_iv_init(cipher, &counter.into());
        let mut cipher = Ctr32BE::from_core(stream);
        let mut mask = [0; TAG_BYTES];
        cipher.apply_keystream(&mut mask);
        Self::Aes(Core::new(cipher, hash, mask, gcm_lengths, aad))
    }

    /// Starts ChaCha20-Poly1305.
    pub(super) fn chacha_poly(key: &[u8; 32], nonce: &[u8; NONCE_BYTES], aad: &[u8]) -> Self {
        let mut cipher = ChaCha20::new(&(*key).into(), &(*nonce).into());
        // The first block of the stream is the one-time key; its second half is not used.
        let mut block = Zeroizing::new([0_u8; 64]);
        cipher.apply_keystream(&mut *block);
        let mut hash_key = Zeroizing::new([0_u8; 32]);
        hash_key.copy_from_slice(&block[..32]);
        let hash = Poly1305::new(&(*hash_key).into());
        let mask = [0; TAG_BYTES];
        Self::ChaCha(Core::new(cipher, hash, mask, chacha_lengths, aad))
    }

    /// Decrypts the next piece in place.
    pub(super) fn decrypt(&mut self, piece: &mut [u8]) {
        match self {
            Self::Aes(core) => core.decrypt(piece),
            Self::ChaCha(core) => core.decrypt(piece),
        }
    }

    /// Takes in the next piece of ciphertext without decrypting it.
    pub(super) fn authenticate(&mut self, piece: &[u8]) {
        match self {
            Self::Aes(core) => core.authenticate(piece),
            Self::ChaCha(core) => core.authenticate(piece),
        }
    }

    /// Encrypts the next piece in place.
    pub(super) fn encrypt(&mut self, piece: &mut [u8]) {
        match self {
            Self::Aes(core) => core.encrypt(piece),
            Self::ChaCha(core) => core.encrypt(piece),
        }
    }

    /// Returns the tag of everything so far.
    pub(super) fn tag(self) -> [u8; TAG_BYTES] {
        match self {
            Self::Aes(core) => core.tag(),
            Self::ChaCha(core) => core.tag(),
        }
    }

    /// Compares the tag of everything so far with `tag`, in constant time.
    pub(super) fn verify(self, tag: &[u8]) -> bool {
        let exhausted = match &self {
            Self::Aes(core) => core.exhausted,
            Self::ChaCha(core) => core.exhausted,
        };
        !exhausted && bool::from(self.tag().ct_eq(tag))
    }
}

/// A stream cipher and a polynomial hash that see the same bytes.
pub(super) struct Core<C, H> {
    cipher: C,
    hash: PaddedHash<H>,
    /// What the hash is XORed with to make the tag.
    mask: [u8; TAG_BYTES],
    /// Puts the lengths of associated data and ciphertext into the last block.
    lengths: fn(u64, u64) -> [u8; BLOCK_BYTES],
    aad_bytes: u64,
    data_bytes: u64,
    /// The cipher's stream is used up (64 GiB for GCM): no tag will fit.
    exhausted: bool,
}

impl<C: StreamCipher, H: UniversalHash<BlockSize = U16>> Core<C, H> {
    fn new(
        cipher: C,
        hash: H,
        mask: [u8; TAG_BYTES],
        lengths: fn(u64, u64) -> [u8; BLOCK_BYTES],
        aad: &[u8],
    ) -> Self {
        let mut hash = PaddedHash::new(hash);
        hash.update(aad);
        hash.pad();
        Self {
            cipher,
            hash,
            mask,
            lengths,
            aad_bytes: aad.len() as u64,
            data_bytes: 0,
            exhausted: false,
        }
    }

    fn decrypt(&mut self, bytes: &mut [u8]) {
        self.data_bytes += bytes.len() as u64;
        for piece in bytes.chunks_mut(PIECE_BYTES) {
            self.hash.update(piece);
            self.exhausted |= self.cipher.try_apply_keystream(piece).is_err();
        }
    }

    fn authenticate(&mut self, bytes: &[u8]) {
        self.data_bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }

    fn encrypt(&mut self, bytes: &mut [u8]) {
        self.data_bytes += bytes.len() as u64;
        for piece in bytes.chunks_mut(PIECE_BYTES) {
            self.cipher.apply_keystream(piece);
            self.hash.update(piece);
        }
    }

    fn tag(mut self) -> [u8; TAG_BYTES] {
        self.hash.pad();
        self.hash
            .update(&(self.lengths)(self.aad_bytes, self.data_bytes));
        let mut tag = self.hash.finish();
        for (byte, mask) in tag.iter_mut().zip(self.mask) {
            *byte ^= mask;
        }
        tag
    }
}

/// A polynomial hash over whole blocks that takes pieces of any length.
struct PaddedHash<H> {
    hash: H,
    /// The start of a block that is not complete yet.
    pending: [u8; BLOCK_BYTES],
    pending_bytes: usize,
}

impl<H: UniversalHash<BlockSize = U16>> PaddedHash<H> {
    fn new(hash: H) -> Self {
        Self {
            hash,
            pending: [0; BLOCK_BYTES],
            pending_bytes: 0,
        }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        if self.pending_bytes > 0 {
            let wanted = bytes.len().min(BLOCK_BYTES - self.pending_bytes);
            let (head, rest) = bytes.split_at(wanted);
            self.pending[self.pending_bytes..][..wanted].copy_from_slice(head);
            self.pending_bytes += wanted;
            bytes = rest;
            if self.pending_bytes < BLOCK_BYTES {
                return;
            }
            self.pad();
        }
        let (blocks, rest) = Block::slice_as_chunks(bytes);
        self.hash.update(blocks);
        self.pending[..rest.len()].copy_from_slice(rest);
        self.pending_bytes = rest.len();
    }

    /// Completes the block with zeros, if one is begun.
    fn pad(&mut self) {
        if self.pending_bytes > 0 {
            self.pending[self.pending_bytes..].fill(0);
            self.hash.update(&[self.pending.into()]);
            self.pending_bytes = 0;
        }
    }

    fn finish(self) -> [u8; TAG_BYTES] {
        self.hash.finalize().into()
    }
}

/// GCM counts bits, big endian.
fn gcm_lengths(aad_bytes: u64, data_bytes: u64) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    block[..8].copy_from_slice(&(aad_bytes << 3).to_be_bytes());
    block[8..].copy_from_slice(&(data_bytes << 3).to_be_bytes());
    block
}

/// ChaCha20-Poly1305 counts bytes, little endian.
fn chacha_lengths(aad_bytes: u64, data_bytes: u64) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    block[..8].copy_from_slice(&aad_bytes.to_le_bytes());
    block[8..].copy_from_slice(&data_bytes.to_le_bytes());
    block
}
