//! Which process holds a lease, and whether that process is known to be gone.
//!
//! A run that is killed leaves its lease behind. Whoever comes next on the same machine can see
//! that nobody holds it any more: host, boot and process namespace are the same, and there is no
//! process of that number which began at that moment. Everywhere else nothing is known, and the
//! lease ends by its time. Linux only, by `/proc`; where that cannot be read nothing is known
//! either. No memory cost.

use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, getpid, test_kill_process};
use serde::{Deserialize, Serialize};

/// A process, among all that ever ran on all machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The host's whole name: in Kubernetes the pod's.
    host: String,
    /// Which boot of it.
    boot: String,
    /// In which namespace the number counts, as `/proc` names it.
    namespace: String,
    /// The process's number.
    process: i32,
    /// When it began, in ticks since the boot.
    began: u64,
}

impl Holder {
    /// Returns this process; none where the system does not tell enough.
    pub fn here() -> Option<Self> {
        let process = getpid();
        // A `/proc` of another namespace has other processes under these numbers.
        let known_as = fs::read_link("/proc/self").ok()?;
        if known_as.as_os_str() != process.as_raw_nonzero().to_string().as_str() {
            return None;
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
        Some(Self {
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            boot: boot.trim().to_owned(),
            namespace: namespace.to_string_lossy().into_owned(),
            process: process.as_raw_nonzero().get(),
            began: Condition::of(process)?.began,
        })
    }

    /// Tells whether the process is known to be gone.
    pub fn is_gone(&self) -> bool {
        let Some(here) = Self::here() else {
            return false;
        };
        let is_near =
            (&here.host, &here.boot, &here.namespace) == (&self.host, &self.boot, &self.namespace);
        let Some(process) = Pid::from_raw(self.process).filter(|_| is_near) else {
            return false;
        };
        if test_kill_process(process) == Err(Errno::SRCH) {
            return true;
        }
        // The number may be another process's by now. One that may not be looked at is alive.
        Condition::of(process).is_some_and(|found| found.has_ended || found.began != self.began)
    }
}

/// What `/proc` says of a process.
struct Condition {
    /// It has ended, and its parent has not asked for that yet.
    has_ended: bool,
    began: u64,
}

impl Condition {
    fn of(process: Pid) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
        Self::parse(&stat)
    }

    /// Parses `/proc/PID/stat`: after the name, which may contain anything, the state is the first
    /// field and the beginning the twentieth.
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        Some(Self {
            has_ended: matches!(fields.next()?, "Z" | "X"),
            began: fields.nth(18)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Goal: only the death of the very process is one; method: a child that is killed, then asked
    /// for; and the same number elsewhere and at another time.
    #[test]
    fn a_process_is_gone_when_it_has_ended_and_not_before() {
        let here = Holder::here().unwrap();
        assert!(!here.is_gone());
        let mut child = Command::new("sleep")
            .arg("600")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let process = Pid::from_child(&child);
        let holder = Holder {
            process: process.as_raw_nonzero().get(),
            began: Condition::of(process).unwrap().began,
            ..here
        };
        assert!(!holder.is_gone());
        let earlier = Holder {
            began: holder.began - 1,
            ..holder.clone()
        };
        assert!(earlier.is_gone(), "the number is another process's");
        child.kill().unwrap();
        while !holder.is_gone() {
            std::thread::yield_now(); // it ends in its own time, and nobody has asked for it
        }
        child.wait().unwrap();
        assert!(holder.is_gone());
        let elsewhere = |change: fn(&mut Holder)| {
            let mut holder = holder.clone();
            change(&mut holder);
            holder
        };
        assert!(!elsewhere(|one| one.host.push('x')).is_gone());
        assert!(!elsewhere(|one| one.boot.push('x')).is_gone());
        assert!(!elsewhere(|one| one.namespace.push('x')).is_gone());
        assert!(!elsewhere(|one| one.process = 0).is_gone());
    }

    #[test]
    fn the_name_of_a_program_may_be_anything() {
        let parsed = |name: &str, state: &str| {
            let fields = "1 1 1 0 -1 4194560 120 0 0 0 0 0 0 0 20 0 1 0 8812 2400 200";
            Condition::parse(&format!("17 ({name}) {state} {fields}")).unwrap()
        };
        let found = parsed("a) Z 7 (b", "S");
        assert_eq!((found.has_ended, found.began), (false, 8812));
        assert!(parsed("careen", "Z").has_ended);
        assert!(Condition::parse("17 (careen) S 1").is_none());
    }
}
