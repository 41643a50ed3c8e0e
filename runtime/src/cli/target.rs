//! Which repository a command works on: where it is, its password, and as whom we act.
//!
//! Either the first argument (a directory or a `file://` URL) or Kopia's config file. Nothing is
//! guessed: both or none is a usage error, a storage that we do not reach is named. No memory cost.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::arguments::GlobalOptions;
use super::error::CliError;
use super::identity;
use super::kopia_config::KopiaConfig;
use super::password::PasswordSources;
use super::surroundings::Surroundings;
use crate::blob::{LocalStore, Storage};
use crate::maintenance::owner::Identity;
use crate::memory::MemoryPlan;
use crate::repository::index_listing::IndexListing;
use crate::repository::{OpenOptions, Repository, Workspace};

/// A repository that was asked for.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    config: Option<(PathBuf, KopiaConfig)>,
    owner: Option<String>,
    passwords: PasswordSources,
}

impl Target {
    /// Finds out which repository is meant.
    pub(super) fn new(
        repository: Option<&str>,
        global: &GlobalOptions,
        surroundings: &Surroundings,
    ) -> Result<Self, CliError> {
        let config = match &global.config {
            Some(file) => Some((file.clone(), KopiaConfig::read(file)?)),
            None => None,
        };
        let path = match (repository, &config) {
            (Some(_), Some(_)) => {
                return Err(CliError::Usage(
                    "give a repository or --config, not both".into(),
                ));
            }
            (None, None) => {
                let text = "which repository? Give its directory, or --config";
                return Err(CliError::Usage(text.into()));
            }
            (Some(text), None) => local_path(text)?,
            (None, Some((_, config))) => config.path.clone(),
        };
        Ok(Self {
            path,
            owner: global.owner.as_deref().map(checked_owner).transpose()?,
            passwords: PasswordSources {
                file: global.password_file.clone(),
                environment: surroundings.password.clone(),
                config: global.config.clone(),
            },
            config,
        })
    }

    /// Returns the repository's place, for messages.
    pub(super) fn location(&self) -> String {
        self.path.display().to_string()
    }

    /// Opens the repository.
    pub(super) fn open(
        &self,
        memory: &MemoryPlan,
        surroundings: &Surroundings,
    ) -> Result<Repository, CliError> {
        let (storage, options) = self.storage(memory, surroundings)?;
        Ok(Repository::open(storage, &options)?)
    }

    /// Opens the repository and lists its index meanwhile; a repository without epochs has none.
    pub(super) fn open_listed(
        &self,
        workspace: &Workspace,
        surroundings: &Surroundings,
    ) -> Result<(Repository, Option<IndexListing>), CliError> {
        let (storage, options) = self.storage(&workspace.memory, surroundings)?;
        let list = |storage: &Storage| IndexListing::take(storage, workspace);
        let (repository, listing) = Repository::open_while(storage, &options, list)?;
        let epochs = repository.format.epochs.enabled;
        Ok((repository, epochs.then_some(listing).transpose()?))
    }

    fn storage(
        &self,
        memory: &MemoryPlan,
        surroundings: &Surroundings,
    ) -> Result<(Storage, OpenOptions), CliError> {
        let password = self.passwords.password()?;
        let store = LocalStore::open(&self.path, surroundings.local_options())?;
        let options = OpenOptions {
            password,
            unlock_memory_bytes: memory.unlock_bytes,
            clock: Arc::clone(&surroundings.clock),
            randomness: Arc::clone(&surroundings.randomness),
        };
        Ok((Storage::new(Arc::new(store)), options))
    }

    /// Returns Kopia's config file, if one was given.
    pub(super) fn config_file(&self) -> Option<PathBuf> {
        self.config.as_ref().map(|(path, _)| path.clone())
    }

    /// Refuses changes through a read-only connection.
    pub(super) fn refuse_read_only(&self) -> Result<(), CliError> {
        match &self.config {
            Some((path, config)) if config.read_only => {
                Err(CliError::ConfigReadOnly { path: path.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Returns as whom we act: who was named, else the config's user, else this user.
    pub(super) fn identity(&self) -> Identity {
        if let Some(owner) = &self.owner {
            return Identity::Explicit(owner.clone());
        }
        match &self.config {
            Some((_, config)) => {
                let user = config.username.clone().unwrap_or_else(identity::user);
                let host = config.hostname.clone().unwrap_or_else(identity::host);
                Identity::Explicit(format!("{user}@{host}"))
            }
            None => Identity::Default {
                user: identity::user(),
                host: identity::host(),
            },
        }
    }

    /// Returns who writes, as `user@host`, where no owner is asked for.
    pub(super) fn writer(&self) -> String {
        match self.identity() {
            Identity::Explicit(name) => name,
            Identity::Default { user, host } => format!("{user}@{host}"),
        }
    }
}

/// Checks that an owner has Kopia's form.
fn checked_owner(text: &str) -> Result<String, CliError> {
    match text.split_once('@') {
        Some((user, host)) if !user.is_empty() && !host.is_empty() => Ok(text.to_owned()),
        _ => Err(CliError::Usage(format!(
            "--owner {text:?} is not USER@HOST"
        ))),
    }
}

/// Returns the directory that an argument means.
pub(super) fn local_path(text: &str) -> Result<PathBuf, CliError> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Ok(PathBuf::from(text));
    };
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+.-".contains(c);
    if scheme.is_empty() || !scheme.chars().all(is_scheme) {
        return Ok(PathBuf::from(text));
    }
    if !scheme.eq_ignore_ascii_case("file") {
        return Err(CliError::UnsupportedStorage {
            kind: scheme.to_owned(),
        });
    }
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(CliError::Usage(format!("{text} must be file:///PATH")));
    }
    let bytes = percent_decoded(path)
        .ok_or_else(|| CliError::Usage(format!("{text}: a % needs two hex digits after it")))?;
    Ok(Path::new(&OsString::from_vec(bytes)).to_owned())
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.as_bytes().split_at_checked(2)?;
        let mut byte = [0];
        hex::decode_to_slice(digits, &mut byte).ok()?;
        bytes.extend(byte);
        bytes.extend_from_slice(rest);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_a_path_or_a_file_url() {
        for (text, path) in [
            ("/backup", "/backup"),
            ("relative/dir", "relative/dir"),
            ("file:///back%20up/%C3%A9", "/back up/é"),
            ("file://localhost/backup", "/backup"),
            ("FILE:///backup", "/backup"),
        ] {
            assert_eq!(local_path(text).unwrap(), PathBuf::from(path), "{text}");
        }
        for (text, code) in [
            ("s3://bucket/prefix", "unsupported-storage"),
            ("file://host/backup", "usage"),
            ("file:///a%2", "usage"),
            ("file:///a%zz", "usage"),
        ] {
            assert_eq!(local_path(text).unwrap_err().code(), code, "{text}");
        }
    }

    #[test]
    fn an_owner_has_a_user_and_a_host() {
        assert_eq!(checked_owner("default@default").unwrap(), "default@default");
        for wrong in ["", "default", "@host", "user@"] {
            assert_eq!(checked_owner(wrong).unwrap_err().code(), "usage", "{wrong}");
        }
    }
}
