//! Packs are rewritten by tenant: no new pack has data of two, and what is rewritten comes to an
//! end. Method: trees of two tenants that share some files, in packs of one and of both.

use std::collections::{BTreeMap, BTreeSet};

use super::DAY;
use crate::clock::Clock;
use crate::kopia::content_id::ContentId;
use crate::maintenance::MaintenanceError;
use crate::maintenance::budget::Budget;
use crate::maintenance::cycle_task::CycleTask;
use crate::maintenance::pack_choice::ByStrategy;
use crate::maintenance::pack_tasks::PackTasks;
use crate::maintenance::rewrite_contents::{RewriteOptions, RewritePlan};
use crate::maintenance::safety::Safety;
use crate::maintenance::strategy::{
    Owner, RepackAnswer, RepackQuestion, Splitting, SplittingAnswer, SplittingQuestion,
    StrategyError, TaggedSource,
};
use crate::maintenance::tenants::find_tenants;
use crate::repository::mark_tests::trees::{Builder, DIRECT, Object};
use crate::repository::pack_world::{OWNER, Shape, World, plain};

/// Hosts of tenants, by number.
const HOSTS: [&str; 3] = ["nobody", "red", "blue"];

/// Gives each host a tenant, and rewrites all packs below half together; remembers what it was
/// told.
#[derive(Default)]
struct ByHost {
    /// What all snapshots get, if not their host's.
    tenant: Option<u8>,
    owners: BTreeMap<Owner, u32>,
    phases: Vec<&'static str>,
}

impl Splitting for ByHost {
    fn split(&mut self, _: &SplittingQuestion) -> Result<SplittingAnswer, StrategyError> {
        unreachable!("nobody asks about the index")
    }

    fn repack(&mut self, question: &RepackQuestion) -> Result<RepackAnswer, StrategyError> {
        let half = question.pack_bytes_max / 2;
        for row in &question.packs {
            *self.owners.entry(row.owner.expect("known")).or_default() += 1;
        }
        self.phases.push("packs");
        let rows = question.packs.iter();
        Ok(RepackAnswer {
            pack_bytes: question.pack_bytes_max,
            groups: rows.map(|row| u8::from(row.used_bytes < half)).collect(),
            reason: String::new(),
        })
    }

    fn gives_tenants(&self) -> bool {
        true
    }

    fn tenants(&mut self, snapshots: &[TaggedSource]) -> Result<Vec<u8>, StrategyError> {
        self.phases.push("snapshots");
        let of = |row: &TaggedSource| {
            let number = HOSTS.iter().position(|host| *host == row.source.host);
            self.tenant.unwrap_or(number.expect("a host") as u8)
        };
        Ok(snapshots.iter().map(of).collect())
    }

    fn end_tenants(&mut self) {
        self.phases.push("end of snapshots");
    }

    fn describe(&self) -> String {
        "by host".to_owned()
    }
}

/// A directory with files of these numbers.
fn tree(builder: &mut Builder<'_>, files: impl Iterator<Item = u32>) -> Object {
    let files: Vec<Object> = files
        .map(|number| Object::file(builder.content(None, &plain(number, 90), false)))
        .collect();
    builder.directory(&files, DIRECT)
}

/// Ten sessions of each tenant and ten of both at once, all with one file that both have. Returns
/// whose each content is.
fn two_tenants(world: &World) -> BTreeMap<ContentId, BTreeSet<u8>> {
    let mut owners: BTreeMap<ContentId, BTreeSet<u8>> = BTreeMap::new();
    let mut number = 0;
    for session in 0..30_u32 {
        let mut builder = Builder::new(world);
        let tenants: &[u8] = [&[1][..], &[2], &[1, 2]][session as usize % 3];
        for tenant in tenants {
            let first = 1_000 * u32::from(*tenant) + 10 * session;
            let files = (first..first + 4).chain([7]);
            let root = tree(&mut builder, files);
            builder.snapshot_of(number, HOSTS[usize::from(*tenant)], &root);
            for content in root.contents {
                owners.entry(content).or_default().insert(*tenant);
            }
            number += 1;
        }
        builder.finish();
    }
    world.clock.advance(DAY * 2);
    owners
}

/// Rewrites; returns how many contents were.
fn rewrite(world: &World, strategy: &mut ByHost) -> Result<u64, MaintenanceError> {
    let (repository, workspace) = (&world.repository, &world.workspace);
    let (_, table) = world.table()?;
    let safety = Safety::none();
    let tenants = find_tenants(repository, workspace, &table, strategy)?.expect("they are given");
    let mut packs = ByStrategy {
        splitting: strategy,
        budget: Budget::default(),
    };
    let mut options = RewriteOptions {
        kind: None,
        packs: Some(&mut packs),
        pack_bytes_max: repository.format.max_pack_size,
        format_version: None,
        wrong_kind: false,
        safety: &safety,
        now: world.clock.now(),
        owner: OWNER,
        end_early: &|| false,
    };
    let plan = RewritePlan::make_by_tenant(workspace, &table, Some(&tenants), &mut options)?;
    let report = plan.execute(repository, workspace, &table, &options)?;
    world.clock.advance(DAY);
    Ok(report.stats.rewritten_content_count)
}

/// Goal: contents of two owners share no new pack; what both use and what nobody uses have packs of
/// their own; nothing is lost; and with nothing new, nothing is rewritten again and again.
#[test]
fn tenants_share_no_new_pack_and_the_rewrite_ends() {
    let world = World::new(Shape {
        pack_bytes_max: 6_000,
        ..Shape::default()
    });
    let owners = two_tenants(&world);
    let before = world.contents();
    let plains: BTreeMap<&String, Vec<u8>> = before
        .iter()
        .map(|(id, row)| (id, world.read(id, row).unwrap()))
        .collect();
    let mut strategy = ByHost::default();
    assert!(rewrite(&world, &mut strategy).unwrap() > 100);
    assert_eq!(strategy.phases, ["snapshots", "end of snapshots", "packs"]);
    // The red, the blue and the mixed packs of data; those of metadata, which have manifests too.
    for (owner, packs) in [(Owner::One(1), 10), (Owner::One(2), 10), (Owner::Mixed, 11)] {
        assert!(strategy.owners[&owner] >= packs, "{:?}", strategy.owners);
    }
    let after = world.contents();
    assert_eq!(after.len(), before.len());
    let nobody = BTreeSet::new();
    let mut packs: BTreeMap<&str, BTreeSet<&BTreeSet<u8>>> = BTreeMap::new();
    for (id, row) in &after {
        assert_eq!(world.read(id, row).unwrap(), plains[id], "{id}");
        if row.pack != before[id].pack {
            let owner = owners.get(&ContentId::parse(id).unwrap());
            packs
                .entry(&row.pack)
                .or_default()
                .insert(owner.unwrap_or(&nobody));
        }
    }
    assert!(packs.values().all(|owners| owners.len() == 1), "{packs:?}");
    let kinds: BTreeSet<_> = packs.values().flatten().collect();
    assert_eq!(kinds.len(), 4, "red, blue, both, nobody: {kinds:?}");
    let again = [(); 3].map(|()| rewrite(&world, &mut ByHost::default()).unwrap());
    assert_eq!(again[1..], [0, 0], "{again:?}");
}

/// Goal: in a quick cycle nobody finds out whose the packs are: nothing is asked, nothing is mixed.
#[test]
fn quick_maintenance_leaves_packs_to_the_full_cycle() {
    let world = World::new(Shape {
        pack_bytes_max: 6_000,
        ..Shape::default()
    });
    two_tenants(&world);
    let before = world.names("");
    let run = (Safety::none(), OWNER.to_owned(), world.clock.now());
    let (ours, stopped) = (|| Ok(()), || false);
    let mut tasks = PackTasks::new(&world.repository, &world.workspace, run, &ours, &stopped);
    let mut strategy = ByHost::default();
    let mut rewrite = |task| {
        let done = tasks.run(task, &mut strategy, &Budget::default()).unwrap();
        assert!(done.left.is_none() && !done.cut, "the cycle is whole");
        done.what
    };
    let quick = rewrite(CycleTask::QuickRewriteContents);
    assert!(quick.contains("left for full maintenance"), "{quick}");
    assert_eq!(world.names(""), before);
    let full = rewrite(CycleTask::FullRewriteContents);
    assert!(full.contains("contents copied into"), "{full}");
    assert_eq!(strategy.phases, ["snapshots", "end of snapshots", "packs"]);
}

#[test]
fn numbers_that_are_no_tenants_are_refused_before_anything_is_written() {
    let world = World::new(Shape::default());
    two_tenants(&world);
    let before = world.names("");
    for (tenant, words) in [(0, "tenant 0"), (251, "tenant 251")] {
        let mut strategy = ByHost {
            tenant: Some(tenant),
            ..ByHost::default()
        };
        let error = rewrite(&world, &mut strategy).unwrap_err();
        assert_eq!(error.code(), "plugin-answer-refused");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(strategy.phases, ["snapshots", "end of snapshots"]);
    }
    assert_eq!(world.names(""), before);
}
