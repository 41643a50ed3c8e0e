//! What a run has done to a repository, seen from outside: blobs, contents and snapshots before and
//! after, and whether the rules allow the difference.
//!
//! The rules are Kopia's margins, as the model has them, one by one: a strategy may leave out tasks
//! and change their order, so whole runs of the model do not apply. Memory: the repository.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use careen::clock::Timestamp;
use careen::kopia::FormatError;
use careen::kopia::blob_id::session_of;
use careen::kopia::manifest::{ManifestEntry, read_gzip_entries};
use careen::maintenance::cycle_task::CycleTask;
use kit::world::World;
use kit::world::model::{Choice, View};

use super::super::judge::seen;
use super::super::model::{Key, Model};

const HOUR: i64 = 3_600;

/// What a run writes whatever becomes of it.
const SCHEDULE: &str = "kopia.maintenance";

/// The storage at a moment.
#[derive(Clone)]
pub(super) struct Before {
    blobs: BTreeMap<String, (Vec<u8>, Timestamp)>,
    view: View,
}

impl Before {
    /// Looks at everything.
    pub(super) fn of(world: &World) -> Self {
        let blobs = world.all();
        let epochs = world.repository().format.epochs.enabled;
        // A look in the middle of a run may find an index that is just being replaced.
        let view = seen(world, epochs, Choice::First).unwrap_or_default();
        Self { blobs, view }
    }

    /// Returns what is different from another moment; the schedule apart, unless `all`.
    pub(super) fn difference(&self, other: &Self, all: bool) -> Option<String> {
        let counts = |name: &&String| all || *name != SCHEDULE;
        let names = self.blobs.keys().chain(other.blobs.keys()).filter(counts);
        let mut changed = names.filter(|name| self.blobs.get(*name) != other.blobs.get(*name));
        let first = changed.next()?;
        Some(format!(
            "{first} and {} more blobs changed",
            changed.count()
        ))
    }

    /// Returns how many packs are gone since, and how many contents have moved.
    pub(super) fn counts(&self, world: &World) -> (usize, usize) {
        let after = Self::of(world);
        let gone = self.packs().filter(|name| !after.blobs.contains_key(*name));
        let moved = self.view.iter().filter(|(key, old)| {
            let new = after.view.get(*key);
            new.is_some_and(|new| new.pack != old.pack)
        });
        (gone.count(), moved.count())
    }

    fn packs(&self) -> impl Iterator<Item = &String> {
        self.blobs
            .keys()
            .filter(|name| name.starts_with(['p', 'q']))
    }

    /// Checks what a run has done that has just ended; the clock stood still.
    pub(super) fn judge(
        &self,
        world: &World,
        model: &Model,
        done: &[CycleTask],
    ) -> Result<(), String> {
        let (after, now) = (Self::of(world), world.now());
        let left = snapshots_of(world, model.epochs)?;
        let left = left.iter().filter_map(|id| model.snapshots.get(id));
        let in_use: BTreeSet<&Key> = left.flat_map(|snapshot| &snapshot.used).collect();
        self.packs_gone(&after, model, now)?;
        self.contents_changed(&after, model, &in_use, now)?;
        self.forgotten(&after, model, done, now)?;
        tasks(model, done, now)
    }

    /// Packs that are gone were old, and of no session that may live.
    fn packs_gone(&self, after: &Self, model: &Model, now: Timestamp) -> Result<(), String> {
        // Kopia's cutoff is a second after now: times of blobs may be rounded up.
        let now = now.plus(Duration::from_secs(1));
        let alive: BTreeSet<&str> = model
            .markers
            .values()
            .filter(|marker| marker.checkpoint.plus(model.margin(96 * HOUR)) > now)
            .map(|marker| marker.session.as_str())
            .collect();
        for name in self.packs().filter(|name| !after.blobs.contains_key(*name)) {
            let time = self.blobs[name].1;
            if time.plus(model.margin(24 * HOUR)) > now {
                return Err(format!("pack {name} of {time} is gone"));
            }
            if session_of(name).is_some_and(|session| alive.contains(session)) {
                return Err(format!("pack {name} of a living session is gone"));
            }
        }
        Ok(())
    }

    /// Contents that were deleted are in no snapshot and were old; those that were copied were old,
    /// or came back.
    fn contents_changed(
        &self,
        after: &Self,
        model: &Model,
        in_use: &BTreeSet<&Key>,
        now: Timestamp,
    ) -> Result<(), String> {
        for (key, old) in &self.view {
            let Some(new) = after.view.get(key) else {
                continue;
            };
            let time = Timestamp::from_seconds(old.timestamp_seconds);
            let is_in_use = in_use.contains(key);
            if !old.deleted && new.deleted {
                if is_in_use {
                    return Err(format!("{old:?} is in use and was deleted"));
                }
                if key[0] != b'm' && time.plus(model.margin(24 * HOUR)) > now {
                    return Err(format!("{old:?} is young and was deleted"));
                }
            }
            let came_back = old.deleted && !new.deleted;
            let copied = new.pack != old.pack && !came_back && key[0] != b'm';
            if copied && time.plus(model.margin(2 * HOUR)) > now {
                return Err(format!("{old:?} is young and was copied"));
            }
            if came_back && !is_in_use {
                return Err(format!("{old:?} is not in use and came back"));
            }
        }
        Ok(())
    }

    /// Nothing is forgotten before its time.
    fn forgotten(
        &self,
        after: &Self,
        model: &Model,
        done: &[CycleTask],
        now: Timestamp,
    ) -> Result<(), String> {
        let mut model = model.clone();
        if done.contains(&CycleTask::SnapshotGc) {
            model.runs.push((CycleTask::SnapshotGc, now));
        }
        let latest = model.drop_time(now);
        let mark = |of: &Self| {
            let marks = of.blobs.keys();
            marks
                .filter_map(|name| name.strip_prefix("xw")?.parse::<i64>().ok())
                .max()
        };
        let (old, new) = (mark(self), mark(after));
        // Without margins what this very run has deleted and copied is forgotten too.
        let grace = if model.unsafe_runs { 2 } else { 0 };
        let most = latest.map(|time| time.seconds() + grace);
        if new > old && new > most {
            return Err(format!("forgotten up to {new:?}, allowed is {most:?}"));
        }
        for (key, entry) in &self.view {
            let is_gone = !after.view.contains_key(key);
            let is_late = Some(entry.timestamp_seconds) >= most;
            if is_gone && key[0] != b'm' && (!entry.deleted || is_late) && !model.unsafe_runs {
                return Err(format!("{entry:?} is forgotten, allowed is up to {most:?}"));
            }
        }
        Ok(())
    }
}

/// Tasks whose time had not come did not run.
fn tasks(model: &Model, done: &[CycleTask], now: Timestamp) -> Result<(), String> {
    let mut model = model.clone();
    for task in done {
        let may = match task {
            CycleTask::FullRewriteContents => model.may_rewrite(&[CycleTask::FullRewriteContents]),
            CycleTask::QuickRewriteContents => model.may_rewrite(&[
                CycleTask::FullRewriteContents,
                CycleTask::QuickRewriteContents,
            ]),
            CycleTask::FullDeleteBlobs | CycleTask::QuickDeleteBlobs => model.may_delete(now),
            CycleTask::FullDropDeletedContent => model.drop_time(now).is_some(),
            _ => true,
        };
        if !may {
            return Err(format!("{task} ran before its time"));
        }
        model.runs.push((*task, now));
    }
    Ok(())
}

/// Returns the IDs of the snapshots that a reader finds.
pub(super) fn snapshots_of(world: &World, epochs: bool) -> Result<BTreeSet<String>, String> {
    let view = seen(world, epochs, Choice::First)?;
    let mut newest: BTreeMap<String, ManifestEntry> = BTreeMap::new();
    for entry in view
        .values()
        .filter(|entry| entry.key[0] == b'm' && !entry.deleted)
    {
        let plain = world.read(entry)?;
        let read = read_gzip_entries(&plain[..], "a manifest content", |manifest| {
            let known = newest.get(&manifest.id);
            if known.is_none_or(|known| known.modified < manifest.modified) {
                newest.insert(manifest.id.clone(), manifest);
            }
            Ok::<(), FormatError>(())
        });
        read.map_err(|error| error.to_string())?;
    }
    let live = newest
        .into_values()
        .filter(|manifest| manifest.kind() == Some("snapshot"));
    Ok(live.map(|manifest| manifest.id).collect())
}
