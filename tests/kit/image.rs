//! The container image without a container engine: its root, read-only, in namespaces of its own.
//!
//! `CAREEN_IMAGE_ROOT` names a root that `runtime/deploy/build-root.sh` has built. A [`Pod`] runs
//! the program in it as a kubelet would: process 1 of its namespace, an unprivileged user, no way
//! to new rights, a memory cgroup without swap that it sees as its own, `/dev/termination-log`, and
//! nothing to write to but the volumes that are mounted. Needs root and says once what is missing.
//! Where the program will do, [`Image::find_or_make`] puts this build's into a root like it.
//! Memory: the program's output.

mod made;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::cgroup::{MemoryGroup, Run};

/// Makes the mounts, then becomes the program. Arguments: root, user, folder with what the pod has
/// of its own (`mounts`, `etc`, `termination-log`), folder of its memory group and where that is
/// seen; then the program.
const ENTER: &str = r#"
set -eu
root=$1 user=$2 own=$3 group=$4 cgroup=$1/sys/fs/cgroup/$5
shift 5
cat "$own/etc/hostname" > /proc/sys/kernel/hostname
mount --make-rprivate /
mount --bind "$root" "$root"
while IFS=' ' read -r from to mode; do
  case $mode in
  ro | rw) mount --bind "$from" "$root$to" ;;
  *)
    # A disk of so many bytes. It is an overlay, since scratch in memory is refused.
    mount -t tmpfs -o "size=$mode" disk "$own/disk"
    mkdir "$own/disk/upper" "$own/disk/work"
    chown --reference="$from" "$own/disk/upper"
    chmod --reference="$from" "$own/disk/upper"
    layers=lowerdir=$from,upperdir=$own/disk/upper,workdir=$own/disk/work
    mount -t overlay -o "$layers" disk "$root$to"
    mode=rw
    ;;
  esac
  mount -o "remount,bind,$mode,nosuid,nodev" "$root$to"
done < "$own/mounts"
mount --bind "$own/etc" "$root/etc"
mount -o remount,bind,ro "$root/etc"
mount -t tmpfs -o mode=755,size=64k dev "$root/dev"
for device in null zero random urandom; do
  : > "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
: > "$root/dev/termination-log"
mount --bind "$own/termination-log" "$root/dev/termination-log"
mount -o remount,ro "$root/dev"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount --bind "$group" "$cgroup"
mount -o remount,bind,ro "$cgroup"
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs chroot --userspec="$user:$user" --groups="$user" "$root" "$@"
"#;

/// Folders that container runtimes make in a root.
const MOUNT_POINTS: [&str; 4] = ["proc", "dev", "etc", "sys/fs/cgroup/memory"];

/// The environment that the Containerfile sets.
const ENVIRONMENT: [(&str, &str); 2] = [
    ("CAREEN_COMPILED_PLUGINS", "/plugins"),
    ("TMPDIR", "/scratch"),
];

/// A built root.
#[derive(Debug)]
pub struct Image {
    /// Where it is.
    pub root: PathBuf,
}

impl Image {
    /// Finds the root, or says once why there is none, or why it cannot be used.
    pub fn find() -> Option<Self> {
        let Some(root) = env::var_os("CAREEN_IMAGE_ROOT").filter(|name| !name.is_empty()) else {
            crate::say_once("no image: run .ci/run image (it sets CAREEN_IMAGE_ROOT)");
            return None;
        };
        let root = PathBuf::from(root);
        assert!(
            root.join("careen").is_file(),
            "{}: no image",
            root.display()
        );
        Self { root }.usable()
    }

    /// Finds the root, or makes one with the program of this build.
    pub fn find_or_make() -> Option<Self> {
        if env::var_os("CAREEN_IMAGE_ROOT").is_some_and(|name| !name.is_empty()) {
            return Self::find();
        }
        crate::say_once("CAREEN_IMAGE_ROOT is not set: pods run this build's program");
        let root = made::root()?.to_owned();
        Self { root }.usable()
    }

    /// Returns the image where it can be run.
    fn usable(self) -> Option<Self> {
        let tried = Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--fork",
                "mount",
                "--make-rprivate",
                "/",
            ])
            .output();
        match tried {
            Ok(ended) if ended.status.success() => Some(self),
            _ => {
                crate::say_once("no image: it is tried in mount namespaces, which need root");
                None
            }
        }
    }
}

/// One container, run again and again.
#[derive(Debug)]
pub struct Pod {
    own: TempDir,
    user: u32,
    mounts: Vec<String>,
    /// Its environment besides the image's.
    pub env: BTreeMap<String, String>,
    group: MemoryGroup,
}

impl Pod {
    /// Makes a container of `image` that runs as `user` in `limit_bytes`, with a scratch volume;
    /// `None` where no memory cgroup can be made.
    ///
    /// # Panics
    ///
    /// When its folders cannot be made.
    pub fn new(image: &Image, user: u32, limit_bytes: u64) -> Option<Self> {
        let mut pod = Self::without_volumes(image, user, limit_bytes)?;
        let scratch = pod.scratch();
        fs::create_dir(&scratch).expect("scratch can be made");
        // As the kubelet makes an emptyDir.
        open_to_all(&scratch, 0o777).expect("scratch can be opened");
        pod.mount(&scratch, "/scratch", true);
        Some(pod)
    }

    /// The same with nothing to write to.
    pub(crate) fn without_volumes(image: &Image, user: u32, limit_bytes: u64) -> Option<Self> {
        let group = MemoryGroup::new_or_say(Some(limit_bytes))?;
        let made = || -> io::Result<TempDir> {
            let own = tempfile::tempdir_in(crate::disk())?;
            let root = own.path().join("root");
            copy(&image.root, &root)?;
            for point in MOUNT_POINTS {
                fs::create_dir_all(root.join(point))?;
            }
            fs::create_dir(own.path().join("etc"))?;
            fs::create_dir(own.path().join("disk"))?;
            fs::write(own.path().join("etc/hostname"), "careen-29000000-abcde\n")?;
            fs::write(own.path().join("etc/hosts"), "127.0.0.1 localhost\n")?;
            fs::write(own.path().join("etc/resolv.conf"), "")?;
            fs::write(own.path().join("termination-log"), "")?;
            open_to_all(&own.path().join("termination-log"), 0o666)?;
            open_to_all(own.path(), 0o755)?;
            Ok(own)
        };
        let own = made().expect("the pod's folders can be made");
        Some(Self {
            own,
            user,
            mounts: Vec::new(),
            env: BTreeMap::new(),
            group,
        })
    }

    /// Mounts a folder of this machine at `inside`.
    ///
    /// # Panics
    ///
    /// When there is nothing to mount.
    pub fn mount(&mut self, from: &Path, inside: &str, writable: bool) {
        self.mount_as(from, inside, if writable { "rw" } else { "ro" });
    }

    /// Mounts a disk with what is in a folder and `bytes` free at `inside`; one of them at most.
    pub(crate) fn mount_disk(&mut self, from: &Path, inside: &str, bytes: u64) {
        self.mount_as(from, inside, &bytes.to_string());
    }

    fn mount_as(&mut self, from: &Path, inside: &str, mode: &str) {
        let from = from.canonicalize().expect("what is mounted is there");
        let point = self.own.path().join("root").join(&inside[1..]);
        fs::create_dir_all(point).expect("a mount point can be made");
        self.mounts
            .push(format!("{} {inside} {mode}\n", from.display()));
    }

    /// Writes a file of `/etc`: `hosts`, `resolv.conf`.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn etc(&self, name: &str, text: &str) {
        fs::write(self.own.path().join("etc").join(name), text).expect("a file of /etc");
    }

    /// Runs the program with `arguments`.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let own = self.own.path();
        fs::write(own.join("mounts"), self.mounts.concat()).expect("the list of mounts");
        fs::write(own.join("termination-log"), "").expect("the termination log");
        let mut command = self.group.command("unshare");
        command
            .args([
                "--mount",
                "--uts",
                "--pid",
                "--ipc",
                "--fork",
                "--kill-child",
            ])
            .args(["sh", "-c", ENTER, "enter"])
            .arg(own.join("root"))
            .arg(self.user.to_string())
            .arg(own)
            .arg(self.group.folder())
            .arg(self.group.mount_name())
            .arg("/careen")
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(ENVIRONMENT)
            .envs(&self.env);
        let deadline = Duration::from_secs(300);
        let run = self
            .group
            .run(&mut command, deadline)
            .expect("the pod runs");
        let message = fs::read_to_string(own.join("termination-log"));
        Ended {
            run,
            message: message.expect("the termination log is text"),
        }
    }

    /// Sends a signal to the program, once it is there; returns whether it was.
    pub fn signal(&self, signal: Signal) -> bool {
        let Some(pid) = self.program() else {
            return false;
        };
        kill_process(pid, signal).is_ok()
    }

    /// Returns its memory group.
    pub(crate) fn group(&self) -> &MemoryGroup {
        &self.group
    }

    /// Makes the program the first that the kernel kills for lack of memory.
    pub(crate) fn let_die_first(&self) {
        let pid = self.program().expect("the program is at work");
        let file = format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero());
        fs::write(file, "1000").expect("anybody may be made the first");
    }

    /// Returns its termination message by now.
    pub(crate) fn message(&self) -> String {
        let file = self.own.path().join("termination-log");
        fs::read_to_string(file).unwrap_or_default()
    }

    /// Returns whether the program runs by now.
    pub fn is_running(&self) -> bool {
        self.program().is_some()
    }

    /// Returns the program's process, if it runs by now.
    fn program(&self) -> Option<Pid> {
        let listed = fs::read_to_string(self.group.folder().join("cgroup.procs")).ok()?;
        let mut pids = listed.lines().filter_map(|line| line.parse::<i32>().ok());
        let pid = pids.find(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim() == "careen"
        })?;
        Pid::from_raw(pid)
    }

    /// Returns the scratch volume on this machine.
    pub fn scratch(&self) -> PathBuf {
        self.own.path().join("scratch")
    }
}

/// How a container ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code, output, memory.
    pub run: Run,
    /// Its termination message.
    pub message: String,
}

impl Ended {
    /// Returns the exit code.
    pub fn exit(&self) -> Option<i32> {
        self.run.status.code()
    }

    /// Returns the JSON of the termination message.
    ///
    /// # Panics
    ///
    /// When its last line is no JSON.
    pub fn result(&self) -> serde_json::Value {
        let line = self.message.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// Checks the exit code, and that the kernel killed nobody.
    ///
    /// # Panics
    ///
    /// When it is another.
    pub fn expect(&self, exit: i32) -> &Self {
        let said = (self.run.stdout_text(), self.run.stderr_text());
        let (run, message) = (&self.run, &self.message);
        assert_eq!(self.exit(), Some(exit), "{run}\n{message}\n{said:?}");
        assert_eq!(self.run.oom_kills, 0, "{run}\n{message}\n{said:?}");
        self
    }
}

fn open_to_all(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    // Nobody can write them in there, so they need not be copied where they lie on the same disk.
    let linked = Command::new("cp").arg("-al").arg(from).arg(to).output()?;
    if linked.status.success() {
        return Ok(());
    }
    let copied = Command::new("cp").arg("-aT").arg(from).arg(to).status()?;
    copied
        .success()
        .then_some(())
        .ok_or_else(|| io::Error::other("cp"))
}
