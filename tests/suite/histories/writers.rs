//! Clients that make and delete snapshots while Careen maintains, again and again.
//!
//! The contents of their files are from a small pool: what one snapshot brings back, maintenance is
//! about to delete. Before each phase a day and more passes, so that there is always much to do.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use careen::maintenance::cycle_plan::Mode;
use careen::maintenance::safety::Safety;
use kit::aging::age;
use kit::cycle::cycle;
use kit::data_dir::DataDir;
use kit::index_work::{Bench, open_live};
use kit::kopia::{Client, CreateOptions, IDENTITY, Kopia};

use super::history::PASSWORD;
use super::tree::Tree;

const USERS: [&str; 2] = ["alice@laptop", "bob@server"];

/// Snapshots of each writer in a phase.
const SNAPSHOTS: usize = 4;

/// One writer: makes snapshots and deletes most of them; returns what is left.
fn write(client: &Client, tree: &Tree, mut kept: Vec<String>) -> Vec<String> {
    for number in 0..SNAPSHOTS {
        tree.change();
        let snapshot = client.snapshot_create(tree.path(), &[]).unwrap();
        kept.push(snapshot["id"].as_str().unwrap().to_owned());
        if kept.len() > 2 && number % 2 == 0 {
            client.snapshot_delete(&kept.remove(0)).unwrap();
        }
    }
    kept
}

/// Plays phases of writers beside Careen, whose cycles are full and quick by turns.
pub(super) fn play(kopia: &Kopia, create: &CreateOptions, seed: u64, phases: usize) {
    let dir = tempfile::tempdir().unwrap();
    kopia.create(dir.path(), PASSWORD, create).unwrap();
    let trees = [Tree::new(seed * 7 + 1), Tree::new(seed * 7 + 2)];
    let mut kept = [Vec::new(), Vec::new()];
    let connect = |user: &str| kopia.connect(dir.path(), PASSWORD, user).unwrap();
    let bench = Bench::new();
    let maintain = |mode| {
        let repository = open_live(dir.path(), PASSWORD).unwrap();
        let options = cycle(mode, Safety::full(), IDENTITY);
        bench.cycle(&repository, &options)
    };
    let mut runs = 0;
    for phase in 0..=phases {
        let clients = USERS.map(connect);
        let at_work = AtomicBool::new(true);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..USERS.len())
                .map(|n| {
                    let (client, tree, kept) = (&clients[n], &trees[n], kept[n].clone());
                    scope.spawn(move || write(client, tree, kept))
                })
                .collect();
            let maintainer = scope.spawn(|| {
                let mut runs = 0;
                while phase > 0 && at_work.load(Ordering::SeqCst) {
                    maintain([Mode::Full, Mode::Quick][runs % 2]).unwrap();
                    runs += 1;
                }
                runs
            });
            let left: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
            at_work.store(false, Ordering::SeqCst);
            runs += maintainer.join().unwrap();
            for (kept, left) in kept.iter_mut().zip(left) {
                *kept = left.unwrap();
            }
        });
        verify(&connect(IDENTITY), &kept, phase);
        let repository = open_live(dir.path(), PASSWORD).unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        age(&repository, &data, Duration::from_secs(26 * 3_600)).unwrap();
        // The run that brings back what a writer found just before it was deleted.
        maintain(Mode::Full).unwrap();
        verify(&connect(IDENTITY), &kept, phase);
    }
    assert!(runs > phases, "{runs} runs beside the writers");
}

fn verify(client: &Client, kept: &[Vec<String>], phase: usize) {
    let listed = client.snapshot_list().unwrap();
    let listed: BTreeSet<&str> = listed.iter().filter_map(|row| row["id"].as_str()).collect();
    let told: BTreeSet<&str> = kept.iter().flatten().map(String::as_str).collect();
    assert_eq!(listed, told, "phase {phase}");
    client
        .snapshot_verify()
        .unwrap_or_else(|error| panic!("phase {phase}: {error}"));
    client
        .content_verify(true)
        .unwrap_or_else(|error| panic!("phase {phase}: {error}"));
}
