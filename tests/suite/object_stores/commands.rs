//! The program as its users call it, with keys in the environment: every command that a night
//! needs, in each store, and the repository judged afterwards.
//!
//! Without a built program nothing is tested, and the kit says so.

use std::path::Path;
use std::process::{Command, Stdio};

use careen::blob::Storage;
use careen::blob::object::WireLimits;
use kit::checker::Checker;
use kit::golden::Golden;
use kit::kopia::newest;
use kit::object_stores::{Place, all, carry_back, carry_there};
use kit::program;
use serde_json::Value;

/// What a command said.
pub(super) struct Told {
    pub(super) exit: Option<i32>,
    /// Its JSON lines.
    pub(super) lines: Vec<Value>,
    /// All of it, for messages.
    pub(super) all: String,
}

/// A repository in a store, and the program.
pub(super) struct User<'a> {
    pub(super) program: &'a Path,
    pub(super) place: &'a Place,
    pub(super) golden: &'a Golden,
}

impl<'a> User<'a> {
    /// Carries a golden repository to a place; `None` where there is no program.
    pub(super) fn carried(golden: &'a Golden, place: &'a Place) -> Option<Self> {
        let program = program::careen()?;
        let storage = Storage::new(place.store(&WireLimits::default()));
        carry_there(&golden.data(), &storage);
        Some(Self {
            program,
            place,
            golden,
        })
    }

    /// Makes a call, on whatever way to the place.
    pub(super) fn command(&self, words: &[&str], place: &Place) -> Command {
        let mut command = Command::new(self.program);
        command.args(words);
        place.tell(&mut command);
        command
            .args(["--json", "--owner", self.golden.maintenance_owner()])
            .args(["--memory", "64MiB", "--scratch"])
            .arg(kit::disk())
            .env("KOPIA_PASSWORD", self.golden.password())
            .stdin(Stdio::null());
        command
    }

    /// Calls the program on whatever way to the place.
    pub(super) fn call_through(&self, words: &[&str], place: &Place) -> Told {
        self.told(&mut self.command(words, place), &format!("{words:?}"))
    }

    /// Runs a call that says all that it can, and looks for secrets in it.
    pub(super) fn told(&self, command: &mut Command, what: &str) -> Told {
        let last_word = tempfile::NamedTempFile::new().unwrap();
        command
            .env("CAREEN_LOG", "trace")
            .env("CAREEN_TERMINATION_LOG", last_word.path());
        let ended = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, errors) = (text(&ended.stdout), text(&ended.stderr));
        let last_word = std::fs::read_to_string(last_word.path()).unwrap();
        let all = format!("{what}: {}\n{out}\n{errors}\n{last_word}", ended.status);
        for secret in self.place.secrets() {
            assert!(!all.contains(secret), "a secret was told: {what}");
        }
        assert!(
            !all.contains(self.golden.password()),
            "the password was told"
        );
        let lines = out.lines().map(|line| serde_json::from_str(line).unwrap());
        Told {
            exit: ended.status.code(),
            lines: lines.collect(),
            all,
        }
    }

    pub(super) fn call(&self, words: &[&str]) -> Told {
        let told = self.call_through(words, self.place);
        assert_eq!(told.exit, Some(0), "{}: {}", self.place.location, told.all);
        told
    }

    /// Carries the repository into a folder, where the judges read it.
    pub(super) fn judge(&self, what: &str) {
        let storage = Storage::new(self.place.store(&WireLimits::default()));
        let (golden, folder) = (self.golden, tempfile::tempdir().unwrap());
        carry_back(&storage, golden.path(), folder.path()).unwrap();
        if let Some(kopia) = newest() {
            let owner = golden.maintenance_owner();
            let client = kopia.connect(folder.path(), golden.password(), owner);
            let client = client.unwrap_or_else(|error| panic!("{what}: {error}"));
            client.snapshot_verify().unwrap();
            client.content_verify(false).unwrap();
        }
        if let Some(checker) = Checker::find() {
            let verified = checker.verify(folder.path(), golden.password());
            let verified = verified.unwrap_or_else(|error| panic!("{what}: {error}"));
            let lost = verified.missing + verified.in_use_but_deleted;
            assert_eq!(lost, 0, "{what}: {verified:?}");
        }
    }
}

/// What a full cycle is called as.
pub(super) const FULL: [&str; 5] = ["run", "--mode", "full", "--safety", "none"];

#[test]
fn a_night_in_each_store() {
    // Goal: doctor, status, plan, run, verify, as a user calls them, all end with 0; judges agree.
    for name in ["small-packs", "velero-0.17.0"] {
        let golden = Golden::open(name);
        for place in all() {
            let Some(user) = User::carried(&golden, &place) else {
                return;
            };
            let told = user.call(&["doctor", "--write-probe"]);
            let states = told.lines.iter().filter(|line| line["kind"] == "row");
            for row in states {
                assert_ne!(row["state"], "error", "{}: {row}", place.location);
            }
            user.call(&["status"]);
            let plan = user.call(&["plan", "--mode", "full", "--safety", "none"]);
            let run = user.call(&FULL);
            let ended = |line: &Value| line["task"].is_string() && line["state"] == "ended";
            let wrote = |told: &Told| told.lines.iter().any(ended);
            assert!(!wrote(&plan) && wrote(&run), "{}", run.all);
            user.call(&["verify", "--index"]);
            user.call(&["verify", "--snapshots"]);
            user.call(&["verify", "--contents", "--percent", "100"]);
            let told = user.call(&["doctor"]);
            assert!(!told.all.contains("\"error\""), "{}", told.all);
            user.judge(&format!("{name} at {}", place.location));
        }
    }
}

#[test]
fn a_run_that_used_up_its_bytes_lets_the_next_one_begin() {
    // Goal: wherever the budget ends, the run gives back its lease, and nothing is lost.
    let golden = Golden::open("small-packs");
    for (budget, exit) in [
        ("--max-upload=1KiB", Some(20)),
        ("--max-upload=40KiB", None),
        ("--max-download=20KiB", Some(20)),
    ] {
        for place in all() {
            let Some(user) = User::carried(&golden, &place) else {
                return;
            };
            let told = user.call_through(&[&FULL[..], &[budget]].concat(), &place);
            assert!(matches!(told.exit, Some(0 | 20)), "{}", told.all);
            assert!(
                exit.is_none() || told.exit == exit,
                "{budget}: {}",
                told.all
            );
            user.call(&FULL);
            user.call(&["verify", "--contents"]);
            user.judge(&format!("{budget} at {}", place.location));
        }
    }
}
