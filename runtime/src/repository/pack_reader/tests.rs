//! What reading packs gives and what it costs: every content once, in order, with its bytes, in few
//! GETs.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::blob::{MemoryStore, PutOptions};
use crate::clock::{ManualClock, Timestamp};
use crate::memory::{MIB, MemoryPlan};
use crate::progress::Silent;
use crate::repository::Workspace;
use crate::repository::pack_heads::HEAD_BYTES;
use crate::repository::pack_names::PackNames;
use crate::spill::{Scratch, ScratchOptions};

const LAYOUT: PackOrder = PackOrder {
    key_bytes: 17,
    extra_bytes: 1,
};

/// A content that came: pack, offset, bytes unless it is large.
type Came = (u32, u32, Option<Vec<u8>>);

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
    prefix: &'static str,
    packs: PackTable,
    scratch: Scratch,
    _directory: tempfile::TempDir,
}

/// Byte `at` of pack `pack`.
fn byte(pack: u32, at: u32) -> u8 {
    (at.wrapping_mul(31).wrapping_add(pack * 77) >> 2) as u8
}

impl World {
    /// Packs of data of these lengths.
    fn new(lengths: &[u32]) -> Self {
        Self::of("p", lengths)
    }

    /// Packs of one kind.
    fn of(prefix: &'static str, lengths: &[u32]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = ScratchOptions {
            parent: directory.path().to_owned(),
            quota_bytes: None,
            tmpfs_allowed: true,
            direct: true,
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
            let name = format!("{prefix}{number:032x}-s1");
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
            prefix,
            packs,
            scratch: workspace.scratch.clone(),
            _directory: directory,
        }
    }

    /// Reads contents (pack, offset, length) with `workers` workers; returns what came.
    fn read(
        &self,
        contents: &[(u32, u32, u32)],
        buffer_bytes: usize,
        workers: usize,
    ) -> Result<Vec<Came>, RepositoryError> {
        let of_group = contents.iter().map(|content| (0, *content));
        self.read_groups(of_group.collect(), buffer_bytes, workers, false)
    }

    /// Reads contents with two workers and buffers of a MiB, and heads along if `reading`; returns
    /// what came and how many GETs it took.
    fn read_heads(&self, contents: &[(u32, u32, u32)], reading: bool) -> (Vec<Came>, u64) {
        let before = self.storage.counters().gets;
        let of_group = contents.iter().map(|content| (0, *content)).collect();
        let came = self.read_with(of_group, MIB, 2, |reader| match reading {
            true => reader.reading_heads(&self.scratch),
            false => reader.taking_heads(&self.scratch),
        });
        (came.unwrap(), self.storage.counters().gets - before)
    }

    /// The same for contents of several groups; ends of packs are kept where `tails` says so.
    fn read_groups(
        &self,
        contents: Vec<(u8, (u32, u32, u32))>,
        buffer_bytes: usize,
        workers: usize,
        tails: bool,
    ) -> Result<Vec<Came>, RepositoryError> {
        self.read_with(contents, buffer_bytes, workers, |reader| match tails {
            true => reader.keeping_tails(&self.scratch),
            false => reader,
        })
    }

    /// The same with a reader that was made as it should be.
    fn read_with<'a>(
        &'a self,
        contents: Vec<(u8, (u32, u32, u32))>,
        buffer_bytes: usize,
        workers: usize,
        make: impl FnOnce(PackReader<'a, Given>) -> PackReader<'a, Given>,
    ) -> Result<Vec<Came>, RepositoryError> {
        let reader = make(PackReader::new(sorted(&contents), LAYOUT, &self.packs));
        let workers = (0..workers).map(|_| |_: &mut PackBatch| Ok(())).collect();
        let mut came = Vec::new();
        reader.read(&self.storage, buffer_bytes, workers, |batch| {
            for number in 0..batch.len() {
                let content = batch.content(number);
                let place = LAYOUT.place(content.record);
                let name = format!("{}{:032x}-s1", self.prefix, place.pack);
                assert_eq!(content.pack.as_str(), name);
                let bytes = (!batch.large()).then(|| content.bytes.to_vec());
                came.push((place.pack, place.offset, bytes));
            }
            Ok::<(), RepositoryError>(())
        })?;
        Ok(came)
    }
}

/// Returns the records of contents of several groups, in order.
fn sorted(contents: &[(u8, (u32, u32, u32))]) -> Given {
    let record = |(group, (pack, offset, length)): &(u8, (u32, u32, u32))| {
        let mut record = vec![0; LAYOUT.record_bytes()];
        let place = Place {
            group: u16::from(*group),
            pack: *pack,
            offset: *offset,
            length: *length,
        };
        let mut key = [0; 17];
        key[1] = *pack as u8;
        LAYOUT.encode(&mut record, &place, &key, &[1]);
        record
    };
    let mut records: Vec<Vec<u8>> = contents.iter().map(record).collect();
    records.sort();
    Given(records.into_iter(), vec![])
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

/// Goal: a pack takes no more GETs than its bytes fill buffers, whatever was left of the one
/// before.
#[test]
fn a_pack_begins_in_a_buffer_with_room() {
    let world = World::new(&[270_000; 4]);
    let pack = |pack| (0..270).map(move |n| (pack, n * 1000, 1000));
    let contents: Vec<_> = (0..4).flat_map(pack).collect();
    let came = world.read(&contents, 100_000, 2).unwrap();
    assert_eq!(came.len(), 4 * 270);
    assert_eq!(world.storage.counters().gets, 4 * 3);
}

/// Goal: contents of two groups in one pack come in the order of groups, each with its bytes.
#[test]
fn groups_may_share_a_pack() {
    let world = World::new(&[10_000]);
    let contents = vec![(0, (0, 5000, 100)), (1, (0, 32, 100)), (1, (0, 5200, 100))];
    let came = world.read_groups(contents, MIB, 2, false).unwrap();
    let offsets: Vec<u32> = came.iter().map(|(_, offset, _)| *offset).collect();
    assert_eq!(offsets, [5000, 32, 5200]);
    for (pack, offset, bytes) in came {
        let right = |(at, b): (usize, &u8)| *b == byte(pack, offset + at as u32);
        assert!(bytes.unwrap().iter().enumerate().all(right), "{offset}");
    }
}

/// Goal: what lies behind the last content of a pack is read along and kept, as long as there is
/// room for all of it, with no GET more.
#[test]
fn the_end_of_a_pack_is_kept() {
    let world = World::new(&[100_000; 3]);
    world.scratch.open_shelf();
    let kept = |pack: u32| {
        let mut tail = vec![0; 100_000];
        let name = format!("tail of p{pack:032x}-s1");
        let count = world.scratch.read_kept(&name, 0, &mut tail)?;
        tail.truncate(count);
        Some(tail)
    };
    let contents = vec![
        (0, (0, 0, 1000)),
        (0, (0, 96_000, 1000)),
        (0, (1, 0, 80_000)), // much more behind it than a local index
        (1, (2, 90_000, 4000)),
    ];
    world.read_groups(contents, 200_000, 2, true).unwrap();
    let end: Vec<u8> = (97_000..100_000).map(|at| byte(0, at)).collect();
    assert_eq!(kept(0), Some(end));
    assert_eq!(kept(1), None);
    assert_eq!(kept(2).unwrap().len(), 6_000);
    assert_eq!(world.storage.counters().gets, 4);
    let world = World::new(&[100_000]);
    world.scratch.open_shelf();
    world
        .read_groups(vec![(0, (0, 0, 97_000))], 99_000, 1, true)
        .unwrap();
    assert_eq!(
        world.scratch.kept_bytes(&format!("tail of p{:032x}-s1", 0)),
        None,
        "no room"
    );
}

/// Goal: contents larger than the buffer are announced, in their place, and not read.
#[test]
fn large_contents_come_alone() {
    let world = World::new(&[20_000]);
    let contents = [
        (0, 0, 100),
        (0, 100, 5000),
        (0, 5100, 6000),
        (0, 11_100, 100),
    ];
    let came = world.read(&contents, 1000, 2).unwrap();
    let sizes: Vec<_> = came
        .iter()
        .map(|(_, _, b)| b.as_ref().map(Vec::len))
        .collect();
    assert_eq!(sizes, [Some(100), None, None, Some(100)]);
    assert_eq!(world.storage.counters().gets, 2);
}

/// Goal: large neighbours of one pack are one batch, which others never join; the end of the pack
/// is kept when the last of them has been read.
#[test]
fn large_neighbours_are_one_batch() {
    let world = World::new(&[60_000, 60_000]);
    world.scratch.open_shelf();
    let large = [
        (0, 100, 20_000),
        (0, 20_100, 10_000),
        (0, 40_000, 10_000), // not a neighbour
        (0, 50_000, 9_000),
        (1, 59_000, 900), // fits, with all that is behind it
        (1, 100, 20_000),
    ];
    let mut batches = Vec::new();
    let records = sorted(&large.map(|content| (0, content)));
    let reader = PackReader::new(records, LAYOUT, &world.packs).keeping_tails(&world.scratch);
    let work = |batch: &mut PackBatch| {
        batch.read_large(&world.storage, &world.scratch, |record, pack, buffer| {
            let place = LAYOUT.place(record);
            assert_eq!(pack.as_str(), format!("p{:032x}-s1", place.pack));
            assert_eq!(buffer.len(), 9_000 - 1);
            let file = world.scratch.create_file("test")?;
            file.append(&place.offset.to_be_bytes())?;
            Ok(Some(Arc::new(file)))
        })
    };
    let take = |batch: &mut PackBatch| {
        batches.push((batch.large(), batch.len()));
        for number in 0..if batch.large() { batch.len() } else { 0 } {
            let mut offset = [0; 4];
            batch.next_file().unwrap().read_exact_at(&mut offset, 0)?;
            let place = LAYOUT.place(batch.content(number).record);
            assert_eq!(u32::from_be_bytes(offset), place.offset);
        }
        assert!(batch.next_file().is_none());
        Ok::<(), RepositoryError>(())
    };
    reader
        .read(&world.storage, 9_000 - 1, vec![work], take)
        .unwrap();
    assert_eq!(batches, [(true, 2), (true, 2), (true, 1), (false, 1)]);
    for (pack, bytes) in [(0, 1_000), (1, 100)] {
        let kept = world
            .scratch
            .kept_bytes(&format!("tail of p{pack:032x}-s1"));
        assert_eq!(kept, Some(bytes), "{pack}");
    }
    assert_eq!(world.storage.counters().gets, 2);
}

/// Goal: a small metadata pack is one GET, whoever wants what of it; nobody gets wrong bytes.
#[test]
fn the_head_of_a_metadata_pack_is_read_once() {
    let head = HEAD_BYTES as u32;
    let world = World::of("q", &[30_000, 200_000, 300]);
    world.scratch.open_shelf();
    let right = |came: &[Came]| {
        came.iter().all(|(pack, offset, bytes)| {
            let mut bytes = bytes.iter().flatten().enumerate();
            bytes.all(|(at, b)| *b == byte(*pack, offset + at as u32))
        })
    };
    let first = [
        (0, 5_000, 10),
        (1, 40_000, 10),
        (1, 150_000, 10),
        (2, 0, 300),
    ];
    assert_eq!(world.read_heads(&first, false).1, 4, "none is there");
    let (came, gets) = world.read_heads(&first, true);
    assert!(right(&came));
    assert_eq!(gets, 4);
    let kept = |pack: u32| {
        let heads = PackHeads::of(&world.scratch);
        heads.kept_bytes(&format!("q{pack:032x}-s1").into())
    };
    let all = [Some(30_000), Some(HEAD_BYTES as u64), Some(300)];
    assert_eq!([0, 1, 2].map(kept), all);
    for reading in [false, true] {
        let known = [
            (0, 0, 32),
            (0, 29_000, 1_000),
            (1, head - 10, 10),
            (2, 7, 9),
        ];
        let (came, gets) = world.read_heads(&known, reading);
        assert!(right(&came));
        assert_eq!(gets, 0);
        let (came, gets) = world.read_heads(&[(1, head - 9, 10)], reading);
        assert!(right(&came));
        assert_eq!(gets, 1, "not all of it is there");
    }
    let data = World::new(&[30_000]);
    data.scratch.open_shelf();
    for _ in 0..2 {
        assert_eq!(data.read_heads(&[(0, 50, 10)], true).1, 1);
    }
    let without_shelf = World::of("q", &[30_000]);
    for _ in 0..2 {
        let (came, gets) = without_shelf.read_heads(&[(0, 5_000, 10)], true);
        assert!(right(&came));
        assert_eq!(gets, 1);
    }
}

/// Goal: a pack that ends before its contents is told all the same when its head is read.
#[test]
fn a_short_metadata_pack_is_told() {
    let world = World::of("q", &[1000]);
    world.scratch.open_shelf();
    let contents = vec![(0, (0, 900, 50)), (0, (0, 950, 51))];
    let short = world.read_with(contents, MIB, 1, |reader| {
        reader.reading_heads(&world.scratch)
    });
    let Err(RepositoryError::ShortPack { pack_bytes, .. }) = short else {
        panic!("{short:?}")
    };
    assert_eq!(pack_bytes, 1000);
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
        buffer_bytes in prop_oneof![5000..60_000_usize, 60_000..4_000_000_usize],
        workers in 1..4_usize,
        heads in any::<bool>(),
    ) {
        let world = World::of("q", &[95_000; 3]);
        world.scratch.open_shelf();
        let mut expected: Vec<_> = contents.clone();
        expected.sort_unstable();
        let of_group = contents.iter().map(|content| (0, *content));
        if heads {
            // Some of it was read before.
            let some = of_group.clone().step_by(2).collect();
            let first = world.read_with(some, buffer_bytes, workers, |reader| {
                reader.reading_heads(&world.scratch)
            });
            first.unwrap();
        }
        let came = world.read_with(of_group.collect(), buffer_bytes, workers, |reader| {
            match heads {
                true => reader.reading_heads(&world.scratch),
                false => reader.taking_heads(&world.scratch),
            }
        });
        let came = came.unwrap();
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
