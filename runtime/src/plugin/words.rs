//! Questions to strategies and their answers as people read them, for reports and replays.
//!
//! No memory cost but the texts.

use std::fmt::Write;

use crate::maintenance::budget::Budget;
use crate::maintenance::retention::Decision;
use crate::maintenance::scheduling::{SchedulingAnswer, SchedulingQuestion};
use crate::maintenance::strategy::{
    Owner, PackRow, RepackAnswer, SplittingAnswer, SplittingQuestion, TaggedSource,
};
use crate::repository::snapshot_history::HistoryRow;

/// Ranges that are shown.
const RANGES_SHOWN: usize = 4;

/// Tags of a snapshot that are shown.
const TAGS_SHOWN: usize = 4;

/// Returns the beginning of a line about a line of a file.
pub(super) fn place(line: u64) -> String {
    match line {
        0 => String::new(),
        line => format!("line {line}: "),
    }
}

/// Returns a reason, where there is one.
pub(super) fn because(reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason => format!(" ({reason})"),
    }
}

/// Returns what becomes of a snapshot.
pub(super) fn decision(decision: &Decision) -> String {
    let what = if decision.expire { "expire" } else { "keep" };
    format!("{what}{}", because(&decision.reason))
}

/// Returns the shape of an index set, without the reason.
pub(super) fn shape(answer: &SplittingAnswer) -> String {
    let mut text = format!("shards of {} entries", answer.shard_entries);
    for range in answer.joins.iter().take(RANGES_SHOWN) {
        let _ = write!(text, ", range {range}");
    }
    if answer.joins.len() > RANGES_SHOWN {
        let more = answer.joins.len() - RANGES_SHOWN;
        let _ = write!(text, ", {more} more ranges");
    }
    text
}

/// Returns the size of new packs, without the reason.
pub(super) fn packs(answer: &RepackAnswer) -> String {
    format!("packs of {} bytes", answer.pack_bytes)
}

/// Returns which pack of a question it is.
pub(super) fn pack(number: usize, row: &PackRow) -> String {
    let kind = if row.metadata { "metadata" } else { "data" };
    let (number, bytes) = (number + 1, row.used_bytes);
    let whose = match row.owner {
        None => String::new(),
        Some(Owner::Nobody) => ", nobody's".to_owned(),
        Some(Owner::One(tenant)) => format!(", tenant {tenant}'s"),
        Some(Owner::Shared) => ", shared by tenants".to_owned(),
        Some(Owner::Mixed) => ", of several owners".to_owned(),
    };
    format!("pack {number} of its question, {kind}, {bytes} bytes in use{whose}")
}

/// Returns which index set was asked about.
pub(super) fn index(question: &SplittingQuestion) -> String {
    let (epochs, from) = (question.epochs.len(), question.chain_end);
    format!("index with {epochs} epochs from {from} on")
}

/// Returns how many packs of a question are rewritten.
pub(super) fn chosen(answer: &RepackAnswer) -> String {
    let chosen = answer.groups.iter().filter(|group| **group > 0).count();
    format!("{chosen} are rewritten, into {}", packs(answer))
}

/// Returns how many tenants snapshots have.
pub(super) fn tenants(tenants: &[u8]) -> String {
    let mut seen = [false; 256];
    for tenant in tenants {
        seen[usize::from(*tenant)] = true;
    }
    let tenants = seen.iter().filter(|seen| **seen).count();
    format!("they are those of {tenants} tenants")
}

/// Returns which snapshot it is, by what it says of its tenant.
pub(super) fn tagged(snapshot: &TaggedSource) -> String {
    let mut text = format!("snapshot of {}", snapshot.source);
    for (key, value) in snapshot.tags.iter().take(TAGS_SHOWN) {
        let _ = write!(text, ", {key}={value}");
    }
    text
}

/// Returns which snapshot it is.
pub(super) fn snapshot(row: &HistoryRow) -> String {
    format!("snapshot {} of {}, {}", row.id, row.source, row.start)
}

/// Returns what becomes of a pack.
pub(super) fn group(group: u8) -> String {
    match group {
        0 => "left as it is".to_owned(),
        group => format!("rewritten with group {group}"),
    }
}

/// Returns what is to run, without the reason.
pub(super) fn choice(answer: &SchedulingAnswer) -> String {
    match answer {
        SchedulingAnswer::Run { cycle, tasks, .. } => {
            let named = tasks
                .iter()
                .map(|task| format!("{}{}", task.name, with_budget(&task.budget)));
            let named: Vec<String> = named.collect();
            format!("run of {cycle} maintenance: {}", named.join(", "))
        }
        SchedulingAnswer::Wait { not_before, .. } => format!("nothing before {not_before}"),
        SchedulingAnswer::CountCosts => "costs are to be counted".to_owned(),
    }
}

fn with_budget(budget: &Budget) -> String {
    match budget.is_none() {
        true => String::new(),
        false => format!(" (at most {budget})"),
    }
}

/// Returns what was asked.
pub(super) fn due(question: &SchedulingQuestion) -> String {
    let cycles = question.cycles.iter().map(|row| row.cycle.to_string());
    let cycles: Vec<String> = cycles.collect();
    let writers = question.writers;
    format!(
        "due at {}: {}; {writers} writers",
        question.now,
        cycles.join(", ")
    )
}
