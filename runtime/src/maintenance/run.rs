//! `careen run`: a quick or full maintenance cycle by Kopia's protocol.
//!
//! Owner, the scheduling strategy, Kopia's lock file, lease, clocks; then the tasks in the order
//! that was chosen, each recorded in the schedule as it ended. A task that fails ends the cycle.
//! Only a whole cycle that succeeded moves the schedule's next times; whatever else happens, what
//! is due stays due. A kill at any moment leaves a lease that ends by itself. Memory: that of the
//! largest task. Mirrors `RunExclusive` and `Run` of Kopia's `repo/maintenance/maintenance_run.go`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::kopia::maintenance_params::MaintenanceParams;
use crate::kopia::schedule::{RunInfo, UNSET};
use crate::repository::epochs::EpochState;
use crate::repository::{Repository, Workspace};

use super::MaintenanceError;
use super::advance_deletion_watermark::advance_deletion_watermark;
use super::budget::Budget;
use super::cleanup_logs::cleanup_logs;
use super::compact_indexes_v0::{CompactionV0, settle_time};
use super::cycle_plan::{PlannedTask, Verdict, Wanted, gate, gc_first};
use super::cycle_task::{Cycle, CycleTask};
use super::expire_snapshots::{ExpireOptions, ExpirePlan};
use super::halt::Halt;
use super::holder::Holder;
use super::index_plan;
use super::index_tasks::{Done, IndexTasks};
use super::interlocks::{Gate, History, safe_drop_time};
use super::lease::wait_for_lease;
use super::local_lock::LocalLock;
use super::owner::Identity;
use super::pack_tasks::PackTasks;
use super::retention::{Retention, Zone};
use super::run_plan::{Prepared, RunPlan, index_tasks_of};
use super::run_report::{RunReport, TaskRun};
use super::scheduling::Scheduling;
use super::strategy::Splitting;
use super::task_stats;
use super::watch::{StopFlag, Watch};

/// Longest error that is recorded in the schedule, in bytes: the blob is rewritten every time.
const ERROR_BYTES_MAX: usize = 1_000;
/// Times of contents are whole seconds.
const CONTENT_TIME_STEP: Duration = Duration::from_secs(1);

/// How a run is to go.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Cycle, tasks, margins.
    pub wanted: Wanted,
    /// Who we act as.
    pub owner: Identity,
    /// Kopia's config file, whose lock is taken.
    pub config: Option<PathBuf>,
    /// Delete also packs that are not explained.
    pub accept_unexplained: bool,
    /// Expire snapshots before the first task of a full cycle; without it none are.
    pub expire: Option<ExpireOptions>,
    /// Local time, for the scheduling strategy.
    pub zone: Zone,
    /// Which process this is, for the lease; without it the lease of a run that is killed ends by
    /// its time only.
    pub holder: Option<Holder>,
    /// How long to wait for another run's lease to end.
    pub retry_lock: Duration,
    /// Set from outside to end the run at the next storage operation.
    pub stop: StopFlag,
}

/// Who decides. Those that are asked once are dropped after that, with the memory that they hold.
pub struct Strategies<'a> {
    /// Which tasks run.
    pub scheduling: Box<dyn Scheduling + 'a>,
    /// The shape of index sets, and which packs are rewritten.
    pub splitting: Box<dyn Splitting + 'a>,
    /// Which snapshots are kept; needed where [`RunOptions::expire`] is set.
    pub retention: Option<Box<dyn Retention + 'a>>,
}

/// What happens during a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// Another run is at work, or has crashed, until this moment unless it renews its lease: it is
    /// waited for.
    Waits(&'a str, Timestamp),
    /// It was decided what will be done.
    Planned(&'a RunPlan),
    /// A task begins.
    Started(CycleTask),
    /// A task does not run, after all or as planned.
    Skipped(&'a PlannedTask),
    /// A task has ended, well or not.
    Ended(&'a TaskRun),
}

/// Plans and runs.
///
/// # Errors
/// Whatever stops the run; what was done before is recorded and told by the events.
pub fn run(
    repository: &Repository,
    workspace: &Workspace,
    strategies: Strategies<'_>,
    options: &RunOptions,
    on_event: &mut dyn FnMut(&Event<'_>),
) -> Result<RunReport, MaintenanceError> {
    let halt = Halt::new(&options.stop, workspace);
    let Strategies {
        mut scheduling,
        mut splitting,
        retention,
    } = strategies;
    let guarded = halt.guarded(repository);
    let (prepared, owner) = prepare(&guarded, workspace, &mut *scheduling, options, on_event)
        .map_err(|error| halt.reason(error))?;
    drop(scheduling);
    let plan = prepared.plan;
    let Some(cycle) = plan.cycle.cycle else {
        return Ok(RunReport::nothing(plan.cycle));
    };
    on_event(&Event::Planned(&plan));
    let _lock = options.config.as_deref().map(LocalLock::take).transpose()?;
    let began = repository.clock.now();
    let (stop, holder) = (Arc::clone(&options.stop), options.holder.clone());
    let (watch, anchor) = Watch::begin(repository, stop, holder)?;
    let watched = watch.watched();
    halt.watched_by(&watch);
    let index_options = index_plan::Options {
        tasks: index_tasks_of(&plan.cycle),
        unsettled: false,
        owner: options.owner.clone(),
    };
    let still_ours = || watch.still_ours();
    let stopped = || options.stop.load(std::sync::atomic::Ordering::SeqCst);
    let pack_run = (options.wanted.safety, owner.clone(), anchor.start);
    let mut packs = PackTasks::new(&watched, workspace, pack_run, &still_ours, &stopped);
    packs.accept_unexplained = options.accept_unexplained;
    let mut work = Work {
        packs,
        watch: &watch,
        repository: &watched,
        workspace,
        options,
        params: &prepared.params,
        cycle,
        history: anchor.history,
        index: IndexTasks::new(&watched, workspace, &mut *splitting, index_options),
        report: RunReport::of(cycle, owner),
    };
    let compact_manifests = plan.compact_manifests.is_some();
    if let Err(error) = work
        .expire(retention)
        .and_then(|()| work.first(compact_manifests))
        .and_then(|()| work.all(&plan.cycle.tasks, on_event))
    {
        let error = watch.reason(error);
        watch.release();
        return Err(error);
    }
    let mut report = work.report;
    let whole = options.wanted.tasks.is_empty() && !report.has_left();
    let next = watch.finish(whole.then_some(cycle), began, &prepared.params)?;
    let requests = repository.storage.counters();
    report.ended(next, workspace.scratch.peak_bytes(), requests);
    Ok(report)
}

/// Plans, once no other run has a lease, or says that one has when the time to wait is over.
fn prepare(
    guarded: &Repository,
    workspace: &Workspace,
    scheduling: &mut dyn Scheduling,
    options: &RunOptions,
    on_event: &mut dyn FnMut(&Event<'_>),
) -> Result<(Prepared, String), MaintenanceError> {
    let clock = &guarded.clock;
    let give_up = clock.now().plus(options.retry_lock);
    let (mut prepared, owner) = loop {
        let made = Prepared::make(guarded, workspace, options)
            .and_then(|prepared| prepared.may_run(clock.now()));
        match made {
            Err(MaintenanceError::Leased { run, until }) if clock.now() < give_up => {
                on_event(&Event::Waits(&run, until));
                wait_for_lease(guarded, &options.stop, until, give_up)?;
            }
            made => break made?,
        }
    };
    prepared.ask(guarded, workspace, scheduling, options)?;
    Ok((prepared, owner))
}

/// A cycle at work.
struct Work<'a> {
    watch: &'a Watch,
    repository: &'a Repository,
    workspace: &'a Workspace,
    options: &'a RunOptions,
    params: &'a MaintenanceParams,
    cycle: Cycle,
    history: History,
    index: IndexTasks<'a>,
    packs: PackTasks<'a>,
    report: RunReport,
}

impl Work<'_> {
    /// Expires snapshots, where that was asked for and the cycle is a full one.
    fn expire(
        &mut self,
        retention: Option<Box<dyn Retention + '_>>,
    ) -> Result<(), MaintenanceError> {
        let (Cycle::Full, Some(mut retention), Some(options)) =
            (self.cycle, retention, &self.options.expire)
        else {
            return Ok(());
        };
        let (repository, workspace) = (self.repository, self.workspace);
        let plan = ExpirePlan::make(repository, workspace, &mut *retention, options)?;
        drop(retention);
        self.watch.check_stop()?;
        self.watch.still_ours()?;
        let owner = self.packs.owner.clone();
        self.report.expired = Some(plan.execute(repository, workspace, &owner)?);
        Ok(())
    }

    /// Does what is no task of the schedule.
    fn first(&mut self, compact_manifests: bool) -> Result<(), MaintenanceError> {
        if compact_manifests {
            self.watch.check_stop()?;
            self.watch.still_ours()?;
            self.report.manifests = Some(self.packs.compact_manifests()?);
        }
        Ok(())
    }

    /// Runs every task that may run, in the order of the plan.
    fn all(
        &mut self,
        rows: &[PlannedTask],
        on_event: &mut dyn FnMut(&Event<'_>),
    ) -> Result<(), MaintenanceError> {
        for row in rows {
            let task = row.task;
            if !self.options.wanted.wants(task) {
                continue;
            }
            if row.verdict == Verdict::Left {
                self.skip(row.clone(), on_event);
                continue;
            }
            let gate = self.gate(task);
            if !gate.is_open() {
                self.skip(PlannedTask::of(task, gate), on_event);
                continue;
            }
            self.watch.enter(task)?;
            on_event(&Event::Started(task));
            let before = self.repository.storage.counters();
            let start = self.repository.clock.now();
            let outcome = self.task(task, &row.budget);
            if let Ok(Done {
                left: Some(why), ..
            }) = &outcome
            {
                self.watch.leave(task)?;
                self.skip(PlannedTask::not_run(task, Verdict::Left, why), on_event);
                continue;
            }
            if task == CycleTask::AdvanceEpoch && outcome.is_ok() {
                self.report.write_epoch_since = self.index.write_epoch_since();
            }
            let end = self.repository.clock.now();
            let requests = self.repository.storage.counters().since(&before);
            let has_written = requests.puts + requests.deletes > 0;
            let recorded = self.record(task, (start, end), &outcome, has_written);
            let requests = self.repository.storage.counters().since(&before);
            let run = TaskRun::new(task, start, end, &outcome, requests);
            on_event(&Event::Ended(&run));
            self.report.tasks.push(run);
            outcome?;
            recorded?;
        }
        self.watch.check_stop()
    }

    fn skip(&mut self, row: PlannedTask, on_event: &mut dyn FnMut(&Event<'_>)) {
        on_event(&Event::Skipped(&row));
        self.report.skipped.push(row);
    }

    /// Judges a task on what was recorded until now.
    fn gate(&self, task: CycleTask) -> Gate {
        let (wanted, now) = (&self.options.wanted, self.repository.clock.now());
        let collected = |run: &TaskRun| run.task == CycleTask::SnapshotGc && run.success;
        if wanted.waits_for_gc(task) && !self.report.tasks.iter().any(collected) {
            return gc_first();
        }
        gate(task, self.cycle, &self.history, wanted, self.params, now)
    }

    /// Does a task, unless it would exceed its budget.
    fn task(&mut self, task: CycleTask, budget: &Budget) -> Result<Done, MaintenanceError> {
        match task {
            CycleTask::SnapshotGc
            | CycleTask::FullRewriteContents
            | CycleTask::QuickRewriteContents
            | CycleTask::FullDeleteBlobs
            | CycleTask::QuickDeleteBlobs
            | CycleTask::ExtendBlobRetentionTime => {
                return self.packs.run(task, self.index.splitting(), budget);
            }
            CycleTask::FullDropDeletedContent
            | CycleTask::IndexCompaction
            | CycleTask::CleanupLogs => self.packs.forget(),
            _ => self.index.offer(self.packs.take_listing()),
        }
        match task {
            CycleTask::FullDropDeletedContent => self.drop_deleted(),
            CycleTask::IndexCompaction => {
                let compaction = CompactionV0::quick(self.settle());
                self.compact_v0(&compaction, "no index blobs are to be merged")
            }
            CycleTask::CleanupLogs => self.clean_logs(),
            _ => self.index.run(task, budget),
        }
    }

    /// Writes the run of a task into the schedule. What is not recorded did not succeed: later
    /// tasks rely on it. A failure that cannot be recorded is the smaller problem of the two.
    fn record(
        &mut self,
        task: CycleTask,
        (start, end): (Timestamp, Timestamp),
        outcome: &Result<Done, MaintenanceError>,
        has_written: bool,
    ) -> Result<(), MaintenanceError> {
        match outcome {
            Ok(done) => {
                let extra = done.extra.iter().cloned().collect();
                self.watch
                    .report(task, RunInfo::succeeded(start, end, extra), has_written)?;
                self.history.add(task, start, end);
            }
            Err(error) => {
                let text = shortened(self.watch.text(error));
                let failed = RunInfo::failed(start, end, text);
                if let Err(error) = self.watch.report(task, failed, has_written) {
                    tracing::warn!(%task, %error, "the failure is not recorded");
                }
            }
        }
        Ok(())
    }

    /// Moves the deletion watermark to the safe time. Like Kopia, a time before it is nothing to
    /// do: an earlier run without margins has moved it further.
    fn drop_deleted(&self) -> Result<Done, MaintenanceError> {
        let now = self.repository.clock.now();
        let safety = &self.options.wanted.safety;
        let Ok(mut before) = safe_drop_time(&self.history, safety, now) else {
            let nothing = task_stats::compact_indexes(None);
            return Ok(Done::new(nothing, "no safe time"));
        };
        if !safety.require_two_gc_cycles {
            before = before.max(self.own_tombstones());
        }
        if !self.repository.format.epochs.enabled {
            let compaction = CompactionV0::drop_deleted(before, self.settle());
            return self.compact_v0(&compaction, "there is nothing to drop");
        }
        let current = EpochState::load_watermark_seconds(&self.repository.storage)?;
        if current.is_some_and(|current| before < Timestamp::from_seconds(current)) {
            let what = "the deletion watermark is later already";
            return Ok(Done::new(task_stats::compact_indexes(None), what));
        }
        advance_deletion_watermark(self.repository, current, before.seconds())?;
        let what = format!("what was deleted up to {before} is forgotten");
        Ok(Done::new(task_stats::compact_indexes(Some(before)), what))
    }

    /// Returns a moment after every tombstone that this run has written and copied once more. A
    /// copy is a second younger, so in a run of less than a second it would outlive the drop; in a
    /// slower run it does not. On a clock that stands still nothing is slower.
    fn own_tombstones(&self) -> Timestamp {
        let copies = self.report.tasks.iter().filter(|run| {
            let copying = [
                CycleTask::FullRewriteContents,
                CycleTask::QuickRewriteContents,
            ];
            run.success && run.end > run.start && copying.contains(&run.task)
        });
        let ends = copies.map(|run| run.start.plus(CONTENT_TIME_STEP));
        ends.max().unwrap_or(UNSET)
    }

    /// Merges index blobs of a repository without epochs.
    fn compact_v0(
        &self,
        compaction: &CompactionV0,
        nothing: &str,
    ) -> Result<Done, MaintenanceError> {
        let outcome = compaction.run(self.repository, self.workspace, &mut |_| {})?;
        let extra = outcome.extra();
        let rows: Vec<String> = outcome
            .report
            .tasks
            .into_iter()
            .map(|row| row.what)
            .collect();
        let what = match rows.is_empty() {
            true => nothing.to_owned(),
            false => rows.join("; "),
        };
        Ok(Done::new(extra, what))
    }

    /// Returns how long a replaced index blob without epochs stays.
    fn settle(&self) -> Duration {
        settle_time(
            self.options
                .wanted
                .safety
                .disable_eventual_consistency_safety,
        )
    }

    fn clean_logs(&self) -> Result<Done, MaintenanceError> {
        let retention = self.params.log_retention.or_default();
        let cleaned = cleanup_logs(self.repository, self.workspace, &retention)?;
        let what = format!(
            "{} logs deleted, {} stay",
            cleaned.deleted, cleaned.retained
        );
        Ok(Done::new(task_stats::cleanup_logs(&cleaned), what))
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > ERROR_BYTES_MAX {
        let end = text.floor_char_boundary(ERROR_BYTES_MAX);
        text.truncate(end);
    }
    text
}
