//! Snapshots of many tenants and packs with their owners, for splitting strategies with tenants:
//! asked about in batches as the host does, with its rules about the answers.

use crate::tenants::{Owner, PackQuestion, PackRow, SnapshotRow, TENANTS_MAX, Tag, Tenants};

use super::packs::{Host, packs};
use super::{BATCH_ROWS_MAX, Numbers};

/// Tenants in the kit's questions.
const TENANTS: u64 = 40;

/// All packs of a repository, with their owners.
#[derive(Clone, Debug)]
pub struct OwnedPacks {
    /// Size at which clients close a pack, in bytes.
    pub pack_bytes_max: u64,
    /// What lies in each.
    pub packs: Vec<PackRow>,
}

/// The snapshots of a repository that many share: 2,400. Laptops of people, database servers of two
/// teams, and the pods of namespaces as Velero saves them, which only their tags tell apart.
pub fn snapshots_of_tenants() -> Vec<SnapshotRow> {
    let mut numbers = Numbers(5);
    let row = |number: u64| {
        let person = numbers.below(TENANTS);
        let (host, user, path, tags) = match number % 4 {
            0 => (
                format!("laptop-{person}"),
                format!("person-{person}"),
                format!("/home/person-{person}"),
                vec![],
            ),
            1 => (
                format!(
                    "db-{}.{}.example.org",
                    person,
                    ["red", "blue"][person as usize % 2]
                ),
                "root".into(),
                "/var/lib/postgresql".into(),
                vec![("tag:audit", "yes".into())],
            ),
            _ => (
                "default".into(),
                "default".into(),
                format!("/host_pods/{person:08x}/volumes/data"),
                vec![
                    ("tag:backup", format!("daily-{number}")),
                    ("tag:ns", format!("team-{}", person % 7)),
                    ("tag:snapshot-uploader", "kopia".into()),
                ],
            ),
        };
        let tag = |(key, value): (&str, String)| Tag {
            key: key.into(),
            value,
        };
        SnapshotRow {
            host,
            user,
            path,
            tags: tags.into_iter().map(tag).collect(),
        }
    };
    (0..2_400).map(row).collect()
}

/// The packs of [`packs`](super::packs), with owners: two thirds are one tenant's, a client's own
/// backups; others are shared or mixed, and some hold what nobody uses any more.
pub fn owned_packs() -> OwnedPacks {
    let all = packs();
    let mut numbers = Numbers(6);
    let mut owner = || match numbers.below(12) {
        0..8 => Owner::One(1 + numbers.below(TENANTS) as u8),
        8 => Owner::Shared,
        9..11 => Owner::Mixed,
        _ => Owner::Nobody,
    };
    let rows = all.packs.iter().map(|row| PackRow {
        metadata: row.metadata,
        used_bytes: row.used_bytes,
        owner: owner(),
    });
    OwnedPacks {
        pack_bytes_max: all.pack_bytes_max,
        packs: rows.collect(),
    }
}

/// Asks for the tenants of all snapshots, in batches as the host does, and checks the answers.
///
/// # Errors
/// The strategy's own, or which rule of the host an answer breaks.
pub fn assign(strategy: &mut impl Tenants, rows: &[SnapshotRow]) -> Result<Vec<u8>, String> {
    let mut all = Vec::with_capacity(rows.len());
    for batch in rows.chunks(BATCH_ROWS_MAX) {
        let tenants = strategy.assign(batch)?;
        if tenants.len() != batch.len() {
            let (snapshots, tenants) = (batch.len(), tenants.len());
            return Err(format!("{tenants} tenants of {snapshots} snapshots"));
        }
        let is_none = |tenant: &&u8| !(1..=TENANTS_MAX).contains(*tenant);
        if let Some(tenant) = tenants.iter().find(is_none) {
            return Err(format!(
                "a snapshot of tenant {tenant}; allowed are 1 to {TENANTS_MAX}"
            ));
        }
        all.extend(tenants);
    }
    Ok(all)
}

/// Asks about all packs, in batches as the host does, and checks the answers. Returns for each pack
/// what the host would make of it: 0 where it stays, else its number; those of one number, kind and
/// owner are rewritten together. The host leaves full packs, and one that is alone unless it is
/// mixed.
///
/// # Errors
/// The strategy's own, or which rule of the host an answer breaks.
pub fn repack_by_owner(strategy: &mut impl Tenants, packs: &OwnedPacks) -> Result<Vec<u8>, String> {
    let mut host = Host::new(packs.pack_bytes_max);
    for batch in packs.packs.chunks(BATCH_ROWS_MAX) {
        let plan = strategy.repack_by_owner(&PackQuestion {
            pack_bytes_max: packs.pack_bytes_max,
            packs: batch.to_vec(),
        })?;
        let owner = |row: &PackRow| match row.owner {
            Owner::Nobody => 0,
            Owner::One(tenant) => tenant,
            Owner::Shared => TENANTS_MAX + 1,
            Owner::Mixed => super::packs::MIXED,
        };
        let rows = batch.iter();
        host.take(
            plan,
            rows.map(|row| (row.used_bytes, row.metadata, owner(row))),
        )?;
    }
    Ok(host.end())
}

#[cfg(test)]
mod tests {
    use crate::splitting::{self, PackPlan, Plan, Question, Splitting};

    use super::*;

    /// Gives the tenants that it is told, and rewrites everything together.
    struct Told(fn(usize) -> Vec<u8>);

    impl Splitting for Told {
        fn split(&self, _: &Question) -> Result<Plan, String> {
            Err("not asked".into())
        }

        fn repack(&mut self, question: &splitting::PackQuestion) -> Result<PackPlan, String> {
            Ok(PackPlan {
                pack_bytes: question.pack_bytes_max,
                groups: vec![1; question.packs.len()],
                reason: String::new(),
            })
        }
    }

    impl Tenants for Told {
        fn assign(&mut self, snapshots: &[SnapshotRow]) -> Result<Vec<u8>, String> {
            Ok((self.0)(snapshots.len()))
        }
    }

    #[test]
    fn tenants_are_numbers_of_each_snapshot() {
        let rows = snapshots_of_tenants();
        assert_eq!(rows, snapshots_of_tenants());
        let ask = |told| assign(&mut Told(told), &rows);
        assert_eq!(ask(|rows| vec![250; rows]).unwrap().len(), rows.len());
        for (told, words) in [
            (
                (|rows| vec![1; rows - 1]) as fn(usize) -> _,
                "999 tenants of 1000",
            ),
            (|rows| vec![0; rows], "tenant 0"),
            (|rows| vec![251; rows], "tenant 251"),
        ] {
            let refused = ask(told).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn a_lonely_pack_of_an_owner_stays() {
        let mut packs = owned_packs();
        packs.packs.truncate(3);
        for (row, owner) in packs.packs.iter_mut().zip([1, 2, 1]) {
            (row.owner, row.metadata, row.used_bytes) = (Owner::One(owner), false, 7);
        }
        let groups = repack_by_owner(&mut Told(|_| Vec::new()), &packs).unwrap();
        assert_eq!(groups, [1, 0, 1]);
    }
}
