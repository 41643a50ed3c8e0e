//! Full maintenance and verification on the damaged golden repositories.
//!
//! One table says of each damage what becomes of `careen run --mode full`, without margins, so that
//! everything that could go would go, and with them, and who of `careen verify` sees it. Where a
//! run is stopped, every blob that was there is there afterwards, and nothing is worse than before;
//! where it is not, its effect is what Kopia recorded of itself, that of the undamaged base.

use std::collections::BTreeSet;
use std::time::Duration;

use careen::maintenance::MaintenanceError;
use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::run_report::RunReport;
use careen::maintenance::safety::Safety;
use careen::repository::verify::{
    ContentOptions, Findings, verify_contents, verify_index, verify_snapshots,
};
use careen::repository::{Repository, RepositoryError};
use kit::cycle::cycle;
use kit::golden::{DAMAGED, Golden};
use kit::index_work::{Bench, open};
use serde_json::Value;

use super::{Folder, folder};
use crate::run_protocol::effect::Look;
use crate::run_protocol::golden::assert_effect;

/// What becomes of full runs.
#[derive(Clone, Copy)]
enum Run {
    /// As if nothing were damaged.
    Harmless,
    /// The first is stopped with this code, and so is every other.
    Stopped(&'static str),
    /// The first has nothing to do with the damage; a run of the next days is stopped with this
    /// code.
    StoppedLater(&'static str),
}

use Run::{Harmless, Stopped, StoppedLater};

/// Codes of findings, or of the error that ends a verification.
type Codes = &'static [&'static str];

/// A damage and what is known of it.
struct Damage {
    name: &'static str,
    /// Without margins.
    none: Run,
    /// With margins.
    full: Run,
    /// What `verify --index`, `--snapshots` and `--contents` find.
    seen: [Codes; 3],
}

const fn damage(name: &'static str, runs: [Run; 2], seen: [Codes; 3]) -> Damage {
    let [none, full] = runs;
    Damage {
        name,
        none,
        full,
        seen,
    }
}

const HARMLESS: [Run; 2] = [Harmless; 2];

const fn stops(code: &'static str) -> [Run; 2] {
    [Stopped(code); 2]
}

const NO: Codes = &[];
const TAG: Codes = &["tag-mismatch"];
const PACK: Codes = &["missing-pack"];
const INDEX: Codes = &["incomplete-index"];
const LOST: Codes = &["content-not-found"];
const LOCK: Codes = &["upgrade-lock"];
const FORMAT: Codes = &["corrupt-format"];
const V0: Codes = &["lost-compaction"];

/// Between two runs of the same repository.
const DAY: Duration = Duration::from_secs(25 * 3_600);

/// What nobody of `verify` sees is no damage of the backups, but for `missing-index-whole-session`:
/// a snapshot that is gone with everything that told of it, but its packs.
const DAMAGES: [Damage; 24] = [
    damage("intact", HARMLESS, [NO, NO, NO]),
    damage("missing-p-pack", stops("missing-pack"), [PACK, PACK, PACK]),
    damage("missing-q-pack", stops("missing-pack"), [PACK, PACK, PACK]),
    damage("truncated-index", stops("tag-mismatch"), [TAG, TAG, TAG]),
    damage("empty-index", stops("tag-mismatch"), [TAG, TAG, TAG]),
    damage("flipped-index-byte", stops("tag-mismatch"), [TAG, TAG, TAG]),
    damage("missing-index", stops("content-not-found"), [NO, LOST, NO]),
    damage("flipped-file-byte", stops("tag-mismatch"), [NO, NO, TAG]),
    damage(
        "flipped-directory-byte",
        stops("tag-mismatch"),
        [NO, TAG, TAG],
    ),
    damage(
        "flipped-manifest-byte",
        stops("tag-mismatch"),
        [NO, TAG, TAG],
    ),
    damage(
        "missing-index-whole-session",
        // With margins no pack is deleted in the run that rewrites.
        [
            Stopped("unexplained-packs"),
            StoppedLater("unexplained-packs"),
        ],
        [NO, NO, NO],
    ),
    damage("half-written-compaction", HARMLESS, [NO, NO, NO]),
    damage(
        "xs-shard-missing-xn-gone",
        stops("incomplete-index"),
        [INDEX, &["incomplete-index", "content-not-found"], INDEX],
    ),
    damage(
        "xn-shard-missing",
        stops("incomplete-index"),
        [INDEX, &["incomplete-index", "content-not-found"], INDEX],
    ),
    damage(
        "two-xs-sets-unequal",
        stops("unequal-index-sets"),
        [&["hidden-entry"], LOST, NO],
    ),
    damage("schedule-truncated", stops("tag-mismatch"), [NO, NO, NO]),
    damage(
        "session-marker-garbage",
        [Stopped("tag-mismatch"), StoppedLater("tag-mismatch")],
        [NO, NO, NO],
    ),
    damage("foreign-files", HARMLESS, [NO, NO, NO]),
    damage("upgrade-lock", stops("upgrade-lock"), [LOCK, LOCK, LOCK]),
    damage(
        "format-truncated",
        stops("corrupt-format"),
        [FORMAT, FORMAT, FORMAT],
    ),
    damage("v0-intact", HARMLESS, [NO, NO, NO]),
    damage("v0-compaction-output-missing", HARMLESS, [NO, NO, NO]),
    damage("v0-half-written-compaction", HARMLESS, [NO, NO, NO]),
    damage(
        "v0-output-and-inputs-missing",
        stops("lost-compaction"),
        [V0, &["lost-compaction", "content-not-found"], V0],
    ),
];

/// Returns the codes of findings, or that of the error.
fn codes(outcome: Result<Findings, RepositoryError>) -> BTreeSet<&'static str> {
    match outcome {
        Ok(found) => found.findings.iter().map(|finding| finding.code).collect(),
        Err(error) => BTreeSet::from([error.code()]),
    }
}

/// Returns what each verification sees.
fn sees(repository: &Repository) -> [BTreeSet<&'static str>; 3] {
    let bench = Bench::new();
    let workspace = bench.workspace();
    let live = ContentOptions {
        percent: 100.0,
        deleted: false,
    };
    [
        codes(verify_index(repository, &workspace).map(|report| report.found)),
        codes(verify_snapshots(repository, &workspace).map(|report| report.found)),
        codes(verify_contents(repository, &workspace, &live).map(|report| report.found)),
    ]
}

fn full_run(repository: &Repository, safety: Safety) -> Result<RunReport, MaintenanceError> {
    Bench::new().cycle(repository, &cycle(Mode::Full, safety, "default@default"))
}

#[test]
fn the_table_has_every_damage() {
    let golden = Golden::open(DAMAGED);
    let told: BTreeSet<&str> = golden.variant_names().into_iter().collect();
    let known: BTreeSet<&str> = DAMAGES.iter().map(|damage| damage.name).collect();
    assert_eq!(told, known);
}

/// Goal: each damage is seen by those who look at it, and stops a run before it deletes anything;
/// method: verify, run, look at every blob, verify and run again.
#[test]
fn without_margins_every_damage_has_its_outcome() {
    check_all("none", Safety::none(), |damage| damage.none);
}

/// The same with Kopia's margins.
#[test]
fn with_margins_every_damage_has_its_outcome() {
    check_all("full", Safety::full(), |damage| damage.full);
}

fn check_all(run: &str, safety: Safety, outcome: fn(&Damage) -> Run) {
    let golden = Golden::open(DAMAGED);
    let mut wrong = Vec::new();
    for damage in &DAMAGES {
        let variant = golden.variant(damage.name);
        let case = Case {
            golden: &golden,
            damage,
            run,
            safety,
            outcome: outcome(damage),
        };
        let judged = match open(variant.path(), golden.password(), variant.now()) {
            Err(error) => case.check_closed(&error),
            Ok(repository) => case.check(&repository),
        };
        if let Err(what) = judged {
            wrong.push(format!("{}: {what}", damage.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A damage and a kind of run.
struct Case<'a> {
    golden: &'a Golden,
    damage: &'a Damage,
    /// As the golden descriptions call it.
    run: &'a str,
    safety: Safety,
    outcome: Run,
}

impl Case<'_> {
    /// A repository that cannot be opened.
    fn check_closed(&self, error: &RepositoryError) -> Result<(), String> {
        let seen = self
            .damage
            .seen
            .iter()
            .all(|codes| *codes == [error.code()]);
        let stopped = matches!(self.outcome, Stopped(code) if code == error.code());
        (seen && stopped)
            .then_some(())
            .ok_or_else(|| format!("{error:?}"))
    }

    fn check(&self, repository: &Repository) -> Result<(), String> {
        let seen = sees(repository);
        let expected = self
            .damage
            .seen
            .map(|codes| codes.iter().copied().collect());
        if seen != expected {
            return Err(format!("verify sees {seen:?}, not {expected:?}"));
        }
        match self.outcome {
            Stopped(code) => {
                self.stops(repository, code)?;
                self.stops(repository, code)
                    .map_err(|what| format!("again: {what}"))?;
            }
            Harmless => self.has_kopias_effect(repository)?,
            StoppedLater(code) => {
                self.has_kopias_effect(repository)?;
                self.stops_later(code)?;
            }
        }
        let now = sees(repository);
        let same = now == seen;
        same.then_some(())
            .ok_or_else(|| format!("after the run verify sees {now:?}, not {seen:?}"))
    }

    /// A run is stopped and has deleted nothing.
    fn stops(&self, repository: &Repository, code: &str) -> Result<(), String> {
        let before = self.folder();
        let ended = full_run(repository, self.safety);
        match ended {
            Err(error) if error.code() == code => check_kept(&before, &self.folder()),
            other => Err(format!("not stopped by {code}: {other:?}")),
        }
    }

    /// A run of the next three days is stopped, and has deleted nothing.
    fn stops_later(&self, code: &str) -> Result<(), String> {
        let variant = self.golden.variant(self.damage.name);
        for day in 1..=3 {
            let now = variant.now().plus(DAY * day);
            let repository = open(variant.path(), self.golden.password(), now).unwrap();
            let before = self.folder();
            if let Err(error) = full_run(&repository, self.safety) {
                let right = error.code() == code;
                right.then_some(()).ok_or_else(|| format!("{error:?}"))?;
                return check_kept(&before, &self.folder());
            }
        }
        Err("never stopped".to_owned())
    }

    fn folder(&self) -> Folder {
        folder(self.golden.variant(self.damage.name).path())
    }

    /// The effect is Kopia's on the same damage, where it could; of a harmless one also that on the
    /// undamaged base, in all that does not depend on which index blobs there are.
    fn has_kopias_effect(&self, repository: &Repository) -> Result<(), String> {
        let look = Look::at(repository);
        full_run(repository, self.safety).map_err(|error| format!("{error:?}"))?;
        let effect = Look::at(repository).since(&look);
        let (name, run) = (self.damage.name, format!("maintenance {}", self.run));
        let variants = &self.golden.description()["variants"];
        let own = &variants[name][&run];
        let part = fields_of(&effect, |field| own.get(field).is_some());
        assert_effect(&part, own, &mut 0, &format!("{name} as Kopia"));
        if matches!(self.outcome, Harmless) {
            let base = &variants[variants[name]["base"].as_str().unwrap()][&run];
            let part = fields_of(&effect, |field| CONTENT_FIELDS.contains(&field));
            assert_effect(&part, base, &mut 0, &format!("{name} as its base"));
        }
        Ok(())
    }
}

/// What is told of contents and packs.
const CONTENT_FIELDS: [&str; 6] = [
    "contentsAfter",
    "newlyDeleted",
    "undeleted",
    "droppedFromIndex",
    "rewritten",
    "packsDeleted",
];

fn fields_of(effect: &Value, kept: impl Fn(&str) -> bool) -> Value {
    let mut effect = effect.clone();
    effect
        .as_object_mut()
        .unwrap()
        .retain(|field, _| kept(field));
    effect
}

/// Nothing is gone, and nothing but the schedule has changed.
fn check_kept(before: &Folder, after: &Folder) -> Result<(), String> {
    let schedule = |name: &str| name == "kopia.maintenance";
    for (name, blob) in before {
        match after.get(name) {
            None => return Err(format!("{name} is gone")),
            Some(now) if now != blob && !schedule(name) => {
                return Err(format!("{name} is another"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
