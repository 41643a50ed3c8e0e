//! The programs that a benchmark measures, on copies of one repository, each in a memory cgroup of
//! its own, and the table of what they took.
//!
//! A copy is brought to the disk first; then it is in the page cache, or, for a cold run, nothing
//! is: neither the repository nor the program. Ratios are of the same run on the same machine;
//! absolute times say little elsewhere. Memory: what the programs print.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::cgroup::{MemoryGroup, Run};
use crate::kopia::Kopia;

/// The password of every repository that is made.
pub const PASSWORD: &str = "static-passw0rd";

/// Longest that a single program may take.
const DEADLINE: Duration = Duration::from_secs(3600);

/// Runs of careen of which the middle one counts; Kopia runs once.
const RUNS: usize = 3;

/// Builds the program as it is released and returns where it is.
pub fn build_careen() -> PathBuf {
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
pub fn drop_page_cache() -> bool {
    sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3\n").is_ok()
}

fn sync() {
    let _ = Command::new("sync").status();
}

/// One repository and what works on it.
pub struct Programs<'a> {
    careen: &'a Path,
    source: PathBuf,
    copy: PathBuf,
    scratch: PathBuf,
}

impl<'a> Programs<'a> {
    /// Works in the folder `work`.
    pub fn new(careen: &'a Path, work: &Path) -> Self {
        Self {
            careen,
            source: work.join("source"),
            copy: work.join("copy"),
            scratch: work.join("scratch"),
        }
    }

    /// Makes the repository, as `careen demo` does with these options; returns what it says of it.
    pub fn make(&self, options: &[&str]) -> Option<Value> {
        let _ = std::fs::remove_dir_all(&self.source);
        let made = Command::new(self.careen)
            .args(["demo", "--no-run"])
            .args(options)
            .arg("--keep")
            .arg(&self.source)
            .arg("--json")
            .env("KOPIA_PASSWORD", PASSWORD)
            .output();
        let made = made.expect("careen starts");
        let said = String::from_utf8_lossy(&made.stdout);
        assert!(made.status.success(), "the repository is not made: {said}");
        let mut lines = said.lines().rev();
        lines.find_map(|line| {
            let event: Value = serde_json::from_str(line).ok()?;
            (event["kind"] == "report").then(|| event["report"].clone())
        })
    }

    /// Returns the repository that copies are made of.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Returns the last copy.
    pub fn copy(&self) -> &Path {
        &self.copy
    }

    /// Goes on with the last copy, as it is now, instead of the repository that was made.
    pub fn go_on_with_copy(&self) {
        let _ = std::fs::remove_dir_all(&self.source);
        std::fs::rename(&self.copy, &self.source).expect("both are in one folder");
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

    /// Runs careen with `words` on a fresh copy in `limit` MiB.
    pub fn careen(&self, words: &[&str], limit: Option<u64>, cold: bool) -> Option<Run> {
        self.renew();
        let group = MemoryGroup::new_or_say(limit.map(|mib| mib << 20))?;
        let memory = format!("{}MiB", limit.unwrap_or(512));
        let mut command = group.command(self.careen);
        command
            .args(words)
            .args(["--json", "--memory", &memory])
            .arg("--scratch")
            .arg(&self.scratch)
            .arg(&self.copy)
            .env("KOPIA_PASSWORD", PASSWORD);
        if cold {
            drop_page_cache();
        }
        group.run(&mut command, DEADLINE).ok()
    }

    /// Runs careen [`RUNS`] times and returns the run of middle length; `after` each it may look at
    /// the copy.
    pub fn careen_middle(
        &self,
        words: &[&str],
        limit: Option<u64>,
        cold: bool,
        mut after: impl FnMut(&Run),
    ) -> Option<Run> {
        let mut runs: Vec<Run> = (0..RUNS)
            .filter_map(|_| self.careen(words, limit, cold).inspect(&mut after))
            .collect();
        runs.sort_by_key(|run| run.wall);
        let middle = runs.len() / 2;
        (!runs.is_empty()).then(|| runs.swap_remove(middle))
    }

    /// Runs Kopia with `words` on a fresh copy, without a limit.
    pub fn kopia(&self, kopia: &Kopia, words: &[&str], cold: bool) -> Option<Run> {
        self.renew();
        let client = kopia
            .connect(&self.copy, PASSWORD, "default@default")
            .ok()?;
        let group = MemoryGroup::new_or_say(None)?;
        let mut command = in_group(&group, &client.command(words));
        if cold {
            drop_page_cache();
        }
        group.run(&mut command, DEADLINE).ok()
    }
}

/// Returns `inner` as a command that runs in `group`.
fn in_group(group: &MemoryGroup, inner: &Command) -> Command {
    let mut command = group.command(inner.get_program());
    command.args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Runs any command in a memory cgroup of its own, of `limit` MiB if there is one.
pub fn run_in_group(command: &Command, limit: Option<u64>) -> Option<Run> {
    let group = MemoryGroup::new_or_say(limit.map(|mib| mib << 20))?;
    let mut command = in_group(&group, command);
    group.run(&mut command, DEADLINE).ok()
}

/// Returns the last JSON line of a kind that careen has written.
pub fn event(run: &Run, kind: &str) -> Option<Value> {
    let stdout = run.stdout_text();
    let mut lines = stdout.lines().rev();
    lines.find_map(|line| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["kind"] == kind).then_some(event)
    })
}

/// Returns the head of the table.
pub fn head() -> String {
    format!(
        "{:<28} {:>9} {:>9} {:>10} {:>10} {:>8} {:>9}",
        "", "wall s", "CPU s", "cgroup MiB", "anon MiB", "kernel", "faster"
    )
}

/// Returns a row of the table; `base` is the run that it is compared with, `more` stands behind.
pub fn row(name: &str, run: Option<&Run>, base: Option<&Run>, more: &str) -> String {
    let Some(run) = run else {
        return format!("{name:<28} cannot run it here, or it cannot open the repository");
    };
    if !run.status.success() {
        let kills = run.oom_kills;
        let said = run.stderr_text();
        let said = said.lines().last().unwrap_or_default();
        return format!(
            "{name:<28} failed ({}, {kills} killed for memory): {said}",
            run.status
        );
    }
    let faster = base.map_or(String::new(), |base| {
        format!("{:.1}x", base.wall.as_secs_f64() / run.wall.as_secs_f64())
    });
    format!(
        "{name:<28} {:>9.2} {:>9.2} {:>10} {:>10} {:>8} {faster:>9}{more}",
        run.wall.as_secs_f64(),
        (run.user + run.system).as_secs_f64(),
        run.usage_max_bytes >> 20,
        run.anon_max_bytes >> 20,
        run.kernel_max_bytes >> 20,
    )
}
