//! Records what a repository asks its strategies.
//!
//! A [`Recorder`] takes the place of every strategy: it writes down the question and answers what
//! changes nothing, so the same code asks as in a run. Memory: one question, and its line.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::maintenance::retention::{Decision, Retention, RetentionQuestion, Zone};
use crate::maintenance::scheduling::{Costs, Scheduling, SchedulingAnswer, SchedulingQuestion};
use crate::maintenance::strategy::{
    RepackAnswer, RepackQuestion, SHARD_ENTRIES_MAX, Splitting, SplittingAnswer, SplittingQuestion,
    StrategyError, TENANTS_MAX, TaggedSource,
};
use crate::repository::snapshot_history::HistoryRow;

use super::batches::names::Names;
use super::batches::{Batch, Head, SnapshotLine, SourceLine, TenantsLine, write_line};

/// Its name in errors.
const NAME: &str = "the recorder";

/// Pause that a recorder asks for, so that nothing runs.
const PAUSE: Duration = Duration::from_secs(1);

/// What was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Recorded {
    /// Lines, the head left out.
    pub batches: u64,
    /// Snapshots, epochs, packs, tasks.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// A strategy that writes down what it is asked. Its clones write into the same file.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Recording>>);

struct Recording {
    writer: Box<dyn Write + Send>,
    names: Option<Names>,
    /// The zone that was written last.
    zone: Option<Zone>,
    /// Hashes of sources that are tenants, at most [`TENANTS_MAX`]; none where no tenants are
    /// given.
    tenants: Option<HashMap<[u8; 32], u8>>,
    recorded: Recorded,
}

impl Recorder {
    /// Writes the head; `names` hides names.
    ///
    /// # Errors
    /// What the writer says.
    pub fn new(
        writer: Box<dyn Write + Send>,
        head: &Head,
        names: Option<Names>,
    ) -> Result<Self, StrategyError> {
        let mut recording = Recording {
            writer,
            names,
            zone: None,
            tenants: None,
            recorded: Recorded::default(),
        };
        recording.line(head)?;
        Ok(Self(Arc::new(Mutex::new(recording))))
    }

    /// Gives snapshots tenants too: each source is one, those after the [`TENANTS_MAX`]th are the
    /// last together. Then owners of packs are found out, and recorded.
    #[must_use]
    pub fn with_tenants(self) -> Self {
        self.recording().tenants = Some(HashMap::new());
        self
    }

    /// Returns what was recorded up to now.
    pub fn recorded(&self) -> Recorded {
        self.recording().recorded
    }

    /// Sends on what still waits in buffers.
    ///
    /// # Errors
    /// What the writer says.
    pub fn flush(&self) -> Result<Recorded, StrategyError> {
        let mut recording = self.recording();
        recording.writer.flush().map_err(|error| failed(&error))?;
        Ok(recording.recorded)
    }

    fn recording(&self) -> MutexGuard<'_, Recording> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recording {
    fn batch(&mut self, mut batch: Batch) -> Result<(), StrategyError> {
        if let Some(names) = &self.names {
            names.hide(&mut batch);
        }
        self.recorded.batches += 1;
        self.recorded.rows += batch.rows() as u64;
        self.line(&batch)
    }

    fn line(&mut self, line: &impl serde::Serialize) -> Result<(), StrategyError> {
        let mut counted = Counted {
            writer: &mut *self.writer,
            bytes: 0,
        };
        let written = write_line(&mut counted, line);
        self.recorded.bytes += counted.bytes;
        written.map_err(|error| failed(&error))
    }
}

/// Counts what is written.
struct Counted<'a> {
    writer: &'a mut dyn Write,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.writer.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}

fn failed(error: &std::io::Error) -> StrategyError {
    StrategyError::Failed {
        strategy: NAME.to_owned(),
        reason: format!("cannot write: {error}"),
        code: "plugin-recording",
    }
}

/// Returns the tenant of a snapshot: its source's.
fn tenant(given: &mut HashMap<[u8; 32], u8>, row: &TaggedSource) -> u8 {
    let hash = blake3::hash(row.source.to_string().as_bytes());
    let next = given.len() + 1;
    match given.get(hash.as_bytes()) {
        Some(tenant) => *tenant,
        None if next > usize::from(TENANTS_MAX) => TENANTS_MAX,
        None => *given.entry(*hash.as_bytes()).or_insert(next as u8), // at most TENANTS_MAX
    }
}

impl Retention for Recorder {
    fn begin(&mut self, question: &RetentionQuestion) -> Result<(), StrategyError> {
        let mut recording = self.recording();
        if recording.zone.as_ref() != Some(&question.zone) {
            recording.batch(Batch::Zone(question.zone.clone()))?;
            recording.zone = Some(question.zone.clone());
        }
        recording.batch(Batch::Source(SourceLine {
            source: question.source.clone(),
            policy: question.policy.clone(),
            now: question.now,
        }))
    }

    fn decide(&mut self, rows: &[HistoryRow]) -> Result<Vec<Decision>, StrategyError> {
        let lines = rows.iter().map(SnapshotLine::of).collect();
        self.recording().batch(Batch::Snapshots(lines))?;
        let keep = Decision {
            expire: false,
            reason: String::new(),
        };
        Ok(vec![keep; rows.len()])
    }

    fn describe(&self) -> String {
        NAME.to_owned()
    }
}

impl Splitting for Recorder {
    fn split(&mut self, question: &SplittingQuestion) -> Result<SplittingAnswer, StrategyError> {
        self.recording().batch(Batch::Split(question.clone()))?;
        Ok(SplittingAnswer {
            shard_entries: question.shard_entries_max.min(SHARD_ENTRIES_MAX),
            joins: Vec::new(),
            reason: String::new(),
        })
    }

    fn repack(&mut self, question: &RepackQuestion) -> Result<RepackAnswer, StrategyError> {
        self.recording().batch(Batch::Repack(question.clone()))?;
        Ok(RepackAnswer {
            pack_bytes: question.pack_bytes_max,
            groups: vec![0; question.packs.len()],
            reason: String::new(),
        })
    }

    fn gives_tenants(&self) -> bool {
        self.recording().tenants.is_some()
    }

    fn tenants(&mut self, snapshots: &[TaggedSource]) -> Result<Vec<u8>, StrategyError> {
        let mut recording = self.recording();
        let given = recording.tenants.get_or_insert_default();
        let tenants = snapshots.iter().map(|row| tenant(given, row)).collect();
        let line = TenantsLine {
            snapshots: snapshots.to_vec(),
            tenants,
        };
        let tenants = line.tenants.clone();
        recording.batch(Batch::Tenants(line))?;
        Ok(tenants)
    }

    fn describe(&self) -> String {
        NAME.to_owned()
    }
}

impl Scheduling for Recorder {
    fn schedule(
        &mut self,
        question: &SchedulingQuestion,
    ) -> Result<SchedulingAnswer, StrategyError> {
        self.recording().batch(Batch::Schedule(question.clone()))?;
        Ok(match question.costs {
            // The same question with costs is one more that a plugin may be asked.
            Costs::NotCounted => SchedulingAnswer::CountCosts,
            Costs::Counted | Costs::Unknown(_) => SchedulingAnswer::Wait {
                not_before: question.now.plus(PAUSE),
                reason: String::new(),
            },
        })
    }

    fn describe(&self) -> String {
        NAME.to_owned()
    }
}
