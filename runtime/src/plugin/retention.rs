//! The retention strategy as a plugin: one instance for each source, asked in batches.
//!
//! A batch costs a call, with the fuel and the time of a call; the instance and its memory live
//! from a source's first snapshot to its last. Whoever asks checks the decisions; here they are
//! only turned into plain values. Memory: see the floor's head; a batch is copied once.

use crate::clock::Timestamp;
use crate::maintenance::retention::{Decision, Retention, RetentionQuestion, ZONE_CHANGES_MAX};
use crate::maintenance::strategy::StrategyError;
use crate::repository::snapshot_history::HistoryRow;

use super::about::About;
use super::error::{Failure, PluginError, without_controls};
use super::load::{Parts, Phase, PluginOptions, load_parts};
use super::usage::Decided;
use super::wasm_file::PluginSource;
use super::words;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../guest-sdk/wit",
        inline: "
            package careen:host;

            world retention {
                import careen:strategy/host-log@1.2.0;
                export careen:strategy/retain@1.2.0;
            }
        ",
        world: "careen:host/retention",
        imports: { default: trappable },
        with: {
            "careen:strategy/host-log":
                crate::plugin::contract::bindings::careen::strategy::host_log,
        },
    });
}

use bindings::exports::careen::strategy::retain as wit;

/// A loaded retention plugin.
pub struct RetentionPlugin {
    parts: Parts,
    exports: bindings::RetentionIndices,
    /// The instance that has begun a source.
    source: Option<Phase>,
}

impl PluginOptions {
    /// The built-in retention strategy with the limits of every plugin.
    pub fn retention() -> Self {
        Self {
            source: PluginSource::BuiltinRetention,
            ..Self::default()
        }
    }
}

/// Loads a retention plugin: reads, checks the pin, compiles or takes from the cache, checks its
/// interfaces and its configuration.
///
/// # Errors
/// Every reason why the plugin cannot be used.
pub fn load_retention(options: PluginOptions) -> Result<RetentionPlugin, PluginError> {
    let (parts, exports) = load_parts(
        options,
        bindings::RetentionIndices::new,
        |exports, store, instance| exports.load(store, instance).map(drop),
    )?;
    Ok(RetentionPlugin {
        parts,
        exports,
        source: None,
    })
}

impl RetentionPlugin {
    /// Returns the BLAKE3 digest of the component: what a pin holds.
    pub fn digest(&self) -> &[u8; 32] {
        self.parts.digest()
    }

    /// Returns what the plugin says about itself; nothing for one of the contract's version 1.0.
    pub fn about(&self) -> Option<&About> {
        self.parts.about()
    }

    fn start(&mut self, question: &RetentionQuestion) -> Result<(), Failure> {
        self.source = None;
        let question = question_of(question);
        let mut phase = self.parts.begin()?;
        phase.ask(&self.parts, |store, instance| {
            let exports = self.exports.load(&mut *store, instance)?;
            exports
                .careen_strategy_retain()
                .call_begin(store, &question)
        })?;
        self.source = Some(phase);
        Ok(())
    }

    fn ask(&mut self, asked: &[HistoryRow]) -> Result<Vec<Decision>, Failure> {
        self.parts.asked(asked.len());
        let rows: Vec<_> = asked.iter().map(row_of).collect();
        // After an error the instance is gone.
        let Some(mut phase) = self.source.take() else {
            return Err(Failure::Answered {
                reason: "no source was begun".into(),
                usage: self.parts.used(),
            });
        };
        let decisions = phase.ask(&self.parts, |store, instance| {
            let exports = self.exports.load(&mut *store, instance)?;
            exports.careen_strategy_retain().call_decide(store, &rows)
        })?;
        self.source = Some(phase);
        let decision = |decision: wit::Decision| Decision {
            expire: decision.expire,
            reason: without_controls(&decision.reason),
        };
        let decisions: Vec<Decision> = decisions.into_iter().map(decision).collect();
        for (row, decision) in asked.iter().zip(&decisions).filter(|(_, said)| said.expire) {
            self.parts.decided(|| Decided {
                about: words::snapshot(row),
                decision: "expire".into(),
                reason: decision.reason.clone(),
            });
        }
        Ok(decisions)
    }
}

impl Retention for RetentionPlugin {
    fn begin(&mut self, question: &RetentionQuestion) -> Result<(), StrategyError> {
        let begun = self.start(question);
        begun.map_err(|failure| self.parts.failed(failure))
    }

    fn decide(&mut self, rows: &[HistoryRow]) -> Result<Vec<Decision>, StrategyError> {
        let decided = self.ask(rows);
        decided.map_err(|failure| self.parts.failed(failure))
    }

    fn describe(&self) -> String {
        self.parts.describe()
    }

    fn used(&self) -> String {
        self.parts.used()
    }
}

fn moment(time: Timestamp) -> wit::Moment {
    let seconds = time.seconds();
    wit::Moment {
        seconds,
        nanos: time.nanos().rem_euclid(1_000_000_000) as u32,
    }
}

fn question_of(question: &RetentionQuestion) -> wit::Question {
    let policy = &question.policy;
    // A zone with more changes has the latest ones: the earlier are centuries ago.
    let changes = &question.zone.changes;
    let skipped = changes.len().saturating_sub(ZONE_CHANGES_MAX);
    wit::Question {
        source: wit::Source {
            host: question.source.host.clone(),
            user: question.source.user.clone(),
            path: question.source.path.clone(),
        },
        policy: wit::Policy {
            keep_latest: policy.keep_latest,
            keep_hourly: policy.keep_hourly,
            keep_daily: policy.keep_daily,
            keep_weekly: policy.keep_weekly,
            keep_monthly: policy.keep_monthly,
            keep_annual: policy.keep_annual,
            ignore_identical_snapshots: policy.ignore_identical_snapshots,
        },
        now: moment(question.now),
        offset_seconds: question.zone.offset_seconds,
        zone: changes
            .iter()
            .skip(skipped)
            .map(|(at_seconds, offset_seconds)| wit::ZoneChange {
                at_seconds: *at_seconds,
                offset_seconds: *offset_seconds,
            })
            .collect(),
    }
}

fn row_of(row: &HistoryRow) -> wit::SnapshotRow {
    let tag = |(key, value): (&String, &String)| wit::Tag {
        key: key.clone(),
        value: value.clone(),
    };
    wit::SnapshotRow {
        id: row.id.clone(),
        start: moment(row.start),
        end: moment(row.end),
        incomplete_reason: row.incomplete_reason.clone(),
        pins: row.pins.clone(),
        tags: row.tags.iter().map(tag).collect(),
        size: row.size_bytes,
    }
}
