//! Compares a repository after a run with what the model says of it, content by content and blob by
//! blob, and every byte that is still named.

use std::collections::BTreeSet;

use careen::clock::Timestamp;
use careen::kopia::blob_id::session_of;
use careen::kopia::schedule::Schedule;
use careen::maintenance::cycle_task::CycleTask;
use kit::cycle::schedule;
use kit::world::model::{Choice, View, view, view_v0};
use kit::world::{Entry, World};

use super::model::{Model, Outcome, Pack};

/// Tasks that the model knows.
const TASKS: [CycleTask; 6] = [
    CycleTask::SnapshotGc,
    CycleTask::FullRewriteContents,
    CycleTask::QuickRewriteContents,
    CycleTask::FullDropDeletedContent,
    CycleTask::FullDeleteBlobs,
    CycleTask::QuickDeleteBlobs,
];

/// Judges a run that began at `now`; the model is as it was left by the same run, and takes over in
/// which packs the copied contents are.
pub(super) fn judge(
    world: &World,
    model: &mut Model,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<(), String> {
    let listed: BTreeSet<String> = world.all().into_keys().collect();
    let choices = if model.epochs {
        vec![Choice::First, Choice::Last]
    } else {
        vec![Choice::First]
    };
    let mut found = View::new();
    for choice in choices {
        found = seen(world, model.epochs, choice)?;
        contents(model, outcome, &found, &listed)?;
    }
    for entry in found.values().filter(|entry| model.is_visible(entry)) {
        let plain = world.read(entry)?;
        if model.plain[&entry.key] != plain {
            return Err(format!("{entry:?} has other bytes"));
        }
    }
    take_over(world, model, outcome, (&found, &listed), now)?;
    blobs(model, &listed)?;
    watermark(model, &listed)?;
    tasks(&schedule(&world.repository()), outcome, now)
}

/// Checks that every content in use, and every other one that a reader sees, is there with all its
/// bytes, whichever of several complete sets the reader takes. Returns what it sees.
pub(super) fn nothing_lost(world: &World, model: &Model) -> Result<View, String> {
    let marks = world.all().into_keys();
    let marks = marks.filter_map(|name| name.strip_prefix("xw")?.parse::<i64>().ok());
    let watermark = marks.max().unwrap_or(i64::MIN);
    let mut seen_last = View::new();
    for choice in [Choice::Last, Choice::First] {
        let mut view = seen(world, model.epochs, choice)?;
        view.retain(|_, entry| !entry.deleted || entry.timestamp_seconds > watermark);
        for key in &model.used {
            if !view.contains_key(key) {
                let lost = model.winners.get(key);
                return Err(format!(
                    "a content in use is lost: {} {lost:?}",
                    hex::encode(key)
                ));
            }
        }
        for entry in view.values() {
            let plain = world.read(entry)?;
            // System contents may be new: manifests that were written together.
            if entry.key[0] != b'm' && model.plain.get(&entry.key) != Some(&plain) {
                return Err(format!("{entry:?} has other bytes"));
            }
        }
        seen_last = view;
    }
    Ok(seen_last)
}

/// Returns the winner of every content.
pub(super) fn seen(world: &World, epochs: bool, choice: Choice) -> Result<View, String> {
    match epochs {
        true => view(&world.storage(), &world.crypto, choice),
        false => view_v0(&world.storage(), &world.crypto),
    }
}

fn contents(
    model: &Model,
    outcome: &Outcome,
    found: &View,
    listed: &BTreeSet<String>,
) -> Result<(), String> {
    for key in model.winners.keys().chain(found.keys()) {
        let (Some(told), Some(entry)) = (model.winners.get(key), found.get(key)) else {
            let id = hex::encode(key);
            let sides = (model.winners.get(key), found.get(key));
            return Err(format!(
                "{id}: the model has {:?}, the index {:?}",
                sides.0, sides.1
            ));
        };
        let moved = outcome.moved.contains(key);
        let mut told = told.clone();
        if moved {
            // What was copied and then forgotten may have lost its new pack at once.
            let is_there = listed.contains(&entry.pack) || !model.is_visible(entry);
            let is_new = !model.packs.contains_key(&entry.pack);
            if !is_new || !is_there || entry.pack[..1] != told.pack[..1] {
                return Err(format!("{entry:?} should be in a new pack"));
            }
            (told.pack, told.offset) = (entry.pack.clone(), entry.offset);
        }
        if told != *entry {
            return Err(format!("the model has\n{told:?}, the index\n{entry:?}"));
        }
    }
    Ok(())
}

/// Notes where the copied contents are now, and checks the local indexes of their packs.
fn take_over(
    world: &World,
    model: &mut Model,
    outcome: &Outcome,
    (found, listed): (&View, &BTreeSet<String>),
    now: Timestamp,
) -> Result<(), String> {
    let old: BTreeSet<String> = model.packs.keys().cloned().collect();
    for key in &outcome.moved {
        let entry = found[key].clone();
        if !listed.contains(&entry.pack) {
            model.winners.insert(key.clone(), entry);
            continue;
        }
        let pack = model.packs.entry(entry.pack.clone()).or_insert_with(|| {
            let session = session_of(&entry.pack).map(str::to_owned);
            Pack {
                session,
                ..Pack::at(now)
            }
        });
        pack.keys.insert(key.clone());
        model.winners.insert(key.clone(), entry);
    }
    let new = model.packs.iter().filter(|(name, _)| !old.contains(*name));
    for (name, pack) in new {
        let local = world.local_index(name)?;
        let keys: BTreeSet<_> = local.iter().map(|entry| entry.key.clone()).collect();
        let places = local.iter().all(|local| {
            found
                .get(&local.key)
                .is_some_and(|entry| same(local, entry))
        });
        if keys != pack.keys || !places {
            return Err(format!("{name}: its local index is another"));
        }
    }
    if outcome.stops == Some("unexplained-packs") {
        left_over(world, model, listed, now)?;
    }
    Ok(())
}

/// Notes packs that one task has written and the next has emptied, where the deletion after both
/// was stopped.
fn left_over(
    world: &World,
    model: &mut Model,
    listed: &BTreeSet<String>,
    now: Timestamp,
) -> Result<(), String> {
    for name in listed.iter().filter(|name| name.starts_with(['p', 'q'])) {
        if model.packs.contains_key(name) {
            continue;
        }
        let local = world.local_index(name)?;
        let keys: BTreeSet<_> = local.into_iter().map(|entry| entry.key).collect();
        if keys.is_empty() || !keys.iter().all(|key| model.winners.contains_key(key)) {
            return Err(format!("{name} has come from nowhere"));
        }
        let session = session_of(name).map(str::to_owned);
        let pack = Pack {
            time: now,
            session,
            keys,
        };
        model.packs.insert(name.clone(), pack);
    }
    Ok(())
}

/// Returns whether two entries name the same place, for the same content.
fn same(left: &Entry, right: &Entry) -> bool {
    let facts = |entry: &Entry| (entry.pack.clone(), entry.offset, entry.packed_length);
    facts(left) == facts(right)
}

/// Packs and markers are those of the model, no more and no less.
fn blobs(model: &Model, listed: &BTreeSet<String>) -> Result<(), String> {
    let told: BTreeSet<&String> = model.packs.keys().chain(model.markers.keys()).collect();
    let found = listed
        .iter()
        .filter(|name| name.starts_with(['p', 'q', 's']));
    let found: BTreeSet<&String> = found.collect();
    let lost: Vec<_> = told.difference(&found).collect();
    let more: Vec<_> = found.difference(&told).collect();
    match lost.is_empty() && more.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "these should be there: {lost:?}; these should not: {more:?}"
        )),
    }
}

fn watermark(model: &Model, listed: &BTreeSet<String>) -> Result<(), String> {
    let marks = listed
        .iter()
        .filter_map(|name| name.strip_prefix("xw")?.parse::<i64>().ok());
    let found = marks.max();
    match found == model.watermark {
        true => Ok(()),
        false => Err(format!(
            "the watermark is {found:?}, not {:?}",
            model.watermark
        )),
    }
}

/// What the schedule records of this run.
fn tasks(schedule: &Schedule, outcome: &Outcome, now: Timestamp) -> Result<(), String> {
    let ran = |task: &CycleTask| {
        let runs = schedule.runs_of(task.name());
        runs.iter().any(|run| run.success && run.start == now)
    };
    let found: BTreeSet<CycleTask> = TASKS.into_iter().filter(ran).collect();
    match found == outcome.tasks {
        true => Ok(()),
        false => Err(format!("these ran: {found:?}, not {:?}", outcome.tasks)),
    }
}
