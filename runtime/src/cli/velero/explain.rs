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
use super::{chosen, cluster};
use crate::clock::Timestamp;
use crate::velero::activity::at_work;
use crate::velero::cluster::Cluster;
use crate::velero::discovery::{FoundRepository, VeleroView, find};
use crate::velero::history::{JobRow, jobs};
use crate::velero::takeover::Held;

/// A maintenance that Velero counts, but that is so much newer than the last full cycle, was none.
const FALSE_SUCCESS_SECONDS: i64 = 2 * 24 * 60 * 60;

/// Bytes that wait for a task.
#[derive(Serialize)]
struct Waiting {
    what: String,
    bytes: u64,
    count: u64,
    task: String,
    because: String,
    until: Option<String>,
}

/// All that is known of a repository's maintenance.
#[derive(Serialize)]
struct Explanation<'a> {
    name: &'a str,
    namespace: &'a str,
    maintained_by: &'a Held,
    velero: &'a VeleroView,
    /// Velero's Jobs, the oldest first.
    jobs: Vec<JobRow>,
    /// Why they are not known.
    jobs_problem: Option<String>,
    /// Who is at work now.
    at_work: Option<String>,
    truth: Option<Truth>,
    /// Why the truth is not known.
    problem: Option<String>,
    waiting: Vec<Waiting>,
    /// What follows from all of it.
    conclusions: Vec<String>,
}

/// Explains each repository that the name means.
pub(super) fn run(console: &Console, arguments: &ExplainArguments) -> Result<Exit, CliError> {
    let cluster = cluster(console, "explain", &arguments.cluster)?;
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
    let look = look(console, cluster, found)?;
    let (jobs, jobs_problem) = match jobs(cluster, &found.name) {
        Ok(jobs) => (jobs, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let (truth, problem) = match look.truth {
        Ok(truth) => (Some(truth), None),
        Err(problem) => (None, Some(problem)),
    };
    let now = console.surroundings.clock.now();
    let mut explanation = Explanation {
        name: &found.name,
        namespace: &found.volume_namespace,
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
    explanation.conclusions = explanation.conclude();
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

impl Explanation<'_> {
    fn conclude(&self) -> Vec<String> {
        let mut all = Vec::new();
        if let Some(job) = self.jobs.iter().rev().find(|job| job.out_of_memory) {
            let limit = match &job.memory_limit {
                Some(limit) => format!("its limit of {limit}"),
                None => "the node's memory".to_owned(),
            };
            all.push(format!(
                "Velero's maintenance does not fit into {limit}: the kernel killed {}. Velero's \
                 own record cannot say so, since the process printed nothing.",
                job.name
            ));
        }
        if let Some(truth) = &self.truth
            && let Some(counted) = self.velero.last_maintenance
            && is_false_success(counted, truth.last_full)
        {
            let last = match truth.last_full {
                Some(time) => format!("the last full cycle that ended well was {time}"),
                None => "no full cycle has ever ended well".to_owned(),
            };
            all.push(format!(
                "Velero counts a maintenance as done at {counted}, but by the repository's own \
                 schedule {last}. After a crash Kopia waits for its next time, and a Job that \
                 finds nothing due succeeds."
            ));
        }
        match self.maintained_by {
            Held::Careen { .. } => all.push(
                "Velero leaves it to careen: `careen velero run` must be scheduled.".to_owned(),
            ),
            Held::Changed { now, .. } => all.push(format!(
                "It was taken over, but Velero maintains it again every {now}: `careen velero \
                 takeover --apply` takes it over once more."
            )),
            Held::Velero => {}
        }
        if let Some(truth) = &self.truth
            && truth.waiting_bytes == Some(0)
        {
            all.push(
                "No bytes wait to become free. What deleted backups leave is found by the next \
                 full cycle, and becomes free in the cycles after it."
                    .to_owned(),
            );
        }
        all
    }
}

fn is_false_success(counted: Timestamp, last_full: Option<Timestamp>) -> bool {
    last_full.is_none_or(|last| counted.seconds() - last.seconds() > FALSE_SUCCESS_SECONDS)
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
        match (&self.truth, &self.problem) {
            (Some(truth), _) => {
                writeln!(f, "is due       {}", truth.due)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_long_after_the_last_full_cycle_is_none() {
        let day = |day: i64| Timestamp::from_seconds(day * 86_400);
        assert!(is_false_success(day(10), None));
        assert!(is_false_success(day(10), Some(day(7))));
        assert!(!is_false_success(day(10), Some(day(9))));
        assert!(!is_false_success(day(10), Some(day(11))));
    }
}
