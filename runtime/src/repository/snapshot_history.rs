//! The snapshots of a repository by source, the newest first, and the policies: what retention is
//! decided on.
//!
//! Anything that cannot be read is an error, and so is an index that hides something, as far as its
//! caller can tell: what is not seen cannot be kept. Memory: that of [`super::snapshot_order`]; one
//! snapshot of at most [`ROW_BYTES_MAX`]; the policies. Mirrors `ListSnapshots` of Kopia's
//! `snapshot/manager.go`.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::kopia::FormatError;
use crate::kopia::policy::{MANIFEST_TYPE as POLICY, POLICY_BYTES_MAX, PolicyTree};
use crate::kopia::snapshot_manifest::{
    MANIFEST_TYPE as SNAPSHOT, SnapshotManifest, SnapshotSource,
};

use super::active_index::{ActiveIndex, load_active};
use super::index_load::{Loaded, Strictness};
use super::snapshot_order::{First, SnapshotSorter, SortedSnapshots};
use super::system_contents::{Manifests, SystemContents, read_manifests};
use super::{Repository, RepositoryError, Workspace};

/// Largest row, in bytes of its texts: ID, source, tags, pins.
pub const ROW_BYTES_MAX: usize = 256 * 1024;

/// One snapshot, as far as retention is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// The manifest's ID.
    pub id: String,
    /// What was saved.
    pub source: SnapshotSource,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// When the manifest was written.
    pub modified: Timestamp,
    /// Why it is incomplete; empty when it is complete.
    pub incomplete_reason: String,
    /// What keeps it from being expired.
    pub pins: Vec<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Bytes of all its files, where it says so.
    pub size_bytes: Option<u64>,
}

impl HistoryRow {
    fn new(manifest: SnapshotManifest, modified: Timestamp) -> Self {
        let summary = manifest.root.summary;
        Self {
            id: manifest.id,
            source: manifest.source,
            start: manifest.start,
            end: manifest.end,
            modified,
            incomplete_reason: manifest.incomplete_reason,
            pins: manifest.pins,
            tags: manifest.tags,
            size_bytes: summary.and_then(|summary| u64::try_from(summary.size).ok()),
        }
    }

    /// Returns the bytes of its texts.
    pub fn text_bytes(&self) -> usize {
        let tags = self.tags.iter().map(|(key, value)| key.len() + value.len());
        let pins = self.pins.iter().map(String::len);
        let source = [&self.source.user, &self.source.host, &self.source.path];
        let texts = [&self.id, &self.incomplete_reason].into_iter();
        let texts = texts.chain(source).map(String::len);
        texts.sum::<usize>() + tags.sum::<usize>() + pins.sum::<usize>()
    }

    /// Returns whether everything was saved.
    pub fn is_complete(&self) -> bool {
        self.incomplete_reason.is_empty()
    }
}

/// The snapshots and the policies.
pub struct SnapshotHistory {
    /// The policies.
    pub policies: PolicyTree,
    snapshots: SortedSnapshots,
    manifests: Manifests,
}

impl SnapshotHistory {
    /// Reads all manifests of snapshots and policies, from an index that `check` lets pass.
    ///
    /// # Errors
    /// What `check` says; any manifest that cannot be read; snapshots above [`ROW_BYTES_MAX`],
    /// policies above [`POLICY_BYTES_MAX`].
    pub fn load<E: From<RepositoryError>>(
        repository: &Repository,
        workspace: &Workspace,
        check: impl FnOnce(&ActiveIndex) -> Result<(), E>,
    ) -> Result<Self, E> {
        let (active, loaded) = load_active(repository, workspace, None, Strictness::ForReading)?;
        check(&active)?;
        drop(active);
        Ok(Self::of_loaded(repository, workspace, &loaded)?)
    }

    fn of_loaded(
        repository: &Repository,
        workspace: &Workspace,
        loaded: &Loaded,
    ) -> Result<Self, RepositoryError> {
        let system = SystemContents::of_loaded(loaded)?;
        let manifests = read_manifests(repository, workspace, system, &[SNAPSHOT, POLICY])?;
        let mut sorter = SnapshotSorter::new(workspace, First::Newest);
        let mut policies = PolicyTree::default();
        manifests.each_placed(|place, entry| match entry.kind() {
            Some(POLICY) => {
                policies.add(&entry)?;
                if policies.bytes() > POLICY_BYTES_MAX {
                    return Err(RepositoryError::TooMany {
                        what: "bytes of retention policies",
                        maximum: POLICY_BYTES_MAX,
                    });
                }
                Ok(())
            }
            _ => {
                let manifest = SnapshotManifest::parse(&entry.id, entry.data.get().as_bytes())?;
                sorter.push(place, &manifest)?;
                check_size(&HistoryRow::new(manifest, entry.modified))
            }
        })?;
        Ok(Self {
            policies,
            snapshots: sorter.finish()?,
            manifests,
        })
    }

    /// Calls `each` for every snapshot: all of one source together, the newest first.
    pub fn each<E: From<RepositoryError>>(
        &self,
        mut each: impl FnMut(HistoryRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.snapshots.each(&self.manifests, |entry, manifest| {
            each(HistoryRow::new(manifest, entry.modified)).map(|()| true)
        })
    }
}

fn check_size(row: &HistoryRow) -> Result<(), RepositoryError> {
    if row.text_bytes() > ROW_BYTES_MAX {
        let reason = format!("more than {ROW_BYTES_MAX} bytes of tags, pins and names");
        let what = format!("snapshot manifest {}", row.id);
        return Err(FormatError::malformed(what, reason).into());
    }
    Ok(())
}
