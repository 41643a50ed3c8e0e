//! Merging sorted runs into one ascending stream: a tournament of losers.
//!
//! The tree has one node for each run; a node is the first 16 bytes of a record as a number, and
//! its run. When a record is taken, the next of its run plays against the losers on its way up:
//! log2(runs) comparisons of numbers without branches. Records themselves are compared only when
//! their 16 bytes are equal.
//!
//! Duplicates and losers of groups are dropped on the way, so the stream has what a single sort
//! would have. Memory: one window for each run, 32 bytes a node, one record, and what the kernel
//! reads ahead for each run: `run_read_bytes` together. Fixed when it is opened.

use std::hint::{black_box, select_unpredictable};

use super::SpillError;
use super::copy::copy_record;
use super::cursor::{Behind, Cursor, Reads};
use super::run::Run;
use super::shape::{PADDING_BYTES, SortMemory, SortShape, window_bytes};

/// Which part of the runs a merge reads, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct MergeOptions<'a> {
    /// The first key, as leading bytes of a record; without it, from the start.
    pub lower: Option<&'a [u8]>,
    /// The first key that is not read any more; without it, to the end.
    pub upper: Option<&'a [u8]>,
    /// Drops the page cache behind it: right when the runs are read once and memory is small.
    pub drop_behind: bool,
    /// Merges of these runs that are open at the same time and share the memory of one; 0 counts as
    /// 1.
    pub share: usize,
}

/// An ascending stream of records, lent one by one.
#[derive(Debug)]
pub struct Merge {
    shape: SortShape,
    cursors: Vec<Cursor>,
    /// The windows of all runs, then padding.
    windows: Vec<u8>,
    /// Node 0 is the winner, the others losers; empty when there are no runs, or after an error.
    tree: Vec<Node>,
    current: Vec<u8>,
    current_key: u128,
    has_current: bool,
    failed: bool,
    keys: Keys,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    key: u128,
    run: u32,
}

/// How the number of a node is made of a record.
#[derive(Clone, Copy, Debug)]
struct Keys {
    width: usize,
    /// Bits that belong to the record, when it is narrower than 16 bytes.
    mask: u128,
    /// Bits at the end of a key that may differ within a group.
    unsure_bits: u32,
}

impl Merge {
    /// Opens `runs`, of which there may be as many as `memory` has buffers for.
    pub(super) fn open(
        runs: &[Run],
        shape: SortShape,
        memory: &SortMemory,
        options: &MergeOptions<'_>,
        behind: Behind,
    ) -> Result<Self, SpillError> {
        assert!(
            runs.len() <= memory.runs_max,
            "more runs than the merge has buffers for"
        );
        let width = shape.record_bytes;
        let piece_bytes = (memory.run_read_bytes / options.share.max(1)).max(width);
        let most = (window_bytes(piece_bytes) / width).max(1) as u64;
        let kept = runs.iter().map(Run::memory_bytes).sum();
        let reads = Reads {
            piece_bytes,
            direct_bytes: memory.direct_bytes(runs.len(), kept, piece_bytes, options.share),
            behind,
        };
        let mut cursors = Vec::with_capacity(runs.len());
        let mut end = 0;
        for run in runs {
            let first = options
                .lower
                .map_or(Ok(0), |bound| run.lower_bound(bound))?;
            let last = options
                .upper
                .map_or(Ok(run.records()), |bound| run.lower_bound(bound))?;
            if first < last {
                let start = end;
                end += (last - first).min(most) as usize * width;
                cursors.push(Cursor::new(run.clone(), first..last, start..end, reads));
            }
        }
        let mut merge = Self {
            shape,
            cursors,
            windows: vec![0; end + PADDING_BYTES],
            tree: Vec::new(),
            current: vec![0; width],
            current_key: 0,
            has_current: false,
            failed: false,
            keys: Keys::new(&shape),
        };
        merge.build()?;
        Ok(merge)
    }

    /// Returns the next record, or `None` at the end. The record is lent until the next call.
    ///
    /// Errors: `Io`; after one every call is an error, so that no part of a stream passes for the
    /// whole.
    #[allow(clippy::should_implement_trait)] // it lends, which an iterator cannot
    #[inline]
    pub fn next(&mut self) -> Result<Option<&[u8]>, SpillError> {
        self.advance()?;
        Ok(self.current())
    }

    /// Returns the record that `advance` or `next` found, if it was not the end.
    #[inline]
    pub fn current(&self) -> Option<&[u8]> {
        self.has_current.then_some(self.current.as_slice())
    }

    /// Goes to the next record and returns whether there is one.
    pub fn advance(&mut self) -> Result<bool, SpillError> {
        let width = self.keys.width;
        loop {
            let Some(Node { key, run }) = self.smallest() else {
                return self.end();
            };
            let start = self.cursors[run as usize].position;
            let record = &self.windows[start..start + width];
            let stays = self.stays(key, &self.current, record);
            if stays {
                copy_record(&mut self.current, record);
                self.current_key = key;
                self.has_current = true;
            }
            self.go_on(run)?;
            if stays {
                return Ok(true);
            }
        }
    }

    /// Fills `out`, which is whole records wide, with the next ones; returns how many bytes that
    /// are. Less than all of it is the end.
    ///
    /// Errors: as [`next`](Self::next).
    pub fn fill(&mut self, out: &mut [u8]) -> Result<usize, SpillError> {
        let width = self.keys.width;
        assert!(out.len().is_multiple_of(width), "whole records");
        let mut filled = 0;
        while filled < out.len() {
            let Some(Node { key, run }) = self.smallest() else {
                self.end()?;
                return Ok(filled);
            };
            let start = self.cursors[run as usize].position;
            let record = &self.windows[start..start + width];
            let last = match filled {
                0 => self.current.as_slice(),
                _ => &out[filled - width..filled],
            };
            let stays = self.stays(key, last, record);
            if stays {
                copy_record(&mut out[filled..filled + width], record);
                filled += width;
                self.current_key = key;
                self.has_current = true;
            }
            self.go_on(run)?;
        }
        if filled > 0 {
            self.current.copy_from_slice(&out[filled - width..filled]);
        }
        Ok(filled)
    }

    /// Returns the run that has the smallest record, and that record's key; `None` at the end.
    #[inline]
    fn smallest(&self) -> Option<Node> {
        let node = self.tree.first().copied();
        node.filter(|node| !self.cursors[node.run as usize].is_done())
    }

    /// Returns whether `record` stays behind `last`, the one before it if there was any.
    #[inline]
    fn stays(&self, key: u128, last: &[u8], record: &[u8]) -> bool {
        !self.has_current
            || (key ^ self.current_key) >> self.keys.unsure_bits != 0
            || self.shape.keeps(last, record)
    }

    /// Goes to the next record of the run that won, and plays again.
    #[inline]
    fn go_on(&mut self, run: u32) -> Result<(), SpillError> {
        let width = self.keys.width;
        let cursor = &mut self.cursors[run as usize];
        cursor.step();
        // Touches the next record of this run: with many runs the processor does not guess that
        // it is needed soon. Nothing waits for the value.
        let after = (cursor.position + 2 * width).min(self.windows.len() - 1);
        black_box(self.windows[after]);
        if cursor.is_done() {
            self.refill(run)?;
        }
        self.replay(run);
        Ok(())
    }

    #[cold]
    fn end(&mut self) -> Result<bool, SpillError> {
        self.has_current = false;
        if self.failed {
            let reason = "a merge was read on after an error".to_owned();
            return Err(SpillError::Plan { reason });
        }
        Ok(false)
    }

    #[cold]
    fn refill(&mut self, run: u32) -> Result<(), SpillError> {
        let result = self.cursors[run as usize].refill(&mut self.windows);
        if result.is_err() {
            self.failed = true;
            self.has_current = false;
            self.tree.clear();
        }
        result
    }

    /// Reads the first windows and plays the first tournament.
    fn build(&mut self) -> Result<(), SpillError> {
        let runs = self.cursors.len();
        (0..runs as u32).try_for_each(|run| self.refill(run))?;
        if runs == 0 {
            return Ok(());
        }
        // Winners of all nodes; leaf `r` is at `runs + r`, the children of node `i` at `2i` and `2i
        // + 1`.
        let mut winners = vec![Node { key: 0, run: 0 }; runs];
        winners.extend((0..runs as u32).map(|run| self.leaf(run)));
        let mut tree = winners[..runs].to_vec();
        for i in (1..runs).rev() {
            let (left, right) = (winners[2 * i], winners[2 * i + 1]);
            let right_wins = self.is_before(right, left);
            (winners[i], tree[i]) = if right_wins {
                (right, left)
            } else {
                (left, right)
            };
        }
        tree[0] = winners[1];
        self.tree = tree;
        Ok(())
    }

    /// Plays the present record of `run` against the losers between its leaf and the top.
    #[inline]
    fn replay(&mut self, run: u32) {
        let mut winner = self.leaf(run);
        let mut i = (run as usize + self.tree.len()) / 2;
        while i > 0 {
            let loser = self.tree[i];
            let swap = match loser.key == winner.key {
                true => self.is_before(loser, winner),
                false => loser.key < winner.key,
            };
            self.tree[i].key = select_unpredictable(swap, winner.key, loser.key);
            self.tree[i].run = select_unpredictable(swap, winner.run, loser.run);
            winner.key = select_unpredictable(swap, loser.key, winner.key);
            winner.run = select_unpredictable(swap, loser.run, winner.run);
            i /= 2;
        }
        self.tree[0] = winner;
    }

    #[inline]
    fn leaf(&self, run: u32) -> Node {
        let cursor = &self.cursors[run as usize];
        let key = if cursor.is_done() {
            u128::MAX
        } else {
            self.keys.load(&self.windows, cursor.position)
        };
        Node { key, run }
    }

    /// Compares two present records in full; a run that is done comes last.
    #[cold]
    fn is_before(&self, left: Node, right: Node) -> bool {
        let [a, b] = [left, right].map(|node| &self.cursors[node.run as usize]);
        let record =
            |cursor: &Cursor| &self.windows[cursor.position..cursor.position + self.keys.width];
        !a.is_done() && (b.is_done() || record(a) < record(b))
    }
}

impl Keys {
    fn new(shape: &SortShape) -> Self {
        let width = shape.record_bytes;
        let key_bits = |bytes: usize| bytes.min(16) as u32 * 8;
        let mask = u128::MAX << (128 - key_bits(width));
        Self {
            width,
            mask,
            unsure_bits: 128 - key_bits(shape.distinct_bytes()),
        }
    }

    #[inline]
    fn load(self, windows: &[u8], position: usize) -> u128 {
        let bytes: &[u8; 16] = windows[position..position + 16]
            .try_into()
            .expect("16 bytes");
        u128::from_be_bytes(*bytes) & self.mask
    }
}
