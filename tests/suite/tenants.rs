//! Tenant-aware repacking in a repository of real Kopia: two teams save, Kopia's own maintenance
//! mixes their data, the program with the example `splitting-tenants` takes it apart again. Kopia
//! says whose each content is and where it lies, and reads every file afterwards.
//!
//! Without a built program or a Kopia nothing is tested, and the kit says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use kit::kopia::{self, Client, CreateOptions, IDENTITY, Kopia};
use kit::program;
use serde_json::Value;

const PASSWORD: &str = "a password";

/// The teams, by what their clients are called.
const TEAMS: [&str; 2] = ["root@db.red.example.org", "root@db.blue.example.org"];

/// Days of backups before Kopia's maintenance, and after it.
const DAYS: u32 = 4;

/// A file of its own for a team and a day, 20 KB that do not repeat.
fn file(team: usize, day: u32) -> Vec<u8> {
    let hash = |block: u32| eight_bytes(team as u32, day, block);
    (0..2_500).flat_map(hash).collect()
}

/// Eight bytes that look random (SplitMix64).
fn eight_bytes(team: u32, day: u32, block: u32) -> [u8; 8] {
    let seed = (u64::from(team) << 48) | (u64::from(day) << 32) | u64::from(block);
    let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).to_le_bytes()
}

/// Both teams save what they have on these days, one after the other, and a file that both have.
fn save(clients: &[Client; 2], sources: &Path, days: std::ops::Range<u32>) {
    for day in days {
        for (team, client) in clients.iter().enumerate() {
            let source = sources.join(format!("team-{team}"));
            fs::create_dir_all(source.join("more")).unwrap();
            fs::write(source.join(format!("day-{day}")), file(team, day)).unwrap();
            fs::write(source.join("more/shared"), file(7, 0)).unwrap();
            client.snapshot_create(&source, &[]).unwrap();
        }
    }
}

/// Whose each content is, as Kopia lists the snapshots.
fn owners(client: &Client) -> BTreeMap<String, BTreeSet<String>> {
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for snapshot in client.snapshot_list().unwrap() {
        let host = snapshot["source"]["host"].as_str().unwrap();
        let root = snapshot["rootEntry"]["obj"].as_str().unwrap();
        let listed = client.run(&["ls", "-r", "-o", root]).unwrap();
        let objects = listed
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        for object in objects.chain([root]) {
            let of = owners.entry(object.to_owned()).or_default();
            of.insert(host.to_owned());
        }
    }
    owners
}

/// Of each pack, whose contents lie in it: teams, both at once, nobody (the empty set).
type Packs = BTreeMap<String, BTreeSet<BTreeSet<String>>>;

fn packs(client: &Client) -> Packs {
    let owners = owners(client);
    let mut packs = Packs::new();
    for row in client.fresh().unwrap().content_list().unwrap() {
        let owner = owners.get(&row.id).cloned().unwrap_or_default();
        packs.entry(row.pack).or_default().insert(owner);
    }
    packs
}

fn is_mixed(owners: &BTreeSet<BTreeSet<String>>) -> bool {
    owners.len() > 1
}

/// Runs a full cycle; returns what it says of the rewrite.
fn maintain(data: &Path, strategies: &Path) -> Value {
    let mut command = Command::new(program::careen().expect("the test asked for it"));
    command.args(["run", "--mode", "full", "--safety", "none", "--json"]);
    command.args(["--memory", "64MiB", "--owner", IDENTITY, "--scratch"]);
    command.arg(kit::disk());
    command.arg("--strategies").arg(strategies).arg(data);
    command.env("KOPIA_PASSWORD", PASSWORD);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}\n{errors}");
    let mut lines = words
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let report = |line: &Value| line["kind"] == "report";
    lines.find(report).unwrap_or_else(|| panic!("{words}"))
}

fn strategies(folder: &Path) -> std::path::PathBuf {
    let plugin = kit::workspace_root().join("plugins/examples/built/splitting-tenants.wasm");
    let path = folder.join("strategies.toml");
    let text = format!(
        "[splitting]\nplugin = {plugin:?}\n[splitting.configuration]\nothers = \"one-tenant\"\n\
         [[splitting.configuration.tenants]]\nname = \"red\"\nsources = [\"*@*.red.*:*\"]\n\
         [[splitting.configuration.tenants]]\nname = \"blue\"\nsources = [\"*@*.blue.*:*\"]\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn take_apart(kopia: &Kopia) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let create = CreateOptions::default();
    let operator = kopia.create(&data, PASSWORD, &create).unwrap();
    let clients = TEAMS.map(|team| operator.as_identity(team).unwrap());
    save(&clients, &folder.path().join("sources"), 0..DAYS);
    operator.fresh().unwrap().maintenance_run_unsafe().unwrap();
    save(&clients, &folder.path().join("sources"), DAYS..2 * DAYS);
    let before = packs(&operator);
    assert!(before.values().any(is_mixed), "{kopia}: Kopia mixes them");
    let contents = operator.fresh().unwrap().content_list().unwrap();
    let contents: BTreeSet<String> = contents.into_iter().map(|row| row.id).collect();

    let strategies = strategies(folder.path());
    let report = maintain(&data, &strategies);
    let after = packs(&operator);
    let new: Packs = after
        .into_iter()
        .filter(|(pack, _)| !before.contains_key(pack))
        .collect();
    assert!(!new.values().any(is_mixed), "{kopia}: {new:?}\n{report}");
    let kinds: BTreeSet<_> = new.values().flatten().collect();
    assert_eq!(
        kinds.len(),
        4,
        "{kopia}: red, blue, both, nobody: {kinds:?}"
    );
    let fresh = operator.fresh().unwrap();
    let left = fresh.content_list().unwrap();
    let left: BTreeSet<String> = left.into_iter().map(|row| row.id).collect();
    let used = owners(&fresh);
    assert!(
        used.keys()
            .all(|id| left.contains(id) && contents.contains(id))
    );
    fresh.content_verify(true).unwrap();
    fresh.snapshot_verify().unwrap();

    // Nothing is copied again and again where nothing is new.
    maintain(&data, &strategies);
    let settled: Vec<String> = packs(&operator).into_keys().collect();
    maintain(&data, &strategies);
    let again: Vec<String> = packs(&operator).into_keys().collect();
    assert_eq!(settled, again, "{kopia}");
    operator.fresh().unwrap().snapshot_verify().unwrap();
}

/// Goal: no pack that the rewrite has written holds data of two teams.
#[test]
fn two_teams_are_taken_apart() {
    if program::careen().is_none() {
        return;
    }
    let all = kopia::binaries();
    let mut chosen: Vec<&Kopia> = all.first().into_iter().chain(all.last()).collect();
    chosen.dedup();
    chosen.into_iter().for_each(take_apart);
}
