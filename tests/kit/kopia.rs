//! Real Kopia, the judge: which binaries there are, and how a client of one is made.
//!
//! `CAREEN_KOPIA` lists binaries, separated by `:`; without it `kopia` on `PATH` is taken. A client
//! has its own configuration, cache and logs in a temporary directory, and sees nothing of the
//! caller's environment: no update checks, no keyring, no home. Flags were checked against 0.17.0
//! to 0.23.1.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

mod client;
mod listing;

pub use client::{Client, EpochParameters, Failure, Remote};
pub use listing::{EpochList, IndexBlob, IndexEntry};

/// Identity of a client unless it is given another: Velero's.
pub const IDENTITY: &str = "default@default";

/// One Kopia binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kopia {
    path: PathBuf,
    version: String,
}

/// What `repository create` is told; `Default` is Kopia's default.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// Repository format version 1, 2 or 3; 0 leaves it to Kopia.
    pub format_version: u32,
    /// Content hash, empty for Kopia's default.
    pub hash: String,
    /// Encryption, empty for Kopia's default.
    pub encryption: String,
    /// Overhead of the ECC in percent, 0 for none.
    pub ecc_percent: u32,
    /// Splitter, empty for Kopia's default.
    pub splitter: String,
}

impl Kopia {
    /// Asks the binary at `path` for its version; `None` when it cannot be run or is no Kopia.
    pub fn at(path: &Path) -> Option<Self> {
        let mut command = Command::new(path);
        let asked = command.arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&asked.stdout);
        let version = text.split_whitespace().next()?.trim_start_matches('v');
        let known = asked.status.success() && text.contains("build:");
        known.then(|| Self {
            path: path.to_owned(),
            version: version.to_owned(),
        })
    }

    /// Returns the binary.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the version as Kopia prints it, like `0.23.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns whether this is at least version `0.minor`.
    pub fn is_at_least(&self, minor: u32) -> bool {
        let mut parts = self
            .version
            .split('.')
            .map(|part| part.parse().unwrap_or(0));
        let (major, own) = (parts.next().unwrap_or(0u32), parts.next().unwrap_or(0u32));
        (major, own) >= (0, minor)
    }

    /// Creates a repository in the directory `data` and connects to it as [`IDENTITY`].
    pub fn create(
        &self,
        data: &Path,
        password: &str,
        options: &CreateOptions,
    ) -> Result<Client, Failure> {
        let client = Client::new(self, data, password, IDENTITY);
        client.create(options)?;
        Ok(client)
    }

    /// Creates a repository in a storage that is no folder.
    pub fn create_at(
        &self,
        remote: &Remote,
        password: &str,
        options: &CreateOptions,
    ) -> Result<Client, Failure> {
        let client = Client::at(self, remote, password, IDENTITY);
        client.create(options)?;
        Ok(client)
    }

    /// Connects to the repository in such a storage, with an empty cache.
    pub fn connect_at(
        &self,
        remote: &Remote,
        password: &str,
        identity: &str,
    ) -> Result<Client, Failure> {
        let client = Client::at(self, remote, password, identity);
        client.connect()?;
        Ok(client)
    }

    /// Connects to the repository in `data` as `identity` (`user@host`), with an empty cache.
    pub fn connect(&self, data: &Path, password: &str, identity: &str) -> Result<Client, Failure> {
        let client = Client::new(self, data, password, identity);
        client.connect()?;
        Ok(client)
    }
}

impl fmt::Display for Kopia {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kopia {}", self.version)
    }
}

/// Returns the Kopia binaries of this machine, oldest first as listed; empty where there is none.
///
/// Says once which they are, or "no Kopia here". A path of `CAREEN_KOPIA` that is no Kopia panics:
/// a judge that was asked for must not be lost in silence.
pub fn binaries() -> &'static [Kopia] {
    static FOUND: OnceLock<Vec<Kopia>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let found = find(
            env::var_os("CAREEN_KOPIA").as_deref(),
            env::var_os("PATH").as_deref(),
        );
        crate::say_once(&announcement(&found));
        found
    })
}

/// Returns the newest Kopia of this machine.
pub fn newest() -> Option<&'static Kopia> {
    let number = |kopia: &&Kopia| -> Vec<u32> {
        let parts = kopia.version.split(['.', '-']);
        parts.map(|part| part.parse().unwrap_or(0)).collect()
    };
    binaries().iter().max_by_key(number)
}

fn announcement(found: &[Kopia]) -> String {
    if found.is_empty() {
        return "no Kopia here: the suites judge with the golden repositories instead \
                (set CAREEN_KOPIA to a list of binaries, separated by ':')"
            .to_owned();
    }
    let names: Vec<_> = found.iter().map(Kopia::version).collect();
    format!("judges: Kopia {}", names.join(", "))
}

fn find(listed: Option<&OsStr>, path: Option<&OsStr>) -> Vec<Kopia> {
    if let Some(listed) = listed.filter(|list| !list.is_empty()) {
        let binary = |path: PathBuf| {
            Kopia::at(&path)
                .unwrap_or_else(|| panic!("CAREEN_KOPIA: {} is no Kopia", path.display()))
        };
        let paths = env::split_paths(listed).filter(|path| !path.as_os_str().is_empty());
        return paths.map(binary).collect();
    }
    let folders = path.map(|path| env::split_paths(path).collect::<Vec<_>>());
    let mut candidates = folders.unwrap_or_default().into_iter();
    candidates
        .find_map(|folder| Kopia::at(&folder.join("kopia")))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fake(folder: &Path, version: &str) -> PathBuf {
        let path = folder.join("kopia");
        let script = format!("#!/bin/sh\necho '{version} build: none from:'\n");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_list_goes_before_the_path_and_absence_is_said() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (old, new) = (fake(one.path(), "0.17.0"), fake(two.path(), "v0.23.1"));
        let both = env::join_paths([&old, &new]).unwrap();
        let listed = find(Some(&both), Some(one.path().as_os_str()));
        let versions: Vec<_> = listed.iter().map(Kopia::version).collect();
        assert_eq!(versions, ["0.17.0", "0.23.1"]);
        assert!(listed[1].is_at_least(23) && !listed[0].is_at_least(18));
        assert_eq!(announcement(&listed), "judges: Kopia 0.17.0, 0.23.1");

        let on_path = find(None, Some(two.path().as_os_str()));
        assert_eq!(on_path[0].path(), new);
        let empty = tempfile::tempdir().unwrap();
        let none = find(Some(OsStr::new("")), Some(empty.path().as_os_str()));
        assert!(none.is_empty());
        assert!(announcement(&none).starts_with("no Kopia here: "));
    }

    #[test]
    #[should_panic(expected = "is no Kopia")]
    fn a_listed_binary_that_is_no_kopia_is_not_ignored() {
        find(Some(OsStr::new("/bin/true")), None);
    }
}
