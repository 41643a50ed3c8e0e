//! Which folder a blob is in: the `.shards` file.
//!
//! `{"default":[1,3],"maxNonShardedLength":20,"overrides":[{"prefix":"p","shards":[2,2]}]}`. IDs up
//! to `maxNonShardedLength` are in the root. Others lose their first characters, level by level, to
//! folder names, by the first override whose prefix fits, else by the default; a level is left out
//! when nothing would remain. Lengths are bytes. Memory: the file, at most 64 KiB. Mirrors Kopia's
//! `repo/blob/sharded/sharded_parameters.go`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;

use crate::blob::BlobError;

/// Name of the file that tells the layout.
pub(super) const SHARDS_FILE: &str = ".shards";

/// How the file of a blob ends.
pub(super) const SUFFIX: &str = ".f";

/// Longest `.shards` file that is read; Kopia's has 50 bytes.
const SHARDS_FILE_BYTES_MAX: u64 = 64 << 10;

/// Most folders that are looked into for a hint.
const OBSERVED_LEVELS_MAX: usize = 8;

#[derive(Debug, Deserialize)]
struct Override {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    shards: Option<Vec<i64>>,
}

#[derive(Debug, Deserialize)]
struct ShardsFile {
    #[serde(default)]
    default: Option<Vec<i64>>,
    #[serde(default, rename = "maxNonShardedLength")]
    max_non_sharded_length: i64,
    #[serde(default)]
    overrides: Option<Vec<Override>>,
}

/// Where blobs are below the root.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    default: Vec<usize>,
    unsharded_length: usize,
    overrides: Vec<(Vec<u8>, Vec<usize>)>,
}

impl Layout {
    /// Reads the layout of the folder `root`.
    pub(super) fn read(root: &Path) -> Result<Self, BlobError> {
        let corrupt = |reason: String| BlobError::CorruptShards {
            folder: root.to_owned(),
            reason,
        };
        let path = root.join(SHARDS_FILE);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing(root)),
            result => result.map_err(|error| BlobError::io("open", path.display(), error))?,
        };
        let mut text = Vec::new();
        file.take(SHARDS_FILE_BYTES_MAX + 1)
            .read_to_end(&mut text)
            .map_err(|error| BlobError::io("open", path.display(), error))?;
        if text.len() as u64 > SHARDS_FILE_BYTES_MAX {
            return Err(corrupt(format!(
                "longer than {SHARDS_FILE_BYTES_MAX} bytes"
            )));
        }
        Self::parse(&text).map_err(corrupt)
    }

    /// Parses the file. As in Kopia, a missing list means no folders, and unknown fields are
    /// ignored.
    fn parse(text: &[u8]) -> Result<Self, String> {
        let file: ShardsFile = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let mut overrides = Vec::new();
        for one in file.overrides.unwrap_or_default() {
            overrides.push((one.prefix.into_bytes(), sizes(one.shards)?));
        }
        Ok(Self {
            default: sizes(file.default)?,
            // Kopia compares lengths with it, so a negative one means that every ID is sharded.
            unsharded_length: usize::try_from(file.max_non_sharded_length).unwrap_or(0),
            overrides,
        })
    }

    /// Returns the text of the file for new repositories.
    pub(super) fn for_new_repositories() -> &'static [u8] {
        b"{\"default\":[1,3],\"maxNonShardedLength\":20}\n"
    }

    /// Calls `folder` with the name of each folder on the way to a blob; returns what is left of
    /// its ID.
    pub(super) fn split<'a>(&self, id: &'a [u8], mut folder: impl FnMut(&'a [u8])) -> &'a [u8] {
        let mut rest = id;
        if id.len() <= self.unsharded_length {
            return rest;
        }
        let fitting = self
            .overrides
            .iter()
            .find(|(prefix, _)| id.starts_with(prefix));
        let sizes = fitting.map_or(&self.default, |(_, sizes)| sizes);
        for &size in sizes {
            if rest.len() <= size {
                break;
            }
            let (name, after) = rest.split_at(size);
            rest = after;
            // An empty name is no folder, nor is one dot.
            if !name.is_empty() && name != b"." {
                folder(name);
            }
        }
        rest
    }

    /// Tells whether a blob found in `folders` (`p/abc/` for `root/p/abc`) is where a get looks for
    /// it.
    pub(super) fn holds(&self, folders: &[u8], id: &[u8]) -> bool {
        let mut left = Some(folders);
        self.split(id, |name| {
            left = left
                .and_then(|folders| folders.strip_prefix(name))
                .and_then(|folders| folders.strip_prefix(b"/"));
        });
        left.is_some_and(<[u8]>::is_empty)
    }
}

fn sizes(list: Option<Vec<i64>>) -> Result<Vec<usize>, String> {
    let sizes = list.unwrap_or_default().into_iter();
    sizes
        .map(|size| {
            usize::try_from(size).map_err(|_| format!("a folder name of {size} characters"))
        })
        .collect()
}

/// Describes a folder without `.shards`: is it a repository, and how long are its folder names?
fn missing(root: &Path) -> BlobError {
    let mut observed_shards = Vec::new();
    let mut path = root.to_owned();
    while observed_shards.len() < OBSERVED_LEVELS_MAX {
        let Some(name) = greatest_folder(&path, observed_shards.is_empty()) else {
            break;
        };
        observed_shards.push(name.len());
        path.push(name);
    }
    BlobError::MissingShards {
        folder: root.to_owned(),
        has_format_blob: root.join("kopia.repository.f").exists(),
        observed_shards,
    }
}

/// Returns the greatest folder name that may belong to a pack or index blob. A hint only: errors
/// mean none.
fn greatest_folder(path: &Path, is_root: bool) -> Option<String> {
    let entries = fs::read_dir(path).ok()?;
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !is_root || name.starts_with(['p', 'q', 'x', 'n']))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(layout: &Layout, id: &str) -> String {
        let mut folders = Vec::new();
        let rest = layout.split(id.as_bytes(), |name| {
            folders.extend_from_slice(name);
            folders.push(b'/');
        });
        assert!(layout.holds(&folders, id.as_bytes()));
        assert_eq!(layout.holds(b"p/", id.as_bytes()), folders == b"p/");
        folders.extend_from_slice(rest);
        String::from_utf8(folders).unwrap() + SUFFIX
    }

    #[test]
    fn blobs_are_where_kopia_puts_them() {
        // Goal: the places that Kopia's own examples and the golden repositories have.
        let modern = Layout::parse(Layout::for_new_repositories()).unwrap();
        assert_eq!(modern.default, [1, 3]);
        for (id, file) in [
            ("kopia.repository", "kopia.repository.f"),
            ("xe7", "xe7.f"),
            ("p1234567890123456789", "p1234567890123456789.f"),
            ("p12345678901234567890", "p/123/45678901234567890.f"),
            (
                "kopia.repository.backup.me",
                "k/opi/a.repository.backup.me.f",
            ),
        ] {
            assert_eq!(place(&modern, id), file);
        }

        let text = br#"{"default":[3,2,1],"overrides":[{"prefix":"p","shards":[2,2]},
            {"prefix":"x","shards":[1,1,1]}],"maxNonShardedLength":2}"#;
        let layout = Layout::parse(text).unwrap();
        for (id, file) in [
            ("ab", "ab.f"),
            ("defaultsharded", "def/au/l/tsharded.f"),
            ("phello", "ph/el/lo.f"),
            ("xhello", "x/h/e/llo.f"),
            ("xbye", "x/b/y/e.f"),
            ("xo", "xo.f"),
        ] {
            assert_eq!(place(&layout, id), file);
        }

        let layout = Layout::parse(br#"{"default":[3,3],"maxNonShardedLength":0}"#).unwrap();
        for (id, file) in [
            ("fo", "fo.f"),
            ("foo", "foo.f"),
            ("foob", "foo/b.f"),
            ("foobar", "foo/bar.f"),
            ("foobar2", "foo/bar/2.f"),
        ] {
            assert_eq!(place(&layout, id), file);
        }
    }

    #[test]
    fn lists_may_be_empty_null_or_missing() {
        for text in [
            r#"{"default":[],"maxNonShardedLength":20}"#,
            r#"{"default":null,"maxNonShardedLength":20,"overrides":null,"new":1}"#,
            r#"{"default":[0],"maxNonShardedLength":-1}"#,
            "{}",
        ] {
            let layout = Layout::parse(text.as_bytes()).unwrap();
            let id = "p123456789012345678901234567890";
            assert_eq!(place(&layout, id), format!("{id}.f"));
        }
        let text = r#"{"default":[3],"overrides":[{"prefix":"q","shards":null}]}"#;
        let layout = Layout::parse(text.as_bytes()).unwrap();
        assert_eq!(place(&layout, "qabcd"), "qabcd.f");
        assert_eq!(place(&layout, "pabcd"), "pab/cd.f");
    }

    #[test]
    fn what_does_not_say_where_blobs_are_is_corrupt() {
        for text in [
            "",
            "\u{1}\u{2}\u{3}",
            "[1,3]",
            "{\"default\":[1,-3]}",
            "{} {}",
            "{\"default\":1}",
        ] {
            assert!(Layout::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
