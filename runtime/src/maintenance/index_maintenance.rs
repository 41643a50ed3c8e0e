//! Index maintenance of a repository with epochs: makes the plan, and runs its tasks in Kopia's
//! order.
//!
//! Before the first write the owner is checked, from manifests that are found while the index is
//! read anyway. Every step can be repeated: a crash anywhere leaves a repository that readers read
//! as before, and the next run finds what is left to do. Mirrors the epoch tasks of Kopia's
//! `repo/maintenance/maintenance_run.go`.

use crate::clock::Stopwatch;
use crate::repository::epochs::EpochState;
use crate::repository::index_listing::IndexListing;
use crate::repository::index_load::Loaded;
use crate::repository::system_contents::maintenance_params;
use crate::repository::{Repository, RepositoryError, Workspace};

use super::MaintenanceError;
use super::advance_epoch::advance_epoch;
use super::cleanup_epoch_markers::cleanup_epoch_markers;
use super::compact_epochs::{Output, TARGETS_MAX, WrittenSet, load_round, write_round};
use super::delete_superseded_epoch_indexes::delete_superseded;
use super::index_plan::{Options, Plan, Report, Task, TaskReport};
use super::index_repair::check_sets;
use super::index_survey::Survey;
use super::rescue_unsettled::finish_rescue;
use super::strategy::Splitting;

/// Fresh listings after which a vanished blob is an error.
pub(super) const ATTEMPTS_MAX: u32 = 10;

/// Makes the plan. Writes nothing.
pub fn plan(
    repository: &Repository,
    workspace: &Workspace,
    strategy: &mut dyn Splitting,
    options: &Options,
) -> Result<Plan, MaintenanceError> {
    Ok(Survey::make(repository, workspace, None, strategy, options)?.plan)
}

/// Plans and runs. A blob that vanishes while it is read (another client at work) is a fresh start.
///
/// `listing` is one that was taken just now, while the repository was opened.
pub fn run(
    repository: &Repository,
    workspace: &Workspace,
    mut listing: Option<IndexListing>,
    strategy: &mut dyn Splitting,
    options: &Options,
    on_plan: &mut dyn FnMut(&Plan),
) -> Result<Report, MaintenanceError> {
    let mut attempt = 1;
    loop {
        let survey = Survey::make(repository, workspace, listing.take(), strategy, options)?;
        on_plan(&survey.plan);
        match survey.execute(repository, workspace, options) {
            Err(MaintenanceError::Repository(RepositoryError::Vanished { blob, .. })) => {
                if attempt == ATTEMPTS_MAX {
                    let vanished = RepositoryError::Vanished {
                        blob,
                        attempts: attempt,
                    };
                    return Err(vanished.into());
                }
                tracing::warn!(blob, attempt, "index blob vanished: listing again");
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

impl Survey {
    fn execute(
        self,
        repository: &Repository,
        workspace: &Workspace,
        options: &Options,
    ) -> Result<Report, MaintenanceError> {
        workspace.scratch.require(self.plan.scratch_bytes)?;
        let mut report = Report::default();
        self.compact(repository, workspace, Some(options), &mut report)?;
        if self.advances() {
            let watch = Stopwatch::start();
            advance_epoch(repository, self.state.write_epoch)?;
            let what = format!("writers go on to epoch {}", self.state.write_epoch + 1);
            report
                .tasks
                .push(task(Task::AdvanceEpoch.name(), what, &watch));
        }
        self.join(repository, workspace, &mut report)?;
        if !self.plan.markers.is_empty() || !self.plan.watermarks.is_empty() {
            let watch = Stopwatch::start();
            let (markers, watermarks) = cleanup_epoch_markers(repository, &self.plan)?;
            let what = format!("deleted {markers} markers and {watermarks} watermarks");
            let mut done = task(Task::CleanupEpochMarkers.name(), what, &watch);
            done.deleted = (markers + watermarks) as u64;
            report.tasks.push(done);
        }
        if !self.plan.superseded.is_empty() {
            report
                .tasks
                .push(self.delete_superseded(repository, workspace)?);
        }
        finish_rescue(
            repository,
            workspace,
            &self.state,
            &self.uncompacted,
            &self.plan,
            &mut report,
        )?;
        report.scratch_peak_bytes = workspace.scratch.peak_bytes();
        Ok(report)
    }

    /// Returns whether writers go on to the next epoch.
    pub(super) fn advances(&self) -> bool {
        let advance = self.plan.advance.as_ref();
        advance.is_some_and(|advance| advance.advance)
    }

    /// Deletes the uncompacted blobs that sets have replaced for long enough.
    pub(super) fn delete_superseded(
        &self,
        repository: &Repository,
        workspace: &Workspace,
    ) -> Result<TaskReport, MaintenanceError> {
        let epochs: Vec<u64> = self.plan.superseded.iter().map(|work| work.epoch).collect();
        delete_superseded(
            repository,
            workspace,
            &self.state,
            &self.uncompacted,
            &epochs,
        )
    }

    /// Compacts settled epochs and merges open ones, round by round. With `unchecked` options the
    /// owner is checked in the first round, which then reads the whole index. Returns the stored
    /// bytes that were read.
    pub(super) fn compact(
        &self,
        repository: &Repository,
        workspace: &Workspace,
        unchecked: Option<&Options>,
        report: &mut Report,
    ) -> Result<u64, MaintenanceError> {
        let outputs = self.outputs();
        // Before anything is loaded: it needs the same memory.
        check_sets(repository, workspace, &self.state, &self.uncompacted)?;
        let rounds = outputs.chunks(TARGETS_MAX);
        let rounds: Vec<&[Output]> = match (outputs.is_empty(), unchecked) {
            (true, Some(_)) => vec![&[]],
            _ => rounds.collect(),
        };
        let mut stored_bytes = 0;
        for (number, round) in rounds.into_iter().enumerate() {
            let watch = Stopwatch::start();
            let (state, names) = (&self.state, &self.uncompacted);
            let check = unchecked.filter(|_| number == 0);
            let everything = check.is_some();
            let loaded = load_round(repository, workspace, state, names, round, everything)?;
            report
                .phases
                .push(("load", watch.elapsed().as_millis() as u64));
            if let Some(options) = check {
                report.owner = check_owner(repository, workspace, &loaded, options)?;
            }
            if round.is_empty() {
                break;
            }
            stored_bytes += loaded.stats.stored_bytes;
            let (blobs_read, entries_read) = (loaded.stats.blobs, loaded.stats.entries);
            let merging = Stopwatch::start();
            let shard_entries = self.plan.shard_entries;
            let sets = write_round(repository, workspace, loaded, round, shard_entries)?;
            report
                .phases
                .push(("merge and write", merging.elapsed().as_millis() as u64));
            for set in sets {
                let mut done = written_report(set, &watch);
                (done.blobs_read, done.entries_read) = (blobs_read, entries_read);
                report.tasks.push(done);
            }
        }
        Ok(stored_bytes)
    }

    /// Returns the sets that compaction and rescue write.
    fn outputs(&self) -> Vec<Output> {
        let singles = self.plan.compact.iter();
        let singles = singles.map(|work| Output::Single(work.epoch));
        let open = self.plan.rescue.iter();
        let open = open.filter(|rescue| rescue.needs_merge());
        let open = open.map(|rescue| Output::Uncompacted(rescue.work.epoch));
        singles.chain(open).collect()
    }

    pub(super) fn join(
        &self,
        repository: &Repository,
        workspace: &Workspace,
        report: &mut Report,
    ) -> Result<(), MaintenanceError> {
        for range in &self.plan.join {
            let watch = Stopwatch::start();
            // Sets that this run has written are inputs now; the settled epochs are those of the
            // plan.
            let state = EpochState::load(&repository.storage)?;
            let (min, max) = (u64::from(range.min), u64::from(range.max));
            if state.chain_end() != min || !self.state.is_settled(max) {
                let what = format!("the range chain ends before epoch {}", state.chain_end());
                return Err(MaintenanceError::Changed { what });
            }
            let outputs = [Output::Range(min, max)];
            let names = &self.uncompacted;
            let loaded = load_round(repository, workspace, &state, names, &outputs, false)?;
            let counts = (loaded.stats.blobs, loaded.stats.entries);
            let shard_entries = self.plan.shard_entries;
            for set in write_round(repository, workspace, loaded, &outputs, shard_entries)? {
                let mut done = written_report(set, &watch);
                (done.blobs_read, done.entries_read) = counts;
                report.tasks.push(done);
            }
        }
        Ok(())
    }
}

/// Checks that the recorded owner is who we act as.
pub(super) fn check_owner(
    repository: &Repository,
    workspace: &Workspace,
    loaded: &Loaded,
    options: &Options,
) -> Result<String, MaintenanceError> {
    let params = maintenance_params(repository, workspace, loaded)?;
    let recorded = params.map(|params| params.owner).unwrap_or_default();
    options.owner.check(&recorded)
}

pub(super) fn task(name: &'static str, what: String, watch: &Stopwatch) -> TaskReport {
    TaskReport {
        task: name,
        what,
        blobs_read: 0,
        entries_read: 0,
        written: Vec::new(),
        deleted: 0,
        milliseconds: watch.elapsed().as_millis() as u64,
    }
}

fn written_report(set: WrittenSet, watch: &Stopwatch) -> TaskReport {
    let shards = set.blobs.len();
    let (name, what) = match set.output {
        Output::Single(epoch) => (
            Task::CompactSingleEpoch.name(),
            format!("epoch {epoch} into {shards} index blobs"),
        ),
        Output::Range(first, last) => (
            Task::GenerateEpochRangeIndex.name(),
            format!("epochs {first} to {last} into {shards} index blobs"),
        ),
        Output::Uncompacted(epoch) => (
            "rescue-open-epoch",
            format!("open epoch {epoch} into {shards} more index blobs"),
        ),
    };
    TaskReport {
        written: set.blobs,
        ..task(name, what, watch)
    }
}
