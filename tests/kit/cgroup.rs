//! Runs a command in a fresh memory cgroup of exactly the promised size, without swap, and measures
//! it.
//!
//! This is where the memory contract is proved: the kernel counts everything (heap, mappings, page
//! cache, its own structures) and kills what does not fit. Works with cgroup v1 and v2 when the
//! caller may create groups; where it may not, it says why in one line. A group is removed with its
//! value. Memory: the command's output.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

mod hierarchy;

use hierarchy::{Place, Version};

/// Pause between two looks at the group's counters: a peak of anonymous memory that is shorter may
/// be missed.
const SAMPLE_PAUSE: Duration = Duration::from_millis(5);

/// Longest wait for a group to become empty before it is removed.
const REMOVE_WAIT: Duration = Duration::from_secs(2);

/// A memory cgroup that this process created.
#[derive(Debug)]
pub struct MemoryGroup {
    folder: PathBuf,
    version: Version,
}

/// Why no memory cgroup can be made here: one line.
#[derive(Debug)]
pub struct Unavailable(String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no memory cgroup here: {}", self.0)
    }
}

/// What a command did in its group.
#[derive(Debug)]
pub struct Run {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Time from start to end.
    pub wall: Duration,
    /// CPU time in user mode, children included that it waited for; steps of 10 ms.
    pub user: Duration,
    /// CPU time in the kernel, counted in the same way.
    pub system: Duration,
    /// Largest usage that the kernel counted: anonymous, page cache, kernel memory.
    pub usage_max_bytes: u64,
    /// Largest anonymous memory seen, every 5 ms; the kernel's counter lags by up to 256 KiB per
    /// CPU.
    pub anon_max_bytes: u64,
    /// Largest kernel memory seen, every 5 ms.
    pub kernel_max_bytes: u64,
    /// Processes that the kernel killed for lack of memory.
    pub oom_kills: u64,
    /// Whether it was killed at the deadline.
    pub timed_out: bool,
}

impl Run {
    /// Returns standard output as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Returns standard error as text.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{}: wall {:.2} s, user {:.2} s, system {:.2} s, peak {:.1} MiB (anonymous {:.1}, \
             kernel {:.1}), OOM kills {}",
            self.status,
            self.wall.as_secs_f64(),
            self.user.as_secs_f64(),
            self.system.as_secs_f64(),
            mib(self.usage_max_bytes),
            mib(self.anon_max_bytes),
            mib(self.kernel_max_bytes),
            self.oom_kills,
        )
    }
}

impl MemoryGroup {
    /// Creates a group of `limit_bytes` without swap; `None` only measures.
    pub fn new(limit_bytes: Option<u64>) -> Result<Self, Unavailable> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let places = Place::all().map_err(|error| Unavailable(error.to_string()))?;
        let mut reason = "no memory controller is mounted".to_owned();
        for place in places {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("careen-{}-{number}", std::process::id());
            match place.create(&name, limit_bytes) {
                Ok(folder) => {
                    let version = place.version;
                    return Ok(Self { folder, version });
                }
                Err(error) => reason = format!("{}: {error}", place.parent.display()),
            }
        }
        Err(Unavailable(reason))
    }

    /// Creates a group, or says once why there is none and returns `None`.
    pub fn new_or_say(limit_bytes: Option<u64>) -> Option<Self> {
        let made = Self::new(limit_bytes);
        made.map_err(|why| crate::say_once(&why.to_string())).ok()
    }

    /// Returns the group's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns where a container has its groups' mount below `/sys/fs/cgroup`.
    pub fn mount_name(&self) -> &'static str {
        match self.version {
            Version::V1 => "memory",
            Version::V2 => ".",
        }
    }

    /// Prepares `program` to run inside the group; add arguments, then give it to
    /// [`MemoryGroup::run`].
    ///
    /// A shell enters the group and becomes the program, so that everything it allocates is
    /// counted.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(self.folder.join("cgroup.procs"))
            .arg(program);
        command
    }

    /// Runs a prepared command to its end, at most `deadline` long; no standard input.
    pub fn run(&self, command: &mut Command, deadline: Duration) -> io::Result<Run> {
        let piped = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = piped.spawn()?;
        let mut outputs = (child.stdout.take(), child.stderr.take());
        let ended = AtomicBool::new(false);
        let watch = Watch {
            group: self,
            ended: &ended,
            end: start + deadline,
        };
        thread::scope(|scope| {
            let watched = scope.spawn(|| watch.sample());
            let stdout = scope.spawn(|| read_all(outputs.0.take()));
            let stderr = scope.spawn(|| read_all(outputs.1.take()));
            let waited = self.wait(&mut child);
            let wall = start.elapsed();
            ended.store(true, Ordering::SeqCst);
            self.kill(); // whoever is left would keep the pipes open
            let seen = watched.join().expect("sampling does not panic");
            let (status, (user, system)) = waited?;
            Ok(Run {
                status,
                stdout: stdout.join().expect("reading does not panic")?,
                stderr: stderr.join().expect("reading does not panic")?,
                wall,
                user,
                system,
                usage_max_bytes: self.usage_max().max(seen.usage),
                anon_max_bytes: seen.anon,
                kernel_max_bytes: seen.kernel,
                oom_kills: self.oom_kills(),
                timed_out: seen.timed_out,
            })
        })
    }

    /// Waits without reaping, reads the CPU times of the dead process, then reaps it.
    fn wait(&self, child: &mut Child) -> io::Result<(ExitStatus, (Duration, Duration))> {
        let pid = Pid::from_child(child);
        waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        )?;
        let times = fs::read_to_string(format!("/proc/{}/stat", child.id()))
            .ok()
            .and_then(|stat| cpu_times(&stat, rustix::param::clock_ticks_per_second()));
        Ok((child.wait()?, times.unwrap_or_default()))
    }

    fn usage_max(&self) -> u64 {
        self.number(match self.version {
            Version::V1 => "memory.max_usage_in_bytes",
            Version::V2 => "memory.peak", // Linux 5.19; before, the samples tell
        })
    }

    fn oom_kills(&self) -> u64 {
        self.field(
            match self.version {
                Version::V1 => "memory.oom_control",
                Version::V2 => "memory.events",
            },
            "oom_kill",
        )
    }

    fn number(&self, file: &str) -> u64 {
        let text = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    fn field(&self, file: &str, name: &str) -> u64 {
        let text = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        hierarchy::field(&text, name).unwrap_or(0)
    }

    /// Kills every process in the group.
    fn kill(&self) {
        let listed = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        for pid in listed
            .lines()
            .filter_map(|line| Pid::from_raw(line.parse().ok()?))
        {
            // It may have ended in between.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let start = Instant::now();
        while fs::remove_dir(&self.folder).is_err() && start.elapsed() < REMOVE_WAIT {
            self.kill();
            thread::sleep(SAMPLE_PAUSE);
        }
    }
}

struct Watch<'a> {
    group: &'a MemoryGroup,
    ended: &'a AtomicBool,
    end: Instant,
}

#[derive(Default)]
struct Seen {
    usage: u64,
    anon: u64,
    kernel: u64,
    timed_out: bool,
}

impl Watch<'_> {
    /// Looks at the counters until the command has ended, and ends it at the deadline.
    fn sample(&self) -> Seen {
        let (group, mut seen) = (self.group, Seen::default());
        while !self.ended.load(Ordering::SeqCst) {
            let (usage, anon, kernel) = match group.version {
                Version::V1 => (
                    group.number("memory.usage_in_bytes"),
                    group.field("memory.stat", "total_rss"),
                    group.number("memory.kmem.usage_in_bytes"),
                ),
                Version::V2 => (
                    group.number("memory.current"),
                    group.field("memory.stat", "anon"),
                    group.field("memory.stat", "kernel"),
                ),
            };
            seen.usage = seen.usage.max(usage);
            seen.anon = seen.anon.max(anon);
            seen.kernel = seen.kernel.max(kernel);
            if Instant::now() >= self.end {
                seen.timed_out = true;
                group.kill();
            }
            thread::sleep(SAMPLE_PAUSE);
        }
        seen
    }
}

fn read_all(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Reads user and system time, own and of waited children, from a line of `/proc/PID/stat`.
fn cpu_times(stat: &str, ticks_per_second: u64) -> Option<(Duration, Duration)> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    // Fields 14 to 17 of proc(5); the list starts with field 3.
    let ticks = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let time = |own: u64, children: u64| {
        let ticks = own.saturating_add(children);
        Duration::from_millis(ticks.saturating_mul(1000) / ticks_per_second.max(1))
    };
    Some((time(ticks(14)?, ticks(16)?), time(ticks(15)?, ticks(17)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const LONG: Duration = Duration::from_secs(60);

    /// The child of the tests below: allocates and touches `KIT_EAT_MIB`, and burns a little CPU
    /// time.
    #[test]
    #[ignore = "run by the other tests inside a group"]
    fn eats_memory() {
        let mib: usize = std::env::var("KIT_EAT_MIB").unwrap().parse().unwrap();
        let bytes = vec![1u8; mib << 20];
        let start = Instant::now();
        let mut sum = 0u64;
        while start.elapsed() < Duration::from_millis(100) {
            sum += bytes
                .iter()
                .step_by(4096)
                .map(|&byte| u64::from(byte))
                .sum::<u64>();
        }
        assert!(sum > 0);
    }

    fn eat(group: &MemoryGroup, mib: u64) -> Run {
        let mut command = group.command(std::env::current_exe().unwrap());
        command
            .args(["--exact", "cgroup::tests::eats_memory", "--ignored"])
            .env("KIT_EAT_MIB", mib.to_string());
        group.run(&mut command, LONG).unwrap()
    }

    #[test]
    fn a_command_that_fits_is_measured() {
        let Some(group) = MemoryGroup::new_or_say(Some(96 * MIB)) else {
            return;
        };
        let folder = group.folder().to_owned();
        let run = eat(&group, 48);
        assert!(run.status.success(), "{run}\n{}", run.stderr_text());
        assert!(
            run.stdout_text().contains("1 passed"),
            "{}",
            run.stdout_text()
        );
        assert!((48 * MIB..96 * MIB).contains(&run.anon_max_bytes), "{run}");
        assert!(run.usage_max_bytes >= run.anon_max_bytes, "{run}");
        assert!(run.kernel_max_bytes > 0 && run.oom_kills == 0, "{run}");
        assert!(
            run.user > Duration::from_millis(20) && run.wall >= run.user,
            "{run}"
        );
        drop(group);
        assert!(!folder.exists());
    }

    #[test]
    fn a_command_that_does_not_fit_is_killed() {
        let Some(group) = MemoryGroup::new_or_say(Some(32 * MIB)) else {
            return;
        };
        let run = eat(&group, 48);
        assert!(!run.status.success() && run.oom_kills >= 1, "{run}");
        assert!(run.usage_max_bytes <= 32 * MIB, "{run}");
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let Some(group) = MemoryGroup::new_or_say(None) else {
            return;
        };
        let mut command = group.command("sh");
        command.args(["-c", "sleep 60 & sleep 60"]);
        let run = group.run(&mut command, Duration::from_millis(200)).unwrap();
        assert!(run.timed_out && !run.status.success(), "{run}");
        assert!(run.wall < Duration::from_secs(30), "{run}");
    }

    #[test]
    fn cpu_times_are_read_behind_any_name() {
        let stat = "7 (a) b c) S 1 7 7 0 -1 4194304 1 2 3 4 150 20 30 5 20 0 1 0";
        let times = cpu_times(stat, 100).unwrap();
        assert_eq!(
            times,
            (Duration::from_millis(1800), Duration::from_millis(250))
        );
        assert_eq!(cpu_times("7 (a) S 1", 100), None);
    }
}
