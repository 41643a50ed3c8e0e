//! Whatever ends a run in the middle, the schedule tells the truth: what is recorded as done is
//! done, what is due stays due, and the next run ends where an undisturbed one does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use careen::blob::{SimulatedStore, SimulationOptions};
use careen::maintenance::cycle_task::CycleTask;
use careen::maintenance::lease::{LEASE, Lease};
use careen::maintenance::run::Event;
use kit::cycle::succeeded;
use kit::index_work::Bench;

use super::{TASKS, count, dying, named, quick, schedule_of, world, write_as_another};

/// Returns the blobs that matter, without random suffixes.
fn stems(world: &kit::world::World) -> BTreeSet<String> {
    let names = world
        .all()
        .into_keys()
        .filter(|name| !name.starts_with("kopia."));
    names
        .map(|name| name.split("-s").next().unwrap().to_owned())
        .collect()
}

/// Goal: a kill is never a success; method: one after every storage operation of a run.
#[test]
fn a_kill_at_any_operation_is_never_recorded_as_a_success() {
    let bench = Bench::new().quick();
    let undisturbed = world();
    let store = SimulatedStore::new(undisturbed.store.clone(), SimulationOptions::default());
    let store = Arc::new(store);
    let repository = undisturbed.repository_on(store.clone());
    bench.cycle(&repository, &named(&TASKS)).unwrap();
    let (operations, expected) = (store.operations(), stems(&undisturbed));
    assert_eq!(succeeded(&schedule_of(&undisturbed)).len(), TASKS.len());
    assert!(operations > 60, "{operations}");

    let world = world();
    let (start, snapshot) = (world.now(), world.store.snapshot());
    for last in 0..operations {
        world.store.restore(&snapshot);
        world.clock.set(start);
        let killed = bench.cycle(&world.repository_on(dying(&world, last)), &named(&TASKS));
        let after = schedule_of(&world);
        if let Err(error) = killed {
            assert_eq!(error.code(), "storage-crashed", "operation {last}");
        }
        let done = succeeded(&after);
        assert!(TASKS.starts_with(&done), "operation {last}: {done:?}");
        let is_deleted = count(&world, "_log_") == 2;
        if done.contains(&CycleTask::CleanupLogs) {
            assert!(is_deleted, "operation {last}");
        }
        // A lease that was written and not given back: nobody begins before it ends.
        if let Some(lease) = Lease::of(&after) {
            assert_eq!(lease.until, start.plus(LEASE), "operation {last}");
            let refused = bench
                .cycle(&world.repository(), &named(&TASKS))
                .unwrap_err();
            assert_eq!(refused.code(), "leased", "operation {last}");
            world.clock.set(lease.until);
        }
        bench.cycle(&world.repository(), &named(&TASKS)).unwrap();
        assert_eq!(stems(&world), expected, "killed after operation {last}");
        assert!(schedule_of(&world).unknown.is_empty());
    }
}

/// Goal: a run that is told to end does so before the next storage operation, and the schedule has
/// what was due before; method: set the flag when a task begins.
#[test]
fn a_stop_ends_the_run_at_once_and_what_was_due_stays_due() {
    let bench = Bench::new().quick();
    for task in [
        CycleTask::CompactSingleEpoch,
        CycleTask::CleanupEpochMarkers,
    ] {
        let world = world();
        let before = schedule_of(&world);
        let options = named(&TASKS);
        let stop = Arc::clone(&options.stop);
        let stopped = bench
            .cycle_with(&world.repository(), &options, &mut |event| {
                if matches!(event, Event::Started(started) if *started == task) {
                    stop.store(true, Ordering::SeqCst);
                }
            })
            .unwrap_err();
        assert_eq!(stopped.code(), "stopped", "{task}");
        let after = schedule_of(&world);
        let run = &after.runs_of(task.name())[0];
        assert!(!run.success && run.error.contains("told to end"), "{run:?}");
        assert!(!succeeded(&after).contains(&task));
        assert_eq!(
            (after.next_full, after.next_quick),
            (before.next_full, before.next_quick)
        );
        assert!(after.unknown.is_empty(), "the lease is given back");
        bench.cycle(&world.repository(), &named(&TASKS)).unwrap();
    }
}

#[test]
fn a_stop_before_the_first_task_leaves_no_trace_in_the_history() {
    let world = world();
    let options = quick();
    options.stop.store(true, Ordering::SeqCst);
    let stopped = Bench::new().quick().cycle(&world.repository(), &options);
    assert_eq!(stopped.unwrap_err().code(), "stopped");
    let after = schedule_of(&world);
    assert!(after.runs.is_empty() && after.unknown.is_empty());
    assert_eq!(count(&world, "kopia.maintenance"), 0, "not even a lease");
}

/// Goal: another maintainer in the middle ends the run before it deletes anything more; method: a
/// foreign write at the end of each task.
#[test]
fn a_foreign_writer_ends_the_run_and_keeps_its_schedule() {
    let bench = Bench::new().quick();
    for task in TASKS {
        let world = world();
        let mut foreign = None;
        let mut blobs = 0;
        let outcome = bench.cycle_with(&world.repository(), &named(&TASKS), &mut |event| {
            if matches!(event, Event::Started(started) if *started == task) {
                foreign = Some(write_as_another(&world));
                blobs = count(&world, "");
            }
        });
        assert_eq!(outcome.unwrap_err().code(), "taken-over", "{task}");
        assert_eq!(schedule_of(&world), foreign.unwrap(), "{task}");
        let next = TASKS.iter().position(|other| *other == task).unwrap() + 1;
        if TASKS.get(next).is_some_and(|next| next.deletes()) && !task.deletes() {
            assert!(
                count(&world, "") >= blobs,
                "{task}: nothing was deleted after it"
            );
        }
    }
}

/// Before a task's first deletion the schedule is read again: a write since the last task is seen.
#[test]
fn a_foreign_write_between_tasks_is_seen_before_a_deletion() {
    let world = world();
    let mut markers = 0;
    let outcome =
        Bench::new()
            .quick()
            .cycle_with(&world.repository(), &named(&TASKS), &mut |event| {
                if let Event::Ended(run) = event
                    && run.task == CycleTask::GenerateEpochRangeIndex
                {
                    write_as_another(&world);
                    markers = count(&world, "xe");
                }
                assert!(!matches!(
                    event,
                    Event::Started(CycleTask::DeleteSupersededEpochIndexes)
                ));
            });
    assert_eq!(outcome.unwrap_err().code(), "taken-over");
    assert_eq!(count(&world, "xe"), markers);
}

/// A failing task is recorded as a failure and ends the cycle.
#[test]
fn a_task_that_fails_is_a_failure_in_the_schedule_and_the_last_one() {
    let world = world();
    for name in world
        .all()
        .into_keys()
        .filter(|name| name.starts_with("xn2_"))
    {
        world.store.insert(name.into(), vec![1; 200], world.now());
    }
    // Quick maintenance reads the index for the owner first, and that is no task.
    let unreadable = Bench::new().quick().cycle(&world.repository(), &quick());
    assert_eq!(unreadable.unwrap_err().code(), "tag-mismatch");
    assert!(schedule_of(&world).runs.is_empty());

    let world = super::world();
    let repository = world.repository();
    let outcome = Bench::new()
        .quick()
        .cycle_with(&repository, &named(&TASKS), &mut |event| {
            // A blob that is new: those that were read before are not read again.
            if matches!(event, Event::Started(CycleTask::CompactSingleEpoch)) {
                let names = world.all().into_keys();
                let known = names.filter(|name| name.starts_with("xn2_")).min();
                let name = known.unwrap().replacen("xn2_", "xn2_f", 1);
                world.store.insert(name.into(), vec![1; 200], world.now());
            }
        });
    assert_eq!(outcome.unwrap_err().code(), "tag-mismatch");
    let after = schedule_of(&world);
    assert_eq!(after.runs.len(), 1, "{:?}", after.runs.keys());
    let run = &after.runs_of("compact-single-epoch")[0];
    assert!(!run.success && run.error.contains("xn2_"), "{run:?}");
    assert!(after.unknown.is_empty(), "the lease is given back");
    assert_eq!(count(&world, "_log_"), 5);
}
