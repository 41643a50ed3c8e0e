//! Makes a planned repository, and the model's knowledge of it: what was written is noted here, by
//! whoever writes it, never read back through Careen.

use std::collections::{BTreeMap, BTreeSet};

use careen::clock::Timestamp;
use careen::kopia::blob_id::session_id;
use careen::kopia::format_blob::EpochParameters;
use careen::kopia::schedule::{RunInfo, Schedule};
use careen::repository::schedule_store::write_schedule;
use kit::world::{Content, Entry, START, World, WorldOptions, model};
use serde_json::value::RawValue;

use super::model::{Key, Known, Marker, Model, Pack};
use super::plan::{Age, DeadSession, Flush, Plan, Snapshot};

/// Size of full packs. A short pack has less than 60 % of it in use.
pub(super) const PACK_BYTES_MAX: u64 = 20_000;

/// A repository under construction.
struct Building<'p> {
    plan: &'p Plan,
    world: World,
    model: Model,
    entries: Vec<Entry>,
    /// Contents of flushes so far.
    written: BTreeSet<Key>,
}

/// Returns the moment of an age.
fn at(age: Age) -> Timestamp {
    Timestamp::from_seconds(START.seconds() - age)
}

/// Builds a plan.
pub(super) fn build(plan: &Plan) -> (World, Model) {
    let world = World::new(WorldOptions {
        seed: plan.seed,
        ecc_percent: if plan.shape.ecc { 5 } else { 0 },
        index_version: plan.shape.index_version,
        pack_bytes_max: PACK_BYTES_MAX,
        epochs: match plan.shape.epochs {
            true => EpochParameters::default(),
            false => EpochParameters::disabled(),
        },
        ..WorldOptions::default()
    });
    let model = Model::new(plan.shape.epochs, plan.unsafe_runs);
    let mut building = Building {
        plan,
        world,
        model,
        entries: Vec::new(),
        written: BTreeSet::new(),
    };
    building.note_owner();
    building.model.packs = building.packs_of_world();
    if plan.shape.epochs {
        building.world.put_markers(plan.shape.write_epoch, at(0));
    }
    for (number, flush) in plan.flushes.iter().enumerate() {
        building.flush(number, flush);
    }
    for session in &plan.dead_sessions {
        building.dead_session(session);
    }
    building.tombstones();
    if let Some(age) = plan.watermark {
        let seconds = at(age).seconds();
        building.world.put_watermark(seconds, at(age));
        building.model.watermark = Some(seconds);
    }
    building.history();
    let Building {
        world,
        mut model,
        entries,
        ..
    } = building;
    model.winners = model::winners(entries);
    (world, model)
}

impl Building<'_> {
    /// Notes what the world has from the beginning: the manifest of its owner.
    fn note_owner(&mut self) {
        let (storage, crypto) = (self.world.storage(), &self.world.crypto);
        let view = match self.plan.shape.epochs {
            true => model::view(&storage, crypto, model::Choice::First),
            false => model::view_v0(&storage, crypto),
        };
        self.entries.extend(view.unwrap().into_values());
        for entry in &self.entries {
            let plain = self.world.read(entry).unwrap();
            self.model.plain.insert(entry.key.clone(), plain);
        }
    }

    fn packs_of_world(&self) -> BTreeMap<String, Pack> {
        let mut packs = BTreeMap::new();
        for entry in &self.entries {
            let pack = packs
                .entry(entry.pack.clone())
                .or_insert_with(|| Pack::at(START));
            pack.keys.insert(entry.key.clone());
        }
        packs
    }

    /// A content of data whose bytes follow from its number.
    fn data(&self, number: u16) -> Content {
        let length = 200 + usize::from(number) * 797 % 6_000;
        self.numbered(None, number, length)
    }

    fn numbered(&self, prefix: Option<u8>, number: u16, length: usize) -> Content {
        let seed = u64::from(number) * 0x9E37_79B9;
        let bytes = (0..length as u64).map(|at| (seed.wrapping_mul(at + 1) >> 24) as u8);
        self.world.content(prefix, bytes.collect())
    }

    fn flush(&mut self, number: usize, flush: &Flush) {
        let mut contents: Vec<Content> = flush.data.iter().map(|n| self.data(*n)).collect();
        let metadata = flush.metadata.iter();
        contents.extend(metadata.map(|n| self.numbered(Some(b'k'), *n, 300)));
        let is_lost = self.plan.lost == Some(number);
        let mut manifests = Vec::new();
        let plan = self.plan;
        let own = |snapshot: &&Snapshot| snapshot.flush % plan.flushes.len() == number;
        for snapshot in plan.snapshots.iter().filter(own) {
            let (root, used) = self.tree(snapshot, &mut contents);
            if !snapshot.forgotten {
                let manifest = self.manifest(snapshot, &root);
                // Without its index nobody knows the manifest.
                if !is_lost {
                    self.model.used.extend(used.iter().cloned());
                    let known = Known {
                        used,
                        complete: !snapshot.incomplete,
                        pinned: snapshot.pinned,
                    };
                    self.model.snapshots.insert(manifest.id.clone(), known);
                }
                manifests.push(manifest);
            }
        }
        if !manifests.is_empty() {
            let bytes = careen::kopia::manifest::to_gzip_json(&manifests);
            contents.push(self.world.content(Some(b'm'), bytes));
        }
        let time = at(flush.age);
        let session = session_id(self.world.random(), time);
        let entries = self.put_packs(contents, &session, time, flush.pack_bytes);
        let epoch = flush.epoch.min(plan.shape.write_epoch);
        if !entries.is_empty() && !is_lost {
            self.world.put_flush(epoch, &session, &entries, time);
            let keys = entries.iter().map(|entry| entry.key.clone());
            self.written.extend(keys);
            self.entries.extend(entries);
        }
        if let Some(checkpoint) = flush.marker {
            self.marker(&session, at(checkpoint), time);
        }
    }

    fn marker(&mut self, session: &str, checkpoint: Timestamp, time: Timestamp) {
        let name = self.world.put_session_marker(session, checkpoint, time);
        let session = session.to_owned();
        self.model.markers.insert(
            name,
            Marker {
                session,
                checkpoint,
                time,
            },
        );
    }

    /// Puts contents into packs by their kind; each once.
    fn put_packs(
        &mut self,
        contents: Vec<Content>,
        session: &str,
        time: Timestamp,
        pack_bytes: usize,
    ) -> Vec<Entry> {
        let contents: BTreeSet<Content> = contents.into_iter().collect();
        let mut entries = Vec::new();
        for kind in ["p", "q"] {
            let mut pack: Vec<Content> = Vec::new();
            let own = contents
                .iter()
                .filter(|content| content.id.pack_prefix() == kind);
            let mut own = own.peekable();
            while let Some(content) = own.next() {
                self.model
                    .plain
                    .insert(content.id.key().to_vec(), content.bytes.clone());
                pack.push(content.clone());
                let bytes: usize = pack.iter().map(|content| content.bytes.len()).sum();
                if bytes >= pack_bytes || own.peek().is_none() {
                    entries.extend(self.put_pack(&std::mem::take(&mut pack), session, time));
                }
            }
        }
        entries
    }

    fn put_pack(&mut self, pack: &[Content], session: &str, time: Timestamp) -> Vec<Entry> {
        let entries = self.world.put_pack(pack, session, time);
        let mut known = Pack::at(time);
        known.session = Some(session.to_owned());
        known.keys = entries.iter().map(|entry| entry.key.clone()).collect();
        self.model.packs.insert(entries[0].pack.clone(), known);
        entries
    }

    /// Adds the directories of a snapshot and whatever of its files is in no flush yet; returns the
    /// object ID of its root, and everything below it.
    fn tree(
        &mut self,
        snapshot: &Snapshot,
        contents: &mut Vec<Content>,
    ) -> (String, BTreeSet<Key>) {
        let mut used = BTreeSet::new();
        let mut directories = Vec::new();
        for files in &snapshot.directories {
            let files: Vec<Content> = files.iter().map(|number| self.data(*number)).collect();
            let mut objects: Vec<String> = files.iter().map(|file| file.id.to_string()).collect();
            for file in files {
                used.insert(file.id.key().to_vec());
                if !self.written.contains(file.id.key()) {
                    contents.push(file);
                }
            }
            if snapshot.indirect && !objects.is_empty() {
                let index = self.indirect(&objects);
                used.insert(index.id.key().to_vec());
                objects = vec![format!("I{}", index.id)];
                contents.push(index);
            }
            let directory = self.directory(&objects, "f");
            used.insert(directory.id.key().to_vec());
            directories.push(directory.id.to_string());
            contents.push(directory);
        }
        let root = self.directory(&directories, "d");
        used.insert(root.id.key().to_vec());
        let id = root.id.to_string();
        contents.push(root);
        (id, used)
    }

    fn indirect(&self, objects: &[String]) -> Content {
        let entry = |(at, id): (usize, &String)| format!(r#"{{"s":{at},"l":1,"o":"{id}"}}"#);
        let entries: Vec<String> = objects.iter().enumerate().map(entry).collect();
        let entries = entries.join(",");
        let json = format!(r#"{{"stream":"kopia:indirect","entries":[{entries}]}}"#);
        self.world.content(Some(b'x'), json.into_bytes())
    }

    fn directory(&self, objects: &[String], kind: &str) -> Content {
        let entry = |(number, id): (usize, &String)| {
            format!(r#"{{"name":"n{number}","type":"{kind}","obj":"{id}"}}"#)
        };
        let entries: Vec<String> = objects.iter().enumerate().map(entry).collect();
        let entries = entries.join(",");
        let json =
            format!(r#"{{"stream":"kopia:directory","entries":[{entries}],"summary":{{}}}}"#);
        self.world.content(Some(b'k'), json.into_bytes())
    }

    fn manifest(&self, snapshot: &Snapshot, root: &str) -> careen::kopia::manifest::ManifestEntry {
        let incomplete = match snapshot.incomplete {
            true => r#""incomplete":"checkpoint","#,
            false => "",
        };
        let pins = match snapshot.pinned {
            true => r#""pins":["mine"],"#,
            false => "",
        };
        let source = r#""source":{"host":"h","userName":"u","path":"/p"},"#;
        let root = format!(r#""rootEntry":{{"type":"d","obj":"{root}"}}"#);
        let data = RawValue::from_string(format!("{{{source}{incomplete}{pins}{root}}}"));
        self.world.manifest("snapshot", data.unwrap())
    }

    /// Packs and a marker, and no index.
    fn dead_session(&mut self, dead: &DeadSession) {
        let (time, checkpoint) = (at(dead.age), at(dead.checkpoint));
        let session = session_id(self.world.random(), checkpoint);
        self.marker(&session, checkpoint, checkpoint);
        let contents = dead.data.iter().map(|number| self.data(*number)).collect();
        self.put_packs(contents, &session, time, 5_000);
    }

    /// Deletes contents, each where its newest entry of before is.
    fn tombstones(&mut self) {
        for tombstone in &self.plan.tombstones {
            let time = at(tombstone.age);
            let older = |entry: &&Entry| entry.timestamp_seconds < time.seconds();
            let older = self.entries.iter().filter(older).cloned();
            let before: Vec<Entry> = model::winners(older).into_values().collect();
            // Clients delete their own manifests only, which nobody sees here.
            let before: Vec<&Entry> = before.iter().filter(|entry| entry.key[0] != b'm').collect();
            if before.is_empty() {
                continue;
            }
            let entry = before[tombstone.content % before.len()];
            if entry.deleted {
                continue;
            }
            let entry = entry.tombstone(time.seconds());
            let session = session_id(self.world.random(), time);
            let epoch = self.plan.shape.write_epoch;
            self.world
                .put_flush(epoch, &session, std::slice::from_ref(&entry), time);
            self.entries.push(entry);
        }
    }

    /// Records the runs of the past.
    fn history(&mut self) {
        let mut schedule = Schedule::default();
        for (task, age) in &self.plan.past {
            let run = RunInfo::succeeded(at(*age), at(*age), Vec::new());
            schedule.report_run(task.name(), run);
            self.model.runs.push((*task, at(*age)));
        }
        write_schedule(&self.world.repository(), &schedule).unwrap();
    }
}
