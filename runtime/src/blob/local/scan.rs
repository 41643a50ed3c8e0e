//! Shows every blob in the order of the folders themselves: the cheapest, and without a `stat` a
//! file.
//!
//! One open folder a level, names as they come. Memory is constant. A blob that is not where the
//! layout has it is shown all the same (Kopia lists it too, and a get will say that it is not
//! there), except when there is one at the right place: then that one counts. (Two copies, both
//! misplaced, are shown twice.) Folders whose blobs cannot begin with the prefix are never opened.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};

use super::layout::{Layout, SUFFIX};
use super::{FOLDER_DEPTH_MAX, stat_blob};
use crate::blob::{BlobError, ScannedBlob};
use crate::kopia::blob_id::BlobId;

/// The file system's own folder in the root of a disk: only the superuser may look into it.
const FOREIGN_FOLDER: &[u8] = b"lost+found";

type Visit<'v> = &'v mut (dyn for<'a> FnMut(ScannedBlob<'a>) -> ControlFlow<()> + Send);

/// Shows every blob below `root` whose ID starts with `prefix`.
pub(super) fn scan(
    root: &Path,
    layout: &Layout,
    prefix: &str,
    visit: Visit<'_>,
) -> Result<(), BlobError> {
    let mut scan = Scan {
        root,
        layout,
        prefix: prefix.as_bytes(),
        visit,
        path: root.to_owned(),
        folders: Vec::new(),
        id: Vec::new(),
    };
    scan.folder(0).map(|_| ())
}

struct Scan<'s> {
    root: &'s Path,
    layout: &'s Layout,
    prefix: &'s [u8],
    visit: Visit<'s>,
    /// The open folder.
    path: PathBuf,
    /// The same below the root, with a slash after each name.
    folders: Vec<u8>,
    /// The beginning of all IDs in it.
    id: Vec<u8>,
}

impl Scan<'_> {
    fn folder(&mut self, depth: usize) -> Result<ControlFlow<()>, BlobError> {
        let Some(entries) = open_folder(&self.path, depth)? else {
            return Ok(ControlFlow::Continue(()));
        };
        for entry in entries {
            let entry = entry.map_err(|error| folder_error(&self.path, error))?;
            let kind = entry
                .file_type()
                .map_err(|error| folder_error(&self.path, error))?;
            let name = entry.file_name();
            let name = name.as_bytes();
            let flow = if kind.is_dir() {
                self.enter(name, depth)?
            } else if kind.is_file() || kind.is_symlink() {
                self.file(name, entry.ino(), kind.is_symlink())?
            } else {
                ControlFlow::Continue(())
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn enter(&mut self, name: &[u8], depth: usize) -> Result<ControlFlow<()>, BlobError> {
        let (id_bytes, folders_bytes) = (self.id.len(), self.folders.len());
        self.id.extend_from_slice(name);
        let mut flow = ControlFlow::Continue(());
        if may_hold(&self.id, self.prefix) {
            self.folders.extend_from_slice(name);
            self.folders.push(b'/');
            self.path.push(std::ffi::OsStr::from_bytes(name));
            flow = self.folder(depth + 1)?;
            self.path.pop();
        }
        self.id.truncate(id_bytes);
        self.folders.truncate(folders_bytes);
        Ok(flow)
    }

    fn file(
        &mut self,
        name: &[u8],
        inode: u64,
        is_link: bool,
    ) -> Result<ControlFlow<()>, BlobError> {
        let Some(stem) = stem(name) else {
            return Ok(ControlFlow::Continue(()));
        };
        let id_bytes = self.id.len();
        self.id.extend_from_slice(stem);
        let flow = self.blob(name, inode, is_link);
        self.id.truncate(id_bytes);
        flow
    }

    fn blob(
        &mut self,
        name: &[u8],
        inode: u64,
        is_link: bool,
    ) -> Result<ControlFlow<()>, BlobError> {
        // Kopia's names are ASCII; others are foreign files.
        let Ok(id) = std::str::from_utf8(&self.id) else {
            return Ok(ControlFlow::Continue(()));
        };
        let skip = !self.id.starts_with(self.prefix)
            || is_shadowed(self.root, self.layout, &self.folders, id)
            || (is_link
                && stat_blob(
                    &self.path.join(std::ffi::OsStr::from_bytes(name)),
                    &BlobId::new(id),
                )?
                .is_none());
        if skip {
            return Ok(ControlFlow::Continue(()));
        }
        Ok((self.visit)(ScannedBlob {
            id,
            stored: None,
            locality: inode,
        }))
    }
}

/// Opens a folder; `None` when one below the root has vanished.
pub(super) fn open_folder(path: &Path, depth: usize) -> Result<Option<fs::ReadDir>, BlobError> {
    if depth > FOLDER_DEPTH_MAX {
        let reason = format!("folders nest deeper than {FOLDER_DEPTH_MAX}");
        return Err(folder_error(path, io::Error::other(reason)));
    }
    match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(BlobError::NoFolder {
            folder: path.to_owned(),
        }),
        result => result.map(Some).map_err(|error| folder_error(path, error)),
    }
}

pub(super) fn folder_error(path: &Path, error: io::Error) -> BlobError {
    BlobError::io("list", path.display(), error)
}

/// Returns the file name without `.f`; `None` for files that are no blobs.
pub(super) fn stem(name: &[u8]) -> Option<&[u8]> {
    name.strip_suffix(SUFFIX.as_bytes())
        .filter(|stem| !stem.is_empty())
}

/// Tells whether IDs that begin with `folder` may begin with `prefix`.
pub(super) fn may_hold(folder: &[u8], prefix: &[u8]) -> bool {
    (folder.starts_with(prefix) || prefix.starts_with(folder)) && folder != FOREIGN_FOLDER
}

/// Tells whether a blob found in `folders` is not where a get looks for it, while another one is.
pub(super) fn is_shadowed(root: &Path, layout: &Layout, folders: &[u8], id: &str) -> bool {
    if layout.holds(folders, id.as_bytes()) {
        return false;
    }
    let mut path = root.to_owned();
    let rest = layout.split(id.as_bytes(), |folder| {
        path.push(std::ffi::OsStr::from_bytes(folder));
    });
    let mut name = std::ffi::OsStr::from_bytes(rest).to_owned();
    name.push(SUFFIX);
    path.push(name);
    path.is_file()
}
