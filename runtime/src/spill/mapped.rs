//! Tables of numbers in mapped scratch files: random access that lives in reclaimable page cache.
//!
//! Some tables grow with the repository and are read at random (pack number to final number, some 4
//! bytes a pack). In anonymous memory they would count against the plan for ever. Mapped, the
//! kernel keeps what is hot, writes out what is not, and takes the pages back when it must: slower
//! then, but never killed.
//!
//! One of the two files with `unsafe`. Cost: address space, page cache, `4 * len` bytes of scratch.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::{Advice, MmapMut, MmapOptions};

use super::SpillError;
use super::scratch::{Scratch, ScratchFile};

const ENTRY_BYTES: u64 = 4;
/// Above this a table does not stay in the cache of a small cgroup as a whole, and reading ahead
/// around each entry only evicts others. Below, reading ahead brings it back in few requests.
const READ_AHEAD_MAX_BYTES: u64 = 8 << 20;
const FILL_BYTES: usize = 16 << 10;

/// A table of `u32` of fixed length. Shared between threads; entries are independent of each other.
#[derive(Debug)]
pub struct MappedU32 {
    map: MmapMut,
    len: usize,
    /// Keeps the bytes accounted; the mapping itself would live without it.
    _file: ScratchFile,
}

impl MappedU32 {
    /// Makes a table of `len` entries, all `fill`. Errors: `Full`, `Io`, `Plan` when it cannot be
    /// addressed.
    pub fn create(scratch: &Scratch, len: u64, fill: u32) -> Result<Self, SpillError> {
        let bytes = len.max(1).checked_mul(ENTRY_BYTES);
        let addressable = bytes.and_then(|bytes| usize::try_from(bytes).ok().map(|n| (bytes, n)));
        let Some((bytes, map_bytes)) = addressable.filter(|(_, n)| *n <= isize::MAX as usize)
        else {
            return Err(SpillError::Plan {
                reason: format!("a table of {len} entries"),
            });
        };
        let file = scratch.create_file("table")?;
        file.allocate(bytes)?;
        if fill != 0 {
            write_fill(&file, bytes, fill)?;
        }
        // SAFETY: the file was made for this table, has no name any more and its descriptor never
        // leaves this struct, so nobody else can write or cut it while it is mapped. It is
        // `map_bytes` long and allocated to its end, so touching a page finds neither the end of
        // the file nor a full disk. (Copy-on-write file systems may need new blocks for allocated
        // ones; a disk that fills up between would end the process by SIGBUS, which is no
        // unsoundness.)
        let map = unsafe { MmapOptions::new().len(map_bytes).map_mut(file.file()) };
        let map =
            map.map_err(|error| SpillError::io(format!("map a table of {bytes} bytes"), error))?;
        if bytes > READ_AHEAD_MAX_BYTES {
            let _ = map.advise(Advice::Random);
        }
        Ok(Self {
            map,
            len: len as usize,
            _file: file,
        })
    }

    /// Returns the number of entries.
    pub fn len(&self) -> u64 {
        self.len as u64
    }

    /// Tells whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns entry `i`, which must be below `len`; panics otherwise.
    #[inline]
    pub fn get(&self, i: u64) -> u32 {
        self.entries()[i as usize].load(Ordering::Relaxed)
    }

    /// Sets entry `i`, which must be below `len`; panics otherwise.
    #[inline]
    pub fn set(&self, i: u64, value: u32) {
        self.entries()[i as usize].store(value, Ordering::Relaxed);
    }

    /// Brings entry `i` near if it is in memory; an `i` beyond the end is ignored.
    #[inline]
    pub fn prefetch(&self, i: u64) {
        #[cfg(target_arch = "x86_64")]
        if i < self.len as u64 {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let entry: *const AtomicU32 = &raw const self.entries()[i as usize];
            // SAFETY: prefetching reads nothing and cannot fault; SSE is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(entry.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = i;
    }

    #[inline]
    fn entries(&self) -> &[AtomicU32] {
        // SAFETY: a mapping starts on a page, so it is aligned for u32; it holds at least `len`
        // entries, all of whose bytes are initialised (zeros or `fill`); it lives as long as
        // `self`. It is only ever read and written through these atomics, so a shared slice of them
        // races with nothing.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast::<AtomicU32>(), self.len) }
    }
}

fn write_fill(file: &ScratchFile, bytes: u64, fill: u32) -> Result<(), SpillError> {
    let mut pattern = [0; FILL_BYTES];
    for entry in pattern.chunks_exact_mut(ENTRY_BYTES as usize) {
        entry.copy_from_slice(&fill.to_ne_bytes());
    }
    let mut offset = 0;
    while offset < bytes {
        let piece = (bytes - offset).min(FILL_BYTES as u64);
        file.write_all_at(&pattern[..piece as usize], offset)?;
        offset += piece;
        if offset.is_multiple_of(super::sequential::WRITEBACK_BYTES) {
            file.start_writeback(
                offset - super::sequential::WRITEBACK_BYTES,
                super::sequential::WRITEBACK_BYTES,
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::scratch::test_scratch;
    use super::*;

    /// Entries hold what was set, the others the fill; the scratch is given back.
    #[test]
    fn entries_hold_their_values() {
        let (_parent, scratch) = test_scratch(None);
        for fill in [0, 7, u32::MAX] {
            let table = MappedU32::create(&scratch, 10_000, fill).unwrap();
            assert_eq!((table.len(), scratch.used_bytes()), (10_000, 40_000));
            (0..10_000)
                .step_by(3)
                .for_each(|i| table.set(i, i as u32 * 5));
            for i in 0..10_000 {
                table.prefetch(i + 1);
                assert_eq!(table.get(i), if i % 3 == 0 { i as u32 * 5 } else { fill });
            }
        }
        assert_eq!(scratch.used_bytes(), 0);
    }

    /// No entries, too many entries, more than the quota: none of them is a panic.
    #[test]
    fn odd_lengths() {
        let (_parent, scratch) = test_scratch(Some(1_000));
        let table = MappedU32::create(&scratch, 0, 1).unwrap();
        table.prefetch(0);
        assert!(table.is_empty());
        assert_eq!(
            MappedU32::create(&scratch, u64::MAX, 0).unwrap_err().code(),
            "sort-plan"
        );
        assert_eq!(
            MappedU32::create(&scratch, 1 << 61, 0).unwrap_err().code(),
            "sort-plan"
        );
        assert_eq!(
            MappedU32::create(&scratch, 251, 0).unwrap_err().code(),
            "scratch-full"
        );
    }

    /// A larger table, above the read-ahead limit, filled by two threads.
    #[test]
    fn threads_share_a_table() {
        let (_parent, scratch) = test_scratch(None);
        let len = (READ_AHEAD_MAX_BYTES / ENTRY_BYTES) + 5;
        let table = MappedU32::create(&scratch, len, 9).unwrap();
        std::thread::scope(|scope| {
            for start in 0..2 {
                let table = &table;
                scope.spawn(move || (start..len).step_by(2_002).for_each(|i| table.set(i, 1)));
            }
        });
        assert_eq!(
            (table.get(0), table.get(1), table.get(2), table.get(2_003)),
            (1, 1, 9, 1)
        );
    }
}
