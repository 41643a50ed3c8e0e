//! What can go wrong between a record and the disk.
//!
//! A full disk and a used-up quota are told apart from other faults, with the numbers: they are the
//! ones that a person can mend.

use std::io;
use std::path::PathBuf;

use bytesize::ByteSize;
use thiserror::Error;

/// Why a sort, a merge or a scratch file cannot go on.
#[derive(Debug, Error)]
pub enum SpillError {
    /// The disk or the quota does not hold what is needed.
    #[error("{operation}: needs {} of scratch, {} free{}",
        size(*needed), size(*free), quota_note(*quota))]
    Full {
        /// What was being written.
        operation: String,
        /// Bytes that were asked for.
        needed: u64,
        /// Bytes that were left.
        free: u64,
        /// The quota of the scratch directory, if there is one.
        quota: Option<u64>,
    },
    /// The operating system refused.
    #[error("{operation}: {source}")]
    Io {
        /// What was being done, and to which file.
        operation: String,
        /// Its answer.
        source: io::Error,
    },
    /// The scratch directory would live in memory, which it is there to save.
    #[error("scratch directory {} is in memory (tmpfs or ramfs)", path.display())]
    Tmpfs {
        /// The directory.
        path: PathBuf,
    },
    /// A run directory is held by somebody else, or already there.
    #[error("scratch directory {} is in use", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Records that had to come in ascending order did not.
    #[error("record {record} of a sorted run is smaller than the one before")]
    Unsorted {
        /// Its number, counted from 0.
        record: u64,
    },
    /// A sort buffer or run writer was dropped, or is still open, so records are missing.
    #[error("sort ended with {buffers} unfinished buffers: records are missing")]
    Unfinished {
        /// How many.
        buffers: usize,
    },
    /// More sorted runs than the sorter keeps books for.
    #[error("sort needs more than {maximum} runs: give it a larger buffer")]
    Runs {
        /// The maximum.
        maximum: usize,
    },
    /// The run was told to end; who told it knows why.
    #[error("the run was told to end")]
    Halted,
    /// The memory plan or the record shape makes no sense.
    #[error("sort plan: {reason}")]
    Plan {
        /// What is wrong.
        reason: String,
    },
}

impl SpillError {
    /// Returns a stable name of the kind of error, for reports.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => "scratch-full",
            Self::Io { .. } => "scratch-io",
            Self::Tmpfs { .. } => "scratch-tmpfs",
            Self::Locked { .. } => "scratch-locked",
            Self::Unsorted { .. } => "run-unsorted",
            Self::Unfinished { .. } => "sort-unfinished",
            Self::Runs { .. } => "sort-runs",
            Self::Halted => "scratch-halted",
            Self::Plan { .. } => "sort-plan",
        }
    }

    /// Wraps an answer of the operating system.
    pub(super) fn io(operation: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io {
            operation: operation.into(),
            source: source.into(),
        }
    }
}

impl From<SpillError> for io::Error {
    /// Lets readers and writers of scratch files be used behind the standard traits.
    fn from(error: SpillError) -> Self {
        let kind = match &error {
            SpillError::Full { .. } => io::ErrorKind::StorageFull,
            SpillError::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

fn size(bytes: u64) -> impl std::fmt::Display {
    ByteSize(bytes).display().si()
}

fn quota_note(quota: Option<u64>) -> String {
    quota.map_or_else(String::new, |quota| {
        format!(" of a quota of {}", size(quota))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that a person needs are in the message.
    #[test]
    fn full_says_what_is_needed() {
        let operation = "index".to_owned();
        let error = SpillError::Full {
            operation,
            needed: 11_000_000_000,
            free: 4_000_000_000,
            quota: None,
        };
        assert_eq!(
            error.to_string(),
            "index: needs 11.0 GB of scratch, 4.0 GB free"
        );
        assert_eq!(error.code(), "scratch-full");
        let error: io::Error = error.into();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let operation = "index".to_owned();
        let error = SpillError::Full {
            operation,
            needed: 1,
            free: 0,
            quota: Some(2_000),
        };
        assert_eq!(
            error.to_string(),
            "index: needs 1 B of scratch, 0 B free of a quota of 2.0 kB"
        );
    }
}
