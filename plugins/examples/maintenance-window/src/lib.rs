//! Scheduling: maintenance in a window of local time, within a budget for each run.
//!
//! Outside of the window a run ends at once and says when the window opens; what the user asks for
//! runs at any time. Inside, all that is due runs, the full cycle first, in Kopia's order, until
//! the bytes and requests of the run are used up; what is left stays due for the next run.
//!
//! Memory: one answer.

mod budget;
mod window;

use careen_guest_sdk::scheduling::{
    CostKnowledge, Cycle, Decision, Pause, Question, RunPlan, Scheduling,
};
use careen_guest_sdk::{Configured, from_json, register_scheduling};
use serde::Deserialize;

use budget::Left;
use window::{DAY_NAMES, Window};

/// The strategy, with its configuration.
#[derive(Clone, Debug)]
pub struct MaintenanceWindow {
    window: Window,
    budget: Left,
    /// The window as the user wrote it, for reasons.
    told: String,
}

/// The configuration as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    #[serde(default = "evening")]
    from: String,
    #[serde(default = "morning")]
    to: String,
    #[serde(default = "every_day")]
    days: Vec<String>,
    bytes_per_run: Option<u64>,
    requests_per_run: Option<u64>,
}

fn evening() -> String {
    "22:00".into()
}

fn morning() -> String {
    "06:00".into()
}

fn every_day() -> Vec<String> {
    DAY_NAMES.map(String::from).to_vec()
}

/// Seconds since midnight of `HH:MM`.
fn seconds_of(text: &str) -> Result<i64, String> {
    let number = |text: &str, most: i64| {
        let number = text
            .parse()
            .ok()
            .filter(|number| (0..=most).contains(number));
        number.ok_or_else(|| format!("{text:?} is no part of a time such as 22:30"))
    };
    let (hour, minute) = text
        .split_once(':')
        .ok_or_else(|| format!("{text:?} is no time such as 22:30"))?;
    Ok(number(hour, 23)? * 3_600 + number(minute, 59)? * 60)
}

impl Configured for MaintenanceWindow {
    const SCHEMA: &'static str = include_str!("../schema.json");

    fn configure(json: &str) -> Result<Self, String> {
        let settings: Settings = from_json(json)?;
        let (from, to) = (seconds_of(&settings.from)?, seconds_of(&settings.to)?);
        let days = DAY_NAMES.map(|name| settings.days.iter().any(|day| day == name));
        let told = match days.contains(&false) {
            true => format!(
                "{} {}-{}",
                settings.days.join(" "),
                settings.from,
                settings.to
            ),
            false => format!("{}-{}", settings.from, settings.to),
        };
        Ok(Self {
            window: Window { from, to, days },
            budget: Left {
                bytes: settings.bytes_per_run,
                requests: settings.requests_per_run,
            },
            told,
        })
    }
}

impl Scheduling for MaintenanceWindow {
    fn schedule(&self, question: &Question) -> Result<Decision, String> {
        if !question.asked_for && !self.window.is_open(question) {
            let opens = self.window.next(question);
            return Ok(Decision::Wait(Pause {
                not_before_seconds: opens.ok_or("the window never opens")?,
                reason: format!("the maintenance window is {}", self.told),
            }));
        }
        if self.budget.is_limited() && question.costs == CostKnowledge::NotCounted {
            return Ok(Decision::CountCosts);
        }
        let full = question.cycles.iter().find(|row| row.cycle == Cycle::Full);
        let row = full.or_else(|| question.cycles.first());
        let row = row.ok_or("there is no cycle to choose from")?;
        Ok(Decision::Run(RunPlan {
            cycle: row.cycle,
            tasks: self.budget.divide(&row.tasks),
            reason: match question.asked_for {
                true => "asked for".into(),
                false => format!("inside the maintenance window {}", self.told),
            },
        }))
    }
}

register_scheduling!(MaintenanceWindow, configured);

#[cfg(test)]
mod tests;
