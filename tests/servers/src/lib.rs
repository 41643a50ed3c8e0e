//! Storage servers of the suites: SeaweedFS for S3, Azurite for Azure, an emulation for Google.
//!
//! Each is started once in a process, on ports of its own, and ends with it, however that ends. A
//! server that is not installed is said once, in one line, and its suites pass without it; with
//! `CAREEN_SERVERS_REQUIRED` set that is a failure. `.ci/object-stores.sh` installs them. Knows
//! nothing of Careen, so that its own unit tests can use it.

use std::collections::BTreeSet;
use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub mod azurite;
pub mod counting_proxy;
pub mod fault_proxy;
pub mod gate;
pub mod google;
pub mod http;
mod listener;
pub mod process;
pub mod seaweedfs;
pub mod tls;
pub mod token_gate;
mod upstream;
mod way;

/// Where `.ci/object-stores.sh` puts what it installs, below the root of the workspace.
const INSTALLED: &str = "target/ci-tools/object-stores";

/// Returns where a program is: what `variable` names, else where the script installs it, else on
/// the PATH. Says it when it is nowhere.
///
/// # Panics
///
/// When it is nowhere and `CAREEN_SERVERS_REQUIRED` is set.
pub(crate) fn find(variable: &str, installed: &str, name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let paths = env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = env::var_os(variable).into_iter().map(Into::into).collect();
    places.push(root.join(INSTALLED).join(installed));
    places.extend(env::split_paths(&paths).map(|folder| folder.join(name)));
    let found = places.into_iter().find(|path| path.is_file());
    if found.is_none() {
        let line = format!("no {name} here: its suites are skipped (.ci/object-stores.sh)");
        assert!(env::var_os("CAREEN_SERVERS_REQUIRED").is_none(), "{line}");
        say_once(&line);
    }
    found
}

/// Writes a line to standard error past the test harness, once in a process.
fn say_once(line: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.insert(line.to_owned()) {
        // A closed standard error must not fail a suite.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}
