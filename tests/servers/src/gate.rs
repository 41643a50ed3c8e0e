//! A gate in a proxy: requests wait at it until a test opens it, so that a test can act in the
//! middle of a run without guessing how long that lasts.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long anybody waits at most; a test that has failed must end.
const WAIT_MAX: Duration = Duration::from_secs(90);

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    open: bool,
}

/// The gate; copies are the same one.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<State>, Condvar)>);

impl PartialEq for Gate {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Gate {}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until(&self, what: impl Fn(&State) -> bool) -> bool {
        let wait = self
            .0
            .1
            .wait_timeout_while(self.state(), WAIT_MAX, |state| !what(state));
        let (state, _) = wait.unwrap_or_else(PoisonError::into_inner);
        what(&state)
    }

    /// Waits until it is open; the proxy does.
    pub(crate) fn pass(&self) {
        self.state().waiting += 1;
        self.0.1.notify_all();
        self.until(|state| state.open);
    }

    /// Waits until a request waits at it; a test does.
    ///
    /// # Panics
    ///
    /// When none comes.
    pub fn reached(&self) {
        assert!(self.until(|state| state.waiting > 0), "nobody came");
    }

    /// Lets all through from now on.
    pub fn open(&self) {
        self.state().open = true;
        self.0.1.notify_all();
    }
}
