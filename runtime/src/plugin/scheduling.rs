//! The scheduling strategy as a plugin: asked once a run, or twice, each time in a fresh instance.
//!
//! Whoever asks checks the answer with `SchedulingAnswer::check`; here it is only turned into plain
//! values, and its texts are made harmless. Memory: see the floor's head; the question has at most
//! 28 rows and a thousand changes of local time.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::maintenance::budget::Budget;
use crate::maintenance::cycle_plan::Verdict;
use crate::maintenance::cycle_task::Cycle;
use crate::maintenance::retention::ZONE_CHANGES_MAX;
use crate::maintenance::scheduling::{
    Costs, CycleRow, LastRun, NamedTask, Scheduling, SchedulingAnswer, SchedulingQuestion, TaskRow,
};
use crate::maintenance::strategy::StrategyError;
use crate::maintenance::task_costs::TaskCost;

use super::about::About;
use super::error::{Failure, PluginError, harmless, without_controls};
use super::load::{Parts, PluginOptions, load_parts};
use super::usage::Decided;
use super::wasm_file::PluginSource;
use super::words;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../guest-sdk/wit",
        inline: "
            package careen:host;

            world scheduling {
                import careen:strategy/host-log@1.2.0;
                export careen:strategy/schedule@1.2.0;
            }
        ",
        world: "careen:host/scheduling",
        imports: { default: trappable },
        with: {
            "careen:strategy/host-log":
                crate::plugin::contract::bindings::careen::strategy::host_log,
        },
    });
}

use bindings::exports::careen::strategy::schedule as wit;

/// Longest text of a row that a plugin is told.
const TEXT_BYTES_MAX: usize = 1_000;

/// What rounds a moment up to seconds.
const ALMOST_A_SECOND: Duration = Duration::from_nanos(999_999_999);

/// A loaded scheduling plugin.
pub struct SchedulingPlugin {
    parts: Parts,
    exports: bindings::SchedulingIndices,
}

impl PluginOptions {
    /// The built-in scheduling strategy with the limits of every plugin.
    pub fn scheduling() -> Self {
        Self {
            source: PluginSource::BuiltinScheduling,
            ..Self::default()
        }
    }
}

/// Loads a scheduling plugin: reads, checks the pin, compiles or takes from the cache, checks its
/// interfaces and its configuration.
///
/// # Errors
/// Every reason why the plugin cannot be used.
pub fn load_scheduling(options: PluginOptions) -> Result<SchedulingPlugin, PluginError> {
    let (parts, exports) = load_parts(
        options,
        bindings::SchedulingIndices::new,
        |exports, store, instance| exports.load(store, instance).map(drop),
    )?;
    Ok(SchedulingPlugin { parts, exports })
}

impl SchedulingPlugin {
    /// Returns the BLAKE3 digest of the component: what a pin holds.
    pub fn digest(&self) -> &[u8; 32] {
        self.parts.digest()
    }

    /// Returns what the plugin says about itself; nothing for one of the contract's version 1.0.
    pub fn about(&self) -> Option<&About> {
        self.parts.about()
    }

    fn ask(&mut self, question: &SchedulingQuestion) -> Result<SchedulingAnswer, Failure> {
        let rows = question.cycles.iter().map(|cycle| cycle.tasks.len());
        self.parts.asked(rows.sum());
        let asked = question;
        let question = question_of(question);
        let decision = self.parts.ask_once(|store, instance| {
            let exports = self.exports.load(&mut *store, instance)?;
            exports
                .careen_strategy_schedule()
                .call_schedule(store, &question)
        })?;
        let answer = answer_of(decision);
        self.parts.decided(|| Decided {
            about: words::due(asked),
            decision: words::choice(&answer),
            reason: answer.reason().to_owned(),
        });
        Ok(answer)
    }
}

impl Scheduling for SchedulingPlugin {
    fn schedule(
        &mut self,
        question: &SchedulingQuestion,
    ) -> Result<SchedulingAnswer, StrategyError> {
        let answer = self.ask(question);
        answer.map_err(|failure| self.parts.failed(failure))
    }

    fn describe(&self) -> String {
        self.parts.describe()
    }

    fn used(&self) -> String {
        self.parts.used()
    }
}

fn question_of(question: &SchedulingQuestion) -> wit::Question {
    let changes = &question.zone.changes;
    // A zone with more changes has the latest ones: the earlier are centuries ago.
    let skipped = changes.len().saturating_sub(ZONE_CHANGES_MAX);
    let change = |(at_seconds, offset_seconds): &(i64, i32)| wit::ZoneChange {
        at_seconds: *at_seconds,
        offset_seconds: *offset_seconds,
    };
    wit::Question {
        now_seconds: question.now.seconds(),
        offset_seconds: question.zone.offset_seconds,
        zone: changes.iter().skip(skipped).map(change).collect(),
        asked_for: question.asked_for,
        cycles: question.cycles.iter().map(cycle_row).collect(),
        writers: question.writers,
        newest_writer_seconds: question.newest_writer.map(Timestamp::seconds),
        index_blobs: question.index_blobs,
        index_bytes: question.index_bytes,
        memory_bytes: question.memory_bytes,
        scratch_bytes: question.scratch_bytes,
        costs: match &question.costs {
            Costs::NotCounted => wit::CostKnowledge::NotCounted,
            Costs::Counted => wit::CostKnowledge::Counted,
            Costs::Unknown(why) => wit::CostKnowledge::Unknown(shortened(why)),
        },
    }
}

fn cycle_row(row: &CycleRow) -> wit::CycleRow {
    wit::CycleRow {
        cycle: match row.cycle {
            Cycle::Quick => wit::Cycle::Quick,
            Cycle::Full => wit::Cycle::Full,
        },
        because: shortened(&row.because),
        tasks: row.tasks.iter().map(task_row).collect(),
    }
}

fn task_row(row: &TaskRow) -> wit::TaskRow {
    let past = |run: LastRun| wit::PastRun {
        start_seconds: run.start.seconds(),
        end_seconds: run.end.seconds(),
        success: run.success,
    };
    wit::TaskRow {
        name: row.task.name().to_owned(),
        verdict: match row.verdict {
            Verdict::Runs => wit::Verdict::Runs,
            Verdict::Waits => wit::Verdict::Waits,
            Verdict::Off | Verdict::Left => wit::Verdict::Off,
        },
        because: shortened(&row.because),
        // A plugin that waits for it must not come a part of a second too early.
        until_seconds: row.until.map(|until| until.plus(ALMOST_A_SECOND).seconds()),
        last: row.last.map(past),
        keeps_budget: row.task.keeps_budget(),
        cost: row.cost.as_ref().map(task_cost),
    }
}

fn task_cost(cost: &TaskCost) -> wit::TaskCost {
    wit::TaskCost {
        read_bytes: cost.read_bytes,
        written_bytes: cost.written_bytes,
        requests: cost.requests,
        scratch_bytes: cost.scratch_bytes,
        memory_bytes: cost.memory_bytes as u64,
    }
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

/// Lengths and names are the check's business; what steers a terminal is not.
fn answer_of(decision: wit::Decision) -> SchedulingAnswer {
    let named = |choice: wit::TaskChoice| NamedTask {
        name: harmless(&choice.name),
        budget: Budget {
            bytes: choice.budget.bytes,
            requests: choice.budget.requests,
        },
    };
    match decision {
        wit::Decision::Run(plan) => SchedulingAnswer::Run {
            cycle: match plan.cycle {
                wit::Cycle::Quick => Cycle::Quick,
                wit::Cycle::Full => Cycle::Full,
            },
            tasks: plan.tasks.into_iter().map(named).collect(),
            reason: without_controls(&plan.reason),
        },
        wit::Decision::Wait(pause) => SchedulingAnswer::Wait {
            not_before: Timestamp::from_seconds(pause.not_before_seconds),
            reason: without_controls(&pause.reason),
        },
        wit::Decision::CountCosts => SchedulingAnswer::CountCosts,
    }
}
