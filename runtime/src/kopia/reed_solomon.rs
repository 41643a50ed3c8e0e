//! Reed-Solomon code over GF(2^8), polynomial 0x11D, byte for byte the one of
//! klauspost/reedsolomon.
//!
//! That code's matrix is a Vandermonde matrix made systematic. So shard number `x` holds the value
//! at point `x` of the polynomial that takes the data shards' values at the points 0, 1, 2, …:
//! parity is the value at further points, and any lost shard follows from as many others as there
//! are data shards. Lagrange's formula gives every coefficient; no matrix is inverted.
//!
//! Memory: about four bytes for each pair of a parity and a data shard, at most 128 KiB. Invariant:
//! data + parity <= 256 shards, as the field has no more points. Used by `ecc.rs` only; Kopia
//! imports the Go library.

/// The field has 256 points, one for each shard.
pub(crate) const SHARDS_MAX: usize = 256;

/// Sums are made over so many bytes of each shard: they stay in SIMD registers.
const COLUMN_BYTES: usize = 64;

/// Powers of the generator 2, twice, so that a sum of two logarithms needs no reduction.
const EXP: [u8; 510] = make_exp();

/// Logarithms to the base 2; the one of 0 is not used.
const LOG: [u8; 256] = make_log();

const fn make_exp() -> [u8; 510] {
    let mut exp = [0; 510];
    let mut value: u16 = 1;
    let mut power = 0;
    while power < 510 {
        exp[power] = value as u8;
        value <<= 1;
        if value & 0x100 != 0 {
            value ^= 0x11D;
        }
        power += 1;
    }
    exp
}

const fn make_log() -> [u8; 256] {
    let mut log = [0; 256];
    let mut power = 0;
    while power < 255 {
        log[EXP[power] as usize] = power as u8;
        power += 1;
    }
    log
}

/// A code of so many data and parity shards.
#[derive(Debug)]
pub(crate) struct ReedSolomon {
    data_shards: usize,
    parity_shards: usize,
    parity_rows: Vec<Row>,
}

impl ReedSolomon {
    /// Makes the code. Needs `data_shards >= 1` and at most [`SHARDS_MAX`] shards together.
    pub(crate) fn new(data_shards: usize, parity_shards: usize) -> Self {
        assert!(data_shards >= 1 && data_shards + parity_shards <= SHARDS_MAX);
        let points: Vec<u8> = (0..data_shards).map(|point| point as u8).collect();
        let weights = weights(&points);
        let parity_rows = (data_shards..data_shards + parity_shards)
            .map(|target| Row::new(&points, &coefficients(&points, &weights, target as u8)))
            .collect();
        Self {
            data_shards,
            parity_shards,
            parity_rows,
        }
    }

    /// Computes parity. Both slices hold whole shards of `shard_bytes`, one behind the other.
    pub(crate) fn encode(&self, data: &[u8], parity: &mut [u8], shard_bytes: usize) {
        assert_eq!(data.len(), self.data_shards * shard_bytes);
        assert_eq!(parity.len(), self.parity_shards * shard_bytes);
        for (out, row) in parity.chunks_exact_mut(shard_bytes).zip(&self.parity_rows) {
            row.combine(data, out);
        }
    }

    /// Computes lost data shards. `shards` holds all data, then all parity shards; `lost` says
    /// which are unusable. Lost parity is left as it is. Returns false when more are lost than
    /// parity can replace.
    pub(crate) fn reconstruct(&self, shards: &mut [u8], lost: &[bool], shard_bytes: usize) -> bool {
        assert_eq!(lost.len(), self.data_shards + self.parity_shards);
        assert_eq!(shards.len(), lost.len() * shard_bytes);
        let points: Vec<u8> = (0..lost.len())
            .filter(|shard| !lost[*shard])
            .map(|shard| shard as u8)
            .take(self.data_shards)
            .collect();
        if points.len() < self.data_shards {
            return false;
        }
        let weights = weights(&points);
        let mut value = vec![0; shard_bytes];
        for missing in (0..self.data_shards).filter(|shard| lost[*shard]) {
            let row = Row::new(&points, &coefficients(&points, &weights, missing as u8));
            row.combine(shards, &mut value);
            shards[missing * shard_bytes..][..shard_bytes].copy_from_slice(&value);
        }
        true
    }
}

/// How one shard follows from others, ready for fast sums.
///
/// A product by a coefficient is a sum of the shard's doublings, one for each bit set. Sums
/// commute, so all shards whose coefficient has a bit are added first and the sum is doubled once:
/// per shard and row four XORs on average, no table.
#[derive(Debug)]
struct Row {
    /// For each bit, from the lowest, the numbers of the shards whose coefficient has it.
    shards_by_bit: [Vec<u8>; 8],
}

impl Row {
    /// Takes the shard numbers and the coefficient of each.
    fn new(shards: &[u8], coefficients: &[u8]) -> Self {
        let with_bit = |bit: usize| {
            let pairs = shards.iter().zip(coefficients);
            let having = pairs.filter(|(_, coefficient)| **coefficient >> bit & 1 == 1);
            having.map(|(shard, _)| *shard).collect()
        };
        Self {
            shards_by_bit: std::array::from_fn(with_bit),
        }
    }

    /// Writes the sum of all products to `out`, one shard long.
    fn combine(&self, shards: &[u8], out: &mut [u8]) {
        let shard_bytes = out.len();
        for (index, column) in out.chunks_mut(COLUMN_BYTES).enumerate() {
            let start = index * COLUMN_BYTES;
            let mut sum = [0_u8; COLUMN_BYTES];
            for shards_with_bit in self.shards_by_bit.iter().rev() {
                double(&mut sum);
                for shard in shards_with_bit {
                    let at = usize::from(*shard) * shard_bytes + start;
                    add(&mut sum, &shards[at..at + column.len()]);
                }
            }
            column.copy_from_slice(&sum[..column.len()]);
        }
    }
}

/// Multiplies each byte by the generator 2.
fn double(column: &mut [u8; COLUMN_BYTES]) {
    for byte in column {
        let carry = if *byte >= 0x80 { 0x1D } else { 0 };
        *byte = (*byte << 1) ^ carry;
    }
}

/// Adds `bytes`, at most a column, to the sum.
fn add(sum: &mut [u8; COLUMN_BYTES], bytes: &[u8]) {
    match bytes.first_chunk::<COLUMN_BYTES>() {
        Some(column) => {
            for (sum, byte) in sum.iter_mut().zip(column) {
                *sum ^= byte;
            }
        }
        None => {
            for (sum, byte) in sum.iter_mut().zip(bytes) {
                *sum ^= byte;
            }
        }
    }
}

/// For each point the logarithm of the product of its distances to all the others.
fn weights(points: &[u8]) -> Vec<u8> {
    points
        .iter()
        .map(|point| log_of_distances(points, *point))
        .collect()
}

/// Returns what the value at each of `points` adds to the value at `target`, which is not one of
/// them.
fn coefficients(points: &[u8], weights: &[u8], target: u8) -> Vec<u8> {
    let all = usize::from(log_of_distances(points, target));
    let each = points.iter().zip(weights);
    each.map(|(point, weight)| {
        let distance = usize::from(LOG[usize::from(point ^ target)]);
        EXP[(all + 2 * 255 - distance - usize::from(*weight)) % 255]
    })
    .collect()
}

/// Returns the logarithm of the product of the distances from `target` to `points`, itself left
/// out. In this field a distance is an XOR.
fn log_of_distances(points: &[u8], target: u8) -> u8 {
    let others = points.iter().filter(|point| **point != target);
    let sum: usize = others
        .map(|point| usize::from(LOG[usize::from(point ^ target)]))
        .sum();
    (sum % 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slow_multiply(mut left: u16, right: u8) -> u8 {
        let mut product = 0;
        for bit in 0..8 {
            if right >> bit & 1 == 1 {
                product ^= left;
            }
            left <<= 1;
            if left & 0x100 != 0 {
                left ^= 0x11D;
            }
        }
        product as u8
    }

    #[test]
    fn rows_multiply_by_the_definition() {
        for coefficient in 0..=255_u8 {
            let row = Row::new(&[1], &[coefficient]);
            let shards: Vec<u8> = (0..512).map(|i| i as u8).collect();
            let mut out = [0; 256];
            row.combine(&shards, &mut out);
            for (value, product) in (0..=255_u8).zip(out) {
                assert_eq!(product, slow_multiply(value.into(), coefficient));
            }
        }
    }

    // The rule of the Go library, done its way for a small code: V times the inverse of its upper
    // part. With two data shards the inverse is easy: V = [1 0; 1 1; 1 2; 1 3], upper inverse = [1
    // 0; 1 1].
    #[test]
    fn matrix_is_the_systematic_vandermonde() {
        let code = ReedSolomon::new(2, 2);
        let mut parity = [0; 2];
        code.encode(&[1, 0], &mut parity, 1);
        assert_eq!(parity, [1 ^ 2, 1 ^ 3]);
        code.encode(&[0, 1], &mut parity, 1);
        assert_eq!(parity, [2, 3]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        // Any loss up to the number of parity shards is repaired; one more is refused.
        #[test]
        fn repairs_what_it_promises(
            data_shards in 1..20_usize,
            parity_shards in 1..9_usize,
            shard_bytes in 1..40_usize,
            seed in any::<u64>(),
        ) {
            let code = ReedSolomon::new(data_shards, parity_shards);
            let total = data_shards + parity_shards;
            let mut state = seed | 1;
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as usize
            };
            let data: Vec<u8> = (0..data_shards * shard_bytes).map(|_| random() as u8).collect();
            let mut parity = vec![0xEE; parity_shards * shard_bytes];
            code.encode(&data, &mut parity, shard_bytes);
            let whole = [data.clone(), parity].concat();

            let mut order: Vec<usize> = (0..total).collect();
            for at in 0..total {
                order.swap(at, random() % total);
            }
            let mut lost = vec![false; total];
            for shard in &order[..parity_shards] {
                lost[*shard] = true;
            }
            let mut damaged = whole.clone();
            for shard in (0..total).filter(|shard| lost[*shard]) {
                damaged[shard * shard_bytes..][..shard_bytes].fill(0x55);
            }
            prop_assert!(code.reconstruct(&mut damaged, &lost, shard_bytes));
            prop_assert_eq!(&damaged[..data.len()], &data[..]);

            lost[order[parity_shards]] = true;
            prop_assert!(!code.reconstruct(&mut damaged, &lost, shard_bytes));
        }
    }
}
