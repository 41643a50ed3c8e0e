//! Which repository a command works on: where it is, its password, and as whom we act.
//!
//! Either the first argument (a directory or a URL) or Kopia's config file. Nothing is guessed:
//! both or none is a usage error, a storage that we do not reach is named. No memory cost.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::arguments::{GlobalOptions, StorageOptions};
use super::error::CliError;
use super::identity;
use super::kopia_config::KopiaConfig;
use super::password::PasswordSources;
use super::place::Place;
use super::surroundings::Surroundings;
use crate::blob::Storage;
use crate::maintenance::owner::Identity;
use crate::memory::MemoryPlan;
use crate::repository::index_listing::IndexListing;
use crate::repository::{OpenOptions, Repository, RepositoryError, Workspace};

/// The storage that a command has opened, for what is told at its end.
pub(super) type Touched = Arc<OnceLock<Storage>>;

/// A repository that was asked for.
#[derive(Debug)]
pub(super) struct Target {
    place: Place,
    storage: StorageOptions,
    config: Option<(PathBuf, KopiaConfig)>,
    owner: Option<String>,
    passwords: PasswordSources,
    touched: Touched,
}

impl Target {
    /// Finds out which repository is meant.
    pub(super) fn new(
        repository: Option<&str>,
        global: &GlobalOptions,
        surroundings: &Surroundings,
        touched: &Touched,
    ) -> Result<Self, CliError> {
        let config = match &global.config {
            Some(file) => Some((file.clone(), KopiaConfig::read(file)?)),
            None => None,
        };
        let storage = &global.storage;
        let place = match (repository, &config) {
            (Some(_), Some(_)) => {
                return Err(CliError::Usage(
                    "give a repository or --config, not both".into(),
                ));
            }
            (None, None) => {
                let text = "which repository? Give its directory or URL, or --config";
                return Err(CliError::Usage(text.into()));
            }
            (Some(text), None) => Place::of_argument(text, storage, surroundings)?,
            (None, Some((_, config))) => {
                config.place.clone().with_options(storage, surroundings)?
            }
        };
        Ok(Self {
            place,
            storage: storage.clone(),
            touched: Arc::clone(touched),
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
        self.place.shown()
    }

    /// Returns where it is.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Returns the options of its storage.
    #[cfg(feature = "object-stores")]
    pub(super) fn storage_options(&self) -> &StorageOptions {
        &self.storage
    }

    /// Returns its password.
    pub(super) fn password(&self) -> Result<Vec<u8>, CliError> {
        self.passwords.password()
    }

    /// Opens its storage only.
    pub(super) fn open_storage(&self, surroundings: &Surroundings) -> Result<Storage, CliError> {
        let storage = Storage::new(self.place.open(&self.storage, surroundings)?);
        // A second one would be of the same place, for a look.
        let _ = self.touched.set(storage.clone());
        Ok(storage)
    }

    /// Makes it a target that is looked at while somebody waits: the store is soon given up.
    #[cfg(feature = "object-stores")]
    pub(super) fn for_a_look(mut self) -> Self {
        self.storage.for_a_look = true;
        self
    }

    /// Opens the repository in a storage that is open.
    pub(super) fn open_in(
        &self,
        storage: Storage,
        memory: &MemoryPlan,
        surroundings: &Surroundings,
    ) -> Result<Repository, CliError> {
        let options = self.open_options(memory, surroundings)?;
        Ok(Repository::open(storage, &options)?)
    }

    /// Returns where the repository is instead, if a slash makes the difference.
    pub(super) fn other_slash(&self, surroundings: &Surroundings) -> Option<String> {
        self.place.other_slash(&self.storage, surroundings)
    }

    /// Returns the places of Velero's repositories below this one.
    pub(super) fn namespaces_below(&self, surroundings: &Surroundings) -> Vec<String> {
        self.place.namespaces_below(&self.storage, surroundings)
    }

    /// Returns the folders below this place, where it is in an object store.
    pub(super) fn folders_below(&self, surroundings: &Surroundings) -> Vec<String> {
        self.place.folders_below(&self.storage, surroundings)
    }

    /// Returns the repository's folder, `None` in an object store.
    pub(super) fn folder(&self) -> Option<&Path> {
        match &self.place {
            Place::Folder(place) => Some(&place.path),
            #[cfg(feature = "object-stores")]
            Place::Object(_) => None,
        }
    }

    /// Opens the repository.
    pub(super) fn open(
        &self,
        memory: &MemoryPlan,
        surroundings: &Surroundings,
    ) -> Result<Repository, CliError> {
        let (storage, options) = self.storage(memory, surroundings)?;
        Repository::open(storage, &options).map_err(|error| self.explained(error, surroundings))
    }

    /// Opens the repository and lists its index meanwhile; a repository without epochs has none.
    pub(super) fn open_listed(
        &self,
        workspace: &Workspace,
        surroundings: &Surroundings,
    ) -> Result<(Repository, Option<IndexListing>), CliError> {
        let (storage, options) = self.storage(&workspace.memory, surroundings)?;
        let list = |storage: &Storage| IndexListing::take(storage, workspace);
        let (repository, listing) = Repository::open_while(storage, &options, list)
            .map_err(|error| self.explained(error, surroundings))?;
        let epochs = repository.format.epochs.enabled;
        Ok((repository, epochs.then_some(listing).transpose()?))
    }

    /// Says where the repository is, if it is only a slash away.
    fn explained(&self, error: RepositoryError, surroundings: &Surroundings) -> CliError {
        if matches!(error, RepositoryError::NoRepository { .. })
            && let Some(other) = self.other_slash(surroundings)
        {
            let location = self.location();
            return CliError::OtherPrefix { location, other };
        }
        error.into()
    }

    fn storage(
        &self,
        memory: &MemoryPlan,
        surroundings: &Surroundings,
    ) -> Result<(Storage, OpenOptions), CliError> {
        let options = self.open_options(memory, surroundings)?;
        Ok((self.open_storage(surroundings)?, options))
    }

    fn open_options(
        &self,
        memory: &MemoryPlan,
        surroundings: &Surroundings,
    ) -> Result<OpenOptions, CliError> {
        Ok(OpenOptions {
            password: self.passwords.password()?,
            unlock_memory_bytes: memory.unlock_bytes,
            clock: Arc::clone(&surroundings.clock),
            randomness: Arc::clone(&surroundings.randomness),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_a_user_and_a_host() {
        assert_eq!(checked_owner("default@default").unwrap(), "default@default");
        for wrong in ["", "default", "@host", "user@"] {
            assert_eq!(checked_owner(wrong).unwrap_err().code(), "usage", "{wrong}");
        }
    }
}
