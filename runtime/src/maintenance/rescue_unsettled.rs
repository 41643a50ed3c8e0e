//! Rescue of a repository whose index blobs sit in the open epochs (`--unsettled`): where no
//! compaction may reach, clients need memory and open files for every one of them until they cannot
//! open it at all.
//!
//! Step 1 merges the blobs of an open epoch into a few of the same epoch; readers then see every
//! entry twice. Step 2, in a later run and not before Kopia's safety margin has passed since step 1
//! by the storage's clock, proves that the merged blobs hold every entry of the others, and deletes
//! those. Sets with missing blobs are a writer at work or a crashed one: they are merged as far as
//! they are there, and kept.
//!
//! Merged blobs are told by their names: a random set name without the months digits that writers
//! add.

use std::collections::HashSet;

use crate::clock::{Stopwatch, Timestamp};
use crate::kopia::blob_id::{BlobId, set_member};
use crate::repository::epochs::EpochState;
use crate::repository::index_load::{Input, InputBlobs, Strictness, load};
use crate::repository::index_names::UncompactedNames;
use crate::repository::set_comparison::compare_sets;
use crate::repository::storage_time::storage_time;
use crate::repository::{Repository, RepositoryError, Workspace};

use super::MaintenanceError;
use super::compact_epochs::{Output, load_round, write_round};
use super::delete::{Deletable, delete};
use super::index_maintenance::task;
use super::index_plan::{EpochWork, Plan, Report, Rescue};

/// Merged blobs of one epoch: shards of 100,000 entries and more.
const MERGED_MAX: usize = 10_000;

/// Characters of a merged set's name: `s` and 16 hexadecimal digits.
const MERGED_SET_CHARACTERS: usize = 17;

impl Rescue {
    /// Returns whether no earlier rescue has merged this epoch; what came since is found by the
    /// proof.
    pub fn needs_merge(&self) -> bool {
        self.merged.is_empty()
    }
}

/// Finds the open epochs with more than one blob.
pub fn plan_rescues(
    repository: &Repository,
    state: &EpochState,
    uncompacted: &UncompactedNames,
) -> Result<Vec<Rescue>, RepositoryError> {
    let mut rescues = Vec::new();
    for (epoch, row) in &uncompacted.epochs {
        if state.is_settled(*epoch) || row.blobs < 2 {
            continue;
        }
        let incomplete = row.incomplete_sets.iter();
        let incomplete: Vec<String> = incomplete.map(|open| open.set.clone()).collect();
        let (mut merged, mut kept) = (Vec::new(), 0);
        let mut names = uncompacted.of_epoch(*epoch)?;
        while let Some(blob) = names.next_name()? {
            if incomplete.iter().any(|set| set == set_of(&blob)) {
                kept += 1;
            } else if is_merged(blob.as_str()) {
                if merged.len() == MERGED_MAX {
                    let what = "merged index blobs of one epoch";
                    return Err(RepositoryError::TooMany {
                        what,
                        maximum: MERGED_MAX,
                    });
                }
                merged.push(blob);
            }
        }
        let merged = newest_set(repository, merged)?;
        let others = row.blobs - kept - merged.len() as u64;
        if others == 0 || (merged.is_empty() && others == 1) {
            continue; // nothing to merge, or an earlier rescue is finished
        }
        let work = EpochWork {
            epoch: *epoch,
            blobs: row.blobs,
            bytes: 0,
        };
        rescues.push(Rescue {
            work,
            merged,
            incomplete,
        });
    }
    Ok(rescues)
}

/// Proves, and deletes what is proved and old enough; sets when to run again otherwise.
pub fn finish_rescue(
    repository: &Repository,
    workspace: &Workspace,
    state: &EpochState,
    before: &UncompactedNames,
    plan: &Plan,
    report: &mut Report,
) -> Result<(), MaintenanceError> {
    let (rescues, shard_entries) = (&plan.rescue, plan.shard_entries);
    if rescues.is_empty() {
        return Ok(());
    }
    let watch = Stopwatch::start();
    let margin = repository.format.epochs.cleanup_safety_margin;
    // Listed anew: step 1 has just written merged blobs. What is deleted comes from the listing
    // before.
    let names = UncompactedNames::scan(&repository.storage, workspace)?;
    let now = plan_rescues(repository, state, &names)?;
    let clock = storage_time(repository)?;
    for rescue in rescues {
        let epoch = rescue.work.epoch;
        let Some(now) = now.iter().find(|now| now.work.epoch == epoch) else {
            continue;
        };
        if now.merged.is_empty() {
            continue;
        }
        let missing = missing_in_merged(repository, workspace, &names, now)?;
        if missing > 0 {
            // Written since the last rescue: merge all of them once more, the merged ones included.
            let outputs = [Output::Uncompacted(epoch)];
            let loaded = load_round(repository, workspace, state, &names, &outputs, false)?;
            for set in write_round(repository, workspace, loaded, &outputs, shard_entries)? {
                let what = format!("merged {missing} new entries of open epoch {epoch}");
                let mut done = task("rescue-open-epoch", what, &watch);
                done.written = set.blobs;
                report.tasks.push(done);
            }
            let due = clock.plus(margin);
            report.unfinished_until = report.unfinished_until.max(Some(due));
            continue;
        }
        let due = newest(repository, &now.merged)?.plus(margin);
        if clock < due {
            report.unfinished_until = report.unfinished_until.max(Some(due));
            continue;
        }
        let deleted = delete_merged(repository, before, now)?;
        let what =
            format!("deleted {deleted} index blobs of open epoch {epoch}, all of them merged");
        let mut done = task("rescue-open-epoch", what, &watch);
        done.deleted = deleted;
        report.tasks.push(done);
    }
    Ok(())
}

/// Counts entries of an epoch's other blobs that its merged blobs lack.
fn missing_in_merged(
    repository: &Repository,
    workspace: &Workspace,
    names: &UncompactedNames,
    rescue: &Rescue,
) -> Result<u64, RepositoryError> {
    let kept = keep_filter(rescue);
    let (epoch, target) = (rescue.work.epoch, Some(0));
    let inputs = [
        Input {
            target,
            source: 0,
            blobs: InputBlobs::UncompactedBut(epoch, &kept),
        },
        Input {
            target,
            source: 1,
            blobs: InputBlobs::Named(&rescue.merged),
        },
    ];
    let total = Some(rescue.work.blobs);
    let loaded = workspace.step("prove that nothing is lost", "blobs", total, || {
        let strictness = Strictness::ForReading;
        load(repository, workspace, names, &inputs, strictness)
    })?;
    let mut missing = 0;
    compare_sets(&loaded, &mut |group| {
        if let Some(entry) = group.of(0) {
            missing += u64::from(group.misses(group.of(1), entry)?);
        }
        Ok(())
    })?;
    Ok(missing)
}

fn delete_merged(
    repository: &Repository,
    names: &UncompactedNames,
    rescue: &Rescue,
) -> Result<u64, MaintenanceError> {
    let kept = keep_filter(rescue);
    let mut blobs = names.of_epoch(rescue.work.epoch)?;
    let mut deleted = 0;
    while let Some(blob) = blobs.next_name()? {
        if !kept(blob.as_str()) {
            let because = "merged blobs of the same epoch hold all of its entries";
            delete(&repository.storage, Deletable::checked(blob, because))?;
            deleted += 1;
        }
    }
    Ok(deleted)
}

/// Returns which blobs stay: the newest merged set, and sets with missing blobs.
fn keep_filter(rescue: &Rescue) -> impl Fn(&str) -> bool + Send + Sync {
    let mut kept: HashSet<String> = rescue.incomplete.iter().cloned().collect();
    kept.extend(rescue.merged.first().map(|blob| set_of(blob).to_owned()));
    move |name| set_member(name).is_some_and(|member| kept.contains(member.set))
}

/// Returns the blobs of the set that was written last: it was merged from the others too.
fn newest_set(
    repository: &Repository,
    mut merged: Vec<BlobId>,
) -> Result<Vec<BlobId>, RepositoryError> {
    let mut newest: Option<(Timestamp, String)> = None;
    for blob in &merged {
        let time = repository.storage.metadata(blob)?.timestamp;
        newest = newest.max(Some((time, set_of(blob).to_owned())));
    }
    if let Some((_, set)) = newest {
        merged.retain(|blob| set_of(blob) == set);
    }
    Ok(merged)
}

fn set_of(blob: &BlobId) -> &str {
    set_member(blob.as_str()).map_or("", |member| member.set)
}

fn is_merged(name: &str) -> bool {
    set_member(name).is_some_and(|member| member.set.len() == MERGED_SET_CHARACTERS)
}

fn newest(repository: &Repository, blobs: &[BlobId]) -> Result<Timestamp, RepositoryError> {
    let mut newest = Timestamp::default();
    for blob in blobs {
        newest = newest.max(repository.storage.metadata(blob)?.timestamp);
    }
    Ok(newest)
}
