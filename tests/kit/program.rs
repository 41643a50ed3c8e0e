//! The program `careen` itself, for suites that need a process: to kill it, or to lock it into a
//! memory cgroup.
//!
//! `CAREEN_BINARY` names it; else it is the one that `cargo build -p careen` leaves beside the
//! suites. Cargo builds it for no suite of another package, so it may be missing; then that is said
//! once, in one line. No memory cost.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Returns the program, or says once that there is none.
pub fn careen() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(find).as_deref()
}

fn find() -> Option<PathBuf> {
    if let Some(named) = env::var_os("CAREEN_BINARY").filter(|name| !name.is_empty()) {
        let named = PathBuf::from(named);
        assert!(
            works(&named),
            "CAREEN_BINARY: {} is no careen",
            named.display()
        );
        return Some(named);
    }
    let suite = env::current_exe().ok()?;
    let beside = suite.parent()?.parent()?.join("careen");
    if works(&beside) {
        return Some(beside);
    }
    crate::say_once(
        "no careen program beside the suites: run `cargo build -p careen` first (or set \
         CAREEN_BINARY)",
    );
    None
}

/// Returns whether it is the program, with its plugins.
fn works(path: &Path) -> bool {
    let asked = Command::new(path)
        .args(["index", "compact", "--help"])
        .output();
    asked.is_ok_and(|ended| ended.status.success())
}
