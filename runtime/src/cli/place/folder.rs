//! A folder as a place, with what the storage block `filesystem` of Kopia's config file says of it;
//! and the limits that any storage block may have.
//!
//! Mirrors the `Options` of Kopia's `repo/blob/filesystem` and `repo/blob/throttling`. No memory
//! cost.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::blob::{BlobStore, LocalOptions, LocalStore, StorageLimits, ThrottledStore};
use crate::cli::error::CliError;

/// Permission bits of a mode; Go keeps others elsewhere.
const PERMISSIONS: u32 = 0o777;

/// A repository's folder.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct FolderPlace {
    /// Where it is.
    pub(in crate::cli) path: PathBuf,
    /// Limits of the config file.
    pub(in crate::cli) limits: StorageLimits,
    file_mode: Option<u32>,
    folder_mode: Option<u32>,
    owner: Option<(u32, u32)>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FolderBlock {
    path: String,
    #[serde(rename = "fileMode")]
    file_mode: u32,
    #[serde(rename = "dirMode")]
    folder_mode: u32,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LimitsBlock {
    reads_per_second: f64,
    writes_per_second: f64,
    lists_per_second: f64,
    #[serde(rename = "maxUploadSpeedBytesPerSecond")]
    upload: f64,
    #[serde(rename = "maxDownloadSpeedBytesPerSecond")]
    download: f64,
    concurrent_reads: usize,
    concurrent_writes: usize,
}

impl FolderPlace {
    /// Makes the place of a path.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            ..Self::default()
        }
    }

    /// Reads the block `filesystem`; the reason of an error names no values.
    pub(super) fn of_block(block: &Value) -> Result<Self, String> {
        let FolderBlock {
            path,
            file_mode,
            folder_mode,
            uid,
            gid,
        } = parsed(block)?;
        if path.is_empty() {
            return Err("its storage has no path".into());
        }
        let mode = |mode: u32| Some(mode & PERMISSIONS).filter(|mode| *mode != 0);
        Ok(Self {
            path: path.into(),
            limits: limits(block)?,
            file_mode: mode(file_mode),
            folder_mode: mode(folder_mode),
            owner: uid.zip(gid),
        })
    }

    /// Opens its store, used as `options` say where the config file says nothing.
    pub(super) fn open(&self, options: LocalOptions) -> Result<Arc<dyn BlobStore>, CliError> {
        let options = LocalOptions {
            file_mode: self.file_mode.unwrap_or(options.file_mode),
            folder_mode: self.folder_mode.unwrap_or(options.folder_mode),
            owner: self.owner.or(options.owner),
            ..options
        };
        let store = Arc::new(LocalStore::open(&self.path, options)?);
        Ok(within(store, &self.limits))
    }
}

/// Returns the store within limits, if there are any.
pub(super) fn within(store: Arc<dyn BlobStore>, limits: &StorageLimits) -> Arc<dyn BlobStore> {
    if limits.are_none() {
        return store;
    }
    Arc::new(ThrottledStore::new(store, *limits))
}

/// Reads the limits in a storage block.
pub(super) fn limits(block: &Value) -> Result<StorageLimits, String> {
    let block: LimitsBlock = parsed(block)?;
    let rates = [
        block.reads_per_second,
        block.writes_per_second,
        block.lists_per_second,
        block.upload,
        block.download,
    ];
    if rates.iter().any(|rate| *rate < 0.0) {
        return Err("its storage has a limit below 0".into());
    }
    Ok(StorageLimits {
        reads_per_second: block.reads_per_second,
        writes_per_second: block.writes_per_second,
        lists_per_second: block.lists_per_second,
        upload_bytes_per_second: block.upload,
        download_bytes_per_second: block.download,
        concurrent_reads: block.concurrent_reads,
        concurrent_writes: block.concurrent_writes,
    })
}

/// Parses a block or a part of it.
pub(super) fn parsed<T: for<'de> Deserialize<'de>>(block: &Value) -> Result<T, String> {
    // The parser's own message could show a value.
    T::deserialize(block).map_err(|error| {
        let text = error.to_string();
        let kind = text.split(':').next().unwrap_or_default();
        format!("its storage block has a value of a wrong type ({kind})")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use serde_json::json;

    use super::*;
    use crate::blob::{PutOptions, Storage};
    use crate::kopia::blob_id::BlobId;

    #[test]
    fn files_and_folders_have_the_modes_and_the_owner_of_the_block() {
        let folder = tempfile::tempdir().unwrap();
        LocalStore::create(folder.path(), LocalOptions::default()).unwrap();
        let block = json!({"path": folder.path(), "fileMode": 0o640, "dirMode": 0o750,
                           "uid": 12, "gid": 34, "dirShards": null});
        let place = FolderPlace::of_block(&block).unwrap();
        assert!(place.limits.are_none());
        let storage = Storage::new(place.open(LocalOptions::default()).unwrap());
        let id = BlobId::new("p0123456789abcdef0123456789abcdef");
        storage
            .put_bytes(&id, b"x", &PutOptions::default())
            .unwrap();
        let made = folder.path().join("p");
        let file = made.join("012/3456789abcdef0123456789abcdef.f");
        let mode = |path: &std::path::Path| {
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            mode & PERMISSIONS
        };
        let mask = 0o777 & !mode(&made);
        assert_eq!(mode(&made) & 0o700, 0o700, "the mask takes away {mask:o}");
        assert_eq!(mode(&file) | 0o040, 0o640);
        let file = std::fs::metadata(&file).unwrap();
        let by_root = rustix::process::geteuid().is_root();
        assert_eq!((file.uid(), file.gid()) == (12, 34), by_root);
    }

    #[test]
    fn limits_are_read_from_any_block_and_a_wrong_one_is_refused() {
        let block = json!({"path": "/r", "readsPerSecond": 12.5, "concurrentWrites": 3,
                           "maxDownloadSpeedBytesPerSecond": 1e6});
        let limits = FolderPlace::of_block(&block).unwrap().limits;
        let expected = StorageLimits {
            reads_per_second: 12.5,
            concurrent_writes: 3,
            download_bytes_per_second: 1e6,
            ..StorageLimits::default()
        };
        assert_eq!(limits, expected);
        for block in [
            json!({}),
            json!({"path": "/r", "listsPerSecond": -1}),
            json!({"path": "/r", "fileMode": "hunter2"}),
            json!({"path": "/r", "uid": -1}),
        ] {
            let reason = FolderPlace::of_block(&block).unwrap_err();
            assert!(!reason.contains("hunter"), "{reason}");
        }
    }
}
