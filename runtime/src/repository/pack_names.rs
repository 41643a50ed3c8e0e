//! Pack blob IDs as numbers: a spool of names, and a table that says which numbers mean the same
//! pack.
//!
//! Every index blob names its packs; records carry a number of the spool instead
//! ([`super::record`]). The same pack may have several numbers, one for each blob that names it.
//! Before records are merged, a sort of fingerprints finds the equal ones and the table maps them
//! to the smallest, the canonical number.
//!
//! Memory: one buffer of [`WRITE_BYTES`] a writer. Spool and table are files in scratch, the table
//! mapped: they grow with the number of packs, and must be disk for that reason. Limit: names of
//! [`NAME_BYTES_MAX`] bytes; Kopia's have 54 (33 before version 0.8).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::kopia::FormatError;
use crate::spill::MappedU32;
use crate::spill::{ScratchFile, SequentialReader};

use super::{RepositoryError, Workspace};

/// Longest pack blob ID, in bytes.
pub const NAME_BYTES_MAX: usize = SLOT_BYTES - 2;

/// Bytes of one name in the spool: target, length, name, zeros.
pub const SLOT_BYTES: usize = 64;

/// Buffer of one writer, in bytes.
pub const WRITE_BYTES: usize = 64 * 1024;

/// Numbers that a writer reserves at a time; what it does not use stays a hole of zeros on disk.
const RESERVED_NUMBERS: u32 = 4096;

/// Different names with the same 64-bit fingerprint that are told apart; two are a freak, eight an
/// attack.
const SAME_FINGERPRINT_MAX: usize = 8;

/// Set in the table when the rest is the canonical number.
const ALIAS: u32 = 1 << 31;

/// In the table: a canonical number without a value yet.
const EMPTY: u32 = ALIAS - 1;

/// The spool while index blobs are loaded.
pub struct PackNames {
    file: Arc<ScratchFile>,
    next: AtomicU32,
}

impl PackNames {
    /// Makes an empty spool.
    pub fn create(workspace: &Workspace) -> Result<Self, RepositoryError> {
        let file = Arc::new(workspace.scratch.create_file("pack-names")?);
        Ok(Self {
            file,
            next: AtomicU32::new(0),
        })
    }

    /// Returns a writer; each worker has its own.
    pub fn writer(&self) -> PackNameWriter<'_> {
        PackNameWriter {
            names: self,
            buffer: Vec::with_capacity(WRITE_BYTES),
            next: 0,
            end: 0,
        }
    }

    /// Ends the spool and finds the equal names.
    pub fn finish(self, workspace: &Workspace) -> Result<PackTable, RepositoryError> {
        let count = self.file.len() / SLOT_BYTES as u64;
        let table = MappedU32::create(&workspace.scratch, count, EMPTY)?;
        let mut packs = PackTable {
            file: self.file,
            table,
            count,
            used: [0; 256],
        };
        packs.find_equal_names(workspace)?;
        Ok(packs)
    }
}

/// Appends names to the spool.
pub struct PackNameWriter<'a> {
    names: &'a PackNames,
    buffer: Vec<u8>,
    next: u32,
    end: u32,
}

impl PackNameWriter<'_> {
    /// Makes sure that the next `count` names get consecutive numbers and returns the first.
    pub fn reserve(&mut self, count: u32) -> Result<u32, RepositoryError> {
        if self.end - self.next < count {
            self.flush()?;
            let taken = count.max(RESERVED_NUMBERS);
            self.next = self.names.next.fetch_add(taken, Ordering::Relaxed);
            self.end = self
                .next
                .checked_add(taken)
                .filter(|end| *end < EMPTY)
                .ok_or(RepositoryError::TooMany {
                    what: "pack names",
                    maximum: EMPTY as usize,
                })?;
        }
        Ok(self.next)
    }

    /// Appends the name of a pack that entries for `target` use, and returns its number.
    pub fn push(&mut self, target: u8, name: &[u8], blob: &str) -> Result<u32, RepositoryError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            let reason = format!("a pack blob ID of {} bytes", name.len());
            return Err(FormatError::malformed(blob, reason).into());
        }
        let number = self.reserve(1)?;
        let at = self.buffer.len();
        self.buffer.resize(at + SLOT_BYTES, 0);
        self.buffer[at] = target;
        self.buffer[at + 1] = name.len() as u8;
        self.buffer[at + 2..at + 2 + name.len()].copy_from_slice(name);
        self.next += 1;
        if self.buffer.len() + SLOT_BYTES > WRITE_BYTES {
            self.flush()?;
        }
        Ok(number)
    }

    /// Writes what is buffered; to be called at the end.
    pub fn flush(&mut self) -> Result<(), RepositoryError> {
        if !self.buffer.is_empty() {
            let first = u64::from(self.next) - (self.buffer.len() / SLOT_BYTES) as u64;
            self.names
                .file
                .write_all_at(&self.buffer, first * SLOT_BYTES as u64)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// All names, and for every number its canonical one with a value that an index writer gives it.
pub struct PackTable {
    file: Arc<ScratchFile>,
    table: MappedU32,
    count: u64,
    used: [u32; 256],
}

impl PackTable {
    /// Returns how many numbers there are, aliases and holes included.
    pub fn numbers(&self) -> u64 {
        self.count
    }

    /// Returns how many different packs the entries of a target can name.
    pub fn different(&self, target: u8) -> u32 {
        self.used[usize::from(target)]
    }

    /// Asks for the table's place of a number to be fetched into the processor's cache.
    #[inline]
    pub fn prefetch(&self, number: u32) {
        self.table.prefetch(u64::from(number));
    }

    /// Returns the canonical number of `number`.
    #[inline]
    pub fn canonical(&self, number: u32) -> u32 {
        let value = self.table.get(u64::from(number));
        if value & ALIAS == 0 {
            number
        } else {
            value & !ALIAS
        }
    }

    /// Returns the value of a number's canonical number, and that; `None` while it has none.
    #[inline]
    pub fn value(&self, number: u32) -> (u32, Option<u32>) {
        let own = self.table.get(u64::from(number));
        if own & ALIAS == 0 {
            return (number, (own != EMPTY).then_some(own));
        }
        let canonical = own & !ALIAS;
        let value = self.table.get(u64::from(canonical));
        (canonical, (value != EMPTY).then_some(value))
    }

    /// Gives a canonical number a value.
    #[inline]
    pub fn set_value(&self, canonical: u32, value: u32) {
        assert!(value < EMPTY, "values stay below the marks of the table");
        self.table.set(u64::from(canonical), value);
    }

    /// Takes all values away, so that another writer can give its own: one sequential pass.
    pub fn forget_values(&self) {
        for number in 0..self.count {
            if self.table.get(number) & ALIAS == 0 {
                self.table.set(number, EMPTY);
            }
        }
    }

    /// Reads the slot of a number: target, length, name.
    pub fn slot(&self, number: u32) -> Result<[u8; SLOT_BYTES], RepositoryError> {
        let mut slot = [0; SLOT_BYTES];
        self.file
            .read_exact_at(&mut slot, u64::from(number) * SLOT_BYTES as u64)?;
        Ok(slot)
    }

    /// Reads the name of a number. One random read: for ties, lists and single contents.
    pub fn name(&self, number: u32) -> Result<Vec<u8>, RepositoryError> {
        Ok(name_of(&self.slot(number)?).to_vec())
    }

    /// Calls `visit` with value and slot of every canonical number whose value is at least `first`,
    /// in the spool's order: one sequential read of the spool.
    pub fn for_each_valued(
        &self,
        first: u32,
        mut visit: impl FnMut(u32, &[u8]) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let mut slots = self.slots()?;
        let mut number = 0;
        while let Some(slot) = slots.next(SLOT_BYTES)? {
            let value = self.table.get(number);
            if value & ALIAS == 0 && value != EMPTY && value >= first {
                visit(value, slot)?;
            }
            number += 1;
        }
        Ok(())
    }

    /// Calls `visit` with number and slot of every canonical number: one sequential read of the
    /// spool.
    pub fn for_each_canonical(
        &self,
        mut visit: impl FnMut(u32, &[u8]) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let mut slots = self.slots()?;
        let mut number = 0;
        while let Some(slot) = slots.next(SLOT_BYTES)? {
            if slot[1] != 0 && self.table.get(u64::from(number)) & ALIAS == 0 {
                visit(number, slot)?;
            }
            number += 1;
        }
        Ok(())
    }

    fn slots(&self) -> Result<SequentialReader, RepositoryError> {
        let bytes = self.count * SLOT_BYTES as u64;
        Ok(SequentialReader::new(
            Arc::clone(&self.file),
            0..bytes,
            WRITE_BYTES,
        ))
    }

    fn find_equal_names(&mut self, workspace: &Workspace) -> Result<(), RepositoryError> {
        const RECORD_BYTES: usize = 12;
        let sorter = workspace.sorter(RECORD_BYTES);
        let mut buffer = sorter.buffer();
        let mut slots = self.slots()?;
        let mut number = 0u32;
        while let Some(slot) = slots.next(SLOT_BYTES)? {
            if slot[1] != 0 {
                self.used[usize::from(slot[0])] += 1;
                let print = fingerprint(slot).to_be_bytes();
                buffer.push_with(|out| {
                    out[..8].copy_from_slice(&print);
                    out[8..].copy_from_slice(&number.to_be_bytes());
                })?;
            }
            number += 1;
        }
        buffer.finish()?;
        let runs = sorter.finish()?;
        let mut merge = runs.merge()?;
        let mut print = [0u8; 8];
        let mut group: Vec<u32> = Vec::with_capacity(SAME_FINGERPRINT_MAX);
        while let Some(record) = merge.next()? {
            let number = u32::from_be_bytes([record[8], record[9], record[10], record[11]]);
            if group.is_empty() || record[..8] != print {
                print.copy_from_slice(&record[..8]);
                group.clear();
                group.push(number);
            } else {
                self.join_group(&mut group, number)?;
            }
        }
        Ok(())
    }

    /// Makes `number` an alias of the group's member with the same name, or a member of its own.
    fn join_group(&mut self, group: &mut Vec<u32>, number: u32) -> Result<(), RepositoryError> {
        let slot = self.slot(number)?;
        for canonical in group.iter() {
            if self.slot(*canonical)? == slot {
                self.table.set(u64::from(number), ALIAS | canonical);
                self.used[usize::from(slot[0])] -= 1;
                return Ok(());
            }
        }
        if group.len() == SAME_FINGERPRINT_MAX {
            let what = "pack names with one fingerprint";
            return Err(RepositoryError::TooMany {
                what,
                maximum: SAME_FINGERPRINT_MAX,
            });
        }
        group.push(number);
        Ok(())
    }
}

/// Returns the name inside a slot.
pub fn name_of(slot: &[u8]) -> &[u8] {
    let length = usize::from(slot[1]).min(NAME_BYTES_MAX);
    &slot[2..2 + length]
}

/// Returns a 64-bit fingerprint of a slot. Equal fingerprints are always compared, so it need not
/// be strong.
fn fingerprint(slot: &[u8]) -> u64 {
    slot.chunks_exact(8).fold(0, |hash: u64, word| {
        let word = u64::from_le_bytes(word.try_into().expect("pieces have 8 bytes"));
        (hash ^ word)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29)
    })
}
