//! The maintenance schedule: when maintenance is due next, and what the last runs did.
//!
//! The blob `kopia.maintenance` is rewritten as a whole by every run, last writer wins. Its history
//! is more than a report: the second of two successful GC runs is what allows tombstones to be
//! dropped, and the end of the last rewrite is what holds back pack deletion. So an entry that we
//! do not know must survive our rewrite. Input and output are the decrypted JSON. Memory: the blob,
//! at most [`SCHEDULE_BYTES_MAX`], a few times over. Mirrors Kopia's `maintenance_schedule.go`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::kopia::FormatError;
use crate::kopia::blob_id::MAINTENANCE;

/// Runs that are kept per task; as Kopia since v0.22.
pub const RUNS_PER_TASK_MAX: usize = 50;
/// Longest schedule that is read. Kopia's own, 16 tasks with 50 runs of at most 1 KB, stays below 1
/// MiB.
pub const SCHEDULE_BYTES_MAX: usize = 4 << 20;
/// Go's zero time: "never". Earlier than every other moment.
pub const UNSET: Timestamp = Timestamp::from_nanos(i64::MIN);

/// The schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// When full maintenance is due; [`UNSET`] when it never ran.
    #[serde(default = "unset", rename = "nextFullMaintenance", with = "go_time")]
    pub next_full: Timestamp,
    /// When quick maintenance is due; [`UNSET`] when it never ran.
    #[serde(default = "unset", rename = "nextQuickMaintenance", with = "go_time")]
    pub next_quick: Timestamp,
    /// The runs of each task by its name, newest first.
    #[serde(default, deserialize_with = "runs_or_null")]
    pub runs: BTreeMap<String, Vec<RunInfo>>,
    /// Fields that only newer versions know; kept as they are.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// One run of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// When it began.
    #[serde(default = "unset", with = "go_time")]
    pub start: Timestamp,
    /// When it ended.
    #[serde(default = "unset", with = "go_time")]
    pub end: Timestamp,
    /// Whether it succeeded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub success: bool,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// What it did.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub extra: Vec<Extra>,
    /// Fields that only newer versions know; kept as they are.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Statistics of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Extra {
    /// Which statistics, for example `snapshotGCStats`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The numbers; JSON `null` from a Kopia task that had nothing to do.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub data: Option<Value>,
    /// Fields that only newer versions know; kept as they are.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl Default for Schedule {
    /// What holds without the blob: nothing ever ran.
    fn default() -> Self {
        Self {
            next_full: UNSET,
            next_quick: UNSET,
            runs: BTreeMap::new(),
            unknown: Map::new(),
        }
    }
}

impl Schedule {
    /// Parses the decrypted blob.
    ///
    /// # Errors
    /// JSON of another form, or more than [`SCHEDULE_BYTES_MAX`].
    pub fn parse(json: &[u8]) -> Result<Self, FormatError> {
        if json.len() > SCHEDULE_BYTES_MAX {
            let reason = format!("{} bytes are more than {SCHEDULE_BYTES_MAX}", json.len());
            return Err(FormatError::malformed(MAINTENANCE, reason));
        }
        serde_json::from_slice(json).map_err(|e| FormatError::malformed(MAINTENANCE, e.to_string()))
    }

    /// Returns the JSON to be encrypted.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and JSON values always serialise")
    }

    /// Puts `run` at the head of the history of `task` and drops the oldest beyond
    /// [`RUNS_PER_TASK_MAX`].
    pub fn report_run(&mut self, task: &str, run: RunInfo) {
        let history = self.runs.entry(task.to_owned()).or_default();
        history.insert(0, run);
        history.truncate(RUNS_PER_TASK_MAX);
    }

    /// Returns the runs of `task`, newest first.
    pub fn runs_of(&self, task: &str) -> &[RunInfo] {
        self.runs.get(task).map_or(&[], Vec::as_slice)
    }
}

impl RunInfo {
    /// Makes the record of a run that succeeded.
    pub fn succeeded(start: Timestamp, end: Timestamp, extra: Vec<Extra>) -> Self {
        Self {
            start,
            end,
            success: true,
            error: String::new(),
            extra,
            unknown: Map::new(),
        }
    }

    /// Makes the record of a run that failed.
    pub fn failed(start: Timestamp, end: Timestamp, error: String) -> Self {
        Self {
            success: false,
            error,
            ..Self::succeeded(start, end, Vec::new())
        }
    }
}

impl Extra {
    /// Makes statistics of `kind`.
    pub fn new(kind: &str, data: Value) -> Self {
        Self {
            kind: kind.to_owned(),
            data: Some(data),
            unknown: Map::new(),
        }
    }
}

fn unset() -> Timestamp {
    UNSET
}

/// Reads a field that is there, JSON `null` included.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Reads a field for which Go writes `null` when it is empty.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn runs_or_null<'de, D>(deserializer: D) -> Result<BTreeMap<String, Vec<RunInfo>>, D::Error>
where
    D: Deserializer<'de>,
{
    let runs: BTreeMap<String, Option<Vec<RunInfo>>> = null_is_default(deserializer)?;
    Ok(runs
        .into_iter()
        .map(|(task, history)| (task, history.unwrap_or_default()))
        .collect())
}

/// Times as Go writes them; [`UNSET`] is Go's zero time.
pub(crate) mod go_time {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::UNSET;
    use crate::clock::Timestamp;

    const ZERO: &str = "0001-01-01T00:00:00Z";

    pub(crate) fn serialize<S: Serializer>(
        time: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if *time == UNSET {
            serializer.serialize_str(ZERO)
        } else {
            time.serialize(serializer)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        Ok(Option::<Timestamp>::deserialize(deserializer)?.unwrap_or(UNSET))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn kopias_bytes_come_out_the_same() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/kopia/testdata");
        let json = std::fs::read_to_string(format!("{folder}/schedule.json")).unwrap();
        let schedule = Schedule::parse(json.as_bytes()).unwrap();
        assert_eq!(schedule.runs.len(), 8);
        let gc = &schedule.runs_of("snapshot-gc")[0];
        assert!(gc.success && gc.start < gc.end && gc.extra[0].kind == "snapshotGCStats");
        assert_eq!(String::from_utf8(schedule.to_json()).unwrap(), json);
    }

    #[test]
    fn a_fresh_schedule_is_as_gos() {
        let json = concat!(
            r#"{"nextFullMaintenance":"0001-01-01T00:00:00Z","#,
            r#""nextQuickMaintenance":"0001-01-01T00:00:00Z","runs":null}"#
        );
        let schedule = Schedule::parse(json.as_bytes()).unwrap();
        assert_eq!(schedule, Schedule::default());
        assert_eq!(Schedule::parse(b"{}").unwrap(), schedule);
        assert!(schedule.next_full < at(0));
        let out = String::from_utf8(schedule.to_json()).unwrap();
        assert_eq!(out, json.replace("null", "{}"));
    }

    #[test]
    fn what_is_unknown_survives() {
        let json = concat!(
            r#"{"nextFullMaintenance":"2026-09-07T11:00:01.5Z","#,
            r#""nextQuickMaintenance":"2026-09-06T12:00:01Z","runs":{"cleanup-epoch-manager":[{"#,
            r#""start":"2026-01-01T00:00:00Z","end":"2026-01-01T00:00:01Z","success":true,"#,
            r#""extra":[{"kind":"newStats","data":null},{"kind":"x"},"#,
            r#"{"data":{"b":1,"a":[2]},"z":1}],"host":"h"}]},"lease":{"until":5}}"#
        );
        let schedule = Schedule::parse(json.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(schedule.to_json()).unwrap(), json);
        let extra = &schedule.runs_of("cleanup-epoch-manager")[0].extra;
        assert_eq!(extra[0].data, Some(Value::Null));
        assert_eq!(extra[1].data, None);
    }

    #[test]
    fn offsets_and_nulls_are_read() {
        let json = concat!(
            r#"{"nextFullMaintenance":"2026-09-07T13:00:01+02:00","runs":{"a":null,"#,
            r#""b":[{"start":"0001-01-01T00:00:00Z","end":null,"extra":null}]}}"#
        );
        let schedule = Schedule::parse(json.as_bytes()).unwrap();
        assert_eq!(schedule.next_full, at(1_788_778_801));
        assert!(schedule.runs_of("a").is_empty() && schedule.runs_of("c").is_empty());
        let run = &schedule.runs_of("b")[0];
        assert_eq!((run.start, run.end, run.success), (UNSET, UNSET, false));
        assert!(Schedule::parse(b"[1]").is_err());
        assert!(Schedule::parse(&vec![b' '; SCHEDULE_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn fifty_runs_are_kept() {
        let mut schedule = Schedule::default();
        for i in 0..60 {
            let run = if i % 2 == 0 {
                RunInfo::failed(at(i), at(i + 1), "no".to_owned())
            } else {
                RunInfo::succeeded(at(i), at(i + 1), vec![Extra::new("k", Value::Null)])
            };
            schedule.report_run("snapshot-gc", run);
        }
        let runs = schedule.runs_of("snapshot-gc");
        assert_eq!(runs.len(), RUNS_PER_TASK_MAX);
        assert_eq!((runs[0].start, runs[49].start), (at(59), at(10)));
        assert_eq!(Schedule::parse(&schedule.to_json()).unwrap(), schedule);
    }
}
