//! The repositories of the benchmark, and what is done with them.
//!
//! `careen demo` makes them, small enough for a run of some minutes; those of `--full` are larger.

/// A repository to make, and the work.
pub(crate) struct Shape {
    /// What it is called, for `--only`.
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) about: &'static str,
    /// The options of `careen demo` that make it.
    pub(crate) made_by: &'static [&'static str],
    pub(crate) careen: &'static [&'static str],
    pub(crate) kopia: &'static [&'static str],
}

/// Careen compacts the index, Kopia one settled epoch in a quick run.
const COMPACT: &[&str] = &["index", "compact"];
const KOPIA_QUICK: &[&str] = &["maintenance", "run", "--no-full"];

/// A whole cycle without safety margins.
const CYCLE: &[&str] = &["run", "--mode", "full", "--safety", "none"];
const KOPIA_CYCLE: &[&str] = &["maintenance", "run", "--full", "--safety=none"];

/// What is measured where nothing is said.
pub(crate) const SMALL: [Shape; 3] = [
    Shape {
        name: "index",
        about: "200,000 entries in 1,000 index blobs, the index is compacted",
        made_by: &["--entries", "200000", "--index-blobs", "1000"],
        careen: COMPACT,
        kopia: KOPIA_QUICK,
    },
    Shape {
        name: "cycle",
        about: "ten snapshots of 6 x 100 files in 40 sessions, nine deleted; a full cycle",
        made_by: &[
            "--snapshots",
            "10",
            "--deleted",
            "9",
            "--directories",
            "6",
            "--files",
            "100",
            "--sessions",
            "40",
            "--changed",
            "100",
        ],
        careen: CYCLE,
        kopia: KOPIA_CYCLE,
    },
    Shape {
        name: "cycle-large-contents",
        about: "four snapshots of 10 files of some 4 MB in 20 sessions, two deleted; a full cycle",
        made_by: &[
            "--snapshots",
            "4",
            "--deleted",
            "2",
            "--directories",
            "5",
            "--files",
            "2",
            "--sessions",
            "20",
            "--changed",
            "60",
            "--file-bytes",
            "4000000",
        ],
        careen: CYCLE,
        kopia: KOPIA_CYCLE,
    },
];

/// What is measured with `--full`.
pub(crate) const FULL: [Shape; 3] = [
    Shape {
        name: "index-5-million",
        about: "5 million entries in 1,000 index blobs, the index is compacted",
        made_by: &["--entries", "5000000", "--index-blobs", "1000"],
        careen: COMPACT,
        kopia: KOPIA_QUICK,
    },
    Shape {
        name: "index-many-blobs",
        about: "60,000 entries in 6,000 index blobs, the index is compacted",
        made_by: &["--entries", "60000", "--index-blobs", "6000"],
        careen: COMPACT,
        kopia: KOPIA_QUICK,
    },
    Shape {
        name: "cycle-large",
        about: "four snapshots of 100 x 1,000 files in 100 sessions, one deleted; a full cycle",
        made_by: &[
            "--snapshots",
            "4",
            "--deleted",
            "1",
            "--directories",
            "100",
            "--files",
            "1000",
            "--sessions",
            "100",
            "--changed",
            "40",
        ],
        careen: CYCLE,
        kopia: KOPIA_CYCLE,
    },
];
