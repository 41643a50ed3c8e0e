//! A repository in a folder: is it there, may this user read and write it, is there room.
//!
//! No memory cost.

use std::path::Path;

use bytesize::ByteSize;

use super::{Ended, Walk};
use crate::maintenance::diagnosis::Finding;

/// Room below which a disk counts as full: some packs.
const ROOM_BYTES_MIN: u64 = 256 << 20;

/// Looks at the folder.
pub(super) fn look(walk: &mut Walk<'_>, path: &Path) -> Result<(), Ended> {
    let check = "folder";
    let shown = path.display();
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            let next = "check the path, and that the disk or volume is mounted here";
            let finding = Finding::error(check, "no-folder", format!("{shown}: {error}"), next);
            return Err(walk.end(&finding));
        }
    };
    if !metadata.is_dir() {
        let next = "give the repository's directory; Kopia's config file goes to --config";
        let finding = Finding::error(check, "not-a-folder", format!("{shown} is a file"), next);
        return Err(walk.end(&finding));
    }
    let may = |access| rustix::fs::access(path, access).is_ok();
    use rustix::fs::Access;
    if !may(Access::READ_OK | Access::EXEC_OK) {
        let next = "run as the user that Kopia runs as, or let this user read the directory";
        let what = format!("this user may not read {shown}");
        return Err(walk.end(&Finding::error(check, "storage-permission", what, next)));
    }
    walk.tell(&Finding::ok(check, shown.to_string()));
    if !may(Access::WRITE_OK) {
        let next = "run as the user that Kopia runs as, or mount the disk writable";
        let what = format!("this user may not write to {shown}: only looking will work");
        walk.tell(&Finding::error(
            "permissions",
            "storage-permission",
            what,
            next,
        ));
    }
    if let Ok(disk) = rustix::fs::statvfs(path) {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let what = format!("{} are free", ByteSize(free));
        walk.tell(&if free < ROOM_BYTES_MIN {
            let next = "new packs are written before old ones go: make room first";
            Finding::warning("room", "disk-full", what, next)
        } else {
            Finding::ok("room", what)
        });
    }
    Ok(())
}
