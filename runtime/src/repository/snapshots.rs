//! All snapshots of a repository, complete or not.
//!
//! Whatever is of type `snapshot` among the manifests is one, and each must be readable: a snapshot
//! that is skipped loses its data in the next GC. Memory: one manifest at a time; the others wait
//! in scratch. Mirrors `LoadSnapshots` of Kopia's `snapshot/manager.go`, which skips instead.

use crate::kopia::snapshot_manifest::{MANIFEST_TYPE, SnapshotManifest};

use super::content_table::ContentTable;
use super::faults::{Faults, noted_or};
use super::system_contents::{Manifests, SystemContents, read_manifests, read_manifests_noting};
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

    /// Does the same, and goes on behind contents that cannot be read; `faults` take note of them.
    pub(super) fn load_noting(
        repository: &Repository,
        workspace: &Workspace,
        table: &ContentTable,
        faults: &Faults,
    ) -> Result<Self, RepositoryError> {
        let (system, kinds) = (SystemContents::of_table(table)?, [MANIFEST_TYPE]);
        let faults = Some(faults);
        Ok(Self {
            manifests: read_manifests_noting(repository, workspace, system, &kinds, faults)?,
        })
    }

    /// Returns how many contents of manifests there are.
    pub(super) fn manifest_contents(&self) -> u64 {
        self.manifests.contents
    }

    /// Calls `each` for every snapshot, in an order that is always the same and means nothing.
    ///
    /// # Errors
    /// A manifest that cannot be read; what `each` gives.
    pub fn each<E: From<RepositoryError>>(
        &self,
        each: impl FnMut(SnapshotManifest) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each_noting(None, each)
    }

    /// Does the same, and goes on behind a snapshot that cannot be read where `faults` take note of
    /// it.
    pub(super) fn each_noting<E: From<RepositoryError>>(
        &self,
        faults: Option<&Faults>,
        mut each: impl FnMut(SnapshotManifest) -> Result<(), E>,
    ) -> Result<(), E> {
        self.manifests.each(|entry| {
            match SnapshotManifest::parse(&entry.id, entry.data.get().as_bytes()) {
                Ok(manifest) => each(manifest),
                Err(error) => Ok(noted_or(faults, error.into())?),
            }
        })
    }
}
