//! All snapshots of a repository, complete or not.
//!
//! Whatever is of type `snapshot` among the manifests is one, and each must be readable: a snapshot
//! that is skipped loses its data in the next GC. Memory: one manifest at a time; the others wait
//! in scratch. Mirrors `LoadSnapshots` of Kopia's `snapshot/manager.go`, which skips instead.

use crate::kopia::snapshot_manifest::{MANIFEST_TYPE, SnapshotManifest};

use super::content_table::ContentTable;
use super::system_contents::{Manifests, SystemContents, read_manifests};
use super::{Repository, RepositoryError, Workspace};

/// The snapshots.
pub struct Snapshots {
    manifests: Manifests,
}

impl Snapshots {
    /// Reads the manifests of a repository whose contents are in `table`.
    ///
    /// # Errors
    /// Any content of manifests that cannot be read.
    pub fn load(
        repository: &Repository,
        workspace: &Workspace,
        table: &ContentTable,
    ) -> Result<Self, RepositoryError> {
        let system = SystemContents::of_table(table)?;
        Ok(Self {
            manifests: read_manifests(repository, workspace, system, &[MANIFEST_TYPE])?,
        })
    }

    /// Calls `each` for every snapshot, in an order that is always the same and means nothing.
    ///
    /// # Errors
    /// A manifest that cannot be read; what `each` gives.
    pub fn each<E: From<RepositoryError>>(
        &self,
        mut each: impl FnMut(SnapshotManifest) -> Result<(), E>,
    ) -> Result<(), E> {
        self.manifests.each(|entry| {
            let manifest = SnapshotManifest::parse(&entry.id, entry.data.get().as_bytes());
            each(manifest.map_err(RepositoryError::from)?)
        })
    }
}
