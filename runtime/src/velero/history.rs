//! Why Velero's own maintenance of a repository failed: its Jobs, and how their pods ended.
//!
//! Velero shows the text that the process printed, and nothing where there is none: a container
//! that the kernel killed for its memory prints nothing. The pod knows. Memory: a row a Job, at
//! most [`JOBS_MAX`].
//!
//! Mirrors `GetResultFromJob` of Velero's `pkg/repository/maintenance/maintenance.go`.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use serde::Serialize;

use super::activity::{REPOSITORY_LABEL, has_ended};
use super::cluster::Cluster;
use super::discovery::label_value;
use super::error::VeleroError;
use crate::clock::Timestamp;

/// Most Jobs of one repository that are looked at; Velero keeps three.
pub const JOBS_MAX: usize = 1_000;

/// Longest message of a pod that is shown.
const MESSAGE_CHARACTERS_MAX: usize = 400;

/// One of Velero's maintenance Jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobRow {
    /// The Job.
    pub name: String,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended; none while it is at work.
    pub ended: Option<Timestamp>,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// Whether it is at work.
    pub running: bool,
    /// Why it failed: of its condition, then of its pod.
    pub because: Vec<String>,
    /// Whether the kernel killed it for its memory.
    pub out_of_memory: bool,
    /// Its memory limit, as Kubernetes writes it.
    pub memory_limit: Option<String>,
}

/// Returns Velero's maintenance Jobs of `repository`, the oldest first.
pub fn jobs(cluster: &Cluster, repository: &str) -> Result<Vec<JobRow>, VeleroError> {
    let selector = format!("{REPOSITORY_LABEL}={}", label_value(repository));
    let jobs: Vec<Job> = cluster.list("jobs", &selector, JOBS_MAX)?;
    let pods: Vec<Pod> = cluster.list("pods", &selector, JOBS_MAX)?;
    let mut rows: Vec<JobRow> = jobs.iter().map(|job| row(job, &pods)).collect();
    rows.sort_by(|a, b| (a.started, &a.name).cmp(&(b.started, &b.name)));
    Ok(rows)
}

fn row(job: &Job, pods: &[Pod]) -> JobRow {
    let name = job.metadata.name.clone().unwrap_or_default();
    let status = job.status.clone().unwrap_or_default();
    let time = |time: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time| {
        Timestamp::from_seconds(time.0.as_second())
    };
    let conditions = status.conditions.unwrap_or_default();
    let ended = conditions
        .iter()
        .find(|one| one.status == "True" && matches!(one.type_.as_str(), "Complete" | "Failed"));
    let mut because = Vec::new();
    if let Some(failed) = ended.filter(|one| one.type_ == "Failed") {
        let words = [&failed.reason, &failed.message].map(|text| text.clone().unwrap_or_default());
        because.push(words.join(": ").trim_matches([':', ' ']).to_owned());
    }
    let mut out_of_memory = false;
    for ended in pods.iter().filter(|pod| is_of(pod, &name)).flat_map(ends) {
        out_of_memory |= ended.reason.as_deref() == Some("OOMKilled");
        because.push(told(&ended));
    }
    JobRow {
        started: status.start_time.as_ref().map(time),
        ended: ended
            .and_then(|one| one.last_transition_time.as_ref())
            .map(time),
        succeeded: ended.is_some_and(|one| one.type_ == "Complete"),
        running: !has_ended(job),
        because,
        out_of_memory,
        memory_limit: memory_limit(job),
        name,
    }
}

fn is_of(pod: &Pod, job: &str) -> bool {
    let labels = pod.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|all| all.get(key)).map(String::as_str);
    [label("batch.kubernetes.io/job-name"), label("job-name")].contains(&Some(job))
}

/// Returns how containers of a pod ended badly.
fn ends(pod: &Pod) -> Vec<ContainerStateTerminated> {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let states = containers
        .into_iter()
        .flatten()
        .filter_map(|one| one.state.as_ref());
    let ended = states.filter_map(|state| state.terminated.clone());
    ended.filter(|ended| ended.exit_code != 0).collect()
}

fn told(ended: &ContainerStateTerminated) -> String {
    let reason = ended.reason.as_deref().unwrap_or("Error");
    let message = ended.message.as_deref().unwrap_or_default().trim();
    let message: String = message.chars().take(MESSAGE_CHARACTERS_MAX).collect();
    let mut text = format!("container ended with {}: {reason}", ended.exit_code);
    if !message.is_empty() {
        text = format!("{text}, {message}");
    }
    text
}

fn memory_limit(job: &Job) -> Option<String> {
    let containers = &job.spec.as_ref()?.template.spec.as_ref()?.containers;
    let limits = containers.first()?.resources.as_ref()?.limits.as_ref()?;
    limits.get("memory").map(|quantity| quantity.0.clone())
}
