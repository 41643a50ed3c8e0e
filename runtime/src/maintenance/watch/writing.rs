//! The writes of a run into the schedule.
//!
//! As it was left, or, where the store cannot replace by version or the blob is another one by now,
//! as it is read again and found to be ours. Memory: [`HELD_BYTES_MAX`] between two writes.

use std::sync::atomic::Ordering;

use crate::blob::{BlobVersion, Replaced};
use crate::clock::Timestamp;
use crate::kopia::schedule::Schedule;
use crate::maintenance::MaintenanceError;
use crate::maintenance::lease::{LEASE, Lease, RENEW_AFTER};
use crate::repository::schedule_store::{
    ScheduleMark, StoredSchedule, read_mark, read_stored_schedule, seal_schedule,
};
use crate::repository::{Repository, RepositoryError};

use super::{State, Verdict, Watch};

/// Longest schedule that is held between two writes, in bytes of JSON: 50 runs of every task, as
/// Kopia keeps them, have half of it.
const HELD_BYTES_MAX: usize = 512 << 10;

/// Tries of one write; each but the first after a look at what is there.
const WRITES_MAX: u32 = 3;

/// The schedule as we left it.
pub(super) struct Held {
    json: Vec<u8>,
    version: BlobVersion,
}

impl Watch {
    /// Writes the schedule for the first time, as it was read.
    pub(super) fn first_write(
        &self,
        schedule: &Schedule,
        version: Option<&BlobVersion>,
    ) -> Result<(), MaintenanceError> {
        let mut state = self.state();
        if write(&self.repository, &mut state, schedule, version)? {
            return Ok(());
        }
        // Another run has begun in between, or the answer to our own write was lost.
        let (tried, mark) = (state.tried, read_mark(&self.repository)?);
        self.check_mark(&mut state, mark)?;
        if tried != Some(mark) {
            // A store that refuses what it has told itself knows no conditions.
            write(&self.repository, &mut state, schedule, None)?;
        }
        Ok(())
    }

    /// Changes and writes the schedule: as it was left, or else as it is now if that is ours.
    pub(super) fn rewrite(
        &self,
        state: &mut State,
        change: impl Fn(&mut Schedule, &Lease, (Timestamp, Timestamp)),
    ) -> Result<(), MaintenanceError> {
        let now = self.repository.clock.now();
        let lease = Lease {
            until: now.plus(LEASE),
            run: state.run.clone(),
            task: state.task.map(|task| task.name().to_owned()),
            holder: state.holder.clone(),
        };
        for attempt in 1..=WRITES_MAX {
            let (mut schedule, version) = match state.held.take() {
                Some(Held { json, version }) => {
                    let schedule = Schedule::parse(&json).map_err(RepositoryError::from)?;
                    (schedule, Some(version))
                }
                None => {
                    let tried = state.tried;
                    let stored = self.read_ours(state)?;
                    if attempt > 1 && tried == Some(stored.mark) {
                        break; // it was written, and only the answer was lost
                    }
                    // A store that refuses what it has told itself knows no conditions.
                    let version = stored.version.filter(|_| attempt < WRITES_MAX);
                    (stored.schedule, version)
                }
            };
            for (task, info) in &state.waiting {
                schedule.report_run(task.name(), info.clone());
            }
            change(&mut schedule, &lease, state.before);
            if write(&self.repository, state, &schedule, version.as_ref())? {
                break;
            }
        }
        state.waiting.clear();
        let next = state.looked.plus(RENEW_AFTER);
        self.next_look.store(next.nanos(), Ordering::SeqCst);
        Ok(())
    }

    /// Reads the schedule, and checks that it is as we left it.
    fn read_ours(&self, state: &mut State) -> Result<StoredSchedule, MaintenanceError> {
        let stored = match read_stored_schedule(&self.repository) {
            Err(RepositoryError::Format(_)) => return Err(self.halt(state, Verdict::TakenOver)),
            read => read?,
        };
        self.check_mark(state, stored.mark)?;
        Ok(stored)
    }

    pub(super) fn check_mark(
        &self,
        state: &mut State,
        mark: ScheduleMark,
    ) -> Result<(), MaintenanceError> {
        if state.tried == Some(mark) {
            state.mark = mark; // the write has happened
            state.tried = None;
        }
        if mark != state.mark {
            return Err(self.halt(state, Verdict::TakenOver));
        }
        state.deletes_unseen = false;
        Ok(())
    }
}

/// Writes the schedule, and remembers what it would look like where that fails. Returns false where
/// the blob is not `version` any more.
fn write(
    repository: &Repository,
    state: &mut State,
    schedule: &Schedule,
    version: Option<&BlobVersion>,
) -> Result<bool, RepositoryError> {
    let sealed = seal_schedule(repository, schedule)?;
    state.tried = Some(sealed.mark());
    state.held = None;
    match sealed.replace(repository, version)? {
        Replaced::Changed => return Ok(false),
        Replaced::Blindly => {}
        Replaced::As(version) => {
            let json = schedule.to_json();
            state.held = (json.len() <= HELD_BYTES_MAX).then_some(Held { json, version });
        }
    }
    state.mark = sealed.mark();
    state.tried = None;
    Ok(true)
}
