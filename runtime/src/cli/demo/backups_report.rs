//! The last word on the backups: before, after, time, memory, and what the same work costs Kopia.
//!
//! A value that prints itself, and the same as JSON. No memory cost.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::comparison::KopiaCost;
use super::report::{Blobs, Cost, compared, ended, row};
use crate::cli::wording::{bytes, count};
use crate::repository::snapshot_generator::GeneratedSnapshots;

/// What was made, when it is not careened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::cli) struct BackupsMade {
    /// The repository's root.
    repository: PathBuf,
    #[serde(flatten)]
    made: GeneratedSnapshots,
    /// What to try now.
    #[serde(skip)]
    next: String,
}

impl BackupsMade {
    /// Reports what the generator made.
    pub(in crate::cli) fn new(made: &GeneratedSnapshots, repository: &Path, next: String) -> Self {
        Self {
            repository: repository.to_owned(),
            made: *made,
            next,
        }
    }
}

impl fmt::Display for BackupsMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (made, written) = (&self.made, &self.made.written);
        writeln!(
            f,
            "{} snapshots, {} of them deleted; {} contents in {} packs, {} index blobs",
            count(made.snapshots),
            count(made.deleted_snapshots),
            count(written.contents),
            count(written.packs),
            count(written.index_blobs),
        )?;
        write!(f, "try: {}", self.next)
    }
}

/// What is in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct State {
    /// Contents that are not deleted.
    pub(in crate::cli) live_contents: u64,
    /// Pack blobs.
    pub(in crate::cli) packs: Blobs,
    /// Index blobs that readers use.
    pub(in crate::cli) index: Blobs,
}

/// The table at the end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::cli) struct BackupsReport {
    /// What was made.
    pub(in crate::cli) made: GeneratedSnapshots,
    /// Before the run.
    pub(in crate::cli) before: State,
    /// After it.
    pub(in crate::cli) after: State,
    /// The limit that was given.
    pub(in crate::cli) memory_limit_bytes: u64,
    /// What held us to it: a cgroup, or the plan alone.
    pub(in crate::cli) limited_by: String,
    /// What the run took.
    pub(in crate::cli) run: Cost,
    /// What the verification took.
    pub(in crate::cli) verify: Cost,
    /// What Kopia takes.
    pub(in crate::cli) kopia: Option<KopiaCost>,
    /// Why it is not known.
    pub(in crate::cli) notes: Vec<String>,
    /// Where the repository was left.
    pub(in crate::cli) kept: Option<PathBuf>,
}

impl fmt::Display for BackupsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (&self.before, &self.after);
        let mut line = |name: &str, before: String, after: String| {
            writeln!(f, "{name:<24}{before:>12}{after:>14}")
        };
        line("", "before".into(), "after".into())?;
        let (live, left) = (before.live_contents, after.live_contents);
        line("live contents", count(live), count(left))?;
        let (packs, left) = (before.packs, after.packs);
        line("pack blobs", count(packs.count), count(left.count))?;
        line("pack size", bytes(packs.bytes), bytes(left.bytes))?;
        let (index, left) = (before.index, after.index);
        line("index blobs", count(index.count), count(left.count))?;
        line("index size", bytes(index.bytes), bytes(left.bytes))?;
        writeln!(f, "\n{:<24}{:>12}{:>14}", "", "time", "peak memory")?;
        let limit = format!(
            "limit {}, {}",
            bytes(self.memory_limit_bytes),
            self.limited_by
        );
        row(f, "careen run --mode full", &self.run, &limit)?;
        row(f, "careen verify", &self.verify, "same limit")?;
        if let Some(kopia) = &self.kopia {
            row(
                f,
                &format!("kopia {}", kopia.version),
                &kopia.cost(),
                &kopia.source,
            )?;
            compared(f, kopia, &self.run)?;
        }
        ended(f, &self.notes, self.kept.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::snapshot_generator::Written;

    fn state(contents: u64, packs: u64, index: u64) -> State {
        let blobs = |count| Blobs {
            count,
            bytes: count << 20,
        };
        State {
            live_contents: contents,
            packs: blobs(packs),
            index: blobs(index),
        }
    }

    #[test]
    fn the_table_says_everything() {
        let cost = |seconds, mib: u64| Cost {
            seconds,
            peak_memory_bytes: mib << 20,
        };
        let report = BackupsReport {
            made: GeneratedSnapshots::default(),
            before: state(22_000, 82, 42),
            after: state(18_000, 3, 1),
            memory_limit_bytes: 64 << 20,
            limited_by: "held by a cgroup (v2)".into(),
            run: cost(0.5, 40),
            verify: cost(0.2, 30),
            kopia: None,
            notes: vec!["A note.".into()],
            kept: Some("/tmp/kept".into()),
        };
        let expected = "                              \
before         after
live contents                 22,000        18,000
pack blobs                        82             3
pack size                     82 MiB         3 MiB
index blobs                       42             1
index size                    42 MiB         1 MiB

                                time   peak memory
careen run --mode full        0.50 s        40 MiB   limit 64 MiB, held by a cgroup (v2)
careen verify                 0.20 s        30 MiB   same limit

A note.
The repository is in /tmp/kept.";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn what_was_made_says_what_to_do() {
        let made = GeneratedSnapshots {
            snapshots: 4,
            deleted_snapshots: 1,
            written: Written {
                contents: 22_000,
                packs: 82,
                index_blobs: 42,
                ..Written::default()
            },
        };
        let next = "careen run /r --mode full".to_owned();
        let made = BackupsMade::new(&made, Path::new("/r"), next);
        let expected = "4 snapshots, 1 of them deleted; 22,000 contents in 82 packs, 42 index blobs
try: careen run /r --mode full";
        assert_eq!(made.to_string(), expected);
        let json = serde_json::to_value(&made).unwrap();
        assert_eq!(json["contents"], 22_000);
    }
}
