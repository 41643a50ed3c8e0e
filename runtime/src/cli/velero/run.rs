//! `careen velero run`: several repositories, each maintained by a process of its own.
//!
//! As many at once as were asked for, each with its share of the memory. A Lease keeps other runs
//! away; where somebody is at work on a repository its turn comes again at the end, and then it is
//! skipped. Invariant: whatever happens to one, the others go on, and all of it is in the summary.
//! Memory: a thread, a child and its last report for each at once, then a row a repository.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::Console;
use super::super::arguments::{CycleMode, VeleroRunArguments};
use super::super::error::{CliError, Exit};
use super::super::identity;
use super::super::jitter;
use super::super::output::Kind;
use super::super::signals::stop_flag;
use super::super::workspace::memory_limit_bytes;
use super::children::prepare;
use super::summary::{Outcome, Summary, gravest};
use super::watch::{Ended, watch};
use super::{chosen, cluster, share_bytes};
use crate::clock::Stopwatch;
use crate::maintenance::watch::StopFlag;
use crate::velero::Patience;
use crate::velero::activity::at_work;
use crate::velero::cluster::Cluster;
use crate::velero::credentials::credentials;
use crate::velero::discovery::{FoundRepository, RepositoryKind, find};
use crate::velero::lease::HeldLease;
use crate::velero::location::Place;

/// What all threads of a run have at hand.
pub(super) struct Everything<'a> {
    pub(super) console: &'a Console,
    pub(super) cluster: &'a Cluster,
    pub(super) arguments: &'a VeleroRunArguments,
    pub(super) share_bytes: usize,
    pub(super) stop: StopFlag,
}

/// A repository whose turn it is.
struct Turn {
    found: FoundRepository,
    /// Whether somebody was at work on it before.
    again: bool,
}

/// How a turn ended.
enum Took {
    /// For good.
    Outcome(Outcome),
    /// Somebody is at work: once more, at the end.
    Again(Box<FoundRepository>),
}

/// Maintains repositories.
pub(super) fn run(console: &Console, arguments: &VeleroRunArguments) -> Result<Exit, CliError> {
    let stop = stop_flag()?;
    let cluster = cluster(console, "run", &arguments.cluster, &stop)?;
    let look = || -> Result<Vec<FoundRepository>, CliError> {
        let mut found = chosen(&cluster, find(&cluster)?, &arguments.names)?;
        found.retain(|one| one.kind == RepositoryKind::Kopia);
        Ok(found)
    };
    let mut found = look()?;
    let limit_bytes = memory_limit_bytes(&console.global) as u64;
    console
        .ending
        .note(|facts| facts.memory_bytes = Some(limit_bytes));
    let workers = (arguments.parallel as usize).min(found.len()).max(1);
    let everything = Everything {
        share_bytes: share_bytes(console, workers)?,
        stop: Arc::clone(&stop),
        cluster: &cluster,
        console,
        arguments,
    };
    let first = found.iter().find_map(|one| one.place.as_ref().ok());
    let first = first.map(|place| place.url.clone());
    if let Some(first) = first
        && jitter::wait(console, &first, arguments.jitter, &stop)?
    {
        found = look()?;
    }
    let turns = found.into_iter().map(|found| Turn {
        found,
        again: false,
    });
    let queue = Mutex::new(turns.collect::<VecDeque<_>>());
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| work(&everything, &queue, &outcomes));
        }
    });
    let mut outcomes = outcomes
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by(|a: &Outcome, b| a.name.cmp(&b.name));
    let summary = Summary::of(&outcomes);
    console.output.both(Kind::Report, "report", &summary);
    let exit = gravest(outcomes.iter().map(|one| one.exit));
    let problem = summary.problem(&outcomes, exit);
    console.ending.note(|facts| facts.problem = problem);
    Ok(exit)
}

/// Takes turns until there are none.
fn work(everything: &Everything<'_>, queue: &Mutex<VecDeque<Turn>>, into: &Mutex<Vec<Outcome>>) {
    let queue = || queue.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let Some(turn) = queue().pop_front() else {
            return;
        };
        match take(everything, turn) {
            Took::Again(found) => queue().push_back(Turn {
                found: *found,
                again: true,
            }),
            Took::Outcome(outcome) => {
                let console = everything.console;
                console.output.both(Kind::Row, "row", &outcome);
                outcome.tell(everything.cluster, console.surroundings.clock.now());
                let mut into = into.lock().unwrap_or_else(PoisonError::into_inner);
                into.push(outcome);
            }
        }
    }
}

/// Takes one turn.
fn take(everything: &Everything<'_>, turn: Turn) -> Took {
    let watch = Stopwatch::start();
    let Turn { found, again } = turn;
    let outcome = |found: FoundRepository, exit: Exit, because: Option<String>| {
        Took::Outcome(Outcome {
            name: found.name,
            uid: found.uid,
            exit,
            seconds: watch.elapsed().as_secs_f64(),
            because,
            report: None,
        })
    };
    if everything.stop.load(Ordering::Relaxed) {
        let because = "the run was stopped before its turn".to_owned();
        return outcome(found, Exit::PartDone, Some(because));
    }
    if found.read_only {
        let because = "its storage location is for reading only".to_owned();
        return outcome(found, Exit::Done, Some(because));
    }
    let place = match &found.place {
        Ok(place) => place.clone(),
        Err(because) => {
            let because = Some(because.clone());
            return outcome(found, Exit::Configuration, because);
        }
    };
    match maintain(everything, &found, &place) {
        Ok(Maintained::Busy(_)) if !again => Took::Again(Box::new(found)),
        Ok(Maintained::Busy(who)) => outcome(found, Exit::OtherMaintainer, Some(who)),
        Ok(Maintained::Ended(ended)) => Took::Outcome(Outcome {
            name: found.name,
            uid: found.uid,
            exit: ended.exit,
            seconds: watch.elapsed().as_secs_f64(),
            because: ended.because,
            report: ended.report,
        }),
        Err(error) => outcome(found, error.exit(), Some(error.to_string())),
    }
}

enum Maintained {
    /// Somebody is at work on it.
    Busy(String),
    /// The child ended.
    Ended(Ended),
}

fn maintain(
    everything: &Everything<'_>,
    found: &FoundRepository,
    place: &Place,
) -> Result<Maintained, CliError> {
    let Everything {
        console, cluster, ..
    } = everything;
    let clock = &console.surroundings.clock;
    let time = (clock.now(), everything.arguments.lease_time());
    let lease = HeldLease::take(cluster, &found.name, &holder(console), time)?;
    let mut lease = Some(lease);
    let result = if everything.arguments.beside_backups {
        Ok(None)
    } else {
        at_work(cluster, found, clock.now())
    };
    let result = match result {
        Err(error) => Err(error.into()),
        Ok(Some(who)) => Ok(Maintained::Busy(who)),
        Ok(None) => child(everything, found, place, &mut lease).map(Maintained::Ended),
    };
    if let Some(lease) = lease {
        lease.release(&cluster.with(Patience::LAST), clock.now());
    }
    result
}

fn child(
    everything: &Everything<'_>,
    found: &FoundRepository,
    place: &Place,
    lease: &mut Option<HeldLease>,
) -> Result<Ended, CliError> {
    let Everything {
        console, cluster, ..
    } = everything;
    let keys = credentials(cluster, place)?;
    let mode = match everything.arguments.mode {
        CycleMode::Auto => "auto",
        CycleMode::Quick => "quick",
        CycleMode::Full => "full",
    };
    let words = ["run", "--mode", mode];
    let bytes = everything.share_bytes;
    let mut prepared = prepare(console, &found.name, &words, place, &keys, bytes)?;
    drop(keys);
    if let Some(file) = &everything.arguments.strategies.file {
        prepared.command.arg("--strategies").arg(file);
    }
    // What the environment says of it the child reads itself.
    if let Some(time) = everything.arguments.retry_lock {
        let time = format!("{}ms", time.as_millis());
        prepared.command.arg("--retry-lock").arg(time);
    }
    console.output.text(format_args!("{}: begins", found.name));
    watch(everything, found, lease, prepared)
}

/// Returns a name that no other process has: the pod's, and something random.
fn holder(console: &Console) -> String {
    let mut random = [0; 8];
    console.surroundings.randomness.fill(&mut random);
    format!("{}-{}", identity::host(), hex::encode(random))
}
