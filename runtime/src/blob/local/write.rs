//! Puts a file whole and durable, or not at all.
//!
//! The bytes go to `NAME.f.tmp.<16 hex>` beside the place, and to the disk; then one rename makes
//! them visible, and the folder's entry goes to the disk too. A crash at any point leaves the old
//! file or the new one, and at most a temporary file that no reader looks at. Memory: 64 KiB.
//! Mirrors Kopia's `PutBlobInPath`, and adds the syncs of folders.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::LocalOptions;
use super::direct::{DIRECT_BYTES_MIN, DirectWriter};
use crate::blob::{BlobSource, copy_source};
use crate::clock::{Randomness, SystemRandomness, Timestamp};

/// Permissions of Kopia's files.
pub(super) const FILE_MODE: u32 = 0o600;

/// Permissions of Kopia's folders.
pub(super) const FOLDER_MODE: u32 = 0o700;

/// Makes the root folder of a new repository, and those above it.
pub(super) fn make_root(root: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(root)
}

/// Puts `source` into `path`, which is below `root`; returns the file's time.
///
/// `NotFound` means that `root` is gone; it is never made anew, as it may be a mount point.
pub(super) fn put_file(
    root: &Path,
    path: &Path,
    source: &mut dyn BlobSource,
    create_only: bool,
    options: &LocalOptions,
) -> io::Result<Timestamp> {
    let temporary = temporary_path(path);
    let file = in_folder(root, path, options, || create(&temporary, options))?;
    let written = fill(root, file, source, options).and_then(|timestamp| {
        show(&temporary, path, create_only)?;
        Ok(timestamp)
    });
    if written.is_err() {
        // Best effort: what stays is a temporary file that nobody reads.
        let _ = fs::remove_file(&temporary);
    }
    let timestamp = written?;
    if options.durable {
        sync_folder(path.parent().unwrap_or(root))?;
    }
    Ok(timestamp)
}

/// Opens a file beside `path`; makes the folders up to it if they are not there.
pub(super) fn in_folder(
    root: &Path,
    path: &Path,
    options: &LocalOptions,
    open: impl Fn() -> io::Result<File>,
) -> io::Result<File> {
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_folders(root, path, options)?;
            open()
        }
        result => result,
    }
}

pub(super) fn temporary_path(path: &Path) -> PathBuf {
    let mut random = [0; 8];
    SystemRandomness.fill(&mut random);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".tmp.{}", hex::encode(random)));
    PathBuf::from(name)
}

pub(super) fn create(path: &Path, options: &LocalOptions) -> io::Result<File> {
    let mut file = OpenOptions::new();
    file.write(true).create_new(true).mode(options.file_mode);
    file.open(path)
}

/// Writes the bytes and settles the file.
fn fill(
    root: &Path,
    mut file: File,
    source: &mut dyn BlobSource,
    options: &LocalOptions,
) -> io::Result<Timestamp> {
    if source.len() >= DIRECT_BYTES_MIN {
        let mut writer = DirectWriter::new(file)?;
        copy_source(source, |piece| writer.write(piece))?;
        file = writer.finish()?;
    } else {
        copy_source(source, |piece| file.write_all(piece))?;
    }
    settle(root, &file, options)
}

/// Gives a written file its owner and its time, and brings it to the disk.
pub(super) fn settle(root: &Path, file: &File, options: &LocalOptions) -> io::Result<Timestamp> {
    give_to_owner(root, file, options.owner)?;
    if let Some(clock) = &options.clock_stamp {
        file.set_modified(clock.now().into())?;
    }
    if options.durable {
        file.sync_all()?;
    }
    Ok(file.metadata()?.modified()?.into())
}

/// Gives a file or folder that root has made to `owner`, else to that of the repository's root
/// folder: a client of that user could not read it otherwise. Not root, or root's own folder:
/// nothing to do.
fn give_to_owner(root: &Path, made: &File, owner: Option<(u32, u32)>) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let own = made.metadata()?;
    if own.uid() != 0 {
        return Ok(());
    }
    let (user, group) = match owner {
        Some(owner) => owner,
        None => {
            let root = fs::metadata(root)?;
            (root.uid(), root.gid())
        }
    };
    if (user, group) == (own.uid(), own.gid()) {
        return Ok(());
    }
    fchown(made, Some(user), Some(group))
}

/// Moves the finished file to its place.
pub(super) fn show(temporary: &Path, path: &Path, create_only: bool) -> io::Result<()> {
    if !create_only {
        return fs::rename(temporary, path);
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
            // Not every file system can; a link can then.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            result => return result.map_err(io::Error::from),
        }
    }
    fs::hard_link(temporary, path)?;
    fs::remove_file(temporary)
}

/// Makes the folders between `root` and `path`.
///
/// They belong to the root folder's owner: Kopia gives only files to another one.
fn make_folders(root: &Path, path: &Path, options: &LocalOptions) -> io::Result<()> {
    let durable = options.durable;
    let below = path
        .parent()
        .and_then(|folder| folder.strip_prefix(root).ok());
    let mut folder = root.to_owned();
    for name in below.into_iter().flat_map(Path::components) {
        let above = folder.clone();
        folder.push(name);
        match DirBuilder::new().mode(options.folder_mode).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) => {
                give_to_owner(root, &File::open(&folder)?, None)?;
                if durable {
                    sync_folder(&above)?;
                }
            }
            // One that is there may have been made just now by another put, which has not synced it
            // yet.
            _ if durable => sync_folder(&above)?,
            _ => {}
        }
    }
    Ok(())
}

/// Brings the names in a folder to the disk, where the file system has that.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}
