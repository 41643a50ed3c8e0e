//! Task `index-compaction`, and the part of `full-drop-deleted-content` that an index without
//! epochs needs: merges index blobs into few, and writes the log by which readers use those.
//!
//! Tombstones may only be dropped where every index blob is merged, else what they delete would
//! come back. All blobs that readers use are read in any case: the owner's manifest may be in any
//! of them, and nothing is deleted on the word of a blob that cannot be read. Memory: that of a
//! load and a merge. Mirrors `Compact` of Kopia's `index_blob_manager_v0.go`.

use std::time::Duration;

use crate::clock::{Stopwatch, Timestamp};
use crate::kopia::schedule::{Extra, UNSET};
use crate::repository::active_index::with_fresh_listings;
use crate::repository::index_load::{Input, InputBlobs, Loaded, Strictness, load};
use crate::repository::index_set_v0::{
    CHOSEN_GROUP, CompactionRule, IndexSetV0, OTHER_GROUP, SETTLE_TIME,
};
use crate::repository::index_writer::{IndexOutput, write_indexes_as};
use crate::repository::index_writer_v0::{write_compacted_v0, write_compaction_log};
use crate::repository::system_contents::maintenance_params;
use crate::repository::{Repository, RepositoryError, Workspace};

use super::MaintenanceError;
use super::cleanup_indexes_v0::{CleanupStats, cleanup_indexes_v0};
use super::index_maintenance::task;
use super::index_plan::Report;
use super::index_plan_v0::{PlanV0, TASK};
use super::owner::Identity;
use super::strategy::SHARD_ENTRIES_MAX;

/// Kopia's name of the statistics.
const STATS_KIND: &str = "compactIndexesStats";

/// A compaction to be done.
#[derive(Clone, Debug)]
pub struct CompactionV0 {
    /// Whether every index blob is merged, instead of the small ones when there are many.
    pub everything: bool,
    /// Drops tombstones from before this moment; only with `everything`.
    pub drop_deleted_before: Option<Timestamp>,
    /// How long a replaced blob stays, by the storage's clock: [`SETTLE_TIME`], or nothing at all
    /// under Kopia's `--safety=none`.
    pub settle: Duration,
    /// Who we act as; `None` where the caller has checked it.
    pub owner: Option<Identity>,
    /// Entries after which an index blob ends; at most [`SHARD_ENTRIES_MAX`].
    pub shard_entries: u64,
}

/// What a compaction has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeV0 {
    /// What it did, for people and programs.
    pub report: Report,
    /// Whether index blobs were merged.
    pub compacted: bool,
    /// The moment before which deleted contents were dropped.
    pub dropped_before: Option<Timestamp>,
    /// What was deleted.
    pub cleanup: CleanupStats,
}

impl OutcomeV0 {
    /// Returns the statistics as Kopia's schedule records them: `null` when nothing was merged.
    pub fn extra(&self) -> Extra {
        if !self.compacted {
            return Extra::new(STATS_KIND, serde_json::Value::Null);
        }
        let before = self.dropped_before.unwrap_or(UNSET);
        let time = match before {
            UNSET => "0001-01-01T00:00:00Z".to_owned(),
            before => before.to_string(),
        };
        let data = serde_json::json!({ "droppedContentsDeletedBefore": time });
        Extra::new(STATS_KIND, data)
    }
}

impl CompactionV0 {
    /// Returns Kopia's quick compaction.
    pub fn quick(settle: Duration) -> Self {
        Self {
            everything: false,
            drop_deleted_before: None,
            settle,
            owner: None,
            shard_entries: SHARD_ENTRIES_MAX,
        }
    }

    /// Returns Kopia's compaction that drops contents deleted before `before`.
    pub fn drop_deleted(before: Timestamp, settle: Duration) -> Self {
        Self {
            everything: true,
            drop_deleted_before: Some(before),
            ..Self::quick(settle)
        }
    }

    /// Returns this compaction, to be done by `owner` only.
    #[must_use]
    pub fn as_owner(self, owner: Identity) -> Self {
        Self {
            owner: Some(owner),
            ..self
        }
    }

    /// Makes the plan. Writes nothing.
    pub fn plan(
        &self,
        repository: &Repository,
        workspace: &Workspace,
    ) -> Result<PlanV0, MaintenanceError> {
        Ok(self.survey(repository, workspace)?.1)
    }

    /// Plans and runs. A blob that vanishes while it is read (another client at work) is a fresh
    /// listing, at most ten times.
    pub fn run(
        &self,
        repository: &Repository,
        workspace: &Workspace,
        on_plan: &mut dyn FnMut(&PlanV0),
    ) -> Result<OutcomeV0, MaintenanceError> {
        let watch = Stopwatch::start();
        let (set, plan, loaded) = with_fresh_listings(|| {
            let (set, plan) = self.survey(repository, workspace)?;
            on_plan(&plan);
            workspace.scratch.require(plan.scratch_bytes)?;
            let loaded = match self.owner.is_some() || !plan.is_empty() {
                true => Some(self.load(repository, workspace, &set, &plan)?),
                false => None,
            };
            Ok((set, plan, loaded))
        })?;
        let mut outcome = OutcomeV0 {
            report: Report::default(),
            compacted: false,
            dropped_before: None,
            cleanup: CleanupStats::default(),
        };
        let report = &mut outcome.report;
        report
            .phases
            .push(("load", watch.elapsed().as_millis() as u64));
        if let (Some(owner), Some(loaded)) = (&self.owner, &loaded) {
            let params = maintenance_params(repository, workspace, loaded)?;
            let recorded = params.map(|params| params.owner).unwrap_or_default();
            report.owner = owner.check(&recorded)?;
        }
        let mut compacted = None;
        if let Some(loaded) = loaded.filter(|_| plan.compacts()) {
            compacted = Some(self.compact(repository, workspace, &set, &plan, loaded, report)?);
            outcome.compacted = true;
            outcome.dropped_before = self.drop_deleted_before;
        }
        drop(set);
        outcome.cleanup = self.clean(repository, workspace, compacted, &mut outcome.report)?;
        outcome.report.scratch_peak_bytes = workspace.scratch.peak_bytes();
        Ok(outcome)
    }

    fn survey(
        &self,
        repository: &Repository,
        workspace: &Workspace,
    ) -> Result<(IndexSetV0, PlanV0), RepositoryError> {
        let set = IndexSetV0::load(repository, workspace)?;
        set.check_nothing_lost()?;
        let max_pack_size = repository.format.max_pack_size;
        let rule = match self.everything {
            true => CompactionRule::everything(max_pack_size),
            false => CompactionRule::quick(max_pack_size),
        };
        let before = self.drop_deleted_before.filter(|_| self.everything);
        let candidates = rule.choose(&set)?;
        let plan = PlanV0::make(&set, workspace, candidates, before, self.settle)?;
        Ok((set, plan))
    }

    /// Loads the blobs to be merged, and the others for their system contents.
    fn load(
        &self,
        repository: &Repository,
        workspace: &Workspace,
        set: &IndexSetV0,
        plan: &PlanV0,
    ) -> Result<Loaded, RepositoryError> {
        let names = set.active_names(workspace, &|blob| {
            plan.compacts() && plan.compact.takes(blob)
        })?;
        let input = |target, group| Input {
            target,
            source: 0,
            blobs: InputBlobs::Uncompacted(group),
        };
        let inputs = [input(Some(0), CHOSEN_GROUP), input(None, OTHER_GROUP)];
        let progress = &workspace.progress;
        progress.begin("read index blobs", "blobs", Some(set.active.blobs));
        let strictness = Strictness::ForWriting;
        let loaded = load(repository, workspace, &names, &inputs, strictness);
        progress.end();
        loaded
    }

    /// Merges what was loaded; writes the result and then the log, whose time it returns.
    fn compact(
        &self,
        repository: &Repository,
        workspace: &Workspace,
        set: &IndexSetV0,
        plan: &PlanV0,
        loaded: Loaded,
        report: &mut Report,
    ) -> Result<Timestamp, MaintenanceError> {
        let watch = Stopwatch::start();
        let (blobs_read, entries_read) = (loaded.stats.blobs, loaded.stats.entries);
        let progress = &workspace.progress;
        progress.begin("merge", "entries", Some(loaded.records.records()));
        let output = IndexOutput {
            shard_entries: self.shard_entries.min(SHARD_ENTRIES_MAX),
            drop_deleted_before: plan.drop_deleted_before,
            random_tails: true,
        };
        let finished = write_indexes_as(repository, workspace, &loaded, &output)?;
        progress.end();
        drop(loaded);
        let outputs = write_compacted_v0(repository, workspace, finished)?;
        let (log, time) =
            write_compaction_log(repository, workspace, set, &plan.compact, &outputs)?;
        let merged = plan.compact.chosen.blobs;
        let what = format!("{merged} index blobs into {}, log {log}", outputs.len());
        let mut done = task(TASK, what, &watch);
        (done.blobs_read, done.entries_read) = (blobs_read, entries_read);
        done.written = outputs.into_iter().map(|blob| blob.id).collect();
        done.written.push(log);
        report
            .phases
            .push(("merge and write", watch.elapsed().as_millis() as u64));
        report.tasks.push(done);
        Ok(time)
    }

    fn clean(
        &self,
        repository: &Repository,
        workspace: &Workspace,
        compacted: Option<Timestamp>,
        report: &mut Report,
    ) -> Result<CleanupStats, MaintenanceError> {
        let watch = Stopwatch::start();
        let stats = cleanup_indexes_v0(repository, workspace, compacted, self.settle)?;
        if stats.deleted() + stats.scheduled > 0 {
            let what = format!(
                "deleted {} replaced index blobs, {} compaction logs, {} cleanup entries; \
                 scheduled {} logs",
                stats.index_blobs, stats.logs, stats.entries, stats.scheduled
            );
            let mut done = task(TASK, what, &watch);
            done.deleted = stats.deleted();
            report.tasks.push(done);
        }
        Ok(stats)
    }
}

/// Kopia's quick compaction: task `index-compaction`. The caller has checked the owner.
pub fn quick(
    repository: &Repository,
    workspace: &Workspace,
    settle: Duration,
) -> Result<OutcomeV0, MaintenanceError> {
    CompactionV0::quick(settle).run(repository, workspace, &mut |_| {})
}

/// Task `full-drop-deleted-content`: merges everything and drops contents that were deleted before
/// `before`. The caller has checked the owner.
pub fn drop_deleted(
    repository: &Repository,
    workspace: &Workspace,
    before: Timestamp,
    settle: Duration,
) -> Result<OutcomeV0, MaintenanceError> {
    CompactionV0::drop_deleted(before, settle).run(repository, workspace, &mut |_| {})
}

/// Returns how long replaced blobs stay: Kopia's hour, or not at all where its
/// `DisableEventualConsistencySafety` is set.
pub const fn settle_time(disable_eventual_consistency_safety: bool) -> Duration {
    match disable_eventual_consistency_safety {
        true => Duration::ZERO,
        false => SETTLE_TIME,
    }
}
