//! A blob that is written where it will be, without going through scratch.
//!
//! Its file has no name before it is whole and on the disk (`O_TMPFILE`): whoever is killed
//! meanwhile leaves nothing. Where the file system has no such files, it is a temporary one as that
//! of a put. Memory: that of a [`DirectWriter`].

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, OFlags, linkat};

use super::direct::DirectWriter;
use super::{LocalOptions, put_error, write};
use crate::blob::{BlobError, OpenBlob};
use crate::clock::Timestamp;
use crate::kopia::blob_id::BlobId;

/// Where a file without a name gets one from.
const OPEN_FILES: &str = "/proc/self/fd";

/// A blob whose bytes come one after the other.
#[derive(Debug)]
pub(super) struct LocalOpenBlob {
    id: BlobId,
    root: PathBuf,
    path: PathBuf,
    options: LocalOptions,
    /// `None` once it is finished.
    writer: Option<DirectWriter>,
    /// Its name so far, where it needs one.
    temporary: Option<PathBuf>,
}

impl LocalOpenBlob {
    /// Opens the file that will be at `path`, below `root`.
    pub(super) fn begin(
        id: &BlobId,
        root: &Path,
        path: PathBuf,
        options: &LocalOptions,
    ) -> Result<Self, BlobError> {
        let opened = match nameless(root, &path, options) {
            Some(file) => Ok((file, None)),
            None => {
                let temporary = write::temporary_path(&path);
                let create = || write::create(&temporary, options);
                write::in_folder(root, &path, options, create).map(|file| (file, Some(temporary)))
            }
        };
        let opened = opened.and_then(|(file, name)| Ok((DirectWriter::new(file)?, name)));
        let (writer, temporary) = opened.map_err(|error| put_error(root, id, true, error))?;
        Ok(Self {
            id: id.clone(),
            root: root.to_owned(),
            path,
            options: options.clone(),
            writer: Some(writer),
            temporary,
        })
    }

    fn error(&self, error: io::Error) -> BlobError {
        put_error(&self.root, &self.id, true, error)
    }

    fn show(&mut self) -> io::Result<Timestamp> {
        let writer = self.writer.take().ok_or(io::ErrorKind::NotConnected)?;
        let file = writer.finish()?;
        let timestamp = write::settle(&self.root, &file, &self.options)?;
        match &self.temporary {
            Some(temporary) => write::show(temporary, &self.path, true)?,
            None => {
                let open = format!("{OPEN_FILES}/{}", file.as_raw_fd());
                linkat(CWD, open, CWD, &self.path, AtFlags::SYMLINK_FOLLOW)?;
            }
        }
        self.temporary = None;
        if self.options.durable {
            write::sync_folder(self.path.parent().unwrap_or(&self.root))?;
        }
        Ok(timestamp)
    }
}

impl OpenBlob for LocalOpenBlob {
    fn write(&mut self, piece: &[u8]) -> Result<(), BlobError> {
        let writer = self.writer.as_mut().ok_or(io::ErrorKind::NotConnected);
        let written = writer.map_err(io::Error::from);
        written
            .and_then(|writer| writer.write(piece))
            .map_err(|error| self.error(error))
    }

    fn finish(mut self: Box<Self>) -> Result<Timestamp, BlobError> {
        self.show().map_err(|error| self.error(error))
    }
}

impl Drop for LocalOpenBlob {
    /// Best effort: what stays is a temporary file that nobody reads.
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

/// Opens a file without a name on the disk of `path`, where there can be one that gets a name
/// later.
fn nameless(root: &Path, path: &Path, options: &LocalOptions) -> Option<File> {
    if !Path::new(OPEN_FILES).is_dir() {
        return None;
    }
    let folder = path.parent().unwrap_or(root);
    let flags = OFlags::TMPFILE;
    let open = || {
        let mut file = OpenOptions::new();
        file.write(true).mode(options.file_mode);
        file.custom_flags(flags.bits().cast_signed()).open(folder)
    };
    write::in_folder(root, path, options, open).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(root: &Path, options: &LocalOptions) -> Box<LocalOpenBlob> {
        let path = root.join("p/abc/d.f");
        Box::new(LocalOpenBlob::begin(&BlobId::new("pabcd"), root, path, options).unwrap())
    }

    fn files(root: &Path) -> usize {
        fs::read_dir(root.join("p/abc")).unwrap().count()
    }

    /// Goal: nobody sees a blob that is not finished, and what is dropped leaves nothing.
    #[test]
    fn a_blob_is_shown_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let (root, options) = (folder.path(), LocalOptions::default());
        let mut open = blob(root, &options);
        let path = open.path.clone();
        let bytes: Vec<u8> = (0..3_000_001).map(|at| (at % 251) as u8).collect();
        for piece in bytes.chunks(700_001) {
            open.write(piece).unwrap();
            assert!(!path.exists());
        }
        if open.temporary.is_none() {
            assert_eq!(files(root), 0, "whoever is killed now leaves nothing");
        }
        let time = open.finish().unwrap();
        assert!(fs::read(&path).unwrap() == bytes);
        assert_eq!(
            Timestamp::from(fs::metadata(&path).unwrap().modified().unwrap()),
            time
        );
        let mut second = blob(root, &options);
        second.write(b"other").unwrap();
        let error = second.finish().unwrap_err();
        assert_eq!(error.code(), "blob-already-exists");
        drop(blob(root, &options));
        assert_eq!((files(root), fs::read(&path).unwrap() == bytes), (1, true));
    }

    /// Goal: the same where files without a name cannot be had.
    #[test]
    fn a_temporary_name_goes_with_the_blob() {
        let folder = tempfile::tempdir().unwrap();
        let (root, options) = (folder.path(), LocalOptions::default());
        let begin = || {
            let mut open = blob(root, &options);
            let temporary = write::temporary_path(&open.path);
            let file = write::create(&temporary, &options).unwrap();
            open.writer = Some(DirectWriter::new(file).unwrap());
            open.temporary = Some(temporary);
            open
        };
        let mut open = begin();
        open.write(b"some bytes").unwrap();
        assert_eq!(files(root), 1);
        drop(open);
        assert_eq!(files(root), 0);
        let mut open = begin();
        open.write(b"some bytes").unwrap();
        let path = open.path.clone();
        open.finish().unwrap();
        assert_eq!(
            (files(root), fs::read(path).unwrap()),
            (1, b"some bytes".to_vec())
        );
        begin().finish().unwrap_err();
        assert_eq!(files(root), 1);
    }
}
