//! Complete sets: which blobs of one compaction belong together, and whether all of them are there.
//!
//! A compaction writes several blobs that share a suffix `-s<set>-c<count>`. Readers use the set
//! only when it is complete, so that a compaction that died half way does no harm. The set that
//! becomes complete first in listing order wins, and several complete sets may coexist. Memory: one
//! ID per listed name; callers pass the names of one epoch or range. Mirrors Kopia's
//! `complete_set.go`.

use std::collections::HashMap;

use crate::kopia::blob_id::{BlobId, set_member};

/// Blobs that one writer made together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobSet {
    /// Members in listing order.
    pub members: Vec<BlobId>,
    /// Whether all members have been listed.
    pub complete: bool,
    /// The shared part of the names; `None` for a blob that is a set of its own.
    pub set: Option<String>,
    /// Members of the whole set, as the last listed name says.
    pub count: u32,
}

impl BlobSet {
    fn alone(name: &BlobId) -> Self {
        Self {
            members: vec![name.clone()],
            complete: true,
            set: None,
            count: 1,
        }
    }
}

/// Groups `names`, given in listing order: complete sets in the order in which they became
/// complete, then the incomplete ones in the order of their first member.
///
/// Members beyond the count of a complete set (a foreign writer's mistake) form an incomplete set
/// of their own: Kopia never reads them.
pub fn group_sets(names: &[BlobId]) -> Vec<BlobSet> {
    let mut complete = Vec::new();
    let mut open: Vec<BlobSet> = Vec::new();
    let mut open_at: HashMap<&str, usize> = HashMap::new();
    let mut completed: HashMap<&str, usize> = HashMap::new();
    for name in names {
        let Some(member) = set_member(name.as_str()) else {
            complete.push(BlobSet::alone(name));
            continue;
        };
        let at = *open_at.entry(member.set).or_insert_with(|| {
            open.push(BlobSet {
                members: Vec::new(),
                complete: false,
                set: Some(member.set.to_owned()),
                count: 0,
            });
            open.len() - 1
        });
        let group = &mut open[at];
        group.members.push(name.clone());
        group.count = member.count;
        let earlier = completed.get(member.set).copied();
        if earlier.is_none() && group.members.len() as u64 == u64::from(member.count) {
            completed.insert(member.set, complete.len());
            complete.push(BlobSet {
                members: std::mem::take(&mut group.members),
                complete: true,
                ..group.clone()
            });
        }
    }
    complete.extend(open.into_iter().filter(|group| !group.members.is_empty()));
    complete
}

/// Returns the set that becomes complete first in listing order: the one that readers use.
pub fn first_complete(names: &[BlobId]) -> Option<BlobSet> {
    group_sets(names).into_iter().find(|group| group.complete)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(names: &[&str]) -> Vec<BlobId> {
        names.iter().copied().map(BlobId::from).collect()
    }

    #[test]
    fn the_set_completed_first_wins() {
        let names = ids(&["a-s1-c2", "b-s2-c1", "c-s1-c2", "d-s3-c2"]);
        let groups = group_sets(&names);
        let shape: Vec<_> = groups
            .iter()
            .map(|g| (g.set.as_deref(), g.complete, g.members.len(), g.count))
            .collect();
        assert_eq!(
            shape,
            [
                (Some("s2"), true, 1, 1),
                (Some("s1"), true, 2, 2),
                (Some("s3"), false, 1, 2)
            ]
        );
        assert_eq!(first_complete(&names), Some(groups[0].clone()));
        assert_eq!(first_complete(&names[3..]), None);
        assert_eq!(first_complete(&[]), None);
    }

    #[test]
    fn other_names_are_sets_of_one() {
        let names = ids(&["xs1_ab", "xs1_ab-s1", "xs1_ab-s1-cx", "xs1_ab-t1-c2"]);
        let groups = group_sets(&names);
        assert_eq!(groups.len(), 4);
        assert!(
            groups
                .iter()
                .all(|g| g.complete && g.set.is_none() && g.members.len() == 1)
        );
    }

    #[test]
    fn members_beyond_the_count_stay_apart() {
        let groups = group_sets(&ids(&["a-s1-c1", "b-s1-c1", "c-s1-c1"]));
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].members, ids(&["a-s1-c1"]));
        assert!(groups[0].complete);
        assert_eq!(groups[1].members, ids(&["b-s1-c1", "c-s1-c1"]));
        assert!(!groups[1].complete);
    }

    #[test]
    fn a_count_of_zero_never_completes() {
        assert_eq!(first_complete(&ids(&["a-s1-c0", "b-s1-c0"])), None);
    }

    proptest! {
        /// Every name is in exactly one group, and what is complete has as many members as it says.
        #[test]
        fn nothing_is_lost(names in proptest::collection::vec("[ab]-s[12]-c[0-3]", 0..12)) {
            let names: Vec<BlobId> = names.into_iter().map(BlobId::new).collect();
            let groups = group_sets(&names);
            let mut seen: Vec<_> = groups.iter().flat_map(|g| g.members.clone()).collect();
            seen.sort();
            let mut all = names;
            all.sort();
            prop_assert_eq!(seen, all);
            for group in groups.iter().filter(|g| g.complete) {
                prop_assert_eq!(group.members.len(), group.count as usize);
            }
        }
    }
}
