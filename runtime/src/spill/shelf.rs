//! The shelf of a scratch: bytes that will be asked for again, kept by name while there is room.
//!
//! The tasks of a run read the same immutable blobs one after the other. What is put on the shelf
//! by one is read from it by the next, instead of from the store. Everything else goes first: the
//! shelf takes a part of what is free, is in nobody's account, and is emptied for good as soon as
//! anything else needs the room. It keeps nothing rather than failing anybody.
//!
//! Memory: none; the table of names is in the file too. Scratch: a sparse table of
//! [`SHELF_TABLE_BYTES`], and what is kept. Invariant: bytes come back only under their whole name,
//! and as they were put.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::fs::{Advice, fadvise};

use super::scratch::Scratch;

/// One part of so many of the free scratch is the most that the shelf takes.
const SHARE: u64 = 4;

/// Places in the table: an index jammed with 64,621 blobs has been seen.
const SLOTS: u64 = 1 << 17;

/// Where what is kept begins, check of the name; zeros where there is nothing.
const SLOT_BYTES: usize = 16;

/// Size of the table, in bytes.
pub const SHELF_TABLE_BYTES: u64 = SLOTS * SLOT_BYTES as u64;

/// Up to this, bytes are written with their head at once, and are brought to the disk together.
const SMALL_BYTES: usize = 64 * 1024;

/// What is free is looked at again after so many bytes.
const GRANT_BYTES: u64 = 1024 * 1024;

/// Places that are looked at for a name. With the table half full, four are nearly always enough.
const PROBES: u64 = 16;

/// Longest name, in bytes.
const NAME_MAX: usize = 255;

/// Length of the name, name, length of what follows.
const HEAD_BYTES: usize = 1 + NAME_MAX + 8;

/// What is kept of one scratch.
#[derive(Debug)]
pub(super) struct Shelf {
    file: RwLock<Option<Kept>>,
    bytes: AtomicU64,
    /// Whether the page cache is small, and not to be filled.
    direct: bool,
}

#[derive(Debug)]
struct Kept {
    file: File,
    end: u64,
    /// How far it may grow until what is free is looked at again.
    granted: u64,
}

/// Bytes on their way to the shelf, in pieces; they are found only after [`ShelfPlace::finish`].
pub struct ShelfPlace<'a> {
    shelf: &'a Shelf,
    name: String,
    head_at: u64,
    bytes_at: u64,
    len: u64,
}

impl Scratch {
    /// Fills `into` with what is kept under `name`, from `offset` on, as far as it reaches; returns
    /// how many bytes. `None` where nothing is.
    pub fn read_kept(&self, name: &str, offset: u64, into: &mut [u8]) -> Option<usize> {
        self.shelf()?.read(name, offset, into)
    }

    /// Returns the length of what is kept under `name`, in bytes.
    pub fn kept_bytes(&self, name: &str) -> Option<u64> {
        let shelf = self.shelf()?;
        let kept = shelf.reader();
        kept.as_ref()?.find(name).map(|(_, len)| len)
    }

    /// Keeps `bytes`, if there is room: they must be the same whenever they are put under `name`.
    pub fn keep(&self, name: &str, bytes: &[u8]) {
        let Some(place) = self.begin_keeping(name, bytes.len() as u64) else {
            return;
        };
        if bytes.len() <= SMALL_BYTES {
            let mut all = place.head();
            all.extend_from_slice(bytes);
            place.write_at(place.head_at, &all);
            place.enter();
        } else {
            place.write(0, bytes);
            place.finish();
        }
    }

    /// Begins to keep `len` bytes; `None` where there is no room, or they are there.
    pub fn begin_keeping(&self, name: &str, len: u64) -> Option<ShelfPlace<'_>> {
        let shelf = self.shelf()?;
        if name.len() > NAME_MAX || self.kept_bytes(name).is_some() {
            return None;
        }
        let head_bytes = (1 + name.len() + 8) as u64;
        let all_bytes = head_bytes.checked_add(len)?;
        let mut kept = shelf.writer();
        let kept = kept.as_mut()?;
        let head_at = kept.end;
        let end = head_at.checked_add(all_bytes)?;
        if end > kept.granted {
            // What is free includes the shelf.
            let most = self.free_bytes() / SHARE;
            if end > most {
                return None;
            }
            kept.granted = most.min(end.saturating_add(GRANT_BYTES));
        }
        kept.end = end;
        shelf.bytes.fetch_add(all_bytes, Ordering::Relaxed);
        if shelf.direct && head_at / GRANT_BYTES != end / GRANT_BYTES {
            // What is small has gathered to this.
            let from = (head_at / GRANT_BYTES).saturating_sub(1) * GRANT_BYTES;
            let_go(&kept.file, from, (head_at - from) as usize);
        }
        self.note_peak();
        Some(ShelfPlace {
            shelf,
            name: name.to_owned(),
            head_at,
            bytes_at: head_at + head_bytes,
            len,
        })
    }
}

impl ShelfPlace<'_> {
    /// Writes a piece; several threads may.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        let end = offset.checked_add(bytes.len() as u64);
        debug_assert!(
            end.is_some_and(|end| end <= self.len),
            "a piece is a part of what was announced"
        );
        self.write_at(self.bytes_at + offset, bytes);
    }

    /// Makes it be found; all pieces were written.
    pub fn finish(self) {
        self.write_at(self.head_at, &self.head());
        self.enter();
    }

    fn head(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.push(self.name.len() as u8); // at most NAME_MAX
        head.extend_from_slice(self.name.as_bytes());
        head.extend_from_slice(&self.len.to_le_bytes());
        head
    }

    fn write_at(&self, at: u64, bytes: &[u8]) {
        let shelf = self.shelf;
        let written = match shelf.reader().as_ref() {
            Some(kept) => kept.file.write_all_at(bytes, at).map(|()| {
                if shelf.direct && bytes.len() > SMALL_BYTES {
                    let_go(&kept.file, at, bytes.len());
                }
            }),
            None => Ok(()),
        };
        shelf.check(written);
    }

    fn enter(self) {
        let entered = match self.shelf.writer().as_mut() {
            Some(kept) => kept.enter(&self.name, self.head_at),
            None => Ok(()),
        };
        self.shelf.check(entered);
    }
}

impl Shelf {
    /// Makes an empty one in a file without a name.
    pub(super) fn new(file: File, direct: bool) -> Self {
        Self {
            file: RwLock::new(Some(Kept {
                file,
                end: SHELF_TABLE_BYTES,
                granted: SHELF_TABLE_BYTES,
            })),
            bytes: AtomicU64::new(0),
            direct,
        }
    }

    /// Returns the bytes that it has of the disk; none before anything is kept.
    pub(super) fn bytes(&self) -> u64 {
        match self.bytes.load(Ordering::Relaxed) {
            0 => 0,
            kept => kept + SHELF_TABLE_BYTES,
        }
    }

    /// Gives everything back and keeps nothing any more; returns whether there was anything.
    pub(super) fn give_way(&self) -> bool {
        let file = self.writer().take();
        drop(file);
        self.bytes.swap(0, Ordering::Relaxed) > 0
    }

    fn read(&self, name: &str, offset: u64, into: &mut [u8]) -> Option<usize> {
        let kept = self.reader();
        let kept = kept.as_ref()?;
        let (bytes_at, len) = kept.find(name)?;
        let count = into.len().min(len.saturating_sub(offset) as usize);
        let at = bytes_at + offset;
        kept.file.read_exact_at(into.get_mut(..count)?, at).ok()?;
        if self.direct && count > SMALL_BYTES {
            let_go(&kept.file, at, count);
        }
        Some(count)
    }

    /// Empties the shelf where something went wrong: it spares work, and fails nobody.
    fn check(&self, done: io::Result<()>) {
        if let Err(error) = done {
            tracing::debug!(%error, "nothing is kept in scratch any more");
            self.give_way();
        }
    }

    fn reader(&self) -> RwLockReadGuard<'_, Option<Kept>> {
        // A panic elsewhere leaves what is entered as it is.
        self.file.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> RwLockWriteGuard<'_, Option<Kept>> {
        self.file.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Returns where the bytes of `name` begin, and how many there are.
    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let hash = hash_of(name);
        for probe in 0..PROBES {
            let (head_at, check) = self.slot(hash.wrapping_add(probe) % SLOTS)?;
            if head_at == 0 {
                return None;
            }
            if check != hash {
                continue;
            }
            let mut head = [0; HEAD_BYTES];
            let head = &mut head[..1 + name.len() + 8];
            self.file.read_exact_at(head, head_at).ok()?;
            let (own, len) = head.split_last_chunk()?;
            let (own_bytes, own) = own.split_first()?;
            if usize::from(*own_bytes) == name.len() && own == name.as_bytes() {
                return Some((head_at + head.len() as u64, u64::from_le_bytes(*len)));
            }
        }
        None
    }

    /// Enters a name; where its part of the table is full it is not found, and no harm done.
    fn enter(&mut self, name: &str, head_at: u64) -> io::Result<()> {
        let hash = hash_of(name);
        for probe in 0..PROBES {
            let number = hash.wrapping_add(probe) % SLOTS;
            if self.slot(number).is_some_and(|(at, _)| at == 0) {
                let mut slot = [0; SLOT_BYTES];
                slot[..8].copy_from_slice(&head_at.to_le_bytes());
                slot[8..].copy_from_slice(&hash.to_le_bytes());
                return self.file.write_all_at(&slot, number * SLOT_BYTES as u64);
            }
        }
        Ok(())
    }

    /// Reads a place of the table; zeros where nothing was written.
    fn slot(&self, number: u64) -> Option<(u64, u64)> {
        let mut slot = [0; SLOT_BYTES];
        let at = number * SLOT_BYTES as u64;
        self.file.read_exact_at(&mut slot, at).ok()?;
        let (at, check) = slot.split_first_chunk()?;
        let check = check.first_chunk()?;
        Some((u64::from_le_bytes(*at), u64::from_le_bytes(*check)))
    }
}

/// Starts to bring bytes to the disk, and forgets those that are there.
fn let_go(file: &File, at: u64, count: usize) {
    if let Some(len) = NonZeroU64::new(count as u64) {
        let _ = fadvise(file, at, Some(len), Advice::DontNeed);
    }
}

fn hash_of(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::scratch::test_scratch;
    use super::*;

    fn read(scratch: &Scratch, name: &str, offset: u64, most: usize) -> Option<Vec<u8>> {
        let mut into = vec![0; most];
        let count = scratch.read_kept(name, offset, &mut into)?;
        into.truncate(count);
        Some(into)
    }

    /// Goal: what is kept comes back under its name, whole or in part; all else is not there.
    #[test]
    fn what_is_kept_comes_back_by_name() {
        let (_parent, scratch) = test_scratch(None);
        scratch.keep("a", b"too early");
        assert_eq!(read(&scratch, "a", 0, 10), None, "there is no shelf");
        scratch.open_shelf();
        for number in 0..1_000 {
            scratch.keep(
                &format!("blob-{number}"),
                format!("bytes {number}").as_bytes(),
            );
        }
        scratch.keep("blob-7", b"the first stays");
        scratch.keep("", b"");
        for number in 0..1_000 {
            let kept = read(&scratch, &format!("blob-{number}"), 0, 100).unwrap();
            assert_eq!(kept, format!("bytes {number}").as_bytes());
        }
        assert_eq!(read(&scratch, "blob-7", 2, 4).unwrap(), b"tes ");
        assert_eq!(read(&scratch, "blob-7", 8, 4).unwrap(), b"");
        assert_eq!(read(&scratch, "blob-7", 9, 4).unwrap(), b"");
        assert_eq!(read(&scratch, "", 0, 4).unwrap(), b"");
        assert_eq!(read(&scratch, "blob-1000", 0, 4), None);
        assert_eq!(scratch.kept_bytes("blob-77"), Some(8));
        let long = "n".repeat(NAME_MAX + 1);
        scratch.keep(&long, b"x");
        scratch.keep(&long[1..], b"y");
        assert_eq!(read(&scratch, &long, 0, 4), None);
        assert_eq!(read(&scratch, &long[1..], 0, 4).unwrap(), b"y");
        assert_eq!(scratch.used_bytes(), 0, "it is in nobody's account");
        assert!(scratch.peak_bytes() > SHELF_TABLE_BYTES, "but told");
    }

    /// Goal: pieces are found when all are there, and not before.
    #[test]
    fn pieces_are_found_when_they_are_finished() {
        let (_parent, scratch) = test_scratch(None);
        scratch.open_shelf();
        let place = scratch.begin_keeping("a", 6).unwrap();
        place.write(3, b"def");
        assert_eq!(scratch.kept_bytes("a"), None);
        place.write(0, b"abc");
        place.finish();
        assert_eq!(read(&scratch, "a", 0, 10).unwrap(), b"abcdef");
        assert!(scratch.begin_keeping("a", 6).is_none(), "it is there");
    }

    /// Goal: names whose places are taken are not found, and nobody is hurt. Method: more names
    /// than there are places, the table read as a whole.
    #[test]
    fn a_full_table_keeps_what_it_has() {
        let (_parent, scratch) = test_scratch(None);
        scratch.open_shelf();
        let names = SLOTS + SLOTS / 2;
        for number in 0..names {
            scratch.keep(&number.to_string(), &number.to_le_bytes());
        }
        let mut found = 0;
        for number in 0..names {
            if let Some(bytes) = read(&scratch, &number.to_string(), 0, 8) {
                assert_eq!(bytes, number.to_le_bytes());
                found += 1;
            }
        }
        assert!(found > SLOTS * 9 / 10 && found <= SLOTS, "{found}");
    }

    /// Goal: a part of the quota at most, and nothing as soon as somebody needs it.
    #[test]
    fn it_gives_way() {
        let (_parent, scratch) = test_scratch(Some(40 << 20));
        scratch.open_shelf();
        let piece = vec![1; 1 << 20];
        for number in 0..20 {
            scratch.keep(&number.to_string(), &piece);
        }
        assert_eq!(read(&scratch, "0", 0, 1), Some(vec![1]));
        assert_eq!(read(&scratch, "7", 0, 1), None, "a quarter, table included");
        assert_eq!(scratch.free_bytes(), 40 << 20);
        let file = scratch.create_file("test").unwrap();
        file.truncate(30 << 20).unwrap();
        assert_eq!(read(&scratch, "0", 0, 1), Some(vec![1]), "there was room");
        file.truncate(40 << 20).unwrap();
        assert_eq!(read(&scratch, "0", 0, 1), None);
        assert!(file.append(b"x").is_err());
        drop(file);
        scratch.keep("0", b"again");
        assert_eq!(read(&scratch, "0", 0, 1), None, "for good");

        let (_parent, scratch) = test_scratch(Some(40 << 20));
        scratch.open_shelf();
        scratch.keep("0", &piece);
        scratch.require(30 << 20).unwrap();
        assert_eq!(read(&scratch, "0", 0, 1), Some(vec![1]), "there is room");
        scratch.require(40 << 20).unwrap();
        assert_eq!(read(&scratch, "0", 0, 1), None);
        assert!(scratch.require((40 << 20) + 1).is_err());
    }
}
