//! The demo's last word: before, after, time, memory, and what the same work costs Kopia.
//!
//! A value that prints itself, and the same as JSON. No memory cost.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::comparison::KopiaCost;
use crate::cli::wording::{bytes, count, duration};
use crate::repository::index_generator::Generated;

/// Index blobs of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Blobs {
    /// How many.
    pub(in crate::cli) count: u64,
    /// Their size as stored.
    pub(in crate::cli) bytes: u64,
}

/// What was made, when it is not careened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::cli) struct MadeReport {
    /// The repository's root.
    repository: PathBuf,
    /// Entries, the manifest's among them.
    entries: u64,
    /// Tombstones among them.
    tombstones: u64,
    /// Index blobs that hold them.
    index: Blobs,
    /// Whether writers still write to the epoch.
    epoch_open: bool,
    /// What to try now.
    #[serde(skip)]
    next: String,
}

impl MadeReport {
    /// Reports what the generator made, and the blob with the maintenance manifest.
    pub(in crate::cli) fn new(
        made: &Generated,
        repository: &Path,
        epoch_open: bool,
        next: String,
    ) -> Self {
        Self {
            repository: repository.to_owned(),
            entries: made.entries + 1,
            tombstones: made.tombstones,
            index: Blobs {
                count: made.index_blobs + 1,
                bytes: made.index_bytes,
            },
            epoch_open,
            next,
        }
    }
}

impl fmt::Display for MadeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entries, blobs) = (count(self.entries), count(self.index.count));
        let epoch = if self.epoch_open { "open" } else { "settled" };
        writeln!(
            f,
            "{entries} entries in {blobs} index blobs, epoch 0 is {epoch}"
        )?;
        write!(f, "try: {}", self.next)
    }
}

/// What a run of ours took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::cli) struct Cost {
    /// Wall time in seconds.
    pub(in crate::cli) seconds: f64,
    /// Most resident memory.
    pub(in crate::cli) peak_memory_bytes: u64,
}

/// The table at the end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::cli) struct DemoReport {
    /// Entries in the index.
    pub(in crate::cli) entries: u64,
    /// Index blobs that readers used before.
    pub(in crate::cli) before: Blobs,
    /// Index blobs that readers use now.
    pub(in crate::cli) after: Blobs,
    /// The limit that was given.
    pub(in crate::cli) memory_limit_bytes: u64,
    /// What held us to it: a cgroup, or the plan alone.
    pub(in crate::cli) limited_by: String,
    /// What the compaction took.
    pub(in crate::cli) compact: Cost,
    /// What the check afterwards took.
    pub(in crate::cli) verify: Cost,
    /// What the compaction costs Kopia, where that is known.
    pub(in crate::cli) kopia: Option<KopiaCost>,
    /// Why it is not known, or where the repository was left.
    pub(in crate::cli) notes: Vec<String>,
    /// Where the repository was left.
    pub(in crate::cli) kept: Option<PathBuf>,
}

impl fmt::Display for DemoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            before,
            after,
            compact,
            verify,
            ..
        } = self;
        writeln!(f, "{:<24}{:>12}{:>14}", "", "before", "after")?;
        writeln!(
            f,
            "{:<24}{:>12}{:>14}",
            "index blobs",
            count(before.count),
            count(after.count)
        )?;
        writeln!(
            f,
            "{:<24}{:>12}{:>14}",
            "index size",
            bytes(before.bytes),
            bytes(after.bytes)
        )?;
        let entries = count(self.entries);
        writeln!(f, "{:<24}{entries:>12}{entries:>14}\n", "entries")?;
        writeln!(f, "{:<24}{:>12}{:>14}", "", "time", "peak memory")?;
        let limit = format!(
            "limit {}, {}",
            bytes(self.memory_limit_bytes),
            self.limited_by
        );
        row(f, "careen index compact", compact, &limit)?;
        row(f, "careen verify --index", verify, "same limit")?;
        if let Some(kopia) = &self.kopia {
            let name = format!("kopia {}", kopia.version);
            row(f, &name, &kopia.cost(), &kopia.source)?;
            compared(f, kopia, compact)?;
        }
        ended(f, &self.notes, self.kept.as_deref())
    }
}

/// Writes the notes, and where the repository is.
pub(super) fn ended(
    f: &mut fmt::Formatter<'_>,
    notes: &[String],
    kept: Option<&Path>,
) -> fmt::Result {
    for note in notes {
        write!(f, "\n{note}")?;
    }
    match kept {
        Some(kept) => write!(f, "\nThe repository is in {}.", kept.display()),
        None => Ok(()),
    }
}

/// Says how many times as much Kopia took, where that is worth a word.
pub(super) fn compared(f: &mut fmt::Formatter<'_>, kopia: &KopiaCost, ours: &Cost) -> fmt::Result {
    let time = kopia.seconds / ours.seconds.max(0.01);
    let memory = kopia.peak_memory_bytes as f64 / ours.peak_memory_bytes.max(1) as f64;
    match (time >= 1.5, memory >= 1.5) {
        (true, true) => {
            writeln!(
                f,
                "\nKopia: {time:.0} times the time, {memory:.0} times the memory."
            )
        }
        (true, false) => writeln!(f, "\nKopia: {time:.0} times the time."),
        (false, true) => writeln!(f, "\nKopia: {memory:.0} times the memory."),
        (false, false) => Ok(()),
    }
}

/// Writes what one program took.
pub(super) fn row(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    cost: &Cost,
    remark: &str,
) -> fmt::Result {
    let time = duration(Duration::from_secs_f64(cost.seconds));
    writeln!(
        f,
        "{name:<24}{time:>12}{:>14}   {remark}",
        bytes(cost.peak_memory_bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_everything() {
        let report = DemoReport {
            entries: 2_000_000,
            before: Blobs {
                count: 1_000,
                bytes: 75 << 20,
            },
            after: Blobs {
                count: 1,
                bytes: 72 << 20,
            },
            memory_limit_bytes: 64 << 20,
            limited_by: "held by a cgroup (v2)".into(),
            compact: Cost {
                seconds: 1.2,
                peak_memory_bytes: 23 << 20,
            },
            verify: Cost {
                seconds: 0.9,
                peak_memory_bytes: 20 << 20,
            },
            kopia: Some(KopiaCost {
                version: "0.23.1".into(),
                seconds: 14.4,
                peak_memory_bytes: 690 << 20,
                source: "measured now".into(),
            }),
            notes: vec!["A note.".into()],
            kept: Some("/tmp/kept".into()),
        };
        let expected = "                              \
before         after
index blobs                    1,000             1
index size                    75 MiB        72 MiB
entries                    2,000,000     2,000,000

                                time   peak memory
careen index compact           1.2 s        23 MiB   limit 64 MiB, held by a cgroup (v2)
careen verify --index         0.90 s        20 MiB   same limit
kopia 0.23.1                  14.4 s       690 MiB   measured now

Kopia: 12 times the time, 30 times the memory.

A note.
The repository is in /tmp/kept.";
        assert_eq!(report.to_string().replace(" \n", "\n"), expected);
    }
}
