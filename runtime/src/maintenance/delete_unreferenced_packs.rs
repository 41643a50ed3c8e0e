//! Tasks `full-delete-blobs` and `quick-delete-blobs`: deletes packs that no index entry names, and
//! the markers of dead sessions after their packs.
//!
//! What is old enough by Kopia's rules ([`super::orphan_packs`]) must also be explained
//! ([`super::explain_packs`]). Unexplained packs are kept and named; more of them than a set share
//! stop the task before anything is deleted, since then an index blob is likely lost. The table of
//! contents must have been read after everything that this run has written. A budget may cut the
//! deletion: the first blobs go, all others stay what they are, as after an end half way.
//!
//! Memory: that of the two, then a thousand names. Mirrors Kopia's `repo/maintenance/pack_gc.go`.

use crate::clock::Timestamp;
use crate::kopia::blob_id::session_of;
use crate::repository::active_index::{ActiveIndex, IndexSource};
use crate::repository::content_table::ContentTable;
use crate::repository::index_gaps::check_nothing_vanished;
use crate::repository::sessions::SessionIds;
use crate::repository::{Repository, Workspace};

use super::MaintenanceError;
use super::delete::{Deletable, delete_all};
use super::explain_packs::{Explanation, UnexplainedPack, Verdict};
use super::index_repair::check_sets;
use super::orphan_packs::{BlobCount, Orphan, Orphans, Scope};
use super::safety::Safety;

/// Unexplained packs up to this share of all packs are kept and named; more stop the task. In
/// percent. A lost index blob of one session has tens of packs.
pub const UNEXPLAINED_PERCENT_MAX: u64 = 1;

/// Without epochs: packs up to this share of all packs may hold contents that no index knows, since
/// dropped contents leave no trace there. In percent. Deleting most snapshots of a repository frees
/// more than half of its packs; more than this is rather an index that is lost.
pub const FORGOTTEN_PERCENT_MAX: u64 = 75;

/// Deletions between two looks at whether the repository is still ours to maintain.
const DELETIONS_A_LOOK: usize = 1_000;

/// What decides about packs.
pub struct DeletePacksOptions<'a> {
    /// Which blobs are looked at.
    pub scope: Scope,
    /// The sessions that had a marker before the index was listed.
    pub sessions: &'a SessionIds,
    /// The margins.
    pub safety: &'a Safety,
    /// The storage's time of the run's start: that of the schedule blob.
    pub maintenance_start: Timestamp,
    /// Delete also what is not explained.
    pub accept_unexplained: bool,
    /// Asked before blobs are deleted.
    pub still_ours: &'a dyn Fn() -> Result<(), MaintenanceError>,
}

/// Kopia's statistics of the task, `deleteUnreferencedPacksStats` in the schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteUnreferencedPacksStats {
    /// Blobs that nobody uses and that are old enough.
    pub unreferenced_pack_count: u64,
    /// Their bytes.
    pub unreferenced_total_size: u64,
    /// Blobs that were deleted.
    pub deleted_pack_count: u64,
    /// Their bytes.
    pub deleted_total_size: u64,
    /// Blobs that nobody uses and that are kept for their age or their session.
    pub retained_pack_count: u64,
    /// Their bytes.
    pub retained_total_size: u64,
}

/// What is to be deleted.
pub struct DeletePacksPlan {
    orphans: Orphans,
    explanation: Explanation,
    has_epochs: bool,
    /// Blobs that may be deleted now.
    deletions_max: u64,
}

/// What the task did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DeletePacksReport {
    /// What the schedule records.
    pub stats: DeleteUnreferencedPacksStats,
    /// Packs that are kept since they are not explained.
    pub unexplained: u64,
    /// The first of them.
    pub named: Vec<UnexplainedPack>,
    /// Blobs that may go and are left for later: more than the plan was limited to.
    pub left: u64,
}

impl DeletePacksPlan {
    /// Finds and explains. Deletes nothing.
    ///
    /// # Errors
    /// An index that is not complete, or whose sets differ; a pack in use that is gone; a marker
    /// that cannot be read.
    pub fn make(
        repository: &Repository,
        workspace: &Workspace,
        active: &ActiveIndex,
        table: &ContentTable,
        options: &DeletePacksOptions<'_>,
    ) -> Result<Self, MaintenanceError> {
        check_index(repository, workspace, active)?;
        let start = options.maintenance_start;
        let (scope, safety) = (options.scope, options.safety);
        let read = (options.sessions, table);
        let orphans = Orphans::find(repository, workspace, read, scope, safety, start)?;
        let explanation = Explanation::find(repository, workspace, table, &orphans)?;
        Ok(Self {
            orphans,
            explanation,
            has_epochs: repository.format.epochs.enabled,
            deletions_max: u64::MAX,
        })
    }

    /// Limits how many blobs are deleted; all are explained in any case.
    #[must_use]
    pub fn with_at_most(mut self, deletions: u64) -> Self {
        self.deletions_max = deletions;
        self
    }

    /// Returns what the task would record if it ended here.
    pub fn stats(&self) -> DeleteUnreferencedPacksStats {
        DeleteUnreferencedPacksStats {
            unreferenced_pack_count: self.orphans.unreferenced.count,
            unreferenced_total_size: self.orphans.unreferenced.bytes,
            retained_pack_count: self.orphans.retained.count,
            retained_total_size: self.orphans.retained.bytes,
            ..DeleteUnreferencedPacksStats::default()
        }
    }

    /// Stops where too many packs are not explained.
    pub fn check(&self, options: &DeletePacksOptions<'_>) -> Result<(), MaintenanceError> {
        let (found, listed) = (&self.explanation, self.orphans.listed.count);
        let (suspect, percent) = if self.has_epochs {
            (found.unexplained(), UNEXPLAINED_PERCENT_MAX)
        } else {
            (found.unexplained(), FORGOTTEN_PERCENT_MAX)
        };
        if suspect * 100 <= listed * percent || suspect == 0 {
            return Ok(());
        }
        if options.accept_unexplained {
            tracing::warn!(
                unexplained = suspect,
                "accepted: packs that are not explained"
            );
            return Ok(());
        }
        let examples = found.named.iter().take(3);
        let examples: Vec<String> = examples
            .map(|named| format!("{}: {}", named.pack, named.reason))
            .collect();
        Err(MaintenanceError::UnexplainedPacks {
            unexplained: suspect,
            listed,
            examples: examples.join("; "),
        })
    }

    /// Deletes: packs first, then markers.
    ///
    /// # Errors
    /// As [`DeletePacksPlan::check`], before anything is deleted.
    pub fn execute(
        mut self,
        repository: &Repository,
        workspace: &Workspace,
        options: &DeletePacksOptions<'_>,
    ) -> Result<DeletePacksReport, MaintenanceError> {
        self.check(options)?;
        let mut report = DeletePacksReport {
            stats: self.stats(),
            ..DeletePacksReport::default()
        };
        let progress = &workspace.progress;
        let count = self.orphans.unreferenced.count.min(self.deletions_max);
        progress.begin("delete packs", "blobs", Some(count));
        for markers in [false, true] {
            self.delete(repository, workspace, options, markers, &mut report)?;
        }
        progress.end();
        if report.unexplained > 0 {
            report.named = self.explanation.named;
        }
        Ok(report)
    }

    /// Deletes all packs, or all markers, that may go, up to the maximum.
    fn delete(
        &mut self,
        repository: &Repository,
        workspace: &Workspace,
        options: &DeletePacksOptions<'_>,
        markers: bool,
        report: &mut DeletePacksReport,
    ) -> Result<(), MaintenanceError> {
        let mut deletions = Vec::with_capacity(DELETIONS_A_LOOK);
        let (mut rows, mut number) = (self.orphans.stream(), 0);
        let mut going = BlobCount::default();
        loop {
            let orphan = rows.next()?;
            let is_last = orphan.is_none();
            if let Some(orphan) = orphan.filter(|orphan| orphan.is_marker() == markers) {
                let length = orphan.length;
                match self.may_go(number, &orphan, options) {
                    Some(_) if self.deletions_max == 0 => self.leave(&orphan, report),
                    Some(deletion) => {
                        self.deletions_max -= 1;
                        going.add(length);
                        deletions.push(deletion);
                    }
                    None if !markers => report.unexplained += 1,
                    None => {}
                }
            }
            number += 1;
            if deletions.len() == DELETIONS_A_LOOK || (is_last && !deletions.is_empty()) {
                (options.still_ours)()?;
                let batch = std::mem::replace(&mut deletions, Vec::with_capacity(DELETIONS_A_LOOK));
                workspace.progress.advance(batch.len() as u64);
                delete_all(&repository.storage, batch)?;
                report.stats.deleted_pack_count += std::mem::take(&mut going.count);
                report.stats.deleted_total_size += std::mem::take(&mut going.bytes);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Leaves a blob for later: what explains it must stay as long.
    fn leave(&mut self, orphan: &Orphan, report: &mut DeletePacksReport) {
        report.left += 1;
        if orphan.session_expired && !orphan.is_marker() {
            // At most one for each session with a marker.
            let session = session_of(orphan.blob.as_str()).map(str::to_owned);
            self.orphans.kept_sessions.extend(session);
        }
    }

    /// Returns the deletion of an orphan, if nothing speaks against it.
    fn may_go(
        &self,
        number: u64,
        orphan: &Orphan,
        options: &DeletePacksOptions<'_>,
    ) -> Option<Deletable> {
        if orphan.is_marker() {
            let session = session_of(orphan.blob.as_str());
            let kept = session.is_some_and(|id| self.orphans.kept_sessions.contains(id));
            let because = "its session is dead, and its packs are gone";
            return (!kept).then(|| Deletable::checked(orphan.blob.clone(), because));
        }
        let because = match self.explanation.verdict(number) {
            Verdict::Explained if orphan.session_expired => "its session died without an index",
            Verdict::Explained => "every content of it is elsewhere or dropped",
            Verdict::UnknownContents if !self.has_epochs => "no entry names it",
            _ if options.accept_unexplained => "the user accepts that it is not explained",
            _ => return None,
        };
        Some(Deletable::checked(orphan.blob.clone(), because))
    }
}

/// Stops where the index is not what a reader could choose with certainty.
pub(super) fn check_index(
    repository: &Repository,
    workspace: &Workspace,
    active: &ActiveIndex,
) -> Result<(), MaintenanceError> {
    match &active.source {
        IndexSource::Epochs(state) => {
            check_nothing_vanished(state, &active.uncompacted)?;
            check_sets(repository, workspace, state, &active.uncompacted)
        }
        IndexSource::V0(set) => Ok(set.check_nothing_lost()?),
    }
}
