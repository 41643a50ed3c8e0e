//! The model: what maintenance does to a repository by Kopia's rules, over plain maps in memory.
//!
//! Written from the rules, not from Careen's code: slow, obvious, no streams. The clock stands
//! still during a run, so every moment of it is the same. Memory: everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use careen::clock::Timestamp;
use careen::maintenance::cycle_task::CycleTask;
use kit::world::Entry;
use kit::world::model::View;

use super::build::PACK_BYTES_MAX;

/// Prefix byte and hash of a content.
pub(super) type Key = Vec<u8>;

const HOUR: i64 = 3_600;

/// A pack in the storage.
#[derive(Clone, Debug)]
pub(super) struct Pack {
    pub(super) time: Timestamp,
    pub(super) session: Option<String>,
    /// All contents that are in it, whether an index names them there or not.
    pub(super) keys: BTreeSet<Key>,
}

impl Pack {
    pub(super) fn at(time: Timestamp) -> Self {
        Self {
            time,
            session: None,
            keys: BTreeSet::new(),
        }
    }
}

/// A session's marker.
#[derive(Clone, Debug)]
pub(super) struct Marker {
    pub(super) session: String,
    pub(super) checkpoint: Timestamp,
    pub(super) time: Timestamp,
}

/// A snapshot whose manifest is there.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Its root, and all below it.
    pub(super) used: BTreeSet<Key>,
    pub(super) complete: bool,
    pub(super) pinned: bool,
}

/// A repository.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) epochs: bool,
    pub(super) unsafe_runs: bool,
    /// The winner of every content, tombstones below the watermark too.
    pub(super) winners: View,
    pub(super) watermark: Option<i64>,
    pub(super) used: BTreeSet<Key>,
    /// By the IDs of their manifests.
    pub(super) snapshots: BTreeMap<String, Known>,
    pub(super) packs: BTreeMap<String, Pack>,
    pub(super) markers: BTreeMap<String, Marker>,
    /// Runs that succeeded.
    pub(super) runs: Vec<(CycleTask, Timestamp)>,
    /// What is in every content.
    pub(super) plain: BTreeMap<Key, Vec<u8>>,
}

/// What a run does.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// Contents that are copied: their packs are new.
    pub(super) moved: BTreeSet<Key>,
    /// Blobs that go: packs and markers.
    pub(super) gone: BTreeSet<String>,
    /// Tasks that succeed.
    pub(super) tasks: BTreeSet<CycleTask>,
    /// How it ends, where not well.
    pub(super) stops: Option<&'static str>,
    /// Whether the rules leave open what happens: it depends on how new packs are filled.
    pub(super) open: bool,
}

impl Model {
    pub(super) fn new(epochs: bool, unsafe_runs: bool) -> Self {
        Self {
            epochs,
            unsafe_runs,
            winners: View::new(),
            watermark: None,
            used: BTreeSet::new(),
            snapshots: BTreeMap::new(),
            packs: BTreeMap::new(),
            markers: BTreeMap::new(),
            runs: Vec::new(),
            plain: BTreeMap::new(),
        }
    }

    /// Returns whether a reader sees an entry.
    pub(super) fn is_visible(&self, entry: &Entry) -> bool {
        let watermark = self.watermark.unwrap_or(i64::MIN);
        !entry.deleted || entry.timestamp_seconds > watermark
    }

    /// Returns what readers see.
    pub(super) fn visible(&self) -> impl Iterator<Item = &Entry> {
        self.winners.values().filter(|entry| self.is_visible(entry))
    }

    /// Returns `seconds` where the margins are on, else none.
    pub(super) fn margin(&self, seconds: i64) -> Duration {
        let seconds = if self.unsafe_runs { 0 } else { seconds };
        Duration::from_secs(seconds as u64)
    }

    /// Runs a cycle. What is copied keeps its old place here: where it went is not known.
    pub(super) fn run(&mut self, quick: bool, now: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        match (quick, self.epochs) {
            (false, _) => self.full(now, &mut outcome),
            (true, true) => {}
            (true, false) => self.quick_v0(now, &mut outcome),
        }
        outcome
    }

    fn full(&mut self, now: Timestamp, outcome: &mut Outcome) {
        if !self.collect(now, outcome) {
            return;
        }
        if self.may_rewrite(&[CycleTask::FullRewriteContents]) {
            self.rewrite("pq", now, outcome);
            self.done(CycleTask::FullRewriteContents, now, outcome);
        }
        if let Some(before) = self.drop_time(now) {
            self.forget(before.seconds());
            self.done(CycleTask::FullDropDeletedContent, now, outcome);
        }
        if self.may_delete(now) {
            self.delete("pq", now, outcome);
            if outcome.stops.is_none() {
                self.done(CycleTask::FullDeleteBlobs, now, outcome);
            }
        }
    }

    fn quick_v0(&mut self, now: Timestamp, outcome: &mut Outcome) {
        let rewrites = [
            CycleTask::FullRewriteContents,
            CycleTask::QuickRewriteContents,
        ];
        if self.may_rewrite(&rewrites) {
            self.rewrite("q", now, outcome);
            self.done(CycleTask::QuickRewriteContents, now, outcome);
        }
        if !self.may_delete(now) {
            return;
        }
        let full = self.last(&[CycleTask::FullRewriteContents]);
        let (kinds, task) = match full >= self.last(&[CycleTask::QuickRewriteContents]) {
            true => ("pq", CycleTask::FullDeleteBlobs),
            false => ("q", CycleTask::QuickDeleteBlobs),
        };
        self.delete(kinds, now, outcome);
        if outcome.stops.is_none() {
            self.done(task, now, outcome);
        }
    }

    fn done(&mut self, task: CycleTask, now: Timestamp, outcome: &mut Outcome) {
        self.runs.push((task, now));
        outcome.tasks.insert(task);
    }

    fn last(&self, tasks: &[CycleTask]) -> Option<Timestamp> {
        let runs = self.runs.iter().filter(|(task, _)| tasks.contains(task));
        runs.map(|(_, time)| *time).max()
    }

    /// Snapshot GC. A content in use that nobody sees ends the run.
    fn collect(&mut self, now: Timestamp, outcome: &mut Outcome) -> bool {
        let seen: BTreeSet<Key> = self.visible().map(|entry| entry.key.clone()).collect();
        if !self.used.is_subset(&seen) {
            outcome.stops = Some("content-not-found");
            return false;
        }
        let age = self.margin(24 * HOUR);
        let watermark = self.watermark.unwrap_or(i64::MIN);
        for (key, entry) in &mut self.winners {
            if entry.deleted && entry.timestamp_seconds <= watermark {
                continue;
            }
            let time = Timestamp::from_seconds(entry.timestamp_seconds);
            let is_old = time.plus(age) <= now;
            let is_used = self.used.contains(key);
            let later = now.seconds().max(entry.timestamp_seconds + 1);
            if is_used && entry.deleted {
                (entry.deleted, entry.timestamp_seconds) = (false, later);
                outcome.moved.insert(key.clone());
            } else if !is_used && key[0] != b'm' && !entry.deleted && is_old {
                (entry.deleted, entry.timestamp_seconds) = (true, later);
            }
        }
        self.done(CycleTask::SnapshotGc, now, outcome);
        true
    }

    /// A rewrite waits until what the last of these left over is deleted.
    pub(super) fn may_rewrite(&self, rewrites: &[CycleTask]) -> bool {
        let deletions = [CycleTask::FullDeleteBlobs, CycleTask::QuickDeleteBlobs];
        match self.last(rewrites) {
            None => true,
            Some(_) if self.unsafe_runs => true,
            Some(last) => self.last(&deletions).is_some_and(|deleted| deleted >= last),
        }
    }

    fn rewrite(&mut self, kinds: &str, now: Timestamp, outcome: &mut Outcome) {
        let short = PACK_BYTES_MAX * 60 / 100;
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        for entry in self.visible() {
            *sums.entry(place(entry, outcome)).or_default() += u64::from(entry.packed_length);
        }
        // What came back may fill more packs than one.
        let back = sums.iter().filter(|(pack, _)| pack.len() == 1);
        outcome.open |= back.map(|(_, sum)| *sum).any(|sum| sum >= short);
        let mut chosen: BTreeSet<String> = BTreeSet::new();
        for kind in kinds.chars() {
            let own = sums
                .iter()
                .filter(|(pack, sum)| pack.starts_with(kind) && **sum < short);
            let own: BTreeSet<String> = own.map(|(pack, _)| pack.clone()).collect();
            if own.len() > 1 {
                chosen.extend(own);
            }
        }
        let age = self.margin(2 * HOUR);
        let watermark = self.watermark.unwrap_or(i64::MIN);
        for (key, entry) in &mut self.winners {
            let is_seen = !entry.deleted || entry.timestamp_seconds > watermark;
            let is_old = Timestamp::from_seconds(entry.timestamp_seconds).plus(age) <= now;
            if is_seen && is_old && chosen.contains(&place(entry, outcome)) {
                entry.timestamp_seconds = now.seconds().max(entry.timestamp_seconds + 1);
                outcome.moved.insert(key.clone());
            }
        }
    }

    /// The moment before which deleted contents are forgotten.
    pub(super) fn drop_time(&self, now: Timestamp) -> Option<Timestamp> {
        if self.unsafe_runs {
            return Some(now);
        }
        let gc = self
            .runs
            .iter()
            .filter(|(task, _)| *task == CycleTask::SnapshotGc);
        let mut gc: Vec<Timestamp> = gc.map(|(_, time)| *time).collect();
        gc.sort_unstable_by(|left, right| right.cmp(left));
        let (newest, older) = gc.split_first()?;
        let margin = Duration::from_secs(4 * 3_600);
        let justified = older.iter().find(|run| run.plus(margin) < *newest)?;
        Some(justified.minus(Duration::from_secs(3_600)))
    }

    fn forget(&mut self, before: i64) {
        if self.epochs {
            self.watermark = self.watermark.max(Some(before));
        } else {
            let dropped = |entry: &Entry| entry.deleted && entry.timestamp_seconds < before;
            self.winners.retain(|_, entry| !dropped(entry));
        }
    }

    pub(super) fn may_delete(&self, now: Timestamp) -> bool {
        let rewrites = [
            CycleTask::FullRewriteContents,
            CycleTask::QuickRewriteContents,
        ];
        let last = self.last(&rewrites);
        last.is_none_or(|last| last.plus(self.margin(HOUR)) <= now)
    }

    fn delete(&mut self, kinds: &str, now: Timestamp, outcome: &mut Outcome) {
        let cutoff = now.plus(Duration::from_secs(1));
        let is_old =
            |time: Timestamp| time <= cutoff && time.plus(self.margin(24 * HOUR)) <= cutoff;
        let dies = self.margin(96 * HOUR);
        let mut alive = BTreeSet::new();
        let mut dead = BTreeSet::new();
        for marker in self.markers.values() {
            let sessions = if marker.checkpoint.plus(dies) <= cutoff {
                &mut dead
            } else {
                &mut alive
            };
            sessions.insert(marker.session.clone());
        }
        let moved = |entry: &&Entry| !outcome.moved.contains(&entry.key);
        let named: BTreeSet<&str> = self
            .visible()
            .filter(moved)
            .map(|entry| entry.pack.as_str())
            .collect();
        let listed = self
            .packs
            .keys()
            .filter(|name| name.starts_with(|k| kinds.contains(k)));
        let listed = listed.count();
        let (mut unexplained, mut kept_sessions) = (Vec::new(), BTreeSet::new());
        let mut gone = BTreeSet::new();
        for (name, pack) in &self.packs {
            if !name.starts_with(|kind| kinds.contains(kind)) || named.contains(name.as_str()) {
                continue;
            }
            let session = pack.session.clone().unwrap_or_default();
            let is_known = pack.keys.iter().all(|key| self.winners.contains_key(key));
            if !is_old(pack.time) || alive.contains(&session) {
                if dead.contains(&session) {
                    kept_sessions.insert(session);
                }
            } else if is_known || dead.contains(&session) {
                gone.insert(name.clone());
            } else {
                unexplained.push(name.clone());
            }
        }
        let share = if self.epochs { 1 } else { 75 };
        let too_many = |listed: usize| unexplained.len() * 100 > listed * share;
        outcome.open |= too_many(listed) != too_many(listed + outcome.moved.len());
        if too_many(listed) {
            outcome.stops = Some("unexplained-packs");
            return;
        }
        if !self.epochs {
            // No trace is left of what was dropped.
            gone.extend(unexplained);
        }
        if kinds == "pq" {
            for (name, marker) in &self.markers {
                let is_kept = kept_sessions.contains(&marker.session);
                if is_old(marker.time) && dead.contains(&marker.session) && !is_kept {
                    gone.insert(name.clone());
                }
            }
        }
        self.packs.retain(|name, _| !gone.contains(name));
        self.markers.retain(|name, _| !gone.contains(name));
        outcome.gone = gone;
    }
}

/// Returns the pack of an entry; of what is in a new pack only the kind is known.
fn place(entry: &Entry, outcome: &Outcome) -> String {
    match outcome.moved.contains(&entry.key) {
        false => entry.pack.clone(),
        true => entry.pack[..1].to_owned(),
    }
}
