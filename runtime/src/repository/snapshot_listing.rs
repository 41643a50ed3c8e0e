//! `careen snapshot list`: all snapshots by source, then time.
//!
//! Needs no content but the manifests. They are sorted on disk by the first bytes of their source,
//! a hash of it, and their time, and come back one by one. Memory: a load without contents, one
//! sort buffer, one manifest. Invariant: the order is always the same, and snapshots of one source
//! are neighbours; sources are in order as far as [`SOURCE_BYTES`] tell. Mirrors Kopia's
//! `snapshot list --all`.

use std::collections::BTreeMap;
use std::fmt;

use bytesize::ByteSize;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::kopia::snapshot_manifest::{MANIFEST_TYPE, SnapshotManifest};
use crate::spill::Runs;

use super::active_index::load_active;
use super::index_load::Strictness;
use super::system_contents::{
    ManifestPlace, Manifests, PAYLOAD_BYTES, SystemContents, read_manifests,
};
use super::{Repository, RepositoryError, Workspace};

/// Bytes of a source that it is sorted by; longer ones are told apart by a hash.
const SOURCE_BYTES: usize = 96;

/// Bytes of that hash.
const HASH_BYTES: usize = 16;

/// Where the time begins in a record, of 8 bytes, with eight bytes of the manifest ID's hash behind
/// it, so that the order is the same in every run.
const TIME_AT: usize = SOURCE_BYTES + HASH_BYTES;

/// Width of a record: source, hash, time, ID, place.
const RECORD_BYTES: usize = TIME_AT + 16 + PAYLOAD_BYTES;

/// Which snapshots are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// Only those of this source, `user@host:/path`, or of all sources of `user@host`.
    pub source: Option<String>,
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
    let (sorted, hidden) = sort(workspace, &manifests, filter)?;
    let mut merge = sorted.merge()?;
    while let Some(record) = merge.next()? {
        let place = record.last_chunk().ok_or(RepositoryError::Interrupted)?;
        let entry = manifests.at(ManifestPlace(*place))?;
        let entry = entry.ok_or(RepositoryError::Interrupted)?;
        let manifest = SnapshotManifest::parse(&entry.id, entry.data.get().as_bytes())?;
        if !each(&manifest.into()) {
            break;
        }
    }
    Ok(hidden)
}

/// Sorts what the filter lets through; says how many it left out as incomplete.
fn sort(
    workspace: &Workspace,
    manifests: &Manifests,
    filter: &SnapshotFilter,
) -> Result<(Runs, u64), RepositoryError> {
    let sorter = workspace.sorter(RECORD_BYTES);
    let (mut buffer, mut hidden) = (sorter.buffer(), 0);
    manifests.each_placed(|place, entry| {
        let manifest = SnapshotManifest::parse(&entry.id, entry.data.get().as_bytes())?;
        let source = manifest.source.to_string();
        let wanted = filter.source.as_ref();
        let wanted = wanted.is_none_or(|wanted| is_of(&source, wanted));
        if !wanted {
            return Ok(());
        }
        if !manifest.is_complete() && !filter.incomplete {
            hidden += 1;
            return Ok(());
        }
        buffer.push_with(|out| encode(out, &source, &manifest, place))?;
        Ok::<(), RepositoryError>(())
    })?;
    buffer.finish()?;
    Ok((sorter.finish()?, hidden))
}

/// Returns whether `source` is the one that is wanted, or of the `user@host` that is wanted.
fn is_of(source: &str, wanted: &str) -> bool {
    let rest = source.strip_prefix(wanted);
    rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with(':') && !wanted.contains(':')))
}

fn encode(out: &mut [u8], source: &str, manifest: &SnapshotManifest, place: ManifestPlace) {
    let (head, rest) = out.split_at_mut(TIME_AT);
    let shown = source.len().min(SOURCE_BYTES);
    head.fill(0);
    head[..shown].copy_from_slice(&source.as_bytes()[..shown]);
    head[SOURCE_BYTES..].copy_from_slice(&Sha256::digest(source)[..HASH_BYTES]);
    // The sign turned, so that times before 1970 come first.
    let time = manifest.start.nanos() as u64 ^ (1 << 63);
    rest[..8].copy_from_slice(&time.to_be_bytes());
    rest[8..16].copy_from_slice(&Sha256::digest(&manifest.id)[..8]);
    rest[16..].copy_from_slice(&place.0);
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
