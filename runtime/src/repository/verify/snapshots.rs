//! `careen verify --snapshots`: walks every snapshot and proves that all that it needs is there.
//!
//! As `kopia snapshot verify` does without reading files: every manifest, directory and index
//! object is read and parsed, every content below has an entry in the index, whose pack is in the
//! store and long enough. It is the mark of snapshot GC, but goes on behind what it finds. Each
//! content is looked at once, however many snapshots share it.
//!
//! Memory: the plan's phases "load and sort", "merge and encode" and "mark", one after the other.
//! Mirrors Kopia's `snapshot/snapshotfs/snapshot_verifier.go`.

use std::cmp::Ordering;
use std::fmt;

use bytesize::ByteSize;
use serde::Serialize;

use crate::kopia::content_id::ContentId;
use crate::kopia::manifest::CONTENT_PREFIX;
use crate::repository::active_index::{ActiveIndex, with_fresh_listings};
use crate::repository::content_table::{ContentStream, ContentTable};
use crate::repository::faults::Faults;
use crate::repository::record::RecordFields;
use crate::repository::snapshots::Snapshots;
use crate::repository::used_contents::{MarkStats, UsedContents, mark_noting};
use crate::repository::{Repository, RepositoryError, Workspace};

use super::Findings;
use super::packs::PackUse;

/// Contents between two reports of progress.
const PROGRESS_CONTENTS: u64 = 4_096;

/// What was walked and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SnapshotsReport {
    /// Snapshots, directories and index objects, each counted once.
    #[serde(flatten)]
    pub walked: MarkStats,
    /// Contents that hold manifests.
    pub manifest_contents: u64,
    /// Contents that snapshots use.
    pub contents_in_use: u64,
    /// Their bytes as stored.
    pub bytes_in_use: u64,
    /// Of them those that are marked deleted: the next snapshot GC brings them back.
    pub deleted_in_use: u64,
    /// Packs that they lie in.
    pub packs: u64,
    /// What is wrong.
    #[serde(flatten)]
    pub found: Findings,
}

/// Walks all snapshots.
///
/// # Errors
/// An index that cannot be loaded, and what keeps us from looking; never what is found below.
pub fn verify_snapshots(
    repository: &Repository,
    workspace: &Workspace,
) -> Result<SnapshotsReport, RepositoryError> {
    let (table, gaps) = with_fresh_listings(|| {
        let active = ActiveIndex::find(repository, workspace)?;
        let gaps = active.check_nothing_vanished().err();
        Ok((ContentTable::load(repository, workspace, &active)?, gaps))
    })?;
    let (faults, mut report) = (Faults::default(), SnapshotsReport::default());
    let snapshots = Snapshots::load_noting(repository, workspace, &table, &faults)?;
    report.manifest_contents = snapshots.manifest_contents();
    let used = mark_noting(repository, workspace, &table, &snapshots, &faults)?;
    drop(snapshots);
    report.walked = used.stats;
    let noted = faults.into_noted();
    let mut comparison = Comparison {
        repository,
        workspace,
        table: &table,
        used: &used,
        report,
    };
    comparison.report.found = noted.damaged;
    comparison.report.found.add_gaps(gaps)?;
    comparison.run(noted.packs, noted.not_found)?;
    Ok(comparison.report)
}

/// Contents in use against the index and the packs.
struct Comparison<'a> {
    repository: &'a Repository,
    workspace: &'a Workspace,
    table: &'a ContentTable,
    used: &'a UsedContents,
    report: SnapshotsReport,
}

impl<'a> Comparison<'a> {
    fn run(&mut self, unread: Findings, not_found: u64) -> Result<(), RepositoryError> {
        let (progress, total) = (&self.workspace.progress, self.table.contents());
        progress.begin("compare with all contents", "contents", Some(total));
        let packs = self.compare_with_index(not_found)?;
        progress.end();
        let compared = packs.compare(self.repository, self.workspace)?;
        self.report.packs = compared.packs;
        let Some(limits) = compared.limits else {
            // The listing says that all is well, but some pack could not be read.
            self.report.found.append(unread);
            return Ok(());
        };
        let (table, mut used) = (self.table, self.used.merge()?);
        used.advance()?;
        let mut records = table.stream()?;
        while let Some(record) = records.next()? {
            let (key, fields) = (table.key(record), table.fields(record));
            while used.current().is_some_and(|used| used < key) {
                used.advance()?;
            }
            let in_use = used.current() == Some(key);
            if in_use || is_manifest(key, &fields) {
                limits.check(&table.packs, key, &fields, &mut self.report.found)?;
            }
        }
        Ok(())
    }

    /// Names the contents that the index does not have; returns how far the others reach.
    fn compare_with_index(&mut self, not_found: u64) -> Result<PackUse<'a>, RepositoryError> {
        let (table, mut used) = (self.table, self.used.merge()?);
        used.advance()?;
        let mut missing = Missing {
            dropped: Dropped::new(table)?,
            named: 0,
        };
        let mut packs = PackUse::new(self.workspace, &table.packs)?;
        let (mut records, mut seen) = (table.stream()?, 0u64);
        while let Some(record) = records.next()? {
            let (key, fields) = (table.key(record), table.fields(record));
            let mut order = Ordering::Greater;
            while let Some(next) = used.current() {
                order = next.cmp(key);
                if order == Ordering::Greater {
                    break;
                }
                if order == Ordering::Less {
                    missing.name(next, &mut self.report.found)?;
                }
                used.advance()?;
                if order == Ordering::Equal {
                    break;
                }
                order = Ordering::Greater;
            }
            if order == Ordering::Equal {
                self.report.contents_in_use += 1;
                self.report.bytes_in_use += u64::from(fields.packed_length);
                self.report.deleted_in_use += u64::from(fields.deleted);
            }
            if order == Ordering::Equal || is_manifest(key, &fields) {
                packs.note(&fields);
            }
            seen += 1;
            if seen.is_multiple_of(PROGRESS_CONTENTS) {
                self.workspace.progress.advance(PROGRESS_CONTENTS);
            }
        }
        while let Some(next) = used.current() {
            missing.name(next, &mut self.report.found)?;
            used.advance()?;
        }
        if missing.named == 0 && not_found > 0 {
            let text = "an object ID has a content ID of another length than this repository's";
            let found = &mut self.report.found;
            found.add("content-not-found", None, None, text.to_owned());
        }
        Ok(packs)
    }
}

/// Returns whether a content holds manifests that count.
fn is_manifest(key: &[u8], fields: &RecordFields) -> bool {
    key.first() == Some(&CONTENT_PREFIX) && !fields.deleted
}

/// Names contents in use without an entry, in the order of keys.
struct Missing {
    dropped: Dropped,
    named: u64,
}

impl Missing {
    fn name(&mut self, key: &[u8], found: &mut Findings) -> Result<(), RepositoryError> {
        let text = match self.dropped.has(key)? {
            true => "a snapshot uses it; it was deleted, and its entry is dropped",
            false => "a snapshot uses it; it is not in the index",
        };
        self.named += 1;
        let content = Some(ContentId::from_key(key)?);
        found.add("content-not-found", None, content, text.to_owned());
        Ok(())
    }
}

/// Keys of contents whose tombstones readers do not see any more.
struct Dropped {
    keys: ContentStream,
    current: Option<Vec<u8>>,
}

impl Dropped {
    fn new(table: &ContentTable) -> Result<Self, RepositoryError> {
        let mut keys = table.dropped_keys();
        let current = keys.next()?.map(<[u8]>::to_vec);
        Ok(Self { keys, current })
    }

    /// Returns whether `key`, which is larger than any before, is among them.
    fn has(&mut self, key: &[u8]) -> Result<bool, RepositoryError> {
        while let Some(current) = self.current.as_mut().filter(|current| &current[..] < key) {
            match self.keys.next()? {
                Some(next) => current.copy_from_slice(next),
                None => self.current = None,
            }
        }
        Ok(self.current.as_deref() == Some(key))
    }
}

impl fmt::Display for SnapshotsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let walked = &self.walked;
        writeln!(
            f,
            "snapshots:   {}, with {} directories and {} index objects of large files",
            walked.snapshots, walked.directories, walked.index_objects
        )?;
        writeln!(
            f,
            "contents:    {} in use, {}, in {} packs",
            self.contents_in_use,
            ByteSize(self.bytes_in_use),
            self.packs
        )?;
        if self.deleted_in_use > 0 {
            let count = self.deleted_in_use;
            writeln!(
                f,
                "note: {count} of them are marked deleted; the next snapshot GC brings them back"
            )?;
        }
        self.found.fmt(f)
    }
}
