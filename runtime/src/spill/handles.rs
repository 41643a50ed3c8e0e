//! Sorting handles instead of records: the inner loop of every sort.
//!
//! A handle is one `u64`: the window of key bits where the records of the buffer begin to differ,
//! then the record's position in as few bits as the buffer needs. Comparing two handles is
//! comparing two numbers; for 120,000 hashes 47 bits of window leave no ties, so records themselves
//! are read once, in the end.
//!
//! First pass: the bits that all records share are skipped (a target byte, a prefix byte). Second:
//! handles go to up to 2^13 buckets by their first bits, placed where they belong at once, so no
//! second array is needed. Third: each bucket, some 16 handles, is sorted as numbers. Records that
//! tie in the whole window are sorted again by the window where *they* begin to differ, and so on:
//! at most once for every four bytes of a record.
//!
//! Memory: none of its own; 8 bytes a record and the counts belong to the sort buffer.

use super::shape::{BUCKET_BITS_MAX, SortShape};

/// Below this, comparing records beats computing new windows.
const COMPARE_MAX: usize = 24;
/// Average size of a bucket is 2^3 to 2^4: insertion sort, in one or two cache lines.
const BUCKET_SIZE_BITS: u32 = 4;
/// Marks a handle whose record must be compared with the one before: it may be a duplicate or a
/// loser.
const TIED: u64 = 1 << 63;

/// The records of a buffer, as the order sees them. `bytes` reaches 16 bytes behind the last
/// record.
pub(super) struct Records<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) shape: &'a SortShape,
    pub(super) count: usize,
}

/// How handles are made: which bits of the record, and where the position starts.
#[derive(Clone, Copy)]
struct Window {
    byte: usize,
    shift: u32,
    position_bits: u32,
}

impl Records<'_> {
    /// Fills `handles` with the positions of the records in ascending order of the records.
    ///
    /// Read them with [`position`] and [`may_lose`]. `counts` is room for 2^13 bucket counts.
    pub(super) fn order(&self, handles: &mut [u64], counts: &mut [u32]) {
        let position_bits = usize::BITS - self.count.leading_zeros();
        let handles = &mut handles[..self.count];
        let first_bit = self.first_difference(0, 0..self.count);
        let Some(bit) = first_bit else {
            (0_u64..)
                .zip(handles)
                .for_each(|(position, handle)| *handle = position | TIED);
            return;
        };
        let window = Window::at(bit, position_bits);
        self.distribute(window, handles, counts);
        self.resolve(window, bit, handles);
    }

    /// Returns record number `position`.
    #[inline]
    pub(super) fn record(&self, position: usize) -> &[u8] {
        let width = self.shape.record_bytes;
        &self.bytes[position * width..][..width]
    }

    /// Returns 16 bytes of a record from `byte` on, as a number; bytes behind the record may
    /// follow.
    ///
    /// Those only decide between records that are equal to their ends, where no order is wrong.
    #[inline]
    fn load(&self, position: usize, byte: usize) -> u128 {
        let start = position * self.shape.record_bytes + byte;
        let bytes: &[u8; 16] = self.bytes[start..start + 16].try_into().expect("16 bytes");
        u128::from_be_bytes(*bytes)
    }

    #[inline]
    fn handle(&self, window: Window, position: usize) -> u64 {
        let bits = ((self.load(position, window.byte) << window.shift) >> 64) as u64;
        (bits & !window.position_mask()) | position as u64
    }

    /// Returns the first bit, from byte `from` on, in which the records at `positions` are not all
    /// equal.
    fn first_difference(
        &self,
        from: usize,
        mut positions: impl Iterator<Item = usize> + Clone,
    ) -> Option<usize> {
        let first = positions.next()?;
        let width = self.shape.record_bytes;
        for byte in (from..width).step_by(16) {
            let like = self.load(first, byte);
            let differing = positions.clone().fold(0, |bits, position| {
                bits | (self.load(position, byte) ^ like)
            });
            if differing != 0 {
                let bit = byte * 8 + differing.leading_zeros() as usize;
                return (bit < width * 8).then_some(bit);
            }
        }
        None
    }

    /// Makes all handles and sorts them as numbers.
    fn distribute(&self, window: Window, handles: &mut [u64], counts: &mut [u32]) {
        let bits = window
            .position_bits
            .saturating_sub(BUCKET_SIZE_BITS)
            .min(BUCKET_BITS_MAX);
        if bits < 4 {
            for (position, handle) in handles.iter_mut().enumerate() {
                *handle = self.handle(window, position);
            }
            handles.sort_unstable();
            return;
        }
        let bucket = |handle: u64| (handle >> (64 - bits)) as usize;
        let counts = &mut counts[..1 << bits];
        counts.fill(0);
        for position in 0..self.count {
            counts[bucket(self.handle(window, position))] += 1;
        }
        let mut end = 0;
        for count in counts.iter_mut() {
            let start = end;
            end += *count;
            *count = start;
        }
        for position in 0..self.count {
            let handle = self.handle(window, position);
            let place = &mut counts[bucket(handle)];
            handles[*place as usize] = handle;
            *place += 1;
        }
        // Every count has become the end of its bucket.
        let mut start = 0;
        for end in counts.iter().map(|end| *end as usize) {
            handles[start..end].sort_unstable();
            start = end;
        }
    }

    /// Sorts what ties in the window, and leaves positions with their marks.
    fn resolve(&self, window: Window, bit: usize, handles: &mut [u64]) {
        let sure = (self.shape.distinct_bytes() * 8).saturating_sub(bit) as u32;
        let unsure = window.bits().saturating_sub(sure);
        let mask = window.position_mask();
        let mut start = 0;
        let mut before = None;
        while start < handles.len() {
            let bits = handles[start] >> window.position_bits;
            let rest = &handles[start + 1..];
            let equal = rest
                .iter()
                .take_while(|h| *h >> window.position_bits == bits)
                .count();
            let tied = &mut handles[start..=start + equal];
            if equal > 0 {
                self.sort_tied(bit + window.bits() as usize, window.position_bits, tied);
            }
            for handle in &mut *tied {
                *handle = (*handle & mask) | TIED;
            }
            if before.is_none_or(|before: u64| (before ^ bits) >> unsure != 0) {
                tied[0] &= !TIED;
            }
            before = Some(bits);
            start += equal + 1;
        }
    }

    /// Sorts handles whose records are equal in all bits before `bit`.
    fn sort_tied(&self, bit: usize, position_bits: u32, tied: &mut [u64]) {
        let byte = bit / 8;
        let mask = (1 << position_bits) - 1;
        let position = |handle: &u64| (*handle & mask) as usize;
        if byte >= self.shape.record_bytes {
            return;
        }
        if tied.len() <= COMPARE_MAX {
            let rest = |handle: &u64| &self.record(position(handle))[byte..];
            tied.sort_unstable_by(|a, b| rest(a).cmp(rest(b)));
            return;
        }
        let Some(bit) = self.first_difference(byte, tied.iter().map(position)) else {
            return;
        };
        let window = Window::at(bit, position_bits);
        for handle in tied.iter_mut() {
            *handle = self.handle(window, position(handle));
        }
        tied.sort_unstable();
        let same = |a: &u64, b: &u64| a >> position_bits == b >> position_bits;
        for equal in tied.chunk_by_mut(same).filter(|equal| equal.len() > 1) {
            self.sort_tied(bit + window.bits() as usize, position_bits, equal);
        }
    }
}

impl Window {
    fn at(bit: usize, position_bits: u32) -> Self {
        Self {
            byte: bit / 8,
            shift: (bit % 8) as u32,
            position_bits,
        }
    }

    fn bits(self) -> u32 {
        64 - self.position_bits
    }

    fn position_mask(self) -> u64 {
        (1 << self.position_bits) - 1
    }
}

/// Returns the position of an ordered handle.
#[inline]
pub(super) fn position(handle: u64) -> usize {
    (handle & !TIED) as usize
}

/// Returns whether the record of an ordered handle may be a duplicate of, or lose to, the one kept
/// before.
#[inline]
pub(super) fn may_lose(handle: u64) -> bool {
    handle & TIED != 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::shape::Group;
    use super::*;

    fn check(shape: SortShape, rows: &[Vec<u8>]) {
        let mut bytes = rows.concat();
        bytes.resize(bytes.len() + 16, 0xA5);
        let records = Records {
            bytes: &bytes,
            shape: &shape,
            count: rows.len(),
        };
        let mut handles = vec![0; rows.len()];
        records.order(&mut handles, &mut vec![0; 1 << BUCKET_BITS_MAX]);
        let ordered: Vec<_> = handles
            .iter()
            .map(|h| records.record(position(*h)))
            .collect();
        let mut expected: Vec<_> = rows.iter().map(Vec::as_slice).collect();
        expected.sort_unstable();
        assert!(
            ordered == expected,
            "order of {} records of {shape:?}",
            rows.len()
        );
        let mut positions: Vec<_> = handles.iter().map(|h| position(*h)).collect();
        positions.sort_unstable();
        assert!(positions.into_iter().eq(0..rows.len()));
        for (pair, handles) in ordered.windows(2).zip(handles.windows(2)) {
            assert!(
                may_lose(handles[1]) || shape.keeps(pair[0], pair[1]),
                "a mark is missing"
            );
        }
    }

    /// Records over few byte values tie in windows of every depth; marks are never missing.
    fn rows() -> impl Strategy<Value = (SortShape, Vec<Vec<u8>>)> {
        (1_usize..40, 1_usize..40, any::<bool>(), 1_u8..=255).prop_flat_map(
            |(width, group_bytes, grouped, values)| {
                let group_bytes = group_bytes.min(width);
                let rank_end = (group_bytes + 2).min(width);
                let group = grouped.then_some(Group {
                    group_bytes,
                    rank_end,
                });
                let row = prop::collection::vec(0..=values, width);
                (
                    Just(SortShape {
                        record_bytes: width,
                        group,
                    }),
                    prop::collection::vec(row, 0..300),
                )
            },
        )
    }

    proptest! {
        #[test]
        fn handles_are_ordered((shape, rows) in rows()) {
            check(shape, &rows);
        }

        /// A common start of any length before and inside the records, then few differences far
        /// behind.
        #[test]
        fn deep_differences(
            start in 0_usize..60,
            tails in prop::collection::vec(any::<[u8; 2]>(), 1..200),
        ) {
            let rows: Vec<Vec<u8>> = tails
                .iter()
                .map(|tail| {
                    let mut row = vec![tail[0] & 1; start];
                    row.extend(tail);
                    row.resize(70, 9);
                    row
                })
                .collect();
            check(SortShape { record_bytes: 70, group: None }, &rows);
        }
    }

    /// Enough records for all bucket counts; one bucket holds nearly everything in half of the
    /// cases.
    #[test]
    fn many_records() {
        let mut state = 1_u64;
        for (count, skew) in [
            (1, 0),
            (2, 0),
            (255, 0),
            (256, 1),
            (70_000, 0),
            (70_000, 1),
            (300_000, 0),
        ] {
            let rows: Vec<Vec<u8>> = (0..count)
                .map(|n| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let first = if skew == 1 && n % 100 != 0 {
                        0
                    } else {
                        state as u8
                    };
                    let mut row = vec![1, first];
                    row.extend((state >> 20).to_be_bytes());
                    row
                })
                .collect();
            check(
                SortShape {
                    record_bytes: 10,
                    group: None,
                },
                &rows,
            );
        }
    }
}
