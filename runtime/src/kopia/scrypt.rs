//! scrypt with p = 1, in a chosen part of its usual memory.
//!
//! Kopia's password key costs 64 MiB with a textbook scrypt, the whole of our smallest limit. The
//! table of intermediate blocks can be kept in part: only every `k`-th block is stored, and the
//! ones between are computed again when they are read. That is (k - 1) / 2 more steps on average
//! for each read; up to k = 4 the smaller table's better place in the caches pays for most of it.
//!
//! Memory: 128 * N * r / k bytes and a few KiB. Invariant: the key does not depend on `k`. Kopia
//! uses Go's `x/crypto/scrypt` in `internal/crypto/scrypt.go`.

use pbkdf2::pbkdf2_hmac;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

/// Four words that are worked on at once; the compiler keeps them in one SIMD register.
type Lanes = [u32; 4];

/// The sixteen words of Salsa20 by diagonals, so that a quarter round works on whole [`Lanes`].
type Words = [Lanes; 4];

/// Where word `5 * i % 16` of the standard order lies by diagonals: at `i`.
const DIAGONAL_STEP: usize = 5;

/// Bytes of one Salsa20 block.
const BLOCK_BYTES: usize = 64;

/// Derives `out` from the password with N = 2^`log_n`, the given `r`, and p = 1, keeping one block
/// in `k`.
///
/// `k` divides N. Memory: 128 * N * r / k bytes for the call.
pub(crate) fn scrypt(password: &[u8], salt: &[u8], log_n: u8, r: usize, k: usize, out: &mut [u8]) {
    let n = 1_usize << log_n;
    assert!(r > 0 && k > 0 && n.is_multiple_of(k));
    let mut bytes = Zeroizing::new(vec![0_u8; 2 * r * BLOCK_BYTES]);
    pbkdf2_hmac::<Sha256>(password, salt, 1, &mut bytes);
    let mut state: Vec<Words> = bytes.chunks_exact(BLOCK_BYTES).map(words_of).collect();
    mix(&mut state, n, k);
    for (words, block) in state.iter().zip(bytes.chunks_exact_mut(BLOCK_BYTES)) {
        bytes_of(words, block);
    }
    state.zeroize();
    pbkdf2_hmac::<Sha256>(password, &bytes, 1, out);
}

/// Returns the bytes of the table for these parameters.
pub(crate) fn table_bytes(log_n: u8, r: usize, k: usize) -> usize {
    ((2 * r * BLOCK_BYTES) << log_n) / k
}

/// ROMix: writes the sequence of blocks down, then reads it in an order that depends on the
/// password.
fn mix(state: &mut Vec<Words>, n: usize, k: usize) {
    let blocks = state.len();
    let mut spare = vec![[[0_u32; 4]; 4]; blocks];
    let mut table = vec![[[0_u32; 4]; 4]; n / k * blocks];
    for kept in table.chunks_exact_mut(blocks) {
        kept.copy_from_slice(state);
        for _ in 0..k {
            block_mix(state, &mut spare);
            std::mem::swap(state, &mut spare);
        }
    }
    let mut read = vec![[[0_u32; 4]; 4]; blocks];
    for _ in 0..n {
        let index = integerify(state, n);
        let kept = &table[index / k * blocks..][..blocks];
        let entry: &[Words] = if index.is_multiple_of(k) {
            kept
        } else {
            block_mix(kept, &mut read);
            for _ in 1..index % k {
                block_mix(&read, &mut spare);
                std::mem::swap(&mut read, &mut spare);
            }
            &read
        };
        block_mix_sum(state, entry, &mut spare);
        std::mem::swap(state, &mut spare);
    }
    table.zeroize();
    spare.zeroize();
    read.zeroize();
}

/// Returns which entry is read next: the first words of the last block, little endian, modulo `n`.
fn integerify(state: &[Words], n: usize) -> usize {
    let last = state.last().expect("r is at least 1");
    // By diagonals the second word of the standard order lies at 13, as 5 * 13 % 16 is 1.
    let low = u64::from(last[0][0]) | u64::from(last[3][1]) << 32;
    low as usize & (n - 1)
}

/// BlockMix of `input` into `output`, which has the same length and is overwritten.
fn block_mix(input: &[Words], output: &mut [Words]) {
    let half = input.len() / 2;
    let mut x = *input.last().expect("r is at least 1");
    for (index, pair) in input.chunks_exact(2).enumerate() {
        x = salsa20_8(xor(x, pair[0]));
        output[index] = x;
        x = salsa20_8(xor(x, pair[1]));
        output[half + index] = x;
    }
}

/// BlockMix of the XOR of both inputs, without writing that down first.
fn block_mix_sum(left: &[Words], right: &[Words], output: &mut [Words]) {
    let half = left.len() / 2;
    let last = "r is at least 1";
    let mut x = xor(*left.last().expect(last), *right.last().expect(last));
    let pairs = left.chunks_exact(2).zip(right.chunks_exact(2));
    for (index, (left, right)) in pairs.enumerate() {
        x = salsa20_8(xor(x, xor(left[0], right[0])));
        output[index] = x;
        x = salsa20_8(xor(x, xor(left[1], right[1])));
        output[half + index] = x;
    }
}

/// Salsa20 with 8 rounds on words by diagonals.
#[inline(always)]
fn salsa20_8(input: Words) -> Words {
    let [mut a, mut b, mut c, mut d] = input;
    for _ in 0..4 {
        b = mixed(b, a, d, 7);
        c = mixed(c, b, a, 9);
        d = mixed(d, c, b, 13);
        a = mixed(a, d, c, 18);
        // Rows and columns change places.
        (b, c, d) = (turned::<3>(b), turned::<2>(c), turned::<1>(d));
        d = mixed(d, a, b, 7);
        c = mixed(c, d, a, 9);
        b = mixed(b, c, d, 13);
        a = mixed(a, b, c, 18);
        (b, c, d) = (turned::<1>(b), turned::<2>(c), turned::<3>(d));
    }
    let [a0, b0, c0, d0] = input;
    [added(a, a0), added(b, b0), added(c, c0), added(d, d0)]
}

/// `target ^ ((left + right) <<< bits)` in each lane.
#[inline(always)]
fn mixed(target: Lanes, left: Lanes, right: Lanes, bits: u32) -> Lanes {
    std::array::from_fn(|i| target[i] ^ left[i].wrapping_add(right[i]).rotate_left(bits))
}

#[inline(always)]
fn added(left: Lanes, right: Lanes) -> Lanes {
    std::array::from_fn(|i| left[i].wrapping_add(right[i]))
}

#[inline(always)]
fn turned<const BY: usize>(lanes: Lanes) -> Lanes {
    std::array::from_fn(|i| lanes[(i + BY) % 4])
}

#[inline(always)]
fn xor(left: Words, right: Words) -> Words {
    std::array::from_fn(|row| std::array::from_fn(|i| left[row][i] ^ right[row][i]))
}

fn words_of(block: &[u8]) -> Words {
    let word = |at: usize| {
        let bytes = block[4 * at..].first_chunk::<4>();
        u32::from_le_bytes(*bytes.expect("a block has 16 words"))
    };
    std::array::from_fn(|row| std::array::from_fn(|i| word((4 * row + i) * DIAGONAL_STEP % 16)))
}

fn bytes_of(words: &Words, block: &mut [u8]) {
    for (at, word) in words.iter().flatten().enumerate() {
        let start = 4 * (at * DIAGONAL_STEP % 16);
        block[start..start + 4].copy_from_slice(&word.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(password: &str, salt: &[u8], log_n: u8, r: usize, k: usize, len: usize) -> String {
        let mut out = vec![0; len];
        scrypt(password.as_bytes(), salt, log_n, r, k, &mut out);
        hex::encode(out)
    }

    // The first vector of section 12 of RFC 7914 (N = 16, r = 1, p = 1) and the third (N = 16384, r
    // = 8).
    #[test]
    fn rfc_7914() {
        let small = concat!(
            "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442",
            "fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906"
        );
        for k in [1, 2, 4, 8, 16] {
            assert_eq!(key("", b"", 4, 1, k, 64), small, "k = {k}");
        }
        let large = concat!(
            "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2",
            "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
        );
        assert_eq!(key("pleaseletmein", b"SodiumChloride", 14, 8, 4, 64), large);
    }

    // Made with python's hashlib.scrypt: the key does not depend on k, for odd r too.
    #[test]
    fn every_k_gives_the_same_key() {
        for k in [1, 2, 4, 8, 16, 64] {
            assert_eq!(key("password", b"salt", 10, 3, k, 32), ODD_R, "k = {k}");
        }
    }

    // The reference's key with Kopia's parameters. Slow without optimisation, so one k there.
    #[test]
    fn kopia_parameters() {
        let want = "ffe609844d93eddf89ad495da77bd83e8cec100e27b03a6257d505de6e36094d";
        let salt: [u8; 32] = std::array::from_fn(|i| i as u8);
        let every_k: &[usize] = if cfg!(debug_assertions) {
            &[2]
        } else {
            &[1, 2, 4, 8, 16]
        };
        for k in every_k {
            assert_eq!(
                key("static-passw0rd", &salt, 16, 8, *k, 32),
                want,
                "k = {k}"
            );
            assert_eq!(table_bytes(16, 8, *k), (64 << 20) / k);
        }
    }

    const ODD_R: &str = "944eb2aaa176e4cd9532455f7b6486d13147ef10d6be273eab4b7a247a8bd49f";
}
