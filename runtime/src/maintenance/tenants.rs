//! Asks a splitting strategy whose the snapshots are, and finds out whose the contents are.
//!
//! Only for strategies that give snapshots tenants, just before packs are chosen: it costs a mark,
//! whose directories a run that has just marked finds in its scratch. Snapshots are asked about in
//! batches, in an instance that is gone before the mark. Memory: a batch, then the phase of the
//! mark. Invariant: what cannot be read ends the task, as in snapshot GC.

use crate::kopia::FormatError;
use crate::repository::content_table::ContentTable;
use crate::repository::snapshot_history::ROW_BYTES_MAX;
use crate::repository::snapshots::Snapshots;
use crate::repository::tenants::{ContentTenants, SnapshotTenants, SnapshotTenantsWriter};
use crate::repository::{Repository, RepositoryError, Workspace};

use super::MaintenanceError;
use super::retention::{BATCH_BYTES_MAX, BATCH_ROWS_MAX};
use super::snapshot_gc::{live_metadata_bytes, mark_scratch_bytes};
use super::strategy::{Splitting, StrategyError, TaggedSource, check_tenants};

/// Scratch of each content besides that of a mark: whose it was read as, and whose it is.
const CONTENT_BYTES: u64 = 6;

/// Finds out whose the contents of `table` are; nothing where the strategy does not give tenants.
///
/// # Errors
/// Too little scratch, before anything is read. Whatever cannot be read below any snapshot; a
/// strategy that fails or is refused.
pub(super) fn find_tenants(
    repository: &Repository,
    workspace: &Workspace,
    table: &ContentTable,
    splitting: &mut dyn Splitting,
) -> Result<Option<ContentTenants>, MaintenanceError> {
    if !splitting.gives_tenants() {
        return Ok(None);
    }
    let contents = table.contents();
    let mark_bytes = mark_scratch_bytes(contents, live_metadata_bytes(table)?);
    let needed_bytes = mark_bytes.saturating_add(contents.saturating_mul(CONTENT_BYTES));
    workspace.scratch.require(needed_bytes)?;
    let snapshots = Snapshots::load(repository, workspace, table)?;
    let asked = ask_about_all(workspace, &snapshots, splitting);
    splitting.end_tenants();
    let found = ContentTenants::find(repository, workspace, table, &snapshots, &asked?)?;
    Ok(Some(found))
}

/// Asks about every snapshot.
fn ask_about_all(
    workspace: &Workspace,
    snapshots: &Snapshots,
    splitting: &mut dyn Splitting,
) -> Result<SnapshotTenants, MaintenanceError> {
    let mut asking = Asking {
        splitting,
        batch: Vec::new(),
        batch_bytes: 0,
        tenants: SnapshotTenantsWriter::create(workspace)?,
    };
    snapshots.each(|snapshot| {
        let row = TaggedSource {
            source: snapshot.source,
            tags: snapshot.tags,
        };
        let bytes = row.text_bytes();
        if bytes > ROW_BYTES_MAX {
            let reason = format!("more than {ROW_BYTES_MAX} bytes of tags and names");
            let what = format!("snapshot manifest {}", snapshot.id);
            let error = RepositoryError::from(FormatError::malformed(what, reason));
            return Err(MaintenanceError::from(error));
        }
        asking.add(row, bytes)
    })?;
    asking.ask()?;
    Ok(asking.tenants.finish()?)
}

/// A batch that is growing, and the answers so far.
struct Asking<'a> {
    splitting: &'a mut dyn Splitting,
    batch: Vec<TaggedSource>,
    batch_bytes: usize,
    tenants: SnapshotTenantsWriter,
}

impl Asking<'_> {
    fn add(&mut self, row: TaggedSource, bytes: usize) -> Result<(), MaintenanceError> {
        if self.batch.len() == BATCH_ROWS_MAX || self.batch_bytes + bytes > BATCH_BYTES_MAX {
            self.ask()?;
        }
        self.batch_bytes += bytes;
        self.batch.push(row);
        Ok(())
    }

    fn ask(&mut self) -> Result<(), MaintenanceError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let tenants = self.splitting.tenants(&self.batch)?;
        check_tenants(&self.batch, &tenants).map_err(|reason| {
            let splitting = &self.splitting;
            StrategyError::refused(splitting.describe(), &splitting.used(), reason)
        })?;
        self.tenants.push(&tenants)?;
        self.batch.clear();
        self.batch_bytes = 0;
        Ok(())
    }
}
