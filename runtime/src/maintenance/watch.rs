//! Watches over a run: keeps its lease, records its tasks in the schedule, and ends it when it is
//! told to, when another maintainer has written, or when the repository is being upgraded.
//!
//! It is asked before every storage operation ([`Guard`]): each is a moment at which nothing is
//! lost by ending. Most of the time that is two loads and a look at the clock; [`RENEW_AFTER`] the
//! last time it reads the format blob again and renews the lease, however often tasks have renewed
//! it meanwhile, and a schedule that is not as we left it ends the run; one that we left so by a
//! write that was told to have failed is ours. The schedule is read, changed and written each time;
//! a store that replaces by version saves the reading, and then nobody can write in between. What a
//! task reports that has written nothing waits for the next write. Memory: the schedule blob,
//! parsed, for a moment, and half a MiB between two writes. Mirrors `updateSchedule` and
//! `ReportRun` of Kopia's `repo/maintenance`.

mod writing;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::blob::{BlobError, Guard};
use crate::clock::Timestamp;
use crate::kopia::maintenance_params::MaintenanceParams;
use crate::kopia::schedule::{RunInfo, Schedule};
use crate::repository::format_watch::FormatWatch;
use crate::repository::schedule_store::{
    ScheduleMark, StoredSchedule, read_mark, read_stored_schedule, schedule_time,
};
use crate::repository::{Repository, RepositoryError};

use super::MaintenanceError;
use super::cycle_task::{Cycle, CycleTask};
use super::holder::Holder;
use super::interlocks::History;
use super::lease::{LEASE, Lease, RENEW_AFTER};
use writing::Held;

/// How long a task may take to write the index of what it has copied: the signal's sender
/// usually waits half a minute.
const FINISH_TIME: Duration = Duration::from_secs(10);

/// Tells a run from outside that it should end soon.
pub type StopFlag = Arc<AtomicBool>;

/// Watches over one run.
pub struct Watch {
    /// Without a guard: what watches is not watched.
    repository: Repository,
    stop: StopFlag,
    /// Whether the run must not touch the storage any more.
    halted: AtomicBool,
    /// When to look again, in nanoseconds since 1970.
    next_look: AtomicI64,
    state: Mutex<State>,
}

/// From where a run starts.
#[derive(Clone, Debug)]
pub struct Anchor {
    /// The storage's time of the schedule blob: ages of blobs are measured from here.
    pub start: Timestamp,
    /// What the schedule records.
    pub history: History,
}

struct State {
    /// The schedule as we left it.
    mark: ScheduleMark,
    /// The schedule as a write of ours would have left it that has failed: it may have happened.
    tried: Option<ScheduleMark>,
    /// The same as the store tells it, with what it says; only where the store knows conditions.
    held: Option<Held>,
    /// Whether it has to be looked at before the next deletion: once in each task that deletes.
    deletes_unseen: bool,
    /// Runs of tasks that have written nothing, to be recorded with the next write: of each task
    /// one at most.
    waiting: Vec<(CycleTask, RunInfo)>,
    /// Times of full and quick cycles before the run.
    before: (Timestamp, Timestamp),
    run: String,
    holder: Option<Holder>,
    /// The task that copies contents now.
    task: Option<CycleTask>,
    /// Until when it may write its index, once the run was told to end.
    stop_until: Option<Timestamp>,
    format: FormatWatch,
    /// When the format blob was last read.
    looked: Timestamp,
    /// Why the run must end.
    verdict: Option<Verdict>,
}

/// Why a run must end.
#[derive(Clone, Debug)]
enum Verdict {
    /// It was told to.
    Stopped,
    /// Somebody else has written the schedule.
    TakenOver,
    /// Somebody upgrades the repository: no operation is allowed any more.
    UpgradeLock { owner: String, since: Timestamp },
    /// The repository must be opened afresh.
    FormatChanged,
}

impl Verdict {
    fn error(&self) -> MaintenanceError {
        match self {
            Self::Stopped => MaintenanceError::Stopped,
            Self::TakenOver => MaintenanceError::TakenOver,
            Self::UpgradeLock { owner, since } => RepositoryError::UpgradeLock {
                owner: owner.clone(),
                since: *since,
            }
            .into(),
            Self::FormatChanged => RepositoryError::FormatChanged.into(),
        }
    }
}

impl Watch {
    /// Takes the lease for `holder`. Returns the watch, and from where the run starts.
    ///
    /// # Errors
    /// Another run's lease; clocks that are too far apart (the lease is taken back).
    pub fn begin(
        repository: &Repository,
        stop: StopFlag,
        holder: Option<Holder>,
    ) -> Result<(Arc<Self>, Anchor), MaintenanceError> {
        let format = FormatWatch::start(repository)?;
        let StoredSchedule {
            mut schedule,
            mark,
            version,
        } = read_stored_schedule(repository)?;
        let now = repository.clock.now();
        Lease::end_where_gone(&mut schedule, now);
        bury_crashed_run(&mut schedule, now)?;
        let history = History::of(&schedule);
        let before = (schedule.next_full, schedule.next_quick);
        let run = hex::encode(repository.random::<8>());
        let lease = Lease {
            until: now.plus(LEASE),
            run: run.clone(),
            task: None,
            holder: holder.clone(),
        };
        lease.put(&mut schedule, before);
        let watch = Arc::new(Self {
            repository: repository.clone(),
            stop,
            halted: AtomicBool::new(false),
            next_look: AtomicI64::new(now.plus(RENEW_AFTER).nanos()),
            state: Mutex::new(State {
                mark,
                tried: None,
                held: None,
                deletes_unseen: false,
                waiting: Vec::new(),
                before,
                run,
                holder,
                task: None,
                stop_until: None,
                format,
                looked: now,
                verdict: None,
            }),
        });
        let written = watch.first_write(&schedule, version.as_ref());
        match written.and_then(|()| Ok(schedule_time(repository)?)) {
            Ok(start) => Ok((watch, Anchor { start, history })),
            Err(error) => {
                watch.release();
                Err(error)
            }
        }
    }

    /// Returns the repository with every storage operation under watch.
    pub fn watched(self: &Arc<Self>) -> Repository {
        let guard: Arc<dyn Guard> = Arc::clone(self) as _;
        Repository {
            storage: self.repository.storage.guarded(guard),
            ..self.repository.clone()
        }
    }

    /// Checks that nobody else has written the schedule; before anything is deleted.
    pub fn still_ours(&self) -> Result<(), MaintenanceError> {
        let mut state = self.state();
        self.look_if_due(&mut state)?;
        self.check_mark(&mut state, read_mark(&self.repository)?)
    }

    /// Ends the run where it was told to.
    pub fn check_stop(&self) -> Result<(), MaintenanceError> {
        if self.stop.load(Ordering::SeqCst) {
            let mut state = self.state();
            return Err(self.halt(&mut state, Verdict::Stopped));
        }
        Ok(())
    }

    /// Returns why the run really ended: a task that was halted knows only that it was.
    pub fn reason(&self, error: MaintenanceError) -> MaintenanceError {
        match &self.state().verdict {
            Some(verdict) => verdict.error(),
            None => error,
        }
    }

    /// Says that a task begins: that it is still ours to do, and for one that copies contents, so
    /// that a crash in it is known: packs that a rewrite left over are not deleted at once.
    pub fn enter(&self, task: CycleTask) -> Result<(), MaintenanceError> {
        self.check_stop()?;
        if task.copies() {
            let mut state = self.state();
            self.look_if_due(&mut state)?;
            state.task = Some(task);
            return self.rewrite(&mut state, |schedule, lease, before| {
                lease.put(schedule, before);
            });
        }
        // A watermark deletes by a put; everything else is seen when it is about to be deleted.
        if task == CycleTask::FullDropDeletedContent {
            return self.still_ours();
        }
        self.state().deletes_unseen = task.deletes();
        Ok(())
    }

    /// Says that a task was left for later: it has written nothing.
    pub fn leave(&self, task: CycleTask) -> Result<(), MaintenanceError> {
        if !task.copies() {
            return Ok(());
        }
        let mut state = self.state();
        state.task = None;
        self.rewrite(&mut state, |schedule, lease, before| {
            lease.put(schedule, before);
        })
    }

    /// Returns why a task failed, for the schedule.
    pub fn text(&self, error: &MaintenanceError) -> String {
        match &self.state().verdict {
            Some(verdict) => verdict.error().to_string(),
            None => error.to_string(),
        }
    }

    /// Records a run of a task, and renews the lease with it. Where it `has_written` nothing, and
    /// well, that can wait for the next task's: a crash in between loses only that it has looked.
    pub fn report(
        &self,
        task: CycleTask,
        info: RunInfo,
        has_written: bool,
    ) -> Result<(), MaintenanceError> {
        let mut state = self.state();
        let waits = info.success && !has_written && state.task.is_none();
        state.task = None;
        state.waiting.push((task, info));
        self.look_if_due(&mut state)?;
        match waits {
            true => Ok(()),
            false => self.rewrite(&mut state, |schedule, lease, before| {
                lease.put(schedule, before);
            }),
        }
    }

    /// Writes the real next times after a success: an interval after `start`. Without a cycle (only
    /// some of its tasks ran) they are what they were. Where they cannot be written, the lease is
    /// given back as after any other failure.
    pub fn finish(
        &self,
        cycle: Option<Cycle>,
        start: Timestamp,
        params: &MaintenanceParams,
    ) -> Result<(Timestamp, Timestamp), MaintenanceError> {
        let written = self.write_next(cycle, start, params);
        written.inspect_err(|_| self.release())
    }

    fn write_next(
        &self,
        cycle: Option<Cycle>,
        start: Timestamp,
        params: &MaintenanceParams,
    ) -> Result<(Timestamp, Timestamp), MaintenanceError> {
        let mut state = self.state();
        self.look_if_due(&mut state)?;
        let mut next = state.before;
        if cycle == Some(Cycle::Full) {
            next.0 = start.plus(params.full.interval());
        }
        if cycle.is_some() {
            next.1 = start.plus(params.quick.interval());
        }
        self.rewrite(&mut state, |schedule, _, _| Lease::remove(schedule, next))?;
        Ok(next)
    }

    /// Gives the lease back after an end without success: the cycle is due as before. A schedule
    /// that is not ours any more stays as it is, and so does the lease where nothing may be
    /// written.
    pub fn release(&self) {
        let mut state = self.state();
        if !matches!(state.verdict, None | Some(Verdict::Stopped)) {
            return;
        }
        let before = state.before;
        let given_back = self.look_if_due(&mut state).and_then(|()| {
            let StoredSchedule { schedule, mark, .. } = read_stored_schedule(&self.repository)?;
            self.check_mark(&mut state, mark)?;
            if Lease::of(&schedule).is_none() {
                return Ok(()); // it was never written, or the last write gave it back
            }
            self.rewrite(&mut state, |schedule, _, _| Lease::remove(schedule, before))
        });
        if let Err(error) = given_back {
            tracing::warn!(%error, "the lease is not given back: it ends by itself");
        }
    }

    /// Remembers why, and refuses every further operation.
    fn halt(&self, state: &mut State, verdict: Verdict) -> MaintenanceError {
        self.halted.store(true, Ordering::SeqCst);
        state.verdict.get_or_insert(verdict).error()
    }

    /// Looks where it is time: also what is written here must not be written under a lock.
    fn look_if_due(&self, state: &mut State) -> Result<(), MaintenanceError> {
        match state.verdict.is_none() && self.is_time() {
            true => self.look_again(state),
            false => Ok(()),
        }
    }

    /// Looks at the format blob and renews the lease.
    fn look_again(&self, state: &mut State) -> Result<(), MaintenanceError> {
        match state.format.look(&self.repository) {
            Err(RepositoryError::UpgradeLock { owner, since }) => {
                return Err(self.halt(state, Verdict::UpgradeLock { owner, since }));
            }
            Err(RepositoryError::FormatChanged) => {
                return Err(self.halt(state, Verdict::FormatChanged));
            }
            looked => looked?,
        }
        state.looked = self.repository.clock.now();
        self.rewrite(state, |schedule, lease, before| lease.put(schedule, before))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether the run has to end now: asked before every use of the storage, and of scratch.
    pub fn is_halted(&self) -> bool {
        self.halted.load(Ordering::SeqCst) || self.must_stop()
    }

    /// Tells whether the run was told to end and has to, now. Who copies looks at the flag itself
    /// and writes the index of what it has copied, for which it gets some time.
    fn must_stop(&self) -> bool {
        if !self.stop.load(Ordering::SeqCst) {
            return false;
        }
        let now = self.repository.clock.now();
        let mut state = self.state();
        let until = *state.stop_until.get_or_insert(now.plus(FINISH_TIME));
        if state.task.is_some() && now < until {
            return false;
        }
        self.halt(&mut state, Verdict::Stopped);
        true
    }

    fn is_time(&self) -> bool {
        self.repository.clock.now().nanos() >= self.next_look.load(Ordering::SeqCst)
    }
}

impl Guard for Watch {
    fn allow(&self) -> Result<(), BlobError> {
        if self.is_halted() {
            return Err(BlobError::Halted);
        }
        if !self.is_time() {
            return Ok(());
        }
        let mut state = self.state();
        if state.verdict.is_some() || !self.is_time() {
            // Another thread has looked meanwhile.
            return match state.verdict {
                Some(_) => Err(BlobError::Halted),
                None => Ok(()),
            };
        }
        self.look_again(&mut state).map_err(halted)
    }

    fn allow_delete(&self) -> Result<(), BlobError> {
        self.allow()?;
        let mut state = self.state();
        if !state.deletes_unseen {
            return Ok(());
        }
        let mark = read_mark(&self.repository).map_err(|error| halted(error.into()))?;
        self.check_mark(&mut state, mark).map_err(halted)
    }
}

/// Returns what stops a storage operation; why it is, the run knows.
fn halted(error: MaintenanceError) -> BlobError {
    match error {
        MaintenanceError::Repository(RepositoryError::Blob(error)) => error,
        _ => BlobError::Halted,
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// Refuses while another run of ours is at work; records a rewrite that crashed.
fn bury_crashed_run(schedule: &mut Schedule, now: Timestamp) -> Result<(), MaintenanceError> {
    let Some(lease) = Lease::of(schedule) else {
        return Ok(());
    };
    if now < lease.until {
        return Err(MaintenanceError::Leased {
            run: lease.run,
            until: lease.until,
        });
    }
    tracing::warn!(run = lease.run, until = %lease.until, "an earlier run has crashed");
    if let Some(task) = lease.task.as_deref().and_then(CycleTask::parse) {
        let error = format!("run {} crashed", lease.run);
        let end = lease.until;
        schedule.report_run(task.name(), RunInfo::failed(end.minus(LEASE), end, error));
    }
    Ok(())
}
