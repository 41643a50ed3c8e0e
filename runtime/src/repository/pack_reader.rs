//! Reads contents in pack order: neighbours together, in ranged reads of up to a MiB or two.
//!
//! Contents come as records sorted by pack and offset ([`super::pack_order`]). A batch holds as
//! many of them as fit into one buffer; each stretch of a pack without large gaps is one GET, so a
//! whole pack costs its size divided by the buffer, not one GET a content. Workers fetch batches
//! and work on them at the same time; the caller gets them back in the order of the records.
//!
//! ```text
//! sorter of PackOrder records -> merge -> PackReader -> workers: fetch + your work -> you, in
//! order
//! ```
//!
//! Memory: [`BATCHES_A_WORKER`] buffers a worker, [`BATCH_CONTENTS_MAX`] records each; nothing
//! grows with the packs. Contents larger than a buffer, neighbours of one pack, are a batch of
//! their own without bytes ([`PackBatch::large`]), for [`super::sealed_pieces`]. Kopia reads every
//! content by a GET of its own, but metadata packs whole.

mod fetch;
mod lane;
mod large;
mod stretch;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::blob::Storage;
use crate::kopia::blob_id::BlobId;
use crate::kopia::content_id::ContentId;
use crate::kopia::pack::TAIL_BYTES;
use crate::spill::{Scratch, ScratchFile};

use super::RepositoryError;
use super::pack_heads::PackHeads;
use super::pack_local_index::tail_bytes;
use super::pack_names::PackTable;
use super::pack_order::{PackOrder, Place};
use super::read_ahead::ReadAhead;
use super::winners::Records;

use fetch::GETS_AT_ONCE;
pub use large::LARGE_BYTES_MAX;

use lane::Lane;
use stretch::{Cut, Source, Stretch};

/// Bytes that are read although nobody wants them, rather than to make a GET more.
pub const GAP_BYTES_MAX: u64 = 32 * 1024;

/// Contents of one batch: below 1 MiB of records.
pub const BATCH_CONTENTS_MAX: usize = 16 * 1024;

/// Batches of one worker: one that it works on, one that waits on either side of it.
pub const BATCHES_A_WORKER: usize = 2;

/// Contents that were read together.
#[derive(Debug)]
pub struct PackBatch {
    layout: PackOrder,
    bytes: Vec<u8>,
    used: usize,
    stretches: Vec<Stretch>,
    records: Vec<u8>,
    /// Of each record: its stretch, and where its bytes begin in the buffer.
    places: Vec<(u32, u32)>,
    large: bool,
    /// Of a large batch: what a worker has read of it, in order; as many as its contents at most.
    files: VecDeque<Arc<ScratchFile>>,
    /// Whether a pack that is gone or too short is told content by content.
    going_on: bool,
}

/// One content of a batch.
#[derive(Debug)]
pub struct BatchContent<'a> {
    /// The pack that it lies in.
    pub pack: &'a BlobId,
    /// Its record, as it came.
    pub record: &'a [u8],
    /// Its bytes as stored; none where the batch is [`PackBatch::large`].
    pub bytes: &'a [u8],
}

impl PackBatch {
    /// Makes an empty batch that holds `buffer_bytes`.
    pub fn new(layout: PackOrder, buffer_bytes: usize) -> Self {
        Self {
            layout,
            bytes: vec![0; buffer_bytes],
            used: 0,
            stretches: Vec::new(),
            records: Vec::new(),
            places: Vec::new(),
            large: false,
            files: VecDeque::new(),
            going_on: false,
        }
    }

    /// Returns the number of contents.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Tells whether these are contents that do not fit into the buffer: they have to be read in
    /// pieces, in turn.
    pub fn large(&self) -> bool {
        self.large
    }

    /// Returns content `number`, below [`PackBatch::len`].
    pub fn content(&self, number: usize) -> BatchContent<'_> {
        let (stretch, start) = self.places[number];
        let width = self.layout.record_bytes();
        let record = &self.records[number * width..(number + 1) * width];
        let length = self.layout.place(record).length as usize;
        let start = start as usize;
        BatchContent {
            pack: &self.stretches[stretch as usize].pack,
            record,
            bytes: self.bytes.get(start..start + length).unwrap_or_default(),
        }
    }

    /// Returns the bytes of content `number`, to be opened in place. Contents that overlap, which
    /// no writer makes, then fail their tags.
    pub fn bytes_mut(&mut self, number: usize) -> &mut [u8] {
        let start = self.places[number].1 as usize;
        let length = self.content(number).bytes.len();
        self.bytes
            .get_mut(start..start + length)
            .unwrap_or_default()
    }

    /// Calls `work` with record, pack and bytes of content `number`, the bytes to be changed.
    pub fn with_bytes<T>(
        &mut self,
        number: usize,
        work: impl FnOnce(&[u8], &BlobId, &mut [u8]) -> T,
    ) -> T {
        let (stretch, start) = self.places[number];
        let width = self.layout.record_bytes();
        let record = &self.records[number * width..(number + 1) * width];
        let (start, length) = (start as usize, self.layout.place(record).length as usize);
        let bytes = self.bytes.get_mut(start..start + length);
        let pack = &self.stretches[stretch as usize].pack;
        work(record, pack, bytes.unwrap_or_default())
    }

    fn clear(&mut self) {
        self.used = 0;
        self.stretches.clear();
        self.records.clear();
        self.places.clear();
        self.large = false;
        self.files.clear();
    }

    fn push(&mut self, record: &[u8], start: usize) {
        let stretch = self.stretches.len() as u32 - 1;
        self.records.extend_from_slice(record);
        self.places.push((stretch, start as u32));
    }

    /// Takes in a content if it fits.
    fn add(&mut self, record: &[u8], place: &Place, pack: &BlobId, aside: Aside<'_>) -> bool {
        let room = self.bytes.len() - self.used;
        if let Some(last) = self.stretches.last_mut()
            && last.number == place.pack
            && last.reaches(place, aside.ahead, self.layout.extra(record))
        {
            let Some(more) = last.extend(place, room) else {
                return false;
            };
            self.used += more;
            let start = last.place_of(place);
            self.push(record, start);
            return true;
        }
        if place.length as usize > room {
            return false;
        }
        let mut stretch = Stretch::new(place, pack, self.used);
        stretch.choose_source(place, aside, room.min(self.bytes.len() / GETS_AT_ONCE));
        self.used += stretch.buffer_bytes();
        let start = stretch.place_of(place);
        self.stretches.push(stretch);
        self.push(record, start);
        true
    }

    /// Lets what follows the last stretch be read along, as far as there is room: no other content
    /// of its pack comes.
    fn add_tail(&mut self) {
        let Some(last) = self.stretches.last_mut() else {
            return;
        };
        if self.large {
            last.tail_bytes = TAIL_BYTES as usize; // of few contents
        } else if last.tail_bytes == 0 && last.source == Source::Store {
            let room = self.bytes.len() - self.used;
            last.tail_bytes = room.min(tail_bytes(last.end) as usize);
            self.used += last.tail_bytes;
        }
    }

    /// Returns why content `number` could not be read, where its pack is gone or too short.
    pub(super) fn unread(&self, number: usize) -> Option<RepositoryError> {
        let stretch = &self.stretches[self.places[number].0 as usize];
        let cut = stretch.cut?;
        let record = self.content(number).record;
        let beyond = cut.takes(&self.layout.place(record));
        beyond.then(|| cut.error(&stretch.pack, self.layout.key(record)))
    }

    /// Names the first content of a stretch that the pack does not hold.
    fn unreadable(&self, stretch: usize, cut: Cut) -> RepositoryError {
        let records = self.records.chunks_exact(self.layout.record_bytes());
        let mut own = self
            .places
            .iter()
            .zip(records)
            .filter(|((of, _), _)| *of as usize == stretch)
            .map(|(_, record)| record);
        let first = own.find(|record| cut.takes(&self.layout.place(record)));
        let key = first.map(|record| self.layout.key(record));
        cut.error(&self.stretches[stretch].pack, key.unwrap_or_default())
    }
}

/// Makes the error of a content whose pack is gone, or ends at `pack_bytes`.
pub(super) fn missing(pack: &BlobId, key: &[u8], pack_bytes: Option<u64>) -> RepositoryError {
    let content = ContentId::from_key(key).map_or_else(|_| hex::encode(key), |id| id.to_string());
    let pack = pack.to_string();
    match pack_bytes {
        None => RepositoryError::MissingPack { pack, content },
        Some(pack_bytes) => RepositoryError::ShortPack {
            pack,
            content,
            pack_bytes,
        },
    }
}

/// Cuts a stream of sorted records into batches.
pub struct PackReader<'a, R> {
    records: R,
    layout: PackOrder,
    packs: &'a PackTable,
    /// The record that did not fit into the last batch.
    waiting: Vec<u8>,
    pack: Option<(u32, BlobId)>,
    aside: Aside<'a>,
    going_on: bool,
}

/// Where bytes are besides the store, and where they are kept for later.
#[derive(Clone, Copy, Default)]
struct Aside<'a> {
    /// What was read along for those who come back for it.
    ahead: Option<&'a ReadAhead>,
    /// Takes the ends of packs.
    tails: Option<&'a Scratch>,
    /// Takes whole stretches, and has those that another task has read.
    stretches: Option<&'a Scratch>,
    /// Has the first bytes of metadata packs.
    heads: Option<PackHeads<'a>>,
    /// Whether they are read along where they are not there.
    reads_heads: bool,
}

impl<'a, R: Records> PackReader<'a, R> {
    /// Reads the contents of `records`, whose packs are numbers of `packs`.
    pub fn new(records: R, layout: PackOrder, packs: &'a PackTable) -> Self {
        Self {
            records,
            layout,
            packs,
            waiting: Vec::with_capacity(layout.record_bytes()),
            pack: None,
            aside: Aside::default(),
            going_on: false,
        }
    }

    /// Keeps the ends of packs with their local indexes in `scratch`, where they can be read along:
    /// for a run that deletes the packs afterwards.
    pub fn keeping_tails(mut self, scratch: &'a Scratch) -> Self {
        self.aside.tails = Some(scratch);
        self
    }

    /// Keeps what is read in `scratch` for the next task of the run that reads the same contents,
    /// where a run has opened a shelf there. Tags are verified whoever reads.
    pub(super) fn keeping_stretches(mut self, scratch: &'a Scratch) -> Self {
        self.aside.stretches = Some(scratch);
        self
    }

    /// Takes what begins a metadata pack from where it is kept, where another task has read it.
    pub fn taking_heads(mut self, scratch: &'a Scratch) -> Self {
        self.aside.heads = Some(PackHeads::of(scratch));
        self
    }

    /// Does so, and reads the first bytes of metadata packs along to be kept.
    pub(super) fn reading_heads(mut self, scratch: &'a Scratch) -> Self {
        self.aside.reads_heads = true;
        self.taking_heads(scratch)
    }

    /// Goes on behind packs that are gone or too short: workers ask [`PackBatch::unread`].
    pub(super) fn going_on(self) -> Self {
        Self {
            going_on: true,
            ..self
        }
    }

    /// Reads what lies between the contents along, for those who come back for it.
    pub(super) fn reading_ahead(mut self, ahead: &'a ReadAhead) -> Self {
        self.aside.ahead = Some(ahead);
        self
    }

    /// Replaces what `batch` holds by the next contents; false at the end. Nothing is read yet.
    pub fn plan(&mut self, batch: &mut PackBatch) -> Result<bool, RepositoryError> {
        batch.clear();
        batch.going_on = self.going_on;
        loop {
            if self.waiting.is_empty() {
                match self.records.next()? {
                    Some(record) => self.waiting.extend_from_slice(record),
                    None => {
                        self.end_pack(batch);
                        break;
                    }
                }
            }
            let place = self.layout.place(&self.waiting);
            let last = self.pack.as_ref().map(|(number, _)| *number);
            if last != Some(place.pack) {
                self.end_pack(batch);
                let name = self.packs.name(place.pack)?;
                let name = String::from_utf8_lossy(&name).into_owned();
                self.pack = Some((place.pack, BlobId::new(name)));
                // A pack that begins in what little is left over is one GET more than it needs.
                if batch.used > batch.bytes.len() / 2 {
                    break;
                }
            }
            let Some((_, pack)) = &self.pack else { break };
            let added = if batch.len() == BATCH_CONTENTS_MAX {
                false
            } else if place.length as usize > batch.bytes.len() {
                batch.add_large(&self.waiting, &place, pack)
            } else {
                !batch.large && batch.add(&self.waiting, &place, pack, self.aside)
            };
            if !added {
                break;
            }
            self.waiting.clear();
        }
        Ok(!batch.is_empty())
    }

    /// Notes that the last pack of `batch` has no more contents to read.
    fn end_pack(&self, batch: &mut PackBatch) {
        if self.aside.tails.is_some() {
            batch.add_tail();
        }
    }

    /// Reads everything: `workers` (one thread each) work on batches whose bytes are there, `take`
    /// gets them afterwards, on this thread, in the order of the records.
    ///
    /// Memory: [`BATCHES_A_WORKER`] batches of `buffer_bytes` a worker.
    ///
    /// # Errors
    /// The first error in the order of the records; what comes after it is not taken.
    pub fn read<W, E>(
        mut self,
        storage: &Storage,
        buffer_bytes: usize,
        workers: Vec<W>,
        mut take: impl FnMut(&mut PackBatch) -> Result<(), E>,
    ) -> Result<(), E>
    where
        W: FnMut(&mut PackBatch) -> Result<(), RepositoryError> + Send,
        E: From<RepositoryError>,
    {
        std::thread::scope(|scope| {
            let lanes: Vec<Lane> = workers
                .into_iter()
                .map(|worker| Lane::start(scope, storage, self.aside, worker))
                .collect();
            let batches = lanes.len() * BATCHES_A_WORKER;
            let mut spare: Vec<PackBatch> = (0..batches)
                .map(|_| PackBatch::new(self.layout, buffer_bytes))
                .collect();
            let (mut sent, mut taken) = (0, 0);
            let mut ended = false;
            loop {
                while !ended && let Some(mut batch) = spare.pop() {
                    ended = !self.plan(&mut batch)?;
                    if !ended {
                        lanes[sent % lanes.len()].send(batch)?;
                        sent += 1;
                    }
                }
                if taken == sent {
                    return Ok(());
                }
                let mut batch = lanes[taken % lanes.len()].receive()?;
                taken += 1;
                take(&mut batch)?;
                spare.push(batch);
            }
        })
    }
}
