//! Reads contents in pack order: neighbours together, in ranged reads of up to a MiB or two.
//!
//! Contents come as records sorted by pack and offset ([`super::pack_order`]). A batch holds as
//! many of them as fit into one buffer; each stretch of a pack without large gaps is one GET, so a
//! whole pack costs its size divided by the buffer, not one GET a content. Workers fetch batches
//! and work on them at the same time; the caller gets them back in the order of the records.
//!
//! ```text
//! sorter of PackOrder records -> merge -> PackReader -> workers: fetch + your work -> you, in order
//! ```
//!
//! Memory: [`BATCHES_A_WORKER`] buffers a worker, [`BATCH_CONTENTS_MAX`] records each; nothing grows
//! with the packs. A content larger than a buffer is a batch of its own without bytes
//! ([`PackBatch::large`]), for [`super::sealed_pieces`]. Kopia reads every content by a GET of its
//! own.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::blob::Storage;
use crate::kopia::blob_id::BlobId;
use crate::kopia::content_id::ContentId;

use super::RepositoryError;
use super::pack_names::PackTable;
use super::pack_order::{PackOrder, Place};
use super::read_ahead::{KeptRange, ReadAhead};
use super::winners::Records;

/// Bytes that are read although nobody wants them, rather than to make a GET more.
pub const GAP_BYTES_MAX: u64 = 32 * 1024;

/// Contents of one batch: below 1 MiB of records.
pub const BATCH_CONTENTS_MAX: usize = 16 * 1024;

/// Batches of one worker: one that it works on, one that waits on either side of it.
pub const BATCHES_A_WORKER: usize = 2;

/// One stretch of a pack.
#[derive(Debug)]
struct Stretch {
    pack: BlobId,
    number: u32,
    /// Where it begins and ends in the pack.
    offset: u64,
    end: u64,
    /// Where it begins in the buffer.
    start: usize,
    /// Bytes of it that nobody asked for.
    gap_bytes: u64,
    /// Where it comes from, if not from the store.
    kept: Option<KeptRange>,
}

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

    /// Tells whether this is one content that does not fit into the buffer: it has to be read in
    /// pieces.
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

    /// Returns the bytes of content `number`, to be opened in place. Contents that overlap, which no
    /// writer makes, then fail their tags.
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
    }

    fn push(&mut self, record: &[u8], start: usize) {
        let stretch = self.stretches.len() as u32 - 1;
        self.records.extend_from_slice(record);
        self.places.push((stretch, start as u32));
    }

    /// Takes in a content if it fits.
    fn add(
        &mut self,
        record: &[u8],
        place: &Place,
        pack: &BlobId,
        ahead: Option<&ReadAhead>,
    ) -> bool {
        let (offset, end) = (u64::from(place.offset), place_end(place));
        let room = (self.bytes.len() - self.used) as u64;
        if let Some(last) = self.stretches.last_mut()
            && last.number == place.pack
            && last.reaches(place, ahead)
        {
            let more = end.saturating_sub(last.end);
            if more > room {
                return false;
            }
            let start = last.start + (offset - last.offset) as usize;
            last.gap_bytes += offset.saturating_sub(last.end);
            last.end += more;
            self.used += more as usize;
            self.push(record, start);
            return true;
        }
        if u64::from(place.length) > room {
            return false;
        }
        let start = self.used;
        self.stretches.push(Stretch {
            pack: pack.clone(),
            number: place.pack,
            offset,
            end,
            start,
            gap_bytes: 0,
            kept: ahead.and_then(|ahead| ahead.find(place)),
        });
        self.used += place.length as usize;
        self.push(record, start);
        true
    }

    fn set_large(&mut self, record: &[u8], place: &Place, pack: &BlobId) {
        self.large = true;
        self.stretches.push(Stretch {
            pack: pack.clone(),
            number: place.pack,
            offset: u64::from(place.offset),
            end: place_end(place),
            start: 0,
            gap_bytes: 0,
            kept: None,
        });
        self.push(record, self.bytes.len()); // no bytes
    }

    /// Reads the bytes: one GET a stretch, but for those that were read ahead.
    ///
    /// # Errors
    /// A pack that is gone or too short, with the first content that is missing for it.
    fn fetch(
        &mut self,
        storage: &Storage,
        ahead: Option<&ReadAhead>,
    ) -> Result<(), RepositoryError> {
        if self.large {
            return Ok(());
        }
        for number in 0..self.stretches.len() {
            let stretch = &self.stretches[number];
            let length = (stretch.end - stretch.offset) as usize;
            let into = &mut self.bytes[stretch.start..stretch.start + length];
            if let (Some(ahead), Some(kept)) = (ahead, &stretch.kept) {
                let asked = (length as u64).saturating_sub(stretch.gap_bytes);
                ahead.read(kept, stretch.offset, into, asked)?;
                continue;
            }
            let got = match storage.get(&stretch.pack, stretch.offset, into) {
                Ok(got) => got,
                Err(error) if error.is_not_found() => return Err(self.unreadable(number, None)),
                Err(error) => return Err(error.into()),
            };
            if got < length {
                let pack_bytes = self.stretches[number].offset + got as u64;
                return Err(self.unreadable(number, Some(pack_bytes)));
            }
            if let Some(ahead) = ahead {
                ahead.note(stretch.number, stretch.offset, into, stretch.gap_bytes)?;
            }
        }
        Ok(())
    }

    /// Names the first content of a stretch that the pack does not hold.
    fn unreadable(&self, stretch: usize, pack_bytes: Option<u64>) -> RepositoryError {
        let width = self.layout.record_bytes();
        let mut own = self
            .places
            .iter()
            .zip(self.records.chunks_exact(width))
            .filter(|((of, _), _)| *of as usize == stretch)
            .map(|(_, record)| record);
        let beyond = |record: &&[u8]| {
            pack_bytes.is_none_or(|bytes| place_end(&self.layout.place(record)) > bytes)
        };
        let key = own.find(beyond).map(|record| self.layout.key(record));
        missing(
            &self.stretches[stretch].pack,
            key.unwrap_or_default(),
            pack_bytes,
        )
    }
}

impl Stretch {
    /// Returns whether a content of the same pack, which does not begin before it, is read with it.
    fn reaches(&self, place: &Place, ahead: Option<&ReadAhead>) -> bool {
        let gap = u64::from(place.offset).saturating_sub(self.end);
        let Some(ahead) = ahead else {
            return gap <= GAP_BYTES_MAX;
        };
        match &self.kept {
            Some(kept) => place_end(place) <= kept.end,
            None => {
                let bytes = self.end - self.offset;
                ahead.bridges(gap, bytes, self.gap_bytes) && ahead.find(place).is_none()
            }
        }
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

fn place_end(place: &Place) -> u64 {
    u64::from(place.offset) + u64::from(place.length)
}

/// Cuts a stream of sorted records into batches.
pub struct PackReader<'a, R> {
    records: R,
    layout: PackOrder,
    packs: &'a PackTable,
    /// The record that did not fit into the last batch.
    waiting: Vec<u8>,
    pack: Option<(u32, BlobId)>,
    ahead: Option<&'a ReadAhead>,
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
            ahead: None,
        }
    }

    /// Reads what lies between the contents along, for those who come back for it.
    pub(super) fn reading_ahead(self, ahead: &'a ReadAhead) -> Self {
        Self {
            ahead: Some(ahead),
            ..self
        }
    }

    /// Replaces what `batch` holds by the next contents; false at the end. Nothing is read yet.
    pub fn plan(&mut self, batch: &mut PackBatch) -> Result<bool, RepositoryError> {
        batch.clear();
        loop {
            if self.waiting.is_empty() {
                match self.records.next()? {
                    Some(record) => self.waiting.extend_from_slice(record),
                    None => break,
                }
            }
            let place = self.layout.place(&self.waiting);
            if self
                .pack
                .as_ref()
                .is_none_or(|(number, _)| *number != place.pack)
            {
                let name = self.packs.name(place.pack)?;
                let name = String::from_utf8_lossy(&name).into_owned();
                self.pack = Some((place.pack, BlobId::new(name)));
            }
            let Some((_, pack)) = &self.pack else { break };
            if place.length as usize > batch.bytes.len() {
                if batch.is_empty() {
                    batch.set_large(&self.waiting, &place, pack);
                    self.waiting.clear();
                }
                break;
            }
            if batch.len() == BATCH_CONTENTS_MAX
                || !batch.add(&self.waiting, &place, pack, self.ahead)
            {
                break;
            }
            self.waiting.clear();
        }
        Ok(!batch.is_empty())
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
                .map(|worker| Lane::start(scope, storage, self.ahead, worker))
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

/// A worker and the way there and back.
struct Lane {
    to: SyncSender<PackBatch>,
    from: Receiver<Result<PackBatch, RepositoryError>>,
}

impl Lane {
    fn start<'scope, W>(
        scope: &'scope std::thread::Scope<'scope, '_>,
        storage: &'scope Storage,
        ahead: Option<&'scope ReadAhead>,
        mut worker: W,
    ) -> Self
    where
        W: FnMut(&mut PackBatch) -> Result<(), RepositoryError> + Send + 'scope,
    {
        let (to, batches) = sync_channel::<PackBatch>(BATCHES_A_WORKER);
        let (done, from) = sync_channel(BATCHES_A_WORKER);
        scope.spawn(move || {
            while let Ok(mut batch) = batches.recv() {
                let worked = batch
                    .fetch(storage, ahead)
                    .and_then(|()| worker(&mut batch));
                let failed = worked.is_err();
                if done.send(worked.map(|()| batch)).is_err() || failed {
                    return; // nobody takes any more
                }
            }
        });
        Self { to, from }
    }

    fn send(&self, batch: PackBatch) -> Result<(), RepositoryError> {
        // A worker that has ended left its error on the way back, which is taken in its turn.
        let _ = self.to.send(batch);
        Ok(())
    }

    fn receive(&self) -> Result<PackBatch, RepositoryError> {
        self.from
            .recv()
            .unwrap_or(Err(RepositoryError::Interrupted))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::Workspace;
    use super::super::pack_names::PackNames;
    use super::*;
    use crate::blob::{MemoryStore, PutOptions};
    use crate::clock::{ManualClock, Timestamp};
    use crate::memory::{MIB, MemoryPlan};
    use crate::progress::Silent;
    use crate::spill::{Scratch, ScratchOptions};

    const LAYOUT: PackOrder = PackOrder {
        key_bytes: 17,
        extra_bytes: 1,
    };

    /// Records from memory.
    struct Given(std::vec::IntoIter<Vec<u8>>, Vec<u8>);

    impl Records for Given {
        fn next(&mut self) -> Result<Option<&[u8]>, RepositoryError> {
            let Some(record) = self.0.next() else {
                return Ok(None);
            };
            self.1 = record;
            Ok(Some(&self.1))
        }
    }

    struct World {
        storage: Storage,
        packs: PackTable,
        _directory: tempfile::TempDir,
    }

    /// Byte `at` of pack `pack`.
    fn byte(pack: u32, at: u32) -> u8 {
        (at.wrapping_mul(31).wrapping_add(pack * 77) >> 2) as u8
    }

    impl World {
        /// Packs of these lengths.
        fn new(lengths: &[u32]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let options = ScratchOptions {
                parent: directory.path().to_owned(),
                quota_bytes: None,
                tmpfs_allowed: true,
            };
            let workspace = Workspace {
                scratch: Scratch::create(&options, [1; 8]).unwrap(),
                memory: MemoryPlan::new(32 * MIB).unwrap(),
                progress: Arc::new(Silent),
            };
            let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1)));
            let storage = Storage::new(Arc::new(MemoryStore::new(clock)));
            let names = PackNames::create(&workspace).unwrap();
            let mut writer = names.writer();
            for (number, length) in lengths.iter().enumerate() {
                let name = format!("p{number:032x}-s1");
                assert_eq!(writer.push(0, name.as_bytes(), "").unwrap(), number as u32);
                let bytes: Vec<u8> = (0..*length).map(|at| byte(number as u32, at)).collect();
                let put = storage.put_bytes(&name.into(), &bytes, &PutOptions::default());
                put.unwrap();
            }
            writer.flush().unwrap();
            drop(writer);
            let packs = names.finish(&workspace).unwrap();
            Self {
                storage,
                packs,
                _directory: directory,
            }
        }

        /// Reads contents (pack, offset, length) with `workers` workers; returns what came.
        fn read(
            &self,
            contents: &[(u32, u32, u32)],
            buffer_bytes: usize,
            workers: usize,
        ) -> Result<Vec<(u32, u32, Option<Vec<u8>>)>, RepositoryError> {
            let mut records: Vec<Vec<u8>> = contents
                .iter()
                .map(|(pack, offset, length)| {
                    let mut record = vec![0; LAYOUT.record_bytes()];
                    let place = Place {
                        group: 0,
                        pack: *pack,
                        offset: *offset,
                        length: *length,
                    };
                    let mut key = [0; 17];
                    key[1] = *pack as u8;
                    LAYOUT.encode(&mut record, &place, &key, &[1]);
                    record
                })
                .collect();
            records.sort();
            let reader = PackReader::new(Given(records.into_iter(), vec![]), LAYOUT, &self.packs);
            let workers = (0..workers).map(|_| |_: &mut PackBatch| Ok(())).collect();
            let mut came = Vec::new();
            reader.read(&self.storage, buffer_bytes, workers, |batch| {
                for number in 0..batch.len() {
                    let content = batch.content(number);
                    let place = LAYOUT.place(content.record);
                    let name = format!("p{:032x}-s1", place.pack);
                    assert_eq!(content.pack.as_str(), name);
                    let bytes = (!batch.large()).then(|| content.bytes.to_vec());
                    came.push((place.pack, place.offset, bytes));
                }
                Ok::<(), RepositoryError>(())
            })?;
            Ok(came)
        }
    }

    /// Goal: neighbours share a GET, far ones and other packs do not.
    #[test]
    fn one_get_for_neighbours() {
        let world = World::new(&[500_000, 500_000]);
        let contents: Vec<_> = (0..1000).map(|n| (0, 32 + n * 400, 390)).collect();
        let came = world.read(&contents, MIB, 2).unwrap();
        assert_eq!(came.len(), 1000);
        assert_eq!(world.storage.counters().gets, 1);
        let far = [(0, 0, 10), (0, 10 + 32 * 1024 + 1, 10), (1, 0, 10)];
        world.read(&far, MIB, 2).unwrap();
        assert_eq!(world.storage.counters().gets, 1 + 3);
        world.read(&contents, 50_000, 2).unwrap();
        assert_eq!(world.storage.counters().gets, 4 + 8);
    }

    /// Goal: a content larger than the buffer is announced, in its place, and not read.
    #[test]
    fn large_contents_come_alone() {
        let world = World::new(&[10_000]);
        let contents = [(0, 0, 100), (0, 100, 5000), (0, 5100, 100)];
        let came = world.read(&contents, 1000, 2).unwrap();
        let sizes: Vec<_> = came
            .iter()
            .map(|(_, _, b)| b.as_ref().map(Vec::len))
            .collect();
        assert_eq!(sizes, [Some(100), None, Some(100)]);
        assert_eq!(world.storage.counters().gets, 2);
    }

    /// Goal: what is missing is named by pack and by the first content that it lacks.
    #[test]
    fn missing_and_short_packs_are_named() {
        let world = World::new(&[1000, 1000]);
        let short = world.read(&[(0, 0, 100), (0, 990, 10), (0, 995, 10)], MIB, 1);
        let Err(RepositoryError::ShortPack {
            pack, pack_bytes, ..
        }) = short
        else {
            panic!("{short:?}")
        };
        assert_eq!(
            (pack.as_str(), pack_bytes),
            (&*format!("p{:032x}-s1", 0), 1000)
        );
        world
            .storage
            .delete(&format!("p{:032x}-s1", 1).into())
            .unwrap();
        let gone = world.read(&[(0, 0, 100), (1, 40, 10)], MIB, 2);
        let Err(RepositoryError::MissingPack { pack, content }) = gone else {
            panic!("{gone:?}")
        };
        assert_eq!(pack, format!("p{:032x}-s1", 1));
        assert!(content.starts_with("01"), "{content}");
    }

    proptest! {
        /// Goal: every content comes once, in order, with its own bytes, whatever the buffer.
        #[test]
        fn every_content_comes_once_with_its_bytes(
            contents in proptest::collection::vec((0..3_u32, 0..90_000_u32, 1..5000_u32), 0..60),
            buffer_bytes in 5000..60_000_usize,
            workers in 1..4_usize,
        ) {
            let world = World::new(&[100_000; 3]);
            let mut expected: Vec<_> = contents.clone();
            expected.sort_unstable();
            let came = world.read(&contents, buffer_bytes, workers).unwrap();
            prop_assert_eq!(came.len(), expected.len());
            for ((pack, offset, bytes), wanted) in came.iter().zip(expected) {
                prop_assert_eq!((*pack, *offset), (wanted.0, wanted.1));
                let bytes = bytes.as_ref().unwrap();
                prop_assert_eq!(bytes.len(), wanted.2 as usize);
                let right = |(at, b): (usize, &u8)| *b == byte(*pack, offset + at as u32);
                prop_assert!(bytes.iter().enumerate().all(right));
            }
        }
    }
}
