//! Writes manifests, live ones or tombstones, as new contents with prefix `m`.
//!
//! As many entries as fit into [`ENTRIES_MAX`] become one content; all contents of a writer appear
//! together, when their index is written. Nothing is read: an entry for an ID that is there already
//! counts when it is later. Memory: the entries of one content, its gzip and its sealed form, some
//! MiB; then that of [`super::pack_writer`]. Mirrors `writeEntriesLocked` of Kopia's
//! `repo/manifest/committed_manifest_manager.go`.

use crate::kopia::content_id::ContentId;
use crate::kopia::index_blob::ContentFormat;
use crate::kopia::manifest::{CONTENT_PREFIX, ManifestEntry, to_gzip_json};

use super::pack_writer::{NewContent, PackWriter, PackWriterStats, Sealed};
use super::{Repository, RepositoryError, Workspace};

/// Entries of one content. For tombstones, which have some 100 bytes; Kopia has no limit.
pub const ENTRIES_MAX: usize = 5_000;

/// A writer of manifests.
pub struct ManifestWriter<'a> {
    repository: &'a Repository,
    packs: PackWriter<'a>,
    entries: Vec<ManifestEntry>,
}

impl<'a> ManifestWriter<'a> {
    /// Makes a writer that acts as `owner` (`user@host`). Nothing is put before the first content.
    pub fn new(
        repository: &'a Repository,
        workspace: &'a Workspace,
        owner: &'a str,
    ) -> Result<Self, RepositoryError> {
        Ok(Self {
            repository,
            packs: PackWriter::new(repository, workspace, owner)?,
            entries: Vec::new(),
        })
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: ManifestEntry) -> Result<(), RepositoryError> {
        self.entries.push(entry);
        if self.entries.len() == ENTRIES_MAX {
            self.write_content()?;
        }
        Ok(())
    }

    /// Writes what is left and the index that shows everything.
    pub fn finish(mut self) -> Result<PackWriterStats, RepositoryError> {
        self.write_content()?;
        self.packs.finish()
    }

    fn write_content(&mut self) -> Result<(), RepositoryError> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let plain = to_gzip_json(&std::mem::take(&mut self.entries));
        let (repository, crypto) = (self.repository, &self.repository.crypto);
        let id = ContentId::from_hash(Some(CONTENT_PREFIX), &crypto.hash.hash(&plain))?;
        let (mut sealed, mut stored) = (Vec::new(), Vec::new());
        crypto
            .encryption
            .seal(id.iv(), repository.random(), &plain, &mut sealed);
        match &crypto.ecc {
            None => stored = sealed,
            Some(ecc) => ecc.encode(&sealed, &mut stored),
        }
        let content = NewContent {
            key: id.key(),
            timestamp_seconds: repository.clock.now().seconds(),
            deleted: false,
            original_length: u32::try_from(plain.len()).unwrap_or(u32::MAX),
            // It is compressed already; Kopia asks for compression again and gives up.
            format: ContentFormat {
                compression_header_id: 0,
                format_version: repository.format.version as u8, // 1 to 3
                encryption_key_id: 0,
            },
        };
        self.packs.append(&content, Sealed::Bytes(&stored))
    }
}
