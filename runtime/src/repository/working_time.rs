//! How long a thread works on which part of index work, told to whoever listens.
//!
//! A thread laps its watch after each piece of work (a blob, a batch of rows; never an entry) and
//! skips what it waited for other threads. Two readings of the clock for 256 KiB or a blob are not
//! measurable. No memory cost.

use std::cell::Cell;
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::progress::{Part, Progress};

/// The watch of one thread.
pub(super) struct WorkingTime<'p> {
    progress: &'p dyn Progress,
    since: Cell<Stopwatch>,
}

impl<'p> WorkingTime<'p> {
    /// Starts now.
    pub(super) fn start(progress: &'p dyn Progress) -> Self {
        Self {
            progress,
            since: Cell::new(Stopwatch::start()),
        }
    }

    /// Tells the time since the last call as work on `part`.
    pub(super) fn lap(&self, part: Part) {
        self.lap_but(part, Duration::ZERO);
    }

    /// As [`WorkingTime::lap`], without the time `waited` in it.
    pub(super) fn lap_but(&self, part: Part, waited: Duration) {
        let time = self.since.replace(Stopwatch::start()).elapsed();
        self.progress.busy(part, time.saturating_sub(waited));
    }

    /// Leaves the time since the last call out: the thread has waited.
    pub(super) fn skip(&self) {
        self.since.set(Stopwatch::start());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<(Part, Duration)>>);

    impl Progress for Heard {
        fn begin(&self, _: &str, _: &str, _: Option<u64>) {}
        fn advance(&self, _: u64) {}
        fn end(&self) {}
        fn busy(&self, part: Part, time: Duration) {
            self.0.lock().unwrap().push((part, time));
        }
    }

    #[test]
    fn waits_are_left_out() {
        let heard = Heard::default();
        let whole = Stopwatch::start();
        let pause = Duration::from_millis(20);
        let watch = WorkingTime::start(&heard);
        std::thread::sleep(pause);
        watch.lap(Part::Read);
        std::thread::sleep(pause);
        watch.skip();
        watch.lap(Part::Hash);
        std::thread::sleep(pause);
        watch.lap_but(Part::Write, Duration::from_secs(60));
        let whole = whole.elapsed();
        let heard = heard.0.into_inner().unwrap();
        let parts: Vec<Part> = heard.iter().map(|(part, _)| *part).collect();
        assert_eq!(parts, [Part::Read, Part::Hash, Part::Write]);
        assert!(heard[0].1 >= pause, "{heard:?}");
        assert!(heard[0].1 + heard[1].1 + 2 * pause <= whole, "{heard:?}");
        assert_eq!(heard[2].1, Duration::ZERO);
    }
}
