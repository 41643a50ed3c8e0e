//! `careen velero list`: a row a repository, what Velero thinks beside what is true.
//!
//! Several are looked at at once, rows come in the order of names. Memory: a child's share for each
//! look, its report, and the rows that wait for an earlier one.

use std::fmt;

use bytesize::ByteSize;
use serde::Serialize;

use super::super::Console;
use super::super::arguments::VeleroListArguments;
use super::super::error::{CliError, Exit};
use super::super::output::Kind;
use super::in_order::in_order;
use super::look::{FailedTask, Health, Truth, look};
use super::{chosen, cluster, looks_at_once};
use crate::maintenance::watch::StopFlag;
use crate::velero::discovery::{FoundRepository, RepositoryKind, VeleroView, find};
use crate::velero::takeover::Held;

/// One repository.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    namespace: &'a str,
    storage_location: &'a str,
    #[serde(rename = "type")]
    kind: RepositoryKind,
    /// Where it is; none when that is not known.
    url: Option<&'a str>,
    read_only: bool,
    health: Health,
    maintained_by: &'a Held,
    velero: &'a VeleroView,
    truth: Option<Truth>,
    /// Why the truth is not known.
    problem: Option<String>,
}

/// What is true, or why it is not known; neither where nobody looked.
type Looked = Result<(Option<Truth>, Option<String>), CliError>;

/// Lists repositories.
pub(super) fn run(console: &Console, arguments: &VeleroListArguments) -> Result<Exit, CliError> {
    let cluster = cluster(console, "list", &arguments.cluster, &StopFlag::default())?;
    let found = chosen(&cluster, find(&cluster)?, &arguments.names)?;
    if found.is_empty() {
        console.output.text("Velero has no repositories yet");
    }
    let looking = if arguments.no_look { 0 } else { found.len() };
    let (workers, memory_bytes) = looks_at_once(console, looking)?;
    let look = |repository: &FoundRepository| -> Looked {
        match &repository.place {
            Err(because) => Ok((None, Some(because.clone()))),
            Ok(_) if arguments.no_look => Ok((None, None)),
            Ok(_) => match look(console, &cluster, repository, memory_bytes)?.truth {
                Ok(truth) => Ok((Some(truth), None)),
                Err(problem) => Ok((None, Some(problem))),
            },
        }
    };
    in_order(&found, workers, look, |repository, looked| {
        let (truth, problem) = looked?;
        let health = match (&truth, &problem) {
            (Some(truth), _) => truth.health(console.surroundings.clock.now()),
            (None, Some(_)) if repository.kind == RepositoryKind::Kopia => Health::Unreachable,
            (None, _) => Health::Unknown,
        };
        console
            .output
            .both(Kind::Row, "row", &row(repository, health, truth, problem));
        Ok::<_, CliError>(!console.output.is_closed())
    })?;
    Ok(Exit::Done)
}

fn row(
    found: &FoundRepository,
    health: Health,
    truth: Option<Truth>,
    problem: Option<String>,
) -> Row<'_> {
    Row {
        name: &found.name,
        namespace: &found.volume_namespace,
        storage_location: &found.storage_location,
        kind: found.kind,
        url: found.place.as_ref().ok().map(|place| place.url.as_str()),
        read_only: found.read_only,
        health,
        maintained_by: &found.held,
        velero: &found.velero,
        truth,
        problem,
    }
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, namespace, health) = (self.name, self.namespace, self.health);
        write!(f, "{name}  (namespace {namespace}): {health}")?;
        if let Some(url) = self.url {
            let location = self.storage_location;
            let mode = if self.read_only { ", read-only" } else { "" };
            write!(f, "\n  at          {url} ({location}{mode})")?;
        }
        if let Some(problem) = &self.problem {
            write!(f, "\n  problem     {problem}")?;
        }
        let velero = self.velero;
        let phase = if velero.phase.is_empty() {
            "New"
        } else {
            &velero.phase
        };
        write!(f, "\n  velero      {phase}, every {}", velero.frequency)?;
        match velero.last_maintenance {
            Some(time) => write!(f, ", last maintenance {time}")?,
            None => f.write_str(", no maintenance yet")?,
        }
        let failed = velero.recent.iter().filter(|one| one.result == "Failed");
        match failed.count() {
            0 => {}
            failed => write!(f, ", {failed} of the last {} failed", velero.recent.len())?,
        }
        if !velero.message.is_empty() {
            write!(f, "\n              {}", velero.message)?;
        }
        if self.kind == RepositoryKind::Kopia {
            write!(f, "\n  maintained  {}", self.maintained_by)?;
        }
        match &self.truth {
            Some(truth) => truth.fmt(f),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.owner.as_deref().unwrap_or("nobody");
        write!(f, "\n  keys        {}; owner {owner}", self.keys)?;
        write!(f, "\n  true is     {}", self.due)?;
        if let Some(time) = self.last_full {
            write!(f, "; the last full cycle was {time}")?;
        }
        for failed in &self.failed {
            write!(f, "\n              {failed}")?;
        }
        let size = |bytes: Option<u64>| match bytes {
            Some(bytes) => ByteSize(bytes).to_string(),
            None => "?".to_owned(),
        };
        let (packs, waiting) = (size(self.pack_bytes), size(self.waiting_bytes));
        write!(
            f,
            "\n  holds       {packs} of packs, {waiting} wait to become free"
        )?;
        match self.index_blobs {
            Some(blobs) => write!(f, "; {blobs} index blobs"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for FailedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed", self.task)?;
        if let Some(end) = self.end {
            write!(f, " {end}")?;
        }
        let error = self.error.as_deref();
        write!(f, ": {}", error.unwrap_or("no reason is recorded"))
    }
}
