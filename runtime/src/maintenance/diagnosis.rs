//! `careen doctor`, the part about the repository: who maintains it, how its maintenance goes, what
//! is wrong with its index, what a full cycle would need.
//!
//! Every finding says what to do next. Judges what other files of this floor found; asks nothing of
//! the storage itself and writes nothing. The traps are those of Velero's users: a schedule that
//! says "not due" after a crash, an owner that is missing or another, cycles that are switched off.
//! No memory cost.

use std::time::Duration;

use bytesize::ByteSize;

use crate::clock::Timestamp;
use crate::kopia::maintenance_params::MaintenanceParams;
use crate::kopia::schedule::{Schedule, UNSET};

use super::cycle_task::CycleTask;
use super::lease::Lease;
use super::outlook::Outlook;
use super::owner::Identity;
use super::status::Status;

/// Index blobs with which Kopia gets slow: every one is a mapping of each client.
const INDEX_BLOBS_MANY: u64 = 1_000;

/// Mappings of a process on Linux (`vm.max_map_count`): with more index blobs Kopia opens nothing.
const MAPPINGS_MAX: u64 = 65_530;

/// How long a full cycle may be at work before it counts as crashed.
const CYCLE_TIME: Duration = Duration::from_secs(3600);

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It was not looked at, and the finding says why.
    Skipped,
    /// It works, but a person should know.
    Warning,
    /// Maintenance would not work.
    Error,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub state: State,
    /// A stable name of what is wrong, in kebab case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// What was found.
    pub what: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Finding {
    /// Something is as it should be.
    pub fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self {
            check,
            state: State::Ok,
            code: None,
            what: what.into(),
            next: None,
        }
    }

    /// Something was not looked at.
    pub fn skipped(check: &'static str, what: impl Into<String>) -> Self {
        Self {
            state: State::Skipped,
            ..Self::ok(check, what)
        }
    }

    /// Something works, but a person should know.
    pub fn warning(
        check: &'static str,
        code: &'static str,
        what: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            state: State::Warning,
            code: Some(code),
            next: Some(next.into()),
            ..Self::ok(check, what)
        }
    }

    /// Something is wrong.
    pub fn error(
        check: &'static str,
        code: &'static str,
        what: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            state: State::Error,
            ..Self::warning(check, code, what, next)
        }
    }
}

/// Judges the owner. `copies`: how many manifests hold parameters.
pub fn ownership(
    identity: &Identity,
    params: Option<&MaintenanceParams>,
    copies: u64,
) -> Vec<Finding> {
    let check = "owner";
    let Some(params) = params else {
        let next = "let the client that owns it run `kopia maintenance set --owner me`, or Velero \
                    connect once more";
        return vec![Finding::error(
            check,
            "empty-owner",
            "nobody is set as the owner",
            next,
        )];
    };
    let mut found = Vec::new();
    if copies > 1 {
        found.push(Finding::warning(
            check,
            "params-twice",
            format!("the parameters of maintenance are there {copies} times; the newest count"),
            "two clients set them up at the same time; look whether owner and intervals are those \
             that you want (`kopia maintenance info`), and set them once more",
        ));
    }
    let owner = &params.owner;
    found.push(match identity.check(owner) {
        Ok(_) => Finding::ok(check, format!("{owner}, and we act as that")),
        Err(_) if owner.is_empty() => Finding::error(
            check,
            "empty-owner",
            "the owner's name is empty: no client maintains this repository",
            "run `kopia maintenance set --owner USER@HOST` with the client that shall own it; for \
             Velero that is default@default",
        ),
        Err(_) => Finding::error(
            check,
            "not-owner",
            format!("it belongs to {owner}, and we act as somebody else"),
            format!("act as the owner with --owner {owner}, if its own maintenance is off"),
        ),
    });
    found
}

/// Judges which cycles are on.
pub fn cycles(params: &MaintenanceParams) -> Finding {
    let check = "cycles";
    let hours = |interval: Duration| interval.as_secs_f64() / 3600.0;
    let (quick, full) = (&params.quick, &params.full);
    let off = match (quick.enabled, full.enabled) {
        (true, true) => {
            let (quick, full) = (hours(quick.interval()), hours(full.interval()));
            return Finding::ok(check, format!("quick every {quick} h, full every {full} h"));
        }
        (false, false) => "quick and full maintenance are",
        (false, true) => "quick maintenance is",
        (true, false) => "full maintenance is",
    };
    Finding::warning(
        check,
        "cycle-off",
        format!("{off} switched off: --mode auto never does it, whoever maintains the repository"),
        "switch it on with `kopia maintenance set --enable-quick true --enable-full true`, or run \
         careen with --mode full",
    )
}

/// Judges the schedule: failures, cycles that nobody runs, and a claim that nobody kept.
pub fn schedule(schedule: &Schedule, params: &MaintenanceParams, now: Timestamp) -> Vec<Finding> {
    let check = "schedule";
    let mut found = Vec::new();
    for (task, runs) in &schedule.runs {
        if let Some(run) = runs.first().filter(|run| !run.success) {
            let error = if run.error.is_empty() {
                "no reason given"
            } else {
                &run.error
            };
            found.push(Finding::warning(
                check,
                "task-failed",
                format!("the last run of {task} failed at {}: {error}", run.end),
                "look at the reason; `careen run --mode full` runs the task again",
            ));
        }
    }
    if let Some(lease) = Lease::of(schedule) {
        let finding = if lease.until > now {
            Finding::ok(
                check,
                format!("a run of careen is at work, or was killed: {lease}"),
            )
        } else {
            let text = format!("a run of careen was killed: {lease}");
            Finding::warning(
                check,
                "killed-run",
                text,
                "`careen run` goes on where it was",
            )
        };
        found.push(finding);
        return found;
    }
    if schedule.next_full == UNSET {
        let text = "full maintenance never ran";
        let next = "`careen run --mode full` runs it; then let a timer run `careen run`";
        found.push(Finding::warning(check, "never-ran", text, next));
        return found;
    }
    found.extend(claim(schedule, params, now));
    if found.is_empty() {
        found.push(Finding::ok(
            check,
            format!(
                "healthy: full again at {}, quick at {}",
                schedule.next_full, schedule.next_quick
            ),
        ));
    }
    found
}

/// Kopia writes the next times before it runs. If it dies then, the schedule says that all is done.
fn claim(schedule: &Schedule, params: &MaintenanceParams, now: Timestamp) -> Option<Finding> {
    let check = "schedule";
    let interval = params.full.interval();
    let next_full = schedule.next_full;
    if now > next_full.plus(interval.max(Duration::from_secs(24 * 3600))) {
        let text = format!("full maintenance is due since {next_full}, and nobody ran it");
        let next = "look whether the owner's client, or Velero's maintenance job, is alive; \
                    `careen run` does what is due";
        return Some(Finding::warning(check, "overdue", text, next));
    }
    let claimed = next_full.minus(interval);
    let ended = |task: &str| {
        schedule
            .runs_of(task)
            .first()
            .is_some_and(|run| run.start >= claimed)
    };
    let in_time = claimed > now || now.since(claimed) < CYCLE_TIME;
    if in_time || ended(CycleTask::CleanupLogs.name()) {
        return None;
    }
    let any = schedule.runs.keys().any(|task| ended(task));
    let what = if any {
        "only some of its tasks were"
    } else {
        "no task of it was"
    };
    let text = format!(
        "stale: the schedule counts a full cycle of {claimed} as done, but {what} recorded; it \
         crashed, and counts as not due until {next_full}"
    );
    let next = "`careen run --mode full` does it now; Velero's own job would say \"not due\" and \
                succeed";
    Some(Finding::warning(check, "stale-schedule", text, next))
}

/// Judges the index.
pub fn index(status: &Status) -> Vec<Finding> {
    let check = "index";
    let mut found = Vec::new();
    if let Some(problem) = &status.owner_problem {
        let next = "`careen verify --index` shows all that is damaged";
        found.push(Finding::error(check, "damaged-index", problem, next));
    }
    let active = match (&status.epochs, &status.v0) {
        (Some(epochs), _) => {
            if epochs.gaps.total > 0 && found.is_empty() {
                let text = format!(
                    "index blobs are lost ({} epochs): readers miss entries, and maintenance stops",
                    epochs.gaps.total
                );
                let next = "`careen verify --index` shows what is missing; restore the blobs from \
                            a copy of the storage, `kopia index recover` finds entries in packs";
                found.push(Finding::error(check, "incomplete-index", text, next));
            } else if epochs.incomplete.total > 0 && found.is_empty() {
                let text = format!(
                    "incomplete sets of index blobs ({}): a compaction is at work, or has crashed",
                    epochs.incomplete.total
                );
                let next = "nothing is missing: what was compacted is still there; maintenance \
                            compacts it again";
                found.push(Finding::warning(check, "incomplete-sets", text, next));
            }
            epochs.uncompacted_active.blobs
        }
        (None, Some(v0)) => v0.active.blobs,
        (None, None) => 0,
    };
    if active > INDEX_BLOBS_MANY {
        let text = format!(
            "{active} index blobs are in use; Kopia maps each of them, and opens nothing with \
             more than {MAPPINGS_MAX}"
        );
        let next = "`careen run --mode full`, or `careen index compact` for the index alone";
        found.push(Finding::warning(check, "many-index-blobs", text, next));
    }
    if found.is_empty() {
        found.push(Finding::ok(
            check,
            format!("whole; {active} uncompacted index blobs in use"),
        ));
    }
    found
}

/// Judges epochs that were compacted twice, with different results. `hidden`: entries that readers
/// miss for it.
pub fn sets(hidden: u64) -> Option<Finding> {
    let text = format!(
        "an epoch has two sets of index blobs that differ: readers miss {hidden} entries, and \
         maintenance stops; Kopia 0.17 to 0.23.0 (Velero 1.14 to 1.18.1) could do that when it \
         compacted an epoch twice"
    );
    let next = "`careen index repair` adds them again (--dry-run shows them); then let Kopia or \
                Velero be a newer one";
    (hidden > 0).then(|| Finding::error("index", "unequal-index-sets", text, next))
}

/// Judges whether a full cycle finds the memory and scratch that it needs.
pub fn needs(outlook: &Outlook, limit_bytes: usize, scratch_free_bytes: u64) -> Vec<Finding> {
    let check = "needs";
    let most = |value: fn(&super::task_costs::TaskCost) -> u64| {
        outlook
            .costs
            .iter()
            .max_by_key(|cost| value(cost))
            .map(|cost| (value(cost), cost.task))
    };
    let Some((scratch, task)) = most(|cost| cost.scratch_bytes) else {
        return vec![Finding::ok(check, "nothing: no task is on")];
    };
    let (memory, _) = most(|cost| cost.memory_bytes as u64).unwrap_or((0, task));
    let read: u64 = outlook.costs.iter().map(|cost| cost.read_bytes).sum();
    let text = format!(
        "{} of memory (the limit is {}), {} of scratch ({} are free), {} to read for a full cycle",
        ByteSize(memory),
        ByteSize(limit_bytes as u64),
        ByteSize(scratch),
        ByteSize(scratch_free_bytes),
        ByteSize(read)
    );
    if scratch > scratch_free_bytes {
        let next = format!(
            "give --scratch a directory on a disk with room for {}",
            task.name()
        );
        return vec![Finding::error(check, "scratch-small", text, next)];
    }
    vec![Finding::ok(check, text)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kopia::schedule::RunInfo;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_seconds(hours * 3600)
    }

    fn with_runs(next_full: Timestamp, runs: &[(&str, i64, bool)]) -> Schedule {
        let mut schedule = Schedule::parse(b"{}").unwrap();
        (schedule.next_full, schedule.next_quick) = (next_full, next_full);
        for (task, hour, success) in runs {
            let run = match success {
                true => RunInfo::succeeded(at(*hour), at(*hour), Vec::new()),
                false => RunInfo::failed(at(*hour), at(*hour), "no space".into()),
            };
            schedule.report_run(task, run);
        }
        schedule
    }

    fn codes(of: &Schedule, now: i64) -> Vec<&'static str> {
        let found = schedule(of, &MaintenanceParams::default(), at(now));
        found.into_iter().map(|f| f.code.unwrap_or("ok")).collect()
    }

    /// Goal: a schedule that was written before a crash is seen; method: the same claim with all,
    /// some and none of its tasks.
    #[test]
    fn a_claim_that_was_not_kept_is_stale() {
        let whole = with_runs(
            at(124),
            &[("snapshot-gc", 100, true), ("cleanup-logs", 100, true)],
        );
        assert_eq!(codes(&whole, 110), ["ok"]);
        let some = with_runs(
            at(124),
            &[("snapshot-gc", 100, true), ("cleanup-logs", 76, true)],
        );
        assert_eq!(codes(&some, 110), ["stale-schedule"]);
        let none = with_runs(at(124), &[("cleanup-logs", 76, true)]);
        assert_eq!(codes(&none, 110), ["stale-schedule"]);
        assert_eq!(codes(&none, 100), ["ok"], "it may be at work");
        assert_eq!(codes(&whole, 150), ["overdue"]);
        assert_eq!(codes(&with_runs(UNSET, &[]), 1), ["never-ran"]);
        let failed = with_runs(at(124), &[("cleanup-logs", 100, false)]);
        assert_eq!(codes(&failed, 101), ["task-failed"]);
    }

    #[test]
    fn owners_and_cycles_are_judged() {
        let code = |found: Vec<Finding>| found.last().unwrap().code;
        let us = Identity::Default {
            user: "u".into(),
            host: "h".into(),
        };
        let owned = |owner: &str| MaintenanceParams {
            owner: owner.into(),
            ..MaintenanceParams::default()
        };
        assert_eq!(code(ownership(&us, None, 0)), Some("empty-owner"));
        assert_eq!(
            code(ownership(&us, Some(&owned("")), 1)),
            Some("empty-owner")
        );
        assert_eq!(
            code(ownership(&us, Some(&owned("a@b")), 1)),
            Some("not-owner")
        );
        let twice = ownership(&us, Some(&owned("default@default")), 2);
        assert_eq!(twice[0].code, Some("params-twice"));
        assert_eq!(twice[1].state, State::Ok);
        let mut params = MaintenanceParams::default();
        params.quick.enabled = true;
        params.full.enabled = true;
        assert_eq!(cycles(&params).state, State::Ok);
        params.full.enabled = false;
        assert_eq!(cycles(&params).code, Some("cycle-off"));
    }
}
