//! What a run of maintenance consists of, decided before anything is done: which cycle is due, and
//! for each of its tasks whether it runs, why or why not, and until when it waits.
//!
//! A task's gate is asked twice: here, on the history as it will be if all goes well, and again by
//! the run itself just before the task, on the history as it is then. Memory: one row a task.
//! Mirrors `shouldRun`, `runQuickMaintenance` and `runFullMaintenance` of Kopia's
//! `repo/maintenance/maintenance_run.go`.

use std::fmt;

use crate::clock::Timestamp;
use crate::kopia::maintenance_params::MaintenanceParams;
use crate::kopia::schedule::{Schedule, UNSET};

use super::cycle_task::{Cycle, CycleTask};
use super::interlocks::{
    Gate, History, full_rewrite, had_recent_full_rewrite, pack_deletion, quick_rewrite,
    safe_drop_time,
};
use super::lease::Lease;
use super::safety::Safety;

/// Which cycle the user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Whatever the schedule says is due.
    #[default]
    Auto,
    /// A quick cycle now.
    Quick,
    /// A full cycle now.
    Full,
}

/// What a run is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which cycle.
    pub mode: Mode,
    /// Only these tasks of it; none given means all.
    pub tasks: Vec<CycleTask>,
    /// The margins.
    pub safety: Safety,
}

impl Wanted {
    /// Returns whether a task is wanted.
    pub(super) fn wants(&self, task: CycleTask) -> bool {
        self.tasks.is_empty() || self.tasks.contains(&task)
    }
}

/// What a repository says of its maintenance, as far as decisions need it.
#[derive(Clone, Debug)]
pub struct Circumstances<'a> {
    /// Whether it has epochs.
    pub has_epochs: bool,
    /// The parameters.
    pub params: &'a MaintenanceParams,
    /// The schedule.
    pub schedule: &'a Schedule,
    /// The present moment.
    pub now: Timestamp,
}

/// What becomes of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It runs.
    Runs,
    /// It has to wait.
    Waits,
    /// It is not asked for.
    Off,
}

/// A task of the cycle.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PlannedTask {
    /// Kopia's name.
    pub task: CycleTask,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why.
    pub because: String,
    /// Until when it waits, where time alone decides.
    pub until: Option<Timestamp>,
}

/// The plan of a run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CyclePlan {
    /// The cycle that runs; none when nothing is due.
    pub cycle: Option<Cycle>,
    /// Why this one, or why none.
    pub because: String,
    /// When a full cycle is due; none when none ever ran.
    pub next_full: Option<Timestamp>,
    /// When a quick cycle is due.
    pub next_quick: Option<Timestamp>,
    /// A run that is at work, or has crashed.
    pub lease: Option<Lease>,
    /// The tasks in their order; empty without a cycle.
    pub tasks: Vec<PlannedTask>,
    /// Deleted contents of before this moment are forgotten by this run.
    pub drop_before: Option<Timestamp>,
}

impl CyclePlan {
    /// Decides. Writes and reads nothing.
    pub fn make(wanted: &Wanted, facts: &Circumstances<'_>) -> Self {
        let (cycle, because) = choose_cycle(wanted, facts);
        let known = |time: Timestamp| Some(time).filter(|time| *time != UNSET);
        let mut plan = Self {
            cycle,
            because,
            next_full: known(facts.schedule.next_full),
            next_quick: known(facts.schedule.next_quick),
            lease: Lease::of(facts.schedule),
            tasks: Vec::new(),
            drop_before: None,
        };
        if let Some(cycle) = cycle {
            plan.forecast(cycle, wanted, facts);
        }
        plan
    }

    /// Returns the tasks that run.
    pub fn running(&self) -> impl Iterator<Item = CycleTask> + '_ {
        let runs = |row: &&PlannedTask| row.verdict == Verdict::Runs;
        self.tasks.iter().filter(runs).map(|row| row.task)
    }

    /// Judges every task on the history that the tasks before it will have left.
    fn forecast(&mut self, cycle: Cycle, wanted: &Wanted, facts: &Circumstances<'_>) {
        let mut history = History::of(facts.schedule);
        for task in cycle.tasks(facts.has_epochs).iter().copied() {
            let row = if wanted.wants(task) {
                let gate = gate(task, cycle, &history, wanted, facts.params, facts.now);
                if gate.is_open() && task == CycleTask::FullDropDeletedContent {
                    self.drop_before = safe_drop_time(&history, &wanted.safety, facts.now).ok();
                }
                PlannedTask::of(task, gate)
            } else {
                PlannedTask {
                    task,
                    verdict: Verdict::Off,
                    because: "not among the tasks that were named".to_owned(),
                    until: None,
                }
            };
            if row.verdict == Verdict::Runs {
                history.add(task, facts.now, facts.now);
            }
            self.tasks.push(row);
        }
        self.name_own_rewrite();
    }

    /// Says of pack deletions that wait for a rewrite of this very run what they wait for: a moment
    /// of the forecast would tell nobody anything.
    fn name_own_rewrite(&mut self) {
        if !self.running().any(CycleTask::rewrites) {
            return;
        }
        let deletes = |task| {
            matches!(
                task,
                CycleTask::FullDeleteBlobs | CycleTask::QuickDeleteBlobs
            )
        };
        for row in &mut self.tasks {
            if deletes(row.task) && row.verdict == Verdict::Waits {
                row.because = "this run rewrites contents; clients may still read the old packs \
                               for a while, so the next run deletes them"
                    .to_owned();
            }
        }
    }
}

impl PlannedTask {
    pub(super) fn of(task: CycleTask, gate: Gate) -> Self {
        let (verdict, because, until) = match gate {
            Gate::Open { because } => (Verdict::Runs, because, None),
            Gate::Closed { because, until } => (Verdict::Waits, because, until),
            Gate::Off { because } => (Verdict::Off, because, None),
        };
        Self {
            task,
            verdict,
            because,
            until,
        }
    }
}

/// Chooses the cycle, as Kopia's automatic maintenance does, or as the user says.
fn choose_cycle(wanted: &Wanted, facts: &Circumstances<'_>) -> (Option<Cycle>, String) {
    let (params, schedule, now) = (facts.params, facts.schedule, facts.now);
    match wanted.mode {
        Mode::Full => return (Some(Cycle::Full), "it was asked for".to_owned()),
        Mode::Quick => return (Some(Cycle::Quick), "it was asked for".to_owned()),
        Mode::Auto if !wanted.tasks.is_empty() => {
            let quick = Cycle::Quick.tasks(facts.has_epochs);
            let is_quick = wanted.tasks.iter().all(|task| quick.contains(task));
            let cycle = if is_quick { Cycle::Quick } else { Cycle::Full };
            return (Some(cycle), "tasks of it were named".to_owned());
        }
        Mode::Auto => {}
    }
    let due = |time: Timestamp| match time {
        UNSET => "it never ran".to_owned(),
        time => format!("it was due at {time}"),
    };
    if params.full.enabled && now >= schedule.next_full {
        return (Some(Cycle::Full), due(schedule.next_full));
    }
    if params.quick.enabled && now >= schedule.next_quick {
        return (Some(Cycle::Quick), due(schedule.next_quick));
    }
    let wait = |name: &str, enabled: bool, next: Timestamp| match enabled {
        true => format!("{name} not before {next}"),
        false => format!("{name} is disabled"),
    };
    let full = wait("full", params.full.enabled, schedule.next_full);
    let quick = wait("quick", params.quick.enabled, schedule.next_quick);
    (None, format!("nothing is due: {quick}, {full}"))
}

/// Tells whether a task of a cycle may run, on a history.
pub(super) fn gate(
    task: CycleTask,
    cycle: Cycle,
    history: &History,
    wanted: &Wanted,
    params: &MaintenanceParams,
    now: Timestamp,
) -> Gate {
    let safety = &wanted.safety;
    match task {
        CycleTask::FullRewriteContents => full_rewrite(history, safety),
        CycleTask::QuickRewriteContents => quick_rewrite(history, safety),
        CycleTask::FullDropDeletedContent => match safe_drop_time(history, safety, now) {
            Ok(time) => Gate::open(format!("what was deleted before {time} is forgotten")),
            Err(closed) => closed,
        },
        CycleTask::FullDeleteBlobs if cycle == Cycle::Quick => {
            match had_recent_full_rewrite(history) {
                true => pack_deletion(history, safety, now),
                false => Gate::off("the last rewrite was of system contents only"),
            }
        }
        CycleTask::QuickDeleteBlobs if had_recent_full_rewrite(history) => {
            Gate::off("the last rewrite was a full one: full-delete-blobs follows it")
        }
        CycleTask::FullDeleteBlobs | CycleTask::QuickDeleteBlobs => {
            pack_deletion(history, safety, now)
        }
        CycleTask::ExtendBlobRetentionTime if !params.extend_object_locks => {
            Gate::off("the maintenance parameters do not ask for it")
        }
        _ => Gate::open(format!("every {cycle} cycle has it")),
    }
}

impl fmt::Display for CyclePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cycle {
            Some(cycle) => writeln!(f, "{cycle} maintenance: {}", self.because)?,
            None => writeln!(f, "{}", self.because)?,
        }
        if let Some(lease) = &self.lease {
            writeln!(f, "lease: {lease}")?;
        }
        for row in &self.tasks {
            let verdict = match row.verdict {
                Verdict::Runs => "runs",
                Verdict::Waits => "waits",
                Verdict::Off => "off",
            };
            write!(f, "  {:<32} {verdict:<6} {}", row.task, row.because)?;
            match row.until {
                Some(until) => writeln!(f, "; not before {until}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kopia::schedule::RunInfo;

    const HOUR: Duration = Duration::from_secs(3_600);

    const NOW: Timestamp = Timestamp::from_seconds(1_788_220_800);

    /// A schedule of daily full cycles until yesterday, the last of which has rewritten.
    fn daily() -> Schedule {
        let mut schedule = Schedule {
            next_full: NOW.minus(HOUR),
            next_quick: NOW.minus(HOUR * 23),
            ..Schedule::default()
        };
        for days in [3, 2, 1] {
            let at = NOW.minus(HOUR * 24 * days + HOUR);
            let run = || RunInfo::succeeded(at, at, vec![]);
            schedule.report_run("snapshot-gc", run());
            if days == 2 {
                schedule.report_run("full-delete-blobs", run());
            } else {
                schedule.report_run("full-rewrite-contents", run());
            }
        }
        schedule
    }

    fn plan(mode: Mode, tasks: &[CycleTask], schedule: &Schedule, has_epochs: bool) -> CyclePlan {
        let wanted = Wanted {
            mode,
            tasks: tasks.to_vec(),
            safety: Safety::full(),
        };
        let facts = Circumstances {
            has_epochs,
            params: &MaintenanceParams::default(),
            schedule,
            now: NOW,
        };
        CyclePlan::make(&wanted, &facts)
    }

    #[test]
    fn a_full_cycle_tells_what_runs_and_what_waits() {
        let text = plan(Mode::Auto, &[], &daily(), true).to_string();
        let expected = "\
full maintenance: it was due at 2026-08-31T23:00:00Z
  snapshot-gc                      runs   every full cycle has it
  full-rewrite-contents            waits  the packs that the rewrite of 2026-08-30T23:00:00Z left \
over are to be deleted first
  full-drop-deleted-content        runs   what was deleted before 2026-08-30T22:00:00Z is forgotten
  full-delete-blobs                runs   contents were last rewritten at 2026-08-30T23:00:00Z
  extend-blob-retention-time       off    the maintenance parameters do not ask for it
  compact-single-epoch             runs   every full cycle has it
  advance-epoch                    runs   every full cycle has it
  generate-epoch-range-index       runs   every full cycle has it
  cleanup-epoch-markers            runs   every full cycle has it
  delete-superseded-epoch-indexes  runs   every full cycle has it
  cleanup-logs                     runs   every full cycle has it
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_rewrite_of_this_run_holds_back_its_deletion() {
        let mut plan = plan(Mode::Full, &[], &Schedule::default(), false);
        assert_eq!(plan.because, "it was asked for");
        let row = plan.tasks.remove(3);
        assert_eq!(row.task, CycleTask::FullDeleteBlobs);
        assert_eq!(
            (row.verdict, row.until),
            (Verdict::Waits, Some(NOW.plus(HOUR)))
        );
        assert!(row.because.starts_with("this run rewrites"), "{row:?}");
        let drop = plan.tasks.remove(2);
        assert_eq!(
            (drop.verdict, drop.until),
            (Verdict::Waits, None),
            "{drop:?}"
        );
    }

    #[test]
    fn quick_cycles_without_epochs_choose_one_deletion() {
        let verdicts = |schedule: &Schedule| -> Vec<(CycleTask, Verdict)> {
            let plan = plan(Mode::Quick, &[], schedule, false);
            let rows = plan.tasks.iter();
            rows.map(|row| (row.task, row.verdict)).collect()
        };
        use Verdict::{Off, Runs, Waits};
        let after_full: Vec<Verdict> = verdicts(&daily()).iter().map(|row| row.1).collect();
        assert_eq!(after_full, [Waits, Runs, Off, Runs, Runs]);
        let mut schedule = daily();
        let at = NOW.minus(HOUR * 2);
        schedule.report_run("quick-rewrite-contents", RunInfo::succeeded(at, at, vec![]));
        let after_quick: Vec<Verdict> = verdicts(&schedule).iter().map(|row| row.1).collect();
        assert_eq!(after_quick, [Waits, Off, Runs, Runs, Runs]);
    }

    #[test]
    fn nothing_is_due_before_its_time_and_named_tasks_always_are() {
        let schedule = Schedule {
            next_full: NOW.plus(HOUR * 20),
            next_quick: NOW.plus(HOUR),
            ..Schedule::default()
        };
        let nothing = plan(Mode::Auto, &[], &schedule, true);
        assert_eq!((nothing.cycle, nothing.tasks.len()), (None, 0));
        let text = "nothing is due: quick not before 2026-09-01T01:00:00Z, full not before \
                    2026-09-01T20:00:00Z";
        assert_eq!(nothing.because, text);
        let named = plan(Mode::Auto, &[CycleTask::CleanupLogs], &schedule, true);
        assert_eq!(named.cycle, Some(Cycle::Full));
        assert_eq!(
            named.running().collect::<Vec<_>>(),
            [CycleTask::CleanupLogs]
        );
        let quick = plan(Mode::Auto, &[CycleTask::AdvanceEpoch], &schedule, true);
        assert_eq!(quick.cycle, Some(Cycle::Quick));
        let due = Schedule {
            next_quick: NOW,
            ..schedule
        };
        assert_eq!(plan(Mode::Auto, &[], &due, true).cycle, Some(Cycle::Quick));
    }

    #[test]
    fn a_plan_is_json_with_its_reasons() {
        let plan = plan(Mode::Quick, &[], &daily(), true);
        let json = serde_json::to_value(&plan).unwrap();
        let expected = serde_json::json!({
            "cycle": "quick", "because": "it was asked for", "lease": null, "drop_before": null,
            "next_full": "2026-08-31T23:00:00Z", "next_quick": "2026-08-31T01:00:00Z",
            "tasks": [
                {"task": "compact-single-epoch", "verdict": "runs", "until": null,
                 "because": "every quick cycle has it"},
                {"task": "advance-epoch", "verdict": "runs", "until": null,
                 "because": "every quick cycle has it"},
            ],
        });
        assert_eq!(json, expected);
    }
}
