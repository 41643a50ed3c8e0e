//! A look at one repository: what is true, whatever Velero says.
//!
//! `careen status` in a child process; of its report some numbers are kept. Memory: its report.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::super::Console;
use super::super::error::CliError;
use super::children::{Said, ask, prepare};
use crate::clock::Timestamp;
use crate::velero::cluster::Cluster;
use crate::velero::credentials::credentials;
use crate::velero::discovery::FoundRepository;

/// A full cycle that is overdue for so long is late.
const LATE_SECONDS: i64 = 24 * 60 * 60;

/// The task that every full cycle begins with.
const FULL_CYCLE_TASK: &str = "snapshot-gc";

/// How a repository is, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Health {
    /// Maintained.
    Healthy,
    /// A full cycle is overdue for more than a day, or there never was one.
    Late,
    /// The last run of some task failed.
    Failing,
    /// It could not be looked at.
    Unreachable,
    /// It was not looked at.
    Unknown,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Late => "late",
            Self::Failing => "failing",
            Self::Unreachable => "unreachable",
            Self::Unknown => "not looked at",
        })
    }
}

/// A task whose last run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct FailedTask {
    /// Kopia's name.
    pub(super) task: String,
    /// When it ended.
    pub(super) end: Option<Timestamp>,
    /// Why.
    pub(super) error: Option<String>,
}

/// What is true of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Truth {
    /// Where its keys come from.
    pub(super) keys: String,
    /// The recorded owner.
    pub(super) owner: Option<String>,
    /// What a run would do now.
    pub(super) due: String,
    /// When a full cycle is due.
    pub(super) next_full: Option<Timestamp>,
    /// When the last full cycle ended well, as its own schedule has it.
    pub(super) last_full: Option<Timestamp>,
    /// Index blobs that every client reads.
    pub(super) index_blobs: Option<u64>,
    /// Bytes of all packs.
    pub(super) pack_bytes: Option<u64>,
    /// Bytes that wait to become free.
    pub(super) waiting_bytes: Option<u64>,
    /// Tasks whose last run failed.
    pub(super) failed: Vec<FailedTask>,
}

/// What a look found.
#[derive(Debug)]
pub(super) struct Look {
    /// What is true, or why it is not known.
    pub(super) truth: Result<Truth, String>,
    /// The whole report of `careen status`.
    pub(super) report: Option<Value>,
}

/// Looks at a repository; what is wrong with it is part of the answer.
pub(super) fn look(
    console: &Console,
    cluster: &Cluster,
    found: &FoundRepository,
    memory_bytes: usize,
) -> Result<Look, CliError> {
    let unknown = |because: String| Look {
        truth: Err(because),
        report: None,
    };
    let place = match &found.place {
        Ok(place) => place,
        Err(because) => return Ok(unknown(because.clone())),
    };
    let keys = match credentials(cluster, place) {
        Ok(keys) => keys,
        Err(error) => return Ok(unknown(error.to_string())),
    };
    let prepared = prepare(
        console,
        &found.name,
        &["status"],
        place,
        &keys,
        memory_bytes,
    )?;
    let said = match ask(&found.name, prepared) {
        Ok(said) => said,
        Err(error) => return Ok(unknown(error.to_string())),
    };
    let Said { report, .. } = &said;
    let truth = match report {
        Some(report) => Ok(Truth {
            keys: keys.origin,
            ..truth(report)
        }),
        None => Err(said.problem()),
    };
    Ok(Look {
        truth,
        report: said.report,
    })
}

fn truth(report: &Value) -> Truth {
    let maintenance = &report["maintenance"];
    let owner = report["owner"].as_str().map(str::to_owned);
    let runs = maintenance["last_runs"].as_array();
    let runs: Vec<&Value> = runs.into_iter().flatten().collect();
    let succeeded = |run: &&&Value| run["success"].as_bool() == Some(true);
    let last_full = runs.iter().filter(succeeded);
    let last_full = last_full
        .filter(|run| run["task"].as_str() == Some(FULL_CYCLE_TASK))
        .find_map(|run| time(&run["end"]));
    let failed = runs.iter().filter(|run| !succeeded(run));
    let failed = failed.map(|run| FailedTask {
        task: run["task"].as_str().unwrap_or_default().to_owned(),
        end: time(&run["end"]),
        error: run["error"].as_str().map(str::to_owned),
    });
    let due = match (&report["maintenance_problem"], maintenance["due"].as_str()) {
        (Value::String(problem), _) => format!("the schedule cannot be read: {problem}"),
        (_, due) => due.unwrap_or_default().to_owned(),
    };
    let waiting = report["outlook"]["waiting"].as_array();
    let waiting = waiting.map(|rows| rows.iter().filter_map(|row| row["bytes"].as_u64()).sum());
    Truth {
        keys: String::new(),
        owner,
        due,
        next_full: time(&maintenance["next_full"]),
        last_full,
        index_blobs: index_blobs(report),
        pack_bytes: report["outlook"]["holdings"]["packs"]["bytes"].as_u64(),
        waiting_bytes: waiting,
        failed: failed.collect(),
    }
}

fn index_blobs(report: &Value) -> Option<u64> {
    let (epochs, v0) = (&report["epochs"], &report["v0"]);
    if v0.is_object() {
        return v0["active"]["blobs"].as_u64();
    }
    let parts = ["uncompacted_active", "ranges", "singles"];
    parts
        .iter()
        .map(|part| epochs[part]["blobs"].as_u64())
        .sum()
}

fn time(value: &Value) -> Option<Timestamp> {
    Timestamp::parse(value.as_str()?)
}

impl Truth {
    /// Returns how it is at `now`.
    pub(super) fn health(&self, now: Timestamp) -> Health {
        if !self.failed.is_empty() {
            return Health::Failing;
        }
        match self.next_full {
            Some(due) if now.seconds() - due.seconds() <= LATE_SECONDS => Health::Healthy,
            _ => Health::Late,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_truth_is_in_the_report() {
        let report = json!({
            "owner": "default@default",
            "epochs": {
                "uncompacted_active": { "blobs": 3, "bytes": 1 },
                "ranges": { "sets": 1, "blobs": 2, "bytes": 1 },
                "singles": { "sets": 0, "blobs": 0, "bytes": 0 },
            },
            "v0": null,
            "maintenance": {
                "due": "nothing",
                "next_full": "2026-01-02T00:00:00Z",
                "last_runs": [
                    { "task": "snapshot-gc", "end": "2026-01-01T00:00:00Z", "success": true },
                    { "task": "cleanup-logs", "end": "2026-01-01T01:00:00Z", "success": false,
                      "error": "no" },
                ],
            },
            "maintenance_problem": null,
            "outlook": {
                "holdings": { "packs": { "count": 1, "bytes": 20 } },
                "waiting": [{ "bytes": 5 }, { "bytes": 6 }],
            },
        });
        let mut truth = truth(&report);
        let at = |text| Timestamp::parse(text).unwrap();
        assert_eq!(truth.index_blobs, Some(5));
        assert_eq!(truth.waiting_bytes, Some(11));
        assert_eq!(truth.pack_bytes, Some(20));
        assert_eq!(truth.last_full, Some(at("2026-01-01T00:00:00Z")));
        assert_eq!(truth.health(at("2026-01-01T00:00:00Z")), Health::Failing);
        truth.failed.clear();
        assert_eq!(truth.health(at("2026-01-02T23:00:00Z")), Health::Healthy);
        assert_eq!(truth.health(at("2026-01-03T01:00:00Z")), Health::Late);
        truth.next_full = None;
        assert_eq!(truth.health(at("2026-01-01T00:00:00Z")), Health::Late);
    }
}
