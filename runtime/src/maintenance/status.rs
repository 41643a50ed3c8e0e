//! `careen status`: what a repository is, how its index stands, and what is due.
//!
//! Writes nothing. What is due is decided where a run decides it ([`super::index_due`]); only the
//! ranges that a run joins are its strategy's. The owner lies in a manifest, which costs one read
//! of the whole index; where damage keeps us from it, the rest is shown all the same. Memory: a
//! load; one row an epoch, at most [`crate::repository::epochs::SETS_MAX`]. What is shown of lists
//! that can grow is the newest [`SHOWN_MAX`] and totals.

mod text;
mod v0_work;
mod work;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::kopia::format_blob::EpochParameters;
use crate::kopia::maintenance_params::MaintenanceParams;

use crate::repository::active_index::{ActiveIndex, IndexSource, load_active};
use crate::repository::epoch_blobs::EpochBlobs;
use crate::repository::epochs::{EpochState, IndexSets};
use crate::repository::index_gaps::index_gaps;
use crate::repository::index_load::Strictness;
use crate::repository::index_names::UncompactedNames;
use crate::repository::index_set_v0::{BlobTotals, IndexSetV0};
use crate::repository::system_contents::counted_maintenance_params;
use crate::repository::{Repository, RepositoryError, Workspace};

use super::index_due::IndexDue;
use super::orphan_packs::BlobCount;

pub use work::WorkStatus;

/// Rows that are shown of a list.
pub const SHOWN_MAX: usize = 20;

/// The state of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Where it is.
    pub location: String,
    /// Its ID, in hex.
    pub unique_id: String,
    /// How it is stored.
    pub format: FormatStatus,
    /// Who maintains it; none when nobody is recorded, or when `owner_problem` says why it is not
    /// known.
    pub owner: Option<String>,
    /// Why the owner could not be read: the index or the manifests are damaged.
    pub owner_problem: Option<String>,
    /// An upgrade that is announced and has not begun.
    pub upgrade_lock: Option<UpgradeStatus>,
    /// Required features that we do not know and may ignore.
    pub ignored_features: Vec<String>,
    /// The index, if it has epochs.
    pub epochs: Option<EpochsStatus>,
    /// The index, if it has none.
    pub v0: Option<V0Status>,
}

/// How a repository is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FormatStatus {
    /// Format version.
    pub version: i64,
    /// Version of new index blobs.
    pub index_version: u8,
    /// Hash function of content IDs.
    pub hash: String,
    /// Encryption of contents.
    pub encryption: String,
    /// Error correction; empty when off.
    pub ecc: String,
    /// Its overhead in percent.
    pub ecc_overhead_percent: i64,
    /// How files are split.
    pub splitter: String,
    /// Size at which packs are closed.
    pub max_pack_size_bytes: u64,
    /// Whether the password can be changed.
    pub enable_password_change: bool,
}

/// An announced upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpgradeStatus {
    /// Who upgrades.
    pub owner: String,
    /// When it was announced.
    pub since: Timestamp,
    /// What users are told.
    pub message: String,
}

/// An index with epochs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EpochsStatus {
    /// Epoch that writers write to.
    pub write_epoch: u64,
    /// Newest settled epoch.
    pub last_settled: Option<u64>,
    /// First epoch after the range chain.
    pub chain_end: u64,
    /// The newest ranges of the chain: first and last epoch.
    pub chain: Vec<(u64, u64)>,
    /// All ranges that are there.
    pub ranges: SetTotals,
    /// All single-epoch compactions that are there.
    pub singles: SetTotals,
    /// Epochs of which index blobs are gone, so that readers miss entries.
    pub gaps: SetList,
    /// Epochs with several complete sets, of which a reader takes one.
    pub duplicate: SetList,
    /// Epochs with incomplete sets: a writer at work or a crashed one, or damage.
    pub incomplete: SetList,
    /// All uncompacted blobs.
    pub uncompacted: Totals,
    /// Uncompacted blobs that readers read.
    pub uncompacted_active: Totals,
    /// Epochs with uncompacted blobs.
    pub uncompacted_epochs: usize,
    /// The newest epochs with uncompacted blobs.
    pub newest_epochs: Vec<EpochRow>,
    /// Tombstones up to this moment are as if absent.
    pub watermark: Option<Timestamp>,
    /// Kopia's parameters.
    pub parameters: EpochParameters,
    /// What is due, and why or why not.
    pub work: Vec<WorkStatus>,
}

/// Some blobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// How many.
    pub blobs: u64,
    /// Their bytes as stored.
    pub bytes: u64,
}

impl Totals {
    fn add(&mut self, blobs: u64, bytes: u64) {
        self.blobs += blobs;
        self.bytes += bytes;
    }
}

/// Some sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SetTotals {
    /// Complete sets.
    pub sets: u64,
    /// Their blobs.
    pub blobs: u64,
    /// The bytes of those as stored.
    pub bytes: u64,
}

/// Sets that a person should look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SetList {
    /// How many there are.
    pub total: u64,
    /// The newest of them.
    pub newest: Vec<String>,
}

impl SetList {
    fn add(&mut self, what: String) {
        self.total += 1;
        self.newest.push(what);
        if self.newest.len() > SHOWN_MAX {
            self.newest.remove(0);
        }
    }
}

/// Uncompacted blobs of one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EpochRow {
    /// The epoch.
    pub epoch: u64,
    /// Whether writers may still write to it.
    pub open: bool,
    /// Whether readers read the blobs: no set replaces them.
    pub active: bool,
    /// The blobs.
    pub blobs: EpochBlobs,
}

/// An index without epochs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct V0Status {
    /// Index blobs that readers read.
    pub active: Totals,
    /// Index blobs that a compaction replaced.
    pub superseded: Totals,
    /// Compaction logs.
    pub logs: usize,
    /// Compactions whose entries are gone.
    pub lost_compactions: usize,
    /// Compaction logs and cleanup entries that cannot be read: no client can open the repository.
    pub damaged_notes: SetList,
    /// What is due, and why or why not.
    pub work: Vec<WorkStatus>,
}

impl Status {
    /// Returns the index blobs that nobody reads any more.
    pub fn replaced_index(&self) -> BlobCount {
        let (all, read) = match (&self.epochs, &self.v0) {
            (Some(epochs), _) => (epochs.uncompacted, epochs.uncompacted_active),
            (None, Some(v0)) => (v0.superseded, Totals::default()),
            (None, None) => return BlobCount::default(),
        };
        BlobCount {
            count: all.blobs - read.blobs,
            bytes: all.bytes - read.bytes,
        }
    }
}

/// What a look at the repository finds.
#[derive(Clone, Debug)]
pub struct Known {
    /// The state.
    pub status: Status,
    /// The maintenance parameters, where they can be read.
    pub params: Option<MaintenanceParams>,
    /// Manifests that hold some: one, unless two clients set them up at the same time.
    pub params_copies: u64,
}

/// Looks at the repository. Damage to the index is part of the answer, not an error.
pub fn status(repository: &Repository, workspace: &Workspace) -> Result<Status, RepositoryError> {
    Ok(status_and_params(repository, workspace)?.status)
}

/// The same, with the maintenance parameters where they can be read.
pub fn status_and_params(
    repository: &Repository,
    workspace: &Workspace,
) -> Result<Known, RepositoryError> {
    let format = &repository.format;
    let active = ActiveIndex::find_damaged(repository, workspace)?;
    let (epochs, v0) = match &active.source {
        IndexSource::Epochs(state) => {
            let names = &active.uncompacted;
            (Some(epochs_status(repository, state, names)?), None)
        }
        IndexSource::V0(set) => (None, Some(v0_status(repository, workspace, set)?)),
    };
    let is_whole = epochs.as_ref().is_none_or(|epochs| epochs.gaps.total == 0)
        && v0.as_ref().is_none_or(|v0| v0.lost_compactions == 0);
    let ((params, copies), owner_problem) = match params(repository, workspace, &active) {
        Ok(counted) => (counted, None),
        Err(error @ RepositoryError::Spill(_)) => return Err(error),
        Err(error) => ((None, 0), Some(error.to_string())),
    };
    let owner = params.as_ref().map(|params| params.owner.clone());
    let owner = owner.filter(|owner| !owner.is_empty());
    let owner_problem = match &owner {
        None if !is_whole && owner_problem.is_none() => Some("index blobs are gone".to_owned()),
        _ => owner_problem,
    };
    let status = Status {
        location: repository.storage.location(),
        unique_id: hex::encode(&format.unique_id),
        format: FormatStatus {
            version: format.version,
            index_version: format.index_version,
            hash: format.hash.clone(),
            encryption: format.encryption.clone(),
            ecc: format.ecc.clone(),
            ecc_overhead_percent: format.ecc_overhead_percent,
            splitter: format.splitter.clone(),
            max_pack_size_bytes: format.max_pack_size,
            enable_password_change: format.enable_password_change,
        },
        owner,
        owner_problem,
        upgrade_lock: format.upgrade_lock.as_ref().map(|lock| UpgradeStatus {
            owner: lock.owner_id.clone(),
            since: lock.creation_time,
            message: lock.message.clone(),
        }),
        ignored_features: format
            .ignored_features()
            .map(|feature| feature.feature.clone())
            .collect(),
        epochs,
        v0,
    };
    Ok(Known {
        status,
        params,
        params_copies: copies,
    })
}

fn params(
    repository: &Repository,
    workspace: &Workspace,
    active: &ActiveIndex,
) -> Result<(Option<MaintenanceParams>, u64), RepositoryError> {
    let strictness = Strictness::ForReading;
    let loaded = match active.load(repository, workspace, None, strictness) {
        Err(RepositoryError::Vanished { .. }) => {
            load_active(repository, workspace, None, strictness)?.1
        }
        loaded => loaded?,
    };
    counted_maintenance_params(repository, workspace, &loaded)
}

fn v0_status(
    repository: &Repository,
    workspace: &Workspace,
    set: &IndexSetV0,
) -> Result<V0Status, RepositoryError> {
    let totals = |totals: BlobTotals| Totals {
        blobs: totals.blobs,
        bytes: totals.bytes,
    };
    let mut damaged_notes = SetList::default();
    for note in &set.damaged {
        damaged_notes.add(note.reason.clone());
    }
    Ok(V0Status {
        active: totals(set.active),
        superseded: totals(set.superseded),
        logs: set.logs.len(),
        lost_compactions: set.lost().count(),
        damaged_notes,
        work: v0_work::v0_work(repository, workspace, set)?,
    })
}

fn epochs_status(
    repository: &Repository,
    state: &EpochState,
    names: &UncompactedNames,
) -> Result<EpochsStatus, RepositoryError> {
    let row = |epoch: &u64| {
        Ok((
            *epoch,
            EpochBlobs::look_up(&repository.storage, names, *epoch)?,
        ))
    };
    let rows = names.epochs.keys().map(row);
    let rows: BTreeMap<u64, EpochBlobs> = rows.collect::<Result<_, RepositoryError>>()?;
    let parameters = repository.format.epochs.clone();
    let due = IndexDue::find(state, &names.epochs, &rows, &parameters);
    let (_, read) = state.selection();
    let is_active = |epoch: &u64| read.binary_search(epoch).is_ok();
    let (mut all, mut active) = (Totals::default(), Totals::default());
    for (epoch, blobs) in &rows {
        all.add(blobs.count, blobs.bytes);
        if is_active(epoch) {
            active.add(blobs.count, blobs.bytes);
        }
    }
    let newest = rows.iter().rev().take(SHOWN_MAX);
    let newest_epochs = newest.map(|(epoch, blobs)| EpochRow {
        epoch: *epoch,
        open: !state.is_settled(*epoch),
        active: is_active(epoch),
        blobs: *blobs,
    });
    let (duplicate, incomplete) = set_lists(state);
    let mut gaps = SetList::default();
    for gap in index_gaps(state, names) {
        gaps.add(format!("epoch {}: {}", gap.epoch, gap.reason));
    }
    let chain_from = state.chain.len().saturating_sub(SHOWN_MAX);
    Ok(EpochsStatus {
        write_epoch: state.write_epoch,
        last_settled: state.last_settled(),
        chain_end: state.chain_end(),
        chain: state.chain[chain_from..].to_vec(),
        ranges: set_totals(state.ranges.values()),
        singles: set_totals(state.singles.values()),
        gaps,
        duplicate,
        incomplete,
        uncompacted: all,
        uncompacted_active: active,
        uncompacted_epochs: rows.len(),
        newest_epochs: newest_epochs.collect(),
        watermark: state.watermark_seconds.map(Timestamp::from_seconds),
        work: work::index_work(state, &names.epochs, &due, &parameters),
        parameters,
    })
}

/// Returns epochs with several complete sets, and incomplete sets.
fn set_lists(state: &EpochState) -> (SetList, SetList) {
    let (mut duplicate, mut incomplete) = (SetList::default(), SetList::default());
    let mut look = |label: String, sets: &IndexSets| {
        if sets.complete.len() > 1 {
            duplicate.add(format!("{label}: {} complete sets", sets.complete.len()));
        }
        for set in &sets.incomplete {
            let (found, count) = (set.blobs.len(), set.count);
            incomplete.add(format!("{label}: {found} of {count} index blobs"));
        }
    };
    for (range, sets) in &state.ranges {
        look(format!("epochs {} to {}", range.0, range.1), sets);
    }
    for (epoch, sets) in &state.singles {
        look(format!("epoch {epoch}"), sets);
    }
    (duplicate, incomplete)
}

fn set_totals<'a>(all: impl Iterator<Item = &'a IndexSets>) -> SetTotals {
    let mut totals = SetTotals::default();
    for set in all.flat_map(|sets| &sets.complete) {
        totals.sets += 1;
        totals.blobs += set.blobs.len() as u64;
        totals.bytes += set.blobs.iter().map(|blob| blob.length).sum::<u64>();
    }
    totals
}
