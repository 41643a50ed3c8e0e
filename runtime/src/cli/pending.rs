//! Stands in for what `repository` will have: `listing`, `inspect`, `status`, `verify`. To be
//! removed.

use std::fmt;

use serde::Serialize;

use crate::repository::{Repository, RepositoryError, Workspace};

/// A row or report without content.
#[derive(Debug, Serialize)]
pub(super) struct Nothing {}

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not there yet")
    }
}

impl Nothing {
    pub(super) fn is_sound(&self) -> bool {
        true
    }
}

pub(super) mod listing {
    use super::*;

    pub(in crate::cli) fn list_index_blobs(
        _: &Repository,
        visit: &mut dyn FnMut(&Nothing) -> bool,
    ) -> Result<(), RepositoryError> {
        visit(&Nothing {});
        Ok(())
    }
}

pub(super) mod inspect {
    use super::*;

    #[derive(Debug)]
    #[allow(dead_code)]
    pub(in crate::cli) struct InspectOptions {
        pub(in crate::cli) content_prefix: Option<String>,
        pub(in crate::cli) blob: Option<String>,
        pub(in crate::cli) all: bool,
    }

    pub(in crate::cli) fn inspect(
        _: &Repository,
        _: &Workspace,
        _: &InspectOptions,
        visit: &mut dyn FnMut(&Nothing) -> bool,
    ) -> Result<(), RepositoryError> {
        visit(&Nothing {});
        Ok(())
    }
}

pub(super) mod status {
    use super::*;

    pub(in crate::cli) fn status(
        _: &Repository,
        _: &Workspace,
    ) -> Result<Nothing, RepositoryError> {
        Ok(Nothing {})
    }
}

pub(super) mod verify {
    use super::*;

    pub(in crate::cli) fn verify_index(
        _: &Repository,
        _: &Workspace,
    ) -> Result<Nothing, RepositoryError> {
        Ok(Nothing {})
    }
}
