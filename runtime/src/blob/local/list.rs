//! One page of blobs in exact order of their IDs, from folders that have no order.
//!
//! A priority queue holds the next names of every open folder. A folder stands in it with the
//! beginning of its IDs, which is below all of them; when it comes to the front it is opened and
//! its own names join. So the order is exact for any layout, even when `p`, `pab` and files of the
//! root interleave. Of a folder only the smallest [`WINDOW_NAMES`] that are still to come are kept;
//! it is read again when they are used up. The walk is kept from page to page, so that the next page
//! goes on where the last one ended. Memory: [`WINDOW_NAMES`] names for each level of folders, at
//! most 2 MiB each, however many blobs there are. Time: a flat folder of n blobs costs n / 16,384
//! readings of n names.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::layout::{Layout, SUFFIX};
use super::scan::{folder_error, is_shadowed, may_hold, open_folder, stem};
use super::stat_blob;
use crate::blob::{BlobError, BlobMetadata};
use crate::kopia::blob_id::BlobId;

/// Names of one folder that are held at a time.
const WINDOW_NAMES: usize = 16_384;

/// The walk of the last page, which the next page may go on with.
#[derive(Debug, Default)]
pub(super) struct LastPage(Mutex<Option<(BlobId, SortedWalk)>>);

impl LastPage {
    /// Gives out the walk if it stands behind `after` and has the same prefix.
    fn take(&self, prefix: &str, after: Option<&BlobId>) -> Option<SortedWalk> {
        let mut last = self.0.lock().ok()?;
        let fits = |(end, walk): &(BlobId, SortedWalk)| {
            after == Some(end) && walk.prefix == prefix.as_bytes()
        };
        last.take_if(|last| fits(last)).map(|(_, walk)| walk)
    }

    fn put(&self, end: BlobId, walk: SortedWalk) {
        if let Ok(mut last) = self.0.lock() {
            *last = Some((end, walk));
        }
    }
}

/// Lists the first `limit` blobs under `prefix` behind `after`.
pub(super) fn list(
    root: &Path,
    layout: &Layout,
    prefix: &str,
    after: Option<&BlobId>,
    limit: usize,
    last_page: &LastPage,
) -> Result<Vec<BlobMetadata>, BlobError> {
    let mut page: Vec<BlobMetadata> = Vec::new();
    if limit == 0 {
        return Ok(page);
    }
    let mut walk = match last_page.take(prefix, after) {
        Some(walk) => walk,
        None => {
            let after = after.map(|id| id.as_str().as_bytes());
            SortedWalk::new(root, prefix.as_bytes(), after, WINDOW_NAMES)?
        }
    };
    while page.len() < limit {
        let Some(found) = walk.next()? else {
            break;
        };
        let Ok(id) = String::from_utf8(found.id) else {
            continue;
        };
        let is_double = page.last().is_some_and(|last| last.id.as_str() == id);
        if is_double || is_shadowed(root, layout, &found.folders, &id) {
            continue;
        }
        if let Some(blob) = stat_blob(&found.path, &BlobId::new(id))? {
            page.push(blob);
        }
    }
    if let Some(last) = page.last().filter(|_| page.len() == limit) {
        last_page.put(last.id.clone(), walk);
    }
    Ok(page)
}

/// What a name in a folder is. A file comes before the folder of the same name, whose IDs are
/// longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    File,
    Folder,
}

/// A name, by the ID it stands for: of the file, or the beginning of all IDs in the folder.
type Key = (Vec<u8>, Kind);

#[derive(Debug)]
struct OpenFolder {
    path: PathBuf,
    /// The same below the root, with a slash after each name.
    folders: Vec<u8>,
    /// The beginning of all IDs in it.
    id: Vec<u8>,
    depth: usize,
    /// Names of it in the queue.
    waiting: usize,
    /// The last name in the queue, when more are to come behind it.
    more_behind: Option<Key>,
}

/// A blob's file, in the order of IDs.
struct Found {
    id: Vec<u8>,
    path: PathBuf,
    folders: Vec<u8>,
}

#[derive(Debug)]
struct SortedWalk {
    prefix: Vec<u8>,
    after: Option<Vec<u8>>,
    window: usize,
    queue: BinaryHeap<Reverse<(Key, usize)>>,
    /// Open folders by number; `None` is free for the next one.
    open: Vec<Option<OpenFolder>>,
}

impl SortedWalk {
    fn new(
        root: &Path,
        prefix: &[u8],
        after: Option<&[u8]>,
        window: usize,
    ) -> Result<Self, BlobError> {
        let mut walk = Self {
            prefix: prefix.to_vec(),
            after: after.map(<[u8]>::to_vec),
            window,
            queue: BinaryHeap::new(),
            open: Vec::new(),
        };
        walk.read_on(OpenFolder {
            path: root.to_owned(),
            folders: Vec::new(),
            id: Vec::new(),
            depth: 0,
            waiting: 0,
            more_behind: None,
        })?;
        Ok(walk)
    }

    fn next(&mut self) -> Result<Option<Found>, BlobError> {
        while let Some(Reverse(((id, kind), number))) = self.queue.pop() {
            let mut folder = self.open[number]
                .take()
                .expect("a folder stays open while names of it wait");
            folder.waiting -= 1;
            let name = &id[folder.id.len()..];
            let mut path = folder.path.join(std::ffi::OsStr::from_bytes(name));
            let mut folders = folder.folders.clone();
            if kind == Kind::Folder {
                folders.extend_from_slice(name);
                folders.push(b'/');
            }
            let depth = folder.depth + 1;
            if folder.waiting > 0 {
                self.open[number] = Some(folder);
            } else if folder.more_behind.is_some() {
                // Before anything else: its next name may be the smallest of all.
                self.read_on(folder)?;
            }
            if kind == Kind::File {
                path.as_mut_os_string().push(SUFFIX);
                return Ok(Some(Found { id, path, folders }));
            }
            self.read_on(OpenFolder {
                path,
                folders,
                id,
                depth,
                waiting: 0,
                more_behind: None,
            })?;
        }
        Ok(None)
    }

    /// Puts the next names of a folder into the queue.
    fn read_on(&mut self, mut folder: OpenFolder) -> Result<(), BlobError> {
        let Some(entries) = open_folder(&folder.path, folder.depth)? else {
            return Ok(());
        };
        let behind = folder.more_behind.take();
        let mut smallest: BinaryHeap<Key> = BinaryHeap::new();
        let mut is_cut = false;
        let mut id = folder.id.clone();
        for entry in entries {
            let entry = entry.map_err(|error| folder_error(&folder.path, error))?;
            id.truncate(folder.id.len());
            let Some(kind) = self.wanted(&entry, &mut id, &folder.path)? else {
                continue;
            };
            let key = (id.as_slice(), kind);
            if behind.as_ref().is_some_and(|(id, kind)| key <= (id, *kind)) {
                continue;
            }
            if smallest.len() == self.window {
                is_cut = true;
                let greatest = smallest.peek();
                if greatest.is_some_and(|(id, kind)| key >= (id, *kind)) {
                    continue;
                }
                smallest.pop();
            }
            smallest.push((id.clone(), kind));
        }
        if smallest.is_empty() {
            return Ok(());
        }
        folder.waiting = smallest.len();
        folder.more_behind = smallest.peek().filter(|_| is_cut).cloned();
        let free = self.open.iter().position(Option::is_none);
        let number = free.unwrap_or(self.open.len());
        self.queue
            .extend(smallest.into_iter().map(|key| Reverse((key, number))));
        match self.open.get_mut(number) {
            Some(slot) => *slot = Some(folder),
            None => self.open.push(Some(folder)),
        }
        Ok(())
    }

    /// Completes `id` with the entry's name; `None` when no blob of this page can come of it.
    fn wanted(
        &self,
        entry: &fs::DirEntry,
        id: &mut Vec<u8>,
        path: &Path,
    ) -> Result<Option<Kind>, BlobError> {
        let name = entry.file_name();
        let name = name.as_bytes();
        let start = id.len();
        let kind = entry
            .file_type()
            .map_err(|error| folder_error(path, error))?;
        if kind.is_dir() {
            id.extend_from_slice(name);
            let is_behind = |after: &[u8]| id.as_slice() > after || after.starts_with(id);
            let wanted = may_hold(id, &self.prefix) && self.after.as_deref().is_none_or(is_behind);
            return Ok(wanted.then_some(Kind::Folder));
        }
        let Some(stem) = stem(name).filter(|_| kind.is_file() || kind.is_symlink()) else {
            return Ok(None);
        };
        id.truncate(start);
        id.extend_from_slice(stem);
        let wanted = id.starts_with(&self.prefix)
            && self
                .after
                .as_deref()
                .is_none_or(|after| id.as_slice() > after);
        Ok(wanted.then_some(Kind::File))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn folders_that_are_done_are_forgotten() {
        // Goal: memory follows the nesting of folders, not their number.
        let root = tempfile::tempdir().unwrap();
        for number in 0..300 {
            let folder = root.path().join(format!("p/{number:03}"));
            fs::create_dir_all(&folder).unwrap();
            if number % 3 > 0 {
                fs::write(folder.join("a.f"), "").unwrap();
                fs::write(folder.join("b.f"), "").unwrap();
            }
        }
        let mut walk = SortedWalk::new(root.path(), b"p", None, WINDOW_NAMES).unwrap();
        let mut files = 0;
        while walk.next().unwrap().is_some() {
            files += 1;
            assert!(walk.open.len() <= 3);
        }
        assert_eq!(files, 400);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// However few names of a folder are held, the walk gives every file in order.
        #[test]
        fn small_windows_change_nothing(
            files in prop::collection::btree_map("[ab]{1,6}", "[ab]?/?[ab]?/?", 0..40),
            window in 1_usize..5,
            prefix in "[ab]{0,2}",
            after in prop::option::of("[ab]{1,4}"),
        ) {
            let root = tempfile::tempdir().unwrap();
            let mut expected = Vec::new();
            for (name, folders) in &files {
                let folders = folders.trim_start_matches('/');
                let file = format!("{folders}/./{name}.f");
                let path = root.path().join(file.trim_start_matches('/'));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
                let id = format!("{}{name}", folders.replace('/', ""));
                if id.starts_with(&prefix) && after.as_ref().is_none_or(|after| id > *after) {
                    expected.push(id);
                }
            }
            expected.sort();
            let after = after.as_ref().map(String::as_bytes);
            let mut walk =
                SortedWalk::new(root.path(), prefix.as_bytes(), after, window).unwrap();
            let mut found = Vec::new();
            while let Some(next) = walk.next().unwrap() {
                prop_assert!(walk.queue.len() <= walk.open.len() * window);
                found.push(String::from_utf8(next.id).unwrap());
            }
            prop_assert_eq!(found, expected);
            prop_assert!(walk.open.iter().all(Option::is_none));
        }
    }
}
