//! The snapshots of a repository, those of one source together, by time.
//!
//! They are sorted through scratch: first the source's name, then start and end, then the ID's
//! hash, so that the order is the same in every run. Manifests wait where [`Manifests`] keeps them;
//! a record only says where. Sources are in order as far as [`NAME_BYTES`] tell.
//!
//! Memory: one small sort buffer, then one merge and one manifest. Mirrors `GroupBySource` and
//! `SortByTime` of Kopia's `snapshot`.

use sha2::{Digest, Sha256};

use crate::kopia::manifest::ManifestEntry;
use crate::kopia::snapshot_manifest::{SnapshotManifest, SnapshotSource};
use crate::spill::{Runs, SortBuffer, SortShape, Sorter};

use super::content_requests::small_sort;
use super::system_contents::{ManifestPlace, Manifests, PAYLOAD_BYTES};
use super::{RepositoryError, Workspace};

/// Sort buffer, in bytes.
const BUFFER_BYTES: usize = 512 * 1024;

/// Bytes of the source's name that are sorted by; sources whose names begin alike are told apart by
/// a hash.
const NAME_BYTES: usize = 96;
const HASH_BYTES: usize = 16;
const TIMES_AT: usize = NAME_BYTES + HASH_BYTES;
const ID_AT: usize = TIMES_AT + 16;
const PLACE_AT: usize = ID_AT + HASH_BYTES;
const RECORD_BYTES: usize = PLACE_AT + PAYLOAD_BYTES;

/// Which snapshot of a source comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// The oldest.
    Oldest,
    /// The newest.
    Newest,
}

/// Snapshots on their way into order.
pub(super) struct SnapshotSorter {
    first: First,
    sorter: Sorter,
    buffer: SortBuffer,
}

impl SnapshotSorter {
    /// Makes one that has none yet.
    pub(super) fn new(workspace: &Workspace, first: First) -> Self {
        let shape = SortShape {
            record_bytes: RECORD_BYTES,
            group: None,
        };
        let memory = small_sort(workspace, BUFFER_BYTES, 1);
        let sorter = Sorter::new(workspace.scratch.clone(), shape, memory);
        Self {
            first,
            buffer: sorter.buffer(),
            sorter,
        }
    }

    /// Takes in a snapshot that waits at `place`.
    pub(super) fn push(
        &mut self,
        place: ManifestPlace,
        manifest: &SnapshotManifest,
    ) -> Result<(), RepositoryError> {
        let name = manifest.source.to_string();
        let name = &name.as_bytes()[..name.len().min(NAME_BYTES)];
        let flip = match self.first {
            First::Oldest => 0,
            First::Newest => u64::MAX,
        };
        self.buffer.push_with(|record| {
            record[..NAME_BYTES].fill(0);
            record[..name.len()].copy_from_slice(name);
            record[NAME_BYTES..TIMES_AT].copy_from_slice(&source_hash(&manifest.source));
            for (at, time) in [(TIMES_AT, manifest.start), (TIMES_AT + 8, manifest.end)] {
                // The sign turned, so that times before 1970 come first.
                let time = (time.nanos() as u64 ^ (1 << 63)) ^ flip;
                record[at..at + 8].copy_from_slice(&time.to_be_bytes());
            }
            let id = Sha256::digest(manifest.id.as_bytes());
            record[ID_AT..PLACE_AT].copy_from_slice(&id[..HASH_BYTES]);
            record[PLACE_AT..].copy_from_slice(&place.0);
        })?;
        Ok(())
    }

    /// Ends it.
    pub(super) fn finish(self) -> Result<SortedSnapshots, RepositoryError> {
        self.buffer.finish()?;
        Ok(SortedSnapshots(self.sorter.finish()?))
    }
}

fn source_hash(source: &SnapshotSource) -> [u8; HASH_BYTES] {
    let mut hash = Sha256::new();
    for text in [&source.user, &source.host, &source.path] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    let mut out = [0; HASH_BYTES];
    out.copy_from_slice(&hash.finalize()[..HASH_BYTES]);
    out
}

/// Snapshots in order.
pub(super) struct SortedSnapshots(Runs);

impl SortedSnapshots {
    /// Calls `each` for every one, with its manifest from `manifests`, until it returns false.
    pub(super) fn each<E: From<RepositoryError>>(
        &self,
        manifests: &Manifests,
        mut each: impl FnMut(&ManifestEntry, SnapshotManifest) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut merge = self.0.merge().map_err(RepositoryError::from)?;
        while let Some(record) = merge.next().map_err(RepositoryError::from)? {
            let place = record.last_chunk().ok_or(RepositoryError::Interrupted)?;
            let entry = manifests.at(ManifestPlace(*place))?;
            let entry = entry.ok_or(RepositoryError::Interrupted)?;
            let manifest = SnapshotManifest::parse(&entry.id, entry.data.get().as_bytes());
            if !each(&entry, manifest.map_err(RepositoryError::from)?)? {
                break;
            }
        }
        Ok(())
    }
}
