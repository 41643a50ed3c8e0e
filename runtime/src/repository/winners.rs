//! The winners of a merge: for every content of every target the one entry that counts.
//!
//! The sorter has dropped all entries of lower rank; what may be left of a content are entries of
//! the same second and the same deleted flag. Of those the larger pack blob ID wins, then, to be
//! deterministic, the smaller remaining bytes. Memory: two records.

use std::cmp::Ordering;

use crate::spill::{Merge, copy_record};

use super::RepositoryError;
use super::pack_names::{PackTable, name_of};
use super::record::RecordLayout;

/// Records in ascending order, one at a time.
pub trait Records {
    /// Returns the next record, `None` at the end.
    fn next(&mut self) -> Result<Option<&[u8]>, RepositoryError>;

    /// Fills `out`, which is whole records wide, with the next ones; returns how many bytes that
    /// are. Less than all of it is the end.
    fn fill(&mut self, out: &mut [u8]) -> Result<usize, RepositoryError> {
        let mut filled = 0;
        while filled < out.len() {
            let Some(record) = self.next()? else { break };
            copy_record(&mut out[filled..filled + record.len()], record);
            filled += record.len();
        }
        Ok(filled)
    }
}

impl Records for Merge {
    fn next(&mut self) -> Result<Option<&[u8]>, RepositoryError> {
        Ok(Merge::next(self)?)
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<usize, RepositoryError> {
        Ok(Merge::fill(self, out)?)
    }
}

/// Streams the winners in the order of target and key.
pub struct Winners<R> {
    records: R,
    layout: RecordLayout,
    next: Vec<u8>,
    current: Vec<u8>,
    primed: bool,
}

impl<R: Records> Winners<R> {
    /// Streams the winners of `records`.
    pub fn new(records: R, layout: RecordLayout) -> Self {
        let empty = Vec::with_capacity(layout.record_bytes());
        Self {
            records,
            layout,
            next: empty.clone(),
            current: empty,
            primed: false,
        }
    }

    /// Returns the next winner's record, `None` at the end.
    pub fn next(&mut self, packs: &PackTable) -> Result<Option<&[u8]>, RepositoryError> {
        if !self.primed {
            self.primed = true;
            self.next
                .extend_from_slice(self.records.next()?.unwrap_or(&[]));
        }
        if self.next.is_empty() {
            return Ok(None);
        }
        std::mem::swap(&mut self.current, &mut self.next);
        self.next.clear();
        while let Some(record) = self.records.next()? {
            if self.layout.group(record) != self.layout.group(&self.current) {
                self.next.extend_from_slice(record);
                break;
            }
            if beats(self.layout, packs, record, &self.current)? {
                self.current.clear();
                self.current.extend_from_slice(record);
            }
        }
        Ok(Some(&self.current))
    }
}

/// Picks the winners out of batches of whole records, in place.
///
/// The last group of a batch may go on in the next one: its best record waits between two calls.
pub struct BatchWinners {
    layout: RecordLayout,
    /// The best record so far of the group that the last batch ended with; empty before the first.
    waiting: Vec<u8>,
    spare: Vec<u8>,
}

impl BatchWinners {
    /// Waits for the first batch.
    pub fn new(layout: RecordLayout) -> Self {
        let waiting = Vec::with_capacity(layout.record_bytes());
        Self {
            layout,
            spare: waiting.clone(),
            waiting,
        }
    }

    /// Calls `take` with every winner that the batch decides, in order.
    #[inline]
    pub fn of_batch(
        &mut self,
        batch: &[u8],
        packs: &PackTable,
        mut take: impl FnMut(&[u8]) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let mut records = batch.chunks_exact(self.layout.record_bytes());
        let mut best = match self.waiting.is_empty() {
            true => records.next().unwrap_or_default(),
            false => self.waiting.as_slice(),
        };
        for record in records {
            if !self.layout.same_group(best, record) {
                take(best)?;
                best = record;
            } else if beats(self.layout, packs, record, best)? {
                best = record;
            }
        }
        self.spare.clear();
        self.spare.extend_from_slice(best);
        std::mem::swap(&mut self.waiting, &mut self.spare);
        Ok(())
    }

    /// Returns the last winner, if there was any record.
    pub fn last(self) -> Option<Vec<u8>> {
        (!self.waiting.is_empty()).then_some(self.waiting)
    }
}

/// Returns whether entry `a` wins against entry `b` of the same content, and is not the same entry.
pub fn beats(
    layout: RecordLayout,
    packs: &PackTable,
    a: &[u8],
    b: &[u8],
) -> Result<bool, RepositoryError> {
    Ok(match layout.rank(a).cmp(layout.rank(b)) {
        Ordering::Less => true,
        Ordering::Greater => false,
        Ordering::Equal => match compare_packs(layout, packs, a, b)? {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => rest(layout, a) < rest(layout, b),
        },
    })
}

/// Compares the pack blob IDs of two records.
pub fn compare_packs(
    layout: RecordLayout,
    packs: &PackTable,
    a: &[u8],
    b: &[u8],
) -> Result<Ordering, RepositoryError> {
    let (a, b) = (layout.fields(a).pack, layout.fields(b).pack);
    if packs.canonical(a) == packs.canonical(b) {
        return Ok(Ordering::Equal);
    }
    Ok(name_of(&packs.slot(a)?).cmp(name_of(&packs.slot(b)?)))
}

/// Returns what follows the pack: offset, lengths, format.
fn rest(layout: RecordLayout, record: &[u8]) -> &[u8] {
    &record[layout.key_bytes + 12..]
}
