//! Compaction of manifests: when they lie in many contents, all of them are written into one, and
//! the old contents become deleted.
//!
//! Kopia does it on its own, whenever a client that may write finds 16 contents or more; so does a
//! run, before its first task. It is no task of the schedule. The new content is in the index
//! before the old ones are deleted: after a crash between the two there are manifests twice, which
//! say the same. A manifest that somebody else writes meanwhile lies in a content that we have not
//! read, and stays.
//!
//! Memory: one content of [`CONTENT_BYTES`] compressed, sealed besides, and a pack writer. What
//! does not fit into one content goes into a few. Mirrors `maybeCompactLocked` of Kopia's
//! `repo/manifest/committed_manifest_manager.go`.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::clock::Timestamp;
use crate::kopia::content_id::ContentId;
use crate::kopia::index_blob::ContentFormat;
use crate::kopia::manifest::{CONTENT_PREFIX, ManifestEntry};
use crate::repository::content_table::ContentTable;
use crate::repository::new_entries::NewEntries;
use crate::repository::pack_writer::{NewContent, PackWriter, Sealed, next_timestamp};
use crate::repository::record::RecordFields;
use crate::repository::system_contents::{SystemContents, read_manifests};
use crate::repository::{Repository, RepositoryError, Workspace};

use super::MaintenanceError;

/// Kopia's threshold: so many contents are compacted.
pub const CONTENTS_MIN: u64 = 16;

/// Compressed manifests after which a content ends, in bytes. Kopia knows no limit; some ten
/// thousand snapshots fit.
const CONTENT_BYTES: usize = 4 * 1024 * 1024;

/// Contents are compacted only where so many times fewer are left.
const FEWER: u64 = 4;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ManifestsCompacted {
    /// Manifests.
    pub manifests: u64,
    /// Contents that hold them now.
    pub written: u64,
    /// Contents that became deleted.
    pub deleted: u64,
}

/// Tells whether so many contents of so many bytes are to be compacted.
pub fn is_due(contents: u64, bytes: u64) -> bool {
    let left = bytes / CONTENT_BYTES as u64 + 1;
    contents >= CONTENTS_MIN && contents >= left.saturating_mul(FEWER)
}

/// Compacts all manifests of a repository; the table must have been read just before.
///
/// # Errors
/// A manifest content that cannot be read: nothing is written then.
pub fn compact_manifests(
    repository: &Repository,
    workspace: &Workspace,
    table: &ContentTable,
    owner: &str,
    now: Timestamp,
) -> Result<ManifestsCompacted, MaintenanceError> {
    let system = SystemContents::of_table(table)?;
    let manifests = read_manifests(repository, workspace, system, &[])?;
    let mut writing = Writing {
        repository,
        table,
        now,
        packs: PackWriter::new(repository, workspace, owner)?,
        content: Content::begin(),
        keys: Vec::new(),
        done: ManifestsCompacted::default(),
    };
    manifests.each(|entry| writing.add(&entry))?;
    if writing.done.manifests == 0 {
        return Ok(writing.done); // as Kopia: nothing is written, so nothing is deleted
    }
    writing.end_content()?;
    let (keys, mut done) = (writing.keys, writing.done);
    writing.packs.finish()?;
    let mut tombstones = NewEntries::create(workspace, table)?;
    let mut stream = table.stream_prefix(CONTENT_PREFIX)?;
    while let Some(record) = stream.next()? {
        let (key, fields) = (table.key(record), table.fields(record));
        if fields.deleted || keys.iter().any(|written| written == key) {
            continue;
        }
        let tombstone = RecordFields {
            deleted: true,
            timestamp_seconds: next_timestamp(now, fields.timestamp_seconds),
            ..fields
        };
        tombstones.push(key, &tombstone)?;
    }
    done.deleted = tombstones.len();
    tombstones.write(repository, workspace)?;
    Ok(done)
}

/// A content that is being filled.
struct Content {
    gzip: GzEncoder<Vec<u8>>,
    entries: u64,
}

impl Content {
    fn begin() -> Self {
        Self {
            gzip: GzEncoder::new(Vec::new(), Compression::default()),
            entries: 0,
        }
    }

    fn add(&mut self, entry: &ManifestEntry) {
        let before: &[u8] = match self.entries {
            0 => b"{\"entries\":[",
            _ => b",",
        };
        self.gzip.write_all(before).expect(WHY);
        serde_json::to_writer(&mut self.gzip, entry).expect(WHY);
        self.entries += 1;
    }

    fn end(mut self) -> Vec<u8> {
        self.gzip.write_all(b"]}\n").expect(WHY);
        self.gzip.finish().expect(WHY)
    }
}

const WHY: &str = "writing to memory, of values that always serialise";

/// The new contents on their way to packs.
struct Writing<'a> {
    repository: &'a Repository,
    table: &'a ContentTable,
    now: Timestamp,
    packs: PackWriter<'a>,
    content: Content,
    /// Keys of the contents that hold the manifests now: a few.
    keys: Vec<Vec<u8>>,
    done: ManifestsCompacted,
}

impl Writing<'_> {
    fn add(&mut self, entry: &ManifestEntry) -> Result<(), RepositoryError> {
        self.content.add(entry);
        self.done.manifests += 1;
        if self.content.gzip.get_ref().len() >= CONTENT_BYTES {
            self.end_content()?;
        }
        Ok(())
    }

    /// Writes the content, unless there is a live one with the same bytes.
    fn end_content(&mut self) -> Result<(), RepositoryError> {
        let content = std::mem::replace(&mut self.content, Content::begin());
        if content.entries == 0 {
            return Ok(());
        }
        let plain = content.end();
        let repository = self.repository;
        let hash = repository.crypto.hash.hash(&plain);
        let id = ContentId::from_hash(Some(CONTENT_PREFIX), &hash)?;
        let key = id.key().to_vec();
        let old = self.entry_of(&key)?;
        if old.is_none_or(|old| old.deleted) {
            let content = NewContent {
                key: &key,
                timestamp_seconds: old.map_or(self.now.seconds(), |old| {
                    next_timestamp(self.now, old.timestamp_seconds)
                }),
                deleted: false,
                original_length: plain.len() as u32, // some MiB
                format: ContentFormat {
                    compression_header_id: 0,
                    format_version: u8::try_from(repository.format.version).unwrap_or(u8::MAX),
                    encryption_key_id: 0,
                },
            };
            let sealed = seal(repository, &id, &plain);
            self.packs.append(&content, Sealed::Bytes(&sealed))?;
            self.done.written += 1;
        }
        self.keys.push(key);
        Ok(())
    }

    /// Returns the entry that the table has for a key.
    fn entry_of(&self, key: &[u8]) -> Result<Option<RecordFields>, RepositoryError> {
        let mut stream = self.table.stream_prefix(CONTENT_PREFIX)?;
        while let Some(record) = stream.next()? {
            if self.table.key(record) == key {
                return Ok(Some(self.table.fields(record)));
            }
        }
        Ok(None)
    }
}

/// Seals a content as it lies in a pack.
fn seal(repository: &Repository, id: &ContentId, plain: &[u8]) -> Vec<u8> {
    let crypto = &repository.crypto;
    let mut sealed = Vec::new();
    crypto
        .encryption
        .seal(id.iv(), repository.random(), plain, &mut sealed);
    match &crypto.ecc {
        None => sealed,
        Some(ecc) => {
            let mut encoded = Vec::new();
            ecc.encode(&sealed, &mut encoded);
            encoded
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_contents_are_due_and_large_ones_only_where_it_helps() {
        let chunk = CONTENT_BYTES as u64;
        assert!(!is_due(15, 100));
        assert!(is_due(16, 100));
        assert!(
            is_due(16, 3 * chunk) && !is_due(16, 4 * chunk),
            "four would be left, or five"
        );
        assert!(is_due(1_000, 4 * chunk));
    }
}
