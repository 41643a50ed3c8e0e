//! One thread of a load: reads an index blob, opens it, and turns its entries into records.
//!
//! Memory: a sort buffer, one blob (twice with ECC), and [`REMEMBERED_NAMES`] remembered names.
//! Invariant: not a byte of a blob is used before its tag was verified, and keys that are not
//! strictly ascending, as readers need them, fail the load.

use crate::kopia::FormatError;
use crate::kopia::blob_id::BlobId;
use crate::kopia::content_id::ContentId;
use crate::kopia::encryption::OVERHEAD_BYTES;
use crate::kopia::index_blob::{ContentFormat, IndexBlob, IndexEntry, KeyOrder, PackRef, refusal};
use crate::progress::Part;
use crate::spill::{RunWriter, SortBuffer};

use super::RepositoryError;
use super::index_bytes::read_index_blob;
use super::index_feed::{FEED_BATCH, Task};
use super::index_load::{FORMATS_MAX, LoadStats, Shared, Strictness};
use super::pack_names::PackNameWriter;
use super::record::{RECORD_BYTES_MAX, RecordFields, TIMESTAMP_SECONDS_MAX};
use super::working_time::WorkingTime;

/// Prefix of system contents (manifests) in a content key.
const SYSTEM_PREFIX: u8 = b'm';

/// Names of packs of a version 1 blob, or of system entries, that are remembered at a time; what is
/// forgotten is spooled again, and found equal later.
const REMEMBERED_NAMES: usize = 4096;

/// The state of the thread.
pub(super) struct Worker<'s, 'i> {
    pub(super) shared: &'s Shared<'i>,
    records: SortBuffer,
    /// Takes the records instead while a large blob is read: it is a sorted run as it is.
    pub(super) run: Option<RunWriter>,
    system: SortBuffer,
    names: PackNameWriter<'s>,
    remembered: Vec<(u64, u32)>,
    formats: Vec<(ContentFormat, u8)>,
    pub(super) time: WorkingTime<'s>,
    pub(super) stats: LoadStats,
}

/// Where entries of the blob at hand go, and what its numbers mean.
pub(super) struct BlobContext<'n> {
    pub(super) name: &'n str,
    /// Counts the blobs of this worker, so that remembered names are not mixed up.
    pub(super) serial: u64,
    pub(super) target: Option<u8>,
    pub(super) source: u8,
    /// Number of the blob's first pack name, where all of them were spooled.
    pub(super) first_pack: Option<u32>,
    /// The blob's format numbers (in version 1: format versions) as formats and numbers of this
    /// load.
    pub(super) formats: [Option<(ContentFormat, u8)>; 256],
}

impl<'s, 'i> Worker<'s, 'i> {
    pub(super) fn new(
        shared: &'s Shared<'i>,
        records: SortBuffer,
        system: SortBuffer,
        names: PackNameWriter<'s>,
    ) -> Self {
        let remembered = vec![(u64::MAX, 0); REMEMBERED_NAMES];
        let stats = LoadStats::default();
        Self {
            shared,
            records,
            run: None,
            system,
            names,
            remembered,
            formats: Vec::new(),
            time: WorkingTime::start(&*shared.workspace.progress),
            stats,
        }
    }

    pub(super) fn run(mut self) -> Result<LoadStats, RepositoryError> {
        let mut stored = vec![0; self.shared.workspace.memory.blob_bytes];
        let mut ecc = [Vec::new(), Vec::new()];
        let mut tasks = Vec::with_capacity(FEED_BATCH);
        let mut soon = Vec::new();
        loop {
            self.shared
                .feed
                .lock()
                .map_err(|_| RepositoryError::Interrupted)?
                .take(&mut tasks, &mut soon)?;
            if tasks.is_empty() {
                break;
            }
            self.time.skip(); // the feed was the other worker's, perhaps
            self.will_need(&soon);
            soon.clear();
            for task in tasks.drain(..) {
                self.blob(&task, &mut stored, &mut ecc)?;
                self.shared.workspace.progress.advance(1);
            }
        }
        self.names.flush()?;
        self.records.finish()?;
        self.system.finish()?;
        self.time.lap(Part::Decode);
        Ok(self.stats)
    }

    /// Tells the store what will be read soon. Where the first is kept in scratch, the others
    /// mostly are.
    fn will_need(&self, soon: &[BlobId]) {
        let scratch = &self.shared.workspace.scratch;
        if soon
            .first()
            .is_some_and(|first| scratch.kept_bytes(first.as_str()).is_none())
        {
            let soon: Vec<&BlobId> = soon.iter().collect();
            self.shared.repository.storage.will_need(&soon);
        }
    }

    fn blob(
        &mut self,
        task: &Task,
        stored: &mut [u8],
        ecc: &mut [Vec<u8>; 2],
    ) -> Result<(), RepositoryError> {
        let repository = self.shared.repository;
        let length = read_index_blob(repository, self.shared.workspace, &task.blob, stored)
            .map_err(|error| {
                let vanished = error.is_not_found();
                let blob = task.blob.to_string();
                if vanished {
                    RepositoryError::Vanished { blob, attempts: 1 }
                } else {
                    error.into()
                }
            })?;
        self.time.lap(Part::Read);
        self.stats.blobs += 1;
        let name = task.blob.as_str();
        let mut context = BlobContext {
            name,
            serial: self.stats.blobs,
            target: task.target,
            source: task.source,
            first_pack: None,
            formats: [None; 256],
        };
        if length == stored.len() {
            return self.large_blob(&task.blob, stored, &mut context);
        }
        self.stats.stored_bytes += length as u64;
        let sealed = &mut stored[..length];
        let plain = if repository.crypto.ecc.is_some() {
            let [encoded, decoded] = ecc;
            encoded.clear();
            encoded.extend_from_slice(sealed);
            let range = repository.crypto.open(name, encoded, decoded)?;
            encoded.get(range).unwrap_or_default()
        } else {
            &*repository.crypto.open_slice(name, sealed)?
        };
        self.time.lap(Part::Decrypt);
        self.decode(&IndexBlob::parse(plain, name)?, &mut context)?;
        self.time.lap(Part::Decode);
        Ok(())
    }

    /// Takes in a whole blob that lies in memory.
    fn decode(
        &mut self,
        blob: &IndexBlob<'_>,
        context: &mut BlobContext<'_>,
    ) -> Result<(), RepositoryError> {
        let layout = blob.layout();
        if layout.entry_count == 0 {
            return Ok(());
        }
        self.check_key_bytes(layout.key_bytes, context.name)?;
        for (number, format) in blob.formats().enumerate() {
            self.take_format(context, number, format)?;
        }
        if let Some(target) = context.target.filter(|_| layout.pack_count > 0) {
            context.first_pack = Some(self.names.reserve(layout.pack_count)?);
            for number in 0..layout.pack_count {
                let name = blob.pack_name(PackRef::Number(number))?;
                self.names.push(target, name, context.name)?;
            }
        }
        let mut order = KeyOrder::default();
        for row in 0..layout.entry_count {
            let key = blob.key(row);
            order.check(key, context.name)?;
            let entry = blob.entry(row, OVERHEAD_BYTES as u32)?;
            let name_of = |pack| Ok(blob.pack_name(pack)?.to_vec());
            self.entry(context, key, &entry, layout.version == 1, name_of)?;
        }
        self.count_entries(context, layout.entry_count);
        Ok(())
    }

    pub(super) fn count_entries(&mut self, context: &BlobContext<'_>, entries: u32) {
        self.stats.entries += u64::from(entries);
        if let Some(target) = context.target {
            self.stats.target_entries[usize::from(target)] += u64::from(entries);
        }
    }

    /// Takes in one entry. `name_of` finds a pack's name where the spool does not have it yet.
    #[inline]
    pub(super) fn entry(
        &mut self,
        context: &mut BlobContext<'_>,
        key: &[u8],
        entry: &IndexEntry,
        version_1: bool,
        name_of: impl Fn(PackRef) -> Result<Vec<u8>, RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let system = key.first() == Some(&SYSTEM_PREFIX);
        if context.target.is_none() && !system {
            return Ok(());
        }
        let number = usize::from(if version_1 {
            entry.format_version
        } else {
            entry.format
        });
        let (format, number) = match context.formats[number] {
            Some(known) => known,
            None => self.take_format(
                context,
                number,
                ContentFormat {
                    format_version: entry.format_version,
                    ..ContentFormat::default()
                },
            )?,
        };
        if self.shared.strictness == Strictness::ForWriting && context.target.is_some() {
            let version = self.shared.repository.format.index_version;
            // The length of the pack's name was checked when it was spooled.
            if let Some(reason) = refusal(entry, format, 1, version) {
                return Err(refused(context.name, key, reason));
            }
        }
        let pack = match (context.first_pack, entry.pack) {
            (Some(first), PackRef::Number(number)) => first + number,
            (_, pack) => self.remembered_name(context, pack, name_of)?,
        };
        let fields = RecordFields {
            timestamp_seconds: entry.timestamp_seconds.min(TIMESTAMP_SECONDS_MAX),
            deleted: entry.deleted,
            pack,
            pack_offset: entry.pack_offset,
            packed_length: entry.packed_length,
            original_length: entry.original_length,
            format: number,
        };
        let layout = self.shared.layout;
        if let Some(target) = context.target {
            let longest = entry.packed_length.max(entry.original_length);
            self.stats.longest_length = self.stats.longest_length.max(longest);
            let source = context.source;
            let encode = |out: &mut [u8]| layout.encode(out, target, source, key, &fields);
            match &mut self.run {
                None => self.records.push_whole(encode)?,
                Some(run) => {
                    let mut record = [0; RECORD_BYTES_MAX];
                    let record = &mut record[..layout.record_bytes()];
                    encode(record);
                    run.push(record)?;
                }
            }
        }
        if system {
            self.system
                .push_whole(|out| layout.encode(out, 0, 0, key, &fields))?;
        }
        Ok(())
    }

    pub(super) fn check_key_bytes(
        &self,
        key_bytes: usize,
        blob: &str,
    ) -> Result<(), RepositoryError> {
        let expected = self.shared.layout.key_bytes;
        if key_bytes == expected {
            return Ok(());
        }
        let reason = format!("keys of {key_bytes} bytes in a repository of {expected}");
        Err(FormatError::malformed(blob, reason).into())
    }

    /// Notes which number of this load a format of the blob has.
    pub(super) fn take_format(
        &mut self,
        context: &mut BlobContext<'_>,
        number: usize,
        format: ContentFormat,
    ) -> Result<(ContentFormat, u8), RepositoryError> {
        let known = self
            .formats
            .iter()
            .find(|(known, _)| *known == format)
            .map(|(_, n)| *n);
        let shared = match known {
            Some(known) => known,
            None => {
                let mut all = self
                    .shared
                    .formats
                    .lock()
                    .map_err(|_| RepositoryError::Interrupted)?;
                let at = match all.iter().position(|other| *other == format) {
                    Some(at) => at,
                    None if all.len() == FORMATS_MAX => {
                        let what = "content formats";
                        return Err(RepositoryError::TooMany {
                            what,
                            maximum: FORMATS_MAX,
                        });
                    }
                    None => {
                        all.push(format);
                        all.len() - 1
                    }
                };
                self.formats.push((format, at as u8));
                at as u8
            }
        };
        if let Some(slot) = context.formats.get_mut(number) {
            *slot = Some((format, shared));
        }
        Ok((format, shared))
    }

    pub(super) fn push_name(
        &mut self,
        context: &BlobContext<'_>,
        name: &[u8],
    ) -> Result<u32, RepositoryError> {
        self.names
            .push(context.target.unwrap_or(0), name, context.name)
    }

    pub(super) fn reserve_names(&mut self, count: u32) -> Result<u32, RepositoryError> {
        self.names.reserve(count)
    }

    /// Returns the number of a name that is spooled only when an entry needs it.
    fn remembered_name(
        &mut self,
        context: &BlobContext<'_>,
        pack: PackRef,
        name_of: impl Fn(PackRef) -> Result<Vec<u8>, RepositoryError>,
    ) -> Result<u32, RepositoryError> {
        let place = match pack {
            PackRef::Number(number) => number,
            PackRef::Name { offset, .. } => offset,
        };
        let mark = (context.serial << 32) | u64::from(place);
        let slot = place as usize % REMEMBERED_NAMES;
        if self.remembered[slot].0 == mark {
            return Ok(self.remembered[slot].1);
        }
        let number = self.push_name(context, &name_of(pack)?)?;
        self.remembered[slot] = (mark, number);
        Ok(number)
    }
}

#[cold]
fn refused(blob: &str, key: &[u8], reason: &str) -> RepositoryError {
    let content = ContentId::from_key(key).map_or_else(|_| hex::encode(key), |id| id.to_string());
    RepositoryError::RefusedEntry {
        blob: blob.to_owned(),
        content,
        reason: reason.to_owned(),
    }
}
