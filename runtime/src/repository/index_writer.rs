//! Turns the merged records of a load into finished index blobs. The second half of every merge.
//!
//! Three threads in a row, so that both cores are busy: one merges the runs, one takes the winners,
//! numbers packs and formats by first appearance (as Kopia does, so that equal inputs give equal
//! bytes) and encodes the rows, one hashes and writes them. The hash of an index blob covers its
//! header, which is known only at the end; it is begun with a guess (nothing drops out), and made
//! anew from scratch if the guess was wrong.
//!
//! Memory: [`BATCHES`] batches of [`BATCH_BYTES`] on each of the two ways, a sort buffer for pack
//! names, and the merge's own buffers. Mirrors Kopia's `one_use_index_builder.go`; shards are cut
//! by key range.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::clock::Timestamp;
use crate::kopia::hashing::Digest;
use crate::kopia::index_blob::{ContentFormat, ENTRY_V1_BYTES};
use crate::kopia::index_builder::{EntryFields, IndexShape, encode_entry, encode_entry_v1};
use crate::progress::Part;
use crate::spill::{MappedU32, MergeOptions, ScratchFile, copy_record};

use super::index_image::{FinishedRows, IndexImage};
use super::index_load::{FORMATS_MAX, LoadStats, Loaded};
use super::index_pipeline::{BATCH_BYTES, Piece, feed_records, take_winners, write_rows};
use super::pack_names::PackTable;
use super::record::RecordLayout;
use super::shard_names::{hash_and_sort_names, sort_names};
use super::winners::Records;
use super::working_time::WorkingTime;
use super::{Repository, RepositoryError, Workspace};

/// Batches on the way between two threads.
const BATCHES: usize = 2;

/// Rows of this size go past the page cache.
const LARGE_ROWS_BYTES: u64 = 8 << 20;

/// Index blobs that one merge may make: with shards of at least 100,000 entries more than anybody
/// has.
const IMAGES_MAX: usize = 65_536;

/// A finished index blob of a target, with the hash that names it.
pub struct FinishedIndex {
    /// The set it belongs to.
    pub target: u8,
    /// Its contents.
    pub image: IndexImage,
    /// Hash of its plaintext.
    pub digest: Digest,
}

/// What index blobs are to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexOutput {
    /// Most entries of one blob.
    pub shard_entries: u64,
    /// Tombstones from before this moment are left out; only right where the inputs are the whole
    /// index.
    pub drop_deleted_before: Option<Timestamp>,
    /// Whether blobs get a random tail, so that equal entries never make equal names.
    pub random_tails: bool,
}

/// Merges everything that was loaded into index blobs of at most `shard_entries` entries, target by
/// target.
pub fn write_indexes(
    repository: &Repository,
    workspace: &Workspace,
    loaded: &Loaded,
    shard_entries: u64,
) -> Result<Vec<FinishedIndex>, RepositoryError> {
    let output = IndexOutput {
        shard_entries,
        drop_deleted_before: None,
        random_tails: false,
    };
    write_indexes_as(repository, workspace, loaded, &output)
}

/// Merges everything that was loaded into index blobs as `output` says, target by target.
pub fn write_indexes_as(
    repository: &Repository,
    workspace: &Workspace,
    loaded: &Loaded,
    output: &IndexOutput,
) -> Result<Vec<FinishedIndex>, RepositoryError> {
    let rows = IndexRows {
        layout: loaded.layout,
        packs: &loaded.packs,
        formats: &loaded.formats,
        stats: &loaded.stats,
    };
    write_index_rows(
        repository,
        workspace,
        &rows,
        loaded.records.merge_with(&MergeOptions {
            drop_behind: true,
            ..MergeOptions::default()
        })?,
        output,
    )
}

/// What records that become index blobs refer to.
#[derive(Clone, Copy)]
pub struct IndexRows<'a> {
    /// Form of the records.
    pub layout: RecordLayout,
    /// Names of their packs; none of them has a value yet.
    pub packs: &'a PackTable,
    /// Content formats by number.
    pub formats: &'a [ContentFormat],
    /// How many there are at most for each target, and how long their longest content is at most.
    pub stats: &'a LoadStats,
}

/// Writes sorted records as index blobs as `output` says, target by target.
pub fn write_index_rows(
    repository: &Repository,
    workspace: &Workspace,
    rows: &IndexRows<'_>,
    records: impl Records + Send,
    output: &IndexOutput,
) -> Result<Vec<FinishedIndex>, RepositoryError> {
    let (rows_out, rows_in) = sync_channel(BATCHES);
    let (spare_out, spare_in) = sync_channel(2 * BATCHES);
    let (records_out, records_in) = sync_channel(BATCHES);
    let (used_out, used_in) = sync_channel(2 * BATCHES);
    let (layout, told) = (rows.layout, &*workspace.progress);
    std::thread::scope(|scope| {
        let merging =
            scope.spawn(move || feed_records(records, layout, &records_out, &used_in, told));
        let writing = scope.spawn(move || write_rows(&rows_in, &spare_out, told));
        let time = &WorkingTime::start(told);
        let channels = (rows_out, spare_in);
        let mut encoder = Encoder::new(repository, workspace, rows, *output, channels, time);
        let encoded = encoder.run(&records_in, &used_out);
        let finished = std::mem::take(&mut encoder.finished);
        drop(encoder);
        drop(records_in); // so that the merging thread ends, whatever happened here
        let merged = merging.join().unwrap_or(Err(RepositoryError::Interrupted));
        let written = writing.join().unwrap_or(Err(RepositoryError::Interrupted));
        // The cause first: the encoder only sees that its neighbours are gone.
        merged.and(written).and(encoded).map(|()| finished)
    })
}

/// The index blob that is being encoded.
struct Shard {
    target: u8,
    rows: Arc<ScratchFile>,
    guess: IndexShape,
    entries: u64,
    first_value: u32,
    longest: u32,
    formats: Vec<ContentFormat>,
    /// Number in this shard of every format of the load, [`NO_FORMAT`] before its first appearance.
    format_numbers: [u8; 256],
}

const NO_FORMAT: u8 = u8::MAX;

struct Encoder<'a> {
    repository: &'a Repository,
    workspace: &'a Workspace,
    layout: RecordLayout,
    packs: &'a PackTable,
    formats: &'a [ContentFormat],
    target_entries: &'a [u64; 256],
    longest: u32,
    output: IndexOutput,
    next_value: u32,
    /// Version 1 only: where the name of each value lies among the names, and how long it is.
    name_places: Option<(MappedU32, MappedU32)>,
    next_name_at: u32,
    /// Width of the current shard's rows.
    row_bytes: usize,
    /// Rows to be sent, and room for more.
    batch: Vec<u8>,
    /// Bytes of the batch that are rows.
    filled: usize,
    rows_out: SyncSender<Piece>,
    spare_in: Receiver<Vec<u8>>,
    time: &'a WorkingTime<'a>,
    finished: Vec<FinishedIndex>,
}

impl<'a> Encoder<'a> {
    fn new(
        repository: &'a Repository,
        workspace: &'a Workspace,
        rows: &IndexRows<'a>,
        output: IndexOutput,
        (rows_out, spare_in): (SyncSender<Piece>, Receiver<Vec<u8>>),
        time: &'a WorkingTime<'a>,
    ) -> Self {
        Self {
            repository,
            workspace,
            layout: rows.layout,
            packs: rows.packs,
            formats: rows.formats,
            target_entries: &rows.stats.target_entries,
            longest: rows.stats.longest_length,
            output,
            next_value: 0,
            name_places: None,
            next_name_at: 0,
            row_bytes: 1,
            batch: vec![0; BATCH_BYTES],
            filled: 0,
            rows_out,
            spare_in,
            time,
            finished: Vec::new(),
        }
    }

    fn run(
        &mut self,
        incoming: &Receiver<Vec<u8>>,
        used: &SyncSender<Vec<u8>>,
    ) -> Result<(), RepositoryError> {
        let (layout, packs, time) = (self.layout, self.packs, self.time);
        let mut shard = None;
        take_winners(incoming, used, layout, packs, time, |record| {
            self.add(&mut shard, record)
        })?;
        match shard {
            Some(done) => self.end_shard(done),
            None => Ok(()),
        }
    }

    /// Adds a winner to the open shard; begins the next one where that is full or another target's.
    #[inline]
    fn add(&mut self, shard: &mut Option<Shard>, record: &[u8]) -> Result<(), RepositoryError> {
        if self.is_dropped(record) {
            return Ok(());
        }
        let target = self.layout.target(record);
        let most = self.output.shard_entries;
        let full = shard
            .as_ref()
            .is_some_and(|open| open.target != target || open.entries >= most);
        if full && let Some(done) = shard.take() {
            self.end_shard(done)?;
        }
        let open = match shard {
            Some(open) => open,
            none => none.insert(self.begin_shard(target)?),
        };
        self.encode(open, record)
    }

    /// Returns whether a winner is a tombstone that nobody needs any more.
    #[inline]
    fn is_dropped(&self, record: &[u8]) -> bool {
        self.output.drop_deleted_before.is_some_and(|before| {
            let fields = self.layout.fields(record);
            fields.deleted && Timestamp::from_seconds(fields.timestamp_seconds) < before
        })
    }

    fn begin_shard(&mut self, target: u8) -> Result<Shard, RepositoryError> {
        if self.finished.len() == IMAGES_MAX {
            return Err(RepositoryError::TooMany {
                what: "index blobs",
                maximum: IMAGES_MAX,
            });
        }
        let (entries, packs) = (self.entries_left(target), self.packs.different(target));
        let formats = self.formats.len().min(FORMATS_MAX) as u16;
        let version = self.repository.format.index_version;
        let tables = tables(version, packs, formats);
        let guess = IndexShape {
            version,
            key_bytes: self.layout.key_bytes,
            entry_count: u32::try_from(entries).unwrap_or(u32::MAX),
            pack_count: tables.0,
            format_count: tables.1,
            entry_bytes: entry_bytes(version, formats, packs, self.longest),
        };
        self.row_bytes = guess.row_bytes();
        let scratch = &self.workspace.scratch;
        let rows = match entries.saturating_mul(self.row_bytes as u64) >= LARGE_ROWS_BYTES {
            true => scratch.create_large_file("index-rows"),
            false => scratch.create_file("index-rows"),
        };
        let rows = Arc::new(rows?);
        let mut hasher = Box::new(self.repository.crypto.hash.hasher());
        hasher.update(&guess.header());
        self.send(Piece::Begin(Arc::clone(&rows), hasher))?;
        if version == 1 {
            let scratch = &self.workspace.scratch;
            let count = u64::from(packs);
            let table = || MappedU32::create(scratch, count, 0);
            self.name_places = Some((table()?, table()?));
            self.next_name_at = 0;
        }
        Ok(Shard {
            target,
            rows,
            guess,
            entries: 0,
            first_value: self.next_value,
            longest: 0,
            formats: Vec::new(),
            format_numbers: [NO_FORMAT; 256],
        })
    }

    /// Returns how many entries the next shard of a target has if nothing drops out any more.
    fn entries_left(&self, target: u8) -> u64 {
        let shards = self.finished.iter().rev();
        let written: u64 = shards
            .take_while(|shard| shard.target == target)
            .map(|shard| u64::from(shard.image.rows.shape.entry_count))
            .sum();
        let all = self.target_entries[usize::from(target)];
        all.saturating_sub(written).min(self.output.shard_entries)
    }

    #[inline]
    fn encode(&mut self, shard: &mut Shard, record: &[u8]) -> Result<(), RepositoryError> {
        let fields = self.layout.fields(record);
        let pack = self.number_of(shard, fields.pack)?;
        let format = shard.number_of_format(fields.format, self.formats);
        shard.longest = shard
            .longest
            .max(fields.packed_length)
            .max(fields.original_length);
        shard.entries += 1;
        let entry = EntryFields {
            timestamp_seconds: fields.timestamp_seconds,
            deleted: fields.deleted,
            pack_offset: fields.pack_offset,
            packed_length: fields.packed_length,
            original_length: fields.original_length,
        };
        let end = self.filled + self.row_bytes;
        let row = &mut self.batch[self.filled..end];
        let (key, out) = row.split_at_mut(self.layout.key_bytes);
        copy_record(key, self.layout.key(record));
        match &self.name_places {
            None => encode_entry(&shard.guess, &entry, pack, format, out)?,
            Some((offsets, lengths)) => {
                let (offset, length) = (offsets.get(u64::from(pack)), lengths.get(u64::from(pack)));
                let version = shard.formats.get(usize::from(format));
                let version = version.map_or(0, |format| format.format_version);
                encode_entry_v1(&entry, version, offset, length as u8, out)?;
            }
        }
        self.filled = end;
        if end + self.row_bytes > BATCH_BYTES {
            self.send_batch()?;
        }
        Ok(())
    }

    /// Returns the number that a pack has in the shard: by first appearance.
    #[inline]
    fn number_of(&mut self, shard: &Shard, pack: u32) -> Result<u32, RepositoryError> {
        let (canonical, value) = self.packs.value(pack);
        if let Some(value) = value.filter(|value| *value >= shard.first_value) {
            return Ok(value - shard.first_value);
        }
        let value = self.next_value;
        self.next_value += 1;
        self.packs.set_value(canonical, value);
        if let Some((offsets, lengths)) = &mut self.name_places {
            let length = u32::from(self.packs.slot(canonical)?[1]);
            offsets.set(u64::from(value - shard.first_value), self.next_name_at);
            lengths.set(u64::from(value - shard.first_value), length);
            self.next_name_at += length;
        }
        Ok(value - shard.first_value)
    }

    fn send(&self, piece: Piece) -> Result<(), RepositoryError> {
        self.time.lap(Part::Encode);
        let sent = self.rows_out.send(piece);
        self.time.skip();
        sent.map_err(|_| RepositoryError::Interrupted)
    }

    fn send_batch(&mut self) -> Result<(), RepositoryError> {
        self.workspace
            .progress
            .advance((self.filled / self.row_bytes) as u64);
        let mut next = self.spare_in.try_recv().unwrap_or_default();
        next.resize(BATCH_BYTES, 0); // a batch that comes back has nearly this length
        let mut rows = std::mem::replace(&mut self.batch, next);
        rows.truncate(std::mem::take(&mut self.filled));
        self.send(Piece::Rows(rows))
    }

    fn end_shard(&mut self, shard: Shard) -> Result<(), RepositoryError> {
        self.send_batch()?;
        let (back_out, back_in) = sync_channel(1);
        self.send(Piece::End(back_out))?;
        let packs = self.next_value - shard.first_value;
        let formats = shard.formats.len() as u16;
        let version = self.repository.format.index_version;
        let tables = tables(version, packs, formats);
        let shape = IndexShape {
            entry_count: u32::try_from(shard.entries).unwrap_or(u32::MAX),
            pack_count: tables.0,
            format_count: tables.1,
            entry_bytes: entry_bytes(version, formats, packs, shard.longest),
            ..shard.guess
        };
        let rows = FinishedRows {
            shape,
            rows: shard.rows,
            row_bytes: shard.guess.row_bytes(),
        };
        self.time.lap(Part::Encode);
        let hasher = back_in.recv().map_err(|_| RepositoryError::Interrupted)?;
        self.time.skip();
        let (hasher, (names, name_bytes)) = if shape == shard.guess && version != 1 {
            (
                *hasher,
                sort_names(self.workspace, self.packs, shard.first_value)?,
            )
        } else {
            hash_and_sort_names(
                self.repository,
                self.workspace,
                &rows,
                self.packs,
                shard.first_value,
            )?
        };
        self.time.lap(Part::Encode);
        let image = IndexImage {
            rows,
            names,
            name_bytes,
            formats: shard.formats,
            tail: self.output.random_tails.then(|| self.repository.random()),
        };
        let digest = image.digest_tail(hasher)?;
        self.time.lap(Part::Hash);
        self.finished.push(FinishedIndex {
            target: shard.target,
            image,
            digest,
        });
        Ok(())
    }
}

impl Shard {
    /// Returns the number that a format of the load has in this shard: by first appearance.
    #[inline]
    fn number_of_format(&mut self, format: u8, formats: &[ContentFormat]) -> u8 {
        let known = self.format_numbers[usize::from(format)];
        if known != NO_FORMAT {
            return known;
        }
        let number = self.formats.len() as u8;
        self.formats.push(
            formats
                .get(usize::from(format))
                .copied()
                .unwrap_or_default(),
        );
        self.format_numbers[usize::from(format)] = number;
        number
    }
}

/// Returns the sizes of the tables of packs and formats: version 1 has none.
fn tables(version: u8, packs: u32, formats: u16) -> (u32, u16) {
    match version {
        1 => (0, 0),
        _ => (packs, formats),
    }
}

/// Returns the width of an entry: version 1 has one, version 2 the smallest that holds everything.
fn entry_bytes(version: u8, formats: u16, packs: u32, longest: u32) -> usize {
    match version {
        1 => ENTRY_V1_BYTES,
        _ => IndexShape::entry_bytes_needed(formats, packs, longest),
    }
}
