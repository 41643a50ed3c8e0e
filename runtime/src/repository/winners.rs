//! The winners of a merge: for every content of every target the one entry that counts.
//!
//! The sorter has dropped all entries of lower rank; what may be left of a content are entries of
//! the same second and the same deleted flag. Of those the larger pack blob ID wins, then, to be
//! deterministic, the smaller remaining bytes. Memory: two records.

use std::cmp::Ordering;

use crate::spill::Merge;

use super::RepositoryError;
use super::pack_names::{PackTable, name_of};
use super::record::RecordLayout;

/// Records in ascending order, one at a time.
pub trait Records {
    /// Returns the next record, `None` at the end.
    fn next(&mut self) -> Result<Option<&[u8]>, RepositoryError>;
}

impl Records for Merge {
    fn next(&mut self) -> Result<Option<&[u8]>, RepositoryError> {
        Ok(Merge::next(self)?)
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
