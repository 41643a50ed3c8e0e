//! As what each content was read by a mark, and for whom: whatever was read once is not read again.
//!
//! Without tenants four bits a content, one for each tag. With them four bytes, one for each tag:
//! whose it was read as. A content that was read as one tenant's is read once more when a second
//! uses it too, as that of several; then everybody has had it. So the number of readings is at most
//! two, whatever the number of tenants. Memory: none; a mapped table in scratch.

use crate::spill::{MappedU32, Scratch};

use super::RepositoryError;
use super::tenants::joined;

/// The marks of all contents.
pub(super) enum ReadMarks {
    /// Four bits a content.
    Tags(MappedU32),
    /// Four bytes a content.
    Tenants(MappedU32),
}

impl ReadMarks {
    /// Makes the marks of so many contents, none of which was read.
    pub(super) fn create(
        scratch: &Scratch,
        contents: u64,
        by_tenant: bool,
    ) -> Result<Self, RepositoryError> {
        Ok(match by_tenant {
            false => Self::Tags(MappedU32::create(scratch, contents / 8 + 1, 0)?),
            true => Self::Tenants(MappedU32::create(scratch, contents, 0)?),
        })
    }

    /// Notes that the content of a row is read with `tag`, a single bit of the lower four, for
    /// `tenant`. Returns as whose it is to be read; none when it was read so before.
    pub(super) fn note(&self, row: u64, tag: u8, tenant: u8) -> Option<u8> {
        match self {
            Self::Tags(table) => {
                let (word, bit) = (row / 8, u32::from(tag) << (row % 8 * 4));
                let before = table.get(word);
                table.set(word, before | bit);
                (before & bit == 0).then_some(tenant)
            }
            Self::Tenants(table) => {
                let shift = tag.trailing_zeros() * u8::BITS;
                let word = table.get(row);
                let before = (word >> shift) as u8;
                let after = joined(before, tenant);
                table.set(row, word & !(0xff << shift) | (u32::from(after) << shift));
                (after != before).then_some(after)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::pack_world::{Shape, World};
    use crate::repository::tenants::SHARED;

    #[test]
    fn nothing_is_read_more_often_than_needed() {
        let world = World::new(Shape::default());
        let marks = |by_tenant| ReadMarks::create(&world.workspace.scratch, 20, by_tenant).unwrap();
        let plain = marks(false);
        for (row, tag, read) in [(9, 1, true), (9, 1, false), (9, 8, true), (8, 1, true)] {
            assert_eq!(plain.note(row, tag, 0), read.then_some(0));
        }
        let tenants = marks(true);
        for (row, tag, tenant, read) in [
            (19, 8, 7, Some(7)),
            (19, 8, 7, None),
            (19, 8, 250, Some(SHARED)),
            (19, 8, 7, None),
            (19, 8, 3, None),
            (19, 1, 3, Some(3)),
            (18, 8, SHARED, Some(SHARED)),
        ] {
            assert_eq!(tenants.note(row, tag, tenant), read, "{row} {tag} {tenant}");
        }
    }
}
