//! Where a memory cgroup can be created: the mounted hierarchies of this machine, v1 and v2.
//!
//! A group is made below the caller's own group, so that limits above it still hold, or else at the
//! root of the mount. Swap is switched off: a promise about memory that swaps is none. Mirrors
//! nothing of Kopia.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The two interfaces of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// The memory controller as a hierarchy of its own.
    V1,
    /// The unified hierarchy.
    V2,
}

/// A group below which a new one may be possible.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) version: Version,
    pub(super) parent: PathBuf,
}

impl Place {
    /// Returns all places to try, best first.
    pub(super) fn all() -> io::Result<Vec<Self>> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        Ok(places(&mounts, &own))
    }

    /// Creates the group `name` here and sets its limit; nothing is left behind when that is
    /// refused.
    pub(super) fn create(&self, name: &str, limit_bytes: Option<u64>) -> io::Result<PathBuf> {
        if self.version == Version::V2 {
            // Refused where processes live in the group itself; then the check below tells.
            let _ = fs::write(self.parent.join("cgroup.subtree_control"), "+memory");
        }
        let folder = self.parent.join(name);
        fs::create_dir(&folder)?;
        let set = self.limit(&folder, limit_bytes);
        if set.is_err() {
            let _ = fs::remove_dir(&folder);
        }
        set.map(|()| folder)
    }

    fn limit(&self, folder: &Path, limit_bytes: Option<u64>) -> io::Result<()> {
        let (limit, swap) = match self.version {
            Version::V1 => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
            Version::V2 => ("memory.max", "memory.swap.max"),
        };
        if !folder.join(limit).exists() {
            return Err(io::Error::other(
                "the memory controller is not given to new groups",
            ));
        }
        let Some(bytes) = limit_bytes else {
            return Ok(());
        };
        fs::write(folder.join(limit), bytes.to_string())?;
        // v1 limits memory and swap together, v2 swap alone.
        let swap_bytes = if self.version == Version::V1 {
            bytes
        } else {
            0
        };
        match fs::write(folder.join(swap), swap_bytes.to_string()) {
            Err(_) if swaps_nowhere(&fs::read_to_string("/proc/swaps")?) => Ok(()),
            set => set,
        }
    }
}

fn places(mounts: &str, own: &str) -> Vec<Place> {
    let own_group = |wanted: &str| {
        own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let controllers = parts.nth(1)?;
            let found = controllers.split(',').any(|one| one == wanted);
            found.then(|| parts.next()).flatten()
        })
    };
    let mut found = Vec::new();
    for line in mounts.lines() {
        let Some((head, tail)) = line.split_once(" - ") else {
            continue;
        };
        let (head, tail): (Vec<&str>, Vec<&str>) =
            (head.split(' ').collect(), tail.split(' ').collect());
        let [_, _, _, root, mount, ..] = head[..] else {
            continue;
        };
        let [kind, _, options, ..] = tail[..] else {
            continue;
        };
        let memory = options.split(',').any(|option| option == "memory");
        let (version, group) = match kind {
            "cgroup" if memory => (Version::V1, own_group("memory")),
            "cgroup2" => (Version::V2, own_group("")),
            _ => continue,
        };
        // The group as seen from this mount; from inside a container it may lie outside.
        let inside = group.and_then(|group| Path::new(group).strip_prefix(root).ok());
        let own = Path::new(mount).join(inside.unwrap_or(Path::new("")));
        let own: PathBuf = own.components().collect(); // no slash at the end
        let up = own
            .ancestors()
            .take_while(|folder| folder.starts_with(mount));
        found.extend(up.map(|parent| Place {
            version,
            parent: parent.to_owned(),
        }));
    }
    // The controller belongs to one hierarchy only; a v1 mount with it is the one in charge.
    found.sort_by_key(|place| place.version == Version::V2);
    found
}

fn swaps_nowhere(swaps: &str) -> bool {
    swaps.lines().skip(1).all(|line| line.trim().is_empty())
}

/// Reads the number behind `name` in a file of `name number` lines.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(mounts: &str, own: &str) -> Vec<(Version, String)> {
        let all = places(mounts, own).into_iter();
        all.map(|place| (place.version, place.parent.display().to_string()))
            .collect()
    }

    #[test]
    fn a_v1_memory_hierarchy_goes_first() {
        let mounts = "40 30 0:35 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            41 30 0:36 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
            42 30 0:37 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let own = "4:memory:/jobs/1\n1:cpu:/\n0::/\n";
        let expected = [
            (Version::V1, "/sys/fs/cgroup/memory/jobs/1".to_owned()),
            (Version::V1, "/sys/fs/cgroup/memory/jobs".to_owned()),
            (Version::V1, "/sys/fs/cgroup/memory".to_owned()),
            (Version::V2, "/sys/fs/cgroup/unified".to_owned()),
        ];
        assert_eq!(paths(mounts, own), expected);
    }

    #[test]
    fn a_group_outside_of_the_mount_leaves_its_root() {
        let mounts = "42 30 0:37 /docker/abc /sys/fs/cgroup rw shared:1 - cgroup2 cgroup2 rw\n";
        let inside = [
            (Version::V2, "/sys/fs/cgroup/x".to_owned()),
            (Version::V2, "/sys/fs/cgroup".to_owned()),
        ];
        assert_eq!(paths(mounts, "0::/docker/abc/x\n"), inside);
        assert_eq!(paths(mounts, "0::/other\n"), inside[1..]);
        assert_eq!(paths("", "0::/\n"), []);
    }

    #[test]
    fn counters_and_swaps_are_read() {
        let stat = "total_rss_huge 1\ntotal_rss 4096\noom_kill_disable 0\noom_kill 2\n";
        assert_eq!(field(stat, "total_rss"), Some(4096));
        assert_eq!(field(stat, "oom_kill"), Some(2));
        assert_eq!(field(stat, "missing"), None);
        assert!(swaps_nowhere("Filename Type Size\n"));
        assert!(!swaps_nowhere(
            "Filename Type Size\n/dev/sda2 partition 1000\n"
        ));
    }
}
