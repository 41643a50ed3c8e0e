//! The storage's clock: the only one by which ages of blobs may be judged.
//!
//! Kopia anchors a maintenance run by writing the schedule blob and reading its timestamp back.
//! Outside of a run the same is done here: the schedule is written as it is, byte for byte, and a
//! clock that is more than 5 minutes off ours stops the task. Memory: the blob. Mirrors
//! `runExclusive` of Kopia's `repo/maintenance/maintenance_run.go`.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::kopia::schedule::Schedule;

use super::schedule_store::{read_blob, schedule_time, write_blob, write_schedule};
use super::{Repository, RepositoryError};

/// Most that the two clocks may differ.
pub const SKEW_MAX: Duration = Duration::from_secs(5 * 60);

/// Writes the schedule blob anew and returns the storage's time of it.
pub fn storage_time(repository: &Repository) -> Result<Timestamp, RepositoryError> {
    match read_blob(repository)? {
        Some((bytes, _)) => write_blob(repository, &bytes)?,
        None => {
            write_schedule(repository, &Schedule::default())?;
        }
    }
    schedule_time(repository)
}
