//! `careen run` and `careen plan`: a maintenance cycle, task by task as it happens.
//!
//! Text shows a line a task, JSON the plan, an object for each beginning and end, and the report.
//! No memory cost besides the run's own.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Console;
use super::arguments::{CycleArguments, CycleMode, RunArguments, SafetyMargins};
use super::error::{CliError, Exit};
use super::output::Kind;
use super::signals::{end_at_once, stop_flag};
use super::strategy::Named;
use super::target::Target;
use super::used::Used;
use super::workspace::workspace;
use super::{jitter, strategy, time_zone};
use crate::blob::Counters;
use crate::clock::Timestamp;
use crate::kopia::source_filter::SourceFilter;
use crate::maintenance::cycle_plan::{Mode, PlannedTask, Scheduled, Verdict, Wanted};
use crate::maintenance::cycle_task::CycleTask;
use crate::maintenance::expire_snapshots::ExpireOptions;
use crate::maintenance::holder::Holder;
use crate::maintenance::run::{self, Event, RunOptions};
use crate::maintenance::run_plan;
use crate::maintenance::safety::Safety;
use crate::maintenance::watch::StopFlag;

/// Runs what is due.
pub(super) fn run(console: &Console, arguments: &RunArguments) -> Result<Exit, CliError> {
    if arguments.dry_run {
        return plan(console, &arguments.cycle);
    }
    let cycle = &arguments.cycle;
    let target = console.target("run", &cycle.repository)?;
    let options = RunOptions {
        accept_unexplained: arguments.accept_unexplained,
        holder: Holder::here(),
        retry_lock: arguments
            .retry_lock
            .unwrap_or(console.surroundings.retry_lock),
        stop: stop_flag()?,
        ..options(console, &target, cycle)?
    };
    target.refuse_read_only()?;
    let workspace = workspace(console, &target)?;
    jitter::wait(console, &target.location(), arguments.jitter, &options.stop)?;
    let repository = target.open(&workspace.memory, &console.surroundings)?;
    let used = Used::default();
    let named = Named::new(console, &cycle.plugins, &cycle.strategies, &used);
    let strategies = strategy::of_run(&named, &workspace.memory, cycle.expire_snapshots)?;
    let report = run::run(
        &repository,
        &workspace,
        strategies,
        &options,
        &mut |event| tell(console, event),
    );
    // Of a run that a plugin has ended, too.
    used.note(&console.ending);
    let report = report?;
    console.ending.note(|facts| facts.add_report(&report));
    let report = used.with(&report).over(&repository.storage);
    console.output.both(Kind::Report, "report", &report);
    Ok(Exit::Done)
}

/// Shows what a run would do.
pub(super) fn plan(console: &Console, arguments: &CycleArguments) -> Result<Exit, CliError> {
    end_at_once()?;
    let target = console.target("plan", &arguments.repository)?;
    let options = options(console, &target, arguments)?;
    let workspace = workspace(console, &target)?;
    let repository = target.open(&workspace.memory, &console.surroundings)?;
    let expire = arguments.expire_snapshots;
    let used = Used::default();
    let named = Named::new(console, &arguments.plugins, &arguments.strategies, &used);
    let strategies = strategy::of_run(&named, &workspace.memory, expire)?;
    let plan = run_plan::plan(&repository, &workspace, strategies, &options)?;
    console.output.both(Kind::Plan, "plan", &used.with(&plan));
    Ok(Exit::Done)
}

fn options(
    console: &Console,
    target: &Target,
    arguments: &CycleArguments,
) -> Result<RunOptions, CliError> {
    let parsed = |name: &String| {
        CycleTask::parse(name).ok_or_else(|| {
            let known = CycleTask::ALL.map(CycleTask::name).join(", ");
            CliError::Usage(format!("there is no task {name:?}; there are {known}"))
        })
    };
    let wanted = Wanted {
        mode: match arguments.mode {
            CycleMode::Auto => Mode::Auto,
            CycleMode::Quick => Mode::Quick,
            CycleMode::Full => Mode::Full,
        },
        tasks: arguments
            .tasks
            .iter()
            .map(parsed)
            .collect::<Result<_, _>>()?,
        safety: match arguments.safety {
            SafetyMargins::Full => Safety::full(),
            SafetyMargins::None => Safety::none(),
        },
    };
    let zone = time_zone::local(console.surroundings.time_zone.as_deref());
    Ok(RunOptions {
        wanted,
        owner: target.identity(),
        config: target.config_file(),
        accept_unexplained: false,
        expire: arguments.expire_snapshots.then(|| ExpireOptions {
            source: SourceFilter::default(),
            zone: zone.clone(),
            percent_max: arguments.max_expire_percent,
        }),
        zone,
        holder: None,
        retry_lock: Duration::ZERO,
        stop: StopFlag::default(),
    })
}

#[derive(Serialize)]
struct TaskLine<'a, T: Serialize> {
    task: &'a str,
    state: &'static str,
    #[serde(flatten)]
    details: T,
}

/// Another run is waited for.
#[derive(Serialize)]
struct Waits<'a> {
    run: &'a str,
    until: Timestamp,
}

impl fmt::Display for Waits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, until } = self;
        write!(
            f,
            "waits for run {run}, at work or crashed, until {until} at most (--retry-lock)"
        )
    }
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct SkippedDetails<'a> {
    verdict: Verdict,
    because: &'a str,
    until: Option<Timestamp>,
}

#[derive(Serialize)]
struct EndedDetails<'a> {
    success: bool,
    what: &'a str,
    seconds: f64,
    requests: Counters,
}

/// Tells what happens, as it happens.
fn tell(console: &Console, event: &Event<'_>) {
    let output = &console.output;
    match event {
        Event::Waits(run, until) => {
            let (run, until) = (*run, *until);
            output.both(Kind::Wait, "wait", &Waits { run, until });
        }
        Event::Planned(plan) => {
            output.json_field(Kind::Plan, "plan", plan);
            console.ending.note(|facts| {
                facts.cycle = plan.cycle.cycle;
                facts.add_next(plan.cycle.next_full, plan.cycle.next_quick);
            });
            if let Some(cycle) = plan.cycle.cycle {
                output.text(format_args!("{cycle} maintenance: {}", plan.cycle.because));
                if let Some(scheduled) = &plan.cycle.scheduling {
                    let Scheduled {
                        strategy, reason, ..
                    } = scheduled;
                    output.text(format_args!("scheduling by {strategy}: {reason}"));
                }
            }
        }
        Event::Started(task) => output.json(Kind::Task, &line(*task, "began", Nothing {})),
        Event::Skipped(row) => {
            let details = SkippedDetails {
                verdict: row.verdict,
                because: &row.because,
                until: row.until,
            };
            output.json(Kind::Task, &line(row.task, "skipped", details));
            output.text(skipped(row));
        }
        Event::Ended(run) => {
            console.progress.clear();
            console.ending.note(|facts| facts.add_task(run));
            let details = EndedDetails {
                success: run.success,
                what: &run.what,
                seconds: run.end.since(run.start).as_secs_f64(),
                requests: run.requests,
            };
            output.json(Kind::Task, &line(run.task, "ended", details));
            output.text(run);
        }
    }
}

fn line<T: Serialize>(task: CycleTask, state: &'static str, details: T) -> TaskLine<'static, T> {
    TaskLine {
        task: task.name(),
        state,
        details,
    }
}

fn skipped(row: &PlannedTask) -> String {
    let verdict = match row.verdict {
        Verdict::Waits => "waits",
        Verdict::Left => "left",
        Verdict::Off | Verdict::Runs => "off",
    };
    let until = row.until.map(|until| format!("; not before {until}"));
    let until = until.unwrap_or_default();
    format!("  {:<32} {verdict}: {}{until}", row.task, row.because)
}
