//! The survey before index maintenance: what there is, and the plan that follows from it.
//!
//! Looks at names, times and a sample of sizes; reads no index blob and writes nothing. Asks the
//! splitting strategy once and refuses what breaks Kopia's rules. What is due is decided in
//! [`super::index_due`]. Memory: the committed state, and one row an epoch.

use std::collections::BTreeMap;

use crate::repository::epoch_blobs::EpochBlobs;
use crate::repository::epochs::EpochState;
use crate::repository::index_gaps::check_nothing_vanished;
use crate::repository::index_listing::IndexListing;
use crate::repository::index_names::UncompactedNames;
use crate::repository::{Repository, RepositoryError, Workspace};
use crate::spill::Scratch;

use super::MaintenanceError;
use super::index_due::{IndexDue, open_epochs};
use super::index_plan::{EpochWork, Options, Plan, Rescue, Task};
use super::rescue_unsettled::plan_rescues;
use super::strategy::{
    EPOCH_ROWS_MAX, EpochRange, EpochRow, SHARD_ENTRIES_MAX, Splitting, SplittingAnswer,
    SplittingQuestion, StrategyError,
};

/// Blobs of an epoch that are looked at to estimate its bytes.
const SAMPLED_BLOBS: u64 = 32;

/// Scratch for each stored byte of index: records, rows and names, 2.4 times measured.
pub(super) const SCRATCH_FACTOR: u64 = 3;

/// The plan, with what it was made from.
pub(super) struct Survey {
    pub(super) state: EpochState,
    pub(super) uncompacted: UncompactedNames,
    pub(super) plan: Plan,
}

impl Survey {
    /// Looks around, unless somebody just has, and makes the plan.
    pub(super) fn make(
        repository: &Repository,
        workspace: &Workspace,
        listing: Option<IndexListing>,
        strategy: &mut dyn Splitting,
        options: &Options,
    ) -> Result<Self, MaintenanceError> {
        if !repository.format.epochs.enabled {
            return Err(MaintenanceError::IndexManagerV0);
        }
        let listing = match listing {
            Some(listing) => listing,
            None => IndexListing::take(&repository.storage, workspace)?,
        };
        let IndexListing { state, uncompacted } = listing;
        check_nothing_vanished(&state, &uncompacted)?;
        let open = open_blobs(repository, &state, &uncompacted)?;
        let parameters = &repository.format.epochs;
        let due = IndexDue::find(&state, &uncompacted.epochs, &open, parameters);
        let mut plan = plan_of(due, &state, &uncompacted, workspace, options);
        if options.unsettled {
            plan.rescue = plan_rescues(repository, &state, &uncompacted)?;
        }
        let question = question(repository, &state, &uncompacted, &plan.compact);
        let answer = ask(strategy, &question)?;
        plan.strategy = strategy.describe();
        plan.strategy_reason = answer.reason;
        plan.shard_entries = answer.shard_entries;
        if options.wants(Task::GenerateEpochRangeIndex) {
            plan.join = answer.joins;
        }
        estimate(
            repository,
            &workspace.scratch,
            &state,
            &uncompacted,
            &mut plan,
        )?;
        Ok(Self {
            state,
            uncompacted,
            plan,
        })
    }
}

/// Asks the strategy and checks its answer.
fn ask(
    strategy: &mut dyn Splitting,
    question: &SplittingQuestion,
) -> Result<SplittingAnswer, StrategyError> {
    let answer = strategy.split(question)?;
    match answer.check(question) {
        Ok(()) => Ok(answer),
        Err(reason) => Err(StrategyError::refused(
            strategy.describe(),
            &strategy.used(),
            reason,
        )),
    }
}

/// Returns the plan for the wanted part of what is due; what the strategy decides is still open.
fn plan_of(
    due: IndexDue,
    state: &EpochState,
    uncompacted: &UncompactedNames,
    workspace: &Workspace,
    options: &Options,
) -> Plan {
    let mut plan = Plan {
        tasks: Task::ALL
            .into_iter()
            .filter(|task| options.wants(*task))
            .collect(),
        write_epoch: state.write_epoch,
        last_settled: state.last_settled(),
        chain_end: state.chain_end(),
        compact: Vec::new(),
        advance: None,
        join: Vec::new(),
        rescue: Vec::new(),
        markers: Vec::new(),
        watermarks: Vec::new(),
        superseded: Vec::new(),
        cut: due.cut,
        strategy: String::new(),
        strategy_reason: String::new(),
        shard_entries: 0,
        scratch_bytes: 0,
        notes: Vec::new(),
        memory: workspace.memory,
    };
    if options.wants(Task::CompactSingleEpoch) {
        plan.compact = work(uncompacted, &due.compact);
        plan.notes.extend(due.jam.map(|epoch| {
            format!(
                "epoch {epoch} is empty: nothing above it is compacted until a range covers it, \
                 since older clients stumble over such a gap"
            )
        }));
    }
    if options.wants(Task::AdvanceEpoch) {
        plan.advance = Some(due.advance);
    }
    if options.wants(Task::CleanupEpochMarkers) {
        (plan.markers, plan.watermarks) = (due.markers, due.watermarks);
    }
    if options.wants(Task::DeleteSupersededEpochIndexes) {
        plan.superseded = work(uncompacted, &due.superseded);
    }
    plan
}

/// Looks at the blobs of the epochs that may still be written.
fn open_blobs(
    repository: &Repository,
    state: &EpochState,
    uncompacted: &UncompactedNames,
) -> Result<BTreeMap<u64, EpochBlobs>, RepositoryError> {
    let blobs = |epoch| {
        Ok((
            epoch,
            EpochBlobs::look_up(&repository.storage, uncompacted, epoch)?,
        ))
    };
    open_epochs(state).map(blobs).collect()
}

fn question(
    repository: &Repository,
    state: &EpochState,
    uncompacted: &UncompactedNames,
    compact: &[EpochWork],
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
            compacted: compact.iter().any(|work| work.epoch == epoch),
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

/// Fills in the bytes of the plan's epochs, from a sample of their blobs, and the scratch that they
/// need.
fn estimate(
    repository: &Repository,
    scratch: &Scratch,
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
        work.bytes = estimate_epoch(repository, scratch, uncompacted, work.epoch)?;
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
    let compacted = |range: &EpochRange| -> u64 {
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
    scratch: &Scratch,
    uncompacted: &UncompactedNames,
    epoch: u64,
) -> Result<u64, RepositoryError> {
    // A listing that told sizes has told all of them.
    if let Some(stored) = uncompacted.epochs.get(&epoch).and_then(|row| row.stored) {
        return Ok(stored.bytes);
    }
    let mut names = uncompacted.of_epoch(epoch)?;
    let (mut looked, mut bytes) = (0, 0);
    while looked < SAMPLED_BLOBS
        && let Some(blob) = names.next_name()?
    {
        let length = match scratch.kept_bytes(blob.as_str()) {
            Some(bytes) => Some(bytes),
            None => repository
                .storage
                .metadata(&blob)
                .ok()
                .map(|blob| blob.length),
        };
        if let Some(length) = length {
            bytes += length;
            looked += 1;
        }
    }
    Ok(uncompacted.blobs(epoch) * bytes.checked_div(looked).unwrap_or(0))
}
