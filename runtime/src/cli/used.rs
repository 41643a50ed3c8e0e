//! What strategies have used and decided, for the end of a report.
//!
//! A command makes a [`Used`], loads its strategies with it, and tells its report through it: as
//! JSON the report has a field `plugins`, as text a line for each plugin that was asked. Memory:
//! some numbers a strategy, and the first of its decisions.

use std::fmt::{self, Display};

use serde::Serialize;

use super::ending::Ending;
use crate::blob::{Storage, Traffic};
#[cfg(feature = "plugins")]
use crate::plugin::{PluginUsage, Tally};

/// Without the plugin host nobody is asked.
#[cfg(not(feature = "plugins"))]
type PluginUsage = String;

/// Sums of the strategies of a command.
#[derive(Debug, Default)]
pub(super) struct Used {
    #[cfg(feature = "plugins")]
    scheduling: Tally,
    #[cfg(feature = "plugins")]
    splitting: Tally,
    #[cfg(feature = "plugins")]
    retention: Tally,
}

/// A report, and the plugins that were asked.
#[derive(Serialize)]
pub(super) struct WithPlugins<'a, T> {
    #[serde(flatten)]
    report: &'a T,
    plugins: Vec<PluginUsage>,
    /// JSON only: people see it at the end of every command.
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<Traffic>,
}

impl<T> WithPlugins<'_, T> {
    /// Adds what went over the wire.
    pub(super) fn over(mut self, storage: &Storage) -> Self {
        self.traffic = storage.traffic();
        self
    }
}

impl Used {
    /// Returns the sums of a strategy, for whoever loads it.
    #[cfg(feature = "plugins")]
    pub(super) fn of(&self, strategy: &str) -> Tally {
        match strategy {
            "scheduling" => self.scheduling.clone(),
            "splitting" => self.splitting.clone(),
            _ => self.retention.clone(),
        }
    }

    /// Notes what was used, for the metrics.
    #[cfg(feature = "plugins")]
    pub(super) fn note(&self, ending: &Ending) {
        ending.note(|facts| facts.add_plugins(&self.told()));
    }

    /// Notes nothing: nobody was asked.
    #[cfg(not(feature = "plugins"))]
    pub(super) fn note(&self, _: &Ending) {}

    /// Adds what was used up to now to a report.
    pub(super) fn with<'a, T>(&self, report: &'a T) -> WithPlugins<'a, T> {
        WithPlugins {
            report,
            plugins: self.told(),
            traffic: None,
        }
    }

    #[cfg(feature = "plugins")]
    fn told(&self) -> Vec<PluginUsage> {
        let all = ["scheduling", "retention", "splitting"];
        all.into_iter()
            .filter_map(|strategy| self.of(strategy).told(strategy))
            .collect()
    }

    #[cfg(not(feature = "plugins"))]
    fn told(&self) -> Vec<PluginUsage> {
        Vec::new()
    }
}

impl<T: Display> Display for WithPlugins<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.report.to_string().trim_end())?;
        for plugin in &self.plugins {
            write!(f, "\nplugin {plugin}")?;
        }
        Ok(())
    }
}
