//! The splitting strategy as a plugin: loads a component and asks it.
//!
//! A question about epochs costs an instance and a call, well below a millisecond; the questions of
//! one rewrite share an instance. Whoever asks checks the answer with `SplittingAnswer::check`;
//! here it is only turned into plain values. Memory: see the floor's head; the question is copied
//! once, 24 bytes a row.

use crate::maintenance::strategy::{
    EpochRange, RepackAnswer, RepackQuestion, Splitting, SplittingAnswer, SplittingQuestion,
    StrategyError, TaggedSource,
};

use wasmtime::component::InstancePre;

use super::about::About;
use super::error::{Failure, PluginError, without_controls};
use super::load::{Parts, Phase, PluginOptions, load_parts};
use super::session::Guest;
use super::tenants::TenantExports;
use super::usage::Decided;
use super::words;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../guest-sdk/wit",
        inline: "
            package careen:host;

            world splitting {
                import careen:strategy/host-log@1.2.0;
                export careen:strategy/split@1.2.0;
                export careen:strategy/repack@1.2.0;
            }
        ",
        world: "careen:host/splitting",
        imports: { default: trappable },
        with: {
            "careen:strategy/host-log":
                crate::plugin::contract::bindings::careen::strategy::host_log,
        },
    });
}

use bindings::exports::careen::strategy::repack as wit_packs;
use bindings::exports::careen::strategy::split as wit;

/// A loaded splitting plugin.
pub struct SplittingPlugin {
    parts: Parts,
    exports: bindings::SplittingIndices,
    /// The instance that is asked about packs, from the first question of a rewrite to the last.
    packs: Option<Phase>,
    /// Where it gives snapshots tenants.
    tenants: Option<TenantExports>,
}

/// Loads a splitting plugin: reads, checks the pin, compiles or takes from the cache, checks its
/// interfaces and its configuration.
///
/// # Errors
/// Every reason why the plugin cannot be used.
pub fn load(options: PluginOptions) -> Result<SplittingPlugin, PluginError> {
    let find = |linked: &InstancePre<Guest>| {
        let exports = bindings::SplittingIndices::new(linked)?;
        Ok((exports, TenantExports::find(linked)?))
    };
    let (parts, (exports, tenants)) =
        load_parts(options, find, |(exports, tenants), store, instance| {
            exports.load(&mut *store, instance)?;
            tenants.iter().try_for_each(|one| one.fits(store, instance))
        })?;
    Ok(SplittingPlugin {
        parts,
        exports,
        packs: None,
        tenants,
    })
}

impl SplittingPlugin {
    /// Returns the BLAKE3 digest of the component: what a pin holds.
    pub fn digest(&self) -> &[u8; 32] {
        self.parts.digest()
    }

    /// Returns what the plugin says about itself; nothing for one of the contract's version 1.0.
    pub fn about(&self) -> Option<&About> {
        self.parts.about()
    }

    fn ask(&mut self, question: &SplittingQuestion) -> Result<SplittingAnswer, Failure> {
        self.parts.asked(question.epochs.len());
        let asked = question;
        let question = into_wit(question);
        let plan = self.parts.ask_once(|store, instance| {
            let exports = self.exports.load(&mut *store, instance)?;
            exports.careen_strategy_split().call_split(store, &question)
        })?;
        let answer = from_wit(plan);
        self.parts.decided(|| Decided {
            about: words::index(asked),
            decision: words::shape(&answer),
            reason: answer.reason.clone(),
        });
        Ok(answer)
    }

    fn ask_about_packs(&mut self, question: &RepackQuestion) -> Result<RepackAnswer, Failure> {
        let rows = question.packs.len();
        self.parts.asked(rows);
        // After an error the instance is gone.
        let mut phase = match self.packs.take() {
            Some(phase) => phase,
            None => self.parts.begin()?,
        };
        let have_owners = question.packs.iter().any(|row| row.owner.is_some());
        let answer = match self.tenants.as_ref().filter(|_| have_owners) {
            Some(tenants) => tenants.repack(&self.parts, &mut phase, question)?,
            None => self.repack_without_owners(&mut phase, question)?,
        };
        self.packs = Some(phase);
        self.parts.decided(|| Decided {
            about: format!("{rows} packs"),
            decision: words::chosen(&answer),
            reason: answer.reason.clone(),
        });
        Ok(answer)
    }

    fn repack_without_owners(
        &self,
        phase: &mut Phase,
        question: &RepackQuestion,
    ) -> Result<RepackAnswer, Failure> {
        let packs = question.packs.iter().map(|row| wit_packs::PackRow {
            metadata: row.metadata,
            used_bytes: row.used_bytes,
        });
        let question = wit_packs::PackQuestion {
            pack_bytes_max: question.pack_bytes_max,
            packs: packs.collect(),
        };
        let plan = phase.ask(&self.parts, |store, instance| {
            let exports = self.exports.load(&mut *store, instance)?;
            exports
                .careen_strategy_repack()
                .call_repack(store, &question)
        })?;
        Ok(RepackAnswer {
            pack_bytes: plan.pack_bytes,
            groups: plan.groups,
            reason: without_controls(&plan.reason),
        })
    }

    fn ask_for_tenants(&mut self, snapshots: &[TaggedSource]) -> Result<Vec<u8>, Failure> {
        self.parts.asked(snapshots.len());
        let tenants = match &mut self.tenants {
            Some(exports) => exports.assign(&self.parts, snapshots)?,
            None => vec![1; snapshots.len()],
        };
        self.parts.decided(|| Decided {
            about: format!("{} snapshots", snapshots.len()),
            decision: words::tenants(&tenants),
            reason: String::new(),
        });
        Ok(tenants)
    }
}

impl Splitting for SplittingPlugin {
    fn split(&mut self, question: &SplittingQuestion) -> Result<SplittingAnswer, StrategyError> {
        let answer = self.ask(question);
        answer.map_err(|failure| self.parts.failed(failure))
    }

    fn repack(&mut self, question: &RepackQuestion) -> Result<RepackAnswer, StrategyError> {
        let answer = self.ask_about_packs(question);
        answer.map_err(|failure| self.parts.failed(failure))
    }

    fn end_repack(&mut self) {
        self.packs = None;
    }

    fn gives_tenants(&self) -> bool {
        self.tenants.is_some()
    }

    fn tenants(&mut self, snapshots: &[TaggedSource]) -> Result<Vec<u8>, StrategyError> {
        let tenants = self.ask_for_tenants(snapshots);
        tenants.map_err(|failure| self.parts.failed(failure))
    }

    fn end_tenants(&mut self) {
        if let Some(tenants) = &mut self.tenants {
            tenants.end();
        }
    }

    fn describe(&self) -> String {
        self.parts.describe()
    }

    fn used(&self) -> String {
        self.parts.used()
    }
}

fn into_wit(question: &SplittingQuestion) -> wit::Question {
    wit::Question {
        write_epoch: question.write_epoch,
        chain_end: question.chain_end,
        last_settled: question.last_settled,
        full_checkpoint_frequency: question.full_checkpoint_frequency,
        // Kopia's own maximum fits; a caller's larger one would be refused by the check anyway.
        shard_entries_max: u32::try_from(question.shard_entries_max).unwrap_or(u32::MAX),
        epochs: question
            .epochs
            .iter()
            .map(|row| wit::EpochRow {
                epoch: row.epoch,
                blobs: row.blobs,
                bytes: row.bytes,
                compacted: row.compacted,
            })
            .collect(),
    }
}

fn from_wit(plan: wit::Plan) -> SplittingAnswer {
    SplittingAnswer {
        shard_entries: plan.shard_entries.into(),
        joins: plan
            .joins
            .iter()
            .map(|join| EpochRange {
                min: join.min,
                max: join.max,
            })
            .collect(),
        // Its length is the check's business; what steers a terminal is not.
        reason: without_controls(&plan.reason),
    }
}
