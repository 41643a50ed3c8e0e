//! The programs that are measured, on copies of one repository, each in a memory cgroup of its own.
//!
//! A copy is brought to the disk first; then it is in the page cache, or, for a cold run, nothing
//! is: neither the repository nor the program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kit::cgroup::{MemoryGroup, Run};
use kit::kopia::Kopia;

use crate::parts::Sizes;

const PASSWORD: &str = "static-passw0rd";

/// Longest that a single program may take.
const DEADLINE: Duration = Duration::from_secs(1800);

/// Builds the program as it is released and returns where it is.
pub(crate) fn build_careen() -> PathBuf {
    if let Some(named) = std::env::var_os("CAREEN_BINARY") {
        return named.into();
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "-p", "careen"])
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "careen does not build"
    );
    let own = std::env::current_exe().expect("this program has a path");
    let folder = own
        .ancestors()
        .nth(2)
        .expect("it lies in target/release/deps");
    folder.join("careen")
}

/// Brings everything to the disk and empties the page cache; returns whether that is allowed here.
pub(crate) fn drop_page_cache() -> bool {
    sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3\n").is_ok()
}

fn sync() {
    let _ = Command::new("sync").status();
}

/// One repository and what works on it.
pub(crate) struct Programs<'a> {
    careen: &'a Path,
    source: PathBuf,
    copy: PathBuf,
    scratch: PathBuf,
}

impl<'a> Programs<'a> {
    /// Works in the folder `work`.
    pub(crate) fn new(careen: &'a Path, work: &Path) -> Self {
        Self {
            careen,
            source: work.join("source"),
            copy: work.join("copy"),
            scratch: work.join("scratch"),
        }
    }

    /// Makes the repository.
    pub(crate) fn make(&self, entries: u64, blobs: u64) {
        let made = Command::new(self.careen)
            .args(["demo", "--no-run", "--entries", &entries.to_string()])
            .args(["--index-blobs", &blobs.to_string(), "--keep"])
            .arg(&self.source)
            .env("KOPIA_PASSWORD", PASSWORD)
            .output();
        assert!(
            made.is_ok_and(|made| made.status.success()),
            "the repository is not made"
        );
    }

    /// Copies the repository and brings it to the disk; the copy stays in the page cache.
    fn renew(&self) {
        let _ = std::fs::remove_dir_all(&self.copy);
        let mut copy = Command::new("cp");
        let copied = copy.arg("-a").arg(&self.source).arg(&self.copy).status();
        assert!(
            copied.is_ok_and(|status| status.success()),
            "the repository is not copied"
        );
        sync();
    }

    /// Compacts the index with careen in `limit` MiB.
    pub(crate) fn careen(&self, limit: Option<u64>, cold: bool) -> Option<Run> {
        self.renew();
        let group = MemoryGroup::new_or_say(limit.map(|mib| mib << 20))?;
        let memory = format!("{}MiB", limit.unwrap_or(512));
        let mut command = group.command(self.careen);
        command
            .args(["index", "compact", "--json", "--memory", &memory])
            .arg("--scratch")
            .arg(&self.scratch)
            .arg(&self.copy)
            .env("KOPIA_PASSWORD", PASSWORD);
        if cold {
            drop_page_cache();
        }
        group.run(&mut command, DEADLINE).ok()
    }

    /// Returns the bytes of the last run of careen.
    pub(crate) fn sizes(&self, run: &Run) -> Option<Sizes> {
        Sizes::of(&self.source, &self.copy, run)
    }

    /// Kopia compacts one settled epoch in a quick run: the same work.
    pub(crate) fn kopia(&self, kopia: &Kopia, cold: bool) -> Option<Run> {
        self.renew();
        let client = kopia
            .connect(&self.copy, PASSWORD, "default@default")
            .ok()?;
        let group = MemoryGroup::new_or_say(None)?;
        let inner = client.command(&["maintenance", "run", "--no-full"]);
        let mut command = group.command(inner.get_program());
        command.args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if cold {
            drop_page_cache();
        }
        group.run(&mut command, DEADLINE).ok()
    }
}
