//! Bytes that were read along with others and are likely to be asked for next, kept in scratch.
//!
//! The mark of snapshot GC reads directories level by level. Clients write a directory right behind
//! what lies below it, so the gap between two directories of one level is mostly what the next level
//! asks for. It is read along, in one GET, and kept; when its level comes it is read from here. So
//! every part of a pack is asked for about once, however deep the trees are.
//!
//! Memory: a list of the ranges kept, at most [`RANGES_MAX`] of 24 bytes. Scratch: at most the live
//! metadata and what lies between it. Invariant: bytes from here are those of the pack; content tags
//! are verified as with any others.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::spill::ScratchFile;

use super::pack_order::Place;
use super::{RepositoryError, Workspace};

/// Largest gap that is read along, in bytes: what a store gives in the time that a request takes.
pub(super) const GAP_BYTES_MAX: u64 = 256 * 1024;

/// Ranges: at 1 MiB each, 64 GiB of metadata; smaller ones only where little is read.
const RANGES_MAX: usize = 65_536;

/// Bytes read along that may wait for their use, besides those of [`WAITING_FACTOR`].
const WAITING_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The same, as a multiple of what was asked for so far: directories that hold only directories are
/// small against what lies below them.
const WAITING_FACTOR: u64 = 16;

/// Where gaps are of no use, one is read along if all of a stretch come to this part of it.
const USELESS_PART: u64 = 16;

/// Largest such gap, in bytes.
const USELESS_GAP_BYTES_MAX: u64 = 32 * 1024;

/// Ranges of packs in scratch.
pub(super) struct ReadAhead {
    file: ScratchFile,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What earlier levels kept, sorted.
    ranges: Vec<KeptRange>,
    /// What this level keeps.
    new: Vec<KeptRange>,
    asked_bytes: u64,
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
    /// Makes one that keeps nothing yet.
    pub(super) fn create(workspace: &Workspace) -> Result<Self, RepositoryError> {
        Ok(Self {
            file: workspace.scratch.create_file("metadata-ahead")?,
            state: Mutex::default(),
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

    /// Returns whether a gap is worth to be read along in a stretch of `bytes` that has `gap_bytes`
    /// of them already.
    pub(super) fn bridges(&self, gap: u64, bytes: u64, gap_bytes: u64) -> bool {
        let state = self.state();
        let most = WAITING_BYTES_MAX.saturating_add(state.asked_bytes * WAITING_FACTOR);
        if state.waiting_bytes <= most && state.ranges.len() + state.new.len() < RANGES_MAX {
            return gap <= GAP_BYTES_MAX;
        }
        gap <= USELESS_GAP_BYTES_MAX && (gap_bytes + gap) * USELESS_PART <= bytes
    }

    /// Takes in a stretch that was read from the store; keeps it when more was read than was asked
    /// for.
    pub(super) fn note(
        &self,
        pack: u32,
        start: u64,
        bytes: &[u8],
        gap_bytes: u64,
    ) -> Result<(), RepositoryError> {
        let full = {
            let mut state = self.state();
            state.asked_bytes += (bytes.len() as u64).saturating_sub(gap_bytes);
            state.waiting_bytes += gap_bytes;
            state.ranges.len() + state.new.len() >= RANGES_MAX
        };
        if gap_bytes == 0 || full {
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
        let mut state = self.state();
        state.waiting_bytes = state.waiting_bytes.saturating_sub(asked_bytes);
        state.asked_bytes += asked_bytes;
        Ok(())
    }

    /// Ends a level: what it kept can be found from now on.
    pub(super) fn end_level(&self) {
        let mut state = self.state();
        let state = &mut *state;
        state.ranges.append(&mut state.new);
        state.ranges.sort_unstable();
    }

    /// Returns the bytes that were asked for, and those that were read along and never used.
    pub(super) fn totals(&self) -> (u64, u64) {
        let state = self.state();
        (state.asked_bytes, state.waiting_bytes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves whole ranges: each is made by one push.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
