//! A folder that changes as the seed says: new, changed and removed files, the same content in many
//! places, content that comes back after it was gone.
//!
//! The pool of contents is small, so that clients find again what maintenance is about to delete.
//! Memory: one file.

use std::fs;
use std::path::{Path, PathBuf};

use careen::clock::SeededRandomness;
use tempfile::TempDir;

/// Contents of files that there are.
const POOL: u64 = 40;

/// Files of a tree.
const FILES: u64 = 24;

/// A folder.
pub(super) struct Tree {
    dir: TempDir,
    random: SeededRandomness,
}

impl Tree {
    pub(super) fn new(seed: u64) -> Self {
        let tree = Self {
            dir: tempfile::tempdir().unwrap(),
            random: SeededRandomness::new(seed),
        };
        for _ in 0..FILES {
            tree.change_file();
        }
        tree
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Changes some files.
    pub(super) fn change(&self) {
        for _ in 0..4 + self.random.next_u64() % 6 {
            self.change_file();
        }
    }

    fn file(&self, number: u64) -> PathBuf {
        self.path()
            .join(format!("d{}/e{}/f{number}", number % 3, number % 2))
    }

    fn change_file(&self) {
        let [number, content, gone] = [(); 3].map(|()| self.random.next_u64());
        let path = self.file(number % FILES);
        if gone.is_multiple_of(5) {
            fs::remove_file(path).ok();
            return;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes(content % POOL)).unwrap();
    }

    /// Adds a file that no pool has, of so many MiB that differ, so that a snapshot takes a while.
    pub(super) fn grow(&self, mebibytes: u64) {
        let seed = self.random.next_u64();
        let piece = |number: u64| {
            let mut piece = vec![0; 1 << 20];
            piece[..8].copy_from_slice(&seed.wrapping_add(number).to_le_bytes());
            piece
        };
        let bytes: Vec<u8> = (0..mebibytes).flat_map(piece).collect();
        fs::write(self.path().join("large"), bytes).unwrap();
    }

    /// Removes it again.
    pub(super) fn shrink(&self) {
        fs::remove_file(self.path().join("large")).unwrap();
    }
}

/// Returns content `number`: its length and its bytes follow from it.
fn bytes(number: u64) -> Vec<u8> {
    let random = SeededRandomness::new(number + 1);
    let length = match number % 8 {
        0 => 3,
        1 => 150_000,
        2 => 2_300_000,
        _ => 400 + number as usize * 311,
    };
    let words = (0..length / 8 + 1).flat_map(|_| random.next_u64().to_le_bytes());
    words.take(length).collect()
}
