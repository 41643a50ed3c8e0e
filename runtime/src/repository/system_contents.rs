//! Reads the manifests: of every ID the entry that counts.
//!
//! Manifests lie in contents with prefix `m`; each content holds many, and a manifest may have
//! several entries in different contents. The later one counts (of two equal ones that of the
//! smaller content ID, so that the answer is always the same); one that is a deletion hides the
//! manifest. All contents are read once, in pack order, by the first task of a run that wants them;
//! what was read is on the shelf of the scratch for the others. Entries are sorted by ID, and what
//! they say waits in scratch. Anything that cannot be read is an error: snapshot GC takes its roots
//! from here.
//!
//! Memory: the buffers of [`super::content_requests`], two sort buffers, half a MiB of a content
//! and one manifest of at most 16 MiB a worker. Mirrors Kopia's `committed_manifest_manager.go`.

use std::io::Read;
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::kopia::index_blob::ContentFormat;
use crate::kopia::maintenance_params::{self, MaintenanceParams};
use crate::kopia::manifest::{CONTENT_PREFIX, ManifestEntry, read_gzip_entries};
use crate::memory::WORKERS;
use crate::spill::{
    Group, Merge, Runs, Scratch, ScratchFile, SequentialReader, SortBuffer, SortShape, Sorter,
};

use super::content_requests::{
    Body, ContentRequests, ContentSource, Requested, TakeContents, small_sort,
};
use super::content_table::{ContentStream, ContentTable};
use super::faults::Faults;
use super::index_load::Loaded;
use super::pack_names::PackTable;
use super::record::RecordLayout;
use super::winners::Winners;
use super::{Repository, RepositoryError, Workspace};

/// Sort buffer of entries, in bytes.
const BUFFER_BYTES: usize = 512 * 1024;

/// Bytes of a content that are kept in memory; what is longer waits in scratch to be read.
const FRONT_BYTES_MAX: usize = 512 * 1024;

/// Buffer for reading it back, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// Bytes of an ID's hash. IDs are 32 hex digits, but a manifest with another one counts too.
const ID_BYTES: usize = 16;

/// Where the manifests of a repository are.
pub struct SystemContents<'a> {
    records: Source,
    layout: RecordLayout,
    packs: &'a PackTable,
    formats: &'a [ContentFormat],
}

enum Source {
    Loaded(Box<Winners<Merge>>),
    Table(ContentStream),
}

impl<'a> SystemContents<'a> {
    /// Finds them in a load, which has put them aside.
    pub fn of_loaded(loaded: &'a Loaded) -> Result<Self, RepositoryError> {
        let winners = Winners::new(loaded.system.merge()?, loaded.layout);
        Ok(Self {
            records: Source::Loaded(Box::new(winners)),
            layout: loaded.layout,
            packs: &loaded.packs,
            formats: &loaded.formats,
        })
    }

    /// Finds them in a table of all contents.
    pub fn of_table(table: &'a ContentTable) -> Result<Self, RepositoryError> {
        let stream = table.stream_prefix(CONTENT_PREFIX)?;
        Ok(Self {
            records: Source::Table(stream),
            layout: table.layout,
            packs: &table.packs,
            formats: &table.formats,
        })
    }

    fn next(&mut self) -> Result<Option<&[u8]>, RepositoryError> {
        match &mut self.records {
            Source::Loaded(winners) => winners.next(self.packs),
            Source::Table(stream) => stream.next(),
        }
    }
}

/// All manifests of some types, as they are now.
pub struct Manifests {
    entries: Runs,
    spool: ScratchFile,
    /// Manifest contents read.
    pub contents: u64,
}

/// How many manifest contents there are, and their bytes as stored. Reads none of them.
pub fn count_manifest_contents(
    mut system: SystemContents<'_>,
) -> Result<(u64, u64), RepositoryError> {
    let (layout, mut contents, mut bytes) = (system.layout, 0, 0);
    while let Some(record) = system.next()? {
        let fields = layout.fields(record);
        if !fields.deleted {
            contents += 1;
            bytes += u64::from(fields.packed_length);
        }
    }
    Ok((contents, bytes))
}

/// Reads the manifests whose type is one of `kinds`; none given means all.
///
/// # Errors
/// A content that cannot be read, whatever is in it.
pub fn read_manifests(
    repository: &Repository,
    workspace: &Workspace,
    system: SystemContents<'_>,
    kinds: &[&str],
) -> Result<Manifests, RepositoryError> {
    read_manifests_noting(repository, workspace, system, kinds, None)
}

/// Does the same, and goes on behind contents that cannot be read where `faults` take note of them.
pub(super) fn read_manifests_noting(
    repository: &Repository,
    workspace: &Workspace,
    mut system: SystemContents<'_>,
    kinds: &[&str],
    faults: Option<&Faults>,
) -> Result<Manifests, RepositoryError> {
    let (layout, packs) = (system.layout, system.packs);
    let mut requests = ContentRequests::new(workspace, layout.key_bytes);
    let mut contents = 0;
    while let Some(record) = system.next()? {
        let mut fields = layout.fields(record);
        if fields.deleted {
            continue; // above the watermark or not, a deleted content says nothing any more
        }
        fields.pack = packs.canonical(fields.pack);
        requests.push(layout.key(record), &fields, 0, 0)?;
        contents += 1;
    }
    let shape = EntryLayout {
        key_bytes: layout.key_bytes,
    }
    .shape();
    let memory = small_sort(workspace, BUFFER_BYTES, WORKERS);
    let sorter = Sorter::new(workspace.scratch.clone(), shape, memory);
    let spool = workspace.scratch.create_file("manifests")?;
    let mut readers: Vec<EntryReader<'_>> = (0..WORKERS)
        .map(|_| EntryReader {
            layout: EntryLayout {
                key_bytes: layout.key_bytes,
            },
            kinds,
            entries: sorter.buffer(),
            spool: &spool,
            scratch: &workspace.scratch,
        })
        .collect();
    let source = ContentSource {
        packs,
        formats: system.formats,
    };
    let progress = &workspace.progress;
    progress.begin("read manifests", "contents", Some(contents));
    let requests = requests.finish()?.shelved();
    let read = requests.read(repository, workspace, source, None, faults, &mut readers);
    for reader in readers {
        reader.entries.finish()?;
    }
    progress.end();
    read?;
    Ok(Manifests {
        entries: sorter.finish()?,
        spool,
        contents,
    })
}

impl Manifests {
    /// Calls `each` for every manifest, in an order that is always the same.
    pub fn each<E: From<RepositoryError>>(
        &self,
        mut each: impl FnMut(ManifestEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each_placed(|_, entry| each(entry))
    }

    /// Does the same, and says where the manifest is, for [`Manifests::at`].
    pub fn each_placed<E: From<RepositoryError>>(
        &self,
        mut each: impl FnMut(ManifestPlace, ManifestEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut merge = self.entries.merge().map_err(RepositoryError::from)?;
        let mut last = None;
        while let Some(record) = merge.next().map_err(RepositoryError::from)? {
            let id: Option<[u8; ID_BYTES]> = record.first_chunk().copied();
            // Equal ranks are left only where one content has an ID twice: the first counts.
            if last.replace(id) == Some(id) {
                continue;
            }
            let place = record.last_chunk().ok_or(RepositoryError::Interrupted)?;
            let place = ManifestPlace(*place);
            if let Some(entry) = self.at(place)? {
                each(place, entry)?;
            }
        }
        Ok(())
    }

    /// Reads a manifest back; `None` for a deletion or another type.
    pub fn at(&self, place: ManifestPlace) -> Result<Option<ManifestEntry>, RepositoryError> {
        let [o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3] = place.0;
        let at = u64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
        let bytes = u32::from_be_bytes([l0, l1, l2, l3]);
        if bytes == 0 {
            return Ok(None);
        }
        let mut json = vec![0; bytes as usize];
        self.spool.read_exact_at(&mut json, at)?;
        let mut json = serde_json::Deserializer::from_slice(&json);
        let entry = ManifestEntry::deserialize(&mut json);
        // It was read and written by the same type.
        entry.map(Some).map_err(|_| RepositoryError::Interrupted)
    }
}

/// Where a manifest waits in scratch, as bytes that travel in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestPlace(pub(super) [u8; PAYLOAD_BYTES]);

/// Offset and length of the payload in the spool; no length where nobody wants it.
pub(super) const PAYLOAD_BYTES: usize = 12;

/// An entry as a sortable record: `id 16 | inverted time 8 | key | number 4 | payload 12`. The
/// first of an ID counts.
#[derive(Clone, Copy)]
struct EntryLayout {
    key_bytes: usize,
}

impl EntryLayout {
    fn record_bytes(self) -> usize {
        ID_BYTES + 8 + self.key_bytes + 4 + PAYLOAD_BYTES
    }

    fn shape(self) -> SortShape {
        SortShape {
            record_bytes: self.record_bytes(),
            group: Some(Group {
                group_bytes: ID_BYTES,
                rank_end: self.record_bytes() - PAYLOAD_BYTES,
            }),
        }
    }

    fn encode(self, out: &mut [u8], entry: &ManifestEntry, key: &[u8], number: u32) {
        let id = Sha256::digest(entry.id.as_bytes());
        out[..ID_BYTES].copy_from_slice(&id[..ID_BYTES]);
        let time = !(entry.modified.nanos() as u64 ^ (1 << 63));
        out[ID_BYTES..ID_BYTES + 8].copy_from_slice(&time.to_be_bytes());
        let key_end = ID_BYTES + 8 + self.key_bytes;
        out[ID_BYTES + 8..key_end].copy_from_slice(key);
        out[key_end..key_end + 4].copy_from_slice(&number.to_be_bytes());
    }
}

/// Reads the entries of contents, on one thread.
struct EntryReader<'a> {
    layout: EntryLayout,
    kinds: &'a [&'a str],
    entries: SortBuffer,
    spool: &'a ScratchFile,
    scratch: &'a Scratch,
}

impl TakeContents for EntryReader<'_> {
    fn take(&mut self, content: &Requested<'_>, body: Body<'_, '_>) -> Result<(), RepositoryError> {
        let (mut front, mut rest) = (Vec::new(), None);
        body.pieces(false, &mut |piece| {
            if front.len() + piece.len() <= FRONT_BYTES_MAX && rest.is_none() {
                front.extend_from_slice(piece);
                return Ok(());
            }
            let file = match &mut rest {
                Some(file) => file,
                none => none.insert(Arc::new(self.scratch.create_file("manifest-content")?)),
            };
            file.append(piece)?;
            Ok(())
        })?;
        let rest = rest.map(|file| {
            let bytes = 0..file.len();
            SequentialReader::new(file, bytes, READ_BYTES)
        });
        let gzip: Box<dyn Read + '_> = match rest {
            Some(rest) => Box::new(front[..].chain(rest)),
            None => Box::new(&front[..]),
        };
        let mut number = 0u32;
        read_gzip_entries(gzip, &content.to_string(), |entry: ManifestEntry| {
            let wanted = self.kinds.is_empty()
                || entry.kind().is_some_and(|kind| self.kinds.contains(&kind));
            let json = match wanted && !entry.deleted {
                true => serde_json::to_vec(&entry).map_err(|_| RepositoryError::Interrupted)?,
                false => Vec::new(),
            };
            let at = if json.is_empty() {
                0
            } else {
                self.spool.append(&json)?
            };
            let layout = self.layout;
            self.entries.push_with(|out| {
                layout.encode(out, &entry, content.key, number);
                let payload = out.len() - PAYLOAD_BYTES;
                out[payload..payload + 8].copy_from_slice(&at.to_be_bytes());
                out[payload + 8..].copy_from_slice(&(json.len() as u32).to_be_bytes());
            })?;
            number += 1;
            Ok(())
        })
    }
}

/// Reads the maintenance parameters; `None` if nobody has set any.
pub fn maintenance_params(
    repository: &Repository,
    workspace: &Workspace,
    loaded: &Loaded,
) -> Result<Option<MaintenanceParams>, RepositoryError> {
    Ok(counted_maintenance_params(repository, workspace, loaded)?.0)
}

/// Reads the maintenance parameters, and counts the manifests that hold some.
pub fn counted_maintenance_params(
    repository: &Repository,
    workspace: &Workspace,
    loaded: &Loaded,
) -> Result<(Option<MaintenanceParams>, u64), RepositoryError> {
    let mut count = 0;
    let system = SystemContents::of_loaded(loaded)?;
    let kinds = [maintenance_params::MANIFEST_TYPE];
    let manifests = read_manifests(repository, workspace, system, &kinds)?;
    let mut latest: Option<(Timestamp, Vec<u8>)> = None;
    manifests.each(|entry| {
        count += 1;
        if latest
            .as_ref()
            .is_none_or(|(time, _)| entry.modified >= *time)
        {
            latest = Some((entry.modified, entry.data.get().as_bytes().to_vec()));
        }
        Ok::<(), RepositoryError>(())
    })?;
    match latest {
        Some((_, data)) => Ok((Some(MaintenanceParams::parse(&data)?), count)),
        None => Ok((None, 0)),
    }
}
