//! Samples of the keys of a sort, kept while runs are written, to cut the key space into equal
//! parts.
//!
//! Each run keeps at most 64, at equal distances; all runs together at most 2,048: beyond, they are
//! replaced by 1,024 quantiles of themselves. Keys are cut to 32 bytes and never beyond the group,
//! so that a boundary never separates records that compete. Memory: at most 40 bytes a sample, 80
//! KiB; twice that while thinning.

use super::shape::SortShape;

/// Samples of one run: its quantiles to about 2 %.
const RUN_SAMPLES_MAX: usize = 64;
/// Samples of all runs: enough for parts that differ by a few percent.
const SAMPLES_MAX: usize = 2_048;
/// Bytes kept of a key: content IDs of the usual 16-byte hashes differ long before.
const KEY_BYTES_MAX: usize = 32;

/// Samples of the run that is being written.
#[derive(Debug)]
pub(super) struct RunSamples {
    key_bytes: usize,
    keys: Vec<u8>,
    /// Records that each sample stands for.
    stride: u64,
    /// Records until the next sample.
    until: u64,
}

impl RunSamples {
    pub(super) fn new(shape: &SortShape) -> Self {
        let key_bytes = shape.distinct_bytes().min(KEY_BYTES_MAX);
        let keys = Vec::with_capacity(key_bytes * RUN_SAMPLES_MAX);
        Self {
            key_bytes,
            keys,
            stride: 1,
            until: 1,
        }
    }

    /// Sees the next record of the run.
    #[inline]
    pub(super) fn see(&mut self, record: &[u8]) {
        self.until -= 1;
        if self.until == 0 {
            self.take(record);
        }
    }

    #[cold]
    fn take(&mut self, record: &[u8]) {
        if self.keys.len() == self.key_bytes * RUN_SAMPLES_MAX {
            self.keep_every_second();
            self.stride *= 2;
        }
        self.keys.extend_from_slice(&record[..self.key_bytes]);
        self.until = self.stride;
    }

    fn keep_every_second(&mut self) {
        let width = self.key_bytes;
        for kept in 0..RUN_SAMPLES_MAX / 2 {
            self.keys
                .copy_within(kept * 2 * width..(kept * 2 + 1) * width, kept * width);
        }
        self.keys.truncate(RUN_SAMPLES_MAX / 2 * width);
    }

    /// Hands the samples to the sort's and starts a new run.
    pub(super) fn end_run(&mut self, all: &mut Samples) {
        all.add(&self.keys, self.stride);
        self.forget();
    }

    /// Starts a new run without handing anything on: the sort has samples of these records already.
    pub(super) fn forget(&mut self) {
        self.keys.clear();
        (self.stride, self.until) = (1, 1);
    }
}

/// Samples of all runs of a sort.
#[derive(Debug)]
pub(super) struct Samples {
    key_bytes: usize,
    keys: Vec<u8>,
    /// Records that each sample stands for, in the order of `keys`.
    weights: Vec<u64>,
}

impl Samples {
    pub(super) fn new(shape: &SortShape) -> Self {
        let key_bytes = shape.distinct_bytes().min(KEY_BYTES_MAX);
        Self {
            key_bytes,
            keys: Vec::new(),
            weights: Vec::new(),
        }
    }

    fn add(&mut self, keys: &[u8], weight: u64) {
        if self.weights.len() + RUN_SAMPLES_MAX > SAMPLES_MAX {
            self.thin(SAMPLES_MAX / 2);
        }
        self.keys.extend_from_slice(keys);
        self.weights
            .resize(self.keys.len() / self.key_bytes, weight);
    }

    /// Replaces all samples by `count` of them that stand for equal shares, each in the middle of
    /// its share.
    fn thin(&mut self, count: usize) {
        let samples = self.sorted();
        let total: u64 = self.weights.iter().sum();
        let bound = |half_shares: usize| {
            (u128::from(total) * half_shares as u128 / (2 * count as u128)) as u64
        };
        let mut keys = Vec::with_capacity(count * self.key_bytes);
        let mut weights = Vec::with_capacity(count);
        let (mut next, mut seen) = (0, 0);
        for share in 0..count {
            while next + 1 < samples.len() && seen + samples[next].1 <= bound(2 * share + 1) {
                seen += samples[next].1;
                next += 1;
            }
            keys.extend_from_slice(samples[next].0);
            weights.push(bound(2 * share + 2) - bound(2 * share));
        }
        (self.keys, self.weights) = (keys, weights);
    }

    fn sorted(&self) -> Vec<(&[u8], u64)> {
        let keys = self.keys.chunks_exact(self.key_bytes);
        let mut samples: Vec<_> = keys.zip(self.weights.iter().copied()).collect();
        samples.sort_unstable();
        samples
    }

    /// Returns the key below which about `part / parts` of all records are; empty when there are
    /// none.
    pub(super) fn split_key(&self, parts: usize, part: usize) -> Vec<u8> {
        let samples = self.sorted();
        let total: u64 = samples.iter().map(|(_, weight)| weight).sum();
        let wanted = u128::from(total) * part as u128 / parts.max(1) as u128;
        let mut seen = 0;
        for (key, weight) in samples {
            if seen >= wanted {
                return key.to_vec();
            }
            seen += u128::from(weight);
        }
        // Only rounding and a last part can come here: everything is below.
        vec![0xff; if total == 0 { 0 } else { self.key_bytes }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many runs of very different lengths: quantiles are near, and memory stays at its maximum.
    #[test]
    fn quantiles_are_near() {
        let shape = SortShape {
            record_bytes: 8,
            group: None,
        };
        let mut all = Samples::new(&shape);
        let mut run = RunSamples::new(&shape);
        for number in 0..3_000_u64 {
            let records = if number % 10 == 0 { 5_000 } else { 100 };
            for i in 0..records {
                run.see(&(i * 1_000_000_u64 / records).to_be_bytes());
            }
            run.end_run(&mut all);
        }
        assert!(all.weights.len() <= SAMPLES_MAX);
        for parts in [2, 3, 8] {
            for part in 1..parts {
                let key = all.split_key(parts, part);
                let at = u64::from_be_bytes(key.try_into().unwrap());
                let expected = 1_000_000 * part as u64 / parts as u64;
                assert!(at.abs_diff(expected) < 20_000, "{part}/{parts}: {at}");
            }
        }
    }

    /// Without samples, and with equal ones, there is still a key.
    #[test]
    fn few_samples() {
        let group = Some(super::super::shape::Group {
            group_bytes: 2,
            rank_end: 3,
        });
        let shape = SortShape {
            record_bytes: 8,
            group,
        };
        let mut all = Samples::new(&shape);
        assert!(all.split_key(2, 1).is_empty());
        let mut run = RunSamples::new(&shape);
        (0..1_000).for_each(|_| run.see(b"abcdefgh"));
        run.end_run(&mut all);
        assert_eq!(all.split_key(2, 1), b"ab", "cut to the group");
    }
}
