//! Lines that a person must see although every test passed: "no Kopia here", "no cgroup here".
//!
//! The test harness swallows what passing tests print with `print!`; a line written straight to
//! standard error survives. Each line comes once per process, so a suite of a hundred tests says it
//! once.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Writes `line` to standard error, unless this process has written it before; returns whether it
/// did.
pub fn say_once(line: &str) -> bool {
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !said.insert(line.to_owned()) {
        return false;
    }
    // A closed standard error must not fail a suite.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
    true
}

#[cfg(test)]
mod tests {
    use super::say_once;

    #[test]
    fn a_line_is_said_once() {
        assert!(say_once("kit: this line is said once"));
        assert!(!say_once("kit: this line is said once"));
    }
}
