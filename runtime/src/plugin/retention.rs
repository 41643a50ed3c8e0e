//! The retention strategy as a plugin: one instance for each source, asked in batches.
//!
//! A batch costs a call, with the fuel and the time of a call; the instance and its memory live
//! from a source's first snapshot to its last. Whoever asks checks the decisions; here they are
//! only turned into plain values. Memory: see the floor's head; a batch is copied once.

use wasmtime::component::Component;

use crate::clock::Timestamp;
use crate::maintenance::retention::{Decision, Retention, RetentionQuestion, ZONE_CHANGES_MAX};
use crate::maintenance::strategy::StrategyError;
use crate::repository::snapshot_history::HistoryRow;

use super::error::{Failure, PluginError, harmless, without_controls};
use super::load::{self, Parts, PluginOptions};
use super::session::{Guest, Session};
use super::usage::Decided;
use super::wasm_file::PluginSource;
use super::words;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../guest-sdk/wit",
        world: "retention",
        imports: { default: trappable },
        with: {
            "careen:strategy/host-log":
                crate::plugin::splitting::bindings::careen::strategy::host_log,
        },
    });
}

use bindings::exports::careen::strategy::retain as wit;

/// A loaded retention plugin.
pub struct RetentionPlugin {
    parts: Parts,
    component: bindings::RetentionPre<Guest>,
    source: Option<(Session, bindings::Retention)>,
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
/// interfaces.
///
/// # Errors
/// Every reason why the plugin cannot be used; nothing of it has run then.
pub fn load_retention(options: PluginOptions) -> Result<RetentionPlugin, PluginError> {
    let link = |engine: &_, component: &Component| {
        load::link(engine, component, |linker| {
            linker
                .instantiate_pre(component)
                .and_then(bindings::RetentionPre::new)
        })
    };
    let (parts, component) = load::load_parts(options, link)?;
    Ok(RetentionPlugin {
        parts,
        component,
        source: None,
    })
}

impl RetentionPlugin {
    /// Returns the BLAKE3 digest of the component: what a pin holds.
    pub fn digest(&self) -> &[u8; 32] {
        &self.parts.digest
    }

    fn start(&mut self, question: &RetentionQuestion) -> Result<(), Failure> {
        self.source = None;
        let question = question_of(question);
        let Parts {
            engine,
            name,
            limits,
            tally,
            ..
        } = &self.parts;
        let mut session = Session::new(engine, name, *limits, tally);
        let component = &self.component;
        let (instance, begun) = session.call(engine, |store| {
            let instance = component.instantiate(&mut *store)?;
            let begun = instance
                .careen_strategy_retain()
                .call_begin(store, &question)?;
            Ok((instance, begun))
        })?;
        begun.map_err(|reason| Failure::Answered(harmless(&reason)))?;
        self.source = Some((session, instance));
        Ok(())
    }

    fn ask(&mut self, asked: &[HistoryRow]) -> Result<Vec<Decision>, Failure> {
        self.parts.tally.add_rows(asked.len());
        let rows: Vec<_> = asked.iter().map(row_of).collect();
        // After an error the session is gone.
        let Some((mut session, instance)) = self.source.take() else {
            return Err(Failure::Answered("no source was begun".into()));
        };
        let answer = session.call(&self.parts.engine, |store| {
            instance.careen_strategy_retain().call_decide(store, &rows)
        })?;
        let decisions = answer.map_err(|reason| Failure::Answered(harmless(&reason)))?;
        self.source = Some((session, instance));
        let decision = |decision: wit::Decision| Decision {
            expire: decision.expire,
            reason: without_controls(&decision.reason),
        };
        let decisions: Vec<Decision> = decisions.into_iter().map(decision).collect();
        for (row, decision) in asked.iter().zip(&decisions).filter(|(_, said)| said.expire) {
            self.parts.tally.add_decision(|| Decided {
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
