//! What a run of maintenance does to a repository, in the form in which the golden descriptions
//! tell what Kopia does.
//!
//! Two looks at the repository, before and after, and the difference of them: contents by ID, blobs
//! by name. What is random (names and sizes of new packs) is left out.

use std::collections::{BTreeMap, BTreeSet};

use careen::repository::Repository;
use careen::repository::contents::{ContentRow as Row, each_content};
use careen::repository::epochs::EpochState;
use kit::index_work::Bench;
use kit::world::everything;
use kit::world::model;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Most IDs that a description lists.
const LISTED_MAX: usize = 300;

/// A content, as far as it is compared.
struct Content {
    deleted: bool,
    packed: u64,
    original: u64,
    pack: String,
}

/// Returns whether a content has become deleted, or live.
fn turned(old: Option<&Content>, now: &Content, deleted: bool) -> bool {
    now.deleted == deleted && old.is_some_and(|old| old.deleted != deleted)
}

/// A repository at a moment.
pub(crate) struct Look {
    contents: BTreeMap<String, Content>,
    blobs: BTreeSet<String>,
    epochs: Value,
}

impl Look {
    pub(crate) fn at(repository: &Repository) -> Self {
        let mut contents = BTreeMap::new();
        let bench = Bench::new();
        let workspace = bench.workspace();
        each_content(repository, &workspace, &mut |row: &Row<'_>| {
            let content = Content {
                deleted: row.deleted,
                packed: row.packed_length.into(),
                original: row.original_length.into(),
                pack: row.pack.to_string(),
            };
            contents.insert(row.content.to_string(), content);
            true
        })
        .unwrap();
        Self {
            contents,
            blobs: everything(&repository.storage).into_keys().collect(),
            epochs: epochs(repository),
        }
    }

    /// Returns the same as Kopia's description of a run from `before` to this moment.
    pub(crate) fn since(&self, before: &Self) -> Value {
        let old = |id: &String| before.contents.get(id);
        let of = |wanted: &dyn Fn(Option<&Content>, &Content) -> bool| -> BTreeSet<&String> {
            let contents = self.contents.iter();
            let contents = contents.filter(|(id, now)| wanted(old(id), now));
            contents.map(|(id, _)| id).collect()
        };
        let dropped = before.contents.keys();
        let dropped = dropped.filter(|id| !self.contents.contains_key(*id));
        let gone = before.blobs.difference(&self.blobs);
        let is_pack = |name: &&String| name.starts_with(['p', 'q']);
        let rewritten =
            |old: Option<&Content>, now: &Content| old.is_some_and(|old| old.pack != now.pack);
        json!({
            "newlyDeleted": list(of(&|old, now| turned(old, now, true))),
            "undeleted": list(of(&|old, now| turned(old, now, false))),
            "droppedFromIndex": list(dropped.collect()),
            "rewritten": list(of(&rewritten)),
            "added": list(of(&|old, _| old.is_none())),
            "packsDeleted": list(gone.clone().filter(is_pack).collect()),
            "otherBlobsDeleted": list(gone.filter(|name| !is_pack(name)).collect()),
            "contentsAfter": self.counts(),
            "epochsAfter": self.epochs,
            "indexBlobsAfter": self.index_blobs(),
        })
    }

    fn counts(&self) -> Value {
        let of = |deleted| {
            self.contents
                .values()
                .filter(move |row| row.deleted == deleted)
        };
        json!({
            "live": of(false).count(),
            "deleted": of(true).count(),
            "livePackedBytes": of(false).map(|row| row.packed).sum::<u64>(),
            "deletedPackedBytes": of(true).map(|row| row.packed).sum::<u64>(),
            "liveOriginalBytes": of(false).map(|row| row.original).sum::<u64>(),
        })
    }

    /// Returns how many index blobs there are by epoch, those in use and the others.
    fn index_blobs(&self) -> Value {
        let names: Vec<String> = self.blobs.iter().cloned().collect();
        let active = model::active(&names);
        let mut counts: [BTreeMap<String, u64>; 2] = Default::default();
        for name in names.iter().filter(|name| name.starts_with("x")) {
            if let Some((epoch, _)) = name.rsplit_once('_') {
                let counts = &mut counts[usize::from(!active.contains(name))];
                *counts.entry(epoch.to_owned()).or_insert(0) += 1;
            }
        }
        let [active, inactive] = counts;
        json!({"active": active, "inactive": inactive})
    }
}

fn epochs(repository: &Repository) -> Value {
    if !repository.format.epochs.enabled {
        return Value::Null;
    }
    let state = EpochState::load(&repository.storage).unwrap();
    let names = |blobs: &[careen::blob::BlobMetadata]| -> Vec<String> {
        blobs.iter().map(|blob| blob.id.to_string()).collect()
    };
    let watermark = state.watermark_seconds;
    let watermark = watermark.map(|at| careen::clock::Timestamp::from_seconds(at).to_string());
    json!({
        "writeEpoch": state.write_epoch,
        "deletionWatermark": watermark,
        "compactedEpochs": state.singles.keys().collect::<Vec<_>>(),
        "rangeCheckpoints": state.chain,
        "markers": names(&state.markers),
        "watermarkBlobs": names(&state.watermarks),
    })
}

/// Writes a list of IDs as the descriptions do.
fn list(ids: BTreeSet<&String>) -> Value {
    if ids.len() <= LISTED_MAX {
        return json!(ids);
    }
    digest(ids.iter().map(|id| id.as_str()))
}

fn digest<'a>(ids: impl Iterator<Item = &'a str>) -> Value {
    let (mut hash, mut count) = (Sha256::new(), 0);
    for id in ids {
        hash.update(format!("{id}\n"));
        count += 1;
    }
    json!({"count": count, "sha256": hex::encode(hash.finalize())})
}

/// Returns a list of IDs in the form that a description has for it: some give shorter ones by their
/// digest, too.
pub(super) fn in_form_of(told: &Value, ours: &Value) -> Value {
    match (told.get("sha256"), ours.as_array()) {
        (Some(_), Some(list)) => digest(list.iter().map(|id| id.as_str().unwrap())),
        _ => ours.clone(),
    }
}

/// Returns the length of a list, or of one that is given by its digest.
pub(super) fn count(list: &Value) -> u64 {
    let length = list.as_array().map(|list| list.len() as u64);
    length.or(list["count"].as_u64()).or(list.as_u64()).unwrap()
}
