//! The option of runs that many repositories begin at one moment: how long each may wait first.
//!
//! No memory cost.

use std::time::Duration;

use clap::Args;

use super::parse_duration;

/// The longest wait that can be asked for: longer ones are a matter of the schedule.
pub(in crate::cli) const JITTER_MAX: Duration = Duration::from_secs(3600);

/// How long a run may wait first.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(in crate::cli) struct JitterArgument {
    /// Wait first, for a time up to this: 90s, 5m, 1h at most [default: what CAREEN_JITTER says,
    /// else 0]
    ///
    /// For schedules that many repositories share. How long follows from the repository's URL: each
    /// has a moment of its own, the same at every run. Nothing is read from the storage before it.
    #[arg(long, value_name = "TIME", value_parser = parse_jitter)]
    pub(in crate::cli) jitter: Option<Duration>,
}

/// Parses a time of at most [`JITTER_MAX`]: `0`, `90s`, `5m`, `1h`.
pub(in crate::cli) fn parse_jitter(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    match time <= JITTER_MAX {
        true => Ok(time),
        false => Err("at most 1h; for more, use another schedule".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_write_them() {
        for (text, seconds) in [
            ("0", 0),
            ("0s", 0),
            ("90s", 90),
            ("5m", 300),
            ("60m", 3600),
            ("1h", 3600),
        ] {
            let read = parse_jitter(text);
            assert_eq!(read, Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "m", "-5m", "1.5h", "5 m", "61m", "2h", "5d"] {
            assert!(parse_jitter(text).is_err(), "{text}");
        }
    }
}
