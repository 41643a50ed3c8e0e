//! Index maintenance on damaged repositories: harmless damage changes nothing, any other stops it
//! before the first byte is written.
//!
//! The golden archive `damaged` holds a whole repository for each damage. Where Kopia silently goes
//! on with fewer entries, Careen stops. A stop leaves the folder byte for byte as it was, times
//! included. `index repair` gives back what a poorer index set hides, and only adds blobs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use careen::maintenance::MaintenanceError;
use careen::maintenance::compact_indexes_v0::CompactionV0;
use careen::maintenance::index_plan::{Report, Task};
use careen::maintenance::index_repair;
use careen::repository::index_set_v0::SETTLE_TIME;
use kit::contents::{ContentRow, difference};
use kit::data_dir::DataDir;
use kit::golden::{DAMAGED, Golden, Variant, content_rows};
use kit::index_work::{Bench, open, options};
use kit::world::everything;
use kit::world::model::{self, Choice, View};

mod contents;
mod full_runs;
mod kopias_outcome;

/// What becomes of a variant.
enum Outcome {
    /// As if nothing were damaged.
    Harmless,
    /// A damage that no index tells: entries are gone, and only a walk of the snapshots can know.
    UnseenByTheIndex,
    /// Stopped with this code.
    Stopped(&'static str),
}

use Outcome::{Harmless, Stopped, UnseenByTheIndex};

const OUTCOMES: [(&str, Outcome); 24] = [
    ("intact", Harmless),
    ("missing-p-pack", Harmless),
    // The owner's manifest is in it.
    ("missing-q-pack", Stopped("missing-pack")),
    ("truncated-index", Stopped("tag-mismatch")),
    ("empty-index", Stopped("tag-mismatch")),
    ("flipped-index-byte", Stopped("tag-mismatch")),
    ("missing-index", UnseenByTheIndex),
    ("flipped-file-byte", Harmless),
    ("flipped-directory-byte", Harmless),
    ("flipped-manifest-byte", Stopped("tag-mismatch")),
    ("missing-index-whole-session", UnseenByTheIndex),
    ("half-written-compaction", Harmless),
    ("xs-shard-missing-xn-gone", Stopped("incomplete-index")),
    ("xn-shard-missing", Stopped("incomplete-index")),
    ("two-xs-sets-unequal", Stopped("unequal-index-sets")),
    ("schedule-truncated", Harmless),
    ("session-marker-garbage", Harmless),
    ("foreign-files", Harmless),
    ("upgrade-lock", Stopped("upgrade-lock")),
    ("format-truncated", Stopped("corrupt-format")),
    ("v0-intact", Harmless),
    ("v0-compaction-output-missing", Harmless),
    ("v0-half-written-compaction", Harmless),
    ("v0-output-and-inputs-missing", Stopped("lost-compaction")),
];

type Folder = BTreeMap<String, (Vec<u8>, careen::clock::Timestamp)>;

/// Returns every blob of a folder, by the kit's own reader.
fn folder(path: &Path) -> Folder {
    let data = DataDir::open(path).unwrap();
    let blob = |blob: kit::data_dir::BlobFile| {
        let bytes = data.read(&blob.id).unwrap();
        (blob.id, (bytes, blob.time))
    };
    data.list().unwrap().into_iter().map(blob).collect()
}

/// Returns what a reader sees, as the golden descriptions have it: without tombstones that the
/// watermark covers.
fn contents(repository: &careen::repository::Repository) -> Vec<ContentRow> {
    let storage = &repository.storage;
    let watermark = everything(storage)
        .keys()
        .filter_map(|name| name.strip_prefix("xw")?.parse::<i64>().ok())
        .max();
    let mut view = model::view(storage, &repository.crypto, Choice::First).unwrap();
    view.retain(|_, entry| {
        !entry.deleted || watermark.is_none_or(|second| entry.timestamp_seconds > second)
    });
    rows_of(view)
}

/// Returns a view as the golden descriptions list contents.
pub(crate) fn rows_of(view: View) -> Vec<ContentRow> {
    let row = |entry: kit::world::Entry| {
        let id = careen::kopia::content_id::ContentId::from_key(&entry.key).unwrap();
        ContentRow {
            id: id.to_string(),
            deleted: entry.deleted,
            time_seconds: entry.timestamp_seconds,
            length: u64::from(entry.original_length),
            packed_length: u64::from(entry.packed_length),
            pack: entry.pack,
            offset: u64::from(entry.offset),
            compression: u64::from(entry.compression),
        }
    };
    let mut rows: Vec<ContentRow> = view.into_values().map(row).collect();
    rows.sort();
    rows
}

fn compact(variant: &Variant<'_>, password: &str) -> Result<Report, MaintenanceError> {
    let repository = open(variant.path(), password, variant.now())?;
    if !repository.format.epochs.enabled {
        let owner = options(&[], false).owner;
        let compaction = CompactionV0::quick(SETTLE_TIME).as_owner(owner);
        let bench = Bench::new();
        let workspace = bench.workspace();
        return Ok(compaction.run(&repository, &workspace, &mut |_| {})?.report);
    }
    Bench::new().run(&repository, &options(&[], false))
}

#[test]
fn every_damage_has_its_outcome() {
    let golden = Golden::open(DAMAGED);
    let mut names = golden.variant_names();
    names.sort_unstable();
    let mut told = OUTCOMES.map(|(name, _)| name);
    told.sort_unstable();
    assert_eq!(names, told, "the table has every variant");
    let mut wrong = Vec::new();
    for (name, outcome) in &OUTCOMES {
        let variant = golden.variant(name);
        if let Err(what) = judge(&golden, &variant, outcome) {
            wrong.push(format!("{name}: {what}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn judge(golden: &Golden, variant: &Variant<'_>, outcome: &Outcome) -> Result<(), String> {
    let before = folder(variant.path());
    let ended = compact(variant, golden.password());
    let after = folder(variant.path());
    match (outcome, ended) {
        (Stopped(code), Err(error)) if error.code() == *code => {
            let unchanged = before == after;
            unchanged
                .then_some(())
                .ok_or_else(|| format!("stopped ({error}), but it wrote"))
        }
        (Stopped(code), Err(error)) => Err(format!("{}, not {code}: {error}", error.code())),
        (Stopped(code), Ok(report)) => Err(format!("not stopped with {code}: {report}")),
        (_, Err(error)) => Err(format!("stopped with {}: {error}", error.code())),
        (Harmless, Ok(report)) => {
            let expected = content_rows(&variant.base_state()["contents"]).unwrap();
            check_compacted(golden, variant, &before, &report, &expected)
        }
        (UnseenByTheIndex, Ok(report)) => {
            let expected = variant.description()["readerSays"]["live"].as_u64();
            let repository = open(variant.path(), golden.password(), variant.now()).unwrap();
            let rows = contents(&repository);
            if expected != Some(rows.len() as u64) {
                return Err(format!("{} contents, not {expected:?}", rows.len()));
            }
            check_compacted(golden, variant, &before, &report, &rows)
        }
    }
}

/// Epoch 0 is compacted, nothing else changes, and a second run has nothing to do.
fn check_compacted(
    golden: &Golden,
    variant: &Variant<'_>,
    before: &Folder,
    report: &Report,
    expected: &[ContentRow],
) -> Result<(), String> {
    if variant.is_v0() {
        return check_compacted_v0(golden, variant, before, report, expected);
    }
    let after = folder(variant.path());
    let done: Vec<&str> = report.tasks.iter().map(|task| task.task).collect();
    if done != ["compact-single-epoch"] {
        return Err(format!("it did {done:?}"));
    }
    let written: Vec<&String> = after
        .keys()
        .filter(|name| !before.contains_key(*name))
        .collect();
    if !matches!(written[..], [one] if one.starts_with("xs0_")) {
        return Err(format!("it wrote {written:?}"));
    }
    if before
        .iter()
        .any(|(name, blob)| after.get(name) != Some(blob))
    {
        return Err("a blob that was there has changed".to_owned());
    }
    let repository = open(variant.path(), golden.password(), variant.now()).unwrap();
    if let Some(difference) = difference(expected, &contents(&repository)) {
        return Err(difference);
    }
    let again = compact(variant, golden.password()).map_err(|error| error.to_string())?;
    if again.tasks.is_empty() {
        Ok(())
    } else {
        Err(format!("again: {again}"))
    }
}

/// Without epochs: nothing goes, what is written is one index blob and its log, and only where
/// there are eight blobs in use; a second run has nothing to do.
fn check_compacted_v0(
    golden: &Golden,
    variant: &Variant<'_>,
    before: &Folder,
    report: &Report,
    expected: &[ContentRow],
) -> Result<(), String> {
    let after = folder(variant.path());
    let new = after.keys().filter(|name| !before.contains_key(*name));
    let new: Vec<&str> = new.map(|name| &name[..1]).collect();
    let merges = !variant.path().ends_with("v0-intact"); // the others have 12 and more in use
    let wanted: &[&str] = if merges { &["m", "n"] } else { &[] };
    if new != wanted {
        return Err(format!("it wrote {new:?}: {report}"));
    }
    if before
        .iter()
        .any(|(name, blob)| after.get(name) != Some(blob))
    {
        return Err("a blob that was there has changed".to_owned());
    }
    let repository = open(variant.path(), golden.password(), variant.now()).unwrap();
    let view = model::view_v0(&repository.storage, &repository.crypto)?;
    if let Some(difference) = difference(expected, &rows_of(view)) {
        return Err(difference);
    }
    let again = compact(variant, golden.password()).map_err(|error| error.to_string())?;
    again
        .tasks
        .is_empty()
        .then_some(())
        .ok_or_else(|| format!("again: {again}"))
}

/// Goal: repair gives back all entries and deletes nothing; method: the variant whose poorer set
/// comes first, compared with the undamaged base in every field, whatever set a reader takes.
#[test]
fn repair_gives_back_what_a_poorer_set_hides() {
    let golden = Golden::open(DAMAGED);
    let variant = golden.variant("two-xs-sets-unequal");
    let before = folder(variant.path());
    let repository = open(variant.path(), golden.password(), variant.now()).unwrap();
    let bench = Bench::new();
    let expected = content_rows(&variant.base_state()["contents"]).unwrap();
    let poor = contents(&repository);
    let plan = index_repair::plan(&repository, &bench.workspace()).unwrap();
    assert_eq!(
        plan.hidden_entries as usize,
        expected.len() - poor.len(),
        "{plan}"
    );
    assert_eq!(folder(variant.path()), before, "a plan writes nothing");

    let repaired = index_repair::execute(&repository, &bench.workspace(), &options(&[], false));
    let report = repaired.unwrap();
    assert_eq!(report.tasks.len(), 1, "{report}");
    let after = folder(variant.path());
    assert!(
        before
            .iter()
            .all(|(name, blob)| after.get(name) == Some(blob)),
        "append only"
    );
    let new: Vec<&String> = after
        .keys()
        .filter(|name| !before.contains_key(*name))
        .collect();
    assert!(
        matches!(new[..], [one] if one.starts_with("xn2_")),
        "{new:?}"
    );
    assert_eq!(
        difference(&expected, &contents(&repository)),
        None,
        "timestamps included"
    );
    for choice in [Choice::First, Choice::Last] {
        let view = model::view(&repository.storage, &repository.crypto, choice).unwrap();
        assert_eq!(view.len(), expected.len(), "{choice:?}");
    }
    let plan = index_repair::plan(&repository, &bench.workspace()).unwrap();
    assert_eq!(plan.hidden_entries, 0, "{plan}");
    let idle = index_repair::execute(&repository, &bench.workspace(), &options(&[], false));
    assert!(idle.unwrap().tasks.is_empty());
    let report = bench.run(&repository, &options(&[], false)).unwrap();
    assert!(
        report.tasks.iter().all(|task| task.written.is_empty()),
        "{report}"
    );
    assert_eq!(difference(&expected, &contents(&repository)), None);
}

/// Goal: nothing is written under a foreign name; method: the golden repository of another owner.
#[test]
fn another_owner_stops_it() {
    let golden = Golden::open("sessions-foreign-owner");
    let before = folder(golden.path());
    let repository = open(golden.path(), golden.password(), golden.now()).unwrap();
    let error = Bench::new()
        .run(&repository, &options(&[Task::AdvanceEpoch], false))
        .unwrap_err();
    assert_eq!(error.code(), "not-owner", "{error}");
    let late = golden.now().plus(Duration::from_secs(1));
    let repaired = open(golden.path(), golden.password(), late).unwrap();
    let workspace = Bench::new();
    let error =
        index_repair::execute(&repaired, &workspace.workspace(), &options(&[], false)).unwrap_err();
    assert_eq!(error.code(), "not-owner", "{error}");
    assert_eq!(folder(golden.path()), before);
}

#[test]
fn a_wrong_password_opens_nothing() {
    let golden = Golden::open("default-0.23.1");
    let before = folder(golden.path());
    let error = open(golden.path(), "another", golden.now()).err().unwrap();
    assert_eq!(error.code(), "wrong-password", "{error}");
    assert_eq!(folder(golden.path()), before);
}
