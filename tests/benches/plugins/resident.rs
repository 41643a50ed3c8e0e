//! The memory of this process, as the kernel counts it.
//!
//! No memory cost.

/// Returns a number of `/proc/self/status`, in KiB.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Starts counting the peak anew; returns what is there now, in KiB.
pub(crate) fn begin() -> u64 {
    // Older kernels count on from the last peak.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    now()
}

/// Returns what is there now, in KiB.
pub(crate) fn now() -> u64 {
    status("VmRSS")
}

/// Returns the peak since then, in KiB.
pub(crate) fn peak() -> u64 {
    status("VmHWM")
}
