//! A repository, and the real program at work on it in 64 MiB, with the plugin of a stranger.
//!
//! One repository for each test: since every attack leaves it as it was, the next one finds what
//! the first found. Compiled guests are kept in a directory of the test's own. Memory: names and
//! digests of a few dozen blobs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use careen::clock::{Clock, SystemClock};
use kit::cgroup::MemoryGroup;
use kit::data_dir::DataDir;
use kit::program;
use serde_json::Value;
use tempfile::TempDir;

use super::attacks::Attack;

/// The promise: what everything has to live in, in MiB.
const LIMIT_MIB: u64 = 64;

/// Longest that the program may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// What a run writes before it asks about packs and snapshots: its lease, and what became of the
/// task.
const SCHEDULE: &str = "kopia.maintenance";

/// Errors before a plugin runs.
const CONFIGURATION: i32 = 50;

/// Errors of a plugin that ran.
const SAFETY_STOP: i32 = 60;

/// Who asks the plugin what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    /// Index maintenance, about the shape of the index.
    Split,
    /// The rewrite of a run, about packs.
    Repack,
    /// The expiry of snapshots.
    Retention,
    /// The same before the first task of a run.
    RetentionOfRun,
    /// A run, about its tasks.
    Scheduling,
}

impl Strategy {
    /// Returns the command, and the strategy's name for `--plugin`.
    pub(super) fn words(self) -> (&'static [&'static str], &'static str) {
        let full: &[&str] = &["run", "--mode", "full"];
        match self {
            Self::Split => (&["index", "compact"], "splitting"),
            Self::Repack => {
                let words = &[
                    "run",
                    "--mode",
                    "full",
                    "--safety",
                    "none",
                    "--task",
                    "full-rewrite-contents",
                ];
                (words, "splitting")
            }
            Self::Retention => (&["snapshot", "expire", "--delete"], "retention"),
            Self::RetentionOfRun => {
                let words = &["run", "--mode", "full", "--expire-snapshots"];
                (words, "retention")
            }
            Self::Scheduling => (full, "scheduling"),
        }
    }

    /// Returns whether the plugin is asked before the first write.
    fn comes_first(self) -> bool {
        !matches!(self, Self::Repack | Self::RetentionOfRun)
    }
}

/// How the program ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) exit: Option<i32>,
    pub(super) stdout: String,
    oom_kills: u64,
}

impl Ended {
    /// Returns the last line of a kind.
    pub(super) fn line(&self, kind: &str) -> Option<Value> {
        let lines = self.stdout.lines().rev();
        let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["kind"] == kind)
    }
}

/// A repository and the program.
pub(super) struct Ship {
    folder: TempDir,
    before: BTreeMap<String, String>,
    group: Option<MemoryGroup>,
    started: Instant,
}

impl Ship {
    /// Makes a repository of some backups; none without a program.
    pub(super) fn launch() -> Option<Self> {
        program::careen()?;
        let group = MemoryGroup::new_or_say(Some(LIMIT_MIB << 20));
        let folder = tempfile::Builder::new()
            .prefix("hostile-")
            .tempdir_in(kit::disk())
            .unwrap();
        let mut ship = Self {
            folder,
            before: BTreeMap::new(),
            group,
            started: Instant::now(),
        };
        let made = Command::new(program::careen()?)
            .args(["demo", "--no-run", "--snapshots", "4", "--deleted", "0"])
            .args(["--directories", "4", "--files", "10", "--sessions", "4"])
            .arg("--keep")
            .arg(ship.repository())
            .env("KOPIA_PASSWORD", PASSWORD)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        // More epochs, so that there are ranges to be wrong about: 0 to 10 are settled.
        let repository = DataDir::open(&ship.repository()).unwrap();
        let time = SystemClock.now().minus(Duration::from_secs(3_600));
        repository.advance_to_epoch(12, time).unwrap();
        ship.before = ship.blobs();
        Some(ship)
    }

    fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    /// Returns a place in the test's own directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the digest of every blob.
    fn blobs(&self) -> BTreeMap<String, String> {
        let repository = DataDir::open(&self.repository()).unwrap();
        repository.fingerprint().unwrap()
    }

    /// Prepares the program, for who starts it outside of the group.
    pub(super) fn prepare(&self, mut command: Command, words: &[&str]) -> Command {
        command
            .args(words)
            .args(["--json", "--memory", &format!("{LIMIT_MIB}MiB")])
            .arg("--scratch")
            .arg(self.path("scratch"))
            .arg(self.repository())
            .env("KOPIA_PASSWORD", PASSWORD)
            .env("XDG_CACHE_HOME", self.path("cache"))
            .stdin(Stdio::null());
        command
    }

    /// Runs the program in the group to its end.
    pub(super) fn careen(&self, words: &[&str]) -> Ended {
        let program = program::careen().expect("the ship was launched");
        let Some(group) = &self.group else {
            let mut command = self.prepare(Command::new(program), words);
            let ended = command.output().unwrap();
            return Ended {
                exit: ended.status.code(),
                stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
                oom_kills: 0,
            };
        };
        let mut command = self.prepare(group.command(program), words);
        let run = group.run(&mut command, DEADLINE).unwrap();
        assert!(!run.timed_out, "{words:?}: {run}");
        Ended {
            exit: run.status.code(),
            stdout: run.stdout_text(),
            oom_kills: run.oom_kills,
        }
    }

    /// Runs the program with a plugin's file, which may be pinned.
    pub(super) fn careen_with(&self, strategy: Strategy, file: &str) -> Ended {
        let (words, name) = strategy.words();
        let plugin = format!("{name}={file}");
        self.careen(&[words, &["--plugin", &plugin]].concat())
    }

    /// Lets a guest try, and sees that nothing came of it.
    pub(super) fn attacked(&self, strategy: Strategy, attack: &Attack, wasm: &[u8]) {
        let path = self.path("guest.wasm");
        std::fs::write(&path, wasm).unwrap();
        let ended = self.careen_with(strategy, path.to_str().unwrap());
        let moment = format!("{strategy:?}: one that {}", attack.name);
        let message = self.ended_by(&ended, attack.code, &moment, strategy.comes_first());
        assert!(message.contains(attack.words), "{moment}: {message}");
        // The host's own refusals of harmless answers do not need the plugin's name.
        if attack.code.starts_with("plugin-") {
            let digest = blake3::hash(wasm);
            let named = [
                format!(" (blake3 {digest}, "),
                "memory 8192 KiB, fuel 1000000000, deadline 5000 ms): ".to_owned(),
            ];
            let is_named = named.iter().all(|words| message.contains(words));
            assert!(is_named, "{moment}: {message}");
        }
        // How many snapshots may be expired is the user's business, not one of its limits.
        if attack.code != "too-many-expired" {
            assert!(message.contains("(used: memory "), "{moment}: {message}");
        }
    }

    /// Lets a guest try that has all the fuel that there is, and little time.
    pub(super) fn runs_into_the_deadline(&self, strategy: Strategy, wasm: &[u8]) {
        std::fs::write(self.path("guest.wasm"), wasm).unwrap();
        let (words, name) = strategy.words();
        let file = self.path("strategies.toml");
        let limits = "plugin = \"guest.wasm\"\nfuel = 100_000_000_000\ndeadline = \"50ms\"\n";
        std::fs::write(&file, format!("[{name}]\n{limits}")).unwrap();
        let file = file.to_str().unwrap();
        let ended = self.careen(&[words, &["--strategies", file]].concat());
        let moment = format!("{strategy:?}: one that loops on and on");
        let all = strategy.comes_first();
        let message = self.ended_by(&ended, "plugin-deadline", &moment, all);
        for words in [
            &*format!(" (blake3 {}, ", blake3::hash(wasm)),
            "fuel 100000000000, deadline 50 ms): reached its deadline (used: memory ",
            " of 50 ms)",
        ] {
            assert!(message.contains(words), "{moment}: {message}");
        }
    }

    /// Checks code, exit code and the kernel's word, and that the repository is as before; returns
    /// the message.
    pub(super) fn ended_by(&self, ended: &Ended, code: &str, moment: &str, all: bool) -> String {
        let error = ended.line("error").unwrap_or_default();
        assert_eq!(error["code"], code, "{moment}: {ended:?}");
        let early = [
            "plugin-argument",
            "plugin-io",
            "plugin-too-large",
            "plugin-digest-mismatch",
            "plugin-compile",
            "plugin-compile-limit",
            "plugin-import",
            "plugin-world",
        ];
        let exit = match early.contains(&code) {
            true => CONFIGURATION,
            false => SAFETY_STOP,
        };
        assert_eq!(ended.exit, Some(exit), "{moment}: {ended:?}");
        assert_eq!(ended.oom_kills, 0, "{moment}: the kernel killed");
        self.unchanged(moment, all);
        error["message"].as_str().unwrap_or_default().to_owned()
    }

    /// Checks that the repository is as before; a run's own schedule apart, unless `all`.
    pub(super) fn unchanged(&self, moment: &str, all: bool) {
        let (mut before, mut after) = (self.before.clone(), self.blobs());
        if !all {
            before.remove(SCHEDULE);
            after.remove(SCHEDULE);
        }
        assert_eq!(after, before, "{moment}: the repository is another");
    }

    /// The built-in strategies do all that the guests did not, on the same repository.
    pub(super) fn sails_on(&self) {
        for words in [
            &["plan", "--mode", "full"][..],
            &["index", "compact"],
            &["snapshot", "expire", "--delete"],
            &["run", "--mode", "full", "--safety", "none"],
            &["verify", "--contents"],
        ] {
            let ended = self.careen(words);
            assert_eq!(ended.exit, Some(0), "{words:?}: {ended:?}");
            assert_eq!(ended.oom_kills, 0, "{words:?}: the kernel killed");
        }
        assert_ne!(self.blobs(), self.before, "there was something to do");
        let seconds = self.started.elapsed().as_secs_f64();
        kit::say_once(&format!(
            "hostile plugins: {seconds:.1} s for one of the tests"
        ));
    }
}

/// The demo's password.
const PASSWORD: &str = "static-passw0rd";
