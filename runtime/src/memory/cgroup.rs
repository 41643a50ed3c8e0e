//! The memory limit of the container: what the kernel's files say, cgroup v1 and v2.
//!
//! A limit above ours holds as well, so the smallest of all groups from ours up to the root of the
//! mount counts. In a container the mount begins at the container's own group, whatever path
//! `/proc/self/cgroup` names; then the path leads nowhere and the root alone answers. No memory
//! cost.

use std::fs;
use std::path::Path;

/// Where the groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// v1 says "no limit" with a number near 2^63.
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// Lines of `/proc/self/cgroup` that are looked at: v1 has a dozen hierarchies.
const LINES_MAX: usize = 64;

/// Returns the memory limit of the cgroup that the process lives in, `None` without one. Reads
/// cgroup v2's `memory.max` and `memory.high`, above which the kernel slows whoever grows, and v1's
/// `memory.limit_in_bytes`, for the process's own group and for all above it.
pub fn cgroup_limit_bytes() -> Option<usize> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_below(Path::new(MOUNT), &own)
}

/// The same for groups that are mounted at `mount`; `own` is the text of `/proc/self/cgroup`.
fn limit_below(mount: &Path, own: &str) -> Option<usize> {
    let mut smallest: Option<u64> = None;
    for line in own.lines().take(LINES_MAX) {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (root, files): (_, &[&str]) = if controllers.is_empty() {
            (mount.to_owned(), &["memory.max", "memory.high"])
        } else if controllers.split(',').any(|name| name == "memory") {
            (mount.join("memory"), &["memory.limit_in_bytes"])
        } else {
            continue;
        };
        for group in Path::new(path).ancestors() {
            let relative = group.strip_prefix("/").unwrap_or(group);
            let limits = files.iter().filter_map(|file| {
                let text = fs::read_to_string(root.join(relative).join(file)).ok()?;
                // v2 says "max" where there is no limit.
                text.trim().parse::<u64>().ok()
            });
            smallest = limits.chain(smallest).min();
        }
    }
    smallest
        .filter(|bytes| *bytes < NO_LIMIT_BYTES)
        .and_then(|bytes| usize::try_from(bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// Makes a tree of groups.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let mount = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = mount.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        mount
    }

    fn limit(files: &[(&str, &str)], own: &str) -> Option<usize> {
        limit_below(tree(files).path(), own)
    }

    /// Goal: the limits of a v2 machine and of a v2 container are found; method: trees as the
    /// kernel and the runtimes lay them out.
    #[test]
    fn version_2_is_read() {
        // The root of the machine has no such file.
        let host = [
            ("cgroup.controllers", "cpu memory\n"),
            ("kubepods.slice/memory.max", "1073741824\n"),
            ("kubepods.slice/memory.high", "max\n"),
            ("kubepods.slice/pod1.slice/memory.max", "134217728\n"),
            ("kubepods.slice/pod1.slice/a.scope/memory.max", "67108864\n"),
            ("kubepods.slice/pod1.slice/a.scope/memory.high", "max\n"),
        ];
        let own = "0::/kubepods.slice/pod1.slice/a.scope\n";
        assert_eq!(limit(&host, own), Some(64 * MIB));
        // A limit above is the one that holds.
        let above = "0::/kubepods.slice/pod1.slice/b.scope\n";
        assert_eq!(limit(&host, above), Some(128 * MIB));
        // In a namespace of its own: the path is the root.
        let inside = [("memory.max", "67108864\n"), ("memory.high", "max\n")];
        assert_eq!(limit(&inside, "0::/\n"), Some(64 * MIB));
        // The host's path in a container's mount.
        assert_eq!(limit(&inside, own), Some(64 * MIB));
        let slowed = [("memory.max", "67108864\n"), ("memory.high", "50331648\n")];
        assert_eq!(limit(&slowed, "0::/\n"), Some(48 * MIB));
        let free = [("memory.max", "max\n"), ("memory.high", "max\n")];
        assert_eq!(limit(&free, "0::/\n"), None);
    }

    /// Goal: the same for v1, and for machines with both.
    #[test]
    fn version_1_is_read() {
        let none = "9223372036854771712\n";
        let host = [
            ("memory/memory.limit_in_bytes", none),
            ("memory/kubepods/memory.limit_in_bytes", "1073741824\n"),
            ("memory/kubepods/a/memory.limit_in_bytes", "67108864\n"),
            ("cpu/kubepods/a/memory.limit_in_bytes", "1048576\n"),
        ];
        let own = "5:cpu,cpuacct:/kubepods/a\n4:memory:/kubepods/a\n1:name=systemd:/x\n0::/x\n";
        assert_eq!(limit(&host, own), Some(64 * MIB));
        assert_eq!(limit(&host, "4:memory:/other\n"), None);
        assert_eq!(
            limit(&host, "4:cpuset,memory:/kubepods\n"),
            Some(1024 * MIB)
        );
        let inside = [("memory/memory.limit_in_bytes", "67108864\n")];
        assert_eq!(limit(&inside, own), Some(64 * MIB));
        // A v2 hierarchy without controllers beside it.
        assert_eq!(limit(&inside, "0::/\n4:memory:/\n"), Some(64 * MIB));
    }

    #[test]
    fn what_is_not_understood_is_no_limit() {
        let odd = [("memory.max", "many\n"), ("memory.high", "-1\n")];
        for own in ["", "\n", "0\n", "0:\n", "0::/\n", "x:memory\n0::\n"] {
            assert_eq!(limit(&odd, own), None, "{own:?}");
        }
    }
}
