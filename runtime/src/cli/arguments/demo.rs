//! What `careen demo` can be asked, with the help that people read.
//!
//! The demo has two parts, each with a repository of its own: an index to be compacted, whose data
//! is not there, and backups to be maintained. Options of one part leave the other out, and so does
//! `--keep`, which keeps one repository. No memory cost.

use std::path::PathBuf;

use clap::Args;

use crate::cli::error::CliError;
use crate::cli::wording::count;
use crate::kopia::index_builder::ENTRY_COUNT_MAX;
use crate::repository::snapshot_generator::{DIRECTORIES, FILE_BYTES, FILES, SNAPSHOTS};

/// Options of `demo`.
#[derive(Clone, Debug, Args)]
#[command(after_help = DEMO_HELP)]
pub(in crate::cli) struct DemoArguments {
    /// The index.
    #[command(flatten)]
    pub(in crate::cli) index: IndexArguments,
    /// The backups.
    #[command(flatten)]
    pub(in crate::cli) backups: BackupArguments,
    /// Seed of the contents: the same seed makes the same entries
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(in crate::cli) seed: u64,
    /// Make the repository in this directory, which must be empty or new, and leave it there
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) keep: Option<PathBuf>,
    /// Only make the repository
    #[arg(long, requires = "keep")]
    pub(in crate::cli) no_run: bool,
    /// Do not run Kopia for comparison, even if there is one
    #[arg(long)]
    pub(in crate::cli) no_kopia: bool,
}

/// Options of the part with a large index.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Index to be compacted")]
pub(in crate::cli) struct IndexArguments {
    /// Entries in the index, the maintenance manifest's among them [default: 2000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(in crate::cli) entries: Option<u64>,
    /// Index blobs that hold them, one for the manifest alone [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(in crate::cli) index_blobs: Option<u64>,
    /// Entries that are tombstones of others, in percent [default: 0]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=30))]
    pub(in crate::cli) tombstones: Option<u8>,
    /// Leave the epoch open, as a writer would, instead of settled
    #[arg(long)]
    pub(in crate::cli) epoch_open: bool,
}

/// Options of the part with backups.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Backups to be maintained")]
pub(in crate::cli) struct BackupArguments {
    /// Snapshots, one a day [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(SNAPSHOTS))]
    pub(in crate::cli) snapshots: Option<u32>,
    /// How many of them are deleted since, the first ones [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub(in crate::cli) deleted: Option<u32>,
    /// Directories of each snapshot [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(DIRECTORIES))]
    pub(in crate::cli) directories: Option<u32>,
    /// Files in each directory [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(FILES))]
    pub(in crate::cli) files: Option<u32>,
    /// Sessions that all was written in, each with short packs of its own, at most one for each
    /// directory of a snapshot [default: 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(in crate::cli) sessions: Option<u32>,
    /// Files that change from one snapshot to the next, in percent [default: 40]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(in crate::cli) changed: Option<u8>,
    /// Size of a file in the middle, in bytes [default: 500]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(FILE_BYTES))]
    pub(in crate::cli) file_bytes: Option<u32>,
    /// Make the index and the directories of the snapshots that stay, but no files: for numbers
    /// whose data fit on no disk
    #[arg(long, requires = "no_run")]
    pub(in crate::cli) no_data: bool,
}

/// An index to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct IndexShape {
    pub(in crate::cli) entries: u64,
    pub(in crate::cli) index_blobs: u64,
    pub(in crate::cli) tombstone_percent: u8,
    pub(in crate::cli) epoch_open: bool,
}

/// Backups to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct BackupShape {
    pub(in crate::cli) snapshots: u32,
    pub(in crate::cli) deleted: u32,
    pub(in crate::cli) directories: u32,
    pub(in crate::cli) files: u32,
    pub(in crate::cli) sessions: u32,
    pub(in crate::cli) changed_percent: u8,
    pub(in crate::cli) file_bytes: u32,
    pub(in crate::cli) with_data: bool,
}

/// The backups where nothing is said of them.
pub(in crate::cli) const BACKUPS: BackupShape = BackupShape {
    snapshots: 4,
    deleted: 1,
    directories: 10,
    files: 1_000,
    sessions: 20,
    changed_percent: 40,
    file_bytes: 500,
    with_data: true,
};

impl DemoArguments {
    /// Returns the parts that are asked for, with their shapes.
    ///
    /// # Errors
    /// Options of both parts, and shapes that no repository has.
    pub(in crate::cli) fn parts(
        &self,
    ) -> Result<(Option<IndexShape>, Option<BackupShape>), CliError> {
        let (index, backups) = (self.index.is_given(), self.backups.is_given());
        if index && backups {
            let text = "an index and backups are two demos: give options of one of them";
            return Err(CliError::Usage(text.into()));
        }
        let with_index = !backups;
        let with_backups = backups || !index && self.keep.is_none();
        let index = with_index.then(|| self.index.shape()).transpose()?;
        let backups = with_backups.then(|| self.backups.shape()).transpose()?;
        Ok((index, backups))
    }
}

impl IndexArguments {
    fn is_given(&self) -> bool {
        let numbers = [self.entries, self.index_blobs];
        numbers.iter().any(Option::is_some) || self.tombstones.is_some() || self.epoch_open
    }

    fn shape(&self) -> Result<IndexShape, CliError> {
        let shape = IndexShape {
            entries: self.entries.unwrap_or(2_000_000),
            index_blobs: self.index_blobs.unwrap_or(1_000),
            tombstone_percent: self.tombstones.unwrap_or(0),
            epoch_open: self.epoch_open,
        };
        let usage = |text: String| Err(CliError::Usage(text));
        if shape.index_blobs > shape.entries {
            return usage("--index-blobs may not be more than --entries".into());
        }
        if shape.entries.div_ceil(shape.index_blobs) > ENTRY_COUNT_MAX as u64 {
            let most = count(ENTRY_COUNT_MAX as u64);
            return usage(format!(
                "an index blob has at most {most} entries: give more --index-blobs"
            ));
        }
        Ok(shape)
    }
}

impl BackupArguments {
    fn is_given(&self) -> bool {
        let numbers = [
            self.snapshots,
            self.deleted,
            self.directories,
            self.files,
            self.sessions,
            self.file_bytes,
        ];
        numbers.iter().any(Option::is_some) || self.changed.is_some() || self.no_data
    }

    fn shape(&self) -> Result<BackupShape, CliError> {
        let snapshots = self.snapshots.unwrap_or(BACKUPS.snapshots);
        let shape = BackupShape {
            snapshots,
            deleted: self.deleted.unwrap_or(BACKUPS.deleted.min(snapshots)),
            directories: self.directories.unwrap_or(BACKUPS.directories),
            files: self.files.unwrap_or(BACKUPS.files),
            sessions: self.sessions.unwrap_or(BACKUPS.sessions),
            changed_percent: self.changed.unwrap_or(BACKUPS.changed_percent),
            file_bytes: self.file_bytes.unwrap_or(BACKUPS.file_bytes),
            with_data: !self.no_data,
        };
        if shape.deleted > shape.snapshots {
            let text = "--deleted may not be more than --snapshots";
            return Err(CliError::Usage(text.into()));
        }
        Ok(shape)
    }
}

const DEMO_HELP: &str = "\
Two parts, each with a repository of its own. The first is an index: its contents are made up, so
it is real and its data is not there. The second is backups, data and all: snapshots, garbage of
deleted ones, short packs; a whole maintenance cycle is run on them, without safety margins, since
nobody else uses them. Options of one part leave the other out; --keep keeps one, the index unless
options of backups are given.

The repositories are real ones: Kopia connects to them. Their password is that of KOPIA_PASSWORD,
else static-passw0rd, as Velero's; their owner is default@default.

The comparison runs the Kopia of CAREEN_KOPIA, else the one on PATH, on a copy; where there is
none, it quotes what was measured for the same size.

Examples:
  careen demo
  careen demo --entries 5000000 --memory 64MiB
  careen demo --entries 200000 --index-blobs 20000 --keep /tmp/jammed --no-run
  careen demo --snapshots 10 --deleted 9 --keep /tmp/garbage --no-run";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        demo: DemoArguments,
    }

    fn parts(words: &str) -> Option<(bool, bool)> {
        let words = words.split_whitespace();
        let line = Line::try_parse_from(std::iter::once("demo").chain(words)).ok()?;
        let (index, backups) = line.demo.parts().ok()?;
        Some((index.is_some(), backups.is_some()))
    }

    #[test]
    fn options_choose_the_parts() {
        for (words, expected) in [
            ("", Some((true, true))),
            ("--seed 3 --no-kopia", Some((true, true))),
            ("--entries 1000", Some((true, false))),
            ("--epoch-open", Some((true, false))),
            ("--keep /d", Some((true, false))),
            ("--files 3", Some((false, true))),
            ("--keep /d --no-run --deleted 0", Some((false, true))),
            ("--keep /d --no-run --no-data", Some((false, true))),
            ("--entries 1000 --files 3", None),
            ("--entries 10 --index-blobs 11", None),
            ("--snapshots 2 --deleted 3", None),
            ("--snapshots 1", Some((false, true))),
            ("--no-data", None),
            ("--files 0", None),
        ] {
            assert_eq!(parts(words), expected, "{words}");
        }
    }
}
