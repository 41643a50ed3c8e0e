//! Checks that every content lies inside a pack blob that is there.
//!
//! A table in scratch takes the furthest end of a content in each pack; the packs' names are
//! sorted and joined with the store's listing. Only where a pack is gone or too short are the
//! contents gone through again. Memory: one page of the listing, a sort buffer; the tables are
//! mapped scratch, 8 bytes a pack name. Mirrors Kopia's `repo/content/verify.go`.

use std::cmp::Ordering;

use crate::kopia::blob_id::{BlobId, PACK_DATA_PREFIX, PACK_METADATA_PREFIX};
use crate::kopia::content_id::ContentId;
use crate::repository::pack_names::{PackTable, SLOT_BYTES, name_of};
use crate::repository::record::RecordFields;
use crate::repository::{Repository, RepositoryError, Workspace};
use crate::spill::{MappedU32, Merge};

use super::Findings;

/// Bytes of a pack blob ID, with zeros behind it.
const NAME_BYTES: usize = SLOT_BYTES - 2;

/// Name and number of a pack.
const RECORD_BYTES: usize = NAME_BYTES + 4;

/// In the table of ends: no content lies in the pack.
const UNUSED: u32 = 0;

/// In the table of limits: the pack reaches further than any content.
const ENOUGH: u32 = u32::MAX;

/// How far contents reach into each pack.
pub(super) struct PackUse<'a> {
    packs: &'a PackTable,
    /// By number: furthest end plus one, so that an empty content at the start counts.
    ends: MappedU32,
}

impl<'a> PackUse<'a> {
    pub(super) fn new(
        workspace: &Workspace,
        packs: &'a PackTable,
    ) -> Result<Self, RepositoryError> {
        let ends = MappedU32::create(&workspace.scratch, packs.numbers(), UNUSED)?;
        Ok(Self { packs, ends })
    }

    /// Takes in a content.
    pub(super) fn note(&mut self, fields: &RecordFields) {
        let number = u64::from(self.packs.canonical(fields.pack));
        let end = end_of(fields);
        if end > self.ends.get(number) {
            self.ends.set(number, end);
        }
    }

    /// Compares with the packs that are there.
    pub(super) fn compare(
        &self,
        repository: &Repository,
        workspace: &Workspace,
    ) -> Result<Compared, RepositoryError> {
        let mut used = self.sorted(workspace)?;
        used.advance()?;
        let mut comparison = Comparison {
            repository,
            workspace,
            ends: &self.ends,
            used,
            packs: 0,
            limits: None,
        };
        let progress = &workspace.progress;
        progress.begin("compare with the packs that are there", "packs", None);
        for prefix in [PACK_DATA_PREFIX, PACK_METADATA_PREFIX] {
            repository.storage.for_each(prefix, |blob| {
                progress.advance(1);
                comparison.take_in(&blob.id, blob.length)
            })?;
        }
        comparison.end()?;
        progress.end();
        Ok(Compared {
            packs: comparison.packs,
            limits: comparison.limits,
        })
    }

    /// Sorts the packs that contents lie in by name.
    fn sorted(&self, workspace: &Workspace) -> Result<Merge, RepositoryError> {
        let sorter = workspace.sorter(RECORD_BYTES);
        let mut buffer = sorter.buffer();
        self.packs.for_each_canonical(|number, slot| {
            if self.ends.get(u64::from(number)) != UNUSED {
                let name = name_of(slot);
                buffer.push_with(|out| {
                    out[..name.len()].copy_from_slice(name);
                    out[NAME_BYTES..].copy_from_slice(&number.to_be_bytes());
                })?;
            }
            Ok(())
        })?;
        buffer.finish()?;
        Ok(sorter.finish()?.into_merge(false)?)
    }
}

/// The packs that contents lie in, compared with those that are there.
pub(super) struct Compared {
    /// How many.
    pub(super) packs: u64,
    /// How far they reach, when some are gone or too short.
    pub(super) limits: Option<PackLimits>,
}

/// Returns where a content ends, plus one; what does not fit is further than any pack reaches.
fn end_of(fields: &RecordFields) -> u32 {
    let end = u64::from(fields.pack_offset) + u64::from(fields.packed_length) + 1;
    u32::try_from(end).map_or(ENOUGH - 1, |end| end.min(ENOUGH - 1))
}

/// The join of used packs and listed packs.
struct Comparison<'a> {
    repository: &'a Repository,
    workspace: &'a Workspace,
    ends: &'a MappedU32,
    used: Merge,
    packs: u64,
    limits: Option<PackLimits>,
}

impl Comparison<'_> {
    /// Takes in the next listed blob.
    fn take_in(&mut self, blob: &BlobId, length: u64) -> Result<(), RepositoryError> {
        while let Some(record) = self.used.current() {
            match record_name(record).cmp(blob.as_str().as_bytes()) {
                Ordering::Less => self.not_listed()?,
                Ordering::Equal => {
                    let number = record_number(record);
                    self.check(number, Some(length))?;
                }
                Ordering::Greater => return Ok(()),
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), RepositoryError> {
        while self.used.current().is_some() {
            self.not_listed()?;
        }
        Ok(())
    }

    /// Looks for the pack by its name: it may have come since, or have an unusual prefix.
    fn not_listed(&mut self) -> Result<(), RepositoryError> {
        let Some(record) = self.used.current() else {
            return Ok(());
        };
        let (number, name) = (
            record_number(record),
            String::from_utf8_lossy(record_name(record)),
        );
        let length = match self.repository.storage.metadata(&BlobId::new(name)) {
            Ok(blob) => Some(blob.length),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        self.check(number, length)
    }

    /// Notes a limit where a pack is gone or too short, and goes on to the next one.
    fn check(&mut self, number: u32, length: Option<u64>) -> Result<(), RepositoryError> {
        self.packs += 1;
        let number = u64::from(number);
        let limit = length.map_or(0, |length| length.saturating_add(1));
        if u64::from(self.ends.get(number)) > limit {
            let limits = match &mut self.limits {
                Some(limits) => limits,
                none => none.insert(PackLimits {
                    limits: MappedU32::create(&self.workspace.scratch, self.ends.len(), ENOUGH)?,
                }),
            };
            limits.limits.set(number, limit as u32);
        }
        self.used.advance()?;
        Ok(())
    }
}

fn record_name(record: &[u8]) -> &[u8] {
    let name = &record[..NAME_BYTES];
    let length = name.iter().position(|byte| *byte == 0);
    &name[..length.unwrap_or(NAME_BYTES)]
}

fn record_number(record: &[u8]) -> u32 {
    let number = record[NAME_BYTES..].try_into();
    u32::from_be_bytes(number.expect("a record has its width"))
}

/// How far packs reach that are gone or too short.
pub(super) struct PackLimits {
    limits: MappedU32,
}

impl PackLimits {
    /// Reports a content that does not lie inside its pack.
    pub(super) fn check(
        &self,
        packs: &PackTable,
        key: &[u8],
        fields: &RecordFields,
        found: &mut Findings,
    ) -> Result<(), RepositoryError> {
        let number = u64::from(packs.canonical(fields.pack));
        let limit = self.limits.get(number);
        if end_of(fields) <= limit {
            return Ok(());
        }
        let pack = packs.name(fields.pack)?;
        let pack = String::from_utf8_lossy(&pack).into_owned();
        let content = ContentId::from_key(key)?;
        let (code, text) = match limit {
            0 => ("missing-pack", "the pack blob is not there".to_owned()),
            limit => {
                let end = u64::from(fields.pack_offset) + u64::from(fields.packed_length);
                let bytes = limit - 1;
                let text = format!("it ends at byte {end}, the pack blob has {bytes}");
                ("short-pack", text)
            }
        };
        found.add(code, Some(pack), Some(content), text);
        Ok(())
    }
}
