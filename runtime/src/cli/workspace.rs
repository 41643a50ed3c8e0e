//! What a command works with: the memory plan and the scratch directory.
//!
//! Both are refused at once when they are not enough, before the repository is opened. The default
//! scratch directory is in the system's temporary one, but never in memory: scratch there would
//! fill the limit that it is there to keep. No memory cost.

use std::sync::Arc;

use super::Console;
use super::arguments::GlobalOptions;
use super::error::CliError;
use super::target::Target;
use crate::memory::{DEFAULT_LIMIT_BYTES, MemoryPlan, cgroup_limit_bytes};
use crate::progress::Progress;
use crate::repository::Workspace;
use crate::spill::{Scratch, ScratchOptions};

/// Returns the limit to live in, in bytes: the smaller of the option and the cgroup's, else the
/// default. Above the cgroup's there is no memory, only a kernel that kills, mostly the whole
/// container, or that slows whoever grows until nothing moves.
pub(super) fn memory_limit_bytes(global: &GlobalOptions) -> usize {
    limit_bytes(global.memory, cgroup_limit_bytes())
}

fn limit_bytes(given: Option<usize>, cgroup: Option<usize>) -> usize {
    let limits = given.into_iter().chain(cgroup);
    limits.min().unwrap_or(DEFAULT_LIMIT_BYTES)
}

/// Plans the memory and makes the scratch directory of a run on `target`.
pub(super) fn workspace(console: &Console, target: &Target) -> Result<Workspace, CliError> {
    let limit_bytes = memory_limit_bytes(&console.global);
    let memory = match target.folder() {
        Some(_) => MemoryPlan::new(limit_bytes)?,
        None => MemoryPlan::behind_network(limit_bytes)?,
    };
    let planned = memory.limit_bytes as u64;
    console
        .ending
        .note(|facts| facts.memory_bytes = Some(planned));
    let named = console.global.scratch.clone();
    let parent = named.unwrap_or_else(|| {
        // One for each user: the directory must be ours alone.
        let user = rustix::process::getuid().as_raw();
        console
            .surroundings
            .temporary
            .join(format!("careen-{user}"))
    });
    let options = ScratchOptions {
        parent,
        quota_bytes: console.global.scratch_quota.map(|bytes| bytes as u64),
        tmpfs_allowed: false,
        // Without a cgroup's limit the page cache has the machine's memory, and is faster.
        direct: cgroup_limit_bytes().is_some(),
    };
    let mut random = [0; 8];
    console.surroundings.randomness.fill(&mut random);
    let scratch = Scratch::create(&options, random)?;
    let progress: Arc<dyn Progress> = Arc::clone(&console.progress) as _;
    Ok(Workspace {
        scratch,
        memory,
        progress,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MIB;

    #[test]
    fn more_than_the_cgroup_has_is_not_planned_for() {
        for (given, cgroup, limit) in [
            (None, None, DEFAULT_LIMIT_BYTES / MIB),
            (Some(256), None, 256),
            (None, Some(64), 64),
            (None, Some(1024), 1024),
            (Some(40), Some(64), 40),
            (Some(64), Some(48), 48),
            // Too small for any task: refused, not killed.
            (Some(64), Some(16), 16),
        ] {
            let mib = |number: usize| number * MIB;
            let found = limit_bytes(given.map(mib), cgroup.map(mib));
            assert_eq!(found, limit * MIB, "{given:?} in {cgroup:?}");
        }
    }
}
