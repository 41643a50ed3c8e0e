//! Files that were opened ahead of their reading, with a hint to the kernel to read them ahead too.
//!
//! On a cold disk the first read of a small file waits for its inode and for its bytes. With some
//! files open ahead the disk works while others are decoded. Memory: at most [`OPEN_MAX`] files;
//! what nobody comes for is closed when newer ones take its place.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Mutex;

use crate::kopia::blob_id::BlobId;

/// Files that are open at a time: what an index load knows ahead, and a batch for each of two
/// workers.
const OPEN_MAX: usize = 64;

/// Opened files by blob, the oldest first.
#[derive(Debug, Default)]
pub(super) struct OpenedAhead(Mutex<VecDeque<(BlobId, File)>>);

impl OpenedAhead {
    /// Keeps an opened file.
    pub(super) fn put(&self, id: BlobId, file: File) {
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::WillNeed);
        if let Ok(mut files) = self.0.lock() {
            if files.len() == OPEN_MAX {
                files.pop_front();
            }
            files.push_back((id, file));
        }
    }

    /// Gives out the file of a blob, once.
    pub(super) fn take(&self, id: &BlobId) -> Option<File> {
        let mut files = self.0.lock().ok()?;
        let at = files.iter().position(|(opened, _)| opened == id)?;
        files.remove(at).map(|(_, file)| file)
    }
}
