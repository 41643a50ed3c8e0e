//! Batches: questions to strategies as lines of JSON, so that a plugin can be asked again what a
//! repository once asked.
//!
//! The first line is a [`Head`]; each other one a [`Batch`]. A file is somebody's input: nothing in
//! it is believed to be short, sorted or complete. Memory: one line of at most [`LINE_BYTES_MAX`],
//! and what it says, 100 MiB at the very most. Invariant: what is read has no more rows than the
//! host asks about at once.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::kopia::policy::RetentionPolicy;
use crate::kopia::snapshot_manifest::SnapshotSource;
use crate::maintenance::retention::{BATCH_ROWS_MAX, RetentionQuestion, ZONE_CHANGES_MAX, Zone};
use crate::maintenance::scheduling::{SchedulingQuestion, TASKS_MAX};
use crate::maintenance::strategy::{
    EPOCH_ROWS_MAX, Owner, PACK_ROWS_MAX, RepackQuestion, SplittingQuestion, TENANTS_MAX,
    TaggedSource, check_tenants,
};
use crate::repository::snapshot_history::HistoryRow;

use super::error::harmless;

mod form;
pub mod made;
pub mod names;

/// Format of the lines. A reader refuses another one.
pub const FORMAT: u32 = 1;

/// Longest line: a batch has up to 512 KiB of texts, or one snapshot of 256 KiB, and JSON may write
/// a byte as six.
pub const LINE_BYTES_MAX: u64 = 8 << 20;

/// Cycles of one question.
const CYCLES_MAX: usize = 2;

/// The strategies that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Which snapshots are kept.
    Retention,
    /// The shape of index sets, and which packs are rewritten.
    Splitting,
    /// Which due tasks run.
    Scheduling,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Retention, Self::Splitting, Self::Scheduling];

    /// Returns the name that commands have for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Splitting => "splitting",
            Self::Scheduling => "scheduling",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// First line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`FORMAT`].
    pub careen_batches: u32,
    /// Version of the contract whose questions these are.
    pub contract: String,
    /// The strategy that they are for.
    pub strategy: Strategy,
    /// The careen that wrote it.
    pub careen: String,
    /// When.
    pub time: Timestamp,
    /// Whether names are replaced by hashes.
    pub hashed_names: bool,
}

/// A question, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Batch {
    /// Retention: local time of the sources that follow.
    Zone(Zone),
    /// Retention: begins a source.
    Source(SourceLine),
    /// Retention: the next snapshots of the source, the newest first.
    Snapshots(Vec<SnapshotLine>),
    /// Splitting: the shape of index sets.
    Split(SplittingQuestion),
    /// Splitting: snapshots that get tenants, before packs whose owners are known.
    Tenants(TenantsLine),
    /// Splitting: some packs, with their owners or without.
    Repack(RepackQuestion),
    /// Scheduling.
    Schedule(SchedulingQuestion),
}

/// Snapshots, and whose the packs that follow take them to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantsLine {
    /// What snapshots say of their tenants.
    pub snapshots: Vec<TaggedSource>,
    /// The tenant of each when owners of packs were found out. Another plugin gives other numbers.
    pub tenants: Vec<u8>,
}

/// A source, before its snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLine {
    /// Who saved what.
    #[serde(flatten)]
    pub source: SnapshotSource,
    /// Its policy, merged.
    pub policy: RetentionPolicy,
    /// The moment of the decision.
    pub now: Timestamp,
}

impl SourceLine {
    /// Returns the question that it stands for.
    pub fn question(&self, zone: &Zone) -> RetentionQuestion {
        RetentionQuestion {
            source: self.source.clone(),
            policy: self.policy.clone(),
            now: self.now,
            zone: zone.clone(),
        }
    }
}

/// A snapshot, without what its source says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotLine {
    /// The manifest's ID.
    pub id: String,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Why it is incomplete; empty when it is complete.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub incomplete_reason: String,
    /// What pins it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<String>,
    /// Its tags, by key.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub tags: std::collections::BTreeMap<String, String>,
    /// Bytes of all its files, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}

impl SnapshotLine {
    /// Returns the line of a snapshot.
    pub fn of(row: &HistoryRow) -> Self {
        Self {
            id: row.id.clone(),
            start: row.start,
            end: row.end,
            incomplete_reason: row.incomplete_reason.clone(),
            pins: row.pins.clone(),
            tags: row.tags.clone(),
            size_bytes: row.size_bytes,
        }
    }

    /// Returns the snapshot of `source` that it stands for.
    pub fn row(self, source: &SnapshotSource) -> HistoryRow {
        HistoryRow {
            id: self.id,
            source: source.clone(),
            start: self.start,
            end: self.end,
            modified: self.end,
            incomplete_reason: self.incomplete_reason,
            pins: self.pins,
            tags: self.tags,
            size_bytes: self.size_bytes,
        }
    }
}

impl Batch {
    /// Returns the strategy that is asked.
    pub fn strategy(&self) -> Strategy {
        match self {
            Self::Zone(_) | Self::Source(_) | Self::Snapshots(_) => Strategy::Retention,
            Self::Split(_) | Self::Tenants(_) | Self::Repack(_) => Strategy::Splitting,
            Self::Schedule(_) => Strategy::Scheduling,
        }
    }

    /// Returns how many rows it has: snapshots, epochs, packs, tasks.
    pub fn rows(&self) -> usize {
        match self {
            Self::Zone(_) | Self::Source(_) => 0,
            Self::Snapshots(rows) => rows.len(),
            Self::Split(question) => question.epochs.len(),
            Self::Tenants(line) => line.snapshots.len(),
            Self::Repack(question) => question.packs.len(),
            Self::Schedule(question) => tasks(question),
        }
    }

    /// Refuses what the host would not ask.
    fn check(&self) -> Result<(), String> {
        let (what, maximum) = match self {
            Self::Zone(zone) => return check_zone(zone),
            Self::Source(_) => return Ok(()),
            Self::Snapshots(_) => ("snapshots", BATCH_ROWS_MAX),
            Self::Split(_) => ("epochs", EPOCH_ROWS_MAX),
            Self::Tenants(line) => {
                check_tenants(&line.snapshots, &line.tenants)?;
                ("snapshots", BATCH_ROWS_MAX)
            }
            Self::Repack(question) => {
                check_owners(question)?;
                ("packs", PACK_ROWS_MAX)
            }
            Self::Schedule(question) => {
                check_zone(&question.zone)?;
                if question.cycles.len() > CYCLES_MAX {
                    let cycles = question.cycles.len();
                    return Err(format!(
                        "{cycles} cycles; a question has {CYCLES_MAX} at most"
                    ));
                }
                ("tasks", CYCLES_MAX * TASKS_MAX)
            }
        };
        match self.rows() {
            rows if rows > maximum => {
                Err(format!("{rows} {what}; a question has {maximum} at most"))
            }
            _ => Ok(()),
        }
    }
}

fn tasks(question: &SchedulingQuestion) -> usize {
    question.cycles.iter().map(|cycle| cycle.tasks.len()).sum()
}

/// Refuses owners that there are not, and packs of which only some have one.
fn check_owners(question: &RepackQuestion) -> Result<(), String> {
    let owners = || question.packs.iter().filter_map(|row| row.owner);
    let count = owners().count();
    if count > 0 && count < question.packs.len() {
        return Err("packs of which only some have owners".into());
    }
    let is_none = |owner: &Owner| matches!(owner, Owner::One(n) if !(1..=TENANTS_MAX).contains(n));
    match owners().find(is_none) {
        Some(owner) => Err(format!(
            "a pack of tenant {}; allowed are 1 to {TENANTS_MAX}",
            owner.number()
        )),
        None => Ok(()),
    }
}

fn check_zone(zone: &Zone) -> Result<(), String> {
    match zone.changes.len() {
        changes if changes > ZONE_CHANGES_MAX => Err(format!(
            "{changes} changes of local time; a question has {ZONE_CHANGES_MAX} at most"
        )),
        _ => Ok(()),
    }
}

/// Why a file of batches cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("batches {}: {what}", path.display())]
pub struct BatchesError {
    /// The file.
    pub path: PathBuf,
    /// The line, and what is wrong with it.
    pub what: String,
}

/// Reads batches.
pub struct BatchReader<R> {
    reader: R,
    path: PathBuf,
    line: u64,
    bytes: Vec<u8>,
    head: Head,
}

impl<R: BufRead> BatchReader<R> {
    /// Reads the head; `path` is for errors.
    pub fn new(reader: R, path: PathBuf) -> Result<Self, BatchesError> {
        let mut reader = Self {
            reader,
            path,
            line: 0,
            bytes: Vec::new(),
            head: Head {
                careen_batches: FORMAT,
                contract: String::new(),
                strategy: Strategy::Retention,
                careen: String::new(),
                time: Timestamp::default(),
                hashed_names: false,
            },
        };
        if !reader.read_line()? {
            return Err(reader.wrong("has no line at all"));
        }
        let head: Head = serde_json::from_slice(&reader.bytes).map_err(|error| {
            let what = format!("is no head of a file that `careen plugin record` writes: {error}");
            reader.wrong(&what)
        })?;
        if head.careen_batches != FORMAT {
            let found = head.careen_batches;
            let what = format!("has format {found}, and this careen reads {FORMAT}");
            return Err(reader.wrong(&what));
        }
        reader.head = head;
        Ok(reader)
    }

    /// Returns the first line.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Reads the next batch, with the number of its line; `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<(u64, Batch)>, BatchesError> {
        loop {
            if !self.read_line()? {
                return Ok(None);
            }
            if !self.bytes.iter().all(u8::is_ascii_whitespace) {
                break;
            }
        }
        form::check(&self.bytes).map_err(|why| self.wrong(&format!("has {why}")))?;
        let batch: Batch = serde_json::from_slice(&self.bytes)
            .map_err(|error| self.wrong(&format!("is no batch: {error}")))?;
        batch
            .check()
            .map_err(|why| self.wrong(&format!("has {why}")))?;
        if batch.strategy() != self.head.strategy {
            let (is, head) = (batch.strategy(), self.head.strategy);
            return Err(self.wrong(&format!("is for {is}, and the file is for {head}")));
        }
        Ok(Some((self.line, batch)))
    }

    /// Reads a line; false at the end.
    fn read_line(&mut self) -> Result<bool, BatchesError> {
        self.bytes.clear();
        let mut limited = self.reader.by_ref().take(LINE_BYTES_MAX);
        let read = limited.read_until(b'\n', &mut self.bytes);
        self.line += 1;
        match read {
            Err(error) => Err(self.wrong(&format!("cannot be read: {error}"))),
            Ok(count) if count as u64 == LINE_BYTES_MAX && !self.bytes.ends_with(b"\n") => {
                Err(self.wrong(&format!("is longer than {LINE_BYTES_MAX} bytes")))
            }
            Ok(count) => Ok(count > 0),
        }
    }

    fn wrong(&self, what: &str) -> BatchesError {
        BatchesError {
            path: self.path.clone(),
            // The parser's words may have those of the line.
            what: format!("line {} {}", self.line, harmless(what)),
        }
    }
}

/// Writes a line.
///
/// # Errors
/// What the writer says.
pub fn write_line(writer: &mut dyn Write, line: &impl Serialize) -> io::Result<()> {
    // Not into the writer: what cannot be written as a whole is not begun.
    let mut bytes = serde_json::to_vec(line).map_err(io::Error::other)?;
    bytes.push(b'\n');
    writer.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maintenance::strategy::PackRow;

    fn file(lines: &str) -> Result<Vec<(u64, Batch)>, BatchesError> {
        let head = r#"{"careen_batches":1,"contract":"1.1.0","strategy":"splitting",
            "careen":"1","time":"2026-09-01T00:00:00Z","hashed_names":false,"later":1}"#;
        let text = format!("{}\n{lines}", head.replace('\n', ""));
        let mut reader = BatchReader::new(text.as_bytes(), "f".into())?;
        let mut found = Vec::new();
        while let Some(batch) = reader.next_batch()? {
            found.push(batch);
        }
        Ok(found)
    }

    #[test]
    fn lines_come_back_and_empty_ones_count() {
        let question = RepackQuestion {
            pack_bytes_max: 20,
            packs: vec![PackRow {
                metadata: true,
                used_bytes: 7,
                owner: None,
            }],
        };
        let mut lines = Vec::new();
        write_line(&mut lines, &Batch::Repack(question.clone())).unwrap();
        let text = format!("\n{}", String::from_utf8(lines).unwrap());
        assert_eq!(file(&text).unwrap(), [(3, Batch::Repack(question))]);
    }

    #[test]
    fn what_the_host_would_not_ask_is_refused() {
        let packs = r#"{"metadata":false,"used_bytes":1},"#.repeat(1_001);
        let packs = packs.trim_end_matches(',');
        let many = format!(r#"{{"repack":{{"pack_bytes_max":1,"packs":[{packs}]}}}}"#);
        let flood = format!(
            r#"{{"tenants":{{"snapshots":[{}{{}}]"#,
            "{},".repeat(2 << 20)
        );
        for (lines, words) in [
            ("x", "line 2 is no batch"),
            (
                r#"{"zone":{"offset_seconds":0,"changes":[]}}"#,
                "is for retention",
            ),
            (&many, "line 2 has 1001 packs"),
            (
                r#"{"tenants":{"snapshots":[{"host":"h"}],"tenants":[0]}}"#,
                "line 2 has a snapshot of tenant 0",
            ),
            (
                r#"{"tenants":{"snapshots":[{"host":"h"}],"tenants":[]}}"#,
                "line 2 has 0 tenants of 1 snapshots",
            ),
            (
                r#"{"repack":{"pack_bytes_max":1,"packs":[
                    {"metadata":false,"used_bytes":1,"owner":{"one":251}}]}}"#,
                "line 2 has a pack of tenant 251",
            ),
            (
                r#"{"repack":{"pack_bytes_max":1,"packs":[{"metadata":false,"used_bytes":1},
                    {"metadata":false,"used_bytes":1,"owner":"shared"}]}}"#,
                "line 2 has packs of which only some have owners",
            ),
            (&flood, "line 2 has 2097155 objects"),
            (r#"{"\u001b[2J":1}"#, "unknown variant ` [2J`"),
            (&" ".repeat(LINE_BYTES_MAX as usize + 1), "line 2 is longer"),
        ] {
            let error = file(&lines.replace('\n', "")).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let read = |text: &str| BatchReader::new(text.as_bytes(), "f".into()).err();
        assert!(read("").unwrap().to_string().contains("no line"));
        assert!(read("{}").unwrap().to_string().contains("is no head"));
    }
}
