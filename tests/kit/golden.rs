//! The golden repositories: made by real Kopia, with what real Kopia says of them and does to them.
//!
//! `fixtures/golden/README.md` explains every field. A repository is unpacked into a temporary
//! directory with its storage times (whole seconds) and goes away with the value. `damaged` holds
//! many repositories, one damage each. Memory: the description, at most some 100 KB of JSON.

use std::fs;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use careen::clock::Timestamp;
use ruzstd::decoding::StreamingDecoder;
use serde_json::Value;
use tempfile::TempDir;

use crate::contents::ContentRow;
use crate::data_dir::{DataDir, set_modified};

/// Names of the golden repositories; [`DAMAGED`] comes on top.
pub const NAMES: [&str; 12] = [
    "default-0.23.1",
    "velero-0.17.0",
    "v1-v0index",
    "format-v2",
    "chacha-blake3-ecc",
    "compression-splitters",
    "lz4-0.22.3",
    "old-epochs",
    "small-packs",
    "tiny-index-3000",
    "sessions-foreign-owner",
    "upgraded-from-v0",
];

/// The archive with a folder per damage.
pub const DAMAGED: &str = "damaged";

/// One unpacked golden archive and its description.
#[derive(Debug)]
pub struct Golden {
    name: String,
    description: Value,
    dir: TempDir,
}

impl Golden {
    /// Unpacks the archive `name` into a fresh temporary directory.
    ///
    /// A suite cannot do anything without its fixtures, so a missing or broken one panics with its
    /// name.
    pub fn open(name: &str) -> Self {
        let unpack = || -> io::Result<Self> {
            let dir = tempfile::Builder::new().prefix("golden-").tempdir()?;
            unpack_archive(&archive(name), dir.path())?;
            Ok(Self {
                name: name.to_owned(),
                description: describe(name)?,
                dir,
            })
        };
        unpack().unwrap_or_else(|error| panic!("golden repository {name}: {error}"))
    }

    /// Returns the name of the archive.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the directory: the repository, or for `damaged` the folder of repositories.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the repository as blobs.
    pub fn data(&self) -> DataDir {
        open_data(self.path())
    }

    /// Returns the whole description.
    pub fn description(&self) -> &Value {
        &self.description
    }

    /// Returns the moment at which Kopia's outcome was taken.
    pub fn now(&self) -> Timestamp {
        time(&self.description, "now")
    }

    /// Returns the password.
    pub fn password(&self) -> &str {
        text(&self.description, "password")
    }

    /// Returns the maintenance owner, `user@host`.
    pub fn maintenance_owner(&self) -> &str {
        text(&self.description, "maintenanceOwner")
    }

    /// Returns what Kopia reads: `format`, `contents`, `blobs`, `manifests`, `epochs`, …
    pub fn state(&self) -> &Value {
        &self.description["state"]
    }

    /// Returns what Kopia does: `run` is `full`, `none`, `quick` or `daily4`.
    pub fn what_kopia_does(&self, run: &str) -> &Value {
        &self.description["whatKopiaDoes"][run]
    }

    /// Returns the contents that Kopia reads, sorted by ID; `None` when only their digest is given.
    pub fn contents(&self) -> Option<Vec<ContentRow>> {
        content_rows(&self.state()["contents"])
    }

    /// Returns the names of the damages of `damaged`, in the order of the description.
    pub fn variant_names(&self) -> Vec<&str> {
        let variants = self.description["variants"].as_object();
        variants.map_or_else(Vec::new, |all| all.keys().map(String::as_str).collect())
    }

    /// Returns one repository of `damaged`.
    pub fn variant(&self, name: &str) -> Variant<'_> {
        let description = &self.description["variants"][name];
        assert!(description.is_object(), "{}: no variant {name}", self.name);
        Variant {
            golden: self,
            path: self.path().join(name),
            description,
        }
    }
}

/// One damaged repository.
#[derive(Debug)]
pub struct Variant<'a> {
    golden: &'a Golden,
    path: PathBuf,
    description: &'a Value,
}

impl Variant<'_> {
    /// Returns the repository's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the repository as blobs.
    pub fn data(&self) -> DataDir {
        open_data(&self.path)
    }

    /// Returns the description: `damage`, `base`, `readerSays`, `commands`, `maintenance`.
    pub fn description(&self) -> &Value {
        self.description
    }

    /// Returns whether the V0 index manager wrote it.
    pub fn is_v0(&self) -> bool {
        self.description["base"] == "v0-intact"
    }

    /// Returns the moment at which Kopia's outcome was taken.
    pub fn now(&self) -> Timestamp {
        time(
            &self.golden.description,
            if self.is_v0() { "nowV0" } else { "now" },
        )
    }

    /// Returns the undamaged state that it was made from, in the form of [`Golden::state`].
    pub fn base_state(&self) -> &Value {
        let field = if self.is_v0() {
            "baseStateV0"
        } else {
            "baseState"
        };
        &self.golden.description[field]
    }
}

/// Reads the rows of a `contents` object, `None` when it carries only a digest.
pub fn content_rows(contents: &Value) -> Option<Vec<ContentRow>> {
    let packs = contents["packs"].as_array()?;
    let rows = contents["list"].as_array()?.iter().map(|row| {
        let number = |column: usize| row[column].as_u64();
        let pack = packs.get(number(5)? as usize)?.as_str()?;
        Some(ContentRow {
            id: row[0].as_str()?.to_owned(),
            deleted: number(1)? != 0,
            time_seconds: row[2].as_i64()?,
            length: number(3)?,
            packed_length: number(4)?,
            pack: pack.to_owned(),
            offset: number(6)?,
            compression: number(7)?,
        })
    });
    let mut rows: Vec<ContentRow> = rows
        .collect::<Option<_>>()
        .expect("the golden list has the columns that it names");
    rows.sort();
    Some(rows)
}

fn archive(name: &str) -> PathBuf {
    crate::fixture("golden").join(format!("{name}.tar.zst"))
}

fn describe(name: &str) -> io::Result<Value> {
    let text = fs::read(crate::fixture("golden").join(format!("{name}.json")))?;
    serde_json::from_slice(&text).map_err(io::Error::other)
}

fn text<'a>(description: &'a Value, field: &str) -> &'a str {
    let value = description[field].as_str();
    value.unwrap_or_else(|| panic!("golden description without {field}"))
}

fn time(description: &Value, field: &str) -> Timestamp {
    let value = Timestamp::parse(text(description, field));
    value.unwrap_or_else(|| panic!("golden description with a broken {field}"))
}

fn open_data(path: &Path) -> DataDir {
    DataDir::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Unpacks a `.tar.zst` into `target` and sets the modification times of its files.
fn unpack_archive(archive: &Path, target: &Path) -> io::Result<()> {
    let file = BufReader::new(fs::File::open(archive)?);
    let decoder = StreamingDecoder::new(file).map_err(io::Error::other)?;
    for entry in tar::Archive::new(decoder).entries()? {
        let mut entry = entry?;
        if !entry.unpack_in(target)? {
            return Err(io::Error::other("an entry that leaves its directory"));
        }
        if entry.header().entry_type().is_file() {
            let seconds = entry.header().mtime()?;
            let path = target.join(entry.path()?);
            set_modified(&path, UNIX_EPOCH + Duration::from_secs(seconds))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contents::digest;

    /// The goal: what is unpacked is what the description was written about. Every blob is compared
    /// in name, length and time, and every content list with its own digest.
    #[test]
    fn every_repository_is_the_one_described() {
        for name in NAMES {
            let golden = Golden::open(name);
            let listed = golden.data().list().unwrap();
            if let Some(blobs) = golden.state()["blobs"].as_array() {
                let told: Vec<_> = blobs.iter().map(blob).collect();
                assert_eq!(listed, told, "{name}");
            } else {
                let count = golden.state()["blobs"]["count"].as_u64();
                assert_eq!(count, Some(listed.len() as u64), "{name}");
            }
            let rows = golden.contents().expect("all lists are short enough");
            let told = golden.state()["contents"]["sha256"].as_str();
            assert_eq!(told, Some(digest(&rows).as_str()), "{name}");
            assert!(golden.now() > listed.iter().map(|blob| blob.time).max().unwrap());
            assert!(!golden.password().is_empty() && golden.maintenance_owner().contains('@'));
            assert!(golden.what_kopia_does("full").is_object(), "{name}");
        }
    }

    fn blob(row: &Value) -> crate::data_dir::BlobFile {
        crate::data_dir::BlobFile {
            id: row[0].as_str().unwrap().to_owned(),
            length: row[1].as_u64().unwrap(),
            time: Timestamp::parse(row[2].as_str().unwrap()).unwrap(),
        }
    }

    #[test]
    fn every_damage_has_its_folder_and_its_description() {
        let damaged = Golden::open(DAMAGED);
        let names = damaged.variant_names();
        assert_eq!(names.len(), 24);
        for name in names {
            let variant = damaged.variant(name);
            assert!(!variant.data().list().unwrap().is_empty(), "{name}");
            let v0 = name.starts_with("v0-") || name == "upgrade-lock";
            assert_eq!(variant.is_v0(), v0, "{name}");
            assert!(variant.base_state()["contents"].is_object(), "{name}");
            assert!(variant.now() > Timestamp::from_seconds(0), "{name}");
        }
        let intact = damaged.variant("intact");
        let rows = content_rows(&intact.base_state()["contents"]).unwrap();
        let told = intact.base_state()["contents"]["sha256"].as_str();
        assert_eq!(told, Some(digest(&rows).as_str()));
    }
}
