//! The optional interface `tenants` of the contract's version 1.2: whose the snapshots are, and
//! packs with their owners.
//!
//! Snapshots are asked about in an instance of their own, which is gone before the directories are
//! read: a plugin's memory and a mark's are never held together. Memory: the question, copied once.

use std::collections::BTreeMap;

use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};

use crate::maintenance::strategy::{Owner, RepackAnswer, RepackQuestion, TaggedSource};

use super::contract::TENANTS;
use super::error::{Failure, without_controls};
use super::load::{Parts, Phase};
use super::session::Guest;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../guest-sdk/wit",
        inline: "
            package careen:host;

            world tenants {
                export careen:strategy/tenants@1.2.0;
            }
        ",
        world: "careen:host/tenants",
    });
}

use bindings::exports::careen::strategy::tenants as wit;

/// What a plugin exports that gives snapshots tenants.
pub(super) struct TenantExports {
    indices: bindings::TenantsIndices,
    /// The instance that is asked about snapshots, from the first question of a rewrite to the
    /// last.
    snapshots: Option<Phase>,
}

impl TenantExports {
    /// Looks for the interface.
    ///
    /// # Errors
    /// An interface of that name with another form.
    pub(super) fn find(linked: &InstancePre<Guest>) -> wasmtime::Result<Option<Self>> {
        if linked.component().get_export_index(None, TENANTS).is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            indices: bindings::TenantsIndices::new(linked)?,
            snapshots: None,
        }))
    }

    /// Compares the types of what the plugin exports with the contract's.
    pub(super) fn fits(
        &self,
        store: &mut Store<Guest>,
        instance: &Instance,
    ) -> wasmtime::Result<()> {
        self.indices.load(store, instance).map(drop)
    }

    /// Asks for the tenants of snapshots.
    pub(super) fn assign(
        &mut self,
        parts: &Parts,
        snapshots: &[TaggedSource],
    ) -> Result<Vec<u8>, Failure> {
        let rows: Vec<wit::SnapshotRow> = snapshots.iter().map(row).collect();
        // After an error the instance is gone.
        let mut phase = match self.snapshots.take() {
            Some(phase) => phase,
            None => parts.begin()?,
        };
        let tenants = phase.ask(parts, |store, instance| {
            let exports = self.indices.load(&mut *store, instance)?;
            exports.careen_strategy_tenants().call_assign(store, &rows)
        })?;
        self.snapshots = Some(phase);
        Ok(tenants)
    }

    /// Ends the questions about snapshots.
    pub(super) fn end(&mut self) {
        self.snapshots = None;
    }

    /// Asks about packs with their owners, in `phase`.
    pub(super) fn repack(
        &self,
        parts: &Parts,
        phase: &mut Phase,
        question: &RepackQuestion,
    ) -> Result<RepackAnswer, Failure> {
        let packs = question.packs.iter().map(|row| wit::PackRow {
            metadata: row.metadata,
            used_bytes: row.used_bytes,
            owner: match row.owner {
                Some(Owner::One(tenant)) => wit::Owner::One(tenant),
                Some(Owner::Shared) => wit::Owner::Shared,
                Some(Owner::Mixed) => wit::Owner::Mixed,
                Some(Owner::Nobody) | None => wit::Owner::Nobody,
            },
        });
        let question = wit::PackQuestion {
            pack_bytes_max: question.pack_bytes_max,
            packs: packs.collect(),
        };
        let plan = phase.ask(parts, |store, instance| {
            let exports = self.indices.load(&mut *store, instance)?;
            let exports = exports.careen_strategy_tenants();
            exports.call_repack(store, &question)
        })?;
        Ok(RepackAnswer {
            pack_bytes: plan.pack_bytes,
            groups: plan.groups,
            reason: without_controls(&plan.reason),
        })
    }
}

fn row(snapshot: &TaggedSource) -> wit::SnapshotRow {
    let source = &snapshot.source;
    wit::SnapshotRow {
        host: source.host.clone(),
        user: source.user.clone(),
        path: source.path.clone(),
        tags: tags(&snapshot.tags),
    }
}

fn tags(tags: &BTreeMap<String, String>) -> Vec<wit::Tag> {
    let tag = |(key, value): (&String, &String)| wit::Tag {
        key: key.clone(),
        value: value.clone(),
    };
    tags.iter().map(tag).collect()
}
