//! The memory contract behind a network: the same cgroup of 64 MiB, with TLS and a CA of one's own.
//!
//! Index compaction and a whole full cycle by the program, against SeaweedFS behind a proxy that
//! ends TLS. The kit says so where there is no cgroup, no SeaweedFS or no program.

use std::process::Command;
use std::time::Duration;

use careen::blob::Storage;
use careen::blob::object::WireLimits;
use careen::repository::new_repository::VELERO_PASSWORD;
use kit::cgroup::{MemoryGroup, Run};
use kit::data_dir::DataDir;
use kit::object_stores::{Place, carry_there, s3};
use kit::program;

use crate::memory_cgroup::Large;

const LIMIT_MIB: usize = 64;

const DEADLINE: Duration = Duration::from_secs(400);

/// Calls the program in a group of its own.
fn in_group(words: &[&str], place: &Place) -> Option<Run> {
    let program = program::careen()?;
    let group = MemoryGroup::new_or_say(Some((LIMIT_MIB << 20) as u64))?;
    let mut command = group.command(program);
    command.args(words);
    place.tell(&mut command);
    command
        .args(["--memory", &format!("{LIMIT_MIB}MiB")])
        .args(["--owner", "default@default", "--scratch"])
        .arg(kit::disk())
        .env("KOPIA_PASSWORD", VELERO_PASSWORD);
    let run = group.run(&mut command, DEADLINE).unwrap();
    let said = [run.stdout_text(), run.stderr_text()];
    assert!(
        run.status.success() && run.oom_kills == 0,
        "{run}\n{said:?}"
    );
    assert!(run.usage_max_bytes <= (LIMIT_MIB << 20) as u64, "{run}");
    kit::say_once(&format!(
        "{} in {LIMIT_MIB} MiB behind TLS: {run}",
        words.join(" ")
    ));
    Some(run)
}

fn store(place: &Place) -> Storage {
    Storage::new(place.store(&WireLimits::default()))
}

#[test]
fn index_compaction_behind_tls_survives_in_64_mib() {
    let Some(place) = s3() else {
        return;
    };
    let large = Large::make();
    carry_there(&DataDir::open(large.path()).unwrap(), &store(&place));
    let place = place.secure(None);
    let words = ["index", "compact", "--task", "compact-single-epoch"];
    if in_group(&words, &place).is_some() {
        large.check_index(&store(&place), "behind TLS");
    }
}

#[test]
fn a_full_cycle_behind_tls_survives_in_64_mib() {
    let (Some(place), Some(program)) = (s3(), program::careen()) else {
        return;
    };
    let folder = tempfile::tempdir_in(kit::disk()).unwrap();
    let made = Command::new(program)
        .args(["demo", "--no-run", "--snapshots=6", "--directories=60"])
        .args(["--files=200", "--sessions=6", "--keep"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    carry_there(&DataDir::open(folder.path()).unwrap(), &store(&place));
    let place = place.secure(None);
    let full = ["run", "--mode", "full", "--safety", "none"];
    for words in [&full[..], &full[..], &["verify", "--contents"]] {
        if in_group(words, &place).is_none() {
            return;
        }
    }
}
