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

/// Returns the limit to live in, in bytes: the option, else the cgroup's, else the default.
pub(super) fn memory_limit_bytes(global: &GlobalOptions) -> usize {
    global
        .memory
        .or_else(cgroup_limit_bytes)
        .unwrap_or(DEFAULT_LIMIT_BYTES)
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
