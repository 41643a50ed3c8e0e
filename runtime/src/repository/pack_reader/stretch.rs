//! One stretch of a pack that is read by one GET, and what is known of it afterwards.
//!
//! Memory: the struct. Invariant: a stretch lies in one pack, and its bytes in one piece in the
//! buffer of its batch.

use crate::kopia::blob_id::BlobId;
use crate::repository::RepositoryError;
use crate::repository::pack_order::Place;
use crate::repository::read_ahead::{KeptRange, ReadAhead};

use super::{GAP_BYTES_MAX, missing};

/// One stretch of a pack.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) pack: BlobId,
    pub(super) number: u32,
    /// Where it begins and ends in the pack.
    pub(super) offset: u64,
    pub(super) end: u64,
    /// Bytes behind it that are read along to be kept: the end of the pack.
    pub(super) tail_bytes: usize,
    /// Where it begins in the buffer.
    pub(super) start: usize,
    /// Bytes of it that nobody asked for.
    pub(super) gap_bytes: u64,
    /// Where it comes from, if not from the store.
    pub(super) kept: Option<KeptRange>,
    /// What of it is not there.
    pub(super) cut: Option<Cut>,
}

/// What a pack does not hold.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// Anything.
    Gone,
    /// What lies from here on.
    At(u64),
}

impl Cut {
    /// Returns whether a content is not whole for it.
    pub(super) fn takes(self, place: &Place) -> bool {
        match self {
            Self::Gone => true,
            Self::At(end) => place_end(place) > end,
        }
    }

    pub(super) fn error(self, pack: &BlobId, key: &[u8]) -> RepositoryError {
        match self {
            Self::Gone => missing(pack, key, None),
            Self::At(end) => missing(pack, key, Some(end)),
        }
    }
}

impl Stretch {
    /// Returns what it is kept under for the next who reads the same contents.
    pub(super) fn name(&self) -> String {
        format!("{}@{}-{}", self.pack, self.offset, self.end)
    }

    /// Returns whether a content of the same pack is read with it. One that begins before it is
    /// not: metadata comes behind data, also where both lie in one pack.
    pub(super) fn reaches(&self, place: &Place, ahead: Option<&ReadAhead>, extra: &[u8]) -> bool {
        let offset = u64::from(place.offset);
        if offset < self.offset {
            return false;
        }
        let gap = offset.saturating_sub(self.end);
        let Some(ahead) = ahead else {
            return gap <= GAP_BYTES_MAX;
        };
        match &self.kept {
            Some(kept) => place_end(place) <= kept.end,
            None => {
                let reach = extra.last().copied().unwrap_or(0);
                ahead.bridges(gap, reach) && ahead.find(place).is_none()
            }
        }
    }
}

pub(super) fn place_end(place: &Place) -> u64 {
    u64::from(place.offset) + u64::from(place.length)
}
