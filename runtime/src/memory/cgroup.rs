//! The memory limit of the container: what the kernel's files say, cgroup v1 and v2.
//!
//! A limit above ours holds as well, so the smallest of all groups from ours up to the root of the
//! mount counts. `/proc/self/mountinfo` says where groups are mounted, and which of them is the
//! root there: in a container mostly its own. What lies above that root cannot be seen, and nor can
//! its limits. Memory: one line of a file.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Component, Path};

/// Where the groups are mounted, by custom.
const MOUNT: &str = "/sys/fs/cgroup";

/// v1 says "no limit" with a number near 2^63.
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// Lines of `/proc/self/cgroup` that are looked at: v1 has a dozen hierarchies.
const LINES_MAX: usize = 64;

/// Returns the memory limit of the cgroup that the process lives in, `None` without one. Reads
/// cgroup v2's `memory.max` and `memory.high`, above which the kernel slows whoever grows, and v1's
/// `memory.limit_in_bytes`, for the process's own group and for all above it that are mounted.
pub fn cgroup_limit_bytes() -> Option<usize> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = BufReader::new(File::open("/proc/self/mountinfo").ok()?);
    limit_of(mounts, &own, Path::new(MOUNT))
}

/// The same out of the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`; of mounts below
/// `custom` the root counts even where our group is not to be found below it.
fn limit_of(mounts: impl BufRead, own: &str, custom: &Path) -> Option<usize> {
    let mut smallest: Option<u64> = None;
    for line in mounts.lines().map_while(Result::ok) {
        let Some(mount) = Mount::of(&line) else {
            continue;
        };
        let below = match own_group(own, mount.version) {
            Some(group) => mount.below(group),
            None => continue,
        };
        let below = match below {
            Some(below) => below,
            None if mount.at.starts_with(custom) => Path::new(""),
            None => continue,
        };
        for group in below.ancestors() {
            let limits = mount.version.files().iter().filter_map(|file| {
                let text = fs::read_to_string(mount.at.join(group).join(file)).ok()?;
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

/// The two interfaces of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// The memory controller as a hierarchy of its own.
    V1,
    /// The unified hierarchy; it may lack the controller.
    V2,
}

impl Version {
    /// Returns the files that hold limits.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::V1 => &["memory.limit_in_bytes"],
            Self::V2 => &["memory.max", "memory.high"],
        }
    }
}

/// A place where groups are mounted.
struct Mount<'a> {
    version: Version,
    /// The group that is the root there.
    root: &'a Path,
    at: &'a Path,
}

impl<'a> Mount<'a> {
    /// Reads a line of `/proc/self/mountinfo`; `None` for everything else that is mounted.
    fn of(line: &'a str) -> Option<Self> {
        let (place, what) = line.split_once(" - ")?;
        let mut what = what.split(' ');
        let version = match what.next()? {
            "cgroup2" => Version::V2,
            "cgroup" if what.nth(1)?.split(',').any(|option| option == "memory") => Version::V1,
            _ => return None,
        };
        let mut place = place.split(' ').skip(3);
        let (root, at) = (Path::new(place.next()?), Path::new(place.next()?));
        Some(Self { version, root, at })
    }

    /// Returns where `group` lies below this mount; `None` where it lies elsewhere, as that of a
    /// process does that was moved out of its namespace.
    fn below<'g>(&self, group: &'g str) -> Option<&'g Path> {
        let below = Path::new(group).strip_prefix(self.root).ok()?;
        let up = below.components().any(|part| part == Component::ParentDir);
        (!up).then_some(below)
    }
}

/// Returns our group in a hierarchy, out of the text of `/proc/self/cgroup`.
fn own_group(own: &str, version: Version) -> Option<&str> {
    own.lines().take(LINES_MAX).find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, fields.next()?);
        let ours = match version {
            Version::V1 => controllers.split(',').any(|name| name == "memory"),
            Version::V2 => controllers.is_empty(),
        };
        ours.then_some(group)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// The mount of a machine or container with cgroup v2 alone: the namespace's root group.
    const V2: &str = "33 31 0:27 / CUSTOM ro,nosuid,relatime - cgroup2 cgroup rw";

    /// The same with v1.
    const V1: &str = "30 25 0:26 / CUSTOM ro - tmpfs tmpfs ro,mode=755\n\
        35 30 0:31 / CUSTOM/cpu ro,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        36 30 0:32 / CUSTOM/memory ro,relatime shared:9 - cgroup cgroup rw,memory";

    /// Makes a tree of groups, below `cgroup`.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join("cgroup").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    /// Returns the limit out of files as the kernel has them; `CUSTOM` in `mounts` is their place,
    /// `ELSEWHERE` is beside it.
    fn limit(files: &[(&str, &str)], mounts: &str, own: &str) -> Option<usize> {
        let folder = tree(files);
        let custom = folder.path().join("cgroup");
        let elsewhere = folder.path().join("elsewhere");
        let mounts = mounts.replace("ELSEWHERE", elsewhere.to_str().unwrap());
        let mounts = mounts.replace("CUSTOM", custom.to_str().unwrap());
        limit_of(mounts.as_bytes(), own, &custom)
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
        assert_eq!(limit(&host, V2, own), Some(64 * MIB));
        // A limit above is the one that holds; a group may have none of the files.
        let above = "0::/kubepods.slice/pod1.slice/b.scope\n";
        assert_eq!(limit(&host, V2, above), Some(128 * MIB));
        // In a namespace of its own: the path is the root.
        let inside = [("memory.max", "67108864\n"), ("memory.high", "max\n")];
        assert_eq!(limit(&inside, V2, "0::/\n"), Some(64 * MIB));
        assert_eq!(limit(&inside, V2, "0::/init\n"), Some(64 * MIB));
        let slowed = [("memory.max", "67108864\n"), ("memory.high", "50331648\n")];
        assert_eq!(limit(&slowed, V2, "0::/\n"), Some(48 * MIB));
        let free = [("memory.max", "max\n"), ("memory.high", "max\n")];
        assert_eq!(limit(&free, V2, "0::/\n"), None);
        // Nothing of it is mounted.
        assert_eq!(
            limit(&inside, "22 1 254:1 / / rw - ext4 /dev/vda rw", own),
            None
        );
    }

    /// Goal: in the host's namespace, a container whose mount begins at its own group, or at its
    /// pod's, finds the groups below it; method: the same tree, mounted from several roots.
    #[test]
    fn the_root_of_the_mount_is_taken_off_the_path() {
        let own = "0::/kubepods/pod1/a/job\n";
        let mounted = |root: &str| V2.replace(" / ", &format!(" {root} "));
        let container = [
            ("memory.max", "67108864\n"),
            ("job/memory.max", "50331648\n"),
        ];
        assert_eq!(
            limit(&container, &mounted("/kubepods/pod1/a"), own),
            Some(48 * MIB)
        );
        let pod = [
            ("memory.max", "134217728\n"),
            ("a/job/memory.max", "67108864\n"),
        ];
        assert_eq!(limit(&pod, &mounted("/kubepods/pod1"), own), Some(64 * MIB));
        // Of a mount that does not have our group, the root answers,
        assert_eq!(
            limit(&container, &mounted("/docker/b"), own),
            Some(64 * MIB)
        );
        // and so it does for a process outside of its namespace,
        let parent = [
            ("memory.max", "67108864\n"),
            ("../other/memory.max", "1048576\n"),
        ];
        assert_eq!(limit(&parent, V2, "0::/../other\n"), Some(64 * MIB));
        // or in a new namespace that still has the mount of the machine, whose root has no limit,
        assert_eq!(
            limit(&[("cgroup.procs", "1\n")], &mounted("/../.."), "0::/\n"),
            None
        );
        // but not where somebody mounted other groups elsewhere.
        let elsewhere = mounted("/docker/b").replace("CUSTOM", "ELSEWHERE");
        let others = [("../elsewhere/memory.max", "1048576\n")];
        let both = format!("{V2}\n{elsewhere}");
        assert_eq!(limit(&others, &both, own), None);
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
        assert_eq!(limit(&host, V1, own), Some(64 * MIB));
        assert_eq!(limit(&host, V1, "4:memory:/other\n"), None);
        assert_eq!(
            limit(&host, V1, "4:cpuset,memory:/kubepods\n"),
            Some(1024 * MIB)
        );
        let inside = [("memory/memory.limit_in_bytes", "67108864\n")];
        assert_eq!(limit(&inside, V1, "4:memory:/\n"), Some(64 * MIB));
        // The host's path, where the mount does not say its root.
        assert_eq!(limit(&inside, V1, own), Some(64 * MIB));
    }

    /// Goal: beside v1 the unified hierarchy is another mount, with or without the controller.
    #[test]
    fn both_versions_are_read_where_they_are_mounted() {
        let hybrid = format!("{V1}\n42 30 0:39 / CUSTOM/unified rw - cgroup2 cgroup rw,nsdelegate");
        let own = "4:memory:/a\n0::/b\n";
        let without = [
            ("memory/a/memory.limit_in_bytes", "67108864\n"),
            ("unified/b/cgroup.procs", ""),
        ];
        assert_eq!(limit(&without, &hybrid, own), Some(64 * MIB));
        let with = [
            ("memory/b/memory.max", "1048576\n"),
            ("unified/b/memory.max", "67108864\n"),
        ];
        assert_eq!(limit(&with, &hybrid, "1:cpu:/x\n0::/b\n"), Some(64 * MIB));
    }

    #[test]
    fn what_is_not_understood_is_no_limit() {
        let odd = [("memory.max", "many\n"), ("memory.high", "-1\n")];
        for own in ["", "\n", "0\n", "0:\n", "0::/\n", "x:memory\n0::\n"] {
            assert_eq!(limit(&odd, V2, own), None, "{own:?}");
        }
        let real = [("memory.max", "67108864\n")];
        for mounts in [
            "",
            "\n",
            " - \n",
            "33 31 0:27 / - cgroup2",
            "33 31 - cgroup2 a rw",
        ] {
            assert_eq!(limit(&real, mounts, "0::/\n"), None, "{mounts:?}");
        }
    }
}
