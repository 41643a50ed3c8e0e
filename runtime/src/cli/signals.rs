//! SIGTERM and SIGINT: end soon, at the next safe point; a second one ends at once.
//!
//! Kubernetes sends the first and waits half a minute before it kills. Ending at once is safe too,
//! as a kill is; it only leaves a lease. What changes nothing has no safe point and ends at once;
//! that needs a handler too, since the kernel drops signals without one where the program is
//! process 1, as in a container. No memory cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::error::CliError;
use crate::blob::{BlobError, Guard};
use crate::maintenance::MaintenanceError;
use crate::maintenance::watch::StopFlag;
use crate::repository::{Repository, Workspace};

/// Returns a flag that the first signal sets; from then on a second one ends the process.
pub(super) fn stop_flag() -> Result<StopFlag, CliError> {
    let stop = StopFlag::default();
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal must not find its own mark.
        end_if(signal, &stop)?;
        flag::register(signal, Arc::clone(&stop)).map_err(refused)?;
    }
    Ok(stop)
}

/// Lets the first signal end the process.
pub(super) fn end_at_once() -> Result<(), CliError> {
    let always = Arc::new(AtomicBool::new(true));
    end_if(SIGTERM, &always)?;
    end_if(SIGINT, &always)
}

/// Lets a signal end the process where the flag is set, with the exit code that shells tell it by.
fn end_if(signal: i32, set: &StopFlag) -> Result<(), CliError> {
    let ended = flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(set));
    ended.map(drop).map_err(refused)
}

fn refused(error: std::io::Error) -> CliError {
    CliError::Signals(error.to_string())
}

/// Returns the repository as it is used until `stop` is set: every use of storage or scratch is a
/// safe point. What a run does has its own guard, which knows more.
pub(super) fn stoppable(
    stop: &StopFlag,
    repository: &Repository,
    workspace: &Workspace,
) -> Repository {
    let asked = Arc::clone(stop);
    workspace
        .scratch
        .halt_when(move || asked.load(Ordering::SeqCst));
    let guard: Arc<dyn Guard> = Arc::new(Stop(Arc::clone(stop)));
    Repository {
        storage: repository.storage.guarded(guard),
        ..repository.clone()
    }
}

/// Returns why a command really ended, whose repository is [`stoppable`].
pub(super) fn reason(stop: &StopFlag, error: impl Into<CliError>) -> CliError {
    match stop.load(Ordering::SeqCst) {
        true => MaintenanceError::Stopped.into(),
        false => error.into(),
    }
}

/// Refuses the next operation once the flag is set.
#[derive(Debug)]
struct Stop(StopFlag);

impl Guard for Stop {
    fn allow(&self) -> Result<(), BlobError> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(BlobError::Halted),
            false => Ok(()),
        }
    }
}
