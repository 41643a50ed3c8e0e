//! Whose the contents are: snapshots belong to tenants, and contents to those whose snapshots use
//! them.
//!
//! A tenant is a number from 1 to [`TENANTS_MAX`]; who gives numbers to snapshots is no business of
//! this file. A content that no snapshot uses is [`NOBODY`]'s, one that snapshots of two tenants
//! use is [`SHARED`]: one byte says it, whatever the number of tenants. The mark takes the
//! number of a snapshot down its tree; what it finds is joined with the table of contents, which
//! gives a byte for each of its rows, in their order.
//!
//! Memory: that of a mark, then that of a merge. Scratch: a byte for each snapshot and each
//! content, and what a mark takes. Invariant: a content is a single tenant's only if no snapshot of
//! another one uses it.

use std::sync::Arc;

use crate::kopia::content_id::ContentId;
use crate::spill::{ScratchFile, SequentialReader, SequentialWriter};

use super::content_table::ContentTable;
use super::mark_worker::no_content;
use super::snapshots::Snapshots;
use super::used_contents::{UsedContents, mark_tenants};
use super::{Repository, RepositoryError, Workspace};

/// Largest number of a tenant: numbers are a byte, and some are taken.
pub const TENANTS_MAX: u8 = 250;

/// Whose a content is that no snapshot uses.
pub const NOBODY: u8 = 0;

/// Whose a content is that snapshots of two tenants or more use.
pub const SHARED: u8 = TENANTS_MAX + 1;

/// Buffer of a reader or writer, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Returns whose a content is that is both `one`'s and `other`'s.
#[inline]
pub fn joined(one: u8, other: u8) -> u8 {
    match (one, other) {
        (NOBODY, whose) | (whose, NOBODY) => whose,
        (one, other) if one == other => one,
        _ => SHARED,
    }
}

/// The tenants of snapshots, one after the other.
pub struct SnapshotTenants {
    file: Arc<ScratchFile>,
}

/// Takes the tenants of snapshots, in the order of [`Snapshots::each`].
pub struct SnapshotTenantsWriter {
    writer: SequentialWriter,
}

impl SnapshotTenantsWriter {
    /// Begins without any.
    pub fn create(workspace: &Workspace) -> Result<Self, RepositoryError> {
        let file = workspace.scratch.create_file("tenants of snapshots")?;
        Ok(Self {
            writer: SequentialWriter::new(Arc::new(file), BUFFER_BYTES),
        })
    }

    /// Takes the next ones. Panics when one is not a tenant's number.
    pub fn push(&mut self, tenants: &[u8]) -> Result<(), RepositoryError> {
        assert!(
            tenants.iter().all(|one| (1..=TENANTS_MAX).contains(one)),
            "numbers of tenants"
        );
        Ok(self.writer.write(tenants)?)
    }

    /// Ends them.
    pub fn finish(self) -> Result<SnapshotTenants, RepositoryError> {
        let file = Arc::clone(self.writer.file());
        self.writer.finish()?;
        Ok(SnapshotTenants { file })
    }
}

impl SnapshotTenants {
    pub(super) fn stream(&self) -> TenantStream {
        TenantStream::of(&self.file)
    }
}

/// Whose the contents of a table are.
pub struct ContentTenants {
    file: Arc<ScratchFile>,
}

impl ContentTenants {
    /// Marks, and joins what is in use with the table.
    ///
    /// # Errors
    /// Those of a mark, and a content in use that the table does not have.
    pub fn find(
        repository: &Repository,
        workspace: &Workspace,
        table: &ContentTable,
        snapshots: &Snapshots,
        tenants: &SnapshotTenants,
    ) -> Result<Self, RepositoryError> {
        let used = mark_tenants(repository, workspace, table, snapshots, tenants)?;
        Self::join(workspace, table, &used)
    }

    fn join(
        workspace: &Workspace,
        table: &ContentTable,
        used: &UsedContents,
    ) -> Result<Self, RepositoryError> {
        let progress = &workspace.progress;
        progress.begin("find whose contents are", "contents", None);
        let file = Arc::new(workspace.scratch.create_file("tenants of contents")?);
        let mut writer = SequentialWriter::new(Arc::clone(&file), BUFFER_BYTES);
        let (mut records, mut used) = (table.stream()?, used.merge()?);
        used.advance()?;
        while let Some(record) = records.next()? {
            let key = table.key(record);
            let mut whose = NOBODY;
            while let Some((tenant, used_key)) = used.current().and_then(<[u8]>::split_last) {
                if used_key > key {
                    break;
                }
                if used_key < key {
                    return Err(no_content(&ContentId::from_key(used_key)?));
                }
                whose = joined(whose, *tenant);
                used.advance()?;
            }
            writer.write(&[whose])?;
        }
        progress.end();
        if let Some((_, key)) = used.current().and_then(<[u8]>::split_last) {
            return Err(no_content(&ContentId::from_key(key)?));
        }
        writer.finish()?;
        Ok(Self { file })
    }

    /// Streams whose the contents are, in the order of the table.
    pub fn stream(&self) -> TenantStream {
        TenantStream::of(&self.file)
    }
}

/// Numbers of tenants, one after the other.
pub struct TenantStream {
    reader: SequentialReader,
}

impl TenantStream {
    fn of(file: &Arc<ScratchFile>) -> Self {
        let bytes = 0..file.len();
        Self {
            reader: SequentialReader::new(Arc::clone(file), bytes, BUFFER_BYTES),
        }
    }

    /// Returns the next one. That there is none is an error: there are as many as were counted.
    #[inline]
    pub fn next_tenant(&mut self) -> Result<u8, RepositoryError> {
        let next = self.reader.next(1)?.and_then(<[u8]>::first);
        next.copied().ok_or(RepositoryError::Interrupted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Goal: the order in which users are found does not matter, and a single tenant's is what
        /// nobody else has.
        #[test]
        fn joining_is_the_set_in_one_byte(tenants in prop::collection::vec(1..4_u8, 0..6)) {
            let all = tenants.iter().copied().fold(NOBODY, joined);
            let back = tenants.iter().rev().copied().fold(NOBODY, joined);
            prop_assert_eq!(all, back);
            let set: std::collections::BTreeSet<u8> = tenants.iter().copied().collect();
            let expected = match set.len() {
                0 => NOBODY,
                1 => tenants[0],
                _ => SHARED,
            };
            prop_assert_eq!(all, expected);
        }
    }
}
