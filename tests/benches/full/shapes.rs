//! The repositories of the benchmark: backups as `careen demo` makes them.
//!
//! Small ones take Kopia some seconds, those of `--full` up to half an hour, and those that show
//! how time grows are careen's alone.

/// Backups to make, and what is measured on them.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// What it is called, also for `--only`.
    pub(crate) name: &'static str,
    pub(crate) snapshots: u32,
    pub(crate) deleted: u32,
    pub(crate) directories: u32,
    pub(crate) files: u32,
    pub(crate) sessions: u32,
    pub(crate) changed_percent: u32,
    /// Whether Kopia does the same, and careen without a limit.
    pub(crate) compared: bool,
    /// Whether one run is enough; else the middle of some.
    pub(crate) once: bool,
}

/// Four snapshots of which the first is deleted: 2.2 contents for each file of a snapshot.
const FOUR: Shape = Shape {
    name: "",
    snapshots: 4,
    deleted: 1,
    directories: 10,
    files: 1_000,
    sessions: 20,
    changed_percent: 40,
    compared: true,
    once: false,
};

/// Ten snapshots that have nothing in common, nine deleted, each in one session.
const TEN: Shape = Shape {
    name: "",
    snapshots: 10,
    deleted: 9,
    directories: 6,
    files: 100,
    sessions: 10,
    changed_percent: 100,
    compared: true,
    once: false,
};

/// What is measured where nothing is said.
pub(crate) const SMALL: [Shape; 2] = [
    Shape {
        name: "22-thousand",
        ..FOUR
    },
    Shape {
        name: "ten-sessions-small",
        ..TEN
    },
];

/// What is measured with `--full`. The first has ten times as many directories as `growth-base`,
/// `growth-files` ten times as many files in each.
pub(crate) const FULL: [Shape; 4] = [
    Shape {
        name: "2-million",
        directories: 1_000,
        sessions: 100,
        ..FOUR
    },
    Shape {
        name: "ten-sessions",
        files: 1_000,
        ..TEN
    },
    Shape {
        name: "growth-base",
        directories: 100,
        sessions: 10,
        compared: false,
        ..FOUR
    },
    Shape {
        name: "growth-files",
        directories: 100,
        files: 10_000,
        sessions: 100,
        compared: false,
        ..FOUR
    },
];

/// What is measured only by name: `2-million` with ten times as many directories, and with ten
/// times as many files in each. 13 GB, and as much again for the run.
pub(crate) const HUGE: [Shape; 2] = [
    Shape {
        name: "22-million-directories",
        directories: 10_000,
        sessions: 1_000,
        compared: false,
        once: true,
        ..FOUR
    },
    Shape {
        name: "22-million-files",
        directories: 1_000,
        files: 10_000,
        sessions: 1_000,
        compared: false,
        once: true,
        ..FOUR
    },
];

impl Shape {
    /// Returns the options of `careen demo` that make it.
    pub(crate) fn options(&self) -> Vec<String> {
        let pairs = [
            ("--snapshots", self.snapshots),
            ("--deleted", self.deleted),
            ("--directories", self.directories),
            ("--files", self.files),
            ("--sessions", self.sessions),
            ("--changed", self.changed_percent),
        ];
        let words = pairs.map(|(option, number)| [option.to_owned(), number.to_string()]);
        words.into_iter().flatten().collect()
    }

    /// Returns what it is, for people.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{}: {} snapshots ({} deleted) of {} x {} files, {} % change, {} sessions",
            self.name,
            self.snapshots,
            self.deleted,
            self.directories,
            self.files,
            self.changed_percent,
            self.sessions,
        )
    }
}
