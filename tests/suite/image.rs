//! The image holds what it needs: every command works in its read-only root, as any user, in 64
//! MiB, with nothing to write to but scratch and the repository.
//!
//! The root is that of `runtime/deploy/build-root.sh`; `kit::image` runs it as a kubelet would.
//! Repositories are made by the program in the image itself, at the present time, and by Kopia (a
//! golden one). What a Job meets in its life is in `life.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kit::golden::Golden;
use kit::image::{Image, Pod};
use tempfile::TempDir;

mod life;

const MIB: u64 = 1 << 20;

/// The limit of the promise.
const LIMIT_BYTES: u64 = 64 * MIB;

/// The Containerfile's user.
const USER: u32 = 65_532;

/// A user as OpenShift chooses them.
const OTHER_USER: u32 = 1_000_680_000;

/// The password of repositories that the demo makes.
const PASSWORD: &str = "static-passw0rd";

/// A repository on this machine that belongs to a pod's user.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new(user: u32) -> Self {
        let place = Self {
            folder: tempfile::tempdir_in(kit::disk()).unwrap(),
        };
        place.give_to(user);
        place
    }

    /// Has the program in the image make one.
    fn made(image: &Image, user: u32, shape: &[&str]) -> Option<Self> {
        let place = Self::new(user);
        let mut pod = Pod::new(image, user, 512 * MIB)?;
        pod.mount(place.folder.path(), "/place", true);
        let made = ["demo", "--no-run", "--keep", "/place/repository"];
        pod.run(&[&made[..], shape].concat()).expect(0);
        Some(place)
    }

    fn give_to(&self, user: u32) {
        let owner = format!("{user}:{user}");
        let given = Command::new("chown")
            .args(["-R", &owner])
            .arg(self.folder.path())
            .status();
        assert!(given.unwrap().success());
    }

    /// Returns a pod with the repository at `/place/repository`.
    fn pod(&self, image: &Image, user: u32, writable: bool) -> Option<Pod> {
        let mut pod = Pod::new(image, user, LIMIT_BYTES)?;
        pod.mount(self.folder.path(), "/place", writable);
        pod.env.insert("KOPIA_PASSWORD".into(), PASSWORD.into());
        Some(pod)
    }
}

/// Two small backups with garbage.
const BACKUPS: [&str; 4] = [
    "--snapshots=4",
    "--directories=4",
    "--files=50",
    "--sessions=4",
];

const REPOSITORY: &str = "/place/repository";

/// Returns all files below a folder.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap();
                found.insert(name.to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// Goal: nothing is in the image but the program and its plugins' code, and nobody may write them.
#[test]
fn the_root_is_small_and_closed() {
    let Some(image) = Image::find() else { return };
    let found = files(&image.root);
    let (code, other): (Vec<_>, Vec<_>) =
        found.iter().partition(|name| name.starts_with("plugins/"));
    assert_eq!(other, ["careen"]);
    let compiled = code.iter().filter(|name| name.ends_with(".cwasm"));
    assert_eq!((compiled.count(), code.len()), (3, 6), "{code:?}");
    for name in &found {
        let mode = fs::metadata(image.root.join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o022, 0, "{name}: {mode:o}");
        assert_eq!(mode & 0o444, 0o444, "{name}: {mode:o}");
    }
    let program = fs::metadata(image.root.join("careen")).unwrap();
    let mib = program.len() / MIB;
    assert!(mib < 48, "the program has {mib} MiB");
}

/// Goal: what a Job and an operator do works as any user; method: every command on a repository
/// with garbage, in 64 MiB, code that was compiled ahead in use, nothing left in scratch.
#[test]
fn every_command_works_as_any_user() {
    let Some(image) = Image::find() else { return };
    for user in [USER, OTHER_USER] {
        let Some(place) = Place::made(&image, user, &BACKUPS) else {
            return;
        };
        let mut pod = place.pod(&image, user, true).unwrap();
        pod.env
            .insert("CAREEN_LOG".into(), "warn,careen::plugin=debug".into());
        let runs: [&[&str]; 9] = [
            &["doctor", REPOSITORY],
            &["status", REPOSITORY],
            &["plan", REPOSITORY, "--mode", "full"],
            &["run", REPOSITORY, "--mode", "quick"],
            &["run", REPOSITORY, "--mode", "full", "--safety", "none"],
            &["run", REPOSITORY],
            &["verify", REPOSITORY, "--index", "--snapshots", "--contents"],
            &["snapshot", "expire", REPOSITORY],
            &["run", REPOSITORY, "--mode", "full", "--expire-snapshots"],
        ];
        for arguments in runs {
            let ended = pod.run(arguments);
            ended.expect(0);
            let text = ended.run.stdout_text();
            assert!(text.lines().all(|line| line.starts_with('{')), "{text}");
            assert!(!text.contains(r#""level":"WARN""#), "{arguments:?}: {text}");
            assert!(ended.run.usage_max_bytes <= LIMIT_BYTES, "{}", ended.run);
            let result = ended.result();
            assert_eq!(result["exit"], 0, "{result}");
            assert_eq!(result["memory_bytes"], LIMIT_BYTES, "{result}");
            if arguments[0] == "run" {
                let ahead = text.contains("code compiled ahead is used");
                assert!(ahead, "{arguments:?}: {text}");
                assert!(!text.contains("compiling"), "{arguments:?}: {text}");
            }
            assert_eq!(files(&pod.scratch()), BTreeSet::new(), "{arguments:?}");
        }
    }
}

/// Goal: what only looks writes nothing anywhere; method: the repository read-only too.
#[test]
fn looking_writes_nothing() {
    let Some(image) = Image::find() else { return };
    let Some(place) = Place::made(&image, USER, &BACKUPS) else {
        return;
    };
    let pod = place.pod(&image, USER, false).unwrap();
    for arguments in [
        &["status", REPOSITORY][..],
        &["plan", REPOSITORY, "--mode", "full"],
        &["verify", REPOSITORY, "--index", "--snapshots", "--contents"],
        &["snapshot", "list", REPOSITORY],
    ] {
        pod.run(arguments).expect(0);
    }
}

/// Goal: a repository that Kopia made for Velero is maintained there.
#[test]
fn a_repository_of_kopias_is_maintained() {
    let Some(image) = Image::find() else { return };
    let golden = Golden::open("velero-0.17.0");
    let place = Place::new(USER);
    let copied = Command::new("cp")
        .arg("-a")
        .arg(golden.path())
        .arg(place.folder.path().join("repository"))
        .status();
    assert!(copied.unwrap().success());
    place.give_to(USER);
    let Some(mut pod) = place.pod(&image, USER, true) else {
        return;
    };
    pod.env
        .insert("KOPIA_PASSWORD".into(), golden.password().into());
    let owner = format!("--owner={}", golden.maintenance_owner());
    let ended = pod.run(&["run", REPOSITORY, &owner]);
    ended.expect(0);
    let result = ended.result();
    assert_eq!(
        (&result["result"], &result["cycle"]),
        (&"done".into(), &"full".into())
    );
    assert!(result["tasks"].as_u64() > Some(3), "{result}");
    assert!(result["next_full"].is_string(), "{result}");
    pod.run(&["verify", REPOSITORY, "--index", "--snapshots"])
        .expect(0);
    let again = pod.run(&["run", REPOSITORY, &owner]);
    assert_eq!(again.expect(0).result()["result"], "nothing-due");
}

/// Answers every question about an address with 127.0.0.8; returns where it listens, and the names
/// that it was asked for.
fn name_server() -> Option<(String, std::sync::mpsc::Receiver<String>)> {
    let address = "127.83.0.1";
    // Resolvers ask at port 53 only.
    let socket = UdpSocket::bind((address, 53)).ok()?;
    let (asked, names) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let body = &question[12..length];
            let end = body.iter().position(|&byte| byte == 0).unwrap();
            let mut answer = question[..2].to_vec();
            let is_address = body[end + 1..end + 3] == [0, 1];
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
            answer.extend(&body[..end + 5]);
            if is_address {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 8]);
            }
            let name = String::from_utf8_lossy(&body[1..end]).into_owned();
            if socket.send_to(&answer, from).is_err() || asked.send(name).is_err() {
                return;
            }
        }
    });
    Some((address.to_owned(), names))
}

/// Goal: a static program finds hosts by `/etc/hosts` and by a name server; method: the doctor,
/// whose next step then fails at a port where nobody listens.
#[test]
fn names_are_looked_up() {
    let Some(image) = Image::find() else { return };
    let Some(mut pod) = Pod::new(&image, USER, LIMIT_BYTES) else {
        return;
    };
    pod.env.insert("KOPIA_PASSWORD".into(), PASSWORD.into());
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        pod.env.insert(name.into(), "unused".into());
    }
    let doctor = |name: &str| {
        let endpoint = format!("--endpoint={name}:1");
        let ended = pod.run(&["doctor", "s3://b/p/", "--insecure-plain-http", &endpoint]);
        assert_eq!(ended.expect(30).result()["result"], "storage-failed");
        ended.run.stdout_text()
    };
    pod.etc(
        "hosts",
        "127.0.0.1 localhost\n127.0.0.9 store.by-hosts.test\n",
    );
    let said = doctor("store.by-hosts.test");
    assert!(said.contains("store.by-hosts.test: 127.0.0.9"), "{said}");
    let Some((server, asked)) = name_server() else {
        kit::say_once("no name server here: port 53 cannot be had");
        return;
    };
    let resolver = format!("search velero.svc.test\nnameserver {server}\noptions ndots:5\n");
    pod.etc("resolv.conf", &resolver);
    let said = doctor("store.by-dns.test");
    assert!(said.contains("store.by-dns.test: 127.0.0.8"), "{said}");
    let name = asked.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(name.contains("by-dns"), "{name}");
}

/// Goal: a plugin of one's own, pinned, compiled by an init container with a limit of its own, is
/// used by the run, which compiles nothing; another content is refused.
#[test]
fn plugins_come_from_a_volume() {
    let Some(image) = Image::find() else { return };
    let Some(place) = Place::made(&image, USER, &BACKUPS) else {
        return;
    };
    let volume = Place::new(0);
    let built = kit::workspace_root().join("plugins/examples/built/splitting-by-price.wasm");
    let bytes = fs::read(&built).unwrap();
    fs::write(volume.folder.path().join("price.wasm"), &bytes).unwrap();
    fs::set_permissions(volume.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let digest = blake3::hash(&bytes).to_hex();
    let strategies = format!("[splitting]\nplugin = \"price.wasm\"\nblake3 = \"{digest}\"\n");
    fs::write(volume.folder.path().join("strategies.toml"), strategies).unwrap();

    let mut pod = place.pod(&image, USER, true).unwrap();
    pod.mount(volume.folder.path(), "/strategies", false);
    pod.env.insert(
        "CAREEN_STRATEGIES".into(),
        "/strategies/strategies.toml".into(),
    );
    pod.env
        .insert("CAREEN_LOG".into(), "warn,careen::plugin=debug".into());
    let cache = "--plugin-cache=/scratch/plugins";
    pod.run(&["plugin", "compile", cache, "/strategies/price.wasm"])
        .expect(0);
    let kept = files(&pod.scratch());
    assert_eq!(kept.len(), 2, "{kept:?}");
    let run = [
        "run", REPOSITORY, "--mode", "full", "--safety", "none", cache,
    ];
    let ended = pod.run(&run);
    let text = ended.expect(0).run.stdout_text();
    assert!(text.contains("splitting-by-price"), "{text}");
    assert_eq!(
        files(&pod.scratch()),
        kept,
        "nothing was compiled by the run"
    );

    fs::write(volume.folder.path().join("price.wasm"), b"\0asm").unwrap();
    let refused = pod.run(&run);
    refused.expect(50);
    let message = &refused.message;
    assert!(message.starts_with("Repo maintenance error: "), "{message}");
}
