//! What a strategy decides about packs is done: which are rewritten together, how large new ones
//! become. Method: a strategy that divides the packs by their size.

use std::collections::{BTreeMap, BTreeSet};

use super::{check, many_short_packs};
use crate::clock::Clock;
use crate::maintenance::pack_choice::ChoosePacks;
use crate::maintenance::rewrite_contents::{RewriteOptions, RewritePlan};
use crate::maintenance::safety::Safety;
use crate::maintenance::strategy::{RepackAnswer, RepackQuestion, StrategyError};
use crate::repository::pack_world::{OWNER, Shape, World};

/// Packs by turns in two groups, and every fifth left.
struct ByTurns(usize, u64);

impl ChoosePacks for ByTurns {
    fn choose(&mut self, question: &RepackQuestion) -> Result<RepackAnswer, StrategyError> {
        let groups = question.packs.iter().map(|_| {
            self.0 += 1;
            [0, 7, 9, 7, 9][self.0 % 5]
        });
        Ok(RepackAnswer {
            groups: groups.collect(),
            pack_bytes: self.1,
            reason: "by turns".to_owned(),
        })
    }

    fn describe(&self) -> String {
        "by turns".to_owned()
    }
}

fn rewrite(world: &World, pack_bytes: u64) -> Result<RewritePlan, super::MaintenanceError> {
    let (_, table) = world.table().unwrap();
    let safety = Safety::none();
    let mut options = RewriteOptions {
        kind: None,
        packs: Some(&mut ByTurns(0, pack_bytes)),
        pack_bytes_max: world.repository.format.max_pack_size,
        format_version: None,
        wrong_kind: false,
        safety: &safety,
        now: world.clock.now(),
        owner: OWNER,
        end_early: &|| false,
    };
    let plan = RewritePlan::make(&world.workspace, &table, &mut options)?;
    assert_eq!((plan.packs, plan.reason.as_str()), (16, "by turns"));
    let (repository, workspace) = (&world.repository, &world.workspace);
    plan.execute(repository, workspace, &table, &options)?;
    RewritePlan::make(workspace, &world.table().unwrap().1, &mut options)
}

#[test]
fn groups_share_no_pack_and_packs_have_the_wanted_size() {
    let world = World::new(Shape {
        pack_bytes_max: 1200,
        ..Shape::default()
    });
    let model = many_short_packs(&world);
    let before = world.contents();
    let packs: BTreeSet<&str> = before.values().map(|row| row.pack.as_str()).collect();
    assert_eq!(packs.len(), 20);
    let _ = rewrite(&world, 800);
    check(&world, &model);
    let after = world.contents();
    let mut sources: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut bytes: BTreeMap<&str, u32> = BTreeMap::new();
    for (id, row) in after
        .iter()
        .filter(|(id, row)| row.pack != before[*id].pack)
    {
        sources
            .entry(&row.pack)
            .or_default()
            .insert(&before[id].pack);
        *bytes.entry(&row.pack).or_default() += row.length;
    }
    assert!(bytes.values().all(|sum| *sum < 800 + 100), "{bytes:?}");
    // Packs that share a new one form groups: two of each kind, and none mixes.
    let mut groups: Vec<BTreeSet<&str>> = Vec::new();
    for sources in sources.values() {
        let (mut joined, mut apart): (Vec<_>, Vec<_>) = groups
            .into_iter()
            .partition(|group| !group.is_disjoint(sources));
        let mut all = sources.clone();
        joined.drain(..).for_each(|group| all.extend(group));
        apart.push(all);
        groups = apart;
    }
    assert!(groups.len() >= 4, "{groups:?}");
    let old: usize = groups.iter().map(BTreeSet::len).sum();
    assert_eq!(old, 16);
}

#[test]
fn a_refused_answer_writes_nothing() {
    let world = World::new(Shape::default());
    many_short_packs(&world);
    let before = world.names("");
    let refused = rewrite(&world, 20_001).err().unwrap();
    assert_eq!(refused.code(), "plugin-answer-refused");
    assert_eq!(world.names(""), before);
}
