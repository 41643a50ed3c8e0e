//! Task `delete-superseded-epoch-indexes`: deletes uncompacted blobs that a compacted set has
//! replaced.
//!
//! Kopia looks at names and times only. Here a merge in this run has to prove first that every
//! complete set a reader could choose for the epoch holds all entries of the blobs that go: a set
//! that lacks some (Kopia 0.18 to 0.23.0 could make one) is named, and then nothing of its epoch is
//! deleted. Mirrors `CleanupSupersededIndexes` of Kopia's `internal/epoch/epoch_manager.go`.

use crate::clock::Stopwatch;
use crate::repository::epochs::{EpochState, IndexSet};
use crate::repository::index_load::{Input, InputBlobs, Strictness, load};
use crate::repository::index_names::UncompactedNames;
use crate::repository::set_comparison::compare_sets;
use crate::repository::{Repository, RepositoryError, Workspace};

use super::MaintenanceError;
use super::compact_epochs::TARGETS_MAX;
use super::delete::{Deletable, delete};
use super::index_maintenance::task;
use super::index_plan::{Task, TaskReport};

/// Sets of one epoch that can be compared at once; two are rare already.
const SETS_MAX: usize = 250;

/// Deletes the uncompacted blobs of `epochs`, each after its proof. An epoch whose proof fails is
/// kept, and the task ends with an error after all others.
pub fn delete_superseded(
    repository: &Repository,
    workspace: &Workspace,
    state: &EpochState,
    uncompacted: &UncompactedNames,
    epochs: &[u64],
) -> Result<TaskReport, MaintenanceError> {
    let watch = Stopwatch::start();
    let mut report = task(
        Task::DeleteSupersededEpochIndexes.name(),
        String::new(),
        &watch,
    );
    let (mut hidden, mut sets) = (0, String::new());
    for round in epochs.chunks(TARGETS_MAX) {
        let missing = missing_entries(
            repository,
            workspace,
            state,
            uncompacted,
            round,
            &mut report,
        )?;
        for (epoch, missing) in round.iter().zip(missing) {
            if missing > 0 {
                hidden += missing;
                sets.push_str(&format!(
                    "epoch {epoch}: {missing} missing in a compacted set; "
                ));
                continue;
            }
            let mut names = uncompacted.of_epoch(*epoch)?;
            while let Some(blob) = names.next_name()? {
                let because = "every compacted set of its epoch holds all of its entries";
                delete(&repository.storage, Deletable::checked(blob, because))?;
                report.deleted += 1;
            }
        }
    }
    if hidden > 0 {
        return Err(MaintenanceError::UnequalSets { hidden, sets });
    }
    report.what = format!(
        "deleted {} index blobs of {} epochs",
        report.deleted,
        epochs.len()
    );
    report.milliseconds = watch.elapsed().as_millis() as u64;
    Ok(report)
}

/// Returns for each epoch how many of its entries some complete set lacks.
fn missing_entries(
    repository: &Repository,
    workspace: &Workspace,
    state: &EpochState,
    uncompacted: &UncompactedNames,
    epochs: &[u64],
    report: &mut TaskReport,
) -> Result<Vec<u64>, RepositoryError> {
    let mut inputs = Vec::new();
    let mut sets_of = Vec::new();
    for (target, epoch) in epochs.iter().enumerate() {
        let target = Some(target as u8);
        inputs.push(Input {
            target,
            source: 0,
            blobs: InputBlobs::Uncompacted(*epoch),
        });
        let sets = complete_sets(state, *epoch);
        if sets.len() > SETS_MAX {
            let what = "complete index sets of one epoch";
            return Err(RepositoryError::TooMany {
                what,
                maximum: SETS_MAX,
            });
        }
        sets_of.push(sets.len() as u8);
        for (source, set) in sets.into_iter().enumerate() {
            let source = source as u8 + 1;
            inputs.push(Input {
                target,
                source,
                blobs: InputBlobs::Set(set),
            });
        }
    }
    let total = epochs.iter().map(|epoch| uncompacted.blobs(*epoch)).sum();
    let loaded = workspace.step("prove that nothing is lost", "blobs", Some(total), || {
        let strictness = Strictness::ForReading;
        load(repository, workspace, uncompacted, &inputs, strictness)
    })?;
    report.blobs_read += loaded.stats.blobs;
    report.entries_read += loaded.stats.entries;
    let mut missing = vec![0; epochs.len()];
    compare_sets(&loaded, &mut |group| {
        let Some(entry) = group.of(0) else {
            return Ok(());
        };
        let target = usize::from(group.target());
        for source in 1..=sets_of[target] {
            if group.misses(group.of(source), entry)? {
                missing[target] += 1;
                break;
            }
        }
        Ok(())
    })?;
    Ok(missing)
}

/// Returns every complete set that a reader could choose for an epoch: its own, and ranges that
/// cover it.
fn complete_sets(state: &EpochState, epoch: u64) -> Vec<&IndexSet> {
    let singles = state
        .singles
        .get(&epoch)
        .into_iter()
        .flat_map(|sets| &sets.complete);
    let ranges = state
        .ranges
        .iter()
        .filter(|((first, last), _)| (*first..=*last).contains(&epoch));
    singles
        .chain(ranges.flat_map(|(_, sets)| &sets.complete))
        .collect()
}
