//! A wait before a run, so that many repositories do not call on one store at the same moment.
//!
//! CronJobs with one schedule begin in the same second. With `--jitter` each run waits first, for a
//! time that a hash of the repository's URL chooses: moments are spread over the time that was
//! given, and each repository keeps its own from run to run. Until then nothing has been read from
//! the storage, and a run that is told to end does so at once. No memory cost.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::Console;
use super::arguments::JitterArgument;
use super::error::CliError;
use super::output::Kind;
use crate::clock::Timestamp;
use crate::maintenance::MaintenanceError;
use crate::maintenance::watch::StopFlag;

/// How often a wait looks whether the run was told to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What is told of a wait.
#[derive(Serialize)]
struct Waits {
    until: Timestamp,
    seconds: u64,
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waits until {} (--jitter)", self.until)
    }
}

/// Waits for the time that is `repository`'s; returns whether there was any.
///
/// # Errors
/// [`MaintenanceError::Stopped`] where the run is told to end meanwhile.
pub(super) fn wait(
    console: &Console,
    repository: &str,
    given: JitterArgument,
    stop: &StopFlag,
) -> Result<bool, CliError> {
    let most = given.jitter.or(console.surroundings.jitter);
    let time = own_time(repository, most.unwrap_or_default());
    if time.is_zero() {
        return Ok(false);
    }
    let waits = Waits {
        until: console.surroundings.clock.now().plus(time),
        seconds: time.as_secs(),
    };
    console.output.both(Kind::Wait, "wait", &waits);
    match pass(time, stop, &mut std::thread::sleep) {
        true => Ok(true),
        false => Err(MaintenanceError::Stopped.into()),
    }
}

/// Returns the time of a repository, in whole seconds up to `most`: always the same, and as likely
/// one as another.
fn own_time(repository: &str, most: Duration) -> Duration {
    let mut hasher = blake3::Hasher::new_derive_key("careen jitter, seconds of a repository");
    hasher.update(repository.as_bytes());
    let mut number = [0; 8];
    hasher.finalize_xof().fill(&mut number);
    let choices = u128::from(most.as_secs()) + 1;
    let chosen = (u128::from(u64::from_le_bytes(number)) * choices) >> 64;
    // Less than `choices`, which was a `u64` and one.
    Duration::from_secs(u64::try_from(chosen).unwrap_or(u64::MAX))
}

/// Lets `time` pass by `nap`s; returns whether it has, which it has not once `stop` is set.
fn pass(time: Duration, stop: &StopFlag, nap: &mut dyn FnMut(Duration)) -> bool {
    let mut left = time;
    while !left.is_zero() && !stop.load(Ordering::SeqCst) {
        let piece = left.min(LOOK_INTERVAL);
        nap(piece);
        left = left.saturating_sub(piece);
    }
    !stop.load(Ordering::SeqCst)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Goal: each repository has a time of its own and keeps it, no time is preferred, and none is
    /// longer than was asked; method: a thousand names, by ten minutes of an hour.
    #[test]
    fn times_are_kept_and_spread() {
        let mut tenths = [0; 6];
        for number in 0..1000 {
            let name = format!("s3://bucket/prefix/kopia/namespace-{number}/");
            let time = own_time(&name, HOUR);
            assert_eq!(time, own_time(&name, HOUR));
            assert!(time <= HOUR, "{name}: {time:?}");
            tenths[(time.as_secs() / 600).min(5) as usize] += 1;
        }
        assert!(
            tenths.iter().all(|count| (110..=230).contains(count)),
            "{tenths:?}"
        );
        assert_eq!(own_time("s3://bucket/", Duration::ZERO), Duration::ZERO);
        // Never another: schedules that people have looked at stay as they are.
        assert_eq!(own_time("s3://bucket/", HOUR).as_secs(), 1606);
    }

    /// Goal: all of the time passes, in naps that are short enough to hear a signal, and no nap
    /// comes after one; method: naps that only count.
    #[test]
    fn a_wait_ends_with_its_time_or_with_a_signal() {
        let stop = StopFlag::default();
        let time = Duration::from_millis(1250);
        let (mut slept, mut naps) = (Duration::ZERO, 0);
        assert!(pass(time, &stop, &mut |nap| {
            assert!(nap <= LOOK_INTERVAL);
            slept += nap;
            naps += 1;
        }));
        assert_eq!((slept, naps), (time, 13));
        let mut naps = 0;
        assert!(!pass(time, &stop, &mut |_| {
            naps += 1;
            stop.store(naps == 3, Ordering::SeqCst);
        }));
        assert_eq!(naps, 3);
        assert!(!pass(time, &stop, &mut |_| panic!("it was told to end")));
    }
}
