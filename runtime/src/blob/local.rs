//! A folder on a local disk (or a mounted one) in the layout of Kopia's filesystem storage.
//!
//! The file of a blob is its ID and `.f`, below folders named by the first characters of the ID;
//! `.shards` says how many. That file is never guessed: with a wrong layout blobs are listed but
//! not found. Files of others, temporary ones included, are neither shown nor touched; we cannot
//! know whether someone is still writing them. Memory: see `list.rs`; a put 64 KiB. Mirrors Kopia's
//! `repo/blob/filesystem` and `repo/blob/sharded`.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::store::{check_limit, check_name};
use super::{BlobError, BlobMetadata, BlobSource, BlobStore, OpenBlob, PutOptions, ScannedBlob};
use crate::clock::{SharedClock, Timestamp};
use crate::kopia::blob_id::BlobId;

mod ahead;
mod direct;
mod layout;
mod list;
mod open_blob;
mod scan;
#[cfg(test)]
mod tests;
mod write;

use ahead::OpenedAhead;
use direct::{DIRECT_READ_MIN, DirectReads};
use layout::{Layout, SHARDS_FILE};
use list::LastPage;
use open_blob::LocalOpenBlob;
use write::{FILE_MODE, FOLDER_MODE};

/// Deepest nesting of folders that is followed; Kopia's layouts have two levels.
const FOLDER_DEPTH_MAX: usize = 64;

/// How the folder is used.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// Gives written files this clock's time; `None` leaves the time of the disk.
    pub clock_stamp: Option<SharedClock>,
    /// Makes every put durable before it returns; off only for suites that want speed.
    pub durable: bool,
    /// Whether long reads go past the page cache: right where it is small, as in a container.
    pub direct: bool,
    /// Permissions of new files, less the process's mask.
    pub file_mode: u32,
    /// Permissions of new folders, less the process's mask.
    pub folder_mode: u32,
    /// User and group that root gives new files to; `None` for those of the root folder.
    pub owner: Option<(u32, u32)>,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            clock_stamp: None,
            durable: true,
            direct: false,
            file_mode: FILE_MODE,
            folder_mode: FOLDER_MODE,
            owner: None,
        }
    }
}

/// A repository's folder.
#[derive(Debug)]
pub struct LocalStore {
    root: PathBuf,
    layout: Layout,
    options: LocalOptions,
    ahead: OpenedAhead,
    last_page: LastPage,
    reads: DirectReads,
}

impl LocalStore {
    /// Opens the folder of a repository; writes nothing.
    ///
    /// Errors: `NoFolder`, `NotAFolder`, `Permission`, `MissingShards` (its code tells a repository
    /// without the file from a folder that is none), `CorruptShards`.
    pub fn open(root: &Path, options: LocalOptions) -> Result<Self, BlobError> {
        check_folder(root)?;
        Ok(Self::with_layout(root, Layout::read(root)?, options))
    }

    fn with_layout(root: &Path, layout: Layout, options: LocalOptions) -> Self {
        Self {
            root: root.to_owned(),
            layout,
            options,
            ahead: OpenedAhead::default(),
            last_page: LastPage::default(),
            reads: DirectReads::default(),
        }
    }

    /// Makes the folder of a new repository, with Kopia's default layout `[1,3]`.
    ///
    /// A folder that has a `.shards` file keeps it. One with a format blob but no `.shards` file is
    /// refused with `MissingShards`.
    pub fn create(root: &Path, options: LocalOptions) -> Result<Self, BlobError> {
        if !root.exists() {
            write::make_root(root)
                .map_err(|error| BlobError::io("create", root.display(), error))?;
        }
        check_folder(root)?;
        match Layout::read(root) {
            Err(BlobError::MissingShards {
                has_format_blob: false,
                ..
            }) => {
                let text = Layout::for_new_repositories();
                let source = &mut super::BytesSource::new(text);
                write::put_file(root, &root.join(SHARDS_FILE), source, false, &options)
                    .map_err(|error| BlobError::io("create", root.display(), error))?;
                Self::open(root, options)
            }
            Err(error) => Err(error),
            Ok(layout) => Ok(Self::with_layout(root, layout, options)),
        }
    }

    /// Returns where the file of a blob is.
    fn path(&self, id: &BlobId) -> Result<PathBuf, BlobError> {
        check_name(id)?;
        let mut path = self.root.clone();
        let mut escapes = false;
        let rest = self.layout.split(id.as_str().as_bytes(), |folder| {
            escapes |= folder == b"..";
            path.push(std::ffi::OsStr::from_bytes(folder));
        });
        if escapes {
            return Err(BlobError::InvalidName {
                id: id.to_string(),
                reason: "it would leave the folder",
            });
        }
        let mut name = std::ffi::OsStr::from_bytes(rest).to_owned();
        name.push(layout::SUFFIX);
        path.push(name);
        Ok(path)
    }
}

/// Tells apart what may be wrong with the folder.
fn check_folder(root: &Path) -> Result<(), BlobError> {
    let folder = root.to_owned();
    let described = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => BlobError::NoFolder {
            folder: folder.clone(),
        },
        io::ErrorKind::NotADirectory => BlobError::NotAFolder {
            folder: folder.clone(),
        },
        _ => BlobError::io("open", folder.display(), error),
    };
    if !fs::metadata(root).map_err(described)?.is_dir() {
        return Err(BlobError::NotAFolder { folder });
    }
    fs::read_dir(root).map_err(described)?;
    Ok(())
}

/// Turns an error at a blob's file into ours.
fn blob_error(operation: &'static str, id: &BlobId, error: io::Error) -> BlobError {
    match error.kind() {
        io::ErrorKind::NotFound => BlobError::not_found(id),
        io::ErrorKind::AlreadyExists => BlobError::AlreadyExists { id: id.clone() },
        _ => BlobError::io(operation, id, error),
    }
}

/// Refuses what a folder does not have.
fn check_options(id: &BlobId, options: &PutOptions) -> Result<(), BlobError> {
    match options.retention {
        None => Ok(()),
        Some(_) => Err(BlobError::Unsupported {
            operation: "put",
            id: id.to_string(),
            what: "retention",
        }),
    }
}

/// Turns an error of a put into ours.
fn put_error(root: &Path, id: &BlobId, create_only: bool, error: io::Error) -> BlobError {
    match error.kind() {
        io::ErrorKind::AlreadyExists if create_only => BlobError::AlreadyExists { id: id.clone() },
        // What is missing is not the blob but the root: unmounted, or deleted.
        io::ErrorKind::NotFound if !root.exists() => BlobError::NoFolder {
            folder: root.to_owned(),
        },
        _ => BlobError::io("put", id, error),
    }
}

/// Returns the metadata of the blob in `path`; `None` when it is not a regular file, or gone.
fn stat_blob(path: &Path, id: &BlobId) -> Result<Option<BlobMetadata>, BlobError> {
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(|error| blob_error("metadata", id, error))?,
    };
    if !found.is_file() {
        return Ok(None);
    }
    let modified = found
        .modified()
        .map_err(|error| blob_error("metadata", id, error))?;
    Ok(Some(BlobMetadata {
        id: id.clone(),
        length: found.len(),
        timestamp: modified.into(),
    }))
}

#[async_trait]
impl BlobStore for LocalStore {
    async fn get(&self, id: &BlobId, offset: u64, into: &mut [u8]) -> Result<usize, BlobError> {
        let ahead = self.ahead.take(id).filter(|_| offset == 0);
        // What was read ahead is in the page cache.
        let direct = self.options.direct && ahead.is_none() && into.len() >= DIRECT_READ_MIN;
        let file = match ahead {
            Some(file) => file,
            None => File::open(self.path(id)?).map_err(|error| blob_error("get", id, error))?,
        };
        let mut filled = 0;
        if direct {
            let read = self.reads.read(&file, offset, into);
            if let Some(count) = read.map_err(|error| blob_error("get", id, error))? {
                return Ok(count);
            }
        }
        while filled < into.len() {
            // Behind the largest offset there is nothing, and the system would call it an error.
            let end = offset.saturating_add(into.len() as u64);
            if i64::try_from(end).is_err() {
                break;
            }
            let position = offset + filled as u64;
            match file.read_at(&mut into[filled..], position) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(blob_error("get", id, error)),
            }
        }
        Ok(filled)
    }

    fn will_need(&self, ids: &[&BlobId]) {
        for id in ids {
            // What cannot be opened now is an error when it is read.
            let Ok(path) = self.path(id) else { continue };
            let Ok(file) = File::open(path) else { continue };
            self.ahead.put((*id).clone(), file);
        }
    }

    async fn metadata(&self, id: &BlobId) -> Result<BlobMetadata, BlobError> {
        stat_blob(&self.path(id)?, id)?.ok_or_else(|| BlobError::not_found(id))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BlobId>,
        limit: usize,
    ) -> Result<Vec<BlobMetadata>, BlobError> {
        check_limit(prefix, limit)?;
        list::list(
            &self.root,
            &self.layout,
            prefix,
            after,
            limit,
            &self.last_page,
        )
    }

    async fn scan(
        &self,
        prefix: &str,
        visit: &mut (dyn for<'a> FnMut(ScannedBlob<'a>) -> ControlFlow<()> + Send),
    ) -> Result<(), BlobError> {
        scan::scan(&self.root, &self.layout, prefix, visit)
    }

    async fn put(
        &self,
        id: &BlobId,
        source: &mut dyn BlobSource,
        options: &PutOptions,
    ) -> Result<Timestamp, BlobError> {
        check_options(id, options)?;
        let (path, create_only) = (self.path(id)?, options.create_only);
        write::put_file(&self.root, &path, source, create_only, &self.options)
            .map_err(|error| put_error(&self.root, id, create_only, error))
    }

    fn begin(
        &self,
        id: &BlobId,
        options: &PutOptions,
    ) -> Result<Option<Box<dyn OpenBlob>>, BlobError> {
        check_options(id, options)?;
        let blob = LocalOpenBlob::begin(id, &self.root, self.path(id)?, &self.options)?;
        Ok(Some(Box::new(blob)))
    }

    async fn delete(&self, id: &BlobId) -> Result<(), BlobError> {
        match fs::remove_file(self.path(id)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(blob_error("delete", id, error))
            }
            _ => Ok(()),
        }
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn waits(&self) -> bool {
        false
    }
}
