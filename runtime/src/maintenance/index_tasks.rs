//! The epoch tasks of a run, one by one: each on its own so that each is recorded on its own.
//!
//! All of them work on one survey, made by the first: as in Kopia, what one of them changes the
//! others of the same run do not see, but for sets that are to be joined. Every settled epoch is
//! compacted in one run, Kopia takes one a run. A blob that vanishes (another client at work) is a
//! fresh survey. Memory: that of index maintenance. Mirrors `runTaskEpochMaintenanceFull` of
//! Kopia's `repo/maintenance/maintenance_run.go`.

use crate::clock::Timestamp;
use crate::kopia::schedule::Extra;
use crate::repository::epoch_blobs::EpochBlobs;
use crate::repository::index_listing::IndexListing;
use crate::repository::{Repository, RepositoryError, Workspace};

use super::MaintenanceError;
use super::advance_epoch::advance_epoch;
use super::budget::{Budget, Cost};
use super::cleanup_epoch_markers::cleanup_epoch_markers;
use super::cycle_task::CycleTask;
use super::index_maintenance::ATTEMPTS_MAX;
use super::index_plan::{EpochWork, Options, Plan, Report};
use super::index_survey::Survey;
use super::strategy::Splitting;
use super::task_stats;

/// What a task leaves.
pub(super) struct Done {
    /// For the schedule.
    pub(super) extra: Option<Extra>,
    /// For people.
    pub(super) what: String,
    /// Why the task was left for later: its budget. Then nothing was written.
    pub(super) left: Option<String>,
    /// Whether its budget left a part of it for later.
    pub(super) cut: bool,
}

impl Done {
    pub(super) fn new(extra: Extra, what: impl Into<String>) -> Self {
        Self {
            extra: Some(extra),
            what: what.into(),
            left: None,
            cut: false,
        }
    }

    /// A task of which its budget allowed a part, where `cut` says so.
    pub(super) fn cut_if(self, cut: bool) -> Self {
        Self { cut, ..self }
    }

    /// A task that its budget does not allow now.
    pub(super) fn left(why: String) -> Self {
        Self {
            extra: None,
            what: String::new(),
            left: Some(why),
            cut: false,
        }
    }
}

/// The epoch tasks of one run.
pub(super) struct IndexTasks<'a> {
    repository: &'a Repository,
    workspace: &'a Workspace,
    splitting: &'a mut dyn Splitting,
    options: Options,
    /// What the next survey is made from, unless it looks for itself.
    listing: Option<IndexListing>,
    survey: Option<Survey>,
}

impl<'a> IndexTasks<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        workspace: &'a Workspace,
        splitting: &'a mut dyn Splitting,
        options: Options,
    ) -> Self {
        Self {
            repository,
            workspace,
            splitting,
            options,
            listing: None,
            survey: None,
        }
    }

    /// Takes a listing that somebody has just made.
    pub(super) fn offer(&mut self, listing: Option<IndexListing>) {
        self.listing = listing;
    }

    /// Lends the strategy, for tasks that are none of these.
    pub(super) fn splitting(&mut self) -> &mut dyn Splitting {
        self.splitting
    }

    /// Runs one of the epoch tasks, unless it would exceed its budget.
    pub(super) fn run(
        &mut self,
        task: CycleTask,
        budget: &Budget,
    ) -> Result<Done, MaintenanceError> {
        let mut attempt = 1;
        loop {
            let survey = self.survey()?;
            if let Some(why) = budget.refuses(survey.cost(task)) {
                // Later tasks must not count on it: the next survey is without it.
                self.options.tasks.retain(|own| own.name() != task.name());
                return Ok(Done::left(why));
            }
            match survey.task(task, self.repository, self.workspace) {
                Err(MaintenanceError::Repository(RepositoryError::Vanished { blob, .. }))
                    if attempt < ATTEMPTS_MAX =>
                {
                    tracing::warn!(blob, attempt, "index blob vanished: listing again");
                    attempt += 1;
                }
                outcome => {
                    self.survey = Some(survey);
                    return outcome;
                }
            }
        }
    }

    /// Returns the survey's plan.
    pub(super) fn plan(&mut self) -> Result<Plan, MaintenanceError> {
        let survey = self.survey()?;
        let plan = survey.plan.clone();
        self.survey = Some(survey);
        Ok(plan)
    }

    /// Returns when the storage took the first index blob of the epoch that writers write to; none
    /// where it has none, or where no task has looked.
    pub(super) fn write_epoch_since(&self) -> Option<Timestamp> {
        let advance = self.survey.as_ref()?.plan.advance.as_ref()?;
        advance.since.filter(|_| !advance.advance)
    }

    fn survey(&mut self) -> Result<Survey, MaintenanceError> {
        match self.survey.take() {
            Some(survey) => Ok(survey),
            None => Survey::make(
                self.repository,
                self.workspace,
                self.listing.take(),
                self.splitting,
                &self.options,
            ),
        }
    }
}

impl Survey {
    /// Returns about what a task reads and writes: each index that it merges once in, once out.
    fn cost(&self, task: CycleTask) -> Cost {
        let epoch = |work: &EpochWork| Cost {
            bytes: work.bytes,
            requests: work.blobs,
        };
        let set = |number: u64| match self.state.single(number) {
            Some(set) => Cost {
                bytes: set.blobs.iter().map(|blob| blob.length).sum(),
                requests: set.blobs.len() as u64,
            },
            // This run compacts it first.
            None => {
                let mut compact = self.plan.compact.iter();
                let work = compact.find(|work| work.epoch == number);
                work.map_or(Cost::default(), epoch)
            }
        };
        let compacted = |cost: Cost| Cost {
            bytes: cost.bytes.saturating_mul(2),
            requests: cost.requests.saturating_add(1),
        };
        let costs: Vec<Cost> = match task {
            CycleTask::CompactSingleEpoch => {
                self.plan.compact.iter().map(epoch).map(compacted).collect()
            }
            CycleTask::GenerateEpochRangeIndex => {
                let ranges = self.plan.join.iter();
                let epochs = ranges.flat_map(|range| u64::from(range.min)..=u64::from(range.max));
                epochs.map(set).map(compacted).collect()
            }
            // The proof reads both sides, then each replaced blob is deleted.
            CycleTask::DeleteSupersededEpochIndexes => {
                let work = self.plan.superseded.iter();
                let proof = work.map(|work| {
                    let deleted = Cost {
                        bytes: 0,
                        requests: work.blobs,
                    };
                    epoch(work).plus(set(work.epoch)).plus(deleted)
                });
                proof.collect()
            }
            _ => Vec::new(),
        };
        costs.into_iter().fold(Cost::default(), Cost::plus)
    }

    fn task(
        &self,
        task: CycleTask,
        repository: &Repository,
        workspace: &Workspace,
    ) -> Result<Done, MaintenanceError> {
        let mut report = Report::default();
        match task {
            CycleTask::CompactSingleEpoch => {
                workspace.scratch.require(self.plan.scratch_bytes)?;
                let bytes = self.compact(repository, workspace, None, &mut report)?;
                Ok(self.compacted(bytes))
            }
            CycleTask::AdvanceEpoch => self.advance(repository),
            CycleTask::GenerateEpochRangeIndex => {
                self.join(repository, workspace, &mut report)?;
                Ok(self.joined())
            }
            CycleTask::CleanupEpochMarkers => {
                let counts = cleanup_epoch_markers(repository, &self.plan)?;
                let (markers, watermarks) = counts;
                let what = format!("{markers} markers and {watermarks} watermarks deleted");
                let counts = self.plan.cut.map(|_| counts);
                Ok(Done::new(task_stats::cleanup_markers(counts), what))
            }
            _ => self.superseded(repository, workspace),
        }
    }

    fn compacted(&self, bytes: u64) -> Done {
        let epochs = &self.plan.compact;
        let Some(last) = epochs.last() else {
            let nothing = task_stats::compact_single_epoch(None);
            return Done::new(nothing, "no settled epoch waits for it");
        };
        let blobs = epochs.iter().map(|work| work.blobs).sum();
        let what = format!(
            "{} epochs, {blobs} index blobs, {bytes} bytes",
            epochs.len()
        );
        let done = Some((blobs, bytes, last.epoch));
        Done::new(task_stats::compact_single_epoch(done), what)
    }

    fn advance(&self, repository: &Repository) -> Result<Done, MaintenanceError> {
        let because = self.plan.advance.as_ref();
        let because = because.map_or("", |advance| advance.because.as_str());
        let epoch = self.state.write_epoch;
        if !self.advances() {
            let what = format!("epoch {epoch} stays: {because}");
            return Ok(Done::new(task_stats::advance_epoch(epoch, false), what));
        }
        advance_epoch(repository, epoch)?;
        let what = format!("writers go on to epoch {}: {because}", epoch + 1);
        Ok(Done::new(task_stats::advance_epoch(epoch + 1, true), what))
    }

    fn joined(&self) -> Done {
        let ranges = &self.plan.join;
        match (ranges.first(), ranges.last()) {
            (Some(first), Some(last)) => {
                let (min, max) = (u64::from(first.min), u64::from(last.max));
                let what = format!("epochs {min} to {max} in {} ranges", ranges.len());
                Done::new(task_stats::generate_range(Some((min, max))), what)
            }
            _ => Done::new(task_stats::generate_range(None), "no range is due"),
        }
    }

    fn superseded(
        &self,
        repository: &Repository,
        workspace: &Workspace,
    ) -> Result<Done, MaintenanceError> {
        let Some(cut) = self.plan.cut else {
            let what = "no index blob in the open epochs tells the storage's time";
            return Ok(Done::new(task_stats::cleanup_superseded(None), what));
        };
        let mut bytes = 0;
        for work in &self.plan.superseded {
            bytes += EpochBlobs::look_up(&repository.storage, &self.uncompacted, work.epoch)?.bytes;
        }
        let blobs = match self.plan.superseded.is_empty() {
            true => 0,
            false => self.delete_superseded(repository, workspace)?.deleted,
        };
        let what = format!("{blobs} index blobs deleted, {bytes} bytes");
        let done = task_stats::cleanup_superseded(Some((cut, blobs, bytes)));
        Ok(Done::new(done, what))
    }
}
