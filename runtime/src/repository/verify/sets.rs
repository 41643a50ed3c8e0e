//! Compares all complete sets for the same epochs, and superseded blobs with the set that replaced
//! them.
//!
//! Whatever one of them holds, each set must hold: a reader takes any of them. Every epoch with a
//! choice is a target of its own, in rounds of [`ROUND_EPOCHS`]. What a set lacks becomes a claim;
//! a claim is a finding only if no other part of the index makes up for it (`index repair` writes
//! hidden entries again).
//!
//! Memory: that of a load, one round at a time; claims are sorted in scratch.

use crate::kopia::content_id::ContentId;
use crate::repository::active_index::ActiveIndex;
use crate::repository::epochs::IndexSet;
use crate::repository::index_load::{Input, InputBlobs, Loaded, Strictness, load};
use crate::repository::index_names::UncompactedNames;
use crate::repository::pack_names::{SLOT_BYTES, name_of};
use crate::repository::set_comparison::{Group, compare_sets};
use crate::repository::{Repository, RepositoryError, Workspace};
use crate::spill::{Merge, Runs, SortBuffer, SortMemory, SortShape, Sorter};

use super::blobs::is_damage;
use super::{CERTAIN, VerifyReport};

/// Epochs that are compared in one load; a load has 256 targets.
const ROUND_EPOCHS: usize = 200;

/// Sets of one epoch that are compared; a load has 256 sources. More than two come from broken
/// clients only.
const SETS_MAX: usize = 250;

/// Source of superseded blobs.
const WITNESS: u8 = 255;

/// Sort buffer of the claims, in bytes: there are none in a sound repository.
const CLAIMS_BUFFER_BYTES: usize = 512 * 1024;

/// In a claim: an entry that every choice of a reader holds.
const HELD: u8 = 0;

/// In a claim: an entry that some choice of a reader lacks.
const LACKED: u8 = 1;

/// Bytes of a rank.
const RANK_BYTES: usize = 6;

/// Bytes of a pack blob ID, with zeros behind it.
const NAME_BYTES: usize = SLOT_BYTES - 2;

/// Epochs with a choice, or with superseded blobs.
pub(super) struct Contested<'a> {
    epochs: Vec<ContestedEpochs<'a>>,
}

struct ContestedEpochs<'a> {
    /// `epoch 3`, `epochs 0 to 7`.
    label: String,
    /// Complete sets.
    sets: &'a [IndexSet],
    /// The epoch whose superseded blobs are still there.
    witness: Option<u64>,
}

impl<'a> Contested<'a> {
    /// Finds them.
    pub(super) fn find(active: &'a ActiveIndex) -> Self {
        let mut epochs = Vec::new();
        let Some(state) = active.epochs() else {
            return Self { epochs };
        };
        for range in &state.chain {
            let sets = state.ranges.get(range);
            let sets = sets.map_or(&[][..], |sets| &sets.complete);
            if sets.len() > 1 {
                let label = format!("epochs {} to {}", range.0, range.1);
                let witness = None;
                epochs.push(ContestedEpochs {
                    label,
                    sets,
                    witness,
                });
            }
        }
        for (epoch, sets) in state.singles.range(state.chain_end()..) {
            let sets = sets.complete.as_slice();
            if sets.is_empty() || !state.is_settled(*epoch) {
                continue;
            }
            let witness = (active.uncompacted.blobs(*epoch) > 0).then_some(*epoch);
            if sets.len() > 1 || witness.is_some() {
                let label = format!("epoch {epoch}");
                epochs.push(ContestedEpochs {
                    label,
                    sets,
                    witness,
                });
            }
        }
        Self { epochs }
    }

    /// Returns whether a reader may take another set than `set`.
    pub(super) fn has_choice(&self, set: &IndexSet) -> bool {
        let own = |epochs: &&ContestedEpochs<'_>| epochs.sets.first() == Some(set);
        let found = self.epochs.iter().find(own);
        found.is_some_and(|epochs| epochs.sets.len() > 1)
    }

    /// Compares all of them and returns the claims.
    pub(super) fn compare(
        &self,
        repository: &Repository,
        workspace: &Workspace,
        uncompacted: &UncompactedNames,
        report: &mut VerifyReport,
    ) -> Result<Runs, RepositoryError> {
        let key_bytes = repository.key_bytes();
        let shape = SortShape {
            record_bytes: claim_bytes(key_bytes),
            group: None,
        };
        let memory = SortMemory {
            buffer_bytes: CLAIMS_BUFFER_BYTES,
            ..workspace.sort_memory(1)
        };
        let sorter = Sorter::new(workspace.scratch.clone(), shape, memory);
        let mut round = Round {
            repository,
            workspace,
            uncompacted,
            claims: sorter.buffer(),
        };
        let mut rounds = self.epochs.chunks(ROUND_EPOCHS).enumerate();
        workspace.step("compare index sets", "index blobs", None, || {
            rounds.try_for_each(|(number, epochs)| {
                round.compare(number * ROUND_EPOCHS, epochs, report)
            })
        })?;
        round.claims.finish()?;
        Ok(sorter.finish()?)
    }
}

/// One load of some epochs' sets.
struct Round<'a> {
    repository: &'a Repository,
    workspace: &'a Workspace,
    uncompacted: &'a UncompactedNames,
    claims: SortBuffer,
}

impl Round<'_> {
    /// Compares the sets of `epochs`, whose first has the number `first`.
    fn compare(
        &mut self,
        first: usize,
        epochs: &[ContestedEpochs<'_>],
        report: &mut VerifyReport,
    ) -> Result<(), RepositoryError> {
        let mut inputs = Vec::new();
        for (target, epochs) in epochs.iter().enumerate() {
            let target = Some(target as u8);
            let sets = epochs.sets.iter().take(SETS_MAX).enumerate();
            inputs.extend(sets.map(|(source, set)| Input {
                target,
                source: source as u8,
                blobs: InputBlobs::Set(set),
            }));
            inputs.extend(epochs.witness.map(|epoch| Input {
                target,
                source: WITNESS,
                blobs: InputBlobs::Uncompacted(epoch),
            }));
        }
        let strictness = Strictness::ForReading;
        let (repository, workspace) = (self.repository, self.workspace);
        match load(repository, workspace, self.uncompacted, &inputs, strictness) {
            Ok(loaded) => {
                report.epochs_compared += epochs.len() as u64;
                self.claim_all(first, epochs, &loaded)
            }
            Err(error) if is_damage(&error) && epochs.len() > 1 => {
                for (number, one) in epochs.chunks(1).enumerate() {
                    self.compare(first + number, one, report)?;
                }
                Ok(())
            }
            Err(error) if is_damage(&error) => {
                let label = epochs.first().map_or("", |epochs| epochs.label.as_str());
                let text = format!("the sets of {label} cannot be compared: {error}");
                report.add(error.code(), None, None, text);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn claim_all(
        &mut self,
        first: usize,
        epochs: &[ContestedEpochs<'_>],
        loaded: &Loaded,
    ) -> Result<(), RepositoryError> {
        compare_sets(loaded, &mut |group| {
            let number = usize::from(group.target());
            let Some(own) = epochs.get(number) else {
                return Ok(());
            };
            let sets = own.sets.len().min(SETS_MAX) as u8;
            let best = group.best()?;
            let (mut lacked, mut held) = (false, Some(best));
            for source in 0..sets {
                let found = group.of(source);
                lacked |= group.misses(found, best)?;
                held = match (held, found) {
                    (Some(held), Some(found)) if group.misses(Some(found), held)? => Some(found),
                    (held, Some(_)) => held,
                    (_, None) => None,
                };
            }
            let number = (first + number) as u32;
            if lacked {
                self.claim(loaded, LACKED, best, number)?;
            }
            if let Some(held) = held.filter(|_| sets > 1) {
                self.claim(loaded, HELD, held, number)?;
            }
            Ok(())
        })
    }

    fn claim(
        &mut self,
        loaded: &Loaded,
        kind: u8,
        record: &[u8],
        number: u32,
    ) -> Result<(), RepositoryError> {
        let layout = loaded.layout;
        let value = Value::of(loaded, record)?;
        self.claims.push_with(|out| {
            let (key, rest) = out.split_at_mut(layout.key_bytes);
            key.copy_from_slice(layout.key(record));
            rest[0] = kind;
            rest[1..1 + RANK_BYTES].copy_from_slice(&value.rank);
            rest[1 + RANK_BYTES..1 + RANK_BYTES + NAME_BYTES].copy_from_slice(&value.name);
            rest[1 + RANK_BYTES + NAME_BYTES..].copy_from_slice(&number.to_be_bytes());
        })?;
        Ok(())
    }
}

/// Width of a claim: key, kind, rank, pack blob ID, number of the epochs.
const fn claim_bytes(key_bytes: usize) -> usize {
    key_bytes + 1 + RANK_BYTES + NAME_BYTES + 4
}

/// What decides between two entries of one content, in whatever load they are.
#[derive(Clone, Copy)]
struct Value {
    rank: [u8; RANK_BYTES],
    name: [u8; NAME_BYTES],
}

impl Value {
    fn of(loaded: &Loaded, record: &[u8]) -> Result<Self, RepositoryError> {
        let slot = loaded.packs.slot(loaded.layout.fields(record).pack)?;
        let mut value = Self {
            rank: [0; RANK_BYTES],
            name: [0; NAME_BYTES],
        };
        value.rank.copy_from_slice(loaded.layout.rank(record));
        let name = name_of(&slot);
        value.name[..name.len()].copy_from_slice(name);
        Ok(value)
    }

    fn beats(&self, other: &Self) -> bool {
        self.rank < other.rank || (self.rank == other.rank && self.name > other.name)
    }
}

/// All claims in the order of contents.
pub(super) struct Claims {
    merge: Merge,
    key_bytes: usize,
    /// Entries that some set lacks.
    lacked: u64,
    hidden: u64,
}

impl Claims {
    pub(super) fn open(claims: &Runs, key_bytes: usize) -> Result<Self, RepositoryError> {
        let mut merge = claims.merge()?;
        merge.advance()?;
        Ok(Self {
            merge,
            key_bytes,
            lacked: 0,
            hidden: 0,
        })
    }

    /// Settles the claims up to the content of `group`, or all that are left.
    pub(super) fn settle(
        &mut self,
        loaded: &Loaded,
        group: Option<&Group<'_>>,
        contested: &Contested<'_>,
        report: &mut VerifyReport,
    ) -> Result<(), RepositoryError> {
        let mut key = Vec::new();
        while let Some(claim) = self.merge.current() {
            let own = &claim[..self.key_bytes];
            if group.is_some_and(|group| own > group.key()) {
                break;
            }
            key.clear();
            key.extend_from_slice(own);
            let same = group.filter(|group| group.key() == key);
            let certain = same.and_then(|group| group.of(CERTAIN));
            let certain = certain
                .map(|record| Value::of(loaded, record))
                .transpose()?;
            self.settle_content(&key, certain, contested, report)?;
        }
        Ok(())
    }

    /// Settles the claims of one content, of which every reader finds `certain`. Those that tell
    /// what is held come first.
    fn settle_content(
        &mut self,
        key: &[u8],
        mut certain: Option<Value>,
        contested: &Contested<'_>,
        report: &mut VerifyReport,
    ) -> Result<(), RepositoryError> {
        let mut reported = false;
        while let Some(claim) = self.merge.current().filter(|claim| claim.starts_with(key)) {
            let (kind, value, number) = parse(&claim[self.key_bytes..]);
            let better = certain.is_none_or(|certain| value.beats(&certain));
            if kind == HELD {
                certain = if better { Some(value) } else { certain };
            } else {
                self.lacked += 1;
                if better && !reported {
                    reported = true;
                    self.hidden += 1;
                    let label = contested.epochs.get(number as usize);
                    let label = label.map_or("", |epochs| epochs.label.as_str());
                    let text = format!("a complete set of {label} lacks its newest entry");
                    report.add("hidden-entry", None, Some(ContentId::from_key(key)?), text);
                }
            }
            self.merge.advance()?;
        }
        Ok(())
    }

    /// Notes differences that do not matter.
    pub(super) fn note_harmless(&self, report: &mut VerifyReport) {
        if self.lacked > 0 && self.hidden == 0 {
            report.note(format!(
                "index sets differ in {} entries, which other index blobs hold",
                self.lacked
            ));
        }
    }
}

/// Parses a claim without its key: kind, value, number.
fn parse(claim: &[u8]) -> (u8, Value, u32) {
    let (kind, rest) = claim.split_at(1);
    let (rank, rest) = rest.split_at(RANK_BYTES);
    let (name, number) = rest.split_at(NAME_BYTES);
    let value = Value {
        rank: rank.try_into().expect("a claim has its width"),
        name: name.try_into().expect("a claim has its width"),
    };
    let number = number.try_into().expect("a claim has its width");
    (kind[0], value, u32::from_be_bytes(number))
}
