//! `careen velero …`: Velero's repositories in a cluster.
//!
//! This process talks to the Kubernetes API and opens no repository itself: each is looked at, or
//! maintained, by a child process of the same program with an equal share of the memory, so that a
//! bad one cannot take others with it. Memory: [`OWN_BYTES`], and a row a repository.

mod children;
mod conclusions;
mod explain;
mod hands;
mod in_order;
mod keeper;
mod list;
mod look;
mod run;
mod summary;
mod watch;

use std::sync::Arc;

use super::Console;
use super::arguments::{ClusterArguments, GlobalOptions, VeleroCommand};
use super::error::{CliError, Exit};
use super::signals::end_at_once;
use super::workspace::memory_limit_bytes;
use crate::maintenance::watch::StopFlag;
use crate::memory::{MIB, MemoryError, NETWORK_FLOOR_BYTES};
use crate::velero::Patience;
use crate::velero::cluster::{Cluster, ClusterOptions};
use crate::velero::discovery::{FoundRepository, choose};

/// What this process takes beside its children: with a thousand repositories it held 8.5 MiB of its
/// own, and pages of the program that its children use as well.
const OWN_BYTES: usize = 16 * MIB;

/// Repositories that `list` looks at at once, at most: enough that the stores' answers are not
/// waited for one after the other, few enough for every machine.
const LOOKS_MAX: usize = 8;

/// Runs a command of Velero's.
pub(super) fn run(console: &Console, command: &VeleroCommand) -> Result<Exit, CliError> {
    if !matches!(command, VeleroCommand::Run(_)) {
        // A patch is whole or not there: nothing else has a safe point.
        end_at_once()?;
    }
    match command {
        VeleroCommand::List(arguments) => list::run(console, arguments),
        VeleroCommand::Run(arguments) => run::run(console, arguments),
        VeleroCommand::Takeover(arguments) => hands::takeover(console, arguments),
        VeleroCommand::Giveback(arguments) => hands::giveback(console, arguments),
        VeleroCommand::Explain(arguments) => explain::run(console, arguments),
    }
}

/// Connects, and says that the command has begun; once `stop` is set it waits no more.
fn cluster(
    console: &Console,
    command: &str,
    arguments: &ClusterArguments,
    stop: &StopFlag,
) -> Result<Cluster, CliError> {
    refuse_foreign(&console.global)?;
    let options = ClusterOptions {
        kubeconfig: arguments.kubeconfig.clone(),
        context: arguments.context.clone(),
        namespace: arguments.namespace.clone(),
        patience: Patience::of(arguments.api_time()),
    };
    let cluster = Cluster::connect(&options, Arc::clone(stop))?;
    console.started(&format!("velero {command}"), &arguments.namespace);
    Ok(cluster)
}

/// Refuses options that say what Velero's own objects say.
fn refuse_foreign(global: &GlobalOptions) -> Result<(), CliError> {
    // What limits the traffic is for folders foreign, and for Velero not.
    let mut storage = global.storage.clone();
    storage.max_requests_per_second = None;
    storage.max_download = None;
    storage.max_upload = None;
    let mut options = storage.foreign_to("file");
    let others = [
        ("--config", global.config.is_some()),
        ("--password-file", global.password_file.is_some()),
        ("--owner", global.owner.is_some()),
    ];
    options.extend(
        others
            .iter()
            .filter(|(_, given)| *given)
            .map(|(name, _)| name),
    );
    match options.first() {
        None => Ok(()),
        Some(option) => Err(CliError::Usage(format!(
            "{option} is not for Velero's repositories: its storage locations and secrets say \
             where they are and what opens them"
        ))),
    }
}

/// Keeps the repositories that are named; all where there are no names.
fn chosen(
    cluster: &Cluster,
    all: Vec<FoundRepository>,
    names: &[String],
) -> Result<Vec<FoundRepository>, CliError> {
    let words = |one: &FoundRepository| [one.name.clone(), one.volume_namespace.clone()];
    Ok(choose(cluster, all, names, words)?)
}

/// Returns the memory of each of `children` processes, in bytes.
fn share_bytes(console: &Console, children: usize) -> Result<usize, CliError> {
    let given_bytes = memory_limit_bytes(&console.global);
    let share_bytes = given_bytes.saturating_sub(OWN_BYTES) / children.max(1);
    if share_bytes >= NETWORK_FLOOR_BYTES {
        return Ok(share_bytes);
    }
    let needed_bytes = OWN_BYTES.saturating_add(NETWORK_FLOOR_BYTES.saturating_mul(children));
    Err(CliError::Memory(MemoryError::TooSmall {
        given_bytes,
        needed_bytes,
    }))
}

/// Returns how many of `repositories` are looked at at once, and the memory of each look: 128 MiB
/// are enough for two, 336 MiB for [`LOOKS_MAX`].
fn looks_at_once(console: &Console, repositories: usize) -> Result<(usize, usize), CliError> {
    let given_bytes = memory_limit_bytes(&console.global);
    let room = given_bytes.saturating_sub(OWN_BYTES) / NETWORK_FLOOR_BYTES;
    let looks = room.min(LOOKS_MAX).min(repositories).max(1);
    match repositories {
        0 => Ok((1, 0)),
        _ => Ok((looks, share_bytes(console, looks)?)),
    }
}
