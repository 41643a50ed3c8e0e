//! Strategies that are loaded when they are asked for the first time.
//!
//! A run asks its scheduling strategy once, and its retention strategy before the first task:
//! neither is to hold memory while the index is read before, or while tasks run after. A scheduling
//! strategy that wants costs counted is loaded again for its second answer. That a file is the
//! pinned one is checked at the start, and again whenever it is loaded. Memory: a loaded plugin,
//! until the value is dropped.

use crate::maintenance::retention::{Decision, Retention, RetentionQuestion};
use crate::maintenance::scheduling::{Scheduling, SchedulingAnswer, SchedulingQuestion};
use crate::maintenance::strategy::StrategyError;
use crate::plugin::{
    PluginOptions, RetentionPlugin, SchedulingPlugin, load_retention, load_scheduling,
};
use crate::repository::snapshot_history::HistoryRow;

/// A name for a plugin that was never asked.
const NOT_LOADED: &str = "a plugin that is not loaded";

/// A scheduling plugin.
pub(super) struct SchedulingOnDemand {
    options: PluginOptions,
    loaded: Option<SchedulingPlugin>,
}

impl SchedulingOnDemand {
    pub(super) fn new(options: PluginOptions) -> Self {
        Self {
            options,
            loaded: None,
        }
    }
}

impl Scheduling for SchedulingOnDemand {
    fn schedule(
        &mut self,
        question: &SchedulingQuestion,
    ) -> Result<SchedulingAnswer, StrategyError> {
        let loaded = match self.loaded.take() {
            Some(loaded) => loaded,
            None => load_scheduling(self.options.clone())?,
        };
        let answer = self.loaded.insert(loaded).schedule(question)?;
        if answer.asks_for_costs(question) {
            self.loaded = None;
        }
        Ok(answer)
    }

    fn describe(&self) -> String {
        let loaded = self.loaded.as_ref();
        loaded.map_or(NOT_LOADED.to_owned(), Scheduling::describe)
    }

    fn used(&self) -> String {
        self.loaded.as_ref().map_or(String::new(), Scheduling::used)
    }
}

/// A retention plugin.
pub(super) struct RetentionOnDemand {
    options: PluginOptions,
    loaded: Option<RetentionPlugin>,
}

impl RetentionOnDemand {
    pub(super) fn new(options: PluginOptions) -> Self {
        Self {
            options,
            loaded: None,
        }
    }

    fn loaded(&mut self) -> Result<&mut RetentionPlugin, StrategyError> {
        let loaded = match self.loaded.take() {
            Some(loaded) => loaded,
            None => load_retention(self.options.clone())?,
        };
        Ok(self.loaded.insert(loaded))
    }
}

impl Retention for RetentionOnDemand {
    fn begin(&mut self, question: &RetentionQuestion) -> Result<(), StrategyError> {
        self.loaded()?.begin(question)
    }

    fn decide(&mut self, rows: &[HistoryRow]) -> Result<Vec<Decision>, StrategyError> {
        self.loaded()?.decide(rows)
    }

    fn describe(&self) -> String {
        let loaded = self.loaded.as_ref();
        loaded.map_or(NOT_LOADED.to_owned(), Retention::describe)
    }

    fn used(&self) -> String {
        self.loaded.as_ref().map_or(String::new(), Retention::used)
    }
}
