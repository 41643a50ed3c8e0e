//! Each Kopia of this machine reads the schedule that we wrote, and we what it wrote; its
//! maintenance and ours take turns.

use std::path::Path;
use std::time::SystemTime;

use careen::clock::Timestamp;
use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::holder::Holder;
use careen::maintenance::owner::Identity;
use careen::maintenance::safety::Safety;
use careen::maintenance::watch::Watch;
use kit::cycle::{cycle, schedule, succeeded};
use kit::index_work::{Bench, open};
use kit::kopia::{self, Client, CreateOptions};

use super::{HOUR, TASKS, named};

const PASSWORD: &str = "a password";

fn now() -> Timestamp {
    SystemTime::now().into()
}

fn time(info: &serde_json::Value, field: &str) -> Timestamp {
    Timestamp::parse(info["schedule"][field].as_str().unwrap()).unwrap()
}

#[test]
fn every_kopia_reads_our_schedule_and_goes_on() {
    for kopia in kopia::binaries() {
        let dir = tempfile::tempdir().unwrap();
        let options = CreateOptions::default();
        let client = kopia.create(dir.path(), PASSWORD, &options).unwrap();
        let source = tempfile::tempdir().unwrap();
        std::fs::write(source.path().join("file"), "text ".repeat(1_000)).unwrap();
        client.snapshot_create(source.path(), &[]).unwrap();
        client.maintenance_run(true).unwrap();

        let start = now();
        let repository = open(dir.path(), PASSWORD, start).unwrap();
        let theirs = schedule(&repository);
        assert!(!theirs.runs.is_empty(), "{kopia}");
        let quick = cycle(Mode::Quick, Safety::full(), kopia::IDENTITY);
        let bench = Bench::new();
        bench.cycle(&repository, &quick).unwrap();
        let info = client.fresh().unwrap().maintenance_info().unwrap();
        assert_eq!(
            time(&info, "nextQuickMaintenance"),
            start.plus(HOUR),
            "{kopia}"
        );
        assert_eq!(
            time(&info, "nextFullMaintenance"),
            theirs.next_full,
            "{kopia}"
        );
        for task in ["compact-single-epoch", "advance-epoch"] {
            let run = &info["schedule"]["runs"][task][0];
            assert_eq!(run["success"], true, "{kopia}: {task}: {run}");
            let began = Timestamp::parse(run["start"].as_str().unwrap()).unwrap();
            assert_eq!(began, start, "{kopia}: {task}");
        }
        let text = client
            .fresh()
            .unwrap()
            .run(&["maintenance", "info"])
            .unwrap();
        assert!(text.contains("compact-single-epoch"), "{kopia}: {text}");
        take_turns(&client, dir.path());
        interrupted(&client, dir.path());
        client.fresh().unwrap().snapshot_verify().unwrap();
    }
}

/// Kopia's maintenance on ours, and ours on Kopia's.
fn take_turns(client: &Client, folder: &Path) {
    client.fresh().unwrap().maintenance_run(true).unwrap();
    let mut tasks = named(&TASKS);
    tasks.owner = Identity::Explicit(kopia::IDENTITY.to_owned());
    let repository = open(folder, PASSWORD, now()).unwrap();
    Bench::new().cycle(&repository, &tasks).unwrap();
    client.fresh().unwrap().maintenance_run(false).unwrap();
    let done = succeeded(&schedule(&open(folder, PASSWORD, now()).unwrap()));
    let kopia = client.kopia();
    assert!(
        TASKS.iter().all(|task| done.contains(task)),
        "{kopia}: {done:?}"
    );
}

/// The lease of a run that died is nothing to Kopia but a time: info reads it, and its own
/// maintenance takes over.
fn interrupted(client: &Client, folder: &Path) {
    let repository = open(folder, PASSWORD, now()).unwrap();
    let (watch, _) = Watch::begin(&repository, Default::default(), Holder::here()).unwrap();
    client.fresh().unwrap().maintenance_info().unwrap();
    client.fresh().unwrap().maintenance_run(true).unwrap();
    let kopia = client.kopia();
    assert_eq!(
        watch.still_ours().unwrap_err().code(),
        "taken-over",
        "{kopia}"
    );
    let repository = open(folder, PASSWORD, now()).unwrap();
    let quick = cycle(Mode::Quick, Safety::full(), kopia::IDENTITY);
    Bench::new().cycle(&repository, &quick).unwrap();
}

/// Files that change from round to round: small ones that come and go, and one that is large.
fn change(folder: &Path, round: u32) {
    for number in 0..12 {
        let file = folder.join(format!("file-{number}"));
        if (round + number).is_multiple_of(5) {
            std::fs::remove_file(&file).ok();
        } else if (round + number).is_multiple_of(3) {
            std::fs::write(&file, format!("{number} in round {round} ").repeat(300)).unwrap();
        }
    }
    let large: Vec<u8> = (0..300_000_u32)
        .map(|n| n.wrapping_mul(n / 97 + round) as u8)
        .collect();
    std::fs::write(folder.join("large"), large).unwrap();
}

/// Goal: whole cycles without margins, ours and Kopia's in turns, keep every snapshot; method:
/// snapshots come and go, and Kopia reads every file after each of our cycles.
#[test]
fn whole_cycles_take_turns_with_kopias_and_lose_nothing() {
    for kopia in kopia::binaries() {
        let dir = tempfile::tempdir().unwrap();
        let options = CreateOptions::default();
        let client = kopia.create(dir.path(), PASSWORD, &options).unwrap();
        let source = tempfile::tempdir().unwrap();
        let mut snapshots: Vec<String> = Vec::new();
        for round in 0..4 {
            for step in 0..3 {
                change(source.path(), round * 3 + step);
                let fresh = client.fresh().unwrap();
                let made = fresh.snapshot_create(source.path(), &[]).unwrap();
                snapshots.push(made["id"].as_str().unwrap().to_owned());
            }
            for id in snapshots.drain(..2) {
                client.fresh().unwrap().snapshot_delete(&id).unwrap();
            }
            if round == 2 {
                client.fresh().unwrap().maintenance_run_unsafe().unwrap();
                continue;
            }
            let what = format!("{kopia}, round {round}");
            let repository = open(dir.path(), PASSWORD, now()).unwrap();
            let options = cycle(Mode::Full, Safety::none(), kopia::IDENTITY);
            let report = Bench::new().cycle(&repository, &options);
            let report = report.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(report.tasks.len(), 10, "{what}: {report}");
            let fresh = client.fresh().unwrap();
            fresh.snapshot_verify().unwrap();
            fresh.content_verify(true).unwrap();
            assert_eq!(
                fresh.snapshot_list().unwrap().len(),
                snapshots.len(),
                "{what}"
            );
        }
        let last = client.fresh().unwrap();
        last.maintenance_run(true).unwrap();
        last.snapshot_verify().unwrap();
    }
}
