//! Bytes that were read along with others and are likely to be asked for next, kept in scratch.
//!
//! The mark of snapshot GC reads directories level by level. Clients write a directory right behind
//! what lies below it, so the gap between two directories of one level is mostly what the next
//! level asks for. It is read along, in one GET, and kept; when its level comes it is read from
//! here. So every part of a pack is asked for about once, however deep the trees are.
//!
//! Memory: a list of the ranges kept, at most [`RANGES_MAX`] of 48 bytes. Scratch: at most the live
//! metadata and what lies between it. Invariant: bytes from here are those of the pack; content
//! tags are verified as with any others.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::spill::ScratchFile;

use super::pack_order::Place;
use super::{RepositoryError, Workspace};

/// Largest gap that is read along, in bytes, by the number of requests so far: few requests may be
/// exact, many may not be slow. A request costs the time of some 256 KiB.
const GAPS: [(u64, u64); 3] = [(256, 2 * 1024), (512, 8 * 1024), (768, 32 * 1024)];

/// The same for all further requests.
const GAP_BYTES_MAX: u64 = 256 * 1024;

/// The same where much that was read along proves to be of no use: dead directories lie between
/// those that live. Smaller still would cost more in requests than it saves in bytes: of a tree
/// with half of it dead, 1 MB of live directories is read in 12 requests with 0.6 MB in vain, with
/// this in 48 and 0.5 MB, with 4 KiB in 230 and 0.2 MB.
const WARY_GAP_BYTES_MAX: u64 = 32 * 1024;

/// Bytes that may be read in vain without anybody minding, and the part of all that is asked for
/// that comes on top.
const USELESS_BYTES_MAX: u64 = 4 * 1024 * 1024;
const USELESS_PART: u64 = 10;

/// Bytes of which it is believed before anything is known that they are of use.
const TRUST_BYTES: u64 = 1024 * 1024;

/// Ranges: at 1 MiB each, 64 GiB of metadata; smaller ones only where little is read. Beyond, gaps
/// are read along only if all of a stretch come to [`USELESS_PART`] of it.
const RANGES_MAX: usize = 65_536;

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
    level: u64,
    requests: u64,
    asked_bytes: u64,
    /// Read along, and not asked for yet.
    waiting_bytes: u64,
    /// Read along, and asked for.
    hit_bytes: u64,
    /// Of those that wait, those of ranges that are two levels old: what lies below a directory
    /// mostly lies one or two levels below it.
    useless_bytes: u64,
}

/// A range that is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeptRange {
    /// Canonical number of the pack.
    pub(super) pack: u32,
    /// Where it begins in the pack.
    pub(super) start: u64,
    /// Where it ends in the pack.
    pub(super) end: u64,
    /// Where it lies in scratch.
    at: u64,
    /// Bytes that nobody has asked for.
    waiting_bytes: u64,
    /// The level that kept it.
    level: u64,
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

    /// Begins a stretch with a content: returns the kept range that it is read from; without one it
    /// is a request.
    pub(super) fn begin(&self, place: &Place) -> Option<KeptRange> {
        let kept = self.find(place);
        if kept.is_none() {
            self.state().requests += 1;
        }
        kept
    }

    /// Returns whether a gap is worth to be read along in a stretch of `bytes` that has `gap_bytes`
    /// of them already.
    pub(super) fn bridges(&self, gap: u64, bytes: u64, gap_bytes: u64) -> bool {
        let state = self.state();
        if state.ranges.len() + state.new.len() >= RANGES_MAX {
            return (gap_bytes + gap) * USELESS_PART <= bytes;
        }
        if let Some((_, most)) = GAPS.iter().find(|(requests, _)| state.requests < *requests) {
            return gap <= *most;
        }
        let most = USELESS_BYTES_MAX + state.asked_bytes / USELESS_PART;
        gap <= match state.expected_useless_bytes() <= most {
            true => GAP_BYTES_MAX,
            false => WARY_GAP_BYTES_MAX,
        }
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
        let mut state = self.state();
        let level = state.level;
        state.new.push(KeptRange {
            pack,
            start,
            end,
            at,
            waiting_bytes: gap_bytes,
            level,
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
        let state = &mut *state;
        state.asked_bytes += asked_bytes;
        let own = state
            .ranges
            .binary_search_by_key(&(range.pack, range.start, range.at), |kept| {
                (kept.pack, kept.start, kept.at)
            });
        if let Some(kept) = own.ok().and_then(|at| state.ranges.get_mut(at)) {
            let hit = asked_bytes.min(kept.waiting_bytes);
            kept.waiting_bytes -= hit;
            state.waiting_bytes -= hit;
            state.hit_bytes += hit;
            if kept.level + 2 <= state.level {
                state.useless_bytes -= hit;
            }
        }
        Ok(())
    }

    /// Ends a level: what it kept can be found from now on.
    pub(super) fn end_level(&self) {
        let mut state = self.state();
        let state = &mut *state;
        state.level += 1;
        let old = state
            .ranges
            .iter()
            .filter(|range| range.level + 2 == state.level);
        state.useless_bytes += old.map(|range| range.waiting_bytes).sum::<u64>();
        state.ranges.append(&mut state.new);
        state
            .ranges
            .sort_unstable_by_key(|kept| (kept.pack, kept.start, kept.at));
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
    /// Returns how many bytes will have been read in vain, if what is new fares as what is old.
    fn expected_useless_bytes(&self) -> u64 {
        let new = u128::from(self.waiting_bytes.saturating_sub(self.useless_bytes));
        let useless = u128::from(self.useless_bytes);
        let known = u128::from(self.hit_bytes + TRUST_BYTES) + useless;
        self.useless_bytes + (new * useless / known) as u64
    }
}
