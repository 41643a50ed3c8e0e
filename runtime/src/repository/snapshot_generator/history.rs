//! The made-up backups behind the generator: which file has which version in which snapshot, with
//! which bytes, and when everything was written.
//!
//! A pure function of the options, computed where it is needed: a file's version in the tenth
//! snapshot is known without the nine before it. That is how nothing has to be remembered. A
//! version has the number of the snapshot that saw it first. No memory cost.

use std::time::Duration;

use super::SnapshotOptions;
use crate::clock::Timestamp;
use crate::repository::index_generator::mixed;

/// Time between two snapshots, and from the last one to the deletion of the first.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// In how much time all sessions of a snapshot begin.
const SNAPSHOT_TIME: Duration = Duration::from_secs(12 * 60 * 60);

/// Most directories of a directory.
const GROUP_DIRECTORIES: u32 = 1_000;

/// The made-up history.
#[derive(Clone, Copy, Debug)]
pub(super) struct History {
    pub(super) options: SnapshotOptions,
    seed: u64,
}

/// One version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// First snapshot that has it.
    pub(super) version: u32,
    /// Its bytes.
    pub(super) length: usize,
    random: u64,
}

impl History {
    pub(super) fn new(options: &SnapshotOptions) -> Self {
        Self {
            options: *options,
            seed: mixed(options.seed),
        }
    }

    /// Returns the first snapshot that is not deleted; one more than the last when all are.
    pub(super) fn first_kept(&self) -> u32 {
        self.options.deleted
    }

    /// Returns whether snapshot `number` is deleted at the end.
    pub(super) fn is_deleted(&self, number: u32) -> bool {
        number < self.first_kept()
    }

    /// Returns the groups of directories, each a directory of its own unless there is only one.
    pub(super) fn groups(&self) -> impl Iterator<Item = std::ops::Range<u32>> + use<> {
        let directories = self.options.directories;
        (0..directories.div_ceil(GROUP_DIRECTORIES)).map(move |group| {
            let start = group * GROUP_DIRECTORIES;
            start..directories.min(start.saturating_add(GROUP_DIRECTORIES))
        })
    }

    /// Returns the sessions that snapshot `number` is written in: at least one; the first snapshot
    /// writes everything, the others what has changed, and has so many more.
    pub(super) fn sessions(&self, number: u32) -> u32 {
        let weight = |number| match number {
            0 => 100,
            _ => u64::from(self.options.changed_percent),
        };
        let all = weight(0) + weight(1) * u64::from(self.options.snapshots - 1);
        let up_to = |weight: u64| weight * u64::from(self.options.sessions) / all;
        let before = match number {
            0 => 0,
            _ => weight(0) + weight(1) * u64::from(number - 1),
        };
        let sessions = up_to(before + weight(number)) - up_to(before);
        u32::try_from(sessions).unwrap_or(u32::MAX).max(1)
    }

    /// Returns the session of its snapshot that directory `directory` is written in.
    pub(super) fn session_of(&self, number: u32, directory: u32) -> u32 {
        let sessions = u64::from(self.sessions(number));
        (u64::from(directory) * sessions / u64::from(self.options.directories)) as u32 // below it
    }

    /// Returns when session `session` of snapshot `number` is: one snapshot a day, the last one
    /// two days ago.
    pub(super) fn time(&self, number: u32, session: u32) -> Timestamp {
        let ago = DAY * (self.options.snapshots - number + 1);
        let since = SNAPSHOT_TIME / self.sessions(number) * session;
        Timestamp::from_seconds(self.options.now.minus(ago).plus(since).seconds())
    }

    /// Returns when snapshots were deleted: a day ago.
    pub(super) fn deletion_time(&self) -> Timestamp {
        Timestamp::from_seconds(self.options.now.minus(DAY).seconds())
    }

    /// Returns the ID of the manifest of snapshot `number`.
    pub(super) fn manifest_id(&self, number: u32) -> String {
        let random = |salt| self.random(&[salt, u64::from(number)]);
        format!("{:016x}{:016x}", random(1), random(2))
    }

    /// Returns whether a file changed between snapshot `number` and the one before it.
    fn changed(&self, number: u32, directory: u32, file: u32) -> bool {
        let numbers = [3, u64::from(number), u64::from(directory), u64::from(file)];
        number == 0 || self.random(&numbers) % 100 < u64::from(self.options.changed_percent)
    }

    /// Returns a file as snapshot `number` has it.
    pub(super) fn file(&self, number: u32, directory: u32, file: u32) -> File {
        let versions = (0..=number).rev();
        let mut versions = versions.filter(|version| self.changed(*version, directory, file));
        let version = versions.next().unwrap_or(0);
        let numbers = [4, u64::from(version), u64::from(directory), u64::from(file)];
        let random = self.random(&numbers);
        let least = self.options.file_bytes / 2;
        let length = least + (random >> 32) as u32 % self.options.file_bytes.max(1);
        File {
            version,
            length: length as usize,
            random,
        }
    }

    /// Returns whether a snapshot that is kept has the version `version` of a file.
    pub(super) fn is_kept(&self, version: u32, directory: u32, file: u32) -> bool {
        let (first, snapshots) = (self.first_kept(), self.options.snapshots);
        let kept = |number: u32| self.file(number, directory, file).version == version;
        first < snapshots && (version >= first || kept(first))
    }

    fn random(&self, numbers: &[u64]) -> u64 {
        let mix = |state, number: &u64| mixed(state ^ mixed(*number));
        numbers.iter().fold(self.seed, mix)
    }
}

impl File {
    /// Returns the hash of a file whose bytes are nowhere.
    pub(super) fn made_up_hash(&self) -> [u8; 16] {
        let mut hash = [0; 16];
        hash[..8].copy_from_slice(&self.random.to_be_bytes());
        hash[8..].copy_from_slice(&mixed(!self.random).to_be_bytes());
        hash
    }

    /// Puts the file's bytes into `out`; no two files have the same.
    pub(super) fn fill(&self, out: &mut Vec<u8>) {
        out.clear();
        let mut word = self.random;
        while out.len() < self.length {
            out.extend_from_slice(&word.to_le_bytes());
            word = mixed(word);
        }
        out.truncate(self.length);
    }
}
