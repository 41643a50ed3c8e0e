//! More index blobs without epochs than any client should have, in the memory that is promised.
//!
//! Users have 70,000 such blobs in a repository whose maintenance did not end. In a cgroup of 64
//! MiB, without swap, they are merged, and two hours later deleted; one compaction log names all of
//! them. The suite takes fewer; `CAREEN_SUITE_BLOBS` says how many.

use std::path::Path;
use std::time::Duration;

use careen::kopia::format_blob::EpochParameters;
use careen::maintenance::compact_indexes_v0::CompactionV0;
use careen::memory::{MIB, MemoryPlan};
use careen::repository::index_set_v0::SETTLE_TIME;
use kit::cgroup::{MemoryGroup, Run};
use kit::index_work::{Bench, open_within};
use kit::kopia;
use kit::world::model::{self, View};
use kit::world::{OWNER, START, World, WorldOptions};
use tempfile::TempDir;

use super::{HOUR, active};

const LIMIT_MIB: usize = 64;

const DEADLINE: Duration = Duration::from_secs(600);

const PASSWORD: &str = "a password";

/// Blobs that the suite takes: a log of them is larger than what is opened in memory.
const BLOBS: u64 = 20_021;

/// Name the folder and the hours that have passed for the child.
const FOLDER: &str = "CAREEN_SUITE_FOLDER";
const HOURS: &str = "CAREEN_SUITE_HOURS";

/// Says how many blobs instead.
const BLOBS_WANTED: &str = "CAREEN_SUITE_BLOBS";

struct Large {
    folder: TempDir,
    world: World,
    blobs: u64,
    before: View,
}

impl Large {
    fn make(blobs: u64) -> Self {
        let folder = tempfile::tempdir_in(kit::disk()).unwrap();
        let world = World::new(WorldOptions {
            epochs: EpochParameters::disabled(),
            index_version: 1,
            password: Some(PASSWORD),
            ..WorldOptions::default()
        });
        for blob in 0..blobs {
            let time = START.minus(HOUR * 100);
            let content = |n| world.data(3 * blob + n, blob, time.seconds() - blob as i64);
            let mut entries: Vec<_> = (0..3).map(content).collect();
            if blob > 0 && blob % 10 == 0 {
                let older = world.data(3 * blob - 30, blob - 10, 0);
                entries.push(older.tombstone(time.seconds()));
            }
            world.put_flush_v0(&entries, time);
        }
        world.write_to(folder.path()).unwrap();
        let before = model::view_v0(&world.storage(), &world.crypto).unwrap();
        Self {
            folder,
            world,
            blobs,
            before,
        }
    }

    fn run(&self, hours: u32) -> Option<Run> {
        let group = MemoryGroup::new_or_say(Some((LIMIT_MIB * MIB) as u64))?;
        let mut own = group.command(std::env::current_exe().unwrap());
        own.args([
            "--exact",
            "index_v0::large::compacts_in_a_group",
            "--ignored",
            "--test-threads=1",
        ])
        .env(FOLDER, self.folder.path())
        .env(HOURS, hours.to_string());
        let run = group.run(&mut own, DEADLINE).unwrap();
        let said = [run.stdout_text(), run.stderr_text()];
        let survived = run.status.success() && run.oom_kills == 0;
        assert!(survived, "{run}\n{said:?}");
        assert!(run.usage_max_bytes <= (LIMIT_MIB * MIB) as u64, "{run}");
        let blobs = self.blobs;
        kit::say_once(&format!(
            "{blobs} blobs `n`, {hours} h later, in {LIMIT_MIB} MiB: {run}"
        ));
        Some(run)
    }

    /// A reader sees what it saw, in one blob.
    fn check(&self) {
        let repository = open_within(self.folder.path(), PASSWORD, START, 1 << 20).unwrap();
        assert_eq!(active(&repository), 1);
        let after = model::view_v0(&repository.storage, &self.world.crypto).unwrap();
        assert_eq!(model::difference(&self.before, &after), None);
    }

    fn count(&self, prefix: &str) -> usize {
        let data = kit::data_dir::DataDir::open(self.folder.path()).unwrap();
        data.list_prefix(prefix).unwrap().len()
    }
}

#[test]
fn more_blobs_than_memory_are_merged_and_deleted() {
    let wanted = std::env::var(BLOBS_WANTED).ok();
    let blobs = wanted.map_or(BLOBS, |text| text.parse().unwrap());
    let large = Large::make(blobs);
    if large.run(0).is_none() {
        return;
    }
    large.check();
    assert_eq!(
        large.count("n") as u64,
        blobs + 2,
        "the owner's and the new one"
    );
    large.run(2);
    large.check();
    assert_eq!(
        [large.count("n"), large.count("m"), large.count("l")],
        [2, 2, 1]
    );
    if let Some(kopia) = kopia::newest() {
        let client = kopia.connect(large.folder.path(), PASSWORD, OWNER).unwrap();
        assert_eq!(client.content_list().unwrap().len(), large.before.len());
    }
}

#[test]
#[ignore = "run by the other test inside a group"]
fn compacts_in_a_group() {
    let folder = std::env::var_os(FOLDER).unwrap();
    let hours: u32 = std::env::var(HOURS).unwrap().parse().unwrap();
    let mut bench = Bench::new_in(&kit::disk());
    bench.memory = MemoryPlan::new(LIMIT_MIB * MIB).unwrap();
    let now = START.plus(HOUR * hours);
    let repository = open_within(Path::new(&folder), PASSWORD, now, 1 << 20).unwrap();
    let workspace = bench.workspace();
    // Old enough to drop nothing: always compacts.
    let compaction = CompactionV0::drop_deleted(START.minus(HOUR * 10_000), SETTLE_TIME);
    let owner = kit::index_work::options(&[], false).owner;
    let compaction = compaction.as_owner(owner);
    compaction
        .run(&repository, &workspace, &mut |_| {})
        .unwrap();
}
