//! `careen index repair`: adds entries again that readers miss because index sets differ.
//!
//! All complete sets for the same epochs should be equivalent. Where they are not (Kopia 0.18 to
//! 0.23.0, and so Velero 1.14 to 1.18.1, could compact an epoch a second time after part of its
//! blobs was gone), a reader takes one of them and silently lacks what only the others hold.
//! Nothing is deleted here: the hidden entries are written once more as uncompacted blobs of the
//! write epoch, with their own timestamps, so that any newer entry of the same content still wins.
//! After that every choice of a reader is whole.

use std::fmt;

use crate::clock::Stopwatch;
use crate::repository::epochs::{EpochState, IndexSet};
use crate::repository::index_load::{Input, InputBlobs, Loaded, Strictness, load};
use crate::repository::index_names::UncompactedNames;
use crate::repository::index_writer::write_indexes;
use crate::repository::set_comparison::{Group, compare_sets};
use crate::repository::uncompacted_writer::write_uncompacted;
use crate::repository::{Repository, RepositoryError, Workspace};
use crate::spill::Sorter;

use super::MaintenanceError;
use super::index_maintenance::{check_owner, task};
use super::index_plan::{Options, Report};
use super::strategy::SHARD_ENTRIES_MAX;

/// Sets that can be compared at once.
const SOURCES_MAX: usize = 250;

/// Epochs whose sets differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RepairPlan {
    /// Epochs with several sets, and the sets by name.
    pub contested: Vec<String>,
    /// Entries that a reader may miss.
    pub hidden_entries: u64,
}

impl fmt::Display for RepairPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for contested in &self.contested {
            writeln!(f, "several index sets: {contested}")?;
        }
        write!(f, "entries that a reader may miss: {}", self.hidden_entries)
    }
}

/// Compares all sets of which a reader would choose. Writes nothing.
pub fn plan(
    repository: &Repository,
    workspace: &Workspace,
) -> Result<RepairPlan, MaintenanceError> {
    let state = load_state(repository)?;
    let uncompacted = UncompactedNames::scan(&repository.storage, workspace)?;
    let contested = Contested::find(&state, &uncompacted, true)?;
    let mut plan = RepairPlan {
        contested: contested.names(),
        hidden_entries: 0,
    };
    if !contested.sets.is_empty() {
        let loaded = contested.load(repository, workspace, &state, &uncompacted)?;
        contested.each_hidden(&loaded, &mut |_| {
            plan.hidden_entries += 1;
            Ok(())
        })?;
    }
    Ok(plan)
}

/// Writes the hidden entries again.
pub fn execute(
    repository: &Repository,
    workspace: &Workspace,
    options: &Options,
) -> Result<Report, MaintenanceError> {
    let watch = Stopwatch::start();
    let state = load_state(repository)?;
    let uncompacted = UncompactedNames::scan(&repository.storage, workspace)?;
    let contested = Contested::find(&state, &uncompacted, true)?;
    let mut loaded = contested.load(repository, workspace, &state, &uncompacted)?;
    let owner = check_owner(repository, workspace, &loaded, options)?;
    let mut report = Report {
        owner,
        ..Report::default()
    };
    let memory = workspace.sort_memory(1);
    let sorter = Sorter::new(workspace.scratch.clone(), loaded.layout.shape(), memory);
    let (mut hidden, mut buffer) = (0, sorter.buffer());
    contested.each_hidden(&loaded, &mut |record| {
        hidden += 1;
        Ok(buffer.push(record)?)
    })?;
    buffer.finish()?;
    loaded.records = sorter.finish()?;
    if hidden == 0 {
        return Ok(report);
    }
    let indexes = write_indexes(repository, workspace, &loaded, SHARD_ENTRIES_MAX)?;
    let what = format!("added {hidden} entries again that readers missed");
    let mut done = task("repair-index", what, &watch);
    done.written = write_uncompacted(repository, workspace, indexes)?;
    report.tasks.push(done);
    report.scratch_peak_bytes = workspace.scratch.peak_bytes();
    Ok(report)
}

/// Stops index work where a reader misses entries because sets differ. Costs nothing where no epoch
/// has two.
pub(super) fn check_sets(
    repository: &Repository,
    workspace: &Workspace,
    state: &EpochState,
    uncompacted: &UncompactedNames,
) -> Result<(), MaintenanceError> {
    let contested = Contested::find(state, uncompacted, false)?;
    if contested.sets.is_empty() {
        return Ok(());
    }
    let loaded = contested.load(repository, workspace, state, uncompacted)?;
    let mut hidden = 0;
    contested.each_hidden(&loaded, &mut |_| {
        hidden += 1;
        Ok(())
    })?;
    if hidden == 0 {
        return Ok(());
    }
    Err(MaintenanceError::UnequalSets {
        hidden,
        sets: contested.names().join("; "),
    })
}

fn load_state(repository: &Repository) -> Result<EpochState, MaintenanceError> {
    if !repository.format.epochs.enabled {
        return Err(MaintenanceError::IndexManagerV0);
    }
    Ok(EpochState::load(&repository.storage)?)
}

/// Epochs for which a reader has a choice.
struct Contested<'a> {
    /// One entry a source, in the order of source numbers, which start at 1.
    sets: Vec<ContestedSet<'a>>,
    /// Names of the epochs: `xs3`, `xr0_7`.
    epochs: Vec<String>,
}

struct ContestedSet<'a> {
    /// Place in `epochs`.
    epoch: usize,
    /// The set; `None`: the uncompacted blobs of `uncompacted_epoch`, which a reader would not
    /// choose.
    set: Option<&'a IndexSet>,
    uncompacted_epoch: u64,
}

impl<'a> Contested<'a> {
    /// Finds epochs with several complete sets. With `witnesses` also epochs that have a set and
    /// still their uncompacted blobs: those tell what the set should hold.
    fn find(
        state: &'a EpochState,
        uncompacted: &UncompactedNames,
        witnesses: bool,
    ) -> Result<Self, RepositoryError> {
        let mut contested = Self {
            sets: Vec::new(),
            epochs: Vec::new(),
        };
        for range in &state.chain {
            let sets = state
                .ranges
                .get(range)
                .map_or(&[][..], |sets| &sets.complete);
            contested.add(format!("xr{}_{}", range.0, range.1), sets, None);
        }
        for (epoch, sets) in state.singles.range(state.chain_end()..) {
            if state.is_settled(*epoch) && !sets.complete.is_empty() {
                let witness = witnesses && uncompacted.blobs(*epoch) > 0;
                contested.add(
                    format!("xs{epoch}"),
                    &sets.complete,
                    witness.then_some(*epoch),
                );
            }
        }
        if contested.sets.len() > SOURCES_MAX {
            let what = "index sets to compare";
            return Err(RepositoryError::TooMany {
                what,
                maximum: SOURCES_MAX,
            });
        }
        Ok(contested)
    }

    fn add(&mut self, name: String, sets: &'a [IndexSet], witness: Option<u64>) {
        if sets.len() + usize::from(witness.is_some()) < 2 {
            return;
        }
        let epoch = self.epochs.len();
        self.epochs.push(name);
        let choices = sets.iter().map(|set| (Some(set), 0));
        for (set, uncompacted_epoch) in choices.chain(witness.map(|epoch| (None, epoch))) {
            self.sets.push(ContestedSet {
                epoch,
                set,
                uncompacted_epoch,
            });
        }
    }

    fn names(&self) -> Vec<String> {
        let name = |(number, epoch): (usize, &String)| {
            let own = self.sets.iter().filter(|set| set.epoch == number);
            let blobs: Vec<&str> = own
                .map(|set| match set.set.and_then(|set| set.blobs.first()) {
                    Some(blob) => blob.id.as_str(),
                    None => "uncompacted blobs",
                })
                .collect();
            format!("{epoch}: {}", blobs.join(" and "))
        };
        self.epochs.iter().enumerate().map(name).collect()
    }

    /// Loads what a reader uses besides the contested sets as source 0, and each of those as its
    /// own.
    fn load(
        &self,
        repository: &Repository,
        workspace: &Workspace,
        state: &EpochState,
        uncompacted: &UncompactedNames,
    ) -> Result<Loaded, RepositoryError> {
        let target = Some(0);
        let (chosen, epochs) = state.selection();
        let mut inputs = Vec::new();
        for set in chosen {
            let contested = self.sets.iter().any(|other| other.set == Some(set));
            if !contested {
                inputs.push(Input {
                    target,
                    source: 0,
                    blobs: InputBlobs::Set(set),
                });
            }
        }
        for epoch in epochs {
            inputs.push(Input {
                target,
                source: 0,
                blobs: InputBlobs::Uncompacted(epoch),
            });
        }
        for (number, contested) in self.sets.iter().enumerate() {
            let blobs = match contested.set {
                Some(set) => InputBlobs::Set(set),
                None => InputBlobs::Uncompacted(contested.uncompacted_epoch),
            };
            inputs.push(Input {
                target,
                source: number as u8 + 1,
                blobs,
            });
        }
        workspace.step("compare index sets", "sets", None, || {
            let strictness = Strictness::ForWriting;
            load(repository, workspace, uncompacted, &inputs, strictness)
        })
    }

    /// Calls `visit` with the best record of every content that some choice of a reader misses.
    fn each_hidden(
        &self,
        loaded: &Loaded,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let mut record = Vec::with_capacity(loaded.layout.record_bytes());
        compare_sets(loaded, &mut |group| {
            let best = group.best()?;
            if self.is_hidden(group, best)? {
                record.clear();
                record.extend_from_slice(best);
                visit(&record)?;
            }
            Ok(())
        })
    }

    /// A content is safe if what every reader uses holds its best entry, or every choice for some
    /// epoch does.
    fn is_hidden(&self, group: &Group<'_>, best: &[u8]) -> Result<bool, RepositoryError> {
        if !group.misses(group.of(0), best)? {
            return Ok(false);
        }
        for epoch in 0..self.epochs.len() {
            let mut whole = true;
            for (number, contested) in self.sets.iter().enumerate() {
                if contested.epoch == epoch && contested.set.is_some() {
                    whole &= !group.misses(group.of(number as u8 + 1), best)?;
                }
            }
            if whole {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
