//! One measured run of a program: its time, its peak memory, and what it says in JSON lines.
//!
//! The peak is the resident memory that the kernel has counted (`VmHWM`), read while the child
//! runs; it never sinks, so the last reading is the peak but for the last few milliseconds. A
//! careen reports its own at its end, exactly. Memory: one line of at most [`LINE_BYTES_MAX`] and
//! the last lines of standard error.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::cli::output::peak_memory_bytes;
use crate::clock::Stopwatch;

/// Longest line that is looked at; a plan of many epochs is the longest.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How much of a program's standard error is kept for the message.
const ERROR_BYTES_MAX: u64 = 16 * 1024;

/// Time between two readings of the peak.
const READING_INTERVAL: Duration = Duration::from_millis(20);

/// How a run ended.
#[derive(Debug)]
pub(in crate::cli) struct Outcome {
    /// Its exit status.
    pub(in crate::cli) status: ExitStatus,
    /// Wall time, its start included.
    pub(in crate::cli) duration: Duration,
    /// The most memory it has held, 0 where the kernel does not tell.
    pub(in crate::cli) peak_memory_bytes: u64,
    /// The beginning of its standard error.
    pub(in crate::cli) standard_error: String,
}

/// Runs `command` to its end, and shows every JSON line on its standard output to `line`.
pub(in crate::cli) fn run(
    command: &mut Command,
    line: &mut dyn FnMut(&Value),
) -> std::io::Result<Outcome> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let watch = Stopwatch::start();
    let mut child = command.spawn()?;
    let stdout = child.stdout.take().expect("was piped");
    let stderr = child.stderr.take().expect("was piped");
    let (ended, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let id = child.id();
    let (status, standard_error) = std::thread::scope(|scope| {
        scope.spawn(|| read_peaks(id, &peak, &ended));
        let errors = scope.spawn(|| beginning(stderr));
        each_line(stdout, &mut |value| {
            if let Some(bytes) = value.get("peak_memory_bytes").and_then(Value::as_u64) {
                peak.fetch_max(bytes, Ordering::Relaxed);
            }
            line(value);
        });
        let status = child.wait();
        ended.store(true, Ordering::Relaxed);
        (status, errors.join().unwrap_or_default())
    });
    Ok(Outcome {
        status: status?,
        duration: watch.elapsed(),
        peak_memory_bytes: peak.into_inner(),
        standard_error,
    })
}

fn read_peaks(id: u32, peak: &AtomicU64, ended: &AtomicBool) {
    let id = id.to_string();
    while !ended.load(Ordering::Relaxed) {
        if let Some(bytes) = peak_memory_bytes(&id) {
            peak.fetch_max(bytes, Ordering::Relaxed);
        }
        std::thread::sleep(READING_INTERVAL);
    }
}

/// Reads to the end, so that the child never waits for us; lines that are no JSON are passed over.
pub(in crate::cli) fn each_line(from: impl Read, line: &mut dyn FnMut(&Value)) {
    let mut reader = BufReader::new(from);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut bytes)
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if let Ok(value) = serde_json::from_slice(&bytes) {
                    line(&value);
                }
            }
        }
    }
}

/// Keeps the beginning and reads the rest away.
fn beginning(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = from.by_ref().take(ERROR_BYTES_MAX).read_to_end(&mut bytes);
    let _ = std::io::copy(&mut from, &mut std::io::sink());
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_errors_status_and_peak_are_collected() {
        let script = r#"echo '{"kind":"report","n":1}'; echo no json; echo oops >&2
            echo '{"kind":"finished","peak_memory_bytes":123456789}'; exit 10"#;
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        let outcome = run(command.args(["-c", script]), &mut |line| {
            lines.push(line["kind"].as_str().unwrap().to_owned());
        })
        .unwrap();
        assert_eq!(lines, ["report", "finished"]);
        assert_eq!(outcome.status.code(), Some(10));
        assert_eq!(outcome.standard_error, "oops");
        assert_eq!(outcome.peak_memory_bytes, 123_456_789);
    }

    #[test]
    fn a_peak_is_read_while_the_child_runs() {
        let mut command = Command::new("sh");
        let outcome = run(command.args(["-c", "sleep 0.1"]), &mut |_| ()).unwrap();
        assert!(outcome.peak_memory_bytes > 100 * 1024, "{outcome:?}");
        assert!(outcome.duration >= Duration::from_millis(100));
    }
}
