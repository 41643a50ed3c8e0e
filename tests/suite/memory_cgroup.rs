//! The memory contract, where the kernel counts: in a cgroup of exactly `--memory`, without swap,
//! index maintenance is never killed, and its result is right.
//!
//! 300,000 entries in 2,000 index blobs are compacted in 64 MiB, by this suite's own binary and,
//! where it is built, by the program. Both are debug builds: larger and slower than what is
//! released. The kit says so where no cgroup can be made.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use careen::blob::{LocalOptions, LocalStore, Storage};
use careen::clock::{SeededRandomness, SharedRandomness, Timestamp};
use careen::kopia::blob_id::BlobId;
use careen::kopia::sealed_blob::BlobCrypto;
use careen::memory::{MIB, MemoryPlan};
use careen::progress::Silent;
use careen::repository::index_generator::{GeneratorOptions, GeneratorTarget, generate};
use careen::repository::new_repository::{
    NewRepositoryOptions, VELERO_OWNER, VELERO_PASSWORD, create,
};
use kit::cgroup::{MemoryGroup, Run};
use kit::index_work::{Bench, open_within, options};
use kit::program;
use kit::world::model::{self, Choice, View};
use tempfile::TempDir;

const LIMIT_MIB: usize = 64;

const DEADLINE: Duration = Duration::from_secs(300);

/// Names the folder for the child.
const FOLDER: &str = "CAREEN_SUITE_FOLDER";

/// A moment after everything that the generator writes.
const NOW: Timestamp = Timestamp::from_seconds(1_788_220_800);

/// A repository whose epoch 0 is settled and has 2,000 index blobs.
pub(crate) struct Large {
    folder: TempDir,
    crypto: BlobCrypto,
    before: View,
}

impl Large {
    pub(crate) fn make() -> Self {
        let folder = tempfile::tempdir_in(kit::disk()).unwrap();
        let local = LocalOptions {
            durable: false,
            ..LocalOptions::default()
        };
        let store = LocalStore::create(folder.path(), local).unwrap();
        let storage = Storage::new(Arc::new(store));
        let randomness: SharedRandomness = Arc::new(SeededRandomness::new(5));
        let new = NewRepositoryOptions {
            password: VELERO_PASSWORD.into(),
            owner: VELERO_OWNER.into(),
            now: NOW,
            unlock_memory_bytes: 64 * MIB,
            randomness: randomness.clone(),
        };
        let crypto = create(&storage, &new).unwrap();
        let target = GeneratorTarget {
            storage: &storage,
            crypto: &crypto,
            randomness: &randomness,
        };
        let what = GeneratorOptions {
            entries: 300_000,
            index_blobs: 2_000,
            tombstone_percent: 10,
            seed: 5,
            now: NOW,
            settled: true,
        };
        generate(&target, &what, &Silent).unwrap();
        let before = model::view(&storage, &crypto, Choice::First).unwrap();
        assert!(before.len() > 250_000, "{} contents", before.len());
        Self {
            folder,
            crypto,
            before,
        }
    }

    /// The kernel killed nobody, and a reader sees what it saw, now in one set.
    fn check(&self, run: &Run) {
        let said = [run.stdout_text(), run.stderr_text()];
        assert!(
            run.status.success() && run.oom_kills == 0,
            "{run}\n{said:?}"
        );
        assert!(run.usage_max_bytes <= (LIMIT_MIB * MIB) as u64, "{run}");
        let store = LocalStore::open(self.folder.path(), LocalOptions::default()).unwrap();
        let storage = Storage::new(Arc::new(store));
        let set = self.check_index(&storage, &format!("{run}\n{said:?}"));
        kit::say_once(&format!("300,000 entries in {LIMIT_MIB} MiB: {run}"));
        storage.delete(&set).unwrap();
    }

    /// A reader sees what it saw, now in one set; returns its blob.
    pub(crate) fn check_index(&self, storage: &Storage, what: &str) -> BlobId {
        let mut sets = storage.list("xs0_", None, 10).unwrap();
        assert_eq!(sets.len(), 1, "{what}");
        let after = model::view(storage, &self.crypto, Choice::First).unwrap();
        assert_eq!(model::difference(&self.before, &after), None);
        sets.remove(0).id
    }

    /// Returns the repository's folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

#[test]
fn index_compaction_survives_in_64_mib() {
    let Some(group) = MemoryGroup::new_or_say(Some((LIMIT_MIB * MIB) as u64)) else {
        return;
    };
    let large = Large::make();
    let mut own = group.command(std::env::current_exe().unwrap());
    own.args([
        "--exact",
        "memory_cgroup::compacts_in_a_group",
        "--ignored",
        "--test-threads=1",
    ])
    .env(FOLDER, large.folder.path());
    large.check(&group.run(&mut own, DEADLINE).unwrap());
    drop(group);

    let group = MemoryGroup::new_or_say(Some((LIMIT_MIB * MIB) as u64));
    if let (Some(program), Some(group)) = (program::careen(), group) {
        let mut command = group.command(program);
        arguments(&mut command, large.folder.path());
        large.check(&group.run(&mut command, DEADLINE).unwrap());
    }
}

fn arguments(command: &mut Command, folder: &Path) {
    let memory = format!("{LIMIT_MIB}MiB");
    command
        .args([
            "index",
            "compact",
            "--memory",
            &memory,
            "--task",
            "compact-single-epoch",
        ])
        .arg("--scratch")
        .arg(kit::disk())
        .arg(folder)
        .env("KOPIA_PASSWORD", VELERO_PASSWORD);
}

#[test]
#[ignore = "run by the other test inside a group"]
fn compacts_in_a_group() {
    let folder = std::env::var_os(FOLDER).unwrap();
    let mut bench = Bench::new_in(&kit::disk());
    bench.memory = MemoryPlan::new(LIMIT_MIB * MIB).unwrap();
    let unlock = bench.memory.unlock_bytes.min(16 * MIB);
    let repository = open_within(Path::new(&folder), VELERO_PASSWORD, NOW, unlock).unwrap();
    bench.run(&repository, &options(&[], false)).unwrap();
}
