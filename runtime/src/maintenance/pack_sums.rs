//! What is known of every pack before anybody is asked about it: bytes in use, and whose they are.
//!
//! Packs that are chosen are noted in the same table. Memory: none; a number a pack in mapped
//! scratch, two where whose the contents are is known. Mirrors the sums of
//! `findContentInShortPacks` in Kopia's `repo/maintenance/content_rewrite.go`.

use crate::repository::content_table::ContentTable;
use crate::repository::tenants::ContentTenants;
use crate::repository::{RepositoryError, Workspace};
use crate::spill::MappedU32;

use super::strategy::{Owner, PACK_GROUP_MAX};

/// In the table of bytes: this, less the number of those that are rewritten together. A sum never
/// is: it stops before.
const CHOSEN: u32 = u32::MAX;

/// Largest sum in the table.
const SUM_MAX: u32 = CHOSEN - PACK_GROUP_MAX as u32 - 1;

/// The packs, by canonical number.
pub(super) struct PackSums {
    bytes: MappedU32,
    owners: Option<MappedU32>,
}

impl PackSums {
    /// Sums the bytes in use of every pack; a sum that does not fit is large anyway.
    pub(super) fn of(
        workspace: &Workspace,
        table: &ContentTable,
        tenants: Option<&ContentTenants>,
    ) -> Result<Self, RepositoryError> {
        let packs = || MappedU32::create(&workspace.scratch, table.packs.numbers(), 0);
        let bytes = packs()?;
        let owners = tenants.map(|_| packs()).transpose()?;
        let mut tenants = tenants.map(ContentTenants::stream);
        let mut records = table.stream()?;
        while let Some(record) = records.next()? {
            let fields = table.fields(record);
            let number = u64::from(fields.pack);
            let sum = bytes.get(number).saturating_add(fields.packed_length);
            bytes.set(number, sum.min(SUM_MAX));
            if let (Some(owners), Some(tenants)) = (&owners, &mut tenants) {
                let content = Owner::of(tenants.next_tenant()?);
                // Numbers of owners are a byte.
                let pack = Owner::of(owners.get(number) as u8).with(content);
                owners.set(number, u32::from(pack.number()));
            }
        }
        Ok(Self { bytes, owners })
    }

    /// Returns the bytes in use of a pack that was not chosen.
    pub(super) fn used_bytes(&self, pack: u32) -> u32 {
        self.bytes.get(u64::from(pack))
    }

    /// Returns whose the contents of a pack are, where that is known.
    pub(super) fn owner(&self, pack: u32) -> Option<Owner> {
        let owners = self.owners.as_ref()?;
        Some(Owner::of(owners.get(u64::from(pack)) as u8))
    }

    /// Tells whether whose the contents are is known.
    pub(super) fn have_owners(&self) -> bool {
        self.owners.is_some()
    }

    /// Notes that a pack is rewritten, with others of the same group.
    pub(super) fn choose(&self, pack: u32, group: u8) {
        self.bytes.set(u64::from(pack), CHOSEN - u32::from(group));
    }

    /// Returns the group of a pack that was chosen.
    #[inline]
    pub(super) fn chosen(&self, pack: u32) -> Option<u8> {
        let sum = self.bytes.get(u64::from(pack));
        (sum > SUM_MAX).then(|| (CHOSEN - sum) as u8)
    }
}
