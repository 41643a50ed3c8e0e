//! Where a repository is: a folder, or a place in an object store.
//!
//! An argument names it (`/path`, `file://`, `s3://`, `gs://`, `az://`) with options and
//! environment for the rest, or Kopia's config file does. Prefixes are raw strings, as in Kopia:
//! nothing is added to them and nothing is decoded. No memory cost.

mod folder;
#[cfg(feature = "object-stores")]
mod kopia_blocks;
#[cfg(feature = "object-stores")]
mod object;
#[cfg(feature = "object-stores")]
mod open;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::arguments::StorageOptions;
use super::error::CliError;
use super::surroundings::Surroundings;
use crate::blob::BlobStore;

use folder::FolderPlace;
#[cfg(feature = "object-stores")]
pub(super) use object::ObjectPlace;

/// Why a kind of storage that Kopia has is not one of ours.
const UNSUPPORTED: [(&str, &str); 6] = [
    (
        "sftp",
        "an SSH server has no listing in order and no whole puts; mount it as a folder",
    ),
    (
        "webdav",
        "a WebDAV server makes no promises about listings; mount it as a folder",
    ),
    (
        "rclone",
        "its program would run outside of the memory limit; connect Kopia to the store that \
                rclone uses, if that is S3, Google or Azure",
    ),
    (
        "b2",
        "its own protocol is not spoken; connect Kopia to the same bucket by its S3 endpoint",
    ),
    (
        "gdrive",
        "Google Drive finds files by ID, not by name, and limits requests too much",
    ),
    ("http", "a web server cannot be written to"),
];

/// Where a repository is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In a folder.
    Folder(FolderPlace),
    /// In an object store.
    #[cfg(feature = "object-stores")]
    Object(Box<ObjectPlace>),
}

impl Place {
    /// Finds the place that an argument means.
    pub(super) fn of_argument(
        text: &str,
        options: &StorageOptions,
        surroundings: &Surroundings,
    ) -> Result<Self, CliError> {
        let Some((scheme, rest)) = scheme_of(text) else {
            refuse_foreign(options, "file", text)?;
            return Ok(Self::Folder(FolderPlace::new(PathBuf::from(text))));
        };
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "file" => {
                refuse_foreign(options, "file", text)?;
                folder_of_url(text, rest).map(|path| Self::Folder(FolderPlace::new(path)))
            }
            "s3" | "gs" | "az" => {
                refuse_foreign(options, &scheme, text)?;
                Self::of_bucket(&scheme, rest, options, surroundings)
            }
            _ => Err(unsupported(&scheme)),
        }
    }

    #[cfg(feature = "object-stores")]
    fn of_bucket(
        scheme: &str,
        rest: &str,
        options: &StorageOptions,
        surroundings: &Surroundings,
    ) -> Result<Self, CliError> {
        let place = ObjectPlace::of_url(scheme, rest, options, surroundings)?;
        Ok(Self::Object(Box::new(place)))
    }

    #[cfg(not(feature = "object-stores"))]
    fn of_bucket(
        scheme: &str,
        _: &str,
        _: &StorageOptions,
        _: &Surroundings,
    ) -> Result<Self, CliError> {
        Err(unsupported(scheme))
    }

    /// Finds the place that a storage block of Kopia's config file means; the reason of an error
    /// names no secrets.
    pub(super) fn of_block(kind: &str, block: &serde_json::Value) -> Result<Self, BlockError> {
        match kind {
            "filesystem" => {
                let place = FolderPlace::of_block(block).map_err(BlockError::Wrong)?;
                Ok(Self::Folder(place))
            }
            #[cfg(feature = "object-stores")]
            "s3" | "azureBlob" | "gcs" => {
                let place = kopia_blocks::read(kind, block).map_err(BlockError::Wrong)?;
                Ok(Self::Object(Box::new(place)))
            }
            _ => Err(BlockError::Unsupported),
        }
    }

    /// Returns the place within the limits of a client of Kopia's, instead of its own.
    pub(super) fn within(mut self, block: &serde_json::Value) -> Result<Self, String> {
        let limits = folder::limits(block)?;
        match &mut self {
            Self::Folder(place) => place.limits = limits,
            #[cfg(feature = "object-stores")]
            Self::Object(place) => place.limits = limits,
        }
        Ok(self)
    }

    /// Applies options to a place that Kopia's config file names.
    pub(super) fn with_options(
        self,
        options: &StorageOptions,
        surroundings: &Surroundings,
    ) -> Result<Self, CliError> {
        let _ = surroundings;
        match self {
            Self::Folder(place) => {
                refuse_foreign(options, "file", &place.path.display().to_string())?;
                Ok(Self::Folder(place))
            }
            #[cfg(feature = "object-stores")]
            Self::Object(place) => {
                refuse_foreign(options, place.scheme(), &place.location.to_string())?;
                let place = place.with_options(options, surroundings, false)?;
                Ok(Self::Object(Box::new(place)))
            }
        }
    }

    /// Tells whether Kopia's config file asks for no changes there.
    pub(super) fn is_read_only(&self) -> bool {
        match self {
            Self::Folder(_) => false,
            #[cfg(feature = "object-stores")]
            Self::Object(place) => place.read_only,
        }
    }

    /// Opens its store.
    pub(super) fn open(
        &self,
        options: &StorageOptions,
        surroundings: &Surroundings,
    ) -> Result<Arc<dyn BlobStore>, CliError> {
        let _ = (options, surroundings);
        match self {
            Self::Folder(place) => place.open(surroundings.local_options()),
            #[cfg(feature = "object-stores")]
            Self::Object(place) => place.open(options, surroundings),
        }
    }

    /// Returns where the repository is instead, if a slash makes the difference.
    pub(super) fn other_slash(
        &self,
        options: &StorageOptions,
        surroundings: &Surroundings,
    ) -> Option<String> {
        let _ = (options, surroundings);
        match self {
            Self::Folder(_) => None,
            #[cfg(feature = "object-stores")]
            Self::Object(place) => place.other_slash(options, surroundings),
        }
    }

    /// Returns the places of Velero's repositories below this one.
    pub(super) fn namespaces_below(
        &self,
        options: &StorageOptions,
        surroundings: &Surroundings,
    ) -> Vec<String> {
        let _ = (options, surroundings);
        match self {
            Self::Folder(_) => Vec::new(),
            #[cfg(feature = "object-stores")]
            Self::Object(place) => place.namespaces_below(options, surroundings),
        }
    }

    /// Returns the folders below this place, as places.
    pub(super) fn folders_below(
        &self,
        options: &StorageOptions,
        surroundings: &Surroundings,
    ) -> Vec<String> {
        let _ = (options, surroundings);
        match self {
            Self::Folder(_) => Vec::new(),
            #[cfg(feature = "object-stores")]
            Self::Object(place) => place.folders_below(options, surroundings),
        }
    }

    /// Returns the place, for messages.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Folder(place) => place.path.display().to_string(),
            #[cfg(feature = "object-stores")]
            Self::Object(place) => place.location.to_string(),
        }
    }
}

/// What is wrong with a storage block.
#[derive(Debug)]
pub(super) enum BlockError {
    /// A kind of storage that is not ours.
    Unsupported,
    /// It does not say what is needed.
    Wrong(String),
}

/// Makes the error about a kind of storage that is not ours.
pub(super) fn unsupported(kind: &str) -> CliError {
    let known = UNSUPPORTED.iter().find(|(known, _)| *known == kind);
    let because = match (kind, known) {
        (_, Some((_, because))) => because,
        ("s3" | "gs" | "az" | "azureBlob" | "gcs", _) => "this build has no object stores",
        _ => "it is none of Kopia's",
    };
    CliError::UnsupportedStorage {
        kind: kind.to_owned(),
        because: because.to_owned(),
    }
}

fn refuse_foreign(options: &StorageOptions, kind: &str, text: &str) -> Result<(), CliError> {
    match options.foreign_to(kind).first() {
        None => Ok(()),
        Some(option) => Err(CliError::Usage(format!("{option} is not for {text}"))),
    }
}

/// Splits a URL; what has no scheme of letters before `://` is a path.
fn scheme_of(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+.-".contains(c);
    (!scheme.is_empty() && scheme.chars().all(is_scheme)).then_some((scheme, rest))
}

/// Returns the folder that a `file://` URL means.
fn folder_of_url(text: &str, rest: &str) -> Result<PathBuf, CliError> {
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

    fn place(text: &str) -> Result<Place, CliError> {
        let surroundings = Surroundings::read().unwrap();
        Place::of_argument(text, &StorageOptions::default(), &surroundings)
    }

    #[test]
    fn a_repository_is_a_path_or_a_url() {
        for (text, path) in [
            ("/backup", "/backup"),
            ("relative/dir", "relative/dir"),
            ("file:///back%20up/%C3%A9", "/back up/é"),
            ("file://localhost/backup", "/backup"),
            ("FILE:///backup", "/backup"),
        ] {
            assert_eq!(place(text).unwrap().shown(), path, "{text}");
        }
        for (text, code) in [
            ("sftp://host/backup", "unsupported-storage"),
            ("file://host/backup", "usage"),
            ("file:///a%2", "usage"),
            ("file:///a%zz", "usage"),
        ] {
            assert_eq!(place(text).unwrap_err().code(), code, "{text}");
        }
    }

    #[test]
    fn every_kind_of_kopias_says_why_it_is_not_ours() {
        for kind in ["sftp", "webdav", "rclone", "b2", "gdrive"] {
            let CliError::UnsupportedStorage { because, .. } = unsupported(kind) else {
                panic!("another error");
            };
            assert!(!because.contains("none of Kopia's"), "{kind}");
        }
        assert!(
            unsupported("floppy")
                .to_string()
                .contains("none of Kopia's")
        );
    }

    #[test]
    fn options_that_a_place_does_not_have_are_refused() {
        let surroundings = Surroundings::read().unwrap();
        let options = StorageOptions {
            region: Some("eu-west-1".into()),
            ..StorageOptions::default()
        };
        for text in ["/backup", "gs://bucket/", "az://container/"] {
            let error = Place::of_argument(text, &options, &surroundings).unwrap_err();
            assert_eq!(error.code(), "usage", "{text}");
        }
    }
}
