//! The splitting strategy as a plugin: loads a component and asks it.
//!
//! A question costs a fresh instance and a call: well below a millisecond. Whoever asks checks the
//! answer with `SplittingAnswer::check`; here it is only turned into plain values. Memory: see the
//! floor's head; the question is copied once, 24 bytes a row.

use crate::maintenance::strategy::{
    EpochRange, RepackAnswer, RepackQuestion, Splitting, SplittingAnswer, SplittingQuestion,
    StrategyError,
};

use super::error::{Failure, PluginError, without_controls};
use super::load::{Parts, PluginOptions, link, load_parts};
use super::session::Guest;
use super::usage::Decided;
use super::words;

pub(super) mod bindings {
    wasmtime::component::bindgen!({
        path: "../guest-sdk/wit",
        world: "splitting",
        imports: { default: trappable },
    });
}

use bindings::exports::careen::strategy::repack as wit_packs;
use bindings::exports::careen::strategy::split as wit;

/// A loaded splitting plugin.
pub struct SplittingPlugin {
    parts: Parts,
    component: bindings::SplittingPre<Guest>,
}

/// Loads a splitting plugin: reads, checks the pin, compiles or takes from the cache, checks its
/// interfaces.
///
/// # Errors
/// Every reason why the plugin cannot be used; nothing of it has run then.
pub fn load(options: PluginOptions) -> Result<SplittingPlugin, PluginError> {
    let (parts, component) = load_parts(options, |engine, component| {
        link(engine, component, |linker| {
            linker
                .instantiate_pre(component)
                .and_then(bindings::SplittingPre::new)
        })
    })?;
    Ok(SplittingPlugin { parts, component })
}

impl SplittingPlugin {
    /// Returns the BLAKE3 digest of the component: what a pin holds.
    pub fn digest(&self) -> &[u8; 32] {
        &self.parts.digest
    }

    fn ask(&mut self, question: &SplittingQuestion) -> Result<SplittingAnswer, Failure> {
        self.parts.tally.add_rows(question.epochs.len());
        let asked = question;
        let question = into_wit(question);
        let component = &self.component;
        let plan = self.parts.ask(|store| {
            let instance = component.instantiate(&mut *store)?;
            instance
                .careen_strategy_split()
                .call_split(store, &question)
        })?;
        let answer = from_wit(plan);
        self.parts.tally.add_decision(|| Decided {
            about: words::index(asked),
            decision: words::shape(&answer),
            reason: answer.reason.clone(),
        });
        Ok(answer)
    }

    fn ask_about_packs(&mut self, question: &RepackQuestion) -> Result<RepackAnswer, Failure> {
        let rows = question.packs.len();
        self.parts.tally.add_rows(rows);
        let packs = question.packs.iter().map(|row| wit_packs::PackRow {
            metadata: row.metadata,
            used_bytes: row.used_bytes,
        });
        let question = wit_packs::PackQuestion {
            pack_bytes_max: question.pack_bytes_max,
            packs: packs.collect(),
        };
        let component = &self.component;
        let plan = self.parts.ask(|store| {
            let instance = component.instantiate(&mut *store)?;
            instance
                .careen_strategy_repack()
                .call_repack(store, &question)
        })?;
        let answer = RepackAnswer {
            pack_bytes: plan.pack_bytes,
            groups: plan.groups,
            reason: without_controls(&plan.reason),
        };
        self.parts.tally.add_decision(|| Decided {
            about: format!("{rows} packs"),
            decision: words::chosen(&answer),
            reason: answer.reason.clone(),
        });
        Ok(answer)
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

    fn describe(&self) -> String {
        self.parts.describe()
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
