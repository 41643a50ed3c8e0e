//! `careen index …`: list, inspect, compact, repair.
//!
//! Listings are told row by row, so their memory does not grow with the repository.

use super::Console;
use super::arguments::{ChangeArguments, IndexCommand, InspectArguments, ListArguments};
use super::error::{CliError, Exit};
use super::output::Kind;
use super::signals::{reason, stop_flag, stoppable};
use super::strategy::{self, Named};
use super::target::Target;
use super::used::Used;
use super::workspace::workspace;
use crate::kopia::blob_id::BlobId;
use crate::maintenance::compact_indexes_v0::CompactionV0;
use crate::maintenance::index_plan::{Options, Report, Task};
use crate::maintenance::{index_maintenance, index_repair};
use crate::repository::index_set_v0::SETTLE_TIME;
use crate::repository::inspect::{InspectBlobs, InspectOptions};
use crate::repository::{Repository, Workspace, inspect as inspection, listing};

/// Runs an index command.
pub(super) fn run(console: &Console, command: &IndexCommand) -> Result<Exit, CliError> {
    match command {
        IndexCommand::List(arguments) => list(console, arguments),
        IndexCommand::Inspect(arguments) => inspect(console, arguments),
        IndexCommand::Compact(arguments) => compact(console, arguments),
        IndexCommand::Repair(arguments) => repair(console, arguments),
    }
}

fn list(console: &Console, arguments: &ListArguments) -> Result<Exit, CliError> {
    let target = console.target("index list", &arguments.repository)?;
    let workspace = workspace(console, &target)?;
    let repository = target.open(&workspace.memory, &console.surroundings)?;
    listing::list_index_blobs(&repository, &workspace, &mut |row| {
        console.output.both(Kind::Row, "row", row);
        !console.output.is_closed()
    })?;
    Ok(Exit::Done)
}

fn inspect(console: &Console, arguments: &InspectArguments) -> Result<Exit, CliError> {
    let target = console.target("index inspect", &arguments.repository)?;
    let workspace = workspace(console, &target)?;
    let repository = target.open(&workspace.memory, &console.surroundings)?;
    let blobs = match &arguments.blob {
        Some(name) => InspectBlobs::Named(vec![BlobId::new(name.clone())]),
        None if arguments.all => InspectBlobs::All,
        None => InspectBlobs::Active,
    };
    let options = InspectOptions {
        blobs,
        content_prefix: arguments.content.clone(),
    };
    inspection::inspect(&repository, &workspace, &options, &mut |row| {
        console.output.both(Kind::Row, "row", row);
        !console.output.is_closed()
    })?;
    Ok(Exit::Done)
}

fn compact(console: &Console, arguments: &ChangeArguments) -> Result<Exit, CliError> {
    let target = console.target("index compact", &arguments.repository)?;
    let options = options(&target, arguments)?;
    if !arguments.dry_run {
        target.refuse_read_only()?;
    }
    let stop = stop_flag()?;
    let workspace = workspace(console, &target)?;
    let (repository, listing) = target.open_listed(&workspace, &console.surroundings)?;
    let repository = stoppable(&stop, &repository, &workspace);
    let epochs = repository.format.epochs.enabled;
    if let Some(task) = options
        .tasks
        .iter()
        .find(|task| task.needs_epochs() != epochs)
    {
        let has = if epochs {
            "has epochs"
        } else {
            "has no epochs"
        };
        let text = format!("the repository {has}: task {} is not for it", task.name());
        return Err(CliError::Usage(text));
    }
    if !epochs {
        return compact_v0(console, arguments, options, &repository, &workspace)
            .map_err(|error| reason(&stop, error));
    }
    let used = Used::default();
    let named = Named::new(console, &arguments.plugins, &arguments.strategies, &used);
    let mut splitting = strategy::splitting(&named, &workspace.memory)?;
    if arguments.dry_run {
        let plan = index_maintenance::plan(&repository, &workspace, &mut *splitting, &options)
            .map_err(|error| reason(&stop, error))?;
        console.output.both(Kind::Plan, "plan", &used.with(&plan));
        return Ok(Exit::Done);
    }
    let report = index_maintenance::run(
        &repository,
        &workspace,
        listing,
        &mut *splitting,
        &options,
        &mut |plan| {
            // People asked for the work, not for the plan; programs get both.
            console.output.json_field(Kind::Plan, "plan", plan);
        },
    )
    .map_err(|error| reason(&stop, error))?;
    Ok(told(console, &report, &used))
}

/// Compacts an index without epochs, as Kopia's quick maintenance does.
fn compact_v0(
    console: &Console,
    arguments: &ChangeArguments,
    options: Options,
    repository: &Repository,
    workspace: &Workspace,
) -> Result<Exit, CliError> {
    if !arguments.plugins.is_empty() || arguments.unsettled {
        let text = "the repository has no epochs: --unsettled and --plugin are not for it";
        return Err(CliError::Usage(text.into()));
    }
    let compaction = CompactionV0::quick(SETTLE_TIME).as_owner(options.owner);
    if arguments.dry_run {
        let plan = compaction.plan(repository, workspace)?;
        console.output.both(Kind::Plan, "plan", &plan);
        return Ok(Exit::Done);
    }
    let outcome = compaction.run(repository, workspace, &mut |plan| {
        console.output.json_field(Kind::Plan, "plan", plan);
    })?;
    Ok(told(console, &outcome.report, &Used::default()))
}

fn repair(console: &Console, arguments: &ChangeArguments) -> Result<Exit, CliError> {
    let target = console.target("index repair", &arguments.repository)?;
    if !arguments.tasks.is_empty() || !arguments.plugins.is_empty() || arguments.unsettled {
        let text = "index repair takes no --task, --unsettled or --plugin";
        return Err(CliError::Usage(text.into()));
    }
    let options = options(&target, arguments)?;
    if !arguments.dry_run {
        target.refuse_read_only()?;
    }
    let stop = stop_flag()?;
    let workspace = workspace(console, &target)?;
    let repository = target.open(&workspace.memory, &console.surroundings)?;
    let repository = stoppable(&stop, &repository, &workspace);
    if arguments.dry_run {
        let plan =
            index_repair::plan(&repository, &workspace).map_err(|error| reason(&stop, error))?;
        console.output.both(Kind::Plan, "plan", &plan);
        return Ok(Exit::Done);
    }
    let report = index_repair::execute(&repository, &workspace, &options)
        .map_err(|error| reason(&stop, error))?;
    Ok(told(console, &report, &Used::default()))
}

/// Tells a report; part of the work left over is an exit code of its own.
fn told(console: &Console, report: &Report, used: &Used) -> Exit {
    console
        .output
        .both(Kind::Report, "report", &used.with(report));
    match report.unfinished_until {
        Some(_) => Exit::PartDone,
        None => Exit::Done,
    }
}

fn options(target: &Target, arguments: &ChangeArguments) -> Result<Options, CliError> {
    let parsed = |name: &String| {
        Task::parse(name).ok_or_else(|| {
            let known = Task::ALL.map(Task::name).join(", ");
            let known = format!(
                "{known} and, without epochs, {}",
                Task::IndexCompaction.name()
            );
            CliError::Usage(format!("there is no task {name:?}; there are {known}"))
        })
    };
    Ok(Options {
        tasks: arguments
            .tasks
            .iter()
            .map(parsed)
            .collect::<Result<_, _>>()?,
        unsettled: arguments.unsettled,
        owner: target.identity(),
    })
}
