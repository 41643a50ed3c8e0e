//! Random histories: real Kopia writes, forgets, deletes and dies; Careen maintains in between; and
//! Kopia verifies everything after every round, with an empty cache.
//!
//! Each history follows from a seed. Time passes between rounds (`kit::aging`), so that the margins
//! of full safety are reached and tombstones, packs, sessions and tasks become due. In alternating
//! histories several versions of Kopia write, and Careen's and Kopia's maintenance go on from what
//! the other has left. Some of the histories have writers that are at work while Careen maintains,
//! or the program killed in the middle of its runs.
//! `CAREEN_SUITE_ROUNDS` multiplies the histories. The kit says so where there is no Kopia.

use std::time::Duration;

use kit::kopia::{self, CreateOptions, Kopia};
use kit::program;

use self::history::{History, Maintainer};

mod history;
mod tree;
mod writers;

const HOUR: Duration = Duration::from_secs(3_600);

/// Returns the seeds of the histories: one, or as many as `CAREEN_SUITE_ROUNDS` says.
fn seeds() -> std::ops::Range<u64> {
    let rounds = std::env::var("CAREEN_SUITE_ROUNDS").ok();
    0..rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// How long nobody uses the repository between two rounds.
fn pause(number: u64) -> Duration {
    HOUR * [26, 3, 26, 100, 0][number as usize % 5]
}

/// Plays rounds: somebody works, time passes, somebody maintains.
fn play(mut history: History, rounds: u64, maintainer: impl Fn(u64) -> Maintainer) {
    for round in 0..rounds {
        history.work(6);
        history.pause(pause(round));
        history.maintain(maintainer(round));
        history.verify();
    }
    history.end();
}

fn create(format_version: u32) -> CreateOptions {
    CreateOptions {
        format_version,
        splitter: "FIXED-1M".to_owned(),
        ..CreateOptions::default()
    }
}

fn histories(
    kopias: &[Kopia],
    format_version: u32,
    rounds: u64,
    maintainer: fn(u64) -> Maintainer,
) {
    for seed in seeds() {
        let history = History::new(kopias, &create(format_version), seed);
        play(history, rounds, maintainer);
    }
}

#[test]
fn careen_maintains_with_all_margins() {
    for kopia in kopia::binaries() {
        histories(std::slice::from_ref(kopia), 0, 3, |_| Maintainer::Careen);
    }
}

#[test]
fn careen_maintains_without_margins() {
    let Some(kopia) = kopia::newest() else { return };
    for version in [0, 1] {
        histories(std::slice::from_ref(kopia), version, 1, |_| {
            Maintainer::CareenUnsafe
        });
    }
}

#[test]
fn careen_maintains_without_epochs() {
    let Some(kopia) = kopia::newest() else { return };
    histories(std::slice::from_ref(kopia), 1, 2, |_| Maintainer::Careen);
}

/// Every version writes; Careen and they maintain by turns.
#[test]
fn careen_and_kopia_maintain_by_turns() {
    let kopias = kopia::binaries();
    let turns = |round| match round % 4 {
        0 => Maintainer::Careen,
        1 => Maintainer::Kopia,
        2 => Maintainer::CareenUnsafe,
        _ => Maintainer::KopiaUnsafe,
    };
    if !kopias.is_empty() {
        histories(kopias, 0, 4 + kopias.len() as u64 / 2 * 2, turns);
        histories(kopias, 1, 2, turns);
    }
}

#[test]
fn writers_at_work_lose_nothing() {
    let Some(kopia) = kopia::newest() else { return };
    for seed in seeds() {
        writers::play(kopia, &create(0), seed, 2);
    }
}

#[test]
fn writers_at_work_lose_nothing_without_epochs() {
    let Some(kopia) = kopia::newest() else { return };
    for seed in seeds() {
        writers::play(kopia, &create(1), seed, 2);
    }
}

/// Goal: a run that is killed, whenever, loses nothing, and the next one goes on; method: the
/// program itself, killed twice a round after it has taken its lease.
#[test]
fn the_program_killed_at_any_moment_loses_nothing() {
    let Some(kopia) = kopia::newest() else { return };
    if program::careen().is_none() {
        return;
    }
    for (version, seed) in [0, 1]
        .into_iter()
        .flat_map(|v| seeds().map(move |s| (v, s)))
    {
        let mut history = History::new(std::slice::from_ref(kopia), &create(version), seed);
        for round in 0..2 {
            history.work(6);
            history.pause(pause(round));
            for _ in 0..2 {
                history.kill_careen(round == 1);
                history.verify();
                history.pause(HOUR);
            }
            history.maintain([Maintainer::Careen, Maintainer::Kopia][round as usize]);
            history.verify();
        }
        assert!(history.killed > 0, "every run was faster than its killer");
        history.end();
    }
}
