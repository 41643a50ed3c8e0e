//! A Kopia repository on the local disk, seen as blobs: list, read, write, move in time, copy.
//!
//! Mirrors the layout of Kopia's repo/blob/sharded and repo/blob/filesystem (`.shards`, folders,
//! `.f`), written for suites only and independent of Careen's blob floor, so that it can judge it.
//! Modification times are the storage times of blobs: ageing a repository means moving them.
//! Memory: the list of blobs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use careen::clock::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// One blob of a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlobFile {
    /// Blob ID.
    pub id: String,
    /// Length in bytes.
    pub length: u64,
    /// Storage time: the file's modification time.
    pub time: Timestamp,
}

/// A repository directory.
#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
    shards: Vec<usize>,
    overrides: Vec<(String, Vec<usize>)>,
    unsharded_max: usize,
}

impl DataDir {
    /// Opens the repository at `root`; its `.shards` file must be there.
    pub fn open(root: &Path) -> io::Result<Self> {
        let text = fs::read(root.join(".shards"))?;
        let layout: Value = serde_json::from_slice(&text).map_err(io::Error::other)?;
        let overrides = layout["overrides"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        Ok(Self {
            root: root.to_owned(),
            shards: sizes(&layout["default"]),
            overrides: overrides
                .iter()
                .map(|one| {
                    let prefix = one["prefix"].as_str().unwrap_or_default();
                    (prefix.to_owned(), sizes(&one["shards"]))
                })
                .collect(),
            unsharded_max: layout["maxNonShardedLength"].as_u64().unwrap_or(20) as usize,
        })
    }

    /// Returns the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the file of blob `id`, whether it exists or not.
    pub fn path_of(&self, id: &str) -> PathBuf {
        let mut path = self.root.clone();
        let mut rest = id;
        if id.len() > self.unsharded_max {
            let named = self.overrides.iter().find(|(p, _)| id.starts_with(p));
            for &size in named.map_or(&self.shards, |(_, shards)| shards) {
                if rest.len() <= size {
                    break;
                }
                let (folder, tail) = rest.split_at(size);
                path.push(folder);
                rest = tail;
            }
        }
        path.push(format!("{rest}.f"));
        path
    }

    /// Lists all blobs, sorted by ID.
    pub fn list(&self) -> io::Result<Vec<BlobFile>> {
        let mut blobs = Vec::new();
        list_into(&self.root, "", &mut blobs)?;
        blobs.sort();
        Ok(blobs)
    }

    /// Lists the blobs whose ID begins with `prefix`, sorted by ID.
    pub fn list_prefix(&self, prefix: &str) -> io::Result<Vec<BlobFile>> {
        let mut blobs = self.list()?;
        blobs.retain(|blob| blob.id.starts_with(prefix));
        Ok(blobs)
    }

    /// Reads a blob.
    pub fn read(&self, id: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path_of(id))
    }

    /// Writes a blob with the storage time `time`, over an older one.
    pub fn write(&self, id: &str, bytes: &[u8], time: Timestamp) -> io::Result<()> {
        let path = self.path_of(id);
        fs::create_dir_all(path.parent().expect("a blob lies in a folder"))?;
        fs::write(&path, bytes)?;
        set_modified(&path, time.into())
    }

    /// Removes a blob.
    pub fn remove(&self, id: &str) -> io::Result<()> {
        fs::remove_file(self.path_of(id))
    }

    /// Sets the storage time of a blob.
    pub fn set_time(&self, id: &str, time: Timestamp) -> io::Result<()> {
        set_modified(&self.path_of(id), time.into())
    }

    /// Makes every blob `by` older; returns how many there are. What a clock inside a blob says
    /// stays.
    pub fn age(&self, by: Duration) -> io::Result<usize> {
        let blobs = self.list()?;
        for blob in &blobs {
            self.set_time(&blob.id, blob.time.minus(by))?;
        }
        Ok(blobs.len())
    }

    /// Writes the markers `xe1` to `xe<epoch>` at `time`: the write epoch becomes `epoch`, and
    /// every epoch up to `epoch - 2` is settled, whatever the time between them.
    pub fn advance_to_epoch(&self, epoch: u32, time: Timestamp) -> io::Result<()> {
        for number in 1..=epoch {
            self.write(&format!("xe{number}"), b"epoch-marker", time)?;
        }
        Ok(())
    }

    /// Writes a deletion watermark for `watermark` at `time`.
    pub fn write_watermark(&self, watermark: Timestamp, time: Timestamp) -> io::Result<()> {
        let id = format!("xw{}", watermark.seconds());
        self.write(&id, b"deletion-watermark", time)
    }

    /// Copies everything to `target`, modification times included.
    pub fn copy_to(&self, target: &Path) -> io::Result<Self> {
        copy_tree(&self.root, target)?;
        Self::open(target)
    }

    /// Returns ID → SHA-256 of every blob, to see what a run changed, added or removed.
    pub fn fingerprint(&self) -> io::Result<BTreeMap<String, String>> {
        let digests = self.list()?.into_iter().map(|blob| {
            let hash = Sha256::digest(self.read(&blob.id)?);
            Ok((blob.id, hex::encode(hash)))
        });
        digests.collect()
    }
}

fn sizes(list: &Value) -> Vec<usize> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter()
        .filter_map(|size| Some(size.as_u64()? as usize))
        .collect()
}

fn list_into(folder: &Path, before: &str, blobs: &mut Vec<BlobFile>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let meta = entry.metadata()?;
        if meta.is_dir() {
            list_into(&entry.path(), &format!("{before}{name}"), blobs)?;
        } else if let Some(stem) = name.strip_suffix(".f") {
            blobs.push(BlobFile {
                id: format!("{before}{stem}"),
                length: meta.len(),
                time: meta.modified()?.into(),
            });
        }
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let meta = entry.metadata()?;
        if meta.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            set_modified(&target, meta.modified()?)?;
        }
    }
    Ok(())
}

/// Sets a file's modification time.
pub(crate) fn set_modified(path: &Path, time: SystemTime) -> io::Result<()> {
    File::options().write(true).open(path)?.set_modified(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: &str = r#"{"default":[1,3],"maxNonShardedLength":20,
        "overrides":[{"prefix":"q","shards":[2,2]}]}"#;
    const PACK: &str = "pabcdef0123456789abcdef0123456789";

    fn empty() -> (tempfile::TempDir, DataDir) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".shards"), LAYOUT).unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        (dir, data)
    }

    #[test]
    fn paths_follow_the_shards_file() {
        let (dir, data) = empty();
        let at = |id: &str| {
            let path = data.path_of(id);
            path.strip_prefix(dir.path())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(at("kopia.repository"), "kopia.repository.f");
        assert_eq!(at(PACK), "p/abc/def0123456789abcdef0123456789.f");
        assert_eq!(at("qabcdef0123456789abcd"), "qa/bc/def0123456789abcd.f");
    }

    #[test]
    fn what_is_written_is_listed_read_aged_copied_and_removed() {
        let (_dir, data) = empty();
        let noon = Timestamp::from_seconds(1_700_000_000);
        data.write(PACK, b"pack", noon).unwrap();
        data.advance_to_epoch(2, noon).unwrap();
        data.write_watermark(noon, noon).unwrap();
        let ids = |data: &DataDir| -> Vec<String> {
            data.list()
                .unwrap()
                .into_iter()
                .map(|blob| blob.id)
                .collect()
        };
        assert_eq!(ids(&data), [PACK, "xe1", "xe2", "xw1700000000"]);
        assert_eq!(data.read(PACK).unwrap(), b"pack");

        assert_eq!(data.age(Duration::from_secs(60)).unwrap(), 4);
        let copy = tempfile::tempdir().unwrap();
        let copied = data.copy_to(copy.path()).unwrap();
        let packs = copied.list_prefix("p").unwrap();
        let expected = BlobFile {
            id: PACK.to_owned(),
            length: 4,
            time: Timestamp::from_seconds(1_699_999_940),
        };
        assert_eq!(packs, [expected]);
        assert_eq!(copied.fingerprint().unwrap(), data.fingerprint().unwrap());

        data.remove(PACK).unwrap();
        assert_eq!(ids(&data).len(), 3);
        assert_ne!(copied.fingerprint().unwrap(), data.fingerprint().unwrap());
    }
}
