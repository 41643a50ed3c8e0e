//! `careen velero explain`: why maintenance failed, why space is not free, and when it will be.
//!
//! Three witnesses beside each other: Velero's record, its Jobs and their pods, and the repository
//! itself. Memory: one report, and a row a Job.

use std::fmt;

use bytesize::ByteSize;
use serde::Serialize;
use serde_json::Value;

use super::super::Console;
use super::super::arguments::ExplainArguments;
use super::super::error::{CliError, Exit};
use super::super::output::Kind;
use super::look::{Truth, look};
use super::{chosen, cluster, share_bytes};
use crate::clock::Timestamp;
use crate::maintenance::watch::StopFlag;
use crate::velero::activity::at_work;
use crate::velero::cluster::Cluster;
use crate::velero::discovery::{FoundRepository, RepositoryKind, VeleroView, find};
use crate::velero::history::{JobRow, jobs};
use crate::velero::lease::maintainer;
use crate::velero::takeover::Held;

/// Bytes that wait for a task.
#[derive(Serialize)]
pub(super) struct Waiting {
    what: String,
    bytes: u64,
    count: u64,
    task: String,
    because: String,
    until: Option<String>,
}

/// All that is known of a repository's maintenance.
#[derive(Serialize)]
pub(super) struct Explanation<'a> {
    pub(super) name: &'a str,
    namespace: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: RepositoryKind,
    pub(super) read_only: bool,
    /// Why Velero cannot reach its storage location, if it says so.
    pub(super) unavailable: Option<&'a str>,
    pub(super) maintained_by: &'a Held,
    pub(super) velero: &'a VeleroView,
    /// When Velero's own maintenance is due, by its record.
    velero_next: Option<Timestamp>,
    /// Velero's Jobs, the oldest first.
    pub(super) jobs: Vec<JobRow>,
    /// Why they are not known.
    jobs_problem: Option<String>,
    /// Who is at work now.
    at_work: Option<String>,
    /// Which run of careen holds the Lease, and until when at least.
    lease: Option<String>,
    pub(super) truth: Option<Truth>,
    /// Why the truth is not known.
    problem: Option<String>,
    waiting: Vec<Waiting>,
    /// What follows from all of it.
    conclusions: Vec<String>,
}

/// Explains each repository that the name means.
pub(super) fn run(console: &Console, arguments: &ExplainArguments) -> Result<Exit, CliError> {
    let cluster = cluster(console, "explain", &arguments.cluster, &StopFlag::default())?;
    let names = std::slice::from_ref(&arguments.name);
    for found in chosen(&cluster, find(&cluster)?, names)? {
        let explanation = explain(console, &cluster, &found)?;
        console.output.both(Kind::Report, "report", &explanation);
    }
    Ok(Exit::Done)
}

fn explain<'a>(
    console: &Console,
    cluster: &Cluster,
    found: &'a FoundRepository,
) -> Result<Explanation<'a>, CliError> {
    let look = look(console, cluster, found, share_bytes(console, 1)?)?;
    let (jobs, jobs_problem) = match jobs(cluster, &found.name) {
        Ok(jobs) => (jobs, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let (truth, problem) = match look.truth {
        Ok(truth) => (Some(truth), None),
        Err(problem) => (None, Some(problem)),
    };
    let now = console.surroundings.clock.now();
    let lease = maintainer(cluster, &found.name, now).unwrap_or_default();
    let mut explanation = Explanation {
        name: &found.name,
        namespace: &found.volume_namespace,
        kind: found.kind,
        read_only: found.read_only,
        unavailable: found.unavailable.as_deref(),
        velero_next: found.velero.next_maintenance(),
        lease: lease.map(|(holder, until)| format!("{holder}, until {until} at least")),
        maintained_by: &found.held,
        velero: &found.velero,
        at_work: at_work(cluster, found, now).unwrap_or_default(),
        jobs,
        jobs_problem,
        truth,
        problem,
        waiting: look.report.as_ref().map(waiting).unwrap_or_default(),
        conclusions: Vec::new(),
    };
    explanation.conclusions = explanation.conclude(now);
    Ok(explanation)
}

fn waiting(report: &Value) -> Vec<Waiting> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = report["outlook"]["waiting"]
        .as_array()
        .into_iter()
        .flatten();
    rows.map(|row| Waiting {
        what: text(&row["what"]),
        bytes: row["bytes"].as_u64().unwrap_or_default(),
        count: row["count"].as_u64().unwrap_or_default(),
        task: text(&row["task"]),
        because: text(&row["because"]),
        until: row["until"].as_str().map(str::to_owned),
    })
    .collect()
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  (namespace {})", self.name, self.namespace)?;
        writeln!(f, "maintained   {}", self.maintained_by)?;
        let velero = self.velero;
        let phase = if velero.phase.is_empty() {
            "New"
        } else {
            &velero.phase
        };
        writeln!(f, "velero says  {phase} {}", velero.message.trim())?;
        if let Some(time) = velero.last_maintenance {
            let next = self
                .velero_next
                .map(|next| format!(", the next not before {next}"));
            let next = next.unwrap_or_default();
            writeln!(f, "             last maintenance {time}{next}")?;
        }
        for one in &velero.recent {
            let end = one.complete_timestamp.map(|time| time.to_string());
            let end = end.unwrap_or_default();
            let (result, message) = (&one.result, &one.message);
            writeln!(f, "             {end} {result} {message}")?;
        }
        for job in &self.jobs {
            writeln!(f, "job          {job}")?;
        }
        if let Some(problem) = &self.jobs_problem {
            writeln!(f, "jobs         not known: {problem}")?;
        }
        if let Some(who) = &self.at_work {
            writeln!(f, "at work      {who}")?;
        }
        if let Some(who) = &self.lease {
            writeln!(f, "lease        careen is at work: {who}")?;
        }
        match (&self.truth, &self.problem) {
            (Some(truth), _) => {
                writeln!(f, "is due       {}", truth.due)?;
                if let Some(time) = truth.last_full {
                    writeln!(f, "last full    {time}")?;
                }
                if let Some(time) = truth.next_full {
                    writeln!(f, "next full    not before {time}")?;
                }
                for failed in &truth.failed {
                    writeln!(f, "failed       {failed}")?;
                }
            }
            (None, problem) => {
                let problem = problem.as_deref().unwrap_or_default();
                writeln!(f, "repository   cannot be looked at: {problem}")?;
            }
        }
        for row in &self.waiting {
            writeln!(f, "waits        {row}")?;
        }
        for conclusion in &self.conclusions {
            writeln!(f, "so           {conclusion}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, what, task) = (self.count, &self.what, &self.task);
        let (bytes, because) = (ByteSize(self.bytes), &self.because);
        write!(f, "{bytes} of {count} {what}: {task}, {because}")?;
        match &self.until {
            Some(until) => write!(f, "; not before {until}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for JobRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match (self.running, self.succeeded) {
            (true, _) => "at work",
            (false, true) => "succeeded",
            (false, false) => "failed",
        };
        write!(f, "{} {outcome}", self.name)?;
        if let Some(time) = self.ended.or(self.started) {
            write!(f, " {time}")?;
        }
        match self.because.is_empty() {
            true => Ok(()),
            false => write!(f, ": {}", self.because.join("; ")),
        }
    }
}
