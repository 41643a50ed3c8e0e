//! A real process on a real folder, killed by the kernel at sampled moments.
//!
//! Two of them: this suite's own binary, which runs index maintenance in process and is always
//! there; and the program, where it is built. The moments are spread over the time that an
//! undisturbed run takes. Afterwards a reader sees what it saw, and one more run ends with the
//! index blobs of the undisturbed one.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use careen::blob::{LocalOptions, LocalStore, Storage};
use kit::data_dir::DataDir;
use kit::index_work::{Bench, open, options};
use kit::program;
use kit::world::model::{self, Choice, View};
use kit::world::{Entry, START, World, WorldOptions};
use tempfile::TempDir;

use super::scenarios;

const PASSWORD: &str = "a password";

/// Names the folder for the child.
const FOLDER: &str = "CAREEN_SUITE_FOLDER";

/// Kills of one program.
const KILLS: u32 = 14;

/// A settled world with some thousand entries more, so that there is time to be killed in.
fn world() -> World {
    let world = scenarios::settled_world(WorldOptions {
        epochs: scenarios::parameters(),
        password: Some(PASSWORD),
        ..WorldOptions::default()
    });
    for number in 0..60 {
        let first = 10_000 + number * 150;
        let entries: Vec<Entry> = (first..first + 200)
            .map(|n| world.data(n, n / 20, 1000 + number as i64))
            .collect();
        world.put_uncompacted(
            2 + number % 2,
            &entries,
            START.minus(Duration::from_secs(100_000)),
        );
    }
    world
}

fn view(world: &World, folder: &Path) -> View {
    let store = LocalStore::open(folder, LocalOptions::default()).unwrap();
    let storage = Storage::new(std::sync::Arc::new(store));
    model::view(&storage, &world.crypto, Choice::First).unwrap()
}

/// Returns the index blobs without suffixes.
fn stems(folder: &Path) -> BTreeSet<String> {
    let blobs = DataDir::open(folder).unwrap().list_prefix("x").unwrap();
    blobs
        .into_iter()
        .map(|blob| blob.id.split('-').next().unwrap().to_owned())
        .collect()
}

fn folder(world: &World) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    world.write_to(folder.path()).unwrap();
    folder
}

/// Runs the child test below in a process of its own.
fn own_binary(folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "kill::processes::compacts_a_folder", "--ignored"])
        .env(FOLDER, folder);
    command
}

#[test]
#[ignore = "run by the other tests in a process of its own"]
fn compacts_a_folder() {
    let folder = std::env::var_os(FOLDER).unwrap();
    let repository = open(Path::new(&folder), PASSWORD, START).unwrap();
    Bench::new()
        .run(&repository, &options(&scenarios::ALL_BUT_ADVANCE, false))
        .unwrap();
}

fn program(folder: &Path) -> Command {
    let mut command = Command::new(program::careen().expect("the test asked for it"));
    command.args(["index", "compact", "--memory", "64MiB", "--scratch"]);
    // Beside the repository: the system's temporary directory may be in memory.
    command.arg(kit::disk()).arg(folder);
    for task in scenarios::ALL_BUT_ADVANCE {
        command.args(["--task", task.name()]);
    }
    command.env("KOPIA_PASSWORD", PASSWORD);
    command
}

fn run(mut command: Command) -> Duration {
    let start = Instant::now();
    let ended = command.stdin(Stdio::null()).output().unwrap();
    let said = [ended.stdout, ended.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(ended.status.success(), "{command:?}: {said:?}");
    start.elapsed()
}

fn kill(mut command: Command, after: Duration) {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = quiet.spawn().unwrap();
    std::thread::sleep(after);
    child.kill().unwrap(); // SIGKILL; fine if it has ended
    child.wait().unwrap();
}

fn killed_at_sampled_moments(command: fn(&Path) -> Command) {
    let world = world();
    let undisturbed = folder(&world);
    let before = view(&world, undisturbed.path());
    let start = stems(undisturbed.path());
    let whole = run(command(undisturbed.path()));
    let expected = stems(undisturbed.path());
    assert_eq!(
        model::difference(&before, &view(&world, undisturbed.path())),
        None
    );
    let mut seen = BTreeSet::new();
    for number in 1..=KILLS {
        let folder = folder(&world);
        kill(command(folder.path()), whole * number / KILLS);
        let moment = format!("killed {number}/{KILLS} of {whole:?} after its start");
        let difference = model::difference(&before, &view(&world, folder.path()));
        assert_eq!(difference, None, "{moment}");
        seen.insert(stems(folder.path()));
        run(command(folder.path()));
        assert_eq!(stems(folder.path()), expected, "{moment}");
        assert_eq!(
            model::difference(&before, &view(&world, folder.path())),
            None,
            "{moment}"
        );
    }
    assert!(
        seen.contains(&start),
        "some are killed before anything was written"
    );
}

#[test]
fn killed_on_a_folder() {
    killed_at_sampled_moments(own_binary);
}

#[test]
fn the_program_killed_on_a_folder() {
    if program::careen().is_some() {
        killed_at_sampled_moments(program);
    }
}
