//! Gets the bytes of a batch: from the store, several stretches at the same time where it has to be
//! waited for, or from what was read along before. Memory: [`GETS_AT_ONCE`] requests.

use std::ops::Range;

use crate::blob::{BlobError, BlobPart, Storage};
use crate::repository::RepositoryError;
use crate::repository::pack_local_index::keep_tail;

use super::stretch::{Cut, Source, Stretch};
use super::{Aside, PackBatch};

/// Stretches of one batch that are asked for at the same time.
pub(super) const GETS_AT_ONCE: usize = 16;

impl PackBatch {
    /// Reads the bytes: one GET a stretch, but for those that are `aside` already.
    ///
    /// # Errors
    /// A pack that is gone or too short, with the first content that is missing for it.
    pub(super) fn fetch(
        &mut self,
        storage: &Storage,
        aside: Aside<'_>,
    ) -> Result<(), RepositoryError> {
        if self.large {
            return Ok(());
        }
        let mut first = 0;
        while first < self.stretches.len() {
            let end = self.stretches.len().min(first + GETS_AT_ONCE);
            let got = self.get(storage, aside, first..end)?;
            for (number, got) in (first..end).zip(got) {
                if let Some(got) = got {
                    self.note(number, got, aside)?;
                }
            }
            first = end;
        }
        Ok(())
    }

    /// Gets some stretches from the store; `None` for those that come from elsewhere.
    fn get(
        &mut self,
        storage: &Storage,
        aside: Aside<'_>,
        numbers: Range<usize>,
    ) -> Result<Vec<Option<Result<usize, BlobError>>>, RepositoryError> {
        let mut parts = Vec::with_capacity(numbers.len());
        let mut kept = Vec::with_capacity(numbers.len());
        let (mut rest, mut at) = (&mut self.bytes[..], 0);
        for stretch in &self.stretches[numbers] {
            let (_, from) = rest.split_at_mut(stretch.start - at);
            let (into, behind) = from.split_at_mut(stretch.buffer_bytes());
            (rest, at) = (behind, stretch.start + stretch.buffer_bytes());
            let is_kept = aside.read(stretch, into)?;
            if !is_kept {
                let (id, offset) = (&stretch.pack, stretch.offset);
                parts.push(BlobPart { id, offset, into });
            }
            kept.push(is_kept);
        }
        let mut got = storage.get_each(parts).into_iter();
        let of = |kept| if kept { None } else { got.next() };
        Ok(kept.into_iter().map(of).collect())
    }

    /// Takes in what came for a stretch.
    fn note(
        &mut self,
        number: usize,
        got: Result<usize, BlobError>,
        aside: Aside<'_>,
    ) -> Result<(), RepositoryError> {
        let stretch = &self.stretches[number];
        let length = (stretch.end - stretch.offset) as usize;
        let cut = match got {
            Ok(got) if got >= length => {
                return aside.keep(stretch, &self.bytes[stretch.start..stretch.start + got]);
            }
            Ok(got) => Cut::At(stretch.offset + got as u64),
            Err(error) if error.is_not_found() => Cut::Gone,
            Err(error) => return Err(error.into()),
        };
        if !self.going_on {
            return Err(self.unreadable(number, cut));
        }
        self.stretches[number].cut = Some(cut);
        Ok(())
    }
}

impl Aside<'_> {
    /// Fills `into` with a stretch from elsewhere than the store; false where it is not there.
    fn read(self, stretch: &Stretch, into: &mut [u8]) -> Result<bool, RepositoryError> {
        let length = (stretch.end - stretch.offset) as usize;
        let asked = (length as u64).saturating_sub(stretch.gap_bytes);
        match (stretch.source, self.ahead, self.heads) {
            (Source::Ahead(range), Some(ahead), _) => {
                ahead.read(&range, stretch.offset, into, asked)?;
                Ok(true)
            }
            (Source::Head(_), ahead, Some(heads)) => {
                let is_kept = heads.read(&stretch.pack, stretch.offset, into);
                if let (Some(ahead), true) = (ahead, is_kept) {
                    ahead.count_taken(asked);
                }
                Ok(is_kept)
            }
            _ => Ok(self.stretches.is_some_and(|shelf| {
                shelf.read_kept(&stretch.name(), 0, &mut into[..length]) == Some(length)
            })),
        }
    }

    /// Keeps what came of a stretch from the store, and what may have come behind it.
    fn keep(self, stretch: &Stretch, bytes: &[u8]) -> Result<(), RepositoryError> {
        let length = (stretch.end - stretch.offset) as usize;
        // Less than was asked for: this is the end of the pack.
        let has_end = bytes.len() > length && bytes.len() < stretch.buffer_bytes();
        if let (Some(scratch), true) = (self.tails, has_end) {
            keep_tail(scratch, &stretch.pack, &bytes[length..]);
        }
        let mut is_kept = false;
        if let (Some(heads), Source::WithHead) = (self.heads, stretch.source) {
            is_kept = heads.keep(&stretch.pack, bytes);
        }
        if let (Some(shelf), false) = (self.stretches, is_kept) {
            shelf.keep(&stretch.name(), &bytes[..length]);
        }
        let Some(ahead) = self.ahead else {
            return Ok(());
        };
        let along = stretch.gap_bytes + (bytes.len() - length) as u64;
        if is_kept {
            ahead.count_read(bytes.len() as u64 - along, along);
            return Ok(());
        }
        ahead.note(stretch.number, stretch.offset, bytes, along)
    }
}
