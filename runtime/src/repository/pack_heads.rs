//! The first bytes of metadata packs, read along and kept on the shelf for other tasks of a run.
//!
//! A client writes a small metadata pack with each snapshot, and every task wants another piece of
//! it: manifests, directories level by level, what is rewritten, its local index. Where a request
//! takes time, who wants something near the front of such a pack reads it from its first byte on,
//! some [`HEAD_BYTES`]; that is all of a small one, and one GET in the whole run. Kopia reads
//! metadata packs whole, of any size.
//!
//! Memory: none; see the shelf. Invariant: what is kept are bytes of the pack from the first one
//! on, which never change; tags are verified whoever reads.

use crate::kopia::blob_id::{BlobId, PACK_METADATA_PREFIX};
use crate::spill::Scratch;

/// How much is read at least, if that begins in it: a request takes a store as long as a few times
/// so many bytes.
pub(super) const HEAD_BYTES: usize = 64 * 1024;

/// The heads that a run has read.
#[derive(Clone, Copy)]
pub(super) struct PackHeads<'a>(&'a Scratch);

impl<'a> PackHeads<'a> {
    /// Those that are kept in `scratch`, if a run has opened a shelf there.
    pub(super) fn of(scratch: &'a Scratch) -> Self {
        Self(scratch)
    }

    /// Returns how much of a pack is kept, in bytes.
    pub(super) fn kept_bytes(self, pack: &BlobId) -> Option<u64> {
        if !Self::has(pack) {
            return None;
        }
        self.0.kept_bytes(&name(pack))
    }

    /// Fills `into` from `offset` of a pack; false where that is not kept.
    pub(super) fn read(self, pack: &BlobId, offset: u64, into: &mut [u8]) -> bool {
        let all = into.len();
        self.0.read_kept(&name(pack), offset, into) == Some(all)
    }

    /// Keeps the first bytes of a pack, if there is room; returns whether some are kept now.
    pub(super) fn keep(self, pack: &BlobId, bytes: &[u8]) -> bool {
        self.0.keep(&name(pack), bytes);
        self.kept_bytes(pack).is_some()
    }

    /// Returns whether heads of such packs are kept: data is read once.
    pub(super) fn has(pack: &BlobId) -> bool {
        pack.as_str().starts_with(PACK_METADATA_PREFIX)
    }
}

/// Returns the name that a head is kept under; no blob has a space in its name.
fn name(pack: &BlobId) -> String {
    format!("head of {pack}")
}
