//! One stretch of a pack that is read by one GET, and what is known of it afterwards.
//!
//! Memory: the struct. Invariant: a stretch lies in one pack, and its bytes in one piece in the
//! buffer of its batch.

use crate::kopia::blob_id::BlobId;
use crate::repository::RepositoryError;
use crate::repository::pack_heads::{HEAD_BYTES, PackHeads};
use crate::repository::pack_order::Place;
use crate::repository::read_ahead::{KeptRange, ReadAhead};

use super::{Aside, GAP_BYTES_MAX, missing};

/// One stretch of a pack.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) pack: BlobId,
    pub(super) number: u32,
    /// Where it begins and ends in the pack.
    pub(super) offset: u64,
    pub(super) end: u64,
    /// Bytes behind it that are read along to be kept, if the pack is so long.
    pub(super) tail_bytes: usize,
    /// Where it begins in the buffer.
    pub(super) start: usize,
    /// Bytes of it that nobody asked for.
    pub(super) gap_bytes: u64,
    /// Where it comes from.
    pub(super) source: Source,
    /// What of it is not there.
    pub(super) cut: Option<Cut>,
}

/// Where the bytes of a stretch come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// From the store.
    Store,
    /// From the store, from the first byte of the pack on, which is kept as its head.
    WithHead,
    /// What was read along before.
    Ahead(KeptRange),
    /// The head of the pack, of so many bytes.
    Head(u64),
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
    /// Makes one of one content, at `start` of the buffer.
    pub(super) fn new(place: &Place, pack: &BlobId, start: usize) -> Self {
        Self {
            pack: pack.clone(),
            number: place.pack,
            offset: u64::from(place.offset),
            end: place_end(place),
            tail_bytes: 0,
            start,
            gap_bytes: 0,
            source: Source::Store,
            cut: None,
        }
    }

    /// Looks where its content is; where that is the store only, a head of at most `head_bytes` may
    /// be read with it.
    pub(super) fn choose_source(&mut self, place: &Place, aside: Aside<'_>, head_bytes: usize) {
        if let Some(kept) = aside.ahead.and_then(|ahead| ahead.find(place)) {
            self.source = Source::Ahead(kept);
            return;
        }
        if let Some(heads) = aside.heads.filter(|_| PackHeads::has(&self.pack)) {
            let head_bytes = head_bytes.min(HEAD_BYTES) as u64;
            match heads.kept_bytes(&self.pack) {
                Some(kept) if self.end <= kept => {
                    self.source = Source::Head(kept);
                    return;
                }
                None if aside.reads_heads && self.end <= head_bytes => {
                    self.source = Source::WithHead;
                    (self.gap_bytes, self.offset) = (self.offset, 0);
                    self.tail_bytes = (head_bytes - self.end) as usize;
                }
                _ => {}
            }
        }
        if let Some(ahead) = aside.ahead {
            ahead.count_request();
        }
    }

    /// Reaches as far as another content, if that takes no more than `room` bytes more of the
    /// buffer: returns how many it takes.
    pub(super) fn extend(&mut self, place: &Place, room: usize) -> Option<usize> {
        let longer = place_end(place).saturating_sub(self.end) as usize;
        let more = longer.saturating_sub(self.tail_bytes);
        if more > room {
            return None;
        }
        self.gap_bytes += u64::from(place.offset).saturating_sub(self.end);
        self.end += longer as u64;
        self.tail_bytes = self.tail_bytes.saturating_sub(longer);
        Some(more)
    }

    /// Returns how much of the buffer it takes, in bytes.
    pub(super) fn buffer_bytes(&self) -> usize {
        (self.end - self.offset) as usize + self.tail_bytes
    }

    /// Returns where in the buffer one of its contents begins.
    pub(super) fn place_of(&self, place: &Place) -> usize {
        self.start + (u64::from(place.offset) - self.offset) as usize
    }

    /// Returns whether a content begins where it ends.
    pub(super) fn is_followed_by(&self, place: &Place) -> bool {
        self.number == place.pack && self.end == u64::from(place.offset)
    }

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
        let gap = offset.saturating_sub(self.end + self.tail_bytes as u64);
        match (&self.source, ahead) {
            (Source::Ahead(kept), _) => place_end(place) <= kept.end,
            (Source::Head(kept), _) => place_end(place) <= *kept,
            (_, None) => gap <= GAP_BYTES_MAX,
            (_, Some(ahead)) => {
                let reach = extra.last().copied().unwrap_or(0);
                ahead.bridges(gap, reach) && ahead.find(place).is_none()
            }
        }
    }
}

pub(super) fn place_end(place: &Place) -> u64 {
    u64::from(place.offset) + u64::from(place.length)
}
