//! The snapshots of a repository by source, the newest first, and the policies: what retention is
//! decided on.
//!
//! Snapshots are sorted through scratch: first the source's name, then start and end, later ones
//! first, as Kopia orders them; of equal ones the smaller ID's hash. Anything that cannot be read
//! is an error: what is not seen cannot be kept.
//!
//! Memory: one small sort buffer, then one merge; one snapshot of at most [`ROW_BYTES_MAX`]; the
//! policies. Mirrors `ListSnapshots`, `GroupBySource` and `SortByTime` of Kopia's `snapshot`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::kopia::FormatError;
use crate::kopia::manifest::ManifestEntry;
use crate::kopia::policy::{MANIFEST_TYPE as POLICY, POLICY_BYTES_MAX, PolicyTree};
use crate::kopia::snapshot_manifest::{
    MANIFEST_TYPE as SNAPSHOT, SnapshotManifest, SnapshotSource,
};
use crate::spill::{Runs, ScratchFile, SortBuffer, SortShape, Sorter};

use super::active_index::load_active;
use super::content_requests::small_sort;
use super::index_load::Strictness;
use super::system_contents::{SystemContents, read_manifests};
use super::{Repository, RepositoryError, Workspace};

/// Largest row, in bytes of its JSON: ID, source, tags, pins.
pub const ROW_BYTES_MAX: usize = 256 * 1024;

/// Sort buffer, in bytes.
const BUFFER_BYTES: usize = 512 * 1024;

/// Bytes of the source's name that are sorted by; sources whose names begin alike are told apart by
/// a hash.
const NAME_BYTES: usize = 64;
const HASH_BYTES: usize = 16;
const TIMES_AT: usize = NAME_BYTES + HASH_BYTES;
const ID_AT: usize = TIMES_AT + 16;
/// Offset and length in the spool.
const PAYLOAD_AT: usize = ID_AT + HASH_BYTES;
const RECORD_BYTES: usize = PAYLOAD_AT + 12;

/// One snapshot, as far as retention is concerned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// The manifest's ID.
    pub id: String,
    /// What was saved.
    pub source: SnapshotSource,
    /// When it began, in nanoseconds since 1970.
    #[serde(with = "nanos")]
    pub start: Timestamp,
    /// When it ended.
    #[serde(with = "nanos")]
    pub end: Timestamp,
    /// When the manifest was written.
    #[serde(with = "nanos")]
    pub modified: Timestamp,
    /// Why it is incomplete; empty when it is complete.
    pub incomplete_reason: String,
    /// What keeps it from being expired.
    pub pins: Vec<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Bytes of all its files, where it says so.
    pub size_bytes: Option<u64>,
}

impl HistoryRow {
    /// Reads a manifest of type `snapshot`.
    fn of(entry: &ManifestEntry) -> Result<Self, FormatError> {
        let manifest = SnapshotManifest::parse(&entry.id, entry.data.get().as_bytes())?;
        let summary = manifest.root.summary;
        Ok(Self {
            id: manifest.id,
            source: manifest.source,
            start: manifest.start,
            end: manifest.end,
            modified: entry.modified,
            incomplete_reason: manifest.incomplete_reason,
            pins: manifest.pins,
            tags: manifest.tags,
            size_bytes: summary.and_then(|summary| u64::try_from(summary.size).ok()),
        })
    }

    /// Returns whether everything was saved.
    pub fn is_complete(&self) -> bool {
        self.incomplete_reason.is_empty()
    }
}

/// The snapshots and the policies.
pub struct SnapshotHistory {
    /// The policies.
    pub policies: PolicyTree,
    rows: Runs,
    spool: ScratchFile,
}

impl SnapshotHistory {
    /// Reads all manifests of snapshots and policies.
    ///
    /// # Errors
    /// Any manifest that cannot be read; policies above [`POLICY_BYTES_MAX`].
    pub fn load(repository: &Repository, workspace: &Workspace) -> Result<Self, RepositoryError> {
        let (_, loaded) = load_active(repository, workspace, None, Strictness::ForReading)?;
        let system = SystemContents::of_loaded(&loaded)?;
        let manifests = read_manifests(repository, workspace, system, &[SNAPSHOT, POLICY])?;
        let shape = SortShape {
            record_bytes: RECORD_BYTES,
            group: None,
        };
        let memory = small_sort(workspace, BUFFER_BYTES, 1);
        let sorter = Sorter::new(workspace.scratch.clone(), shape, memory);
        let spool = workspace.scratch.create_file("snapshots")?;
        let mut buffer = sorter.buffer();
        let mut policies = PolicyTree::default();
        let read = manifests.each(|entry| match entry.kind() {
            Some(POLICY) => {
                policies.add(&entry)?;
                if policies.bytes() > POLICY_BYTES_MAX {
                    return Err(RepositoryError::TooMany {
                        what: "bytes of retention policies",
                        maximum: POLICY_BYTES_MAX,
                    });
                }
                Ok(())
            }
            _ => push(&HistoryRow::of(&entry)?, &spool, &mut buffer),
        });
        buffer.finish()?;
        read?;
        Ok(Self {
            policies,
            rows: sorter.finish()?,
            spool,
        })
    }

    /// Calls `each` for every snapshot: all of one source together, the newest first.
    pub fn each<E: From<RepositoryError>>(
        &self,
        mut each: impl FnMut(HistoryRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut merge = self.rows.merge().map_err(RepositoryError::from)?;
        while let Some(record) = merge.next().map_err(RepositoryError::from)? {
            each(self.row(record)?)?;
        }
        Ok(())
    }

    fn row(&self, record: &[u8]) -> Result<HistoryRow, RepositoryError> {
        let payload = record.get(PAYLOAD_AT..).unwrap_or_default();
        let (Some(at), Some(bytes)) = (payload.first_chunk(), payload.last_chunk()) else {
            return Err(RepositoryError::Interrupted);
        };
        let mut json = vec![0; u32::from_be_bytes(*bytes) as usize];
        self.spool
            .read_exact_at(&mut json, u64::from_be_bytes(*at))?;
        // It was written by the same type.
        serde_json::from_slice(&json).map_err(|_| RepositoryError::Interrupted)
    }
}

fn push(
    row: &HistoryRow,
    spool: &ScratchFile,
    buffer: &mut SortBuffer,
) -> Result<(), RepositoryError> {
    let json = serde_json::to_vec(row).map_err(|_| RepositoryError::Interrupted)?;
    if json.len() > ROW_BYTES_MAX {
        let reason = format!("more than {ROW_BYTES_MAX} bytes of tags, pins and names");
        let what = format!("snapshot manifest {}", row.id);
        return Err(FormatError::malformed(what, reason).into());
    }
    let at = spool.append(&json)?;
    buffer.push_with(|record| {
        let name = row.source.to_string();
        let name = &name.as_bytes()[..name.len().min(NAME_BYTES)];
        record[..name.len()].copy_from_slice(name);
        let mut source = Sha256::new();
        for text in [&row.source.user, &row.source.host, &row.source.path] {
            source.update((text.len() as u64).to_be_bytes());
            source.update(text);
        }
        record[NAME_BYTES..TIMES_AT].copy_from_slice(&source.finalize()[..HASH_BYTES]);
        for (place, time) in [(TIMES_AT, row.start), (TIMES_AT + 8, row.end)] {
            let inverted = !(time.nanos() as u64 ^ (1 << 63));
            record[place..place + 8].copy_from_slice(&inverted.to_be_bytes());
        }
        let id = Sha256::digest(row.id.as_bytes());
        record[ID_AT..PAYLOAD_AT].copy_from_slice(&id[..HASH_BYTES]);
        record[PAYLOAD_AT..PAYLOAD_AT + 8].copy_from_slice(&at.to_be_bytes());
        record[PAYLOAD_AT + 8..].copy_from_slice(&(json.len() as u32).to_be_bytes());
    })?;
    Ok(())
}

/// Times in scratch: every one comes back as it was.
mod nanos {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::clock::Timestamp;

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(time.nanos())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(from).map(Timestamp::from_nanos)
    }
}
