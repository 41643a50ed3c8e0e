//! The tasks of a run that work on contents and packs: snapshot GC, rewriting contents, deleting
//! packs, extending locks.
//!
//! They share one table of contents, which is read when the first of them needs it and again after
//! anything was written that it does not show. An index with gaps, or with sets that differ, stops
//! them all. Memory: that of the largest of them. Mirrors
//! `runTaskRewriteContentsFull` and its neighbours in Kopia's
//! `repo/maintenance/maintenance_run.go`.

use crate::clock::Timestamp;
use crate::repository::active_index::{ActiveIndex, IndexSource, with_fresh_listings};
use crate::repository::content_table::ContentTable;
use crate::repository::index_listing::IndexListing;
use crate::repository::pack_names::name_of;
use crate::repository::sessions::SessionIds;
use crate::repository::{Repository, RepositoryError, Workspace};

use super::MaintenanceError;
use super::budget::{Budget, Cost};
use super::compact_manifests::{ManifestsCompacted, compact_manifests};
use super::cycle_task::CycleTask;
use super::delete_unreferenced_packs::{DeletePacksOptions, DeletePacksPlan, check_index};
use super::extend_blob_retention::extend_blob_retention;
use super::index_tasks::Done;
use super::orphan_packs::Scope;
use super::pack_choice::ByStrategy;
use super::rewrite_contents::{RewriteContentsStats, RewriteOptions, RewritePlan};
use super::safety::Safety;
use super::snapshot_gc::{GcOptions, GcPlan, live_metadata_bytes};
use super::strategy::Splitting;
use super::task_stats;
use super::tenants::find_tenants;

/// First character of the names of packs of metadata.
const METADATA_KIND: u8 = b'q';

/// What the tasks need of the run.
pub(super) struct PackTasks<'a> {
    pub(super) repository: &'a Repository,
    pub(super) workspace: &'a Workspace,
    pub(super) safety: Safety,
    /// `user@host` that we act as.
    pub(super) owner: String,
    /// The storage's time of the run's start.
    pub(super) start: Timestamp,
    /// Delete also packs that are not explained.
    pub(super) accept_unexplained: bool,
    /// Asked before anything is deleted.
    pub(super) still_ours: &'a dyn Fn() -> Result<(), MaintenanceError>,
    /// Asked while contents are copied.
    pub(super) stopped: &'a (dyn Fn() -> bool + Sync),
    table: Option<Table>,
}

/// The index, and when it was read.
struct Table {
    /// The sessions that had a marker just before, for who deletes packs.
    sessions: Option<SessionIds>,
    active: ActiveIndex,
    contents: ContentTable,
    read: Timestamp,
}

impl<'a> PackTasks<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        workspace: &'a Workspace,
        run: (Safety, String, Timestamp),
        still_ours: &'a dyn Fn() -> Result<(), MaintenanceError>,
        stopped: &'a (dyn Fn() -> bool + Sync),
    ) -> Self {
        let (safety, owner, start) = run;
        Self {
            repository,
            workspace,
            safety,
            owner,
            start,
            accept_unexplained: false,
            still_ours,
            stopped,
            table: None,
        }
    }

    /// Forgets the table: something was written.
    pub(super) fn forget(&mut self) {
        self.table = None;
    }

    /// Forgets the table, and gives the listing that it was read from to the next task, if that is
    /// still young: nothing was written to the index since.
    pub(super) fn take_listing(&mut self) -> Option<IndexListing> {
        let table = self.table.take()?;
        let age = self.repository.clock.now().since(table.read);
        let IndexSource::Epochs(state) = table.active.source else {
            return None;
        };
        let age_max = self.repository.format.epochs.look_age_max();
        (age < age_max).then_some(IndexListing {
            state,
            uncompacted: table.active.uncompacted,
        })
    }

    /// Runs one of these tasks, unless it would exceed its budget; `splitting` chooses packs.
    pub(super) fn run(
        &mut self,
        task: CycleTask,
        splitting: &mut dyn Splitting,
        budget: &Budget,
    ) -> Result<Done, MaintenanceError> {
        match task {
            CycleTask::SnapshotGc => self.collect(budget),
            CycleTask::FullRewriteContents => self.rewrite(None, splitting, budget),
            CycleTask::QuickRewriteContents if splitting.gives_tenants() => {
                Ok(left_for_full_maintenance())
            }
            CycleTask::QuickRewriteContents => self.rewrite(Some(b'q'), splitting, budget),
            CycleTask::FullDeleteBlobs => self.delete(Scope::Full, budget),
            CycleTask::QuickDeleteBlobs => self.delete(Scope::Quick, budget),
            _ => self.extend(),
        }
    }

    /// Writes the manifests of many contents into one.
    pub(super) fn compact_manifests(&mut self) -> Result<ManifestsCompacted, MaintenanceError> {
        let table = self.take_table(false)?;
        compact_manifests(
            self.repository,
            self.workspace,
            &table.contents,
            &self.owner,
            table.read,
        )
    }

    /// Marks and sweeps. The table is read anew: nothing may be older than the recorded start.
    fn collect(&mut self, budget: &Budget) -> Result<Done, MaintenanceError> {
        self.forget();
        let table = self.take_table(false)?;
        if let Err(why) = self.after_mark(&table, budget)? {
            self.table = Some(table);
            return Ok(Done::left(why));
        }
        let options = GcOptions {
            start: self.start,
            now: table.read,
            safety: &self.safety,
            owner: &self.owner,
            end_early: self.stopped,
        };
        let (repository, workspace) = (self.repository, self.workspace);
        let plan = GcPlan::make(repository, workspace, &table.contents, &options)?;
        let report = plan.execute(repository, workspace, &options)?;
        if report.ended_early {
            return Err(MaintenanceError::Stopped);
        }
        let (stats, deleted) = (report.stats, report.tombstones);
        if deleted + stats.recovered_content_count == 0 {
            self.table = Some(table);
        }
        let what = format!(
            "{} contents in use by {} snapshots; {deleted} became deleted, {} came back",
            stats.in_use_content_count, report.mark.snapshots, stats.recovered_content_count
        );
        Ok(Done::new(task_stats::snapshot_gc(&stats), what))
    }

    /// Returns what a budget leaves after all directories are read, or why it does not allow that.
    fn after_mark(
        &self,
        table: &Table,
        budget: &Budget,
    ) -> Result<Result<Budget, String>, MaintenanceError> {
        if budget.is_none() {
            return Ok(Ok(*budget));
        }
        let window_bytes = self.workspace.memory.read_window_bytes as u64;
        let cost = mark_cost(&table.contents, window_bytes)?;
        Ok(match budget.refuses(cost) {
            Some(why) => Err(why),
            None => Ok(budget.without(cost)),
        })
    }

    /// Rewrites packs of one kind, which a quick cycle does, or all. There the deletion which
    /// follows has the same table, if nothing is written.
    fn rewrite(
        &mut self,
        kind: Option<u8>,
        splitting: &mut dyn Splitting,
        budget: &Budget,
    ) -> Result<Done, MaintenanceError> {
        let table = self.take_table(kind.is_some())?;
        let by_tenant = splitting.gives_tenants();
        let (repository, workspace) = (self.repository, self.workspace);
        let mut rest = *budget;
        if by_tenant {
            match self.after_mark(&table, budget)? {
                Ok(left) => rest = left,
                Err(why) => {
                    self.table = Some(table);
                    return Ok(Done::left(why));
                }
            }
        }
        let tenants = match by_tenant {
            true => find_tenants(repository, workspace, &table.contents, splitting)?,
            false => None,
        };
        let mut choice = ByStrategy {
            splitting,
            budget: rest,
        };
        let mut options = RewriteOptions {
            kind,
            packs: Some(&mut choice),
            pack_bytes_max: self.repository.format.max_pack_size,
            format_version: None,
            wrong_kind: false,
            safety: &self.safety,
            now: table.read,
            owner: &self.owner,
            end_early: self.stopped,
        };
        let (contents, tenants) = (&table.contents, tenants.as_ref());
        let plan = RewritePlan::make_by_tenant(workspace, contents, tenants, &mut options)?;
        let cut = plan.packs_left > 0;
        if plan.is_empty() && cut {
            self.table = Some(table);
            let left = plan.packs_left;
            let why = format!("none of {left} packs fits into its budget, {budget}");
            return Ok(Done::left(why));
        }
        let reason = match plan.packs_left {
            0 => plan.reason.clone(),
            left => format!(
                "{}, {left} packs are left: its budget is {budget}",
                plan.reason
            ),
        };
        if plan.is_empty() {
            self.table = Some(table);
            let what = format!("nothing to rewrite: {reason}");
            return Ok(Done::new(task_stats::rewrite_contents(&plan.stats), what));
        }
        let report = plan.execute(repository, workspace, &table.contents, &options)?;
        if report.ended_early {
            return Err(MaintenanceError::Stopped);
        }
        let (stats, written) = (report.stats, report.written);
        let what = format!(
            "{} contents copied into {} packs: {reason}",
            stats.rewritten_content_count, written.packs
        );
        Ok(Done::new(task_stats::rewrite_contents(&stats), what).cut_if(cut))
    }

    /// Deletes as many blobs as the budget allows requests; nothing but names moves. Explaining
    /// them, which comes first, is not counted.
    fn delete(&mut self, scope: Scope, budget: &Budget) -> Result<Done, MaintenanceError> {
        let table = self.take_table(true)?;
        let sessions = table.sessions.as_ref();
        let options = DeletePacksOptions {
            scope,
            sessions: sessions.ok_or(RepositoryError::Interrupted)?,
            safety: &self.safety,
            maintenance_start: self.start,
            accept_unexplained: self.accept_unexplained,
            still_ours: self.still_ours,
        };
        let (repository, workspace) = (self.repository, self.workspace);
        let (active, contents) = (&table.active, &table.contents);
        let plan = DeletePacksPlan::make(repository, workspace, active, contents, &options)?;
        let (found, most) = (plan.stats().unreferenced_pack_count, budget.requests);
        if most == Some(0) && found > 0 {
            self.table = Some(table);
            let why = format!("none of {found} unused blobs fits into its budget, {budget}");
            return Ok(Done::left(why));
        }
        let plan = plan.with_at_most(most.unwrap_or(u64::MAX));
        let report = plan.execute(repository, workspace, &options)?;
        self.table = Some(table);
        let (stats, kept) = (report.stats, report.unexplained);
        let mut what = format!("{} unused blobs deleted", stats.deleted_pack_count);
        if kept > 0 {
            what.push_str(&format!(", {kept} kept that are not explained"));
        }
        if report.left > 0 {
            let left = report.left;
            what.push_str(&format!(", {left} are left: its budget is {budget}"));
        }
        for named in &report.named {
            what.push_str(&format!("; {}: {}", named.pack, named.reason));
        }
        let stats = task_stats::delete_unreferenced_packs(&stats);
        Ok(Done::new(stats, what).cut_if(report.left > 0))
    }

    fn extend(&self) -> Result<Done, MaintenanceError> {
        let stats = extend_blob_retention(self.repository, self.workspace)?;
        let what = match &stats {
            None => "the repository has no retention".to_owned(),
            Some(stats) => format!("{} object locks extended", stats.extended_blob_count),
        };
        Ok(Done::new(
            task_stats::extend_blob_retention(stats.as_ref()),
            what,
        ))
    }

    /// Takes the table out, or reads it: anew where packs are to be deleted and the sessions were
    /// not listed before it. Who has written nothing puts it back.
    fn take_table(&mut self, with_sessions: bool) -> Result<Table, MaintenanceError> {
        let kept = self.table.take();
        if let Some(table) = kept.filter(|table| table.sessions.is_some() || !with_sessions) {
            return Ok(table);
        }
        let (repository, workspace) = (self.repository, self.workspace);
        let read = repository.clock.now();
        let loaded = with_fresh_listings(|| {
            let sessions = with_sessions.then(|| SessionIds::list(repository));
            let sessions = sessions.transpose()?;
            let active = ActiveIndex::find(repository, workspace)?;
            let contents = ContentTable::load(repository, workspace, &active)?;
            Ok((sessions, active, contents))
        });
        let (sessions, active, contents) = loaded?;
        // What is hidden is not in use for GC, and its packs would go later.
        check_index(repository, workspace, &active)?;
        Ok(Table {
            sessions,
            active,
            contents,
            read,
        })
    }
}

/// What a quick cycle does of the rewrite where tenants are told apart: nothing. Nobody reads all
/// directories for it, so nobody knows whose its packs are, and what it wrote would mix them.
fn left_for_full_maintenance() -> Done {
    let nothing = RewriteContentsStats::default();
    let what = "left for full maintenance, which finds out whose the packs are";
    Done::new(task_stats::rewrite_contents(&nothing), what)
}

/// Returns about what reading all directories costs: contents with a prefix lie in packs of their
/// own, each of which is read about once, window by window.
fn mark_cost(contents: &ContentTable, window_bytes: u64) -> Result<Cost, MaintenanceError> {
    let bytes = live_metadata_bytes(contents)?;
    let mut packs = 0;
    contents.packs.for_each_canonical(|_, slot| {
        packs += u64::from(name_of(slot).first() == Some(&METADATA_KIND));
        Ok(())
    })?;
    let requests = (bytes / window_bytes.max(1)).saturating_add(packs);
    Ok(Cost { bytes, requests })
}
