//! A memory cgroup of exactly the promised size, without swap, for one child process.
//!
//! The kernel is the judge of the promise: what goes over the limit is killed. Works as root on
//! cgroup v2 with the memory controller, and on v1; elsewhere there is no group and the demo says
//! so. The child enters the group before the program starts, so every byte of it counts. The group
//! is removed on drop, which the kernel allows once the child has ended; what an interrupted demo
//! leaves is removed by the next one. No memory cost.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::home::name_of;

/// Where the groups are.
const ROOT: &str = "/sys/fs/cgroup";

/// The shell's part: enter the group that is its first argument, become the program that follows.
const ENTER: &str = r#"echo $$ > "$1/cgroup.procs" && shift && exec "$@""#;

/// A memory cgroup of our own.
#[derive(Debug)]
pub(in crate::cli) struct MemoryGroup {
    directory: PathBuf,
    version: u8,
}

impl MemoryGroup {
    /// Makes a group with `limit_bytes`, or says why there cannot be one here.
    pub(in crate::cli) fn new(limit_bytes: usize) -> io::Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let mut reason = io::Error::new(io::ErrorKind::NotFound, "no memory controller");
        for (version, parent) in parents(&own, Path::new(ROOT)) {
            match Self::inside(&parent, version, limit_bytes) {
                Ok(group) => return Ok(group),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    fn inside(parent: &Path, version: u8, limit_bytes: usize) -> io::Result<Self> {
        let directory = parent.join(name_of(std::process::id()));
        fs::create_dir(&directory)?;
        let group = Self { directory, version };
        let limit = limit_bytes.to_string();
        if version == 2 {
            group.set("memory.max", &limit)?;
            group.set_if_there("memory.swap.max", "0")?;
        } else {
            group.set("memory.limit_in_bytes", &limit)?;
            group.set("memory.swappiness", "0")?;
            group.set_if_there("memory.memsw.limit_in_bytes", &limit)?;
        }
        Ok(group)
    }

    /// Returns the cgroup version, 1 or 2.
    pub(in crate::cli) fn version(&self) -> u8 {
        self.version
    }

    /// Makes the command that runs `program` in this group.
    pub(in crate::cli) fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(ENTER)
            .arg("sh")
            .arg(&self.directory)
            .arg(program);
        command
    }

    /// Returns how many processes of the group the kernel has killed for memory.
    pub(in crate::cli) fn kills(&self) -> u64 {
        let file = if self.version == 2 {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = fs::read_to_string(self.directory.join(file)).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0)
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.directory.join(file), value)
    }

    fn set_if_there(&self, file: &str, value: &str) -> io::Result<()> {
        match self.set(file, value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // cgroupfs answers the creation of a file that it does not have with "permission
            // denied".
            Err(_) if !self.directory.join(file).exists() => Ok(()),
            result => result,
        }
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.directory);
    }
}

/// Removes the group that demo `id` left. Errors: there are processes in it.
pub(super) fn remove_left_group(id: u32) -> io::Result<()> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for (_, parent) in parents(&own, Path::new(ROOT)) {
        match fs::remove_dir(parent.join(name_of(id))) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Returns where groups may be made, best first: version and directory. A v2 group with processes
/// of its own cannot hand the controller on, so the groups above ours are tried too.
fn parents(own: &str, root: &Path) -> Vec<(u8, PathBuf)> {
    let mut found = Vec::new();
    for line in own.lines().take(64) {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (version, mount) = if controllers.is_empty() {
            (2, root.to_path_buf())
        } else if controllers.split(',').any(|name| name == "memory") {
            (1, root.join("memory"))
        } else {
            continue;
        };
        for ancestor in Path::new(path).ancestors().take(16) {
            let directory = mount.join(ancestor.strip_prefix("/").unwrap_or(ancestor));
            if version == 1 || hands_memory_on(&directory) {
                found.push((version, directory));
            }
        }
    }
    found
}

fn hands_memory_on(directory: &Path) -> bool {
    fs::read_to_string(directory.join("cgroup.subtree_control"))
        .is_ok_and(|text| text.split_whitespace().any(|name| name == "memory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_looked_for_where_the_process_lives() {
        let root = tempfile::tempdir().unwrap();
        let pod = root.path().join("pod");
        fs::create_dir_all(pod.join("container")).unwrap();
        fs::write(pod.join("cgroup.subtree_control"), "cpu memory\n").unwrap();
        let both = "4:memory,x:/a\n3:cpu:/b\n0::/pod/container\n";
        let expected = vec![
            (1, root.path().join("memory/a")),
            (1, root.path().join("memory")),
            (2, pod),
        ];
        let found: Vec<_> = parents(both, root.path())
            .into_iter()
            .map(|(version, path)| (version, path.components().collect::<PathBuf>()))
            .collect();
        assert_eq!(found, expected);
        assert!(parents("nonsense", root.path()).is_empty());
    }

    /// Goal: the kernel holds the group to its limit; method: a shell that swallows 64 MiB in 16
    /// MiB.
    #[test]
    fn the_kernel_kills_what_goes_over_the_limit() {
        let Ok(group) = MemoryGroup::new(16 * 1024 * 1024) else {
            return; // not root, or no controller
        };
        let run = |script: &str| {
            let mut command = group.command(OsStr::new("sh"));
            command
                .arg("-c")
                .arg(script)
                .stderr(std::process::Stdio::null())
                .status()
        };
        assert!(run("true").unwrap().success());
        assert_eq!(group.kills(), 0);
        let hog = "head -c 64000000 /dev/zero | sed 's/x/y/' >/dev/null";
        let _ = run(hog).unwrap();
        assert!(group.kills() >= 1, "one process, or more of them");
        let directory = group.directory.clone();
        let mut sleeper = group
            .command(OsStr::new("sleep"))
            .arg("60")
            .spawn()
            .unwrap();
        let procs = directory.join("cgroup.procs");
        while fs::read_to_string(&procs).unwrap().is_empty() {
            std::thread::yield_now();
        }
        remove_left_group(std::process::id()).unwrap_err();
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        std::mem::forget(group); // as if interrupted
        remove_left_group(std::process::id()).unwrap();
        assert!(!directory.exists());
    }
}
