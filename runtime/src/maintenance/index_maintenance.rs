//! Index maintenance of a repository with epochs: makes the plan, and runs its tasks in Kopia's order.
//!
//! Before the first write the owner is checked, from manifests that are found while the index is read anyway.
//! Every step can be repeated: a crash anywhere leaves a repository that readers read as before, and the next
//! run finds what is left to do. Mirrors the epoch tasks of Kopia's `repo/maintenance/maintenance_run.go`.

use crate::clock::{Stopwatch, Timestamp};
use crate::repository::epochs::EpochState;
use crate::repository::index_gaps::check_nothing_vanished;
use crate::repository::index_load::Loaded;
use crate::repository::index_names::UncompactedNames;
use crate::repository::system_contents::maintenance_params;
use crate::repository::{Repository, RepositoryError, Workspace};

use super::MaintenanceError;
use super::advance_epoch::{EpochBlobs, advance_epoch};
use super::cleanup_epoch_markers::{cleanup_epoch_markers, stale_markers};
use super::compact_epochs::{Output, TARGETS_MAX, WrittenSet, load_round, write_round};
use super::delete_superseded_epoch_indexes::delete_superseded;
use super::index_plan::{Advance, EpochWork, Options, Plan, Report, Rescue, Task, TaskReport};
use super::index_repair::check_sets;
use super::rescue_unsettled::{finish_rescue, plan_rescues};
use super::strategy::{EPOCH_ROWS_MAX, EpochRow, SHARD_ENTRIES_MAX, Splitting, SplittingQuestion};

/// Fresh listings after which a vanished blob is an error.
const ATTEMPTS_MAX: u32 = 10;

/// Blobs of an epoch that are looked at to estimate its bytes.
const SAMPLED_BLOBS: u64 = 32;

/// Scratch for each stored byte of index: records, rows and names, 2.6 times measured.
const SCRATCH_FACTOR: u64 = 3;

/// Makes the plan. Writes nothing.
pub fn plan(
    repository: &Repository,
    workspace: &Workspace,
    strategy: &mut dyn Splitting,
    options: &Options,
) -> Result<Plan, MaintenanceError> {
    Ok(Survey::make(repository, workspace, strategy, options)?.plan)
}

/// Plans and runs. A blob that vanishes while it is read (another client at work) is a fresh start.
pub fn run(
    repository: &Repository,
    workspace: &Workspace,
    strategy: &mut dyn Splitting,
    options: &Options,
    on_plan: &mut dyn FnMut(&Plan),
) -> Result<Report, MaintenanceError> {
    let mut attempt = 1;
    loop {
        let survey = Survey::make(repository, workspace, strategy, options)?;
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

/// The plan, with what it was made from.
struct Survey {
    state: EpochState,
    uncompacted: UncompactedNames,
    cut: Option<Timestamp>,
    plan: Plan,
}

impl Survey {
    fn make(
        repository: &Repository,
        workspace: &Workspace,
        strategy: &mut dyn Splitting,
        options: &Options,
    ) -> Result<Self, MaintenanceError> {
        if !repository.format.epochs.enabled {
            return Err(MaintenanceError::IndexManagerV0);
        }
        let state = EpochState::load(&repository.storage)?;
        let uncompacted = UncompactedNames::scan(&repository.storage, workspace)?;
        check_nothing_vanished(&state, &uncompacted)?;
        let mut notes = Vec::new();
        let compact = epochs_to_compact(&state, &uncompacted, &mut notes);
        let compact = if options.wants(Task::CompactSingleEpoch) {
            compact
        } else {
            Vec::new()
        };
        let write = state.write_epoch;
        let mut newest: Option<Timestamp> = None;
        let mut current = EpochBlobs::default();
        for epoch in write.saturating_sub(1)..=write + 1 {
            let blobs = EpochBlobs::list(repository, epoch)?;
            if blobs.count > 0 {
                newest = newest.max(Some(blobs.newest));
            }
            if epoch == write {
                current = blobs;
            }
        }
        let parameters = &repository.format.epochs;
        let cut = newest.map(|newest| newest.minus(parameters.cleanup_safety_margin));
        let advance = options.wants(Task::AdvanceEpoch).then(|| {
            let (advance, because) = current.should_advance(parameters);
            Advance { advance, because }
        });
        let (markers, watermarks) = stale_markers(&state, cut);
        let wants_markers = options.wants(Task::CleanupEpochMarkers);
        let question = question(repository, &state, &uncompacted, &compact);
        let answer = strategy.split(&question)?;
        answer
            .check(&question)
            .map_err(|reason| super::strategy::StrategyError::Refused {
                strategy: strategy.describe(),
                reason,
            })?;
        let superseded = superseded(&state, &uncompacted, cut);
        let wants_superseded = options.wants(Task::DeleteSupersededEpochIndexes);
        let rescue = if options.unsettled {
            plan_rescues(&state, &uncompacted)?
        } else {
            vec![]
        };
        let mut plan = Plan {
            tasks: Task::ALL
                .into_iter()
                .filter(|task| options.wants(*task))
                .collect(),
            write_epoch: write,
            last_settled: state.last_settled(),
            chain_end: state.chain_end(),
            compact: work(&uncompacted, &compact),
            advance,
            join: if options.wants(Task::GenerateEpochRangeIndex) {
                answer.joins
            } else {
                vec![]
            },
            rescue,
            markers: if wants_markers { markers } else { vec![] },
            watermarks: if wants_markers { watermarks } else { vec![] },
            superseded: if wants_superseded {
                work(&uncompacted, &superseded)
            } else {
                vec![]
            },
            cut,
            strategy: strategy.describe(),
            strategy_reason: answer.reason,
            shard_entries: answer.shard_entries,
            scratch_bytes: 0,
            notes,
            memory: workspace.memory,
        };
        estimate(repository, &state, &uncompacted, &mut plan)?;
        Ok(Self {
            state,
            uncompacted,
            cut,
            plan,
        })
    }

    fn execute(
        self,
        repository: &Repository,
        workspace: &Workspace,
        options: &Options,
    ) -> Result<Report, MaintenanceError> {
        workspace.scratch.require(self.plan.scratch_bytes)?;
        let mut report = Report::default();
        self.compact(repository, workspace, options, &mut report)?;
        if self
            .plan
            .advance
            .as_ref()
            .is_some_and(|advance| advance.advance)
        {
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
            let (markers, watermarks) = cleanup_epoch_markers(repository, &self.state, self.cut)?;
            let what = format!("deleted {markers} markers and {watermarks} watermarks");
            let mut done = task(Task::CleanupEpochMarkers.name(), what, &watch);
            done.deleted = (markers + watermarks) as u64;
            report.tasks.push(done);
        }
        if !self.plan.superseded.is_empty() {
            let epochs: Vec<u64> = self.plan.superseded.iter().map(|work| work.epoch).collect();
            let done = delete_superseded(
                repository,
                workspace,
                &self.state,
                &self.uncompacted,
                &epochs,
            )?;
            report.tasks.push(done);
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

    /// Compacts settled epochs and merges open ones, round by round; checks the owner in the first.
    fn compact(
        &self,
        repository: &Repository,
        workspace: &Workspace,
        options: &Options,
        report: &mut Report,
    ) -> Result<(), MaintenanceError> {
        let singles = self
            .plan
            .compact
            .iter()
            .map(|work| Output::Single(work.epoch));
        let open = self
            .plan
            .rescue
            .iter()
            .filter(|rescue| rescue.needs_merge());
        let open = open.map(|rescue| Output::Uncompacted(rescue.work.epoch));
        let outputs: Vec<Output> = singles.chain(open).collect();
        let rounds = outputs.chunks(TARGETS_MAX);
        let rounds: Vec<&[Output]> = if outputs.is_empty() {
            vec![&[]]
        } else {
            rounds.collect()
        };
        for (number, round) in rounds.into_iter().enumerate() {
            let watch = Stopwatch::start();
            let (state, names) = (&self.state, &self.uncompacted);
            let loaded = load_round(repository, workspace, state, names, round, number == 0)?;
            report
                .phases
                .push(("load", watch.elapsed().as_millis() as u64));
            if number == 0 {
                report.owner = check_owner(repository, &loaded, options)?;
                check_sets(repository, workspace, &self.state, &self.uncompacted)?;
            }
            if round.is_empty() {
                break;
            }
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
        Ok(())
    }

    fn join(
        &self,
        repository: &Repository,
        workspace: &Workspace,
        report: &mut Report,
    ) -> Result<(), MaintenanceError> {
        for range in &self.plan.join {
            let watch = Stopwatch::start();
            // Sets that this run has written are inputs now; the settled epochs are those of the plan.
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
    loaded: &Loaded,
    options: &Options,
) -> Result<String, MaintenanceError> {
    let params = maintenance_params(repository, loaded)?;
    let recorded = params.map(|params| params.owner).unwrap_or_default();
    options.owner.check(&recorded)
}

/// Returns the settled epochs that have no set yet, up to the first empty one.
fn epochs_to_compact(
    state: &EpochState,
    uncompacted: &UncompactedNames,
    notes: &mut Vec<String>,
) -> Vec<u64> {
    let mut epochs = Vec::new();
    let Some(last) = state.last_settled() else {
        return epochs;
    };
    for epoch in state.chain_end()..=last {
        if state.single(epoch).is_some() {
            continue;
        }
        if uncompacted.blobs(epoch) == 0 {
            notes.push(format!(
                "epoch {epoch} is empty: nothing above it is compacted until a range covers it, \
                 since older clients stumble over such a gap"
            ));
            break;
        }
        epochs.push(epoch);
    }
    epochs
}

/// Returns epochs whose set has replaced their uncompacted blobs for long enough.
fn superseded(
    state: &EpochState,
    uncompacted: &UncompactedNames,
    cut: Option<Timestamp>,
) -> Vec<u64> {
    let Some(cut) = cut else { return Vec::new() };
    let replaced = |epoch: u64| {
        state.is_settled(epoch) && state.single(epoch).is_some_and(|set| set.newest() < cut)
    };
    uncompacted
        .epochs
        .keys()
        .copied()
        .filter(|epoch| replaced(*epoch))
        .collect()
}

fn question(
    repository: &Repository,
    state: &EpochState,
    uncompacted: &UncompactedNames,
    compact: &[u64],
) -> SplittingQuestion {
    let small = |epoch: u64| u32::try_from(epoch).unwrap_or(u32::MAX);
    let end = state.chain_end();
    let settled = state.last_settled().filter(|last| *last >= end);
    let epochs = settled
        .into_iter()
        .flat_map(|last| end..=last)
        .take(EPOCH_ROWS_MAX);
    let row = |epoch| match state.single(epoch) {
        Some(set) => EpochRow {
            epoch: small(epoch),
            blobs: set.count,
            bytes: set.blobs.iter().map(|blob| blob.length).sum(),
            compacted: true,
        },
        None => EpochRow {
            epoch: small(epoch),
            blobs: u32::try_from(uncompacted.blobs(epoch)).unwrap_or(u32::MAX),
            bytes: 0,
            compacted: compact.contains(&epoch),
        },
    };
    SplittingQuestion {
        write_epoch: small(state.write_epoch),
        chain_end: small(end),
        last_settled: state.last_settled().map(small),
        full_checkpoint_frequency: repository.format.epochs.full_checkpoint_frequency,
        shard_entries_max: SHARD_ENTRIES_MAX,
        epochs: epochs.map(row).collect(),
    }
}

fn work(uncompacted: &UncompactedNames, epochs: &[u64]) -> Vec<EpochWork> {
    let row = |epoch: &u64| EpochWork {
        epoch: *epoch,
        blobs: uncompacted.blobs(*epoch),
        bytes: 0,
    };
    epochs.iter().map(row).collect()
}

/// Fills in the bytes of the plan's epochs, from a sample of their blobs, and the scratch that they need.
fn estimate(
    repository: &Repository,
    state: &EpochState,
    uncompacted: &UncompactedNames,
    plan: &mut Plan,
) -> Result<(), RepositoryError> {
    let rescued = plan
        .rescue
        .iter_mut()
        .map(|rescue: &mut Rescue| &mut rescue.work);
    for work in plan
        .compact
        .iter_mut()
        .chain(&mut plan.superseded)
        .chain(rescued)
    {
        work.bytes = estimate_epoch(repository, uncompacted, work.epoch)?;
    }
    let sum = |work: &[EpochWork]| work.iter().map(|work| work.bytes).sum::<u64>();
    let round = sum(&plan.compact)
        + plan
            .rescue
            .iter()
            .map(|rescue| rescue.work.bytes)
            .sum::<u64>();
    let set_bytes = |epoch: u64| -> u64 {
        state
            .single(epoch)
            .map_or(0, |set| set.blobs.iter().map(|blob| blob.length).sum())
    };
    let compacted = |range: &super::strategy::EpochRange| -> u64 {
        (u64::from(range.min)..=u64::from(range.max))
            .map(set_bytes)
            .sum()
    };
    let join = plan.join.iter().map(compacted).sum::<u64>() + sum(&plan.compact);
    let join = if plan.join.is_empty() { 0 } else { join };
    let proof = plan
        .superseded
        .iter()
        .map(|work| work.bytes + set_bytes(work.epoch))
        .sum();
    plan.scratch_bytes = round.max(join).max(proof) * SCRATCH_FACTOR;
    Ok(())
}

fn estimate_epoch(
    repository: &Repository,
    uncompacted: &UncompactedNames,
    epoch: u64,
) -> Result<u64, RepositoryError> {
    let mut names = uncompacted.of_epoch(epoch)?;
    let (mut looked, mut bytes) = (0, 0);
    while looked < SAMPLED_BLOBS
        && let Some(blob) = names.next()?
    {
        if let Ok(metadata) = repository.storage.metadata(&blob) {
            bytes += metadata.length;
            looked += 1;
        }
    }
    Ok(uncompacted.blobs(epoch) * bytes.checked_div(looked).unwrap_or(0))
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
