//! Bytes that were read along with others and are likely to be asked for next, kept in scratch.
//!
//! The mark of snapshot GC reads directories level by level. Clients write a directory right behind
//! what lies below it, so the gap before a directory is mostly what the next levels ask for, as far
//! as the directory's summary says. It is read along, in one GET, and kept; when its level comes it
//! is read from here. So every part of a pack is asked for about once, however deep the trees are.
//! Other gaps are dead directories, or live ones that are read otherwise: they are read along when
//! that is cheaper than a request more, in stores where a request takes time.
//!
//! Memory: a list of the ranges kept, at most [`RANGES_MAX`] of 32 bytes. Scratch: at most the live
//! metadata and what lies between it. Invariant: bytes from here are those of the pack; content
//! tags are verified as with any others.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::spill::ScratchFile;

use super::pack_order::Place;
use super::{RepositoryError, Workspace};

/// Largest gap that is read along, in bytes: a request takes a store as long as so many bytes.
const GAP_BYTES_MAX: u64 = 256 * 1024;

/// Largest stray gap, one that belongs to nothing known, in bytes.
const STRAY_GAP_BYTES_MAX: u64 = 32 * 1024;

/// As long as there are no more requests than this, stray gaps come to this part of what was asked
/// for at most, and to [`STRAY_BYTES`]: what is small is read exactly, 1 MB of live directories
/// with as much dead between them in 10 to 500 requests, the more the finer they are mixed. Beyond,
/// requests are what takes time, unless the store never waits.
const EXACT_REQUESTS: u64 = 512;
const STRAY_PART: u64 = 12;
const STRAY_BYTES: u64 = 16 * 1024;

/// Ranges: at 1 MiB each, 64 GiB of metadata; smaller ones only where little is read. Beyond, no
/// gaps are read along.
const RANGES_MAX: usize = 65_536;

/// Ranges of packs in scratch.
pub(super) struct ReadAhead {
    file: ScratchFile,
    state: Mutex<State>,
    /// Requests after which stray gaps are cheaper than more of them.
    exact_requests: u64,
}

#[derive(Default)]
struct State {
    /// What earlier levels kept, sorted.
    ranges: Vec<KeptRange>,
    /// What this level keeps.
    new: Vec<KeptRange>,
    requests: u64,
    stray_bytes: u64,
    asked_bytes: u64,
    /// Read along, and not asked for yet.
    waiting_bytes: u64,
}

/// A range that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeptRange {
    /// Canonical number of the pack.
    pub(super) pack: u32,
    /// Where it begins in the pack.
    pub(super) start: u64,
    /// Where it ends in the pack.
    pub(super) end: u64,
    /// Where it lies in scratch.
    at: u64,
}

impl ReadAhead {
    /// Makes one that keeps nothing yet, for a store that `waits` or does not.
    pub(super) fn create(workspace: &Workspace, waits: bool) -> Result<Self, RepositoryError> {
        Ok(Self {
            file: workspace.scratch.create_file("metadata-ahead")?,
            state: Mutex::default(),
            exact_requests: if waits { EXACT_REQUESTS } else { u64::MAX },
        })
    }

    /// Returns the kept range that has all of a content.
    pub(super) fn find(&self, place: &Place) -> Option<KeptRange> {
        let state = self.state();
        let start = u64::from(place.offset);
        let before = |range: &KeptRange| (range.pack, range.start) <= (place.pack, start);
        let after = state.ranges.partition_point(before);
        let range = state.ranges.get(after.checked_sub(1)?)?;
        let end = start + u64::from(place.length);
        (range.pack == place.pack && end <= range.end).then_some(*range)
    }

    /// Counts a stretch that is a request.
    pub(super) fn count_request(&self) {
        self.state().requests += 1;
    }

    /// Counts what was read from the store: bytes that were asked for, bytes that were read along.
    pub(super) fn count_read(&self, asked_bytes: u64, along_bytes: u64) {
        let mut state = self.state();
        state.asked_bytes += asked_bytes;
        state.waiting_bytes += along_bytes;
    }

    /// Counts bytes that were asked for and had been read along.
    pub(super) fn count_taken(&self, asked_bytes: u64) {
        let mut state = self.state();
        state.asked_bytes += asked_bytes;
        state.waiting_bytes = state.waiting_bytes.saturating_sub(asked_bytes);
    }

    /// Returns whether the gap before a content is worth to be read along; 2 to the power `reach`
    /// bytes before it belong to it.
    pub(super) fn bridges(&self, gap: u64, reach: u8) -> bool {
        let mut state = self.state();
        if gap == 0 {
            return true;
        }
        if gap > GAP_BYTES_MAX || state.is_full() {
            return false;
        }
        if gap >> reach == 0 {
            return true;
        }
        let exact = state.requests <= self.exact_requests;
        let most = state.asked_bytes / STRAY_PART + STRAY_BYTES;
        if gap > STRAY_GAP_BYTES_MAX || (exact && state.stray_bytes + gap > most) {
            return false;
        }
        state.stray_bytes += gap;
        true
    }

    /// Takes in a stretch that was read from the store; keeps it when more was read than was asked
    /// for.
    pub(super) fn note(
        &self,
        pack: u32,
        start: u64,
        bytes: &[u8],
        along_bytes: u64,
    ) -> Result<(), RepositoryError> {
        let asked_bytes = (bytes.len() as u64).saturating_sub(along_bytes);
        self.count_read(asked_bytes, along_bytes);
        if along_bytes == 0 || self.state().is_full() {
            return Ok(());
        }
        let at = self.file.append(bytes)?;
        let end = start + bytes.len() as u64;
        self.state().new.push(KeptRange {
            pack,
            start,
            end,
            at,
        });
        Ok(())
    }

    /// Fills `into` with what is kept from `start` of the pack on, of which `asked_bytes` are used.
    pub(super) fn read(
        &self,
        range: &KeptRange,
        start: u64,
        into: &mut [u8],
        asked_bytes: u64,
    ) -> Result<(), RepositoryError> {
        self.file
            .read_exact_at(into, range.at + (start - range.start))?;
        self.count_taken(asked_bytes);
        Ok(())
    }

    /// Ends a level: what it kept can be found from now on.
    pub(super) fn end_level(&self) {
        let mut state = self.state();
        let state = &mut *state;
        state.ranges.append(&mut state.new);
        state.ranges.sort_unstable();
    }

    /// Returns the bytes that were asked for, and those that were read along and never asked for.
    pub(super) fn totals(&self) -> (u64, u64) {
        let state = self.state();
        (state.asked_bytes, state.waiting_bytes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves whole ranges: each is made by one push.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.ranges.len() + self.new.len() >= RANGES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::super::pack_world::{Shape, World};
    use super::*;

    fn place(pack: u32, offset: u32, length: u32) -> Place {
        Place {
            group: 0,
            pack,
            offset,
            length,
        }
    }

    /// Goal: what was read along is found and given back from the next level on, and counted.
    #[test]
    fn what_was_read_along_is_given_back() {
        let world = World::new(Shape::default());
        let ahead = ReadAhead::create(&world.workspace, true).unwrap();
        let bytes: Vec<u8> = (0..100).collect();
        assert!(ahead.find(&place(7, 1_000, 30)).is_none());
        ahead.note(7, 1_000, &bytes, 40).unwrap();
        ahead.note(8, 1_000, &bytes, 0).unwrap();
        assert!(
            ahead.find(&place(7, 1_030, 20)).is_none(),
            "only from the next level on"
        );
        ahead.end_level();
        assert!(
            ahead.find(&place(8, 1_000, 20)).is_none(),
            "nothing was read along"
        );
        for missing in [place(7, 999, 20), place(7, 1_090, 11), place(6, 1_030, 20)] {
            assert!(ahead.find(&missing).is_none());
        }
        let kept = ahead.find(&place(7, 1_030, 20)).unwrap();
        let mut into = [0; 20];
        ahead.read(&kept, 1_030, &mut into, 20).unwrap();
        assert_eq!(into[..], bytes[30..50]);
        assert_eq!(ahead.totals(), (60 + 100 + 20, 20));
    }

    /// Goal: what belongs to a directory is read along; what does not only as far as a part of all
    /// allows, unless there are many requests.
    #[test]
    fn few_requests_are_exact_and_many_are_long() {
        let world = World::new(Shape::default());
        let ahead = ReadAhead::create(&world.workspace, true).unwrap();
        let largest = |reach| largest_bridged(&ahead, reach);
        assert_eq!(largest(17), 64);
        assert_eq!(largest(30), 256, "as far as a request is worth");
        assert!(ahead.bridges(10 * 1024, 0), "strays, a few");
        assert_eq!(largest(0), 1, "and no more");
        ahead.note(1, 0, &vec![0; 1 << 20], 0).unwrap();
        assert_eq!(largest(0), 32, "a twelfth");
        assert_eq!(largest(0), 16, "but not twice");
        for _ in 0..=EXACT_REQUESTS {
            ahead.count_request();
        }
        for _ in 0..10 {
            assert_eq!(largest(0), 32, "many requests are not slow");
        }
    }

    /// Goal: a store that never waits is read exactly, however many requests that takes.
    #[test]
    fn a_folder_is_read_exactly() {
        let world = World::new(Shape::default());
        let ahead = ReadAhead::create(&world.workspace, false).unwrap();
        ahead.note(1, 0, &vec![0; 1 << 20], 0).unwrap();
        for _ in 0..=EXACT_REQUESTS {
            ahead.count_request();
        }
        let largest = [0; 3].map(|reach| largest_bridged(&ahead, reach));
        assert_eq!(largest, [32, 32, 1], "a twelfth, and no more");
    }

    /// Returns the largest gap of some that is read along, in KiB.
    fn largest_bridged(ahead: &ReadAhead, reach: u8) -> u64 {
        let sizes = [1, 16, 32, 64, 256, 257].map(|kib| kib * 1024);
        let bridged = sizes.into_iter().filter(|gap| ahead.bridges(*gap, reach));
        bridged.max().unwrap_or(0) / 1024
    }
}
