//! Asks two plugins the same batches and compares what they answer.
//!
//! Two builds of a plugin, a plugin and the built-in one, or a plugin and itself: one that is not
//! deterministic differs. Every answer passes the host's checks; what they refuse is told, and the
//! batches go on. A plugin that fails ends them. Memory: two loaded plugins, one batch and its
//! answers.

use std::fmt;

use serde::Serialize;

use crate::maintenance::expire_snapshots::{EXPIRE_PERCENT, are_too_many};
use crate::maintenance::retention::{Decision, Retention, RetentionGuard, Zone};
use crate::maintenance::scheduling::{Scheduling, SchedulingQuestion};
use crate::maintenance::strategy::StrategyError;

use super::batches::{Batch, SnapshotLine, SourceLine, Strategy};
use super::error::without_controls;
use super::load::PluginOptions;
use super::usage::{PluginUsage, Tally};
use super::words;
use super::{
    PluginError, RetentionPlugin, SchedulingPlugin, SplittingPlugin, load, load_retention,
    load_scheduling,
};

mod packs;

use packs::Packs;

/// A loaded plugin of one of the strategies.
enum Asked {
    Retention(RetentionPlugin),
    Splitting(SplittingPlugin),
    Scheduling(SchedulingPlugin),
}

/// One of the two that are asked.
struct Side {
    asked: Asked,
    name: String,
    tally: Tally,
    /// The rules about one source.
    guard: RetentionGuard,
    expired: u64,
    /// What is remembered between questions about packs.
    packs: Packs,
    refused: u64,
    over_share: u64,
}

impl Side {
    fn load(strategy: Strategy, options: PluginOptions) -> Result<Self, PluginError> {
        let (name, tally) = (options.source.name(), options.tally.clone());
        let asked = match strategy {
            Strategy::Retention => Asked::Retention(load_retention(options)?),
            Strategy::Splitting => Asked::Splitting(load(options)?),
            Strategy::Scheduling => Asked::Scheduling(load_scheduling(options)?),
        };
        Ok(Self {
            asked,
            name,
            tally,
            guard: RetentionGuard::default(),
            expired: 0,
            packs: Packs::default(),
            refused: 0,
            over_share: 0,
        })
    }

    fn retention(&mut self) -> Option<&mut RetentionPlugin> {
        match &mut self.asked {
            Asked::Retention(plugin) => Some(plugin),
            _ => None,
        }
    }
}

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "kebab-case")]
pub enum Finding {
    /// The two decide differently.
    Differs {
        /// Line of the file, 0 for made batches.
        line: u64,
        /// What is decided about.
        about: String,
        /// What the plugin says.
        answer: String,
        /// What the other one says.
        other: String,
    },
    /// The host refuses an answer.
    Refused {
        /// Line of the file, 0 for made batches.
        line: u64,
        /// Whose.
        plugin: String,
        /// The rule that it breaks.
        reason: String,
    },
    /// More of a source is expired than a run allows unless it is told so.
    OverShare {
        /// Line of the file, 0 for made batches.
        line: u64,
        /// Who expires it.
        plugin: String,
        /// The source.
        about: String,
        /// Snapshots that are expired.
        expired: u64,
        /// Snapshots that there are.
        snapshots: u64,
    },
}

/// What came of a replay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplayReport {
    /// The strategy.
    pub strategy: Strategy,
    /// Batches that were asked.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
    /// Decisions that differ.
    pub differences: u64,
    /// Decisions that are the same for another reason; where reasons count, they are differences.
    pub other_reasons: u64,
    /// Answers of the plugin that the host refuses.
    pub refused: u64,
    /// Answers of the other one that the host refuses.
    pub other_refused: u64,
    /// Sources of which the plugin expires more than a run allows unless it is told so.
    pub over_share: u64,
    /// What the plugin used.
    pub plugin: Option<PluginUsage>,
    /// What the other one used.
    pub other: Option<PluginUsage>,
    /// Fuel of the plugin for each row.
    pub fuel_of_a_row: f64,
    /// Nanoseconds of the plugin for each row.
    pub nanoseconds_of_a_row: f64,
}

/// How plugins are compared.
pub struct Replay<'f> {
    strategy: Strategy,
    sides: [Side; 2],
    reasons_count: bool,
    zone: Zone,
    source: Option<SourceLine>,
    /// Whether the last question about packs had owners.
    with_owners: bool,
    /// Snapshots of the source so far.
    snapshots: u64,
    batches: u64,
    rows: u64,
    differences: u64,
    other_reasons: u64,
    find: &'f mut dyn FnMut(&Finding),
}

impl<'f> Replay<'f> {
    /// Loads both. `reasons_count`: the same decision for another reason is a difference. `find`
    /// is told what is found, as it is found.
    ///
    /// # Errors
    /// Why one of them cannot be used.
    pub fn new(
        strategy: Strategy,
        plugins: [PluginOptions; 2],
        reasons_count: bool,
        find: &'f mut dyn FnMut(&Finding),
    ) -> Result<Self, PluginError> {
        let [plugin, other] = plugins;
        Ok(Self {
            strategy,
            sides: [Side::load(strategy, plugin)?, Side::load(strategy, other)?],
            reasons_count,
            zone: Zone::default(),
            source: None,
            with_owners: false,
            snapshots: 0,
            batches: 0,
            rows: 0,
            differences: 0,
            other_reasons: 0,
            find,
        })
    }

    /// Asks both a batch of `line` and compares.
    ///
    /// # Errors
    /// A plugin that fails.
    pub fn ask(&mut self, line: u64, batch: Batch) -> Result<(), StrategyError> {
        if matches!(batch, Batch::Tenants(_)) && !self.sides.iter().any(Side::gives_tenants) {
            return Ok(()); // nobody is asked
        }
        self.batches += 1;
        self.rows += batch.rows() as u64;
        self.end_packs_before(&batch);
        match batch {
            Batch::Zone(zone) => {
                self.zone = zone;
                Ok(())
            }
            Batch::Source(source) => self.begin(line, source),
            Batch::Snapshots(rows) => self.decide(line, rows),
            Batch::Split(question) => self.split(line, &question),
            Batch::Tenants(tenants) => self.tenants(line, &tenants),
            Batch::Repack(question) => self.repack(line, question),
            Batch::Schedule(question) => self.schedule(line, &question),
        }
    }

    /// Ends the replay.
    pub fn end(mut self, line: u64) -> ReplayReport {
        self.end_source(line);
        self.end_packs();
        self.end_tenants();
        let told = |side: &Side| {
            let told = side.tally.told(self.strategy.name());
            // What was decided was compared; it is not told once more.
            told.map(PluginUsage::without_decisions)
        };
        let [plugin, other] = &self.sides;
        let usage = plugin.tally.usage();
        ReplayReport {
            strategy: self.strategy,
            batches: self.batches,
            rows: self.rows,
            differences: self.differences,
            other_reasons: self.other_reasons,
            refused: plugin.refused,
            other_refused: other.refused,
            over_share: plugin.over_share,
            plugin: told(plugin),
            other: told(other),
            fuel_of_a_row: usage.fuel_of_a_row().round(),
            nanoseconds_of_a_row: usage.nanoseconds_of_a_row().round(),
        }
    }

    fn begin(&mut self, line: u64, source: SourceLine) -> Result<(), StrategyError> {
        self.end_source(line);
        let question = source.question(&self.zone);
        for side in &mut self.sides {
            (side.guard, side.expired) = (RetentionGuard::default(), 0);
            if let Some(plugin) = side.retention() {
                plugin.begin(&question)?;
            }
        }
        self.source = Some(source);
        Ok(())
    }

    fn decide(&mut self, line: u64, rows: Vec<SnapshotLine>) -> Result<(), StrategyError> {
        let Some(source) = &self.source else {
            return Ok(());
        };
        let source = source.source.clone();
        let rows: Vec<_> = rows.into_iter().map(|row| row.row(&source)).collect();
        self.snapshots += rows.len() as u64;
        let mut decided: Vec<Vec<Decision>> = Vec::with_capacity(2);
        for side in 0..2 {
            let decisions = match self.sides[side].retention() {
                Some(plugin) => plugin.decide(&rows)?,
                None => Vec::new(),
            };
            if let Err(reason) = RetentionGuard::check_batch(&rows, &decisions) {
                self.refuse(side, line, reason);
            }
            for (row, decision) in rows.iter().zip(&decisions) {
                self.sides[side].expired += u64::from(decision.expire);
                if let Err(reason) = self.sides[side].guard.check(row, decision.expire) {
                    self.refuse(side, line, reason);
                }
            }
            decided.push(decisions);
        }
        let both = decided[0].iter().zip(&decided[1]);
        for (row, (decision, other)) in rows.iter().zip(both) {
            let same = decision.expire == other.expire;
            self.compare(line, same, decision.reason == other.reason, || {
                let answers = [decision, other].map(words::decision);
                let [answer, other] = answers;
                [words::snapshot(row), answer, other]
            });
        }
        Ok(())
    }

    /// Ends a source: were too many of its snapshots expired?
    fn end_source(&mut self, line: u64) {
        let Some(source) = self.source.take() else {
            return;
        };
        let snapshots = std::mem::take(&mut self.snapshots);
        for side in &mut self.sides {
            if are_too_many(side.expired, snapshots, EXPIRE_PERCENT) {
                side.over_share += 1;
                (self.find)(&Finding::OverShare {
                    line,
                    plugin: side.name.clone(),
                    about: without_controls(&source.source.to_string()),
                    expired: side.expired,
                    snapshots,
                });
            }
        }
    }

    fn schedule(&mut self, line: u64, question: &SchedulingQuestion) -> Result<(), StrategyError> {
        let mut answers = Vec::with_capacity(2);
        for side in 0..2 {
            let Asked::Scheduling(plugin) = &mut self.sides[side].asked else {
                return Ok(());
            };
            let answer = plugin.schedule(question)?;
            if !answer.asks_for_costs(question)
                && let Err(reason) = answer.check(question)
            {
                self.refuse(side, line, reason);
            }
            answers.push(answer);
        }
        let texts = [words::choice(&answers[0]), words::choice(&answers[1])];
        let same = texts[0] == texts[1];
        let same_reason = answers[0].reason() == answers[1].reason();
        self.compare(line, same, same_reason, || {
            let [answer, other] = [0, 1].map(|side| {
                let reason = answers[side].reason();
                format!("{}{}", texts[side], words::because(reason))
            });
            [words::due(question), answer, other]
        });
        Ok(())
    }

    /// Counts a decision, and tells it where the two differ; `texts` are what it is about, and the
    /// two answers.
    fn compare(
        &mut self,
        line: u64,
        same: bool,
        same_reason: bool,
        texts: impl FnOnce() -> [String; 3],
    ) {
        if same && same_reason {
            return;
        }
        if same {
            self.other_reasons += 1;
            if !self.reasons_count {
                return;
            }
        }
        self.differences += 1;
        // Names are those of a file; they end up on terminals.
        let [about, answer, other] = texts().map(|text| without_controls(&text));
        (self.find)(&Finding::Differs {
            line,
            about,
            answer,
            other,
        });
    }

    fn refuse(&mut self, side: usize, line: u64, reason: String) {
        self.sides[side].refused += 1;
        (self.find)(&Finding::Refused {
            line,
            plugin: self.sides[side].name.clone(),
            reason: without_controls(&reason),
        });
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Differs {
                line,
                about,
                answer,
                other,
            } => write!(
                f,
                "{}{about}\n  - {other}\n  + {answer}",
                words::place(*line)
            ),
            Self::Refused {
                line,
                plugin,
                reason,
            } => write!(f, "{}{plugin} is refused: {reason}", words::place(*line)),
            Self::OverShare {
                plugin,
                about,
                expired,
                snapshots,
                ..
            } => write!(
                f,
                "{about}: {plugin} expires {expired} of {snapshots} snapshots; a run refuses more \
                 than {EXPIRE_PERCENT} % unless --max-expire-percent allows it"
            ),
        }
    }
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} batches, {} rows: {} decisions differ, {} for another reason, {} refused",
            self.strategy,
            self.batches,
            self.rows,
            self.differences,
            self.other_reasons,
            self.refused
        )?;
        let both = [("+", &self.plugin), ("-", &self.other)];
        for (mark, told) in both {
            let Some(told) = told else { continue };
            let (fuel, nanoseconds) = (
                told.usage.fuel_of_a_row(),
                told.usage.nanoseconds_of_a_row(),
            );
            write!(
                f,
                "\n  {mark} {told}; {fuel:.0} fuel and {nanoseconds:.0} ns a row"
            )?;
        }
        Ok(())
    }
}
