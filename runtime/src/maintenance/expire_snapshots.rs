//! Expires snapshots: asks the retention strategy about each source, checks what it answers, and
//! writes tombstones of the manifests.
//!
//! All sources are decided before anything is written, and one refused decision refuses all. Any
//! client may delete snapshots, so no owner is asked for; but who upgrades the repository is
//! respected up to the last moment. What snapshots alone kept is snapshot GC's business, later.
//!
//! Memory: the phases of [`crate::repository::snapshot_history`], one batch of rows, one plugin;
//! decisions wait in scratch. Mirrors Kopia's `snapshot/policy/expire.go`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::kopia::manifest::ManifestEntry;
use crate::kopia::snapshot_manifest::SnapshotSource;
use crate::kopia::source_filter::SourceFilter;
use crate::repository::format_watch::FormatWatch;
use crate::repository::manifest_writer::ManifestWriter;
use crate::repository::pack_writer::PackWriterStats;
use crate::repository::snapshot_history::{HistoryRow, SnapshotHistory};
use crate::repository::{Repository, RepositoryError, Workspace};
use crate::spill::{ScratchFile, SequentialReader, SequentialWriter};

use super::MaintenanceError;
use super::delete_unreferenced_packs::check_index;
use super::retention::{
    BATCH_BYTES_MAX, BATCH_ROWS_MAX, Retention, RetentionGuard, RetentionQuestion, Zone,
};
use super::strategy::StrategyError;

/// Share of a source's snapshots that one run may expire, in percent, unless the user says so.
pub const EXPIRE_PERCENT: u8 = 50;

/// Most snapshots of one source that one run may expire, whatever the share: ten years of hourly
/// ones. The next run takes the rest.
pub const EXPIRE_MAX: u64 = 100_000;

/// Write and read buffer of the decisions, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// How the task is to go.
#[derive(Clone, Debug)]
pub struct ExpireOptions {
    /// Only these sources: all parts that are given must be equal.
    pub source: SourceFilter,
    /// Local time, for weeks and the ends of periods.
    pub zone: Zone,
    /// Share of a source's snapshots that may be expired, in percent.
    pub percent_max: u8,
}

/// What is to become of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireRow {
    /// `user@host:path`.
    pub source: String,
    /// The manifest's ID.
    pub id: String,
    /// When it began.
    pub start: Timestamp,
    /// Why it is incomplete; empty when it is complete.
    pub incomplete: String,
    /// What pins it.
    pub pins: Vec<String>,
    /// Whether it is expired.
    pub expire: bool,
    /// Why, in the strategy's words.
    pub reason: String,
}

impl fmt::Display for ExpireRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.expire { "expire" } else { "keep" };
        let (id, start) = (&self.id, self.start.to_string());
        write!(
            f,
            "{what:<6} {id}  {start:<30} {}  ({})",
            self.source, self.reason
        )
    }
}

/// How many snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExpireCounts {
    /// Sources.
    pub sources: u64,
    /// Their snapshots.
    pub snapshots: u64,
    /// Of them those that are expired.
    pub expired: u64,
}

/// What a run would expire, for its plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpireForecast {
    /// How many.
    #[serde(flatten)]
    pub counts: ExpireCounts,
    /// Why a run would stop there, if so.
    pub refused: Option<String>,
}

impl ExpireForecast {
    /// Asks the strategy about every source. Writes nothing.
    pub fn make(
        repository: &Repository,
        workspace: &Workspace,
        retention: &mut dyn Retention,
        options: &ExpireOptions,
    ) -> Result<Self, MaintenanceError> {
        let mut plan = ExpirePlan::make(repository, workspace, retention, options)?;
        Ok(Self {
            refused: plan.refused().map(|error| error.to_string()),
            counts: plan.counts,
        })
    }
}

impl fmt::Display for ExpireForecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExpireCounts {
            sources,
            snapshots,
            expired,
        } = self.counts;
        write!(
            f,
            "{expired} of {snapshots} snapshots of {sources} sources are expired"
        )?;
        match &self.refused {
            Some(why) => write!(f, "; a run would stop: {why}"),
            None => Ok(()),
        }
    }
}

/// What is to be done.
pub struct ExpirePlan {
    /// How many.
    pub counts: ExpireCounts,
    decided: Arc<ScratchFile>,
    bytes: u64,
    refused: Option<MaintenanceError>,
    format: FormatWatch,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExpireReport {
    /// How many.
    #[serde(flatten)]
    pub counts: ExpireCounts,
    /// Whether the expired ones are deleted.
    pub deleted: bool,
    /// What was written.
    pub written: PackWriterStats,
}

impl fmt::Display for ExpireReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExpireCounts {
            sources,
            snapshots,
            expired,
        } = self.counts;
        let verb = match self.deleted {
            true => "deleted",
            false => "to be deleted",
        };
        write!(
            f,
            "{expired} of {snapshots} snapshots of {sources} sources {verb}"
        )?;
        match !self.deleted && expired > 0 {
            true => f.write_str("; --delete does it"),
            false => Ok(()),
        }
    }
}

impl ExpirePlan {
    /// Asks the strategy about every source. Writes nothing.
    ///
    /// # Errors
    /// An index with gaps or with sets that differ, as for snapshot GC: a pin or a policy may be
    /// hidden. Manifests that cannot be read, a strategy that fails or answers out of form. What
    /// the host refuses is told by [`refused`](Self::refused), so that the rest can be shown.
    pub fn make(
        repository: &Repository,
        workspace: &Workspace,
        retention: &mut dyn Retention,
        options: &ExpireOptions,
    ) -> Result<Self, MaintenanceError> {
        let format = FormatWatch::start(repository)?;
        let history = SnapshotHistory::load(repository, workspace, |active| {
            check_index(repository, workspace, active)
        })?;
        let decided = Arc::new(workspace.scratch.create_file("retention")?);
        let mut deciding = Deciding {
            now: repository.clock.now(),
            history: &history,
            retention,
            options,
            writer: SequentialWriter::new(Arc::clone(&decided), BUFFER_BYTES),
            counts: ExpireCounts::default(),
            refused: None,
            source: None,
            batch: Vec::new(),
            batch_bytes: 0,
        };
        history.each(|row| deciding.take(row))?;
        deciding.end_source()?;
        Ok(Self {
            counts: deciding.counts,
            bytes: deciding.writer.finish()?,
            refused: deciding.refused,
            decided,
            format,
        })
    }

    /// Returns why nothing of this may be done, if so.
    pub fn refused(&mut self) -> Option<MaintenanceError> {
        self.refused.take()
    }

    /// Calls `each` for every snapshot, in the order of sources, the newest first.
    pub fn each<E: From<RepositoryError>>(
        &self,
        mut each: impl FnMut(ExpireRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each_dated(|_, row| each(row))
    }

    /// The same, with the time when the manifest was written.
    fn each_dated<E: From<RepositoryError>>(
        &self,
        mut each: impl FnMut(Timestamp, ExpireRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let file = Arc::clone(&self.decided);
        let mut reader = SequentialReader::new(file, 0..self.bytes, BUFFER_BYTES);
        let mut json = Vec::new();
        loop {
            let Some(length) = reader.next(4).map_err(RepositoryError::from)? else {
                return Ok(());
            };
            let length = length.try_into().map_or(0, u32::from_be_bytes) as usize;
            json.clear();
            while json.len() < length {
                let bytes = (length - json.len()).min(BUFFER_BYTES);
                let piece = reader.next(bytes).map_err(RepositoryError::from)?;
                json.extend_from_slice(piece.ok_or(RepositoryError::Interrupted)?);
            }
            // It was written by the same type.
            let row = serde_json::from_slice(&json).map_err(|_| RepositoryError::Interrupted);
            let (modified_nanos, row) = row?;
            each(Timestamp::from_nanos(modified_nanos), row)?;
        }
    }

    /// Deletes the snapshots that are expired, as `owner` (`user@host`).
    ///
    /// # Errors
    /// What is refused; a repository whose format has changed. Nothing is deleted then.
    pub fn execute(
        mut self,
        repository: &Repository,
        workspace: &Workspace,
        owner: &str,
    ) -> Result<ExpireReport, MaintenanceError> {
        if let Some(error) = self.refused() {
            return Err(error);
        }
        self.format.look(repository)?;
        let now = repository.clock.now();
        let mut writer = ManifestWriter::new(repository, workspace, owner)?;
        self.each_dated(|modified, row| {
            if !row.expire {
                return Ok(());
            }
            // Only a later entry counts, whatever the clock of the client that wrote the first.
            let time = now.max(modified.plus(Duration::from_nanos(1)));
            writer.push(ManifestEntry::tombstone(row.id, time))
        })?;
        Ok(ExpireReport {
            written: writer.finish()?,
            counts: self.counts,
            deleted: true,
        })
    }

    /// Returns the report of a run that deletes nothing.
    pub fn dry_report(&self) -> ExpireReport {
        ExpireReport {
            counts: self.counts.clone(),
            ..ExpireReport::default()
        }
    }
}

/// Returns whether so many of a source's snapshots may not be expired at once.
pub fn are_too_many(expired: u64, snapshots: u64, percent_max: u8) -> bool {
    let share = u128::from(expired) * 100 > u128::from(snapshots) * u128::from(percent_max);
    expired > EXPIRE_MAX || share
}

/// A source that is being decided.
struct Source {
    source: SnapshotSource,
    guard: RetentionGuard,
    snapshots: u64,
    expired: u64,
}

/// The strategy at work.
struct Deciding<'a> {
    now: Timestamp,
    history: &'a SnapshotHistory,
    retention: &'a mut dyn Retention,
    options: &'a ExpireOptions,
    writer: SequentialWriter,
    counts: ExpireCounts,
    refused: Option<MaintenanceError>,
    source: Option<Source>,
    batch: Vec<HistoryRow>,
    batch_bytes: usize,
}

impl Deciding<'_> {
    fn take(&mut self, row: HistoryRow) -> Result<(), MaintenanceError> {
        if !self.options.source.takes(&row.source) {
            return Ok(());
        }
        let same = |known: &Source| known.source == row.source;
        if !self.source.as_ref().is_some_and(same) {
            self.end_source()?;
            self.begin_source(&row.source)?;
        }
        let bytes = row.text_bytes();
        if self.batch.len() == BATCH_ROWS_MAX || self.batch_bytes + bytes > BATCH_BYTES_MAX {
            self.decide()?;
        }
        self.batch_bytes += bytes;
        self.batch.push(row);
        Ok(())
    }

    fn begin_source(&mut self, source: &SnapshotSource) -> Result<(), MaintenanceError> {
        self.retention.begin(&RetentionQuestion {
            source: source.clone(),
            policy: self.history.policies.effective(source),
            now: self.now,
            zone: self.options.zone.clone(),
        })?;
        self.source = Some(Source {
            source: source.clone(),
            guard: RetentionGuard::default(),
            snapshots: 0,
            expired: 0,
        });
        Ok(())
    }

    /// Asks about the batch and writes down the decisions.
    fn decide(&mut self) -> Result<(), MaintenanceError> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let Some(source) = self.source.as_mut().filter(|_| !batch.is_empty()) else {
            return Ok(());
        };
        let decisions = self.retention.decide(&batch)?;
        let strategy = &*self.retention;
        let refuse = |reason| StrategyError::refused(strategy.describe(), &strategy.used(), reason);
        RetentionGuard::check_batch(&batch, &decisions).map_err(refuse)?;
        let name = source.source.to_string();
        for (row, decision) in batch.into_iter().zip(decisions) {
            if let Err(reason) = source.guard.check(&row, decision.expire) {
                self.refused.get_or_insert_with(|| refuse(reason).into());
            }
            source.snapshots += 1;
            source.expired += u64::from(decision.expire);
            let modified_nanos = row.modified.nanos();
            let row = ExpireRow {
                source: name.clone(),
                id: row.id,
                start: row.start,
                incomplete: row.incomplete_reason,
                pins: row.pins,
                expire: decision.expire,
                reason: decision.reason,
            };
            let json = serde_json::to_vec(&(modified_nanos, &row))
                .map_err(|_| RepositoryError::Interrupted)?;
            self.writer.write(&(json.len() as u32).to_be_bytes())?;
            self.writer.write(&json)?;
        }
        Ok(())
    }

    /// Ends the source: were too many of its snapshots expired?
    fn end_source(&mut self) -> Result<(), MaintenanceError> {
        self.decide()?;
        let Some(source) = self.source.take() else {
            return Ok(());
        };
        let Source {
            snapshots, expired, ..
        } = source;
        let percent_max = self.options.percent_max;
        if are_too_many(expired, snapshots, percent_max) {
            self.refused
                .get_or_insert_with(|| MaintenanceError::TooManyExpired {
                    source_name: source.source.to_string(),
                    expired,
                    snapshots,
                    percent_max,
                    maximum: EXPIRE_MAX,
                });
        }
        self.counts.sources += 1;
        self.counts.snapshots += snapshots;
        self.counts.expired += expired;
        Ok(())
    }
}
