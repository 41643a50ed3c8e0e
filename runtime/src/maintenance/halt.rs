//! Ends a run from outside, from its first read on: before there is a lease, by the flag alone;
//! then by the watch, which knows more reasons.
//!
//! Asked before every use of storage and scratch. No memory cost.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use crate::blob::{BlobError, Guard};
use crate::repository::{Repository, Workspace};

use super::MaintenanceError;
use super::watch::{StopFlag, Watch};

/// Whether a run is to end.
#[derive(Debug)]
pub(super) struct Halt {
    stop: StopFlag,
    watch: OnceLock<Arc<Watch>>,
}

impl Halt {
    /// Makes one that scratch asks from now on.
    pub(super) fn new(stop: &StopFlag, workspace: &Workspace) -> Arc<Self> {
        let halt = Arc::new(Self {
            stop: Arc::clone(stop),
            watch: OnceLock::new(),
        });
        let asked = Arc::clone(&halt);
        workspace.scratch.halt_when(move || asked.is_now());
        halt
    }

    /// Lets the watch decide from now on.
    pub(super) fn watched_by(&self, watch: &Arc<Watch>) {
        let _ = self.watch.set(Arc::clone(watch));
    }

    /// Returns the repository as it is used before there is a watch.
    pub(super) fn guarded(self: &Arc<Self>, repository: &Repository) -> Repository {
        let guard: Arc<dyn Guard> = Arc::clone(self) as _;
        Repository {
            storage: repository.storage.guarded(guard),
            ..repository.clone()
        }
    }

    /// Returns why the run really ended, where nothing was at work yet.
    pub(super) fn reason(&self, error: MaintenanceError) -> MaintenanceError {
        match self.is_now() {
            true => MaintenanceError::Stopped,
            false => error,
        }
    }

    fn is_now(&self) -> bool {
        match self.watch.get() {
            Some(watch) => watch.is_halted(),
            None => self.stop.load(Ordering::SeqCst),
        }
    }
}

impl Guard for Halt {
    fn allow(&self) -> Result<(), BlobError> {
        match self.is_now() {
            true => Err(BlobError::Halted),
            false => Ok(()),
        }
    }
}
