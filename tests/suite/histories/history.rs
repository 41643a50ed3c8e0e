//! One history: a repository, clients of several users, what they have done, and what must be there
//! therefore.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use careen::clock::SeededRandomness;
use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::safety::Safety;
use kit::aging::age;
use kit::cycle::cycle;
use kit::data_dir::DataDir;
use kit::index_work::{Bench, open_live};
use kit::kopia::{Client, CreateOptions, EpochParameters, IDENTITY, Kopia};
use kit::program;
use tempfile::TempDir;

use super::tree::Tree;

pub(super) const PASSWORD: &str = "a password";

/// Who writes; the first one owns the maintenance.
const USERS: [&str; 3] = [IDENTITY, "alice@laptop", "bob@server"];

/// Who maintains, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maintainer {
    Careen,
    CareenUnsafe,
    Kopia,
    KopiaUnsafe,
}

/// A user's client, folder, and snapshots.
struct User {
    /// None until it is needed: connecting takes as long as a snapshot.
    client: Option<Client>,
    tree: Tree,
    snapshots: Vec<String>,
}

/// A repository with its users.
pub(super) struct History {
    dir: TempDir,
    kopias: Vec<Kopia>,
    users: Vec<User>,
    random: SeededRandomness,
    bench: Bench,
    /// Runs of Careen that were killed.
    pub(super) killed: usize,
    /// What happened, for whoever looks at a failure.
    log: Vec<String>,
}

impl History {
    pub(super) fn new(kopias: &[Kopia], create: &CreateOptions, seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The oldest creates it, so that all of them can read it.
        let first = kopias[0].create(dir.path(), PASSWORD, create).unwrap();
        if create.format_version != 1 {
            // So that epochs are settled and compacted within a few rounds.
            let parameters = EpochParameters::smallest();
            first.set_epoch_parameters(&parameters).unwrap();
        }
        let mut history = Self {
            dir,
            kopias: kopias.to_vec(),
            users: Vec::new(),
            random: SeededRandomness::new(seed),
            bench: Bench::new(),
            killed: 0,
            log: vec![format!("seed {seed}, format {}", create.format_version)],
        };
        for number in 0..USERS.len() as u64 {
            history.users.push(User {
                client: None,
                tree: Tree::new(seed * 100 + number),
                snapshots: Vec::new(),
            });
        }
        history
    }

    fn connect(&self, user: usize) -> Client {
        let kopia = &self.kopias[(user + self.log.len()) % self.kopias.len()];
        self.told(kopia.connect(self.dir.path(), PASSWORD, USERS[user]))
    }

    /// Makes sure that a user is connected.
    fn arrive(&mut self, user: usize) {
        if self.users[user].client.is_none() {
            self.users[user].client = Some(self.connect(user));
        }
    }

    /// Returns the client of a user who is connected.
    fn client(&self, user: usize) -> &Client {
        let client = self.users[user].client.as_ref();
        client.expect("who acts is connected")
    }

    /// Panics with what happened so far.
    fn told<T, E: std::fmt::Display>(&self, outcome: Result<T, E>) -> T {
        outcome.unwrap_or_else(|error| panic!("{error}\nafter:\n{}", self.log.join("\n")))
    }

    fn random(&self, below: usize) -> usize {
        self.random.next_u64() as usize % below.max(1)
    }

    /// Everybody does something.
    pub(super) fn work(&mut self, actions: usize) {
        for number in 0..actions {
            let user = self.random(self.users.len());
            self.arrive(user);
            // Every round has some of each of the important ones.
            match (number, self.random(8)) {
                (0 | 1, _) | (_, 0 | 1) => self.snapshot(user),
                (2, _) | (_, 2 | 3) => self.forget(user),
                (3, _) | (_, 4) => self.delete_contents(user),
                (_, 5) => self.set_policy(user),
                _ => self.die(user),
            }
        }
    }

    fn snapshot(&mut self, user: usize) {
        self.users[user].tree.change();
        self.log.push(format!("{} makes a snapshot", USERS[user]));
        let tree = self.users[user].tree.path();
        let snapshot = self.told(self.client(user).snapshot_create(tree, &[]));
        let id = snapshot["id"].as_str().unwrap().to_owned();
        self.users[user].snapshots.push(id);
    }

    fn forget(&mut self, user: usize) {
        let count = self.users[user].snapshots.len();
        if count == 0 {
            return self.snapshot(user);
        }
        let number = self.random(count);
        let id = self.users[user].snapshots.remove(number);
        self.log
            .push(format!("{} deletes snapshot {id}", USERS[user]));
        self.told(self.client(user).snapshot_delete(&id));
    }

    /// Deletes contents whether anybody needs them or not: GC brings back what is needed.
    fn delete_contents(&mut self, user: usize) {
        let rows = self.told(self.client(user).content_list());
        let live = rows
            .iter()
            .filter(|row| !row.deleted && !row.id.starts_with('m'));
        let live: Vec<&str> = live.map(|row| row.id.as_str()).collect();
        if live.is_empty() {
            return;
        }
        let ids: BTreeSet<&str> = (0..3).map(|_| live[self.random(live.len())]).collect();
        self.log
            .push(format!("{} deletes contents {ids:?}", USERS[user]));
        self.told(self.client(user).content_delete(ids));
    }

    fn set_policy(&mut self, user: usize) {
        let path = format!("/somewhere/{}", self.random(4));
        let keep = (1 + self.random(9)).to_string();
        self.log
            .push(format!("{} sets a policy for {path}", USERS[user]));
        let arguments = ["policy", "set", &path, "--keep-latest", &keep];
        self.told(self.client(user).run(&arguments));
    }

    /// Starts a snapshot of much that is new and kills it some time after its first blob.
    fn die(&mut self, user: usize) {
        let (client, tree) = (self.client(user), &self.users[user].tree);
        tree.grow(70);
        let markers = self.markers();
        let path = tree.path().to_string_lossy().into_owned();
        let mut command = client.command(&["snapshot", "create", &path]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        while self.markers() == markers && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(3));
        }
        std::thread::sleep(Duration::from_millis(self.random(150) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        tree.shrink();
        let left = self.markers() - markers;
        self.log
            .push(format!("{} dies and leaves {left} sessions", USERS[user]));
        // It may have been faster than we were.
        self.users[user].snapshots = self.snapshots_of(user);
    }

    /// Returns the number of session markers.
    fn markers(&self) -> usize {
        let folder = self.dir.path().join("s");
        let folders = std::fs::read_dir(folder).into_iter().flatten().flatten();
        folders
            .filter_map(|folder| std::fs::read_dir(folder.path()).ok())
            .flatten()
            .count()
    }

    fn snapshots_of(&self, user: usize) -> Vec<String> {
        let listed = self.told(self.client(user).snapshot_list());
        let path = self.users[user].tree.path().to_string_lossy().into_owned();
        let own = listed
            .iter()
            .filter(|row| row["source"]["path"] == path.as_str());
        own.map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Nobody does anything for a while; then everybody connects afresh.
    pub(super) fn pause(&mut self, time: Duration) {
        self.log
            .push(format!("{} hours pass", time.as_secs() / 3_600));
        let repository = self.told(open_live(self.dir.path(), PASSWORD));
        let data = self.told(DataDir::open(self.dir.path()));
        self.told(age(&repository, &data, time));
    }

    pub(super) fn maintain(&mut self, maintainer: Maintainer) {
        self.log.push(format!("{maintainer:?} maintains"));
        let safety = match maintainer {
            Maintainer::Careen => Safety::full(),
            Maintainer::CareenUnsafe => Safety::none(),
            Maintainer::Kopia | Maintainer::KopiaUnsafe => {
                let owner = self.connect(0);
                return match maintainer {
                    Maintainer::Kopia => self.told(owner.maintenance_run(true)),
                    _ => self.told(owner.maintenance_run_unsafe()),
                };
            }
        };
        let repository = self.told(open_live(self.dir.path(), PASSWORD));
        let options = cycle(Mode::Full, safety, IDENTITY);
        let report = self.told(self.bench.cycle(&repository, &options));
        let done = report
            .tasks
            .iter()
            .map(|run| format!("  {}: {}", run.task, run.what));
        self.log.extend(done);
    }

    /// Lets the program maintain, with or without margins, and kills it some time after it has
    /// taken its lease: less than such a run takes, mostly.
    pub(super) fn kill_careen(&mut self, margins: bool) {
        let mut wait = self.random(250) as u64;
        // One that was faster than its killer is followed by one that has half as long.
        while !self.is_killed(margins, wait) && wait > 0 {
            wait /= 2;
        }
    }

    /// A run of the program is killed so many milliseconds after it has taken its lease, unless it
    /// ends before; returns whether it was.
    fn is_killed(&mut self, margins: bool, wait: u64) -> bool {
        let program = program::careen().expect("the test asked for it");
        let safety = if margins { "full" } else { "none" };
        let mut command = Command::new(program);
        command.args(["run", "--mode", "full", "--memory", "64MiB", "--json"]);
        command.args(["--safety", safety, "--owner", IDENTITY, "--scratch"]);
        // Beside the repository: the system's temporary directory may be in memory.
        command.arg(kit::disk());
        command.arg(self.dir.path()).env("KOPIA_PASSWORD", PASSWORD);
        let schedule = self.dir.path().join("kopia.maintenance.f");
        let before = std::fs::read(&schedule).ok();
        let quiet = command.stdin(Stdio::null()).stderr(Stdio::null());
        let mut child = quiet.stdout(Stdio::null()).spawn().unwrap();
        while std::fs::read(&schedule).ok() == before && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        let what = format!("Careen runs with safety {safety}, {wait} ms with a lease: {ended}");
        self.log.push(what.clone());
        self.killed += usize::from(ended.code().is_none());
        self.told(match ended.code() {
            None | Some(0) => Ok(()),
            Some(_) => Err(what),
        });
        ended.code().is_none()
    }

    /// Kopia reads everything, and finds every snapshot that nobody deleted. Whoever acts next
    /// connects afresh.
    pub(super) fn verify(&mut self) {
        for user in &mut self.users {
            user.client = None;
        }
        self.arrive(0);
        let client = self.client(0);
        let listed = self.told(client.snapshot_list());
        let listed: BTreeSet<&str> = listed.iter().filter_map(|row| row["id"].as_str()).collect();
        let told = self.users.iter().flat_map(|user| &user.snapshots);
        let told: BTreeSet<&str> = told.map(String::as_str).collect();
        let same = if listed == told {
            Ok(())
        } else {
            Err(format!("{listed:?}, not {told:?}"))
        };
        self.told(same);
        self.told(client.snapshot_verify());
        self.told(client.content_verify(true));
    }

    /// Nobody writes any more: in the end nothing is left that nobody uses. Every other run
    /// rewrites, and what is deleted counts from then on; so it takes some.
    pub(super) fn end(&mut self) {
        for _ in 0..6 {
            self.pause(Duration::from_secs(130 * 3_600));
            self.maintain(Maintainer::Careen);
        }
        self.verify();
        let rows = self.told(self.client(0).content_list());
        let deleted = rows
            .iter()
            .filter(|row| row.deleted && !row.id.starts_with('m'))
            .count();
        let named: BTreeSet<&str> = rows.iter().map(|row| row.pack.as_str()).collect();
        let data = self.told(DataDir::open(self.dir.path()));
        let packs = self.told(data.list()).into_iter().map(|blob| blob.id);
        let packs: Vec<String> = packs.filter(|id| id.starts_with(['p', 'q'])).collect();
        let extra: Vec<_> = packs
            .iter()
            .filter(|id| !named.contains(id.as_str()))
            .collect();
        let left = format!("{deleted} deleted contents and the packs {extra:?} are left");
        self.told(if deleted == 0 && extra.len() < 2 {
            Ok(())
        } else {
            Err(left)
        });
    }
}
