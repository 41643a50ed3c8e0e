//! `careen snapshot list`: all snapshots by source, then time.
//!
//! Needs no content but the manifests. Memory: a load without contents, and that of
//! [`super::snapshot_order`]. Invariant: the order is always the same, and snapshots of one source
//! are neighbours. Mirrors Kopia's `snapshot list --all`.

use std::collections::BTreeMap;
use std::fmt;

use bytesize::ByteSize;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::kopia::snapshot_manifest::{MANIFEST_TYPE, SnapshotManifest};
use crate::kopia::source_filter::SourceFilter;

use super::active_index::load_active;
use super::index_load::Strictness;
use super::snapshot_order::{First, SnapshotSorter};
use super::system_contents::{SystemContents, read_manifests};
use super::{Repository, RepositoryError, Workspace};

/// Which snapshots are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// Those of these sources.
    pub source: SourceFilter,
    /// Incomplete ones too.
    pub incomplete: bool,
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotRow {
    /// `user@host:/path`.
    pub source: String,
    /// ID of its manifest.
    pub id: String,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Object ID of its root.
    pub root: String,
    /// Bytes of all files, where the snapshot says so.
    pub size_bytes: Option<i64>,
    /// Files, where the snapshot says so.
    pub files: Option<i64>,
    /// Directories, where the snapshot says so.
    pub directories: Option<i64>,
    /// Entries that could not be read when it was saved, where the snapshot says so.
    pub failed: Option<i64>,
    /// Why it is incomplete, if it is.
    pub incomplete_reason: Option<String>,
    /// What keeps it from being expired.
    pub pins: Vec<String>,
    /// The user's tags.
    pub tags: BTreeMap<String, String>,
    /// What the user says about it.
    pub description: String,
}

impl From<SnapshotManifest> for SnapshotRow {
    fn from(manifest: SnapshotManifest) -> Self {
        let summary = manifest.root.summary.as_ref();
        Self {
            source: manifest.source.to_string(),
            start: manifest.start,
            end: manifest.end,
            root: manifest.root.object.to_string(),
            size_bytes: summary.map(|summary| summary.size),
            files: summary.map(|summary| summary.files),
            directories: summary.map(|summary| summary.dirs),
            failed: summary.map(|summary| summary.failed),
            incomplete_reason: Some(manifest.incomplete_reason).filter(|reason| !reason.is_empty()),
            pins: manifest.pins,
            tags: manifest.tags,
            description: manifest.description,
            id: manifest.id,
        }
    }
}

/// Calls `each` for every snapshot that `filter` lets through, until it returns false. Returns how
/// many were left out because they are incomplete.
///
/// # Errors
/// An index or manifest that cannot be read: a listing that leaves snapshots out would be wrong.
pub fn list_snapshots(
    repository: &Repository,
    workspace: &Workspace,
    filter: &SnapshotFilter,
    each: &mut dyn FnMut(&SnapshotRow) -> bool,
) -> Result<u64, RepositoryError> {
    let strictness = Strictness::ForReading;
    let (active, loaded) = load_active(repository, workspace, None, strictness)?;
    active.check_nothing_vanished()?;
    let system = SystemContents::of_loaded(&loaded)?;
    let manifests = read_manifests(repository, workspace, system, &[MANIFEST_TYPE])?;
    let (mut sorter, mut hidden) = (SnapshotSorter::new(workspace, First::Oldest), 0);
    manifests.each_placed(|place, entry| {
        let manifest = SnapshotManifest::parse(&entry.id, entry.data.get().as_bytes())?;
        if !filter.source.takes(&manifest.source) {
            return Ok(());
        }
        if !manifest.is_complete() && !filter.incomplete {
            hidden += 1;
            return Ok(());
        }
        sorter.push(place, &manifest)
    })?;
    let sorted = sorter.finish()?;
    sorted.each(&manifests, |_, manifest| {
        Ok::<bool, RepositoryError>(each(&manifest.into()))
    })?;
    Ok(hidden)
}

impl fmt::Display for SnapshotRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = Timestamp::from_seconds(self.start.seconds()).to_string();
        write!(f, "  {seconds}  {}  {:<34}", self.id, self.root)?;
        if let (Some(bytes), Some(files)) = (self.size_bytes, self.files) {
            let size = ByteSize(u64::try_from(bytes).unwrap_or(0)).to_string();
            write!(f, "  {size:>10}  {files:>8} files")?;
            if let Some(directories) = self.directories {
                write!(f, "  {directories:>6} dirs")?;
            }
        }
        if let Some(failed) = self.failed.filter(|failed| *failed > 0) {
            write!(f, "  {failed} failed")?;
        }
        if let Some(reason) = &self.incomplete_reason {
            write!(f, "  incomplete: {reason}")?;
        }
        if !self.pins.is_empty() {
            write!(f, "  pins: {}", self.pins.join(", "))?;
        }
        for (number, (name, value)) in self.tags.iter().enumerate() {
            let name = name.strip_prefix("tag:").unwrap_or(name);
            let before = if number == 0 { "  tags: " } else { ", " };
            write!(f, "{before}{name}={value}")?;
        }
        Ok(())
    }
}
